//! What is accepted into the log in NATS, counted in the database: there no transaction takes both.
//!
//! Whoever publishes adds up what is acknowledged, and a task writes that down every second, together with the place in
//! the stream up to which it is counted. What a host that died had not written down yet is counted in the stream when it
//! starts again: it lies behind that place. So the amount is exact for a place, which is not the one up to which events
//! are stored, and what lies between the two is counted in the stream as well ([`count`]).
//!
//! Deliberately not here: what is stored. That is counted where it is stored.

use super::packet;
use crate::clock::Clock;
use crate::store::ledger::{self, Account, Changes};
use crate::store::{Store, StoreError};
use async_nats::jetstream::{self, stream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(1);
/// How many messages are looked at: more are not waited for.
const MOST: u64 = 50_000;

/// What was accepted and is not written down yet.
#[derive(Debug, Default)]
struct Tally {
    changes: Changes,
    /// Up to where everything is in it, or was written down before.
    place: i64,
    /// What is in the stream in between although it was never acknowledged: the answer was lost, and whoever asked has
    /// published it again. It is counted there.
    unseen: Vec<(i64, i64)>,
}

/// Counts what this host accepts.
pub(super) struct Counting {
    store: Store,
    clock: Clock,
    jetstream: jetstream::Context,
    stream: String,
    tally: Mutex<Tally>,
    /// Whether other hosts accept into the same stream: what is in between is theirs, and counted by them.
    is_shared: AtomicBool,
    /// The last one that may be written down although that failed, a commit whose answer was lost, and the how manyth it
    /// then was.
    unsure: tokio::sync::Mutex<Option<(Tally, i64)>>,
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counting").field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl Counting {
    /// Begins behind the last message of the stream, and counts what is before it and was not counted yet. `stored` is up
    /// to where events are stored.
    pub async fn begin(
        store: Store,
        clock: Clock,
        (jetstream, stream): (jetstream::Context, String),
        stored: i64,
        last: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let mut tx = store.read().await?;
        // Where nothing was ever counted, what is stored is where it begins.
        let counted = ledger::counted(&mut tx).await?.map_or(stored, |(place, _)| place);
        let is_shared = ledger::is_shared(&mut tx).await?;
        drop(tx);
        let place = packet::place_of(last);
        let unseen = if counted < place && !is_shared { vec![(counted, place)] } else { Vec::new() };
        let tally = Mutex::new(Tally { place, unseen, ..Tally::default() });
        let (unsure, is_shared) = (tokio::sync::Mutex::default(), AtomicBool::new(is_shared));
        let this = Self { store, clock, jetstream, stream, tally, is_shared, unsure };
        this.write_down().await?;
        Ok(Arc::new(this))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says that other hosts accept into the same stream.
    pub fn share(&self) {
        if !self.is_shared.swap(true, Ordering::AcqRel) {
            self.tally().unseen.clear();
        }
    }

    /// A message is acknowledged, with so many events of each call.
    pub fn accepted(&self, place: i64, events: impl Iterator<Item = (Uuid, Account, i64)>) {
        let mut tally = self.tally();
        for (instance, account, count) in events {
            tally.changes.count(instance, account, count);
        }
        let before = packet::message_of(place).saturating_sub(1);
        if before > packet::message_of(tally.place) && !self.is_shared.load(Ordering::Acquire) {
            let after = tally.place;
            tally.unseen.push((after, packet::place_of(before)));
        }
        tally.place = place;
    }

    /// Everything up to a place was counted before: it was published again.
    pub fn reached(&self, place: i64) {
        self.tally().place = place;
    }

    /// Writes down what was accepted. What cannot be written down is the next time.
    pub async fn write_down(&self) -> Result<(), StoreError> {
        let mut unsure = self.unsure.lock().await;
        let unseen = std::mem::take(&mut self.tally().unseen);
        for (after, up_to) in unseen {
            let counted = count(&self.jetstream, &self.stream, after, up_to).await;
            let mut tally = self.tally();
            match counted {
                Ok(changes) => tally.changes.add(&changes),
                Err(error) => {
                    tracing::debug!(error, "what was accepted is not counted yet");
                    tally.unseen.push((after, up_to));
                }
            }
        }
        let mut tx = self.store.begin_log().await?;
        let before = ledger::counted(&mut tx).await?;
        let times_before = before.map_or(0, |(_, times)| times);
        let now = {
            let mut tally = self.tally();
            if let Some((earlier, _)) = unsure.take().filter(|(_, times)| times_before < *times) {
                tally.changes.add(&earlier.changes);
            }
            if tally.changes.is_empty() && before.map(|(place, _)| place) == Some(tally.place) {
                return Ok(());
            }
            Tally { changes: std::mem::take(&mut tally.changes), place: tally.place, ..Tally::default() }
        };
        tx.count_all(&now.changes);
        let written = match ledger::count_up_to(&mut tx, now.place, self.clock.now()).await {
            Ok(()) => tx.commit().await,
            Err(error) => Err(tx.fail(error).await),
        };
        if written.is_err() {
            *unsure = Some((now, times_before + 1));
        }
        written
    }

    /// Writes it down again and again.
    pub async fn keep(self: Arc<Self>) {
        loop {
            super::pause(EVERY).await;
            let is_empty = {
                let tally = self.tally();
                tally.changes.is_empty() && tally.unseen.is_empty()
            };
            if is_empty && self.unsure.lock().await.is_none() {
                continue;
            }
            if let Err(error) = self.write_down().await {
                tracing::debug!(error = error.explain(), "what was accepted is not written down; it is later");
            }
        }
    }
}

/// Counts the events that the stream has behind one place and up to another. Those that it has no more are not counted.
pub(super) async fn count(
    jetstream: &jetstream::Context,
    stream: &str,
    after: i64,
    up_to: i64,
) -> Result<Changes, String> {
    let mut changes = Changes::default();
    if after >= up_to {
        return Ok(changes);
    }
    let stream = jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
    let state: &stream::State = &stream.cached_info().state;
    let first = packet::message_of(after.saturating_add(1)).max(state.first_sequence).max(1);
    let last = packet::message_of(up_to).min(state.last_sequence);
    if last.saturating_sub(first) > MOST {
        return Err(format!("{} messages of the log are not counted, which is too many to look at", last - first));
    }
    for number in first..=last {
        // One that is gone is what the ledger is to show.
        let Ok(message) = stream.get_raw_message(number).await else { continue };
        let Ok(entries) = packet::read(number, &message.payload) else { continue };
        for entry in entries.iter().filter(|entry| entry.seq > after && entry.seq <= up_to) {
            // What comes from the dead letters is not looked up by its key.
            let account = if entry.key.is_some() { Account::Accepted } else { Account::Retried };
            changes.count(entry.instance_id, account, 1);
        }
    }
    Ok(changes)
}
