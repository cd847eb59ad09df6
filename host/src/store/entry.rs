//! An accepted event as the log holds it: the bytes that crossed the boundary, and what they say.
//!
//! Deliberately not here: whether it may come in. That is decided once, at the door of the bus.

use super::Time;
use omni_channel_sdk::chat::Chat;
use omni_channel_sdk::event::{Event, EventBody, Message};
use omni_channel_sdk::ids::DeliveryKey;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use uuid::Uuid;

/// One event in the log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its place in the log; later is greater.
    pub seq: i64,
    /// Entries of one chat share a lane.
    pub lane: i64,
    /// Whose it is.
    pub instance_id: Uuid,
    /// Our id for it, which its domain event will have.
    pub event_id: Uuid,
    /// When it became durable.
    pub accepted_at: Time,
    /// The trace that it belongs to, when somebody looks at that.
    pub trace: Option<Arc<str>>,
    /// What was accepted.
    pub body: Arc<Body>,
    /// By what a second delivery is recognised, when that was not done before it came into the log.
    pub key: Option<String>,
    /// Whether it lies in the log once more because the log had lost it: the first time may have been read all the same.
    pub again: bool,
}

/// The bytes of an event, and what they say.
#[derive(Debug)]
pub struct Body {
    /// The event as JSON, as it crossed the boundary, with NUL escaped.
    pub payload: Vec<u8>,
    /// What it says; the sentence says why it cannot be read.
    pub parsed: Result<Parsed, String>,
}

/// What an event says.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The event, without `raw`.
    pub event: Event,
    /// Where in the payload the network's own words are.
    pub raw: Option<Range<usize>>,
    /// How it came to be told.
    pub origin: Origin,
}

/// How an event came to be told. Where that was not by the network by itself, it is said in the event's own bytes: so it goes
/// wherever they go, through either log, into the dead letters and back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// By the network, as it happened.
    #[default]
    Live,
    /// It was missed, and asked for: news all the same.
    Missed,
    /// It was asked for as history: nothing of it is new.
    History,
}

impl Origin {
    /// The event as JSON with this said in it. It must not say so already.
    pub fn mark(self, event: &[u8]) -> Vec<u8> {
        let (Some(word), Some(rest)) = (self.word(), event.strip_prefix(b"{")) else { return event.to_vec() };
        [br#"{"origin":""#.as_slice(), word.as_bytes(), br#"","#, rest].concat()
    }

    fn word(self) -> Option<&'static str> {
        match self {
            Self::Live => None,
            Self::Missed => Some("missed"),
            Self::History => Some("history"),
        }
    }

    /// What the event's bytes say; anything that is not one of our words is a channel's own.
    fn of(said: Option<&RawValue>) -> Self {
        let said = said.map(|said| said.get().trim_matches('"'));
        [Self::Missed, Self::History].into_iter().find(|origin| origin.word() == said).unwrap_or_default()
    }

    /// Omni v2's word for where a message comes from.
    pub fn source(self) -> &'static str {
        match self {
            Self::Live => "realtime",
            Self::Missed | Self::History => "sync",
        }
    }
}

impl Entry {
    /// The network's own words, as JSON.
    pub fn raw(&self) -> Option<&str> {
        let range = self.body.parsed.as_ref().ok()?.raw.clone()?;
        std::str::from_utf8(self.body.payload.get(range)?).ok()
    }

    /// The name of what happened, in the words of domain events.
    pub fn event_type(&self) -> String {
        match &self.body.parsed {
            Ok(Parsed { event: Event { body: EventBody::Message(_), .. }, origin: Origin::History, .. }) => {
                SYNCED.to_owned()
            }
            Ok(parsed) => event_type(&parsed.event.body),
            Err(_) => "unknown".to_owned(),
        }
    }

    /// How it came to be told.
    pub fn origin(&self) -> Origin {
        self.body.parsed.as_ref().map_or(Origin::Live, |parsed| parsed.origin)
    }
}

/// What a message is called that was fetched as history, whoever wrote it.
pub const SYNCED: &str = "message.synced";

/// The domain event that an event becomes, in Omni v2's words where it has them. `custom.…` for a kind that is not known.
pub fn event_type(body: &EventBody) -> String {
    match body {
        EventBody::Message(message) if message.sender.is_from_me => "message.sent",
        EventBody::Message(_) => "message.received",
        EventBody::Edit(_) => "message.edited",
        EventBody::Delete(_) => "message.deleted",
        EventBody::Reaction(reaction) if reaction.emojis.is_empty() && reaction.counts.is_empty() => "reaction.removed",
        EventBody::Reaction(reaction) if reaction.change == omni_channel_sdk::event::ReactionChange::Remove => {
            "reaction.removed"
        }
        EventBody::Reaction(_) => "reaction.received",
        EventBody::PollVote(_) => "message.poll_vote",
        EventBody::ButtonAnswer(_) => "message.button_click",
        EventBody::Receipt(receipt) if receipt.kind == omni_channel_sdk::event::ReceiptKind::Delivered => {
            "message.delivered"
        }
        EventBody::Receipt(_) => "message.read",
        EventBody::Typing(_) => "presence.typing",
        EventBody::Presence(presence) if presence.state == omni_channel_sdk::event::PresenceState::Offline => {
            "presence.offline"
        }
        EventBody::Presence(_) => "presence.online",
        EventBody::Membership(_) => "system.membership",
        EventBody::ChatUpdate(_) => "system.chat_updated",
        EventBody::UserUpdate(_) => "system.user_updated",
        EventBody::SendUpdate(update) if update.error.is_some() => "message.failed",
        EventBody::SendUpdate(_) => "message.sent",
        EventBody::Call(_) => "system.call",
        EventBody::Unknown(unknown) => {
            // A channel marks its own words with its name, which the event's name has already.
            let word = unknown.kind.rsplit('.').next().unwrap_or_default();
            let word: String = word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(40).collect();
            return format!("custom.{}", if word.is_empty() { "unknown" } else { &word });
        }
    }
    .to_owned()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    #[serde(default)]
    delivery_key: Option<DeliveryKey>,
    at: i64,
    #[serde(default)]
    chat: Option<Chat>,
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(borrow, default)]
    raw: Option<&'a RawValue>,
    #[serde(borrow, default)]
    origin: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Kind<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
}

/// Reads what happened. A message, which nearly everything is, is read straight; the general way goes through a tree of
/// values first.
fn body(json: &str) -> Result<EventBody, serde_json::Error> {
    let kind: Kind<'_> = serde_json::from_str(json)?;
    if kind.kind != "message" {
        return serde_json::from_str(json);
    }
    let message: Message = serde_json::from_str(json)
        .map_err(|error| <serde_json::Error as serde::de::Error>::custom(format_args!("message: {error}")))?;
    Ok(message.into())
}

/// The earliest time that an event is believed to have happened at: 1990.
const EARLIEST: i64 = 631_152_000_000;
/// How far ahead of ours the network's clock may be: a day.
const AHEAD: i64 = 86_400_000;

/// Reads an event. A time that cannot be is replaced by the one at which the event was accepted.
pub fn parse(payload: &[u8], accepted_at: Time) -> Result<Parsed, String> {
    let wire: Wire<'_> = serde_json::from_slice(payload).map_err(|error| error.to_string())?;
    let body = body(wire.body.get()).map_err(|error| error.to_string())?;
    let raw = wire.raw.map(|raw| {
        // `raw` is borrowed from `payload`, so its address says where it lies.
        let start = raw.get().as_ptr().addr() - payload.as_ptr().addr();
        start..start + raw.get().len()
    });
    let now = accepted_at.millis();
    let at = if (EARLIEST..=now.saturating_add(AHEAD)).contains(&wire.at) { wire.at } else { now };
    let event = Event { delivery_key: wire.delivery_key, at, chat: wire.chat, body, origin: None, raw: None };
    Ok(Parsed { event, raw, origin: Origin::of(wire.origin) })
}
