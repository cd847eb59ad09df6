"""One instance behind its driver, frame by frame: what a host may count on, whatever the channel does.

    python3 -m unittest discover -s channel-sdk/python
"""

import json
import struct
import sys
import types
import unittest
from typing import Any, Literal, NotRequired, TypedDict


class Err(Exception):
    def __init__(self, value):
        self.value = value


class Host:
    """Stands where the component's import is."""

    def __init__(self):
        self.frames = []
        self.there = True

    def deliver(self, frame):
        assert isinstance(frame, bytes)
        self.frames.append(frame)
        return self.there


HOST = Host()
for name, module in {
    "componentize_py_types": types.SimpleNamespace(Err=Err),
    "wit_world": types.ModuleType("wit_world"),
    "wit_world.imports": types.SimpleNamespace(host=HOST),
}.items():
    sys.modules[name] = module

import omni_channel as omni  # noqa: E402
from omni_channel import boundary, context, frame, shape  # noqa: E402


def encode(head, *tails):
    parts = [json.dumps(head).encode(), *tails]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def decode(sent):
    parts = []
    while sent:
        length = struct.unpack("<I", sent[:4])[0]
        parts.append(sent[4 : 4 + length])
        sent = sent[4 + length :]
    return json.loads(parts[0]), parts[1:]


def event(id="m"):
    return omni.event(omni.chat("c"), 5, omni.message(id, omni.user("u"), omni.text("hello")))


class Probe(omni.Channel):
    """Does what the id of a message says."""

    @classmethod
    async def start(cls, ctx, config):
        if config["how"] == "raise":
            raise KeyError("on purpose, in the start")
        if config["how"] == "fail":
            raise omni.ChannelError.logged_out("no longer", "log in")
        if config["how"] == "ask":
            await ctx.get("key")
        return omni.Started(cls(), *config.get("ingress", []))

    async def next_poll(self, ctx, tag):
        return omni.http_get("https://api.example/?after=" + await ctx.get_text("after", "0"))

    async def on_event(self, ctx, event):
        tag = event.get("tag")
        if tag == "raise":
            raise RuntimeError("on purpose")
        if tag == "slow":
            return omni.EventOutcome(poll_after_ms=1500.5)
        if tag == "http":
            await ctx.http(omni.http_get("https://api.example/"))
        if event["type"] == "socketText":
            return omni.EventOutcome(socket_send=["pong"])
        if event["type"] == "socketBinary":
            return omni.EventOutcome(socket_send=[event["bytes"].decode()])
        if event["type"] == "webhook":
            ctx.set("seen", event["request"].body)
            return omni.EventOutcome.reply_json(202, event["request"].json())
        if event["type"] == "pollResponse":
            ctx.emit(globals()["event"](event["response"].json(Letter)["id"]))
            ctx.set("after", event["response"].text()[:3])
        return None

    async def on_events(self, ctx, events):
        outcomes = await super().on_events(ctx, events)
        return outcomes[1:] if events and events[0].get("tag") == "short" else outcomes

    async def send(self, ctx, request):
        what = request["clientId"]
        ctx.set("written", what)
        ctx.emit(event())
        if what == "plain":
            return omni.receipt("plain")
        if what == "raise":
            raise ValueError("on purpose")
        if what == "fail":
            raise omni.SendError.rate_limited(7.9, "wait")
        if what == "unsayable error":
            raise omni.ChannelError(omni.SendError.rate_limited("soon", "wait"), {1})
        if what == "state":
            raise omni.ChannelError.logged_out("gone", "log in")
        if what == "foreign":
            await _Foreign()
        if what == "nothing":
            return None
        if what == "nan":
            ctx.state({"state": float("nan")})
        if what == "unsayable":
            return {"messageId": {1, 2}}
        if what == "half":
            return omni.receipt("a\ud83d👋")
        if what == "exit":
            sys.exit(3)
        if what == "guard":
            try:
                await ctx.get("x")
            finally:
                ctx.log("info", "dropped")
        if what == "bad guard":
            try:
                await ctx.get("x")
            finally:
                await ctx.get("y")
        if what == "both":
            one, other = await omni.gather(ctx.get("x"), ctx.get("y"))
            return omni.receipt((one or b"none").decode() + (other or b"none").decode())
        if what == "own":
            ctx.delete("gone")
            return omni.receipt(repr([await ctx.get("written"), await ctx.get("gone"), await ctx.get("stored")]))
        if what == "scan":
            ctx.set("a/2", "two")
            ctx.set("a/9", "nine")
            ctx.delete("a/3")
            return omni.receipt(repr(await ctx.scan("a/", None, 2)))
        if what == "timers":
            ctx.set_timer("t", 1000.7)
            ctx.cancel_timer("u")
            ctx.socket_send("hi")
            ctx.socket_close(4000, "s", url="wss://b.example", reopen_after_ms=5)
            return omni.receipt(str(ctx.now))
        response = await ctx.http(omni.http_post_json("https://api.example/", {"what": what}, {"a": "b"}))
        return omni.receipt(response.json(Letter)["id"])

    async def stop(self, ctx):
        ctx.log("info", "goodbye")


class Letter(TypedDict):
    id: str


class _Foreign:
    def __await__(self):
        yield "a future of somebody else"


class Line(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        HOST.frames.clear()
        HOST.there = True
        self.guest = omni.export(Probe)()

    def deliver(self, head, *tails):
        self.guest.deliver(encode(head, *tails))

    def begin(self, call, op, *tails):
        self.deliver({"begin": {"call": call, "now": 5, "op": op}}, *tails)

    def start(self, **config):
        self.begin(1, {"start": {"instance": "i", "config": {"how": "well", **config}}})

    def started(self, **config):
        self.start(**config)
        self.assertIn("ok", self.done(1)["result"])

    def send(self, call, what):
        send = {"type": "send", "chat": "c", "clientId": what, "content": {"type": "text", "text": "hello"}}
        self.begin(call, {"request": {"request": send}})

    def events(self, call, *events, tails=()):
        self.begin(call, {"events": {"events": list(events)}}, *tails)

    def answer(self, call, id, answer, *tails):
        self.deliver({"answer": {"call": call, "id": id, "now": 6, "answer": answer}}, *tails)

    def next(self):
        self.assertTrue(HOST.frames, "the channel has something to say")
        return decode(HOST.frames.pop(0))

    def done(self, call, tails=()):
        head, found = self.next()
        self.assertEqual(head["done"]["call"], call, head)
        self.assertEqual(found, list(tails))
        return head["done"]

    def failed(self, call):
        done = self.done(call)
        self.assertEqual(done["commit"], {})
        return done["result"]["err"]

    def sent(self, call, tails):
        return self.done(call, tails)["result"]["ok"]["reply"]["reply"]["messageId"]

    def asked(self, call):
        head, _ = self.next()
        self.assertEqual(head["call"]["call"], call, head)
        return head["call"]["id"], head["call"]["request"]

    def logged(self):
        return self.next()[0]["log"]["message"]

    def silent(self):
        self.assertEqual(HOST.frames, [])


OK = {"http": {"response": {"status": 200}}}


class Calls(Line):
    def test_many_wait_at_once_and_end_in_any_order(self):
        self.started()
        self.send(2, "one")
        self.send(3, "two")
        one, request = self.asked(2)
        self.assertEqual(request["http"]["http"]["headers"], [{"name": "a", "value": "b"}])
        two, _ = self.asked(3)
        self.send(4, "plain")
        self.assertEqual(self.sent(4, [b"plain"]), "plain")
        self.answer(3, two, OK, b'{"id": "second"}')
        self.assertEqual(self.sent(3, [b"two"]), "second")
        self.answer(2, one, OK, b'{"id": "first"}')
        self.assertEqual(self.sent(2, [b"one"]), "first")
        self.silent()

    def test_what_a_call_gives_is_stored_when_it_ends_well(self):
        self.started()
        self.send(2, "plain")
        commit = self.done(2, [b"plain"])["commit"]
        self.assertEqual(commit, {"events": [event()], "writes": [{"key": "written"}]})
        for call, what in enumerate(["fail", "raise", "nothing", "unsayable"], 3):
            self.send(call, what)
            while "log" in decode(HOST.frames[0])[0]:
                self.next()
            self.failed(call)

    def test_a_call_sees_what_it_wrote(self):
        self.started()
        self.send(2, "own")
        id, request = self.asked(2)
        self.assertEqual(request, {"kvGet": {"key": "stored"}})
        self.answer(2, id, {"kvValue": {"found": True}}, b"s")
        done = self.done(2, [b"own"])
        self.assertEqual(done["result"]["ok"]["reply"]["reply"]["messageId"], "[b'own', None, b's']")
        self.assertEqual(done["commit"]["writes"], [{"key": "gone", "delete": True}, {"key": "written"}])

    def test_a_scan_merges_what_is_stored_and_what_was_written(self):
        self.started()
        self.send(2, "scan")
        id, request = self.asked(2)
        self.assertEqual(request["kvScan"], {"prefix": "a/", "after": None, "limit": 5})
        self.answer(2, id, {"kvEntries": {"keys": ["a/1", "a/3", "a/4"]}}, b"1", b"3", b"4")
        self.assertEqual(self.sent(2, [b"two", b"nine", b"scan"]), "[('a/1', b'1'), ('a/2', b'two')]")

    def test_two_questions_of_one_call_are_answered_in_any_order(self):
        self.started()
        self.send(2, "both")
        first, _ = self.asked(2)
        second, _ = self.asked(2)
        self.answer(2, second, {"kvValue": {"found": True}}, b"y")
        self.silent()
        self.answer(2, second, {"kvValue": {"found": True}}, b"again")
        self.answer(2, 99, {"kvValue": {"found": True}}, b"to nobody")
        self.answer(2, first, {"kvValue": {"found": False}})
        self.assertEqual(self.sent(2, [b"both"]), "noney")

    def test_timers_and_the_time(self):
        self.started()
        self.send(2, "timers")
        done = self.done(2, [b"timers"])
        self.assertEqual(done["commit"]["timers"], [{"tag": "t", "afterMs": 1000}, {"tag": "u"}])
        closed = {"tag": "s", "close": 4000, "url": "wss://b.example", "reopenAfterMs": 5}
        self.assertEqual(done["commit"]["sockets"], [{"tag": "", "send": ["hi"]}, closed])
        self.assertEqual(done["result"]["ok"]["reply"]["reply"]["messageId"], "5")

    def test_a_cancelled_call_is_dropped_and_says_nothing(self):
        self.started()
        self.send(2, "guard")
        id, _ = self.asked(2)
        self.deliver({"cancel": {"call": 2}})
        self.assertEqual(self.logged(), "dropped")
        self.answer(2, id, {"kvValue": {"found": False}})
        self.silent()
        self.send(3, "bad guard")
        self.asked(3)
        self.deliver({"cancel": {"call": 3}})
        self.deliver({"cancel": {"call": 77}})
        self.silent()
        self.send(4, "plain")
        self.sent(4, [b"plain"])

    def test_a_poll_goes_on_waiting(self):
        self.started()
        self.send(2, "one")
        id, _ = self.asked(2)
        self.deliver({"poll": {"call": 2, "now": 9}})
        self.silent()
        self.answer(2, id, OK, b'{"id": "x"}')
        self.sent(2, [b"one"])


class Failures(Line):
    def test_an_exception_ends_its_call_and_no_other(self):
        self.started()
        self.send(2, "one")
        id, _ = self.asked(2)
        for call, what in enumerate(["raise", "nothing", "foreign", "exit", "nan", "unsayable error"], 3):
            self.send(call, what)
            self.assertIn("driver.py" if what in ("nothing", "unsayable error") else "test_omni_channel.py", self.logged())
            failure = self.failed(call)
            self.assertTrue(failure["panicked"])
            self.assertFalse(failure["error"]["certain"])
            self.assertEqual((failure["error"]["code"], failure["error"]["next"]), ("internal", "us"))
        self.answer(2, id, OK, b'{"id": "late"}')
        self.assertEqual(self.sent(2, [b"one"]), "late")

    def test_what_cannot_be_said_fails_the_call(self):
        self.started()
        self.send(2, "unsayable")
        failure = self.failed(2)
        self.assertFalse(failure["panicked"])
        self.assertEqual(failure["error"]["code"], "internal")
        self.send(3, "half")
        self.assertEqual(self.sent(3, [b"half"]), "a\ufffd👋")

    def test_errors_say_who_acts_next(self):
        self.started()
        self.send(2, "fail")
        self.assertEqual(
            self.failed(2)["error"],
            {"code": "rateLimited", "message": "wait", "next": "retry", "retryAfterMs": 7, "certain": True},
        )
        self.send(3, "state")
        failure = self.failed(3)
        self.assertEqual(failure["state"], {"state": "logged_out", "reason": "gone", "userAction": "log in"})
        for call, (sent, code) in enumerate([(True, "unreachable"), (False, "network")], 4):
            self.send(call, "one")
            id, _ = self.asked(call)
            self.answer(call, id, {"httpFailed": {"failure": {"message": "broke", "sent": sent}}})
            error = self.failed(call)["error"]
            self.assertEqual((error["code"], error["certain"]), (code, not sent))
        self.send(6, "one")
        id, _ = self.asked(6)
        self.answer(6, id, OK, b'{"id": 7}')
        self.assertEqual(self.failed(6)["error"]["certain"], False)
        self.send(7, "one")
        id, _ = self.asked(7)
        self.answer(7, id, {"failed": {"message": "not now"}})
        self.assertEqual(self.failed(7)["error"]["message"], "not now")
        self.send(8, "one")
        id, _ = self.asked(8)
        self.answer(8, id, {"somethingNew": {}})
        self.assertEqual(self.failed(8)["error"]["certain"], False)

    def test_events_fail_as_events(self):
        self.started()
        self.events(2, {"type": "timer", "tag": "http"})
        id, _ = self.asked(2)
        self.answer(2, id, {"httpFailed": {"failure": {"message": "broke", "sent": True}}})
        self.assertEqual(self.failed(2)["error"]["code"], "network")
        self.events(3, {"type": "pollResponse", "tag": "", "response": {"status": 200}}, tails=[b"<html>"])
        self.assertEqual(self.failed(3)["error"]["code"], "invalid")
        self.begin(4, {"login": {"login": {"type": "start"}}})
        self.assertEqual(self.failed(4)["error"]["code"], "invalid")

    def test_when_the_host_has_gone(self):
        self.started()
        HOST.there = False
        self.send(2, "one")
        self.asked(2)
        self.assertEqual(self.failed(2)["error"]["message"], context.ENDED)

    def test_what_is_not_supported(self):
        self.started()
        for call, (kind, words) in enumerate({"edit": "edits", "dance": "dance", "__init__": "__init__"}.items(), 2):
            self.begin(call, {"request": {"request": {"type": kind, "chat": "c"}}})
            self.assertEqual(
                self.failed(call),
                {
                    "error": {
                        "code": "unsupported",
                        "message": f"this channel does not support {words}",
                        "next": "caller",
                        "certain": True,
                    },
                    "panicked": False,
                },
            )
        self.begin(9, {"somethingNew": {}})
        self.assertEqual(self.failed(9)["error"]["code"], "unsupported")
        self.deliver({"somethingNew": {"call": 3}})
        self.silent()


class Starts(Line):
    def test_polls_are_asked_for_after_the_start(self):
        self.start(ingress=[omni.long_poll(), omni.timer("t", 5), omni.long_poll("b")])
        for after in (b"4", b"5"):
            id, request = self.asked(1)
            self.assertEqual(request, {"kvGet": {"key": "after"}})
            self.answer(1, id, {"kvValue": {"found": True}}, after)
        output = self.done(1)["result"]["ok"]["started"]
        self.assertEqual([ingress["type"] for ingress in output["ingress"]], ["longPoll", "timer", "longPoll"])
        self.assertEqual([(poll["tag"], poll["call"]["url"][-1]) for poll in output["polls"]], [("", "4"), ("b", "5")])

    def test_only_once(self):
        self.started()
        self.start()
        self.assertEqual(self.failed(1)["error"]["message"], "the instance was already started")

    def test_nothing_is_answered_before_it_or_after_the_stop(self):
        self.send(2, "plain")
        self.assertEqual(self.failed(2)["error"]["message"], "the instance is not running")
        self.start(how="ask")
        self.asked(1)
        self.send(3, "plain")
        self.failed(3)
        self.answer(1, 1, {"kvValue": {"found": False}})
        self.done(1)
        self.begin(4, {"stop": {}})
        self.assertEqual(self.logged(), "goodbye")
        self.assertEqual(self.done(4)["result"], {"ok": {"stopped": {}}})
        self.send(5, "plain")
        self.failed(5)

    def test_one_that_fails(self):
        self.start(how="fail")
        self.assertEqual(self.failed(1)["state"]["state"], "logged_out")
        self.guest = omni.export(Probe)()
        self.start(how="raise")
        self.logged()
        self.assertTrue(self.failed(1)["panicked"])
        self.send(2, "plain")
        self.failed(2)


class Events(Line):
    def test_bytes_lie_beside_in_order(self):
        self.started()
        self.events(
            2,
            {"type": "webhook", "request": {"method": "POST", "path": "/"}},
            {"type": "socketText", "tag": "s", "text": "ping"},
            {"type": "somethingNew", "more": 1},
            {"type": "socketBinary", "tag": "s"},
            {"type": "webhook", "request": {"method": "POST", "path": "/"}},
            tails=[b"[1]", b"bin", b"[2]"],
        )
        head, tails = self.next()
        self.assertEqual(tails, [b"[2]", b"[1]", b"[2]"], "the value that was written, then each body")
        outcomes = head["done"]["result"]["ok"]["events"]["outcomes"]
        json_type = [{"name": "content-type", "value": "application/json"}]
        self.assertEqual(outcomes[0], {"reply": {"status": 202, "headers": json_type}})
        self.assertEqual(outcomes[1:4], [{"socketSend": ["pong"]}, {}, {"socketSend": ["bin"]}])

    def test_the_next_poll_is_asked_once_for_each_tag_when_what_was_written_can_be_read(self):
        self.started()
        response = {"type": "pollResponse", "response": {"status": 200}}
        self.events(
            2,
            {**response, "tag": ""},
            {"type": "pollFailed", "tag": "b", "failure": {"message": "no", "sent": False}},
            {**response, "tag": ""},
            tails=[b'{"id": "1"}', b'{"id": "2"}'],
        )
        head, tails = self.next()
        polls = head["done"]["result"]["ok"]["events"]["polls"]
        self.assertEqual([poll["tag"] for poll in polls], ["", "b"])
        self.assertEqual([event["body"]["id"] for event in head["done"]["commit"]["events"]], ["1", "2"])
        self.assertEqual(polls[0]["call"]["url"], 'https://api.example/?after={"i')
        self.assertEqual(tails, [b'{"i'])

    def test_one_outcome_for_each(self):
        self.started()
        self.events(2, {"type": "timer", "tag": "short"}, {"type": "timer", "tag": "t"})
        self.assertEqual(self.failed(2)["error"]["message"], "on_events took 2 events and gave 1 outcomes")
        self.events(3, {"type": "timer", "tag": "slow"})
        self.assertEqual(self.done(3)["result"]["ok"]["events"]["outcomes"], [{"pollAfterMs": 1500}])


class Frames(Line):
    def test_mangled_ones_are_refused_and_the_instance_lives(self):
        self.started()
        good = encode({"begin": {"call": 2, "now": 5, "op": {"stop": {}}}})
        bad = [good[:end] for end in range(len(good))]
        bad += [good + b"\1", encode([]), encode({}), encode({"begin": {}, "poll": {}}), struct.pack("<I", 1) + b"\xff"]
        bad += [encode({"begin": {"call": "2", "now": 5, "op": {"stop": {}}}}), encode({"begin": None})]
        bad += [encode({"begin": {"call": 2, "now": 5, "op": op}}) for op in [{}, "stop", {"events": {}}, {"request": {}}]]
        bad += [encode({"begin": {"call": 2, "now": 5, "op": {"events": {"events": [{"type": "socketBinary"}]}}}})]
        bad += [encode({"answer": {"call": 2}}), encode({"ping": {}}), encode({"cancel": {"call": True}})]
        for one in bad:
            with self.assertRaises(Err) as raised:
                self.guest.deliver(one)
            self.assertTrue(raised.exception.value.startswith("frame "), raised.exception.value)
        self.silent()
        self.send(3, "plain")
        self.sent(3, [b"plain"])

    def test_a_ping_is_answered_as_it_is(self):
        self.deliver({"ping": {"nonce": 2**64 - 1}})
        self.assertEqual(self.next()[0], {"pong": {"nonce": 2**64 - 1}})

    def test_half_of_a_pair_is_replaced(self):
        self.assertEqual(frame.to_json("\ud83d\udc4b é \x00"), '"\ufffd\ufffd é \\u0000"')
        self.assertEqual(omni.HttpResponse(200, None, b"\xff\xe2\x82").text(), "\ufffd\ufffd")
        with self.assertRaises(omni.BadJson):
            omni.HttpResponse(200, None, b'"\xff"').json()
        with self.assertRaises(omni.BadJson):
            omni.HttpResponse(200, None, b"[" * 100_000).json()

    def test_what_is_printed_goes_to_the_log(self):
        said = boundary.Printed(context.Shared(HOST.deliver), "info")
        print("one", 2, "\nthree", end="", file=said)
        self.assertEqual(self.logged(), "one 2 ")
        self.silent()


class Shapes(unittest.TestCase):
    def test_what_fits_and_what_does_not(self):
        class Inner(TypedDict):
            word: Literal["a", "b"]
            number: float

        class Outer(TypedDict):
            id: int
            inner: NotRequired[list[Inner] | None]
            more: NotRequired[dict[str, Any]]

        inner = {"word": "a", "number": 1}
        for good in [{"id": 1}, {"id": 1, "inner": None}, {"id": 1, "inner": [inner], "other": 3, "more": {"a": []}}]:
            self.assertIs(shape.fit(good, Outer), good)
        for bad, where in [
            ([], "it is not an object"),
            ({}, "it has no id"),
            ({"id": True}, "it.id is not an int"),
            ({"id": 1, "inner": [inner, {"word": "c", "number": 1}]}, "it.inner[1].word is not one of"),
            ({"id": 1, "more": []}, "it.more is not an object"),
        ]:
            with self.assertRaises(omni.BadJson) as raised:
                shape.fit(bad, Outer)
            self.assertIn(where, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
