//! The Signal protocol's records of a source: pre-keys, sessions with the identities in them, sender keys.
//!
//! Here they get their keys in the store and their place in the report; what is in them is converted next door.

use super::address::{Peers, stored};
use super::creds::MAX_KEY_ID;
use super::names::{self, Kind};
use super::report::{self, Tally};
use super::snapshot::Snapshot;
use super::{keys, sender_key, session};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use wacore::libsignal::protocol::{IdentityKey, LegacySessionLocalContext};
use wacore::libsignal::store::record_helpers::new_pre_key_record;
use wacore::store::Device;
use wacore_binary::Jid;

/// Ids and records.
pub(super) type PreKeys = Vec<(u32, Bytes)>;

pub(super) fn pre_keys(snapshot: &Snapshot, device: &mut Device, tally: &mut Tally) -> (PreKeys, PreKeys) {
    let (mut uploaded, mut fresh, mut there) = (Vec::new(), Vec::new(), BTreeSet::new());
    let first = device.first_unupload_pre_key_id;
    for (id, record) in snapshot.each(Kind::PreKey) {
        tally.found("preKeys", 1);
        let Some(id) = id.parse::<u32>().ok().filter(|id| (1..=MAX_KEY_ID).contains(id)) else {
            tally.skip(&record.name, "its name has no id of 24 bits");
            continue;
        };
        match keys::pair_of(Some(&record.value)) {
            Ok(pair) => {
                let key = waproto::codec::pre_key_record_to_vec(&new_pre_key_record(id, &pair)).into();
                if there.insert(id) {
                    if id < first { uploaded.push((id, key)) } else { fresh.push((id, key)) }
                }
            }
            Err(why) => tally.skip(&record.name, why),
        }
    }
    tally.imported("preKeys", there.len());
    if let Some((count, ranges)) = report::gaps(&there, first).filter(|_| !there.is_empty()) {
        // Nearly every account has used some up: that is no reason to stop.
        tally.warn(format!(
            "preKeys: {count} of {} that the server was given are not there ({ranges}), being used up or lost; a first message \
             to one that was lost is read when its sender tries again",
            first - 1
        ));
    }
    // A number that was given away must not be given away again.
    if let Some(last) = there.last().filter(|last| **last >= device.next_pre_key_id) {
        tally.warn(format!(
            "nextPreKeyId was {} though there are keys up to {last}; it was set right",
            device.next_pre_key_id
        ));
        device.next_pre_key_id = (last + 1).min(MAX_KEY_ID);
    }
    (uploaded, fresh)
}

/// Keys in the store and records.
pub(super) type Sessions = Vec<(Arc<str>, Bytes)>;
pub(super) type Identities = Vec<(Arc<str>, [u8; 32])>;

pub(super) fn sessions(
    snapshot: &Snapshot,
    device: &Device,
    peers: &Peers,
    phone: Option<[u8; 32]>,
    tally: &mut Tally,
) -> (Sessions, Identities) {
    let local = LegacySessionLocalContext {
        identity_key: IdentityKey::new(device.identity_key.public_key),
        registration_id: device.registration_id,
    };
    let mut sessions: BTreeMap<String, (bool, Bytes)> = BTreeMap::new();
    let mut identities: BTreeMap<String, [u8; 32]> = BTreeMap::new();
    for jid in [&device.pn, &device.lid].into_iter().flatten() {
        if let Some(key) = phone {
            let phone = Jid { device: 0, ..jid.clone() };
            identities.insert(stored(&phone), key);
        }
    }
    let mut learned: BTreeSet<String> = BTreeSet::new();
    for (id, record) in snapshot.each(Kind::Session) {
        tally.found("sessions", 1);
        let (address, found) =
            match peers.parse(id).and_then(|address| Ok((address, session::convert(&record.value, local)?))) {
                Ok(both) => both,
                Err(why) => {
                    tally.skip(&record.name, why);
                    continue;
                }
            };
        let (key, marked) = (stored(&address.jid), id.contains('_'));
        if sessions.get(&key).is_some_and(|(better, _)| *better || !marked) {
            tally.skip(&record.name, "there is a newer record for the same address");
            continue;
        }
        tally.note(
            "addresses that may be numbers or LIDs, of which that was guessed by their length: {}",
            usize::from(address.guessed),
        );
        tally.note("states of sessions that could not be mended and were left out: {}", found.lost.len());
        tally
            .note("old receiving chains that were left out, as only five are kept of a session: {}", found.chains_lost);
        identities.insert(key.clone(), found.identity);
        learned.insert(key.clone());
        sessions.insert(key, (marked, found.record.into()));
    }
    for (id, record) in snapshot.each(Kind::IdentityKey) {
        let key = super::encoding::bytes(&record.value).and_then(|bytes| keys::public(&bytes));
        match (peers.parse(id), key) {
            (Ok(address), Some(key)) => {
                let address = stored(&address.jid);
                identities.insert(address.clone(), keys::raw(&key));
                learned.insert(address);
            }
            (address, _) => {
                tally.found("identities", 1);
                tally.skip(&record.name, address.err().unwrap_or_else(|| "it is not a public key".into()));
            }
        }
    }
    tally.found("identities", learned.len());
    tally.imported("identities", learned.len());
    tally.imported("sessions", sessions.len());
    let sessions = sessions.into_iter().map(|(key, (_, record))| (Arc::from(key), record)).collect();
    (sessions, identities.into_iter().map(|(key, identity)| (Arc::from(key), identity)).collect())
}

pub(super) fn sender_keys(snapshot: &Snapshot, peers: &Peers, tally: &mut Tally) -> Vec<(Arc<str>, Bytes)> {
    let mut taken: BTreeMap<String, Bytes> = BTreeMap::new();
    for (id, record) in snapshot.each(Kind::SenderKey) {
        tally.found("senderKeys", 1);
        match sender_key(id, &record.value, peers) {
            Ok((key, found)) => {
                tally.note("states of sender keys that were left out, being no good or more than five: {}", found.lost);
                taken.insert(key, found.record.into());
            }
            Err(why) => tally.skip(&record.name, why),
        }
    }
    tally.imported("senderKeys", taken.len());
    taken.into_iter().map(|(key, record)| (Arc::from(key), record)).collect()
}

fn sender_key(id: &str, value: &serde_json::Value, peers: &Peers) -> Result<(String, sender_key::SenderKey), String> {
    let (group, user, device) = names::sender_key(id).ok_or("its name is not a group, a user and a device")?;
    let group: Jid = group.parse().map_err(|_| "its group cannot be read")?;
    let address = peers.address(user, device)?;
    Ok((format!("{group}:{}", stored(&address.jid)), sender_key::convert(value)?))
}
