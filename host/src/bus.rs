//! The bus: what a network was told that we have, in order, until every consumer has had it.
//!
//! `accept` returns when the events are durable, and not before; a second delivery of the same event is dropped here.
//! Callers see one handle; behind it is a log in the store, or JetStream. The former recognises a second delivery itself,
//! the latter leaves that to the storage consumer.
//!
//! Deliberately not here: what an event does. The consumers of the log decide that.

mod backlog;
pub(crate) mod door;
mod embedded;
mod nats;
mod queue;
mod tail;

pub(crate) use nats::{Advisories, AskError, Inspected, OF_NATS, Peers, Publisher, Question, Sizes, inspect};
pub use nats::{Durability, NatsError, NatsOptions};

use crate::clock::Clock;
use crate::store::entry::Entry;
use crate::store::kv::KvWriteSealed;
use crate::store::{self, Store, StoreError, Time};
use crate::traces::{self, SpanKind, Traces};
use serde_json::value::RawValue;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// Events and key-value entries of one instance that become durable together, or not at all.
#[derive(Debug)]
pub struct Accept {
    /// Whose.
    pub instance_id: Uuid,
    /// The instance's channel.
    pub channel: String,
    /// What happened, in order.
    pub events: Vec<AcceptEvent>,
    /// Sealed entries, in order.
    pub writes: Vec<KvWriteSealed>,
    /// The plugin that writes them.
    pub plugin_id: String,
}

/// One event as it crossed the boundary: the JSON of an [`omni_channel_sdk::event::Event`]. It may be anything.
#[derive(Clone, Debug)]
pub struct AcceptEvent(pub Vec<u8>);

impl From<Box<RawValue>> for AcceptEvent {
    fn from(json: Box<RawValue>) -> Self {
        Self(Box::<str>::from(json).into_string().into_bytes())
    }
}

impl From<&omni_channel_sdk::event::Event> for AcceptEvent {
    fn from(event: &omni_channel_sdk::event::Event) -> Self {
        Self(serde_json::to_vec(event).expect("events have string keys"))
    }
}

/// What became durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Events that were new.
    pub appended: usize,
    /// Events that had been delivered before, and were dropped.
    pub duplicates: usize,
    /// Events that are not stored (typing, presence) and were handed on at once.
    pub ephemeral: usize,
}

/// Why nothing of it became durable.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// An event cannot be taken: which, from 0, and what is wrong with it. A bug of the plugin; again is in vain.
    #[error("event {index} was refused: {reason}")]
    Refused {
        /// Which event of the call, from 0.
        index: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A key-value entry cannot be taken: which, and what is wrong with it.
    #[error("the entry `{key}` was refused: {reason}")]
    RefusedWrite {
        /// Its key, cut if it is long.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too much is waiting to become durable. Again later.
    #[error("too many events are waiting to be stored; try again later")]
    Full,
    /// The database refused or is away. Again later, from the same place.
    #[error("failed to store the events: {0}")]
    Store(String),
    /// The bus has ended.
    #[error("the host is shutting down")]
    Closed,
}

/// What the bus takes and keeps.
#[derive(Clone, Debug)]
pub struct BusOptions {
    /// The largest event, in bytes.
    pub max_event_bytes: usize,
    /// The largest call, in bytes of all its events and entries.
    pub max_accept_bytes: usize,
    /// How much may wait to become durable, in KiB (an event counts for at least one).
    pub queue_kib: u32,
    /// How long a call waits for room before it is `Full`.
    pub full_after: Duration,
    /// How many lanes there are in a new database.
    pub lanes: u32,
    /// How many entries of one instance may wait for the storage consumer before no more of it is taken: what is
    /// acknowledged faster than it can be stored would be shown later and later, its neighbours' as well.
    pub most_waiting: i64,
    /// How long an entry is kept once every consumer has had it.
    pub keep_log: Duration,
    /// How many such entries are kept at most.
    pub keep_entries: i64,
    /// How long a delivery key is remembered.
    pub keep_keys: Duration,
    /// Makes spans of what is accepted and stored.
    pub traces: Traces,
}

impl Default for BusOptions {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(86_400);
        Self {
            max_event_bytes: 1 << 20,
            max_accept_bytes: 16 << 20,
            queue_kib: 32 << 10,
            full_after: Duration::from_secs(5),
            lanes: 64,
            most_waiting: 4_096,
            keep_log: DAY,
            keep_entries: 200_000,
            keep_keys: DAY * 7,
            traces: Traces::default(),
        }
    }
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus {
    store: Store,
    clock: Clock,
    options: Arc<BusOptions>,
    log: Log,
}

#[derive(Clone, Debug)]
enum Log {
    Embedded(embedded::Writer),
    Nats(nats::Nats),
}

impl Bus {
    /// Opens the log in the store, and starts its writer. One bus a store.
    pub async fn open(store: Store, clock: Clock, options: BusOptions) -> Result<Self, StoreError> {
        let log = Log::Embedded(embedded::Writer::start(store.clone(), clock.clone(), &options).await?);
        Ok(Self { store, clock, options: Arc::new(options), log })
    }

    /// Opens the log in NATS, and starts its writer. It is read once somebody follows it.
    pub async fn open_nats(
        store: Store,
        clock: Clock,
        host: Uuid,
        mut options: BusOptions,
        nats: NatsOptions,
    ) -> Result<Self, NatsError> {
        let log = Log::Nats(nats::Nats::open(store.clone(), clock.clone(), host, &mut options, nats).await?);
        Ok(Self { store, clock, options: Arc::new(options), log })
    }

    fn queue(&self) -> &queue::Queue {
        match &self.log {
            Log::Embedded(writer) => &writer.queue,
            Log::Nats(nats) => &nats.queue,
        }
    }

    /// The name under which a consumer's position in this log is kept.
    pub fn stream(&self) -> &'static str {
        match &self.log {
            Log::Embedded(_) => "inbound",
            Log::Nats(_) => nats::STREAM,
        }
    }

    /// How much lies between two places: entries, or with NATS messages, each of which has many.
    pub fn distance(&self) -> fn(i64, i64) -> u64 {
        match &self.log {
            Log::Embedded(_) => |from, to| u64::try_from(to - from).unwrap_or(0),
            Log::Nats(_) => nats::Nats::distance,
        }
    }

    /// When the oldest entry behind a place was accepted, of those that the storage consumer has at hand with NATS.
    pub fn waits_since(&self, place: i64) -> Option<Time> {
        match &self.log {
            Log::Embedded(_) => None,
            Log::Nats(nats) => nats.waits_since(place),
        }
    }

    /// Whether NATS is connected, and what its acknowledgement means; `None` when the log is in the database.
    pub fn nats(&self) -> Option<(bool, Durability)> {
        match &self.log {
            Log::Embedded(_) => None,
            Log::Nats(nats) => Some(nats.health()),
        }
    }

    /// The way to other hosts, when there can be some.
    pub(crate) fn peers(&self, sizes: Sizes) -> Option<Peers> {
        match &self.log {
            Log::Embedded(_) => None,
            Log::Nats(nats) => Some(nats.peers(sizes)),
        }
    }

    /// Brings what is read behind a place to this host from now on.
    pub(crate) fn follow(&self, position: i64) {
        if let Log::Nats(nats) = &self.log {
            nats.follow(position);
        }
    }

    /// Says whether other hosts write to the log as well.
    pub(crate) fn share(&self, with_others: bool) {
        if let Log::Nats(nats) = &self.log {
            nats.share(with_others);
        }
    }

    /// Who reads what consumers of NATS give up, when there is one.
    pub(crate) fn advisories(&self) -> Option<Advisories> {
        match &self.log {
            Log::Embedded(_) => None,
            Log::Nats(nats) => Some(nats.advisories(self.store.clone(), self.clock.clone())),
        }
    }

    /// Publishes an event that a consumer of NATS gave up again. The sentence says why that cannot be.
    pub(crate) async fn publish_again(&self, letter: &store::dead_letters::DeadLetter) -> Result<(), String> {
        match &self.log {
            Log::Embedded(_) => Err("there is no NATS here any more (`bus.url`)".into()),
            Log::Nats(nats) => nats.publish_again(letter).await,
        }
    }

    /// Who carries the domain events to NATS, when there is one.
    pub(crate) fn publisher(&self) -> Option<Publisher> {
        match &self.log {
            Log::Embedded(_) => None,
            Log::Nats(nats) => Some(nats.publisher(self.store.clone(), self.clock.clone())),
        }
    }

    /// Makes events and entries durable, together, and drops events that were delivered before.
    pub async fn accept(&self, accept: Accept) -> Result<Accepted, AcceptError> {
        let checked = door::check(accept, &self.options, self.clock.now())?;
        let step = traces::child("bus.accept", SpanKind::Internal);
        let accepted = step.run(self.queue().append(checked)).await;
        match &accepted {
            Ok(accepted) => {
                step.set("events.appended", accepted.appended as i64);
                step.set("events.duplicates", accepted.duplicates as i64);
            }
            Err(_) => step.fail("it was not accepted"),
        }
        accepted
    }

    /// Makes spans.
    pub fn traces(&self) -> &Traces {
        &self.options.traces
    }

    /// Entries behind a place, in order, at most `max`; the newest come from memory. With NATS there may be none although
    /// some are durable, and what is asked for once is not held before that place any more.
    pub async fn read(&self, after: i64, max: u32) -> Result<Vec<Arc<Entry>>, StoreError> {
        let writer = match &self.log {
            Log::Embedded(writer) => writer,
            Log::Nats(nats) => return Ok(nats.read(after, max).await),
        };
        if let Some(entries) = writer.tail.read(after, max as usize) {
            return Ok(entries);
        }
        let entries = store::log::read(&mut self.store.read().await?, after, max).await?;
        Ok(entries.into_iter().map(Arc::new).collect())
    }

    /// The place of the newest durable entry, and word of every change.
    pub fn newest(&self) -> watch::Receiver<i64> {
        match &self.log {
            Log::Embedded(writer) => writer.tail.newest(),
            Log::Nats(nats) => nats.newest(),
        }
    }

    /// Says how far the storage consumer has come.
    pub fn stored(&self, seq: i64) {
        match &self.log {
            Log::Embedded(writer) => writer.queue.backlog.stored(seq),
            Log::Nats(nats) => nats.stored(seq, self.clock.now()),
        }
    }

    /// Puts an event back whose consumer had given it up. Its delivery key is not looked at.
    pub async fn retry(&self, letter: &store::dead_letters::DeadLetter) -> Result<(), AcceptError> {
        let Some(instance_id) = letter.instance_id else {
            return Err(AcceptError::Store("the dead letter belongs to no instance".into()));
        };
        let again = door::again(instance_id, letter.event_id, letter.accepted_at, &letter.payload)?;
        self.queue().append(again).await.map(drop)
    }

    /// Deletes what every consumer has had and is old enough, and delivery keys that are old enough; a little at a time,
    /// so that whoever writes waits for no more than one step. Says how many rows went.
    pub async fn trim(&self, now: Time) -> Result<u64, StoreError> {
        const STEP: u32 = 1_000;
        let before = |age: Duration| now.plus_millis(-i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        let mut gone = match &self.log {
            Log::Embedded(_) => 0,
            Log::Nats(nats) => nats.trim(before(self.options.keep_log)).await.unwrap_or_else(|error| {
                tracing::warn!(error, "failed to trim the log in NATS");
                0
            }),
        };
        loop {
            let mut tx = self.store.begin().await?;
            let entries =
                store::log::trim(&mut tx, before(self.options.keep_log), self.options.keep_entries, STEP).await?;
            let keys = store::log::forget(&mut tx, before(self.options.keep_keys), STEP).await?;
            tx.commit().await?;
            gone += entries + keys;
            if entries < u64::from(STEP) && keys < u64::from(STEP) {
                return Ok(gone);
            }
            tokio::task::yield_now().await;
        }
    }

    /// Trims every minute until it is dropped.
    pub async fn keep_trimmed(&self) {
        loop {
            self.clock.sleep(Duration::from_secs(60)).await;
            if let Err(error) = self.trim(self.clock.now()).await {
                tracing::warn!(error = error.explain(), "failed to trim the log");
            }
        }
    }

    /// Returns when the writer is no more, which is an accident: it ends with the last handle.
    pub async fn ended(&self) {
        self.queue().ended().await;
    }

    /// Takes nothing more, and returns when everything that was taken is durable or refused.
    pub async fn close(&self) {
        match &self.log {
            Log::Embedded(writer) => writer.queue.close().await,
            Log::Nats(nats) => nats.close().await,
        }
    }

    /// Completes a look at the ledger with what lies in the log, where that is not in the database. The sentence says why
    /// that cannot be told.
    pub async fn complete(&self, found: &mut store::ledger::Ledger) -> Result<(), String> {
        if let Log::Nats(nats) = &self.log {
            let there = nats.count(found.between()).await?;
            found.complete(&there);
        }
        Ok(())
    }

    /// Counts for the ledger what hosts accepted that are gone.
    pub async fn count_gone(&self) -> Result<(), String> {
        match &self.log {
            Log::Embedded(_) => Ok(()),
            Log::Nats(nats) => nats.count_gone().await,
        }
    }
}
