//! How fast an embedded installation moves into Postgres: rows copied and compared a second.
//!
//! `OMNI_BENCH_DATABASE=postgres://… cargo bench -p omni-host --bench moving [-- MESSAGES]`. The installation is made here:
//! messages of 256 chats with about 1 KiB of the network's own words, through the log and the storage consumer.

#[expect(dead_code, reason = "what the benches share is not used by each of them")]
#[path = "common/measure.rs"]
mod measure;
#[path = "common/payload.rs"]
mod payload;

use anyhow::Context;
use measure::{calibrate, machine, rss};
use omni_host::bus::{Accept, AcceptEvent, Bus, BusOptions};
use omni_host::clock::Clock;
use omni_host::config::Config;
use omni_host::data::DataFolder;
use omni_host::inbound;
use omni_host::moving::{PAGE_ROWS, Request, run};
use omni_host::store::{SqliteOptions, Store, bench_instance, settings};
use payload::payload;
use sqlx::{Connection, Executor, PgConnection};
use std::path::Path;
use tokio_util::sync::CancellationToken;

const BATCH: usize = 256;

/// The program's allocator, so that what is measured is what runs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let messages = std::env::args().filter_map(|argument| argument.parse().ok()).next().unwrap_or(200_000);
    let Some((_, address)) = std::env::vars().find(|(name, _)| name == "OMNI_BENCH_DATABASE") else {
        println!("left out: OMNI_BENCH_DATABASE names no Postgres server");
        return Ok(());
    };
    let (p50, p99) = calibrate();
    println!("{}; 4 KiB are durable after {p50:.2} ms (p99 {p99:.2} ms)", machine());
    let mut server = PgConnection::connect(&address).await.context("the server of OMNI_BENCH_DATABASE")?;
    for statement in [
        "drop database if exists omni_bench with (force)",
        "create database omni_bench encoding 'UTF8' template template0",
    ] {
        server.execute(statement).await?;
    }
    let mut url = reqwest::Url::parse(&address)?;
    url.set_path("/omni_bench");

    let folder = tempfile::tempdir()?;
    let file = folder.path().join("omni.db");
    generate(folder.path(), messages).await?;
    let size = std::fs::metadata(&file)?.len() >> 20;
    let mut config = Config::default();
    config.data.dir = folder.path().to_path_buf();
    let to = url.as_str().parse().map_err(anyhow::Error::msg)?;
    let request = Request { to, dry_run: false, restart: false, page_rows: PAGE_ROWS };
    let report = run(&config, &request, &Clock::system(), &mut |_| {}).await?;
    println!("{messages} messages, {} rows, a file of {size} MiB; {:.0} MiB of memory", report.rows, rss());
    for (what, millis) in [("copied", report.copy_ms), ("compared", report.compare_ms)] {
        let seconds = millis as f64 / 1_000.0;
        println!(
            "{what:>9} in {seconds:>6.1} s: {:>8.0} rows/s, {:>6.1} MiB/s of the file",
            report.rows as f64 / seconds,
            size as f64 / seconds
        );
    }
    Ok(())
}

async fn generate(folder: &Path, messages: usize) -> anyhow::Result<()> {
    let clock = Clock::system();
    let data = DataFolder::open(folder, None)?;
    let store = Store::open_sqlite(&folder.join("omni.db"), SqliteOptions::default()).await?;
    let check = serde_json::Value::String(data.sealer.check_value());
    settings::set(&store, [(&"data.key_check".to_owned(), &check)], clock.now()).await?;
    let instance = bench_instance(&store, clock.now()).await?;
    let bus = Bus::open(store.clone(), clock.clone(), BusOptions::default()).await?;
    let (storage, inbound) = inbound::open(store.clone(), bus.clone(), clock.clone()).await?;
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(storage.run(shutdown.clone()));
    for first in (0..messages).step_by(BATCH) {
        let events = (first..messages.min(first + BATCH)).map(|number| AcceptEvent(payload(number))).collect();
        let accept = Accept {
            instance_id: instance,
            channel: "bench".into(),
            events,
            writes: Vec::new(),
            plugin_id: "bench".into(),
        };
        bus.accept(accept).await?;
    }
    inbound.settle().await;
    shutdown.cancel();
    task.await?;
    bus.close().await;
    store.close().await;
    Ok(())
}
