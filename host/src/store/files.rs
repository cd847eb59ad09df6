//! The rows of files that are stored, as the media store writes and finds them.

use super::{Result, Store, Time, on};
use sqlx::FromRow;
use uuid::Uuid;

/// A file as its row knows it.
#[derive(Clone, Debug, FromRow)]
pub struct FileRow {
    /// Its id.
    pub id: Uuid,
    /// Through which instance it came, or is to go.
    pub instance_id: Uuid,
    /// MIME type, if known.
    pub mime_type: Option<String>,
    /// Its name, if it has one.
    pub file_name: Option<String>,
    /// Size in bytes.
    pub size: Option<i64>,
    /// Where it lies within the media folder; absent until it is stored.
    pub path: Option<String>,
}

/// One file.
pub async fn get(store: &Store, id: Uuid) -> Result<Option<FileRow>> {
    let mut tx = store.read().await?;
    let query = "select id, instance_id, mime_type, file_name, size, path from media where id = $1";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

/// Writes a file that is stored already: an upload.
pub async fn insert_stored(store: &Store, row: &FileRow, sha256: &str, now: Time) -> Result<()> {
    let mut tx = store.begin().await?;
    let query = "insert into media (id, instance_id, mime_type, file_name, size, sha256, path, status, created_at,
            updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, 'stored', $8, $8)";
    on!(&mut tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(row.instance_id)
        .bind(&row.mime_type)
        .bind(&row.file_name)
        .bind(row.size)
        .bind(sha256)
        .bind(&row.path)
        .bind(now)
        .execute(conn)
        .await)?;
    tx.commit().await
}
