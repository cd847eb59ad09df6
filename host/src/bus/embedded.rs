//! The writer of the log: one task, one transaction for everything that waits (group commit).
//!
//! A call is all or nothing. When a group fails, its calls are tried one by one, so that a bad one harms only itself;
//! when the database itself is away or full, all of them fail at once and none is acknowledged.

use super::backlog::Backlog;
use super::door::CheckedEvent;
use super::queue::{self, Queue, Waiting, refuse, runs, settle};
use super::tail::Tail;
use super::{Accepted, BusOptions};
use crate::clock::Clock;
use crate::store::entry::Entry;
use crate::store::log::{self, Key};
use crate::store::{Result, Store, Time, Tx, fault, kv};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use uuid::Uuid;

/// The handle of the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    pub queue: Queue,
    pub tail: Arc<Tail>,
}

impl Writer {
    /// Starts the writer behind the newest entry.
    pub async fn start(store: Store, clock: Clock, options: &BusOptions) -> Result<Self> {
        let mut tx = store.begin().await?;
        let lanes = log::lanes(&mut tx, options.lanes.max(1), clock.now()).await?;
        let newest = log::newest(&mut tx).await?;
        tx.commit().await?;
        let (queue, calls) = Queue::new(clock.clone(), options);
        let tail = Arc::new(Tail::new(newest));
        let group = Group {
            store,
            clock,
            lanes: u64::from(lanes),
            newest,
            unsure: false,
            tail: Arc::clone(&tail),
            backlog: Arc::clone(&queue.backlog),
        };
        tokio::spawn(group.run(calls));
        Ok(Self { queue, tail })
    }
}

/// The state of the writer's task.
struct Group {
    store: Store,
    clock: Clock,
    lanes: u64,
    /// The newest place that is taken.
    newest: i64,
    /// Whether a commit has failed since: then the newest place is looked up.
    unsure: bool,
    tail: Arc<Tail>,
    backlog: Arc<Backlog>,
}

impl Group {
    async fn run(mut self, mut calls: mpsc::Receiver<Waiting>) {
        while let Some(first) = calls.recv().await {
            // While others write, more calls come in: that is the group.
            let tx = self.store.begin_log().await;
            let group = queue::gather(first, &mut calls);
            match tx {
                Ok(tx) => self.store_group(tx, group).await,
                Err(error) => refuse(group, &error),
            }
        }
    }

    /// Stores a group in one transaction; when that fails, each of its calls in one of its own.
    async fn store_group(&mut self, tx: Tx, group: Vec<Waiting>) {
        match self.store(tx, &group).await {
            Ok(done) => settle(&self.store, group, done),
            Err(error) if error.is_outage() => refuse(group, &error),
            Err(error) if group.len() == 1 => refuse(group, &error),
            Err(_) => {
                for waiting in group {
                    let alone = vec![waiting];
                    let stored = match self.store.begin_log().await {
                        Ok(tx) => self.store(tx, &alone).await,
                        Err(error) => Err(error),
                    };
                    match stored {
                        Ok(done) => settle(&self.store, alone, done),
                        Err(error) => refuse(alone, &error),
                    }
                }
            }
        }
    }

    /// Stores calls in one transaction; says what became of each.
    async fn store(&mut self, mut tx: Tx, group: &[Waiting]) -> Result<Vec<Accepted>> {
        let now = self.clock.now();
        if self.unsure {
            // The last commit failed, which does not say that it did not happen.
            self.newest = log::newest(&mut tx).await?;
            self.tail.skip_to(self.newest);
            self.unsure = false;
        }
        match self.write(&mut tx, group, now).await {
            Ok((entries, done)) => {
                self.unsure = true;
                fault!("bus.commit.before");
                tx.commit().await?;
                fault!("bus.commit.after");
                self.unsure = false;
                self.newest += i64::try_from(entries.len()).unwrap_or(0);
                for (first, last) in runs(&entries) {
                    self.backlog.push(last.instance_id, last.seq, last.seq - first.seq + 1);
                }
                self.tail.push(entries);
                Ok(done)
            }
            Err(error) => {
                // A place may be taken by a commit of ours that came to nothing here, and all the same to something there.
                self.unsure = true;
                Err(tx.fail(error).await)
            }
        }
    }

    async fn write(&self, tx: &mut Tx, group: &[Waiting], now: Time) -> Result<(Vec<Entry>, Vec<Accepted>)> {
        let mut seen: HashSet<Key> = remember(tx, group, now).await?.into_iter().collect();
        let mut entries: Vec<Entry> = Vec::new();
        let mut done = Vec::with_capacity(group.len());
        for Waiting { call, trace, .. } in group {
            let mut accepted = Accepted { ephemeral: call.ephemeral.len(), ..Accepted::default() };
            for event in &call.events {
                let key = event.delivery_key.as_ref();
                let key = key.map(|key| Key { instance_id: call.instance_id, key: key.clone() });
                if key.is_some_and(|key| !seen.insert(key)) {
                    accepted.duplicates += 1;
                    continue;
                }
                accepted.appended += 1;
                let seq = self.newest + 1 + i64::try_from(entries.len()).unwrap_or(i64::MAX);
                entries.push(self.entry(tx, seq, (call.instance_id, trace), event, now));
            }
            tx.count(call.instance_id, call.account(), i64::try_from(accepted.appended).unwrap_or(0));
            kv::write(tx, call.instance_id, &call.plugin_id, &call.writes, now).await?;
            done.push(accepted);
        }
        log::append(tx, &entries).await?;
        Ok((entries, done))
    }

    fn entry(
        &self,
        tx: &Tx,
        seq: i64,
        (instance_id, trace): (Uuid, &Option<Arc<str>>),
        event: &CheckedEvent,
        now: Time,
    ) -> Entry {
        let (event_id, accepted_at) = event.again.unwrap_or_else(|| (tx.new_id(now), now));
        Entry {
            seq,
            lane: queue::lane(instance_id, &event.chat, self.lanes),
            instance_id,
            event_id,
            accepted_at,
            trace: trace.clone(),
            body: Arc::clone(&event.body),
            key: None,
            again: false,
        }
    }
}

/// Remembers the delivery keys of a group, each once, and gives back those that were known before.
async fn remember(tx: &mut Tx, group: &[Waiting], now: Time) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    let mut named = HashSet::new();
    for Waiting { call, .. } in group {
        for key in call.events.iter().filter_map(|event| event.delivery_key.as_ref()) {
            if named.insert((call.instance_id, key.as_str())) {
                keys.push(Key { instance_id: call.instance_id, key: key.clone() });
            }
        }
    }
    if keys.is_empty() { Ok(Vec::new()) } else { log::remember(tx, &keys, now).await }
}
