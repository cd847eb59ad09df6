//! Everything that is kept, in one database: SQLite in one file, or (later) Postgres.
//!
//! `Store` is a concrete type over an enum of pools; each statement is written once, with `$n` or `?` and native types,
//! in a function of a submodule named for its table, and takes the time as a parameter. SQLite has one writing
//! connection: whoever writes begins with [`Store::begin`], which takes it.
//!
//! Deliberately not here: when something is written, retried or given up. That is decided by those who call.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Sqlite, SqlitePool, Transaction};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

mod ahead;
pub mod api_keys;
pub mod apply;
pub mod audit;
mod bulk;
pub mod chat_list;
pub mod chats;
pub mod consumers;
pub mod dead_letter_list;
pub mod dead_letters;
pub mod early;
pub mod entry;
pub mod event_list;
pub mod events;
mod feed;
pub mod idempotency;
pub mod identity;
mod ids;
pub mod message_list;
pub mod page;
pub mod person_links;
pub mod person_list;
pub mod settings;
use ids::Ids;
pub mod files;
pub mod instances;
pub mod kv;
pub mod log;
pub mod media;
pub mod messages;
pub mod outbox;
pub mod replays;
pub mod retention;
pub mod sealed;
pub mod snapshot;
pub mod state_snapshots;
pub mod stats;
#[cfg(test)]
pub(crate) mod tests;
mod time;
pub mod webhook_log;
pub mod webhook_queue;
pub mod webhooks;

pub use ahead::Ahead;
use ahead::{Disturbance, Disturbances, Recording};
pub use feed::Feed;
pub use time::Time;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or is away; the source says which.
    #[error("failed to use the database")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date, or is newer than this program.
    #[error("failed to bring the database schema up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this program cannot read.
    #[error("failed to read {table}.{column} of row {id}: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A unique value is already taken.
    #[error("{0} already exists")]
    Conflict(String),
}

impl StoreError {
    /// Whether the database itself is away or full (a lost file, no space, locked for too long), as against having
    /// refused this one statement: nothing that was asked of it now would have worked.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                // SQLite's primary codes, in the low byte: busy, locked, nomem, readonly, ioerr, corrupt, full, cantopen.
                let code = error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff;
                matches!(code, 5 | 6 | 7 | 8 | 10 | 11 | 13 | 14)
            }
            Self::Database(error) => {
                matches!(
                    error,
                    sqlx::Error::Io(_)
                        | sqlx::Error::PoolTimedOut
                        | sqlx::Error::PoolClosed
                        | sqlx::Error::WorkerCrashed
                        | sqlx::Error::BeginFailed
                )
            }
            Self::Migrate(_) => true,
            Self::Inconsistent { .. } | Self::Conflict(_) => false,
        }
    }

    /// The sentence with its causes, for people.
    pub fn explain(&self) -> String {
        let mut sentence = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            sentence.push_str(": ");
            sentence.push_str(&cause.to_string());
            source = cause.source();
        }
        sentence
    }
}

/// A named place at which tests let the host fail: die, panic, or meet a database that is away. Nothing of it is in a
/// program that people run.
macro_rules! fault {
    ($name:literal) => {
        fail::fail_point!($name, |what| {
            if what.as_deref() == Some("abort") {
                std::process::abort();
            }
            let away = std::io::Error::other(concat!("injected at ", $name));
            Err($crate::store::StoreError::Database(sqlx::Error::Io(away)))
        });
    };
}
pub(crate) use fault;

/// The store's result.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A handle to the database, cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pools: Arc<Pools>,
    feed: Feed,
    ids: Arc<Ids>,
    disturbances: Disturbances,
}

/// The databases there are.
#[derive(Debug)]
enum Pools {
    Sqlite {
        /// One connection: SQLite has one writer, and a queue in front of it is fairer than its busy loop.
        writer: SqlitePool,
        readers: SqlitePool,
        /// One connection that folds the write-ahead log into the file while the writer writes on.
        folder: SqlitePool,
    },
}

/// A transaction that may write, or the connection of a reader. Dropped without a commit it leaves nothing behind.
pub struct Tx {
    pub(crate) kind: TxKind,
    feed: Feed,
    ids: Arc<Ids>,
    /// The newest domain event that was appended in it; listeners hear of it after the commit.
    newest_event: i64,
    /// Set when what it would write is noted down instead.
    recording: Option<Recording>,
    /// Set while others are kept from trusting what they read before. Dropped last, when the connection is free again.
    disturbance: Option<Disturbance>,
}

/// The transactions there are.
pub(crate) enum TxKind {
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl Tx {
    /// Says that accounts get other persons in this transaction, so that whoever remembers which person an account has
    /// looks again. Said before the commit: the next transaction that writes must know.
    pub(crate) fn people_move(&self) {
        self.feed.people_move();
    }

    /// How often that was said.
    pub(crate) fn people_moved(&self) -> u64 {
        self.feed.people_moved()
    }

    /// Makes what was written durable, and tells those who wait for domain events.
    pub async fn commit(self) -> Result<()> {
        fault!("store.commit.before");
        match self.kind {
            TxKind::Sqlite(tx) => tx.commit().await?,
        }
        self.feed.advance(self.newest_event);
        fault!("store.commit.after");
        Ok(())
    }

    /// Takes everything back, and returns when the connection is free again.
    pub async fn rollback(self) -> Result<()> {
        match self.kind {
            TxKind::Sqlite(tx) => Ok(tx.rollback().await?),
        }
    }

    /// Takes everything back because of an error, and hands that on. SQLite takes a transaction back by itself when the
    /// disk is full, and a second time is an error that would hide the first.
    pub async fn fail(self, error: StoreError) -> StoreError {
        if let Err(second) = self.rollback().await {
            tracing::debug!(error = second.explain(), "failed to roll back after an error");
        }
        error
    }

    /// A new id of our own; each is greater than the one before.
    pub fn new_id(&self, now: Time) -> Uuid {
        self.ids.next(now)
    }
}

/// Runs one expression on the connection of a transaction, whichever database it is on:
/// `on!(tx, conn => sqlx::query("…").execute(conn).await)`.
macro_rules! on {
    ($tx:expr, $conn:ident => $body:expr) => {
        match &mut ($tx).kind {
            $crate::store::TxKind::Sqlite(tx) => {
                let $conn = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use on;

/// At so many pages in the write-ahead log the writer itself folds in what is left, which lets the log begin anew.
/// Before that it is done beside it, since it takes as long as a hundred commits.
const AUTOCHECKPOINT: &str = "32000";
/// Pages that a connection keeps, in KiB when negative: the system's cache is behind them, and each reader has its own.
const WRITER_CACHE: &str = "-16384";
const READER_CACHE: &str = "-8192";
/// How often the log is folded in beside the writer.
const FOLD_EVERY: Duration = Duration::from_millis(200);

/// How a database is opened.
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
            .pragma("temp_store", "memory");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(Duration::from_secs(30))
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(connect.clone())
            .await?;
        sqlx::migrate!("../migrations/sqlite").run(&writer).await?;
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
        let store = Self {
            pools: Arc::new(Pools::Sqlite { writer, readers, folder }),
            feed: Feed::new(0),
            ids: Arc::default(),
            disturbances: Disturbances::default(),
        };
        let newest = events::newest(&mut store.read().await?).await?;
        store.feed.advance(newest);
        Ok(store)
    }

    /// Where news of domain events is heard.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }

    /// A new id of our own; each is greater than the one before.
    pub fn new_id(&self, now: Time) -> Uuid {
        self.ids.next(now)
    }

    fn tx(&self, kind: TxKind) -> Tx {
        Tx {
            kind,
            feed: self.feed.clone(),
            ids: Arc::clone(&self.ids),
            newest_event: 0,
            recording: None,
            disturbance: None,
        }
    }

    /// Begins a transaction that writes. On SQLite there is one at a time; the next waits here.
    pub async fn begin(&self) -> Result<Tx> {
        let mut tx = self.begin_quietly().await?;
        tx.disturbance = Some(self.disturbances.begin());
        Ok(tx)
    }

    /// Begins a transaction that writes nothing that the storage consumer reads: the log of the bus, or the consumer's
    /// own. What was worked out ahead stays true.
    pub async fn begin_quietly(&self) -> Result<Tx> {
        match &*self.pools {
            Pools::Sqlite { writer, .. } => Ok(self.tx(TxKind::Sqlite(begin_sqlite(writer).await?))),
        }
    }

    /// Begins a transaction that only reads, from one snapshot.
    pub async fn read(&self) -> Result<Tx> {
        match &*self.pools {
            Pools::Sqlite { readers, .. } => Ok(self.tx(TxKind::Sqlite(readers.begin().await?))),
        }
    }

    /// Closes every connection; on SQLite this also folds the write-ahead log into the file.
    pub async fn close(&self) {
        match &*self.pools {
            Pools::Sqlite { writer, readers, folder } => {
                folder.close().await;
                readers.close().await;
                writer.close().await;
            }
        }
    }
}

impl Drop for Pools {
    fn drop(&mut self) {
        match self {
            // Marks it closed, which ends its task; nobody is left to wait for.
            Self::Sqlite { folder, .. } => drop(folder.close()),
        }
    }
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
async fn begin_sqlite(writer: &SqlitePool) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
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

/// An instance with nothing behind it, for benches, which are outside of the crate.
#[doc(hidden)]
pub async fn bench_instance(store: &Store, now: Time) -> Result<Uuid> {
    let mut tx = store.begin().await?;
    let id = tx.new_id(now);
    on!(&mut tx, conn => sqlx::query(
        "insert into instances (id, name, channel, state_since, created_at, updated_at)
         values ($1, 'bench', 'bench', $2, $2, $2)",
    )
    .bind(id)
    .bind(now)
    .execute(conn)
    .await)?;
    tx.commit().await?;
    Ok(id)
}
