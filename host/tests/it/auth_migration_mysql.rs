//! Evolution's database on MySQL comes over as the one on Postgres does. The server is MariaDB, which speaks MySQL's protocol;
//! without it the tests say that they are left out.
//!
//! It runs in a temporary folder and on a free port of this machine alone. As with Postgres, a guardian stops it by its process
//! id when the test process has ended, however it ended.

use crate::auth_migration::{copies, creds, kept, migrate, refused, tree};
use crate::harness::{TestHost, free_address};
use crate::postgres_server::{Guardian, guard};
use serde_json::{Value, json};
use sqlx::mysql::MySqlConnection;
use sqlx::{AssertSqlSafe, Connection};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Makes a server and starts it; stops it and takes its folder away when its input ends. Its temporary tables are its own:
/// one that starts takes away what it finds of others.
const GUARDIAN: &str = r#"trap '' INT TERM HUP
mkdir "$0/tmp" &&
"INSTALL" --no-defaults --user="$(id -u)" --datadir="$0/data" --tmpdir="$0/tmp" --skip-test-db >"$0/log" 2>&1 </dev/null &&
  { "SERVER" --no-defaults --user="$(id -u)" --datadir="$0/data" --tmpdir="$0/tmp" --socket="$0/socket" --pid-file="$0/pid" \
      --bind-address=127.0.0.1 --port=PORT --skip-name-resolve --init-file="$0/init.sql" \
      --innodb-buffer-pool-size=16M --innodb-flush-log-at-trx-commit=0 >>"$0/log" 2>&1 & }
read -r _
[ -n "$!" ] && kill -KILL "$!"
wait
rm -rf "$0""#;
/// What the server does first. Nobody gets in without a password, and who comes for an account may only read.
const INIT: &str = "
create user filler identified by 'secret';
create user reader identified by 'secret';
grant all on `evolution%`.* to filler;
grant select on `evolution%`.* to reader;
create database evolution;
create database evolution_small;
create database evolution_empty;
";
/// As Evolution's migrations for MySQL make them.
const TABLES: &str = "
create table `Instance` (
    `id` varchar(191) not null,
    `name` varchar(255) not null,
    `connectionStatus` enum('open', 'close', 'connecting') not null default 'open',
    `ownerJid` varchar(100) null,
    `profileName` varchar(100) null,
    `profilePicUrl` varchar(500) null,
    `integration` varchar(100) null,
    `number` varchar(100) null,
    `businessId` varchar(100) null,
    `token` varchar(255) null,
    `clientName` varchar(100) null,
    `disconnectionReasonCode` integer null,
    `disconnectionObject` json null,
    `disconnectionAt` timestamp null,
    `createdAt` timestamp null default current_timestamp,
    `updatedAt` timestamp null,
    unique index `Instance_name_key` (`name`),
    primary key (`id`)
) default character set utf8mb4 collate utf8mb4_unicode_ci;
create table `Session` (
    `id` varchar(191) not null,
    `sessionId` varchar(191) not null,
    `creds` text null,
    `createdAt` timestamp not null default current_timestamp,
    unique index `Session_sessionId_key` (`sessionId`),
    primary key (`id`)
) default character set utf8mb4 collate utf8mb4_unicode_ci;
alter table `Session` add constraint `Session_sessionId_fkey` foreign key (`sessionId`) references `Instance` (`id`)
    on delete cascade on update cascade;
";
/// A name that is awkward in JSON, and in a statement.
const PROFILE: &str = "Ana \"Ç\" \\ 😀\n'`";
const CREATED: &str = "2025-01-02 03:04:05";

struct Server {
    folder: PathBuf,
    /// Where it listens.
    address: String,
    _guardian: Guardian,
}

/// One of MariaDB's programs, wherever it lies.
fn program(name: &str) -> Option<PathBuf> {
    let folders = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin", "/opt/homebrew/bin"];
    folders.map(|folder| Path::new(folder).join(name)).into_iter().find(|program| program.exists())
}

impl Server {
    /// Starts one; `None` when MariaDB is not installed.
    async fn start() -> Option<Self> {
        let (Some(server), Some(install)) = (program("mariadbd"), program("mariadb-install-db")) else {
            println!("left out: MariaDB is not installed");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("omni-mysql-").tempdir().expect("a temporary folder").keep();
        std::fs::write(folder.join("init.sql"), INIT).expect("what it does first is written");
        let address = free_address();
        let port = address.rsplit(':').next().expect("an address has a port");
        let script = GUARDIAN.replace("INSTALL", &install.display().to_string());
        let script = script.replace("SERVER", &server.display().to_string()).replace("PORT", port);
        let guardian = guard(&folder, &script);
        let server = Self { folder, address, _guardian: guardian };
        server.wait().await;
        Some(server)
    }

    /// Returns when it answers.
    async fn wait(&self) {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while let Err(error) = MySqlConnection::connect(&self.url("filler:secret", "evolution")).await {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not answer: {error}\n{}", log());
            tick.tick().await;
        }
    }

    /// The address of a database on it.
    fn url(&self, who: &str, database: &str) -> String {
        format!("mysql://{who}@{}/{database}", self.address)
    }

    async fn connect(&self, database: &str) -> MySqlConnection {
        MySqlConnection::connect(&self.url("filler:secret", database)).await.expect("it lets us in")
    }
}

/// Makes Evolution's tables, called like this, with three instances of which two are paired.
async fn fill(server: &Server, database: &str, instances: &str, sessions: &str) {
    let mut connection = server.connect(database).await;
    let tables = TABLES.replace("`Instance`", &format!("`{instances}`")).replace("`Session`", &format!("`{sessions}`"));
    sqlx::raw_sql(AssertSqlSafe(tables)).execute(&mut connection).await.unwrap();
    for (id, name, state) in [("u-1", "sales", "open"), ("u-2", "help", "open"), ("u-3", "new", "close")] {
        let insert = format!(
            "insert into `{instances}` (id, name, connectionStatus, profileName, clientName, disconnectionReasonCode,
                disconnectionObject, createdAt, updatedAt) values (?, ?, ?, ?, 'evo', 401, ?, ?, now())"
        );
        let why = json!({"error": {"message": PROFILE}}).to_string();
        let insert = sqlx::query(AssertSqlSafe(insert)).bind(id).bind(name).bind(state).bind(PROFILE);
        insert.bind(why).bind(CREATED).execute(&mut connection).await.unwrap();
    }
    for (id, instance, next) in [("s1", "u-1", 31), ("s2", "u-2", 7)] {
        let insert = format!("insert into `{sessions}` (id, sessionId, creds, createdAt) values (?, ?, ?, ?)");
        let insert = sqlx::query(AssertSqlSafe(insert)).bind(id).bind(instance).bind(creds(next));
        insert.bind(CREATED).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn evolutions_database_on_mysql_goes_with_its_files() {
    let Some(server) = Server::start().await else { return };
    let host = TestHost::start().await;
    fill(&server, "evolution", "Instance", "Session").await;
    // As a server has them that is set to keep the names of tables in small letters.
    fill(&server, "evolution_small", "instance", "session").await;
    let home = tempfile::tempdir().unwrap();
    tree(&home.path().join("instances/u-1"), &["pre-key-30.json", "session-1.0.json"]);
    tree(&home.path().join("instances/u-2"), &["pre-key-6.json", "pre-key-5.json", "session-1.0.json"]);
    let files = home.path().display().to_string();

    let from = format!("evolution-mysql:{}", server.url("reader:secret", "evolution"));
    let args = ["--instance", "sales", "--from", &from, "--files", &files, "--source-stopped"];
    let taken = migrate(&host, &args).await;
    let place = format!("mysql://{}/evolution (Session)", server.address);
    let folder = home.path().join("instances/u-1").display().to_string();
    let source = json!([
        {"store": "database", "place": place, "instance": "sales", "records": 2, "for": "credentials"},
        {"store": "files", "place": folder, "records": 2, "for": "keys"},
    ]);
    assert_eq!((&taken["program"], &taken["source"]), (&json!("evolution"), &source), "{taken}");
    assert_eq!(taken["found"], json!({"rows": 2, "files": 2}));
    assert_eq!((&taken["written"], &taken["skipped"]), (&taken["found"], &json!([])));
    assert_eq!((&taken["paired"], &taken["missing"]), (&json!(true), &json!([])));
    let found = kept(&host, "sales").await;
    let names = ["Instance.rows", "Session.rows", "pre-key-30.json", "session-1.0.json"];
    assert_eq!(found.keys().collect::<Vec<_>>(), names);
    let session: Value = serde_json::from_str(&found["Session.rows"]).unwrap();
    assert_eq!(session, json!([{"id": "s1", "sessionId": "u-1", "creds": creds(31), "createdAt": CREATED}]));
    let instance: Value = serde_json::from_str(&found["Instance.rows"]).unwrap();
    let lasting = json!({"id": "u-1", "name": "sales", "ownerJid": null, "profileName": PROFILE, "profilePicUrl": null,
        "integration": null, "number": null, "businessId": null, "token": null, "clientName": "evo",
        "createdAt": CREATED});
    assert_eq!(instance, json!([lasting]));

    let mut connection = server.connect("evolution").await;
    let later = "update `Instance` set connectionStatus = 'close', updatedAt = now() + interval 1 day,
        disconnectionAt = now(), disconnectionObject = null, disconnectionReasonCode = null";
    sqlx::query(later).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let again = migrate(&host, &args).await;
    assert_eq!((&again["alreadyImported"], &again["id"]), (&json!(true), &taken["id"]), "{again}");
    assert_eq!((host.get("/auth-imports").await["items"].as_array().unwrap().len(), copies(&host)), (1, 1));
    assert_eq!(kept(&host, "sales").await, found);

    let from = format!("evolution-mysql:{}", server.url("reader:secret", "evolution_small"));
    let args = ["--instance", "front", "--source-instance", "help", "--from", &from, "--files", &files];
    let taken = migrate(&host, &[&args[..], &["--source-stopped"]].concat()).await;
    assert_eq!(taken["written"], json!({"rows": 2, "files": 3}), "{taken}");
    let session: Value = serde_json::from_str(&kept(&host, "front").await["Session.rows"]).unwrap();
    assert_eq!(session[0]["creds"], json!(creds(7)));
    let (code, said) = refused(&host, &["--instance", "x", "--from", &from, "--source-stopped"]).await;
    assert!(code == 3 && said.contains("sales (u-1, paired), help (u-2, paired), new (u-3, not paired)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_on_mysql_that_cannot_be_read_is_named_and_leaves_nothing() {
    let Some(server) = Server::start().await else { return };
    let host = TestHost::start().await;
    let (here, nowhere) = (&server.address, free_address());
    for (who, place, code, told) in [
        ("reader:wrong-word", format!("{here}/evolution"), 1, "Access denied for user 'reader'"),
        ("reader:secret", format!("{here}/other"), 1, "to database 'other'"),
        ("reader:secret", format!("{here}/evolution_empty"), 3, r#"has no tables "Instance" and "Session""#),
        ("reader:secret", format!("{nowhere}/evolution"), 1, "Connection refused"),
    ] {
        let from = format!("evolution-mysql:mysql://{who}@{place}");
        let (status, said) = refused(&host, &["--instance", "mine", "--from", &from, "--source-stopped"]).await;
        assert!(status == code && said.contains(told), "{from}: {status} {said}");
        assert!(said.contains(&format!("mysql://{place}")), "{said}");
        assert!(!said.contains("secret") && !said.contains("wrong-word"), "a password is shown nowhere: {said}");
        assert_eq!(host.get("/instances").await["items"], json!([]), "{said}");
        assert_eq!((host.get("/auth-imports").await["items"].as_array().unwrap().len(), copies(&host)), (0, 0));
    }
}
