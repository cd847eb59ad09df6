//! A secret goes in and is seen nowhere: not in an answer, not in the database, not in a log, not in an error.

use crate::harness::{Setup, TestHost};
use crate::telegram_fake::TelegramFake;
use reqwest::Method;
use serde_json::json;
use std::path::Path;

const CANARY: &str = "600100:CANARY-token-that-must-not-be-seen";

/// Whether bytes hold others, as they are or in hex, as a dump of a database writes them.
pub fn is_in(bytes: &[u8], needle: &[u8]) -> bool {
    let hex = hex::encode(needle);
    [needle, hex.as_bytes()].iter().any(|needle| bytes.windows(needle.len()).any(|window| window == *needle))
}

/// The files in a folder that hold this.
pub fn holds(folder: &Path, needle: &[u8], found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            holds(&path, needle, found);
        } else if std::fs::read(&path).unwrap().windows(needle.len()).any(|window| window == needle) {
            found.push(path.display().to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_seen_nowhere() {
    let fake = TelegramFake::start().await;
    fake.accept_token(CANARY);
    let host = TestHost::with(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    let new = json!({"name": "bot", "channel": "telegram", "token": CANARY, "config": {"apiBaseUrl": fake.url()}});
    let made = host.post("/instances", new).await;
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    host.until_state(&id, "connected").await;
    // Errors that quote addresses are where tokens get out: the network goes away, then the token is refused.
    fake.revoke_token();
    host.until_state(&id, "logged_out").await;
    let bad = json!({"config": {"apiBaseUrl": "http://127.0.0.1:1"}, "token": CANARY});
    host.call(Method::PATCH, &format!("/instances/{id}"), Some(bad)).await;
    host.until_state(&id, "disconnected").await;

    for path in [
        "/instances",
        &format!("/instances/{id}"),
        &format!("/instances/{id}/status"),
        "/events",
        "/plugins",
        "/settings",
    ] {
        let (_, body) = host.call(Method::GET, path, None).await;
        assert!(!body.to_string().contains(CANARY), "{path} shows the token: {body}");
    }
    let shown = host.get(&format!("/instances/{id}")).await;
    assert_eq!(shown["data"]["hasToken"], true, "{shown}");
    let data = host.data.clone();
    let folder = host.stop().await;
    let mut found = Vec::new();
    holds(&data, CANARY.as_bytes(), &mut found);
    assert_eq!(found, Vec::<String>::new(), "the token lies in clear on the disk");
    let dump = crate::database::dump(&data).unwrap_or_default();
    assert!(!is_in(&dump, CANARY.as_bytes()), "the token lies in clear in the database");
    drop(folder);
}
