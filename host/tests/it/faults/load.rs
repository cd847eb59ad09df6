//! Load on an echo instance: each chat says its next number when the last one was acknowledged.

use crate::harness::{PATIENCE, http_client};
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What one chat was told.
#[derive(Clone, Debug, Default)]
pub struct Chat {
    pub id: String,
    /// Acknowledged, in order.
    pub acknowledged: Vec<usize>,
    /// The first number that was never handed over.
    pub next: usize,
}

/// Chats that talk until they are told to stop.
pub struct Load {
    chats: Vec<Arc<Mutex<Chat>>>,
    senders: JoinSet<()>,
    acknowledged: Arc<AtomicUsize>,
    stop: CancellationToken,
}

impl Load {
    /// Begins, with chats that go on where they were.
    pub fn start(address: &str, chats: Vec<Chat>) -> Self {
        let acknowledged = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let mut senders = JoinSet::new();
        let client = http_client(Duration::from_secs(10));
        let chats: Vec<Arc<Mutex<Chat>>> = chats.into_iter().map(|chat| Arc::new(Mutex::new(chat))).collect();
        for chat in &chats {
            let (client, count, stop) = (client.clone(), Arc::clone(&acknowledged), stop.clone());
            let (url, chat) = (format!("http://{address}/"), Arc::clone(chat));
            senders.spawn(async move { talk(client, url, &chat, &count, &stop).await });
        }
        Self { chats, senders, acknowledged, stop }
    }

    /// What each chat was told until now.
    pub fn told(&self) -> Vec<Chat> {
        self.chats.iter().map(|chat| chat.lock().unwrap().clone()).collect()
    }

    /// Waits until so many were acknowledged, or the patience ends; says how many were.
    pub async fn until(&self, wanted: usize, patience: Duration) -> usize {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        loop {
            let now = self.acknowledged.load(Ordering::Acquire);
            if now >= wanted || began.elapsed() > patience {
                return now;
            }
            tick.tick().await;
        }
    }

    /// Waits until some more were acknowledged, which has to happen without anybody's help.
    pub async fn goes_on(&self, more: usize) {
        let before = self.until(0, PATIENCE).await;
        assert!(self.until(before + more, PATIENCE).await >= before + more, "it goes on by itself");
    }

    /// Stops and says what each chat was told.
    pub async fn stop(mut self) -> Vec<Chat> {
        self.stop.cancel();
        while let Some(ended) = self.senders.join_next().await {
            ended.expect("a sender does not panic");
        }
        self.told()
    }
}

async fn talk(client: reqwest::Client, url: String, chat: &Mutex<Chat>, count: &AtomicUsize, stop: &CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_millis(5));
    loop {
        let (id, number) = {
            let mut chat = chat.lock().unwrap();
            chat.next += 1;
            (chat.id.clone(), chat.next - 1)
        };
        let body = json!({
            "chatId": id, "from": "ann", "externalId": format!("{id}-{number}"), "text": number.to_string(),
        });
        loop {
            if stop.is_cancelled() {
                return;
            }
            match client.post(&url).json(&body).send().await {
                Ok(answer) if answer.status().is_success() => break,
                // As a network does: the same again, until it is taken. Twice taken is once stored.
                _ => tokio::select! { _ = tick.tick() => {}, () = stop.cancelled() => return },
            }
        }
        chat.lock().unwrap().acknowledged.push(number);
        count.fetch_add(1, Ordering::AcqRel);
    }
}

/// New chats with names that begin alike.
pub fn chats(prefix: &str, count: usize) -> Vec<Chat> {
    (0..count).map(|at| Chat { id: format!("{prefix}-{at}"), ..Chat::default() }).collect()
}
