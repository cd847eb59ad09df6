//! What an operator does at night: look at the numbers, turn up the log, ask the doctor, back up and restore.

use crate::database::needs_the_file;
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use crate::program::{Program, omni};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// A data folder with the echo plugin.
fn folder() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    (folder, data)
}

/// An echo instance of a running program: its id and address.
async fn echo(host: &Program) -> (String, String) {
    let address = free_address();
    let made = host.post("/instances", json!({"name": "demo", "channel": "echo", "config": {"listen": address}})).await;
    let id = made["data"]["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let began = Instant::now();
    while host.get(&format!("/instances/{id}/status")).await["data"]["state"] != "connected" {
        assert!(began.elapsed() < PATIENCE);
    }
    (id, format!("http://{address}"))
}

async fn say(host: &Program, echo: &str, number: usize) {
    let body =
        json!({"chatId": "room", "from": "ann", "externalId": format!("m{number}"), "text": format!("{number}")});
    let answer = host.client.post(echo).json(&body).send().await.unwrap();
    assert!(answer.status().is_success());
}

async fn stored(host: &Program) -> Vec<String> {
    let (mut texts, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = host.get(&format!("/messages?chatId=room&limit=100{cursor}")).await;
        let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
        texts.extend(items.iter().map(|item| item["textContent"].as_str().unwrap().to_owned()));
        match page["meta"]["cursor"].as_str() {
            Some(next) if page["meta"]["hasMore"] == true => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    texts
}

async fn until_stored(host: &Program, count: usize) {
    let began = Instant::now();
    while stored(host).await.len() < count {
        assert!(began.elapsed() < PATIENCE, "what was acknowledged is stored");
    }
}

/// The exposition format, read as a scraper reads it: name with labels → value, and the type of each name.
fn parsed(text: &str) -> (BTreeMap<String, f64>, BTreeMap<String, String>) {
    let (mut values, mut types) = (BTreeMap::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a name and a type");
            assert!(["counter", "gauge", "histogram", "summary"].contains(&kind), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} has two types");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').expect("a series and a value");
            let name = series.split('{').next().unwrap();
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':'), "{line}");
            assert!(!series.contains('{') || series.ends_with('}'), "{line}");
            assert!(
                values.insert(series.to_owned(), value.parse().expect("a number")).is_none(),
                "{series} comes twice"
            );
        }
    }
    (values, types)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_tell_what_an_operator_needs() {
    let (_home, data) = folder();
    let host = Program::start(&data, &[]).await;
    let (id, echo) = echo(&host).await;
    for number in 0..5 {
        say(&host, &echo, number).await;
    }
    until_stored(&host, 5).await;
    host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "out"})).await;
    // Words that a stranger invents must not become labels.
    for word in ["INVENTED", "WORDS"] {
        let method = reqwest::Method::from_bytes(word.as_bytes()).unwrap();
        let asked = host.client.request(method, format!("{}/api/v2/{word}-path", host.url));
        asked.send().await.unwrap();
    }
    // What is counted after it is stored, and what a state is after it is seen.
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let (text, (values, types)) = loop {
        tick.tick().await;
        let text = host.text("/metrics").await;
        let (values, types) = parsed(&text);
        let of = |series: &str| values.get(series).copied().unwrap_or_default();
        let stored = of("omni_events_accepted_total") == of("omni_events_stored_total");
        let read = of("omni_consumer_depth{consumer=\"storage\",stream=\"inbound\"}") == 0.0;
        let connected = of("omni_instances{state=\"connected\"}") == 1.0;
        if stored && read && connected || began.elapsed() > PATIENCE {
            break (text, (values, types));
        }
    };
    let value = |series: &str| *values.get(series).unwrap_or_else(|| panic!("no {series} in:\n{text}"));
    assert_eq!(value("omni_events_accepted_total"), value("omni_events_stored_total"));
    assert!(value("omni_events_accepted_total") >= 5.0);
    assert_eq!(value("omni_consumer_depth{consumer=\"storage\",stream=\"inbound\"}"), 0.0);
    assert_eq!(value("omni_consumer_lag_seconds{consumer=\"storage\",stream=\"inbound\"}"), 0.0);
    assert_eq!(value("omni_outbound_total{channel=\"echo\",outcome=\"delivered\"}"), 1.0);
    assert_eq!(value("omni_outbox_depth{status=\"pending\"}"), 0.0);
    assert_eq!(value("omni_dead_letters{consumer=\"storage\"}"), 0.0);
    assert_eq!(value("omni_instances{state=\"connected\"}"), 1.0);
    let state = |state| format!("omni_instance_state{{instance=\"{id}\",channel=\"echo\",state=\"{state}\"}}");
    assert_eq!((value(&state("connected")), value(&state("disconnected"))), (1.0, 0.0));
    assert_eq!(value("omni_plugins{state=\"running\"}"), 1.0);
    for positive in ["omni_database_bytes{file=\"database\"}", "omni_disk_free_bytes", "process_resident_memory_bytes"]
    {
        assert!(value(positive) > 0.0, "{positive}");
    }
    assert_eq!(value("omni_key_rotation_under_way"), 0.0);
    assert_eq!(types["omni_http_request_duration_seconds"], "histogram");
    assert_eq!(types["omni_events_accepted_total"], "counter");
    for (name, kind) in &types {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} says what it is");
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
    }
    for hidden in ["INVENTED", "WORDS", "room", &host.key] {
        assert!(!text.contains(hidden), "{hidden} became a label");
    }
    // Nobody reads them without a key, unless the configuration says so.
    let without = host.client.get(format!("{}/metrics", host.url)).send().await.unwrap();
    assert_eq!(without.status().as_u16(), 401);
    // An instance that goes down shows it.
    host.post(&format!("/instances/{id}/disconnect"), json!({})).await;
    let (values, _) = parsed(&host.text("/metrics").await);
    assert_eq!((values[&state("connected")], values[&state("disconnected")]), (0.0, 1.0));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_json_and_turned_up_while_it_runs() {
    let (home, data) = folder();
    let config = home.path().join("omni.toml");
    std::fs::write(&config, "[log]\nlevel = \"warn\"\n").unwrap();
    let host = Program::start(&data, &["--log-format", "json"]).await;
    let answered = |said: &str| said.lines().filter(|line| line.contains("\"answered\"")).count();
    host.get("/chats").await;
    assert_eq!(answered(&host.said()), 0, "{}", host.said());
    let (code, said) = host.omni(&["log-level", "debug"]).await;
    assert_eq!(code, 0, "{said}");
    assert_eq!(host.omni(&["log-level"]).await.1.trim(), "debug");
    host.get("/chats").await;
    let said = host.said();
    assert!(answered(&said) > 0, "{said}");
    // The last one may be half written.
    let whole = said.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    for line in whole.filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    // SIGHUP reads the file again.
    std::fs::write(&config, "[log]\nlevel = \"error\"\n").unwrap();
    host.signal("-HUP");
    let began = Instant::now();
    while host.omni(&["log-level"]).await.1.trim() != "error" {
        assert!(began.elapsed() < PATIENCE, "{}", host.said());
    }
    let (code, said) = host.omni(&["log-level", "loud"]).await;
    assert!(code == 1 && said.contains("is no log level"), "{code} {said}");
    host.stop().await;
}

fn findings(said: &str) -> BTreeMap<String, String> {
    let list: Value = serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {said}"));
    let text = |item: &Value, field: &str| item[field].as_str().unwrap_or_default().to_owned();
    list.as_array().unwrap().iter().map(|item| (text(item, "check"), text(item, "status"))).collect()
}

async fn doctor(data: &Path) -> (i32, BTreeMap<String, String>, String) {
    let (code, said) = omni(data, "http://127.0.0.1:1", &["doctor", "--json"]).await;
    let json = said.split("\nerror: ").next().unwrap_or_default();
    let json = json.split("error: ").next().unwrap_or_default();
    (code, findings(json), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_what_is_wrong_and_says_what_to_do() {
    if needs_the_file("it damages the file; `postgres` has the doctor on Postgres") {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let (_home, data) = folder();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
    let host = Program::start(&data, &[]).await;
    // Beside a running host.
    let (code, found, said) = doctor(&data).await;
    assert_eq!(code, 0, "{said}");
    for check in ["version", "config", "data folder", "host", "database", "key file", "clock", "disk space", "plugins"]
    {
        assert_eq!(found.get(check).map(String::as_str), Some("ok"), "{check}: {said}");
    }
    assert!(said.contains("a host is running"), "{said}");
    host.stop().await;

    let (code, found, said) = doctor(&data).await;
    assert!(code == 0 && found["host"] == "ok" && said.contains("no host is running"), "{said}");
    // Each thing that can be wrong, wrong.
    let key = data.join("omni.key");
    let good = std::fs::read(&key).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o644)).unwrap();
    let (code, found, said) = doctor(&data).await;
    assert!(code == 1 && found["key file"] == "fail" && said.contains("chmod 600"), "{said}");
    std::fs::remove_file(&key).unwrap();
    let (code, found, said) = doctor(&data).await;
    assert!(code == 1 && found["key file"] == "fail" && said.contains("from your backup"), "{said}");
    std::fs::write(&key, format!("{}\n", "ab".repeat(32))).unwrap();
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).unwrap();
    let (code, found, said) = doctor(&data).await;
    assert!(code == 1 && found["key file"] == "fail" && said.contains("another key file"), "{said}");
    std::fs::write(&key, good).unwrap();
    let plugin = data.join("plugins/broken.so");
    std::fs::write(&plugin, "no library").unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o777)).unwrap();
    let (code, found, said) = doctor(&data).await;
    assert_eq!((code, found["plugins"].as_str(), found["data folder"].as_str()), (1, "fail", "fail"), "{said}");
    assert!(said.contains("broken.so: it is not a shared library") && said.contains("chmod 700"), "{said}");
    std::fs::remove_file(&plugin).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o700)).unwrap();
    // A page of the database is overwritten.
    let database = data.join("omni.db");
    let mut bytes = std::fs::read(&database).unwrap();
    let at = bytes.len() / 2;
    bytes[at..at + 8192].fill(0xA5);
    std::fs::write(&database, bytes).unwrap();
    let (code, found, said) = doctor(&data).await;
    assert!(code == 1 && found["database"] == "fail" && said.contains("omni restore"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_a_running_host_comes_back_whole() {
    if needs_the_file("backups copy the file") {
        return;
    }
    let (home, data) = folder();
    let host = Program::start(&data, &[]).await;
    let (id, echo) = echo(&host).await;
    let file = host.client.post(format!("{}/api/v2/media?instanceId={id}&filename=a.txt", host.url));
    let file = file.header("x-api-key", &host.key).body("a file").send().await.unwrap();
    let file: Value = file.json().await.unwrap();
    let mut acknowledged = 0;
    for number in 0..200 {
        say(&host, &echo, number).await;
        acknowledged = number + 1;
    }
    // Others write on while it is made: what was acknowledged before it began is in it.
    let before = acknowledged;
    let (client, address) = (host.client.clone(), echo.clone());
    let writer = tokio::spawn(async move {
        for number in 200.. {
            let body = json!({"chatId": "room", "from": "ann", "externalId": format!("m{number}"), "text": format!("{number}")});
            if client.post(&address).json(&body).send().await.is_err() {
                break;
            }
        }
    });
    for to in ["backup", "backup.tar"] {
        let (code, said) = host.omni(&["backup", to, "--with-key"]).await;
        assert_eq!(code, 0, "{said}");
        let (code, said) = host.omni(&["backup", to]).await;
        assert!(code == 2 && said.contains("exists already"), "{said}");
    }
    std::fs::write(home.path().join("passphrase"), "short").unwrap();
    let (code, said) = host.omni(&["backup", "sealed", "--passphrase-file", "passphrase"]).await;
    assert!(code == 2 && said.contains("it takes at least 8"), "{said}");
    std::fs::write(home.path().join("passphrase"), "correct horse battery\n").unwrap();
    let (code, said) = host.omni(&["backup", "sealed", "--passphrase-file", "passphrase"]).await;
    assert!(code == 0 && said.contains("under the passphrase"), "{said}");
    let key = std::fs::read_to_string(data.join("omni.key")).unwrap();
    let (code, said) = host.omni(&["backup", "without-key"]).await;
    assert!(code == 0 && said.contains("the key is not in it"), "{said}");
    // Not over a folder that is in use, not even with force.
    let (code, said) = host.omni(&["restore", "backup", "--force"]).await;
    assert!(code == 1 && said.contains("in use by another omni"), "{said}");
    host.stop().await;
    writer.abort();

    let nowhere = "http://127.0.0.1:1";
    for (at, from) in ["backup", "backup.tar"].into_iter().enumerate() {
        let target = home.path().join(format!("restored-{at}"));
        let (code, said) = omni(&target, nowhere, &["restore", from]).await;
        assert_eq!(code, 0, "{said}");
        let (code, said) = omni(&target, nowhere, &["restore", from]).await;
        assert!(code == 2 && said.contains("is not empty") && said.contains("--force"), "{said}");
        let again = Program::start(&target, &[]).await;
        until_stored(&again, before).await;
        let texts = stored(&again).await;
        for number in 0..before {
            assert_eq!(texts.iter().filter(|text| **text == number.to_string()).count(), 1, "message {number}");
        }
        let url = file["data"]["url"].as_str().unwrap();
        assert_eq!(again.text(url).await, "a file");
        // Its logins still open: the instance connects.
        let began = Instant::now();
        while again.get(&format!("/instances/{id}/status")).await["data"]["state"] != "connected" {
            assert!(began.elapsed() < PATIENCE, "{}", again.said());
        }
        again.stop().await;
        let (code, said) = omni(&target, nowhere, &["restore", from, "--force"]).await;
        assert!(code == 0 && said.contains("before-restore"), "{said}");
    }
    // Under a passphrase it opens with that alone.
    let sealed = home.path().join("sealed/omni.key.sealed");
    assert!(!std::fs::read_to_string(&sealed).unwrap().contains(key.trim()), "the key is not there in plain");
    assert!(!home.path().join("sealed/omni.key").exists() && !home.path().join("sealed/cli.key").exists());
    let target = home.path().join("unsealed");
    let restore = ["restore", "sealed", "--passphrase-file", "passphrase"];
    std::fs::write(home.path().join("passphrase"), "not this one\n").unwrap();
    let (code, said) = omni(&target, nowhere, &restore).await;
    assert!(code == 1 && said.contains("this is not the passphrase") && !target.exists(), "{said}");
    let (code, said) = omni(&target, nowhere, &["restore", "sealed"]).await;
    assert!(code == 2 && said.contains("is under a passphrase") && !target.exists(), "{said}");
    std::fs::write(home.path().join("passphrase"), "correct horse battery\n").unwrap();
    let whole = std::fs::read(&sealed).unwrap();
    let mut changed = whole.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&sealed, &changed).unwrap();
    let (code, said) = omni(&target, nowhere, &restore).await;
    assert!(code == 1 && said.contains("omni.key.sealed was changed or damaged") && !target.exists(), "{said}");
    std::fs::write(&sealed, &whole).unwrap();
    let (code, said) = omni(&target, nowhere, &restore).await;
    assert!(code == 0 && !said.contains("put the key file back"), "{said}");
    assert_eq!(std::fs::read_to_string(target.join("omni.key")).unwrap(), key);
    assert!(!target.join("omni.key.sealed").exists());
    // Without its key it says what is missing, and takes the right one only.
    let target = home.path().join("keyless");
    let (code, said) = omni(&target, nowhere, &["restore", "without-key"]).await;
    assert!(code == 0 && said.contains("put the key file back"), "{said}");
    let wrong = home.path().join("wrong.key");
    std::fs::write(&wrong, format!("{}\n", "ab".repeat(32))).unwrap();
    std::fs::set_permissions(&wrong, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let other = home.path().join("other");
    let (code, said) = omni(&other, nowhere, &["restore", "without-key", "--key", "wrong.key"]).await;
    assert!(code == 1 && said.contains("does not belong to this backup") && !other.exists(), "{said}");
    let (code, said) = omni(&other, nowhere, &["restore", "without-key", "--key", "data/omni.key"]).await;
    assert!(code == 0 && !said.contains("put the key file back"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_backup_is_refused_and_leaves_everything_as_it_was() {
    if needs_the_file("backups copy the file") {
        return;
    }
    let (home, data) = folder();
    let host = Program::start(&data, &[]).await;
    host.stop().await;
    let nowhere = "http://127.0.0.1:1";
    let (code, said) = omni(&data, nowhere, &["backup", "backup", "--with-key"]).await;
    assert_eq!(code, 0, "{said}");
    let target = home.path().join("target");
    let database = home.path().join("backup/omni.db");
    let good = std::fs::read(&database).unwrap();
    let manifest = home.path().join("backup/backup.json");
    let told = std::fs::read(&manifest).unwrap();
    let refused = async |what: &str, words: &str| {
        let (code, said) = omni(&target, nowhere, &["restore", "backup"]).await;
        assert!(code == 1 && said.contains(words), "{what}: {code} {said}");
        assert!(!target.exists(), "{what} left something behind");
        let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert!(!left.iter().any(|name| name.to_string_lossy().contains("partial")), "{what}: {left:?}");
    };
    let mut changed = good.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&database, &changed).unwrap();
    refused("a changed byte", "omni.db was changed or damaged").await;
    std::fs::write(&database, &good[..good.len() - 1]).unwrap();
    refused("a cut end", "omni.db was changed or damaged").await;
    std::fs::remove_file(&database).unwrap();
    refused("a missing file", "omni.db is missing").await;
    std::fs::write(&database, &good).unwrap();
    std::fs::write(home.path().join("backup/strange"), "x").unwrap();
    refused("a strange file", "strange is in it").await;
    std::fs::remove_file(home.path().join("backup/strange")).unwrap();
    let mut newer: Value = serde_json::from_slice(&told).unwrap();
    newer["schema"] = json!(9_999);
    std::fs::write(&manifest, newer.to_string()).unwrap();
    refused("a newer one", "in a newer way").await;
    let mut outside: Value = serde_json::from_slice(&told).unwrap();
    outside["files"][0]["path"] = json!("../outside");
    std::fs::write(&manifest, outside.to_string()).unwrap();
    refused("a path that leads out", "leads out of it").await;
    std::fs::remove_file(&manifest).unwrap();
    refused("no manifest", "has no backup.json").await;
    std::fs::write(&manifest, &told).unwrap();
    let (code, said) = omni(&target, nowhere, &["restore", "backup"]).await;
    assert_eq!(code, 0, "whole again: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_changed_beside_and_without_a_host() {
    let (_home, data) = folder();
    let host = Program::start(&data, &[]).await;
    let (id, _) = echo(&host).await;
    let key = data.join("omni.key");
    let first = std::fs::read_to_string(&key).unwrap();
    let (code, said) = host.omni(&["data", "rotate-key"]).await;
    assert!(code == 0 && said.contains("is being changed"), "{said}");
    let both = std::fs::read_to_string(&key).unwrap();
    assert!(both.lines().count() == 2 && both.ends_with(&first), "the old key is kept until nothing needs it");
    let (code, said) = host.omni(&["data", "rotate-key", "--offline"]).await;
    assert!(code == 1 && said.contains("in use by another omni"), "{said}");
    // It dies before the old key is gone; the rest is done without it.
    let mut host = host;
    host.process.start_kill().unwrap();
    host.process.wait().await.unwrap();
    crate::database::let_go(&data).await;
    let (code, said) = omni(&data, "http://127.0.0.1:1", &["data", "rotate-key", "--offline"]).await;
    assert!(code == 0 && said.contains("the key is changed"), "{said}");
    let second = std::fs::read_to_string(&key).unwrap();
    assert_eq!(both.lines().next(), second.lines().next(), "the change that was begun is finished, not begun anew");
    assert_eq!(second.lines().count(), 1);
    let host = Program::start(&data, &[]).await;
    let began = Instant::now();
    while host.get(&format!("/instances/{id}/status")).await["data"]["state"] != "connected" {
        assert!(began.elapsed() < PATIENCE, "{}", host.said());
    }
    host.stop().await;
}

/// A plugin file as the API shows it, once it runs: a process that has just ended begins anew.
async fn plugin(host: &Program, channel: &str) -> Value {
    let running = |plugin: &&Value| plugin["manifest"]["channel"] == channel && plugin["status"]["state"] == "running";
    let began = Instant::now();
    loop {
        let plugins = host.get("/plugins").await;
        if let Some(found) = plugins["items"].as_array().unwrap().iter().find(running) {
            return found.clone();
        }
        assert!(began.elapsed() < PATIENCE, "no plugin of {channel} runs: {plugins}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restarts_of_a_plugin_are_counted_and_go_on_being_counted_when_its_file_is_replaced() {
    let (_home, data) = folder();
    let file = data.join("plugins").join(plugin_file("echo").file_name().unwrap());
    let host = Program::start_in(&data, "process").await;
    let (id, _) = echo(&host).await;
    let restarts = "omni_plugin_restarts_total{channel=\"echo\"}";
    let counted = async || parsed(&host.text("/metrics").await).0.get(restarts).copied();
    let crash = async |wanted: f64| {
        let pid = plugin(&host, "echo").await["process"]["pid"].as_i64().expect("it runs");
        let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
        assert!(killed.success());
        let began = Instant::now();
        while counted().await != Some(wanted) {
            assert!(began.elapsed() < PATIENCE, "{wanted} restarts are counted; {:?}", counted().await);
        }
    };
    assert_eq!(counted().await, Some(0.0), "there is a number before there is a crash");
    crash(1.0).await;
    // Another content is another file, with a process of its own.
    let mut bytes = std::fs::read(&file).unwrap();
    bytes.push(0);
    let new = file.with_extension("new");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(&new, &file).unwrap();
    let before = plugin(&host, "echo").await["sha256"].clone();
    host.post("/plugins/rescan", json!({})).await;
    let began = Instant::now();
    while plugin(&host, "echo").await["sha256"] == before
        || host.get(&format!("/instances/{id}/status")).await["data"]["state"] != "connected"
    {
        assert!(began.elapsed() < PATIENCE, "the new file takes over");
    }
    assert_eq!(plugin(&host, "echo").await["process"]["restarts"], 0, "it is another process");
    assert_eq!(counted().await, Some(1.0), "and the number has not forgotten");
    crash(2.0).await;
    host.stop().await;
}
