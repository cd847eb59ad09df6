//! Input that somebody made to hurt: nothing panics, nothing takes long, and what is whole still comes over.

use super::samples::{self, NOW};
use crate::baileys::{Snapshot, convert, import};
use serde_json::{Value, json};
use wacore::store::in_memory::InMemoryBackend;

/// Numbers without a pattern, the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit.max(1) as u64) as usize
    }
}

/// Something else for a value.
fn odd(dice: &mut Dice) -> Value {
    match dice.below(16) {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(u64::MAX),
        3 => json!(1e308),
        4 => json!(""),
        5 => json!("*** not base64 ***"),
        6 => json!("\u{0}\u{202e}"),
        7 => json!([]),
        8 => json!({}),
        9 => json!({ "type": "Buffer", "data": [] }),
        10 => json!({ "type": "Buffer", "data": "AAAA" }),
        11 => json!({ "type": "Buffer", "data": { "0": 256 } }),
        12 => json!(true),
        13 => json!({ "low": -1, "high": -1 }),
        14 => json!("A".repeat(1000)),
        _ => json!(i64::MIN),
    }
}

/// Replaces, removes or doubles one value somewhere inside.
fn spoil(value: &mut Value, dice: &mut Dice) {
    match value {
        Value::Object(map) if !map.is_empty() && dice.below(6) > 0 => {
            let at = dice.below(map.len());
            let key = map.keys().nth(at).cloned().unwrap_or_default();
            match dice.below(8) {
                0 => drop(map.remove(&key)),
                1 => {
                    let copy = map[&key].clone();
                    map.insert(format!("{key}="), copy);
                }
                _ => spoil(&mut map[&key], dice),
            }
        }
        Value::Array(items) if !items.is_empty() && dice.below(6) > 0 => {
            let at = dice.below(items.len());
            spoil(&mut items[at], dice);
        }
        other => *other = odd(dice),
    }
}

#[tokio::test]
async fn spoiled_folders() {
    let mut dice = Dice(0x5eed_1234_5678_9abc);
    let samples = samples::all();
    let (mut taken, mut refused) = (0, 0);
    for round in 0..600 {
        let sample = &samples[round % samples.len()];
        let mut snapshot = Snapshot::new();
        for (name, text) in &sample.files {
            // Credentials less often, as they end the import.
            let wanted = if name == "creds.json" { dice.below(8) == 0 } else { dice.below(2) == 0 };
            let mut bytes = text.clone().into_bytes();
            if wanted && dice.below(2) == 0 {
                let mut value: Value = serde_json::from_str(text).unwrap();
                spoil(&mut value, &mut dice);
                bytes = value.to_string().into_bytes();
            } else if wanted {
                let at = dice.below(bytes.len());
                match dice.below(3) {
                    0 => bytes.truncate(at),
                    1 => bytes[at] ^= 1 << dice.below(8),
                    _ => bytes.insert(at, dice.below(256) as u8),
                }
            }
            snapshot.add(name, bytes);
        }
        let backend = InMemoryBackend::new();
        match import(&snapshot, &backend, NOW).await {
            Ok(report) => {
                taken += 1;
                for (kind, count) in &report.imported {
                    assert!(report.found[kind] >= *count, "{kind} in round {round}: {report:?}");
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(taken > 300 && refused > 10, "{taken} taken, {refused} refused");
}

#[test]
fn names_without_sense() {
    let mut snapshot = samples::newest().snapshot();
    for name in
        ["", "/", ":", "::", "--", "session-", "session-..", "session-1.", "pre-key--1", "sender-key-----", "\u{0}"]
    {
        snapshot.add(name, b"{}".to_vec());
    }
    for name in ["sender-key-@::@::@.json", "session-\u{1f600}.\u{1f600}.json", "lid-mapping-_reverse", "tctoken-@"] {
        snapshot.add(name, b"{}".to_vec());
    }
    snapshot.add(&"x".repeat(100_000), Vec::new());
    snapshot.add(&format!("session-{}.0", "9".repeat(100_000)), b"{}".to_vec());
    let report = convert(&snapshot, NOW).unwrap().report;
    assert!(report.skipped.iter().all(|skipped| skipped.record.len() <= 800));
    assert!(report.warnings.iter().all(|warning| warning.len() < 4000));
}

#[test]
fn depth_and_size() {
    let mut snapshot = samples::newest().snapshot();
    snapshot.add("session-1.0.json", "[".repeat(1 << 20).into_bytes());
    snapshot.add("session-2.0.json", "{\"_sessions\":".repeat(1 << 16).into_bytes());
    snapshot.add("session-3.0.json", vec![b' '; (32 << 20) + 1]);
    let report = convert(&snapshot, NOW).unwrap().report;
    assert_eq!(report.skipped.len(), 3);
}

#[test]
fn one_session_with_a_hundred_thousand_chains_and_states() {
    let mut sample = samples::newest();
    let file = "session-100000000000002_1.0.json";
    let mut record = sample.value(file);
    let state = record["_sessions"].as_object().unwrap().values().next().unwrap().clone();
    let key = |at: u32| {
        let mut key = [5; 33];
        key[1..5].copy_from_slice(&at.to_le_bytes());
        crate::baileys::encoding::to_base64(&key)
    };
    let chain = json!({ "chainKey": { "counter": 0 }, "chainType": 2, "messageKeys": {} });
    let sessions = record["_sessions"].as_object_mut().unwrap();
    let chains = sessions.values_mut().next().unwrap()["_chains"].as_object_mut().unwrap();
    chains.extend((0..100_000).map(|at| (key(at), chain.clone())));
    sessions.extend((0..2_000).map(|at| (key(at), state.clone())));
    sample.set(file, &record);
    let report = convert(&sample.snapshot(), NOW).unwrap().report;
    assert_eq!(report.skipped, []);
    assert!(report.warnings.iter().any(|warning| warning.contains("only five are kept")));
}
