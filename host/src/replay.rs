//! Reads what happened from the store once more, for one consumer: after a program was mended, or lost what it had.
//!
//! A replay is a row that says how far it has come, moved in the transaction that queues the events: it goes on after a
//! restart and can be cancelled. What it queues has the ids that it had, and waits behind what its chats already wait for.
//!
//! Deliberately not here: how a consumer gets its events.

use crate::clock::Clock;
use crate::store::events::{self, DomainEvent};
use crate::store::page::InstanceSet;
use crate::store::replays::{self as rows, ReplayRow};
use crate::store::webhook_queue::{self as queue, Queued};
use crate::store::{Result, Store, StoreError, Time, webhooks as webhook_rows};
use crate::webhooks::Webhooks;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;
use uuid::Uuid;

/// How many events are looked at in one step.
const WINDOW: u32 = 512;
/// A replay waits while so many events wait for its consumer.
const ENOUGH: i64 = 5_000;
/// How long it then waits before it looks again, and after the store failed.
const PAUSE: Duration = Duration::from_secs(1);
/// How many replays a list shows.
const LISTED: u32 = 100;

/// What is to be replayed. Times are those at which the host was told of the events.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = ReplayOptions)]
pub struct Wanted {
    /// Not older.
    pub since: Option<Time>,
    /// Older.
    pub until: Option<Time>,
    /// Names and patterns; all when empty. What the consumer does not want is not replayed either.
    pub event_types: Vec<String>,
    /// Of this instance only.
    pub instance_id: Option<Uuid>,
    /// No more than so many.
    pub limit: Option<i64>,
    /// Whether to leave out what the consumer has taken already.
    pub skip_processed: bool,
    /// Whether only to count.
    pub dry_run: bool,
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Replays(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    webhooks: Webhooks,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Replays {
    /// Nothing runs before [`start`](Self::start).
    pub fn new(store: Store, clock: Clock, webhooks: Webhooks) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self(Arc::new(Inner { store, clock, webhooks, stop, tasks }))
    }

    /// Goes on with what ran when the host ended.
    pub async fn start(&self) -> Result<usize> {
        let running = rows::running(&self.0.store).await?;
        let count = running.len();
        for row in running {
            self.spawn(row);
        }
        Ok(count)
    }

    /// Stops between two steps; what runs goes on after the next start.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn spawn(&self, row: ReplayRow) {
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move { inner.run(row).await });
    }

    /// Begins to replay for a webhook. What happens from now on is not part of it.
    pub async fn begin(&self, webhook: Uuid, wanted: &Wanted, instances: &InstanceSet, by: &str) -> Result<ReplayRow> {
        let now = self.0.clock.now();
        let mut tx = self.0.store.begin().await?;
        let start = events::place_before(&mut tx, wanted.since.unwrap_or(Time(i64::MIN))).await?;
        let end = events::newest(&mut tx).await?;
        let row = ReplayRow {
            id: tx.new_id(now),
            consumer: webhook_rows::consumer(webhook),
            options: crate::store::Json(serde_json::to_value(wanted).expect("options are plain JSON")),
            instance_ids: match instances {
                InstanceSet::All => None,
                InstanceSet::Only(ids) => Some(ids.clone()),
            },
            status: "running".into(),
            position: start,
            end_seq: end,
            total: end - start,
            matched: 0,
            replayed: 0,
            skipped: 0,
            error: None,
            created_by: Some(by.to_owned()),
            started_at: now,
            completed_at: None,
        };
        rows::insert(&mut tx, &row).await?;
        tx.commit().await?;
        self.spawn(row.clone());
        Ok(row)
    }

    /// Cancels one. `false` when it does not run. What it has queued stays queued.
    pub async fn cancel(&self, id: Uuid) -> Result<bool> {
        let mut tx = self.0.store.begin().await?;
        let cancelled = rows::cancel(&mut tx, id, self.0.clock.now()).await?;
        tx.commit().await?;
        Ok(cancelled)
    }

    /// The newest ones that somebody may see, newest first.
    pub async fn list(&self, instances: &InstanceSet) -> Result<Vec<ReplayRow>> {
        let all = rows::list(&self.0.store, LISTED).await?;
        Ok(all.into_iter().filter(|row| visible(row, instances)).collect())
    }

    /// One, when somebody may see it.
    pub async fn get(&self, id: Uuid, instances: &InstanceSet) -> Result<Option<ReplayRow>> {
        let found = rows::get(&mut self.0.store.read().await?, id).await?;
        Ok(found.filter(|row| visible(row, instances)))
    }
}

fn visible(row: &ReplayRow, instances: &InstanceSet) -> bool {
    match (instances, &row.instance_ids) {
        (InstanceSet::All, _) => true,
        (InstanceSet::Only(_), None) => false,
        (InstanceSet::Only(_), Some(ids)) => ids.iter().all(|id| instances.contains(*id)),
    }
}

impl Inner {
    async fn run(&self, mut row: ReplayRow) {
        while !self.stop.is_cancelled() && row.status == "running" {
            let pause = match self.step(&mut row).await {
                Ok(true) => continue,
                Ok(false) => PAUSE,
                Err(error) => {
                    tracing::warn!(replay.id = %row.id, error = error.explain(), "a replay failed to use the store; trying again");
                    PAUSE
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = self.clock.sleep(pause) => {}
            }
        }
    }

    /// Replays the next piece. `false` when the consumer has enough for now.
    async fn step(&self, row: &mut ReplayRow) -> Result<bool> {
        let now = self.clock.now();
        let wanted: Wanted =
            serde_json::from_value(row.options.0.clone()).map_err(|error| StoreError::Inconsistent {
                table: "event_replays",
                column: "options",
                id: row.id.to_string(),
                reason: error.to_string(),
            })?;
        let mut after = row.clone();
        let mut tx = self.store.read().await?;
        let webhook = match webhook_rows::of_consumer(&row.consumer) {
            Some(id) => webhook_rows::get(&mut tx, id).await?,
            None => None,
        };
        let Some(webhook) = webhook else {
            after.error = Some("its consumer was deleted".into());
            return self.end(row, after, "failed").await;
        };
        if !wanted.dry_run && queue::waiting(&mut tx, webhook.id, now, (1, ENOUGH)).await?.1 >= ENOUGH {
            return Ok(false);
        }
        let window = u32::try_from(row.end_seq - row.position).unwrap_or(u32::MAX).min(WINDOW);
        let mut piece = events::after(&mut tx, row.position, &webhook.filter(), window).await?;
        let readers = row.instance_ids.clone().map_or(InstanceSet::All, InstanceSet::Only);
        piece.events.retain(|event| event.seq <= row.end_seq && asked_for(event, &wanted, &readers));
        let left = wanted.limit.map_or(usize::MAX, |limit| usize::try_from(limit - row.matched).unwrap_or(0));
        piece.events.truncate(left);
        let known = match wanted.skip_processed {
            true => {
                let seqs: Vec<i64> = piece.events.iter().map(|event| event.seq).collect();
                queue::delivered(&mut tx, webhook.id, &seqs).await?
            }
            false => std::collections::HashSet::new(),
        };
        drop(tx);
        let queued: Vec<Queued> =
            piece.events.iter().filter(|event| !known.contains(&event.seq)).map(Queued::from).collect();
        let count = |length: usize| i64::try_from(length).unwrap_or(i64::MAX);
        after.matched += count(piece.events.len());
        after.skipped += count(known.len());
        after.position = piece.seen.min(row.end_seq).max(row.position);
        let enough = wanted.limit.is_some_and(|limit| after.matched >= limit);
        if enough || after.position >= row.end_seq {
            after.status = "completed".into();
            after.completed_at = Some(now);
        }
        let mut tx = self.store.begin().await?;
        if !wanted.dry_run {
            after.replayed += count(queued.len());
            if !queued.is_empty() {
                queue::enqueue(&mut tx, webhook.id, &queued, now).await?;
            }
        }
        if rows::progress(&mut tx, &after).await? {
            tx.commit().await?;
            self.webhooks.changed(webhook.id);
            *row = after;
        } else {
            tx.rollback().await?;
            row.status = "cancelled".into();
        }
        Ok(true)
    }

    async fn end(&self, row: &mut ReplayRow, mut after: ReplayRow, status: &str) -> Result<bool> {
        after.status = status.to_owned();
        after.completed_at = Some(self.clock.now());
        let mut tx = self.store.begin().await?;
        rows::progress(&mut tx, &after).await?;
        tx.commit().await?;
        *row = after;
        Ok(true)
    }
}

fn asked_for(event: &DomainEvent, wanted: &Wanted, readers: &InstanceSet) -> bool {
    readers.contains(event.metadata.instance_id)
        && wanted.instance_id.is_none_or(|id| id == event.metadata.instance_id)
        && events::matches(&wanted.event_types, &event.event_type)
        && wanted.since.is_none_or(|since| event.timestamp >= since.millis())
        && wanted.until.is_none_or(|until| event.timestamp < until.millis())
}
