//! The same test on every database: SQLite always, and Postgres when it is installed. One server for all of them, with a
//! database a test. And the same test on every bus: with its log in each database, and in NATS of each version that is there,
//! with an account a test.
//!
//! A test is a plain `async fn`, and [`both`] makes two of it, which are called `name::sqlite` and `name::postgres`;
//! [`every_bus`] makes `name::nats_oldest`, `name::nats_middle` and `name::nats_newest` beside them.

use crate::bus::{Bus, BusOptions, NatsOptions};
use crate::clock::Clock;
use crate::store::{PostgresOptions, SqliteOptions, Store, StoreError};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tempfile::TempDir;
use uuid::Uuid;

#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../../../tests/it/postgres_server.rs"]
mod postgres_server;
use postgres_server::Server;

#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../../../tests/it/nats_server.rs"]
mod nats_server;

/// Makes a test for each database of each function.
macro_rules! both {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[tokio::test]
            async fn sqlite() {
                $crate::store::tests::both::sqlite(super::$name()).await;
            }

            #[tokio::test]
            async fn postgres() {
                $crate::store::tests::both::postgres(super::$name()).await;
            }
        })*
    };
}
pub(crate) use both;

/// Makes a test for each bus of each function.
macro_rules! every_bus {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            #[tokio::test]
            async fn sqlite() {
                $crate::store::tests::both::sqlite(super::$name()).await;
            }

            #[tokio::test]
            async fn postgres() {
                $crate::store::tests::both::postgres(super::$name()).await;
            }

            #[tokio::test]
            async fn nats_oldest() {
                $crate::store::tests::both::nats(0, super::$name()).await;
            }

            #[tokio::test]
            async fn nats_middle() {
                $crate::store::tests::both::nats(1, super::$name()).await;
            }

            #[tokio::test]
            async fn nats_newest() {
                $crate::store::tests::both::nats(2, super::$name()).await;
            }
        })*
    };
}
pub(crate) use every_bus;

/// Where a test runs that does not run on SQLite.
#[derive(Clone, Copy, Debug)]
struct On {
    postgres: &'static Server,
    nats: Option<&'static nats_server::Server>,
}

tokio::task_local! {
    static ON: Option<On>;
}

/// The server, which is not made to survive a power cut; with the database that the others are copies of.
static SERVER: LazyLock<Option<Server>> =
    LazyLock::new(|| Server::start(&["fsync = off", "full_page_writes = off", "autovacuum = off"]));
static TEMPLATE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
static DATABASES: AtomicU64 = AtomicU64::new(0);
/// A NATS server of each version.
static NATS: LazyLock<Vec<nats_server::Server>> = LazyLock::new(|| {
    let programs = nats_server::programs().into_iter();
    programs.map(|program| nats_server::Server::start_this(program, "2m")).collect()
});
static ACCOUNTS: AtomicUsize = AtomicUsize::new(0);
/// The host, for its messages in NATS.
const HOST: Uuid = Uuid::from_u128(1);

/// Runs a test on SQLite.
pub(crate) async fn sqlite(test: impl Future<Output = ()>) {
    ON.scope(None, test).await;
}

/// Runs a test on Postgres, when there is one.
pub(crate) async fn postgres(test: impl Future<Output = ()>) {
    let server = tokio::task::spawn_blocking(|| SERVER.as_ref()).await.expect("the server starts");
    match server {
        Some(postgres) => ON.scope(Some(On { postgres, nats: None }), test).await,
        None => eprintln!("left out on Postgres: it is not installed"),
    }
}

/// Runs a test on Postgres with its log in NATS, of one version after the other, when there are both.
pub(crate) async fn nats(version: usize, test: impl Future<Output = ()>) {
    let servers = tokio::task::spawn_blocking(move || SERVER.as_ref().zip(NATS.get(version)));
    match servers.await.expect("the servers start") {
        Some((postgres, nats)) => ON.scope(Some(On { postgres, nats: Some(nats) }), test).await,
        None => eprintln!("left out on NATS: it is not there (`OMNI_TEST_NATS`), or Postgres is not"),
    }
}

/// Clients with an account of a test's own, of the newest NATS; `None` where there is none.
pub(crate) async fn nats_clients<const COUNT: usize>() -> Option<[async_nats::Client; COUNT]> {
    let server = tokio::task::spawn_blocking(|| NATS.last()).await.expect("the servers start")?;
    let account = ACCOUNTS.fetch_add(1, Ordering::Relaxed);
    let mut clients = Vec::new();
    for _ in 0..COUNT {
        clients.push(server.jetstream(account).await.client());
    }
    clients.try_into().ok()
}

/// The log of a test in NATS.
#[derive(Debug)]
pub(crate) struct InNats {
    server: &'static nats_server::Server,
    account: usize,
}

impl InNats {
    /// How many messages it has.
    pub async fn messages(&self) -> u64 {
        let stream = self.server.jetstream(self.account).await.get_stream("OMNI_INBOUND").await;
        stream.expect("there is a log").cached_info().state.messages
    }
}

/// Where a test's database is. Opened again, it is the same one.
#[derive(Debug)]
pub(crate) struct Database {
    pub dir: TempDir,
    /// The address of the database, when it is on Postgres.
    pub url: Option<String>,
    /// The log of the bus, when it is not in the database.
    pub nats: Option<InNats>,
}

impl Database {
    /// An empty database.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let on = ON.try_with(|on| *on).ok().flatten();
        let url = match on {
            Some(on) => Some(database(on.postgres).await),
            None => None,
        };
        let in_nats = |server| InNats { server, account: ACCOUNTS.fetch_add(1, Ordering::Relaxed) };
        Self { dir, url, nats: on.and_then(|on| on.nats).map(in_nats) }
    }

    /// A bus over a store in it.
    pub async fn open_bus(&self, store: Store, clock: Clock, options: BusOptions) -> Bus {
        let Some(InNats { server, account }) = &self.nats else {
            return Bus::open(store, clock, options).await.expect("the bus opens");
        };
        let nats = NatsOptions {
            url: server.url(*account),
            prefix: "omni".into(),
            replicas: 1,
            max_bytes: 1 << 30,
            credentials: None,
            ca_file: None,
            monitor_url: None,
        };
        Bus::open_nats(store, clock, HOST, options, nats).await.expect("the bus opens")
    }

    /// A store in it.
    pub async fn open(&self) -> Store {
        let opened = self.try_open().await;
        opened.unwrap_or_else(|error| panic!("the store does not open: {}", error.explain()))
    }

    /// The same, where it may be refused.
    pub async fn try_open(&self) -> Result<Store, StoreError> {
        match &self.url {
            Some(url) => Store::open_postgres(url, options()).await,
            None => Store::open_sqlite(&self.dir.path().join("omni.db"), SqliteOptions::default()).await,
        }
    }

    /// The text for the database that this is on.
    pub fn pick<T>(&self, sqlite: T, postgres: T) -> T {
        if self.url.is_some() { postgres } else { sqlite }
    }
}

/// Few connections, since many tests share the server.
pub(crate) fn options() -> PostgresOptions {
    PostgresOptions { readers: 2, ..PostgresOptions::default() }
}

/// A new database with our tables in it.
async fn database(server: &'static Server) -> String {
    TEMPLATE
        .get_or_init(|| async {
            tokio::task::spawn_blocking(|| server.create("omni", None)).await.expect("a database is made");
            let store = Store::open_postgres(&server.url("omni"), options()).await;
            store.unwrap_or_else(|error| panic!("the schema is not made: {}", error.explain())).close().await;
        })
        .await;
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let url = server.url(&name);
    tokio::task::spawn_blocking(move || server.create(&name, Some("omni"))).await.expect("a database is made");
    url
}

/// A new database without anything, for tests of the schema; `None` where there is no Postgres.
pub(crate) async fn bare_database() -> Option<String> {
    let server = tokio::task::spawn_blocking(|| SERVER.as_ref()).await.expect("the server starts")?;
    let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
    let url = server.url(&name);
    tokio::task::spawn_blocking(move || server.create(&name, None)).await.expect("a database is made");
    Some(url)
}
