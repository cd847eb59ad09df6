//! The faults that can be looked at without losing the process: they are as their names say.

use omni_channel_sdk::frame::{Failure, Op, Output};
use omni_channel_sdk::ingress::{IngressEvent, WebhookRequest};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::testkit::{Finished, InProcess, ScriptedHost};
use omni_test_channel_faulty::Faulty;

fn host(config: Value) -> ScriptedHost {
    let mut host = ScriptedHost::new(Box::new(InProcess::<Faulty>::open()), 1_767_225_600_000);
    host.start(config).expect("the start ends").result.expect("and well");
    host
}

fn send(host: &mut ScriptedHost, text: &str) -> Result<Output, Box<Failure>> {
    let send = json!({"type": "send", "chat": "c", "clientId": "k", "content": {"type": "text", "text": text}});
    let request = serde_json::from_value(send).expect("it is a send");
    host.call(Op::Request { request }).expect("the call ends").result
}

fn post(host: &mut ScriptedHost, text: &str) -> Finished {
    let body = json!({"chatId": "c", "from": "u", "externalId": "m", "text": text}).to_string().into_bytes();
    let request = WebhookRequest { method: "POST".into(), path: "/".into(), body, ..WebhookRequest::default() };
    host.call(Op::Events { events: vec![IngressEvent::Webhook { request }] }).expect("the call ends")
}

#[test]
fn sends_fail_as_their_text_says() {
    let mut host = host(json!({"n": 2}));
    let mut error = |text: &str| *send(&mut host, text).expect_err("it is a fault");
    assert!(error("panic 1").panicked);
    assert!(!error("uncertain").error.certain);
    assert_eq!(error("slow: please").error.retry_after_ms, Some(2));
    assert_eq!(error("fails").error.next, NextActor::Retry);
    assert_eq!(error("invalid").error.next, NextActor::Caller);
    assert_eq!(error("unauthorized").error.next, NextActor::Operator);
    assert!(error("flaky a").error.certain);
    error("flaky b");
    error("flaky a");
    assert!(send(&mut host, "flaky a").is_ok(), "it failed twice, as n says");
    assert!(send(&mut host, "panicking is a word of its own").is_ok());
}

#[test]
fn messages_come_in_as_their_text_says() {
    let mut host = host(json!({"n": 3000}));
    assert_eq!(post(&mut host, "hello").events.len(), 1);
    assert_eq!(post(&mut host, "flood").events.len(), 3_000);
    assert!(serde_json::to_string(&post(&mut host, "large").events[0]).expect("it is JSON").len() > 3_000);
    let panicked = post(&mut host, "panic");
    assert!(panicked.result.expect_err("it panicked").panicked);
    assert!(!host.kv.contains_key("written-before-the-fault"), "what it wrote went with it");
}

#[test]
fn faults_come_by_mode() {
    let start = |mode: &str| {
        let mut host = ScriptedHost::new(Box::new(InProcess::<Faulty>::open()), 1);
        host.start(json!({"mode": mode})).expect("the start ends").result
    };
    assert!(start("start-panic").expect_err("it panics").panicked);
    assert_eq!(start("startFails").expect_err("it fails").state, None);
    let state = start("startLogsOut").expect_err("it is logged out").state.expect("it says so");
    assert_eq!(state.name(), "logged_out");
    let mut flood = host(json!({"mode": "timer-flood", "n": 10}));
    for _ in 0..2 {
        let due = IngressEvent::Timer { tag: "fault".into() };
        let finished = flood.call(Op::Events { events: vec![due] }).expect("the call ends");
        assert_eq!((finished.events.len(), finished.timers.len()), (10, 1), "and it comes again at once");
    }
}

#[test]
fn reconciling_says_what_the_configuration_says() {
    for (says, outcome) in [("sent", "sent"), ("notSent", "notSent"), ("", "unresolved")] {
        let mut host = host(json!({"reconcile": says}));
        let ask = json!({"type": "reconcile", "triedAt": 1,
            "send": {"chat": "c", "clientId": "k", "content": {"type": "text", "text": "uncertain"}}});
        let request = serde_json::from_value(ask).expect("it is a request");
        let output = host.call(Op::Request { request }).expect("the call ends").result.expect("and well");
        assert_eq!(json!(output)["reply"]["reply"]["outcome"], json!(outcome));
    }
}
