//! Every commit boundary on the way of a message, each with a panic, an error and an abort.

use super::load::{Load, chats};
use super::program::{Launch, Program};
use super::verdict::Verdict;
use super::{rounds, seed};
use crate::harness::{PATIENCE, free_address, http_client, install, plugin_file};
use crate::receiver::Receiver;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Where the way in commits.
const INBOUND: [&str; 4] = ["bus.commit.before", "bus.commit.after", "storage.commit.before", "storage.commit.after"];
/// Where the way out commits.
const OUTBOUND: [&str; 6] = [
    "outbox.enqueue.before",
    "outbox.enqueue.after",
    "outbox.claim.before",
    "outbox.claim.after",
    "outbox.settle.before",
    "outbox.settle.after",
];
/// Where what happened is queued for a webhook, and where it is written how an attempt went.
const WEBHOOK: [&str; 4] =
    ["webhook.enqueue.before", "webhook.enqueue.after", "webhook.settle.before", "webhook.settle.after"];
/// Where everything commits.
const ANYWHERE: [&str; 2] = ["store.commit.before", "store.commit.after"];
/// A panic, a database that is away once, and a process that is gone.
pub const ACTIONS: [&str; 3] = ["panic", "return(away)", "return(abort)"];

/// The third time that the point is reached.
fn third(point: &str, action: &str) -> String {
    format!("{point}=2*off->1*{action}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_in_survives_a_failure_at_every_commit() {
    let seed = seed();
    let mut verdict = Verdict::default();
    for point in INBOUND {
        for action in ACTIONS {
            let folder = tempfile::tempdir().unwrap();
            let data = folder.path().join("data");
            install(&data, &plugin_file("echo"));
            let (listen, echo) = (free_address(), free_address());
            let mut host = Launch::new(&data, &listen).failing_at(third(point, action)).start().await;
            host.echo(&echo).await;
            let load = Load::start(&echo, chats("p", 4));
            let wanted = 40;
            // Either it goes on after a failure, or it says that it cannot and ends; until then messages come in.
            let patience = load.until(if action == "return(away)" { wanted } else { usize::MAX }, PATIENCE);
            let ended = tokio::select! {
                _ = patience => false,
                ended = host.process.wait() => {
                    assert!(!ended.unwrap().success(), "{point} {action}: an end of that kind is no success");
                    true
                }
            };
            assert!(ended || action == "return(away)", "{point} {action}: the host goes on without a part of it");
            if ended {
                host = Launch::new(&data, &listen).start().await;
            }
            assert!(load.until(wanted, PATIENCE).await >= wanted, "{point} {action}: messages come in again");
            let chats = load.stop().await;
            verdict.look(&host, &chats).await;
            verdict.rounds += 1;
            host.kill().await;
        }
    }
    verdict.check("commit boundaries, inbound", seed);
}

/// Sends a number until the API takes it, with one key, as a careful client does.
async fn send(host: &mut Program, launch: (&std::path::Path, &str), instance: &str, number: usize) -> Value {
    let body = json!({"instanceId": instance, "to": "c1", "text": number.to_string()});
    let key = format!("send-{number}");
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        match host.post("/messages/send", &body, Some(&key)).await {
            Some((200..=299, answer)) => return answer,
            other => {
                if host.process.try_wait().unwrap().is_some() {
                    *host = Launch::new(launch.0, launch.1).start().await;
                }
                assert!(began.elapsed() < PATIENCE, "message {number} is never taken: {other:?}");
            }
        }
    }
}

/// The numbers that an echo has sent: each once, and in order.
async fn sent_once(echo: &str, when: &str) -> Vec<usize> {
    let (client, began) = (http_client(PATIENCE), Instant::now());
    // A host that is ready may still be starting its instances.
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let answer = loop {
        tick.tick().await;
        match client.get(format!("http://{echo}/sent")).send().await {
            Ok(answer) if answer.status().is_success() => break answer,
            other => assert!(began.elapsed() < PATIENCE, "{when}: {other:?}"),
        }
    };
    let sent: Value = answer.json().await.unwrap();
    let list = sent.as_array().or_else(|| sent["sent"].as_array()).unwrap_or_else(|| panic!("{sent}"));
    let texts: Vec<usize> =
        list.iter().filter_map(|one| one["content"]["text"].as_str()).map(|text| text.parse().unwrap()).collect();
    let mut once = texts.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(texts, once, "{when}: sent once, and in order");
    texts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_out_is_sent_once_whatever_fails_at_a_commit() {
    let answered = [("outbound.answered", "panic"), ("outbound.answered", "return")];
    let boundaries = OUTBOUND.into_iter().flat_map(|point| ACTIONS.map(|action| (point, action)));
    let (mut rounds, mut all) = (0, 0);
    for (point, action) in boundaries.chain(answered) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("echo"));
        let (listen, echo) = (free_address(), free_address());
        let mut host = Launch::new(&data, &listen).failing_at(third(point, action)).start().await;
        let instance = host.echo(&echo).await;
        let mut told: HashMap<usize, String> = HashMap::new();
        for number in 0..6 {
            let answer = send(&mut host, (&data, &listen), &instance, number).await;
            told.insert(number, answer["data"]["messageId"].as_str().unwrap_or_default().to_owned());
        }
        // Every one has its end: sent, or failed because nobody can know.
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let mut outcomes = HashMap::new();
        while outcomes.len() < told.len() {
            tick.tick().await;
            if host.process.try_wait().unwrap().is_some() {
                host = Launch::new(&data, &listen).start().await;
            }
            for (number, message) in &told {
                let found = host.get(&format!("/messages/{message}")).await.unwrap_or_default();
                let status = found["data"]["deliveryStatus"].as_str().unwrap_or_default().to_owned();
                if status == "sent" || status == "failed" {
                    outcomes.insert(*number, status);
                }
            }
            assert!(began.elapsed() < PATIENCE * 2, "{point} {action}: {told:?} got only {outcomes:?}");
        }
        let texts = sent_once(&echo, &format!("{point} {action}")).await;
        for (number, outcome) in &outcomes {
            assert!(
                outcome != "sent" || texts.contains(number),
                "{point} {action}: {number} is said to be sent: {texts:?}"
            );
        }
        let unsure = outcomes.values().filter(|outcome| *outcome == "failed").count();
        assert!(unsure <= 1, "{point} {action}: one message at most was under way: {outcomes:?}");
        rounds += 1;
        all += texts.len();
        host.kill().await;
    }
    println!("commit boundaries, outbound: {rounds} rounds, {all} sent, none twice, none out of order");
}

/// Waits until so many came in, and begins the host anew whenever it ended.
async fn comes_in(load: &Load, host: &mut Program, launch: (&std::path::Path, &str), wanted: usize) -> bool {
    let began = Instant::now();
    while load.until(wanted, Duration::from_millis(50)).await < wanted {
        if host.process.try_wait().unwrap().is_some() {
            *host = Launch::new(launch.0, launch.1).start().await;
        }
        if began.elapsed() > PATIENCE {
            return false;
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn whichever_commit_fails_nothing_is_lost_or_done_twice() {
    const SENDS: usize = 20;
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let mut verdict = Verdict::default();
    let mut out = 0;
    for (point, action) in (0..rounds(2)).flat_map(|_| ANYWHERE).flat_map(|point| ACTIONS.map(|action| (point, action)))
    {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("echo"));
        let (listen, echo) = (free_address(), free_address());
        // Behind the start, which may not fail here; which part of the host it hits is chance.
        let nth = random.random_range(60..180);
        let mut host = Launch::new(&data, &listen).failing_at(format!("{point}={nth}*off->1*{action}")).start().await;
        let receiver = Receiver::start().await;
        let instance = host.echo(&echo).await;
        let new = json!({"name": "crm", "url": receiver.url(), "eventTypes": ["message.*"]});
        host.post("/webhooks", &new, None).await.expect("the API answers");
        let load = Load::start(&echo, chats("a", 4));
        for number in 0..SENDS {
            send(&mut host, (&data, &listen), &instance, number).await;
        }
        for (wanted, what) in [(40, "messages come in"), (41, "and go on coming")] {
            let came = comes_in(&load, &mut host, (&data, &listen), wanted).await;
            assert!(came, "{point} {action} at {nth}, seed {seed}: {what}");
        }
        // The failure may still lie ahead: whoever is asked from here on does not fail.
        host.kill().await;
        host = Launch::new(&data, &listen).start().await;
        let talked = load.stop().await;
        verdict.look(&host, &talked).await;
        verdict.rounds += 1;
        let texts = sent_once(&echo, &format!("{point} {action} at {nth}, seed {seed}")).await;
        out += texts.len();
        host.kill().await;
    }
    println!("any commit: {out} sent, none twice, none out of order");
    verdict.check("any commit", seed);
}

/// What a webhook's deliveries came to, newest first.
async fn deliveries(host: &Program, webhook: &str) -> Vec<Value> {
    let page = host.get(&format!("/webhooks/{webhook}/deliveries?limit=100")).await.unwrap_or_default();
    page["items"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_queued_once_for_a_webhook_whatever_fails_at_a_commit() {
    const EVENTS: usize = 12;
    let (mut rounds, mut requests) = (0, 0);
    for (point, action) in WEBHOOK.into_iter().flat_map(|point| ACTIONS.map(|action| (point, action))) {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        install(&data, &plugin_file("echo"));
        let (listen, echo) = (free_address(), free_address());
        let receiver = Receiver::start().await;
        let mut host = Launch::new(&data, &listen).failing_at(third(point, action)).start().await;
        host.echo(&echo).await;
        let new = json!({"name": "crm", "url": receiver.url(), "eventTypes": ["message.received"]});
        let (_, made) = host.post("/webhooks", &new, None).await.expect("the API answers");
        let webhook = made["data"]["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let wanted: Vec<String> = (0..EVENTS).map(|number| number.to_string()).collect();
        for number in &wanted {
            // One at a time, so that each is queued and settled by itself.
            let body = json!({"chatId": "c", "from": "ann", "externalId": number, "text": number});
            let client = http_client(Duration::from_secs(10));
            let began = Instant::now();
            let mut tick = tokio::time::interval(Duration::from_millis(10));
            let mut taken = false;
            while !receiver.texts().contains(number) {
                tick.tick().await;
                if host.process.try_wait().unwrap().is_some() {
                    assert_eq!(action, "return(abort)", "{point}: a webhook alone ends no host");
                    host = Launch::new(&data, &listen).start().await;
                }
                if !taken {
                    let answer = client.post(format!("http://{echo}/")).json(&body).send().await;
                    taken = answer.is_ok_and(|answer| answer.status().is_success());
                }
                assert!(began.elapsed() < PATIENCE, "{point} {action}: event {number} reaches the webhook");
            }
        }
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        let settled = loop {
            tick.tick().await;
            if host.process.try_wait().unwrap().is_some() {
                assert_eq!(action, "return(abort)", "{point}: a webhook alone ends no host");
                host = Launch::new(&data, &listen).start().await;
            }
            let found = deliveries(&host, &webhook).await;
            if found.len() >= wanted.len() && found.iter().all(|delivery| delivery["status"] == "delivered") {
                break found;
            }
            assert!(began.elapsed() < PATIENCE, "{point} {action}: {} of {wanted:?}: {found:?}", found.len());
        };
        let got = receiver.got();
        let mut first: Vec<String> = Vec::new();
        let mut by_id: BTreeMap<&str, usize> = BTreeMap::new();
        for got in &got {
            let times = by_id.entry(got.id()).or_default();
            *times += 1;
            if *times == 1 {
                first.push(got.text());
            }
        }
        assert_eq!(first, wanted, "{point} {action}: every event, in order, under an id of its own");
        let mut events: Vec<&str> = settled.iter().map(|one| one["eventId"].as_str().unwrap()).collect();
        events.sort_unstable();
        events.dedup();
        assert_eq!(events.len(), settled.len(), "{point} {action}: an event was queued twice");
        for delivery in &settled {
            assert_eq!(delivery["attempts"], 1, "{point} {action}: an attempt was written down twice: {delivery}");
        }
        // A request whose outcome could not be written is made again, and only that.
        let repeated = got.len() - by_id.len();
        assert!(repeated <= 1, "{point} {action}: {repeated} requests were repeated");
        rounds += 1;
        requests += got.len();
        host.kill().await;
    }
    println!("commit boundaries, webhooks: {rounds} rounds, {requests} requests, nothing queued twice");
}
