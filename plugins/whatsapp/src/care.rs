//! Care for the account: how fast it may send, and what WhatsApp has forbidden it for now.
//!
//! WhatsApp restricts accounts that write to strangers too fast, first with "reach-out" locks (463), then with bans. What is
//! refused here is refused before anything is encrypted, with the time at which it may be tried again.

use crate::config::Pacing;
use crate::kv::Kv;
use omni_channel_sdk::connection::Limited;
use omni_channel_sdk::error::HostError;
use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

const KEY: &str = "care";
const MINUTE: i64 = 60_000;
const DAY: i64 = 86_400_000;
/// How long nothing goes out at most, however often WhatsApp asks to send more slowly; and how often the time doubles.
const SLOWED_MS: i64 = 30 * MINUTE;
const LONGEST: u32 = 5;
const SLOWED: &str = "WhatsApp asks to send more slowly (429)";
const RESTRICTED: &str = "WhatsApp has restricted the account (463): it may not write first to people who never wrote to it; answers \
                          still go out";
/// How long a restriction is believed when WhatsApp does not say how long.
const RESTRICTED_MS: i64 = 6 * 3_600_000;
/// How many senders' first words a day are remembered at most.
const MOST_NEW: usize = 10_000;

/// What is kept over a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    /// When the device was linked or taken over, milliseconds since 1970.
    linked_at: Option<i64>,
    /// Until when strangers may not be written to.
    reach_out_locked_until: Option<i64>,
    /// When strangers were written to in the last day.
    new_chats: VecDeque<i64>,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// When messages went out in the last minute.
    sent: VecDeque<i64>,
    /// WhatsApp asked to send more slowly: until when nothing goes out, and how often it did so in a row.
    slowed: Option<(i64, u32)>,
}

/// The gate that every send goes through.
#[derive(Debug)]
pub struct Care {
    pacing: Pacing,
    state: Mutex<State>,
}

impl Care {
    /// The gate as it was left.
    pub async fn load(kv: &dyn Kv, pacing: Pacing) -> Result<Self, HostError> {
        // One that cannot be read is begun anew: it only makes us slower.
        let kept = kv.get(KEY).await?.and_then(|value| serde_json::from_slice(&value).ok()).unwrap_or_default();
        Ok(Self { pacing, state: Mutex::new(State { kept, ..State::default() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets one message through, or says when to come again. `stranger` is a chat in which the other side never wrote.
    pub fn pass(&self, stranger: bool, now: i64) -> Result<(), SendError> {
        let mut state = self.state();
        let young = state.kept.linked_at.is_some_and(|at| now - at < i64::from(self.pacing.warm_up_days) * DAY);
        let share = |most: u32| if young && most > 0 { (most / 4).max(1) as usize } else { most as usize };
        if stranger {
            if let Some(until) = state.kept.reach_out_locked_until.filter(|until| *until > now) {
                let mut error = SendError::new(
                    ErrorCode::Forbidden,
                    NextActor::Operator,
                    format!("{RESTRICTED}. That ends in {}", in_words(until - now)),
                );
                error.retry_after_ms = u64::try_from(until - now).ok();
                return Err(error);
            }
            forget(&mut state.kept.new_chats, now - DAY);
            let most = share(self.pacing.new_chats_per_day);
            if most > 0 && state.kept.new_chats.len() >= most {
                let wait = state.kept.new_chats.front().map_or(DAY, |first| first + DAY - now);
                return Err(slower(
                    wait,
                    &format!("{most} new chats a day are the most (config.pacing.newChatsPerDay)"),
                ));
            }
        }
        if let Some((until, _)) = state.slowed.filter(|(until, _)| *until > now) {
            return Err(slower(until - now, SLOWED));
        }
        forget(&mut state.sent, now - MINUTE);
        let most = share(self.pacing.per_minute);
        if most > 0 && state.sent.len() >= most {
            let wait = state.sent.front().map_or(MINUTE, |first| first + MINUTE - now);
            return Err(slower(wait, &format!("{most} messages a minute are the most (config.pacing.perMinute)")));
        }
        state.sent.push_back(now);
        if stranger && state.kept.new_chats.len() < MOST_NEW {
            state.kept.new_chats.push_back(now);
        }
        Ok(())
    }

    /// WhatsApp refused a first word. `until` when it says how long that holds.
    pub fn restricted(&self, now: i64, until: Option<i64>) {
        self.state().kept.reach_out_locked_until = Some(until.unwrap_or(now + RESTRICTED_MS));
    }

    /// WhatsApp asks to send more slowly (429): nothing goes out for a minute, and twice as long each time that it says so
    /// again. Gives the answer to the send.
    pub fn slowed(&self, now: i64) -> SendError {
        let mut state = self.state();
        let times = state.slowed.map_or(0, |(_, times)| times);
        let wait = (MINUTE << times.min(LONGEST)).min(SLOWED_MS);
        state.slowed = Some((now + wait, times + 1));
        slower(wait, SLOWED)
    }

    /// A message went out.
    pub fn went_out(&self) {
        self.state().slowed = None;
    }

    /// What WhatsApp does not let the account do now.
    pub fn limited(&self, now: i64) -> Option<Limited> {
        let state = self.state();
        if let Some((until, _)) = state.slowed.filter(|(until, _)| *until > now) {
            return Some(Limited { reason: SLOWED.into(), until: Some(until) });
        }
        let until = state.kept.reach_out_locked_until.filter(|until| *until > now)?;
        Some(Limited { reason: RESTRICTED.into(), until: Some(until) })
    }

    /// The account was linked, or taken over, now.
    pub fn linked(&self, now: i64) {
        self.state().kept.linked_at = Some(now);
    }

    /// What is to be written, so that a restart knows it.
    pub fn entry(&self) -> (String, Vec<u8>) {
        (KEY.to_owned(), serde_json::to_vec(&self.state().kept).unwrap_or_default())
    }
}

fn forget(times: &mut VecDeque<i64>, before: i64) {
    while times.front().is_some_and(|at| *at < before) {
        times.pop_front();
    }
}

fn slower(wait: i64, why: &str) -> SendError {
    SendError::rate_limited(u64::try_from(wait).unwrap_or(0).max(1), format!("sent again in {}: {why}", in_words(wait)))
}

fn in_words(ms: i64) -> String {
    match ms {
        ..60_000 => format!("{} s", (ms.max(0) + 999) / 1_000),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Memory;

    fn care(pacing: Pacing) -> Care {
        Care { pacing, state: Mutex::default() }
    }

    #[test]
    fn who_is_asked_to_be_slower_is_and_longer_each_time() {
        let care = care(Pacing { per_minute: 0, ..Pacing::default() });
        assert_eq!(care.slowed(0).retry_after_ms, Some(60_000));
        assert!(care.limited(59_999).is_some_and(|limited| limited.until == Some(60_000)));
        let refused = care.pass(false, 59_999).unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (ErrorCode::RateLimited, Some(1)));
        care.pass(false, 60_000).unwrap();
        assert_eq!(care.limited(60_000), None);
        assert_eq!(care.slowed(60_000).retry_after_ms, Some(120_000));
        for _ in 0..20 {
            care.slowed(60_000);
        }
        assert_eq!(care.slowed(60_000).retry_after_ms, Some(30 * 60_000), "half an hour at most");
        care.went_out();
        assert_eq!(care.slowed(0).retry_after_ms, Some(60_000), "what went out begins it anew");
    }

    #[test]
    fn so_many_a_minute_and_not_one_more() {
        let care = care(Pacing { per_minute: 3, ..Pacing::default() });
        for at in [0, 10, 20] {
            care.pass(false, at).unwrap();
        }
        let error = care.pass(false, 30_000).expect_err("the fourth");
        assert_eq!((error.code, error.retry_after_ms, error.certain), (ErrorCode::RateLimited, Some(30_000), true));
        care.pass(false, 60_001).unwrap();
    }

    #[test]
    fn a_young_account_begins_slowly() {
        let care = care(Pacing { per_minute: 8, new_chats_per_day: 4, warm_up_days: 7 });
        care.linked(0);
        care.pass(true, 1).unwrap();
        assert!(care.pass(true, 2).is_err(), "a quarter of four strangers a day");
        care.pass(false, 3).unwrap();
        assert!(care.pass(false, 4).is_err(), "a quarter of eight a minute");
        care.pass(true, 8 * DAY).unwrap();
        care.pass(true, 8 * DAY + 1).unwrap();
    }

    #[tokio::test]
    async fn a_restriction_holds_for_strangers_and_over_a_restart() {
        let before = care(Pacing::default());
        before.restricted(1_000, Some(7_201_000));
        let kv = Memory::default();
        let (key, value) = before.entry();
        kv.write(vec![(key, Some(value))]).await.unwrap();
        let care = Care::load(&kv, Pacing::default()).await.unwrap();
        let error = care.pass(true, 1_000).expect_err("a stranger");
        assert_eq!((error.code, error.retry_after_ms), (ErrorCode::Forbidden, Some(7_200_000)));
        assert!(error.message.contains("2 h"), "{}", error.message);
        care.pass(false, 1_000).unwrap();
        care.pass(true, 7_201_001).unwrap();
    }
}
