//! How fast a bot may write: so many messages to a chat in a second, to a group in a minute, and in a second in all.
//!
//! A message that may not go out yet is given a place in time, which is its own when it comes again; the host brings it
//! again then. So a thousand messages are put off once each, and go out in the order in which they asked. The limits are
//! those that Telegram publishes (<https://core.telegram.org/bots/faq>, "My bot is hitting limits"); where it asks for
//! more patience, its `retry_after` counts. Deliberately not here: what it counts beside messages.

use crate::config::Config;
use omni_channel_sdk::ids::ClientId;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60_000;
/// More chats, or promises, than this are looked through for old ones.
const MANY: usize = 1_024;

/// At most so many in so long.
#[derive(Clone, Copy, Debug)]
struct Limit {
    count: usize,
    per_ms: i64,
}

/// The pace of one bot.
#[derive(Debug)]
pub struct Pace {
    chat: Limit,
    group: Limit,
    total: Limit,
    granted: Mutex<Granted>,
}

/// What went out, or will: times in milliseconds, in order.
#[derive(Debug, Default)]
struct Granted {
    total: Vec<i64>,
    chats: HashMap<String, Vec<i64>>,
    /// Places that were given to messages which have not come back yet.
    promised: HashMap<ClientId, i64>,
}

impl Pace {
    /// The pace that is configured.
    pub fn new(config: &Config) -> Self {
        let limit = |count: u32, per_ms| Limit { count: count as usize, per_ms };
        Self {
            chat: limit(config.chat_per_second, SECOND_MS),
            group: limit(config.group_per_minute, MINUTE_MS),
            total: limit(config.total_per_second, SECOND_MS),
            granted: Mutex::default(),
        }
    }

    /// Lets so many messages to a Telegram chat go out now (`None`), or says how long to wait, in milliseconds.
    pub fn take(&self, chat: &str, client: &ClientId, messages: usize, now: i64) -> Option<u64> {
        // Plain data, good after a panic too.
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.forget_old(now);
        let promised = granted.promised.remove(client);
        let at = promised.unwrap_or_else(|| {
            let at = self.earliest(&granted, chat, now);
            granted.grant(chat, messages, at);
            at
        });
        if at <= now {
            return None;
        }
        granted.promised.insert(client.clone(), at);
        Some((at - now).unsigned_abs())
    }

    fn earliest(&self, granted: &Granted, chat: &str, now: i64) -> i64 {
        let of_chat = granted.chats.get(chat).map(Vec::as_slice).unwrap_or_default();
        // Telegram gives people positive numbers; what has a name is no private chat.
        let is_group = chat.starts_with(['-', '@']);
        let mut at = now;
        loop {
            let mut next = self.chat.earliest(of_chat, at);
            if is_group {
                next = self.group.earliest(of_chat, next);
            }
            next = self.total.earliest(&granted.total, next);
            if next == at {
                return at;
            }
            at = next;
        }
    }
}

impl Limit {
    /// The first time from `at` on around which there is room.
    fn earliest(self, times: &[i64], mut at: i64) -> i64 {
        if self.count == 0 {
            return at;
        }
        loop {
            let from = times.partition_point(|time| *time <= at - self.per_ms);
            let to = times.partition_point(|time| *time < at + self.per_ms);
            if to - from < self.count {
                return at;
            }
            at = times[from] + self.per_ms;
        }
    }
}

impl Granted {
    fn grant(&mut self, chat: &str, messages: usize, at: i64) {
        let of_chat = self.chats.entry(chat.to_owned()).or_default();
        for times in [&mut self.total, of_chat] {
            let place = times.partition_point(|time| *time <= at);
            drop(times.splice(place..place, std::iter::repeat_n(at, messages)));
        }
    }

    fn forget_old(&mut self, now: i64) {
        let old = |times: &[i64], for_ms: i64| times.partition_point(|time| *time <= now - for_ms);
        self.total.drain(..old(&self.total, SECOND_MS));
        if self.chats.len() > MANY {
            self.chats.retain(|_, times| times.last().is_some_and(|last| *last > now - MINUTE_MS));
        }
        if self.promised.len() > MANY {
            self.promised.retain(|_, at| *at > now - 10 * MINUTE_MS);
        }
        for times in self.chats.values_mut().filter(|times| times.len() > MANY) {
            times.drain(..times.partition_point(|time| *time <= now - MINUTE_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pace(config: serde_json::Value) -> Pace {
        Pace::new(&serde_json::from_value(config).expect("it is a configuration"))
    }

    /// When each of so many messages goes out, when the host brings it again as soon as it was told to.
    fn times(pace: &Pace, chat: &str, count: usize) -> Vec<i64> {
        let mut times = Vec::new();
        let mut now = 1_000_000;
        for number in 0..count {
            let client = ClientId::new(format!("{chat}-{number}"));
            while let Some(wait) = pace.take(chat, &client, 1, now) {
                now += i64::try_from(wait).expect("it is not for ever");
            }
            times.push(now - 1_000_000);
        }
        times
    }

    #[test]
    fn a_chat_gets_one_message_in_a_second_and_a_group_twenty_in_a_minute() {
        assert_eq!(times(&pace(json!({})), "7", 4), [0, 1_000, 2_000, 3_000]);
        let group = times(&pace(json!({})), "-100", 22);
        assert_eq!(group[..20], (0..20).map(|second| second * 1_000).collect::<Vec<_>>());
        assert_eq!(group[20..], [60_000, 61_000]);
    }

    #[test]
    fn all_chats_share_the_bots_pace_in_the_order_in_which_they_asked() {
        let pace = pace(json!({"totalPerSecond": 3}));
        let ask = |chat: usize, now| pace.take(&chat.to_string(), &ClientId::new(chat), 1, now);
        let waits: Vec<_> = (1..=8).map(|chat| ask(chat, 0)).collect();
        assert_eq!(waits, [None, None, None, Some(1_000), Some(1_000), Some(1_000), Some(2_000), Some(2_000)]);
        assert_eq!(ask(7, 1_000), Some(1_000), "a place is kept, not given anew");
        assert_eq!((ask(4, 1_000), ask(9, 1_000)), (None, Some(1_000)));
        assert_eq!((ask(7, 2_000), ask(8, 2_000), ask(9, 2_000)), (None, None, None));
    }

    #[test]
    fn an_album_counts_as_many_messages_as_it_has_and_no_limit_is_none() {
        let pace = pace(json!({"chatPerSecond": 0}));
        assert_eq!(pace.take("-5", &ClientId::new("a"), 10, 0), None);
        assert_eq!(pace.take("-5", &ClientId::new("b"), 10, 0), None);
        assert_eq!(pace.take("-5", &ClientId::new("c"), 1, 0), Some(60_000), "twenty in a minute");
        let free = super::tests::pace(json!({"chatPerSecond": 0, "groupPerMinute": 0, "totalPerSecond": 0}));
        assert!(times(&free, "-5", 500).iter().all(|at| *at == 0));
    }
}
