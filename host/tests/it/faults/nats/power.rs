//! The power of the NATS server is cut: its streams are what had reached its disk. The database, elsewhere, goes on.

use super::{CHATS, Rig};
use crate::faults::load::{Load, chats};
use crate::faults::power::{Disk, copy, make};
use crate::faults::program::Program;
use crate::faults::verdict::Verdict;
use crate::faults::{rounds, seed};
use crate::harness::{PATIENCE, http_client};
use crate::nats_server::Server;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::path::PathBuf;

/// A NATS server whose streams lie on a file system in a file.
struct Powered {
    nats: Server,
    disk: Option<Disk>,
    image: PathBuf,
    folder: tempfile::TempDir,
}

impl Powered {
    fn start(sync: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        let Some(disk) = make(&image).then(|| Disk::mount(&image, &folder.path().join("disk"))).flatten() else {
            println!("left out: a file system in a file cannot be mounted by this user");
            return None;
        };
        let Some(nats) = Server::start_in(&disk.0.join("data"), sync) else {
            println!("left out: NATS is not installed");
            return None;
        };
        Some(Self { nats, disk: Some(disk), image, folder })
    }

    /// Cuts the power. What had not reached the disk is gone.
    fn cut(&mut self, round: usize) {
        self.nats.signal("STOP");
        let left = self.folder.path().join(format!("cut-{round}.img"));
        copy(&self.image, &left);
        self.nats.kill();
        let at = self.disk.take().expect("it has a disk").0.clone();
        std::fs::remove_file(std::mem::replace(&mut self.image, left)).unwrap();
        self.disk = Disk::mount(&self.image, &at);
        assert!(self.disk.is_some(), "what is left is a file system");
    }
}

/// The last message of the log, as the server has it.
async fn last(nats: &Server) -> u64 {
    let stream = nats.jetstream(0).await.get_stream("OMNI_INBOUND").await.unwrap();
    stream.cached_info().state.last_sequence
}

/// How many messages of the log a host has published again.
async fn brought_back(host: &Program) -> u64 {
    let answer = http_client(PATIENCE).get(format!("{}/metrics", host.url)).send().await.unwrap();
    let text = answer.text().await.unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("omni_bus_republished_messages_total "));
    line.map_or(0, |count| count.parse().unwrap())
}

/// What the server acknowledged is on its disk when it flushes first, though nobody else has it: the host dies with it,
/// and nothing of it was stored.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_nats_that_flushes_acknowledged_survives_a_power_cut() {
    let Some(mut powered) = Powered::start("always") else { return };
    let Some(rig) = Rig::on(powered.nats.url(0)) else { return };
    let mut host = rig.host().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(3), ..Verdict::default() };
    let mut talking = chats("f", CHATS);
    for round in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..50), PATIENCE).await;
        rig.postgres.signal_all("STOP");
        load.goes_on(1 + random.random_range(0..50)).await;
        let there = last(&powered.nats).await;
        powered.cut(round);
        host.kill().await;
        talking = load.stop().await;
        powered.nats.go();
        assert!(last(&powered.nats).await >= there, "the disk has what was acknowledged");
        rig.postgres.signal_all("CONT");
        host = rig.host().await;
        verdict.look(&host, &talking).await;
    }
    verdict.check("power cut of a nats-server that flushes", seed);
}

/// One that flushes when it likes loses what it acknowledged, with the whole stream if that is young; the host, which keeps
/// what is not stored, brings it again.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_nats_that_does_not_flush_loses_in_a_power_cut_comes_again_from_the_host() {
    let Some(mut powered) = Powered::start("2m") else { return };
    let Some(mut rig) = Rig::on(powered.nats.url(0)) else { return };
    rig.more = vec![("OMNI_HTTP_METRICS_PUBLIC", "true".into())];
    let host = rig.host().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(3), ..Verdict::default() };
    let mut talking = chats("z", CHATS);
    for round in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..50), PATIENCE).await;
        rig.postgres.signal_all("STOP");
        load.goes_on(1 + random.random_range(0..50)).await;
        powered.cut(round);
        powered.nats.go();
        // Before anything is stored, so that none of it is in the database.
        load.goes_on(1).await;
        rig.postgres.signal_all("CONT");
        load.goes_on(20).await;
        talking = load.stop().await;
        verdict.look(&host, &talking).await;
    }
    verdict.check("power cut of a nats-server that does not flush", seed);
    let came_again = brought_back(&host).await;
    assert!(came_again > 0, "the disk had all that was acknowledged, so nothing was tested");
}
