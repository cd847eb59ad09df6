//! What one message of the log holds: the events of a group of calls, in order, each as it crossed the boundary.
//!
//! A stream that flushes before it acknowledges takes some thousand messages a second and many times as many events.

use crate::bus::door::CheckedEvent;
use crate::bus::queue;
use crate::store::entry::{Body, Entry, parse};
use crate::store::{Store, Time};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::Arc;
use uuid::Uuid;

/// Places in the log that one message takes up, so that a place says which message and which event of it.
const PLACES: i64 = 1 << 12;
/// How many events one message has at most: each has a place.
const MOST_EVENTS: usize = (1 << 12) - 1;
/// What a message is around its events.
const HEAD: &[u8] = br#"{"version":1,"events":["#;
const TAIL: &[u8] = b"]}";

/// The place of the last event of a message, which is behind all that it could have.
pub(super) fn place_of(message: u64) -> i64 {
    i64::try_from(message).unwrap_or(i64::MAX / PLACES).saturating_mul(PLACES).saturating_add(PLACES - 1)
}

/// The message that a place lies in.
pub(super) fn message_of(place: i64) -> u64 {
    u64::try_from(place / PLACES).unwrap_or(0)
}

/// How many messages lie between two places.
pub(super) fn messages_between(from: i64, to: i64) -> u64 {
    message_of(to).saturating_sub(message_of(from))
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    lane: i64,
    instance_id: Uuid,
    event_id: Uuid,
    /// Microseconds since 1970.
    accepted_at: i64,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    trace: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event: &'a RawValue,
}

#[derive(Deserialize)]
struct Message<'a> {
    version: u32,
    #[serde(borrow)]
    events: Vec<Wire<'a>>,
}

/// A message that is being filled.
#[derive(Debug)]
pub(super) struct Packet {
    bytes: Vec<u8>,
    events: usize,
}

impl Packet {
    /// One without events.
    pub fn new() -> Self {
        Self { bytes: HEAD.to_vec(), events: 0 }
    }

    /// How many events it has.
    pub fn events(&self) -> usize {
        self.events
    }

    /// Whether something of so many events and bytes still goes in.
    pub fn has_room_for(&self, events: usize, bytes: usize, most: usize) -> bool {
        self.events + events <= MOST_EVENTS && self.bytes.len() + bytes + TAIL.len() <= most
    }

    /// Adds what [`written`] gave.
    pub fn push(&mut self, event: &[u8]) {
        if self.events > 0 {
            self.bytes.push(b',');
        }
        self.bytes.extend_from_slice(event);
        self.events += 1;
    }

    /// The message.
    pub fn done(mut self) -> Bytes {
        self.bytes.extend_from_slice(TAIL);
        self.bytes.into()
    }
}

/// An event as it lies in a message.
pub(super) fn written(
    store: &Store,
    instance_id: Uuid,
    trace: Option<&str>,
    event: &CheckedEvent,
    lanes: u64,
    now: Time,
) -> Result<Vec<u8>, serde_json::Error> {
    let (event_id, accepted_at) = event.again.unwrap_or_else(|| (store.new_id(now), now));
    serde_json::to_vec(&Wire {
        lane: queue::lane(instance_id, &event.chat, lanes),
        instance_id,
        event_id,
        accepted_at: accepted_at.0,
        key: event.delivery_key.as_deref().map(Cow::Borrowed),
        trace: trace.map(Cow::Borrowed),
        event: serde_json::from_slice(&event.body.payload)?,
    })
}

/// What a message holds, behind a place in it. The sentence says why it is none of ours.
pub(super) fn read(message: u64, bytes: &[u8]) -> Result<Vec<Entry>, String> {
    let Message { version, events } = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if version != 1 {
        return Err(format!("it is of version {version}, and this program knows version 1"));
    }
    if events.is_empty() || events.len() > MOST_EVENTS {
        return Err(format!("it has {} events", events.len()));
    }
    let last = events.len() - 1;
    let first = place_of(message) - (PLACES - 1);
    let entry = |(index, wire): (usize, Wire<'_>)| {
        let accepted_at = Time(wire.accepted_at);
        let payload = wire.event.get().as_bytes().to_vec();
        Entry {
            seq: if index == last { place_of(message) } else { first + i64::try_from(index).unwrap_or(0) },
            lane: wire.lane,
            instance_id: wire.instance_id,
            event_id: wire.event_id,
            accepted_at,
            body: Arc::new(Body { parsed: parse(&payload, accepted_at), payload }),
            key: wire.key.map(Cow::into_owned),
            again: false,
            trace: wire.trace.map(|trace| Arc::from(&*trace)),
        }
    };
    Ok(events.into_iter().enumerate().map(entry).collect())
}
