//! A cluster of NATS servers that keeps three copies, and loses the one that leads the log, again and again.

use super::{CHATS, Rig};
use crate::faults::load::{Load, chats};
use crate::faults::verdict::Verdict;
use crate::faults::{rounds, seed};
use crate::harness::PATIENCE;
use crate::nats_server::Server;
use async_nats::jetstream::{self, stream::ClusterInfo};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use std::time::{Duration, Instant};

/// The server that leads the log, once there is one and every copy is up to date.
async fn leader(jetstream: &jetstream::Context) -> usize {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let found = jetstream.get_stream("OMNI_INBOUND").await.ok();
        let cluster = found.and_then(|stream| stream.cached_info().cluster.clone());
        if let Some(ClusterInfo { leader: Some(leader), replicas, .. }) = &cluster
            && replicas.len() == 2
            && replicas.iter().all(|replica| replica.current && !replica.offline)
        {
            return leader.trim_start_matches('n').parse().unwrap();
        }
        assert!(began.elapsed() < PATIENCE, "the log has a leader and two copies: {cluster:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_loses_the_leader_of_the_log_loses_nothing() {
    let Some(servers) = Server::start_cluster("2m") else {
        println!("left out: NATS is not installed");
        return;
    };
    let urls: Vec<String> = servers.iter().map(|server| server.url(0)).collect();
    let Some(mut rig) = Rig::on(urls.join(",")) else { return };
    rig.more = vec![("OMNI_BUS_REPLICAS", "3".into())];
    let host = rig.host().await;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(4), ..Verdict::default() };
    let load = Load::start(&rig.echo, chats("l", CHATS));
    for _ in 0..verdict.rounds {
        load.goes_on(random.random_range(1..100)).await;
        let leader = leader(&servers[0].jetstream(0).await).await;
        servers[leader].kill();
        // Two of three are enough.
        load.goes_on(20).await;
        servers[leader].go();
    }
    let talking = load.stop().await;
    verdict.look(&host, &talking).await;
    verdict.check("the leader of the log is killed", seed);
}
