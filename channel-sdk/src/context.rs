//! What the host does for a channel.

use crate::connection::ConnectionState;
use crate::error::HostError;
use crate::event::Event;
use crate::frame::{
    Commit, Egress, HostAnswer, HostRequest, KvWrite, LogLevel, MissedIn, Tails, TimerSet, ToHost, encode,
};
use crate::http::{HttpCall, HttpFailure, HttpResponse};
use crate::ids::{BlobId, ChatId, MessageId};
use crate::ingress::SocketAct;
use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Poll, Waker};

/// What a question is answered with when there is nobody left to answer it.
const ENDED: &str = "the host has ended this instance";
/// Most entries that the host gives at once.
const MOST_ENTRIES: u32 = 1_000;

/// Where frames for the host go. `false` when the host has gone: nothing more will be answered.
pub(crate) trait HostSink: Send + Sync {
    fn deliver(&self, frame: Vec<u8>) -> bool;
}

/// The host's services that work at any time: inside a call, and from a background task of an `own` channel.
#[derive(Clone)]
pub struct Host(pub(crate) Arc<Link>);

/// One call's (or the background's) end of the line to the host.
pub(crate) struct Link {
    pub call: u64,
    pub sink: Arc<dyn HostSink>,
    pub now: Arc<AtomicI64>,
    /// Said once, by the start.
    pub said: Arc<Said>,
    next_id: AtomicU32,
    slots: Mutex<HashMap<u32, Slot>>,
    /// Nothing will be answered any more.
    closed: AtomicBool,
}

/// What the start said of the instance.
#[derive(Default)]
pub(crate) struct Said {
    pub webhook_url: OnceLock<String>,
    pub egress: OnceLock<Egress>,
    pub offline: AtomicBool,
}

enum Slot {
    Waiting(Waker),
    Answered(HostAnswer, Tails),
}

/// A poisoned lock holds plain data that is good after a panic, too.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Link {
    pub fn new(call: u64, sink: Arc<dyn HostSink>, now: Arc<AtomicI64>, said: Arc<Said>) -> Arc<Self> {
        Arc::new(Self {
            call,
            sink,
            now,
            said,
            next_id: AtomicU32::new(1),
            slots: Mutex::default(),
            closed: AtomicBool::new(false),
        })
    }

    /// The instance has ended: whoever still waits for an answer is told that none comes.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let waiting: Vec<u32> = lock(&self.slots).keys().copied().collect();
        for id in waiting {
            self.answer(id, HostAnswer::Failed { message: ENDED.into() }, Tails::default());
        }
    }

    /// Puts the host's answer where the one who waits finds it, and wakes them. An answer nobody waits for is dropped.
    pub fn answer(&self, id: u32, answer: HostAnswer, tails: Tails) {
        let waker = match lock(&self.slots).get_mut(&id) {
            Some(slot) => match std::mem::replace(slot, Slot::Answered(answer, tails)) {
                Slot::Waiting(waker) => Some(waker),
                Slot::Answered(..) => None,
            },
            None => None,
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// Waits for one answer; gives the question up when dropped.
struct Asked<'a> {
    link: &'a Link,
    id: u32,
    question: Option<(HostRequest, Vec<Vec<u8>>)>,
}

impl Future for Asked<'_> {
    type Output = Result<(HostAnswer, Tails), HostError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Some((request, tails)) = this.question.take() {
            lock(&this.link.slots).insert(this.id, Slot::Waiting(cx.waker().clone()));
            if this.link.closed.load(Ordering::Acquire) {
                return Poll::Ready(Err(HostError(ENDED.into())));
            }
            let frame = encode(&ToHost::Call { call: this.link.call, id: this.id, request }, &tails);
            if !this.link.sink.deliver(frame) {
                return Poll::Ready(Err(HostError(ENDED.into())));
            }
            // In process the answer may already be there.
        }
        let mut slots = lock(&this.link.slots);
        match slots.get_mut(&this.id) {
            Some(Slot::Waiting(waker)) => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
            Some(Slot::Answered(..)) => match slots.remove(&this.id) {
                Some(Slot::Answered(HostAnswer::Failed { message }, _)) => Poll::Ready(Err(HostError(message))),
                Some(Slot::Answered(answer, tails)) => Poll::Ready(Ok((answer, tails))),
                _ => Poll::Pending,
            },
            None => Poll::Ready(Err(HostError("the answer was already taken".into()))),
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        lock(&self.link.slots).remove(&self.id);
    }
}

fn unexpected(answer: &HostAnswer) -> HostError {
    HostError(format!("the host answered something else than was asked: {answer:?}"))
}

impl Host {
    async fn ask(&self, request: HostRequest, tails: Vec<Vec<u8>>) -> Result<(HostAnswer, Tails), HostError> {
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        Asked { link: &self.0, id, question: Some((request, tails)) }.await
    }

    /// The host's time, milliseconds since 1970. Moves only between two steps of a call.
    pub fn now(&self) -> i64 {
        self.0.now.load(Ordering::Relaxed)
    }

    /// The public address of this instance's [`Webhook`](crate::ingress::Webhook), to be told to the network; `None` when
    /// the operator has not set the host's public address (`http.public_url`).
    pub fn webhook_url(&self) -> Option<&str> {
        self.0.said.webhook_url.get().map(String::as_str)
    }

    /// How a channel with a network library of its own (`"secrets": "plain"` in the manifest) is to connect: it must go by
    /// way of the proxy when there is one. What it does through the host goes there by itself.
    pub fn egress(&self) -> Egress {
        self.0.said.egress.get().cloned().unwrap_or_default()
    }

    /// Whether this instance was started only to be asked something, such as for its auth state: a channel with an `own`
    /// ingress must not connect to its network then. Of others the host opens no ingress.
    pub fn is_offline(&self) -> bool {
        self.0.said.offline.load(Ordering::Relaxed)
    }

    /// Makes an HTTP call. An answer of any status is `Ok`.
    pub async fn http(&self, call: HttpCall) -> Result<HttpResponse, HttpFailure> {
        match self.ask(HostRequest::Http { http: Box::new(call) }, Vec::new()).await {
            Ok((HostAnswer::Http { mut response }, mut tails)) => {
                response.body = tails.next_bytes().unwrap_or_default();
                Ok(response)
            }
            Ok((HostAnswer::HttpFailed { failure }, _)) => Err(failure),
            Ok((other, _)) => Err(HttpFailure { message: unexpected(&other).0, sent: true, timed_out: false }),
            Err(error) => Err(HttpFailure { message: error.0, sent: false, timed_out: false }),
        }
    }

    /// Stores events and key-value entries now, together, and returns when they are durable: only then may the network
    /// be told that it need not send them again. For channels with an `own` ingress; inside a call of a host-driven
    /// one use [`Context::emit`].
    pub async fn accept(&self, batch: Batch) -> Result<(), HostError> {
        let (commit, tails) = batch.into_commit()?;
        match self.ask(HostRequest::Commit { commit }, tails).await? {
            (HostAnswer::Committed {}, _) => Ok(()),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Reads an entry of this instance's key-value store, as it is stored.
    pub async fn stored(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        match self.ask(HostRequest::KvGet { key: key.to_owned() }, Vec::new()).await? {
            (HostAnswer::KvValue { found: false }, _) => Ok(None),
            (HostAnswer::KvValue { found: true }, mut tails) => {
                tails.next_bytes().map(Some).map_err(|error| HostError(error.to_string()))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Lists stored entries whose keys begin with `prefix` and come behind `after`, in order, at most 1,000.
    pub async fn stored_entries(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        let request = HostRequest::KvScan { prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        match self.ask(request, Vec::new()).await? {
            (HostAnswer::KvEntries { keys }, mut tails) => keys
                .into_iter()
                .map(|key| tails.next_bytes().map(|value| (key, value)))
                .collect::<Result<_, _>>()
                .map_err(|error| HostError(error.to_string())),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Hands a file to the host's media store.
    pub async fn media_put(
        &self,
        bytes: Vec<u8>,
        mime_type: Option<&str>,
        file_name: Option<&str>,
    ) -> Result<BlobId, HostError> {
        let request =
            HostRequest::MediaPut { mime_type: mime_type.map(str::to_owned), file_name: file_name.map(str::to_owned) };
        match self.ask(request, vec![bytes]).await? {
            (HostAnswer::Media { blob }, _) => Ok(blob),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Reads a piece of a file that the host holds, and the size of the whole. Only for networks whose library wants
    /// the bytes; an HTTP call names the blob and the host streams it.
    pub async fn media_get(&self, blob: &BlobId, offset: u64, limit: u32) -> Result<(Vec<u8>, u64), HostError> {
        match self.ask(HostRequest::MediaGet { blob: blob.clone(), offset, limit }, Vec::new()).await? {
            (HostAnswer::MediaBytes { size }, mut tails) => {
                tails.next_bytes().map(|bytes| (bytes, size)).map_err(|error| HostError(error.to_string()))
            }
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Random bytes, good enough for keys; at most 1,024.
    pub async fn random(&self, bytes: u32) -> Result<Vec<u8>, HostError> {
        match self.ask(HostRequest::Random { bytes }, Vec::new()).await? {
            (HostAnswer::Random {}, mut tails) => tails.next_bytes().map_err(|error| HostError(error.to_string())),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// Reports what the connection is from now on.
    pub fn state(&self, state: ConnectionState) {
        self.0.sink.deliver(encode(&ToHost::State { state }, &[]));
    }

    /// Writes to the host's log: a sentence without secrets, message texts and phone numbers.
    pub fn log(&self, level: LogLevel, message: impl Into<String>) {
        self.0.sink.deliver(encode(&ToHost::Log { level, message: message.into() }, &[]));
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Host").field("call", &self.0.call).finish_non_exhaustive()
    }
}

/// Events and key-value entries that are stored together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub(crate) events: Vec<Event>,
    /// `None` takes an entry away.
    pub(crate) writes: BTreeMap<String, Option<Vec<u8>>>,
    pub(crate) timers: Vec<TimerSet>,
    pub(crate) sockets: Vec<SocketAct>,
    pub(crate) missed: bool,
    pub(crate) missed_in: Vec<MissedIn>,
}

impl Batch {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event.
    pub fn event(&mut self, event: Event) -> &mut Self {
        self.events.push(event);
        self
    }

    /// Writes an entry.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> &mut Self {
        self.writes.insert(key.into(), Some(value.into()));
        self
    }

    /// Takes an entry away.
    pub fn delete(&mut self, key: impl Into<String>) -> &mut Self {
        self.writes.insert(key.into(), None);
        self
    }

    pub(crate) fn into_commit(self) -> Result<(Commit, Vec<Vec<u8>>), HostError> {
        let events = self
            .events
            .iter()
            .map(serde_json::value::to_raw_value)
            .collect::<Result<_, _>>()
            .map_err(|error| HostError(format!("an event cannot be written as JSON: {error}")))?;
        let mut tails = Vec::new();
        let mut writes = Vec::with_capacity(self.writes.len());
        for (key, value) in self.writes {
            writes.push(KvWrite { key, delete: value.is_none() });
            tails.extend(value);
        }
        let Self { timers, sockets, missed, missed_in, .. } = self;
        Ok((Commit { events, writes, timers, sockets, missed, missed_in }, tails))
    }
}

/// One call's view of the host: its services, and what is stored when the call ends well.
#[derive(Clone)]
pub struct Context {
    host: Host,
    pub(crate) batch: Arc<Mutex<Batch>>,
    background: Host,
}

impl Deref for Context {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Context {
    pub(crate) fn new(host: Host, background: Host) -> Self {
        Self { host, batch: Arc::default(), background }
    }

    /// The host's services for a background task, which outlives the call. For channels with an `own` ingress.
    pub fn background(&self) -> Host {
        self.background.clone()
    }

    /// Hands an event over, to be stored when the call ends well.
    pub fn emit(&self, event: Event) {
        lock(&self.batch).events.push(event);
    }

    /// Writes an entry of this instance's key-value store when the call ends well; later reads in the same call see it.
    pub fn set(&self, key: impl Into<String>, value: impl Into<Vec<u8>>) {
        lock(&self.batch).writes.insert(key.into(), Some(value.into()));
    }

    /// Takes an entry away when the call ends well.
    pub fn delete(&self, key: impl Into<String>) {
        lock(&self.batch).writes.insert(key.into(), None);
    }

    /// Reads an entry: what this call wrote, or else what is stored.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        let written = lock(&self.batch).writes.get(key).cloned();
        match written {
            Some(value) => Ok(value),
            None => self.stored(key).await,
        }
    }

    /// Lists entries whose keys begin with `prefix` and come behind `after`, in order, at most `limit` (and 1,000):
    /// what is stored, with what this call wrote.
    pub async fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        let written: Vec<(String, Option<Vec<u8>>)> = lock(&self.batch)
            .writes
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        let wanted = limit.saturating_add(u32::try_from(written.len()).unwrap_or(u32::MAX)).clamp(1, MOST_ENTRIES);
        let limit = limit.min(MOST_ENTRIES) as usize;
        let mut stored: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let mut behind = after.map(str::to_owned);
        loop {
            let page = self.stored_entries(prefix, behind.as_deref(), wanted).await?;
            if written.is_empty() {
                return Ok(page.into_iter().take(limit).collect());
            }
            let complete = page.len() < wanted as usize;
            behind = page.last().map(|(key, _)| key.clone()).or(behind);
            stored.extend(page);
            // Behind the last stored entry that was read, others may lie between what was written.
            let known = |key: &str| complete || behind.as_deref().is_some_and(|behind| key <= behind);
            let mut entries = stored.clone();
            for (key, value) in written.iter().filter(|(key, _)| known(key)) {
                match value {
                    Some(value) => drop(entries.insert(key.clone(), value.clone())),
                    None => drop(entries.remove(key)),
                }
            }
            if complete || entries.len() >= limit {
                return Ok(entries.into_iter().take(limit).collect());
            }
        }
    }

    /// Calls the channel with a timer event after a while, once, when the call ends well. The same tag again moves it.
    /// Timers are lost when the instance ends: keep what must not be lost in the key-value store.
    pub fn set_timer(&self, tag: impl Into<String>, after_ms: u64) {
        lock(&self.batch).timers.push(TimerSet { tag: tag.into(), after_ms: Some(after_ms) });
    }

    /// Writes a text frame to a WebSocket of the ingress when the call ends well; dropped when that socket is not open then.
    pub fn socket_send(&self, tag: impl Into<String>, text: impl Into<String>) {
        let (tag, text) = (tag.into(), text.into());
        self.socket(SocketAct { tag, send: vec![text], ..SocketAct::default() });
    }

    /// Closes a WebSocket of the ingress when the call ends well. The host tells that it closed, and opens it again.
    pub fn socket_close(&self, tag: impl Into<String>, code: u16) {
        self.socket(SocketAct { tag: tag.into(), close: Some(code), ..SocketAct::default() });
    }

    /// Says what is to be done with a WebSocket of the ingress when the call ends well.
    pub fn socket(&self, act: SocketAct) {
        lock(&self.batch).sockets.push(act);
    }

    /// Says that the network will not tell by itself what happened since it last did: the host asks for the history of the
    /// chats that it knows, where the channel has one, when the call has ended well.
    pub fn missed(&self) {
        lock(&self.batch).missed = true;
    }

    /// The same of a chat that the host need not know, and behind which message.
    pub fn missed_in(&self, chat: impl Into<ChatId>, after: Option<MessageId>) {
        lock(&self.batch).missed_in.push(MissedIn { chat: chat.into(), after });
    }

    /// Takes a timer back.
    pub fn cancel_timer(&self, tag: impl Into<String>) {
        lock(&self.batch).timers.push(TimerSet { tag: tag.into(), after_ms: None });
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("host", &self.host).finish_non_exhaustive()
    }
}
