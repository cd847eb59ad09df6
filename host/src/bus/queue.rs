//! What waits to become durable: calls, one behind the other, in room that is bounded; and what is said to them.
//!
//! Deliberately not here: how they become durable. That is the writer's, who takes them from the other end.

use super::backlog::Backlog;
use super::door::Checked;
use super::{AcceptError, Accepted, BusOptions};
use crate::clock::Clock;
use crate::store::entry::{Entry, event_type};
use crate::store::events::{DomainEvent, Metadata};
use crate::store::{Store, StoreError, Time};
use crate::traces;
use omni_channel_sdk::event::{Event, EventBody};
use serde_json::{json, value::to_raw_value};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// How many events one group has at most, unless a single call has more.
pub(super) const GROUP: usize = 1_024;

/// A call that waits, and who waits for it.
pub(super) struct Waiting {
    pub call: Checked,
    reply: oneshot::Sender<Result<Accepted, AcceptError>>,
    /// The trace that it belongs to.
    pub trace: Option<Arc<str>>,
    /// Its room in the queue, free again when it is settled.
    _room: OwnedSemaphorePermit,
}

/// The end at which calls come in. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    calls: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    capacity: u32,
    full_after: Duration,
    clock: Clock,
    /// What the storage consumer has not had yet.
    pub backlog: Arc<Backlog>,
}

impl Queue {
    /// The queue, and the end at which the writer takes calls.
    pub fn new(clock: Clock, options: &BusOptions) -> (Self, mpsc::Receiver<Waiting>) {
        // The room is what bounds the queue; each call takes at least one unit of it.
        let (calls, taken) = mpsc::channel(options.queue_kib.max(1) as usize);
        let queue = Self {
            calls,
            room: Arc::new(Semaphore::new(options.queue_kib as usize)),
            capacity: options.queue_kib,
            full_after: options.full_after,
            clock,
            backlog: Arc::new(Backlog::new(options.most_waiting)),
        };
        (queue, taken)
    }

    /// Queues a call and waits until it is durable.
    pub async fn append(&self, call: Checked) -> Result<Accepted, AcceptError> {
        let gate = self.backlog.gate(call.instance_id);
        let room = async {
            let turn = self.backlog.pass(&gate).await;
            let room = Arc::clone(&self.room).acquire_many_owned(call.kib.min(self.capacity)).await;
            (turn, room)
        };
        let (turn, room) = tokio::select! {
            biased;
            room = room => room,
            () = self.clock.sleep(self.full_after) => return Err(AcceptError::Full),
        };
        let room = room.map_err(|_| AcceptError::Closed)?;
        let (reply, answer) = oneshot::channel();
        let trace = traces::current();
        self.calls.send(Waiting { call, reply, trace, _room: room }).await.map_err(|_| AcceptError::Closed)?;
        drop(turn);
        answer.await.map_err(|_| AcceptError::Closed)?
    }

    /// Returns when the writer's task is no more, however that came.
    pub async fn ended(&self) {
        self.calls.closed().await;
    }

    /// Lets nobody in any more, and waits until the queue is empty.
    pub async fn close(&self) {
        let all = self.room.acquire_many(self.capacity).await;
        self.room.close();
        drop(all);
    }
}

/// The lane of a chat: its entries follow each other.
pub(super) fn lane(instance_id: Uuid, chat: &str, lanes: u64) -> i64 {
    let mut key = Vec::with_capacity(16 + chat.len());
    key.extend_from_slice(instance_id.as_bytes());
    key.extend_from_slice(chat.as_bytes());
    i64::try_from(xxh3_64(&key) % lanes).unwrap_or(0)
}

/// Takes what has come in meanwhile, as long as it makes no more than a group.
pub(super) fn gather(first: Waiting, calls: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let mut events = first.call.events.len();
    let mut group = vec![first];
    while events < GROUP
        && let Ok(next) = calls.try_recv()
    {
        events += next.call.events.len();
        group.push(next);
    }
    group
}

/// The first and the last of entries that follow each other and are of one instance.
pub(super) fn runs(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &Entry)> {
    let of_one = |one: &Entry, other: &Entry| one.instance_id == other.instance_id;
    entries.chunk_by(of_one).filter_map(|run| Some((run.first()?, run.last()?)))
}

/// Tells one caller what became of the call, and hands on what is not stored when it is durable.
pub(super) fn answer(store: &Store, waiting: Waiting, outcome: Result<Accepted, AcceptError>) {
    if outcome.is_ok() {
        for event in waiting.call.ephemeral {
            if let Some(event) = ephemeral(store, waiting.call.instance_id, &waiting.call.channel, &event) {
                store.feed().publish(event);
            }
        }
    }
    // One who no longer waits gets the same event again later, and it is dropped then.
    let _ = waiting.reply.send(outcome);
}

/// Tells everybody that theirs is durable, and hands on what is not stored.
pub(super) fn settle(store: &Store, group: Vec<Waiting>, done: Vec<Accepted>) {
    for (waiting, accepted) in group.into_iter().zip(done) {
        answer(store, waiting, Ok(accepted));
    }
}

/// Tells everybody that nothing of theirs is durable.
pub(super) fn refuse(group: Vec<Waiting>, error: &StoreError) {
    let sentence = error.explain();
    tracing::warn!(error = sentence, calls = group.len(), "failed to store accepted events");
    for waiting in group {
        let _ = waiting.reply.send(Err(AcceptError::Store(sentence.clone())));
    }
}

/// Typing and presence as their listeners get them, in Omni v2's shape.
fn ephemeral(store: &Store, instance_id: Uuid, channel: &str, event: &Event) -> Option<DomainEvent> {
    let chat = event.chat.as_ref().map(|chat| &chat.id);
    let payload = match &event.body {
        EventBody::Typing(typing) => json!({
            "chatId": chat, "from": typing.sender.user.id, "activity": typing.activity.as_str(),
            "timeoutMs": typing.timeout_ms,
        }),
        EventBody::Presence(presence) => json!({
            "chatId": chat, "userId": presence.user.id, "state": presence.state.as_str(),
            "lastSeen": presence.last_seen,
        }),
        _ => return None,
    };
    let id = store.new_id(Time::from_millis(event.at));
    Some(DomainEvent {
        seq: 0,
        id,
        event_type: event_type(&event.body),
        payload: to_raw_value(&payload).ok()?,
        timestamp: event.at,
        metadata: Metadata::of_channel(id, instance_id, channel.to_owned()),
        chat: chat.map(ToString::to_string),
    })
}
