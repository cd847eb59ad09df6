//! The store in one file: SQLite, with one connection that writes, some that read, and one that folds the log in.

use super::error::migrate_error;
use super::{Pools, Result, Store, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::time::Duration;

/// At so many pages in the write-ahead log the writer itself folds in what is left, which lets the log begin anew.
/// Before that it is done beside it, since it takes as long as a hundred commits.
const AUTOCHECKPOINT: &str = "32000";
/// Pages that a connection keeps, in KiB when negative: the system's cache is behind them, and each reader has its own.
const WRITER_CACHE: &str = "-16384";
const READER_CACHE: &str = "-8192";
/// How often the log is folded in beside the writer.
const FOLD_EVERY: Duration = Duration::from_millis(200);

/// How a database file is opened.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// Connections that read.
    pub readers: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self { readers: 4 }
    }
}

impl Store {
    /// Opens the database file, makes it when there is none, and brings its schema up to date.
    pub async fn open_sqlite(path: &Path, options: SqliteOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10))
            // Most pages that a message touches are leaves of indexes, one of its chat each: smaller ones are less to write.
            .page_size(4096)
            .statement_cache_capacity(512)
            .pragma("wal_autocheckpoint", AUTOCHECKPOINT)
            .pragma("cache_size", WRITER_CACHE)
            .pragma("temp_store", "memory")
            // What was moved or replaced within a page is written over; that costs no page.
            .pragma("secure_delete", "fast");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(connect.clone())
            .await?;
        migrate(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .test_before_acquire(false)
            .connect_with(connect.clone().read_only(true).pragma("cache_size", READER_CACHE))
            .await?;
        let folder = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_lazy_with(connect.pragma("wal_autocheckpoint", "0").pragma("cache_size", READER_CACHE));
        tokio::spawn(fold(folder.clone()));
        Self::over(Pools::Sqlite { writer, readers, folder }).await
    }
}

async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let steps = sqlx::migrate!("../migrations/sqlite");
    let known = steps.iter().map(|step| step.version).max().unwrap_or(0);
    steps.run(writer).await.map_err(|error| migrate_error(error, known))
}

/// Folds the write-ahead log into the file, beside the writer, until the store is closed. `passive` waits for nobody and
/// makes nobody wait.
async fn fold(folder: SqlitePool) {
    let mut ticks = tokio::time::interval(FOLD_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !folder.is_closed() {
        ticks.tick().await;
        match sqlx::query("pragma wal_checkpoint(passive)").execute(&folder).await {
            Ok(_) => {}
            Err(sqlx::Error::PoolClosed) => return,
            // The writer meets the same disk and says so to those who wait for it.
            Err(error) => tracing::debug!(%error, "failed to fold the write-ahead log into the file"),
        }
    }
}

/// Takes the writing connection. SQLite takes a transaction back by itself when the disk is full; sqlx then still believes
/// that it is in one and begins none ever after, so that such a connection is replaced.
pub(super) async fn begin(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    const BEGIN: &str = "begin immediate";
    match writer.begin_with(BEGIN).await {
        Err(sqlx::Error::InvalidSavePointStatement) => {
            tracing::warn!("the writing connection was left in a broken transaction and is replaced");
            writer.acquire().await?.close().await?;
            writer.begin_with(BEGIN).await
        }
        other => other,
    }
}
