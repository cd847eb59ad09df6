//! Which account an address is, and which message an id was.
//!
//! Accounts are named by their phone numbers as soon as those are known (`address`). What was named by its LID
//! before is remembered, so that the host can be told that both are one. Messages are remembered in a table of fixed size: to
//! react to one, to quote it or to take it back, WhatsApp wants to know who wrote it.

use crate::address::{self, Party};
use crate::kv::{Kv, Write};
use omni_channel_sdk::error::HostError;
use omni_channel_sdk::event::{ChatUpdate, UserUpdate};
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use wacore_binary::Jid;
use whatsapp_rust::Client;

/// Accounts that were named by their LIDs.
const BY_LID: &str = "lo/";
/// Chats in which the other side has written.
const WROTE: &str = "w/";
/// Messages, by two bytes of the hash of their id: 65,536 of them at most, newer ones in the place of older ones.
const MESSAGES: &str = "m/";
/// Longest text that is kept to be quoted, in bytes.
const QUOTED: usize = 240;
/// How many chats are remembered without asking the store.
const MOST_KNOWN: usize = 50_000;

/// What is remembered of a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Known {
    /// Its id.
    pub i: String,
    /// Its chat, as WhatsApp addressed it.
    pub c: String,
    /// Who wrote it, as WhatsApp addressed them.
    pub s: String,
    /// Whether that was us.
    pub m: bool,
    /// When, milliseconds since 1970.
    pub a: i64,
    /// Its beginning, to be quoted.
    pub t: Option<String>,
}

impl Known {
    /// What to remember of a message.
    pub fn new(id: &str, (chat, sender): (&Jid, &Jid), is_from_me: bool, at: i64, text: Option<&str>) -> Self {
        let text = text.map(|text| {
            let mut end = text.len().min(QUOTED);
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            text[..end].to_owned()
        });
        Self { i: id.to_owned(), c: chat.to_string(), s: sender.to_non_ad_string(), m: is_from_me, a: at, t: text }
    }

    fn key(id: &str) -> String {
        format!("{MESSAGES}{}", hex::encode(&Sha256::digest(id.as_bytes())[..2]))
    }

    /// The entry that remembers it.
    pub fn write(&self) -> Write {
        (Self::key(&self.i), serde_json::to_vec(self).ok())
    }
}

/// Addresses and messages of one account.
pub struct Names {
    kv: Arc<dyn Kv>,
    client: Mutex<Weak<Client>>,
    by_lid: Mutex<HashSet<String>>,
    wrote: Mutex<HashSet<String>>,
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Names").finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Names {
    /// What is remembered.
    pub async fn load(kv: Arc<dyn Kv>) -> Result<Self, HostError> {
        let by_lid = kv.all(BY_LID).await?.into_iter().map(|(key, _)| key[BY_LID.len()..].to_owned()).collect();
        Ok(Self { kv, client: Mutex::default(), by_lid: Mutex::new(by_lid), wrote: Mutex::default() })
    }

    /// Who knows which phone number a LID is, from now on: each connection has a client of its own.
    pub fn ask(&self, client: &Arc<Client>) {
        *lock(&self.client) = Arc::downgrade(client);
    }

    /// The client of the connection that there is.
    pub fn client(&self) -> Option<Arc<Client>> {
        lock(&self.client).upgrade()
    }

    /// The account behind an address. `other` is its other address, where the network says it.
    pub async fn party(&self, jid: &Jid, other: Option<&Jid>) -> Party {
        let plain = address::plain(jid);
        if other.is_some() || !plain.is_lid() {
            return Party::new(&plain, other);
        }
        let found = match self.client() {
            Some(client) => client.get_lid_pn_entry(&plain).await.ok().flatten(),
            None => None,
        };
        match found {
            Some(entry) => Party::new(&plain, Some(&Jid::pn(entry.phone_number.as_ref()))),
            None => Party::new(&plain, None),
        }
    }

    /// Notes under which name an account goes to the host; when that was another one before, says that both are one.
    pub fn note(&self, party: &Party, at: i64, events: &mut Vec<Event>, writes: &mut Vec<Write>) {
        let Some(lid) = &party.lid else { return };
        if party.phone.is_none() {
            if lock(&self.by_lid).insert(lid.clone()) {
                writes.push((format!("{BY_LID}{lid}"), Some(Vec::new())));
            }
        } else if lock(&self.by_lid).remove(lid) {
            let mut before = User::new(lid.as_str());
            before.phone.clone_from(&party.phone);
            events.push(Event {
                chat: None,
                ..Event::new(Chat::new(lid.as_str(), ChatKind::Direct), at, UserUpdate { user: before })
            });
            let mut chat = Chat::new(party.id.as_str(), ChatKind::Direct);
            chat.also_known_as = Some(ChatId::new(lid));
            events.push(Event::new(chat, at, ChatUpdate::default()));
            writes.push((format!("{BY_LID}{lid}"), None));
        }
    }

    /// The other side of a chat has written.
    pub fn wrote(&self, chat: &str, writes: &mut Vec<Write>) {
        let mut known = lock(&self.wrote);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        if known.insert(chat.to_owned()) {
            writes.push((format!("{WROTE}{chat}"), Some(Vec::new())));
        }
    }

    /// Whether the other side of a chat has ever written.
    pub async fn has_written(&self, chat: &str) -> Result<bool, HostError> {
        if lock(&self.wrote).contains(chat) {
            return Ok(true);
        }
        Ok(self.kv.get(&format!("{WROTE}{chat}")).await?.is_some())
    }

    /// What is remembered of a message.
    pub async fn message(&self, id: &str) -> Result<Option<Known>, HostError> {
        let found = self.kv.get(&Known::key(id)).await?;
        Ok(found.and_then(|value| serde_json::from_slice::<Known>(&value).ok()).filter(|known| known.i == id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Memory;

    #[tokio::test]
    async fn what_was_named_by_its_lid_becomes_one_with_its_number() {
        let kv: Arc<dyn Kv> = Arc::new(Memory::default());
        let names = Names::load(Arc::clone(&kv)).await.unwrap();
        let lid: Jid = "100000000000001@lid".parse().unwrap();
        let (mut events, mut writes) = (Vec::new(), Vec::new());
        let unknown = names.party(&lid, None).await;
        names.note(&unknown, 1, &mut events, &mut writes);
        names.note(&unknown, 1, &mut events, &mut writes);
        assert_eq!((events.len(), writes.len()), (0, 1));
        kv.write(writes).await.unwrap();

        let names = Names::load(Arc::clone(&kv)).await.unwrap();
        let known = names.party(&lid, Some(&Jid::pn("5511999990001"))).await;
        let mut writes = Vec::new();
        names.note(&known, 2, &mut events, &mut writes);
        let chat = events.iter().filter_map(|event| event.chat.as_ref()).next().unwrap();
        assert_eq!(chat.id.as_str(), "5511999990001@s.whatsapp.net");
        assert_eq!(chat.also_known_as.as_ref().map(ChatId::as_str), Some("100000000000001@lid"));
        events.clear();
        names.note(&known, 3, &mut events, &mut writes);
        assert!(events.is_empty(), "once");
    }

    #[tokio::test]
    async fn a_message_is_remembered_until_another_takes_its_place() {
        let kv: Arc<dyn Kv> = Arc::new(Memory::default());
        let names = Names::load(Arc::clone(&kv)).await.unwrap();
        let chat: Jid = "120363000000000001@g.us".parse().unwrap();
        let sender: Jid = "5511999990001:2@s.whatsapp.net".parse().unwrap();
        let long = "é".repeat(500);
        let known = Known::new("3EB0AA", (&chat, &sender), false, 7, Some(&long));
        assert!(known.t.as_ref().unwrap().len() <= QUOTED);
        kv.write(vec![known.write()]).await.unwrap();
        assert_eq!(names.message("3EB0AA").await.unwrap(), Some(known));
        assert_eq!(names.message("3EB0AB").await.unwrap(), None);
    }
}
