//! Sessions the other way: wacore's record to libsignal-node's `version: "v1"`.
//!
//! Skipped message keys go out as the seeds that libsignal-node keeps; wacore keeps them since 0.7, and a key that an older
//! one stored without its seed has no way back: it is left out, and said. Counters that were set aside for sending are
//! passed over, so that none is used twice. wacore keeps no times: closed states are numbered in their order.

use super::encoding::to_base64;
use serde_json::{Map, Value, json};
use wacore::libsignal::protocol::{
    LegacySessionBaseKeyRoleV1 as BaseKeyRole, LegacySessionChainRoleV1 as ChainRole, LegacySessionRecordV1,
    LegacySessionV1, SessionComponents, SessionMessageKeyMaterial, SessionRecord, SessionRecordComponents,
    SignalProtocolError,
};

/// A session as libsignal-node keeps it.
pub(super) struct Exported {
    pub value: Value,
    /// The other side's identity key, 33 bytes.
    pub identity: Option<Vec<u8>>,
    /// Skipped message keys without a seed.
    pub keys_lost: usize,
    /// Closed states that libsignal-node has no words for.
    pub states_lost: usize,
}

/// Converts a record. The error is a sentence for the report.
pub(super) fn convert(record: &[u8]) -> Result<Exported, String> {
    let components = SessionRecord::deserialize(record)
        .and_then(SessionRecord::into_components)
        .map_err(|why| format!("it cannot be read ({why})"))?;
    let mut keys_lost = 0;
    let (current, previous) = (components.current_session, components.previous_sessions);
    let current = current.map(|session| seeds_only(session, &mut keys_lost));
    let previous: Vec<_> = previous.into_iter().map(|session| seeds_only(session, &mut keys_lost)).collect();
    let count = previous.len();
    // A state that cannot be said is found by asking for it alone.
    let previous: Vec<_> = previous.into_iter().filter(|session| legacy(None, vec![session.clone()]).is_ok()).collect();
    let states_lost = count - previous.len();
    let legacy = legacy(current, previous).map_err(|why| format!("libsignal-node has no words for it ({why})"))?;
    let sessions = legacy.into_indexed_sessions();
    let identity = sessions.iter().map(|entry| &entry.session).max_by_key(|session| session.index.used_at_ms);
    let identity = identity.map(|session| session.index.remote_identity_key.to_vec());
    let entries: Map<String, Value> =
        sessions.iter().map(|entry| (to_base64(&entry.index_key), state(&entry.session))).collect();
    Ok(Exported { value: json!({ "_sessions": entries, "version": "v1" }), identity, keys_lost, states_lost })
}

fn legacy(
    current: Option<SessionComponents>,
    previous: Vec<SessionComponents>,
) -> Result<LegacySessionRecordV1, Box<dyn std::error::Error>> {
    let components = SessionRecordComponents { current_session: current, previous_sessions: previous };
    let record = SessionRecord::from_components(components).map_err(Box::<SignalProtocolError>::from)?;
    Ok(record.into_legacy_session_v1_operational()?)
}

fn seeds_only(mut session: SessionComponents, lost: &mut usize) -> SessionComponents {
    for chain in session.receiver_chains.iter_mut().chain(&mut session.sender_chain) {
        let before = chain.message_keys.len();
        chain.message_keys.retain(|key| matches!(key.material, SessionMessageKeyMaterial::Seed(_)));
        *lost += before - chain.message_keys.len();
    }
    // Only a wish for a new session, which libsignal-node cannot note down.
    session.needs_refresh = None;
    session
}

fn state(session: &LegacySessionV1) -> Value {
    let mut chains = Map::new();
    for chain in &session.chains {
        let mut key = json!({ "counter": chain.chain_key.counter.value() });
        if let (Some(map), Some(secret)) = (key.as_object_mut(), &chain.chain_key.key) {
            map.insert("key".into(), to_base64(secret).into());
        }
        let skipped: Map<String, Value> =
            chain.message_keys.iter().map(|key| (key.index.to_string(), to_base64(&key.seed).into())).collect();
        let role = if chain.role == ChainRole::Sending { 1 } else { 2 };
        chains.insert(
            to_base64(&chain.ratchet_key),
            json!({ "chainKey": key, "chainType": role, "messageKeys": skipped }),
        );
    }
    let (ratchet, index) = (&session.ratchet, &session.index);
    let mut state = json!({
        "registrationId": session.registration_id,
        "currentRatchet": {
            "ephemeralKeyPair": {
                "pubKey": to_base64(&ratchet.key_pair.public),
                "privKey": to_base64(&ratchet.key_pair.private),
            },
            "lastRemoteEphemeralKey": to_base64(&ratchet.last_remote_ephemeral_key),
            "previousCounter": ratchet.previous_counter,
            "rootKey": to_base64(&ratchet.root_key),
        },
        "indexInfo": {
            "baseKey": to_base64(&index.base_key),
            "baseKeyType": if index.base_key_role == BaseKeyRole::Local { 1 } else { 2 },
            "closed": index.disposition.closed_timestamp(),
            "used": index.used_at_ms,
            "created": index.created_at_ms,
            "remoteIdentityKey": to_base64(&index.remote_identity_key),
        },
        "_chains": chains,
    });
    if let (Some(map), Some(pending)) = (state.as_object_mut(), &session.pending_pre_key) {
        let mut value = json!({ "signedKeyId": pending.signed_pre_key_id, "baseKey": to_base64(&pending.base_key) });
        if let (Some(map), Some(id)) = (value.as_object_mut(), pending.pre_key_id) {
            map.insert("preKeyId".into(), id.into());
        }
        map.insert("pendingPreKey".into(), value);
    }
    state
}
