"""Runs one instance of a channel: reads frames, keeps the calls that are under way, writes frames.

There is no event loop here. A call is a coroutine that goes on when a frame for it comes in; what it awaits is an answer of
the host. Whatever happens in it, it ends in one `done`: the host waits for that.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from .channel import REQUESTS, Channel, EventOutcome, Started
from .context import WAIT, Batch, Context, Link, Shared
from .errors import SendError, as_channel_error, as_send_error
from .frame import FrameError, Tails, decode, encode, field, one_of, to_json
from .http import HttpResponse, WebhookRequest

Ended = tuple[dict[str, Any], list[bytes]]
"""What a call gives back; the bodies of webhook answers lie apart."""


class _Task:
    def __init__(self, work: Coroutine[Any, None, Ended], ctx: Context, link: Link, reported_as: Callable[..., Any]):
        self.work = work
        self.ctx = ctx
        self.link = link
        self.reported_as = reported_as


class Driver:
    """One instance of a channel at its end of the boundary."""

    def __init__(self, channel_class: type[Channel], deliver: Callable[[bytes], bool]):
        self._class = channel_class
        self._shared = Shared(deliver)
        self._channel: Channel | None = None
        """Set when the start ended well, taken away by the stop."""
        self._started = False
        self._tasks: dict[int, _Task] = {}

    @property
    def now(self) -> int:
        """The host's time, milliseconds since 1970."""
        return self._shared.now

    def deliver(self, frame: bytes) -> None:
        """Handles one frame; raises `FrameError` when the bytes are none."""
        kind, said, rest = decode(frame)
        tails = Tails(rest)
        if kind == "begin":
            call, now = field(said, "call", int), field(said, "now", int)
            kind, op = one_of(said.get("op"))
            if kind == "events":
                op = [_with_bytes(event, tails) for event in field(op, "events", list)]
            elif kind == "request":
                op = field(op, "request", dict)
                field(op, "type", str)
            elif kind == "login":
                op = field(op, "login", dict)
            elif kind == "start":
                field(op, "instance", str)
                field(op, "config", object)
            self._shared.now = now
            self._begin(call, kind, op)
        elif kind == "answer":
            call, id, now = field(said, "call", int), field(said, "id", int), field(said, "now", int)
            answer = one_of(said.get("answer"))
            self._shared.now = now
            if task := self._tasks.pop(call, None):
                task.link.answer(id, answer, tails)
                self._go_on(call, task)
        elif kind == "poll":
            call, now = field(said, "call", int), field(said, "now", int)
            self._shared.now = now
            if task := self._tasks.pop(call, None):
                self._go_on(call, task)
        elif kind == "cancel":
            if task := self._tasks.pop(field(said, "call", int), None):
                _drop(task)
        elif kind == "ping":
            self._shared.deliver(encode(to_json({"pong": {"nonce": field(said, "nonce", int)}})))
        # A kind that this version does not know is skipped.

    def _begin(self, call: int, kind: str, op: Any) -> None:
        link = Link(call, self._shared)
        ctx = Context(link)
        first_start = not self._started
        if kind == "start":
            self._started = True
            if self._shared.webhook_url is None:
                self._shared.webhook_url = op.get("webhookUrl")
        reported_as = as_send_error if kind == "request" else as_channel_error
        self._go_on(call, _Task(self._run(ctx, kind, op, first_start), ctx, link, reported_as))

    def _go_on(self, call: int, task: _Task) -> None:
        """Goes on with a call and reports its end, or keeps it."""
        try:
            while task.work.send(None) is not WAIT:
                task.work.throw(TypeError("await only what the Context gives: there is no event loop"))
        except StopIteration as end:
            self._done(call, end.value, task.ctx._batch)
        except BaseException as error:
            task.link.closed = True
            try:
                if reported := task.reported_as(error):
                    self._failed(call, *reported)
                    return
            except (TypeError, ValueError, AttributeError) as worse:
                error = worse
            message = f"the channel raised {_words(error)}"
            self._shared.log("error", message + _where(error))
            self._failed(call, SendError("internal", "us", message, certain=False), None, panicked=True)
        else:
            self._tasks[call] = task

    def _done(self, call: int, ended: Ended, batch: Batch) -> None:
        output, bodies = ended
        try:
            commit, tails = batch.commit()
            frame = encode(f'{{"done":{{"call":{call},"result":{{"ok":{to_json(output)}}},"commit":{commit}}}}}', tails + bodies)
        except (TypeError, ValueError, RecursionError) as error:
            message = f"what the channel gives cannot be written as JSON: {error}"
            self._failed(call, SendError("internal", "us", message, certain=False), None)
        else:
            self._shared.deliver(frame)

    def _failed(self, call: int, error: SendError, state: Any, panicked: bool = False) -> None:
        said: dict[str, Any] = {"code": error.code, "message": error.message, "next": error.next}
        if error.retry_after_ms is not None:
            said["retryAfterMs"] = max(0, int(error.retry_after_ms))
        said["certain"] = bool(error.certain)
        failure: dict[str, Any] = {"error": said, "panicked": panicked}
        if state is not None:
            failure["state"] = state
        self._shared.deliver(encode(to_json({"done": {"call": call, "result": {"err": failure}, "commit": {}}})))

    async def _run(self, ctx: Context, kind: str, op: Any, first_start: bool) -> Ended:
        if kind == "start":
            if not first_start:
                raise SendError.internal("the instance was already started")
            return await self._start(ctx, op["config"])
        channel = self._channel
        if channel is None:
            raise SendError.transient("the instance is not running")
        if kind == "events":
            return await _run_events(ctx, channel, op)
        if kind == "request":
            return {"reply": {"reply": await _run_request(ctx, channel, op)}}, []
        if kind == "login":
            return {"login": {"step": _told(await channel.login(ctx, op), "login")}}, []
        if kind == "stop":
            await channel.stop(ctx)
            self._channel = None
            return {"stopped": {}}, []
        raise SendError.unsupported(kind)

    async def _start(self, ctx: Context, config: Any) -> Ended:
        started = await self._class.start(ctx, config)
        if not isinstance(started, Started):
            raise TypeError(f"start gave {_kind(started)}, not Started")
        polls = []
        for ingress in started.ingress:
            if ingress["type"] == "longPoll":
                tag = ingress.get("tag", "")
                polls.append({"tag": tag, "call": _told(await started.channel.next_poll(ctx, tag), "next_poll")})
        self._channel = started.channel
        return {"started": {"ingress": started.ingress, "polls": polls}}, []


async def _run_events(ctx: Context, channel: Channel, events: list[Any]) -> Ended:
    tags = dict.fromkeys(event["tag"] for event in events if event["type"] in ("pollResponse", "pollFailed"))
    expected = len(events)
    outcomes = await channel.on_events(ctx, events)
    if len(outcomes) != expected:
        raise SendError.internal(f"on_events took {expected} events and gave {len(outcomes)} outcomes")
    heads, bodies = [], []
    for outcome in outcomes:
        outcome = EventOutcome() if outcome is None else outcome
        if not isinstance(outcome, EventOutcome):
            raise TypeError(f"an event was answered with {_kind(outcome)}, not EventOutcome")
        head: dict[str, Any] = {}
        if outcome.reply is not None:
            head["reply"] = {"status": outcome.reply.status, "headers": outcome.reply.headers}
            bodies.append(outcome.reply.body)
        if outcome.socket_send:
            head["socketSend"] = outcome.socket_send
        if outcome.poll_after_ms is not None:
            head["pollAfterMs"] = max(0, int(outcome.poll_after_ms))
        heads.append(head)
    polls = [{"tag": tag, "call": _told(await channel.next_poll(ctx, tag), "next_poll")} for tag in tags]
    return {"events": {"outcomes": heads, "polls": polls}}, bodies


async def _run_request(ctx: Context, channel: Channel, request: dict[str, Any]) -> dict[str, Any]:
    method, reply = REQUESTS.get(request["type"], (None, None))
    if method is None:
        raise SendError.unsupported(request["type"])
    answer = await getattr(channel, method)(ctx, request)
    return {"type": "done"} if reply == "done" else {"type": reply, **_told(answer, method)}


def _with_bytes(event: Any, tails: Tails) -> Any:
    """The event with the raw bytes that it carries beside its JSON, if it is of a kind that does."""
    kind = field(event, "type", str)
    if kind == "pollResponse":
        field(event, "tag", str)
        response = field(event, "response", dict)
        answer = HttpResponse(field(response, "status", int), response.get("headers"), tails.next_bytes())
        return {**event, "response": answer}
    if kind == "webhook":
        said = field(event, "request", dict)
        method, path = field(said, "method", str), field(said, "path", str)
        request = WebhookRequest(method, path, said.get("query", ""), said.get("headers"), tails.next_bytes())
        return {**event, "request": request}
    if kind == "socketBinary":
        return {**event, "bytes": tails.next_bytes()}
    if kind == "pollFailed":
        field(event, "tag", str)
    return event


def _told(answer: Any, method: str) -> Any:
    if not isinstance(answer, dict):
        raise TypeError(f"{method} gave {_kind(answer)}, not what it should")
    return answer


def _kind(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"


def _drop(task: _Task) -> None:
    task.link.closed = True
    try:
        task.work.close()
    except BaseException:
        # What a channel does when it is given up may fail, too.
        pass


def _words(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except BaseException:
        return type(error).__name__


def _where(error: BaseException) -> str:
    """The lines that it passed, innermost first. `traceback` would look for the sources, and there is no file here."""
    lines = []
    step = error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        lines.append(f", at {code.co_filename}:{step.tb_lineno} in {code.co_name}")
        step = step.tb_next
    return "".join(reversed(lines[-6:]))


__all__ = ["Driver", "FrameError"]
