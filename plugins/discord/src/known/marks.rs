//! What has happened and is not over: answers of programs that are on their way, and people who were just banned.
//!
//! What told that something is over is remembered, too: what could not be stored comes again, and means the same again.

use std::collections::{BTreeMap, BTreeSet};

/// Of each sort so many are remembered; the oldest answer goes first.
const AT_MOST: usize = 1_000;

/// What is not over.
#[derive(Debug, Default)]
pub struct Marks {
    /// Messages that stand for an answer which comes later, each with what told that it is there.
    awaited: BTreeMap<u64, Option<Box<str>>>,
    /// Whether other answers are awaited than what is kept.
    changed: bool,
    /// Guild and person.
    banned: BTreeSet<(u64, u64)>,
}

impl Marks {
    /// A message stands for an answer that comes later.
    pub fn awaits(&mut self, message: &str) {
        let Ok(id) = message.parse() else { return };
        self.changed |= !self.awaited.contains_key(&id);
        self.awaited.entry(id).or_default();
        while self.awaited.len() > AT_MOST {
            self.awaited.pop_first();
        }
    }

    /// Whether a message stood for its answer until a delivery told of it.
    pub fn is_awaited(&self, message: &str, delivery: &str) -> bool {
        let told = message.parse().ok().and_then(|id: u64| self.awaited.get(&id));
        told.is_some_and(|told| told.as_deref().is_none_or(|told| told == delivery))
    }

    /// A delivery told the answer.
    pub fn came(&mut self, message: &str, delivery: &str) {
        let awaited = message.parse().ok().and_then(|id: u64| self.awaited.get_mut(&id));
        if let Some(told) = awaited.filter(|told| told.is_none()) {
            *told = Some(Box::from(delivery));
            self.changed = true;
        }
    }

    /// No answer comes any more.
    pub fn forget(&mut self, message: &str) {
        let gone = message.parse().ok().and_then(|id: u64| self.awaited.remove(&id));
        self.changed |= gone.is_some();
    }

    /// The messages whose answers are awaited, when they are others than before.
    pub fn take_changed(&mut self) -> Option<Vec<u64>> {
        let awaited = || self.awaited.iter().filter(|(_, told)| told.is_none()).map(|(id, _)| *id).collect();
        std::mem::take(&mut self.changed).then(awaited)
    }

    /// Takes up what was kept.
    pub fn recall(&mut self, awaited: Vec<u64>) {
        self.awaited.extend(awaited.into_iter().map(|id| (id, None)));
    }

    /// Somebody was banned: that they are gone then is no news.
    pub fn banned(&mut self, guild: &str, user: &str) {
        if self.banned.len() >= AT_MOST {
            self.banned.clear();
        }
        self.banned.extend(pair(guild, user));
    }

    /// Somebody may come again, or came.
    pub fn not_banned(&mut self, guild: &str, user: &str) {
        if let Some(pair) = pair(guild, user) {
            self.banned.remove(&pair);
        }
    }

    /// Whether somebody was banned.
    pub fn is_banned(&self, guild: &str, user: &str) -> bool {
        pair(guild, user).is_some_and(|pair| self.banned.contains(&pair))
    }
}

fn pair(guild: &str, user: &str) -> Option<(u64, u64)> {
    Some((guild.parse().ok()?, user.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_comes_once() {
        let mut marks = Marks::default();
        marks.awaits("7");
        assert_eq!(marks.take_changed(), Some(vec![7]));
        assert!(marks.is_awaited("7", "s:5") && !marks.is_awaited("8", "s:5"));
        marks.came("7", "s:5");
        assert!(marks.is_awaited("7", "s:5"), "the same delivery again");
        assert!(!marks.is_awaited("7", "s:6"), "it is there");
        assert_eq!((marks.take_changed(), marks.take_changed()), (Some(vec![]), None));
        let mut anew = Marks::default();
        anew.recall(vec![9]);
        assert!(anew.is_awaited("9", "s:7") && anew.take_changed().is_none());
        for id in 0..5_000 {
            marks.awaits(&id.to_string());
        }
        assert_eq!(marks.take_changed().map(|awaited| awaited.len()), Some(AT_MOST));
    }

    #[test]
    fn whoever_was_banned_may_come_again() {
        let mut marks = Marks::default();
        marks.banned("100", "5");
        assert!(marks.is_banned("100", "5") && !marks.is_banned("101", "5"));
        marks.not_banned("100", "5");
        assert!(!marks.is_banned("100", "5"));
    }
}
