//! What a bot on Discord costs: the size of the plugin, its memory in 1, 100 and 2,500 servers, how long it takes from Discord's
//! gateway into the store, and how many messages a second go that way. The Discord is that of the tests, in Python and on the same
//! cores, so that times are upper bounds and rates lower ones.
//!
//! `cargo build --release --workspace && OMNI_TEST_DISCORD=… cargo bench -p omni-host --bench discord` prints a table and one line
//! of JSON; `.ci/test` says how that Discord is installed.

#![expect(dead_code, clippy::unwrap_used, reason = "the tests' own helpers, of which this needs a part")]

#[path = "../tests/it/database.rs"]
mod database;
#[path = "../tests/it/discord_server.rs"]
mod discord_server;
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

use discord_server::{Discord, setup};
use futures_util::StreamExt;
use harness::{Setup, TestHost};
use measure::rss;
use omni_host::config::Isolation;
use plugin_process::{announce, settled};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Servers that the bot is in, each with so many channels, and the shards of its connection.
const SIZES: [(usize, &str); 3] = [(1, "1"), (100, "1"), (2_500, "3")];
const CHANNELS: &str = "20";
/// Messages that are timed one by one, and how many of them there are in a second.
const TIMED: usize = 2_000;
const PER_SECOND: u64 = 100;
/// Messages that come at once.
const AT_ONCE: usize = 5_000;

#[tokio::main]
async fn main() {
    let mut report = announce("discord");
    let mut rows = Vec::new();
    for (guilds, shards) in SIZES {
        let count = guilds.to_string();
        let options = ["--guilds", &count, "--channels", CHANNELS, "--shards", shards, "--max-concurrency", "16"];
        let Some(discord) = Discord::start(&options).await else { return };
        let host = TestHost::with(Setup { isolation: Isolation::Process, ..setup() }).await;
        let began = Instant::now();
        let id = discord.instance(&host, json!({})).await;
        host.until_state(&id, "connected").await;
        let connected = began.elapsed().as_secs_f64();
        let memory = settled(&host).await;
        let (p50, p99) = stored(&host, &discord).await;
        let rate = at_once(&host, &discord, &id).await;
        println!(
            "{guilds:>5} servers  {memory:.1} MiB in the plugin's process, connected after {connected:.1} s; gateway to stored p50 \
             {p50:.1} ms, p99 {p99:.1} ms at {PER_SECOND}/s; {rate:.0} messages/s"
        );
        rows.push(json!({"guilds": guilds, "plugin_mib": memory, "host_mib": rss(), "connected_s": connected,
            "gateway_to_stored_ms": {"p50": p50, "p99": p99}, "messages_per_second": rate}));
        host.stop().await;
    }
    report["sizes"] = rows.into();
    println!("\n{report}");
}

/// From the moment at which somebody asks the Discord to say something until the host's event stream tells of it, which it does
/// once it is stored: the median, and the 99th percentile, in milliseconds.
async fn stored(host: &TestHost, discord: &Discord) -> (f64, f64) {
    let client = reqwest::Client::new();
    let url = format!("{}/api/v2/events/stream?type=message.received", host.url);
    let stream = client.get(url).header("x-api-key", &host.key).send().await.expect("the stream opens");
    let listening = tokio::spawn(arrivals(stream.bytes_stream()));
    let mut tick = tokio::time::interval(Duration::from_millis(1_000 / PER_SECOND));
    let mut said = Vec::with_capacity(TIMED);
    for number in 0..TIMED {
        tick.tick().await;
        said.push(Instant::now());
        discord.says(&format!("timed {number}.")).await;
    }
    let heard = listening.await.expect("all of them arrive");
    let mut times: Vec<f64> =
        (0..TIMED).map(|number| (heard[&number] - said[number]).as_secs_f64() * 1_000.0).collect();
    times.sort_by(f64::total_cmp);
    (times[TIMED / 2], times[TIMED * 99 / 100])
}

/// When each of the timed messages was told.
async fn arrivals(
    mut stream: impl futures_util::Stream<Item = reqwest::Result<impl AsRef<[u8]>>> + Unpin,
) -> HashMap<usize, Instant> {
    let mut heard = HashMap::with_capacity(TIMED);
    let mut rest = String::new();
    while heard.len() < TIMED {
        let piece = stream.next().await.expect("the stream goes on").expect("the stream is not cut");
        let now = Instant::now();
        rest.push_str(&String::from_utf8_lossy(piece.as_ref()));
        while let Some((event, after)) = rest.split_once("\n\n") {
            let data = event.lines().find_map(|line| line.strip_prefix("data:"));
            let told: Option<Value> = data.and_then(|data| serde_json::from_str(data).ok());
            if let Some(number) = told.and_then(|told| number_in(&told)) {
                heard.insert(number, now);
            }
            rest = after.to_owned();
        }
    }
    heard
}

/// The number of a timed message.
fn number_in(told: &Value) -> Option<usize> {
    let words = told.to_string();
    let (number, _) = words.split_once("timed ")?.1.split_once('.')?;
    number.parse().ok()
}

/// Many messages at once: how many a second are stored.
async fn at_once(host: &TestHost, discord: &Discord, id: &str) -> f64 {
    let began = Instant::now();
    discord.happens("burst", json!({"count": AT_ONCE, "text": "one of many"})).await;
    let last = format!("one of many {AT_ONCE}");
    let path = format!("/messages?instanceId={id}&chatId={}&limit=1", discord.channel);
    host.until(&path, |body| body["items"][0]["textContent"] == last.as_str()).await;
    AT_ONCE as f64 / began.elapsed().as_secs_f64()
}
