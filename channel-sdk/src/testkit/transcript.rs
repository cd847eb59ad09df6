//! A transcript as it lies in its file. What each field means is in the header of [`testkit`](crate::testkit).
//!
//! Deliberately no running here, and no knowledge of channels beyond the names of secrets.

use crate::frame::event_body;
use crate::http::{FormPart, Header, HttpBody, HttpCall, HttpFailure, HttpResponse};
use crate::ingress::IngressEvent;
use crate::login::LoginCall;
use crate::manifest::{ChannelManifest, Secrets};
use crate::request::Request;
use crate::testkit::matching::{mismatches, mismatches_at};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What the host and the network do, and what the channel has to do then.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Transcript {
    /// A sentence.
    pub name: String,
    /// The capabilities that it shows.
    #[serde(default)]
    pub proves: Vec<String>,
    /// The configuration as an operator would write it.
    #[serde(default = "nothing")]
    pub config: Value,
    /// Where the network reaches its webhook, when the host has a public address.
    #[serde(default)]
    pub webhook_url: Option<String>,
    /// Whether the instance is started only to be asked something.
    #[serde(default)]
    pub offline: bool,
    /// Entries before the start.
    #[serde(default)]
    pub kv: BTreeMap<String, Value>,
    /// Files that the host holds.
    #[serde(default)]
    pub media: BTreeMap<String, Value>,
    /// The clock at the start.
    #[serde(default = "year_2026")]
    pub now: i64,
    /// Whether odd times are meant.
    #[serde(default)]
    pub any_time: bool,
    /// One after the other.
    pub steps: Vec<Step>,
}

fn nothing() -> Value {
    Value::Object(Map::new())
}

fn year_2026() -> i64 {
    1_767_225_600_000
}

/// One thing that happens, and what must come of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "every field is explained once, in the header of the testkit")]
pub struct Step {
    pub note: Option<String>,
    pub start: Option<bool>,
    pub request: Option<Value>,
    pub events: Option<Vec<Value>>,
    pub login: Option<Value>,
    pub advance_ms: Option<u64>,
    pub stop: Option<bool>,
    pub http: Vec<Exchange>,
    pub reply: Option<Value>,
    pub error: Option<Value>,
    pub ingress: Option<Vec<Value>>,
    pub polls: Option<Vec<PollExpect>>,
    pub emits: Vec<Value>,
    pub kv: BTreeMap<String, Value>,
    pub replies: Option<Vec<Value>>,
    pub outcomes: Option<Vec<Value>>,
    pub states: Option<Vec<Value>>,
    pub timers: Option<Vec<Value>>,
    pub sockets: Option<Vec<Value>>,
    pub missed: Option<bool>,
    pub missed_in: Option<Vec<Value>>,
}

/// What a step does.
#[derive(Clone, Debug)]
pub(super) enum Action {
    Start,
    Request(Box<Request>),
    Events(Vec<IngressEvent>),
    Login(LoginCall),
    Advance(u64),
    Stop,
}

/// One call of the channel, and what the network makes of it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exchange {
    /// What is called.
    #[serde(default)]
    pub expect: Expect,
    /// The answer.
    #[serde(default)]
    pub respond: Option<Respond>,
    /// Why there is none.
    #[serde(default)]
    pub fail: Option<HttpFailure>,
}

/// What a call must look like; what is absent is not compared.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "every field is explained once, in the header of the testkit")]
pub struct Expect {
    pub method: Option<String>,
    pub url: Option<String>,
    pub headers: BTreeMap<String, Value>,
    pub json: Option<Value>,
    pub text: Option<Value>,
    pub blob: Option<Value>,
    pub form: Option<BTreeMap<String, Value>>,
    pub timeout_ms: Option<u64>,
}

/// The next poll of one way in.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PollExpect {
    /// Which.
    #[serde(default)]
    pub tag: String,
    /// What is called.
    #[serde(default)]
    pub call: Expect,
}

/// What the network answers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Respond {
    pub status: Option<u16>,
    pub headers: BTreeMap<String, String>,
    pub json: Option<Value>,
    pub text: Option<String>,
    pub base64: Option<String>,
}

impl Transcript {
    /// Reads one file. The error names it.
    pub fn read(path: &Path, manifest: &ChannelManifest) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Self::parse(&text, manifest).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of a transcript of this channel.
    pub fn parse(text: &str, manifest: &ChannelManifest) -> Result<Self, String> {
        let mut json: Value = serde_json::from_str(text).map_err(|error| format!("is no JSON: {error}"))?;
        let config = json.get("config").cloned().unwrap_or_else(nothing);
        let secrets = canaries(manifest, &config);
        if let Some((name, _)) = secrets.iter().find(|(_, canary)| canary.len() < 8) {
            return Err(format!(
                "config.{name}: make up a longer secret; it is looked for in all that the channel says"
            ));
        }
        fill_in(&mut json, &secrets)?;
        let mut transcript: Self =
            serde_json::from_value(json).map_err(|error| format!("is no transcript: {error}"))?;
        // Nothing is filled into the configuration: it is compared with the schema as an operator would write it.
        transcript.config = config;
        if transcript.steps.first().is_none_or(|step| step.start != Some(true)) {
            return Err("the first step has to be {\"start\": true}".into());
        }
        for (index, step) in transcript.steps.iter().enumerate() {
            step.action().map_err(|error| format!("step {index}: {error}"))?;
            for exchange in &step.http {
                drop(exchange.answer().map_err(|error| format!("step {index}: {error}"))?);
            }
        }
        Ok(transcript)
    }

    /// The configuration as the host hands it over: defaults filled in, secrets as placeholders.
    pub(super) fn config_for_channel(&self, manifest: &ChannelManifest) -> Value {
        let mut config = self.config.clone();
        let secrets = canaries(manifest, &config);
        let Some(fields) = config.as_object_mut() else { return config };
        for (name, schema) in properties(manifest) {
            if let Some(default) = schema.get("default") {
                fields.entry(name.clone()).or_insert_with(|| default.clone());
            }
        }
        for (name, canary) in secrets {
            fields.insert(name, Value::String(canary));
        }
        config
    }

    /// What must not be seen anywhere: the secrets as the channel knows them.
    pub(super) fn canaries(&self, manifest: &ChannelManifest) -> Vec<String> {
        canaries(manifest, &self.config).into_values().collect()
    }
}

fn properties(manifest: &ChannelManifest) -> impl Iterator<Item = (&String, &Value)> {
    manifest.config_schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// Secret field → what the channel gets for it.
fn canaries(manifest: &ChannelManifest, config: &Value) -> BTreeMap<String, String> {
    let value = |name: &str| config.get(name).and_then(Value::as_str);
    manifest
        .secret_fields()
        .into_iter()
        .filter_map(|name| {
            let value = value(name)?;
            let canary = match manifest.secrets {
                Secrets::Plain => value.to_owned(),
                Secrets::Placeholder => format!("omni-canary-{name}-5e7c1d"),
            };
            Some((name.to_owned(), canary))
        })
        .collect()
}

fn fill_in(json: &mut Value, secrets: &BTreeMap<String, String>) -> Result<(), String> {
    match json {
        Value::String(text) if text.contains("${secret:") => {
            for (name, canary) in secrets {
                *text = text.replace(&format!("${{secret:{name}}}"), canary);
            }
            if text.contains("${secret:") {
                return Err(format!("{text:?} names a secret that is not marked writeOnly, or not in this config"));
            }
            Ok(())
        }
        Value::Array(items) => items.iter_mut().try_for_each(|item| fill_in(item, secrets)),
        Value::Object(fields) => fields.values_mut().try_for_each(|item| fill_in(item, secrets)),
        _ => Ok(()),
    }
}

impl Step {
    /// What the step does.
    pub(super) fn action(&self) -> Result<Action, String> {
        let mut actions = Vec::new();
        if self.start == Some(true) {
            actions.push(Action::Start);
        }
        if let Some(request) = &self.request {
            actions.push(Action::Request(Box::new(typed(request, "request")?)));
        }
        if let Some(events) = &self.events {
            let events = events.iter().map(ingress_event).collect::<Result<_, _>>()?;
            actions.push(Action::Events(events));
        }
        if let Some(login) = &self.login {
            actions.push(Action::Login(typed(login, "login")?));
        }
        actions.extend(self.advance_ms.map(Action::Advance));
        if self.stop == Some(true) {
            actions.push(Action::Stop);
        }
        match (actions.pop(), actions.is_empty()) {
            (Some(action), true) => Ok(action),
            _ => Err("needs exactly one of start, request, events, login, advanceMs, stop".into()),
        }
    }
}

fn typed<T: serde::de::DeserializeOwned>(json: &Value, what: &str) -> Result<T, String> {
    T::deserialize(json).map_err(|error| format!("{what}: {error}: {json}"))
}

/// An ingress event with what may be left out filled in, and its raw bytes beside it.
fn ingress_event(json: &Value) -> Result<IngressEvent, String> {
    let mut json = json.clone();
    let fields = json.as_object_mut().ok_or("an event is an object")?;
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut bytes = take_bytes(fields)?;
    match kind.as_str() {
        "pollResponse" => {
            let response = fields.entry("response").or_insert_with(nothing);
            let response = response.as_object_mut().ok_or("response is an object")?;
            bytes = bytes.or(take_bytes(response)?);
            response.entry("status").or_insert(json!(200));
            headers_as_list(response)?;
        }
        "webhook" => {
            let request = fields.entry("request").or_insert_with(nothing);
            let request = request.as_object_mut().ok_or("request is an object")?;
            bytes = bytes.or(take_bytes(request)?);
            request.entry("method").or_insert(json!("POST"));
            request.entry("path").or_insert(json!("/"));
            headers_as_list(request)?;
        }
        _ => {}
    }
    if kind != "webhook" {
        fields.entry("tag").or_insert(json!(""));
    }
    let mut event: IngressEvent = typed(&json, "event")?;
    match (event_body(&mut event), bytes) {
        (Some(body), bytes) => *body = bytes.unwrap_or_default(),
        (None, Some(_)) => return Err(format!("an event of type {kind:?} has no raw bytes")),
        (None, None) => {}
    }
    Ok(event)
}

/// Headers may be written as an object, too.
fn headers_as_list(holder: &mut Map<String, Value>) -> Result<(), String> {
    let Some(Value::Object(headers)) = holder.get("headers") else { return Ok(()) };
    let list = headers.iter().map(|(name, value)| json!({"name": name.to_lowercase(), "value": value})).collect();
    holder.insert("headers".into(), Value::Array(list));
    Ok(())
}

fn take_bytes(holder: &mut Map<String, Value>) -> Result<Option<Vec<u8>>, String> {
    let given = [holder.remove("json"), holder.remove("body"), holder.remove("base64")];
    match given {
        [None, None, None] => Ok(None),
        [Some(json), None, None] => Ok(Some(json.to_string().into_bytes())),
        [None, Some(Value::String(text)), None] => Ok(Some(text.into_bytes())),
        [None, None, Some(Value::String(text))] => base64(&text).map(Some),
        _ => Err("raw bytes are given once, as json, body (words) or base64".into()),
    }
}

/// The bytes of an entry or a file, as they are written in a transcript.
pub(super) fn bytes_of(value: &Value) -> Result<Vec<u8>, String> {
    if let Value::String(text) = value {
        return Ok(text.clone().into_bytes());
    }
    if let Some(text) = value.get("$base64").and_then(Value::as_str) {
        return base64(text);
    }
    Ok(value.to_string().into_bytes())
}

/// Standard base64, padded or not.
fn base64(text: &str) -> Result<Vec<u8>, String> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut buffer, mut bits) = (0_u32, 0);
    for byte in text.bytes().filter(|byte| *byte != b'=') {
        let value = ALPHABET.iter().position(|known| *known == byte).ok_or("is no base64")?;
        buffer = buffer << 6 | u32::try_from(value).expect("an alphabet has 64 letters");
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((buffer >> bits & 0xff) as u8);
        }
    }
    Ok(bytes)
}

impl Exchange {
    /// The answer, or why there is none. The error is a sentence about the transcript.
    pub(super) fn answer(&self) -> Result<Result<HttpResponse, HttpFailure>, String> {
        match (&self.respond, &self.fail) {
            (Some(respond), None) => respond.response().map(Ok),
            (None, Some(failure)) => Ok(Err(failure.clone())),
            _ => Err("an http exchange has either respond or fail".into()),
        }
    }
}

impl Respond {
    fn response(&self) -> Result<HttpResponse, String> {
        let headers: Vec<Header> = self
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.to_lowercase(), value: value.clone() })
            .collect();
        let body = match (&self.json, &self.text, &self.base64) {
            (None, None, None) => Vec::new(),
            (Some(json), None, None) => json.to_string().into_bytes(),
            (None, Some(text), None) => text.clone().into_bytes(),
            (None, None, Some(text)) => base64(text)?,
            _ => return Err("an answer has one of json, text and base64".into()),
        };
        Ok(HttpResponse { status: self.status.unwrap_or(200), headers, body })
    }
}

impl Expect {
    /// What is other than expected, a sentence each.
    pub fn check(&self, call: &HttpCall) -> Vec<String> {
        let mut wrong = Vec::new();
        if let Some(method) = &self.method
            && *method != call.method
        {
            wrong.push(format!("$.method: expected {method}, found {}", call.method));
        }
        if let Some(url) = &self.url
            && !fits(url, &call.url)
        {
            wrong.push(format!("$.url: expected {url}, found {}", call.url));
        }
        for (name, value) in &self.headers {
            let found = call.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
            let found = found.map_or(Value::Null, |header| Value::String(header.value.clone()));
            wrong.extend(mismatches_at(&format!("$.headers.{name}"), value, &found));
        }
        if let Some(timeout) = self.timeout_ms
            && call.timeout_ms != Some(timeout)
        {
            wrong.push(format!("$.timeoutMs: expected {timeout}, found {:?}", call.timeout_ms));
        }
        wrong.extend(self.check_body(&call.body));
        wrong
    }

    fn check_body(&self, body: &HttpBody) -> Vec<String> {
        let mut wrong = Vec::new();
        let other = |what: &str| vec![format!("$.body: expected {what}, found {}", json!(body))];
        if let Some(expected) = &self.json {
            match body {
                HttpBody::Json { json } => wrong.extend(mismatches_at("$.json", expected, json)),
                HttpBody::Text { text } => match serde_json::from_str(text) {
                    Ok(json) => wrong.extend(mismatches_at("$.json", expected, &json)),
                    Err(_) => wrong.extend(other("JSON")),
                },
                _ => wrong.extend(other("JSON")),
            }
        }
        if let Some(expected) = &self.text {
            match body {
                HttpBody::Text { text } => wrong.extend(mismatches_at("$.text", expected, &json!(text))),
                _ => wrong.extend(other("words")),
            }
        }
        if let Some(expected) = &self.blob {
            match body {
                HttpBody::Blob { blob } => wrong.extend(mismatches_at("$.blob", expected, &json!(blob))),
                _ => wrong.extend(other("a file")),
            }
        }
        if let Some(expected) = &self.form {
            match body {
                HttpBody::Multipart { parts } => wrong.extend(check_form(expected, parts)),
                _ => wrong.extend(other("a form")),
            }
        }
        wrong
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, rest)) => text.strip_prefix(before).is_some_and(|text| {
            let mut ends = text.char_indices().map(|(at, _)| at).chain([text.len()]);
            ends.any(|at| fits(rest, &text[at..]))
        }),
    }
}

fn check_form(expected: &BTreeMap<String, Value>, parts: &[FormPart]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, expected) in expected {
        let path = format!("$.form.{name}");
        let Some(part) = parts.iter().find(|part| part.name == *name) else {
            if !expected.is_null() {
                wrong.push(format!("{path}: expected {expected}, found no such field"));
            }
            continue;
        };
        if let Value::String(_) | Value::Null = expected {
            wrong.extend(mismatches_at(&path, expected, &json!(part.text)));
            continue;
        }
        let mut found = json!(part);
        if let Some(json) = part.text.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
            found["json"] = json;
        }
        wrong.extend(mismatches_at(&path, expected, &found));
    }
    wrong
}

/// Compares two lists, item by item.
pub(super) fn check_list(what: &str, expected: &[Value], found: &[Value]) -> Vec<String> {
    if expected.len() != found.len() {
        let list: Vec<String> = found.iter().map(Value::to_string).collect();
        return vec![format!("{what}: expected {}, found {}: [{}]", expected.len(), found.len(), list.join(", "))];
    }
    let pairs = expected.iter().zip(found).enumerate();
    pairs
        .flat_map(|(index, (expected, found))| {
            mismatches(expected, found).into_iter().map(move |wrong| format!("{what}[{index}] {wrong}"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_anything() {
        for (pattern, text, same) in [
            ("https://a/b", "https://a/b", true),
            ("https://a/b", "https://a/bc", false),
            ("https://a/*", "https://a/b?c=d", true),
            ("https://a/*", "https://a/", true),
            ("*/b", "https://ü/b", true),
            ("*/b?*=1", "https://a/b?c=1", true),
            ("*/b", "https://a/c", false),
            ("*", "", true),
        ] {
            assert_eq!(fits(pattern, text), same, "{pattern} {text}");
        }
    }

    #[test]
    fn base64_is_read() {
        for (text, bytes) in [("", &b""[..]), ("aGk=", b"hi"), ("aGk", b"hi"), ("/+8A", b"\xff\xef\x00")] {
            assert_eq!(base64(text).as_deref(), Ok(bytes), "{text}");
        }
        assert!(base64("a b").is_err());
    }
}
