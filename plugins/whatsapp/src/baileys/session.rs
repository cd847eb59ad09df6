//! Sessions: libsignal-node's record (`version: "v1"`) to the one that wacore keeps.
//!
//! wacore's importer is strict, real trees are not. What is mended here before it sees them: several open states (the one
//! used last stays open), a pending pre-key of a session that the other side began, a missing registration id, chains that
//! are there twice, skipped keys beyond the counter. A state without a sending chain, or with a ratchet key that is not its
//! own, cannot be mended: libsignal-node itself could not send with it. It is left out; a record without any other state is
//! skipped, and the other side makes a new session when it is asked to send again.
//!
//! Skipped message keys, pending pre-keys and closed states (40 of them) come along. Of more than five receiving chains only
//! the newest five do: wacore keeps no more.

use super::encoding::{self, integer, word};
use super::keys;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::cmp::Reverse;
use wacore::libsignal::protocol::{
    LegacyIndexedSessionV1, LegacySessionBaseKeyRoleV1 as BaseKeyRole, LegacySessionChainCounterV1 as Counter,
    LegacySessionChainKeyV1, LegacySessionChainRoleV1 as ChainRole, LegacySessionChainV1,
    LegacySessionDispositionV1 as Disposition, LegacySessionIndexV1, LegacySessionKeyPairV1, LegacySessionLocalContext,
    LegacySessionMessageKeyV1, LegacySessionPendingPreKeyV1, LegacySessionRatchetV1, LegacySessionRecordV1,
    LegacySessionV1, consts,
};

/// More states than libsignal-node ever leaves.
const MAX_STATES: usize = 400;

/// A session that can be stored.
pub(super) struct Session {
    pub record: Vec<u8>,
    /// The other side's identity key.
    pub identity: [u8; 32],
    /// States that were left out, and why.
    pub lost: Vec<String>,
    /// Receiving chains that were left out, being more than five.
    pub chains_lost: usize,
}

/// Converts a record. The error is a sentence for the report.
pub(super) fn convert(value: &Value, local: LegacySessionLocalContext) -> Result<Session, String> {
    let sessions = value.get("_sessions").and_then(Value::as_object).ok_or("it is not a session record")?;
    if sessions.is_empty() {
        return Err("it holds no state".into());
    }
    // Before `v1` the registration id was in the record and not in its states.
    let registration = value.get("registrationId").and_then(word).unwrap_or(0);
    let (mut states, mut lost, mut chains_lost) = (Vec::new(), Vec::new(), 0);
    for (at, (key, entry)) in sessions.iter().enumerate().take(MAX_STATES) {
        match state(key, entry, registration, &mut chains_lost) {
            Ok(state) => states.push(state),
            Err(why) => lost.push(format!("state {}: {why}", at + 1)),
        }
    }
    keep_one_open(&mut states);
    states.sort_by(|a, b| a.index.base_key.cmp(&b.index.base_key));
    states.dedup_by(|a, b| a.index.base_key == b.index.base_key);
    let Some(identity) = newest(&states).and_then(|state| keys::public(&state.index.remote_identity_key)) else {
        return Err(lost.into_iter().next().unwrap_or_else(|| "it holds no state".into()));
    };
    let indexed =
        states.into_iter().map(|session| LegacyIndexedSessionV1 { index_key: session.index.base_key.clone(), session });
    let record = LegacySessionRecordV1::from_indexed_sessions(indexed.collect())
        .and_then(|record| record.into_session_record(local))
        .map_err(|why| why.to_string())?
        .serialize()
        .map_err(|why| why.to_string())?;
    Ok(Session { record, identity: keys::raw(&identity), lost, chains_lost })
}

/// The open state, or the one that was used last.
fn newest(states: &[LegacySessionV1]) -> Option<&LegacySessionV1> {
    states.iter().max_by_key(|state| (state.index.disposition == Disposition::Current, state.index.used_at_ms))
}

/// Closes all open states but the one that was used last.
fn keep_one_open(states: &mut [LegacySessionV1]) {
    states.sort_by_key(|state| Reverse((state.index.disposition == Disposition::Current, state.index.used_at_ms)));
    for state in states.iter_mut().skip(1).filter(|state| state.index.disposition == Disposition::Current) {
        let closed_at_ms = i64::try_from(state.index.used_at_ms).unwrap_or(0);
        state.index.disposition = Disposition::Archived { closed_at_ms };
    }
}

fn state(key: &str, entry: &Value, registration: u32, chains_lost: &mut usize) -> Result<LegacySessionV1, String> {
    let index = entry.get("indexInfo").ok_or("it has no indexInfo")?;
    let ratchet = entry.get("currentRatchet").ok_or("it has no currentRatchet")?;
    let base_key = encoding::base64(key)
        .and_then(|bytes| keys::public(&bytes))
        .map(|key| key.serialize())
        .or_else(|| index.get("baseKey").and_then(keys::serialized))
        .map(|key| Bytes::copy_from_slice(&key))
        .ok_or("its base key cannot be read")?;
    let pair = ratchet.get("ephemeralKeyPair");
    let pair = keys::pair(pair.and_then(|pair| pair.get("pubKey")), pair.and_then(|pair| pair.get("privKey")))
        .map_err(|why| format!("of its ratchet, {why}"))?;
    let ratchet_key = Bytes::copy_from_slice(&pair.public_key.serialize());
    let root_key: [u8; 32] =
        ratchet.get("rootKey").and_then(encoding::exactly).ok_or("its root key does not have 32 bytes")?;
    let remote_identity = index
        .get("remoteIdentityKey")
        .and_then(keys::serialized)
        .ok_or("the other side's identity key cannot be read")?;

    let (sending, mut receiving) = chains(entry.get("_chains").and_then(Value::as_object), &ratchet_key);
    let sending = sending.ok_or("it has no sending chain")?;
    let last = ratchet.get("lastRemoteEphemeralKey").and_then(keys::serialized).map(|key| Bytes::copy_from_slice(&key));
    // The chain that a message may come on next goes last; wacore keeps the last five.
    match last.as_ref().and_then(|last| receiving.iter().position(|chain| chain.ratchet_key == *last)) {
        Some(at) => {
            let newest = receiving.remove(at);
            receiving.push(newest);
        }
        None => receiving.sort_by_key(|chain| chain.chain_key.key.is_some()),
    }
    let excess = receiving.len().saturating_sub(consts::MAX_RECEIVER_CHAINS);
    *chains_lost += excess;
    receiving.drain(..excess);
    let last_remote = receiving.last().map(|chain| chain.ratchet_key.clone());
    let last_remote = last_remote.or(last).unwrap_or_else(|| base_key.clone());

    let ours = index.get("baseKeyType").and_then(word) != Some(2);
    let pending = if ours { pending(entry.get("pendingPreKey"), &base_key) } else { None };
    let role = if ours { BaseKeyRole::Local } else { BaseKeyRole::Remote };
    let millis = |name: &str| index.get(name).and_then(integer).and_then(|at| u64::try_from(at).ok()).unwrap_or(0);
    receiving.push(sending);
    Ok(LegacySessionV1 {
        registration_id: entry.get("registrationId").and_then(word).unwrap_or(registration),
        ratchet: LegacySessionRatchetV1 {
            key_pair: LegacySessionKeyPairV1 {
                public: ratchet_key,
                private: Bytes::copy_from_slice(&pair.private_key.serialize()[..]),
            },
            last_remote_ephemeral_key: last_remote,
            previous_counter: i64::from(ratchet.get("previousCounter").and_then(word).unwrap_or(0)),
            root_key: Bytes::copy_from_slice(&root_key),
        },
        index: LegacySessionIndexV1 {
            base_key,
            base_key_role: role,
            // libsignal-node takes everything but -1 for closed.
            disposition: match index.get("closed").and_then(integer) {
                Some(-1) => Disposition::Current,
                closed => Disposition::Archived { closed_at_ms: closed.unwrap_or(0).max(0) },
            },
            used_at_ms: millis("used"),
            created_at_ms: millis("created"),
            remote_identity_key: Bytes::copy_from_slice(&remote_identity),
        },
        chains: receiving,
        pending_pre_key: pending,
    })
}

/// The sending chain of the ratchet, and the receiving ones from old to new.
fn chains(
    found: Option<&Map<String, Value>>,
    ratchet: &Bytes,
) -> (Option<LegacySessionChainV1>, Vec<LegacySessionChainV1>) {
    let (mut sending, mut receiving): (Option<LegacySessionChainV1>, Vec<LegacySessionChainV1>) = (None, Vec::new());
    for (key, value) in found.into_iter().flatten() {
        let Some(mut chain) = chain(key, value, ratchet) else { continue };
        if chain.ratchet_key == *ratchet {
            if chain.chain_key.key.is_some() && sending.as_ref().is_none_or(|known| further(&chain, known)) {
                chain.role = ChainRole::Sending;
                chain.message_keys.clear();
                sending = Some(chain);
            }
        } else if chain.role == ChainRole::Receiving {
            receiving.push(chain);
        }
    }
    // The same key in two spellings: the chain that is further stays, in the place of the first.
    let mut at = 0;
    while at < receiving.len() && receiving.len() <= 4 * MAX_STATES {
        let twin = (at + 1..receiving.len()).find(|other| receiving[*other].ratchet_key == receiving[at].ratchet_key);
        match twin {
            Some(other) => {
                let twin = receiving.remove(other);
                if further(&twin, &receiving[at]) {
                    receiving[at] = twin;
                }
            }
            None => at += 1,
        }
    }
    (sending, receiving)
}

fn further(chain: &LegacySessionChainV1, other: &LegacySessionChainV1) -> bool {
    chain.chain_key.counter > other.chain_key.counter
}

fn chain(key: &str, value: &Value, ratchet: &Bytes) -> Option<LegacySessionChainV1> {
    let ratchet_key = Bytes::copy_from_slice(&keys::public(&encoding::base64(key)?)?.serialize());
    let role = match value.get("chainType").and_then(word) {
        Some(1) => ChainRole::Sending,
        Some(2) => ChainRole::Receiving,
        _ if ratchet_key == *ratchet => ChainRole::Sending,
        _ => ChainRole::Receiving,
    };
    let state = value.get("chainKey")?;
    let counter = Counter::new(state.get("counter").and_then(integer)?).ok().filter(|counter| counter.value() >= -1)?;
    let chain_key = state.get("key").and_then(encoding::exactly::<32>);
    let mut message_keys: Vec<LegacySessionMessageKeyV1> = value
        .get("messageKeys")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(index, seed)| {
            let index: u32 = index.parse().ok().filter(|index| i64::from(*index) <= counter.value())?;
            let seed = Bytes::copy_from_slice(&encoding::exactly::<32>(seed)?);
            Some(LegacySessionMessageKeyV1 { index, seed })
        })
        .collect();
    message_keys.sort_by_key(|key| key.index);
    message_keys.dedup_by_key(|key| key.index);
    let excess = message_keys.len().saturating_sub(consts::MAX_MESSAGE_KEYS);
    message_keys.drain(..excess);
    let key = chain_key.map(|key| Bytes::copy_from_slice(&key));
    Some(LegacySessionChainV1 { ratchet_key, role, chain_key: LegacySessionChainKeyV1 { counter, key }, message_keys })
}

/// What goes with every message until the other side has answered. One with another base key belongs to another session.
fn pending(found: Option<&Value>, base_key: &Bytes) -> Option<LegacySessionPendingPreKeyV1> {
    let found = found.filter(|found| found.is_object())?;
    let own = found.get("baseKey").and_then(keys::serialized);
    if own.is_some_and(|own| own[..] != base_key[..]) {
        return None;
    }
    Some(LegacySessionPendingPreKeyV1 {
        pre_key_id: found.get("preKeyId").and_then(word),
        signed_pre_key_id: found.get("signedKeyId").and_then(word)?,
        base_key: base_key.clone(),
    })
}
