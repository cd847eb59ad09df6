"""The bytes that cross the boundary: a JSON head and raw byte strings beside it,
`u32 length ‖ JSON ‖ (u32 length ‖ bytes)*`, little-endian."""

from __future__ import annotations

import json
import re
from typing import Any

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class FrameError(ValueError):
    """Why bytes are no frame."""


def to_json(value: Any) -> str:
    """JSON that every reader takes: no NaN, no half of a surrogate pair."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return _LONE_SURROGATE.sub("\ufffd", text)


def encode(head: str, tails: list[bytes] | tuple[bytes, ...] = ()) -> bytes:
    """Writes a frame, whose head is JSON already."""
    parts = []
    for part in (head.encode(), *tails):
        parts.append(len(part).to_bytes(4, "little"))
        parts.append(part)
    return b"".join(parts)


def decode(frame: bytes) -> tuple[str, Any, list[bytes]]:
    """Reads a frame: what kind its head is of, what the head says, and the byte strings."""
    parts: list[bytes] = []
    at = 0
    while at < len(frame) or not parts:
        start = at + 4
        if len(frame) < start:
            raise FrameError(f"frame is truncated: 4 bytes needed, {len(frame) - at} there")
        at = start + int.from_bytes(frame[at:start], "little")
        if len(frame) < at:
            raise FrameError(f"frame is truncated: {at - start} bytes needed, {len(frame) - start} there")
        parts.append(bytes(frame[start:at]))
    try:
        head = json.loads(parts[0].decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"frame head is not what it should be: {error}") from None
    kind, said = one_of(head)
    return kind, said, parts[1:]


def one_of(value: Any) -> tuple[str, Any]:
    """Takes `{"kind": {…}}` apart."""
    if not isinstance(value, dict) or len(value) != 1:
        raise FrameError("frame head is not what it should be: an object with one kind was expected")
    return next(iter(value.items()))


def field(said: Any, name: str, kind: type) -> Any:
    """A field that has to be there."""
    value = said.get(name) if isinstance(said, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FrameError(f"frame head is not what it should be: no {kind.__name__} `{name}`")
    return value


class Tails:
    """The byte strings of a frame, taken in order."""

    def __init__(self, tails: list[bytes]):
        self._tails = tails
        self._next = 0

    def next_bytes(self) -> bytes:
        """The next one."""
        if self._next == len(self._tails):
            raise FrameError("frame speaks of a byte string that is not there")
        self._next += 1
        return self._tails[self._next - 1]
