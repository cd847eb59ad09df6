//! The files of a plugin that are read before any of it runs: the library with its manifest, its signature, and the lists
//! of what is trusted.

use super::{NOW, elf, sentence, way};
use crate::instances::config::Split;
use crate::plugins::fuzzing::{inspect, is_signed, lock_file, versions};
use crate::webhooks::schedule;
use omni_channel_sdk::manifest::Manifest;
use serde_json::{Map, Value};

/// A plugin file: as it is, with a manifest section of its own, with a manifest of its own, or with a schema of its own.
pub fn manifest(data: &[u8]) {
    match way(data, 4) {
        Some((0, file)) => inspected(file),
        Some((1, section)) => inspected(&elf::library(section)),
        Some((2, manifest)) => inspected(&elf::library(&elf::note(manifest))),
        Some((_, schema)) => {
            let Ok(schema) = serde_json::from_slice::<Value>(schema) else { return };
            inspected(&elf::library(&elf::note(with_schema(&schema).as_bytes())));
        }
        None => {}
    }
}

/// A manifest that is good but for its schema.
pub(super) fn with_schema(schema: &Value) -> String {
    let channel = serde_json::json!({"id": "x", "name": "X", "capabilities": {}, "configSchema": schema});
    serde_json::json!({
        "manifest": 1, "version": "0.1.0", "sdk": omni_channel_sdk::manifest::SDK_VERSION,
        "abi": omni_channel_sdk::manifest::NATIVE_ABI, "panic": "unwind", "target": "x86_64-linux-gnu",
        "channel": channel,
    })
    .to_string()
}

fn inspected(file: &[u8]) {
    let manifest = match inspect(file) {
        Ok(manifest) => manifest,
        Err(reason) => return sentence(&reason),
    };
    let written = serde_json::to_vec(&manifest).expect("a manifest can be written");
    let again: Manifest = serde_json::from_slice(&written).expect("a manifest that was written can be read");
    assert_eq!(again, manifest, "a manifest is read as it was written");
    // Its schema is used as soon as somebody makes an instance of it.
    let token = manifest.channel.config_schema.pointer("/properties/token").map(|_| "t".to_owned());
    let split = crate::instances::config::split(&manifest.channel, Map::new(), token).expect("it takes a token");
    // Whether it fits is the schema's to say; that it says so is ours.
    let _ = split.check(&manifest.channel);
    let _ = Split::default().missing(&manifest.channel);
}

/// The small files and words that decide what is loaded and when something is tried again.
pub fn trust(data: &[u8]) {
    let Some((way, rest)) = way(data, 4) else { return };
    let Ok(text) = std::str::from_utf8(rest) else { return };
    match way {
        0 => lock_file(text),
        1 => versions(text),
        2 => is_signed(text),
        _ => {
            let _ = schedule::next_after(1, schedule::retry_after(text, NOW), 0.5);
            let _ = schedule::rest(9, schedule::retry_after(text, NOW));
        }
    }
}
