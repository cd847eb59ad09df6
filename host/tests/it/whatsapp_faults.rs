//! WhatsApp while the host is killed: what people wrote is stored once, in order, and the keys still fit.
//!
//! `OMNI_FAULT_ROUNDS=500` makes it the long form, `OMNI_FAULT_SEED` repeats one.

use crate::database::needs_the_file;
use crate::faults::disk::Small;
use crate::faults::program::{Launch, Program};
use crate::faults::{rounds, seed};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use crate::whatsapp_server::{BOB, OURS, People, Server, jid, ours_and_bob};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

/// What Bob writes in a round.
const WORDS: usize = 3;

async fn state(host: &Program, id: &str) -> Option<String> {
    let shown = host.get(&format!("/instances/{id}/status")).await?;
    Some(shown["data"]["state"].as_str().or(shown["data"]["status"].as_str())?.to_owned())
}

async fn connected(host: &Program, id: &str) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let now = state(host, id).await;
        if now.as_deref() == Some("connected") {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the instance connects again; it is {now:?}");
    }
}

/// A folder whose `data` has the plugin.
fn data() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    install(&folder.path().join("data"), &plugin_file("whatsapp"));
    folder
}

/// The account of `ours`, taken over by the program and connected.
async fn take_over(host: &Program, server: &Server, people: &People) -> String {
    people.tell("ours", "forget", json!({})).await;
    let new = json!({"name": "phone", "channel": "whatsapp", "config": server.config(json!({})), "connect": false});
    let (status, made) = host.post("/instances", &new, None).await.expect("the API answers");
    assert_eq!(status, 201, "{made}");
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let body = json!({"source": "baileys", "files": people.files("ours")});
    let taken =
        host.post(&format!("/instances/{id}/auth-import?sourceStopped=true&allowMissingKeys=true"), &body, None).await;
    assert_eq!(taken.as_ref().map(|(status, _)| *status), Some(201), "{taken:?}");
    host.post(&format!("/instances/{id}/connect"), &json!({}), None).await.expect("the API answers");
    connected(host, &id).await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_at_any_moment_loses_no_message_and_breaks_no_key() {
    let server = Server::start().await;
    let Some(people) = ours_and_bob(&server).await else { return };
    let (folder, listen) = (data(), free_address());
    let data = folder.path().join("data");
    let mut host = Launch::new(&data, &listen).start().await;
    let id = take_over(&host, &server, &people).await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut said: Vec<String> = Vec::new();
    let mut answers = 0;
    let rounds = rounds(8);
    for round in 0..rounds {
        for _ in 0..WORDS {
            let words = said.len().to_string();
            people.send("bob", &jid(OURS), json!({"text": words})).await;
            said.push(words);
        }
        // Somewhere between the arrival of the first and the acknowledgement of the last.
        let wait = Duration::from_micros(random.random_range(0..60_000));
        tokio::time::timeout(wait, std::future::pending::<()>()).await.ok();
        host.kill().await;
        host = Launch::new(&data, &listen).start().await;
        connected(&host, &id).await;
        if round % 4 == 3 {
            let words = format!("answer {round}");
            let body = json!({"instanceId": id, "to": BOB.0, "text": words});
            let key = format!("answer-{round}");
            let sent = host.post("/messages/send", &body, Some(&key)).await;
            assert!(matches!(&sent, Some((200..=299, _))), "seed {seed}: {sent:?}");
            people.gets("bob", &words).await;
            assert_eq!(people.count("bob", &words), 1);
            answers += 1;
        }
    }
    let all = stored(&host, &said).await;
    let theirs: Vec<&String> = all.iter().filter(|words| !words.starts_with("answer")).collect();
    assert_eq!(theirs, said.iter().collect::<Vec<_>>(), "seed {seed}: once, and in order");
    println!(
        "killed {rounds} times: {} messages in, {answers} out, none lost, none twice, all read (seed {seed})",
        said.len()
    );
    host.kill().await;
}

/// The texts of the chat with Bob, once as many are there as he wrote.
async fn stored(host: &Program, said: &[String]) -> Vec<String> {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        let all = host.texts(&jid(BOB)).await;
        if all.iter().filter(|words| !words.starts_with("answer")).count() >= said.len() || began.elapsed() > PATIENCE {
            return all;
        }
    }
}

/// What our devices have not acknowledged.
async fn queued(server: &Server) -> u64 {
    let stats = server.look("stats").await;
    let accounts = stats["accounts"].as_array().unwrap();
    let ours = accounts.iter().find(|account| account["phone"] == OURS.0).unwrap();
    ours["devices"].as_array().unwrap().iter().filter_map(|device| device["queued"].as_u64()).sum()
}

/// Mebibytes for a plugin that is built for tests, copies of it and of those beside the program, and little more.
const ROOM: u32 = 320;
/// Large enough to use up a disk in a few messages.
const MUCH: usize = 50_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_no_message_and_breaks_no_key() {
    if needs_the_file("the disk is that of the data folder, where the server has nothing") {
        return;
    }
    let server = Server::start().await;
    let Some(people) = ours_and_bob(&server).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Small::mount(&folder.path().join("disk"), ROOM) else {
        println!("left out: a small file system cannot be mounted by this user");
        return;
    };
    let data = disk.path().join("data");
    install(&data, &plugin_file("whatsapp"));
    let host = Launch::new(&data, &free_address()).start().await;
    let id = take_over(&host, &server, &people).await;
    people.send("bob", &jid(OURS), json!({"text": "first"})).await;
    let mut said = vec!["first".to_owned()];
    assert_eq!(stored(&host, &said).await, said);
    let filler = disk.fill();
    // The database still has room in the file that it has: messages come in until that is used up.
    while queued(&server).await < 20 {
        assert!(said.len() < 2_000, "the disk is never used up");
        for _ in 0..5 {
            let words = format!("{} {}", said.len(), "x".repeat(MUCH));
            people.send("bob", &jid(OURS), json!({"text": words})).await;
            said.push(words);
        }
    }
    std::fs::remove_file(&filler).unwrap();
    let all = stored(&host, &said).await;
    assert_eq!(all.len(), said.len(), "none is lost, none is there twice");
    assert!(all == said, "each as it was written, in order");
    let sent = host.post("/messages/send", &json!({"instanceId": id, "to": BOB.0, "text": "answer"}), None).await;
    assert!(matches!(&sent, Some((200..=299, _))), "{sent:?}");
    people.gets("bob", "answer").await;
    let mut host = host;
    host.kill().await;
}

/// How many entries of a kind there are in a database file, which a host uses.
async fn entries(data: &Path, prefix: &str) -> i64 {
    let path = format!("sqlite://{}?mode=ro", data.join("omni.db").display());
    let pool = sqlx::SqlitePool::connect(&path).await.unwrap();
    let counted = sqlx::query_scalar("select count(*) from plugin_storage where key like ?")
        .bind(format!("{prefix}%"))
        .fetch_one(&pool)
        .await
        .unwrap();
    pool.close().await;
    counted
}

/// Damages one entry of a kind in a database file, and says how many there were.
async fn damage(data: &Path, prefix: &str) -> u64 {
    let path = format!("sqlite://{}", data.join("omni.db").display());
    let pool = sqlx::SqlitePool::connect(&path).await.unwrap();
    let done = sqlx::query("update plugin_storage set value = x'00' where key like ?")
        .bind(format!("{prefix}%"))
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    done.rows_affected()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_costs_that_record_and_nothing_else() {
    if std::env::vars().any(|(name, _)| name == "OMNI_TEST_DATABASE") {
        // The file is damaged here; another database is not damaged in this way.
        return;
    }
    let server = Server::start().await;
    let Some(people) = ours_and_bob(&server).await else { return };
    let (folder, listen) = (data(), free_address());
    let data = folder.path().join("data");
    let mut host = Launch::new(&data, &listen).start().await;
    let id = take_over(&host, &server, &people).await;
    people.send("bob", &jid(OURS), json!({"text": "before"})).await;
    assert_eq!(stored(&host, &["before".to_owned()]).await, ["before"]);
    // What a message changed in a session is written a moment after the message was acknowledged.
    let began = Instant::now();
    while entries(&data, "s/").await == 0 {
        assert!(began.elapsed() < PATIENCE, "the session is never written");
    }
    host.kill().await;
    let damaged = damage(&data, "s/").await;
    assert!(damaged > 0, "there was a session to be damaged");
    host = Launch::new(&data, &listen).start().await;
    connected(&host, &id).await;
    // The other side is told that the message could not be read, and sends it again with a new session.
    people.send("bob", &jid(OURS), json!({"text": "after"})).await;
    let all = stored(&host, &["before".to_owned(), "after".to_owned()]).await;
    assert_eq!(all, ["before", "after"]);
    let body: Value = json!({"instanceId": id, "to": BOB.0, "text": "healed"});
    host.post("/messages/send", &body, None).await.expect("the API answers");
    people.gets("bob", "healed").await;
    host.kill().await;
}
