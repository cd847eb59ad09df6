//! The store in Postgres. As on SQLite one connection writes, so that whoever reads and then writes need not fear what
//! others write in between, and nobody waits for a lock that another transaction holds; beside it one connection appends
//! to the log of the bus, whose rows nobody else writes, and some read.
//!
//! Deliberately not here: that only one host uses a database at a time. That is `hold`.

use super::error::{is_ending, migrate_error};
use super::hold::Held;
use super::{Pools, Result, Store, StoreError, Time};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool, Postgres, Transaction};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;

/// The oldest server that is supported, as `server_version_num` has it.
const OLDEST: i64 = 150_000;
/// Statements that a connection keeps prepared.
const STATEMENTS: usize = 512;
/// What the schema says to a host that was taken over.
const TAKEN_OVER: &str = "OM001";
/// How transactions begin.
const READ: &str = "begin transaction isolation level repeatable read, read only";
pub(super) const WRITE: &str = "begin";

/// How a database is used.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Connections that read.
    pub readers: u32,
    /// How long one waits for a connection.
    pub acquire_timeout: Duration,
    /// How long a statement may take.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock.
    pub lock_timeout: Duration,
    /// How long a transaction may be left alone by a host that does not answer any more.
    pub idle_timeout: Duration,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            readers: 8,
            acquire_timeout: Duration::from_secs(10),
            statement_timeout: Duration::from_secs(60),
            lock_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
        }
    }
}

/// What was found of a server.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Server {
    /// Its version, for people.
    pub version: String,
    /// Its version as a number: 150004 is 15.4.
    pub number: i64,
    /// How it writes text.
    pub encoding: String,
    /// Whether a commit waits until it is on the disk.
    pub synchronous_commit: String,
    /// Whether the disk is asked to keep what was written.
    pub fsync: String,
    /// Whether pages are written so that a power cut cannot tear them.
    pub full_page_writes: String,
    /// Whether it takes no writes: a standby.
    pub standby: bool,
    /// Whether tables can be made.
    pub may_create: bool,
    /// How many connections it takes.
    pub max_connections: i64,
}

/// Where a database is, and how one is let in there. Never shown.
#[derive(Clone)]
pub(super) struct Address(Box<PgConnectOptions>);

impl std::fmt::Debug for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Address")
    }
}

impl Address {
    /// Reads an address. What is wrong with it is said without its password.
    pub fn read(url: &str) -> Result<Self> {
        let options = PgConnectOptions::from_str(url).map_err(|_| {
            StoreError::Unfit(
                "`database.url` is no address of a Postgres database; write it as \
                 postgres://user:password@host:5432/database, with `%` escapes for what is special in a password"
                    .into(),
            )
        })?;
        Ok(Self(Box::new(options.statement_cache_capacity(STATEMENTS).application_name("omni"))))
    }

    /// The same under a name by which others see who is connected.
    pub fn named(&self, name: &str) -> Self {
        Self(Box::new((*self.0).clone().application_name(name)))
    }

    /// How to connect to it.
    pub fn options(&self) -> PgConnectOptions {
        (*self.0).clone()
    }

    /// A connection of its own, without limits of time.
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        PgConnection::connect_with(&self.0).await
    }
}

/// What was found of a database.
#[derive(Clone, Debug)]
pub struct Found {
    /// Where it is.
    pub server: Server,
    /// The number of the newest step of its schema; absent while it has none.
    pub schema: Option<i64>,
    /// The check value of the key that seals, if one was written.
    pub key_check: Option<String>,
    /// When the newest event was written.
    pub newest: Option<Time>,
    /// The host that uses it.
    pub holder: Option<String>,
}

/// The newest step of the schema that this program knows.
pub fn newest_schema() -> i64 {
    sqlx::migrate!("../migrations/postgres").iter().map(|step| step.version).max().unwrap_or(0)
}

/// Looks at a database, without changing anything.
pub async fn inspect(url: &str) -> Result<Found> {
    let mut connection = Address::read(url)?.connect().await?;
    let found = look_inside(&mut connection).await;
    connection.close().await?;
    found
}

async fn look_inside(connection: &mut PgConnection) -> Result<Found> {
    let server = look(connection).await?;
    let mut found = Found { server, schema: None, key_check: None, newest: None, holder: None };
    let has_schema = "select to_regclass('_sqlx_migrations') is not null";
    if !sqlx::query_scalar(has_schema).fetch_one(&mut *connection).await? {
        return Ok(found);
    }
    let query = "select max(version) from _sqlx_migrations where success";
    found.schema = sqlx::query_scalar(query).fetch_one(&mut *connection).await?;
    let query = "select value from global_settings where key = 'data.key_check'";
    found.key_check = sqlx::query_scalar::<_, Option<String>>(query).fetch_optional(&mut *connection).await?.flatten();
    let query = "select processed_at from omni_events order by seq desc limit 1";
    found.newest = sqlx::query_scalar(query).fetch_optional(&mut *connection).await?;
    found.holder = super::hold::holder(connection).await?;
    Ok(found)
}

pub(super) async fn look(connection: &mut PgConnection) -> Result<Server> {
    Ok(sqlx::query_as(
        "select current_setting('server_version') as version,
           cast(current_setting('server_version_num') as bigint) as number,
           current_setting('server_encoding') as encoding,
           current_setting('synchronous_commit') as synchronous_commit,
           current_setting('fsync') as fsync,
           current_setting('full_page_writes') as full_page_writes,
           pg_is_in_recovery() or current_setting('default_transaction_read_only') = 'on' as standby,
           coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
           cast(current_setting('max_connections') as bigint) as max_connections",
    )
    .fetch_one(connection)
    .await?)
}

impl Server {
    /// Whether the store can be kept in it; the sentence says why not, and what to do.
    pub fn check(&self) -> Result<()> {
        let unfit = if self.number < OLDEST {
            format!("the server is Postgres {}, and 15 or newer is needed", self.version)
        } else if self.encoding != "UTF8" {
            let encoding = &self.encoding;
            format!(
                "the database's encoding is {encoding}, and UTF8 is needed: create database … encoding 'UTF8' template template0"
            )
        } else if self.standby {
            "the server takes no writes (a standby, or default_transaction_read_only is on); name the primary".into()
        } else if matches!(self.synchronous_commit.as_str(), "off") {
            "synchronous_commit is off, so the server would lose what networks were told that we have; turn it on for this \
             database or role"
                .into()
        } else {
            return Ok(());
        };
        Err(StoreError::Unfit(unfit))
    }
}

impl Store {
    /// Opens a database by its address and brings its schema up to date. Of two that do so at once one waits.
    pub async fn open_postgres(url: &str, options: PostgresOptions) -> Result<Self> {
        let address = Address::read(url)?;
        // Its own lock keeps two from doing so at once, and no limit of time cuts a step in two.
        let first = PgPoolOptions::new().max_connections(1).acquire_timeout(options.acquire_timeout);
        let first = first.connect_with((*address.0).clone()).await?;
        look(&mut *first.acquire().await?).await?.check()?;
        let steps = sqlx::migrate!("../migrations/postgres");
        steps.run(&first).await.map_err(|error| migrate_error(error, newest_schema()))?;
        first.close().await;
        let millis = |limit: Duration| limit.as_millis().to_string();
        let connect = (*address.0).clone().options([
            ("statement_timeout", millis(options.statement_timeout)),
            ("lock_timeout", millis(options.lock_timeout)),
            ("idle_in_transaction_session_timeout", millis(options.idle_timeout)),
            // It takes longer than what it speeds up.
            ("jit", "off".to_owned()),
        ]);
        // A dead connection is found when a transaction begins in it, and that is then done again on another one: asking
        // before would cost every transaction a round trip.
        let pool = |most: u32| {
            PgPoolOptions::new()
                .max_connections(most)
                .min_connections(1)
                .acquire_timeout(options.acquire_timeout)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        // Each statement of theirs is planned once, for few rows that are found by an index. With the number at hand the
        // server would rather read through the whole table, as long as that is small, and plan every time.
        let writing = connect.clone().options([("plan_cache_mode", "force_generic_plan")]);
        let alone = || pool(1).idle_timeout(None).connect_with(writing.clone());
        let (writer, log) = (alone().await?, alone().await?);
        let readers = pool(options.readers.max(1)).connect_with(connect.clone()).await?;
        Self::over(Pools::Postgres { writer, log, readers, address, held: Held::default() }).await
    }
}

/// Begins a transaction that writes, with a statement of [`Held`].
pub(super) async fn begin(
    pool: &PgPool,
    held: &Held,
    statement: Cow<'static, str>,
) -> Result<Transaction<'static, Postgres>> {
    held.check()?;
    match begin_with(pool, statement).await {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(TAKEN_OVER) => {
            held.set(false);
            Err(StoreError::Unheld)
        }
        begun => Ok(begun?),
    }
}

/// Begins a transaction that reads from one snapshot.
pub(super) async fn read(pool: &PgPool) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    begin_with(pool, Cow::Borrowed(READ)).await
}

/// Begins a transaction, on another connection when the one at hand turns out to be dead: nothing was done in it yet.
async fn begin_with(
    pool: &PgPool,
    statement: Cow<'static, str>,
) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let mut dead = pool.options().get_max_connections();
    loop {
        // Nothing in it is from anybody but us.
        match pool.begin_with(sqlx::AssertSqlSafe(statement.clone().into_owned())).await {
            Err(error) if dead > 0 && is_lost(&error) => dead -= 1,
            other => return other,
        }
    }
}

/// Whether a connection is no more.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::BeginFailed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_ending(&code) || code.starts_with("08")),
        _ => false,
    }
}
