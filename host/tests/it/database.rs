//! Which database and bus the hosts of the tests use: a file each, or with `OMNI_TEST_DATABASE=postgres` a database each on
//! a server of the tests' own; and with `OMNI_TEST_BUS=nats` beside it an account each of a NATS server.
//!
//! A data folder has its database for as long as the tests run, whoever is started on it and how often.

use crate::harness::PATIENCE;
use crate::nats_server;
use crate::postgres_server::Server;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::{Duration, Instant};

/// The server; `None` when the hosts are to use files.
static SERVER: LazyLock<Option<Server>> = LazyLock::new(|| {
    let wanted = std::env::vars().find(|(name, _)| name == "OMNI_TEST_DATABASE").map(|(_, value)| value);
    match wanted.as_deref() {
        None | Some("" | "sqlite") => None,
        Some("postgres") => {
            let server = Server::start(&["fsync = off", "full_page_writes = off"]);
            Some(server.expect("OMNI_TEST_DATABASE=postgres needs Postgres: install the package postgresql"))
        }
        Some(other) => panic!("OMNI_TEST_DATABASE={other} is no database that the tests know"),
    }
});
static DATABASES: LazyLock<Mutex<HashMap<PathBuf, String>>> = LazyLock::new(Mutex::default);
/// The NATS server; `None` when the log is to be in the database.
static NATS: LazyLock<Option<nats_server::Server>> = LazyLock::new(|| {
    let wanted = std::env::vars().find(|(name, _)| name == "OMNI_TEST_BUS").map(|(_, value)| value);
    match wanted.as_deref() {
        None | Some("" | "embedded") => None,
        Some("nats") => {
            let server = nats_server::Server::start("2m");
            Some(server.expect("OMNI_TEST_BUS=nats needs nats-server, in the folder OMNI_TEST_NATS"))
        }
        Some(other) => panic!("OMNI_TEST_BUS={other} is no bus that the tests know"),
    }
});
static ACCOUNTS: LazyLock<Mutex<HashMap<PathBuf, usize>>> = LazyLock::new(Mutex::default);

/// The address of a data folder's bus, whose account is its own; `None` when the log is in the database.
pub fn bus_of(data: &Path) -> Option<String> {
    let server = NATS.as_ref()?;
    let mut accounts = ACCOUNTS.lock().expect("nobody panics while holding it");
    let next = accounts.len();
    Some(server.url(*accounts.entry(data.to_owned()).or_insert(next)))
}

/// What the program is told of both.
pub fn env_of(data: &Path) -> impl Iterator<Item = (&'static str, String)> + use<> {
    let database = of(data).map(|address| ("OMNI_DATABASE_URL", address));
    let bus = bus_of(data).map(|address| ("OMNI_BUS_URL", address));
    database.into_iter().chain(bus)
}

/// The address of a data folder's database, which is made when it is first asked for; `None` when it is a file.
pub fn of(data: &Path) -> Option<String> {
    let server = SERVER.as_ref()?;
    let mut databases = DATABASES.lock().expect("nobody panics while holding it");
    let count = databases.len();
    let name = databases.entry(data.to_owned()).or_insert_with(|| {
        let name = format!("host_{count}");
        server.create(&name, None);
        name
    });
    Some(server.url(name))
}

/// All that is in a data folder's database, as text; `None` when it is a file.
pub fn dump(data: &Path) -> Option<Vec<u8>> {
    of(data)?;
    let databases = DATABASES.lock().expect("nobody panics while holding it");
    Some(SERVER.as_ref()?.dump(databases.get(data)?))
}

/// What a data folder's database answers, as text: one value. No host uses the folder.
pub async fn ask(data: &Path, sql: &'static str) -> String {
    if of(data).is_some() {
        let name = DATABASES.lock().expect("nobody panics while holding it")[data].clone();
        return SERVER.as_ref().expect("it is there").ask(&name, sql);
    }
    let options = SqliteConnectOptions::new().filename(data.join("omni.db")).read_only(true);
    let mut reader = options.connect().await.expect("opens");
    sqlx::query_scalar(sql).fetch_one(&mut reader).await.expect("answers")
}

/// Changes something in a data folder's database, behind the back of whoever uses the folder.
pub async fn change(data: &Path, sql: &'static str) {
    if of(data).is_some() {
        ask(data, sql).await;
        return;
    }
    let options = SqliteConnectOptions::new().filename(data.join("omni.db")).foreign_keys(false);
    let mut writer = options.connect().await.expect("opens");
    sqlx::query(sql).execute(&mut writer).await.expect(sql);
}

/// Waits until the server has missed a host that was killed: only then is its database free.
pub async fn let_go(data: &Path) {
    if of(data).is_none() {
        return;
    }
    let holders = "select count(*) from pg_locks where locktype = 'advisory' and classid = 1869442665 and objid = 1
        and database = (select oid from pg_database where datname = current_database())";
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while ask(data, holders).await != "0" {
        tick.tick().await;
        assert!(began.elapsed() < PATIENCE, "the server never missed a host that was killed");
    }
}

/// Whether a test is left out because it is about the file in which SQLite keeps everything; says why.
pub fn needs_the_file(why: &str) -> bool {
    let is_left_out = SERVER.is_some();
    if is_left_out {
        println!("left out on Postgres: {why}");
    }
    is_left_out
}
