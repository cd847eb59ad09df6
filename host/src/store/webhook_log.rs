//! Reading what was sent to webhooks, for people: deliveries, newest first, each with its attempts.

use super::page::{Page, Position, one_more};
use super::{Result, Store, Time, on};
use serde::Serialize;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// An event on its way to a webhook, as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDelivery)]
pub struct Delivery {
    #[serde(skip)]
    seq: i64,
    /// Our id.
    pub id: Uuid,
    /// The event's id, which is the `webhook-id` of every attempt.
    pub event_id: Uuid,
    /// The event's place in the order of events.
    pub event_seq: i64,
    /// Its type.
    pub event_type: String,
    /// Where it happened.
    pub instance_id: Option<Uuid>,
    /// `pending`, `delivered`, `failed` (it is in the dead letters), or `expired` (the event was no longer kept).
    pub status: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it is tried next; absent while an earlier event of its chat waits.
    pub next_attempt_at: Option<Time>,
    /// When it was last tried.
    pub last_attempt_at: Option<Time>,
    /// What was last answered.
    pub last_status_code: Option<i64>,
    /// Why the last attempt failed.
    pub last_error: Option<String>,
    /// When it was queued.
    pub created_at: Time,
    /// When it was settled.
    pub settled_at: Option<Time>,
}

/// One attempt.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookAttempt)]
pub struct Attempt {
    /// Which one, from 1.
    pub attempt: i64,
    /// When it began.
    pub at: Time,
    /// How long it took.
    pub duration_ms: i64,
    /// What was answered.
    pub status_code: Option<i64>,
    /// Why it failed.
    pub error: Option<String>,
    /// The first bytes of the answer.
    pub answer: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select seq, id, event_id, event_seq, event_type, nullif(instance_id, unhex('00000000000000000000000000000000')) as instance_id, status, \
             attempts, next_attempt_at, last_attempt_at, last_status_code, last_error, created_at, settled_at \
             from webhook_deliveries ",
            $rest
        )
    };
}

/// Deliveries of a webhook, newest first; of one status when one is named.
pub async fn list(
    store: &Store,
    webhook: Uuid,
    status: Option<&str>,
    from: Option<Position>,
    limit: u32,
) -> Result<Page<Delivery>> {
    const SQL: &str =
        select!("where webhook_id = $1 and seq < $2 and ($3 is null or status = $3) order by seq desc limit $4");
    let mut tx = store.read().await?;
    let rows: Vec<Delivery> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(webhook)
        .bind(from.map_or(i64::MAX, |from| from.at))
        .bind(status)
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: row.seq, id: row.id }))
}

/// One delivery with its attempts, in order.
pub async fn get(store: &Store, webhook: Uuid, id: Uuid) -> Result<Option<(Delivery, Vec<Attempt>)>> {
    const SQL: &str = select!("where webhook_id = $1 and id = $2");
    let mut tx = store.read().await?;
    let found: Option<Delivery> =
        on!(&mut tx, conn => sqlx::query_as(SQL).bind(webhook).bind(id).fetch_optional(conn).await)?;
    let Some(delivery) = found else { return Ok(None) };
    let attempts = on!(&mut tx, conn => sqlx::query_as(
        "select attempt, at, duration_ms, status_code, error, answer from webhook_attempts
         where delivery_seq = $1 order by attempt",
    )
    .bind(delivery.seq)
    .fetch_all(conn)
    .await)?;
    Ok(Some((delivery, attempts)))
}
