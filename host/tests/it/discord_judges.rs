//! That the server of the Discord tests is a Discord: npm `discord.js` drives it, and Discord's OpenAPI document judges what
//! it answers.

use crate::discord_server::{Discord, TOKEN, repository, sources, tools};
use crate::harness::{PATIENCE, http_client};
use reqwest::StatusCode;
use serde_json::Value;
use std::path::PathBuf;
use tokio::process::Command;

/// The document, in a folder above the repository.
const DOCUMENT: &str = "shared/specs/discord-api-v10-openapi.json";

/// Discord's document, if it is at hand.
fn document() -> Option<PathBuf> {
    let repository = repository().canonicalize().unwrap();
    let found = repository.ancestors().map(|above| above.join(DOCUMENT)).find(|file| file.exists());
    if found.is_none() {
        println!("left out: there is no {DOCUMENT} above the repository");
    }
    found
}

/// Runs a judge to its good end; gives what it printed.
async fn judged(judge: &mut Command) -> String {
    let done = tokio::time::timeout(PATIENCE * 2, judge.kill_on_drop(true).output()).await.expect("it ends in time");
    let done = done.expect("it runs");
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{words}{}", String::from_utf8_lossy(&done.stderr));
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_a_discord_to_discord_js() {
    let Some(tools) = tools() else { return };
    let server = Discord::start(&["--heartbeat-ms", "1000", "--identify-window-ms", "50"]).await.unwrap();
    let mut drive = Command::new("node");
    drive.arg(sources().join("drive.mjs")).arg(server.port.to_string()).env("DISCORD_JS", &tools);
    let words = judged(&mut drive).await;
    let checks: Value = serde_json::from_str(words.lines().last().unwrap()).unwrap();
    assert!(checks["checks"].as_object().unwrap().len() >= 15, "{checks}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_answers_is_by_discords_document() {
    let Some(tools) = tools() else { return };
    let Some(document) = document() else { return };
    let mut check = Command::new(tools.join("venv/bin/python"));
    check.arg("-B").arg(sources().join("check_spec.py")).arg(document);
    let words = judged(&mut check).await;
    let (fits, _) = words.trim().split_once(" answers fit, 0 differences").expect("it says how many fit");
    assert!(fits.parse::<u32>().unwrap() >= 50, "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_not_by_the_book_is_noted() {
    let to_the_server = ("/rooms/5", StatusCode::NOT_FOUND, "PARITY GAP GET /rooms/5");
    let to_the_document = document().map(|_| ("/users/@me/guilds?most=5", StatusCode::OK, "has no parameter most"));
    for (path, status, violation) in [Some(to_the_server), to_the_document].into_iter().flatten() {
        let Some(server) = Discord::start(&[]).await else { return };
        let call = http_client(PATIENCE).get(format!("{}/api/v10{path}", server.url));
        let answer = call.header("authorization", format!("Bot {TOKEN}")).send().await.unwrap();
        assert_eq!(answer.status(), status);
        let violations = server.violations().await;
        assert!(violations.iter().any(|noted| noted.contains(violation)), "{violations:?}");
    }
}
