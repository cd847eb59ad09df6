//! The example receiver takes what a host sends, and nothing from anybody else.

use crate::harness::{PATIENCE, TestHost};
use serde_json::json;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

async fn line(lines: &mut Lines<BufReader<ChildStdout>>) -> String {
    let next = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("a line in time");
    next.unwrap().expect("it goes on")
}

/// Starts it, when there is a Python to run it.
fn start(secret: &str) -> Option<Child> {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/webhook-receiver/receiver.py");
    let started = Command::new("python3")
        .arg("-B")
        .arg(example)
        .args(["--listen", "127.0.0.1:0"])
        .env("OMNI_WEBHOOK_SECRET", secret)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn();
    match started {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            println!("left out: the example webhook-receiver needs python3");
            None
        }
        started => Some(started.expect("python3 starts")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_takes_what_the_host_sends_and_nothing_else() {
    let secret = omni_host::webhooks::signature::generate();
    let Some(mut example) = start(&secret) else { return };
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines();
    let url = line(&mut lines).await.trim_start_matches("listening on ").to_owned();
    let host = TestHost::start().await;
    let (_, echo) = host.echo("demo").await;
    let body = json!({"name": "mine", "url": url, "secret": secret, "eventTypes": ["message.*"]});
    let made = host.post("/webhooks", body).await["data"].clone();
    assert_eq!(made["secret"], secret);
    let unsigned = reqwest::Client::new().post(&url).json(&json!({"type": "message.received"})).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    host.say(&echo, "c1", "1", "good morning").await;
    assert_eq!(line(&mut lines).await, "ann in c1: good morning");
    let tried = host.post("/webhooks/mine/test", json!({})).await["data"].clone();
    assert_eq!((&tried["success"], &tried["statusCode"]), (&json!(true), &json!(204)), "{tried}");
    assert!(line(&mut lines).await.starts_with("webhook.test: "));
}
