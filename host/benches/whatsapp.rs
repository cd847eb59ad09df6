//! What accounts on WhatsApp cost: memory of one that does nothing, messages a second in and out, and how long it takes to bring
//! one over that has talked with ten thousand people. The server is that of the tests, on the same cores, and the people are
//! Baileys, so the rates are lower bounds.
//!
//! `cargo build --release --workspace && OMNI_TEST_BAILEYS=… cargo bench -p omni-host --bench whatsapp` prints a table and one line
//! of JSON; `.ci/test` says how Baileys is installed.

#![expect(dead_code, clippy::unwrap_used, reason = "the tests' own helpers, of which this needs a part")]

#[path = "../tests/it/database.rs"]
mod database;
#[path = "../tests/it/harness.rs"]
mod harness;
#[path = "common/measure.rs"]
mod measure;
#[path = "../tests/it/nats_server.rs"]
mod nats_server;
#[path = "common/plugin_process.rs"]
mod plugin_process;
#[path = "../tests/it/postgres_server.rs"]
mod postgres_server;
#[path = "../tests/it/whatsapp_server.rs"]
mod whatsapp_server;

use futures_util::{StreamExt, stream};
use harness::{Setup, TestHost};
use omni_host::config::Isolation;
use plugin_process::{announce, settled};
use serde_json::json;
use std::path::Path;
use std::time::Instant;
use whatsapp_server::{BOB, People, Server, jid, ours_and_bob, setup, take_over, take_over_from};

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Accounts beside the first, whose memory is measured.
const ACCOUNTS: usize = 24;
/// What each of them may weigh, in MiB.
const WANTED_MIB: f64 = 15.0;
/// Messages each way.
const MESSAGES: usize = 2_000;
/// Sends at the same time.
const AT_ONCE: usize = 16;
/// People whom the account that is brought over has talked with.
const SESSIONS: usize = 10_000;

#[tokio::main]
async fn main() {
    let mut report = announce("whatsapp");
    let server = Server::start().await;
    let Some(people) = ours_and_bob(&server).await else { return };
    let host = TestHost::with(Setup { isolation: Isolation::Auto, ..setup() }).await;
    let ours = take_over(&host, &server, &people, json!({})).await;
    let (inward, outward) = (inward(&host, &server, &people, &ours).await, outward(&host, &ours).await);
    println!("messages       {inward:.0}/s in, {outward:.0}/s out");
    let (seconds, state) = brought_over(&host, &people).await;
    println!("taken over     {SESSIONS} sessions ({state:.1} MiB of files) in {seconds:.2} s, by the command line");
    host.stop().await;
    let (first, each) = idle(&server, &people).await;
    println!(
        "memory         {first:.1} MiB with one account, {each:.2} MiB for each of {ACCOUNTS} more ({WANTED_MIB} wanted)"
    );
    report["messages_per_second"] = json!({"in": inward, "out": outward});
    report["import"] = json!({"sessions": SESSIONS, "seconds": seconds});
    report["memory_mib"] = json!({"first": first, "each": each});
    println!("\n{report}");
}

/// What was kept for the device comes at once: messages a second until the last is stored.
async fn inward(host: &TestHost, server: &Server, people: &People, ours: &str) -> f64 {
    let device = server.device(whatsapp_server::OURS).await;
    server.does("hold", json!({"jid": device, "on": true})).await;
    for number in 0..MESSAGES {
        people.send("bob", &jid(whatsapp_server::OURS), json!({"text": format!("message {number}")})).await;
    }
    let last = format!("message {}", MESSAGES - 1);
    let began = Instant::now();
    server.does("hold", json!({"jid": device, "on": false})).await;
    let path = format!("/messages?instanceId={ours}&chatId={}&limit=1", jid(BOB));
    host.until(&path, |body| body["items"][0]["textContent"] == last.as_str()).await;
    MESSAGES as f64 / began.elapsed().as_secs_f64()
}

/// Messages a second that the server has acknowledged.
async fn outward(host: &TestHost, ours: &str) -> f64 {
    let began = Instant::now();
    let sends = stream::iter(0..MESSAGES).map(|number| async move {
        let body = json!({"instanceId": ours, "to": BOB.0, "text": format!("answer {number}")});
        let sent = host.post("/messages/send", body).await;
        assert!(sent["data"]["status"] == "sent" || sent["data"]["status"] == "pending", "{sent}");
    });
    sends.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    MESSAGES as f64 / began.elapsed().as_secs_f64()
}

/// Seconds until an account with many sessions is an instance's, and MiB of what was handed in.
async fn brought_over(host: &TestHost, people: &People) -> (f64, f64) {
    people.join("old", ("5511999990009", "100000000000009")).await;
    people.send("old", &jid(BOB), json!({"text": "so that there is a session"})).await;
    people.tell("old", "forget", json!({})).await;
    let folder = people.folder("old");
    let bytes = multiply(&folder);
    let source = format!("baileys:{}", folder.display());
    let began = Instant::now();
    let command =
        ["migrate", "auth", "--channel", "whatsapp", "--instance", "old", "--from", &source, "--source-stopped"];
    let (said, status) = host.cli(&command).await;
    assert!(status.success(), "{said}");
    (began.elapsed().as_secs_f64(), bytes as f64 / 1_048_576.0)
}

/// The session of one, kept for many.
fn multiply(folder: &Path) -> u64 {
    let mut sessions =
        std::fs::read_dir(folder).expect("it is there").map(|entry| entry.expect("it can be read").path());
    let named = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("session-"));
    let session = sessions.find(|path| named(path)).expect("there is one");
    let content = std::fs::read(session).expect("it can be read");
    for number in 0..SESSIONS {
        let name = format!("session-{}.0.json", 551_200_000_000_u64 + number as u64);
        std::fs::write(folder.join(name), &content).expect("the disk takes it");
    }
    (content.len() * SESSIONS) as u64
}

/// MiB of the plugin's process with one account that is connected, and what each of many more adds.
async fn idle(server: &Server, people: &People) -> (f64, f64) {
    let host = TestHost::with(Setup { isolation: Isolation::Auto, ..setup() }).await;
    let mut first = 0.0;
    for number in 0..=ACCOUNTS {
        let (phone, lid) = (format!("55118888{number:05}"), format!("2000000000{number:05}"));
        let who = format!("account{number}");
        people.join(&who, (&phone, &lid)).await;
        take_over_from(&host, server, people, &who, json!({})).await;
        if number == 0 {
            first = settled(&host).await;
        }
    }
    let all = settled(&host).await;
    host.stop().await;
    (first, (all - first) / ACCOUNTS as f64)
}
