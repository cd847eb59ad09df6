//! How many events a second become durable and stored, accept to applied, on this machine's disk.
//!
//! `cargo bench -p omni-host --bench store [-- EVENTS]`. One row a shape: how many events one call hands over, and how
//! many calls wait at once. Messages of 256 chats, each with about 1 KiB of the network's own words.

#[path = "common/payload.rs"]
mod payload;

use omni_host::bus::{Accept, AcceptEvent, Bus, BusOptions};
use omni_host::clock::Clock;
use omni_host::inbound;
use omni_host::store::{SqliteOptions, Store, bench_instance};
use payload::payload;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// (events a call, calls that wait at once)
const SHAPES: [(usize, usize); 4] = [(1, 64), (1, 512), (32, 32), (256, 8)];

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let events = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(60_000);
    println!("fsync of 4 KiB: {:?} (median of 200)", fsync()?);
    println!(
        "{:>12} {:>9} {:>12} {:>12} {:>12} {:>12} {:>12}",
        "events/call", "in flight", "durable/s", "stored/s", "accept p50", "accept p99", "cpu/event"
    );
    for (per_call, in_flight) in SHAPES {
        let run = run(events, per_call, in_flight).await?;
        println!(
            "{per_call:>12} {in_flight:>9} {:>12.0} {:>12.0} {:>9.2} ms {:>9.2} ms {:>9.1} µs",
            events as f64 / run.durable.as_secs_f64(),
            events as f64 / run.stored.as_secs_f64(),
            run.p50.as_secs_f64() * 1e3,
            run.p99.as_secs_f64() * 1e3,
            run.cpu.as_secs_f64() * 1e6 / events as f64,
        );
    }
    Ok(())
}

struct Run {
    durable: Duration,
    stored: Duration,
    p50: Duration,
    p99: Duration,
    cpu: Duration,
}

/// Processor time that this process has used; it says more than the clock on a machine that has other work.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<i64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().filter_map(|field| field.parse().ok()).collect())
        .unwrap_or_default();
    // utime and stime, the 14th and 15th; the state, a letter, was dropped. A tick is 10 ms.
    Duration::from_millis(10 * fields.get(10..12).map_or(0, |ticks| ticks.iter().sum::<i64>().unsigned_abs()))
}

async fn run(events: usize, per_call: usize, in_flight: usize) -> anyhow::Result<Run> {
    let dir = tempfile::tempdir()?;
    let clock = Clock::system();
    let store = Store::open_sqlite(&dir.path().join("omni.db"), SqliteOptions::default()).await?;
    let instance = bench_instance(&store, clock.now()).await?;
    let bus = Bus::open(store.clone(), clock.clone(), BusOptions::default()).await?;
    let (storage, inbound) = inbound::open(store.clone(), bus.clone(), clock.clone()).await?;
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(storage.run(shutdown.clone()));

    // Made beforehand: what is measured is the host, not the generator.
    let payloads: Vec<Vec<u8>> = (0..events).map(payload).collect();
    let payloads = Arc::new(payloads);
    let next = Arc::new(AtomicUsize::new(0));
    let used = cpu();
    let start = Instant::now();
    let callers: Vec<_> = (0..in_flight)
        .map(|_| tokio::spawn(caller(bus.clone(), instance, Arc::clone(&payloads), Arc::clone(&next), per_call)))
        .collect();
    let mut waits = Vec::new();
    for caller in callers {
        waits.extend(caller.await??);
    }
    let durable = start.elapsed();
    inbound.settle().await;
    let stored = start.elapsed();
    let cpu = cpu() - used;
    waits.sort_unstable();
    shutdown.cancel();
    task.await?;
    bus.close().await;
    store.close().await;
    Ok(Run { durable, stored, p50: waits[waits.len() / 2], p99: waits[waits.len() * 99 / 100], cpu })
}

async fn caller(
    bus: Bus,
    instance_id: Uuid,
    payloads: Arc<Vec<Vec<u8>>>,
    next: Arc<AtomicUsize>,
    per_call: usize,
) -> anyhow::Result<Vec<Duration>> {
    let mut waits = Vec::new();
    loop {
        let from = next.fetch_add(per_call, Ordering::Relaxed);
        if from >= payloads.len() {
            return Ok(waits);
        }
        let events = payloads[from..payloads.len().min(from + per_call)].iter().cloned().map(AcceptEvent).collect();
        let start = Instant::now();
        let accept =
            Accept { instance_id, channel: "bench".into(), events, writes: Vec::new(), plugin_id: "bench".into() };
        bus.accept(accept).await?;
        waits.push(start.elapsed());
    }
}

/// How long the disk takes to keep 4 KiB.
fn fsync() -> anyhow::Result<Duration> {
    use std::io::{Seek, SeekFrom, Write};
    let mut file = tempfile::tempfile()?;
    let mut times = Vec::new();
    for _ in 0..200 {
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&[1; 4_096])?;
        let start = Instant::now();
        file.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
