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
    failures: u32,
    moved: bool,
}

impl Health {
    /// It is set.
    pub fn well(&self) {
        with(&self.0, |trouble| *trouble = Trouble::default());
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

/// The newest entries; the oldest go when there are too many.
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
    sent: Mutex<Newest<String, (MessageId, i64)>>,
    heard: Mutex<Newest<ChatId, MessageId>>,
}

impl Memory {
    /// Notes what one change told.
    pub fn note(&self, sent: Vec<Told>, heard: Vec<(ChatId, MessageId)>) {
        if !sent.is_empty() {
            with(&self.sent, |known| sent.into_iter().for_each(|told| known.put(told.client, (told.message, told.at))));
        }
        if !heard.is_empty() {
            with(&self.heard, |known| heard.into_iter().for_each(|(chat, message)| known.put(chat, message)));
        }
    }

    /// What Meta called a send of ours, if it has told of it.
    pub fn sent(&self, client: &ClientId) -> Option<SendReceipt> {
        let found = with(&self.sent, |known| known.found.get(client.as_str()).cloned());
        found.map(|(message, at)| SendReceipt { at: Some(at), ..SendReceipt::new(message) })
    }

    /// The newest message in a chat that somebody else wrote.
    pub fn heard(&self, chat: &ChatId) -> Option<MessageId> {
        with(&self.heard, |known| known.found.get(chat).cloned())
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
    fn failures_wait_longer_each_time_and_not_for_ever() {
        let health = Health::default();
        assert_eq!([(); 4].map(|()| health.failed((5, 30))), [5, 10, 20, 30]);
        health.well();
        assert_eq!(health.failed((5, 30)), 5);
    }
}
