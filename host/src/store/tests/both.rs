//! The same test on every database: SQLite always, and Postgres when it is installed. One server for all of them, with a
//! database a test.
//!
//! A test is a plain `async fn`, and [`both`] makes two of it, which are called `name::sqlite` and `name::postgres`.

use crate::store::{PostgresOptions, SqliteOptions, Store, StoreError};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

#[expect(dead_code, reason = "the other tests use more of it")]
#[path = "../../../tests/it/postgres_server.rs"]
mod postgres_server;
use postgres_server::Server;

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

tokio::task_local! {
    static ON: Option<&'static Server>;
}

/// The server, which is not made to survive a power cut; with the database that the others are copies of.
static SERVER: LazyLock<Option<Server>> =
    LazyLock::new(|| Server::start(&["fsync = off", "full_page_writes = off", "autovacuum = off"]));
static TEMPLATE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
static DATABASES: AtomicU64 = AtomicU64::new(0);

/// Runs a test on SQLite.
pub(crate) async fn sqlite(test: impl Future<Output = ()>) {
    ON.scope(None, test).await;
}

/// Runs a test on Postgres, when there is one.
pub(crate) async fn postgres(test: impl Future<Output = ()>) {
    let server = tokio::task::spawn_blocking(|| SERVER.as_ref()).await.expect("the server starts");
    match server {
        Some(_) => ON.scope(server, test).await,
        None => eprintln!("left out on Postgres: it is not installed"),
    }
}

/// Where a test's database is. Opened again, it is the same one.
#[derive(Debug)]
pub(crate) struct Database {
    pub dir: TempDir,
    /// The address of the database, when it is on Postgres.
    pub url: Option<String>,
}

impl Database {
    /// An empty database.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let url = match ON.try_with(|on| *on).ok().flatten() {
            Some(server) => Some(database(server).await),
            None => None,
        };
        Self { dir, url }
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
