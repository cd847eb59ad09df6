//! What an account logs in with comes over from another program, and goes: through the command line and the API, with a
//! plugin that keeps what it is given.

use crate::discord_server::Discord;
use crate::harness::{Setup, TestHost, install, plugin_file};
use crate::postgres_server::Server;
use crate::telegram_fake::{Person, TOKEN, TelegramFake, private};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Part of every record, so that it is found wherever it lies in plain.
const MARK: &str = "a-word-that-stands-in-every-record";

pub(crate) fn tree(folder: &Path, names: &[&str]) {
    std::fs::create_dir_all(folder).unwrap();
    for name in names {
        std::fs::write(folder.join(name), json!({"name": name, "mark": MARK}).to_string()).unwrap();
    }
}

/// Runs `omni migrate auth` for programs, which must go well.
pub(crate) async fn migrate(host: &TestHost, args: &[&str]) -> Value {
    let args = [&["migrate", "auth", "--json", "--channel", "echo"], args].concat();
    let (said, status) = host.cli(&args).await;
    assert!(status.success(), "{args:?}: {said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

/// Runs it, and says how it was refused.
pub(crate) async fn refused(host: &TestHost, args: &[&str]) -> (i32, String) {
    let args = [&["migrate", "auth", "--channel", "echo"], args].concat();
    let (said, status) = host.cli(&args).await;
    assert!(!status.success(), "{args:?}: {said}");
    (status.code().unwrap(), said)
}

/// What an instance keeps of it: name → content.
pub(crate) async fn kept(host: &TestHost, instance: &str) -> BTreeMap<String, String> {
    let path = format!("/instances/{instance}/auth-export");
    let answer = host.post(&path, json!({"force": true})).await;
    let files = answer["data"]["files"].as_object().unwrap().clone().into_iter();
    let text = |content: &Value| String::from_utf8(BASE64.decode(content.as_str().unwrap()).unwrap()).unwrap();
    files.map(|(name, content)| (name, text(&content))).collect()
}

pub(crate) fn copies(host: &TestHost) -> usize {
    std::fs::read_dir(host.data.join("auth-snapshots")).unwrap().count()
}

/// Files anywhere below a folder in which a word stands.
fn with_word(folder: &Path, word: &str, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            if !path.to_string_lossy().contains("plugin") {
                with_word(&path, word, found);
            }
        } else if let Ok(bytes) = std::fs::read(&path)
            && String::from_utf8_lossy(&bytes).contains(word)
        {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_writes_nothing_and_the_same_twice_changes_nothing() {
    let host = TestHost::start().await;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("auth/mine");
    let names = ["creds.json", "session-1.0.json", "app-state-sync-key-AA__b=.json", "broken-1.json"];
    tree(&folder, &names);
    let from = format!("baileys:{}", home.path().join("auth").display());
    let args = ["--instance", "mine", "--from", from.as_str()];

    let looked = migrate(&host, &[&args[..], &["--dry-run"]].concat()).await;
    assert_eq!(looked["found"], json!({"creds": 1, "files": 3}), "{looked}");
    assert_eq!(looked["written"], json!({"creds": 1, "files": 2}));
    assert_eq!(looked["skipped"], json!([{"record": "broken-1.json", "reason": "it is broken"}]));
    assert_eq!((&looked["dryRun"], &looked["paired"]), (&json!(true), &json!(true)));
    assert_eq!(host.get("/instances").await["items"], json!([]), "what was made for the look is gone");
    assert_eq!((host.get("/auth-imports").await["items"].as_array().unwrap().len(), copies(&host)), (0, 0));

    let (code, said) = refused(&host, &args).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("--source-stopped") && said.contains("never DELETE /instance/logout"), "{said}");
    assert_eq!(host.get("/instances").await["items"], json!([]));

    let args = [&args[..], &["--source-stopped"]].concat();
    let taken = migrate(&host, &args).await;
    assert_eq!((&taken["written"], &taken["alreadyImported"]), (&looked["written"], &json!(false)));
    assert_eq!(taken["snapshot"], looked["snapshot"]);
    let status = host.get("/instances/mine/status").await;
    assert_eq!((&status["data"]["isActive"], &status["data"]["isConnected"]), (&json!(false), &json!(false)));
    let files = kept(&host, "mine").await;
    assert_eq!(files.keys().collect::<Vec<_>>(), ["app-state-sync-key-AA__b=.json", "creds.json", "session-1.0.json"]);
    assert!(files.values().all(|content| content.contains(MARK)));

    let again = migrate(&host, &args).await;
    assert_eq!((&again["alreadyImported"], &again["id"]), (&json!(true), &taken["id"]));
    assert_eq!((host.get("/auth-imports").await["items"].as_array().unwrap().len(), copies(&host)), (1, 1));
    let mut plain = Vec::new();
    with_word(&host.data, MARK, &mut plain);
    assert_eq!(plain, Vec::<String>::new(), "nothing of it lies in plain");

    let (table, status) = host.cli(&["migrate", "auth", "--list"]).await;
    assert!(status.success() && table.contains("not connected yet"), "{table}");
    let (said, status) = host.cli(&["migrate", "auth", "--forget", taken["id"].as_str().unwrap(), "--yes"]).await;
    assert!(status.success() && said.contains("is deleted"), "{said}");
    assert_eq!((copies(&host), kept(&host, "mine").await.len()), (0, 3), "what was taken over stays");
}

fn body(names: &[&str]) -> Value {
    let files: BTreeMap<_, _> = names.iter().map(|name| (*name, BASE64.encode(MARK))).collect();
    json!({"source": "somewhere", "files": files})
}

async fn hand_in(host: &TestHost, query: &str, names: &[&str]) -> (StatusCode, Value) {
    let path = format!("/instances/mine/auth-import?{query}");
    host.call(Method::POST, &path, Some(body(names))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing() {
    let host = TestHost::start().await;
    host.post("/instances", json!({"name": "mine", "channel": "echo", "connect": false})).await;
    for (query, names, status, told) in [
        ("", &["creds", "key"][..], StatusCode::CONFLICT, "must not use the account any more"),
        ("sourceStopped=true", &["creds", "key", "bad"][..], StatusCode::BAD_GATEWAY, "the file bad is no good"),
        ("sourceStopped=true", &["creds"][..], StatusCode::UNPROCESSABLE_ENTITY, "keys: there are none"),
        ("sourceStopped=maybe", &["creds"][..], StatusCode::BAD_REQUEST, "sourceStopped"),
    ] {
        let (answered, said) = hand_in(&host, query, names).await;
        assert!(said.to_string().contains(told), "{answered} {said}");
        assert!(answered.is_client_error() || answered.is_server_error(), "{answered} {said}");
        if status != StatusCode::BAD_GATEWAY {
            assert_eq!(answered, status, "{said}");
        }
        assert_eq!((kept(&host, "mine").await.len(), copies(&host)), (0, 0), "{said}");
    }
    let (status, said) = hand_in(&host, "sourceStopped=true", &["creds"]).await;
    assert_eq!(said["error"]["code"], "AUTH_INCOMPLETE", "{status}");
    assert_eq!(said["error"]["details"]["report"]["written"], json!({"creds": 1}));
    let key = host.post("/keys", json!({"name": "few", "scopes": ["instances:write", "instances:read"]})).await;
    let key = key["data"]["plainTextKey"].as_str().or_else(|| key["data"]["key"].as_str()).unwrap().to_owned();
    let path = "/instances/mine/auth-import?sourceStopped=true";
    let (status, said) = host.call_as(&key, Method::POST, path, Some(body(&["creds", "key"]))).await;
    assert_eq!(
        (status, &said["error"]["details"]["requiredScope"]),
        (StatusCode::FORBIDDEN, &json!("instances:admin"))
    );
    let (status, _) = hand_in(&host, "sourceStopped=true&allowMissingKeys=true", &["creds"]).await;
    assert_eq!(status, StatusCode::CREATED);
    let lines = host.get("/audit?limit=20").await["items"].to_string();
    assert!(lines.contains("/instances/mine/auth-import"), "{lines}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_comes_back_as_long_as_nothing_was_sent() {
    let host = TestHost::start().await;
    let (_, address) = host.echo("mine").await;
    let send = async |text: &str| {
        host.post("/messages/send", json!({"instanceId": "mine", "to": "ann", "text": text})).await;
    };
    send("one").await;
    let (status, said) = hand_in(&host, "sourceStopped=true", &["creds", "key"]).await;
    assert_eq!(status, StatusCode::CONFLICT, "it is connected: {said}");
    host.post("/instances/mine/disconnect", json!({})).await;
    let (status, said) = hand_in(&host, "sourceStopped=true", &["creds", "key"]).await;
    assert!(status == StatusCode::CONFLICT && said.to_string().contains("state of its own"), "{said}");
    host.post("/instances/mine/connect", json!({})).await;
    let (status, said) = hand_in(&host, "sourceStopped=true&replace=true", &["creds", "key"]).await;
    assert_eq!(status, StatusCode::CREATED, "{said}");
    assert_eq!(host.get("/instances/mine/status").await["data"]["isActive"], false, "it was disconnected");
    assert_eq!(kept(&host, "mine").await.len(), 2);

    host.post("/instances/mine/connect", json!({})).await;
    host.until_state("mine", "connected").await;
    assert_eq!(host.sent(&address).await.len(), 0, "it began anew");
    let imports = host.until("/auth-imports", |list| list["items"][0]["cutoverAt"].is_string()).await;
    assert_eq!(imports["items"][0]["undoneAt"], Value::Null);
    let (said, status) = host.cli(&["migrate", "auth", "--undo", "--instance", "mine", "--yes"]).await;
    assert!(status.success(), "{said}");
    assert_eq!(kept(&host, "mine").await.len(), 0);
    host.post("/instances/mine/connect", json!({})).await;
    host.until_state("mine", "connected").await;
    assert_eq!(host.sent(&address).await.len(), 1, "what it kept before is back");

    let (status, said) = hand_in(&host, "sourceStopped=true&replace=true", &["creds", "key"]).await;
    assert_eq!(status, StatusCode::CREATED, "what was undone may come again: {said}");
    host.post("/instances/mine/connect", json!({})).await;
    host.until_state("mine", "connected").await;
    send("two").await;
    let (status, said) = host.call(Method::DELETE, "/instances/mine/auth-import", None).await;
    assert!(status == StatusCode::CONFLICT && said.to_string().contains("has sent 1 messages"), "{status} {said}");
    assert_eq!(host.get("/instances/mine/status").await["data"]["isConnected"], true, "it goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_trees_come_over_as_an_archive_and_go_into_a_folder_of_their_own() {
    let host = TestHost::start().await;
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("large");
    std::fs::create_dir_all(&folder).unwrap();
    let long = format!("sender-key-{}@g.us--1--0.json", "9".repeat(120));
    let names: Vec<String> =
        (0..220).map(|at| format!("session-{at}.0.json")).chain([long, "creds.json".into()]).collect();
    for (at, name) in names.iter().enumerate() {
        std::fs::write(folder.join(name), format!("{at} {MARK} {}", "x".repeat(40_000 + at))).unwrap();
    }
    let from = format!("baileys:{}", folder.display());
    let taken = migrate(&host, &["--instance", "mine", "--from", &from, "--source-stopped"]).await;
    assert_eq!(taken["written"], json!({"creds": 1, "files": 221}));
    assert!(taken["missing"].as_array().unwrap().is_empty());

    let out = home.path().join("out");
    let args = ["instances", "export-auth", "mine", "--out", out.to_str().unwrap()];
    let (said, status) = host.cli(&args).await;
    assert!(status.success() && said.contains("222 files") && said.contains("fight"), "{said}");
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o700);
    for name in &names {
        assert_eq!(std::fs::read(out.join(name)).unwrap(), std::fs::read(folder.join(name)).unwrap(), "{name}");
    }
    let (said, status) = host.cli(&args).await;
    assert!(status.code() == Some(2) && said.contains("is not empty"), "{said}");
    host.post("/instances/mine/connect", json!({})).await;
    let other = home.path().join("other");
    let (said, status) = host.cli(&["instances", "export-auth", "mine", "--out", other.to_str().unwrap()]).await;
    assert!(!status.success() && said.contains("Disconnect it first") && !other.exists(), "{said}");
    let mut plain = Vec::new();
    with_word(&host.data, MARK, &mut plain);
    assert_eq!(plain, Vec::<String>::new(), "nothing of it lies in plain");
}

pub(crate) fn creds(next: u64) -> String {
    // Evolution writes it as JSON in JSON.
    json!(json!({"nextPreKeyId": next, "mark": MARK}).to_string()).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_of_redis_the_provider_and_mongo_are_peeled() {
    let host = TestHost::start().await;
    let home = tempfile::tempdir().unwrap();
    let file = |name: &str, content: String| {
        std::fs::write(home.path().join(name), content).unwrap();
        home.path().join(name).display().to_string()
    };
    let hash = json!({"creds": creds(3), "session-1.0": "\"{}\"", "sender-key-1@g.us::2::0": {"a": 1}});
    let redis = file("redis.json", json!({"evolution:instance:u-1": hash, "evolution:instance:u-2": {}}).to_string());
    let flat = file("flat.json", hash.to_string());
    let provider = file("provider.json", json!({"creds": {"nextPreKeyId": 3}, "session-1.0": {}}).to_string());
    let lines = [json!({"_id": "creds", "nextPreKeyId": 3}), json!({"_id": "session-1.0", "content_array": [1]})];
    let mongo = file("mongo.json", lines.clone().map(|line| line.to_string()).join("\n"));
    let list = file("list.json", json!(lines).to_string());
    for (at, (from, source, records)) in [
        (format!("evolution-redis:{redis}"), Some("u-1"), 3),
        (format!("evolution-redis:{flat}"), None, 3),
        (format!("evolution-provider:{provider}"), None, 2),
        (format!("evolution-mongo:{mongo}"), None, 2),
        (format!("evolution-mongo:{list}"), None, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("mine-{at}");
        let mut args = vec!["--instance", name.as_str(), "--from", from.as_str(), "--source-stopped"];
        args.extend(source.iter().flat_map(|source| ["--source-instance", *source]));
        let taken = migrate(&host, &args).await;
        assert_eq!(taken["program"], "evolution");
        let files = kept(&host, &name).await;
        assert_eq!(files.len(), records, "{from}: {files:?}");
        assert!(files.contains_key("creds") && files.contains_key("session-1.0"), "{files:?}");
    }
    assert_eq!(kept(&host, "mine-0").await["creds"], creds(3), "values stay as they are");
    assert_eq!(kept(&host, "mine-3").await["session-1.0"], json!({"content_array": [1]}).to_string());
    let from = format!("evolution-redis:{redis}");
    let (code, said) = refused(&host, &["--instance", "x", "--from", &from, "--source-stopped"]).await;
    assert!(code == 3 && said.contains("evolution:instance:u-2"), "{said}");
}

const STOCK: &str = r#"
    create table "Instance" (id text primary key, name text, "connectionStatus" text, "clientName" text, "updatedAt" timestamp);
    create table "Session" (id text primary key, "sessionId" text, creds text);
"#;

#[tokio::test(flavor = "multi_thread")]
async fn evolutions_database_goes_with_its_files_and_the_newest_store_counts() {
    let Some(server) = Server::start(&["fsync = off"]) else { return };
    let host = TestHost::start().await;
    let home = tempfile::tempdir().unwrap();
    for (database, prefix) in [("stock", ""), ("fork", "evo_")] {
        server.create(database, None);
        let mut tables = STOCK.replace("\"Instance\"", &format!("\"{prefix}Instance\""));
        tables = tables.replace("\"Session\"", &format!("\"{prefix}Session\""));
        tables.push_str(&format!(
            "insert into \"{prefix}Instance\" values ('u-1', 'sales', 'open', 'evo', now()), ('u-2', 'help', 'open', 'evo', now()),
                ('u-3', 'new', 'close', 'evo', now());
             insert into \"{prefix}Session\" values ('s1', 'u-1', '{}'), ('s2', 'u-2', '{}');",
            creds(31),
            creds(7)
        ));
        if !prefix.is_empty() {
            tables.push_str(
                "create table omni_instance_configs (id int, name text, whatsapp_instance text);
                 insert into omni_instance_configs values (1, 'front', 'help');",
            );
        }
        server.ask(database, &tables);
    }
    tree(&home.path().join("instances/u-1"), &["pre-key-30.json", "session-1.0.json"]);
    tree(&home.path().join("instances/u-2"), &["pre-key-6.json", "pre-key-5.json", "session-1.0.json"]);
    let redis = home.path().join("exports/redis.json");
    std::fs::create_dir_all(redis.parent().unwrap()).unwrap();
    std::fs::write(&redis, json!({"evolution:instance:u-1": {"pre-key-12": "{}"}}).to_string()).unwrap();
    let (files, redis) = (home.path().display().to_string(), redis.display().to_string());

    let from = format!("evolution-postgres:{}", server.url("stock"));
    let args = ["--instance", "sales", "--from", &from, "--files", &files, "--redis", &redis, "--source-stopped"];
    let taken = migrate(&host, &args).await;
    let uses: Vec<&str> =
        taken["source"].as_array().unwrap().iter().map(|used| used["for"].as_str().unwrap()).collect();
    assert_eq!(uses, ["credentials", "keys", "nothing: another store is newer"], "{taken}");
    let found = kept(&host, "sales").await;
    assert_eq!(
        found.keys().collect::<Vec<_>>(),
        ["Instance.rows", "Session.rows", "pre-key-30.json", "session-1.0.json"]
    );
    let session: Value = serde_json::from_str(&found["Session.rows"]).unwrap();
    assert_eq!(session, json!([{"id": "s1", "sessionId": "u-1", "creds": creds(31)}]));
    server.ask(
        "stock",
        "update \"Instance\" set \"connectionStatus\" = 'close', \"updatedAt\" = now() + interval '1 day'",
    );
    assert_eq!(migrate(&host, &args).await["alreadyImported"], true, "what changes by itself is none of it");

    let from = format!("evolution-postgres:{}", server.url("fork"));
    let front = ["--instance", "front", "--from", &from, "--files", &files, "--source-stopped"];
    let taken = migrate(&host, &front).await;
    assert_eq!(taken["written"], json!({"rows": 2, "files": 3}), "{taken}");
    let (code, said) = refused(&host, &["--instance", "x", "--from", &from, "--source-stopped"]).await;
    assert!(code == 3 && said.contains("sales (u-1, paired), help (u-2, paired), new (u-3, not paired)"), "{said}");
    let named = ["--instance", "x", "--from", &from, "--source-instance", "sales", "--source-stopped"];
    let (_, said) = refused(&host, &named).await;
    assert!(said.contains("keys: there are none") && said.contains("--allow-missing-keys"), "{said}");
    let rows = "select count(*) from \"evo_Session\"";
    assert_eq!(server.ask("fork", rows), "2", "nothing is written into a source");

    // A program of Evolution's kind that says whether its instance is connected.
    for (state, code) in [("open", 1), ("close", 0)] {
        let answer = json!({"instance": {"instanceName": "sales", "state": state}});
        let app = axum::Router::new()
            .route("/instance/connectionState/{name}", axum::routing::get(move || async move { axum::Json(answer) }));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await });
        let asked = [
            "migrate",
            "auth",
            "--channel",
            "echo",
            "--instance",
            "asked",
            "--from",
            &from,
            "--source-instance",
            "sales",
            "--files",
            &files,
            "--evolution-url",
            &url,
            "--evolution-key",
            "k",
        ];
        let (said, status) = host.cli(&asked).await;
        assert_eq!(status.code(), Some(code), "{said}");
        serving.abort();
    }
}

/// A database of Omni v1 with these tables, as a source.
async fn omni_v1(folder: &Path, tables: String) -> String {
    let file = folder.join("automagik-omni.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut connection = sqlx::SqliteConnection::connect_with(&options).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(tables)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    format!("omni-v1:{}", file.display())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_omni_v1_is_found_by_name_or_by_being_the_only_one() {
    let host = TestHost::start().await;
    let home = tempfile::tempdir().unwrap();
    let tables = "create table instance_configs (id integer primary key, name varchar, channel_type varchar,
            discord_bot_token varchar, discord_slash_commands_enabled boolean);
        insert into instance_configs values (1, 'bot', 'echo', 't-1', 1), (2, 'other', 'whatsapp', null, 0)";
    let from = omni_v1(home.path(), tables.to_owned()).await;
    let taken = migrate(&host, &["--instance", "mine", "--from", &from, "--source-stopped"]).await;
    assert_eq!((&taken["program"], &taken["source"][0]["instance"]), (&json!("omni-v1"), &json!("bot")));
    let rows: Value = serde_json::from_str(&kept(&host, "mine").await["instance_configs.rows"]).unwrap();
    let row = json!({"id": 1, "name": "bot", "channel_type": "echo", "discord_bot_token": "t-1",
        "discord_slash_commands_enabled": 1});
    assert_eq!(rows, json!([row]));
    let named = ["--instance", "x", "--from", &from, "--source-instance", "nobody", "--source-stopped"];
    let (code, said) = refused(&host, &named).await;
    assert!(code == 3 && said.contains("bot (echo), other (whatsapp)"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telegram_bot_of_omni_v1_goes_on_with_its_token() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    let config = json!({"apiBaseUrl": fake.url(), "chatPerSecond": 0, "groupPerMinute": 0, "totalPerSecond": 0});
    let new = json!({"name": "bot", "channel": "telegram", "connect": false, "config": config});
    let id = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    let home = tempfile::tempdir().unwrap();
    let tables = format!(
        "create table instance_configs (id integer primary key, name varchar, channel_type varchar, telegram_bot_token varchar);
         insert into instance_configs values (1, 'bot', 'telegram', '{TOKEN}'), (2, 'bare', 'telegram', null),
            (3, 'broken', 'telegram', '600100'), (4, 'revoked', 'telegram', '600100:AAFakeTokenThatWasRevoked-0123456789')"
    );
    let from = omni_v1(home.path(), tables).await;
    let run = async |more: &[&str]| {
        let args = ["migrate", "auth", "--json", "--channel", "telegram", "--instance", "bot", "--from", from.as_str()];
        let (said, status) = host.cli(&[&args[..], more].concat()).await;
        (said, status.success())
    };
    let done = async |more: &[&str]| {
        let (said, is_done) = run(more).await;
        assert!(is_done, "{more:?}: {said}");
        serde_json::from_str::<Value>(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
    };

    for named in ["bare", "broken", "revoked"] {
        let (said, is_done) = run(&["--source-instance", named, "--source-stopped"]).await;
        assert!(!is_done && said.contains("telegram_bot_token") && said.contains(named), "{named}: {said}");
    }
    let looked = done(&["--dry-run"]).await;
    assert_eq!((&looked["written"], &looked["paired"]), (&json!({"token": 1}), &json!(true)), "{looked}");
    assert_eq!((&looked["profile"]["id"], &looked["dryRun"]), (&json!("600100"), &json!(true)), "{looked}");
    assert_eq!((host.get("/auth-imports").await["items"].as_array().unwrap().len(), copies(&host)), (0, 0));

    let taken = done(&["--source-stopped"]).await;
    assert_eq!((&taken["found"], &taken["written"]), (&looked["found"], &looked["written"]), "{taken}");
    assert_eq!((&taken["paired"], &taken["warnings"]), (&json!(true), &json!([])), "{taken}");
    let again = done(&["--source-stopped"]).await;
    assert_eq!((&again["alreadyImported"], &again["id"]), (&json!(true), &taken["id"]));
    assert_eq!((host.get("/auth-imports").await["items"].as_array().unwrap().len(), copies(&host)), (1, 1));
    assert_eq!(fake.calls_of("getUpdates").len(), 0, "the other program may still be asking");

    let ann = Person::new(7, "Ann");
    fake.text(&private(&ann), &ann, "written meanwhile");
    host.post("/instances/bot/connect", json!({})).await;
    host.until_state("bot", "connected").await;
    assert_eq!(host.stored(&id, "7", 1).await[0]["textContent"], "written meanwhile");
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "7", "text": "here I am"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    assert_eq!(fake.messages(7).last().unwrap()["text"], "here I am");
    let mut plain = Vec::new();
    with_word(&host.data, TOKEN, &mut plain);
    assert_eq!(plain, Vec::<String>::new(), "the token lies nowhere in plain");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discord_bot_of_omni_v1_goes_on_with_its_token_its_server_and_its_channel() {
    let Some(discord) = Discord::start(&[]).await else { return };
    let token = crate::discord_server::TOKEN;
    let host = TestHost::with(crate::discord_server::setup()).await;
    let new = json!({"name": "bot", "channel": "discord", "connect": false, "config": discord.config(json!({}))});
    let id = host.post("/instances", new).await["data"]["id"].as_str().unwrap().to_owned();
    let home = tempfile::tempdir().unwrap();
    let (guild, channel) = (&discord.guild, &discord.channel);
    let tables = format!(
        "create table instance_configs (id integer primary key, name varchar, channel_type varchar, discord_bot_token varchar,
            discord_client_id varchar, discord_guild_id varchar, discord_default_channel_id varchar, discord_voice_enabled boolean,
            discord_slash_commands_enabled boolean, discord_webhook_url varchar, discord_permissions integer);
         insert into instance_configs (id, name, channel_type, discord_bot_token) values (2, 'bare', 'discord', null),
            (3, 'revoked', 'discord', 'a-token-that-was-revoked');
         insert into instance_configs values (1, 'bot', 'discord', '{token}', null, '{guild}', '{channel}', 1, 1, null, 2048)"
    );
    let from = omni_v1(home.path(), tables).await;
    let run = async |more: &[&str]| {
        let args = ["migrate", "auth", "--json", "--channel", "discord", "--instance", "bot", "--from", from.as_str()];
        let (said, status) = host.cli(&[&args[..], more].concat()).await;
        (said, status.success())
    };
    for (named, why) in [("bare", "discord_bot_token"), ("revoked", "Discord does not know this token")] {
        let (said, is_done) = run(&["--source-instance", named, "--source-stopped"]).await;
        assert!(!is_done && said.contains(why), "{named}: {said}");
    }
    let (said, is_done) = run(&["--source-stopped"]).await;
    assert!(is_done, "{said}");
    let taken: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let all = json!({"token": 1, "settings": 3});
    assert_eq!((&taken["found"], &taken["written"], &taken["paired"]), (&all, &all, &json!(true)), "{taken}");
    assert!(taken["warnings"].to_string().contains("discord_voice_enabled"), "{taken}");
    assert_eq!(discord.heard(2).await, Vec::<Value>::new(), "the other program may still be connected");

    let other = discord.happens("guild", json!({"name": "other", "channels": ["talk"]})).await;
    let foreign = &other["channels"][0];
    host.post("/instances/bot/connect", json!({})).await;
    host.until_state("bot", "connected").await;
    discord.happens("say", json!({"channel": foreign, "text": "not for us"})).await;
    discord.says("for us").await;
    assert_eq!(host.stored(&id, channel, 1).await[0]["textContent"], "for us");
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "default", "text": "here I am"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    assert_eq!(discord.messages(channel).await.last().unwrap()["content"], "here I am");
    let body = json!({"instanceId": id, "to": foreign, "text": "hello"});
    let (status, refused) = host.call(Method::POST, "/messages/send", Some(body)).await;
    assert!(!status.is_success() && refused.to_string().contains("guildIds"), "{status} {refused}");
    let all = host.get(&format!("/messages?instanceId={id}")).await;
    assert!(!all.to_string().contains("not for us"), "{all}");
    let mut plain = Vec::new();
    with_word(&host.data, token, &mut plain);
    assert_eq!(plain, Vec::<String>::new(), "the token lies nowhere in plain");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_host_the_command_works_on_the_data_folder() {
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    install(&data, &plugin_file("echo"));
    tree(&home.path().join("auth"), &["creds.json", "session-1.0.json"]);
    let from = format!("baileys:{}", home.path().join("auth").display());
    let run = async |args: &[&str]| {
        let done = tokio::process::Command::new(env!("CARGO_BIN_EXE_omni"))
            .args(["migrate", "auth", "--data"])
            .arg(&data)
            .args(args)
            .env_clear()
            .envs(crate::database::env_of(&data))
            .current_dir(home.path())
            .output()
            .await
            .unwrap();
        (String::from_utf8([done.stdout, done.stderr].concat()).unwrap(), done.status)
    };
    let (said, status) = run(&["--channel", "echo", "--instance", "mine", "--from", &from, "--source-stopped"]).await;
    assert!(status.success() && said.contains("omni instances connect mine"), "{said}");
    let (said, status) = run(&["--list"]).await;
    assert!(status.success() && said.contains("mine"), "{said}");
    let host = TestHost::with(Setup { data: Some(data.clone()), ..Setup::default() }).await;
    assert_eq!(kept(&host, "mine").await.len(), 2);
    host.stop().await;
}
