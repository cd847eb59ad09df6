//! Typing and presence, told to the other hosts: whoever follows what happens on any of them sees it, whichever host has
//! the instance.
//!
//! Nothing of it is kept. Who is behind misses some, and so do all when there is more of it than anybody can look at: what
//! was typed a moment ago is worth nothing now, and is in nobody's way.

use super::Hosts;
use crate::store::events::{DomainEvent, Metadata};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many events a host tells in a second; the rest is dropped.
const A_SECOND: u32 = 1_000;
/// The largest event that is told, in bytes: an id may take 1 KiB.
const LARGEST: usize = 8 << 10;
/// What the types of all of these events begin with.
const KIND: &str = "presence.";

/// An event on its way.
#[derive(Serialize, Deserialize)]
struct Told<'a> {
    id: Uuid,
    instance: Uuid,
    #[serde(borrow)]
    channel: Cow<'a, str>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    at: i64,
    #[serde(borrow)]
    chat: Option<Cow<'a, str>>,
    #[serde(borrow)]
    payload: Cow<'a, RawValue>,
}

/// The event in bytes; `None` when it is too large to be told.
fn written(event: &DomainEvent) -> Option<Vec<u8>> {
    let told = Told {
        id: event.id,
        instance: event.metadata.instance_id,
        channel: event.metadata.channel_type.as_str().into(),
        kind: event.event_type.as_str().into(),
        at: event.timestamp,
        chat: event.chat.as_deref().map(Cow::Borrowed),
        payload: Cow::Borrowed(&*event.payload),
    };
    serde_json::to_vec(&told).ok().filter(|bytes| bytes.len() <= LARGEST)
}

/// What a host told; `None` when it is not something that may be told: nobody slips in what would have to be stored.
fn read(bytes: &[u8]) -> Option<DomainEvent> {
    let told: Told<'_> = serde_json::from_slice(bytes).ok().filter(|_| bytes.len() <= LARGEST)?;
    told.kind.starts_with(KIND).then(|| DomainEvent {
        seq: 0,
        id: told.id,
        event_type: told.kind.into_owned(),
        payload: told.payload.into_owned(),
        timestamp: told.at,
        metadata: Metadata::of_channel(told.id, told.instance, told.channel.into_owned()),
        chat: told.chat.map(Cow::into_owned),
    })
}

/// Lets so many through in a second.
#[derive(Debug)]
struct Pace {
    began: Instant,
    count: u32,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { began: now, count: 0 }
    }

    fn lets_through(&mut self, now: Instant) -> bool {
        if now.duration_since(self.began) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        self.count = self.count.saturating_add(1);
        self.count <= A_SECOND
    }
}

/// Tells the others what this host's instances say, until it is told to stop.
pub(super) async fn tell(hosts: Hosts, stop: CancellationToken) {
    let Some(inner) = hosts.0.clone() else { return };
    let mut own = inner.store.feed().own();
    let mut pace = Pace::new(Instant::now());
    while let Some(event) = stop.run_until_cancelled(own.recv()).await {
        let event = match event {
            Ok(event) => event,
            Err(RecvError::Lagged(_)) => continue,
            Err(RecvError::Closed) => return,
        };
        if hosts.has_others()
            && pace.lets_through(Instant::now())
            && let Some(bytes) = written(&event)
        {
            inner.peers.tell_live(inner.me, bytes).await;
        }
    }
}

/// Hands on what the others tell, until it is told to stop.
pub(super) async fn hear(hosts: Hosts, stop: CancellationToken) {
    let Some(inner) = hosts.0.clone() else { return };
    let mut heard = match inner.peers.hear_live(inner.me).await {
        Ok(heard) => heard,
        Err(error) => return tracing::warn!(error, "typing and presence on other hosts cannot be heard"),
    };
    while let Some(Some(bytes)) = stop.run_until_cancelled(heard.next()).await {
        let feed = inner.store.feed();
        if feed.is_followed()
            && let Some(event) = read(&bytes)
        {
            feed.relay(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{SqliteOptions, Store};
    use serde_json::{json, value::to_raw_value};

    fn event(chat: &str, event_type: &str) -> DomainEvent {
        let id = Uuid::from_u128(7);
        DomainEvent {
            seq: 0,
            id,
            event_type: event_type.into(),
            payload: to_raw_value(&json!({"chatId": chat, "from": "ana \"a\"", "timeoutMs": 5_000})).expect("is JSON"),
            timestamp: 1_767_225_600_000,
            metadata: Metadata::of_channel(id, Uuid::from_u128(8), "test".into()),
            chat: Some(chat.into()),
        }
    }

    #[test]
    fn an_event_is_the_same_on_every_host() {
        let told = event("room \"1\"\n", "presence.typing");
        let heard = read(&written(&told).expect("is told")).expect("is heard");
        assert_eq!(serde_json::to_string(&heard).expect("is JSON"), serde_json::to_string(&told).expect("is JSON"));
        assert_eq!(heard.chat, told.chat, "by which streams are narrowed");
    }

    #[tokio::test]
    async fn what_another_host_told_is_not_told_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let opened = Store::open_sqlite(&folder.path().join("omni.db"), SqliteOptions::default()).await;
        let store = opened.expect("opens");
        let feed = store.feed();
        assert!(!feed.is_followed());
        let (mut own, mut all) = (feed.own(), feed.ephemeral());
        assert!(feed.is_followed());
        feed.relay(event("there", "presence.typing"));
        feed.publish(event("here", "presence.typing"));
        let mut next = || all.try_recv().expect("an event").chat.clone().expect("a chat");
        assert_eq!((next(), next()), ("there".into(), "here".into()));
        assert_eq!(own.try_recv().expect("an event").chat.as_deref(), Some("here"));
        assert!(own.try_recv().is_err());
        store.close().await;
    }

    #[test]
    fn nothing_else_is_taken_from_another_host() {
        let mut bytes = written(&event("room", "message.received")).expect("is told");
        assert!(read(&bytes).is_none(), "that would have to be stored");
        assert!(read(b"nonsense").is_none());
        assert!(read(b"{}").is_none());
        bytes = written(&event("room", "presence.typing")).expect("is told");
        assert!(read(&bytes[1..]).is_none());
        bytes.resize(LARGEST, b' ');
        assert!(read(&bytes).is_some());
        bytes.push(b' ');
        assert!(read(&bytes).is_none(), "too large");
        assert!(written(&event(&"x".repeat(LARGEST), "presence.typing")).is_none(), "and not told, either");
    }

    #[test]
    fn a_flood_is_cut_off_and_does_not_end_it_for_good() {
        let began = Instant::now();
        let mut pace = Pace::new(began);
        let through = |pace: &mut Pace, at| (0..10 * A_SECOND).filter(|_| pace.lets_through(at)).count();
        assert_eq!(through(&mut pace, began), A_SECOND as usize);
        assert_eq!(through(&mut pace, began + Duration::from_millis(999)), 0);
        assert_eq!(through(&mut pace, began + Duration::from_secs(1)), A_SECOND as usize);
    }
}
