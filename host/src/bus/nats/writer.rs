//! The writer of the log in NATS: one task, one message for everything that waits, the next when that is acknowledged.
//!
//! A call whose events fit into a message is in one: it is there whole, or not at all. What it wants to remember is written
//! once its events are durable, so that an end in between repeats events and skips none. What is accepted here is kept
//! until it is stored: when the stream turns out to have lost its end, or to be another one, it is published again.

use super::ledger::Counting;
use super::packet::{self, Packet};
use super::{AGAIN, HOST, NatsError, Shared, failed, make_stream, pause};
use crate::bus::backlog::Backlog;
use crate::bus::queue::{self, Queue, Waiting, answer};
use crate::bus::{AcceptError, Accepted};
use crate::clock::Clock;
use crate::store::log::{self, Key};
use crate::store::{Result, Store, StoreError, Time, fault, kv};
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream;
use bytes::Bytes;
use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

/// How long a message is tried to be published before its calls fail.
const WITHIN: Duration = Duration::from_secs(15);
/// The place of a message that is in the stream no more.
const NOWHERE: u64 = u64::MAX;
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);
/// How many kept messages are looked for in the store at once.
const AT_ONCE: usize = 64;
/// How many messages other hosts may have written that this one has not heard of: a stream that is made anew goes on so
/// far behind what this host knows.
const UNHEARD: u64 = 1 << 20;
/// How often the stream is looked at while it holds what is not stored.
const LOOK: Duration = Duration::from_secs(2);

/// A message that was accepted here and is not stored yet.
#[derive(Debug)]
pub(super) struct Kept {
    /// Where it is in the stream.
    pub message: u64,
    /// By what JetStream recognises it.
    id: String,
    bytes: Bytes,
    /// By what the store recognises its events.
    keys: Vec<Key>,
    /// Whether the stream had lost it before.
    again: bool,
}

/// Why a message was not taken.
enum NotTaken {
    /// The log is full.
    Full,
    /// There is no stream: deleted, or no server leads it at the moment.
    Gone,
    /// It did not answer, or refused.
    Failed(String),
}

impl From<StoreError> for NotTaken {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.explain())
    }
}

/// Makes the stream ready to be written to behind what was stored. Gives back its last message, and when it was made.
pub(super) async fn prepare(shared: &Shared, stored: u64) -> std::result::Result<(u64, i128), NatsError> {
    let (info, made) = there(shared, stored).await?;
    let last = info.state.last_sequence;
    if !made && last < stored {
        tracing::error!(
            stream = shared.inbound,
            last,
            stored,
            "the stream that is the log has lost its end, or is another one; it goes on behind what is stored"
        );
        skip_to(shared, stored).await?;
    }
    Ok((last.max(stored), info.created.unix_timestamp_nanos()))
}

/// The stream as it is, made when there is none. Tells whether it was made.
async fn there(shared: &Shared, behind: u64) -> std::result::Result<(stream::Info, bool), NatsError> {
    let mut config = shared.config.clone();
    // One that is made anew goes on behind what was there, so that places only ever rise.
    let unheard = if behind > 0 && shared.is_shared.load(Ordering::Acquire) { UNHEARD } else { 0 };
    config.first_sequence = Some(behind + unheard + 1);
    let (info, made) = make_stream(&shared.jetstream, &config).await?;
    if made && behind > 0 {
        tracing::warn!(
            stream = shared.inbound,
            "the stream that is the log was gone and is made anew; what was accepted and nobody had stored yet comes again \
             from the host that accepted it"
        );
    }
    Ok((info, made))
}

/// Lets the next message of a stream that has lost its end come behind one that it has not.
async fn skip_to(shared: &Shared, message: u64) -> std::result::Result<(), NatsError> {
    let stream = shared.jetstream.get_stream_no_info(&shared.inbound).await;
    let stream = stream.map_err(|error| failed(&shared.inbound, error))?;
    stream.purge().sequence(message + 1).await.map_err(|error| failed(&shared.inbound, error))?;
    Ok(())
}

/// The state of the writer's task.
pub(super) struct Group {
    store: Store,
    clock: Clock,
    lanes: u64,
    /// Bytes that a message may have.
    most: usize,
    backlog: Arc<Backlog>,
    shared: Arc<Shared>,
    counting: Arc<Counting>,
    /// The last message that is known to be in the stream.
    last: u64,
    /// When the stream was made.
    created: i128,
}

impl Group {
    #[expect(clippy::too_many_arguments, reason = "it is what the task begins with")]
    pub fn new(
        store: Store,
        clock: Clock,
        lanes: u64,
        most: usize,
        queue: &Queue,
        shared: &Arc<Shared>,
        counting: &Arc<Counting>,
        last: u64,
        created: i128,
    ) -> Self {
        let (backlog, shared, counting) = (Arc::clone(&queue.backlog), Arc::clone(shared), Arc::clone(counting));
        Self { store, clock, lanes, most, backlog, shared, counting, last, created }
    }

    pub async fn run(mut self, mut calls: mpsc::Receiver<Waiting>) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let first = tokio::select! {
                first = calls.recv() => first,
                _ = look.tick() => {
                    self.look().await;
                    continue;
                }
            };
            let Some(first) = first else { return };
            let group = queue::gather(first, &mut calls);
            self.publish_group(group).await;
        }
    }

    /// Looks after what is kept.
    async fn look(&mut self) {
        self.counting.idle(packet::place_of(self.shared.stored_message.load(Ordering::Acquire)));
        if self.shared.is_shared.load(Ordering::Acquire)
            && let Err(error) = self.let_go_of_stored().await
        {
            tracing::debug!(error, "what was accepted here cannot be looked for in the store");
        }
        let is_empty = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        if !is_empty && let Err(error) = self.look_after_kept().await {
            tracing::debug!(error, "the stream that is the log cannot be looked at");
        }
    }

    /// Lets go of what the store has. Where other hosts write as well, a place that is stored may be that of a message of
    /// theirs, in a stream that was made anew: what is not in the store, although its place is, is published again.
    async fn let_go_of_stored(&mut self) -> std::result::Result<(), String> {
        loop {
            let whole = self.shared.stored_message.load(Ordering::Acquire);
            let passed: Vec<Kept> = {
                let mut all = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
                let passed = all.iter().take(AT_ONCE).take_while(|kept| kept.message <= whole).count();
                all.drain(..passed).collect()
            };
            if passed.is_empty() {
                return Ok(());
            }
            let missing = match self.missing(&passed).await {
                Ok(missing) => missing,
                Err(error) => {
                    let mut all = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
                    passed.into_iter().rev().for_each(|kept| all.push_front(kept));
                    return Err(error.explain());
                }
            };
            let mut lost = passed.into_iter().zip(missing).filter(|(_, missing)| *missing).map(|(kept, _)| kept);
            while let Some(kept) = lost.next() {
                tracing::error!(
                    stream = self.shared.inbound,
                    "the stream that is the log had lost a message that it acknowledged; it is published again"
                );
                metrics::counter!("omni_bus_republished_messages_total").increment(1);
                let id = Uuid::new_v4().simple().to_string();
                let again =
                    Kept { message: NOWHERE, id, bytes: kept.bytes.clone(), keys: kept.keys.clone(), again: true };
                if self.publish_kept(again).await.is_err() {
                    let rest = std::iter::once(kept).chain(lost.by_ref());
                    let rest: Vec<Kept> = rest.map(|kept| Kept { message: NOWHERE, ..kept }).collect();
                    self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(rest);
                    return Err("what the stream has lost cannot be published again yet".into());
                }
            }
        }
    }

    /// Of messages whose places are stored: which of them are not.
    async fn missing(&self, passed: &[Kept]) -> Result<Vec<bool>> {
        let mut keys: Vec<Key> = passed.iter().flat_map(|kept| kept.keys.iter().cloned()).collect();
        keys.sort_unstable_by(|one, other| (one.instance_id, &one.key).cmp(&(other.instance_id, &other.key)));
        keys.dedup();
        if keys.is_empty() {
            return Ok(vec![false; passed.len()]);
        }
        let known = log::known(&mut self.store.read().await?, &keys).await?;
        Ok(passed.iter().map(|kept| kept.keys.iter().any(|key| !known.contains(key))).collect())
    }

    /// Publishes a group, message by message; a call is durable when all of its messages are.
    async fn publish_group(&mut self, group: Vec<Waiting>) {
        let now = self.clock.now();
        let mut failed: HashMap<usize, AcceptError> = HashMap::new();
        let mut packet = Packet::new();
        // The calls that have events in the packet, with how many.
        let mut inside: Vec<(usize, i64)> = Vec::new();
        let mut keys = Vec::new();
        for (index, Waiting { call, trace, .. }) in group.iter().enumerate() {
            let written: Result<Vec<Vec<u8>>, _> = call
                .events
                .iter()
                .map(|event| packet::written(&self.store, call.instance_id, trace.as_deref(), event, self.lanes, now))
                .collect();
            let events = match written {
                Ok(events) => events,
                Err(error) => {
                    failed.insert(index, AcceptError::Store(error.to_string()));
                    continue;
                }
            };
            let bytes: usize = events.iter().map(|event| event.len() + 1).sum();
            if packet.events() > 0 && !packet.has_room_for(events.len(), bytes, self.most) {
                let full = std::mem::replace(&mut packet, Packet::new());
                self.publish(full, &mut inside, &mut keys, &group, &mut failed).await;
            }
            for (event, of) in events.iter().zip(&call.events) {
                if packet.events() > 0 && !packet.has_room_for(1, event.len() + 1, self.most) {
                    let full = std::mem::replace(&mut packet, Packet::new());
                    self.publish(full, &mut inside, &mut keys, &group, &mut failed).await;
                }
                packet.push(event);
                let key = of.delivery_key.clone().map(|key| Key { instance_id: call.instance_id, key });
                keys.extend(key);
                match inside.last_mut() {
                    Some((last, count)) if *last == index => *count += 1,
                    _ => inside.push((index, 1)),
                }
            }
        }
        if packet.events() > 0 {
            self.publish(packet, &mut inside, &mut keys, &group, &mut failed).await;
        }
        self.remember(&group, &mut failed, now).await;
        for (index, waiting) in group.into_iter().enumerate() {
            let outcome = match failed.remove(&index) {
                Some(error) => Err(error),
                None => Ok(Accepted {
                    appended: waiting.call.events.len(),
                    duplicates: 0,
                    ephemeral: waiting.call.ephemeral.len(),
                }),
            };
            answer(&self.store, waiting, outcome);
        }
    }

    /// Publishes one message, and says of the calls in it when that failed.
    async fn publish(
        &mut self,
        packet: Packet,
        inside: &mut Vec<(usize, i64)>,
        keys: &mut Vec<Key>,
        group: &[Waiting],
        failed: &mut HashMap<usize, AcceptError>,
    ) {
        let inside = std::mem::take(inside);
        let keys = std::mem::take(keys);
        let kept =
            Kept { message: 0, id: Uuid::new_v4().simple().to_string(), bytes: packet.done(), keys, again: false };
        match self.publish_or_fail(kept).await {
            Ok(message) => {
                let place = packet::place_of(message);
                let events: i64 = inside.iter().map(|(_, count)| count).sum();
                metrics::counter!("omni_events_accepted_total").increment(events.unsigned_abs());
                self.counting.accepted(
                    place,
                    inside.iter().map(|(index, count)| {
                        let call = &group[*index].call;
                        (call.instance_id, call.account(), *count)
                    }),
                );
                for (index, count) in inside {
                    self.backlog.push(group[index].call.instance_id, place, count);
                }
                self.shared.reached(place);
            }
            Err(NotTaken::Full) => {
                tracing::warn!(
                    stream = self.shared.inbound,
                    "the log in NATS is full; nothing more is accepted until what it holds is stored (`bus.max_bytes`)"
                );
                failed.extend(inside.into_iter().map(|(index, _)| (index, AcceptError::Full)));
            }
            Err(error) => {
                self.counting.is_unsure();
                let sentence = match error {
                    NotTaken::Failed(sentence) => sentence,
                    _ => format!("there is no stream {}, and none can be made", self.shared.inbound),
                };
                tracing::warn!(error = sentence, calls = inside.len(), "failed to publish accepted events");
                let error = |(index, _)| (index, AcceptError::Store(sentence.clone()));
                failed.extend(inside.into_iter().map(error));
            }
        }
    }

    /// Publishes a message, unless a test lets it fail: before it, or when it is durable and nobody has been told.
    async fn publish_or_fail(&mut self, kept: Kept) -> std::result::Result<u64, NotTaken> {
        before()?;
        let message = self.publish_kept(kept).await?;
        after()?;
        Ok(message)
    }

    /// Publishes a message and keeps it until it is stored.
    async fn publish_kept(&mut self, mut kept: Kept) -> std::result::Result<u64, NotTaken> {
        let ends = Instant::now() + WITHIN;
        let message = loop {
            match self.publish_bytes(&kept.id, &kept.bytes, kept.again, ends).await {
                Ok(message) => break message,
                Err(NotTaken::Gone) if Instant::now() < ends => {
                    // What the stream had comes first: what is stored behind it would pass for stored itself.
                    if let Err(error) = self.look_after_kept().await {
                        tracing::debug!(error, "the stream that is the log cannot be made anew");
                    }
                    pause(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        };
        let (lost, again) = (message <= self.last, kept.again);
        kept.message = message;
        self.keep(kept);
        if lost {
            // It took a place that another one had: the stream is another one, or has lost its end.
            while let Err(error) = self.look_after_kept().await {
                if Instant::now() >= ends {
                    return Err(NotTaken::Failed(error));
                }
                pause(PAUSE).await;
            }
            return Ok(self.last);
        }
        self.last = message;
        if again {
            self.counting.reached(packet::place_of(message));
        }
        Ok(message)
    }

    fn keep(&self, kept: Kept) {
        let mut all = self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back(kept);
    }

    /// Publishes bytes under an id until they are acknowledged. Again is harmless: the id is recognised.
    async fn publish_bytes(
        &self,
        id: &str,
        bytes: &Bytes,
        again: bool,
        ends: Instant,
    ) -> std::result::Result<u64, NotTaken> {
        let mut connections = self.shared.connections.clone();
        loop {
            connections.mark_unchanged();
            let mut message = PublishMessage::build()
                .payload(bytes.clone())
                .message_id(id)
                .expected_stream(&self.shared.inbound)
                .header(HOST, self.shared.host.as_str());
            if again {
                message = message.header(AGAIN, "1");
            }
            let sent = self.shared.jetstream.send_publish(self.shared.subject.clone(), message).await;
            let acked = match sent {
                // On a new connection nobody answers what was asked for on the one before.
                Ok(acked) => tokio::select! {
                    acked = acked.into_future() => acked,
                    Ok(()) = connections.changed(), if Instant::now() < ends => continue,
                },
                Err(error) => Err(error),
            };
            let error = match acked {
                Ok(ack) => return Ok(ack.sequence),
                Err(error) => error,
            };
            match error.kind() {
                _ if is_full(&error) => return Err(NotTaken::Full),
                PublishErrorKind::MaxPayloadExceeded => return Err(NotTaken::Failed(in_words(&error))),
                PublishErrorKind::StreamNotFound => return Err(NotTaken::Gone),
                _ if Instant::now() >= ends => return Err(NotTaken::Failed(in_words(&error))),
                _ => pause(PAUSE).await,
            }
        }
    }

    /// Looks whether the stream still has what it acknowledged, and publishes again what it has lost.
    async fn look_after_kept(&mut self) -> std::result::Result<(), String> {
        let (info, _) = there(&self.shared, self.last).await.map_err(|error| error.to_string())?;
        let created = info.created.unix_timestamp_nanos();
        if created == self.created && info.state.last_sequence >= self.last {
            return Ok(());
        }
        if info.state.last_sequence < self.last {
            // What it still has is stored first: the reader has it, or will.
            if self.shared.stored_message.load(Ordering::Acquire) < info.state.last_sequence {
                return Err("the stream has lost its end, and what is left of it is not stored yet".into());
            }
            skip_to(&self.shared, self.last).await.map_err(|error| error.to_string())?;
        }
        let stream = self.shared.jetstream.get_stream_no_info(&self.shared.inbound).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let all: Vec<Kept> =
            std::mem::take(&mut *self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner)).into();
        let many = all.len();
        let mut lost = 0_usize;
        let mut there = Vec::new();
        let mut waiting = all.into_iter();
        let mut outcome = Ok(());
        while let Some(mut kept) = waiting.next() {
            let found = stream.get_raw_message(kept.message).await.ok();
            let id = found.as_ref().and_then(|found| found.headers.get(async_nats::header::NATS_MESSAGE_ID));
            if id.is_none_or(|id| id.as_str() != kept.id) {
                // Another id: the server may remember that it had this one.
                let id = Uuid::new_v4().simple().to_string();
                match self.publish_bytes(&id, &kept.bytes, true, Instant::now() + WITHIN).await {
                    Ok(message) => {
                        kept = Kept { message, id, again: true, ..kept };
                        self.last = self.last.max(message);
                        lost += 1;
                    }
                    Err(NotTaken::Full) => outcome = Err("the log is full".to_owned()),
                    Err(NotTaken::Gone) => outcome = Err("the stream is gone again".to_owned()),
                    Err(NotTaken::Failed(error)) => outcome = Err(error),
                }
            }
            if outcome.is_err() {
                // Behind what is there already: it would pass for stored where it was.
                let rest = std::iter::once(kept).chain(waiting.by_ref());
                there.extend(rest.map(|kept| Kept { message: NOWHERE, ..kept }));
                break;
            }
            there.push(kept);
        }
        there.sort_by_key(|kept| kept.message);
        let place = packet::place_of(self.last);
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).extend(there);
        if lost > 0 {
            tracing::error!(
                stream = self.shared.inbound,
                lost,
                kept = many,
                "the stream that is the log had lost messages that it acknowledged; they are published again"
            );
            metrics::counter!("omni_bus_republished_messages_total").increment(lost as u64);
        }
        outcome?;
        self.created = created;
        self.counting.reached(place);
        self.shared.reached(place);
        Ok(())
    }

    /// Writes what calls whose events are durable want to remember.
    async fn remember(&self, group: &[Waiting], failed: &mut HashMap<usize, AcceptError>, now: Time) {
        let with: Vec<usize> = (0..group.len())
            .filter(|index| !failed.contains_key(index) && !group[*index].call.writes.is_empty())
            .collect();
        if with.is_empty() {
            return;
        }
        match self.remember_all(group, &with, now).await {
            Ok(()) => {}
            Err(error) if error.is_outage() || with.len() == 1 => {
                failed.extend(with.into_iter().map(|index| (index, AcceptError::Store(error.explain()))));
            }
            Err(_) => {
                for index in with {
                    if let Err(error) = self.remember_all(group, &[index], now).await {
                        failed.insert(index, AcceptError::Store(error.explain()));
                    }
                }
            }
        }
    }

    async fn remember_all(&self, group: &[Waiting], which: &[usize], now: Time) -> std::result::Result<(), StoreError> {
        let mut tx = self.store.begin_log().await?;
        for index in which {
            let call = &group[*index].call;
            if let Err(error) = kv::write(&mut tx, call.instance_id, &call.plugin_id, &call.writes, now).await {
                return Err(tx.fail(error).await);
            }
        }
        tx.commit().await
    }
}

fn before() -> Result<()> {
    fault!("bus.commit.before");
    Ok(())
}

fn after() -> Result<()> {
    fault!("bus.commit.after");
    Ok(())
}

fn is_full(error: &PublishError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    source.is_some_and(|error| {
        matches!(error.error_code(), ErrorCode::STREAM_STORE_FAILED | ErrorCode::INSUFFICIENT_RESOURCES)
    })
}

fn in_words(error: &PublishError) -> String {
    match error.source() {
        Some(source) => format!("NATS did not take them: {error}: {source}"),
        None => format!("NATS did not take them: {error}"),
    }
}
