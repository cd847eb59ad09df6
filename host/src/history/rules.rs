//! What is kept of a page, in which portions it is handed over, and what an error means for a job. Pure.

use super::job::Wanted;
use crate::instances::InstanceError;
use omni_channel_sdk::event::{Event, EventBody};
use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use serde_json::value::RawValue;
use std::time::Duration;

/// Events of one page. What networks give at once: Discord 100, WhatsApp 50.
pub(super) const PAGE: u32 = 100;
/// Events of one chat in one job: what takes a thousand answers of the network is a life's work for nearly every chat, and a
/// channel that never comes to an end must not be asked for ever. A second job goes on from there.
pub(super) const MOST_OF_CHAT: u64 = 100_000;
/// How often a page is tried that the network fails to give.
pub(super) const TRIES: u32 = 8;
/// How many events are handed over at once, and how many bytes beyond the first.
const PORTION: (usize, usize) = (256, 1 << 20);
/// How long a network is left alone that says slower, and not for how long.
const SLOWER: Duration = Duration::from_secs(5);
/// One that says for how long, and means none at all, is not asked without end.
const SHORTEST: Duration = Duration::from_millis(250);
/// The pause after a first failure, which doubles, and the longest one.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));
/// How long an instance that does not run is left alone, unless it begins to.
const ABSENT: Duration = Duration::from_secs(5);
/// How long a channel is left alone that says that it is not connected: it would ask the network each time.
const NOT_CONNECTED: Duration = Duration::from_secs(60);

/// What is kept of a page.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// In order.
    pub events: Vec<Event>,
    /// How many lie outside of the time that was asked for.
    pub skipped: u64,
    /// Whether what follows does so, too.
    pub is_end: bool,
}

/// Takes out of a page what was asked for.
pub(super) fn keep(events: Vec<Event>, wanted: &Wanted, forward: bool) -> Kept {
    let mut kept = Kept::default();
    for mut event in events {
        // Which it is says the job, not the channel.
        event.origin = None;
        let too_old = wanted.since.is_some_and(|since| event.at < since.millis());
        let too_new = wanted.until.is_some_and(|until| event.at > until.millis());
        // Only messages lie in the order of their times: what was done to them may be from any.
        let is_message = matches!(event.body, EventBody::Message(_));
        kept.is_end |= is_message && if forward { too_new } else { too_old };
        if too_old || too_new {
            kept.skipped += 1;
        } else {
            kept.events.push(event);
        }
    }
    kept
}

/// Divides events into what is handed over at once.
pub(super) fn portions(events: Vec<Box<RawValue>>) -> Vec<Vec<Box<RawValue>>> {
    let mut portions: Vec<Vec<Box<RawValue>>> = Vec::new();
    let mut bytes = usize::MAX;
    for event in events {
        let size = event.get().len();
        match portions.last_mut() {
            Some(last) if last.len() < PORTION.0 && bytes.saturating_add(size) <= PORTION.1 => {
                bytes += size;
                last.push(event);
            }
            _ => {
                bytes = size;
                portions.push(vec![event]);
            }
        }
    }
    portions
}

/// What a job does about an error.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The same page after a pause.
    Slower(Duration),
    /// The same page after a pause, a bounded number of times.
    Again(Duration),
    /// Nothing, for so long or until the instance runs again.
    Rest(Duration),
    /// This chat is done.
    NextChat,
}

/// The pause after so many failures.
fn pause(tries: u32) -> Duration {
    (BACKOFF.0 * 2_u32.saturating_pow(tries.min(16))).min(BACKOFF.1)
}

/// What to do about an error of a page that has failed so often before.
pub(super) fn verdict(error: &InstanceError, tries: u32) -> Verdict {
    match error {
        InstanceError::Channel(error) => of_channel(error, tries),
        InstanceError::Store(_) => Verdict::Rest(ABSENT),
        InstanceError::NotConnected(_)
        | InstanceError::NoPlugin(_)
        | InstanceError::Elsewhere(_)
        | InstanceError::NotFound(_) => Verdict::Rest(ABSENT),
        _ => Verdict::NextChat,
    }
}

fn of_channel(error: &SendError, tries: u32) -> Verdict {
    let said = error.retry_after_ms.map(Duration::from_millis);
    match error.code {
        ErrorCode::RateLimited => Verdict::Slower(said.unwrap_or(SLOWER).max(SHORTEST)),
        ErrorCode::NotConnected | ErrorCode::Unauthorized => Verdict::Rest(said.unwrap_or(NOT_CONNECTED)),
        // To ask again does no harm, whether or not the network heard it.
        ErrorCode::Unreachable | ErrorCode::Network => Verdict::Again(said.unwrap_or(pause(tries))),
        ErrorCode::Forbidden | ErrorCode::ChatNotFound | ErrorCode::MessageNotFound | ErrorCode::Unsupported => {
            Verdict::NextChat
        }
        _ if error.next == NextActor::Retry => Verdict::Again(said.unwrap_or(pause(tries))),
        _ => Verdict::NextChat,
    }
}
