//! How many messages a second one host carries, from a plugin to the database, on this machine, in each shape in which an
//! installation runs.
//!
//! Two ways in: events through the boundary from a generator in process, and HTTP into an echo instance with the client
//! and the servers on the same cores. Both end when the last message is stored. Numbers of two machines can only be
//! compared beside their fsync calibration, which is printed with them; it is taken on the same disk in the same minute.
//!
//! `cargo bench -p omni-host --bench throughput [-- SHAPE…]` prints a table and one line of JSON. The shapes are those of
//! `common/shapes.rs`, all of them without an argument. `OMNI_BENCH_MESSAGES` sets how many messages, `OMNI_BENCH_ONLY`
//! (`boundary` or `http`) leaves the other way out.

#[path = "common/clients.rs"]
mod clients;
#[path = "common/embedded.rs"]
mod embedded;
#[path = "common/measure.rs"]
mod measure;
#[path = "../tests/it/nats_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod nats_server;
#[path = "../tests/it/postgres_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres_server;
#[path = "common/shapes.rs"]
mod shapes;

use clients::free_address;
use embedded::{instance, start_host};
use measure::{calibrate, echo_plugin, machine, rss, synced};
use omni_host::Host;
use omni_host::config::Isolation;
use serde_json::{Map, Value, json};
use shapes::Shape;
use std::path::Path;
use std::time::Instant;

const CHATS: u64 = 256;
const CONNECTIONS: u64 = 256;
/// What is wanted of the shape with NATS, in messages a second on two cores.
const WANTED: f64 = 10_000.0;

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let told = |wanted: &str| std::env::vars().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let messages: u64 = told("OMNI_BENCH_MESSAGES").and_then(|value| value.parse().ok()).unwrap_or(200_000);
    let only = told("OMNI_BENCH_ONLY").unwrap_or_default();
    let plugin = echo_plugin();
    let (fsync, large) = (calibrate(), synced(4 << 20, 50));
    let machine = machine();
    println!("machine        {machine}");
    println!("fsync 4 KiB    p50 {:.3} ms, p99 {:.3} ms ({:.0}/s)", fsync.0, fsync.1, 1_000.0 / fsync.0);
    println!("fsync 4 MiB    p50 {:.3} ms, p99 {:.3} ms ({:.0} MiB/s)", large.0, large.1, 4_000.0 / large.0);
    println!();
    println!(
        "{:<12} {:<34} {:>9} {:>9} {:>12} {:>10} {:>12} {:>9}",
        "shape", "path", "messages", "seconds", "messages/s", "× embedded", "KiB/message", "RSS MiB"
    );
    let ways = [("boundary", Way::Generator, messages), ("http", Way::Http, messages / 2)];
    let mut results = Map::new();
    for shape in Shape::chosen() {
        let mut row = Map::new();
        for (name, way, messages) in ways.iter().filter(|(name, ..)| only.is_empty() || only == *name) {
            let beside = results.get("embedded").and_then(|embedded| embedded[*name]["per_second"].as_f64());
            match one(&plugin, shape, *way, *messages, beside) {
                Some(measured) => drop(row.insert((*name).to_owned(), measured)),
                None => println!("{:<12} left out: its servers are not installed", shape.name()),
            }
        }
        results.insert(shape.name().to_owned(), row.into());
    }
    for (shape, row) in results.iter().filter(|(shape, _)| shape.starts_with("nats")) {
        for (way, rate) in ways.iter().filter_map(|(way, ..)| Some((way, row[*way]["per_second"].as_f64()?))) {
            let met = if rate >= WANTED { "met" } else { "missed" };
            println!("goal           {WANTED:.0}/s with {shape}, {way}: {met}");
        }
    }
    let report = json!({
        "machine": machine, "fsync_ms": {"p50": fsync.0, "p99": fsync.1},
        "fsync_4_mib_ms": {"p50": large.0, "p99": large.1}, "chats": CHATS, "connections": CONNECTIONS,
        "shapes": results,
    });
    println!("\n{report}");
}

/// What this process has had written to disks, in bytes.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

#[derive(Clone, Copy)]
enum Way {
    Generator,
    Http,
}

/// Measures one way in one shape, and prints it beside what the embedded shape came to. `None` when the shape's servers are
/// not there.
fn one(plugin: &Path, shape: Shape, way: Way, messages: u64, embedded: Option<f64>) -> Option<Value> {
    let servers = shape.servers()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (seconds, idle, peak, written) = runtime.block_on(async {
        let (host, shutdown, running) =
            start_host(folder.path(), plugin, Isolation::InProcess, |config| servers.configure(config)).await;
        let idle = rss();
        let before = written();
        let began = Instant::now();
        match way {
            Way::Generator => generate(&host, messages).await,
            Way::Http => post(&host, messages).await,
        }
        stored(&host, messages).await;
        let seconds = began.elapsed().as_secs_f64();
        let peak = rss();
        let written = written() - before;
        shutdown.cancel();
        running.await.expect("the host does not panic").expect("the host ends well");
        (seconds, idle, peak, written)
    });
    let rate = messages as f64 / seconds;
    // What servers write is not ours.
    let each = matches!(shape, Shape::Embedded).then(|| written as f64 / messages as f64);
    let name = match way {
        Way::Generator => "generator → boundary → stored",
        Way::Http => "HTTP → echo → stored",
    };
    let ratio = embedded.map_or_else(|| "-".to_owned(), |embedded| format!("{:.2}", rate / embedded));
    let kib = each.map_or_else(|| "-".to_owned(), |each| format!("{:.1}", each / 1_024.0));
    println!(
        "{:<12} {name:<34} {messages:>9} {seconds:>9.2} {rate:>12.0} {ratio:>10} {kib:>12} {peak:>9.0}",
        shape.name()
    );
    Some(json!({
        "messages": messages, "seconds": seconds, "per_second": rate, "written_bytes_per_message": each,
        "rss_mib": {"idle": idle, "after": peak},
    }))
}

async fn generate(host: &Host, messages: u64) {
    instance(host, json!({"generate": {"messages": messages, "chats": CHATS}})).await;
}

/// Into an echo instance that listens.
async fn post(host: &Host, messages: u64) {
    let address = free_address();
    instance(host, json!({"listen": address})).await;
    clients::post(&[address], CHATS, CONNECTIONS, messages).await;
}

/// Waits until every message has its domain event, which is written with it.
async fn stored(host: &Host, messages: u64) {
    let store = &host.store;
    let mut newest = store.feed().newest();
    let wanted = i64::try_from(messages).expect("a sensible number");
    newest.wait_for(|seq| *seq >= wanted).await.expect("the host runs");
    host.inbound.settle().await;
    let count = omni_host::store::stats::messages(store).await.expect("the store works");
    assert_eq!(count, wanted, "every message is stored once");
}
