//! What the ledger says: that everything is there, through kills and restarts, and where it is not when somebody takes rows
//! away behind the host's back.

use crate::database::change;
use crate::faults::load::{Load, chats};
use crate::faults::program::{Launch, Program};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A data folder, and where its host and its echo instance listen.
struct Place {
    _folder: tempfile::TempDir,
    data: PathBuf,
    listen: String,
    echo: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("echo"));
        Self { _folder: folder, data, listen: free_address(), echo: free_address() }
    }

    async fn host(&self) -> Program {
        Launch::new(&self.data, &self.listen).start().await
    }

    /// Says so many things, and waits until they are acknowledged.
    async fn talk(&self, many: usize) {
        let load = Load::start(&self.echo, chats("l", 4));
        assert!(load.until(many, PATIENCE).await >= many);
        load.stop().await;
    }
}

async fn send(host: &Program, instance: &str) {
    let body = json!({"instanceId": instance, "to": "l-0", "text": "out"});
    let (status, sent) = host.post("/messages/send", &body, None).await.expect("it answers");
    assert!(status < 300, "{status} {sent}");
}

/// The line of the only instance, once nothing waits.
async fn line(host: &Program) -> (Value, Value) {
    let began = Instant::now();
    loop {
        let (finding, _) = host.ledger().await;
        let line = finding["ledger"][0].clone();
        if (line["there"]["waiting"] == 0 && line["there"]["pending"] == 0) || began.elapsed() > PATIENCE {
            return (finding, line);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_balances_through_kills_in_both_directions() {
    let place = Place::new();
    for round in 0..4 {
        let mut host = place.host().await;
        let instance = host.echo(&place.echo).await;
        let load = Load::start(&place.echo, chats(&format!("l{round}"), 4));
        send(&host, &instance).await;
        load.until(30 + 17 * round, PATIENCE).await;
        // With sends under way as well.
        let body = json!({"instanceId": instance, "to": "l-0", "text": "out"});
        let sending = host.post("/messages/send", &body, None);
        let _ = tokio::time::timeout(Duration::from_millis(3 * round as u64), sending).await;
        host.kill().await;
        load.stop().await;
    }
    let host = place.host().await;
    place.talk(5).await;
    let (finding, line) = line(&host).await;
    assert_eq!(finding["status"], "ok", "{finding}");
    assert_eq!(line["balances"], true, "{line}");
    let counted = |account: &str| line["counted"][account].as_i64().unwrap();
    assert!(counted("accepted") >= 30 * 4 && counted("delivered") >= 4, "{line}");
    assert_eq!(counted("accepted"), counted("stored") + counted("repeated"), "{line}");
    // In words, for people.
    let (_, all) = host.ledger().await;
    assert!(all.as_array().unwrap().iter().all(|finding| finding["status"] != "fail"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deletes_is_told_by_the_doctor_and_by_a_number() {
    let place = Place::new();
    let mut host = place.host().await;
    let instance = host.echo(&place.echo).await;
    place.talk(10).await;
    send(&host, &instance).await;
    let (finding, before) = line(&host).await;
    assert_eq!(finding["status"], "ok", "{finding}");
    host.kill().await;
    change(&place.data, "delete from messages where id in (select id from messages where not is_from_me limit 3)")
        .await;
    // As if a row of the outbox that was to be sent had been lost, and events of the log that nobody had stored.
    change(&place.data, "update ledger set amount = amount + 1 where account = 'queued'").await;
    change(&place.data, "update ledger set amount = amount - 2 where account = 'stored'").await;

    let host = place.host().await;
    let (finding, line) = line(&host).await;
    assert_eq!(finding["status"], "fail", "{finding}");
    assert_eq!(line["gaps"], json!({"inbound": 2, "outbound": 1, "messages": 3, "dead_letters": 0}), "{before} {line}");
    let message = finding["message"].as_str().unwrap();
    assert!(message.contains("demo: 3 messages that were stored are not there"), "{message}");
    assert!(finding["help"].as_str().is_some_and(|help| help.contains("backup")), "{finding}");
    let series = |side: &str, gap: i64| format!("omni_ledger_gap{{instance=\"{instance}\",side=\"{side}\"}} {gap}\n");
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    let expected = [series("inbound", 2), series("outbound", 1), series("messages", 3), series("dead_letters", 0)];
    loop {
        tick.tick().await;
        let text = host.metrics().await;
        if expected.iter().all(|series| text.contains(series)) {
            assert!(text.contains("omni_ledger_total{instance="), "{text}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{expected:?} in {text}");
    }
}
