//! A copy of the whole database as it was at one moment, taken while others write, and looked at before it is trusted.
//!
//! Deliberately not here: files beside the database, and where copies go ([`crate::backup`]).

use super::{Result, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::path::Path;
use std::time::Duration;

/// A stored file as a copy knows it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredFile {
    /// Where it lies within the media folder.
    pub path: String,
    /// Its SHA-256 in hex, when it is known.
    pub sha256: Option<String>,
}

/// What a copy holds.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The number of the newest step of the schema.
    pub schema: i64,
    /// The check value of the key that seals, if one was written.
    pub key_check: Option<String>,
    /// Messages.
    pub messages: i64,
    /// The newest of their times, and of the events', in microseconds.
    pub newest: i64,
    /// Every stored file.
    pub files: Vec<StoredFile>,
}

/// The newest step of the schema that this program knows.
pub fn newest_schema() -> i64 {
    sqlx::migrate!("../migrations/sqlite").iter().map(|step| step.version).max().unwrap_or(0)
}

async fn open(file: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(30));
    Ok(options.connect().await?)
}

/// Copies a database into a new file, whole and compact. Reads one snapshot, and makes nobody wait.
pub async fn take(database: &Path, copy: &Path) -> Result<()> {
    let mut connection = open(database).await?;
    let copied = sqlx::query("vacuum into $1").bind(copy.to_string_lossy()).execute(&mut connection).await;
    connection.close().await?;
    copied?;
    Ok(())
}

/// Looks through a database: whether it is whole, and what is in it. Changes nothing in it.
pub async fn inspect(database: &Path) -> Result<Inside> {
    let mut connection = open(database).await?;
    let inside = look(&mut connection, database).await;
    connection.close().await?;
    inside
}

async fn look(connection: &mut SqliteConnection, database: &Path) -> Result<Inside> {
    let word: String = sqlx::query_scalar("pragma quick_check(1)").fetch_one(&mut *connection).await?;
    if word != "ok" {
        return Err(StoreError::Inconsistent {
            table: "(database)",
            column: "(pages)",
            id: database.display().to_string(),
            reason: word,
        });
    }
    let schema = sqlx::query_scalar("select coalesce(max(version), 0) from _sqlx_migrations where success")
        .fetch_one(&mut *connection)
        .await?;
    let key_check =
        sqlx::query_scalar::<_, Option<String>>("select value from global_settings where key = 'data.key_check'")
            .fetch_optional(&mut *connection)
            .await?
            .flatten();
    let messages = sqlx::query_scalar("select count(*) from messages").fetch_one(&mut *connection).await?;
    let newest = sqlx::query_scalar(
        "select max(coalesce((select processed_at from omni_events order by seq desc limit 1), 0),
                    coalesce((select accepted_at from inbound_log order by seq desc limit 1), 0))",
    )
    .fetch_one(&mut *connection)
    .await?;
    let files =
        sqlx::query_as("select path, sha256 from media where status = 'stored' and path is not null order by path")
            .fetch_all(&mut *connection)
            .await?;
    Ok(Inside { schema, key_check, messages, newest, files })
}
