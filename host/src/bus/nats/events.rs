//! Carries the domain events out of the store to JetStream, in order, each once: under Omni v2's names, so that a program
//! that reads Omni v2's streams reads ours.
//!
//! The table of domain events is the outbox: an event is written with what it tells of, and this consumer's place moves
//! behind what is acknowledged. What was published when the host ended is read back, so that nothing comes twice. A stream
//! that is gone is made anew and filled again from the store, as far back as it keeps anything.

use super::{DUPLICATES, NatsError, find_stream, make_stream};
use crate::clock::Clock;
use crate::store::consumers::{self, Position};
use crate::store::events::{self, DomainEvent, Filter};
use crate::store::{Store, StoreError};
use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, stream};
use std::collections::HashSet;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The consumer's name in `consumer_offsets`.
const CONSUMER: &str = "nats";
/// How many events are published at once.
const WINDOW: u32 = 512;
/// How many messages of a stream are looked at to find out what was published before the host ended: others may publish
/// there, too.
const LOOK_BACK: u64 = 2 * WINDOW as u64;
/// How long NATS is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// The header with an event's place in the store.
const PLACE: &str = "Omni-Seq";

/// A stream of domain events, as Omni v2 has it.
struct Topic {
    name: &'static str,
    /// The first words of its events' types.
    words: &'static [&'static str],
    days: u64,
}

/// Every type of event belongs to one: what no other takes is in the last.
const TOPICS: [Topic; 8] = [
    Topic { name: "MESSAGE", words: &["message"], days: 30 },
    Topic { name: "REACTION", words: &["reaction"], days: 7 },
    Topic { name: "INSTANCE", words: &["instance"], days: 7 },
    Topic { name: "IDENTITY", words: &["identity"], days: 90 },
    Topic { name: "MEDIA", words: &["media"], days: 7 },
    Topic { name: "ACCESS", words: &["access"], days: 30 },
    Topic { name: "CUSTOM", words: &["custom"], days: 7 },
    Topic { name: "SYSTEM", words: &["system", "sync", "batch-job", "presence", "webhook", "profile"], days: 7 },
];

impl Topic {
    fn takes(&self, event_type: &str) -> bool {
        let word = event_type.split('.').next().unwrap_or_default();
        self.words.contains(&word)
    }

    fn config(&self, replicas: usize) -> stream::Config {
        stream::Config {
            name: self.name.to_owned(),
            subjects: self.words.iter().map(|word| format!("{word}.>")).collect(),
            max_age: Duration::from_secs(self.days * 86_400),
            storage: stream::StorageType::File,
            num_replicas: replicas,
            duplicate_window: DUPLICATES,
            allow_direct: true,
            ..stream::Config::default()
        }
    }

    /// The consumer that fills the stream again from the store.
    fn refill(&self) -> String {
        format!("{CONSUMER}:refill:{}", self.name)
    }
}

/// The names of the streams.
pub(super) fn streams() -> impl Iterator<Item = &'static str> {
    TOPICS.iter().map(|topic| topic.name)
}

/// Where an event is published: `{type}.{channel}.{instance}`. One that belongs to no instance has words in their places,
/// so that whoever reads `{type}.>` gets it, too.
fn subject(event: &DomainEvent) -> String {
    let place = (!event.metadata.instance_id.is_nil()).then(|| event.subject());
    subject_of(&event.event_type, place)
}

/// The same, of an event whose type and place are known.
pub(super) fn subject_of(event_type: &str, place: Option<String>) -> String {
    let subject = place.unwrap_or_else(|| format!("{event_type}.host.none"));
    let known = TOPICS.iter().any(|topic| topic.takes(event_type));
    if known { subject } else { format!("custom.{subject}") }
}

/// Why a round ended.
#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error("{}", .0.explain())]
    Store(#[from] StoreError),
    #[error("{0}")]
    Nats(String),
    #[error("another host publishes the domain events; this one publishes no more")]
    Fenced,
}

impl From<NatsError> for PublishError {
    fn from(error: NatsError) -> Self {
        match error {
            NatsError::Store(error) => Self::Store(error),
            error => Self::Nats(error.to_string()),
        }
    }
}

/// The consumer. One a database.
#[derive(Debug)]
pub(crate) struct Publisher {
    store: Store,
    clock: Clock,
    jetstream: jetstream::Context,
    replicas: usize,
}

impl Publisher {
    pub(super) fn new(store: Store, clock: Clock, jetstream: jetstream::Context, replicas: usize) -> Self {
        Self { store, clock, jetstream, replicas }
    }

    /// Whoever has never published begins with what happens from now on.
    pub async fn begins(&self) -> Result<(), StoreError> {
        let mut tx = self.store.begin().await?;
        let (_, last) = events::ends(&mut tx).await?;
        consumers::begins(&mut tx, CONSUMER, "events", last, self.clock.now()).await?;
        tx.commit().await
    }

    /// Publishes until it is told to stop. While NATS is away, events wait in the store.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut backoff = BACKOFF.0;
        let mut warned = false;
        while !shutdown.is_cancelled() {
            let mut published = false;
            let session = self.session(&mut published);
            match shutdown.run_until_cancelled(session).await {
                None => return,
                Some(Ok(())) => {}
                Some(Err(PublishError::Fenced)) => {
                    tracing::error!("another host publishes the domain events; this one publishes no more");
                    return;
                }
                Some(Err(error)) => {
                    if published {
                        (backoff, warned) = (BACKOFF.0, false);
                    }
                    if !std::mem::replace(&mut warned, true) {
                        tracing::warn!(%error, "domain events cannot be published; they wait in the store");
                    }
                    let _ = shutdown.run_until_cancelled(self.clock.sleep(backoff)).await;
                    backoff = (backoff * 2).min(BACKOFF.1);
                }
            }
        }
    }

    /// Publishes until something fails.
    async fn session(&self, published: &mut bool) -> Result<(), PublishError> {
        let mut newest = self.store.feed().newest();
        let mut tx = self.store.begin().await?;
        let (_, last) = events::ends(&mut tx).await?;
        let reached = consumers::reached(&mut tx, CONSUMER, "events").await?;
        let mut position = consumers::claim(&mut tx, CONSUMER, "events", last, self.clock.now()).await?;
        tx.commit().await?;
        // The first time there is nothing that was published before.
        let reached = reached.filter(|_| position.fence > 1);
        self.make_streams(reached).await?;
        self.refill(&position).await?;
        let before = self.published_behind(position.seq).await?;
        loop {
            let mut tx = self.store.read().await?;
            let piece = events::after(&mut tx, position.seq, &Filter::default(), WINDOW).await?;
            drop(tx);
            if piece.lost > 0 {
                metrics::counter!("omni_events_lost_total", "consumer" => CONSUMER)
                    .increment(piece.lost.unsigned_abs());
                tracing::error!(
                    lost = piece.lost,
                    "domain events were not kept until they could be published (`retention.event_days`)"
                );
            }
            if piece.seen == position.seq {
                let place = position.seq;
                // The sender is the store's, which we hold.
                let _ = newest.wait_for(|newest| *newest > place).await;
                continue;
            }
            let wanted = piece.events.iter().filter(|event| !before.contains(&event.id.to_string()));
            self.publish(wanted).await?;
            *published = true;
            self.advance(&mut position, piece.seen).await?;
        }
    }

    async fn advance(&self, position: &mut Position, seen: i64) -> Result<(), PublishError> {
        let mut tx = self.store.begin().await?;
        if !consumers::advance(&mut tx, position, seen, self.clock.now()).await? {
            return Err(PublishError::Fenced);
        }
        tx.commit().await?;
        position.seq = seen;
        Ok(())
    }

    /// Makes the streams that are not there. What was published in one of them before is filled in again: that it has to be
    /// is written down first.
    async fn make_streams(&self, reached: Option<i64>) -> Result<(), PublishError> {
        for topic in &TOPICS {
            if let Some(reached) = reached
                && find_stream(&self.jetstream, topic.name).await?.is_none()
            {
                let mut tx = self.store.begin().await?;
                let now = self.clock.now();
                let days = i64::try_from(topic.days).unwrap_or(i64::MAX);
                let since = now.plus_millis(-days.saturating_mul(86_400_000));
                let start = events::place_before(&mut tx, since).await?.min(reached);
                consumers::claim(&mut tx, topic.refill(), "events", start, now).await?;
                tx.commit().await?;
            }
            make_stream(&self.jetstream, &topic.config(self.replicas)).await?;
        }
        Ok(())
    }

    /// Fills streams that were made anew, up to where everything was published before.
    async fn refill(&self, until: &Position) -> Result<(), PublishError> {
        for topic in &TOPICS {
            let mut tx = self.store.begin().await?;
            if consumers::reached(&mut tx, &topic.refill(), "events").await?.is_none() {
                continue;
            }
            let mut position = consumers::claim(&mut tx, topic.refill(), "events", 0, self.clock.now()).await?;
            tx.commit().await?;
            tracing::warn!(
                stream = topic.name,
                "a stream of domain events was gone; it is filled again from the store"
            );
            let types = topic.words.iter().map(|word| format!("{word}.*")).collect();
            let filter = Filter { types, ..Filter::default() };
            let mut filled = 0;
            while position.seq < until.seq {
                let mut tx = self.store.read().await?;
                let mut piece = events::after(&mut tx, position.seq, &filter, WINDOW).await?;
                drop(tx);
                piece.events.retain(|event| event.seq <= until.seq);
                self.publish(piece.events.iter()).await?;
                filled += piece.events.len();
                if piece.seen == position.seq {
                    break;
                }
                self.advance(&mut position, piece.seen).await?;
            }
            let mut tx = self.store.begin().await?;
            consumers::forget(&mut tx, &topic.refill()).await?;
            tx.commit().await?;
            tracing::info!(stream = topic.name, events = filled, "the stream is filled again");
        }
        Ok(())
    }

    /// The ids of events behind a place that are in their streams already.
    async fn published_behind(&self, place: i64) -> Result<HashSet<String>, PublishError> {
        let failed = |error: &dyn std::fmt::Display| PublishError::Nats(error.to_string());
        let mut ids = HashSet::new();
        for topic in &TOPICS {
            let stream = self.jetstream.get_stream(topic.name).await.map_err(|error| failed(&error))?;
            let last = stream.cached_info().state.last_sequence;
            let first = stream.cached_info().state.first_sequence.max(last.saturating_sub(LOOK_BACK) + 1);
            let mut number = last;
            while number >= first && number > 0 {
                // One that was deleted is no sign of the end.
                if let Ok(message) = stream.get_raw_message(number).await {
                    let seq = message.headers.get(PLACE).and_then(|seq| seq.as_str().parse::<i64>().ok());
                    match seq {
                        Some(seq) if seq <= place => break,
                        Some(_) => ids.extend(message.headers.get(NATS_MESSAGE_ID).map(ToString::to_string)),
                        None => {}
                    }
                }
                number -= 1;
            }
        }
        Ok(ids)
    }

    /// Publishes events and waits until all of them are acknowledged.
    async fn publish<'a>(&self, events: impl Iterator<Item = &'a DomainEvent>) -> Result<(), PublishError> {
        let failed = |error: async_nats::jetstream::context::PublishError| PublishError::Nats(error.to_string());
        let mut acks = Vec::new();
        for event in events {
            let payload = serde_json::to_vec(event).map_err(|error| PublishError::Nats(error.to_string()))?;
            let mut headers = HeaderMap::new();
            headers.insert(NATS_MESSAGE_ID, event.id.to_string());
            headers.insert(PLACE, event.seq.to_string());
            let message = PublishMessage::build().payload(payload.into()).headers(headers);
            acks.push(self.jetstream.send_publish(subject(event), message).await.map_err(failed)?);
        }
        let count = acks.len();
        for ack in acks {
            ack.await.map_err(failed)?;
        }
        metrics::counter!("omni_events_published_total").increment(count as u64);
        Ok(())
    }
}
