//! What is accepted into the log in NATS, counted in the database: there no transaction takes both.
//!
//! Whoever publishes adds up what is acknowledged, and a task writes that down every second, together with the place in
//! the stream up to which it is counted. Every message says which host published it, so each host has a place of its own.
//! What a host that died had not written down yet is counted in the stream, by itself when it starts again or by the one
//! that does what is done once: it lies behind that place. So the amount is exact for a place, which is not the one up to
//! which events are stored, and what lies between the two is counted in the stream as well ([`count`]).
//!
//! Deliberately not here: what is stored. That is counted where it is stored.

use super::{AGAIN, HOST, packet};
use crate::clock::Clock;
use crate::store::ledger::{self, Account, Changes, Gone, Span};
use crate::store::{Store, StoreError};
use async_nats::jetstream::{self, stream};
use futures_util::StreamExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use uuid::Uuid;

/// How often it is written down.
const EVERY: Duration = Duration::from_secs(1);
/// How many messages are looked at: more are not waited for.
const MOST: u64 = 50_000;
/// How many of them are asked for at the same time.
const AT_ONCE: usize = 32;
/// How far a host that accepts nothing may be behind the others before it writes down that it did not, in messages: so
/// many are looked at beside those of a second.
const FAR: u64 = 1 << 10;
/// What was accepted and is not written down yet.
#[derive(Debug, Default)]
struct Tally {
    changes: Changes,
    /// Up to where everything is in it, or was written down before.
    place: i64,
    /// Up to where everything was written down.
    written: i64,
    /// Whether a message that was not acknowledged may be in the stream, behind that place.
    unsure: bool,
    /// Between which places such messages lie. They are counted there: whoever was told that they are not durable has
    /// published them again.
    unseen: Vec<(i64, i64)>,
}

impl Tally {
    fn reach(&mut self, place: i64) {
        let before = packet::message_of(place).saturating_sub(1);
        if std::mem::take(&mut self.unsure) && before > packet::message_of(self.place) {
            let after = self.place;
            self.unseen.push((after, packet::place_of(before)));
        }
        self.place = place;
    }
}

/// Counts what this host accepts.
pub(super) struct Counting {
    store: Store,
    clock: Clock,
    host: Uuid,
    jetstream: jetstream::Context,
    stream: String,
    tally: Mutex<Tally>,
    /// The last one that may be written down although that failed, a commit whose answer was lost, and the how manyth it
    /// then was.
    unsure: tokio::sync::Mutex<Option<(Changes, i64)>>,
    /// The hosts that were gone when it was last looked.
    gone: Mutex<Vec<Gone>>,
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counting").field("tally", &self.tally).finish_non_exhaustive()
    }
}

impl Counting {
    /// Begins behind the last message of the stream, and counts what this host had accepted before it and not counted.
    pub async fn begin(
        store: Store,
        clock: Clock,
        host: Uuid,
        (jetstream, stream): (jetstream::Context, String),
        last: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let place = packet::place_of(last);
        let unseen = loop {
            // Where nothing was ever counted, there is nothing of this host.
            let before = ledger::counted(&mut store.read().await?, host).await?;
            let (mut unseen, mut changes) = (Vec::new(), Changes::default());
            if let Some((after, _)) = before.filter(|(after, _)| *after < place) {
                match count_one(&jetstream, &stream, host, after, place).await {
                    Ok(there) => changes = there,
                    Err(error) => {
                        tracing::debug!(error, "what was accepted last is not counted yet");
                        unseen.push((after, place));
                    }
                }
            }
            let mut tx = store.begin_log().await?;
            // Whoever took this host for gone may have counted it in the meantime.
            if ledger::counted_for_good(&mut tx, host).await? == before {
                tx.count_all(&changes);
                ledger::count_up_to(&mut tx, host, place, clock.now()).await?;
                tx.commit().await?;
                break unseen;
            }
            tx.rollback().await?;
        };
        let tally = Mutex::new(Tally { place, written: place, unseen, ..Tally::default() });
        let (unsure, gone) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(Arc::new(Self { store, clock, host, jetstream, stream, tally, unsure, gone }))
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A message is acknowledged, with so many events of each call.
    pub fn accepted(&self, place: i64, events: impl Iterator<Item = (Uuid, Account, i64)>) {
        let mut tally = self.tally();
        for (instance, account, count) in events {
            tally.changes.count(instance, account, count);
        }
        tally.reach(place);
    }

    /// A message was not acknowledged, and is in the stream perhaps.
    pub fn is_unsure(&self) {
        self.tally().unsure = true;
    }

    /// Everything up to a place was counted before: it was published again.
    pub fn reached(&self, place: i64) {
        self.tally().reach(place);
    }

    /// No message is on its way, so that this host's next one comes behind a place that there is.
    pub fn idle(&self, place: i64) {
        let mut tally = self.tally();
        if !tally.unsure && place > tally.place {
            tally.place = place;
        }
    }

    /// Writes down what was accepted. What cannot be written down is the next time.
    pub async fn write_down(&self) -> Result<(), StoreError> {
        let mut unsure = self.unsure.lock().await;
        let unseen = std::mem::take(&mut self.tally().unseen);
        for (after, up_to) in unseen {
            let counted = count_one(&self.jetstream, &self.stream, self.host, after, up_to).await;
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
        let before = ledger::counted(&mut tx, self.host).await?;
        let times_before = before.map_or(0, |(_, times)| times);
        let (changes, place) = {
            let mut tally = self.tally();
            if let Some((earlier, _)) = unsure.take().filter(|(_, times)| times_before < *times) {
                tally.changes.add(&earlier);
            }
            if tally.changes.is_empty() && before.map(|(place, _)| place) == Some(tally.place) {
                return Ok(());
            }
            (std::mem::take(&mut tally.changes), tally.place)
        };
        tx.count_all(&changes);
        let written = match ledger::count_up_to(&mut tx, self.host, place, self.clock.now()).await {
            Ok(()) => tx.commit().await,
            Err(error) => Err(tx.fail(error).await),
        };
        match written {
            Ok(()) => self.tally().written = place,
            Err(_) => *unsure = Some((changes, times_before + 1)),
        }
        written
    }

    /// Writes it down again and again.
    pub async fn keep(self: Arc<Self>) {
        loop {
            super::pause(EVERY).await;
            let is_done = {
                let tally = self.tally();
                let is_near = packet::messages_between(tally.written, tally.place) < FAR;
                is_near && tally.changes.is_empty() && tally.unseen.is_empty()
            };
            if is_done && self.unsure.lock().await.is_none() {
                continue;
            }
            if let Err(error) = self.write_down().await {
                tracing::debug!(error = error.explain(), "what was accepted is not written down; it is later");
            }
        }
    }

    /// Counts what hosts accepted that are gone, up to the end of the stream: they write nothing down any more. Whoever was
    /// not gone the last time may just be starting, and is left alone.
    pub async fn count_gone(&self) -> Result<(), String> {
        let explained = |error: StoreError| error.explain();
        let gone = ledger::gone(&mut self.store.read().await.map_err(explained)?).await.map_err(explained)?;
        let before = {
            let mut seen = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *seen, gone.clone())
        };
        for gone in gone.into_iter().filter(|gone| before.contains(gone)) {
            let there = count_one(&self.jetstream, &self.stream, gone.host, gone.place, i64::MAX).await?;
            let mut tx = self.store.begin_log().await.map_err(explained)?;
            if ledger::forget(&mut tx, &gone).await.map_err(explained)? {
                tx.count_all(&there);
                tx.commit().await.map_err(explained)?;
                tracing::info!(host.id = %gone.host, "what a host that is gone had accepted last is counted");
            }
        }
        Ok(())
    }
}

/// Counts what a host accepted behind one place and up to another.
async fn count_one(
    jetstream: &jetstream::Context,
    stream: &str,
    host: Uuid,
    after: i64,
    up_to: i64,
) -> Result<Changes, String> {
    let there = count(jetstream, stream, vec![Span { host, after, up_to, waits: false }]).await?;
    Ok(there.into_iter().map(|(_, changes)| changes).next().unwrap_or_default())
}

/// Counts the events of spans that the stream has. Those that it has no more are not counted, and neither are those that
/// came again, where it is asked what was accepted: that was before.
pub(super) async fn count(
    jetstream: &jetstream::Context,
    stream: &str,
    spans: Vec<Span>,
) -> Result<Vec<(Span, Changes)>, String> {
    let mut counted: Vec<(Span, Changes)> = spans.into_iter().map(|span| (span, Changes::default())).collect();
    let Some(after) = counted.iter().map(|(span, _)| span.after).min() else { return Ok(counted) };
    let up_to = counted.iter().map(|(span, _)| span.up_to).max().unwrap_or(after);
    let stream = jetstream.get_stream(stream).await.map_err(|error| error.to_string())?;
    let state: &stream::State = &stream.cached_info().state;
    let first = packet::message_of(after.saturating_add(1)).max(state.first_sequence).max(1);
    let last = packet::message_of(up_to).min(state.last_sequence);
    if last.saturating_sub(first) > MOST {
        return Err(format!("{} messages of the log are not counted, which is too many to look at", last - first));
    }
    let asked = futures_util::stream::iter(first..=last).map(|number| stream.get_raw_message(number));
    let mut found = std::pin::pin!(asked.buffered(AT_ONCE));
    while let Some(message) = found.next().await {
        // One that is gone is what the ledger is to show.
        let Ok(message) = message else { continue };
        let host = message.headers.get(HOST).and_then(|host| host.as_str().parse::<Uuid>().ok());
        let again = message.headers.get(AGAIN).is_some();
        let wanted = |span: &Span| Some(span.host) == host && (span.waits || !again);
        if !counted.iter().any(|(span, _)| wanted(span)) {
            continue;
        }
        let Ok(entries) = packet::read(message.sequence, &message.payload) else { continue };
        for (span, changes) in counted.iter_mut().filter(|(span, _)| wanted(span)) {
            for entry in entries.iter().filter(|entry| entry.seq > span.after && entry.seq <= span.up_to) {
                // What comes from the dead letters is not looked up by its key.
                let account = if entry.key.is_some() { Account::Accepted } else { Account::Retried };
                changes.count(entry.instance_id, account, 1);
            }
        }
    }
    Ok(counted)
}
