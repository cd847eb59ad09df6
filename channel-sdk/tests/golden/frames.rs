//! The heads of the frames, in both directions.

use super::cases::{
    Group, call, connection_list, event, failure, ingress_event_list, ingress_list, login_step, message, unknown,
};
use omni_channel_sdk::frame::*;
use omni_channel_sdk::http::{Header, HttpBody, HttpCall, HttpResponse};
use omni_channel_sdk::ingress::{NextPoll, SocketAct};
use omni_channel_sdk::login::LoginCall;
use omni_channel_sdk::outcome::{SendError, SendReceipt};
use omni_channel_sdk::request::{Nothing, Reply, Request};
use serde_json::json;

const NOW: i64 = 1_767_225_600_000;

pub fn groups() -> Vec<Group> {
    vec![to_channel(), to_host()]
}

fn to_channel() -> Group {
    let begin = |op| ToChannel::Begin { call: 7, now: NOW, op };
    let answer = |answer| ToChannel::Answer { call: 7, id: 1, now: NOW, answer };
    let response = HttpResponse {
        status: 200,
        headers: vec![Header { name: "content-type".into(), value: "text/plain".into() }],
        body: Vec::new(),
    };
    let started = |webhook_url, offline, egress| {
        let instance = "00000000-0000-7000-8000-000000000001".into();
        begin(Op::Start { instance, config: json!({"token": "t"}), webhook_url, offline, egress })
    };
    let start = |webhook_url| started(webhook_url, false, Egress::default());
    let proxy = Some("http://user:password@proxy.example:3128".into());
    let by_way_of = Egress { proxy, authorities: vec!["MIIB".into()] };
    Group::new("to-channel")
        .case("begin, start", &start(None))
        .case("begin, start of one that may have a webhook", &start(Some("https://omni.example/hook".into())))
        .case("begin, start of one that is only asked something", &started(None, true, Egress::default()))
        .case("begin, start of one that goes by way of a proxy", &started(None, false, by_way_of))
        .case("begin, events", &begin(Op::Events { events: ingress_event_list() }))
        .case("begin, request", &begin(Op::Request { request: Request::Logout(Nothing {}) }))
        .case("begin, unknown request", &begin(Op::Request { request: unknown() }))
        .case("begin, login", &begin(Op::Login { login: LoginCall::Poll }))
        .case("begin, stop", &begin(Op::Stop {}))
        .case("answer, http", &answer(HostAnswer::Http { response }))
        .case("answer, httpFailed", &answer(HostAnswer::HttpFailed { failure: failure() }))
        .case("answer, kvValue", &answer(HostAnswer::KvValue { found: true }))
        .case("answer, kvEntries", &answer(HostAnswer::KvEntries { keys: vec!["a".into()] }))
        .case("answer, committed", &answer(HostAnswer::Committed {}))
        .case("answer, media", &answer(HostAnswer::Media { blob: "blob-1".into() }))
        .case("answer, mediaBytes", &answer(HostAnswer::MediaBytes { size: 1_234 }))
        .case("answer, random", &answer(HostAnswer::Random {}))
        .case("answer, failed", &answer(HostAnswer::Failed { message: "the disk is full".into() }))
        .case("poll", &ToChannel::Poll { call: 7, now: NOW })
        .case("cancel", &ToChannel::Cancel { call: 7 })
        .case("ping", &ToChannel::Ping { nonce: 9 })
}

fn commit() -> Commit {
    Commit {
        events: vec![serde_json::value::to_raw_value(&event(message().into())).expect("an event is JSON")],
        writes: vec![KvWrite { key: "offset".into(), delete: false }, KvWrite { key: "old".into(), delete: true }],
        timers: vec![
            TimerSet { tag: "again".into(), after_ms: Some(500) },
            TimerSet { tag: "never".into(), after_ms: None },
        ],
        sockets: vec![
            SocketAct { tag: "s".into(), send: vec!["{}".into()], ..SocketAct::default() },
            SocketAct {
                tag: "s".into(),
                close: Some(4_000),
                url: Some("wss://resume.example".into()),
                reopen_after_ms: Some(1_500),
                ..SocketAct::default()
            },
        ],
        missed: true,
        missed_in: vec![MissedIn { chat: "c1".into(), after: Some("m1".into()) }],
    }
}

fn to_host() -> Group {
    let asks = |request| ToHost::Call { call: 7, id: 1, request };
    let done = |output| ToHost::Done { call: 7, result: CallResult::Ok(output), commit: Commit::default() };
    let polls = || vec![NextPoll { tag: "t".into(), call: HttpCall::get("https://api.example/updates") }];
    let outcome = OutcomeHead {
        reply: Some(HttpResponse { status: 200, headers: Vec::new(), body: Vec::new() }),
        socket_send: vec!["{}".into()],
        poll_after_ms: Some(3_000),
    };
    let failed = Failure {
        error: SendError::rate_limited(3_000, "too fast"),
        state: connection_list().into_iter().nth(4).map(Box::new),
        panicked: true,
    };
    let group = Group::new("to-host")
        .case("call, http", &asks(HostRequest::Http { http: Box::new(call(HttpBody::Json { json: json!({"a": 1}) })) }))
        .case("call, kvGet", &asks(HostRequest::KvGet { key: "offset".into() }))
        .case("call, kvScan", &asks(HostRequest::KvScan { prefix: "a/".into(), after: Some("a/1".into()), limit: 100 }))
        .case("call, commit", &asks(HostRequest::Commit { commit: commit() }))
        .case(
            "call, mediaPut",
            &asks(HostRequest::MediaPut { mime_type: Some("image/jpeg".into()), file_name: Some("cat.jpg".into()) }),
        )
        .case("call, mediaGet", &asks(HostRequest::MediaGet { blob: "blob-1".into(), offset: 10, limit: 20 }))
        .case("call, random", &asks(HostRequest::Random { bytes: 32 }))
        .case("done, started", &done(Output::Started { ingress: ingress_list(), polls: polls() }))
        .case("done, events", &done(Output::Events { outcomes: vec![outcome, OutcomeHead::default()], polls: polls() }))
        .case("done, reply", &done(Output::Reply { reply: Box::new(Reply::Sent(SendReceipt::new("m1"))) }))
        .case("done, login", &done(Output::Login { step: Box::new(login_step()) }))
        .case("done, stopped", &done(Output::Stopped {}))
        .case(
            "done, with a commit",
            &ToHost::Done { call: 7, result: CallResult::Ok(Output::Stopped {}), commit: commit() },
        )
        .case("done, failed", &ToHost::Done { call: 7, result: CallResult::Err(failed), commit: Commit::default() })
        .case("wake", &ToHost::Wake { call: 7 })
        .case("state", &ToHost::State { state: connection_list()[0].clone() })
        .case("pong", &ToHost::Pong { nonce: 9 });
    [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error].iter().fold(group, |group, level| {
        let log = ToHost::Log { level: *level, message: "a sentence".into() };
        group.case(&format!("log, {}", json!(level)), &log)
    })
}
