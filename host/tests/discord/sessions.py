"""One gateway session: its sequence, and the events that a client can still ask for after its socket broke.

A session goes on filling while no socket is attached. It keeps a bounded number of events; a client that is further
behind must begin anew.
"""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any

import discord

if TYPE_CHECKING:
    from gateway import Connection

REPLAY_LIMIT = 10_000
DUPLICATES = 20


class Session:
    def __init__(self, session_id: str, shard: tuple[int, int], declared: discord.Intents) -> None:
        self.id = session_id
        self.shard = shard
        self.intents = declared
        self.seq = 0
        self.connection: Connection | None = None
        self.presence: Any = None
        self.repeated = 0
        self._events: deque[tuple[int, str]] = deque(maxlen=REPLAY_LIMIT)

    def owns_guild(self, guild_id: int) -> bool:
        return (guild_id >> 22) % self.shard[1] == self.shard[0]

    def dispatch(self, event: str, data_json: str) -> None:
        self.seq += 1
        frame = f'{{"t":{json.dumps(event)},"s":{self.seq},"op":0,"d":{data_json}}}'
        self._events.append((self.seq, frame))
        if self.connection is not None:
            self.connection.send_text(frame)

    def can_replay(self, seq: int) -> bool:
        if seq > self.seq:
            return False
        oldest = self._events[0][0] if self._events else self.seq + 1
        return seq >= oldest - 1

    def replay(self, seq: int, again: int = 0) -> None:
        """Send again everything behind `seq`, and so many before it that the client has already."""
        assert self.connection is not None
        for number, frame in self._events:
            if number > seq - again:
                self.connection.send_text(frame)
                self.repeated += number <= seq
