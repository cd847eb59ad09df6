//! What a home of a plugin costs: a frame there and back, events a second through echo, what compiling and instantiating
//! take, what an instance weighs, and how long a host with many compiled plugins takes to start.
//!
//! Frames are handed over as a host hands them over, and nothing is stored: this is the boundary and the channel alone.
//! `throughput` has the way to the database.
//!
//! `cargo bench -p omni-host --bench plugins` prints tables and one line of JSON. Echo as a component is taken from
//! `OMNI_BENCH_COMPONENT`, a file; echo in Python and TypeScript (`guests/`) is built with `omni plugins build` when
//! `OMNI_BENCH_GUESTS` is set, for which Python and node are needed.

#[path = "common/measure.rs"]
mod measure;

use measure::{calibrate, echo_plugin, machine, rss};
use omni_channel_sdk::frame::{CallResult, Op, ToChannel, ToHost, decode, encode, encode_events};
use omni_channel_sdk::http::Header;
use omni_channel_sdk::ingress::{IngressEvent, WebhookRequest};
use omni_host::clock::Clock;
use omni_host::config::{Config, Isolation};
use omni_host::data::DataFolder;
use omni_host::plugins::child::{ChildHome, ChildOptions};
use omni_host::plugins::line::{FromChannel, Line, in_process};
use omni_host::plugins::native::Library;
use omni_host::plugins::wasm::{Limits, Ready, Sandbox};
use omni_host::run::{Start, run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const LIMITS: Limits = Limits { memory: 1 << 30, tables: 100_000, frame: Duration::from_secs(30), fuel: 0 };
/// Events that are handed over in one call.
const BATCH: u64 = 16;
/// How long each rate is measured.
const MEASURE: Duration = Duration::from_secs(3);
/// Instances whose memory is measured.
const INSTANCES: [usize; 3] = [1, 100, 1_000];
/// Compiled plugins that a host starts with, and what is wanted of that.
const PLUGINS: usize = 20;
const WANTED_START_MS: f64 = 200.0;
/// What each instance beyond the first may weigh, in KiB.
const WANTED_KIB: f64 = 100.0;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let fsync = calibrate();
    let machine = machine();
    println!("machine        {machine}");
    println!("fsync 4 KiB    p50 {:.3} ms, p99 {:.3} ms", fsync.0, fsync.1);
    let native = echo_plugin();
    let component = told("OMNI_BENCH_COMPONENT").map(PathBuf::from);
    let scratch = tempfile::tempdir().expect("a temporary folder");
    let mut components: Vec<(&str, PathBuf)> = component.iter().map(|file| ("Rust .wasm", file.clone())).collect();
    if told("OMNI_BENCH_GUESTS").is_some() {
        components.push(("JS .wasm", guest(scratch.path(), "js", "src/channel.ts", include_str!("guests/echo.ts"))));
        components.push(("Python .wasm", guest(scratch.path(), "python", "app.py", include_str!("guests/echo.py"))));
    }

    println!("\n{:<16} {:>9} {:>12} {:>12} {:>14}", "component", "MiB", "compile ms", "cached ms", "instantiate µs");
    let mut report = json!({"machine": machine, "fsync_ms": {"p50": fsync.0, "p99": fsync.1}});
    let mut ready = Vec::new();
    for (name, file) in &components {
        let (made, row) = prepare(&runtime, scratch.path(), name, file);
        report["components"][*name] = row;
        ready.push((*name, made));
    }

    println!("\n{:<16} {:>14} {:>14} {:>12} {:>8}", "home", "frame p50 µs", "frame p99 µs", "events/s", "× .so");
    let library = Library::open(&native).expect("echo opens");
    let child = ChildHome::new(ChildOptions {
        program: PathBuf::from(env!("CARGO_BIN_EXE_omni")),
        library: native.clone(),
        name: "echo".into(),
        clock: Clock::system(),
    });
    let mut homes: Vec<(&str, Line)> = vec![("in process .so", in_process(library, "echo").expect("a thread"))];
    homes.push(("child process", runtime.block_on(child.open(0)).expect("a process")));
    for (name, ready) in &ready {
        let _here = runtime.enter();
        homes.push((name, ready.open(LIMITS)));
    }
    let mut beside = None;
    for (name, line) in homes {
        let (p50, p99, rate) = runtime.block_on(rate(line));
        let first = *beside.get_or_insert(rate);
        println!("{name:<16} {p50:>14.1} {p99:>14.1} {rate:>12.0} {:>8.2}", rate / first);
        report["homes"][name] = json!({"frame_us": {"p50": p50, "p99": p99}, "events_per_second": rate});
    }

    if let (Some(file), Some((_, ready))) = (&component, ready.first()) {
        report["memory"] = weigh(&runtime, ready);
        report["start"] = start(&runtime, scratch.path(), file);
    }
    println!("\n{report}");
}

fn told(wanted: &str) -> Option<String> {
    std::env::vars().find(|(name, _)| name == wanted).map(|(_, value)| value)
}

/// Echo in another language, as an author builds it.
fn guest(folder: &Path, language: &str, source: &str, text: &str) -> PathBuf {
    let omni = |arguments: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_omni")).args(arguments).current_dir(folder).output().expect("runs");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    let (project, file) = (format!("echo-{language}"), format!("echo-{language}.wasm"));
    omni(&["plugins", "new", &project, "--lang", language]);
    std::fs::write(folder.join(&project).join(source), text).expect("writes");
    omni(&["plugins", "build", &project, "--out", &file]);
    folder.join(file)
}

fn ms(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1_000.0
}

fn prepare(runtime: &tokio::runtime::Runtime, folder: &Path, name: &str, file: &Path) -> (Ready, Value) {
    let bytes = std::fs::read(file).expect("the component");
    let cache = folder.join(format!("cache of {name}"));
    let began = Instant::now();
    Sandbox::new(cache.clone()).prepare(&bytes).expect("it is compiled");
    let cold = ms(began);
    let began = Instant::now();
    let ready = Sandbox::new(cache).prepare(&bytes).expect("it is found");
    let cached = ms(began);
    // From nothing to the first answer, and the usual one of a hundred.
    let mut times: Vec<f64> = (0..100)
        .map(|_| {
            let began = Instant::now();
            let mut line = {
                let _here = runtime.enter();
                ready.open(LIMITS)
            };
            runtime.block_on(ping(&mut line, 1));
            began.elapsed().as_secs_f64() * 1_000_000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    let mib = bytes.len() as f64 / 1_048_576.0;
    println!("{name:<16} {mib:>9.1} {cold:>12.0} {cached:>12.1} {:>14.0}", times[50]);
    let row = json!({"mib": mib, "compile_ms": cold, "cached_ms": cached, "instantiate_us": times[50]});
    (ready, row)
}

/// The next frame.
async fn next(line: &mut Line) -> Vec<u8> {
    match line.from_channel.recv().await {
        Some(FromChannel::Frame(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

async fn ping(line: &mut Line, nonce: u64) {
    line.to_channel.send(encode(&ToChannel::Ping { nonce }, &[]).into()).expect("it is there");
    let frame = next(line).await;
    assert!(matches!(decode::<ToHost>(&frame), Ok((ToHost::Pong { nonce: answered }, _)) if answered == nonce));
}

/// Serves one call to its end, as a host whose store is empty.
async fn finish(line: &mut Line, call: u64) -> usize {
    use omni_channel_sdk::frame::{HostAnswer, HostRequest};
    loop {
        let frame = next(line).await;
        match decode::<ToHost>(&frame).expect("a frame").0 {
            ToHost::Done { call: done, result: CallResult::Ok(_), commit } if done == call => {
                return commit.events.len();
            }
            ToHost::Call { call, id, request } => {
                let answer = match request {
                    HostRequest::KvGet { .. } => HostAnswer::KvValue { found: false },
                    HostRequest::KvScan { .. } => HostAnswer::KvEntries { keys: Vec::new() },
                    other => panic!("{other:?}"),
                };
                let answer = ToChannel::Answer { call, id, now: 0, answer };
                line.to_channel.send(encode(&answer, &[]).into()).expect("it is there");
            }
            ToHost::State { .. } | ToHost::Log { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn begin(line: &mut Line) {
    let op = Op::start("bench", json!({}));
    line.to_channel.send(encode(&ToChannel::Begin { call: 1, now: 0, op }, &[]).into()).expect("it is there");
    finish(line, 1).await;
}

/// Frames there and back in microseconds (median and 99th percentile), and events a second.
async fn rate(mut line: Line) -> (f64, f64, f64) {
    begin(&mut line).await;
    let mut times = Vec::new();
    let until = Instant::now() + MEASURE / 3;
    while Instant::now() < until {
        let began = Instant::now();
        ping(&mut line, 7).await;
        times.push(began.elapsed().as_secs_f64() * 1_000_000.0);
    }
    times.sort_by(f64::total_cmp);
    let (mut call, mut events) = (1, 0);
    let began = Instant::now();
    while began.elapsed() < MEASURE {
        call += 1;
        let posted = (0..BATCH).map(|number| IngressEvent::Webhook { request: request(call, number) }).collect();
        line.to_channel.send(encode_events(call, 1_767_225_600_000, posted).into()).expect("it is there");
        let emitted = finish(&mut line, call).await;
        assert_eq!(emitted as u64, BATCH);
        events += emitted;
    }
    let rate = events as f64 / began.elapsed().as_secs_f64();
    (times[times.len() / 2], times[times.len() * 99 / 100], rate)
}

fn request(call: u64, number: u64) -> WebhookRequest {
    let text = "the quick brown fox jumps over the lazy dog ".repeat(2);
    let body =
        json!({"chatId": format!("c{number}"), "from": "ann", "externalId": format!("m{call}-{number}"), "text": text});
    WebhookRequest {
        method: "POST".into(),
        path: "/".into(),
        headers: vec![Header { name: "content-type".into(), value: "application/json".into() }],
        body: body.to_string().into_bytes(),
        ..WebhookRequest::default()
    }
}

/// What started instances weigh.
fn weigh(runtime: &tokio::runtime::Runtime, ready: &Ready) -> Value {
    println!("\n{:<16} {:>9} {:>14}", "instances", "RSS MiB", "KiB each");
    let before = rss();
    let mut lines: Vec<Line> = Vec::new();
    let mut rows = Vec::new();
    let mut first = before;
    for count in INSTANCES {
        while lines.len() < count {
            let mut line = {
                let _here = runtime.enter();
                ready.open(LIMITS)
            };
            runtime.block_on(begin(&mut line));
            lines.push(line);
        }
        let now = rss();
        if count == 1 {
            first = now;
        }
        let beyond_first = (now - first) * 1_024.0 / (count - 1).max(1) as f64;
        let each = if count == 1 { (now - before).max(0.0) * 1_024.0 } else { beyond_first };
        println!("{count:<16} {now:>9.1} {each:>14.1}");
        rows.push(json!({"instances": count, "rss_mib": now, "kib_each": each}));
        if count == INSTANCES[INSTANCES.len() - 1] {
            let met = if each < WANTED_KIB { "met" } else { "missed" };
            println!("goal           under {WANTED_KIB:.0} KiB each beyond the first: {met}");
        }
    }
    rows.into()
}

/// How long a host takes that finds so many plugins, before they are compiled and after.
fn start(runtime: &tokio::runtime::Runtime, scratch: &Path, component: &Path) -> Value {
    let folder = scratch.join("many");
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).expect("the plugins folder");
    let bytes = std::fs::read(component).expect("the component");
    let id = br#""id": "echo""#;
    // The manifest, and what the channel knows of it itself.
    let places: Vec<usize> = (0..bytes.len() - id.len()).filter(|at| &bytes[*at..at + id.len()] == id).collect();
    for number in 0..PLUGINS {
        let mut other = bytes.clone();
        for at in &places {
            other[*at..at + id.len()].copy_from_slice(format!("\"id\": \"ec{number:02}\"").as_bytes());
        }
        std::fs::write(plugins.join(format!("echo-{number}.wasm")), other).expect("writes");
    }
    let once = || {
        runtime.block_on(async {
            let mut config = Config::default();
            config.data.dir.clone_from(&folder);
            config.plugins.isolation = Isolation::Auto;
            config.plugins.watch = false;
            let data = DataFolder::open(&folder, config.database_file().as_deref()).expect("the data folder");
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let shutdown = tokio_util::sync::CancellationToken::new();
            let (ready, is_ready) = tokio::sync::oneshot::channel();
            let start = Start {
                config,
                data,
                listener,
                clock: Clock::system(),
                bundled: None,
                program: PathBuf::from(env!("CARGO_BIN_EXE_omni")),
                metrics: None,
                connect: true,
                log: None,
                shutdown: shutdown.clone(),
            };
            let began = Instant::now();
            let running = tokio::spawn(run(start, ready));
            let (_, host) = is_ready.await.expect("the host starts");
            let took = ms(began);
            assert_eq!(host.plugins.channels().len(), PLUGINS, "all are loaded when it is ready");
            shutdown.cancel();
            running.await.expect("it ends").expect("it ends well");
            took
        })
    };
    let (cold, cached) = (once(), once());
    let met = if cached < WANTED_START_MS { "met" } else { "missed" };
    println!(
        "\nstart          {PLUGINS} plugins: {cold:.0} ms when they are new, {cached:.0} ms when they are compiled"
    );
    println!("goal           under {WANTED_START_MS:.0} ms when they are compiled: {met}");
    json!({"plugins": PLUGINS, "cold_ms": cold, "cached_ms": cached})
}
