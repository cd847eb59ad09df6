//! How many messages a second one host carries, from a plugin to the database, on this machine.
//!
//! Two ways in: events through the boundary from a generator in process, and HTTP into an echo instance with the client
//! on the same cores. Both end when the last message is stored. Numbers of two machines can only be compared beside
//! their fsync calibration, which is printed with them; it is taken on the same disk in the same minute.
//!
//! `cargo bench -p omni-host` prints a table and one line of JSON. `OMNI_BENCH_MESSAGES` sets how many, `OMNI_BENCH_ONLY`
//! (`boundary` or `http`) leaves the other way out. `OMNI_BENCH_DATABASE=postgres://…` measures the same on a server: its
//! user makes a database `omni_bench` there, in the place of the one that the last run left.

#[path = "common/embedded.rs"]
mod embedded;
#[path = "common/measure.rs"]
mod measure;

use embedded::{instance, start_host};
use measure::{calibrate, echo_plugin, machine, rss, synced};
use omni_host::Host;
use omni_host::config::Isolation;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const CHATS: u64 = 256;
const CONNECTIONS: u64 = 256;

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
        "{:<34} {:>9} {:>9} {:>12} {:>12} {:>9}",
        "path", "messages", "seconds", "messages/s", "KiB/message", "RSS MiB"
    );
    let boundary = (only != "http").then(|| one(&plugin, "generator → boundary → stored", messages, Way::Generator));
    let http = (only != "boundary").then(|| one(&plugin, "HTTP → echo → stored", messages / 2, Way::Http));
    let report = json!({
        "machine": machine, "fsync_ms": {"p50": fsync.0, "p99": fsync.1},
        "fsync_4_mib_ms": {"p50": large.0, "p99": large.1}, "chats": CHATS, "connections": CONNECTIONS,
        "boundary": boundary, "http": http,
    });
    println!("\n{report}");
}

/// What this process has had written to disks, in bytes.
fn written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0)
}

enum Way {
    Generator,
    Http,
}

fn one(plugin: &Path, name: &str, messages: u64, way: Way) -> Value {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (seconds, idle, peak, written) = runtime.block_on(async {
        let (host, shutdown, running) = start_host(folder.path(), plugin, Isolation::InProcess).await;
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
    let each = written as f64 / messages as f64;
    println!("{name:<34} {messages:>9} {seconds:>9.2} {rate:>12.0} {:>12.1} {peak:>9.0}", each / 1_024.0);
    json!({
        "messages": messages, "seconds": seconds, "per_second": rate, "written_bytes_per_message": each,
        "rss_mib": {"idle": idle, "after": peak},
    })
}

async fn generate(host: &Host, messages: u64) {
    instance(host, json!({"generate": {"messages": messages, "chats": CHATS}})).await;
}

/// Keep-alive connections, each with one request under way, round-robin over the chats.
async fn post(host: &Host, messages: u64) {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("an address").to_string()
    };
    instance(host, json!({"listen": address})).await;
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CONNECTIONS {
        let address = address.clone();
        clients.spawn(async move {
            let mut stream = TcpStream::connect(&address).await.expect("echo listens");
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let mut answer = vec![0; 4_096];
            for number in (client..messages).step_by(CONNECTIONS as usize) {
                let body = format!(
                    "{{\"chatId\":\"c{}\",\"from\":\"u{}\",\"externalId\":\"m{number}\",\"text\":\"{}\"}}",
                    number % CHATS, number % CHATS, "the quick brown fox jumps over the lazy dog ".repeat(2),
                );
                let request = format!(
                    "POST / HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len(),
                );
                stream.write_all(request.as_bytes()).await.expect("a request goes out");
                let mut got = 0;
                while !complete(&answer[..got]) {
                    let read = stream.read(&mut answer[got..]).await.expect("an answer comes in");
                    assert!(read > 0, "echo closed the connection");
                    got += read;
                }
                assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..got]));
            }
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("a client ends well");
    }
}

/// Whether a whole answer is there: its head, and as many bytes as that announces.
fn complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
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
