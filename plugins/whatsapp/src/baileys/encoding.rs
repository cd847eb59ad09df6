//! What Baileys and the programs around it made of JSON: layers of it, six spellings of a buffer, five of a number.
//!
//! A buffer was seen as `{type:"Buffer",data:"<base64>"}` (Baileys' own `BufferJSON`), as `{type:"Buffer",data:[1,2]}` (a
//! plain `JSON.stringify`), as a base64 string (whatever went through protobufjs' `toJSON`), as `{"0":1,"1":2}` (a plain
//! `Uint8Array`), as `{buffer:true,data|value}` (very old trees) and as `{$binary:…}` (MongoDB's extended JSON).
//!
//! Nothing here knows what a value is for, and nothing panics: what cannot be read is `None` or a sentence.

use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

/// The largest record that is looked at. An app state with 50,000 entries has about 8 MB, a session never one.
pub(super) const MAX_RECORD: usize = 32 << 20;
/// How many times JSON may have been put into JSON. Twice was seen.
const MAX_LAYERS: usize = 8;

const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
    .with_decode_padding_mode(DecodePaddingMode::Indifferent)
    .with_decode_allow_trailing_bits(true);
const PLAIN: GeneralPurpose = GeneralPurpose::new(&STANDARD, LENIENT);
const URL: GeneralPurpose = GeneralPurpose::new(&URL_SAFE, LENIENT);

/// Reads a record. serde_json refuses what is nested deeper than 128.
pub(super) fn json(bytes: &[u8]) -> Result<Value, String> {
    if bytes.len() > MAX_RECORD {
        return Err(format!("it has {} bytes, and more than {MAX_RECORD} are not looked at", bytes.len()));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_string())?;
    let text = text.trim_start_matches('\u{feff}').trim();
    if text.is_empty() {
        return Err("it is empty: the program that wrote it was stopped in between, or its disk was full".into());
    }
    let value = serde_json::from_str(text).map_err(|why| format!("it is not JSON ({why})"))?;
    Ok(peel(value))
}

/// Takes off the layers of text around a value, never past the quotes: a `lid-mapping` is a string of digits, and as a number
/// it would lose some.
pub(super) fn peel(mut value: Value) -> Value {
    for _ in 0..MAX_LAYERS {
        let Value::String(text) = &value else { break };
        let text = text.trim();
        if text.len() > MAX_RECORD || !text.starts_with(['{', '[', '"']) {
            break;
        }
        match serde_json::from_str(text) {
            Ok(inner) => value = inner,
            Err(_) => break,
        }
    }
    value
}

/// A buffer in any of its spellings.
pub(super) fn bytes(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::String(text) => base64(text),
        Value::Array(items) => octets(items.iter()),
        Value::Object(map) => {
            if let Some(binary) = map.get("$binary") {
                return bytes(binary.get("base64").unwrap_or(binary));
            }
            let tagged = map.get("type").and_then(Value::as_str) == Some("Buffer")
                || map.get("buffer").and_then(Value::as_bool) == Some(true);
            if tagged {
                return bytes(map.get("data").or_else(|| map.get("value"))?);
            }
            octets(spread(map)?.into_iter())
        }
        _ => None,
    }
}

/// A buffer of exactly so many bytes.
pub(super) fn exactly<const N: usize>(value: &Value) -> Option<[u8; N]> {
    bytes(value)?.try_into().ok()
}

/// Base64 with or without its padding, in either alphabet.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    PLAIN.decode(text).or_else(|_| URL.decode(text)).ok()
}

/// As Node writes it.
pub(super) fn to_base64(bytes: &[u8]) -> String {
    PLAIN.encode(bytes)
}

/// The items of an array that was written as an object: `{"0":…,"1":…}`.
pub(super) fn spread(map: &Map<String, Value>) -> Option<Vec<&Value>> {
    (0..map.len()).map(|at| map.get(at.to_string().as_str())).collect()
}

fn octets<'a>(items: impl Iterator<Item = &'a Value>) -> Option<Vec<u8>> {
    items.map(|item| integer(item).and_then(|number| u8::try_from(number).ok())).collect()
}

/// A whole number: plain, as digits, as a `Long` of protobufjs, or as MongoDB's extended JSON has it.
pub(super) fn integer(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
        }),
        Value::String(text) => text.trim().parse().ok(),
        Value::Object(map) => {
            if let (Some(low), Some(high)) = (map.get("low"), map.get("high")) {
                let (low, high) = (low.as_i64()?, high.as_i64()?);
                return Some(high.checked_shl(32)? | (low & 0xffff_ffff));
            }
            ["$numberInt", "$numberLong", "$numberDouble"]
                .into_iter()
                .find_map(|tag| map.get(tag)?.as_str()?.trim().parse().ok())
        }
        _ => None,
    }
}

/// A whole number that is not negative and has 32 bits.
pub(super) fn word(value: &Value) -> Option<u32> {
    integer(value).and_then(|number| u32::try_from(number).ok())
}

/// Words that are not only blanks.
pub(super) fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A buffer as Baileys writes it.
pub(super) fn buffer(bytes: &[u8]) -> Value {
    serde_json::json!({ "type": "Buffer", "data": to_base64(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_spelling_of_a_buffer() {
        for value in [
            json!({ "type": "Buffer", "data": "AQL/" }),
            json!({ "type": "Buffer", "data": [1, 2, 255] }),
            json!({ "type": "Buffer", "data": { "0": 1, "1": 2, "2": 255 } }),
            json!("AQL/"),
            json!("AQL_"),
            json!({ "0": 1, "1": 2, "2": 255 }),
            json!([1, 2, 255]),
            json!({ "buffer": true, "data": "AQL/" }),
            json!({ "buffer": true, "value": [1, 2, 255] }),
            json!({ "$binary": { "base64": "AQL/", "subType": "00" } }),
            json!({ "$binary": "AQL/", "$type": "00" }),
        ] {
            assert_eq!(bytes(&value), Some(vec![1, 2, 255]), "{value}");
        }
        for value in [
            json!({ "0": 1, "2": 255 }),
            json!([1, 256]),
            json!([1, -1]),
            json!("*"),
            json!(7),
            json!(null),
            json!({ "type": "Buffer" }),
        ] {
            assert_eq!(bytes(&value), None, "{value}");
        }
    }

    #[test]
    fn every_spelling_of_a_number() {
        for value in [
            json!(1_760_000_000),
            json!("1760000000"),
            json!(1_760_000_000.0),
            json!({ "low": 1_760_000_000, "high": 0, "unsigned": true }),
            json!({ "$numberLong": "1760000000" }),
        ] {
            assert_eq!(integer(&value), Some(1_760_000_000), "{value}");
        }
        assert_eq!(integer(&json!({ "low": -1, "high": 0 })), Some(0xffff_ffff));
        assert_eq!(integer(&json!(1.5)), None);
    }

    #[test]
    fn layers_come_off_and_digits_stay_a_string() {
        let twice = serde_json::to_string(&serde_json::to_string(&json!({ "a": 1 })).unwrap()).unwrap();
        assert_eq!(json(twice.as_bytes()).unwrap(), json!({ "a": 1 }));
        assert_eq!(json(br#""\"123456789012345678\"""#).unwrap(), json!("123456789012345678"));
        assert_eq!(json(br#""123456789012345678""#).unwrap(), json!("123456789012345678"));
    }

    #[test]
    fn what_is_not_json_says_so() {
        assert!(json(b"").unwrap_err().contains("empty"));
        assert!(json(&[0xff, 0xfe]).unwrap_err().contains("UTF-8"));
        assert!(json("[".repeat(100_000).as_bytes()).unwrap_err().contains("JSON"));
    }
}
