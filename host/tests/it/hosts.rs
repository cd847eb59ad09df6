//! Several hosts on one database and one NATS: instances are shared out, go over when one dies, is paused or comes, and any
//! of them answers for all.

mod peers;

use crate::faults::load::{Chat, Load, chats};
use crate::faults::points::ACTIONS;
use crate::faults::program::{Launch, Program};
use crate::faults::verdict::Verdict;
use crate::faults::{rounds, seed};
use crate::harness::{PATIENCE, built, free_address, install, plugin_file};
use crate::{nats_server, postgres_server};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

const INSTANCES: usize = 4;
const CHATS: usize = 3;

/// Servers, and hosts that use them.
struct Cluster {
    hosts: Vec<Option<Program>>,
    folders: Vec<PathBuf>,
    listen: Vec<String>,
    /// The folder of files that a host is told of.
    media: Vec<PathBuf>,
    nats: nats_server::Server,
    postgres: postgres_server::Server,
    root: tempfile::TempDir,
}

impl Cluster {
    fn new() -> Option<Self> {
        let servers = nats_server::Server::start("always").zip(postgres_server::Server::start(&["fsync = off"]));
        let Some((nats, postgres)) = servers else {
            println!("left out: NATS or Postgres is not installed");
            return None;
        };
        postgres.create("omni", None);
        let root = tempfile::tempdir().unwrap();
        let (hosts, folders, listen, media) = Default::default();
        Some(Self { hosts, folders, listen, media, nats, postgres, root })
    }

    /// Adds a host, with the key and the folder of files of the first.
    async fn add(&mut self) -> usize {
        let media = self.root.path().join("media");
        let at = self.prepare(media);
        self.start(at).await;
        at
    }

    /// The same, with a folder of files of its own; it does not run yet.
    fn prepare(&mut self, media: PathBuf) -> usize {
        let at = self.hosts.len();
        let folder = self.root.path().join(format!("host-{at}"));
        for plugin in ["echo", "faulty"] {
            install(&folder, &plugin_file(plugin));
        }
        if let Some(first) = self.folders.first() {
            for file in ["omni.key", "cli.key"] {
                std::fs::copy(first.join(file), folder.join(file)).unwrap();
            }
        }
        self.folders.push(folder);
        self.listen.push(free_address());
        self.media.push(media);
        self.hosts.push(None);
        at
    }

    async fn start(&mut self, at: usize) {
        assert!(self.start_failing(at, None).await, "the host ended before it answered\n{}", self.logs());
    }

    /// Starts a host that fails at some places: `false` when that was before it answered.
    async fn start_failing(&mut self, at: usize, points: Option<String>) -> bool {
        let (database, bus) = (Some(self.postgres.url("omni")), Some(self.nats.url(0)));
        let log = Some(self.root.path().join(format!("host-{at}.log")));
        let more = vec![("OMNI_DATA_MEDIA_DIR", self.media[at].to_string_lossy().into_owned())];
        let launch = Launch { database, bus, log, more, ..Launch::new(&self.folders[at], &self.listen[at]) };
        self.hosts[at] = Launch { fail_at: points, ..launch }.try_start().await;
        self.hosts[at].is_some()
    }

    /// Waits until the hosts are seen by one of them to have so many instances, and starts that one again whenever it ends.
    /// Says how often it did.
    async fn mind_until_shared(&mut self, at: usize, expected: &[usize]) -> usize {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let mut ends = 0;
        loop {
            tick.tick().await;
            if self.hosts[at].as_mut().unwrap().process.try_wait().unwrap().is_some() {
                ends += 1;
                self.start(at).await;
            }
            let answer = self.host(at).get("/hosts").await.unwrap_or_default();
            if shares(answer["data"].as_array().map_or(&[], Vec::as_slice)) == expected {
                return ends;
            }
            assert!(began.elapsed() < PATIENCE, "the instances were not shared out: {answer}\n{}", self.logs());
        }
    }

    fn logs(&self) -> String {
        let log = |at| std::fs::read_to_string(self.root.path().join(format!("host-{at}.log"))).unwrap();
        (0..self.hosts.len()).map(log).collect::<Vec<_>>().join("\n\n")
    }

    /// What a host says that does not start.
    async fn refusal(&self, at: usize) -> String {
        let mut serve = tokio::process::Command::new(built().join("omni"));
        serve.args(["serve", "--listen", &self.listen[at], "--data"]).arg(&self.folders[at]).env_clear();
        serve.env("PATH", "/usr/bin:/bin").env("OMNI_DATA_MEDIA_DIR", &self.media[at]).kill_on_drop(true);
        serve.env("OMNI_DATABASE_URL", self.postgres.url("omni")).env("OMNI_BUS_URL", self.nats.url(0));
        let done = tokio::time::timeout(PATIENCE, serve.output()).await.expect("it ends").unwrap();
        assert!(!done.status.success());
        String::from_utf8_lossy(&done.stderr).into_owned()
    }

    /// Stops a host; it lets go of what it has at once.
    async fn stop(&mut self, at: usize) {
        self.signal(at, "TERM");
        let status = self.hosts[at].take().unwrap().process.wait().await.unwrap();
        assert_eq!(status.code(), Some(0), "it stops well");
    }

    fn host(&self, at: usize) -> &Program {
        self.hosts[at].as_ref().unwrap()
    }

    async fn kill(&mut self, at: usize) {
        self.hosts[at].take().unwrap().kill().await;
    }

    fn signal(&self, at: usize, signal: &str) {
        let pid = self.host(at).process.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    /// The same with two hosts that share instances of a channel, made by the first: their ids and addresses.
    async fn shared(channel: &str, count: usize) -> Option<(Self, Vec<(String, String)>)> {
        let mut cluster = Self::new()?;
        cluster.add().await;
        let instances = cluster.instances(channel, count).await;
        cluster.add().await;
        cluster.until_shared(0, &[count / 2; 2]).await;
        // That a host has it is not yet that it runs there, nor that both know.
        for (at, (id, _)) in [0, 1].into_iter().flat_map(|at| instances.iter().map(move |instance| (at, instance))) {
            let began = Instant::now();
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            while cluster.host(at).get(&format!("/instances/{id}/status")).await.unwrap()["data"]["state"]
                != "connected"
            {
                tick.tick().await;
                assert!(began.elapsed() < PATIENCE, "{id} is never connected\n{}", cluster.logs());
            }
        }
        Some((cluster, instances))
    }

    /// Instances, made by the first host: their ids and addresses.
    async fn instances(&self, channel: &str, count: usize) -> Vec<(String, String)> {
        let mut made = Vec::new();
        for number in 0..count {
            let address = free_address();
            let new = json!({"name": format!("demo-{number}"), "channel": channel, "config": {"listen": address}});
            let (status, answer) = self.host(0).post("/instances", &new, None).await.unwrap();
            assert_eq!(status, 201, "{answer}");
            made.push((answer["data"]["id"].as_str().unwrap().to_owned(), address));
        }
        made
    }

    /// Waits until the hosts are seen to have so many instances, in any order; says how long that took.
    async fn until_shared(&self, ask: usize, expected: &[usize]) -> Duration {
        self.until(ask, |hosts| shares(hosts) == expected).await
    }

    async fn until(&self, ask: usize, seen: impl Fn(&[Value]) -> bool) -> Duration {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            let answer = self.host(ask).get("/hosts").await.unwrap_or_default();
            if seen(answer["data"].as_array().map_or(&[], Vec::as_slice)) {
                return began.elapsed();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "the hosts never became what was waited for: {answer}\n{}",
                self.logs()
            );
        }
    }
}

/// How many instances each host has, the fewest first.
fn shares(hosts: &[Value]) -> Vec<usize> {
    let mut found: Vec<usize> = hosts.iter().map(|host| host["instances"].as_array().map_or(0, Vec::len)).collect();
    found.sort_unstable();
    found
}

/// Load on every instance.
fn talk(instances: &[(String, String)], mut talking: Vec<Vec<Chat>>) -> Vec<Load> {
    if talking.is_empty() {
        talking = (0..instances.len()).map(|at| chats(&format!("i{at}"), CHATS)).collect();
    }
    instances.iter().zip(talking).map(|((_, address), chats)| Load::start(address, chats)).collect()
}

async fn go_on(loads: &[Load], more: usize) {
    for load in loads {
        load.goes_on(more).await;
    }
}

async fn judge(host: &Program, loads: Vec<Load>, verdict: &mut Verdict) {
    let mut talked = Vec::new();
    for load in loads {
        talked.push(load.stop().await);
    }
    for talking in talked {
        verdict.look(host, &talking).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_comes_gets_its_share_and_one_that_stops_gives_it_back() {
    let Some(mut cluster) = Cluster::new() else { return };
    cluster.add().await;
    let instances = cluster.instances("echo", INSTANCES).await;
    let loads = talk(&instances, Vec::new());
    go_on(&loads, 10).await;
    cluster.add().await;
    let shared = cluster.until_shared(0, &[2, 2]).await;
    go_on(&loads, 10).await;
    cluster.stop(0).await;
    let back = cluster.until_shared(1, &[4]).await;
    go_on(&loads, 10).await;
    println!("shared out within {shared:?}, taken back within {back:?}");
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    judge(cluster.host(1), loads, &mut verdict).await;
    verdict.check("a host comes and another goes", 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_is_taken_over() {
    let Some((mut cluster, instances)) = Cluster::shared("echo", INSTANCES).await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(2), ..Verdict::default() };
    let loads = talk(&instances, Vec::new());
    let mut longest = Duration::ZERO;
    for _ in 0..verdict.rounds {
        go_on(&loads, random.random_range(1..50)).await;
        let dies = *[0, 1].choose(&mut random).unwrap();
        cluster.kill(dies).await;
        let died = Instant::now();
        cluster.until_shared(1 - dies, &[4]).await;
        longest = longest.max(died.elapsed());
        go_on(&loads, 10).await;
        cluster.start(dies).await;
        cluster.until_shared(dies, &[2, 2]).await;
    }
    println!("the longest takeover took {longest:?}");
    judge(cluster.host(0), loads, &mut verdict).await;
    verdict.check("a host is killed", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_was_paused_finds_itself_fenced_and_ends() {
    let Some((mut cluster, instances)) = Cluster::shared("echo", INSTANCES).await else { return };
    let loads = talk(&instances, Vec::new());
    go_on(&loads, 10).await;
    // The one that stores: in the middle of whatever it does.
    cluster.signal(0, "STOP");
    cluster.until(1, |hosts| hosts.len() == 1 && hosts[0]["works"] == true).await;
    // What the paused process has is not let go of while it sleeps: its listening sockets.
    cluster.signal(0, "CONT");
    let mut process = cluster.hosts[0].take().unwrap().process;
    let ended = tokio::time::timeout(PATIENCE, process.wait()).await.expect("it ends by itself").unwrap();
    assert!(!ended.success(), "it says that it did not end well");
    cluster.until_shared(1, &[4]).await;
    go_on(&loads, 10).await;
    cluster.start(0).await;
    cluster.until_shared(0, &[2, 2]).await;
    go_on(&loads, 10).await;
    let mut verdict = Verdict { rounds: 1, ..Verdict::default() };
    judge(cluster.host(0), loads, &mut verdict).await;
    verdict.check("a host is paused", 0);
}

/// Where something goes from one host to another.
const STEPS: [&str; 5] =
    ["hosts.take.before", "hosts.take.after", "hosts.begin", "hosts.give.before", "hosts.give.after"];
#[tokio::test(flavor = "multi_thread")]
async fn whatever_fails_while_instances_go_over_each_is_somebodys_in_the_end() {
    let Some((mut cluster, instances)) = Cluster::shared("echo", INSTANCES).await else { return };
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict { rounds: rounds(2), ..Verdict::default() };
    let loads = talk(&instances, Vec::new());
    let mut ends = 0;
    for _ in 0..verdict.rounds {
        let (step, action) = (STEPS.choose(&mut random).unwrap(), ACTIONS.choose(&mut random).unwrap());
        let points = format!("{step}={}*off->1*{action}", random.random_range(0..3));
        println!("{points}");
        // It comes, takes over when the other one dies, and gives away when that one comes back.
        cluster.kill(1).await;
        if !cluster.start_failing(1, Some(points)).await {
            ends += 1;
            cluster.start(1).await;
        }
        ends += cluster.mind_until_shared(1, &[2, 2]).await;
        go_on(&loads, random.random_range(1..20)).await;
        cluster.kill(0).await;
        ends += cluster.mind_until_shared(1, &[4]).await;
        cluster.start(0).await;
        ends += cluster.mind_until_shared(1, &[2, 2]).await;
        go_on(&loads, 10).await;
    }
    println!("{ends} hosts ended by what failed");
    judge(cluster.host(0), loads, &mut verdict).await;
    verdict.check("something fails while instances go over", seed);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_host_answers_for_all() {
    let Some((cluster, instances)) = Cluster::shared("echo", INSTANCES).await else { return };
    for (id, address) in &instances {
        for at in [0, 1] {
            let host = cluster.host(at);
            let state = host.get(&format!("/instances/{id}/status")).await.unwrap();
            assert_eq!(state["data"]["state"], "connected", "{state}");
            // A message goes out through whichever host has the instance, and its outcome comes back here.
            let body = json!({"instanceId": id, "to": "room", "text": format!("from {at}")});
            let (status, sent) = host.post("/messages/send", &body, None).await.unwrap();
            assert_eq!(status, 201, "{sent}");
            // What is not a message is asked of the host that has it.
            let typing = json!({"instanceId": id, "to": "room", "type": "typing"});
            let (status, answer) = host.post("/messages/send/presence", &typing, None).await.unwrap();
            assert!(status < 300, "{status} {answer}");
        }
        let sent: Value = reqwest::get(format!("http://{address}/sent")).await.unwrap().json().await.unwrap();
        let texts = sent.to_string();
        assert!(texts.contains("from 0") && texts.contains("from 1"), "{texts}");
    }
    // What is done once is asked of the host that does it.
    for at in [0, 1] {
        let hook = json!({"name": format!("hook-{at}"), "url": "http://127.0.0.1:9/", "events": ["message.received"]});
        let (status, made) = cluster.host(at).post("/webhooks", &hook, None).await.unwrap();
        assert_eq!(status, 201, "{made}");
    }
    // An instance that is ended and connected by way of either.
    let (id, _) = &instances[0];
    for at in [0, 1] {
        let (status, answer) =
            cluster.host(at).post(&format!("/instances/{id}/disconnect"), &json!({}), None).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        let (status, answer) =
            cluster.host(1 - at).post(&format!("/instances/{id}/connect"), &json!({}), None).await.unwrap();
        assert_eq!(status, 200, "{answer}");
    }
    let listed = Command::new(built().join("omni"))
        .args(["--url", &cluster.host(0).url, "--data"])
        .arg(&cluster.folders[0])
        .arg("hosts")
        .output()
        .unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.matches("alive").count(), 2, "{listed}");
}
