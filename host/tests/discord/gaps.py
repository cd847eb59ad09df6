"""Routes of Discord that simcord lacks or answers differently, shaped after Discord's OpenAPI document.

The routes are in `gaps_messages.py`, `gaps_webhooks.py`, `gaps_places.py` and `gaps_commands.py`; here is how one of them
is put into simcord's table, in place of simcord's own if there is one.

Known deviations from Discord that remain:
- forwarding a message that is itself a forward answers 501;
- ids of bot and application differ, as they do for old applications only;
- the emoji of a reaction is taken for valid if it is not plain ASCII text, without a table of emojis;
- taking away a reaction that is not there answers 10008, as simcord has it;
- embeds are stored as sent (no fetched pictures, no `proxy_url`), links in a text get no embeds;
- slow mode, spam filters, verification levels and the limit of pins are not checked;
- pins ask for `manage_messages`, not for the newer `pin_messages`;
- errors deep inside embeds and components are told at their top-level field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import simcord.http.routes  # noqa: F401  (its import registers simcord's routes)
from simcord.http import router

Handler = Callable[[router.RequestContext], Any]


@dataclass
class Created:
    """An answer with the status 201."""

    body: dict[str, Any]


_SIMCORD_ROUTES = {method: list(table) for method, table in router._ROUTES.items()}


def serve(method: str, template: str) -> Callable[[Handler], Handler]:
    """Let this function answer the route, whether or not simcord has it."""

    def register(function: Handler) -> Handler:
        segments = template.strip("/").split("/")
        table = router._ROUTES.setdefault(method, [])
        table[:] = [(known, handler) for known, handler in table if _shape(known) != _shape(segments)]
        table.append((segments, function))
        return function

    return register


def simcord_handler(method: str, template: str) -> Handler:
    """simcord's own answer to a route, for a handler of ours that goes on to it."""
    segments = template.strip("/").split("/")
    return next(handler for known, handler in _SIMCORD_ROUTES[method] if _shape(known) == _shape(segments))


def _shape(segments: list[str]) -> tuple[str, ...]:
    return tuple("{}" if segment.startswith("{") else segment for segment in segments)


def flag_of(ctx: router.RequestContext, name: str) -> bool:
    """A boolean of the query string."""
    return str(ctx.params.get(name, "")).lower() in ("1", "true")


def install() -> None:
    """Put all routes of the gap modules into simcord's table."""
    import gaps_commands  # noqa: F401
    import gaps_messages  # noqa: F401
    import gaps_places  # noqa: F401
    import gaps_webhooks  # noqa: F401
