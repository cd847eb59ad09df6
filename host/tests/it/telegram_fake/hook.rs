//! The webhook: updates are brought to it one after the other, with the secret that was agreed, again and again until the
//! answer is a 2xx. Only on this machine: an address elsewhere belongs to a program that is not there.

use super::Shared;
use super::poll::wanted;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

/// How long Telegram waits before it tries again.
const AGAIN: Duration = Duration::from_millis(50);

/// A webhook that is set.
#[derive(Clone, Debug)]
pub struct Hook {
    pub url: String,
    pub secret: Option<String>,
    pub max_connections: i64,
    /// Why the last call failed, and when.
    pub failed: Option<(i64, String)>,
}

impl Hook {
    /// What `setWebhook` was given.
    pub fn new(params: &Value) -> Option<Self> {
        let url = params["url"].as_str().filter(|url| !url.is_empty())?;
        Some(Self {
            url: url.to_owned(),
            secret: params["secret_token"].as_str().map(str::to_owned),
            max_connections: params["max_connections"].as_i64().unwrap_or(40),
            failed: None,
        })
    }

    /// The webhook of some other program.
    pub fn foreign(url: &str) -> Self {
        Self { url: url.to_owned(), secret: None, max_connections: 40, failed: None }
    }

    /// Whether it leads to this machine.
    pub fn is_here(&self) -> bool {
        self.url.starts_with("http://127.0.0.1:")
    }
}

/// Brings updates to the webhook, while there is one.
pub async fn deliver(shared: Arc<Shared>) {
    let client = reqwest::Client::new();
    let mut brought = (0, 0);
    loop {
        let news = shared.news.notified();
        tokio::pin!(news);
        news.as_mut().enable();
        let Some((update, hook, times)) = next(&shared) else {
            news.await;
            continue;
        };
        let mut call = client.post(&hook.url).json(&update);
        if let Some(secret) = &hook.secret {
            let wrong = shared.lock().wrong_secret;
            call = call.header("X-Telegram-Bot-Api-Secret-Token", if wrong { "guessed" } else { secret });
        }
        let failed = match call.send().await {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("Wrong response from the webhook: {}", answer.status())),
            Err(_) => Some("Connection refused".to_owned()),
        };
        let number = update["update_id"].as_i64().unwrap_or(0);
        let again = {
            let mut state = shared.lock();
            let now = state.tick();
            if let Some(set) = state.webhook.as_mut().filter(|set| set.url == hook.url) {
                set.failed = failed.clone().map(|why| (now, why)).or(set.failed.take());
            }
            if failed.is_none() {
                brought = if brought.0 == number { (number, brought.1 + 1) } else { (number, 1) };
                if brought.1 >= times {
                    state.pending.retain(|update| update["update_id"].as_i64() != Some(number));
                }
            }
            failed.is_some()
        };
        shared.recorded.notify_waiters();
        shared.news.notify_waiters();
        if again {
            // The webhook may be another one by then, or none.
            let changed = shared.news.notified();
            let _ = tokio::time::timeout(AGAIN, changed).await;
        }
    }
}

/// The update that is next, where it goes, and how often.
fn next(shared: &Shared) -> Option<(Value, Hook, u32)> {
    let mut state = shared.lock();
    let hook = state.webhook.clone().filter(Hook::is_here)?;
    let allowed = state.allowed.clone().unwrap_or_default();
    state.pending.retain(|update| update.get("update_id").is_none() || wanted(update, &allowed));
    let update = state.pending.iter().find(|update| update.get("update_id").is_some())?.clone();
    Some((update, hook, state.deliver_times))
}
