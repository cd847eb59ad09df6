//! What the suite throws at channels: one plain request of every kind, and what a broken or hostile network brings.

use crate::http::{HttpFailure, HttpResponse};
use crate::ingress::{Ingress, IngressEvent, WebhookRequest};
use crate::request::Request;
use serde::Deserialize;
use serde_json::{Value, json};

/// A plain request of a kind.
pub(super) fn request(kind: &str) -> Request {
    let text = json!({"type": "text", "text": "words"});
    let send = json!({"type": "send", "chat": "1", "clientId": "c1", "content": text});
    let mut fields = match kind {
        "send" => send,
        "edit" => json!({"chat": "1", "target": {"id": "2"}, "content": text}),
        "delete" => json!({"chat": "1", "target": {"id": "2"}}),
        "react" => json!({"chat": "1", "target": {"id": "2"}, "emojis": [{"emoji": "👍"}]}),
        "typing" => json!({"chat": "1", "activity": "typing"}),
        "markRead" => json!({"chat": "1", "messages": [{"id": "2"}]}),
        "answerButton" => json!({"id": "3", "text": "words"}),
        "history" => json!({"chat": "1", "limit": 10}),
        "directory" => json!({"list": "chats", "limit": 10}),
        "group" => json!({"action": "create", "text": "words"}),
        "setChat" => json!({"chat": "1", "action": "archive"}),
        "resolve" => json!({"address": "somebody"}),
        "fetchMedia" => json!({"reference": "file"}),
        "reconcile" => json!({"send": send, "triedAt": 1_767_225_600_000_i64}),
        "capabilities" => json!({"chat": "1"}),
        "importAuth" => json!({"source": "somewhere"}),
        _ => json!({"field": "words"}),
    };
    fields["type"] = json!(kind);
    Request::deserialize(&fields).expect("the samples are well-formed")
}

/// A send of a type of content.
pub(super) fn send(content: &str) -> Request {
    let mut content_json = match content {
        "text" => json!({"text": "words"}),
        "location" | "liveLocation" => json!({"latitude": 52.5, "longitude": 13.4}),
        "contact" => json!({"contacts": [{"name": "Somebody", "phones": ["+491234567"]}]}),
        "poll" => json!({"question": "words?", "options": [{"id": "0", "text": "yes"}, {"id": "1", "text": "no"}]}),
        "buttons" => json!({"text": {"text": "words"}, "rows": [[{"text": "one", "data": "1"}]]}),
        "system" => json!({"event": "pinned"}),
        _ => json!({"url": "https://files.example/file", "mimeType": "application/octet-stream"}),
    };
    content_json["type"] = json!(content);
    let send = json!({"type": "send", "chat": "1", "clientId": "c1", "content": content_json});
    Request::deserialize(&send).expect("the samples are well-formed")
}

/// Bytes that no network should send, with a name for the report.
pub(super) fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let words = |words: &str| words.as_bytes().to_vec();
    // A fixed sequence (a linear congruence) that looks random: a failure can be repeated.
    let mut state = 0x2545_f491_u32;
    let random = (0..600).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    vec![
        ("no body", Vec::new()),
        ("random bytes", random.collect()),
        ("broken UTF-8", b"{\"text\":\"\xff\xfe\"}".to_vec()),
        ("HTML", words("<!doctype html><html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>")),
        ("plain words", words("upstream connect error")),
        ("null", words("null")),
        ("a number", words("123456789012345678901234567890")),
        ("a string", words("\"ok\"")),
        ("true", words("true")),
        ("an empty array", words("[]")),
        ("an empty object", words("{}")),
        ("an array of odd things", words("[null,1,\"x\",{},[[]],-1e308]")),
        (
            "an object of odd things",
            words("{\"ok\":\"yes\",\"result\":{\"a\":null},\"error_code\":\"x\",\"data\":7,\"id\":[]}"),
        ),
        ("a result that is a string", words("{\"ok\":true,\"result\":\"none\"}")),
        ("a result with odd items", words("{\"ok\":true,\"result\":[null,7,\"x\",[],{}]}")),
        ("JSON that is cut off", words("{\"ok\":true,\"result\":[{\"update_id\":7,\"message\":{\"te")),
        ("NUL", words("{\"text\":\"\\u0000\"}\0\0\0")),
        ("100,000 brackets", vec![b'['; 100_000]),
        ("100,000 nested objects", words(&"{\"a\":".repeat(100_000))),
        ("a megabyte of nothing", vec![b' '; 1_000_000]),
    ]
}

/// An answer of a network that has gone mad; another one for each number.
pub(super) fn hostile_answer(number: usize) -> Result<HttpResponse, HttpFailure> {
    let garbage = garbage();
    match number % 4 {
        0 => Err(HttpFailure { message: "the connection broke".into(), sent: true, timed_out: false }),
        1 => Err(HttpFailure { message: "no such host".into(), sent: false, timed_out: false }),
        odd => {
            let (_, body) = &garbage[(number / 2) % garbage.len()];
            let status = if odd == 2 { 200 } else { 500 };
            Ok(HttpResponse { status, headers: Vec::new(), body: body.clone() })
        }
    }
}

/// The garbage that may come by one way in.
pub(super) fn garbage_events(ingress: &Ingress) -> Vec<(String, IngressEvent)> {
    let mut events = Vec::new();
    match ingress {
        Ingress::LongPoll(poll) => {
            for (name, body) in garbage() {
                for status in [200, 500] {
                    let response = HttpResponse { status, headers: Vec::new(), body: body.clone() };
                    let event = IngressEvent::PollResponse { tag: poll.tag.clone(), response };
                    events.push((format!("a poll answered with {status} and {name}"), event));
                }
            }
            for (sent, timed_out) in [(false, false), (true, false), (true, true)] {
                let failure = HttpFailure { message: "the connection broke".into(), sent, timed_out };
                events.push(("a poll that failed".into(), IngressEvent::PollFailed { tag: poll.tag.clone(), failure }));
            }
        }
        Ingress::Webhook(_) => {
            for (name, body) in garbage() {
                let request = WebhookRequest { method: "POST".into(), path: "/".into(), body, ..Default::default() };
                events.push((format!("a webhook with {name}"), IngressEvent::Webhook { request }));
            }
            for (method, path) in [("GET", "/../../etc/passwd"), ("BREW", "/%00"), ("DELETE", "")] {
                let request = WebhookRequest {
                    method: method.into(),
                    path: path.into(),
                    query: "a=%ff&b&=&&c=[]".into(),
                    ..Default::default()
                };
                events.push((format!("a webhook {method} {path}"), IngressEvent::Webhook { request }));
            }
        }
        Ingress::Websocket(socket) => {
            for (name, body) in garbage() {
                let (tag, text) = (socket.tag.clone(), String::from_utf8_lossy(&body).into_owned());
                events.push((format!("a text frame with {name}"), IngressEvent::SocketText { tag: tag.clone(), text }));
                events.push((format!("a binary frame with {name}"), IngressEvent::SocketBinary { tag, bytes: body }));
            }
        }
        Ingress::Timer(_) | Ingress::Own(_) | Ingress::Unknown(_) => {}
    }
    events
}

/// A body with one thing wrong in it, as often as there are things in it.
pub(super) fn mangled(body: &[u8]) -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = (1..8).map(|eighth| body[..body.len() * eighth / 8].to_vec()).collect();
    if let Ok(json) = serde_json::from_slice::<Value>(body) {
        let mut paths = Vec::new();
        pointers(&json, String::new(), &mut paths);
        for path in paths.iter().take(300) {
            for other in
                [json!(null), json!("x"), json!(""), json!(-1), json!(1e300), json!([]), json!([[]]), json!({})]
            {
                let mut json = json.clone();
                if let Some(place) = json.pointer_mut(path) {
                    *place = other;
                    all.push(json.to_string().into_bytes());
                }
            }
        }
    }
    all
}

fn pointers(json: &Value, path: String, all: &mut Vec<String>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                pointers(value, format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{path}/{index}"), all);
            }
        }
        _ => {}
    }
    all.push(path);
}
