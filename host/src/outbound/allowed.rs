//! What single chats do not take, as their networks said a moment ago: such a send is refused before anybody is asked.
//!
//! No network is asked before a send. What is known here was learned from answers that were asked for anyway, or from the
//! one question after a send had been refused for want of a right. A right that is given in the meantime is not told of
//! on most networks, so an answer counts for [`FRESH_MS`] and not longer: then the next send is tried, and the network has
//! the last word. Deliberately not here: what the channel takes in general (`limits`), and asking.

use crate::store::Time;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use omni_channel_sdk::request::Request;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// How long an answer counts: about as long as a person waits who has just given the right.
pub const FRESH_MS: i64 = 30_000;
/// Chats whose answers are kept at the same time; the oldest answer goes first.
const CHATS: usize = 4_096;

/// What a network said about one chat.
#[derive(Clone, Debug)]
struct Said {
    at: Time,
    /// The names of the channel's capabilities that this chat has not; nothing when it has all of them.
    lacks: Vec<String>,
}

/// What chats do not take: instance and chat → answer.
#[derive(Debug, Default)]
pub struct Allowed(Mutex<HashMap<Uuid, HashMap<String, Said>>>);

/// The capabilities that a request needs, by name.
pub fn needs(request: &Request) -> Vec<String> {
    match request {
        Request::Send(send) => {
            let mut names: Vec<String> =
                std::iter::once(&send.content).chain(&send.album).map(|content| sends(content.kind())).collect();
            names.dedup();
            names
        }
        other => vec![format!("request.{}", other.kind())],
    }
}

/// The name of the capability to send a type of content.
pub fn sends(kind: &str) -> String {
    format!("send.{kind}")
}

impl Allowed {
    /// Takes note of what a chat can do (`can`) of all that its channel can (`whole`).
    pub fn learn(&self, instance: Uuid, chat: &str, whole: &Capabilities, can: &Capabilities, now: Time) {
        let can = can.names();
        let lacks = whole.names().into_iter().filter(|name| !can.contains(name)).collect();
        keep(&mut self.lock(), instance, chat, Said { at: now, lacks });
    }

    /// Whether a chat should be asked about now: once in the time that an answer counts, whatever comes of it.
    pub fn should_ask(&self, instance: Uuid, chat: &str, now: Time) -> bool {
        let mut instances = self.lock();
        let known = instances.get(&instance).and_then(|chats| chats.get(chat));
        if known.is_some_and(|said| left(said, now).is_some()) {
            return false;
        }
        keep(&mut instances, instance, chat, Said { at: now, lacks: Vec::new() });
        true
    }

    /// Why a chat does not take something that needs these capabilities, as far as that is known.
    pub fn refusal(&self, instance: Uuid, chat: &str, needs: &[String], now: Time) -> Option<SendError> {
        let instances = self.lock();
        let said = instances.get(&instance)?.get(chat)?;
        let left = left(said, now)?;
        let lacking = needs.iter().find(|name| said.lacks.contains(name))?;
        let what = lacking.strip_prefix("send.").map_or_else(|| format!("{lacking:?}"), str::to_owned);
        let age = now.millis().saturating_sub(said.at.millis()) / 1_000;
        let mut error = SendError::new(
            ErrorCode::Forbidden,
            NextActor::Operator,
            format!(
                "chat {chat:?} takes no {what} from this account: its network said so {age} s ago. Give the account the \
                 right there; what is sent in {} s or later is tried again",
                left.div_ceil(1_000)
            ),
        );
        error.retry_after_ms = Some(left);
        Some(error)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, HashMap<String, Said>>> {
        // Plain data, good after a panic too.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How long an answer still counts, in milliseconds. One from the future is from before the clock was set.
fn left(said: &Said, now: Time) -> Option<u64> {
    let age = now.millis().saturating_sub(said.at.millis());
    (0..FRESH_MS).contains(&age).then(|| (FRESH_MS - age).unsigned_abs())
}

fn keep(instances: &mut HashMap<Uuid, HashMap<String, Said>>, instance: Uuid, chat: &str, said: Said) {
    if instances.values().map(HashMap::len).sum::<usize>() >= CHATS {
        make_room(instances, said.at);
    }
    instances.entry(instance).or_default().insert(chat.to_owned(), said);
}

/// Forgets what no longer counts, and the oldest answer should all of them still do.
fn make_room(instances: &mut HashMap<Uuid, HashMap<String, Said>>, now: Time) {
    for chats in instances.values_mut() {
        chats.retain(|_, said| left(said, now).is_some());
    }
    let oldest = instances
        .iter()
        .flat_map(|(instance, chats)| chats.iter().map(|(chat, said)| (said.at, *instance, chat.clone())))
        .min();
    let all: usize = instances.values().map(HashMap::len).sum();
    if all >= CHATS
        && let Some((_, instance, chat)) = oldest
        && let Some(chats) = instances.get_mut(&instance)
    {
        chats.remove(&chat);
    }
    instances.retain(|_, chats| !chats.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::capabilities::ContentLimits;

    fn can(kinds: &[&str]) -> Capabilities {
        let send = kinds.iter().map(|kind| ((*kind).to_owned(), ContentLimits::default())).collect();
        Capabilities { send, ..Capabilities::default() }
    }

    #[test]
    fn a_no_counts_for_as_long_as_it_says_and_only_there() {
        let (allowed, one, other) = (Allowed::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let at = |ms| Time::from_millis(1_000_000 + ms);
        let (image, text) = ([sends("image")], [sends("text")]);
        allowed.learn(one, "c", &can(&["text", "image"]), &can(&["text"]), at(0));
        let error = allowed.refusal(one, "c", &image, at(10_500)).expect("it is not allowed");
        assert_eq!((error.code, error.retry_after_ms, error.certain), (ErrorCode::Forbidden, Some(19_500), true));
        assert!(error.message.contains("image") && error.message.contains("20 s"), "{}", error.message);
        assert_eq!(allowed.refusal(one, "c", &text, at(0)), None);
        assert_eq!(allowed.refusal(one, "d", &image, at(0)), None);
        assert_eq!(allowed.refusal(other, "c", &image, at(0)), None);
        assert!(allowed.refusal(one, "c", &image, at(FRESH_MS - 1)).is_some());
        assert_eq!(allowed.refusal(one, "c", &image, at(FRESH_MS)), None);
        assert_eq!(allowed.refusal(one, "c", &image, at(-1)), None, "the clock was set back");
        allowed.learn(one, "c", &can(&["text", "image"]), &can(&["text", "image"]), at(1));
        assert_eq!(allowed.refusal(one, "c", &image, at(2)), None, "the newest answer counts");
        assert!(!allowed.should_ask(one, "c", at(2)) && allowed.should_ask(one, "c", at(1 + FRESH_MS)));
        assert!(!allowed.should_ask(one, "c", at(2 + FRESH_MS)), "it was asked a moment ago");
    }

    #[test]
    fn no_more_answers_are_kept_than_there_is_room_for() {
        let (allowed, one) = (Allowed::default(), Uuid::from_u128(1));
        let at = |ms| Time::from_millis(1_000_000 + ms);
        for chat in 0..CHATS + 10 {
            let ms = i64::try_from(chat).expect("few");
            allowed.learn(one, &chat.to_string(), &can(&["text"]), &can(&[]), at(ms));
        }
        assert_eq!(allowed.lock()[&one].len(), CHATS);
        let newest = i64::try_from(CHATS + 10).expect("few");
        let text = [sends("text")];
        assert!(allowed.refusal(one, "9", &text, at(newest)).is_none(), "the oldest went");
        assert!(allowed.refusal(one, "10", &text, at(newest)).is_some());
        allowed.learn(one, "late", &can(&["text"]), &can(&[]), at(newest + FRESH_MS));
        assert_eq!(allowed.lock()[&one].len(), 1, "what no longer counts goes first");
    }
}
