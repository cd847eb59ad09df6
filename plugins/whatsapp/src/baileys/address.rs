//! Signal addresses: `user[_domain].device` here, `user[:device]@server.0` there.
//!
//! Domains of Baileys 7: none is a phone number, 1 a LID, 128 and 129 the same of a hosted business. Baileys 6 had no domains:
//! a LID looks like a number there, and what an address means is decided by what else is known of it, at last by its length.

use super::encoding::text;
use super::names::{self, Kind};
use super::snapshot::Snapshot;
use std::collections::{BTreeMap, BTreeSet};
use wacore::types::jid::JidExt;
use wacore_binary::Jid;

/// What is known of phone numbers and LIDs.
#[derive(Debug, Default)]
pub(super) struct Peers {
    numbers: BTreeSet<String>,
    lids: BTreeSet<String>,
    /// LID → phone number; what the source said twice differently is in `contradictions`.
    pub pairs: BTreeMap<String, String>,
    pub contradictions: usize,
    pub unreadable: Vec<(String, String)>,
    /// Something was written by Baileys 7, which marks LIDs.
    marked: bool,
}

/// An address, and whether it had to be guessed what its user is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Address {
    pub jid: Jid,
    pub guessed: bool,
}

impl Peers {
    /// Learns from a source and from the account's own addresses.
    pub fn learn(snapshot: &Snapshot, pn: Option<&Jid>, lid: Option<&Jid>) -> Self {
        let mut peers = Self::default();
        let mut backward = Vec::new();
        for (id, record) in snapshot.each(Kind::LidMapping) {
            peers.marked = true;
            let value = match &record.value {
                serde_json::Value::Number(number) => number.to_string(),
                value => text(value).unwrap_or_default().to_string(),
            };
            // Some forks keep whole addresses.
            let value = value.split('@').next().unwrap_or_default();
            let (user, reverse) = id.strip_suffix("_reverse").map_or((id, false), |user| (user, true));
            if !digits(user) || !digits(value) {
                peers.unreadable.push((record.name.clone(), "it does not hold the digits of an address".into()));
            } else if reverse {
                backward.push((user.to_string(), value.to_string()));
            } else {
                peers.pair(value, user);
            }
        }
        for (lid, pn) in backward.iter().map(|(lid, pn)| (lid, pn)).chain(&snapshot.lids) {
            peers.pair(lid, pn);
        }
        if let (Some(lid), Some(pn)) = (lid, pn) {
            peers.pairs.insert(lid.user.to_string(), pn.user.to_string());
        }
        peers.lids.extend(lid.map(|jid| jid.user.to_string()));
        peers.numbers.extend(pn.map(|jid| jid.user.to_string()));
        peers.lids.extend(peers.pairs.keys().cloned());
        peers.numbers.extend(peers.pairs.values().cloned());
        peers.marked |= snapshot.each(Kind::DeviceList).next().is_some()
            || snapshot.each(Kind::TcToken).next().is_some()
            || snapshot.each(Kind::IdentityKey).next().is_some()
            || snapshot.each(Kind::Session).any(|(id, _)| id.contains('_'))
            || snapshot
                .each(Kind::SenderKey)
                .any(|(id, _)| names::sender_key(id).is_some_and(|(_, u, _)| u.contains('_')));
        peers
    }

    fn pair(&mut self, lid: &str, pn: &str) {
        match self.pairs.get(lid) {
            Some(known) if known != pn => self.contradictions += 1,
            Some(_) => {}
            None => {
                self.pairs.insert(lid.into(), pn.into());
            }
        }
    }

    /// What `user[_domain]` and a device mean.
    pub fn address(&self, user: &str, device: &str) -> Result<Address, String> {
        let (user, domain) = user.split_once('_').map_or((user, None), |(user, domain)| (user, Some(domain)));
        if !digits(user) {
            return Err("its address is not that of an account".into());
        }
        let device: u16 = device.parse().map_err(|_| "its address has no number of a device".to_string())?;
        let (server, guessed) = match domain {
            Some("0") => ("s.whatsapp.net", false),
            Some("1") => ("lid", false),
            Some("128") => ("hosted", false),
            Some("129") => ("hosted.lid", false),
            Some(_) => return Err("its address is of a kind that is not known".into()),
            None if self.numbers.contains(user) => ("s.whatsapp.net", false),
            None if self.lids.contains(user) => ("lid", false),
            None if self.marked => ("s.whatsapp.net", false),
            None if looks_like_lid(user) => ("lid", true),
            None => ("s.whatsapp.net", user.len() > 13),
        };
        let jid = format!("{user}:{device}@{server}").parse().map_err(|_| "its address cannot be read".to_string())?;
        Ok(Address { jid, guessed })
    }

    /// What `user[_domain].device` means.
    pub fn parse(&self, address: &str) -> Result<Address, String> {
        let (user, device) = address.rsplit_once('.').ok_or("its name has no address")?;
        self.address(user, device)
    }
}

/// LIDs have 14 digits or more. So have few numbers, most of them Indonesian ones.
fn looks_like_lid(user: &str) -> bool {
    user.len() >= 15 || (user.len() == 14 && !user.starts_with("62"))
}

/// The user of an account: nothing but digits, and not more of them than an address can have.
pub(super) fn digits(user: &str) -> bool {
    (1..=24).contains(&user.len()) && user.bytes().all(|b| b.is_ascii_digit())
}

/// The key of a session or an identity in the store.
pub(super) fn stored(jid: &Jid) -> String {
    jid.to_protocol_address_string()
}

/// `user[_domain]` and the device of a key in the store.
pub(super) fn exported(stored: &str) -> Option<(String, u16)> {
    let (name, server) = stored.strip_suffix(".0")?.rsplit_once('@')?;
    let domain = match server {
        "c.us" | "s.whatsapp.net" => "",
        "lid" => "_1",
        "hosted" => "_128",
        "hosted.lid" => "_129",
        _ => return None,
    };
    let (user, device) = name.split_once(':').unwrap_or((name, "0"));
    Some((format!("{user}{domain}"), device.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored_of(peers: &Peers, address: &str) -> String {
        stored(&peers.parse(address).unwrap().jid)
    }

    #[test]
    fn domains_become_servers_and_back() {
        let peers = Peers { marked: true, ..Peers::default() };
        for (address, key) in [
            ("5511999990002.0", "5511999990002@c.us.0"),
            ("100000000000002_1.3", "100000000000002:3@lid.0"),
            ("5511999990002_128.99", "5511999990002:99@hosted.0"),
            ("100000000000002_129.99", "100000000000002:99@hosted.lid.0"),
        ] {
            assert_eq!(stored_of(&peers, address), key);
            let (user, device) = exported(key).unwrap();
            assert_eq!(format!("{user}.{device}"), address);
        }
        for address in ["", ".", "5511", "5511.x", "5511.70000", "a.0", "5511_7.0", "5511_.0", "_1.0"] {
            assert!(peers.parse(address).is_err(), "{address}");
        }
    }

    #[test]
    fn what_baileys_6_did_not_mark() {
        let mut snapshot = Snapshot::new();
        snapshot.rows(
            "IsOnWhatsapp",
            &[serde_json::json!({ "remoteJid": "5511999990002@s.whatsapp.net", "jidOptions": "20000000000002@lid" })],
        );
        let (pn, lid) = ("5511999990001:1@s.whatsapp.net".parse().unwrap(), "10000000000001:1@lid".parse().unwrap());
        let peers = Peers::learn(&snapshot, Some(&pn), Some(&lid));
        assert_eq!(stored_of(&peers, "5511999990001.0"), "5511999990001@c.us.0");
        assert_eq!(stored_of(&peers, "10000000000001.0"), "10000000000001@lid.0");
        assert_eq!(stored_of(&peers, "20000000000002.5"), "20000000000002:5@lid.0");
        assert!(!peers.parse("20000000000002.5").unwrap().guessed);
        assert_eq!(stored_of(&peers, "230000000000003.0"), "230000000000003@lid.0");
        assert!(peers.parse("230000000000003.0").unwrap().guessed);
        assert_eq!(stored_of(&peers, "62812345678901.0"), "62812345678901@c.us.0");
        assert_eq!(stored_of(&peers, "491700000000.0"), "491700000000@c.us.0");
        assert!(!peers.parse("491700000000.0").unwrap().guessed);
    }
}
