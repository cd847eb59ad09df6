//! The host's end of one running instance: calls there, questions back, and the one commit at the end of a call.
//!
//! A call returns only when what the channel emitted and wrote in it is durable. Deliberately not here: when an instance
//! is started, what is polled, when a failed call is tried again.

use super::host_api::Services;
use super::line::{FromChannel, Line, Room, ToHome};
use super::questions::{Question, Questions};
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::frame::{
    CallResult, Commit, Egress, Failure, HostAnswer, LogLevel, Op, OutcomeHead, Output, Tails, TimerSet, ToChannel,
    ToHost, decode, encode, encode_events,
};
use omni_channel_sdk::http::{HttpCall, HttpFailure, HttpResponse};
use omni_channel_sdk::ids::InstanceId;
use omni_channel_sdk::ingress::{EventOutcome, Ingress, IngressEvent, NextPoll, SocketAct};
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use omni_channel_sdk::request::{Reply, Request};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::timeout;

/// How long a channel may take to say that it is alive, once a call of it is overdue.
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Log lines of one instance in [`LOG_WINDOW_MS`]; the rest is counted.
const LOG_LINES: u32 = 200;
const LOG_WINDOW_MS: i64 = 10_000;

/// Why a call brought no result. Nothing of what the channel wrote in it is stored.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CallError {
    /// The channel said so.
    #[error("{}", .0.error.message)]
    Failed(Failure),
    /// The channel did not end the call in time. `stuck` when it did not answer a ping either: its thread hangs.
    #[error("the channel did not answer within {seconds} s{}", if *.stuck { " and is stuck" } else { "" })]
    TimedOut {
        /// How long it had.
        seconds: u64,
        /// Whether its thread hangs.
        stuck: bool,
    },
    /// The instance had ended before: the channel never heard of the call.
    #[error("{0}")]
    NotSent(String),
    /// The instance ended before the call did.
    #[error("{0}")]
    Ended(String),
    /// The call ended well, but what it wrote could not be stored.
    #[error("what the channel wrote could not be stored: {0}")]
    NotStored(String),
}

impl CallError {
    /// As the outcome of a request, for whoever asked.
    pub fn into_send_error(self) -> SendError {
        match self {
            Self::Failed(failure) => failure.error,
            Self::TimedOut { .. } => SendError::uncertain(self.to_string()),
            Self::NotSent(reason) => SendError::transient(reason),
            Self::Ended(reason) => SendError::uncertain(reason),
            Self::NotStored(reason) => {
                SendError { certain: false, ..SendError::new(ErrorCode::Internal, NextActor::Retry, reason) }
            }
        }
    }
}

/// A running instance. Cheap to clone; it ends when [`Session::end`] is called or the far side dies.
#[derive(Clone, Debug)]
pub struct Session(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    services: Services,
    to_channel: Mutex<Option<mpsc::UnboundedSender<ToHome>>>,
    calls: Mutex<HashMap<u64, oneshot::Sender<Ended>>>,
    pings: Mutex<HashMap<u64, oneshot::Sender<()>>>,
    next: AtomicU64,
    kill: Option<Arc<Notify>>,
    stuck: AtomicBool,
    /// Only what is under way may end; nothing but the goodbye begins any more.
    draining: AtomicBool,
    /// No call is under way any more.
    idle: Notify,
    ended: watch::Sender<Option<String>>,
    state: watch::Sender<Option<ConnectionState>>,
    wishes: Wishes,
}

/// Where goes what a channel wants done once what it wrote is durable.
#[derive(Debug)]
pub struct Wishes {
    /// Timers that it sets.
    pub timers: mpsc::UnboundedSender<TimerSet>,
    /// What it does with its sockets.
    pub sockets: mpsc::UnboundedSender<SocketAct>,
}

/// When a call may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// While the instance is not being stopped.
    Open,
    /// Until its line is cut.
    Always,
}

/// The end of a call as it came from the channel.
#[derive(Debug)]
struct Ended {
    result: CallResult,
    commit: Commit,
    tails: Tails,
}

/// What a start gave back.
#[derive(Debug)]
pub struct Started {
    /// The ways in.
    pub ingress: Vec<Ingress>,
    /// The first call of each long poll.
    pub polls: Vec<NextPoll>,
}

/// What became of things that arrived.
#[derive(Debug)]
pub struct EventsTaken {
    /// One for each.
    pub outcomes: Vec<EventOutcome>,
    /// The next call of each long poll that answered.
    pub polls: Vec<NextPoll>,
}

/// What a channel made of things that arrived, before it is durable.
#[derive(Debug)]
pub struct HandedOver {
    outcomes: Vec<OutcomeHead>,
    polls: Vec<NextPoll>,
    commit: Commit,
    tails: Tails,
}

impl HandedOver {
    /// Whether the next call may begin before this one is stored: what it emitted it will not miss, but what it wrote it
    /// would look for.
    pub fn may_be_followed(&self) -> bool {
        self.commit.writes.is_empty()
    }

    /// Makes it durable.
    pub async fn store(self, session: &Session) -> Result<EventsTaken, CallError> {
        let Self { outcomes, polls, commit, mut tails } = self;
        session.0.services.echoes().settled(session.0.services.instance_id(), &commit.events).await;
        session.store(commit, &mut tails).await?;
        let outcomes = outcomes.into_iter().map(|head| outcome(head, &mut tails)).collect();
        Ok(EventsTaken { outcomes, polls })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// Takes a line into use.
    pub fn new(line: Line, services: Services, wishes: Wishes) -> Self {
        let Line { to_channel, from_channel, kill } = line;
        let session = Self(Arc::new(Inner {
            services,
            to_channel: Mutex::new(Some(to_channel)),
            calls: Mutex::default(),
            pings: Mutex::default(),
            next: AtomicU64::new(1),
            kill,
            stuck: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            idle: Notify::new(),
            ended: watch::Sender::new(None),
            state: watch::Sender::new(None),
            wishes,
        }));
        tokio::spawn(pump(session.clone(), from_channel));
        session
    }

    /// What the host does for the instance.
    pub(super) fn services(&self) -> &Services {
        &self.0.services
    }

    /// The id of the channel.
    pub fn channel(&self) -> &str {
        self.0.services.channel()
    }

    /// Makes a call on behalf of the instance whose answer is a file, to be streamed.
    pub async fn fetch(&self, call: HttpCall) -> Result<reqwest::Response, HttpFailure> {
        let services = &self.0.services;
        services.http().fetch(call, services.secrets(), services.origins()).await
    }

    /// What the channel last reported about its connection.
    pub fn state(&self) -> watch::Receiver<Option<ConnectionState>> {
        self.0.state.subscribe()
    }

    /// Why the instance has ended, once it has.
    pub fn ended(&self) -> watch::Receiver<Option<String>> {
        self.0.ended.subscribe()
    }

    /// Starts the instance. `webhook_url` is where the network reaches its webhook, if the host has a public address;
    /// `egress` is how it connects where it does so by itself.
    pub async fn start(
        &self,
        config: serde_json::Value,
        webhook_url: Option<String>,
        egress: Egress,
        within: Duration,
    ) -> Result<Started, CallError> {
        self.begin_with(|instance| Op::Start { instance, config, webhook_url, offline: false, egress }, within).await
    }

    /// Starts the instance only to be asked something: it does not connect to its network.
    pub async fn start_offline(&self, config: serde_json::Value, within: Duration) -> Result<Started, CallError> {
        let egress = Egress::default();
        self.begin_with(|instance| Op::Start { instance, config, webhook_url: None, offline: true, egress }, within)
            .await
    }

    async fn begin_with(&self, op: impl FnOnce(InstanceId) -> Op, within: Duration) -> Result<Started, CallError> {
        let op = op(self.0.services.instance_id().to_string().into());
        match self.call(|call, now| begin(call, now, op), within, When::Open).await? {
            (Output::Started { ingress, polls }, _) => Ok(Started { ingress, polls }),
            _ => Err(nonsense("a start")),
        }
    }

    /// Hands over things that arrived.
    pub async fn events(&self, events: Vec<IngressEvent>, within: Duration) -> Result<EventsTaken, CallError> {
        self.hand_over(events, within).await?.store(self).await
    }

    /// Hands over things that arrived, and returns when the channel is done with them. Nothing of it is durable before
    /// [`HandedOver::store`] returns, and what is stored in the order of these calls comes in that order.
    pub async fn hand_over(&self, events: Vec<IngressEvent>, within: Duration) -> Result<HandedOver, CallError> {
        let expected = events.len();
        let (output, commit, tails) =
            self.ask(|call, now| encode_events(call, now, events), within, When::Open).await?;
        match output {
            Output::Events { outcomes, polls } if outcomes.len() == expected => {
                Ok(HandedOver { outcomes, polls, commit, tails })
            }
            _ => Err(nonsense("events")),
        }
    }

    /// Asks for something. Not taken any more once the instance [drains](Self::drain).
    pub async fn request(&self, request: Request, within: Duration) -> Result<Reply, CallError> {
        self.ask_for(request, within, When::Open).await
    }

    /// Asks for something that belongs to the goodbye of an instance.
    pub async fn last_request(&self, request: Request, within: Duration) -> Result<Reply, CallError> {
        self.ask_for(request, within, When::Always).await
    }

    async fn ask_for(&self, request: Request, within: Duration, when: When) -> Result<Reply, CallError> {
        match self.call(|call, now| begin(call, now, Op::Request { request }), within, when).await? {
            (Output::Reply { reply }, _) => Ok(*reply),
            _ => Err(nonsense("a request")),
        }
    }

    /// Makes a move in a login.
    pub async fn login(&self, login: LoginCall, within: Duration) -> Result<LoginStep, CallError> {
        match self.call(|call, now| begin(call, now, Op::Login { login }), within, When::Open).await? {
            (Output::Login { step }, _) => Ok(*step),
            _ => Err(nonsense("a login")),
        }
    }

    /// Lets no call begin any more but those of the goodbye, and waits until none is under way, as long as the time lasts.
    pub async fn drain(&self, within: Duration) {
        {
            // Under this lock calls begin.
            let _calls = lock(&self.0.calls);
            self.0.draining.store(true, Ordering::Release);
        }
        let idle = async {
            loop {
                let idle = self.0.idle.notified();
                if lock(&self.0.calls).is_empty() {
                    return;
                }
                idle.await;
            }
        };
        // What is not done by then has an unknown outcome, and is told so.
        let _ = timeout(within, idle).await;
    }

    /// Ends the instance: the channel may say goodbye within the time, then the line is cut.
    pub async fn stop(&self, within: Duration) -> Result<(), CallError> {
        let stopped = self.call(|call, now| begin(call, now, Op::Stop {}), within, When::Always).await;
        self.end("the instance was stopped");
        stopped.map(|_| ())
    }

    /// Cuts the line. Calls that are under way end with the reason.
    pub fn end(&self, reason: &str) {
        lock(&self.0.to_channel).take();
        self.0.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert_with(|| reason.to_owned());
            first
        });
        lock(&self.0.calls).clear();
        lock(&self.0.pings).clear();
    }

    /// Ends the process behind the line, when it has one of its own; otherwise only cuts the line.
    pub fn kill(&self, reason: &str) -> bool {
        if let Some(kill) = &self.0.kill {
            kill.notify_one();
        }
        self.end(reason);
        self.0.kill.is_some()
    }

    /// Whether it left a thread behind in this process that does not come back.
    pub fn left_a_thread(&self) -> bool {
        self.0.stuck.load(Ordering::Acquire) && self.0.kill.is_none()
    }

    fn send(&self, frame: impl Into<ToHome>) -> bool {
        lock(&self.0.to_channel).as_ref().is_some_and(|to_channel| to_channel.send(frame.into()).is_ok())
    }

    fn reason(&self) -> String {
        self.0.ended.borrow().clone().unwrap_or_else(|| "the instance has ended".into())
    }

    /// A call, and what it wrote made durable.
    async fn call(
        &self,
        frame: impl FnOnce(u64, i64) -> Vec<u8>,
        within: Duration,
        when: When,
    ) -> Result<(Output, Tails), CallError> {
        let (output, commit, mut tails) = self.ask(frame, within, when).await?;
        self.store(commit, &mut tails).await?;
        Ok((output, tails))
    }

    /// Makes what a call wrote durable, sets its timers and turns to its sockets.
    async fn store(&self, commit: Commit, tails: &mut Tails) -> Result<(), CallError> {
        let after = self.0.services.commit(commit, tails).await.map_err(CallError::NotStored)?;
        for timer in after.timers {
            let _ = self.0.wishes.timers.send(timer);
        }
        for act in after.sockets {
            let _ = self.0.wishes.sockets.send(act);
        }
        Ok(())
    }

    /// A call, and what it is to write, of which nothing is stored yet.
    async fn ask(
        &self,
        frame: impl FnOnce(u64, i64) -> Vec<u8>,
        within: Duration,
        when: When,
    ) -> Result<(Output, Commit, Tails), CallError> {
        let call = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (done, is_done) = oneshot::channel();
        {
            let mut calls = lock(&self.0.calls);
            if when == When::Open && self.0.draining.load(Ordering::Acquire) {
                return Err(CallError::NotSent("the instance is being stopped".into()));
            }
            calls.insert(call, done);
        }
        let _guard = Forget { session: self, call };
        if !self.send(frame(call, self.0.services.clock().now().millis())) {
            return Err(CallError::NotSent(self.reason()));
        }
        let ended = match timeout(within, is_done).await {
            Ok(Ok(ended)) => ended,
            Ok(Err(_)) => return Err(CallError::Ended(self.reason())),
            Err(_) => {
                let stuck = !self.alive().await;
                if stuck {
                    self.0.stuck.store(true, Ordering::Release);
                    self.kill("the channel is stuck: its thread does not come back");
                }
                return Err(CallError::TimedOut { seconds: within.as_secs(), stuck });
            }
        };
        let Ended { result, commit, tails } = ended;
        match result {
            CallResult::Err(failure) => Err(CallError::Failed(failure)),
            CallResult::Ok(output) => Ok((output, commit, tails)),
        }
    }

    /// Whether the channel still takes frames.
    async fn alive(&self) -> bool {
        let nonce = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (pong, answered) = oneshot::channel();
        lock(&self.0.pings).insert(nonce, pong);
        let sent = self.send(encode(&ToChannel::Ping { nonce }, &[]));
        let alive = sent && matches!(timeout(PING_TIMEOUT, answered).await, Ok(Ok(())));
        lock(&self.0.pings).remove(&nonce);
        alive
    }

    /// Sends an answer, which takes its room until the channel has read it.
    pub(super) fn reply(&self, call: u64, id: u32, answer: HostAnswer, tails: &[Vec<u8>], room: Room) {
        let now = self.0.services.clock().now().millis();
        let frame = encode(&ToChannel::Answer { call, id, now, answer }, tails);
        self.send(ToHome { frame, room: Some(room) });
    }
}

/// Takes a call off the table however its caller leaves; the channel need not end it any more.
struct Forget<'a> {
    session: &'a Session,
    call: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let given_up = lock(&self.session.0.calls).remove(&self.call).is_some();
        self.session.0.idle.notify_waiters();
        if given_up {
            self.session.send(encode(&ToChannel::Cancel { call: self.call }, &[]));
        }
    }
}

fn begin(call: u64, now: i64, op: Op) -> Vec<u8> {
    encode(&ToChannel::Begin { call, now, op }, &[])
}

fn nonsense(what: &str) -> CallError {
    CallError::Failed(Failure {
        error: SendError {
            certain: false,
            ..SendError::internal(format!("the channel answered {what} with something else"))
        },
        state: None,
        panicked: false,
    })
}

fn outcome(head: OutcomeHead, tails: &mut Tails) -> EventOutcome {
    let reply = head.reply.map(|reply| HttpResponse { body: tails.next_bytes().unwrap_or_default(), ..reply });
    EventOutcome { reply, socket_send: head.socket_send, poll_after_ms: head.poll_after_ms }
}

/// Reads what the channel says until the line ends.
async fn pump(session: Session, mut from_channel: mpsc::Receiver<FromChannel>) {
    let questions = Questions::new();
    let mut log = LogBrake::default();
    let mut ended = session.ended();
    let reason = loop {
        let next = tokio::select! {
            next = from_channel.recv() => next,
            _ = ended.wait_for(Option::is_some) => return,
        };
        let frame = match next {
            Some(FromChannel::Frame(frame)) => frame,
            Some(FromChannel::Ended(reason)) => break reason,
            None => break "the channel's thread has ended".to_owned(),
        };
        let (head, tails) = match decode::<ToHost>(&frame) {
            Ok(decoded) => decoded,
            Err(error) => break format!("the channel sent something that is no frame: {error}"),
        };
        match head {
            ToHost::Call { call, id, request } => {
                let question = Question { call, id, request };
                if let Err(reason) = questions.take(&session, question, tails, frame.len()).await {
                    break reason;
                }
            }
            ToHost::Done { call, result, commit } => {
                // A call that nobody waits for any more was cancelled: what it wrote is not stored.
                if let Some(done) = lock(&session.0.calls).remove(&call) {
                    let _ = done.send(Ended { result, commit, tails });
                }
            }
            ToHost::Wake { call } => {
                let now = session.0.services.clock().now().millis();
                session.send(encode(&ToChannel::Poll { call, now }, &[]));
            }
            ToHost::State { state } => drop(session.0.state.send_replace(Some(state))),
            ToHost::Log { level, message } => log.write(&session, level, &message),
            ToHost::Pong { nonce } => {
                if let Some(pong) = lock(&session.0.pings).remove(&nonce) {
                    let _ = pong.send(());
                }
            }
        }
    };
    session.end(&reason);
}

/// Lets a channel write to the log, but not fill the disk.
#[derive(Default)]
struct LogBrake {
    window_start: i64,
    lines: u32,
}

impl LogBrake {
    fn write(&mut self, session: &Session, level: LogLevel, message: &str) {
        let services = &session.0.services;
        let now = services.clock().now().millis();
        if now - self.window_start >= LOG_WINDOW_MS {
            let dropped = self.lines.saturating_sub(LOG_LINES);
            if dropped > 0 {
                tracing::warn!(instance.id = %services.instance_id(), dropped, "the channel logs too much");
            }
            *self = Self { window_start: now, lines: 0 };
        }
        self.lines += 1;
        if self.lines > LOG_LINES {
            return;
        }
        let message = &message[..message.floor_char_boundary(2_000)];
        let (id, channel) = (services.instance_id(), services.channel());
        match level {
            LogLevel::Debug => tracing::debug!(instance.id = %id, channel.name = channel, "{message}"),
            LogLevel::Info => tracing::info!(instance.id = %id, channel.name = channel, "{message}"),
            LogLevel::Warn => tracing::warn!(instance.id = %id, channel.name = channel, "{message}"),
            LogLevel::Error => tracing::error!(instance.id = %id, channel.name = channel, "{message}"),
        }
    }
}

/// The answer for a question that the host will not answer.
pub(super) fn refuse(message: impl Into<String>) -> (HostAnswer, Vec<Vec<u8>>) {
    (HostAnswer::Failed { message: message.into() }, Vec::new())
}
