//! The NATS server is killed, stopped, emptied and robbed of its stream under load.
//!
//! Each test has a server of its own and a Postgres of its own, and is left out where they are not installed.

use super::load::{Load, chats};
use super::program::{Launch, Program};
use super::verdict::Verdict;
use super::{rounds, seed};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use crate::{nats_server, postgres_server};
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const CHATS: usize = 8;

/// A host on servers.
struct Rig {
    host: Program,
    echo: String,
    nats: nats_server::Server,
    postgres: postgres_server::Server,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start(sync: &str) -> Option<Self> {
        let servers = nats_server::Server::start(sync).zip(postgres_server::Server::start(&["fsync = off"]));
        let Some((nats, postgres)) = servers else {
            println!("left out: NATS or Postgres is not installed");
            return None;
        };
        postgres.create("omni", None);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("echo"));
        let (listen, echo) = (free_address(), free_address());
        let (database, bus) = (Some(postgres.url("omni")), Some(nats.url(0)));
        let host = Launch { database, bus, ..Launch::new(&data, &listen) }.start().await;
        host.echo(&echo).await;
        Some(Self { host, echo, nats, postgres, _folder: folder })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_killed_loses_nothing_and_is_found_again() {
    let Some(rig) = Rig::start("always").await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(6), ..Verdict::default() };
    let mut talking = chats("k", CHATS);
    for _ in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..200), PATIENCE).await;
        rig.nats.kill();
        rig.nats.go();
        load.goes_on(20).await;
        talking = load.stop().await;
    }
    verdict.look(&rig.host, &talking).await;
    verdict.check("nats-server is killed", seed);
}

/// As after a power cut on a server that flushes when it likes: what it acknowledged and nobody has stored comes again from
/// the host that accepted it.
#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_comes_back_empty_gets_what_was_not_stored_again() {
    let Some(rig) = Rig::start("2m").await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(6), ..Verdict::default() };
    let mut talking = chats("e", CHATS);
    for _ in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..100), PATIENCE).await;
        // Nothing is stored while the database stands still: all of it is in NATS and in the host.
        rig.postgres.signal_all("STOP");
        let before = load.until(0, PATIENCE).await;
        load.until(before + random.random_range(0..50), Duration::from_millis(300)).await;
        rig.nats.kill();
        rig.nats.forget_everything();
        rig.nats.go();
        rig.postgres.signal_all("CONT");
        load.goes_on(20).await;
        talking = load.stop().await;
    }
    verdict.look(&rig.host, &talking).await;
    verdict.check("nats-server comes back empty", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_or_a_consumer_that_somebody_deletes_comes_again() {
    let Some(rig) = Rig::start("always").await else { return };
    let jetstream = rig.nats.jetstream(0).await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(6), ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("d", CHATS));
    for round in 0..verdict.rounds {
        let before = load.until(0, PATIENCE).await;
        load.until(before + random.random_range(1..100), PATIENCE).await;
        if round % 2 == 0 {
            jetstream.delete_stream("OMNI_INBOUND").await.unwrap();
        } else {
            let stream = jetstream.get_stream("OMNI_INBOUND").await.unwrap();
            let mut consumers = stream.consumer_names();
            while let Some(name) = consumers.next().await {
                stream.delete_consumer(&name.unwrap()).await.unwrap();
            }
        }
        load.goes_on(20).await;
    }
    let talking = load.stop().await;
    verdict.look(&rig.host, &talking).await;
    verdict.check("streams and consumers are deleted", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_stands_still_is_waited_for() {
    let Some(rig) = Rig::start("always").await else { return };
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("w", CHATS));
    load.until(50, PATIENCE).await;
    rig.nats.signal("STOP");
    // What was on its way out of the server may still arrive.
    let stalled = load.until(usize::MAX, Duration::from_millis(500)).await;
    let still = load.until(stalled + 1, Duration::from_millis(500)).await;
    assert_eq!(still, stalled, "nothing is acknowledged that the server has not taken");
    rig.nats.signal("CONT");
    load.goes_on(50).await;
    let talking = load.stop().await;
    verdict.look(&rig.host, &talking).await;
    verdict.check("nats-server stands still", 0);
}
