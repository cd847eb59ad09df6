//! Folders that Baileys wrote, and the same in the layouts of the programs around it.

use crate::baileys::Snapshot;
use crate::baileys::encoding;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

pub const NOW: i64 = 1_780_000_000;
/// What the fixtures' account is.
pub const INSTANCE: &str = "6f0c1a2e-5b7d-4c3a-9e21-8d4f00aa11bb";

/// A folder, and what other accounts sent after it was left alone.
pub struct Sample {
    pub version: &'static str,
    pub files: BTreeMap<String, String>,
    pub messages: Vec<Message>,
}

pub struct Message {
    pub sender: String,
    pub group: Option<String>,
    pub kind: String,
    pub ciphertext: Vec<u8>,
    pub plaintext: String,
}

pub fn all() -> Vec<Sample> {
    [
        ("6.7.18", include_str!("../../../tests/fixtures/baileys-6.7.18.json")),
        ("7.0.0-rc.6", include_str!("../../../tests/fixtures/baileys-7.0.0-rc.6.json")),
        ("7.0.0-rc13", include_str!("../../../tests/fixtures/baileys-7.0.0-rc13.json")),
    ]
    .into_iter()
    .map(|(version, text)| sample(version, text))
    .collect()
}

pub fn newest() -> Sample {
    all().pop().unwrap()
}

fn sample(version: &'static str, text: &str) -> Sample {
    let value: Value = serde_json::from_str(text).unwrap();
    let message = |case: &Value| Message {
        sender: case["sender"].as_str().unwrap().into(),
        group: case["group"].as_str().map(Into::into),
        kind: case["type"].as_str().unwrap().into(),
        ciphertext: hex::decode(case["ciphertext"].as_str().unwrap()).unwrap(),
        plaintext: case["plaintext"].as_str().unwrap().into(),
    };
    Sample {
        version,
        files: serde_json::from_value(value["files"].clone()).unwrap(),
        messages: value["messages"].as_array().unwrap().iter().map(message).collect(),
    }
}

impl Sample {
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for (name, text) in &self.files {
            snapshot.add(name, text.clone().into_bytes());
        }
        snapshot
    }

    pub fn value(&self, name: &str) -> Value {
        serde_json::from_str(&self.files[name]).unwrap()
    }

    pub fn set(&mut self, name: &str, value: &Value) {
        self.files.insert(name.into(), value.to_string());
    }

    /// The name that Redis, MongoDB and a provider keep a record under.
    fn raw_names(&self) -> impl Iterator<Item = (String, Value)> {
        self.files.keys().map(|file| {
            let name = file.trim_end_matches(".json");
            let raw = match name {
                _ if name.starts_with("app-state-sync-key") => name.replace("__", "/"),
                _ if name.starts_with("sender-key-memory") => name.into(),
                _ if name.starts_with("sender-key") => name.replace("--", "::"),
                _ => name.into(),
            };
            (raw, self.value(file))
        })
    }

    /// Evolution 2 without Redis: credentials in the table, twice encoded; keys as files.
    pub fn evolution(&self) -> Snapshot {
        let mut snapshot = Snapshot::of(INSTANCE);
        let creds = serde_json::to_string(&self.files["creds.json"]).unwrap();
        snapshot.rows("evo_Session", &[json!({ "id": "c1", "sessionId": INSTANCE, "creds": creds })]);
        snapshot.rows("evo_Session", &[json!({ "id": "c2", "sessionId": "another", "creds": "\"{}\"" })]);
        for (name, text) in self.files.iter().filter(|(name, _)| *name != "creds.json") {
            snapshot.add(&format!("instances/{INSTANCE}/{name}"), text.clone().into_bytes());
        }
        snapshot
    }

    /// Evolution with Redis: a hash, everything twice encoded.
    pub fn redis(&self) -> Snapshot {
        let mut snapshot = Snapshot::new();
        for (name, value) in self.raw_names() {
            let twice = serde_json::to_string(&value.to_string()).unwrap();
            snapshot.add(&format!("evolution-cache:instance:{INSTANCE}:{name}"), twice.into_bytes());
        }
        snapshot
    }

    /// Evolution 1: documents of MongoDB, which cannot be strings; a sender key's array is content or was spread.
    pub fn mongodb(&self, spread: bool) -> Snapshot {
        let documents: Vec<Value> = self
            .raw_names()
            .filter(|(_, value)| !value.is_string())
            .map(|(name, value)| {
                let mut map = Map::from_iter([("_id".to_string(), Value::String(name))]);
                match value {
                    Value::Array(items) if spread => {
                        map.extend(items.into_iter().enumerate().map(|(at, item)| (at.to_string(), item)));
                    }
                    Value::Array(items) => drop(map.insert("content_array".into(), Value::Array(items))),
                    Value::Object(fields) => map.extend(fields),
                    _ => {}
                }
                Value::Object(map)
            })
            .collect();
        let mut snapshot = Snapshot::new();
        snapshot.rows("alice-bot", &documents);
        snapshot
    }

    /// Omni v2: a table of keys, buffers as arrays of numbers.
    pub fn omni_v2(&self) -> Snapshot {
        let rows: Vec<Value> = self
            .raw_names()
            .map(|(name, value)| {
                let key = match name.as_str() {
                    "creds" => "creds".to_string(),
                    name => {
                        let category =
                            ["app-state-sync-version", "app-state-sync-key", "sender-key-memory", "identity-key"]
                                .into_iter()
                                .chain(["device-list", "lid-mapping", "sender-key", "pre-key", "session", "tctoken"])
                                .find(|category| name.starts_with(*category))
                                .unwrap();
                        format!("keys:{category}:{}", &name[category.len() + 1..])
                    }
                };
                let key = format!("plugin:whatsapp-baileys:auth:{INSTANCE}:{key}");
                json!({ "plugin_id": "whatsapp-baileys", "key": key, "value": numbers(value).to_string() })
            })
            .collect();
        let mut snapshot = Snapshot::of(INSTANCE);
        snapshot.rows("plugin_storage", &rows);
        snapshot
    }
}

fn numbers(value: Value) -> Value {
    match value {
        Value::Object(map) if map.get("type") == Some(&json!("Buffer")) => {
            json!({ "type": "Buffer", "data": encoding::bytes(&Value::Object(map)).unwrap() })
        }
        Value::Object(map) => map.into_iter().map(|(name, value)| (name, numbers(value))).collect(),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        value => value,
    }
}
