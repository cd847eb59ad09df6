//! Files, as rows: what is to be fetched, what is stored, what was given up.
//!
//! Deliberately not here: the bytes, and how often something is tried.

use super::bulk::{self, Bulk};
use super::page::hex_list;
use super::{Result, Run, Time, Tx, on};
use std::sync::LazyLock;
use uuid::Uuid;

/// A file that a message names and that is still with its network.
#[derive(Clone, Debug)]
pub struct NewMedia {
    /// Its id.
    pub id: Uuid,
    /// Through which instance it can be had.
    pub instance_id: Uuid,
    /// The message that it belongs to.
    pub message_id: Uuid,
    /// What the channel fetches it by.
    pub reference: String,
    /// MIME type, as far as the network said.
    pub mime_type: Option<String>,
    /// Its name.
    pub file_name: Option<String>,
    /// Its size, as far as the network said.
    pub size: Option<i64>,
}

/// One that is to be fetched now.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DueMedia {
    /// Its id.
    pub id: Uuid,
    /// Through which instance.
    pub instance_id: Uuid,
    /// The message that it belongs to.
    pub message_id: Option<Uuid>,
    /// What the channel fetches it by.
    pub reference: String,
    /// MIME type, as far as known.
    pub mime_type: Option<String>,
    /// Its name.
    pub file_name: Option<String>,
    /// Its size, as far as known.
    pub size: Option<i64>,
    /// How often it was tried, this time included.
    pub attempts: i64,
}

static INSERT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into media (id, instance_id, message_id, reference, mime_type, file_name, size, next_attempt_at, \
         created_at, updated_at)",
        "uuid uuid uuid text text text bigint timestamptz timestamptz timestamptz",
        "",
    )
});

/// Puts files down to be fetched, at once.
pub async fn insert(tx: &mut Tx, media: &[NewMedia], now: Time) -> Result<()> {
    bulk::execute(tx, &INSERT, media, |row, media| {
        row.bind(media.id)
            .bind(media.instance_id)
            .bind(media.message_id)
            .bind(media.reference.as_str())
            .bind(media.mime_type.as_deref())
            .bind(media.file_name.as_deref())
            .bind(media.size)
            .bind(now)
            .bind(now)
            .bind(now);
    })
    .await?;
    Ok(())
}

/// Those of the given instances of which anything is due.
pub async fn with_due(tx: &mut Tx, instances: &[Uuid], now: Time) -> Result<Vec<Uuid>> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select unhex(value) from json_each($2) as wanted where exists
           (select 1 from media where instance_id = unhex(wanted.value) and status = 'pending' and next_attempt_at <= $1)",
    )
    .bind(now)
    .bind(hex_list(instances))
    .fetch_all(conn)
    .await)?)
}

/// Takes what is due of an instance, the longest waiting first, and puts it off until `retry_at`, when it is due again
/// unless it was settled by then.
pub async fn claim_due(tx: &mut Tx, instance: Uuid, now: Time, retry_at: Time, limit: usize) -> Result<Vec<DueMedia>> {
    Ok(on!(tx, conn => sqlx::query_as(
        "update media set next_attempt_at = $2, attempts = attempts + 1, updated_at = $1
         where status = 'pending' and next_attempt_at <= $1 and id in (
           select id from media where instance_id = $3 and status = 'pending' and next_attempt_at <= $1
           order by next_attempt_at limit $4)
         returning id, instance_id, message_id, reference, mime_type, file_name, size, attempts",
    )
    .bind(now)
    .bind(retry_at)
    .bind(instance)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await)?)
}

/// What was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Where in the media folder.
    pub path: String,
    /// How it is reached through the API, for the message.
    pub url: String,
    /// MIME type.
    pub mime_type: Option<String>,
    /// Size in bytes.
    pub size: i64,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// The file is here; its message says where.
pub async fn settle_stored(tx: &mut Tx, id: Uuid, stored: &Stored, now: Time) -> Result<()> {
    let message: Option<Option<Uuid>> = on!(tx, conn => sqlx::query_scalar(
        "update media set status = 'stored', path = $2, mime_type = coalesce($3, mime_type), size = $4, sha256 = $5,
           next_attempt_at = null, error = null, updated_at = $6
         where id = $1 returning message_id",
    )
    .bind(id)
    .bind(&stored.path)
    .bind(&stored.mime_type)
    .bind(stored.size)
    .bind(&stored.sha256)
    .bind(now)
    .fetch_optional(conn)
    .await)?;
    if let Some(message) = message.flatten() {
        on!(tx, conn => sqlx::query(
            "update messages set media_url = $2, media_local_path = $3,
               media_mime_type = coalesce(media_mime_type, $4), updated_at = $5 where id = $1",
        )
        .bind(message)
        .bind(&stored.url)
        .bind(&stored.path)
        .bind(&stored.mime_type)
        .bind(now)
        .run(conn)
        .await)?;
    }
    Ok(())
}

/// It could not be had: it is tried again at `retry_at`, or given up when there is none.
pub async fn settle_failed(tx: &mut Tx, id: Uuid, error: &str, retry_at: Option<Time>, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update media set status = case when $2 is null then 'failed' else 'pending' end, next_attempt_at = $2,
           error = $3, updated_at = $4
         where id = $1 and status = 'pending'",
    )
    .bind(id)
    .bind(retry_at)
    .bind(error)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}
