"""Turns simcord's errors into the bodies that Discord answers.

simcord puts the detail of an invalid form into the message; Discord keeps the message fixed and puts the detail into
`errors`, keyed by field. Codes and statuses are simcord's own and are not changed, except where Discord has a code of
its own for an empty message.

It does not rebuild Discord's exact path for errors deep inside embeds or components: those are reported at their field.
"""

from __future__ import annotations

import re
from typing import Any

from simcord.backend.errors import BackendError

FIELD_AND_DETAIL = re.compile(r"^([a-z_]+)(?:\[\d+\])?[a-z_.\[\]\d]*:? (.+)$", re.DOTALL)
KNOWN_FIELDS = (
    "content",
    "embeds",
    "components",
    "poll",
    "flags",
    "tts",
    "nonce",
    "sticker_ids",
    "allowed_mentions",
    "message_reference",
    "attachments",
    "messages",
    "name",
    "applied_tags",
    "limit",
)


def field_error(field: str, code: str, message: str) -> BackendError:
    """An invalid form with one wrong field."""
    return BackendError(
        400, 50035, "Invalid Form Body", errors={field: {"_errors": [{"code": code, "message": message}]}}
    )


def from_exception(error: Exception, path: str) -> BackendError:
    """A route tripped over a value: Discord would call the form invalid."""
    for segment in path.strip("/").split("/"):
        if isinstance(error, ValueError) and f"'{segment}'" in str(error):
            return field_error("id", "NUMBER_TYPE_COERCE", f'Value "{segment}" is not snowflake.')
    return field_error("_", "BASE_TYPE_INVALID", f"{type(error).__name__}: {error}")


def body_of(error: BackendError) -> tuple[int, dict[str, Any]]:
    """Status and JSON body for an error."""
    detail = error.message.removeprefix("Invalid Form Body: ")
    if error.code != 50035 or error.errors is not None or detail == error.message:
        return error.status, error.to_json()
    if "Cannot send an empty message" in detail:
        return 400, {"message": "Cannot send an empty message", "code": 50006}
    return 400, {"message": "Invalid Form Body", "code": 50035, "errors": _errors_tree(detail)}


def _errors_tree(detail: str) -> dict[str, Any]:
    if "content must be a string of 2000" in detail:
        entry = {"code": "BASE_TYPE_MAX_LENGTH", "message": "Must be 2000 or fewer in length."}
        return {"content": {"_errors": [entry]}}
    entry = {"code": "BASE_TYPE_INVALID", "message": detail}
    found = FIELD_AND_DETAIL.match(detail)
    if found and found.group(1) in KNOWN_FIELDS:
        return {found.group(1): {"_errors": [entry]}}
    return {"_errors": [entry]}
