//! The storage consumer: takes what the bus has, applies it in order, and moves its position in the same transaction.
//!
//! A batch that fails is taken one by one. An event that cannot be stored goes to the dead letters at once, whole, and
//! the next one goes on. When the database is away it waits, and nothing is lost: the position has not moved.
//!
//! Deliberately not here: what an event does to the store. That is `store::apply`.

use crate::bus::Bus;
use crate::clock::Clock;
use crate::dead_letters::next_try;
use crate::store::apply::Apply;
use crate::store::consumers::{self, Position};
use crate::store::dead_letters::{self, NewDeadLetter};
use crate::store::entry::Entry;
use crate::store::ledger::Account;
use crate::store::{Ahead, Result, Store, StoreError, Time, Tx, fault, log};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many events one transaction takes at most.
const BATCH: u32 = 2_048;
/// The consumer's name in `consumer_offsets`.
pub(crate) const CONSUMER: &str = "storage";
/// While events keep coming, the next batch is let grow until it is full or the writer has been left to those who wait
/// for `accept` for so many times as long as the last batch held it. The busier the machine, the longer that is, and the
/// less an event costs: a chat with ten new messages is written once instead of ten times.
const LEAVE: u32 = 2;
/// How long that is at least and at most.
const GATHER: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(150));
/// How long the database is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// What others see of the storage consumer. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbound {
    newest: watch::Receiver<i64>,
    applied: watch::Receiver<i64>,
    distance: fn(i64, i64) -> u64,
}

impl Inbound {
    /// Waits until everything that is durable now is applied or in the dead letters. Returns early when the consumer
    /// has ended.
    pub async fn settle(&self) {
        let wanted = *self.newest.borrow();
        let mut applied = self.applied.clone();
        // An error means that the consumer has ended: nothing more will be applied.
        let _ = applied.wait_for(|applied| *applied >= wanted).await;
    }

    /// The place up to which everything is applied, and word of every change.
    pub fn applied(&self) -> watch::Receiver<i64> {
        self.applied.clone()
    }

    /// How many durable events are not applied yet; with NATS how many messages, each of which has some.
    pub fn behind(&self) -> u64 {
        (self.distance)(*self.applied.borrow(), *self.newest.borrow())
    }
}

/// The consumer, before it runs.
#[derive(Debug)]
pub struct Storage {
    store: Store,
    bus: Bus,
    clock: Clock,
    reached: Reached,
    apply: Apply,
    position: Position,
    /// How long the last batch held the writer.
    held: Duration,
}

/// Says how far the storage consumer is, wherever it runs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reached {
    applied: Arc<watch::Sender<i64>>,
    bus: Bus,
}

impl Reached {
    /// Word of every change.
    pub fn watch(&self) -> watch::Receiver<i64> {
        self.applied.subscribe()
    }

    /// Everything up to this place is stored.
    pub fn advance(&self, seq: i64) {
        let moved = self.applied.send_if_modified(|applied| {
            let later = seq > *applied;
            *applied = seq.max(*applied);
            later
        });
        if moved {
            self.bus.stored(seq);
        }
    }
}

/// How far the storage consumer is, to be seen and to be said.
pub async fn look(store: &Store, bus: &Bus) -> Result<(Reached, Inbound)> {
    let position = consumers::reached(&mut store.read().await?, CONSUMER, bus.stream()).await?.unwrap_or(0);
    let (applied, heard) = watch::channel(position);
    bus.stored(position);
    let inbound = Inbound { newest: bus.newest(), applied: heard, distance: bus.distance() };
    Ok((Reached { applied: Arc::new(applied), bus: bus.clone() }, inbound))
}

/// Claims the storage consumer's position. Whoever held it before stores nothing more.
pub async fn claim(store: Store, bus: Bus, clock: Clock, reached: Reached) -> Result<Storage> {
    let mut tx = store.begin().await?;
    let position = consumers::claim(&mut tx, CONSUMER, bus.stream(), 0, clock.now()).await?;
    tx.commit().await?;
    reached.advance(position.seq);
    bus.follow(position.seq);
    Ok(Storage { store, bus, clock, reached, apply: Apply::default(), position, held: Duration::ZERO })
}

/// Both.
pub async fn open(store: Store, bus: Bus, clock: Clock) -> Result<(Storage, Inbound)> {
    let (reached, inbound) = look(&store, &bus).await?;
    Ok((claim(store, bus, clock, reached).await?, inbound))
}

/// What a batch came to.
enum Outcome {
    /// It is stored.
    Stored,
    /// Somebody else has claimed the position.
    Fenced,
}

impl Storage {
    /// Runs until the token is cancelled (the batch at hand is finished) or another host has claimed the position.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut newest = self.bus.newest();
        let mut backoff = BACKOFF.0;
        while !shutdown.is_cancelled() {
            match self.step().await {
                Ok(Some(Outcome::Stored)) => {
                    backoff = BACKOFF.0;
                    let enough = self.position.seq + i64::from(BATCH);
                    // Whether there are enough or the time is up: what is there is taken.
                    let gathered = newest.wait_for(|newest| *newest >= enough);
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        _ = tokio::time::timeout(self.gather(), gathered) => {}
                    }
                }
                Ok(Some(Outcome::Fenced)) => {
                    tracing::error!("another host has taken the storage consumer over; this one stores nothing more");
                    return;
                }
                Ok(None) => {
                    let position = self.position.seq;
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        changed = newest.wait_for(|newest| *newest > position) => if changed.is_err() { return },
                    }
                }
                Err(error) => {
                    tracing::warn!(error = error.explain(), "failed to store inbound events; trying again");
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = self.clock.sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
                    }
                }
            }
        }
    }

    /// How long the next batch may grow.
    fn gather(&self) -> Duration {
        (self.held * LEAVE).clamp(GATHER.0, GATHER.1)
    }

    /// Takes what is there and stores it; `None` when nothing is there.
    async fn step(&mut self) -> Result<Option<Outcome>> {
        let entries = self.bus.read(self.position.seq, BATCH).await?;
        if entries.is_empty() {
            return Ok(None);
        }
        // One that cannot be read must not take the others along.
        let readable = entries.iter().position(|entry| entry.body.parsed.is_err()).unwrap_or(entries.len());
        let outcome = if readable == 0 { None } else { Some(self.store(&entries[..readable]).await) };
        match outcome {
            Some(Ok(outcome)) => Ok(Some(outcome)),
            Some(Err(error)) if error.is_outage() => Err(error),
            Some(Err(_)) | None => self.one_by_one(&entries).await.map(Some),
        }
    }

    async fn one_by_one(&mut self, entries: &[Arc<Entry>]) -> Result<Outcome> {
        for entry in entries {
            if entry.seq <= self.position.seq {
                continue;
            }
            let stored = match &entry.body.parsed {
                Ok(_) => self.store(std::slice::from_ref(entry)).await,
                Err(reason) => Err(StoreError::Inconsistent {
                    table: "inbound_log",
                    column: "payload",
                    id: entry.seq.to_string(),
                    reason: reason.clone(),
                }),
            };
            let outcome = match stored {
                Err(error) if error.is_outage() => return Err(error),
                Err(error) => self.bury(entry, &error).await?,
                Ok(outcome) => outcome,
            };
            if let Outcome::Fenced = outcome {
                return Ok(Outcome::Fenced);
            }
        }
        Ok(Outcome::Stored)
    }

    /// Applies entries and moves the position behind them, in one transaction.
    async fn store(&mut self, entries: &[Arc<Entry>]) -> Result<Outcome> {
        let Some(last) = entries.last() else { return Ok(Outcome::Stored) };
        let now = self.clock.now();
        let started = SystemTime::from(now.datetime());
        // What is worked out ahead does not know what was delivered before.
        let has_keys = entries.iter().any(|entry| entry.key.is_some());
        let ahead = if has_keys { None } else { self.ahead(entries, now).await };
        let mut tx = self.store.begin_quietly().await?;
        let began = Instant::now();
        // First, so that a batch that is stored already is not applied again.
        let done = match consumers::advance_from(&mut tx, &self.position, last.seq, now).await {
            Ok(true) => {
                let applied = match ahead.filter(|ahead| self.store.is_undisturbed(ahead)) {
                    Some(ahead) => {
                        count(&mut tx, entries, entries);
                        tx.replay(ahead).await
                    }
                    None if has_keys => match log::first_deliveries(&mut tx, entries, now).await {
                        Ok(first) => {
                            count(&mut tx, entries, &first);
                            self.apply.batch(&mut tx, &first, now).await
                        }
                        Err(error) => Err(error),
                    },
                    None => {
                        count(&mut tx, entries, entries);
                        self.apply.batch(&mut tx, entries, now).await
                    }
                };
                match applied {
                    Ok(()) => commit(tx).await.map(|()| Outcome::Stored),
                    Err(error) => Err(tx.fail(error).await),
                }
            }
            Ok(false) => {
                self.apply.abandoned();
                let held = consumers::held(&mut tx, &self.position).await;
                tx.rollback().await?;
                return Ok(self.found(held?));
            }
            Err(error) => Err(tx.fail(error).await),
        };
        self.held = began.elapsed();
        match &done {
            Ok(Outcome::Stored) => {
                if has_keys {
                    // A place in NATS does not say how many there were.
                    metrics::counter!("omni_events_stored_total").increment(entries.len() as u64);
                }
                self.apply.committed();
                for (entry, trace) in entries.iter().filter_map(|entry| Some((entry, entry.trace.as_deref()?))) {
                    let fields = [
                        ("instance.id", entry.instance_id.to_string()),
                        ("event.id", entry.event_id.to_string()),
                        ("event.type", entry.event_type()),
                    ];
                    self.bus.traces().since("storage.store", trace, started, &fields);
                }
                self.moved(last.seq);
            }
            _ => self.apply.abandoned(),
        }
        done
    }

    /// Works out what is to be written while others write. `None` when that cannot be told before it is our turn; an
    /// error is met again then, by one who can tell what it means.
    async fn ahead(&mut self, entries: &[Arc<Entry>], now: Time) -> Option<Ahead> {
        let mut sketch = self.store.ahead().await.ok()??;
        match self.apply.ahead(&mut sketch.tx, entries, now).await {
            Ok(true) => Some(sketch.done()),
            Ok(false) => None,
            Err(error) => {
                tracing::debug!(error = error.explain(), "failed to work a batch out ahead");
                None
            }
        }
    }

    /// Puts an event that cannot be stored into the dead letters, and moves on.
    async fn bury(&mut self, entry: &Arc<Entry>, error: &StoreError) -> Result<Outcome> {
        let now = self.clock.now();
        let event_type = entry.event_type();
        tracing::error!(
            event.id = %entry.event_id, event.r#type = event_type, instance.id = %entry.instance_id,
            error = error.explain(), "an event could not be stored and is in the dead letters"
        );
        let letter = NewDeadLetter {
            event_id: entry.event_id,
            event_type,
            consumer: CONSUMER.into(),
            instance_id: Some(entry.instance_id),
            accepted_at: entry.accepted_at,
            payload: entry.body.payload.clone(),
            error: error.explain(),
            // What cannot even be read does not heal by itself; what the database refused may.
            next_auto_retry_at: entry.body.parsed.is_ok().then(|| next_try(0, now)).flatten(),
        };
        metrics::counter!("omni_dead_letters_total", "consumer" => CONSUMER).increment(1);
        let mut tx = self.store.begin().await?;
        if log::first_deliveries(&mut tx, std::slice::from_ref(entry), now).await?.is_empty() {
            count(&mut tx, std::slice::from_ref(entry), &[]);
        } else {
            tx.count(entry.instance_id, Account::Buried, 1);
            dead_letters::insert(&mut tx, &letter, now).await?;
        }
        if !consumers::advance_from(&mut tx, &self.position, entry.seq, now).await? {
            let held = consumers::held(&mut tx, &self.position).await?;
            return Ok(self.found(held));
        }
        tx.commit().await?;
        self.moved(entry.seq);
        Ok(Outcome::Stored)
    }

    /// Where the position turned out to be: a commit that failed may have happened.
    fn found(&mut self, held: Option<i64>) -> Outcome {
        match held {
            Some(seq) => {
                self.moved(seq);
                Outcome::Stored
            }
            None => Outcome::Fenced,
        }
    }

    fn moved(&mut self, seq: i64) {
        self.position.seq = seq;
        self.reached.advance(seq);
    }
}

/// Counts entries of which some are stored, and the others had been before. One that the log had lost and has again was
/// accepted once, however often it was read.
fn count(tx: &mut Tx, entries: &[Arc<Entry>], stored: &[Arc<Entry>]) {
    for run in stored.chunk_by(|one, next| one.instance_id == next.instance_id) {
        tx.count(run[0].instance_id, Account::Stored, i64::try_from(run.len()).unwrap_or(0));
    }
    if stored.len() < entries.len() {
        let is_stored: HashSet<i64> = stored.iter().map(|entry| entry.seq).collect();
        for entry in entries.iter().filter(|entry| !entry.again && !is_stored.contains(&entry.seq)) {
            tx.count(entry.instance_id, Account::Repeated, 1);
        }
    }
}

async fn commit(tx: Tx) -> Result<()> {
    fault!("storage.commit.before");
    tx.commit().await?;
    fault!("storage.commit.after");
    Ok(())
}
