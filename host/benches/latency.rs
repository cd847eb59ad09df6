//! How long things take, and how much memory, on this machine: from accepted to durable and to stored in each shape in
//! which an installation runs; and in the embedded one a call over the boundary in both homes, a send until it is settled,
//! lists over a large store, a start over it.
//!
//! `cargo bench -p omni-host --bench latency [-- SHAPE…]` prints a table and one line of JSON. The shapes are those of
//! `common/shapes.rs`, all of them without an argument. `OMNI_BENCH_STORED` sets how many messages the large store has
//! (1,000,000 without it).

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
#[path = "common/served.rs"]
mod served;
#[path = "common/shapes.rs"]
mod shapes;

use embedded::{instance, start_host};
use measure::{calibrate, echo_plugin, machine, plugin, rss, rss_of};
use omni_channel_sdk::chat::{Chat, ChatKind, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, Message};
use omni_channel_sdk::request::{Request, Resolve};
use omni_host::Host;
use omni_host::bus::{Accept, AcceptError, AcceptEvent};
use omni_host::config::{Config, Isolation};
use serde_json::{Map, Value, json};
use served::Served;
use shapes::Shape;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use uuid::Uuid;

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CHATS: u64 = 256;
const CALLS: usize = 20_000;
/// How many messages a second are accepted, and for how long.
const RATES: [u64; 2] = [1_000, 6_000];
const SECONDS: u64 = 10;
/// What is wanted at the lower of them, from accepted to stored.
const WANTED_MS: f64 = 50.0;

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
    let shapes = Shape::chosen();
    let report = runtime.block_on(async {
        let mut loads = Map::new();
        let mut beside = None;
        for shape in &shapes {
            let mut rows = Map::new();
            for rate in RATES {
                match under_load(&echo, *shape, rate).await {
                    Some(row) => drop(rows.insert(format!("{rate}_per_s"), row)),
                    None => println!("left out: the servers of {} are not installed", shape.name()),
                }
            }
            let p99 = |rows: &Map<String, Value>| rows.get("1000_per_s")?["stored"]["p99_ms"].as_f64();
            match (shape, p99(&rows)) {
                (Shape::Embedded, p99) => beside = p99,
                (_, Some(p99)) => {
                    let ratio = beside.map_or_else(String::new, |beside| format!(", × {:.2} embedded", p99 / beside));
                    let met = if p99 < WANTED_MS { "met" } else { "missed" };
                    println!("goal: p99 below {WANTED_MS:.0} ms at 1,000/s with {}: {met}{ratio}", shape.name());
                }
                _ => {}
            }
            loads.insert(shape.name().to_owned(), rows.into());
        }
        let rest = if shapes.iter().any(|shape| matches!(shape, Shape::Embedded)) {
            embedded_only(&echo, &telegram, stored).await
        } else {
            Value::Null
        };
        json!({"load": loads, "embedded": rest, "bench_rss_mib": rss()})
    });
    println!("\n{}", json!({"machine": machine(), "fsync_ms": {"p50": fsync.0, "p99": fsync.1}, "results": report}));
}

/// What is the same in every shape, or about the file.
async fn embedded_only(echo: &Path, telegram: &Path, stored: u64) -> Value {
    let within = call(echo, Isolation::InProcess, "a call over the boundary, in process").await;
    let child = call(echo, Isolation::Process, "a call over the boundary, child process").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (flood, empty) = fill(folder.path(), echo, telegram, stored).await;
    let served = Served::start(folder.path()).await;
    let ready_ms = served.ready.as_secs_f64() * 1_000.0;
    println!("{:<52} {ready_ms:>9.1}", format!("start to ready, {stored} messages stored"));
    let send = sends(&served).await;
    let lists = lists(&served).await;
    let memory = json!({"idle_mib": empty, "flood_mib": flood, "after_lists_mib": idle_rss(&served.pid).await});
    println!("\nmemory: {memory}");
    json!({
        "in_process": within, "child": child, "send": send, "lists": lists, "start_ms": ready_ms, "memory": memory,
        "stored": stored,
    })
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
    let (host, shutdown, running) = start_host(folder.path(), plugin, isolation, |_| {}).await;
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

/// From accepted to durable and to stored, so many messages a second, each in a call of its own. `None` when the shape's
/// servers are not there.
async fn under_load(plugin: &Path, shape: Shape, rate: u64) -> Option<Value> {
    let servers = shape.servers()?;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let configure = |config: &mut Config| servers.configure(config);
    let (host, shutdown, running) = start_host(folder.path(), plugin, Isolation::InProcess, configure).await;
    let instance_id = instance(&host, json!({})).await;
    let (mut durable, mut stored) = (Vec::new(), Vec::new());
    let mut asked = JoinSet::new();
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    let began = Instant::now();
    let mut sent = 0;
    while sent < rate * SECONDS {
        let instant = tick.tick().await.into_std();
        // As many as are due by now: the machine may have had something else to do.
        let due = rate * u64::try_from(instant.duration_since(began).as_millis()).unwrap_or(0) / 1_000;
        while sent < due.min(rate * SECONDS) {
            asked.spawn(accept(host.clone(), instance_id, sent));
            sent += 1;
        }
    }
    while let Some(times) = asked.join_next().await {
        let (to_durable, to_stored) = times.expect("it is stored");
        durable.push(to_durable);
        stored.push(to_stored);
    }
    let seconds = began.elapsed().as_secs_f64();
    shutdown.cancel();
    running.await.expect("the host does not panic").expect("the host ends well");
    let name = |what: &str| format!("{}: from accepted to {what}, {rate}/s", shape.name());
    Some(json!({
        "durable": row(&name("durable"), durable, seconds), "stored": row(&name("stored"), stored, seconds),
    }))
}

/// Has one message accepted: how long it took until it was durable, and until it was stored.
async fn accept(host: Host, instance_id: Uuid, number: u64) -> (Duration, Duration) {
    let chat = format!("c{}", number % CHATS);
    let text = "the quick brown fox jumps over the lazy dog ".repeat(2);
    let message = Message::new(number.to_string(), User::new(chat.as_str()), Content::text(&text));
    let event = Event::new(Chat::new(chat, ChatKind::Direct), host.clock.now().millis(), message);
    let event = event.delivered_as(number.to_string());
    let (newest, mut applied) = (host.bus.newest(), host.inbound.applied());
    let begun = Instant::now();
    // As a network does: the same again, until it is taken.
    loop {
        let accepted = host.bus.accept(Accept {
            instance_id,
            channel: "echo".into(),
            events: vec![AcceptEvent::from(&event)],
            writes: Vec::new(),
            plugin_id: "echo".into(),
        });
        match accepted.await {
            Ok(_) => break,
            Err(AcceptError::Full) => {}
            Err(error) => panic!("it is not accepted: {error}"),
        }
    }
    let durable = begun.elapsed();
    // It lies here, or before.
    let place = *newest.borrow();
    applied.wait_for(|applied| *applied >= place).await.expect("the host runs");
    (durable, begun.elapsed())
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
