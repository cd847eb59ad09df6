//! The suite itself: it is content with a good channel, and finds what is wrong with bad ones.

#[path = "testkit/inbox.rs"]
mod inbox;

use inbox::Inbox;
use omni_channel_sdk::testkit::{InProcess, RULES, Subject, Transcript, play};
use serde_json::{Value, json};

fn channel_json() -> Value {
    json!({
        "id": "inbox",
        "name": "Inbox",
        "capabilities": {"send": {"text": {}}, "events": ["message"], "reply": true},
        "configSchema": {
            "type": "object",
            "additionalProperties": false,
            "required": ["token"],
            "properties": {
                "token": {"type": "string", "writeOnly": true, "pattern": "^[0-9]+:[a-z]+$"},
                "baseUrl": {"type": "string", "default": "https://inbox.example"},
                "fault": {"type": "string"}
            }
        }
    })
}

fn transcript() -> Value {
    let update =
        |number: u64| json!({"id": number, "chat": "c", "from": "u", "text": "hello", "at": 1_767_225_000_000_u64});
    json!({
        "name": "words come and go",
        "proves": ["send.text", "event.message", "reply"],
        "config": {"token": "123:abc", "fault": "none"},
        "kv": {"after": "6"},
        "steps": [
            {"start": true, "polls": [{"call": {"method": "GET", "url": "https://inbox.example/updates?after=6",
                "headers": {"Authorization": "Bearer ${secret:token}"}}}]},
            {"events": [{"type": "pollResponse", "json": {"updates": [update(7), update(8)]}}],
             "emits": [
                 {"deliveryKey": "7", "at": 1_767_225_000_000_u64, "chat": {"id": "c"}, "body": {"type": "message", "id": "7"}},
                 {"deliveryKey": "8"}
             ],
             "kv": {"after": "8"},
             "polls": [{"call": {"url": "https://inbox.example/updates?after=8"}}]},
            {"request": {"type": "send", "chat": "c", "clientId": "k", "replyTo": {"id": "7"},
                         "content": {"type": "text", "text": "hello yourself"}},
             "http": [{"expect": {"method": "POST", "url": "*/messages", "json": {"chat": "c", "replyTo": "7"}},
                       "respond": {"json": {"id": 9}}}],
             "reply": {"type": "sent", "messageId": "9"}},
            {"request": {"type": "send", "chat": "c", "clientId": "k", "content": {"type": "text", "text": "again"}},
             "http": [{"respond": {"status": 429, "headers": {"Retry-After": "3"}}}],
             "error": {"code": "rateLimited", "retryAfterMs": 3000, "certain": true}},
            {"stop": true}
        ]
    })
}

fn subject(manifest: &Value, transcripts: &[Value]) -> Subject {
    let manifest_json = manifest.clone();
    let manifest = serde_json::from_value(manifest.clone()).expect("it is a manifest");
    let transcripts = transcripts
        .iter()
        .map(|json| Transcript::parse(&json.to_string(), &manifest).expect("it is a transcript"))
        .collect();
    Subject { manifest, manifest_json, transcripts, open: Box::new(|| Ok(Box::new(InProcess::<Inbox>::open()))) }
}

/// What a rule says about a channel, as one text.
fn check(rule: &str, subject: &Subject) -> String {
    let rule = RULES.iter().find(|found| found.name == rule).expect("there is such a rule");
    (rule.check)(subject).into_iter().map(|problem| problem.0 + "\n").collect()
}

fn with_fault(fault: &str) -> Subject {
    let mut transcript = transcript();
    transcript["config"]["fault"] = json!(fault);
    subject(&channel_json(), &[transcript])
}

#[test]
fn a_good_channel_passes_every_rule() {
    let good = with_fault("none");
    for rule in RULES {
        assert_eq!(check(rule.name, &good), "", "{}", rule.name);
    }
}

#[test]
fn every_fault_is_found_by_its_rule() {
    for (fault, rule, words) in [
        ("says yes to everything", "undeclared_requests", "was to be answered `unsupported`"),
        ("sends anything", "undeclared_requests", "\"type\":\"location\""),
        ("panics on garbage", "garbage", "the channel panicked"),
        ("emits garbage", "garbage", "it emitted 1 events"),
        ("forgets its position", "garbage", "it lost its position"),
        ("panics on odd values", "mangled", "the channel panicked"),
        ("keys by clock", "replay", "hang on the clock"),
        ("keys by count", "replay", "delivered again"),
        ("remembers what failed", "failed_calls", "what was not stored is remembered"),
        ("stores early", "failed_calls", "a call that failed has stored something"),
        ("is always certain", "uncertain_sends", "nothing was done for certain"),
        ("names nobody", "sizes", "body.sender.id is empty"),
        ("says too much", "sizes", "a host takes 1024"),
        ("formats beyond the end", "sizes", "ends behind its text"),
        ("counts in seconds", "times", "1767225000"),
        ("logs its token", "secrets", "a secret stands in a log line"),
        ("stores its token", "secrets", "a secret stands in an entry"),
        ("tells its token when it fails", "secrets", "a secret stands in an error"),
        ("posts its token", "secrets", "does not set secretsInBody"),
        ("panics when it stops", "stop", "panicked"),
        ("never ends a send", "transcripts", "the call does not end"),
    ] {
        let found = check(rule, &with_fault(fault));
        assert!(found.contains(words), "{fault}: {rule} was to find {words:?} and found: {found:?}");
    }
}

#[test]
fn a_manifest_that_is_no_good_is_found() {
    for (pointer, value, words) in [
        ("/id", json!("Not Good"), "lower-case"),
        ("/name", json!(" "), "name is empty"),
        ("/stateversion", json!(2), "stateversion: there is no such field"),
        ("/capabilities/sends", json!({}), "capabilities.sends: there is no such field"),
        ("/capabilities/send/text/maxLenght", json!(7), "capabilities.send.text.maxLenght"),
        ("/capabilities/send/txt", json!({}), "there is no \"txt\""),
        ("/capabilities/requests", json!({"edits": {}}), "there is no \"edits\""),
        ("/capabilities/events", json!(["messages"]), "there is no \"messages\""),
        ("/configSchema", json!({"type": "strange"}), "no JSON Schema"),
        ("/configSchema/properties/botToken", json!({"type": "string"}), "botToken is a secret by its name"),
        ("/configSchema/properties/token/default", json!("x"), "cannot have a default"),
        ("/loginFlows", json!([{"id": "a", "name": "A", "kind": "magic"}]), "\"magic\" is no kind of flow"),
    ] {
        let mut manifest = channel_json();
        let (parent, name) = pointer.rsplit_once('/').expect("pointers have a slash");
        manifest.pointer_mut(parent).expect("the parent is there")[name] = value;
        let found = check("manifest", &subject(&manifest, &[]));
        assert!(found.contains(words), "{pointer}: was to find {words:?} and found: {found:?}");
    }
}

#[test]
fn proofs_are_what_is_declared() {
    let mut more = channel_json();
    more["capabilities"]["requests"] = json!({"edit": {}});
    assert_eq!(
        check("proofs", &subject(&more, &[transcript()])),
        "request.edit is declared, and no passing transcript proves it\n"
    );
    let mut less = channel_json();
    less["capabilities"]["reply"] = json!(false);
    let found = check("proofs", &subject(&less, &[transcript()]));
    assert!(found.contains("proves reply, which channel.json does not declare"), "{found}");
    assert!(found.contains("shows reply, which channel.json does not declare"), "{found}");
    let mut boasts = transcript();
    boasts["steps"].as_array_mut().expect("steps").truncate(2);
    let found = check("proofs", &subject(&channel_json(), &[boasts]));
    assert!(found.contains("says that it proves send.text, and no step shows it"), "{found}");
    // A transcript that does not pass proves nothing.
    let mut fails = transcript();
    fails["steps"][1]["kv"] = json!({"after": "9"});
    let found = check("proofs", &subject(&channel_json(), &[fails]));
    assert!(found.contains("event.message is declared, and no passing transcript proves it"), "{found}");
}

#[test]
fn a_transcript_that_differs_says_where() {
    for (pointer, value, words) in [
        ("/config/token", json!("no token"), "config/token"),
        (
            "/steps/0/polls/0/call/url",
            json!("https://inbox.example/other"),
            "$.url: expected https://inbox.example/other",
        ),
        ("/steps/0/ingress", json!([]), "ingress: expected 0, found 1"),
        ("/steps/0/states", json!([{"state": "connected"}]), "states: expected 1, found 0"),
        ("/steps/1/emits", json!([]), "emits: expected 0, found 2"),
        ("/steps/1/emits/0/chat/id", json!("d"), "emits[0] $.chat.id: expected \"d\", found \"c\""),
        ("/steps/1/kv", json!({"after": null}), "kv \"after\": expected null, found \"8\""),
        ("/steps/2/http", json!([]), "this call is not in the transcript: POST https://inbox.example/messages"),
        ("/steps/2/http/0/expect/json/chat", json!("d"), "$.json.chat: expected \"d\", found \"c\""),
        ("/steps/2/reply/messageId", json!("1"), "reply $.messageId: expected \"1\", found \"9\""),
        ("/steps/2/error", json!({}), "was to fail and ended well"),
        ("/steps/3/error/code", json!("invalid"), "error $.code: expected \"invalid\", found \"rateLimited\""),
        (
            "/steps/4/http",
            json!([{"expect": {"url": "https://bye.example"}, "respond": {}}]),
            "was expected and not made",
        ),
    ] {
        let mut differs = transcript();
        let (parent, name) = pointer.rsplit_once('/').expect("pointers have a slash");
        let parent = differs.pointer_mut(parent).expect("the parent is there");
        match name.parse::<usize>() {
            Ok(index) => parent[index] = value,
            Err(_) => parent[name] = value,
        }
        let found = check("transcripts", &subject(&channel_json(), &[differs]));
        assert!(found.contains(words), "{pointer}: was to find {words:?} and found: {found:?}");
        let step = pointer.split('/').nth(2).expect("they all lie deeper");
        let place = if step == "token" {
            "words come and go: config".into()
        } else {
            format!("words come and go, step {step}")
        };
        let elsewhere: Vec<&str> =
            found.lines().filter(|line| !line.starts_with('$') && !line.starts_with(&place)).collect();
        assert_eq!(elsewhere, Vec::<&str>::new(), "{pointer}: other steps are as they were");
    }
}

#[test]
fn a_transcript_that_is_none_is_refused() {
    let manifest = subject(&channel_json(), &[]).manifest;
    let refused = |json: Value| Transcript::parse(&json.to_string(), &manifest).expect_err("it is no good");
    let with = |pointer: &str, name: &str, value: Value| {
        let mut json = transcript();
        json.pointer_mut(pointer).expect("it is there")[name] = value;
        json
    };
    assert!(refused(with("", "stepz", json!([]))).contains("unknown field `stepz`"));
    assert!(refused(with("/steps/1", "emit", json!([]))).contains("unknown field `emit`"));
    assert!(refused(with("/steps/1", "stop", json!(true))).contains("step 1: needs exactly one of"));
    assert!(
        refused(with("/steps/1", "events", json!([{"type": "pigeon"}]))).contains("step 1: event: unknown variant")
    );
    assert!(refused(with("/steps/2/http/0", "respond", json!(null))).contains("either respond or fail"));
    assert!(refused(with("/steps/0", "note", json!("${secret:other}"))).contains("not marked writeOnly"));
    assert!(refused(with("", "steps", json!([{"stop": true}]))).contains("the first step has to be"));
    let mut plain = channel_json();
    plain["secrets"] = json!("plain");
    let plain = subject(&plain, &[]).manifest;
    let short = Transcript::parse(&transcript().to_string(), &plain).expect_err("the token has seven letters");
    assert!(short.contains("config.token: make up a longer secret"), "{short}");
}

/// What a frame says can be played and looked at without the rules, as a host's own checks do.
#[test]
fn a_transcript_can_be_played_by_itself() {
    let good = with_fault("none");
    let played = play(&good, &good.transcripts[0]);
    assert_eq!(played.problems, Vec::<String>::new());
    assert_eq!(Vec::from_iter(played.shown), ["event.message", "reply", "send.text"]);
    assert_eq!(played.steps.len(), 5);
}
