"""Test controls: `POST /_test/<op>` with a JSON body does what a person, an operator or a bad network would do.

A wrong request answers 400 with a sentence. Where a body leaves out `guild`, `channel` or `user`, the first guild, its
channel `general` and Alice are meant. People are not checked for permissions: they are taken to be allowed.

Nothing here is part of Discord, and nothing here needs a token.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from simcord.backend.errors import BackendError, SetupError
from simcord.backend.models import Channel, Guild, Message, User

from gateway import Gateway
from oauth import OAuth
from record import Record
from rest import Rest
from world import World


class ControlError(Exception):
    """The request to a control was wrong; the text says in what."""


Control = Callable[["Panel", dict[str, Any]], Any]
CONTROLS: dict[str, Control] = {}


def control(name: str) -> Callable[[Control], Control]:
    def register(function: Control) -> Control:
        CONTROLS[name] = function
        return function

    return register


@dataclass
class Panel:
    world: World
    gateway: Gateway
    rest: Rest
    record: Record
    oauth: OAuth
    start: dict[str, Any]

    async def handle(self, request: web.Request) -> web.Response:
        name = request.match_info["op"]
        function = CONTROLS.get(name)
        if function is None:
            return _refuse(f"There is no control named {name!r}; there are {', '.join(sorted(CONTROLS))}.")
        try:
            body = {**request.query, **await _body(request)}
            return web.json_response(function(self, body) or {})
        except (ControlError, SetupError) as error:
            return _refuse(str(error))
        except BackendError as error:
            return _refuse(f"Discord would refuse this: {error}.")
        except NotImplementedError as error:
            return _refuse(f"simcord cannot do this: {error}")
        except KeyError as error:
            return _refuse(f"The body of {name!r} lacks the field {error}.")
        except (TypeError, ValueError) as error:
            return _refuse(f"The body of {name!r} has a wrong value: {error}.")

    # --- what a body means ---

    def guild(self, body: dict[str, Any]) -> Guild:
        return self.world.get_guild(int(body.get("guild", self.start["guild"])))

    def channel(self, body: dict[str, Any]) -> Channel:
        return self.world.get_channel(int(body.get("channel", self.start["channel"])))

    def user(self, body: dict[str, Any], key: str = "user") -> User:
        return self.world.get_user(int(body.get(key, self.start["user"])))

    def message(self, body: dict[str, Any], key: str = "id") -> Message:
        """The message that a body names, in whichever channel it is."""
        if key not in body:
            raise ControlError(f"The body needs {key!r}, the id of a message.")
        return self.find_message(int(body[key]))

    def find_message(self, message_id: int) -> Message:
        for messages in self.world.messages.values():
            if message_id in messages:
                return messages[message_id]
        raise ControlError(f"There is no message with the id {message_id}.")


def emoji_key(emoji: Any) -> str:
    """simcord's name of an emoji: the character, or `name:id` for a custom one."""
    if isinstance(emoji, dict):
        return f"{emoji['name']}:{emoji['id']}" if emoji.get("id") else emoji["name"]
    if not isinstance(emoji, str) or not emoji:
        raise ControlError("'emoji' must be a character or an object with name and id.")
    return emoji


def identifiers(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise ControlError("A list of ids is needed.")
    return [int(item) for item in value]


async def _body(request: web.Request) -> dict[str, Any]:
    raw = await request.read()
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except ValueError:
        raise ControlError("The body is not JSON.") from None
    if not isinstance(body, dict):
        raise ControlError("The body must be a JSON object.")
    return body


def _refuse(sentence: str) -> web.Response:
    return web.json_response({"error": sentence}, status=400)
