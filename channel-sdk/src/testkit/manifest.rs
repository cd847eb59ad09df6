//! The rules about `channel.json`, and about a configuration that has to fit it.

use super::rules::Problem;
use crate::content::Content;
use crate::event::EventBody;
use crate::manifest::{ChannelManifest, FlowKind};
use crate::request::Request;
use serde_json::Value;

const FIELDS: &[&str] = &[
    "id",
    "aliases",
    "name",
    "description",
    "ownProcess",
    "secrets",
    "capabilities",
    "configSchema",
    "loginFlows",
    "stateVersion",
    "hosts",
    "addresses",
    "limits",
];
const LIMITS: &[&str] = &["memoryBytes", "stateBytes", "eventsPerCall", "bytesPerCall", "fuelPerFrame", "tableEntries"];
const CAPABILITIES: &[&str] =
    &["chatKinds", "send", "requests", "events", "reply", "formatting", "albumMaxItems", "clientId"];
const SEND: &[&str] = &["maxLength", "unit", "maxBytes", "mimeTypes", "maxItems", "maxItemLength", "markdown", "byUrl"];
const REQUESTS: &[&str] = &["maxAgeSeconds", "maxItems", "allowed"];
/// What a field is named like when it is a secret.
const SECRET_WORDS: &[&str] = &["token", "secret", "password", "passphrase", "apikey", "api_key", "privatekey"];

/// Everything that is wrong with a manifest.
pub(super) fn problems(manifest: &ChannelManifest, json: &Value) -> Vec<Problem> {
    let mut wrong = Vec::new();
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    for (field, id) in
        std::iter::once(("id", &manifest.id)).chain(manifest.aliases.iter().map(|alias| ("aliases", alias)))
    {
        if id.is_empty() || id.len() > 50 || !id.bytes().all(letter) || id.starts_with('-') || id.ends_with('-') {
            wrong.push(Problem(format!("{field} {id:?} is not 1 to 50 lower-case letters, digits and dashes within")));
        }
    }
    if manifest.name.trim().is_empty() {
        wrong.push(Problem("name is empty".into()));
    }
    if manifest.state_version == 0 {
        wrong.push(Problem("stateVersion begins at 1".into()));
    }
    wrong.extend(spelling("", json, FIELDS));
    wrong.extend(spelling("limits.", json.pointer("/limits").unwrap_or(&Value::Null), LIMITS));
    capability_problems(manifest, json, &mut wrong);
    schema_problems(manifest, &mut wrong);
    for (index, flow) in manifest.login_flows.iter().enumerate() {
        if let FlowKind::Other(kind) = &flow.kind {
            wrong.push(Problem(format!("loginFlows: {kind:?} is no kind of flow ({})", FlowKind::WORDS.join(", "))));
        }
        if manifest.login_flows[..index].iter().any(|other| other.id == flow.id) {
            wrong.push(Problem(format!("loginFlows: the id {:?} is there twice", flow.id)));
        }
    }
    wrong
}

fn spelling(path: &str, json: &Value, known: &[&str]) -> Vec<Problem> {
    let fields = json.as_object().into_iter().flatten();
    fields
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .map(|(name, _)| Problem(format!("{path}{name}: there is no such field ({})", known.join(", "))))
        .collect()
}

fn capability_problems(manifest: &ChannelManifest, json: &Value, wrong: &mut Vec<Problem>) {
    let of = |pointer: &str| json.pointer(pointer).unwrap_or(&Value::Null);
    wrong.extend(spelling("capabilities.", of("/capabilities"), CAPABILITIES));
    for (kind, limits) in of("/capabilities/send").as_object().into_iter().flatten() {
        wrong.extend(spelling(&format!("capabilities.send.{kind}."), limits, SEND));
    }
    for (kind, limits) in of("/capabilities/requests").as_object().into_iter().flatten() {
        wrong.extend(spelling(&format!("capabilities.requests.{kind}."), limits, REQUESTS));
    }
    let capabilities = &manifest.capabilities;
    let mut unknown = |place: &str, kind: &str, known: &[&str]| {
        if !known.contains(&kind) {
            wrong.push(Problem(format!("capabilities.{place}: there is no {kind:?} ({})", known.join(", "))));
        }
    };
    for kind in capabilities.send.keys() {
        unknown("send", kind, Content::KINDS);
    }
    for kind in capabilities.requests.keys() {
        unknown("requests", kind, Request::KINDS);
    }
    for kind in &capabilities.events {
        unknown("events", kind, EventBody::KINDS);
    }
    for kind in &capabilities.chat_kinds {
        unknown("chatKinds", kind.as_str(), crate::chat::ChatKind::WORDS);
    }
    for kind in &capabilities.formatting {
        unknown("formatting", kind, crate::content::EntityKind::KINDS);
    }
    if capabilities.requests.contains_key("send") {
        wrong.push(Problem("capabilities.requests: sending is declared by capabilities.send".into()));
    }
    if capabilities.names().is_empty() {
        wrong.push(Problem("capabilities: the channel can do nothing".into()));
    }
}

/// As hosts do it: patterns without look-around, of 256 KiB at most once they are compiled.
fn compile(schema: &Value) -> Result<jsonschema::Validator, jsonschema::ValidationError<'_>> {
    let patterns = jsonschema::PatternOptions::regex().size_limit(256 << 10);
    jsonschema::options().with_pattern_options(patterns).build(schema)
}

fn schema_problems(manifest: &ChannelManifest, wrong: &mut Vec<Problem>) {
    let schema = &manifest.config_schema;
    if schema.is_null() {
        wrong
            .push(Problem("configSchema is missing; {\"type\": \"object\"} when there is nothing to configure".into()));
        return;
    }
    if let Err(error) = compile(schema) {
        wrong.push(Problem(format!("configSchema is no JSON Schema: {error}")));
    }
    if schema.get("type").and_then(Value::as_str) != Some("object") {
        wrong.push(Problem("configSchema: \"type\" has to be \"object\"".into()));
    }
    for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
        let marked = field.get("writeOnly").and_then(Value::as_bool) == Some(true);
        let lower = name.to_lowercase();
        if !marked && SECRET_WORDS.iter().any(|word| lower.ends_with(word)) {
            wrong.push(Problem(format!("configSchema: {name} is a secret by its name; mark it \"writeOnly\": true")));
        }
        if marked && field.get("type").and_then(Value::as_str) != Some("string") {
            wrong.push(Problem(format!("configSchema: the secret {name} has to be a string")));
        }
        if marked && field.get("default").is_some() {
            wrong.push(Problem(format!("configSchema: the secret {name} cannot have a default")));
        }
    }
}

/// Where a configuration does not fit the schema. Values are not repeated: they may be secret.
pub(super) fn config_problems(manifest: &ChannelManifest, config: &Value) -> Vec<String> {
    match compile(&manifest.config_schema) {
        Ok(validator) => validator
            .iter_errors(config)
            .map(|error| format!("config{}: {}", error.instance_path(), error.masked()))
            .collect(),
        Err(error) => vec![format!("configSchema is no JSON Schema: {error}")],
    }
}
