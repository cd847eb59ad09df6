//! The table `event_replays`: events that are read from the store once more, for one consumer.

use super::{Json, Result, Run, Store, Time, Tx, on};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

/// A row.
#[derive(Clone, Debug, FromRow)]
pub struct ReplayRow {
    /// Its id.
    pub id: Uuid,
    /// For whom.
    pub consumer: String,
    /// What was asked for.
    pub options: Json<Value>,
    /// The only instances whose events may be read; all when absent.
    #[sqlx(json(nullable))]
    pub instance_ids: Option<Vec<Uuid>>,
    /// `running`, `completed`, `cancelled` or `failed`.
    pub status: String,
    /// Up to where was looked.
    pub position: i64,
    /// Where it ends.
    pub end_seq: i64,
    /// How many places are to be looked at.
    pub total: i64,
    /// Events that were wanted.
    pub matched: i64,
    /// Events that were handed to the consumer.
    pub replayed: i64,
    /// Events that it had taken before.
    pub skipped: i64,
    /// Why it failed.
    pub error: Option<String>,
    /// By whom it was asked for.
    pub created_by: Option<String>,
    /// When it began.
    pub started_at: Time,
    /// When it ended.
    pub completed_at: Option<Time>,
}

/// Writes a new one.
pub async fn insert(tx: &mut Tx, row: &ReplayRow) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "insert into event_replays (id, consumer, options, instance_ids, status, position, end_seq, total, created_by,
           started_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.id)
    .bind(&row.consumer)
    .bind(&row.options)
    .bind(row.instance_ids.as_ref().map(Json))
    .bind(&row.status)
    .bind(row.position)
    .bind(row.end_seq)
    .bind(row.total)
    .bind(&row.created_by)
    .bind(row.started_at)
    .run(conn)
    .await)?;
    Ok(())
}

/// Writes how far a running one has come. `false` when it was cancelled meanwhile: then nothing of the transaction may
/// be committed.
pub async fn progress(tx: &mut Tx, row: &ReplayRow) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query(
        "update event_replays set position = $2, matched = $3, replayed = $4, skipped = $5, status = $6, error = $7,
           completed_at = $8 where id = $1 and status = 'running'",
    )
    .bind(row.id)
    .bind(row.position)
    .bind(row.matched)
    .bind(row.replayed)
    .bind(row.skipped)
    .bind(&row.status)
    .bind(&row.error)
    .bind(row.completed_at)
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// Cancels a running one. `false` when it does not run.
pub async fn cancel(tx: &mut Tx, id: Uuid, now: Time) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query(
        "update event_replays set status = 'cancelled', completed_at = $2 where id = $1 and status = 'running'",
    )
    .bind(id)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// Those that run.
pub async fn running(store: &Store) -> Result<Vec<ReplayRow>> {
    let mut tx = store.read().await?;
    let query = "select * from event_replays where status = 'running' order by id";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).fetch_all(conn).await)?)
}

/// The newest ones, newest first.
pub async fn list(store: &Store, limit: u32) -> Result<Vec<ReplayRow>> {
    let mut tx = store.read().await?;
    let query = "select * from event_replays order by id desc limit $1";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(i64::from(limit)).fetch_all(conn).await)?)
}

/// One of them.
pub async fn get(tx: &mut Tx, id: Uuid) -> Result<Option<ReplayRow>> {
    let query = "select * from event_replays where id = $1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}
