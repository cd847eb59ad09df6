//! The table `auth_imports`: auth state that was taken over, and what an instance kept before.
//!
//! Of each instance the newest import can be undone, and only that one has its entries from before kept.

use super::{Json, Result, Run, Store, Time, Tx, on};
use serde_json::Value;
use sqlx::FromRow;
use uuid::Uuid;

/// A row.
#[derive(Clone, Debug, PartialEq, FromRow)]
pub struct AuthImportRow {
    /// Its id, and the name of the sealed copy.
    pub id: Uuid,
    /// Whose.
    pub instance_id: Uuid,
    /// SHA-256 of what was handed in, in hex.
    pub snapshot: String,
    /// Which program it came from.
    pub source: String,
    /// Which of its stores were used, and what for.
    pub used: Json<Value>,
    /// What the channel said of it.
    pub report: Json<Value>,
    /// The key of the sealed copy, sealed; none once that is deleted.
    pub snapshot_key: Option<Vec<u8>>,
    /// The size of the copy.
    pub snapshot_bytes: i64,
    /// The version of what the instance kept before.
    pub state_version_before: i64,
    /// When it was taken over.
    pub created_at: Time,
    /// When the instance first connected with it.
    pub cutover_at: Option<Time>,
    /// When it was undone.
    pub undone_at: Option<Time>,
}

/// Writes a new one.
pub async fn insert(tx: &mut Tx, row: &AuthImportRow) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "insert into auth_imports (id, instance_id, snapshot, source, used, report, snapshot_key, snapshot_bytes,
            state_version_before, created_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(row.id)
    .bind(row.instance_id)
    .bind(&row.snapshot)
    .bind(&row.source)
    .bind(&row.used)
    .bind(&row.report)
    .bind(&row.snapshot_key)
    .bind(row.snapshot_bytes)
    .bind(row.state_version_before)
    .bind(row.created_at)
    .run(conn)
    .await)?;
    Ok(())
}

/// The newest of an instance that was not undone: the one whose state it has.
pub async fn newest(tx: &mut Tx, instance: Uuid) -> Result<Option<AuthImportRow>> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select * from auth_imports where instance_id = $1 and undone_at is null order by created_at desc, id desc limit 1",
    )
    .bind(instance)
    .fetch_optional(conn)
    .await)?)
}

/// One of them.
pub async fn get(store: &Store, id: Uuid) -> Result<Option<AuthImportRow>> {
    let mut tx = store.read().await?;
    let query = "select * from auth_imports where id = $1";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

/// All of them, the newest first; they are few.
pub async fn all(store: &Store) -> Result<Vec<AuthImportRow>> {
    let mut tx = store.read().await?;
    let query = "select * from auth_imports order by created_at desc, id desc";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).fetch_all(conn).await)?)
}

/// Notes that an instance has connected: with what was taken over, when that is so for the first time.
pub async fn connected(tx: &mut Tx, instance: Uuid, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update auth_imports set cutover_at = $2 where instance_id = $1 and cutover_at is null and undone_at is null",
    )
    .bind(instance)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Forgets the key of the sealed copy, which is worth nothing then. `false` when there was none any more.
pub async fn forget(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let query = "update auth_imports set snapshot_key = null where id = $1 and snapshot_key is not null";
    Ok(on!(tx, conn => sqlx::query(query).bind(id).run(conn).await)? == 1)
}

/// Puts all that an instance keeps aside, for the way back, so that it keeps nothing.
pub async fn put_aside(tx: &mut Tx, instance: Uuid) -> Result<()> {
    for query in [
        "delete from auth_import_entries where instance_id = $1",
        "insert into auth_import_entries (instance_id, key, plugin_id, value)
         select instance_id, key, plugin_id, value from plugin_storage where instance_id = $1",
        "delete from plugin_storage where instance_id = $1",
    ] {
        on!(tx, conn => sqlx::query(query).bind(instance).run(conn).await)?;
    }
    Ok(())
}

/// Undoes an import: the instance keeps what it kept before, and nothing of what came.
pub async fn undo(tx: &mut Tx, row: &AuthImportRow, now: Time) -> Result<()> {
    let query = "delete from plugin_storage where instance_id = $1";
    on!(tx, conn => sqlx::query(query).bind(row.instance_id).run(conn).await)?;
    let query = "insert into plugin_storage (instance_id, key, plugin_id, value, updated_at)
        select instance_id, key, plugin_id, value, $2 from auth_import_entries where instance_id = $1";
    on!(tx, conn => sqlx::query(query).bind(row.instance_id).bind(now).run(conn).await)?;
    let query = "delete from auth_import_entries where instance_id = $1";
    on!(tx, conn => sqlx::query(query).bind(row.instance_id).run(conn).await)?;
    let query = "update instances set state_version = $2 where id = $1";
    on!(tx, conn => sqlx::query(query).bind(row.instance_id).bind(row.state_version_before).run(conn).await)?;
    let query = "update auth_imports set undone_at = $2 where id = $1";
    on!(tx, conn => sqlx::query(query).bind(row.id).bind(now).run(conn).await)?;
    Ok(())
}

/// How many messages went out through an instance since a time, or may have.
pub async fn sent_since(tx: &mut Tx, instance: Uuid, since: Time) -> Result<i64> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select (select count(*) from outbox
                 where instance_id = $1 and updated_at >= $2
                   and (status in ('sending', 'unknown', 'reconciling') or (status = 'delivered' and kind <> 'send')))
              + (select count(*) from chats c join messages m on m.chat_id = c.id
                 where c.instance_id = $1 and m.created_at >= $2 and m.client_id is not null
                   and m.delivery_status in ('sent', 'delivered', 'read'))",
    )
    .bind(instance)
    .bind(since)
    .fetch_one(conn)
    .await)?)
}
