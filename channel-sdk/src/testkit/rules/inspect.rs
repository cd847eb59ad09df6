//! What is looked at in every frame, whatever the transcript says: sizes, times, secrets.

use super::Breach;
use crate::connection::ConnectionState;
use crate::event::{Event, EventBody};
use crate::frame::{Failure, Output};
use crate::http::{HttpBody, HttpCall};
use crate::request::Reply;
use crate::testkit::{ScriptedHost, limits};
use serde_json::{Value, json};

/// Notes a secret in what the channel says.
fn secret(host: &mut ScriptedHost, place: &str, bytes: &[u8]) {
    let seen = |canary: &String| bytes.windows(canary.len().max(1)).any(|window| window == canary.as_bytes());
    if host.canaries.iter().any(seen) {
        host.breaches.push(Breach::new("secrets", format!("a secret stands in {place}")));
    }
}

/// A sentence for people: short, and without secrets.
pub(in crate::testkit) fn sentence(host: &mut ScriptedHost, place: &str, words: &str) {
    secret(host, place, words.as_bytes());
    if words.len() > limits::SENTENCE_BYTES {
        host.breaches.push(Breach::new("sizes", format!("{place} has {} bytes", words.len())));
    }
}

pub(in crate::testkit) fn state(host: &mut ScriptedHost, state: &ConnectionState) {
    sentence(host, "a connection state", &json!(state).to_string());
}

pub(in crate::testkit) fn failure(host: &mut ScriptedHost, failure: &Failure) {
    sentence(host, "an error", &json!(failure).to_string());
    if failure.error.message.trim().is_empty() {
        host.breaches.push(Breach::new("sizes", "an error says nothing"));
    }
    if failure.panicked {
        host.breaches.push(Breach::new("panics", failure.error.message.clone()));
    }
}

pub(in crate::testkit) fn output(host: &mut ScriptedHost, output: &Output, bodies: &[Vec<u8>]) {
    match output {
        // What is called and how a webhook is verified is where a secret belongs.
        Output::Started { .. } | Output::Stopped {} => {}
        Output::Events { outcomes, .. } => secret(host, "an outcome", json!(outcomes).to_string().as_bytes()),
        Output::Reply { reply } if matches!(**reply, Reply::Media(_)) => {}
        Output::Reply { reply } => secret(host, "a reply", json!(reply).to_string().as_bytes()),
        Output::Login { step } => secret(host, "a login step", json!(step).to_string().as_bytes()),
    }
    for body in bodies {
        secret(host, "the answer to a webhook", body);
    }
}

pub(in crate::testkit) fn http(host: &mut ScriptedHost, call: &HttpCall) {
    if !call.secrets_in_body && !matches!(call.body, HttpBody::Empty) {
        let body = json!(call.body).to_string();
        secret(host, "the body of a call that does not set secretsInBody", body.as_bytes());
    }
    if !(call.url.starts_with("https://") || call.url.starts_with("http://")) {
        let what = format!("a call's address is not absolute http or https: {:?}", call.url);
        host.breaches.push(Breach::new("sizes", what));
    }
}

pub(in crate::testkit) fn entry(host: &mut ScriptedHost, key: &str, value: &[u8]) {
    secret(host, "an entry of the key-value store", key.as_bytes());
    secret(host, "an entry of the key-value store", value);
    if key.is_empty() || key.len() > limits::KEY_BYTES {
        host.breaches.push(Breach::new("sizes", format!("a key has {} bytes: {key:?}", key.len())));
    }
    if value.len() > limits::VALUE_BYTES {
        host.breaches.push(Breach::new("sizes", format!("the entry {key:?} has {} bytes", value.len())));
    }
}

pub(in crate::testkit) fn event(host: &mut ScriptedHost, event: &Event, raw: &str) {
    secret(host, "an event", raw.as_bytes());
    let mut wrong = Vec::new();
    if raw.len() > limits::EVENT_BYTES {
        wrong.push(Breach::new("sizes", format!("an event has {} bytes", raw.len())));
    }
    if !host.any_time && !(limits::EARLIEST..limits::LATEST).contains(&event.at) {
        wrong.push(Breach::new("times", format!("an event happened at {}, which is not in milliseconds", event.at)));
    }
    if let EventBody::Unknown(unknown) = &event.body {
        wrong.push(Breach::new(
            "sizes",
            format!("an event of a kind that this version does not know: {:?}", unknown.kind),
        ));
    }
    if let Some(key) = &event.delivery_key {
        size("deliveryKey", key.as_str(), limits::ID_BYTES, &mut wrong);
    }
    walk("chat", &json!(event.chat), &mut wrong);
    walk("body", &json!(event.body), &mut wrong);
    host.breaches.append(&mut wrong);
}

fn size(path: &str, text: &str, most: usize, wrong: &mut Vec<Breach>) {
    if text.len() > most {
        wrong.push(Breach::new("sizes", format!("{path} has {} bytes, a host takes {most}", text.len())));
    }
}

fn walk(path: &str, json: &Value, wrong: &mut Vec<Breach>) {
    match json {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = format!("{path}.{name}");
                if let Value::String(text) = value {
                    field(&path, name, text, wrong);
                } else {
                    walk(&path, value, wrong);
                }
            }
            if let (Some(text), Some(entities)) =
                (fields.get("text").and_then(Value::as_str), fields.get("entities").and_then(Value::as_array))
            {
                entities_fit(path, text, entities, wrong);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                walk(&format!("{path}[{index}]"), item, wrong);
            }
        }
        _ => {}
    }
}

fn field(path: &str, name: &str, text: &str, wrong: &mut Vec<Breach>) {
    match name {
        "id" | "parent" | "part" | "alsoKnownAs" | "onBehalfOf" | "clientId" | "movedTo" | "pollId" => {
            size(path, text, limits::ID_BYTES, wrong);
            if text.is_empty() {
                wrong.push(Breach::new("sizes", format!("{path} is empty")));
            }
        }
        "name" | "username" | "phone" | "email" | "fileName" | "mimeType" | "language" => {
            size(path, text, limits::NAME_BYTES, wrong);
        }
        _ => size(path, text, limits::TEXT_BYTES, wrong),
    }
}

/// Formatting beyond the end of its text is counted in the wrong unit.
fn entities_fit(path: &str, text: &str, entities: &[Value], wrong: &mut Vec<Breach>) {
    let length = text.encode_utf16().count() as u64;
    for entity in entities {
        let number = |name: &str| entity.get(name).and_then(Value::as_u64).unwrap_or_default();
        if number("offset") + number("length") > length {
            let what = format!("{path}.entities: one ends behind its text ({length} UTF-16 units): {entity}");
            wrong.push(Breach::new("sizes", what));
        }
    }
}
