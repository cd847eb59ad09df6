//! Reading the dead letters, page by page, for those who may see some instances only.
//!
//! Deliberately not here: putting an event there, and what becomes of it; that is `dead_letters`.

use super::page::{InstanceSet, Page, Position, one_more};
use super::{Result, Store, Time, on};
use serde::Serialize;
use sqlx::FromRow;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use uuid::Uuid;

/// A dead letter as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetter {
    /// Our id.
    pub id: Uuid,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// Where it was published.
    pub subject: String,
    /// Who could not take it.
    pub consumer: String,
    /// Where it happened.
    pub instance_id: Option<Uuid>,
    /// `pending`, `retrying`, `resolved` or `abandoned`.
    pub status: String,
    /// Why it was not taken.
    pub error_message: String,
    /// More about that.
    pub error_stack: Option<String>,
    /// How often it was tried again.
    pub retry_count: i64,
    /// When it is tried again by itself.
    pub next_auto_retry_at: Option<Time>,
    /// When it was last tried again.
    pub last_retry_at: Option<Time>,
    /// When somebody settled it.
    pub resolved_at: Option<Time>,
    /// Who.
    pub resolved_by: Option<String>,
    /// What they said.
    pub resolution_note: Option<String>,
    /// When it came here.
    pub created_at: Time,
}

/// What a list of dead letters is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct DeadLetterFilter {
    /// Of these instances.
    pub instances: InstanceSet,
    /// `pending` …
    pub status: Option<String>,
    /// Of this type.
    pub event_type: Option<String>,
    /// Of this consumer.
    pub consumer: Option<String>,
    /// Not older.
    pub since: Option<Time>,
    /// Older.
    pub until: Option<Time>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, event_id, event_type, subject, consumer, instance_id, status, error as error_message, \
             stack as error_stack, auto_retry_count + manual_retry_count as retry_count, next_auto_retry_at, \
             last_retry_at, resolved_at, resolved_by, resolution_note, created_at from dead_letter_events ",
            $rest
        )
    };
}

/// Dead letters, newest first.
pub async fn list(
    store: &Store,
    filter: &DeadLetterFilter,
    from: Option<Position>,
    limit: u32,
) -> Result<Page<DeadLetter>> {
    const SQL: &str = select!(
        "where (created_at, id) < ($1, $2) \
         and ($3 is null or instance_id in (select unhex(value) from json_each($3))) \
         and ($4 is null or status = $4) and ($5 is null or event_type = $5) \
         and ($6 is null or created_at >= $6) and ($7 is null or created_at < $7) \
         and ($8 is null or consumer = $8) order by created_at desc, id desc limit $9"
    );
    let from = from.unwrap_or(Position::START);
    let mut tx = store.read().await?;
    let rows: Vec<DeadLetter> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(from.time())
        .bind(from.id)
        .bind(filter.instances.json())
        .bind(&filter.status)
        .bind(&filter.event_type)
        .bind(filter.since)
        .bind(filter.until)
        .bind(&filter.consumer)
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: row.created_at.0, id: row.id }))
}

/// One dead letter.
pub async fn get(store: &Store, id: Uuid, instances: &InstanceSet) -> Result<Option<DeadLetter>> {
    const SQL: &str =
        select!("where id = $1 and ($2 is null or instance_id in (select unhex(value) from json_each($2)))");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).bind(instances.json()).fetch_optional(conn).await)?)
}

/// How many there are.
#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterStats {
    /// In all.
    pub total: i64,
    /// Nobody has looked yet.
    pub pending: i64,
    /// Being tried again.
    pub retrying: i64,
    /// Settled.
    pub resolved: i64,
    /// Given up.
    pub abandoned: i64,
    /// By the event's type.
    pub by_event_type: BTreeMap<String, i64>,
}

/// Counts them.
pub async fn stats(store: &Store, instances: &InstanceSet) -> Result<DeadLetterStats> {
    let mut tx = store.read().await?;
    let rows: Vec<(String, String, i64)> = on!(&mut tx, conn => sqlx::query_as(
        "select status, event_type, count(*) from dead_letter_events \
         where ($1 is null or instance_id in (select unhex(value) from json_each($1))) group by status, event_type")
        .bind(instances.json()).fetch_all(conn).await)?;
    let mut stats = DeadLetterStats::default();
    for (status, event_type, count) in rows {
        stats.total += count;
        *stats.by_event_type.entry(event_type).or_default() += count;
        match status.as_str() {
            "pending" => stats.pending += count,
            "retrying" => stats.retrying += count,
            "resolved" => stats.resolved += count,
            _ => stats.abandoned += count,
        }
    }
    Ok(stats)
}
