//! How many messages a second one host and two hosts carry on this machine, over HTTP into echo instances, through NATS (which
//! flushes before it acknowledges) into Postgres. Each host is the real program; it ends when the last message is stored.
//!
//! Here hosts, servers and clients have the same cores, which one host fills already. So there is a second measurement, in
//! which each host may use a part of a core only, as if it were a small machine beside large servers: what is left then
//! bounds neither. It needs the right to make a control group (`/sys/fs/cgroup/cpu`), and is left out without.
//!
//! `cargo bench -p omni-host --bench hosts` prints a table and one line of JSON. `OMNI_BENCH_MESSAGES` sets how many
//! messages, `OMNI_BENCH_PART` which part of a core each host has in the second measurement, in percent.

#[path = "common/clients.rs"]
mod clients;
#[path = "common/measure.rs"]
#[expect(dead_code, reason = "other benchmarks use more of it")]
mod measure;
#[path = "../tests/it/nats_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod nats_server;
#[path = "../tests/it/postgres_server.rs"]
#[expect(dead_code, reason = "the tests use more of it")]
mod postgres_server;
#[path = "common/served.rs"]
#[expect(dead_code, reason = "other benchmarks use more of it")]
mod served;

use clients::free_address;
use measure::{calibrate, echo_plugin, machine};
use omni_host::store::{PostgresOptions, Store, events, stats};
use serde_json::{Value, json};
use served::{Served, install};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CHATS: u64 = 256;
const CONNECTIONS: u64 = 256;
/// Instances, shared out among the hosts.
const INSTANCES: usize = 4;
/// How long hosts may take to share them out.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let told = |wanted: &str| {
        std::env::vars().find(|(name, _)| name == wanted).and_then(|(_, value)| value.parse::<u64>().ok())
    };
    let messages = told("OMNI_BENCH_MESSAGES").unwrap_or(60_000);
    let part = told("OMNI_BENCH_PART").unwrap_or(25);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (machine, fsync) = (machine(), calibrate());
    println!("machine        {machine}");
    println!("fsync 4 KiB    p50 {:.3} ms, p99 {:.3} ms ({:.0}/s)", fsync.0, fsync.1, 1_000.0 / fsync.0);
    println!();
    println!(
        "{:<28} {:>6} {:>9} {:>9} {:>12} {:>10}",
        "each host has", "hosts", "messages", "seconds", "messages/s", "× one host"
    );
    let mut results = Vec::new();
    for limit in [None, Some(part)] {
        let has = limit.map_or_else(|| "what it wants".to_owned(), |part| format!("{part} % of a core"));
        let mut alone = None;
        for hosts in [1, 2] {
            // A part of a core carries less.
            let messages = if limit.is_some() { messages / 3 } else { messages };
            let Some(seconds) = runtime.block_on(one(hosts, limit, messages)) else {
                println!(
                    "{has:<28} {hosts:>6} left out: its servers are not installed, or no control group can be made"
                );
                continue;
            };
            let rate = messages as f64 / seconds;
            let ratio = rate / *alone.get_or_insert(rate);
            println!("{has:<28} {hosts:>6} {messages:>9} {seconds:>9.2} {rate:>12.0} {ratio:>10.2}");
            results.push(json!({"part_of_a_core": limit, "hosts": hosts, "per_second": rate, "ratio": ratio}));
        }
    }
    let report = json!({"machine": machine, "fsync_ms": {"p50": fsync.0, "p99": fsync.1}, "results": results});
    println!("\n{report}");
}

/// Measures so many hosts; how many seconds it took.
async fn one(hosts: usize, limit: Option<u64>, messages: u64) -> Option<f64> {
    let nats = nats_server::Server::start("always")?;
    let postgres = postgres_server::Server::start(&[])?;
    postgres.create("omni", None);
    let root = tempfile::tempdir().expect("a temporary folder");
    let (database, bus) = (postgres.url("omni"), nats.url(0));
    let media = root.path().join("media");
    let media = media.to_str().expect("a name in UTF-8");
    let settings = [("OMNI_DATABASE_URL", &*database), ("OMNI_BUS_URL", &*bus), ("OMNI_DATA_MEDIA_DIR", media)];
    let mut running = Vec::new();
    let mut groups = Vec::new();
    for number in 0..hosts {
        let folder = root.path().join(format!("host-{number}"));
        install(&folder, &echo_plugin());
        if number > 0 {
            for file in ["omni.key", "cli.key"] {
                std::fs::copy(root.path().join("host-0").join(file), folder.join(file)).expect("the key");
            }
        }
        running.push(Served::start_with(&folder, &settings).await);
    }
    let addresses = instances(&running[0]).await;
    until_shared(&running[0], hosts).await;
    for host in &running {
        if let Some(part) = limit {
            groups.push(Group::new(&host.pid, part)?);
        }
    }
    let options = PostgresOptions::default();
    let store = Store::open_postgres(&database, options).await.expect("the database");
    let began = Instant::now();
    clients::post(&addresses, CHATS, CONNECTIONS, messages).await;
    stored(&store, messages).await;
    let seconds = began.elapsed().as_secs_f64();
    store.close().await;
    drop(groups);
    for host in running {
        host.stop().await;
    }
    Some(seconds)
}

async fn instances(host: &Served) -> Vec<String> {
    let addresses: Vec<String> = (0..INSTANCES).map(|_| free_address()).collect();
    for (number, listen) in addresses.iter().enumerate() {
        let new = json!({"name": format!("bench-{number}"), "channel": "echo", "config": {"listen": listen}});
        let made = host.post("/instances", &new).await;
        assert!(made["data"]["id"].is_string(), "{made}");
    }
    addresses
}

async fn until_shared(host: &Served, hosts: usize) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    loop {
        tick.tick().await;
        let seen = host.get("/hosts").await;
        let share = |host: &Value| host["instances"].as_array().map_or(0, Vec::len) == INSTANCES / hosts;
        if seen["data"].as_array().is_some_and(|seen| seen.len() == hosts && seen.iter().all(share)) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "the instances were not shared out: {seen}");
    }
}

/// Waits until every message is stored, once.
async fn stored(store: &Store, messages: u64) {
    let wanted = i64::try_from(messages).expect("a sensible number");
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let (mut seen, mut since) = (0, Instant::now());
    loop {
        tick.tick().await;
        let mut tx = store.read().await.expect("the database answers");
        // Each has a domain event; there are a few others, so only the last look counts messages.
        let newest = events::newest(&mut tx).await.expect("the database answers");
        drop(tx);
        if newest >= wanted && stats::messages(store).await.expect("the database answers") == wanted {
            return;
        }
        if newest > seen {
            (seen, since) = (newest, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "of {wanted} messages not all are stored, or some twice");
    }
}

/// A control group of one process, which goes when this is dropped.
struct Group(PathBuf);

impl Group {
    /// Lets a process use a part of a core; `None` when this machine does not let us.
    fn new(pid: &str, percent: u64) -> Option<Self> {
        const PERIOD: u64 = 20_000;
        let folder = Path::new("/sys/fs/cgroup/cpu").join(format!("omni-bench-{pid}"));
        std::fs::create_dir(&folder).ok()?;
        let group = Self(folder);
        std::fs::write(group.0.join("cpu.cfs_period_us"), PERIOD.to_string()).ok()?;
        std::fs::write(group.0.join("cpu.cfs_quota_us"), (PERIOD * percent / 100).to_string()).ok()?;
        std::fs::write(group.0.join("cgroup.procs"), pid).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Whoever is in it goes back to where it came from, and an empty one can be taken away.
        let parent = self.0.parent().map(|parent| parent.join("cgroup.procs"));
        for pid in std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = parent.as_ref().map(|parent| std::fs::write(parent, pid));
        }
        let _ = std::fs::remove_dir(&self.0);
    }
}
