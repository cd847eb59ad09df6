//! Messages to the networks: accept, claim, deliver, settle.
//!
//! ```text
//! accept     the request becomes rows: chat found, limits checked, text split, one transaction
//! limits     what a channel takes, before it is asked
//! allowed    what a single chat does not take, as far as its network has said so lately
//! split      a long text in parts
//! deliver    rows are claimed, one at a time per chat, handed to the channel, and settled
//! ```
//!
//! A send whose outcome is not known is never just repeated: it is reconciled where the network can tell. Where it cannot,
//! a message of ours with the same words that it shows in the meantime is taken for it; else it is given up as unknown.
//!
//! Deliberately not here: HTTP, and how long a caller of it waits.

mod accept;
mod allowed;
mod deliver;
pub(crate) mod limits;
pub mod split;

pub use deliver::run;

use crate::clock::Clock;
use crate::echoes::UnderWay;
use crate::hosts::{Hosts, News};
use crate::instances::{InstanceError, Instances};
use crate::store::{Store, StoreError, outbox};
use crate::traces::Traces;
use allowed::Allowed;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::Emoji;
use omni_channel_sdk::ids::ChatId;
use omni_channel_sdk::outcome::{SendError, SendReceipt};
use omni_channel_sdk::request::{ChatCapabilities, Reply, Request};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

/// Where a message goes, as the API names it.
#[derive(Clone, Debug)]
pub enum Target {
    /// As written by a caller: our chat's UUID, a person's UUID (their most recent direct chat on this instance), or
    /// the network's id.
    Any(String),
}

/// One message to be sent, not yet split.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The id of the call, when whoever asks has chosen one (an `Idempotency-Key`): a second accept with the same id
    /// answers what the first one made, and makes nothing.
    pub send_id: Option<Uuid>,
    /// Through which instance.
    pub instance_id: Uuid,
    /// Where to.
    pub to: Target,
    /// What. Media in it names a `blob` of the media store or a public `url`.
    pub content: Content,
    /// The other items of the album that it begins. A channel without albums gets each as a message of its own.
    pub album: Vec<Content>,
    /// What it answers: our message UUID or the network's id.
    pub reply_to: Option<String>,
    /// Further options of one network.
    pub options: BTreeMap<String, serde_json::Value>,
}

/// A change to a message that exists. `message` is our UUID, or the network's id together with `chat`.
#[derive(Clone, Debug)]
pub struct Change {
    /// The id of the call, when whoever asks has chosen one (an `Idempotency-Key`): a second accept with the same id
    /// answers what the first one made, and makes nothing.
    pub send_id: Option<Uuid>,
    /// Through which instance; may be absent when `message` is our UUID.
    pub instance_id: Option<Uuid>,
    /// The chat, when `message` is the network's id.
    pub chat: Option<String>,
    /// Which message.
    pub message: String,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Action {
    /// New content.
    Edit(Box<Content>),
    /// Taken back.
    Delete,
    /// Our reactions, whole.
    React(Vec<Emoji>),
}

/// What was accepted: durable, and on its way.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The call that it belongs to; parts are numbered within it.
    pub send_id: Uuid,
    /// The first part's message.
    pub message_id: Uuid,
    /// How many parts.
    pub parts: u32,
    /// The network's id of the chat.
    pub chat: String,
    /// The first part's reference when the message is already known to the network (edits, reactions).
    pub target: Option<MessageRef>,
}

/// How far a call has come.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The network took every part.
    Sent {
        /// The network's id of the first part.
        external_id: String,
    },
    /// Not yet settled.
    Pending,
    /// The outcome is not known and is being reconciled; it is not repeated.
    Unknown {
        /// Why.
        message: String,
    },
    /// Given up.
    Failed {
        /// Why, and who acts next.
        error: SendError,
    },
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The request is wrong: the sentence says what, and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The channel cannot do this, or not so large.
    #[error("{0}")]
    Unsupported(String),
    /// The chat does not take it, as its network said a moment ago.
    #[error("{0}")]
    NotHere(SendError),
    /// There is no such chat, person or message.
    #[error("{0}")]
    NotFound(String),
    /// The instance is missing or its plugin is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// When a failed delivery is tried again, and when it is given up.
#[derive(Clone, Debug)]
pub struct OutboundOptions {
    /// How long the channel may take.
    pub call_within: Duration,
    /// How often a part is tried when nobody has to act.
    pub max_attempts: u32,
    /// The first wait; doubled each time, with jitter, up to an hour.
    pub first_retry: Duration,
    /// How long after an unknown outcome the chat waits for the network to tell, before it goes on.
    pub reconcile_window: Duration,
    /// Parts of one instance that are under way at the same time, each in another chat.
    pub per_instance: usize,
    /// Makes spans of deliveries.
    pub traces: Traces,
    /// Which instances are this host's.
    pub hosts: Hosts,
}

impl Default for OutboundOptions {
    fn default() -> Self {
        Self {
            call_within: Duration::from_secs(60),
            max_attempts: 12,
            first_retry: Duration::from_secs(2),
            reconcile_window: Duration::from_secs(20),
            per_instance: 32,
            traces: Traces::default(),
            hosts: Hosts::alone(),
        }
    }
}

/// The handle that the API uses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    instances: Instances,
    clock: Clock,
    options: OutboundOptions,
    /// What chats do not take.
    allowed: Allowed,
    /// There is something to claim.
    wake: Notify,
    /// Sends with an unknown outcome that no network was asked about yet: what is shown of ours in their chats waits.
    unasked: Mutex<HashMap<Uuid, UnderWay>>,
    /// Who waits for a call to be settled.
    waiting: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    /// How many parts of each instance are under way, and word of one that has ended.
    under_way: Mutex<HashMap<Uuid, usize>>,
    ended: Notify,
}

/// How often a call is looked at that another host may settle.
const LOOK_EVERY: Duration = Duration::from_millis(500);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Outbound {
    /// Nothing is delivered before [`run`] runs.
    pub fn new(store: Store, instances: Instances, clock: Clock, options: OutboundOptions) -> Self {
        Self(Arc::new(Inner {
            store,
            instances,
            clock,
            options,
            allowed: Allowed::default(),
            wake: Notify::new(),
            unasked: Mutex::default(),
            waiting: Mutex::default(),
            under_way: Mutex::default(),
            ended: Notify::new(),
        }))
    }

    /// Finds what was under way when the host ended, of these instances or of all: its outcome is not known. To be done
    /// before instances are started, so that an echo of it is not taken for another message.
    pub async fn recover(&self, instances: Option<&[Uuid]>) -> Result<(), StoreError> {
        deliver::recover(&self.0, instances).await
    }

    /// Looks whether there is something to be sent: another host has accepted it.
    pub fn look(&self) {
        self.0.wake.notify_one();
    }

    /// Returns when nothing of an instance is under way.
    pub async fn finished(&self, instance: Uuid) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            if !lock(&self.0.under_way).contains_key(&instance) {
                return;
            }
            ended.await;
        }
    }

    /// Asks the channel what can be done in a chat, and takes note of it.
    pub async fn capabilities(&self, instance: Uuid, channel: &str, chat: &str) -> Result<Capabilities, InstanceError> {
        let whole = self.0.instances.manifest(channel)?.capabilities;
        if !whole.can("capabilities") {
            return Ok(whole);
        }
        let ask = ChatCapabilities { chat: ChatId::new(chat) };
        match self.0.instances.request(instance, Request::Capabilities(ask)).await? {
            Reply::Capabilities(can) => {
                self.0.allowed.learn(instance, chat, &whole, &can, self.0.clock.now());
                Ok(*can)
            }
            _ => Err(SendError::internal("the channel answered something else than capabilities").into()),
        }
    }

    /// Checks a message against the instance's capabilities, splits it, and makes it durable.
    pub async fn accept(&self, message: NewMessage) -> Result<Accepted, OutboundError> {
        let instance = message.instance_id;
        let accepted = accept::message(&self.0, message).await?;
        self.accepted(instance).await;
        Ok(accepted)
    }

    /// The same for a change of a message.
    pub async fn accept_change(&self, change: Change) -> Result<Accepted, OutboundError> {
        let instance = change.instance_id.unwrap_or_default();
        let accepted = accept::change(&self.0, change).await?;
        self.accepted(instance).await;
        Ok(accepted)
    }

    /// Says that there is something to be sent, to the host that has the instance.
    async fn accepted(&self, instance: Uuid) {
        self.0.wake.notify_one();
        if instance.is_nil() || self.0.options.hosts.owner(instance).is_some() {
            self.0.options.hosts.tell(&News::Outbox).await;
        }
    }

    /// Waits until every part is settled, or `wait` has passed.
    pub async fn outcome(&self, accepted: &Accepted, wait: Duration) -> Result<Outcome, OutboundError> {
        let mut waiter = Waiter::new(&self.0, accepted.send_id);
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            match self.how(accepted).await {
                Ok(Outcome::Pending) => {}
                decided => return decided,
            }
            // News of another host may be lost.
            let look = if self.0.options.hosts.has_others() { LOOK_EVERY } else { wait };
            let until = deadline.min(tokio::time::Instant::now() + look);
            if !waiter.moved_before(until).await && until == deadline {
                return self.how(accepted).await;
            }
        }
    }

    async fn how(&self, accepted: &Accepted) -> Result<Outcome, OutboundError> {
        let parts = outbox::parts(&self.0.store, accepted.send_id).await?;
        let mut first = accepted.target.as_ref().map(|target| target.id.to_string());
        let mut pending = parts.is_empty();
        for (index, part) in parts.iter().enumerate() {
            let error = part.error.as_ref().and_then(|error| serde_json::from_value::<SendError>(error.0.clone()).ok());
            match part.status.as_str() {
                "delivered" => {
                    let receipt = part.receipt.as_ref().and_then(|receipt| receipt_of(&receipt.0));
                    if let (0, Some(receipt)) = (index, receipt) {
                        first = Some(receipt.message_id.to_string());
                    }
                }
                "unknown" => {
                    let message = error.map_or_else(|| "the outcome is not known".to_owned(), |error| error.message);
                    return Ok(Outcome::Unknown { message });
                }
                "failed" => {
                    let error = error.unwrap_or_else(|| SendError::internal("it failed without a reason"));
                    if !error.certain {
                        return Ok(Outcome::Unknown { message: error.message });
                    }
                    return Ok(Outcome::Failed { error });
                }
                _ => pending = true,
            }
        }
        if pending {
            return Ok(Outcome::Pending);
        }
        Ok(Outcome::Sent { external_id: first.unwrap_or_default() })
    }

    /// Tells those who wait for a call that it moved.
    pub(crate) fn moved(&self, send_id: Uuid) {
        if let Some(sender) = lock(&self.0.waiting).get(&send_id) {
            sender.send_replace(());
        }
    }
}

/// One who waits for a call; the table forgets the call with its last one, however they leave.
struct Waiter<'a> {
    inner: &'a Inner,
    send_id: Uuid,
    moved: Option<watch::Receiver<()>>,
}

impl<'a> Waiter<'a> {
    fn new(inner: &'a Inner, send_id: Uuid) -> Self {
        let mut waiting = lock(&inner.waiting);
        let moved = waiting.entry(send_id).or_insert_with(|| watch::Sender::new(())).subscribe();
        Self { inner, send_id, moved: Some(moved) }
    }

    /// Whether the call moved before the time was over.
    async fn moved_before(&mut self, deadline: tokio::time::Instant) -> bool {
        let Some(moved) = &mut self.moved else { return false };
        matches!(tokio::time::timeout_at(deadline, moved.changed()).await, Ok(Ok(())))
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        drop(self.moved.take());
        let mut waiting = lock(&self.inner.waiting);
        if waiting.get(&self.send_id).is_some_and(|sender| sender.receiver_count() == 0) {
            waiting.remove(&self.send_id);
        }
    }
}

fn receipt_of(json: &serde_json::Value) -> Option<SendReceipt> {
    serde_json::from_value(json.clone()).ok()
}
