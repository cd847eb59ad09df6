//! Everything that is kept, in one database: SQLite in one file, or Postgres.
//!
//! `Store` is a concrete type over an enum of pools; each statement is written once, with `$n` and native types, in a
//! function of a submodule named for its table, and takes the time as a parameter. Where the databases must differ, both
//! texts stand side by side (`Tx::pick`). Both have one writing connection: whoever writes begins with
//! [`Store::begin`], which takes it; and of hosts that share a database one writes at a time.
//!
//! Deliberately not here: when something is written, retried or given up. That is decided by those who call.

use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};
use std::sync::Arc;
use uuid::Uuid;

mod ahead;
pub mod api_keys;
pub mod apply;
pub mod audit;
pub mod auth_imports;
mod bulk;
pub mod chat_list;
pub mod chats;
pub mod consumers;
pub mod dead_letter_list;
pub mod dead_letters;
pub mod early;
pub mod entry;
pub mod erasures;
mod error;
pub mod event_list;
pub mod events;
mod feed;
mod hold;
pub mod hosts;
pub mod idempotency;
pub mod identity;
mod ids;
mod json;
pub mod message_list;
pub mod page;
pub mod person_export;
pub mod person_links;
pub mod person_list;
pub mod postgres;
mod run;
pub mod settings;
mod sqlite;
use ids::Ids;
pub mod files;
pub mod instances;
pub mod kv;
pub mod ledger;
pub mod log;
pub mod media;
pub mod messages;
pub mod moving;
pub mod outbox;
pub mod replays;
pub mod retention;
pub mod sealed;
pub mod snapshot;
pub mod state_snapshots;
pub mod stats;
pub mod sync_jobs;
#[cfg(test)]
pub(crate) mod tests;
mod time;
pub mod webhook_log;
pub mod webhook_queue;
pub mod webhooks;

pub use ahead::Ahead;
use ahead::{Disturbance, Disturbances, Recording};
pub use error::StoreError;
pub use feed::Feed;
use hold::Held;
pub use hold::Hold;
pub use json::Json;
pub use postgres::PostgresOptions;
pub(crate) use run::Run;
pub use sqlite::SqliteOptions;
pub use time::Time;

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
    Postgres {
        /// One connection, so that nobody need fear what others write between reading and writing.
        writer: PgPool,
        /// One connection for the log of the bus, whose rows nobody else writes.
        log: PgPool,
        readers: PgPool,
        /// For the connection that holds the database.
        address: postgres::Address,
        /// Whether this host may write.
        held: Held,
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
    /// Whether other hosts write beside this one.
    is_shared: bool,
    /// What it has counted; it is written with the commit.
    ledger: ledger::Changes,
    /// Set while others are kept from trusting what they read before. Dropped last, when the connection is free again.
    disturbance: Option<Disturbance>,
}

/// The transactions there are.
pub(crate) enum TxKind {
    /// On SQLite.
    Sqlite(Transaction<'static, Sqlite>),
    /// On Postgres.
    Postgres(Transaction<'static, Postgres>),
}

impl std::fmt::Debug for Tx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tx")
    }
}

impl Tx {
    /// One of nobody's store, to read in.
    fn alone(kind: TxKind) -> Self {
        Self {
            kind,
            feed: Feed::new(0),
            ids: Arc::default(),
            newest_event: 0,
            recording: None,
            is_shared: false,
            ledger: ledger::Changes::default(),
            disturbance: None,
        }
    }

    /// Says that accounts get other persons in this transaction, so that whoever remembers which person an account has
    /// looks again. Said before the commit: the next transaction that writes must know.
    pub(crate) async fn people_move(&mut self) -> Result<()> {
        self.feed.people_move();
        hosts::people_move(self).await
    }

    /// How often that was said, here or on another host.
    pub(crate) async fn people_moved(&mut self) -> Result<i64> {
        if self.is_shared { hosts::people_moved(self).await } else { Ok(self.feed.people_moved()) }
    }

    /// Makes what was written durable, and tells those who wait for domain events.
    pub async fn commit(mut self) -> Result<()> {
        fault!("store.commit.before");
        ledger::write(&mut self).await?;
        match self.kind {
            TxKind::Sqlite(tx) => tx.commit().await?,
            TxKind::Postgres(tx) => tx.commit().await?,
        }
        self.feed.advance(self.newest_event);
        fault!("store.commit.after");
        Ok(())
    }

    /// Takes everything back, and returns when the connection is free again.
    pub async fn rollback(self) -> Result<()> {
        match self.kind {
            TxKind::Sqlite(tx) => Ok(tx.rollback().await?),
            TxKind::Postgres(tx) => Ok(tx.rollback().await?),
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

    /// The text for the database that this is on, where one cannot do for both.
    pub(crate) fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        match &self.kind {
            TxKind::Sqlite(_) => sqlite,
            TxKind::Postgres(_) => postgres,
        }
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
            $crate::store::TxKind::Postgres(tx) => {
                let $conn = &mut **tx;
                $body
            }
        }
    };
}
pub(crate) use on;

impl Store {
    /// A store over open pools.
    async fn over(pools: Pools) -> Result<Self> {
        let store = Self {
            pools: Arc::new(pools),
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
            is_shared: match &*self.pools {
                Pools::Sqlite { .. } => false,
                Pools::Postgres { held, .. } => held.is_shared(),
            },
            recording: None,
            ledger: ledger::Changes::default(),
            disturbance: None,
        }
    }

    /// How long this host may still write, when it shares the database with others and has to say that it lives.
    pub fn lease_left(&self) -> Option<std::time::Duration> {
        match &*self.pools {
            Pools::Sqlite { .. } => None,
            Pools::Postgres { held, .. } => held.left(),
        }
    }

    /// For how long it has not been allowed to write any more, if it is not.
    pub fn lease_over_for(&self) -> Option<std::time::Duration> {
        match &*self.pools {
            Pools::Sqlite { .. } => None,
            Pools::Postgres { held, .. } => held.over_for(),
        }
    }

    /// Begins a transaction that writes. There is one at a time, on all hosts; the next waits here.
    pub async fn begin(&self) -> Result<Tx> {
        let mut tx = self.begin_quietly().await?;
        tx.disturbance = Some(self.disturbances.begin());
        Ok(tx)
    }

    /// Begins a transaction that writes what only the storage consumer reads: its own. What it worked out ahead stays true.
    pub async fn begin_quietly(&self) -> Result<Tx> {
        match &*self.pools {
            Pools::Sqlite { writer, .. } => Ok(self.tx(TxKind::Sqlite(sqlite::begin(writer).await?))),
            Pools::Postgres { writer, held, .. } => {
                Ok(self.tx(TxKind::Postgres(postgres::begin(writer, held, held.turn()).await?)))
            }
        }
    }

    /// Begins a transaction that writes the log of the bus and what is committed with it, and nothing that others write.
    /// On SQLite it waits with all who write; on Postgres it has a connection of its own.
    pub async fn begin_log(&self) -> Result<Tx> {
        match &*self.pools {
            Pools::Sqlite { .. } => self.begin_quietly().await,
            Pools::Postgres { log, held, .. } => {
                Ok(self.tx(TxKind::Postgres(postgres::begin(log, held, held.own()).await?)))
            }
        }
    }

    /// Begins a transaction that only reads, from one snapshot.
    pub async fn read(&self) -> Result<Tx> {
        match &*self.pools {
            Pools::Sqlite { readers, .. } => Ok(self.tx(TxKind::Sqlite(readers.begin().await?))),
            Pools::Postgres { readers, .. } => Ok(self.tx(TxKind::Postgres(postgres::read(readers).await?))),
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
            Pools::Postgres { writer, log, readers, .. } => {
                readers.close().await;
                log.close().await;
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
            Self::Postgres { .. } => {}
        }
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
    .run(conn)
    .await)?;
    tx.commit().await?;
    Ok(id)
}
