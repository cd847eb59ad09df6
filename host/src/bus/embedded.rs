//! The writer of the log: one task, one transaction for everything that waits (group commit).
//!
//! A call is all or nothing. When a group fails, its calls are tried one by one, so that a bad one harms only itself;
//! when the database itself is away or full, all of them fail at once and none is acknowledged.

use super::backlog::Backlog;
use super::door::{Checked, CheckedEvent};
use super::tail::Tail;
use super::{AcceptError, Accepted, BusOptions};
use crate::clock::Clock;
use crate::store::entry::{Entry, event_type};
use crate::store::events::{DomainEvent, Metadata};
use crate::store::log::{self, Key};
use crate::store::{Result, Store, StoreError, Time, Tx, fault, kv};
use omni_channel_sdk::event::{Event, EventBody};
use serde_json::{json, value::to_raw_value};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// How many events one transaction takes at most, unless a single call has more.
const GROUP: usize = 1_024;

/// A call that waits, and who waits for it.
struct Waiting {
    call: Checked,
    reply: oneshot::Sender<Result<Accepted, AcceptError>>,
    /// Its room in the queue, free again when it is settled.
    _room: OwnedSemaphorePermit,
}

/// The handle of the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    capacity: u32,
    full_after: Duration,
    clock: Clock,
    pub tail: Arc<Tail>,
    /// What the storage consumer has not had yet.
    pub backlog: Arc<Backlog>,
}

impl Writer {
    /// Starts the writer behind the newest entry.
    pub async fn start(store: Store, clock: Clock, options: &BusOptions) -> Result<Self> {
        let mut tx = store.begin().await?;
        let lanes = log::lanes(&mut tx, options.lanes.max(1), clock.now()).await?;
        let newest = log::newest(&mut tx).await?;
        tx.commit().await?;
        // The room is what bounds the queue; each call takes at least one unit of it.
        let (queue, calls) = mpsc::channel(options.queue_kib.max(1) as usize);
        let tail = Arc::new(Tail::new(newest));
        let backlog = Arc::new(Backlog::new(options.most_waiting));
        let group = Group {
            store,
            clock: clock.clone(),
            lanes: u64::from(lanes),
            newest,
            unsure: false,
            tail: Arc::clone(&tail),
            backlog: Arc::clone(&backlog),
        };
        tokio::spawn(group.run(calls));
        Ok(Self {
            queue,
            room: Arc::new(Semaphore::new(options.queue_kib as usize)),
            capacity: options.queue_kib,
            full_after: options.full_after,
            clock,
            tail,
            backlog,
        })
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
        self.queue.send(Waiting { call, reply, _room: room }).await.map_err(|_| AcceptError::Closed)?;
        drop(turn);
        answer.await.map_err(|_| AcceptError::Closed)?
    }

    /// Returns when the writer's task is no more, however that came.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }

    /// Lets nobody in any more, and waits until the queue is empty.
    pub async fn close(&self) {
        let all = self.room.acquire_many(self.capacity).await;
        self.room.close();
        drop(all);
    }
}

/// The state of the writer's task.
struct Group {
    store: Store,
    clock: Clock,
    lanes: u64,
    /// The newest place that is taken.
    newest: i64,
    /// Whether a commit has failed since: then the newest place is looked up.
    unsure: bool,
    tail: Arc<Tail>,
    backlog: Arc<Backlog>,
}

impl Group {
    async fn run(mut self, mut calls: mpsc::Receiver<Waiting>) {
        while let Some(first) = calls.recv().await {
            // While others write, more calls come in: that is the group.
            let tx = self.store.begin_log().await;
            let mut events = first.call.events.len();
            let mut group = vec![first];
            while events < GROUP
                && let Ok(next) = calls.try_recv()
            {
                events += next.call.events.len();
                group.push(next);
            }
            match tx {
                Ok(tx) => self.store_group(tx, group).await,
                Err(error) => refuse(group, &error),
            }
        }
    }

    /// Stores a group in one transaction; when that fails, each of its calls in one of its own.
    async fn store_group(&mut self, tx: Tx, group: Vec<Waiting>) {
        match self.store(tx, &group).await {
            Ok(done) => settle(&self.store, group, done),
            Err(error) if error.is_outage() => refuse(group, &error),
            Err(error) if group.len() == 1 => refuse(group, &error),
            Err(_) => {
                for waiting in group {
                    let alone = vec![waiting];
                    let stored = match self.store.begin_log().await {
                        Ok(tx) => self.store(tx, &alone).await,
                        Err(error) => Err(error),
                    };
                    match stored {
                        Ok(done) => settle(&self.store, alone, done),
                        Err(error) => refuse(alone, &error),
                    }
                }
            }
        }
    }

    /// Stores calls in one transaction; says what became of each.
    async fn store(&mut self, mut tx: Tx, group: &[Waiting]) -> Result<Vec<Accepted>> {
        let now = self.clock.now();
        if self.unsure {
            // The last commit failed, which does not say that it did not happen.
            self.newest = log::newest(&mut tx).await?;
            self.tail.skip_to(self.newest);
            self.unsure = false;
        }
        match self.write(&mut tx, group, now).await {
            Ok((entries, done)) => {
                self.unsure = true;
                fault!("bus.commit.before");
                tx.commit().await?;
                fault!("bus.commit.after");
                self.unsure = false;
                self.newest += i64::try_from(entries.len()).unwrap_or(0);
                for (first, last) in runs(&entries) {
                    self.backlog.push(last.instance_id, last.seq, last.seq - first.seq + 1);
                }
                self.tail.push(entries);
                Ok(done)
            }
            Err(error) => {
                // A place may be taken by a commit of ours that came to nothing here, and all the same to something there.
                self.unsure = true;
                Err(tx.fail(error).await)
            }
        }
    }

    async fn write(&self, tx: &mut Tx, group: &[Waiting], now: Time) -> Result<(Vec<Entry>, Vec<Accepted>)> {
        let mut seen: HashSet<Key> = remember(tx, group, now).await?.into_iter().collect();
        let mut entries: Vec<Entry> = Vec::new();
        let mut done = Vec::with_capacity(group.len());
        for Waiting { call, .. } in group {
            let mut accepted = Accepted { ephemeral: call.ephemeral.len(), ..Accepted::default() };
            for event in &call.events {
                let key = event.delivery_key.as_ref();
                let key = key.map(|key| Key { instance_id: call.instance_id, key: key.clone() });
                if key.is_some_and(|key| !seen.insert(key)) {
                    accepted.duplicates += 1;
                    continue;
                }
                accepted.appended += 1;
                let seq = self.newest + 1 + i64::try_from(entries.len()).unwrap_or(i64::MAX);
                entries.push(self.entry(tx, seq, call.instance_id, event, now));
            }
            kv::write(tx, call.instance_id, &call.plugin_id, &call.writes, now).await?;
            done.push(accepted);
        }
        log::append(tx, &entries).await?;
        Ok((entries, done))
    }

    fn entry(&self, tx: &Tx, seq: i64, instance_id: Uuid, event: &CheckedEvent, now: Time) -> Entry {
        let mut key = Vec::with_capacity(16 + event.chat.len());
        key.extend_from_slice(instance_id.as_bytes());
        key.extend_from_slice(event.chat.as_bytes());
        let (event_id, accepted_at) = event.again.unwrap_or_else(|| (tx.new_id(now), now));
        Entry {
            seq,
            lane: i64::try_from(xxh3_64(&key) % self.lanes).unwrap_or(0),
            instance_id,
            event_id,
            accepted_at,
            body: Arc::clone(&event.body),
        }
    }
}

/// The first and the last of entries that follow each other and are of one instance.
fn runs(entries: &[Entry]) -> impl Iterator<Item = (&Entry, &Entry)> {
    let of_one = |one: &Entry, other: &Entry| one.instance_id == other.instance_id;
    entries.chunk_by(of_one).filter_map(|run| Some((run.first()?, run.last()?)))
}

/// Remembers the delivery keys of a group, each once, and gives back those that were known before.
async fn remember(tx: &mut Tx, group: &[Waiting], now: Time) -> Result<Vec<Key>> {
    let mut keys: Vec<Key> = Vec::new();
    let mut named = HashSet::new();
    for Waiting { call, .. } in group {
        for key in call.events.iter().filter_map(|event| event.delivery_key.as_ref()) {
            if named.insert((call.instance_id, key.as_str())) {
                keys.push(Key { instance_id: call.instance_id, key: key.clone() });
            }
        }
    }
    if keys.is_empty() { Ok(Vec::new()) } else { log::remember(tx, &keys, now).await }
}

/// Tells everybody that theirs is durable, and hands on what is not stored.
fn settle(store: &Store, group: Vec<Waiting>, done: Vec<Accepted>) {
    for (waiting, accepted) in group.into_iter().zip(done) {
        for event in waiting.call.ephemeral {
            if let Some(event) = ephemeral(store, waiting.call.instance_id, &waiting.call.channel, &event) {
                store.feed().publish(event);
            }
        }
        // One who no longer waits gets the same event again later, and it is dropped then.
        let _ = waiting.reply.send(Ok(accepted));
    }
}

/// Tells everybody that nothing of theirs is durable.
fn refuse(group: Vec<Waiting>, error: &StoreError) {
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
        metadata: Metadata {
            correlation_id: id,
            instance_id,
            channel_type: channel.to_owned(),
            person_id: None,
            platform_identity_id: None,
            chat_id: None,
            message_id: None,
            source: "channel",
        },
        chat: chat.map(ToString::to_string),
    })
}
