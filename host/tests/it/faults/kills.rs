//! `kill -9` at random moments.

use super::load::{Load, chats};
use super::program::Launch;
use super::verdict::Verdict;
use super::{rounds, seed};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::Duration;

const CHATS: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(8), ..Verdict::default() };
    let mut talking = chats("k", CHATS);
    for round in 0..verdict.rounds {
        let mut host = Launch::new(&data, &listen).start().await;
        if round == 0 {
            host.echo(&echo).await;
        }
        let load = Load::start(&echo, talking);
        load.until(1 + random.random_range(0..40), PATIENCE).await;
        // Anywhere in what the host does just then: between two commits, in one, in an answer.
        let _ = tokio::time::timeout(Duration::from_micros(random.random_range(0..60_000)), host.process.wait()).await;
        host.kill().await;
        talking = load.stop().await;
        // Whatever was under way may be stored or not, and is not asked for again: its number is left out.
    }
    let host = Launch::new(&data, &listen).start().await;
    verdict.look(&host, &talking).await;
    verdict.check("kill -9", seed);
}
