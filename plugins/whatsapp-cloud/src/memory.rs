//! What is remembered while an instance runs: how the webhook does, which of our sends Meta has told of, and the newest message
//! of each chat, beneath which Meta shows that somebody is writing.

use crate::convert::Told;
use omni_channel_sdk::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

/// As many chats, and sends, as are remembered.
const MANY: usize = 10_000;

/// Plain data, good after a panic too.
fn with<T, R>(mutex: &Mutex<T>, change: impl FnOnce(&mut T) -> R) -> R {
    change(&mut mutex.lock().unwrap_or_else(PoisonError::into_inner))
}

/// How the webhook does.
#[derive(Debug, Default)]
pub struct Health(Mutex<Trouble>);

#[derive(Debug, Default)]
struct Trouble {
    is_set: bool,
    failures: u32,
    moved: bool,
}

impl Health {
    /// It is set.
    pub fn well(&self) {
        with(&self.0, |trouble| *trouble = Trouble { is_set: true, ..Trouble::default() });
    }

    /// Whether it was set since the start.
    pub fn is_set(&self) -> bool {
        with(&self.0, |trouble| trouble.is_set)
    }

    /// It could not be set; how long to wait.
    pub fn failed(&self, (first, most): (u64, u64)) -> u64 {
        with(&self.0, |trouble| {
            let wait = first.saturating_mul(1 << trouble.failures.min(16)).min(most);
            trouble.failures += 1;
            wait
        })
    }

    /// Somebody has moved it; whether that is news.
    pub fn moved(&self) -> bool {
        with(&self.0, |trouble| !std::mem::replace(&mut trouble.moved, true))
    }

    /// It is ours; whether that is news.
    pub fn recovered(&self) -> bool {
        with(&self.0, |trouble| std::mem::replace(&mut trouble.moved, false))
    }
}

/// So many entries; those that were first put in the longest ago go when there are more.
#[derive(Debug)]
struct Newest<K, V> {
    found: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Newest<K, V> {
    fn default() -> Self {
        Self { found: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Hash + Eq + Clone, V> Newest<K, V> {
    fn put(&mut self, key: K, value: V) {
        if self.found.insert(key.clone(), value).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > MANY {
            let oldest = self.order.pop_front();
            oldest.and_then(|oldest| self.found.remove(&oldest));
        }
    }
}

/// What Meta told.
#[derive(Debug, Default)]
pub struct Memory {
    sent: Mutex<Newest<String, Told>>,
    heard: Mutex<Heard>,
}

/// The newest message of each chat that somebody else wrote.
#[derive(Debug, Default)]
struct Heard {
    newest: Newest<ChatId, MessageId>,
    /// By which id a chat is called that Meta may also call otherwise.
    names: Newest<ChatId, ChatId>,
}

impl Memory {
    /// Notes what one change told.
    pub fn note(&self, sent: Vec<Told>, heard: Vec<(Chat, MessageId)>) {
        if !sent.is_empty() {
            with(&self.sent, |known| sent.into_iter().for_each(|told| known.put(told.client.clone(), told)));
        }
        if !heard.is_empty() {
            with(&self.heard, |known| {
                for (chat, message) in heard {
                    let called = known.names.found.get(&chat.id).cloned().unwrap_or_else(|| chat.id.clone());
                    if let Some(alias) = chat.also_known_as {
                        known.names.put(alias, chat.id);
                    }
                    known.newest.put(called, message);
                }
            });
        }
    }

    /// What Meta called a send of ours to a chat, if it has told of it.
    pub fn sent(&self, client: &ClientId, asked: &ChatId) -> Option<SendReceipt> {
        let told = with(&self.sent, |known| known.found.get(client.as_str()).cloned())?;
        let chat_id = Some(told.chat).filter(|chat| chat != asked);
        Some(SendReceipt { at: Some(told.at), chat_id, ..SendReceipt::new(told.message) })
    }

    /// The newest message in a chat that somebody else wrote.
    pub fn heard(&self, chat: &ChatId) -> Option<MessageId> {
        with(&self.heard, |known| {
            let called = known.names.found.get(chat).unwrap_or(chat);
            known.newest.found.get(called).cloned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_a_known_one_takes_no_second_place() {
        let mut newest = Newest::default();
        for number in 0..MANY + 5 {
            newest.put(number, number);
            newest.put(MANY, 0);
        }
        assert_eq!((newest.found.len(), newest.order.len()), (MANY, MANY));
        assert!(!newest.found.contains_key(&0) && newest.found.contains_key(&(MANY + 4)));
    }

    #[test]
    fn a_chat_is_the_same_when_its_number_is_hidden() {
        let memory = Memory::default();
        let mut both = Chat::new("16505551234", ChatKind::Direct);
        both.also_known_as = Some("US.1".into());
        memory.note(Vec::new(), vec![(both, "1".into())]);
        assert_eq!(memory.heard(&"US.1".into()), Some("1".into()));
        memory.note(Vec::new(), vec![(Chat::new("US.1", ChatKind::Direct), "2".into())]);
        assert_eq!(memory.heard(&"16505551234".into()), Some("2".into()));
    }

    #[test]
    fn failures_wait_longer_each_time_and_not_for_ever() {
        let health = Health::default();
        assert_eq!([(); 4].map(|()| health.failed((5, 30))), [5, 10, 20, 30]);
        health.well();
        assert_eq!(health.failed((5, 30)), 5);
    }
}
