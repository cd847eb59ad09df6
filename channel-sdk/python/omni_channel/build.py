"""Small constructors for what most channels say. Whatever they do not know is said by adding a field."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import wire


def chat(id: str, kind: wire.ChatKind = "direct", name: str | None = None) -> wire.Chat:
    """A conversation, of which id, kind and perhaps its title are known."""
    made: wire.Chat = {"id": id, "kind": kind}
    if name is not None:
        made["name"] = name
    return made


def user(id: str, name: str | None = None) -> wire.User:
    """An account, of which the id and perhaps a name is known."""
    made: wire.User = {"id": id}
    if name is not None:
        made["name"] = name
    return made


def text(words: str) -> Any:
    """Plain words, as the content of a message."""
    return {"type": "text", "text": words}


def message(id: str, sender: wire.User | wire.Sender, content: wire.Content, reply_to: str | None = None) -> Any:
    """Somebody wrote: the body of an event."""
    made = {"type": "message", "id": id, "sender": sender, "content": content}
    if reply_to is not None:
        made["replyTo"] = {"id": reply_to}
    return made


def event(chat: wire.Chat | None, at: int, body: wire.EventBody, delivery_key: str | None = None) -> wire.Event:
    """One thing that happened, at a time by the network's clock in milliseconds since 1970. The delivery key is what the
    network would repeat: the host drops a second event with the same one."""
    made: dict[str, Any] = {"at": int(at), "body": body}
    if chat is not None:
        made["chat"] = chat
    if delivery_key is not None:
        made["deliveryKey"] = delivery_key
    return made  # type: ignore[return-value]


def receipt(message_id: str, at: int | None = None) -> wire.SendReceipt:
    """What the network said when it took a message."""
    made: wire.SendReceipt = {"messageId": str(message_id)}
    if at is not None:
        made["at"] = int(at)
    return made


def connected(profile: wire.Profile | None = None) -> wire.ConnectionState:
    """Messages flow."""
    return {"state": "connected"} if profile is None else {"state": "connected", "profile": profile}


def long_poll(tag: str = "", min_interval_ms: int = 0) -> Any:
    """The host repeats the call of `next_poll`."""
    return {"type": "longPoll", "tag": tag, "minIntervalMs": min_interval_ms}


def websocket(url: str, tag: str = "", headers: list[wire.Header] | None = None, idle_ms: int | None = None) -> Any:
    """The host holds a WebSocket open."""
    made: dict[str, Any] = {"type": "websocket", "tag": tag, "url": url}
    if headers:
        made["headers"] = headers
    if idle_ms is not None:
        made["idleMs"] = idle_ms
    return made


def webhook(
    *verify: wire.Verify, listen: str | None = None, max_body_bytes: int | None = None, challenge: str | None = None
) -> Any:
    """The host takes HTTP requests from the network, and refuses those for which a proof does not hold. A network that first
    makes sure of the address (`hub.challenge`) is answered when it shows the token `challenge`.
    """
    made: dict[str, Any] = {"type": "webhook", "verify": list(verify)}
    if listen is not None:
        made["listen"] = listen
    if max_body_bytes is not None:
        made["maxBodyBytes"] = max_body_bytes
    if challenge is not None:
        made["challenge"] = {"token": challenge}
    return made


def header_equals(header: str, value: str) -> Any:
    """A proof: a header equals a secret."""
    return {"type": "headerEquals", "header": header, "value": value}


def hmac_sha256(header: str, key: str, prefix: str = "") -> Any:
    """A proof: a header holds the HMAC-SHA256 of the raw body, in hex digits behind the prefix."""
    return {"type": "hmacSha256", "header": header, "prefix": prefix, "key": key}


def timestamp_window(header: str, seconds: int) -> Any:
    """A proof: a header holds a time that is not far from now."""
    return {"type": "timestampWindow", "header": header, "seconds": seconds}


def timer(tag: str, every_ms: int) -> Any:
    """The host calls at regular times."""
    return {"type": "timer", "tag": tag, "everyMs": every_ms}
