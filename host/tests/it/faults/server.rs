//! The database server is killed, stopped and cut off under load.
//!
//! Each test has a server of its own that writes as it does for people, and is left out where Postgres is not installed.

use super::load::{Load, chats};
use super::program::{Launch, Program};
use super::verdict::Verdict;
use super::{rounds, seed};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use crate::postgres_server::Server;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

const CHATS: usize = 8;

/// A host on a server.
struct Rig {
    host: Program,
    echo: String,
    server: Server,
    _folder: tempfile::TempDir,
}

impl Rig {
    async fn start() -> Option<Self> {
        let Some(server) = Server::start(&[]) else {
            println!("left out: Postgres is not installed");
            return None;
        };
        server.create("omni", None);
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("echo"));
        let (listen, echo) = (free_address(), free_address());
        let host = Launch { database: Some(server.url("omni")), ..Launch::new(&data, &listen) }.start().await;
        host.echo(&echo).await;
        Some(Self { host, echo, server, _folder: folder })
    }

    /// Asks the API until it answers so; gives back when it may be asked again.
    async fn until_answered(&self, wanted: u16) -> Option<u64> {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let answered = self.host.ask("/settings").await;
            if let Some((_, again)) = answered.filter(|(status, _)| *status == wanted) {
                return again;
            }
            assert!(began.elapsed() < PATIENCE, "the API never answered {wanted}; last: {answered:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_nothing_and_is_found_again() {
    let Some(rig) = Rig::start().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(4), ..Verdict::default() };
    let mut talking = chats("s", CHATS);
    for round in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..200), PATIENCE).await;
        rig.server.signal("KILL");
        if round == 0 {
            let again = rig.until_answered(503).await;
            assert!(again.is_some_and(|seconds| seconds > 0), "it says when to come again");
        }
        rig.server.go();
        load.goes_on(20).await;
        talking = load.stop().await;
    }
    rig.until_answered(200).await;
    verdict.look(&rig.host, &talking).await;
    verdict.check("the server is killed", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_in_the_middle_lose_and_repeat_nothing() {
    let Some(rig) = Rig::start().await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(40), ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("c", CHATS));
    let mut cut = 0;
    for _ in 0..verdict.rounds {
        let before = load.until(0, PATIENCE).await;
        load.until(before + random.random_range(1..10), PATIENCE).await;
        // Whatever is under way: between two statements, in one, in a commit. In every tenth round the hold as well.
        let whose =
            if random.random_range(0..10) == 0 { "true" } else { "application_name = 'omni' and state <> 'idle'" };
        let ended = rig.server.ask(
            "postgres",
            &format!(
                "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = 'omni' and {whose}"
            ),
        );
        cut += ended.parse::<usize>().unwrap();
    }
    load.goes_on(20).await;
    let talking = load.stop().await;
    assert!(cut > 0, "nothing was cut, so nothing was tested");
    verdict.look(&rig.host, &talking).await;
    verdict.check("connections are cut", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_is_waited_for() {
    let Some(rig) = Rig::start().await else { return };
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("w", CHATS));
    load.until(50, PATIENCE).await;
    rig.server.signal_all("STOP");
    // What was on its way out of the server may still arrive: one of each chat.
    let stalled = load.until(0, PATIENCE).await;
    let still = load.until(stalled + CHATS + 1, Duration::from_secs(1)).await;
    assert!(still <= stalled + CHATS, "nothing is acknowledged that the server has not taken");
    rig.server.signal_all("CONT");
    assert!(load.until(still + 50, PATIENCE).await >= still + 50, "it goes on by itself");
    let talking = load.stop().await;
    verdict.look(&rig.host, &talking).await;
    verdict.check("the server stands still", 0);
}
