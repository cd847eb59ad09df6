//! The rows of files that are stored, as the media store writes, finds and lets go of them.

use super::bulk::{self, Bulk};
use super::page::hex_list;
use super::{Result, Run, Store, Time, Tx, on};
use sqlx::FromRow;
use std::sync::LazyLock;
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
    /// Where it lies within the media folder; absent until it is stored, and once it was let go of.
    pub path: Option<String>,
    /// `pending`, `stored`, `failed` or `expired`.
    pub status: String,
}

/// One file.
pub async fn get(store: &Store, id: Uuid) -> Result<Option<FileRow>> {
    let mut tx = store.read().await?;
    let query = "select id, instance_id, mime_type, file_name, size, path, status from media where id = $1";
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
        .run(conn)
        .await)?;
    tx.commit().await
}

static ATTACH: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update media set message_id = v.column2 from (",
        "uuid uuid",
        ") v where media.id = v.column1 and message_id is null",
    )
});

/// Says which messages need files that were stored before them: file and message.
pub async fn attach(tx: &mut Tx, needed: &[(Uuid, Uuid)]) -> Result<()> {
    bulk::execute(tx, &ATTACH, needed, |row, (file, message)| {
        row.bind(*file).bind(*message);
    })
    .await?;
    Ok(())
}

/// Bytes of all stored files.
pub async fn bytes(store: &Store) -> Result<u64> {
    let mut tx = store.read().await?;
    let query = "select cast(coalesce(sum(size), 0) as bigint) from media where status = 'stored'";
    let bytes: i64 = on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await)?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// A file that may go.
#[derive(Clone, Debug, FromRow)]
pub struct Expendable {
    /// Its id.
    pub id: Uuid,
    /// Where it lies within the media folder.
    pub path: String,
    /// Size in bytes.
    pub size: i64,
}

/// Which files may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that no message needs: uploads that were never sent, files of messages that are gone.
    Unneeded,
    /// All but those of messages that are still to be sent.
    Any,
}

/// The oldest stored files that may go, of those from before a time.
pub async fn expendable(store: &Store, which: Which, before: Time, limit: u32) -> Result<Vec<Expendable>> {
    let query = match which {
        Which::Unneeded => {
            "select id, path, coalesce(size, 0) as size from media
             where status = 'stored' and created_at < $1 and path is not null
               and (message_id is null or not exists (select 1 from messages where messages.id = media.message_id))
             order by id limit $2"
        }
        Which::Any => {
            "select id, path, coalesce(size, 0) as size from media
             where status = 'stored' and created_at < $1 and path is not null and not exists (
               select 1 from messages where messages.id = media.message_id and delivery_status = 'pending')
             order by id limit $2"
        }
    };
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(before).bind(i64::from(limit)).fetch_all(conn).await)?)
}

/// Lets go of files: the rows of those that no message needs go, the others say that the file is no longer kept. Before
/// the files themselves: what is left of a crash in between is a file that nobody knows, which is swept up.
pub async fn let_go(store: &Store, ids: &[Uuid], now: Time) -> Result<()> {
    let mut tx = store.begin().await?;
    for id in ids {
        on!(&mut tx, conn => sqlx::query(
            "update messages set media_local_path = null, updated_at = $2
             where id = (select message_id from media where media.id = $1)",
        )
        .bind(id)
        .bind(now)
        .run(conn)
        .await)?;
        on!(&mut tx, conn => sqlx::query(
            "delete from media where id = $1 and (message_id is null
               or not exists (select 1 from messages where messages.id = media.message_id))",
        )
        .bind(id)
        .run(conn)
        .await)?;
        on!(&mut tx, conn => sqlx::query(
            "update media set status = 'expired', path = null, updated_at = $2 where id = $1",
        )
        .bind(id)
        .bind(now)
        .run(conn)
        .await)?;
    }
    tx.commit().await
}

/// Which of these files have a row that still needs what lies on the disk.
pub async fn needed(store: &Store, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    let query = "select id from media where id in (select unhex(value) from json_each($1))
        and status in ('stored', 'pending')";
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_scalar(query).bind(hex_list(ids)).fetch_all(conn).await)?)
}
