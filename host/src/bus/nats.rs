//! The bus in NATS JetStream: a stream is the log, and others carry the domain events to whoever reads them there, under
//! Omni v2's names.
//!
//! JetStream acknowledges what it has written, which is not what it has flushed: unless its server says `sync_interval:
//! always`, or keeps several copies, a power cut takes the last two minutes along. So the server is looked at when the
//! host starts, and whoever accepted an event keeps it until it is stored: a stream that loses its end, or is deleted, gets
//! it again.
//!
//! Deliberately not here: what an event does. A second delivery is recognised where it is stored, since only there is a
//! transaction to do it in.

mod advisories;
mod carry;
mod events;
mod inspect;
mod ledger;
mod packet;
mod parts;
mod peers;
mod reader;
mod server;
mod writer;

pub(crate) use advisories::{Advisories, OF_NATS};
pub(crate) use carry::Sizes;
pub(crate) use events::Publisher;
pub(crate) use inspect::{Inspected, inspect};
pub(crate) use peers::{AskError, Peers, Question};
pub use server::Durability;

use super::BusOptions;
use super::queue::Queue;
use crate::clock::Clock;
use crate::store::dead_letters::DeadLetter;
use crate::store::entry::Entry;
use crate::store::ledger::{Changes, Span};
use crate::store::{Store, StoreError, Time, consumers, log};
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{self, DiscardPolicy, StorageType};
use async_nats::jetstream::{self, ErrorCode};
use reader::Buffer;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;
use writer::Kept;

/// The name under which the storage consumer's position in this log is kept.
pub(super) const STREAM: &str = "inbound.nats";
/// How long one question to JetStream may take.
const WITHIN: Duration = Duration::from_secs(5);
/// Marks a message that is published again because the stream had lost it.
const AGAIN: &str = "Omni-Again";
/// The header that says which host accepted what is in a message.
const HOST: &str = "Omni-Host";
/// How long a cluster may take until it has a leader, and how often it is asked.
const READY_WITHIN: Duration = Duration::from_secs(30);
const READY_AGAIN: Duration = Duration::from_millis(200);
/// Room that a message's headers take.
const HEADERS: usize = 1 << 10;
/// Within which time JetStream recognises a message that is published again.
const DUPLICATES: Duration = Duration::from_secs(120);

/// Which NATS, and how it is used.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Its servers: `nats://user:password@host:4222`, several with commas between them.
    pub url: String,
    /// What begins the names of our own stream, so that several installations can share one NATS.
    pub prefix: String,
    /// How many copies of each stream a cluster keeps.
    pub replicas: usize,
    /// The most that the log may hold. When it is full nothing is accepted.
    pub max_bytes: i64,
    /// A file with the credentials of an account (`.creds`).
    pub credentials: Option<PathBuf>,
    /// Certificates of authorities that are trusted beside those that the machine trusts.
    pub ca_file: Option<PathBuf>,
    /// Where a server's monitoring answers, which tells how durable it is.
    pub monitor_url: Option<String>,
}

impl NatsOptions {
    /// The name of the stream that is the log.
    fn inbound(&self) -> String {
        format!("{}_INBOUND", self.prefix.to_uppercase())
    }
}

/// Why NATS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// It cannot be reached, or lets nobody in.
    #[error("failed to connect to NATS: {0}; check `bus.url` and that the server runs")]
    Connect(String),
    /// It is none that the log can be kept in; the sentence says why, and what to do.
    #[error("{0}")]
    Unfit(String),
    /// JetStream refused, or did not answer.
    #[error("failed to prepare the stream {stream}: {reason}")]
    Stream {
        /// Which.
        stream: String,
        /// Why.
        reason: String,
    },
    /// The database is away.
    #[error("{}", .0.explain())]
    Store(#[from] StoreError),
}

/// What the parts share.
pub(super) struct Shared {
    jetstream: jetstream::Context,
    /// This host, as its messages name it.
    host: String,
    /// The stream that is the log, and the subject that it takes.
    inbound: String,
    subject: String,
    config: stream::Config,
    buffer: Buffer,
    /// How often the server has been connected.
    connections: watch::Receiver<u64>,
    newest: watch::Sender<i64>,
    /// What was accepted here and is not stored yet.
    kept: Mutex<VecDeque<Kept>>,
    /// The last message that is stored to its end.
    stored_message: AtomicU64,
    /// Whether other hosts write to the log, too.
    is_shared: AtomicBool,
    /// What has been stored, and when that was: what is older than the log is kept goes.
    stored: Mutex<VecDeque<(Time, u64)>>,
}

impl Shared {
    /// Says that everything up to a place is durable.
    fn reached(&self, place: i64) {
        self.newest.send_if_modified(|newest| {
            let later = place > *newest;
            *newest = place.max(*newest);
            later
        });
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("inbound", &self.inbound).finish_non_exhaustive()
    }
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Nats {
    pub queue: Queue,
    shared: Arc<Shared>,
    server: Arc<server::Server>,
    options: Arc<NatsOptions>,
    /// Runs once the log is followed, which one host does at a time.
    reader: Arc<Mutex<Option<AbortOnDropHandle<()>>>>,
    counting: Arc<ledger::Counting>,
    _writing_down: Arc<AbortOnDropHandle<()>>,
}

impl Nats {
    /// Connects, looks at the server, makes the stream if there is none, and starts the writer and the reader. Narrows
    /// what the bus takes to what the server takes.
    pub async fn open(
        store: Store,
        clock: Clock,
        host: Uuid,
        options: &mut BusOptions,
        nats: NatsOptions,
    ) -> Result<Self, NatsError> {
        let server = server::Server::connect(&nats).await?;
        let most = server.max_payload.saturating_sub(HEADERS);
        // Around an event in a message is a little of our own.
        options.max_event_bytes = options.max_event_bytes.min(most.saturating_sub(3 << 10));
        let jetstream =
            jetstream::context::ContextBuilder::new().timeout(WITHIN).ack_timeout(WITHIN).build(server.client.clone());
        let inbound = nats.inbound();
        let subject = format!("{}.inbound", nats.prefix);
        let config = stream::Config {
            name: inbound.clone(),
            description: Some("what channels were told that Omni has, until it is stored".into()),
            subjects: vec![subject.clone()],
            max_bytes: nats.max_bytes,
            // What is not stored yet is never dropped: nothing more is taken instead.
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: nats.replicas,
            duplicate_window: DUPLICATES,
            allow_direct: true,
            ..stream::Config::default()
        };
        let mut tx = store.begin().await?;
        let lanes = log::lanes(&mut tx, options.lanes.max(1), clock.now()).await?;
        let position = consumers::reached(&mut tx, crate::inbound::CONSUMER, STREAM).await?.unwrap_or(0);
        tx.commit().await?;
        let shared = Arc::new(Shared {
            jetstream,
            host: host.to_string(),
            inbound,
            subject,
            config,
            buffer: Buffer::default(),
            connections: server.connections.clone(),
            newest: watch::Sender::new(position),
            kept: Mutex::default(),
            stored_message: AtomicU64::new(packet::message_of(position)),
            is_shared: AtomicBool::new(false),
            stored: Mutex::default(),
        });
        let stored = packet::message_of(position);
        let ends = tokio::time::Instant::now() + READY_WITHIN;
        let (last, created) = loop {
            match writer::prepare(&shared, stored).await {
                // A cluster that has just been started has no leader yet.
                Err(NatsError::Stream { stream, reason }) if tokio::time::Instant::now() < ends => {
                    tracing::debug!(stream, reason, "NATS does not take the stream yet");
                    pause(READY_AGAIN).await;
                }
                prepared => break prepared?,
            }
        };
        if last > stored && is_ours(&shared, last).await {
            // Not read yet, and durable all the same.
            shared.reached(packet::place_of(last));
        }
        let (queue, calls) = Queue::new(clock.clone(), options);
        let log = (shared.jetstream.clone(), shared.inbound.clone());
        let counting = ledger::Counting::begin(store.clone(), clock.clone(), host, log, last).await?;
        let lanes = u64::from(lanes);
        let writer = writer::Group::new(store, clock, lanes, most, &queue, &shared, &counting, last, created);
        tokio::spawn(writer.run(calls));
        let writing_down = Arc::new(AbortOnDropHandle::new(tokio::spawn(Arc::clone(&counting).keep())));
        let (server, options, reader) = (Arc::new(server), Arc::new(nats), Arc::default());
        Ok(Self { queue, shared, server, options, reader, counting, _writing_down: writing_down })
    }

    /// Reads the log behind a place from now on.
    pub fn follow(&self, position: i64) {
        self.shared.reached(position);
        let reader = AbortOnDropHandle::new(tokio::spawn(reader::follow(Arc::clone(&self.shared), position)));
        *self.reader.lock().unwrap_or_else(PoisonError::into_inner) = Some(reader);
    }

    /// Whether other hosts write to the log, too: then what was accepted here is looked for in the store before it is let
    /// go of.
    pub fn share(&self, with_others: bool) {
        self.shared.is_shared.store(with_others, Ordering::Release);
    }

    pub async fn read(&self, after: i64, max: u32) -> Vec<Arc<Entry>> {
        self.shared.buffer.read(after, max as usize).await
    }

    pub fn waits_since(&self, place: i64) -> Option<Time> {
        self.shared.buffer.waits_since(place)
    }

    pub fn newest(&self) -> watch::Receiver<i64> {
        self.shared.newest.subscribe()
    }

    /// Lets go of what is stored.
    pub fn stored(&self, place: i64, now: Time) {
        let message = packet::message_of(place);
        // The message that the place lies in is stored to its end only there.
        let whole = if place == packet::place_of(message) { message } else { message.saturating_sub(1) };
        self.shared.stored_message.store(whole, Ordering::Release);
        if !self.shared.is_shared.load(Ordering::Acquire) {
            let mut kept = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
            while kept.front().is_some_and(|kept| kept.message <= whole) {
                kept.pop_front();
            }
        }
        let mut stored = self.shared.stored.lock().unwrap_or_else(PoisonError::into_inner);
        match stored.back_mut() {
            // A minute is as fine as it needs to be.
            Some((since, last)) if now < since.plus(Duration::from_secs(60)) => *last = whole,
            _ => stored.push_back((now, whole)),
        }
        self.queue.backlog.stored(place);
    }

    /// How many messages of the log lie between two places.
    pub fn distance(from: i64, to: i64) -> u64 {
        packet::messages_between(from, to)
    }

    /// Deletes what was stored before a time. When the log is half full all that is stored goes.
    pub async fn trim(&self, before: Time) -> Result<u64, String> {
        let stream = self.shared.jetstream.get_stream(&self.shared.inbound).await.map_err(|error| error.to_string())?;
        let state = &stream.cached_info().state;
        let half_full =
            self.options.max_bytes > 0 && state.bytes.saturating_mul(2) > self.options.max_bytes.unsigned_abs();
        let message = {
            let mut stored = self.shared.stored.lock().unwrap_or_else(PoisonError::into_inner);
            let mut old = None;
            while stored.front().is_some_and(|(at, _)| half_full || *at < before) {
                old = stored.pop_front().map(|(_, message)| message);
            }
            old
        };
        let Some(message) = message.filter(|message| *message >= state.first_sequence) else { return Ok(0) };
        let gone = stream.purge().sequence(message + 1).await.map_err(|error| error.to_string())?;
        Ok(gone.purged)
    }

    /// How durable the server is, and whether it is connected.
    pub fn health(&self) -> (bool, Durability) {
        (self.server.is_connected(), self.server.durability)
    }

    /// Puts what consumers of others give up into the dead letters.
    pub fn advisories(&self, store: Store, clock: Clock) -> Advisories {
        Advisories::new(store, clock, self.shared.jetstream.clone(), &self.options.prefix, self.options.replicas)
    }

    /// Publishes an event that a consumer gave up again, for every consumer of its stream.
    pub async fn publish_again(&self, letter: &DeadLetter) -> Result<(), String> {
        let place = letter.instance_id.map(|_| letter.subject.clone());
        let subject = events::subject_of(&letter.event_type, place);
        // Its own id would be recognised.
        let id = format!("{}:{}", letter.event_id, Uuid::new_v4().simple());
        let message = PublishMessage::build().payload(letter.payload.clone().into()).message_id(id);
        let sent = self.shared.jetstream.send_publish(subject, message).await.map_err(|error| error.to_string())?;
        sent.await.map(drop).map_err(|error| error.to_string())
    }

    /// Counts events of the log, of those that it still has.
    pub async fn count(&self, spans: Vec<Span>) -> Result<Vec<(Span, Changes)>, String> {
        if spans.is_empty() {
            return Ok(Vec::new());
        }
        ledger::count(&self.shared.jetstream, &self.shared.inbound, spans).await
    }

    /// Counts what hosts accepted that are gone.
    pub async fn count_gone(&self) -> Result<(), String> {
        self.counting.count_gone().await
    }

    /// Takes nothing more, and counts what was taken.
    pub async fn close(&self) {
        self.queue.close().await;
        if let Err(error) = self.counting.write_down().await {
            // The next start counts it in the stream.
            tracing::debug!(error = error.explain(), "what was accepted last is not written down");
        }
    }

    /// Carries the domain events to their streams.
    pub fn publisher(&self, store: Store, clock: Clock) -> Publisher {
        Publisher::new(store, clock, self.shared.jetstream.clone(), self.options.replicas)
    }
}

/// Whether a message is there and holds events: for one that does not, nobody is to wait.
async fn is_ours(shared: &Shared, message: u64) -> bool {
    let Ok(stream) = shared.jetstream.get_stream_no_info(&shared.inbound).await else { return false };
    stream.get_raw_message(message).await.is_ok_and(|found| packet::read(message, &found.payload).is_ok())
}

/// Waits for a server, whose time tests do not move.
#[expect(clippy::disallowed_methods, reason = "NATS does not know the clock of a test")]
async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}

fn failed(stream: &str, reason: impl ToString) -> NatsError {
    NatsError::Stream { stream: stream.to_owned(), reason: reason.to_string() }
}

/// A stream as it is; `None` when there is none of that name.
async fn find_stream(jetstream: &jetstream::Context, name: &str) -> Result<Option<stream::Info>, NatsError> {
    match jetstream.get_stream(name).await {
        Ok(found) => Ok(Some(found.cached_info().clone())),
        Err(error) => match error.kind() {
            GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => Ok(None),
            _ => Err(failed(name, error)),
        },
    }
}

/// Makes a stream, or brings the one that is there to what is configured. Tells whether it was made.
async fn make_stream(
    jetstream: &jetstream::Context,
    wanted: &stream::Config,
) -> Result<(stream::Info, bool), NatsError> {
    let Some(info) = find_stream(jetstream, &wanted.name).await? else {
        let made = jetstream.create_stream(wanted.clone()).await.map_err(|error| match error.kind() {
            CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_SUBJECT_OVERLAP => {
                let subjects = wanted.subjects.join(", ");
                let advice = "delete it, or give each installation an account of its own";
                NatsError::Unfit(format!(
                    "failed to prepare the stream {}: another stream of this NATS takes the subjects {subjects} already; \
                     {advice}",
                    wanted.name
                ))
            }
            _ => failed(&wanted.name, error),
        })?;
        return Ok((made.cached_info().clone(), true));
    };
    // Whatever else somebody has set stays; a size that is not ours to say is theirs.
    let mut config = info.config.clone();
    config.num_replicas = wanted.num_replicas;
    if wanted.max_bytes > 0 {
        config.max_bytes = wanted.max_bytes;
    }
    for subject in &wanted.subjects {
        if !config.subjects.contains(subject) {
            config.subjects.push(subject.clone());
        }
    }
    if config == info.config {
        return Ok((info, false));
    }
    let info = jetstream.update_stream(config).await.map_err(|error| failed(&wanted.name, error))?;
    Ok((info, false))
}
