//! The app state (archived and muted chats, contacts): its keys and the versions of its collections, both ways.
//!
//! A key is protobuf's JSON: `keyData` is a base64 string, `timestamp` a string. Evolution 2.3.1 to 2.3.6 read them with
//! `create()` instead of `fromObject()` and then worked with the text of the key for the key: what it stored is right, what
//! it computed with it is not, and it cannot be seen from outside. So of an Evolution the keys come along and the versions
//! do not; they are fetched anew, as after a pairing. Of others a version comes along when the hash over its entries is
//! the one that is stored with it.

use super::encoding::{self, integer, word};
use serde_json::{Map, Value, json};
use wacore::appstate::hash::HashState;
use wacore::appstate::lthash::WAPATCH_INTEGRITY;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::traits::AppStateSyncKey;
use waproto::whatsapp::message::AppStateSyncKeyFingerprint;

/// The collections that WhatsApp has.
pub(super) const COLLECTIONS: [&str; 5] =
    ["critical_block", "critical_unblock_low", "regular_high", "regular_low", "regular"];

/// A collection: its state, and what its entries are recognized by.
pub(super) struct Version {
    pub state: HashState,
    pub macs: Vec<AppStateMutationMAC>,
}

/// Converts a key: its id and it.
pub(super) fn key(id: &str, value: &Value) -> Result<(Vec<u8>, AppStateSyncKey), String> {
    let id = encoding::base64(id).filter(|id| !id.is_empty()).ok_or("its id is not base64")?;
    let key_data = value.get("keyData").and_then(encoding::bytes).ok_or("its key is missing or cannot be read")?;
    if key_data.len() != 32 {
        return Err(format!("its key has {} bytes instead of 32", key_data.len()));
    }
    let print = value.get("fingerprint");
    let number = |name: &str| print.and_then(|print| print.get(name)).and_then(word);
    let indexes = print.and_then(|print| print.get("deviceIndexes"));
    let indexes = match indexes {
        Some(Value::Array(items)) => items.iter().filter_map(word).take(1000).collect(),
        Some(Value::Object(map)) => encoding::spread(map).into_iter().flatten().filter_map(word).take(1000).collect(),
        _ => Vec::new(),
    };
    let fingerprint = AppStateSyncKeyFingerprint {
        raw_id: number("rawId"),
        current_index: number("currentIndex"),
        device_indexes: indexes,
    };
    let fingerprint = waproto::codec::app_state_sync_key_fingerprint_to_vec(&fingerprint);
    let timestamp = value.get("timestamp").and_then(integer).unwrap_or(0);
    Ok((id, AppStateSyncKey { key_data, fingerprint, timestamp }))
}

/// Converts the version of a collection.
pub(super) fn version(name: &str, value: &Value) -> Result<Version, String> {
    if !COLLECTIONS.contains(&name) {
        return Err("it is of a collection that is not known".into());
    }
    let version = value.get("version").and_then(integer).and_then(|version| u64::try_from(version).ok());
    let version = version.ok_or("its version is not a number")?;
    let hash: [u8; 128] =
        value.get("hash").and_then(encoding::exactly).ok_or("its hash is missing or does not have 128 bytes")?;
    let mut macs = Vec::new();
    for (index, entry) in value.get("indexValueMap").and_then(Value::as_object).into_iter().flatten() {
        let index_mac = encoding::base64(index).filter(|mac| mac.len() == 32);
        let value_mac = entry.get("valueMac").and_then(encoding::bytes).filter(|mac| mac.len() == 32);
        let (Some(index_mac), Some(value_mac)) = (index_mac, value_mac) else {
            return Err("an entry of it cannot be read, so it is fetched anew".into());
        };
        macs.push(AppStateMutationMAC { index_mac, value_mac });
    }
    let none: &[Vec<u8>] = &[];
    let values: Vec<&[u8]> = macs.iter().map(|mac| mac.value_mac.as_slice()).collect();
    if WAPATCH_INTEGRITY.subtract_then_add(&[0; 128], none, &values) != hash {
        return Err("its hash is not that of its entries, so it is fetched anew".into());
    }
    Ok(Version { state: HashState { version, hash, ..HashState::default() }, macs })
}

/// A key as Baileys keeps it.
pub(super) fn export_key(key: &AppStateSyncKey) -> Value {
    let print = waproto::codec::app_state_sync_key_fingerprint_decode(&key.fingerprint).unwrap_or_default();
    json!({
        "keyData": encoding::to_base64(&key.key_data),
        "fingerprint": {
            "rawId": print.raw_id.unwrap_or(0),
            "currentIndex": print.current_index.unwrap_or(0),
            "deviceIndexes": print.device_indexes,
        },
        "timestamp": key.timestamp.to_string(),
    })
}

/// The version of a collection as Baileys keeps it.
pub(super) fn export_version(state: &HashState, macs: &[AppStateMutationMAC]) -> Value {
    let entries: Map<String, Value> = macs
        .iter()
        .map(|mac| (encoding::to_base64(&mac.index_mac), json!({ "valueMac": encoding::buffer(&mac.value_mac) })))
        .collect();
    json!({ "version": state.version, "hash": encoding::buffer(&state.hash), "indexValueMap": entries })
}

/// `{token, timestamp?, senderTimestamp?}`: what lets us write to somebody whose privacy settings ask for it.
pub(super) fn trusted(value: &Value) -> Result<wacore::store::traits::TcTokenEntry, String> {
    let token = value.get("token").and_then(encoding::bytes).unwrap_or_default();
    let at = |name: &str| value.get(name).and_then(integer).filter(|at| *at > 0).map(seconds);
    let sender_timestamp = at("senderTimestamp");
    if token.len() > 4096 || (token.is_empty() && sender_timestamp.is_none()) {
        return Err("it holds no token".into());
    }
    let token_timestamp = at("timestamp").or(sender_timestamp).unwrap_or(0);
    Ok(wacore::store::traits::TcTokenEntry { token, token_timestamp, sender_timestamp })
}

/// Milliseconds were seen where seconds belong.
fn seconds(at: i64) -> i64 {
    if at > 100_000_000_000 { at / 1000 } else { at }
}

/// A token as Baileys keeps it.
pub(super) fn export_trusted(entry: &wacore::store::traits::TcTokenEntry) -> Value {
    let mut value = json!({ "token": encoding::buffer(&entry.token), "timestamp": entry.token_timestamp.to_string() });
    if let (Some(map), Some(at)) = (value.as_object_mut(), entry.sender_timestamp) {
        map.insert("senderTimestamp".into(), at.into());
    }
    value
}

/// The user of a token's address.
pub(super) fn trusted_user(jid: &str) -> Option<(&str, bool)> {
    let (user, server) = jid.split_once('@').unwrap_or((jid, "lid"));
    let user = user.split([':', '_']).next().unwrap_or(user);
    let known = matches!(server, "lid" | "s.whatsapp.net" | "c.us");
    (known && super::address::digits(user)).then_some((user, server == "lid"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_back() {
        let value = json!({
            "keyData": encoding::to_base64(&[7; 32]),
            "fingerprint": { "rawId": 1, "currentIndex": 2, "deviceIndexes": [0, 1] },
            "timestamp": "1760000000000",
        });
        let (id, found) = key("AAAAAPv/", &value).unwrap();
        assert_eq!(id, [0, 0, 0, 0, 0xfb, 0xff]);
        assert_eq!(found.timestamp, 1_760_000_000_000);
        assert_eq!(export_key(&found), value);
        assert!(key("AAAAAPv/", &json!({ "keyData": "AAAA" })).unwrap_err().contains("3 bytes"));
        assert!(key("*", &value).is_err());
    }

    #[test]
    fn a_version_must_have_the_hash_of_its_entries() {
        let none: &[Vec<u8>] = &[];
        let hash = WAPATCH_INTEGRITY.subtract_then_add(&[0; 128], none, &[vec![9; 32]]);
        let entries = json!({ encoding::to_base64(&[8; 32]): { "valueMac": encoding::buffer(&[9; 32]) } });
        let good = json!({ "version": 3, "hash": encoding::buffer(&hash), "indexValueMap": entries });
        let found = version("regular", &good).unwrap();
        assert_eq!(export_version(&found.state, &found.macs), good);
        let mut bad = good.clone();
        bad["hash"] = encoding::buffer(&[1; 128]);
        assert!(version("regular", &bad).is_err());
        assert!(version("other", &good).is_err());
    }

    #[test]
    fn a_token_in_all_its_spellings() {
        let entry =
            trusted(&json!({ "token": { "type": "Buffer", "data": "AQID" }, "timestamp": "1760000000" })).unwrap();
        assert_eq!((entry.token.as_slice(), entry.token_timestamp), (&[1, 2, 3][..], 1_760_000_000));
        assert!(trusted(&json!({ "senderTimestamp": 1_760_000_000_000i64 })).unwrap().token.is_empty());
        assert!(trusted(&json!({})).is_err());
        assert_eq!(trusted_user("100000000000002@lid"), Some(("100000000000002", true)));
        assert_eq!(trusted_user("__index"), None);
    }
}
