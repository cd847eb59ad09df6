//! The door of the bus: what is no event does not come in, and what came in can be read ever after.

use super::{NOW, sentence};
use crate::bus::door;
use crate::store::entry::{event_type, parse};
use serde_json::Value;

/// An event as a channel hands it over.
pub fn event(data: &[u8]) {
    let (payload, parsed) = match door::read(data.to_vec(), NOW) {
        Ok(read) => read,
        Err(reason) => return assert!(!reason.is_empty(), "refused without a word"),
    };
    // Postgres takes no NUL in text, nor what a client could not read in JSON.
    let whole: Value = match serde_json::from_slice(&payload) {
        Ok(whole) => whole,
        Err(error) => panic!("what came in is no JSON for others ({error}): {}", String::from_utf8_lossy(&payload)),
    };
    assert!(!has_nul(&whole), "NUL came in: {whole}");
    let again = parse(&payload, NOW).expect("what came in can be read again");
    assert_eq!(again.event, parsed.event, "what came in is read as it was");
    assert_eq!(again.raw, parsed.raw);
    if let Some(raw) = parsed.raw {
        let words: Value = serde_json::from_slice(&payload[raw]).expect("the network's own words are JSON");
        assert_eq!(Some(&words), whole.get("raw"));
    }
    let name = event_type(&parsed.event.body);
    sentence(&name);
    assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._".contains(&byte)), "{name} is no name");
    let year = parsed.event.at / 1_000 / 31_556_952 + 1970;
    assert!((1990..=2026).contains(&year), "it happened in {year}");
}

/// An event of a channel of ours, which comes in whatever its network sent.
pub fn accepted(data: &[u8]) {
    if let Err(reason) = door::read(data.to_vec(), NOW) {
        panic!("refused ({reason}): {}", String::from_utf8_lossy(data));
    }
    event(data);
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(words) => words.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => fields.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        _ => false,
    }
}
