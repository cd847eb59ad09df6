//! An installation moves from its file into Postgres, as its operator sees it: the command, its end at any moment, the
//! host that goes on.

use crate::database::needs_the_file;
use crate::faults::{rounds, seed};
use crate::harness::{PATIENCE, Setup, TestHost, built, free_address, impatient};
use crate::postgres_server::Server;
use crate::receiver::{Receiver, Reply};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// A server, and a data folder.
struct Rig {
    server: Server,
    home: tempfile::TempDir,
}

impl Rig {
    fn start() -> Option<Self> {
        if needs_the_file("what moves is the file, and where to is a server of the test's own") {
            return None;
        }
        let Some(server) = Server::start(&["fsync = off", "full_page_writes = off"]) else {
            println!("left out: Postgres is not installed");
            return None;
        };
        Some(Self { server, home: tempfile::tempdir().unwrap() })
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// A database, with a password that the server does not ask for.
    fn database(&self, name: &str) -> String {
        self.server.create(name, None);
        self.address(name)
    }

    fn address(&self, name: &str) -> String {
        format!("{}&password=hunter2", self.server.url(name))
    }

    fn setup(&self, database: Option<String>) -> Setup {
        let tune = move |config: &mut omni_host::config::Config| {
            if let Some(url) = database {
                config.database.url = url.parse().expect("an address");
            }
        };
        let data = Some(self.data());
        Setup { data, manual_clock: true, tune: Some(Box::new(tune)), configure: impatient, ..Setup::default() }
    }

    fn omni(&self, data: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(built().join("omni"));
        command.args(args).arg("--data").arg(data).env_clear().current_dir(self.home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs it to its end: its exit code and what it printed.
    async fn run(&self, args: &[&str]) -> (i32, String) {
        self.run_on(&self.data(), args).await
    }

    async fn run_on(&self, data: &Path, args: &[&str]) -> (i32, String) {
        let done = tokio::time::timeout(PATIENCE, self.omni(data, args).output()).await.expect("it ends").unwrap();
        let said = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
        assert!(!said.contains("hunter2"), "a password is shown nowhere: {said}");
        (done.status.code().expect("it ends by itself"), said)
    }

    /// How many rows a table of the file has.
    async fn rows(&self, data: &Path, table: &str) -> i64 {
        let options = SqliteConnectOptions::new().filename(data.join("omni.db")).read_only(true);
        let mut reader = options.connect().await.expect("opens");
        let query = sqlx::AssertSqlSafe(format!("select count(*) from {table}"));
        sqlx::query_scalar(query).fetch_one(&mut reader).await.expect("counts")
    }
}

fn copy_folder(from: &Path, to: &Path) {
    let done = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(done.success());
}

/// What the API shows of an installation, all of it that a move must not change.
async fn everything(host: &TestHost) -> BTreeMap<&'static str, Value> {
    let mut all = BTreeMap::new();
    for path in [
        "/instances",
        "/chats?limit=100",
        "/messages?limit=100",
        "/persons?limit=100",
        "/events?limit=100",
        "/keys",
        "/settings",
        "/webhooks",
        "/dead-letters",
    ] {
        let mut body = host.get(path).await;
        // What changes by looking, by starting, and by who asks.
        strip(&mut body);
        all.insert(path, body);
    }
    all
}

fn strip(value: &mut Value) {
    const CHANGING: [&str; 12] = [
        "lastUsedAt",
        "lastUsedIp",
        "usageCount",
        "state",
        "stateSince",
        "updatedAt",
        "cursor",
        "status",
        "since",
        "health",
        "lag",
        "behind",
    ];
    match value {
        Value::Array(items) => {
            items.retain(|item| item["key"] != "database.holder");
            items.iter_mut().for_each(strip);
        }
        Value::Object(fields) => {
            fields.retain(|name, _| !CHANGING.contains(&name.as_str()));
            fields.values_mut().for_each(strip);
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_moves_and_its_conversations_go_on() {
    let Some(rig) = Rig::start() else { return };
    let receiver = Receiver::start().await;
    receiver.answer(|_| Reply::Status(503));
    let host = TestHost::with(rig.setup(None)).await;
    let (instance, echo) = host.echo("demo").await;
    let hook = json!({"name": "crm", "url": receiver.url(), "eventTypes": ["message.received"]});
    host.post("/webhooks", hook).await;
    for number in 0..40 {
        host.say(&echo, &format!("room {}", number % 4), &format!("m{number}"), &format!("nº {number} 👋")).await;
    }
    host.settle().await;
    // Something was tried and failed, and waits with the rest.
    receiver.until(|got| !got.is_empty()).await;
    host.post("/keys", json!({"name": "reader", "scopes": ["messages:read"]})).await;
    host.call(Method::PUT, "/settings/ui.theme", Some(json!({"value": {"dark": true}}))).await;
    let client = reqwest::Client::new();
    let send = |host: &TestHost, key: &'static str, text: &'static str| {
        let request = client.post(format!("{}/api/v2/messages/send", host.url)).header("x-api-key", &host.key);
        request
            .header("idempotency-key", key)
            .json(&json!({"instanceId": instance, "to": "room 1", "text": text}))
            .send()
    };
    let first = send(&host, "once", "sent before").await.unwrap();
    assert_eq!(first.status(), StatusCode::CREATED);
    let first: Value = first.json().await.unwrap();
    host.post(&format!("/instances/{instance}/disconnect"), json!({})).await;
    // Two wait for the instance to come back, and must be sent once.
    for (key, text) in [("later-1", "waits 1"), ("later-2", "waits 2")] {
        let answer = send(&host, key, text).await.unwrap();
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{}", answer.text().await.unwrap());
    }
    host.settle().await;
    let before = everything(&host).await;

    // A host that runs is not moved.
    let to = rig.database("omni");
    let (code, said) = rig.run(&["migrate", "store", "--to", &to]).await;
    assert!(code == 1 && said.contains("in use by another omni"), "{said}");
    drop(host.stop().await);
    let (code, said) = rig.run(&["migrate", "store", "--to", &to, "--dry-run"]).await;
    assert!(code == 0 && said.contains("Nothing was changed"), "{said}");
    let (code, said) = rig.run(&["migrate", "store", "--to", &to, "--json", "--page-rows", "7"]).await;
    assert_eq!(code, 0, "{said}");
    let report: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    for table in report["tables"].as_array().unwrap() {
        assert!(table["hash"].is_string() && table["rows"] == table["copied"], "{table}");
        let name = table["table"].as_str().unwrap();
        assert_eq!(table["rows"], rig.rows(&rig.data(), name).await, "{name}");
        let there = rig.server.ask("omni", &format!("select count(*) from {name}"));
        assert_eq!(table["rows"].to_string(), there, "{name}");
    }

    // Nothing starts on the file any more, and the words say where to go.
    for args in [&["serve", "--listen", "127.0.0.1:0"][..], &["backup", "copy"], &["data", "rotate-key", "--offline"]] {
        let (code, said) = rig.run(args).await;
        assert!(code != 0 && said.contains("was moved to postgres:///omni") && said.contains("omni.moved"), "{said}");
    }
    let (_, said) = rig.run(&["doctor"]).await;
    assert!(said.contains("was moved to postgres:///omni"), "{said}");
    let (code, said) = rig.run(&["migrate", "store", "--to", &to]).await;
    assert!(code == 0 && said.contains("was moved") && said.contains("before"), "{said}");
    let elsewhere = rig.database("elsewhere");
    let (code, said) = rig.run(&["migrate", "store", "--to", &elsewhere]).await;
    assert!(code == 2 && said.contains("was moved to postgres:///omni"), "{said}");

    // The same host, on the other database.
    let host = TestHost::with(rig.setup(Some(to.clone()))).await;
    let clock = host.clock.clone().expect("a manual clock");
    clock.advance(Duration::from_secs(1));
    let after = everything(&host).await;
    for (path, there) in before {
        assert_eq!(after[path], there, "{path}");
    }
    // What was asked once is answered as it was, and not sent again.
    let again: Value = send(&host, "once", "sent before").await.unwrap().json().await.unwrap();
    assert_eq!(again, first);
    host.post(&format!("/instances/{instance}/connect"), json!({})).await;
    host.until_state(&instance, "connected").await;
    // The network brings one again that it may not be sure of, and new ones.
    host.say(&echo, "room 3", "m39", "nº 39 👋").await;
    for number in 40..60 {
        host.say(&echo, &format!("room {}", number % 4), &format!("m{number}"), &format!("nº {number} 👋")).await;
    }
    host.settle().await;
    for room in 0..4_usize {
        let said = host.messages(&instance, &format!("room {room}")).await;
        let texts: Vec<&str> = said.iter().filter_map(|message| message["textContent"].as_str()).collect();
        let came: Vec<&str> = texts.iter().copied().filter(|text| text.starts_with("nº")).collect();
        let wanted: Vec<String> = (0..60).filter(|number| number % 4 == room).map(|n| format!("nº {n} 👋")).collect();
        assert_eq!(came, wanted, "each once, in order");
    }
    let waits = |body: &Value| {
        let items = body["items"].as_array().into_iter().flatten();
        items.filter(|item| item["textContent"].as_str().is_some_and(|text| text.starts_with("waits"))).count() == 2
    };
    host.until("/messages?limit=100&chatId=room 1", waits).await;
    let sent = loop {
        let sent = host.sent(&echo).await;
        if sent.len() >= 3 {
            break sent;
        }
    };
    let texts: Vec<String> = sent
        .iter()
        .map(|one| {
            one["content"]["text"]
                .as_str()
                .or(one["request"]["content"]["text"].as_str())
                .unwrap_or_else(|| panic!("{one}"))
                .to_owned()
        })
        .collect();
    assert_eq!(texts, ["sent before", "waits 1", "waits 2"], "in order, each once, with what was sent before");

    // The webhook gets every event once: what was queued in the file, and what came since.
    let failed = receiver.got().len();
    receiver.answer(|_| Reply::Status(204));
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let taking = async {
        while distinct(&receiver.got()[failed..]) < 60 {
            tick.tick().await;
            clock.advance(Duration::from_secs(300));
        }
    };
    tokio::time::timeout(PATIENCE, taking).await.expect("the webhook gets everything");
    let got = receiver.got();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for one in &got[failed..] {
        *times.entry(one.text()).or_default() += 1;
    }
    assert!(times.len() == 60 && times.values().all(|times| *times == 1), "{times:?}");
    drop(host.stop().await);
}

fn distinct(got: &[crate::receiver::Got]) -> usize {
    got.iter().map(crate::receiver::Got::id).collect::<std::collections::BTreeSet<_>>().len()
}

/// Ends the command by SIGKILL at some line that it says, and at some commit, over and over, until it is done; and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_killed_goes_on_and_nothing_is_lost_or_doubled() {
    let Some(rig) = Rig::start() else { return };
    let host = TestHost::with(rig.setup(None)).await;
    let (_, echo) = host.echo("demo").await;
    for number in 0..150 {
        host.say(&echo, &format!("room {}", number % 7), &format!("m{number}"), &format!("nº {number}")).await;
    }
    drop(host.stop().await);
    let (seed, wanted) = (seed(), rounds(40));
    let mut random = StdRng::seed_from_u64(seed);
    let (mut killed, mut aborted, mut moves) = (0, 0, 0);
    while killed + aborted < wanted {
        let name = format!("copy_{moves}");
        let (to, data) = (rig.database(&name), rig.home.path().join(&name));
        copy_folder(&rig.data(), &data);
        loop {
            let rows = random.random_range(1..60).to_string();
            let mut command = rig.omni(&data, &["migrate", "store", "--to", &to, "--page-rows", &rows]);
            let by_point = random.random_bool(0.5);
            let after = random.random_range(0..if by_point { 12_usize } else { 26 });
            if by_point {
                let point = if random.random_bool(0.5) { "move.commit.before" } else { "move.commit.after" };
                command.env("FAILPOINTS", format!("{point}={after}*off->1*return(abort)"));
            }
            let mut process = command.stdout(Stdio::null()).spawn().unwrap();
            let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
            let mut said = Vec::new();
            while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("it goes on").unwrap()
            {
                said.push(line);
                if !by_point && said.len() > after {
                    // It may be at its end already.
                    let _ = process.start_kill();
                    break;
                }
            }
            let ended = tokio::time::timeout(PATIENCE, process.wait()).await.expect("it ends").unwrap();
            match ended.code() {
                Some(0) => break,
                None if by_point => aborted += 1,
                None => killed += 1,
                Some(code) => panic!("seed {seed}: it ends with {code}: {said:?}"),
            }
            // What it had asked of the server is done although it is gone.
            let others = "select count(*) from pg_stat_activity
                where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()";
            let began = Instant::now();
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while rig.server.ask(&name, others) != "0" {
                tick.tick().await;
                assert!(began.elapsed() < PATIENCE, "the server never missed a program that was killed");
            }
            let made = "select count(*) from pg_tables where tablename = 'store_move_tables'";
            if rig.server.ask(&name, made) == "1" {
                let told = rig.server.ask(&name, "select table_name || ' ' || copied from store_move_tables");
                for line in told.lines() {
                    let (table, copied) = line.split_once(' ').unwrap();
                    let there = rig.server.ask(&name, &format!("select count(*) from {table}"));
                    assert_eq!(there, copied, "seed {seed}: {table}: how far it is, and what is there");
                }
            }
        }
        moves += 1;
        for table in ["messages", "omni_events", "inbound_log", "delivery_keys", "consumer_offsets", "plugin_storage"] {
            let there = rig.server.ask(&name, &format!("select count(*) from {table}"));
            assert_eq!(there, rig.rows(&data, table).await.to_string(), "seed {seed}: {table}");
        }
    }
    println!(
        "moving, seed {seed}: {killed} kills and {aborted} ends at a commit in {moves} moves, nothing lost or doubled"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_in_use_or_half_full_is_refused() {
    let Some(rig) = Rig::start() else { return };
    let host = TestHost::with(rig.setup(None)).await;
    host.echo("demo").await;
    drop(host.stop().await);
    let (code, said) = rig.run(&["migrate", "store"]).await;
    assert!(code == 2 && said.contains("nobody says where to"), "{said}");
    let (code, said) = rig.run(&["migrate", "store", "--to", "mysql://x"]).await;
    assert!(code == 2 && said.contains("--to: "), "{said}");
    let to = rig.database("omni");
    let nowhere = rig.home.path().join("nowhere");
    let (code, said) = rig.run_on(&nowhere, &["migrate", "store", "--to", &to]).await;
    assert!(code == 2 && said.contains("there is no database at") && !nowhere.exists(), "{said}");

    // Another host is on it.
    let other = rig.home.path().join("other");
    let listen = free_address();
    let mut serving = rig.omni(&other, &["serve", "--listen", &listen]);
    let mut serving =
        serving.env("OMNI_DATABASE_URL", &to).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let client = reqwest::Client::new();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let ready = async {
        while !client
            .get(format!("http://{listen}/ready"))
            .send()
            .await
            .is_ok_and(|answer| answer.status().is_success())
        {
            tick.tick().await;
        }
    };
    tokio::time::timeout(PATIENCE, ready).await.expect("the other host starts");
    let (code, said) = rig.run(&["migrate", "store", "--to", &to]).await;
    assert!(code == 1 && said.contains("in use by another host, omni on "), "{said}");
    serving.kill().await.unwrap();
    // It was there, so the database is its.
    let (code, said) = rig.run(&["migrate", "store", "--to", &to]).await;
    assert!(code == 2 && said.contains("an installation of its own") && said.contains("api_keys"), "{said}");

    // Half a copy is no database to start on.
    let half = rig.database("half");
    let mut command = rig.omni(&rig.data(), &["migrate", "store", "--to", &half]);
    let done = command.env("FAILPOINTS", "move.commit.after=9*off->1*return(abort)").output().await.unwrap();
    assert_eq!(done.status.code(), None, "{}", String::from_utf8_lossy(&done.stderr));
    let mut serve = rig.omni(&rig.data(), &["serve", "--listen", "127.0.0.1:0"]);
    let done = tokio::time::timeout(PATIENCE, serve.env("OMNI_DATABASE_URL", &half).output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.code() == Some(1) && said.contains("still being moved into it"), "{said}");
    // The file is still the installation until the copy is done, also when its address is the configuration's.
    let mut finish = rig.omni(&rig.data(), &["migrate", "store"]);
    let done = finish.env("OMNI_DATABASE_URL", &half).output().await.unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && said.contains("everything is in postgres:///half"), "{said}");
}
