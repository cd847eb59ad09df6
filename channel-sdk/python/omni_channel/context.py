"""What the host does for a channel."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import HostError, HttpFailed
from .frame import FrameError, Tails, encode, to_json
from .http import HttpResponse

if TYPE_CHECKING:
    from .wire import ConnectionState, Event, HttpCall, LogLevel

T = TypeVar("T")

ENDED = "the host has ended this instance"
"""What a question is answered with when there is nobody left to answer it."""
MOST_ENTRIES = 1_000
"""Most entries that the host gives at once."""
WAIT = object()
"""What a coroutine yields while it waits for an answer of the host."""


class Shared:
    """What all calls of one instance see."""

    def __init__(self, deliver: Callable[[bytes], bool]):
        self.deliver = deliver
        self.now = 0
        self.webhook_url: str | None = None

    def log(self, level: LogLevel, message: str) -> None:
        self.deliver(encode(to_json({"log": {"level": level, "message": str(message)}})))


class Link:
    """One call's end of the line to the host."""

    def __init__(self, call: int, shared: Shared):
        self.call = call
        self.shared = shared
        self.closed = False
        self.slots: dict[int, tuple[Any, Tails] | None] = {}
        self._next_id = 1

    def ask(self, request: dict[str, Any], tails: Iterable[bytes] = ()) -> _Asked:
        id = self._next_id
        self._next_id += 1
        head = to_json({"call": {"call": self.call, "id": id, "request": request}})
        return _Asked(self, id, encode(head, tuple(tails)))

    def answer(self, id: int, answer: Any, tails: Tails) -> None:
        """Puts the host's answer where the one who waits finds it. An answer nobody waits for is dropped."""
        if id in self.slots and self.slots[id] is None:
            self.slots[id] = (answer, tails)


class _Asked:
    """Waits for one answer; gives the question up when it is closed."""

    def __init__(self, link: Link, id: int, frame: bytes):
        self._link = link
        self._id = id
        self._frame = frame

    def __await__(self) -> Generator[object, None, tuple[str, Any, Tails]]:
        slots = self._link.slots
        slots[self._id] = None
        try:
            if self._link.closed or not self._link.shared.deliver(self._frame):
                raise HostError(ENDED)
            while (answered := slots[self._id]) is None:
                yield WAIT
        finally:
            del slots[self._id]
        (kind, said), tails = answered
        if kind == "failed":
            raise HostError(str(said.get("message")))
        return kind, said, tails


def _unexpected(kind: str) -> HostError:
    return HostError(f"the host answered something else than was asked: {kind}")


def _next_bytes(tails: Tails) -> bytes:
    try:
        return tails.next_bytes()
    except FrameError as error:
        raise HostError(str(error)) from None


class Batch:
    """Events and entries that are stored together, and the timers and sockets that wait for it."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.writes: dict[str, bytes | None] = {}
        """`None` takes an entry away."""
        self.timers: list[dict[str, Any]] = []
        self.sockets: list[dict[str, Any]] = []

    def commit(self) -> tuple[str, list[bytes]]:
        """What crosses: the JSON, and the values beside it."""
        writes = sorted(self.writes.items())
        heads = [{"key": key} if value is not None else {"key": key, "delete": True} for key, value in writes]
        said = [
            f'"events":[{",".join(self.events)}]' if self.events else None,
            f'"writes":{to_json(heads)}' if heads else None,
            f'"timers":{to_json(self.timers)}' if self.timers else None,
            f'"sockets":{to_json(self.sockets)}' if self.sockets else None,
        ]
        return "{" + ",".join(filter(None, said)) + "}", [value for _, value in writes if value is not None]


class Context:
    """One call's view of the host: its services, and what is stored when the call ends well."""

    def __init__(self, link: Link):
        self._link = link
        self._batch = Batch()

    @property
    def now(self) -> int:
        """The host's time, milliseconds since 1970. Moves only between two steps of a call."""
        return self._link.shared.now

    @property
    def webhook_url(self) -> str | None:
        """The public address of this instance's webhook; `None` when the operator has not set the host's."""
        return self._link.shared.webhook_url

    async def http(self, call: HttpCall) -> HttpResponse:
        """Makes an HTTP call. An answer of any status is an answer; none raises `HttpFailed`."""
        try:
            kind, said, tails = await self._link.ask({"http": {"http": call}})
        except HostError as error:
            raise HttpFailed(str(error), sent=False) from None
        if kind == "httpFailed":
            failure = said["failure"]
            raise HttpFailed(failure["message"], sent=failure["sent"], timed_out=failure.get("timedOut", False))
        if kind != "http":
            raise HttpFailed(str(_unexpected(kind)), sent=True)
        try:
            body = tails.next_bytes()
        except FrameError:
            body = b""
        return HttpResponse(said["response"]["status"], said["response"].get("headers"), body)

    async def get(self, key: str) -> bytes | None:
        """Reads an entry of the key-value store: what this call wrote, or else what is stored."""
        if key in self._batch.writes:
            return self._batch.writes[key]
        kind, said, tails = await self._link.ask({"kvGet": {"key": key}})
        if kind != "kvValue":
            raise _unexpected(kind)
        return _next_bytes(tails) if said["found"] else None

    async def get_text(self, key: str, default: str = "") -> str:
        """Reads an entry that is words."""
        value = await self.get(key)
        return default if value is None else value.decode("utf-8", "replace")

    async def scan(self, prefix: str, after: str | None = None, limit: int = MOST_ENTRIES) -> list[tuple[str, bytes]]:
        """Lists entries whose keys begin with `prefix` and come behind `after`, in order, at most `limit` (and 1,000):
        what is stored, with what this call wrote."""
        written = {
            key: value
            for key, value in sorted(self._batch.writes.items())
            if key.startswith(prefix) and (after is None or key > after)
        }
        wanted = max(1, min(limit + len(written), MOST_ENTRIES))
        limit = max(0, min(limit, MOST_ENTRIES))
        stored: dict[str, bytes] = {}
        behind = after
        while True:
            page = await self._stored_entries(prefix, behind, wanted)
            if not written:
                return page[:limit]
            complete = len(page) < wanted
            behind = page[-1][0] if page else behind
            stored.update(page)
            # Behind the last stored entry that was read, others may lie between what was written.
            entries: dict[str, bytes | None] = dict(stored)
            entries.update(
                (key, value) for key, value in written.items() if complete or (behind is not None and key <= behind)
            )
            merged = sorted((key, value) for key, value in entries.items() if value is not None)
            if complete or len(merged) >= limit:
                return merged[:limit]

    async def _stored_entries(self, prefix: str, after: str | None, limit: int) -> list[tuple[str, bytes]]:
        kind, said, tails = await self._link.ask({"kvScan": {"prefix": prefix, "after": after, "limit": limit}})
        if kind != "kvEntries":
            raise _unexpected(kind)
        return [(key, _next_bytes(tails)) for key in said["keys"]]

    def emit(self, event: Event) -> None:
        """Hands an event over, to be stored when the call ends well."""
        if not isinstance(event["at"], int) or abs(event["at"]) >= 2**63:
            raise TypeError("the time of an event is whole milliseconds since 1970")
        self._batch.events.append(to_json(event))

    def set(self, key: str, value: bytes | str) -> None:
        """Writes an entry of this instance's key-value store when the call ends well; later reads in the same call see
        it."""
        if not isinstance(key, str):
            raise TypeError(f"a key is a str, not {key!r}")
        self._batch.writes[key] = value.encode() if isinstance(value, str) else bytes(memoryview(value))

    def delete(self, key: str) -> None:
        """Takes an entry away when the call ends well."""
        if not isinstance(key, str):
            raise TypeError(f"a key is a str, not {key!r}")
        self._batch.writes[key] = None

    def set_timer(self, tag: str, after_ms: int) -> None:
        """Calls the channel with a timer event after a while, once, when the call ends well. The same tag again moves it.
        Timers are lost when the instance ends: keep what must not be lost in the key-value store."""
        self._batch.timers.append({"tag": str(tag), "afterMs": max(0, int(after_ms))})

    def cancel_timer(self, tag: str) -> None:
        """Takes a timer back."""
        self._batch.timers.append({"tag": str(tag)})

    def socket_send(self, text: str, tag: str = "") -> None:
        """Writes a text frame to a WebSocket of the ingress when the call ends well; dropped when it is not open then."""
        self._batch.sockets.append({"tag": str(tag), "send": [str(text)]})

    def socket_close(self, code: int, tag: str = "", *, url: str | None = None, reopen_after_ms: int | None = None) -> None:
        """Closes a WebSocket of the ingress when the call ends well. The host tells that it closed, and opens it again: at
        `url` where that is given, and after `reopen_after_ms` instead of its own backoff."""
        act: dict[str, Any] = {"tag": str(tag), "close": int(code)}
        if url is not None:
            act["url"] = str(url)
        if reopen_after_ms is not None:
            act["reopenAfterMs"] = max(0, int(reopen_after_ms))
        self._batch.sockets.append(act)

    async def media_put(self, file: bytes, mime_type: str | None = None, file_name: str | None = None) -> str:
        """Hands a file to the host's media store; gives its handle, the blob."""
        request = {"mediaPut": {"mimeType": mime_type, "fileName": file_name}}
        kind, said, _ = await self._link.ask(request, [bytes(file)])
        if kind != "media":
            raise _unexpected(kind)
        return said["blob"]

    async def media_get(self, blob: str, offset: int, limit: int) -> tuple[bytes, int]:
        """Reads a piece of a file that the host holds, and the size of the whole. An HTTP call need not: it names the
        blob, and the host streams it."""
        kind, said, tails = await self._link.ask({"mediaGet": {"blob": blob, "offset": offset, "limit": limit}})
        if kind != "mediaBytes":
            raise _unexpected(kind)
        return _next_bytes(tails), said["size"]

    async def random(self, count: int) -> bytes:
        """Random bytes, good enough for keys; at most 1,024."""
        kind, _, tails = await self._link.ask({"random": {"bytes": count}})
        if kind != "random":
            raise _unexpected(kind)
        return _next_bytes(tails)

    def state(self, state: ConnectionState) -> None:
        """Reports what the connection is from now on."""
        self._link.shared.deliver(encode(to_json({"state": {"state": state}})))

    def log(self, level: LogLevel, message: str) -> None:
        """Writes to the host's log: a sentence without secrets, message texts and phone numbers."""
        self._link.shared.log(level, message)


class _Gathered:
    def __init__(self, coroutines: tuple[Coroutine[Any, None, Any], ...]):
        self._coroutines = coroutines

    def __await__(self) -> Generator[object, None, list[Any]]:
        results: list[Any] = [None] * len(self._coroutines)
        waiting = dict(enumerate(self._coroutines))
        try:
            while True:
                for index, coroutine in list(waiting.items()):
                    try:
                        while coroutine.send(None) is not WAIT:
                            raise TypeError("await only what the Context gives")
                    except StopIteration as end:
                        results[index] = end.value
                        del waiting[index]
                if not waiting:
                    return results
                yield WAIT
        finally:
            for coroutine in waiting.values():
                coroutine.close()


async def gather(*coroutines: Coroutine[Any, None, Any]) -> list[Any]:
    """Waits for several things at once; when one fails, the others are given up."""
    return await _Gathered(coroutines)
