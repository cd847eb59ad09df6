//! Webhooks, replays and dead letters from the command line, against a real host.

use crate::harness::{TestHost, built};
use crate::receiver::{Receiver, Reply};
use serde_json::Value;
use tokio::process::Command;

/// Runs `omni` against a host: the exit code, what was asked for, and what was said beside it.
async fn omni(host: &TestHost, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(built().join("omni"))
        .args(["--url", &host.url, "--api-key", &host.key])
        .args(args)
        .env_clear()
        .output()
        .await
        .expect("omni starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("words");
    (output.status.code().expect("an exit code"), text(output.stdout), text(output.stderr))
}

async fn done(host: &TestHost, args: &[&str]) -> String {
    let (code, out, err) = omni(host, args).await;
    assert_eq!(code, 0, "omni {args:?}: {out}{err}");
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_the_api_can_is_a_command() {
    let host = TestHost::start().await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    host.say(&echo, "c", "0", "before it").await;
    host.settle().await;
    let url = receiver.url();
    let create = ["webhooks", "create", "crm", &url, "--type", "message.received", "--header", "x-team: sales"];
    let secret = done(&host, &create).await;
    assert!(secret.trim().starts_with("whsec_"), "alone on standard output, for scripts: {secret}");
    let (code, _, err) = omni(&host, &create).await;
    assert_eq!(code, 1, "the name is taken: {err}");
    assert!(done(&host, &["webhooks", "list"]).await.contains("message.received"));
    let shown = done(&host, &["webhooks", "show", "crm"]).await;
    assert!(shown.contains("active") && shown.contains("x-team") && !shown.contains("whsec_"), "{shown}");
    assert!(done(&host, &["webhooks", "test", "crm"]).await.contains("204"));
    host.say(&echo, "c", "1", "hello").await;
    receiver.until(|got| got.iter().any(|got| got.text() == "hello")).await;
    assert_eq!(receiver.got()[0].header("x-team"), "sales");
    host.until("/webhooks/crm/deliveries", |body| body["items"][0]["status"] == "delivered").await;
    let deliveries = done(&host, &["webhooks", "deliveries", "crm", "--json"]).await;
    let deliveries: Value = serde_json::from_str(&deliveries).expect("JSON");
    let one = done(&host, &["webhooks", "deliveries", "crm", deliveries[0]["id"].as_str().unwrap()]).await;
    assert!(one.contains("delivered") && one.contains("204"), "{one}");
    let other = done(&host, &["webhooks", "rotate", "crm", "--overlap", "60"]).await;
    assert!(other.trim().starts_with("whsec_") && other != secret);
    done(&host, &["webhooks", "update", "crm", "--name", "sales"]).await;
    let replayed = done(&host, &["webhooks", "replay", "sales", "--since", "2020-01-01T00:00:00Z"]).await;
    assert!(replayed.contains("completed"), "{replayed}");
    receiver.until(|got| got.iter().any(|got| got.text() == "before it")).await;
    host.until("/webhooks/sales", |body| body["data"]["queued"] == 0).await;
    let replay =
        ["events", "replay", "--consumer", "sales", "--since", "2020-01-01T00:00:00Z", "--type", "none.*", "--json"];
    let counted: Value = serde_json::from_str(&done(&host, &replay).await).expect("JSON");
    assert_eq!(counted["progress"]["replayed"], 0);
    assert!(done(&host, &["events", "replays"]).await.contains("completed"));
    let (code, _, err) = omni(&host, &["events", "cancel-replay", counted["id"].as_str().unwrap()]).await;
    assert!(code == 1 && err.contains("not running"), "{err}");
    receiver.answer(|_| Reply::Status(500));
    let (code, _, err) = omni(&host, &["webhooks", "test", "sales"]).await;
    assert!(code == 1 && err.contains("answered 500"), "{err}");
    assert!(done(&host, &["webhooks", "disable", "sales"]).await.contains("disabled"));
    assert!(done(&host, &["webhooks", "enable", "sales"]).await.contains("active"));
    done(&host, &["webhooks", "delete", "sales"]).await;
    assert_eq!(omni(&host, &["webhooks", "show", "sales"]).await.0, 3, "there is no such thing");
    let stats = done(&host, &["dead-letters", "stats"]).await;
    assert!(stats.contains("Pending"), "{stats}");
    done(&host, &["dead-letters", "list", "--consumer", "storage"]).await;
}
