//! Runs one instance of a channel: reads frames, keeps the calls that are under way, writes frames.
//!
//! There is no runtime here. A call is a future that is polled when a frame for it comes in; what it awaits is an answer
//! of the host. That is why the same channel runs in a native thread and in a WASM component.

use crate::channel::Channel;
use crate::context::{Batch, Context, Host, HostSink, Link, Said, lock};
use crate::error::{ChannelError, HostError};
use crate::frame::{
    CallResult, Commit, Failure, FrameError, Op, OutcomeHead, Output, ToChannel, ToHost, decode, encode, event_body,
};
use crate::ingress::{EventOutcome, Ingress, IngressEvent, NextPoll};
use crate::outcome::SendError;
use crate::request::{Nothing, Reply, Request};
use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Wake, Waker};

type Work = Pin<Box<dyn Future<Output = (Result<Ended, Failure>, Batch)> + Send>>;

/// What a call's future gives back; the bodies of webhook answers lie apart.
struct Ended {
    output: Output,
    bodies: Vec<Vec<u8>>,
}

struct Task {
    work: Work,
    link: Arc<Link>,
    waker: Arc<TaskWaker>,
}

/// Asks the host to come back to a call that was woken by another thread, as happens in an `own` channel.
struct TaskWaker {
    call: u64,
    sink: Arc<dyn HostSink>,
    /// While its frame is handled, a wake needs no round trip over the host.
    handled: AtomicBool,
    woken: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.woken.swap(true, Ordering::AcqRel) || self.handled.load(Ordering::Acquire) {
            return;
        }
        self.sink.deliver(encode(&ToHost::Wake { call: self.call }, &[]));
    }
}

/// One instance of a channel at its end of the boundary.
pub(crate) struct Driver<C: Channel> {
    sink: Arc<dyn HostSink>,
    now: Arc<AtomicI64>,
    said: Arc<Said>,
    background: Arc<Link>,
    state: Mutex<State<C>>,
}

struct State<C> {
    /// Set when the start ended well, taken away by the stop.
    channel: Slot<C>,
    started: bool,
    tasks: HashMap<u64, Task>,
}

impl<C: Channel> Driver<C> {
    pub fn new(sink: Arc<dyn HostSink>) -> Self {
        let now = Arc::new(AtomicI64::new(0));
        let said = Arc::new(Said::default());
        let background = Link::new(0, Arc::clone(&sink), Arc::clone(&now), Arc::clone(&said));
        let state = State { channel: Arc::default(), started: false, tasks: HashMap::new() };
        Self { sink, now, said, background, state: Mutex::new(state) }
    }

    /// Handles one frame. Called from one thread at a time.
    pub fn deliver(&self, frame: &[u8]) -> Result<(), FrameError> {
        let (head, mut tails) = decode::<ToChannel>(frame)?;
        match head {
            ToChannel::Begin { call, now, op } => {
                self.now.store(now, Ordering::Relaxed);
                let op = match op {
                    Op::Events { mut events } => {
                        for event in &mut events {
                            if let Some(body) = event_body(event) {
                                *body = tails.next_bytes()?;
                            }
                        }
                        Op::Events { events }
                    }
                    op => op,
                };
                self.begin(call, op);
            }
            ToChannel::Answer { call: 0, id, now, answer } => {
                self.now.store(now, Ordering::Relaxed);
                self.background.answer(id, answer, tails);
            }
            ToChannel::Answer { call, id, now, answer } => {
                self.now.store(now, Ordering::Relaxed);
                let task = lock(&self.state).tasks.remove(&call);
                if let Some(task) = task {
                    task.waker.handled.store(true, Ordering::Release);
                    task.link.answer(id, answer, tails);
                    self.go_on(call, task);
                }
            }
            ToChannel::Poll { call, now } => {
                self.now.store(now, Ordering::Relaxed);
                let task = lock(&self.state).tasks.remove(&call);
                if let Some(task) = task {
                    self.go_on(call, task);
                }
            }
            ToChannel::Cancel { call } => {
                let task = lock(&self.state).tasks.remove(&call);
                // A destructor of the channel's may panic, too.
                drop(catch_unwind(AssertUnwindSafe(|| drop(task))));
            }
            ToChannel::Ping { nonce } => {
                self.sink.deliver(encode(&ToHost::Pong { nonce }, &[]));
            }
        }
        Ok(())
    }

    fn begin(&self, call: u64, op: Op) {
        if let Op::Start { webhook_url, offline, egress, .. } = &op {
            if let Some(url) = webhook_url {
                self.said.webhook_url.get_or_init(|| url.clone());
            }
            self.said.egress.get_or_init(|| egress.clone());
            self.said.offline.fetch_or(*offline, Ordering::Relaxed);
        }
        let link = Link::new(call, Arc::clone(&self.sink), Arc::clone(&self.now), Arc::clone(&self.said));
        let ctx = Context::new(Host(Arc::clone(&link)), Host(Arc::clone(&self.background)));
        let (slot, first_start) = {
            let mut state = lock(&self.state);
            let first = !state.started;
            state.started |= matches!(op, Op::Start { .. });
            (Arc::clone(&state.channel), first)
        };
        let work: Work = Box::pin(async move {
            let result = run_op::<C>(&ctx, op, &slot, first_start).await;
            let batch = std::mem::take(&mut *lock(&ctx.batch));
            (result, batch)
        });
        let waker = Arc::new(TaskWaker {
            call,
            sink: Arc::clone(&self.sink),
            handled: AtomicBool::new(false),
            woken: AtomicBool::new(false),
        });
        self.go_on(call, Task { work, link, waker });
    }

    /// Polls a call's future and reports its end, or puts it back.
    fn go_on(&self, call: u64, mut task: Task) {
        task.waker.handled.store(true, Ordering::Release);
        task.waker.woken.store(false, Ordering::Release);
        let waker = Waker::from(Arc::clone(&task.waker));
        let polled =
            catch_unwind(AssertUnwindSafe(|| task.work.as_mut().poll(&mut std::task::Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                let waker = Arc::clone(&task.waker);
                lock(&self.state).tasks.insert(call, task);
                waker.handled.store(false, Ordering::Release);
                if waker.woken.swap(false, Ordering::AcqRel) {
                    waker.wake_by_ref();
                }
            }
            Ok(Poll::Ready((result, batch))) => self.done(call, result, batch),
            Err(panic) => {
                drop(catch_unwind(AssertUnwindSafe(|| drop(task))));
                let error = SendError { certain: false, ..SendError::internal(panic_message(panic.as_ref())) };
                self.done(call, Err(Failure { error, state: None, panicked: true }), Batch::default());
            }
        }
    }

    fn done(&self, call: u64, result: Result<Ended, Failure>, batch: Batch) {
        let failed = |failure| {
            let result = CallResult::Err(failure);
            encode(&ToHost::Done { call, result, commit: Commit::default() }, &[])
        };
        let frame = match result.map(|ended| (ended, batch.into_commit())) {
            Ok((ended, Ok((commit, mut tails)))) => {
                tails.extend(ended.bodies);
                encode(&ToHost::Done { call, result: CallResult::Ok(ended.output), commit }, &tails)
            }
            Ok((_, Err(HostError(message)))) => failed(refused(SendError::internal(message))),
            Err(failure) => failed(failure),
        };
        self.sink.deliver(frame);
    }
}

impl<C: Channel> Drop for Driver<C> {
    /// A background task that waits for an answer must not wait for ever.
    fn drop(&mut self) {
        self.background.close();
    }
}

/// The words of a panic.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&str>()
        .map(|words| (*words).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned());
    format!("the channel panicked: {words}")
}

type Slot<C> = Arc<Mutex<Option<Arc<C>>>>;

fn failure(error: ChannelError) -> Failure {
    Failure { error: error.error, state: error.state, panicked: false }
}

fn refused(error: SendError) -> Failure {
    Failure { error, state: None, panicked: false }
}

async fn run_op<C: Channel>(ctx: &Context, op: Op, slot: &Slot<C>, first_start: bool) -> Result<Ended, Failure> {
    if let Op::Start { config, .. } = op {
        if !first_start {
            return Err(refused(SendError::internal("the instance was already started")));
        }
        let config = serde_json::from_value(config).map_err(|error| {
            failure(ChannelError::stopped(format!("the configuration does not fit the channel: {error}")))
        })?;
        let started = C::start(ctx, config).await.map_err(failure)?;
        let mut polls = Vec::new();
        for ingress in &started.ingress {
            if let Ingress::LongPoll(poll) = ingress {
                let call = started.channel.next_poll(ctx, &poll.tag).await.map_err(failure)?;
                polls.push(NextPoll { tag: poll.tag.clone(), call });
            }
        }
        *lock(slot) = Some(Arc::new(started.channel));
        return Ok(Ended { output: Output::Started { ingress: started.ingress, polls }, bodies: Vec::new() });
    }
    let Some(channel) = lock(slot).as_ref().map(Arc::clone) else {
        return Err(refused(SendError::transient("the instance is not running")));
    };
    let output = match op {
        Op::Start { .. } => unreachable!("handled above"),
        Op::Events { events } => return run_events(ctx, &*channel, events).await,
        Op::Request { request } => {
            let reply = run_request(ctx, &*channel, request).await.map_err(refused)?;
            Output::Reply { reply: Box::new(reply) }
        }
        Op::Login { login } => Output::Login { step: Box::new(channel.login(ctx, login).await.map_err(failure)?) },
        Op::Stop {} => {
            channel.stop(ctx).await;
            drop(lock(slot).take());
            Output::Stopped {}
        }
    };
    Ok(Ended { output, bodies: Vec::new() })
}

async fn run_events<C: Channel>(ctx: &Context, channel: &C, events: Vec<IngressEvent>) -> Result<Ended, Failure> {
    let mut tags: Vec<String> = Vec::new();
    for event in &events {
        if let IngressEvent::PollResponse { tag, .. } | IngressEvent::PollFailed { tag, .. } = event
            && !tags.contains(tag)
        {
            tags.push(tag.clone());
        }
    }
    let expected = events.len();
    let outcomes = channel.on_events(ctx, events).await.map_err(failure)?;
    if outcomes.len() != expected {
        let message = format!("on_events took {expected} events and gave {} outcomes", outcomes.len());
        return Err(refused(SendError::internal(message)));
    }
    let mut polls = Vec::with_capacity(tags.len());
    for tag in tags {
        let call = channel.next_poll(ctx, &tag).await.map_err(failure)?;
        polls.push(NextPoll { tag, call });
    }
    let mut bodies = Vec::new();
    let outcomes = outcomes
        .into_iter()
        .map(|EventOutcome { mut reply, socket_send, poll_after_ms }| {
            bodies.extend(reply.as_mut().map(|reply| std::mem::take(&mut reply.body)));
            OutcomeHead { reply, socket_send, poll_after_ms }
        })
        .collect();
    Ok(Ended { output: Output::Events { outcomes, polls }, bodies })
}

async fn run_request<C: Channel>(ctx: &Context, channel: &C, request: Request) -> Result<Reply, SendError> {
    let done = |()| Reply::Done(Nothing {});
    match request {
        Request::Send(send) => channel.send(ctx, *send).await.map(Reply::Sent),
        Request::Edit(edit) => channel.edit(ctx, *edit).await.map(done),
        Request::Delete(delete) => channel.delete(ctx, delete).await.map(done),
        Request::React(react) => channel.react(ctx, react).await.map(done),
        Request::Typing(typing) => channel.typing(ctx, typing).await.map(done),
        Request::MarkRead(read) => channel.mark_read(ctx, read).await.map(done),
        Request::AnswerButton(answer) => channel.answer_button(ctx, answer).await.map(done),
        Request::History(history) => channel.history(ctx, history).await.map(Reply::History),
        Request::Directory(directory) => channel.directory(ctx, directory).await.map(Reply::Directory),
        Request::Profile(profile) => channel.profile(ctx, profile).await.map(Reply::Profile),
        Request::SetProfile(profile) => channel.set_profile(ctx, profile).await.map(done),
        Request::Group(group) => channel.group(ctx, *group).await.map(Reply::Group),
        Request::SetChat(change) => channel.set_chat(ctx, change).await.map(done),
        Request::Resolve(resolve) => channel.resolve(ctx, resolve).await.map(Reply::Address),
        Request::FetchMedia(fetch) => channel.fetch_media(ctx, fetch).await.map(Reply::Media),
        Request::Reconcile(reconcile) => channel.reconcile(ctx, reconcile).await.map(Reply::Reconciled),
        Request::Capabilities(chat) => {
            channel.capabilities(ctx, chat).await.map(|found| Reply::Capabilities(Box::new(found)))
        }
        Request::Logout(nothing) => channel.logout(ctx, nothing).await.map(done),
        Request::Release(nothing) => channel.release(ctx, nothing).await.map(done),
        Request::ImportAuth(import) => channel.import_auth(ctx, import).await.map(Reply::AuthImported),
        Request::ExportAuth(nothing) => channel.export_auth(ctx, nothing).await.map(Reply::AuthExported),
        Request::Unknown(unknown) => Err(SendError::unsupported(&unknown.kind)),
    }
}
