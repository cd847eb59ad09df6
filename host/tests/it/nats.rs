//! The bus in NATS, from outside: what the streams hold, what is refused, and what a host says of its server. On every
//! version of the server that the tests have; left out where there is none, or no Postgres.

use crate::faults::program::{Launch, Program};
use crate::harness::{PATIENCE, built, free_address, http_client, install, plugin_file};
use crate::nats_server::{self, programs};
use crate::postgres_server;
use async_nats::jetstream::{self, consumer::pull, stream::StorageType};
use futures_util::StreamExt;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::Command;

/// Servers, and a host on them.
struct Rig {
    postgres: postgres_server::Server,
    nats: nats_server::Server,
    folder: tempfile::TempDir,
    listen: String,
    echo: String,
}

impl Rig {
    /// One for each version of NATS.
    fn all(sync: &str) -> Vec<Self> {
        let rigs: Vec<Self> = programs().into_iter().filter_map(|program| Self::on(program, sync)).collect();
        if rigs.is_empty() {
            println!("left out: NATS or Postgres is not installed");
        }
        rigs
    }

    fn newest(sync: &str) -> Option<Self> {
        Self::on(programs().pop()?, sync)
    }

    fn on(program: PathBuf, sync: &str) -> Option<Self> {
        let postgres = postgres_server::Server::start(&["fsync = off"])?;
        postgres.create("omni", None);
        let folder = tempfile::tempdir().unwrap();
        install(&folder.path().join("data"), &plugin_file("echo"));
        let nats = nats_server::Server::start_this(program, sync);
        Some(Self { postgres, nats, folder, listen: free_address(), echo: free_address() })
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    async fn host(&self) -> Program {
        let (database, bus) = (Some(self.postgres.url("omni")), Some(self.nats.url(0)));
        Launch { database, bus, ..Launch::new(&self.data(), &self.listen) }.start().await
    }

    /// Hands a message to the echo channel.
    async fn say(&self, chat: &str, id: &str, text: &str) {
        let body = json!({"chatId": chat, "from": "ann", "externalId": id, "text": text});
        let client = http_client(PATIENCE);
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        // Its server is there a moment after the host.
        loop {
            tick.tick().await;
            match client.post(format!("http://{}/", self.echo)).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => return,
                other => assert!(began.elapsed() < PATIENCE, "{other:?}"),
            }
        }
    }
}

/// Ends a host as a signal would.
async fn end(mut host: Program) {
    let pid = host.process.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-s", "TERM", &pid]).status().await.unwrap().success());
    assert!(host.process.wait().await.unwrap().success());
}

/// What a stream holds, oldest first, once it has so many.
async fn messages(jetstream: &jetstream::Context, stream: &str, wanted: u64) -> Vec<(String, Value, Option<String>)> {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let Ok(stream) = jetstream.get_stream(stream).await else {
            assert!(began.elapsed() < PATIENCE, "there is a stream {stream}");
            continue;
        };
        let state = &stream.cached_info().state;
        if state.messages < wanted && began.elapsed() < PATIENCE {
            continue;
        }
        let mut found = Vec::new();
        for number in state.first_sequence..=state.last_sequence {
            let message = stream.get_raw_message(number).await.unwrap();
            let id = message.headers.get("Nats-Msg-Id").map(ToString::to_string);
            found.push((message.subject.to_string(), serde_json::from_slice(&message.payload).unwrap(), id));
        }
        return found;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn domain_events_are_where_omni_v2_had_them_each_once() {
    for rig in Rig::all("2m") {
        let mut host = rig.host().await;
        let instance = host.echo(&rig.echo).await;
        let jetstream = rig.nats.jetstream(0).await;
        for number in 0..5 {
            rig.say("c", &number.to_string(), "hello").await;
        }
        let found = messages(&jetstream, "MESSAGE", 5).await;
        assert_eq!(found.len(), 5);
        let (subject, event, id) = &found[0];
        assert_eq!(*subject, format!("message.received.echo.{instance}"));
        assert_eq!(event["type"], "message.received");
        assert_eq!(event["id"].as_str(), id.as_deref(), "JetStream recognises it by its own id");
        assert_eq!(event["payload"]["content"]["text"], "hello");
        assert_eq!(event["metadata"]["instanceId"], *instance);
        assert_eq!(event["metadata"]["channelType"], "echo");
        // Killed, and started again: nothing is published twice, whether JetStream remembers it or not.
        host.kill().await;
        let host = rig.host().await;
        rig.say("c", "5", "again").await;
        let found = messages(&jetstream, "MESSAGE", 6).await;
        let ids: HashSet<&Option<String>> = found.iter().map(|(_, _, id)| id).collect();
        assert_eq!((found.len(), ids.len()), (6, 6));
        // Every word of ours has its stream, those that belong to no instance as well.
        let streams = [
            "ACCESS",
            "CUSTOM",
            "IDENTITY",
            "INSTANCE",
            "MEDIA",
            "MESSAGE",
            "OMNI_ADVISORIES",
            "OMNI_INBOUND",
            "REACTION",
            "SYSTEM",
        ];
        // One is made beside the others.
        until_advisories(&jetstream).await;
        for stream in streams {
            let info = jetstream.get_stream(stream).await.unwrap().cached_info().clone();
            assert_eq!(info.config.storage, StorageType::File, "{stream}");
        }
        end(host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_domain_events_that_is_lost_is_filled_again_from_the_store() {
    let Some(rig) = Rig::newest("2m") else { return };
    let host = rig.host().await;
    host.echo(&rig.echo).await;
    let jetstream = rig.nats.jetstream(0).await;
    for number in 0..3 {
        rig.say("c", &number.to_string(), "hello").await;
    }
    let before = messages(&jetstream, "MESSAGE", 3).await;
    let system = messages(&jetstream, "INSTANCE", 1).await;
    jetstream.delete_stream("MESSAGE").await.unwrap();
    rig.say("c", "3", "that it is gone shows now").await;
    let after = messages(&jetstream, "MESSAGE", 4).await;
    assert_eq!(after.len(), 4, "what was there, and what came");
    for (old, new) in before.iter().zip(&after) {
        assert_eq!(old, new);
    }
    assert_eq!(messages(&jetstream, "INSTANCE", 1).await, system, "the others stay as they are");
    end(host).await;
}

/// Waits until what NATS says about consumers is kept.
async fn until_advisories(jetstream: &jetstream::Context) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    while let Err(error) = jetstream.get_stream("OMNI_ADVISORIES").await {
        tick.tick().await;
        assert!(began.elapsed() < PATIENCE, "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_consumer_gives_up_is_in_the_dead_letters_whole_and_can_be_published_again() {
    for rig in Rig::all("2m") {
        let host = rig.host().await;
        let instance = host.echo(&rig.echo).await;
        let jetstream = rig.nats.jetstream(0).await;
        rig.say("c", "0", "nobody takes this").await;
        messages(&jetstream, "MESSAGE", 1).await;
        until_advisories(&jetstream).await;
        // A consumer of somebody else, who says that it failed, twice.
        let stream = jetstream.get_stream("MESSAGE").await.unwrap();
        let config = pull::Config { durable_name: Some("crm".into()), max_deliver: 2, ..pull::Config::default() };
        let consumer = stream.create_consumer(config).await.unwrap();
        let mut given = consumer.messages().await.unwrap();
        for _ in 0..2 {
            let message = given.next().await.unwrap().unwrap();
            message.ack_with(jetstream::AckKind::Nak(None)).await.unwrap();
        }
        let began = Instant::now();
        let letter = loop {
            let letters = host.get("/dead-letters").await.unwrap();
            if let Some(letter) = letters["items"].get(0) {
                break letter.clone();
            }
            assert!(began.elapsed() < PATIENCE, "{letters}");
            tokio::task::yield_now().await;
        };
        let id = letter["id"].as_str().unwrap();
        let letter = host.get(&format!("/dead-letters/{id}")).await.unwrap();
        let letter = letter.get("data").unwrap_or(&letter);
        assert_eq!(letter["consumer"], "nats:MESSAGE/crm", "{letter}");
        assert_eq!(letter["eventType"], "message.received");
        assert_eq!(letter["subject"], format!("message.received.echo.{instance}"));
        assert_eq!(letter["payload"]["payload"]["content"]["text"], "nobody takes this");
        assert!(
            letter["errorMessage"].as_str().is_some_and(|said| said.contains("did not take it in 2 deliveries")),
            "{letter}"
        );
        let (status, said) = host.post(&format!("/dead-letters/{id}/retry"), &json!({}), None).await.unwrap();
        assert!((200..300).contains(&status), "{status} {said}");
        let found = messages(&jetstream, "MESSAGE", 2).await;
        assert_eq!((&found[1].0, &found[1].1), (&found[0].0, &found[0].1), "the same, where it was");
        let message = given.next().await.unwrap().unwrap();
        message.ack().await.unwrap();
        end(host).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_in_the_database_is_stored_before_nats_is_used() {
    let Some(rig) = Rig::newest("2m") else { return };
    let database = Some(rig.postgres.url("omni"));
    let mut host = Launch { database, ..Launch::new(&rig.data(), &rig.listen) }.start().await;
    host.echo(&rig.echo).await;
    rig.say("c", "0", "before").await;
    // Killed at once: what is acknowledged lies in the log of the database, stored or not.
    host.kill().await;
    let host = rig.host().await;
    rig.say("c", "1", "after").await;
    let began = Instant::now();
    while host.texts("c").await != ["before", "after"] {
        assert!(began.elapsed() < PATIENCE, "{:?}", host.texts("c").await);
        tokio::task::yield_now().await;
    }
    end(host).await;
}

/// What `omni serve` says when it does not start.
async fn refusal(data: &Path, database: &str, bus: &str) -> String {
    let mut serve = Command::new(built().join("omni"));
    serve
        .args(["serve", "--data"])
        .arg(data)
        .args(["--listen", &free_address()])
        .env_clear()
        .env("PATH", "/usr/bin:/bin");
    serve.env("OMNI_DATABASE_URL", database).env("OMNI_BUS_URL", bus).stdin(Stdio::null());
    let done = tokio::time::timeout(PATIENCE, serve.output()).await.expect("it ends").unwrap();
    assert!(!done.status.success());
    String::from_utf8_lossy(&done.stderr).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_refused_and_how_durable_it_is_is_said() {
    let Some(rig) = Rig::newest("always") else { return };
    let database = rig.postgres.url("omni");
    let said = refusal(&rig.data(), "embedded", &rig.nats.url(1)).await;
    assert!(said.contains("NATS is for Postgres") && !said.contains("secret"), "{said}");
    let said = refusal(&rig.data(), &database, &format!("nats://u1:hunter2@127.0.0.1:{}", rig.nats.port)).await;
    assert!(said.contains("authorization violation") && !said.contains("hunter2"), "{said}");
    let said = refusal(&rig.data(), &database, &format!("nats://{}", free_address())).await;
    assert!(said.contains("failed to connect to NATS") && said.contains("`bus.url`"), "{said}");
    let host = rig.host().await;
    let health = host.get("/health").await.unwrap();
    assert_eq!(health["checks"]["nats"]["status"], "ok", "{health}");
    assert_eq!(health["checks"]["durability"], "unknown", "nobody said where its monitoring is");
    end(host).await;
    let lazy = nats_server::Server::start("2m").unwrap();
    let data = rig.data();
    for (server, wanted) in [(&rig.nats, "flushed"), (&lazy, "lazy")] {
        let mut launch = Launch::new(&data, &rig.listen);
        launch.database = Some(database.clone());
        launch.bus = Some(server.url(0));
        launch.more = vec![("OMNI_BUS_MONITOR_URL", server.monitor_url())];
        let host = launch.start().await;
        let health = host.get("/health").await.unwrap();
        assert_eq!(health["checks"]["durability"], wanted, "{health}");
        end(host).await;
    }
}

/// What the doctor says of NATS: how it is, and in words.
async fn doctor(host: &Program) -> Vec<(String, String)> {
    let all = host.doctor().await;
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap_or_default().to_owned();
    let of_nats = all.as_array().unwrap().iter().filter(|finding| finding["check"] == "nats");
    of_nats.map(|finding| (text(finding, "status"), text(finding, "message"))).collect()
}

#[track_caller]
fn says(found: &[(String, String)], status: &str, words: &str) {
    let is_said = found.iter().any(|(is, message)| is == status && message.contains(words));
    assert!(is_said, "{status} and {words:?} in {found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_looks_at_nats() {
    let Some(rig) = Rig::newest("always") else { return };
    let data = rig.data();
    let mut launch = Launch::new(&data, &rig.listen);
    launch.database = Some(rig.postgres.url("omni"));
    launch.bus = Some(rig.nats.url(0));
    launch.more = vec![("OMNI_BUS_MONITOR_URL", rig.nats.monitor_url())];
    let mut host = launch.start().await;
    host.echo(&rig.echo).await;
    rig.say("a", "1", "one").await;
    let began = Instant::now();
    let found = loop {
        let found = doctor(&host).await;
        if found.iter().any(|(_, message)| message == "all domain events are published") || began.elapsed() > PATIENCE {
            break found;
        }
    };
    says(&found, "ok", "with JetStream");
    says(&found, "ok", "sync_interval: always");
    says(&found, "ok", "the stream OMNI_INBOUND holds");
    says(&found, "ok", "all domain events are published");
    assert!(found.iter().all(|(status, message)| status == "ok" && !message.contains("secret")), "{found:?}");
    // Full, and with what somebody has set wrongly.
    let jetstream = rig.nats.jetstream(0).await;
    let stream = jetstream.get_stream("OMNI_INBOUND").await.unwrap();
    let mut config = stream.cached_info().config.clone();
    config.max_bytes = i64::try_from(stream.cached_info().state.bytes).unwrap();
    config.discard = jetstream::stream::DiscardPolicy::Old;
    jetstream.update_stream(config).await.unwrap();
    jetstream.delete_stream("REACTION").await.unwrap();
    let found = doctor(&host).await;
    says(&found, "fail", "(100 %)");
    says(&found, "fail", "drops its oldest messages");
    says(&found, "warn", "the streams REACTION are not there");
    host.kill().await;
    jetstream.delete_stream("OMNI_INBOUND").await.unwrap();
    says(&doctor(&host).await, "fail", "which is the log, is gone");
    rig.nats.kill();
    says(&doctor(&host).await, "fail", "failed to connect to NATS");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_host_and_nats_lost_both_is_a_gap_in_the_ledger() {
    let Some(rig) = Rig::newest("always").map(Arc::new) else { return };
    let mut host = rig.host().await;
    host.echo(&rig.echo).await;
    rig.say("a", "1", "one").await;
    let began = Instant::now();
    while host.ledger().await.0["ledger"][0]["counted"]["stored"] != 1 {
        assert!(began.elapsed() < PATIENCE);
    }
    // Nothing is stored for a while, and what is accepted is counted.
    let locked = Arc::clone(&rig);
    let locking = tokio::task::spawn_blocking(move || {
        locked.postgres.ask("omni", "lock table messages in exclusive mode; select pg_sleep(120)")
    });
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let locks = "from pg_locks where mode = 'ExclusiveLock' and granted and relation = cast('messages' as regclass)";
    let began = Instant::now();
    while rig.postgres.ask("omni", &format!("select count(*) {locks}")) == "0" {
        assert!(began.elapsed() < PATIENCE, "the table is never held");
        tick.tick().await;
    }
    for number in 2..5 {
        rig.say("a", &number.to_string(), "more").await;
    }
    let began = Instant::now();
    loop {
        let (finding, _) = host.ledger().await;
        assert_eq!(finding["status"], "ok", "{finding}");
        if finding["ledger"][0]["counted"]["accepted"] == 4 && finding["ledger"][0]["there"]["waiting"] == 3 {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "what is accepted is counted soon: {finding}");
    }
    host.kill().await;
    rig.nats.kill();
    rig.nats.forget_everything();
    rig.nats.go();
    rig.postgres.ask("omni", &format!("select pg_cancel_backend(pid) {locks}"));
    assert!(locking.await.is_err(), "it held the table until it was told to let go");
    let host = rig.host().await;
    rig.say("a", "5", "after").await;
    let began = Instant::now();
    let (finding, line) = loop {
        let (finding, _) = host.ledger().await;
        let line = finding["ledger"][0].clone();
        if line["counted"]["stored"] == 2 || began.elapsed() > PATIENCE {
            break (finding, line);
        }
    };
    assert_eq!((&finding["status"], &line["gaps"]["inbound"]), (&json!("fail"), &json!(3)), "{finding}");
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("3 accepted events are neither stored nor in the dead letters"), "{message}");
}
