//! Connections that break after any number of bytes: to NATS, and to the database.

use super::{CHATS, Rig};
use crate::faults::load::{Load, chats};
use crate::faults::verdict::Verdict;
use crate::faults::wire::{To, Wire};
use crate::faults::{rounds, seed};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Breaks connections again and again, and looks what came of it.
async fn breaks(what: &str, prefix: &str, rig: &Rig, wire: &Wire, seed: u64) {
    let host = rig.host().await;
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(30), ..Verdict::default() };
    let load = Load::start(&rig.echo, chats(prefix, CHATS));
    for _ in 0..verdict.rounds {
        load.goes_on(random.random_range(1..60)).await;
        wire.wear();
    }
    load.goes_on(60).await;
    let talking = load.stop().await;
    println!("{what}: {} did", wire.cuts());
    assert!(wire.cuts() > 0, "nothing was cut, so nothing was tested");
    verdict.look(&host, &talking).await;
    verdict.check(what, seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_nats_that_break_anywhere_lose_and_repeat_nothing() {
    let Some((nats, mut rig)) = Rig::start("always") else { return };
    let seed = seed();
    let wire = Wire::start(To::Port(nats.port), seed).await;
    rig.bus = rig.bus.replace(&format!(":{}", nats.port), &format!(":{}", wire.port));
    breaks("connections to NATS break", "n", &rig, &wire, seed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_the_database_that_break_anywhere_lose_and_repeat_nothing() {
    let Some((_nats, mut rig)) = Rig::start("always") else { return };
    let seed = seed();
    let wire = Wire::start(To::Socket(rig.postgres.socket()), seed).await;
    rig.database = format!("postgres://postgres@127.0.0.1:{}/omni", wire.port);
    breaks("connections to Postgres break", "p", &rig, &wire, seed).await;
}
