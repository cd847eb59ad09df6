//! The table `sync_jobs`: older or missed messages that are fetched from a network; and where in a chat that begins.
//!
//! Deliberately not here: what a job asks for and how far it is, which are JSON that `history` writes and reads.

use super::page::{Page, Position, hex_list, one_more};
use super::{Json, Result, Run, Store, Time, Tx, on};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

/// The type of those that fetch older messages.
pub const OLDER: &str = "messages";
/// The type of those that fetch what was missed.
pub const MISSED: &str = "missed";

/// A row.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct SyncJobRow {
    /// Its id.
    pub id: Uuid,
    /// Whose messages.
    pub instance_id: Uuid,
    /// The instance's channel.
    pub channel: String,
    /// [`OLDER`] or [`MISSED`].
    #[sqlx(rename = "type")]
    pub kind: String,
    /// `pending`, `running`, `completed`, `failed` or `cancelled`.
    pub status: String,
    /// What was asked for.
    pub config: Json<Value>,
    /// How far it has come.
    pub progress: Json<Value>,
    /// Why it failed.
    pub error_message: Option<String>,
    /// When it was asked for.
    pub created_at: Time,
    /// When it began.
    pub started_at: Option<Time>,
    /// When it ended.
    pub completed_at: Option<Time>,
}

/// A job that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct Unfinished {
    /// Its id.
    pub id: Uuid,
    /// Whose messages.
    pub instance_id: Uuid,
}

/// A chat, and the message in it from which to go on: both by the network's ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, FromRow)]
pub struct Place {
    /// Where.
    pub chat: String,
    /// From which message; from the newest when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor: Option<String>,
}

/// Writes a new one, which waits.
pub async fn insert(tx: &mut Tx, row: &SyncJobRow) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "insert into sync_jobs (id, instance_id, channel, type, status, config, progress, created_at)
         values ($1, $2, $3, $4, 'pending', $5, $6, $7)",
    )
    .bind(row.id)
    .bind(row.instance_id)
    .bind(&row.channel)
    .bind(&row.kind)
    .bind(&row.config)
    .bind(&row.progress)
    .bind(row.created_at)
    .run(conn)
    .await)?;
    Ok(())
}

/// How many jobs of an instance wait to begin: those of one type, and all.
pub async fn waiting(tx: &mut Tx, instance: Uuid, kind: &str) -> Result<(i64, i64)> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select count(case when type = $2 then 1 end), count(*) from sync_jobs where instance_id = $1 and status = 'pending'",
    )
    .bind(instance)
    .bind(kind)
    .fetch_one(conn)
    .await)?)
}

/// Since when the oldest job of an instance waits that is to fetch what was missed.
pub async fn missed_since(store: &Store, instance: Uuid) -> Result<Option<Time>> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_scalar(
        "select min(created_at) from sync_jobs where instance_id = $1 and status = 'pending' and type = 'missed'",
    )
    .bind(instance)
    .fetch_one(conn)
    .await)?)
}

/// Those of some instances that have not ended, in the order in which they are to run: what was missed is news and goes
/// first, what has begun before what waits.
pub async fn unfinished(store: &Store, instances: &[Uuid]) -> Result<Vec<Unfinished>> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(
        "select id, instance_id from sync_jobs
         where status in ('pending', 'running') and instance_id in (select unhex(value) from json_each($1))
         order by case type when 'missed' then 0 else 1 end, case status when 'running' then 0 else 1 end, created_at, id",
    )
    .bind(hex_list(instances))
    .fetch_all(conn)
    .await)?)
}

/// One of them.
pub async fn get(store: &Store, id: Uuid) -> Result<Option<SyncJobRow>> {
    let mut tx = store.read().await?;
    Ok(
        on!(&mut tx, conn => sqlx::query_as("select * from sync_jobs where id = $1").bind(id).fetch_optional(conn).await)?,
    )
}

/// Those of an instance, the newest first.
pub async fn list(store: &Store, instance: Uuid, from: Option<Position>, limit: u32) -> Result<Page<SyncJobRow>> {
    let from = from.unwrap_or(Position::START);
    let mut tx = store.read().await?;
    let rows: Vec<SyncJobRow> = on!(&mut tx, conn => sqlx::query_as(
        "select * from sync_jobs where instance_id = $1 and (created_at, id) < ($2, $3)
         order by created_at desc, id desc limit $4",
    )
    .bind(instance)
    .bind(from.time())
    .bind(from.id)
    .bind(one_more(limit))
    .fetch_all(conn)
    .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: row.created_at.0, id: row.id }))
}

/// Begins one that waits, with where it is to look. `false` when it does not wait any more.
pub async fn start(tx: &mut Tx, id: Uuid, config: &Value, progress: &Value, now: Time) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query(
        "update sync_jobs set status = 'running', config = $2, progress = $3, started_at = $4
         where id = $1 and status = 'pending'",
    )
    .bind(id)
    .bind(Json(config))
    .bind(Json(progress))
    .bind(now)
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// Writes how far one has come. `false` when it does not run any more.
pub async fn advance(tx: &mut Tx, id: Uuid, progress: &Value) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query(
        "update sync_jobs set progress = $2 where id = $1 and status = 'running'",
    )
    .bind(id)
    .bind(Json(progress))
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// Ends one, with why when it failed. `false` when it had ended.
pub async fn end(tx: &mut Tx, id: Uuid, status: &str, why: Option<&str>, now: Time) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query(
        "update sync_jobs set status = $2, error_message = $3, completed_at = $4
         where id = $1 and status in ('pending', 'running')",
    )
    .bind(id)
    .bind(status)
    .bind(why)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// Takes one away that there is nothing to do for.
pub async fn delete(tx: &mut Tx, id: Uuid) -> Result<()> {
    on!(tx, conn => sqlx::query("delete from sync_jobs where id = $1").bind(id).run(conn).await)?;
    Ok(())
}

/// The oldest message of each of an instance's chats, those with the newest activity first; `chat` narrows.
pub async fn oldest_known(store: &Store, instance: Uuid, chat: Option<&str>, limit: u32) -> Result<Vec<Place>> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(
        "select c.external_id as chat, (select m.external_id from messages m
             where m.chat_id = c.id and m.external_id is not null order by m.platform_timestamp, m.id limit 1) as anchor
         from chats c
         where c.instance_id = $1 and c.deleted_at is null and ($2 is null or c.id in (
             select id from chats where instance_id = $1 and external_id = $2
             union select chat_id from chat_id_mappings where instance_id = $1 and external_id = $2))
         order by coalesce(c.last_message_at, c.created_at) desc, c.id desc limit $3",
    )
    .bind(instance)
    .bind(chat)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await)?)
}

/// From where a gap is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Behind {
    /// Only in chats with a message since then.
    pub active_since: Time,
    /// Behind the newest message that was received before.
    pub received_before: Time,
    /// And that was written before.
    pub written_before: Time,
}

/// The newest message of each of an instance's chats, those with the newest activity first. A chat without one has
/// nothing that a gap could be behind.
pub async fn newest_known(store: &Store, instance: Uuid, behind: Behind, limit: u32) -> Result<Vec<Place>> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(
        "select chat, anchor from (
           select c.external_id as chat, c.id, coalesce(c.last_message_at, c.created_at) as active,
             (select m.external_id from messages m
              where m.chat_id = c.id and m.external_id is not null and m.received_at < $3 and m.platform_timestamp < $4
              order by m.platform_timestamp desc, m.id desc limit 1) as anchor
           from chats c
           where c.instance_id = $1 and c.deleted_at is null and coalesce(c.last_message_at, c.created_at) >= $2) known
         where anchor is not null order by active desc, id desc limit $5",
    )
    .bind(instance)
    .bind(behind.active_since)
    .bind(behind.received_before)
    .bind(behind.written_before)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await)?)
}
