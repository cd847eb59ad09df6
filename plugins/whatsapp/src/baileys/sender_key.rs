//! Sender keys of groups, both ways.
//!
//! Up to 6.7.18 the record is an array of states; later a buffer whose text is that array. Baileys keeps the newest state
//! last, wacore first; both keep five. One's own key has its private half, a member's has none (or an empty one).

use super::encoding::{self, word};
use super::keys;
use serde_json::{Map, Value, json};
use wacore::libsignal::protocol::{
    SenderChainKeyComponents, SenderKeyRecord, SenderKeyRecordComponents, SenderKeyStateComponents,
    SenderMessageKeyComponents, SenderSigningKeyComponents, consts,
};

/// A record that can be stored, and how many of its states were no good.
pub(super) struct SenderKey {
    pub record: Vec<u8>,
    pub lost: usize,
}

/// Converts a record. The error is a sentence for the report.
pub(super) fn convert(value: &Value) -> Result<SenderKey, String> {
    let inner;
    let states = match value {
        Value::Array(states) => states,
        value => {
            let text = encoding::bytes(value).ok_or("it is neither an array of states nor a buffer with one")?;
            inner = encoding::json(&text)?;
            inner.as_array().ok_or("its buffer does not hold an array of states")?
        }
    };
    if states.is_empty() {
        return Err("it holds no state".into());
    }
    let (mut good, mut lost, mut first_flaw) = (Vec::new(), 0, None);
    for found in states.iter().rev() {
        match state(found) {
            Ok(state) if good.len() < consts::MAX_SENDER_KEY_STATES => good.push(state),
            Ok(_) => lost += 1,
            Err(why) => {
                lost += 1;
                first_flaw.get_or_insert(why);
            }
        }
    }
    if good.is_empty() {
        return Err(first_flaw.unwrap_or_else(|| "it holds no state".into()));
    }
    let record = SenderKeyRecord::from_components(SenderKeyRecordComponents { states: good })
        .and_then(|record| record.serialize())
        .map_err(|why| why.to_string())?;
    Ok(SenderKey { record, lost })
}

fn state(found: &Value) -> Result<SenderKeyStateComponents, String> {
    let key_id = found.get("senderKeyId").and_then(word).ok_or("its id is missing or not a number of 32 bits")?;
    let chain = found.get("senderChainKey").ok_or("it has no chain key")?;
    let iteration = chain.get("iteration").and_then(word).ok_or("its chain has no counter")?;
    let seed: [u8; 32] = chain.get("seed").and_then(encoding::exactly).ok_or("its chain key does not have 32 bytes")?;
    let signing = found.get("senderSigningKey").ok_or("it has no signing key")?;
    let private = signing.get("private").and_then(encoding::bytes).filter(|private| !private.is_empty());
    let public = signing.get("public");
    let (public, private) = match private {
        Some(_) => {
            let pair =
                keys::pair(public, signing.get("private")).map_err(|why| format!("of its signing key, {why}"))?;
            (pair.public_key.serialize(), Some(pair.private_key.serialize().to_vec()))
        }
        None => (public.and_then(keys::serialized).ok_or("its signing key cannot be read")?, None),
    };
    let mut message_keys: Vec<_> = found
        .get("senderMessageKeys")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|key| {
            let seed = encoding::exactly::<32>(key.get("seed")?)?.to_vec();
            Some(SenderMessageKeyComponents { iteration: key.get("iteration").and_then(word)?, seed })
        })
        .collect();
    let excess = message_keys.len().saturating_sub(consts::MAX_MESSAGE_KEYS);
    message_keys.drain(..excess);
    Ok(SenderKeyStateComponents {
        key_id,
        chain_key: SenderChainKeyComponents { iteration, seed: seed.to_vec() },
        signing_key: SenderSigningKeyComponents { public: public.to_vec(), private },
        message_keys,
    })
}

/// A record as Baileys 7 keeps it: a buffer with the text of the array.
pub(super) fn export(record: &[u8]) -> Result<Value, String> {
    let components = SenderKeyRecord::deserialize(record)
        .and_then(SenderKeyRecord::into_components)
        .map_err(|why| format!("it cannot be read ({why})"))?;
    // Inside, buffers are arrays of numbers.
    let plain = |bytes: &[u8]| json!({ "type": "Buffer", "data": bytes });
    let states: Vec<Value> = components
        .states
        .iter()
        .rev()
        .map(|state| {
            let mut signing = Map::new();
            signing.insert("public".into(), plain(&state.signing_key.public));
            if let Some(private) = &state.signing_key.private {
                signing.insert("private".into(), plain(private));
            }
            let keys: Vec<Value> = state
                .message_keys
                .iter()
                .map(|key| json!({ "iteration": key.iteration, "seed": plain(&key.seed) }))
                .collect();
            json!({
                "senderKeyId": state.key_id,
                "senderChainKey": { "iteration": state.chain_key.iteration, "seed": plain(&state.chain_key.seed) },
                "senderSigningKey": signing,
                "senderMessageKeys": keys,
            })
        })
        .collect();
    Ok(encoding::buffer(Value::Array(states).to_string().as_bytes()))
}
