//! One instance behind its driver, frame by frame: what a host may count on, whatever the channel does.

#[path = "driver/probe.rs"]
mod probe;

use omni_channel_sdk::frame::{
    CallResult, Failure, HostAnswer, HostRequest, Op, Output, Tails, ToChannel, ToHost, decode, encode, encode_events,
};
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::IngressEvent;
use omni_channel_sdk::outcome::{ErrorCode, NextActor};
use omni_channel_sdk::request::{Reply, Request};
use omni_channel_sdk::testkit::{InProcess, Port, ScriptedHost};
use probe::Probe;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(10);
const NONE: Duration = Duration::ZERO;

struct Line(InProcess<Probe>);

impl Line {
    fn open() -> Self {
        Self(InProcess::open())
    }

    fn started() -> Self {
        let line = Self::open();
        line.begin(1, start("well"));
        assert!(matches!(line.done(), (1, Ok(Output::Started { .. }))));
        line
    }

    fn deliver(&self, head: &ToChannel, tails: &[Vec<u8>]) {
        self.0.deliver(&encode(head, tails)).expect("the test writes frames");
    }

    fn begin(&self, call: u64, op: Op) {
        self.deliver(&ToChannel::Begin { call, now: 5, op }, &[]);
    }

    fn send(&self, call: u64, text: &str) {
        self.begin(call, Op::Request { request: send(text) });
    }

    fn answer(&self, call: u64, id: u32, text: &str) {
        let response = HttpResponse { status: 200, ..HttpResponse::default() };
        let answer = ToChannel::Answer { call, id, now: 6, answer: HostAnswer::Http { response } };
        self.deliver(&answer, &[text.as_bytes().to_vec()]);
    }

    fn next(&self) -> (ToHost, Tails) {
        let frame = self.0.next(SOON).expect("the channel has something to say");
        decode(&frame).expect("the driver writes frames")
    }

    fn done(&self) -> (u64, Result<Output, Failure>) {
        match self.next().0 {
            ToHost::Done { call, result: CallResult::Ok(output), .. } => (call, Ok(output)),
            ToHost::Done { call, result: CallResult::Err(failure), commit } => {
                assert!(commit.events.is_empty() && commit.writes.is_empty() && commit.timers.is_empty());
                (call, Err(failure))
            }
            other => panic!("a call was to end: {other:?}"),
        }
    }

    fn sent(&self) -> (u64, String) {
        match self.done() {
            (call, Ok(Output::Reply { reply })) => match *reply {
                Reply::Sent(receipt) => (call, receipt.message_id.0),
                other => panic!("it was to be sent: {other:?}"),
            },
            other => panic!("it was to be sent: {other:?}"),
        }
    }

    fn asked(&self) -> (u64, u32, HostRequest) {
        match self.next().0 {
            ToHost::Call { call, id, request } => (call, id, request),
            other => panic!("the channel was to ask: {other:?}"),
        }
    }

    fn silent(&self) {
        assert!(self.0.next(NONE).is_none(), "nothing was to come");
    }
}

fn start(how: &str) -> Op {
    Op::start("i1", json!({"how": how}))
}

fn send(text: &str) -> Request {
    let send = json!({"type": "send", "chat": "c", "clientId": text, "content": {"type": "text", "text": text}});
    serde_json::from_value(send).expect("it is a send")
}

#[test]
fn a_panic_ends_its_call_and_no_other() {
    let line = Line::started();
    line.send(2, "ask");
    let (_, id, _) = line.asked();
    line.send(3, "panic");
    let (call, result) = line.done();
    let failure = result.expect_err("it panicked");
    assert_eq!(call, 3);
    assert!(failure.panicked);
    assert!(!failure.error.certain, "nobody knows how far it came");
    assert_eq!(failure.error.next, NextActor::Us);
    assert!(failure.error.message.contains("on purpose"), "{}", failure.error.message);
    line.send(4, "plain");
    assert_eq!(line.sent(), (4, "plain".into()));
    line.answer(2, id, "late");
    assert_eq!(line.sent(), (2, "late".into()));
}

#[test]
fn a_panic_behind_a_question_or_in_a_destructor_is_caught_too() {
    let line = Line::started();
    line.send(2, "ask then panic");
    let (_, id, _) = line.asked();
    line.answer(2, id, "");
    assert!(line.done().1.expect_err("it panicked").panicked);
    line.send(3, "wait with a bad guard");
    line.asked();
    line.deliver(&ToChannel::Cancel { call: 3 }, &[]);
    line.send(4, "plain");
    assert_eq!(line.sent().0, 4);
}

#[test]
fn a_panic_in_the_start_is_a_failed_start() {
    let line = Line::open();
    line.begin(1, start("panic"));
    assert!(line.done().1.expect_err("it panicked").panicked);
    line.send(2, "plain");
    assert!(line.done().1.is_err(), "there is no instance");
}

#[test]
fn a_cancelled_call_is_dropped_and_says_nothing() {
    let line = Line::started();
    line.send(2, "wait with a guard");
    let (_, id, _) = line.asked();
    line.deliver(&ToChannel::Cancel { call: 2 }, &[]);
    assert!(matches!(line.next().0, ToHost::Log { message, .. } if message == "dropped"), "the guard was dropped");
    line.answer(2, id, "late");
    line.deliver(&ToChannel::Poll { call: 2, now: 7 }, &[]);
    line.deliver(&ToChannel::Cancel { call: 99 }, &[]);
    line.silent();
}

#[test]
fn another_thread_wakes_a_call() {
    let line = Line::started();
    line.send(2, "thread");
    assert!(matches!(line.next().0, ToHost::Wake { call: 2 }));
    line.deliver(&ToChannel::Poll { call: 2, now: 7 }, &[]);
    assert_eq!(line.sent(), (2, "woken".into()));
}

#[test]
fn a_call_that_wakes_itself_is_polled_again() {
    let line = Line::started();
    line.send(2, "yield");
    for _ in 0..3 {
        assert!(matches!(line.next().0, ToHost::Wake { call: 2 }), "it wants to go on");
        line.silent();
        line.deliver(&ToChannel::Poll { call: 2, now: 7 }, &[]);
    }
    assert_eq!(line.sent(), (2, "yielded".into()));
}

#[test]
fn a_poll_that_nobody_asked_for_does_no_harm() {
    let line = Line::started();
    line.send(2, "ask");
    let (_, id, _) = line.asked();
    for call in [2, 2, 77] {
        line.deliver(&ToChannel::Poll { call, now: 7 }, &[]);
    }
    line.answer(2, id + 50, "an answer to nothing");
    line.silent();
    line.answer(2, id, "the answer");
    assert_eq!(line.sent(), (2, "the answer".into()));
}

#[test]
fn many_calls_are_under_way_at_once() {
    let line = Line::started();
    let mut asked = BTreeMap::new();
    for call in 2..1_002 {
        line.send(call, "ask");
        let (asking, id, _) = line.asked();
        assert_eq!(asking, call);
        asked.insert(call, id);
    }
    for (call, id) in asked.into_iter().rev() {
        line.answer(call, id, &format!("to {call}"));
        assert_eq!(line.sent(), (call, format!("to {call}")));
    }
}

#[test]
fn one_call_asks_two_things_at_once() {
    let line = Line::started();
    line.send(2, "both");
    let ((_, first, _), (_, second, _)) = (line.asked(), line.asked());
    assert_ne!(first, second);
    line.answer(2, second, "b");
    line.silent();
    line.answer(2, first, "a");
    assert_eq!(line.sent(), (2, "a+b".into()));
}

#[test]
fn an_instance_is_started_once() {
    let line = Line::started();
    line.begin(2, start("well"));
    assert!(line.done().1.expect_err("it runs already").error.message.contains("already started"));
    line.send(3, "plain");
    assert_eq!(line.sent().0, 3, "the first start still stands");
}

#[test]
fn nothing_is_asked_before_the_start_and_after_the_stop() {
    let line = Line::open();
    let refused = |line: &Line, call| {
        line.send(call, "plain");
        let failure = line.done().1.expect_err("there is no instance");
        assert!(failure.error.certain, "nothing was done");
        assert_eq!(failure.error.next, NextActor::Retry);
        assert!(!failure.panicked);
    };
    refused(&line, 1);
    line.begin(2, start("well"));
    assert!(line.done().1.is_ok());
    line.begin(3, Op::Stop {});
    assert!(matches!(line.done(), (3, Ok(Output::Stopped {}))));
    refused(&line, 4);
}

#[test]
fn a_configuration_that_does_not_fit_says_so() {
    let line = Line::open();
    line.begin(1, Op::start("i1", json!({"how": 7})));
    let failure = line.done().1.expect_err("how is a word");
    assert!(failure.error.message.contains("configuration"), "{}", failure.error.message);
    assert_eq!(failure.error.next, NextActor::Operator);
}

#[test]
fn a_channel_that_counts_wrongly_is_found_out() {
    let line = Line::started();
    let events = vec![IngressEvent::Timer { tag: "lose one".into() }, IngressEvent::Timer { tag: "other".into() }];
    line.0.deliver(&encode_events(2, 5, events)).expect("it is a frame");
    let failure = line.done().1.expect_err("an outcome is missing");
    assert_eq!(failure.error.code, ErrorCode::Internal);
    assert!(failure.error.message.contains("2 events") && failure.error.message.contains("1 outcomes"));
}

#[test]
fn what_a_failed_call_wrote_is_dropped() {
    let mut host = ScriptedHost::new(Box::new(InProcess::<Probe>::open()), 5);
    host.start(json!({"how": "well"})).expect("it starts").result.expect("well");
    let mut call = |text: &str| host.call(Op::Request { request: send(text) }).expect("it ends");
    let failed = call("write and fail");
    assert!(failed.result.is_err() && failed.events.is_empty());
    assert!(call("write and panic").result.is_err());
    assert!(call("write").result.is_ok());
    assert_eq!(host.kv, BTreeMap::from([("written".to_owned(), b"by write".to_vec())]));
}

#[test]
fn bytes_that_are_no_frame_are_refused_and_change_nothing() {
    let line = Line::started();
    let frame = encode(&ToChannel::Ping { nonce: 3 }, &[]);
    for length in 0..frame.len() {
        assert!(line.0.deliver(&frame[..length]).is_err());
    }
    // An event whose body is missing.
    let response = HttpResponse { status: 200, ..HttpResponse::default() };
    let events = vec![IngressEvent::PollResponse { tag: String::new(), response }];
    let without = encode(&ToChannel::Begin { call: 2, now: 5, op: Op::Events { events } }, &[]);
    assert!(line.0.deliver(&without).is_err());
    line.0.deliver(&frame).expect("the whole frame is one");
    assert!(matches!(line.next().0, ToHost::Pong { nonce: 3 }));
}

#[test]
fn a_host_that_could_not_is_an_error_of_the_channel() {
    let line = Line::started();
    line.send(2, "read");
    let (_, id, request) = line.asked();
    assert!(matches!(request, HostRequest::KvGet { .. }));
    let answer = HostAnswer::Failed { message: "the disk is full".into() };
    line.deliver(&ToChannel::Answer { call: 2, id, now: 6, answer }, &[]);
    let failure = line.done().1.expect_err("it could not read");
    assert_eq!((failure.error.message.as_str(), failure.error.next), ("the disk is full", NextActor::Retry));
    // An answer of another kind than was asked for, and one whose bytes are missing.
    for answer in [HostAnswer::Committed {}, HostAnswer::KvValue { found: true }] {
        line.send(3, "read");
        let (_, id, _) = line.asked();
        line.deliver(&ToChannel::Answer { call: 3, id, now: 6, answer }, &[]);
        assert!(line.done().1.is_err());
    }
}

/// What a call reads is what is stored with what it wrote, however the two lie.
#[test]
fn reads_see_what_the_call_wrote() {
    let mut state = 7_u64;
    let mut next = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..300 {
        let mut host = ScriptedHost::new(Box::new(InProcess::<Probe>::open()), 5);
        host.start(json!({"how": "well"})).expect("it starts").result.expect("well");
        let size = if round % 50 == 0 { 2_500 } else { 12 };
        let key = |number: u64| format!("{}{number:04}", if number.is_multiple_of(7) { "b/" } else { "a/" });
        for _ in 0..next(size * 2) {
            let number = next(size);
            host.kv.insert(key(number), format!("stored {number}").into_bytes());
        }
        let mut model = host.kv.clone();
        let mut steps = Vec::new();
        for _ in 0..next(size * 2) {
            let key = key(next(size));
            if next(2) == 0 {
                model.remove(&key);
                steps.push(json!({"delete": key}));
            } else {
                model.insert(key.clone(), b"written".to_vec());
                steps.push(json!({"set": key}));
            }
        }
        let after = (next(2) == 0).then(|| key(next(size)));
        let limit = next(size + 3);
        let look = json!({"steps": steps, "prefix": "a/", "after": after, "limit": limit, "get": key(next(size))});
        let expected: Vec<(String, String)> = model
            .iter()
            .filter(|(key, _)| key.starts_with("a/") && after.as_ref().is_none_or(|after| *key > after))
            .take(usize::try_from(limit.min(1_000)).expect("it is small"))
            .map(|(key, value)| (key.clone(), String::from_utf8_lossy(value).into_owned()))
            .collect();
        let got = look["get"].as_str().and_then(|key| model.get(key)).map(|value| String::from_utf8_lossy(value));
        let expected = json!({"scan": expected, "get": got}).to_string();
        let finished = host.call(Op::Request { request: send(&look.to_string()) }).expect("it ends");
        match finished.result {
            Ok(Output::Reply { reply }) => match *reply {
                Reply::Sent(receipt) => assert_eq!(receipt.message_id.0, expected, "round {round}: {look}"),
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
        assert_eq!(host.kv, model, "round {round}: what was written is stored");
    }
}
