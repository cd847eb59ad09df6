//! The process is killed in the middle of it: what was acknowledged is stored, once, in order.

use crate::harness::{PATIENCE, built, free_address, install, plugin_file};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// How often it is killed. Each time somewhere else: after another number of acknowledged messages.
const ROUNDS: usize = 6;
const CHATS: usize = 8;

/// The real program in a process of its own.
pub struct Host {
    pub process: Child,
    pub url: String,
    pub key: String,
    pub client: reqwest::Client,
}

impl Host {
    /// The real program, on the same folder each time.
    pub async fn start(data: &Path, listen: &str) -> Self {
        let program = built().join("omni");
        let process = Command::new(program)
            .args(["serve", "--data"])
            .arg(data)
            .args(["--listen", listen])
            .env_clear()
            .env("OMNI_PLUGINS_ISOLATION", "in-process")
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let client = reqwest::Client::new();
        let url = format!("http://{listen}");
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Ok(answer) = client.get(format!("{url}/ready")).send().await
                && answer.status().is_success()
            {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "the host answers in time");
        }
        let key = std::fs::read_to_string(data.join("cli.key")).unwrap().trim().to_owned();
        Self { process, url, key, client }
    }

    async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        request.send().await.unwrap().json().await.unwrap()
    }

    async fn messages(&self, chat: usize) -> Vec<String> {
        let mut texts = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/messages?chatId=c{chat}&limit=100{cursor}")).await;
            let items = page["items"].as_array().unwrap_or_else(|| panic!("{page}"));
            texts.extend(items.iter().map(|item| item["textContent"].as_str().unwrap().to_owned()));
            match page["meta"]["cursor"].as_str() {
                Some(next) if page["meta"]["hasMore"] == true => cursor = format!("&cursor={next}"),
                _ => break,
            }
        }
        texts.reverse();
        texts
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    let mut acknowledged: Vec<Vec<usize>> = vec![Vec::new(); CHATS];
    let mut next = 0;
    for round in 0..ROUNDS {
        let mut host = Host::start(&data, &listen).await;
        if round == 0 {
            let new = json!({"name": "demo", "channel": "echo", "config": {"listen": echo}});
            let made =
                host.client.post(format!("{}/api/v2/instances", host.url)).header("x-api-key", &host.key).json(&new);
            assert!(made.send().await.unwrap().status().is_success());
        }
        let client = reqwest::Client::new();
        let mut senders = tokio::task::JoinSet::new();
        for chat in 0..CHATS {
            let (client, echo, first) = (client.clone(), echo.clone(), next);
            senders.spawn(async move {
                let mut acked = Vec::new();
                let began = Instant::now();
                for number in (first..).map(|step| step * CHATS + chat) {
                    let body = json!({"chatId": format!("c{chat}"), "from": "ann", "externalId": format!("m{number}"), "text": format!("{number}")});
                    loop {
                        match client.post(format!("http://{echo}/")).json(&body).send().await {
                            Ok(answer) if answer.status().is_success() => break acked.push(number),
                            // Not up yet, or killed: until the first message is through, it is asked again.
                            _ if acked.is_empty() && began.elapsed() < PATIENCE => tokio::task::yield_now().await,
                            _ => return (chat, acked),
                        }
                    }
                }
                unreachable!("numbers do not end")
            });
        }
        // Killed after a number of acknowledgements that is another one each time.
        let wanted = 20 + round * 17;
        let path = format!("/chats?limit={CHATS}");
        let began = Instant::now();
        loop {
            let chats = host.get(&path).await;
            let stored: i64 =
                chats["items"].as_array().into_iter().flatten().filter_map(|chat| chat["messageCount"].as_i64()).sum();
            let before: usize = acknowledged.iter().map(Vec::len).sum();
            if stored as usize >= before + wanted {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "messages come in: {chats}");
        }
        host.process.start_kill().unwrap();
        host.process.wait().await.unwrap();
        while let Some(done) = senders.join_next().await {
            let (chat, acked) = done.unwrap();
            next = next.max(acked.last().map_or(0, |last| last / CHATS + 2));
            acknowledged[chat].extend(acked);
        }
    }
    let host = Host::start(&data, &listen).await;
    let began = Instant::now();
    for (chat, acked) in acknowledged.iter().enumerate() {
        let stored = loop {
            let stored: Vec<usize> = host.messages(chat).await.iter().map(|text| text.parse().unwrap()).collect();
            if acked.iter().all(|number| stored.contains(number)) {
                break stored;
            }
            assert!(began.elapsed() < PATIENCE, "acknowledged {acked:?}, stored {stored:?}");
        };
        let mut ordered = stored.clone();
        ordered.sort_unstable();
        ordered.dedup();
        assert_eq!(stored, ordered, "once, and in the order in which it was accepted");
    }
    let all: usize = acknowledged.iter().map(Vec::len).sum();
    println!("{ROUNDS} kills, {all} acknowledged, none lost, none twice, none out of order");
}
