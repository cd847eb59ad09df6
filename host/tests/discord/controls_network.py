"""Controls that play the operator and the network: permissions, limits, broken connections, spoiled answers, the log.

It cannot reorder events, and cannot corrupt the bytes of a frame.
"""

from __future__ import annotations

from typing import Any

import discord
from simcord.backend import serializers

from cdn import Trouble
from controls import ControlError, Panel, control
from gateway import Connection
from ratelimits import DEFAULT_ALLOWANCE, Forced
from rest import Fault

# --- looking ---


@control("world")
def world(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """The line of the start."""
    return panel.start


@control("log")
def log(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{path_prefix?, method?, op?} Every HTTP request and every gateway op received."""
    entries = panel.record.as_json()
    prefix, method, op = body.get("path_prefix"), body.get("method"), body.get("op")
    entries["http"] = [
        entry
        for entry in entries["http"]
        if (prefix is None or entry["path"].startswith(prefix)) and method in (None, entry["method"])
    ]
    if op is not None:
        entries["gateway"] = [entry for entry in entries["gateway"] if entry["op"] == int(op)]
    return entries


@control("reset_log")
def reset_log(panel: Panel, body: dict[str, Any]) -> None:
    panel.record.clear()


@control("messages")
def messages(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """{channel?} What is stored, oldest first, ephemeral messages too."""
    stored = panel.world.messages.get(panel.channel(body).id, {})
    return {"messages": [serializers.message_payload(panel.world, message) for message in stored.values()]}


@control("sessions")
def sessions(panel: Panel, body: dict[str, Any]) -> dict[str, Any]:
    """The gateway's sessions, connected or not."""
    return {
        "sessions": [
            {
                "id": session.id,
                "shard": list(session.shard),
                "seq": session.seq,
                "intents": session.intents.value,
                "connected": session.connection is not None,
                "presence": session.presence,
                "repeated": session.repeated,
            }
            for session in panel.gateway.sessions.values()
        ]
    }


# --- permissions and access ---


@control("permissions")
def permissions(panel: Panel, body: dict[str, Any]) -> None:
    """{channel?, allow?, deny?} The bot's overwrite of a channel: bits, or names such as "send_messages"."""
    allow, deny = _permission_bits(body.get("allow")), _permission_bits(body.get("deny"))
    panel.world.set_bot_overwrite(panel.channel(body).id, allow, deny)


def _permission_bits(value: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, (int, str)) and str(value).isdigit():
        return int(value)
    names = [value] if isinstance(value, str) else value
    bits = 0
    for name in names:
        if name not in discord.Permissions.VALID_FLAGS:
            raise ControlError(f"There is no permission named {name!r}.")
        bits |= discord.Permissions.VALID_FLAGS[name]
    return bits


@control("flags")
def flags(panel: Panel, body: dict[str, Any]) -> None:
    """{flags} The application's flags, which allow privileged intents."""
    panel.world.application_flags = int(body["flags"])


@control("revoke")
def revoke(panel: Panel, body: dict[str, Any]) -> None:
    """The token is invalid from now on: 401, and every socket is closed with 4004."""
    panel.gateway.revoke_token()


@control("oauth")
def oauth(panel: Panel, body: dict[str, Any]) -> None:
    """{refuse: bool} Whether the next user refuses the installation."""
    panel.oauth.refuse_next = bool(body["refuse"])


# --- the HTTP API ---


@control("ratelimit")
def ratelimit(panel: Panel, body: dict[str, Any]) -> None:
    """{after, scope?: user|shared|global, global?: bool, count?, method?, path_prefix?} The next requests answer 429."""
    scope = body.get("scope", "global" if body.get("global") else "user")
    if scope not in ("user", "shared", "global"):
        raise ControlError("'scope' must be user, shared or global.")
    is_global = bool(body.get("global", scope == "global"))
    panel.rest.limits.forced = Forced(
        float(body["after"]),
        scope,
        is_global,
        int(body.get("count", 1)),
        str(body.get("method", "*")).upper(),
        body.get("path_prefix", "/"),
    )


@control("limits")
def limits(panel: Panel, body: dict[str, Any]) -> None:
    """{enabled?, messages?: [count, seconds], others?: [count, seconds], file_bytes?} What is counted."""
    limits = panel.rest.limits
    limits.set(
        enabled=bool(body.get("enabled", True)),
        messages=_allowance(body.get("messages", (5, 5.0))),
        others=_allowance(body.get("others", DEFAULT_ALLOWANCE)),
    )
    if "file_bytes" in body:
        panel.rest.file_limit = int(body["file_bytes"])


def _allowance(value: Any) -> tuple[int, float]:
    count, seconds = value
    return int(count), float(seconds)


@control("fail")
def fail(panel: Panel, body: dict[str, Any]) -> None:
    """{method?, path_prefix?, status?: number or null, count?, after_effect?} Spoils the next matching requests; without
    a status the connection is cut. `count: 0` takes all orders back."""
    count = int(body.get("count", 1))
    if count <= 0:
        panel.rest.faults.clear()
        return
    status = body.get("status")
    panel.rest.faults.append(
        Fault(
            str(body.get("method", "*")).upper(),
            body.get("path_prefix", "/"),
            None if status is None else int(status),
            count,
            bool(body.get("after_effect", False)),
        )
    )


@control("latency")
def latency(panel: Panel, body: dict[str, Any]) -> None:
    """{ms?, after?: ms} Every HTTP request waits this long before it is worked on, and its answer after that."""
    panel.rest.latency_ms = int(body.get("ms", 0))
    panel.rest.answer_ms = int(body.get("after", 0))


@control("cdn")
def cdn(panel: Panel, body: dict[str, Any]) -> None:
    """{attachment, more?: bytes, stall?: bytes, gone?: bool} How the download of an attachment goes wrong."""
    attachment = int(body["attachment"])
    if attachment not in panel.world.cdn.files:
        raise ControlError(f"There is no attachment with the id {attachment}.")
    stall = body.get("stall")
    panel.world.cdn.troubles[attachment] = Trouble(
        more=int(body.get("more", 0)),
        stall_after=None if stall is None or stall is False else int(stall),
        gone=bool(body.get("gone", False)),
    )


# --- the gateway ---


def _connections(panel: Panel, body: dict[str, Any]) -> list[Connection]:
    shard = body.get("shard")
    return [
        connection
        for connection in panel.gateway.connections
        if shard is None or (connection.session is not None and connection.session.shard[0] == int(shard))
    ]


@control("drop")
def drop(panel: Panel, body: dict[str, Any]) -> dict[str, int]:
    """{code?: number or null, shard?} Closes sockets with the code, 1001 unless given; null cuts the connection."""
    chosen = _connections(panel, body)
    code = body.get("code", 1001)
    for connection in chosen:
        if code is None:
            connection.cut()
        else:
            connection.close(int(code), body.get("reason", ""))
    return {"dropped": len(chosen)}


@control("invalidate")
def invalidate(panel: Panel, body: dict[str, Any]) -> dict[str, int]:
    """{resumable?: bool, shard?} Sends op 9."""
    chosen = _connections(panel, body)
    for connection in chosen:
        connection.invalidate(bool(body.get("resumable", False)))
    return {"invalidated": len(chosen)}


@control("forget_sessions")
def forget_sessions(panel: Panel, body: dict[str, Any]) -> None:
    """Sessions without a socket cannot be resumed any more."""
    for session in [s for s in panel.gateway.sessions.values() if s.connection is None]:
        del panel.gateway.sessions[session.id]


@control("reconnect")
def reconnect(panel: Panel, body: dict[str, Any]) -> None:
    """{shard?} Sends op 7."""
    for connection in _connections(panel, body):
        connection.send(7, None)


@control("heartbeat")
def heartbeat(panel: Panel, body: dict[str, Any]) -> None:
    """{shard?} Asks for a heartbeat at once."""
    for connection in _connections(panel, body):
        connection.send(1, None)


@control("silence")
def silence(panel: Panel, body: dict[str, Any]) -> None:
    """{on} Heartbeats are not answered any more; events still flow."""
    panel.gateway.silent = bool(body["on"])


@control("duplicate")
def duplicate(panel: Panel, body: dict[str, Any]) -> None:
    """{on} After a RESUME, the last 20 events that the client has come again."""
    panel.gateway.duplicates = bool(body["on"])


@control("gateway")
def gateway(panel: Panel, body: dict[str, Any]) -> None:
    """{shards?, max_concurrency?, heartbeat_ms?, identify_window_ms?, remaining?, reset_after_ms?, sharding_required?}
    What /gateway/bot says and IDENTIFY checks."""
    target = panel.gateway
    for name in ("shards", "max_concurrency", "heartbeat_ms", "identify_window_ms"):
        if name in body:
            setattr(target, name, int(body[name]))
    target.sharding_required = bool(body.get("sharding_required", target.sharding_required))
    if "reset_after_ms" in body:
        target.set_start_limit_reset(int(body["reset_after_ms"]))
    if "remaining" in body:
        target.identify_used = target.identify_total - int(body["remaining"])


@control("unavailable")
def unavailable(panel: Panel, body: dict[str, Any]) -> None:
    """{guild?, back?: bool} An outage of a guild begins, or is over."""
    guild = panel.guild(body)
    if body.get("back"):
        panel.world.emit("GUILD_CREATE", serializers.guild_create_payload(panel.world, guild))
    else:
        panel.world.emit("GUILD_DELETE", {"id": str(guild.id), "unavailable": True})


@control("emit")
def emit(panel: Panel, body: dict[str, Any]) -> None:
    """{t, d} Any event, as it stands, to the sessions that it concerns."""
    panel.gateway.publish(body["t"], body["d"])
