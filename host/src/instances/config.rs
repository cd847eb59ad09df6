//! The configuration of an instance: checked against the channel's schema, split into what is shown and what is sealed.

use crate::plugins::config_schema;
use crate::secrets::Sealer;
use omni_channel_sdk::manifest::ChannelManifest;
use serde_json::{Map, Value};
use uuid::Uuid;

/// A configuration, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Split {
    /// What is shown.
    pub open: Map<String, Value>,
    /// What is sealed.
    pub secrets: Map<String, Value>,
}

/// Takes the secret fields out of what a person gave. `token` may come apart.
pub fn split(
    manifest: &ChannelManifest,
    mut given: Map<String, Value>,
    token: Option<String>,
) -> Result<Split, String> {
    if let Some(token) = token {
        let has_token = manifest.config_schema.pointer("/properties/token").is_some();
        if !has_token {
            return Err(format!(
                "channel {:?} takes no token; its configuration takes: {}",
                manifest.id,
                fields(manifest)
            ));
        }
        given.insert("token".into(), Value::String(token));
    }
    let mut secrets = Map::new();
    for name in manifest.secret_fields() {
        if let Some(value) = given.remove(name) {
            secrets.insert(name.to_owned(), value);
        }
    }
    Ok(Split { open: given, secrets })
}

fn fields(manifest: &ChannelManifest) -> String {
    let properties = manifest.config_schema.get("properties").and_then(Value::as_object);
    let names: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    if names.is_empty() { "nothing".into() } else { names.join(", ") }
}

impl Split {
    /// Changes fields; a `null` takes one away.
    pub fn change(&mut self, change: Self) {
        for (fields, changes) in [(&mut self.open, change.open), (&mut self.secrets, change.secrets)] {
            for (name, value) in changes {
                if value.is_null() {
                    fields.remove(&name);
                } else {
                    fields.insert(name, value);
                }
            }
        }
    }

    /// The whole configuration with the schema's defaults filled in.
    pub fn joined(&self, manifest: &ChannelManifest) -> Map<String, Value> {
        let mut joined = self.open.clone();
        joined.extend(self.secrets.clone());
        let properties = manifest.config_schema.get("properties").and_then(Value::as_object);
        for (name, schema) in properties.into_iter().flatten() {
            if let Some(default) = schema.get("default")
                && !joined.contains_key(name)
            {
                joined.insert(name.clone(), default.clone());
            }
        }
        joined
    }

    /// Checks what is given. Missing fields are no error yet: an instance may be completed later (see [`Split::missing`]).
    pub fn check(&self, manifest: &ChannelManifest) -> Result<(), String> {
        let mut schema = manifest.config_schema.clone();
        if let Some(object) = schema.as_object_mut() {
            object.remove("required");
        }
        if schema.is_null() {
            return Ok(());
        }
        let validator =
            config_schema::compile(&schema).map_err(|error| format!("the channel's schema is broken: {error}"))?;
        let joined = Value::Object(self.joined(manifest));
        let mut wrong = Vec::new();
        for error in validator.iter_errors(&joined) {
            let place = error.instance_path().to_string();
            let field = place.trim_start_matches('/');
            let secret = self.secrets.contains_key(field.split('/').next().unwrap_or_default());
            // A schema's error quotes the value: of a secret it must not.
            wrong.push(match (field.is_empty(), secret) {
                (true, _) => format!("config: {}", error.to_string().lines().next().unwrap_or_default()),
                (false, true) => format!("config.{field} is not what the channel's schema asks for"),
                (false, false) => format!("config.{field}: {error}"),
            });
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(format!("{} (channel {:?} takes: {})", wrong.join("; "), manifest.id, fields(manifest)))
    }

    /// Required fields that are not there yet.
    pub fn missing(&self, manifest: &ChannelManifest) -> Vec<String> {
        let joined = self.joined(manifest);
        let required = manifest.config_schema.get("required").and_then(Value::as_array);
        let names = required.into_iter().flatten().filter_map(Value::as_str);
        names.filter(|name| !joined.contains_key(*name)).map(str::to_owned).collect()
    }
}

/// What sealed secrets are bound to.
fn context(instance_id: Uuid) -> String {
    format!("instance:{instance_id}")
}

/// Seals secrets; nothing when there are none.
pub fn seal(sealer: &Sealer, instance_id: Uuid, secrets: &Map<String, Value>) -> Option<Vec<u8>> {
    if secrets.is_empty() {
        return None;
    }
    let plain = zeroize::Zeroizing::new(Value::Object(secrets.clone()).to_string());
    Some(sealer.seal(&context(instance_id), plain.as_bytes()))
}

/// Opens sealed secrets.
pub fn open(sealer: &Sealer, instance_id: Uuid, sealed: Option<&[u8]>) -> Result<Map<String, Value>, String> {
    let Some(sealed) = sealed else {
        return Ok(Map::new());
    };
    let plain = sealer.open(&context(instance_id), sealed).map_err(|error| error.to_string())?;
    serde_json::from_slice(&plain).map_err(|_| "the stored secrets are damaged".to_owned())
}
