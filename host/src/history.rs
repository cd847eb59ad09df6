//! Older messages, and those that were missed: jobs that ask a channel for them, page by page, until there is no more.
//!
//! ```text
//! job      what is asked for, and how far it is: the JSON of a row of `sync_jobs`
//! gaps     a channel says that it missed something
//! run      which job runs: one of an instance at a time, on the host that has the instance
//! fetch    one job, page by page
//! rules    what is kept of a page, and what an error means
//! ```
//!
//! What comes goes through the bus like everything that networks tell, so nothing is stored twice: what is known is known
//! by its ids. It says of itself how it came ([`Origin`](crate::store::entry::Origin)): older messages are no news
//! (`message.synced`, not unread), missed ones are (`message.received`).
//!
//! How far a job is stands in its row after each page. A host that dies repeats a page; an instance that moves takes its
//! jobs along.
//!
//! Deliberately not here: chats that nobody has heard of yet, and files, which are fetched like those of any message.

mod fetch;
mod gaps;
mod job;
mod rules;
mod run;
#[cfg(test)]
mod tests;

pub use gaps::Gaps;
pub use job::{Failure, Progress, Wanted};

use crate::bus::Bus;
use crate::clock::Clock;
use crate::echoes::Echoes;
use crate::instances::{Instance, InstanceError, Instances};
use crate::store::page::{Page, Position};
use crate::store::sync_jobs::{self as rows, MISSED, OLDER, SyncJobRow};
use crate::store::{Json, Store, StoreError, Time};
use omni_channel_sdk::SendError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many jobs of an instance may wait: whoever asks for more has a loop in their program.
const MOST_WAITING: i64 = 20;

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct History(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    bus: Bus,
    instances: Instances,
    echoes: Echoes,
    gaps: Gaps,
    /// The jobs that run here, and what ends each.
    running: Mutex<HashMap<Uuid, CancellationToken>>,
}

/// What jobs work with.
#[derive(Debug)]
pub struct Parts {
    /// The database.
    pub store: Store,
    /// Time.
    pub clock: Clock,
    /// Where what was fetched goes.
    pub bus: Bus,
    /// Who is asked.
    pub instances: Instances,
    /// Our own messages whose sends are under way.
    pub echoes: Echoes,
    /// What channels say that they missed.
    pub gaps: Gaps,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl History {
    /// Nothing runs before [`run`](Self::run).
    pub fn new(parts: Parts) -> Self {
        let Parts { store, clock, bus, instances, echoes, gaps } = parts;
        Self(Arc::new(Inner { store, clock, bus, instances, echoes, gaps, running: Mutex::default() }))
    }

    /// Asks for older messages: of one chat, or of those that are known, from the oldest that is stored back.
    pub async fn backfill(&self, instance: &Instance, wanted: Wanted) -> Result<SyncJobRow, InstanceError> {
        self.ask(instance, OLDER, wanted).await
    }

    /// Asks for what was missed from a time on, in every chat that had a message before.
    pub async fn resync(&self, instance: &Instance, wanted: Wanted) -> Result<SyncJobRow, InstanceError> {
        self.ask(instance, MISSED, wanted).await
    }

    async fn ask(&self, instance: &Instance, kind: &str, wanted: Wanted) -> Result<SyncJobRow, InstanceError> {
        let inner = &self.0;
        if !inner.instances.manifest(&instance.channel)?.capabilities.can("history") {
            return Err(SendError::unsupported("history").into());
        }
        let mut tx = inner.store.begin().await?;
        let (_, waiting) = rows::waiting(&mut tx, instance.id, kind).await?;
        if waiting >= MOST_WAITING {
            let sentence = format!("{waiting} syncs of {} wait already; cancel some, or wait", instance.name);
            return Err(InstanceError::Conflict(sentence));
        }
        let now = inner.clock.now();
        let row = new_row(tx.new_id(now), (instance.id, &instance.channel), kind, &wanted, now);
        rows::insert(&mut tx, &row).await?;
        tx.commit().await?;
        inner.gaps.wake();
        Ok(row)
    }

    /// Cancels one. `false` when it has ended. What it has fetched stays.
    pub async fn cancel(&self, id: Uuid) -> Result<bool, StoreError> {
        let mut tx = self.0.store.begin().await?;
        let cancelled = rows::end(&mut tx, id, "cancelled", None, self.0.clock.now()).await?;
        tx.commit().await?;
        if let Some(running) = lock(&self.0.running).get(&id) {
            running.cancel();
        }
        Ok(cancelled)
    }

    /// Those of an instance, the newest first.
    pub async fn list(
        &self,
        instance: Uuid,
        from: Option<Position>,
        limit: u32,
    ) -> Result<Page<SyncJobRow>, StoreError> {
        rows::list(&self.0.store, instance, from, limit).await
    }

    /// One of an instance's.
    pub async fn get(&self, instance: Uuid, id: Uuid) -> Result<Option<SyncJobRow>, StoreError> {
        Ok(rows::get(&self.0.store, id).await?.filter(|row| row.instance_id == instance))
    }
}

/// A job that waits.
fn new_row(id: Uuid, (instance_id, channel): (Uuid, &str), kind: &str, wanted: &Wanted, now: Time) -> SyncJobRow {
    SyncJobRow {
        id,
        instance_id,
        channel: channel.to_owned(),
        kind: kind.to_owned(),
        status: "pending".to_owned(),
        config: Json(serde_json::to_value(wanted).expect("it is plain JSON")),
        progress: Json(serde_json::to_value(Progress::default()).expect("it is plain JSON")),
        error_message: None,
        created_at: now,
        started_at: None,
        completed_at: None,
    }
}
