//! Which ids of ours stand for which of a network's, as far as it was met lately.
//!
//! Holds only what never changes while the row exists, and the marks of chats, which change here alone. What was learned in a
//! transaction counts after its commit.

use crate::store::chats::Marks;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// How many of a kind are remembered before the older half is forgotten.
const GENERATION: usize = 16_384;

/// A chat that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chat {
    pub id: Uuid,
    /// What the network last said about it, as a hash: the same again is no news.
    pub seen: u64,
}

/// An account that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User {
    pub id: Uuid,
    pub person_id: Option<Uuid>,
    /// As for a chat.
    pub seen: u64,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    chats: Generations<Chat>,
    users: Generations<User>,
    /// Of the chats that are remembered, by our ids: those that have any.
    marks: HashMap<Uuid, Marks>,
    learned_marks: HashMap<Uuid, Marks>,
    learned_chats: Vec<(Uuid, String, Chat)>,
    learned_users: Vec<(Uuid, String, User)>,
    /// The ids that chats had until their networks moved them, all of them, once they were read: instance → ids.
    pub moved: Option<HashMap<Uuid, HashSet<String>>>,
}

impl Cache {
    pub fn chat(&self, instance: Uuid, id: &str) -> Option<Chat> {
        self.chats.get(instance, id)
    }

    pub fn user(&self, instance: Uuid, id: &str) -> Option<User> {
        self.users.get(instance, id)
    }

    /// How far our messages in a remembered chat have come.
    pub fn marks(&self, chat: Uuid) -> Marks {
        self.learned_marks.get(&chat).or_else(|| self.marks.get(&chat)).copied().unwrap_or_default()
    }

    pub fn learn_marks(&mut self, chat: Uuid, marks: Marks) {
        self.learned_marks.insert(chat, marks);
    }

    pub fn learn_chat(&mut self, instance: Uuid, id: &str, chat: Chat) {
        self.learned_chats.push((instance, id.to_owned(), chat));
    }

    pub fn learn_user(&mut self, instance: Uuid, id: &str, user: User) {
        self.learned_users.push((instance, id.to_owned(), user));
    }

    /// Two chats become one, or one is renamed: nothing about chats is sure any more.
    pub fn forget_chats(&mut self) {
        self.chats = Generations::default();
        self.learned_chats.clear();
        self.marks.clear();
        self.learned_marks.clear();
        self.moved = None;
    }

    /// What was learned and not committed is not so.
    pub fn unlearn(&mut self) {
        self.learned_chats.clear();
        self.learned_marks.clear();
        self.learned_users.clear();
    }

    /// What was learned becomes what is known.
    pub fn commit(&mut self) {
        for (instance, id, chat) in self.learned_chats.drain(..) {
            self.chats.put(instance, id, chat);
        }
        self.marks.extend(self.learned_marks.drain());
        if self.marks.len() > 2 * GENERATION {
            // A chat without marks is one that has none, so they are forgotten with their chats.
            self.forget_chats();
        }
        for (instance, id, user) in self.learned_users.drain(..) {
            self.users.put(instance, id, user);
        }
    }
}

/// A map that forgets what was put in longest ago, half of it at a time. What is put again counts as new.
#[derive(Debug)]
struct Generations<T> {
    young: HashMap<Uuid, HashMap<String, T>>,
    old: HashMap<Uuid, HashMap<String, T>>,
    count: usize,
}

impl<T> Default for Generations<T> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), count: 0 }
    }
}

impl<T: Copy> Generations<T> {
    fn get(&self, instance: Uuid, id: &str) -> Option<T> {
        let find = |map: &HashMap<Uuid, HashMap<String, T>>| map.get(&instance)?.get(id).copied();
        find(&self.young).or_else(|| find(&self.old))
    }

    fn put(&mut self, instance: Uuid, id: String, value: T) {
        if self.young.entry(instance).or_default().insert(id, value).is_none() {
            self.count += 1;
        }
        if self.count >= GENERATION {
            self.old = std::mem::take(&mut self.young);
            self.count = 0;
        }
    }
}
