//! The NATS server is killed, stopped, emptied and robbed of its stream under load; so are the host and the database with
//! it, and the clock jumps.
//!
//! Each test has a server of its own and a Postgres of its own, and is left out where they are not installed.

mod cluster;
mod cut;
mod power;

use super::load::{Load, chats};
use super::program::{Launch, Program};
use super::verdict::Verdict;
use super::{rounds, seed};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use crate::{nats_server, postgres_server};
use async_nats::jetstream::Context;
use async_nats::jetstream::stream::Stream;
use futures_util::StreamExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rustix::process::{Pid, Signal, kill_process};
use std::time::{Duration, Instant};

const CHATS: usize = 8;

/// A database, and what a host on it is told.
struct Rig {
    postgres: postgres_server::Server,
    database: String,
    bus: String,
    more: Vec<(&'static str, String)>,
    /// Places at which the host is to fail.
    fail_at: Option<String>,
    listen: String,
    echo: String,
    folder: tempfile::TempDir,
}

impl Rig {
    /// With a NATS server of its own.
    fn start(sync: &str) -> Option<(nats_server::Server, Self)> {
        let Some(nats) = nats_server::Server::start(sync) else {
            println!("left out: NATS is not installed");
            return None;
        };
        let rig = Self::on(nats.url(0))?;
        Some((nats, rig))
    }

    /// With this bus.
    fn on(bus: String) -> Option<Self> {
        let Some(postgres) = postgres_server::Server::start(&["fsync = off"]) else {
            println!("left out: Postgres is not installed");
            return None;
        };
        postgres.create("omni", None);
        let folder = tempfile::tempdir().unwrap();
        install(&folder.path().join("data"), &plugin_file("echo"));
        let (listen, echo, database) = (free_address(), free_address(), postgres.url("omni"));
        Some(Self { postgres, database, bus, more: Vec::new(), fail_at: None, listen, echo, folder })
    }

    /// A host on it, with an echo instance.
    async fn host(&self) -> Program {
        let data = self.folder.path().join("data");
        let launch = Launch {
            database: Some(self.database.clone()),
            bus: Some(self.bus.clone()),
            more: self.more.clone(),
            fail_at: self.fail_at.clone(),
            ..Launch::new(&data, &self.listen)
        };
        let host = launch.start().await;
        host.echo(&self.echo).await;
        host
    }
}

/// Sends a host a signal.
fn signal(host: &Program, signal: Signal) {
    let pid = host.process.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).expect("it runs");
    kill_process(pid, signal).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_is_killed_loses_nothing_and_is_found_again() {
    let Some((nats, rig)) = Rig::start("always") else { return };
    let host = rig.host().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(6), ..Verdict::default() };
    let mut talking = chats("k", CHATS);
    let mut soonest = PATIENCE;
    for _ in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..200), PATIENCE).await;
        nats.kill();
        nats.go();
        let there = Instant::now();
        load.goes_on(20).await;
        soonest = soonest.min(there.elapsed());
        talking = load.stop().await;
    }
    // Which would cost as long as an acknowledgement is waited for.
    assert!(soonest < Duration::from_secs(5), "it goes on when the server is there again: {soonest:?}");
    verdict.look(&host, &talking).await;
    verdict.check("nats-server is killed", seed);
}

/// As after a power cut on a server that flushes when it likes: what it acknowledged and nobody has stored comes again from
/// the host that accepted it.
#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_comes_back_empty_gets_what_was_not_stored_again() {
    let Some((nats, rig)) = Rig::start("2m") else { return };
    let host = rig.host().await;
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
        nats.kill();
        nats.forget_everything();
        nats.go();
        rig.postgres.signal_all("CONT");
        load.goes_on(20).await;
        talking = load.stop().await;
    }
    verdict.look(&host, &talking).await;
    verdict.check("nats-server comes back empty", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_or_a_consumer_that_somebody_deletes_comes_again() {
    let Some((nats, rig)) = Rig::start("always") else { return };
    let host = rig.host().await;
    let jetstream = nats.jetstream(0).await;
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
    verdict.look(&host, &talking).await;
    verdict.check("streams and consumers are deleted", seed);
}

/// Waits for a stream that has messages, and for one of which nothing is published.
async fn both_streams(jetstream: &Context) -> (Stream, Stream) {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        match (jetstream.get_stream("MESSAGE").await, jetstream.get_stream("ACCESS").await) {
            (Ok(message), Ok(access)) => return (message, access),
            (message, access) => assert!(began.elapsed() < PATIENCE, "they are made: {message:?} {access:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_half_made_when_nats_was_killed_is_made_anew() {
    let Some((nats, rig)) = Rig::start("always") else { return };
    let host = rig.host().await;
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("m", CHATS));
    load.goes_on(20).await;
    // They are made beside the log, and ACCESS is among the last.
    let (message, _) = both_streams(&nats.jetstream(0).await).await;
    let told = message.cached_info().config.clone();
    nats.kill();
    nats.leave_half_made(0, "MESSAGE");
    nats.leave_half_made(0, "ACCESS");
    nats.go();
    let jetstream = nats.jetstream(0).await;
    load.goes_on(20).await;
    let talking = load.stop().await;
    verdict.look(&host, &talking).await;
    let (message, _) = both_streams(&jetstream).await;
    assert_eq!(message.cached_info().config, told);
    verdict.check("nats-server is killed while it makes a stream", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_nats_that_stands_still_is_waited_for() {
    let Some((nats, rig)) = Rig::start("always") else { return };
    let host = rig.host().await;
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("w", CHATS));
    load.until(50, PATIENCE).await;
    nats.signal("STOP");
    // What was on its way out of the server may still arrive: one of each chat.
    let stalled = load.until(0, PATIENCE).await;
    let still = load.until(stalled + CHATS + 1, Duration::from_secs(1)).await;
    assert!(still <= stalled + CHATS, "nothing is acknowledged that the server has not taken");
    nats.signal("CONT");
    load.goes_on(50).await;
    let talking = load.stop().await;
    verdict.look(&host, &talking).await;
    verdict.check("nats-server stands still", 0);
}

/// Who there is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Host,
    Nats,
    Postgres,
}

const ALL: [Who; 3] = [Who::Host, Who::Nats, Who::Postgres];

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_and_however_many_at_once_nothing_is_lost() {
    let Some((nats, rig)) = Rig::start("always") else { return };
    let mut host = rig.host().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(6), ..Verdict::default() };
    let mut talking = chats("a", CHATS);
    for _ in 0..verdict.rounds {
        let load = Load::start(&rig.echo, talking);
        load.until(1 + random.random_range(0..100), PATIENCE).await;
        let mut all = ALL;
        all.shuffle(&mut random);
        let killed = &all[..random.random_range(1..=all.len())];
        for who in killed {
            match who {
                Who::Host => host.kill().await,
                Who::Nats => nats.kill(),
                Who::Postgres => rig.postgres.signal("KILL"),
            }
            // Who is left goes on for a moment, as well as it can.
            load.until(usize::MAX, Duration::from_millis(random.random_range(0..100))).await;
        }
        for who in killed {
            match who {
                Who::Host => {}
                Who::Nats => nats.go(),
                Who::Postgres => rig.postgres.go(),
            }
        }
        // It does not start without them.
        if killed.contains(&Who::Host) {
            host = rig.host().await;
        }
        load.goes_on(20).await;
        talking = load.stop().await;
    }
    verdict.look(&host, &talking).await;
    verdict.check("host, nats-server and Postgres are killed", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stands_still_is_waited_for() {
    // Longer than a question to JetStream may take.
    const LONG: Duration = Duration::from_millis(5_500);
    let Some((nats, rig)) = Rig::start("always") else { return };
    let host = rig.host().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(7), ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("h", CHATS));
    for round in 0..verdict.rounds {
        load.goes_on(random.random_range(1..100)).await;
        // Each of them once for long, then anybody for a while.
        let first = ALL.get(round).copied();
        let who = first.unwrap_or_else(|| *ALL.choose(&mut random).expect("there are some"));
        let tell = |what: &str| match who {
            Who::Host => signal(&host, if what == "STOP" { Signal::STOP } else { Signal::CONT }),
            Who::Nats => nats.signal(what),
            Who::Postgres => rig.postgres.signal_all(what),
        };
        let still = first.map_or_else(|| Duration::from_millis(random.random_range(0..1_500)), |_| LONG);
        tell("STOP");
        load.until(usize::MAX, still).await;
        tell("CONT");
        load.goes_on(20).await;
    }
    let talking = load.stop().await;
    verdict.look(&host, &talking).await;
    verdict.check("host, nats-server and Postgres stand still", seed);
}

/// What a clock of the machine does when somebody sets it. The places of the log, and not its times, say what is first.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_loses_repeats_and_reorders_nothing() {
    const HOUR: i64 = 3_600_000;
    let Some((_nats, mut rig)) = Rig::start("always") else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(12), ..Verdict::default() };
    // So often the clock is looked at until it jumps, and so often until it jumps back.
    let jumps: Vec<String> = (0..verdict.rounds)
        .map(|_| {
            let by = random.random_range(-48 * HOUR..48 * HOUR);
            let (until, back) = (random.random_range(1..1_500), random.random_range(1..1_500));
            format!("{until}*off->{back}*return({by})")
        })
        .collect();
    rig.fail_at = Some(format!("clock.now={}", jumps.join("->")));
    let host = rig.host().await;
    let load = Load::start(&rig.echo, chats("j", CHATS));
    // Steps of ten minutes and more between what follows each other.
    let seen = || {
        let steps = "select count(*) from (select processed_at - lag(processed_at) over (order by seq) step from omni_events) steps
            where abs(extract(epoch from step)) > 600";
        rig.postgres.ask("omni", steps).parse::<usize>().unwrap()
    };
    // As often as it is looked at: how long that takes is the machine's.
    let (mut began, mut before) = (Instant::now(), 0);
    while before < verdict.rounds {
        load.goes_on(20).await;
        let now = seen();
        if now > before {
            (began, before) = (Instant::now(), now);
        }
        assert!(began.elapsed() < PATIENCE, "the clock jumps, and messages come in: {now}");
    }
    let talking = load.stop().await;
    for chat in &talking {
        let known = chat.acknowledged.len();
        let stored = || {
            let ask = format!("select text_content from omni_events where chat_id = '{}' order by seq", chat.id);
            let texts = rig.postgres.ask("omni", &ask);
            texts.lines().map(|text| text.parse().unwrap()).collect::<Vec<usize>>()
        };
        // What is durable may not be stored yet; it is soon, or it is lost.
        let began = Instant::now();
        while stored().len() < known && began.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        verdict.compare(chat, &stored());
    }
    drop(host);
    verdict.check("the clock jumps", seed);
}
