//! Takes away what would grow for ever, in small steps, so that nobody waits for it.
//!
//! Deliberately not here: the log and its delivery keys, which the bus trims itself; stored files, which `media` collects;
//! and messages, chats and persons, which stay until somebody deletes them. [`crate::store::retention::KEPT`] says of every
//! table what bounds it.

use crate::clock::Clock;
use crate::config::Retention;
use crate::store::{
    Result, Store, Time,
    retention::{self as old_rows, Old},
};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(600);
/// Rows that are taken away in one transaction.
const STEP: u32 = 2_000;

/// Runs until it is told to stop.
pub async fn run(store: Store, retention: Retention, clock: Clock, shutdown: CancellationToken) {
    loop {
        let sweeping = async {
            match sweep(&store, &retention, clock.now()).await {
                Ok(0) => {}
                Ok(rows) => tracing::debug!(rows, "old rows taken away"),
                Err(error) => tracing::warn!("old rows could not be taken away: {}", error.explain()),
            }
        };
        // Beside each other: the time until the next one counts from the beginning.
        let ((), waited) = tokio::join!(sweeping, shutdown.run_until_cancelled(clock.sleep(EVERY)));
        if waited.is_none() {
            return;
        }
    }
}

/// Takes away everything that is too old, and says how many rows that were.
pub async fn sweep(store: &Store, retention: &Retention, now: Time) -> Result<u64> {
    const DAY_MS: i64 = 24 * 3_600 * 1_000;
    let before = |days: u32| (days > 0).then(|| now.plus_millis(-i64::from(days) * DAY_MS));
    let mut rows = 0;
    let hours = i64::from(retention.idempotency_hours) * 3_600 * 1_000;
    let old = [
        (Old::Early, before(retention.delivery_key_days)),
        (Old::Events, before(retention.event_days)),
        (Old::Outbox, before(retention.outbox_days)),
        (Old::DeadLetters, before(retention.dead_letter_days)),
        (Old::WebhookDeliveries, before(retention.webhook_days)),
        (Old::Replays, before(retention.webhook_days)),
        (Old::SyncJobs, before(retention.event_days)),
        (Old::Audit, before(retention.audit_days)),
        (Old::IdempotencyKeys, (hours > 0).then(|| now.plus_millis(-hours))),
    ];
    for (what, before) in old {
        let Some(before) = before else { continue };
        loop {
            let gone = old_rows::delete(store, what, before, STEP).await?;
            rows += gone;
            if gone < u64::from(STEP) {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(rows)
}
