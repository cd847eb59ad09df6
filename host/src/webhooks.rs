//! Webhooks out: every domain event that somebody wants, signed and sent to them, in order within a chat, at least once.
//!
//! ```text
//! manage     made, changed, rotated, tried out, deleted
//! runner     one webhook at work: its place, its queue, its attempts
//! attempt    one signed request, through the guard of `egress`
//! schedule   when something is tried again, and when a webhook is left alone
//! signature  Standard Webhooks
//! ```
//!
//! The `webhook-id` of an event is the event's id, whatever happens: whoever remembers it takes an event once.
//!
//! Deliberately not here: typing and presence, which are not kept and so could not be tried again; the stream carries
//! them.

mod attempt;
mod manage;
mod runner;
pub(crate) mod schedule;
pub mod signature;

pub(crate) use manage::valid_types;
pub use manage::{Change, NewWebhook, Opened, Tried, WebhookError};

use crate::clock::Clock;
use crate::egress::{Destination, Egress};
use crate::secrets::Sealer;
use crate::store::dead_letters::{self, By, DeadLetter};
use crate::store::webhook_queue::{self as queue, Queued};
use crate::store::webhooks::{self as rows, WebhookRow};
use crate::store::{self, Store};
use attempt::{Sender, Target};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use signature::SigningSecret;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How webhooks are sent to.
#[derive(Clone, Copy, Debug)]
pub struct WebhookOptions {
    /// How long one attempt may take.
    pub within: Duration,
    /// Attempts under way to one webhook.
    pub concurrency: usize,
    /// Attempts under way in all.
    pub at_once: usize,
    /// After so long without one success a webhook is disabled.
    pub disable_after: Duration,
    /// How long attempts may go on after the host was told to stop; those that are cut off are made again.
    pub stop_within: Duration,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self {
            within: Duration::from_secs(20),
            concurrency: 16,
            at_once: 128,
            disable_after: Duration::from_secs(5 * 86_400),
            stop_within: Duration::from_secs(5),
        }
    }
}

/// How long a runner that panicked is left alone.
const RUN_AGAIN: Duration = Duration::from_secs(1);

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Webhooks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    egress: Egress,
    sealer: Sealer,
    options: WebhookOptions,
    sender: Sender,
    slots: Arc<Semaphore>,
    /// One runner a webhook, told here that its row or its queue was changed.
    runners: Mutex<HashMap<Uuid, watch::Sender<u64>>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Webhooks {
    /// No webhook is sent to before [`start`](Self::start).
    pub fn new(
        store: Store,
        clock: Clock,
        egress: Egress,
        sealer: Sealer,
        options: WebhookOptions,
    ) -> Result<Self, reqwest::Error> {
        let sender = Sender::new(egress.clone(), clock.clone(), options.within)?;
        Ok(Self(Arc::new(Inner {
            store,
            clock,
            egress,
            sealer,
            options,
            sender,
            slots: Arc::new(Semaphore::new(options.at_once)),
            runners: Mutex::default(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })))
    }

    /// Begins to send to every webhook that there is.
    pub async fn start(&self) -> store::Result<usize> {
        let all = rows::all(&self.0.store).await?;
        for row in &all {
            self.begin(row.id);
        }
        Ok(all.len())
    }

    /// Begins nothing more, and returns when what was under way has come to its end or was cut off.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn runners(&self) -> MutexGuard<'_, HashMap<Uuid, watch::Sender<u64>>> {
        self.0.runners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, id: Uuid) {
        let (changes, changed) = watch::channel(0);
        self.runners().insert(id, changes);
        let (inner, stop) = (Arc::clone(&self.0), self.0.stop.clone());
        self.0.tasks.spawn(async move {
            // One that panics is a bug, and no reason to send nothing any more: what it had not written is done again.
            loop {
                let run = runner::Runner::run(Arc::clone(&inner), id, changed.clone(), stop.clone());
                let Err(error) = tokio::spawn(run).await else { return };
                tracing::error!(webhook.id = %id, "a webhook's runner ended: {error}; it is started again");
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = inner.clock.sleep(RUN_AGAIN) => {}
                }
            }
        });
    }

    /// Tells a webhook's runner that its row or its queue was changed.
    pub fn changed(&self, id: Uuid) {
        if let Some(changes) = self.runners().get(&id) {
            changes.send_modify(|version| *version += 1);
        }
    }

    fn ended(&self, id: Uuid) {
        // Its runner hears that nobody will tell it anything any more.
        self.runners().remove(&id);
    }

    /// Puts an event back on its way to the webhook that had not taken it. `false` when it is settled or on its way
    /// already; an error says that there is no such webhook any more.
    pub async fn retry(&self, letter: &DeadLetter, by: By) -> Result<bool, WebhookError> {
        let gone = || WebhookError::NotFound(letter.consumer.clone());
        let id = rows::of_consumer(&letter.consumer).ok_or_else(gone)?;
        let now = self.0.clock.now();
        let mut tx = self.0.store.begin().await?;
        rows::get(&mut tx, id).await?.ok_or_else(gone)?;
        if !dead_letters::retrying(&mut tx, letter.id, by, now).await? {
            return Ok(false);
        }
        let queued = again(letter);
        queue::enqueue(&mut tx, id, &[queued], now).await?;
        tx.commit().await?;
        self.changed(id);
        Ok(true)
    }
}

/// An event out of the dead letters, as it is queued: whole, since it may no longer be kept anywhere else.
fn again(letter: &DeadLetter) -> Queued {
    let event: Value = serde_json::from_slice(&letter.payload).unwrap_or_default();
    let instance_id = letter.instance_id.unwrap_or_default();
    let chat = event["payload"]["chatId"].as_str().unwrap_or_default();
    Queued {
        event_seq: event["seq"].as_i64().unwrap_or(0),
        event_id: letter.event_id,
        event_type: letter.event_type.clone(),
        instance_id,
        chat_key: format!("{}/{chat}", instance_id.simple()),
        payload: Some(letter.payload.clone()),
    }
}

/// What sealed values of a webhook are bound to.
fn context(id: Uuid) -> String {
    format!("webhook:{id}")
}

fn open_secrets(sealer: &Sealer, row: &WebhookRow) -> Result<Vec<SigningSecret>, String> {
    let plain = sealer.open(&context(row.id), &row.secrets).map_err(|error| error.to_string())?;
    serde_json::from_slice(&plain).map_err(|_| "the stored secrets are damaged; rotate them".to_owned())
}

fn open_headers(sealer: &Sealer, row: &WebhookRow) -> Result<BTreeMap<String, String>, String> {
    let Some(sealed) = &row.headers else { return Ok(BTreeMap::new()) };
    let plain = sealer.open(&context(row.id), sealed).map_err(|error| error.to_string())?;
    serde_json::from_slice(&plain).map_err(|_| "the stored headers are damaged; set them again".to_owned())
}

/// Where a webhook is sent to, ready for use.
fn opened(sealer: &Sealer, row: &WebhookRow) -> Result<Target, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in open_headers(sealer, row)? {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name:?} is no header name"))?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| format!("the value of {name} is none"))?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(Target {
        url: row.url.parse().map_err(|_| "its address is none".to_owned())?,
        headers,
        secrets: open_secrets(sealer, row)?,
        destination: Destination::granted(row.private_granted),
    })
}
