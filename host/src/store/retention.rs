//! Deletes old rows, a step at a time.

use super::{Result, Store, Time, on};

/// What has become old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// Domain events. Messages stay.
    Events,
    /// Settled rows of the outbox.
    Outbox,
    /// Dead letters that were resolved or abandoned.
    DeadLetters,
    /// What was sent to webhooks.
    WebhookDeliveries,
    /// Replays that have ended.
    Replays,
    /// Answers for repeated requests.
    IdempotencyKeys,
}

/// Deletes at most `limit` rows that are older than `before`. Of tables that are filled in order only the oldest rows are
/// looked at: finding that nothing is old must not cost a walk through everything.
pub async fn delete(store: &Store, what: Old, before: Time, limit: u32) -> Result<u64> {
    let query = match what {
        Old::Events => {
            "delete from omni_events where seq in
                (select seq from (select seq, received_at from omni_events order by seq limit $2)
                 where received_at < $1)"
        }
        Old::Outbox => {
            "delete from outbox where seq in
                (select seq from (select seq, updated_at from outbox where status in ('delivered', 'failed')
                    order by seq limit $2)
                 where updated_at < $1)"
        }
        Old::DeadLetters => {
            "delete from dead_letter_events where id in (select id from dead_letter_events
                where status in ('resolved', 'abandoned') and created_at < $1 order by created_at limit $2)"
        }
        Old::WebhookDeliveries => {
            "delete from webhook_deliveries where seq in
                (select seq from webhook_deliveries where settled_at < $1 order by settled_at limit $2)"
        }
        Old::Replays => {
            "delete from event_replays where id in
                (select id from event_replays where completed_at < $1 limit $2)"
        }
        Old::IdempotencyKeys => {
            "delete from idempotency_keys where (api_key_id, key) in
                (select api_key_id, key from idempotency_keys where created_at < $1 limit $2)"
        }
    };
    let mut tx = store.begin().await?;
    let done = on!(&mut tx, conn => sqlx::query(query).bind(before).bind(i64::from(limit)).execute(conn).await)?;
    tx.commit().await?;
    Ok(done.rows_affected())
}
