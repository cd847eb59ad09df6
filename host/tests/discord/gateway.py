"""The gateway: WebSocket connections, IDENTIFY and RESUME, heartbeats, and the sending of events to sessions.

It speaks JSON, with `compress=zlib-stream` for a whole connection or `compress: true` in IDENTIFY for large payloads.
Close codes and limits are those of Discord's gateway documentation.

It does not speak ETF or zstd, keeps a session until the process ends, and never changes its mind about a client's shard
count.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import uuid
import zlib
from collections import deque
from typing import Any

from aiohttp import WSMsgType, web
from simcord.backend import serializers
from simcord.backend.access import channel_accessible
from simcord.backend.errors import BackendError

import intents
import payloads
from record import Record
from sessions import DUPLICATES, Session
from world import World

LARGE_PAYLOAD = 4096
LONGEST_PAYLOAD = 4096
SENDS_PER_MINUTE = 120
GUILDS_PER_SHARD = 2500
DAY_MS = 24 * 3600 * 1000
CLIENT_ENDED = (1000, 1001)
CLOSE_SECONDS = 2.0


class CloseWith(Exception):
    """The connection must be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Gateway:
    def __init__(self, world: World, record: Record) -> None:
        self.world = world
        self.record = record
        self.token = ""
        self.url = ""
        self.shards = 1
        self.max_concurrency = 1
        self.heartbeat_ms = 41_250
        self.identify_window_ms = 5000
        self.identify_total = 1000
        self.identify_used = 0
        self.identify_reset_at = time.monotonic() + DAY_MS / 1000
        self.sharding_required = False
        self.silent = False
        self.duplicates = False
        self.token_valid = True
        self.sessions: dict[str, Session] = {}
        self.connections: set[Connection] = set()
        self._last_identify: dict[int, float] = {}
        world.subscribers.append(self.publish)

    # --- session start limit ---

    def start_limit(self) -> dict[str, int]:
        now = time.monotonic()
        if now >= self.identify_reset_at:
            self.identify_used, self.identify_reset_at = 0, now + DAY_MS / 1000
        return {
            "total": self.identify_total,
            "remaining": max(0, self.identify_total - self.identify_used),
            "reset_after": int((self.identify_reset_at - now) * 1000),
            "max_concurrency": self.max_concurrency,
        }

    def set_start_limit_reset(self, milliseconds: int) -> None:
        self.identify_reset_at = time.monotonic() + milliseconds / 1000

    def admit_identify(self, shard_id: int) -> bool:
        """Count an IDENTIFY; false when it comes too soon behind another of its bucket."""
        if self.start_limit()["remaining"] <= 0:
            self.revoke_token()
            raise CloseWith(4004, "The session start limit was exceeded; the token was reset.")
        self.identify_used += 1
        bucket = shard_id % self.max_concurrency
        now = time.monotonic()
        last = self._last_identify.get(bucket)
        if last is not None and (now - last) * 1000 < self.identify_window_ms:
            return False
        self._last_identify[bucket] = now
        return True

    def revoke_token(self) -> None:
        self.token_valid = False
        self.sessions.clear()
        for connection in list(self.connections):
            connection.close(4004, "Authentication failed.")

    # --- events ---

    def publish(self, event: str, payload: Any) -> None:
        """Give an event to every session that should have it."""
        if not self._visible(event, payload):
            return
        guild_id = payload.get("guild_id")
        if guild_id is None and event in ("GUILD_CREATE", "GUILD_UPDATE", "GUILD_DELETE"):
            guild_id = payload["id"]
        texts: dict[Any, str] = {}
        for session in self.sessions.values():
            if event != "USER_UPDATE":
                here = session.shard[0] == 0 if guild_id is None else session.owns_guild(int(guild_id))
                if not here:
                    continue
            if not intents.wanted(event, payload, session.intents):
                continue
            key = intents.shape_key(event, session.intents)
            if key not in texts:
                texts[key] = json.dumps(intents.shaped(self.world, event, payload, session.intents))
            session.dispatch(event, texts[key])

    def _visible(self, event: str, payload: Any) -> bool:
        """Whether the bot can see the channel that an event about messages comes from."""
        if not event.startswith(("MESSAGE_", "TYPING_")) or payload.get("channel_id") is None:
            return True
        channel_id = int(payload["channel_id"])
        return channel_id not in self.world.channels or channel_accessible(
            self.world, channel_id, self.world.bot_user.id
        )

    def start_session(self, connection: Connection, data: dict[str, Any]) -> None:
        shard = tuple(data.get("shard") or (0, 1))
        session = Session(uuid.uuid4().hex, shard, intents.parse(data["intents"]))
        session.presence = data.get("presence")
        self.sessions[session.id] = session
        connection.attach(session)
        guilds = [guild for guild in self.world.guilds.values() if session.owns_guild(guild.id)]
        ready = {
            "v": 10,
            "user": payloads.own_user_payload(self.world.bot_user),
            "guilds": [{"id": str(guild.id), "unavailable": True} for guild in guilds],
            "private_channels": [],
            "relationships": [],
            "presences": [],
            "session_id": session.id,
            "session_type": "normal",
            "resume_gateway_url": self.url,
            "shard": list(shard),
            "application": {"id": str(self.world.application_id), "flags": self.world.application_flags},
            "_trace": ["loopback"],
        }
        session.dispatch("READY", json.dumps(ready))
        if not session.intents.guilds:
            return
        for guild in guilds:
            payload = serializers.guild_create_payload(self.world, guild)
            shaped = intents.shaped(self.world, "GUILD_CREATE", payload, session.intents)
            session.dispatch("GUILD_CREATE", json.dumps(shaped))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("encoding", "json") != "json" or request.query.get("compress") not in (
            None,
            "zlib-stream",
        ):
            print(f"PARITY GAP gateway query {request.query_string}", file=sys.stderr, flush=True)
            return web.json_response({"message": "Only JSON and zlib-stream are spoken here.", "code": 0}, status=400)
        ws = web.WebSocketResponse(timeout=CLOSE_SECONDS, compress=False)
        await ws.prepare(request)
        connection = Connection(self, request, ws)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
        return ws


class Connection:
    """One WebSocket, from HELLO to its end."""

    def __init__(self, gateway: Gateway, request: web.Request, ws: web.WebSocketResponse) -> None:
        self.gateway = gateway
        self.session: Session | None = None
        self._request = request
        self._ws = ws
        self._out: asyncio.Queue[str | CloseWith | None] = asyncio.Queue()
        self._reading: asyncio.Task[None] | None = None
        self._stream = zlib.compressobj() if request.query.get("compress") == "zlib-stream" else None
        self._compress_large = False
        self._closed_by_us = False
        self._received: deque[float] = deque(maxlen=SENDS_PER_MINUTE + 1)

    # --- sending ---

    def send(self, op: int, data: Any) -> None:
        self.send_text(json.dumps({"t": None, "s": None, "op": op, "d": data}))

    def send_text(self, frame: str) -> None:
        self._out.put_nowait(frame)

    def close(self, code: int, reason: str = "") -> None:
        self._closed_by_us = True
        self._detach()
        self._out.put_nowait(CloseWith(code, reason))

    def cut(self) -> None:
        """End the TCP connection without a word."""
        self._closed_by_us = True
        self._detach()
        self._out.put_nowait(None)
        if self._request.transport is not None:
            self._request.transport.abort()

    def attach(self, session: Session) -> None:
        self.session = session
        session.connection = self

    def _detach(self) -> None:
        if self.session is not None and self.session.connection is self:
            self.session.connection = None

    def invalidate(self, resumable: bool) -> None:
        if self.session is not None:
            self._detach()
            if not resumable:
                self.gateway.sessions.pop(self.session.id, None)
            self.session = None
        self.send(9, resumable)

    async def _write(self) -> None:
        """Send what is queued, in order, until a close or the end."""
        while (item := await self._out.get()) is not None:
            if isinstance(item, CloseWith):
                await self._close_handshake(item)
                return
            try:
                if self._stream is not None:
                    packed = self._stream.compress(item.encode()) + self._stream.flush(zlib.Z_SYNC_FLUSH)
                    await self._ws.send_bytes(packed)
                elif self._compress_large and len(item) > LARGE_PAYLOAD:
                    await self._ws.send_bytes(zlib.compress(item.encode()))
                else:
                    await self._ws.send_str(item)
            except (ConnectionError, RuntimeError):
                return

    async def _close_handshake(self, end: CloseWith) -> None:
        """Close, and wait for the client's answer: while somebody reads, aiohttp would end the TCP connection at once."""
        assert self._reading is not None
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self._ws.close(code=end.code, message=end.reason.encode())

    # --- receiving ---

    async def run(self) -> None:
        self._reading = asyncio.create_task(self._read())
        writing = asyncio.create_task(self._write())
        self.send(10, {"heartbeat_interval": self.gateway.heartbeat_ms, "_trace": ["loopback"]})
        try:
            await asyncio.wait([self._reading])
            if self._closed_by_us:
                await asyncio.wait([writing], timeout=2 * CLOSE_SECONDS)
        finally:
            self._detach()
            for task in (self._reading, writing):
                task.cancel()
        ended_by_client = not self._closed_by_us and self._ws.close_code in CLIENT_ENDED
        if ended_by_client and self.session is not None:
            self.gateway.sessions.pop(self.session.id, None)

    async def _read(self) -> None:
        async for message in self._ws:
            if self._closed_by_us or message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                continue
            try:
                self._receive(message.data)
            except CloseWith as end:
                self.close(end.code, end.reason)
            except (KeyError, TypeError, ValueError, AttributeError, BackendError) as error:
                self.close(4002, f"Error while decoding payload: {error!r}"[:120])

    def _receive(self, raw: str | bytes) -> None:
        now = time.monotonic()
        self._received.append(now)
        if len(self._received) > SENDS_PER_MINUTE and now - self._received[0] < 60:
            raise CloseWith(4008, "You are being rate limited.")
        if len(raw) > LONGEST_PAYLOAD:
            raise CloseWith(4002, "The payload is longer than 4096 bytes.")
        try:
            frame = json.loads(raw)
            op, data = frame["op"], frame.get("d")
        except (ValueError, TypeError, KeyError, AttributeError):
            raise CloseWith(4002, "Error while decoding payload.") from None
        self.gateway.record.gateway_op(self.session.shard[0] if self.session else _shard_of(data), op, data)
        if op == 1:
            if not self.gateway.silent:
                self.send(11, None)
        elif op == 2:
            self._identify(data)
        elif op == 6:
            self._resume(data)
        elif op in (3, 4, 8, 31, 43):
            if self.session is None:
                raise CloseWith(4003, "Not authenticated.")
            self._command(op, data)
        else:
            raise CloseWith(4001, "Unknown opcode.")

    def _identify(self, data: Any) -> None:
        if self.session is not None:
            raise CloseWith(4005, "Already authenticated.")
        if not isinstance(data, dict) or not isinstance(data.get("properties"), dict) or not data.get("token"):
            raise CloseWith(4002, "Error while decoding payload.")
        self._check_token(data["token"])
        shard = data.get("shard") or (0, 1)
        if len(shard) != 2 or not all(isinstance(n, int) for n in shard) or not 0 <= shard[0] < shard[1]:
            raise CloseWith(4010, "Invalid shard.")
        declared = data.get("intents")
        if (
            not isinstance(declared, int)
            or isinstance(declared, bool)
            or declared & ~intents.KNOWN_BITS
            or declared < 0
        ):
            raise CloseWith(4013, "Invalid intent(s).")
        world = self.gateway.world
        if intents.disallowed(world, declared):
            raise CloseWith(4014, "Disallowed intent(s).")
        here = sum(1 for guild_id in world.guilds if (guild_id >> 22) % shard[1] == shard[0])
        if here > GUILDS_PER_SHARD or (self.gateway.sharding_required and shard[1] < self.gateway.shards):
            raise CloseWith(4011, "Sharding required.")
        if not self.gateway.admit_identify(shard[0]):
            self.send(9, False)
            return
        self._compress_large = bool(data.get("compress"))
        self.gateway.start_session(self, data)

    def _resume(self, data: Any) -> None:
        if self.session is not None:
            raise CloseWith(4005, "Already authenticated.")
        if not isinstance(data, dict) or not isinstance(data.get("seq"), int):
            raise CloseWith(4002, "Error while decoding payload.")
        self._check_token(data.get("token"))
        session = self.gateway.sessions.get(data.get("session_id"))
        seq = data["seq"]
        if session is None or not session.can_replay(seq):
            self.send(9, False)
            return
        if session.connection is not None:
            session.connection.close(4000, "The session was resumed elsewhere.")
        self.attach(session)
        session.replay(seq, DUPLICATES if self.gateway.duplicates else 0)
        session.dispatch("RESUMED", json.dumps({"_trace": ["loopback"]}))

    def _check_token(self, token: Any) -> None:
        given = token.removeprefix("Bot ") if isinstance(token, str) else None
        if given != self.gateway.token or not self.gateway.token_valid:
            raise CloseWith(4004, "Authentication failed.")

    def _command(self, op: int, data: Any) -> None:
        session = self.session
        assert session is not None
        if op == 3:
            session.presence = data
        elif op == 8:
            for chunk in _member_chunks(self.gateway.world, data):
                session.dispatch("GUILD_MEMBERS_CHUNK", json.dumps(chunk))
        elif op == 4 and isinstance(data, dict) and int(data.get("guild_id", 0)) in self.gateway.world.guilds:
            channel = data.get("channel_id")
            self.gateway.world.set_voice_state(
                int(data["guild_id"]), self.gateway.world.bot_user.id, int(channel) if channel else None
            )


def _shard_of(data: Any) -> int | None:
    shard = data.get("shard") if isinstance(data, dict) else None
    return shard[0] if isinstance(shard, list) and shard else None


def _member_chunks(world: World, request: Any) -> list[dict[str, Any]]:
    """The answer to REQUEST_GUILD_MEMBERS, in chunks of at most 1000 members."""
    guild = world.guilds.get(int(request["guild_id"]))
    if guild is None:
        return []
    members = list(guild.members.values())
    not_found: list[str] = []
    if request.get("user_ids"):
        listed = request["user_ids"] if isinstance(request["user_ids"], list) else [request["user_ids"]]
        not_found = [str(user) for user in listed if int(user) not in guild.members]
        members = [guild.members[int(user)] for user in listed if int(user) in guild.members]
    elif request.get("query"):
        prefix = request["query"].lower()
        members = [m for m in members if (m.nick or world.users[m.user_id].name).lower().startswith(prefix)]
    if request.get("limit"):
        members = members[: request["limit"]]
    parts = [members[start : start + 1000] for start in range(0, len(members), 1000)] or [[]]
    chunks = []
    for index, part in enumerate(parts):
        chunk: dict[str, Any] = {
            "guild_id": str(guild.id),
            "members": [serializers.member_payload(world, guild, member) for member in part],
            "chunk_index": index,
            "chunk_count": len(parts),
            "not_found": not_found,
        }
        if request.get("nonce"):
            chunk["nonce"] = request["nonce"]
        chunks.append(chunk)
    return chunks
