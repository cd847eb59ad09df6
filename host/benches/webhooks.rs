//! How many events a second are delivered to other programs: from a plugin through the store to N webhooks, each of which
//! wants all of them, with a receiver on the same cores that says yes at once.
//!
//! `cargo bench -p omni-host --bench webhooks` prints a table and one line of JSON. `OMNI_BENCH_MESSAGES` sets how many
//! messages there are for one webhook; with more webhooks there are fewer, so that each row takes about as long.

#[path = "common/embedded.rs"]
mod embedded;
#[path = "common/measure.rs"]
mod measure;

use axum::Router;
use axum::http::StatusCode;
use embedded::{instance, start_host};
use measure::{calibrate, echo_plugin, machine, rss};
use omni_host::config::Isolation;
use omni_host::webhooks::NewWebhook;
use serde_json::{Value, json};
use std::path::Path;
use std::time::Instant;
use tokio::sync::watch;

const CHATS: u64 = 256;
const WEBHOOKS: [u64; 3] = [1, 4, 16];

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let messages: u64 = std::env::vars()
        .find(|(name, _)| name == "OMNI_BENCH_MESSAGES")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(20_000);
    let plugin = echo_plugin();
    let fsync = calibrate();
    let machine = machine();
    println!("machine        {machine}");
    println!("fsync 4 KiB    p50 {:.3} ms, p99 {:.3} ms ({:.0}/s)", fsync.0, fsync.1, 1_000.0 / fsync.0);
    println!();
    println!("{:>9} {:>11} {:>9} {:>13} {:>9}", "webhooks", "deliveries", "seconds", "deliveries/s", "RSS MiB");
    let rows: Vec<Value> = WEBHOOKS.iter().map(|count| one(&plugin, messages.div_ceil(*count), *count)).collect();
    println!("\n{}", json!({"machine": machine, "fsync_ms": {"p50": fsync.0, "p99": fsync.1}, "webhooks": rows}));
}

fn one(plugin: &Path, messages: u64, webhooks: u64) -> Value {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let deliveries = messages * webhooks;
    let (seconds, peak) = runtime.block_on(async {
        let (host, shutdown, running) = start_host(folder.path(), plugin, Isolation::InProcess, |_| {}).await;
        let (url, mut taken) = receiver().await;
        for number in 0..webhooks {
            let new = NewWebhook {
                name: format!("bench {number}"),
                url: url.clone(),
                event_types: vec!["message.received".into()],
                enabled: true,
                by_operator: true,
                ..NewWebhook::default()
            };
            host.webhooks.create(new).await.expect("a webhook");
        }
        let began = Instant::now();
        instance(&host, json!({"generate": {"messages": messages, "chats": CHATS}})).await;
        taken.wait_for(|taken| *taken >= deliveries).await.expect("the receiver lives");
        let seconds = began.elapsed().as_secs_f64();
        let peak = rss();
        shutdown.cancel();
        running.await.expect("the host does not panic").expect("the host ends well");
        (seconds, peak)
    });
    let rate = deliveries as f64 / seconds;
    println!("{webhooks:>9} {deliveries:>11} {seconds:>9.2} {rate:>13.0} {peak:>9.0}");
    json!({"webhooks": webhooks, "deliveries": deliveries, "seconds": seconds, "per_second": rate, "rss_mib": peak})
}

/// A program that takes everything: its address, and how much it has taken.
async fn receiver() -> (String, watch::Receiver<u64>) {
    let (count, taken) = watch::channel(0_u64);
    let app = Router::new().fallback(move |body: axum::body::Bytes| {
        let count = count.clone();
        async move {
            drop(body);
            count.send_modify(|taken| *taken += 1);
            StatusCode::NO_CONTENT
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}/hook", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, taken)
}
