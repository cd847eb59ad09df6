//! How long things take, and how much memory, on this machine: a call over the boundary in both homes, from durable to
//! stored at half load, a send until it is settled, lists over a large store, a start over it.
//!
//! `cargo bench -p omni-host --bench latency` prints a table and one line of JSON. `OMNI_BENCH_STORED` sets how many
//! messages the large store has (1,000,000 without it).

#[path = "common/embedded.rs"]
mod embedded;
#[path = "common/measure.rs"]
mod measure;
#[path = "common/served.rs"]
mod served;

use embedded::{instance, start_host};
use measure::{calibrate, echo_plugin, machine, plugin, rss, rss_of};
use omni_channel_sdk::request::{Request, Resolve};
use omni_host::config::Isolation;
use serde_json::{Value, json};
use served::Served;
use std::path::Path;
use std::time::{Duration, Instant};

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHATS: u64 = 256;
const CALLS: usize = 20_000;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let stored: u64 = std::env::vars()
        .find(|(name, _)| name == "OMNI_BENCH_STORED")
        .and_then(|(_, value)| value.parse().ok())
        .unwrap_or(1_000_000);
    let echo = echo_plugin();
    let telegram = plugin("telegram");
    let fsync = calibrate();
    println!("machine        {}", machine());
    println!("fsync 4 KiB    p50 {:.3} ms, p99 {:.3} ms", fsync.0, fsync.1);
    println!();
    println!("{:<52} {:>9} {:>9} {:>9}", "what", "p50 ms", "p99 ms", "per s");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let report = runtime.block_on(async {
        let within = call(&echo, Isolation::InProcess, "a call over the boundary, in process").await;
        let child = call(&echo, Isolation::Process, "a call over the boundary, child process").await;
        let half = at_half_load(&echo).await;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (flood, empty) = fill(folder.path(), &echo, &telegram, stored).await;
        let served = Served::start(folder.path()).await;
        let ready_ms = served.ready.as_secs_f64() * 1_000.0;
        println!("{:<52} {ready_ms:>9.1}", format!("start to ready, {stored} messages stored"));
        let send = sends(&served).await;
        let lists = lists(&served).await;
        let memory = json!({"idle_mib": empty, "flood_mib": flood, "after_lists_mib": idle_rss(&served.pid).await});
        json!({
            "in_process": within, "child": child, "half_load": half, "send": send, "lists": lists,
            "start_ms": ready_ms, "memory": memory, "stored": stored, "bench_rss_mib": rss(),
        })
    });
    println!("\nmemory: {}", report["memory"]);
    println!("\n{}", json!({"machine": machine(), "fsync_ms": {"p50": fsync.0, "p99": fsync.1}, "results": report}));
}

/// Prints a row, and gives it back.
fn row(name: &str, mut times: Vec<Duration>, seconds: f64) -> Value {
    times.sort_unstable();
    let ms = |of: usize| times[(times.len() * of / 1_000).min(times.len() - 1)].as_secs_f64() * 1_000.0;
    let rate = times.len() as f64 / seconds;
    println!("{name:<52} {:>9.3} {:>9.3} {rate:>9.0}", ms(500), ms(990));
    json!({"p50_ms": ms(500), "p99_ms": ms(990), "per_second": rate, "count": times.len()})
}

/// One request after the other that the channel answers at once.
async fn call(plugin: &Path, isolation: Isolation, name: &str) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (host, shutdown, running) = start_host(folder.path(), plugin, isolation).await;
    instance(&host, json!({})).await;
    let session = loop {
        if let Some((_, session)) = host.instances.sessions().pop() {
            break session;
        }
        tokio::task::yield_now().await;
    };
    let ask = || Request::Resolve(Resolve { address: "somebody".into() });
    let within = Duration::from_secs(5);
    for _ in 0..1_000 {
        // Whether it can is not the point; that it answers is.
        let _ = session.request(ask(), within).await;
    }
    let began = Instant::now();
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let begun = Instant::now();
        let _ = session.request(ask(), within).await;
        times.push(begun.elapsed());
    }
    let seconds = began.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await.expect("the host does not panic").expect("the host ends well");
    row(name, times, seconds)
}

/// From durable to stored, at about half of what the host takes.
async fn at_half_load(plugin: &Path) -> Value {
    const RATE: u64 = 6_000;
    const MESSAGES: u64 = RATE * 10;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (host, shutdown, running) = start_host(folder.path(), plugin, Isolation::InProcess).await;
    let mut durable = host.bus.newest();
    let mut applied = host.inbound.applied();
    instance(&host, json!({"generate": {"messages": MESSAGES, "chats": CHATS, "perSecond": RATE}})).await;
    let began = Instant::now();
    let (mut waiting, mut times) = (std::collections::VecDeque::new(), Vec::new());
    let (mut newest, mut stored) = (0, 0);
    while stored < i64::try_from(MESSAGES).expect("a sensible number") {
        tokio::select! {
            biased;
            changed = durable.changed() => {
                changed.expect("the host runs");
                let now = *durable.borrow_and_update();
                waiting.push_back((now, now - newest, Instant::now()));
                newest = now;
            }
            changed = applied.changed() => {
                changed.expect("the host runs");
                stored = *applied.borrow_and_update();
                while let Some((_, count, since)) = waiting.pop_front_if(|(seq, ..)| *seq <= stored) {
                    times.extend(std::iter::repeat_n(since.elapsed(), usize::try_from(count).unwrap_or(0)));
                }
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await.expect("the host does not panic").expect("the host ends well");
    row("from durable to stored, 6,000/s", times, seconds)
}

/// The memory of a process that has nothing to do: what the start needed is given back by then.
async fn idle_rss(pid: &str) -> f64 {
    let mut tick = tokio::time::interval(Duration::from_secs(15));
    tick.tick().await;
    tick.tick().await;
    rss_of(pid)
}

/// Fills a store with a flood. Gives back the memory in the flood, and that of the program before, with Telegram loaded.
async fn fill(folder: &Path, echo: &Path, telegram: &Path, stored: u64) -> (f64, f64) {
    for plugin in [echo, telegram] {
        served::install(folder, plugin);
    }
    let served = Served::start(folder).await;
    let empty = idle_rss(&served.pid).await;
    let made =
        json!({"name": "flood", "channel": "echo", "config": {"generate": {"messages": stored, "chats": CHATS}}});
    served.post("/instances", &made).await;
    let began = Instant::now();
    let mut most: f64 = 0.0;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tick.tick().await;
        most = most.max(rss_of(&served.pid));
        let chats = served.get("/chats?limit=100").await;
        let mut sum = served::counted(&chats);
        if sum * 2 >= i64::try_from(stored).unwrap_or(i64::MAX) / 2 {
            let mut cursor = chats["meta"]["cursor"].as_str().map(str::to_owned);
            while let Some(next) = cursor {
                let page = served.get(&format!("/chats?limit=100&cursor={next}")).await;
                sum += served::counted(&page);
                cursor = page["meta"]["cursor"].as_str().map(str::to_owned);
            }
        }
        if sum >= i64::try_from(stored).unwrap_or(i64::MAX) {
            break;
        }
    }
    let rate = stored as f64 / began.elapsed().as_secs_f64();
    println!("{:<52} {:>9} {:>9} {rate:>9.0}", format!("a flood of {stored} messages"), "", "");
    served.stop().await;
    (most, empty)
}

/// One send after the other, each answered when the echo has it and the outcome is written.
async fn sends(served: &Served) -> Value {
    let made = json!({"name": "sends", "channel": "echo", "config": {}});
    let made = served.post("/instances", &made).await;
    let id = made["data"]["id"].as_str().expect("an id").to_owned();
    let began = Instant::now();
    let mut times = Vec::new();
    for number in 0..500 {
        let body = json!({"instanceId": id, "to": format!("s{}", number % 16), "text": "hello"});
        let begun = Instant::now();
        let sent = served.post("/messages/send", &body).await;
        assert_eq!(sent["data"]["status"], "sent", "{sent}");
        times.push(begun.elapsed());
    }
    row("POST send → plugin → settled → answer", times, began.elapsed().as_secs_f64())
}

/// Pages of 20, by 8 clients and by 64: the first page, and one far down.
async fn lists(served: &Served) -> Value {
    let chats = served.get("/chats?limit=100").await;
    let ids: Vec<String> = chats["items"]
        .as_array()
        .expect("chats")
        .iter()
        .filter(|chat| chat["messageCount"].as_i64().unwrap_or(0) > 0)
        .filter_map(|chat| chat["id"].as_str().map(str::to_owned))
        .collect();
    let mut deep = Vec::new();
    for id in ids.iter().take(16) {
        let mut path = format!("/messages?chatId={id}&limit=100");
        let first = path.clone();
        for _ in 0..15 {
            let page = served.get(&path).await;
            match page["meta"]["cursor"].as_str() {
                Some(cursor) => path = format!("{first}&cursor={cursor}"),
                None => break,
            }
        }
        deep.push(path.replace("limit=100", "limit=20"));
    }
    let first: Vec<String> = ids.iter().map(|id| format!("/messages?chatId={id}&limit=20")).collect();
    let pages = served.get("/chats?limit=20").await;
    let second = pages["meta"]["cursor"].as_str().map(|cursor| format!("/chats?limit=20&cursor={cursor}"));
    let chats: Vec<String> = std::iter::once("/chats?limit=20".to_owned()).chain(second).collect();
    let mut found = Vec::new();
    for clients in [8, 64] {
        for (what, paths) in [("messages, first page", &first), ("messages, far down", &deep), ("chats", &chats)] {
            let (times, seconds) = served.hammer(clients, paths, Duration::from_secs(4)).await;
            let name = format!("GET {what}, {clients} clients");
            found.push(json!({"what": name, "result": row(&name, times, seconds)}));
        }
    }
    Value::Array(found)
}
