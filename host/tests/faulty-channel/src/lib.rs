//! A channel that misbehaves on purpose, for the tests of the host.
//!
//! It is an echo otherwise: `POST /` with `{"chatId", "from", "externalId", "text"}` brings a message in (one of our own with
//! `fromMe`), and with `{"emit": [event, …]}` emits whatever the events say, and with `missed` beside it says that it missed
//! something; it has a history that is said to it (`history`). `GET /sent` lists the texts that went out since the start,
//! each with the id that its network gave it. A send that begins with `held` is taken by that network and answered once a
//! message `let go` was posted. It can also hold a WebSocket ([`socket_url`](Config::socket_url)) and take lines on an ingress
//! of its own ([`own`](Config::own)). What it does wrong is said by [`mode`](Config::mode), by the text of a send, or by the
//! text of a message that comes in: the words are in `Fault`. Deliberately nothing here that needs
//! `unsafe`: it is what a careless author can write.

mod fault;
mod held;
mod history;
mod own;

use fault::Fault;
use held::Held;
use history::{Asked, Said};
use omni_channel_sdk::ingress::{Own as OwnIngress, Websocket};
use omni_channel_sdk::prelude::*;
use own::Own;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A running instance.
#[derive(Debug)]
pub struct Faulty {
    config: Config,
    /// The texts that were sent.
    sent: Mutex<Vec<Value>>,
    /// Sends that wait to be answered.
    held: Held,
    /// How often each text was tried.
    tries: Mutex<HashMap<String, u64>>,
    /// What history was asked for.
    asked: Asked,
    /// How many frames of a WebSocket came in each call.
    batches: Mutex<Vec<usize>>,
    /// Its own ingress.
    own: Mutex<Option<Own>>,
}

/// Its configuration.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    /// An address to take messages on.
    pub listen: Option<String>,
    /// What goes wrong by itself: `startFails`, `startStops`, `startLogsOut`, or `start-`, `event-`, `poll-`, `timer-`,
    /// `stop-` with a word of `Fault` behind it (`start-panic`).
    pub mode: String,
    /// How many events a flood has, how many bytes a large event, how often `flaky` fails, how long `slow` asks to wait
    /// in milliseconds.
    pub n: u64,
    /// What reconciling an uncertain send says: `sent`, `notSent`, or else that it cannot be told.
    pub reconcile: String,
    /// Makes it poll this address, for faults of a long poll.
    pub poll_url: Option<String>,
    /// Makes it hold a WebSocket to this address: each text is a message as it is posted, with a number `seq` that is
    /// remembered, acknowledged (`ack 7`) and named when the socket opens (`resume 7`).
    pub socket_url: Option<String>,
    /// After how many silent milliseconds the socket is dead.
    pub socket_idle_ms: Option<u64>,
    /// Makes it take lines on this address by itself, each a message as it is posted. With the mode `ownLingers` the
    /// thread that does so is not ended by a stop.
    pub own: Option<String>,
}

/// A message as it is posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    chat_id: String,
    from: String,
    external_id: String,
    text: String,
    #[serde(default)]
    from_me: bool,
    #[serde(default)]
    seq: Option<u64>,
}

/// Events as they are, to be emitted as they are.
#[derive(Deserialize)]
struct Emitted {
    emit: Vec<Event>,
    #[serde(default)]
    missed: bool,
}

impl Faulty {
    /// The fault that the mode asks for in this place.
    fn mode(&self, place: &str) -> Option<Fault> {
        self.config.mode.strip_prefix(place)?.strip_prefix('-').and_then(Fault::of)
    }

    fn tried(&self, text: &str) -> u64 {
        let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
        let count = tries.entry(text.to_owned()).or_default();
        *count += 1;
        *count
    }

    /// Emits `n` events and comes again at once, without end.
    fn flood(&self, ctx: &Context) {
        let round = self.tried("(flood)");
        for number in 0..self.config.n.max(1) {
            let id = format!("flood-{round}-{number}");
            let message = Message::new(id.clone(), User::new("flood"), Content::text("flood"));
            ctx.emit(Event::new(Chat::new("flood", ChatKind::Direct), ctx.now(), message).delivered_as(id));
        }
        ctx.set_timer("fault", 0);
    }

    async fn posted(&self, ctx: &Context, body: &[u8]) -> Result<EventOutcome, ChannelError> {
        if let Ok(said) = serde_json::from_slice::<Said>(body) {
            said.keep(ctx);
            return Ok(EventOutcome::reply_json(200, &json!({"ok": true})));
        }
        if let Ok(Emitted { emit, missed }) = serde_json::from_slice(body) {
            emit.into_iter().for_each(|event| ctx.emit(event));
            if missed {
                ctx.missed();
            }
            return Ok(EventOutcome::reply_json(200, &json!({"ok": true})));
        }
        let posted: Posted = match serde_json::from_slice(body) {
            Ok(posted) => posted,
            Err(error) => return Ok(EventOutcome::reply_json(400, &json!({"error": error.to_string()}))),
        };
        if posted.text == "let go" {
            self.held.let_go();
            return Ok(EventOutcome::reply_json(200, &json!({"ok": true})));
        }
        let chat = Chat::new(posted.chat_id.clone(), ChatKind::Direct);
        if posted.from_me {
            let sender = Sender { user: User::new(posted.from), is_from_me: true, on_behalf_of: None };
            ctx.emit(Event::new(chat, ctx.now(), Message::new(posted.external_id, sender, Content::text(posted.text))));
            // Seen from outside before anything of it is stored.
            let profile = Profile { id: "faulty".into(), name: Some("saw an echo".into()), ..Profile::default() };
            ctx.state(ConnectionState::connected(profile));
            return Ok(EventOutcome::reply_json(200, &json!({"ok": true})));
        }
        let fault = self.mode("event").or_else(|| Fault::of(&posted.text));
        let event = |id: String, text: String| {
            let key = json!([posted.chat_id, id]).to_string();
            let message = Message::new(id, User::new(posted.from.clone()), Content::text(text));
            Event::new(chat.clone(), ctx.now(), message).delivered_as(key)
        };
        match fault {
            Some(Fault::Flood) => {
                for number in 0..self.config.n.max(1) {
                    ctx.emit(event(format!("{}-{number}", posted.external_id), "flood".into()));
                }
            }
            Some(Fault::Large) => {
                ctx.emit(event(
                    posted.external_id.clone(),
                    "x".repeat(usize::try_from(self.config.n).unwrap_or(usize::MAX)),
                ));
            }
            Some(Fault::Keeps) => {
                let size = usize::try_from(self.config.n).unwrap_or(usize::MAX);
                ctx.set(format!("kept {}", posted.external_id), vec![b'k'; size]);
                ctx.emit(event(posted.external_id.clone(), posted.text.clone()));
            }
            Some(Fault::Invalid) => return Err(ChannelError::invalid("this event is no good, on purpose")),
            Some(Fault::Fails) => return Err(ChannelError::transient("this fails, on purpose")),
            Some(fault) => {
                ctx.set("written-before-the-fault", posted.text.clone());
                ctx.emit(event(posted.external_id.clone(), posted.text.clone()));
                fault.commit(ctx).await;
            }
            None => {
                ctx.set("last", posted.text.clone());
                ctx.emit(event(posted.external_id.clone(), posted.text.clone()));
            }
        }
        Ok(EventOutcome::reply_json(200, &json!({"ok": true})))
    }

    /// A text of the WebSocket: a message, acknowledged with its number.
    async fn heard(&self, ctx: &Context, text: &str) -> Result<EventOutcome, ChannelError> {
        let seq = serde_json::from_str::<Posted>(text).ok().and_then(|posted| posted.seq);
        let taken = self.posted(ctx, text.as_bytes()).await?;
        let Some(seq) = seq else { return Ok(EventOutcome { reply: None, ..taken }) };
        ctx.set("seq", seq.to_string());
        Ok(EventOutcome { reply: None, socket_send: vec![format!("ack {seq}")], ..taken })
    }

    /// Says where it stands, for the network to go on from there.
    async fn resume(&self, ctx: &Context) -> Result<EventOutcome, ChannelError> {
        let seq = ctx.get("seq").await?.unwrap_or_else(|| b"0".to_vec());
        let words = format!("resume {}", String::from_utf8_lossy(&seq));
        Ok(EventOutcome { socket_send: vec![words], ..EventOutcome::default() })
    }

    async fn send_text(&self, ctx: &Context, text: &str, send: &request::Send) -> Result<(), SendError> {
        if let Some(file) = text.strip_prefix("read ") {
            // What a channel that was taken over would look for first.
            std::fs::read(file).map_err(|error| SendError::invalid(format!("{file} was not read: {error}")))?;
        }
        match Fault::of(text) {
            Some(Fault::Uncertain) => return Err(SendError::uncertain("nobody knows, on purpose")),
            Some(Fault::Slow) => return Err(SendError::rate_limited(self.config.n.max(1), "slower, on purpose")),
            Some(Fault::Invalid) => return Err(SendError::invalid("this is no good, on purpose")),
            Some(Fault::Unauthorized) => return Err(SendError::unauthorized("the token was revoked, on purpose")),
            Some(Fault::Fails) => return Err(SendError::transient("this always fails, on purpose")),
            Some(Fault::Flaky) if self.tried(text) <= self.config.n => {
                return Err(SendError::transient("this fails at first, on purpose"));
            }
            Some(Fault::Flaky) | None => {}
            Some(fault) => fault.commit(ctx).await,
        }
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(json!({
            "chat": send.chat, "text": text, "id": send.client_id,
        }));
        if text.starts_with("held") {
            self.held.wait().await;
        }
        Ok(())
    }
}

impl Channel for Faulty {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        match config.mode.as_str() {
            "startFails" => return Err(ChannelError::transient("the start fails, on purpose")),
            "startStops" => return Err(ChannelError::stopped("the start stops, on purpose")),
            "startLogsOut" => return Err(ChannelError::logged_out("logged out, on purpose", "log in again")),
            _ => {}
        }
        let own = match &config.own {
            Some(address) => Some(Own::listen(address, ctx.background()).map_err(|error| {
                ChannelError::transient(format!("the address {address} cannot be opened: {error}"))
            })?),
            None => None,
        };
        let channel = Self {
            sent: Mutex::default(),
            held: Held::default(),
            tries: Mutex::default(),
            asked: Asked::default(),
            batches: Mutex::default(),
            own: Mutex::new(own),
            config,
        };
        if let Some(fault) = channel.mode("start") {
            fault.commit(ctx).await;
        }
        if channel.mode("timer").is_some() {
            ctx.set_timer("fault", 0);
        }
        let mut ingress: Vec<Ingress> =
            vec![Webhook { listen: channel.config.listen.clone(), ..Webhook::default() }.into()];
        if channel.config.poll_url.is_some() {
            ingress.push(LongPoll::default().into());
        }
        if let Some(url) = &channel.config.socket_url {
            let idle_ms = channel.config.socket_idle_ms;
            let (tag, url) = (String::new(), url.clone());
            ingress.push(Websocket { tag, url, first_url: None, headers: Vec::new(), idle_ms }.into());
        }
        if channel.config.own.is_some() {
            ingress.push(OwnIngress {}.into());
        }
        ctx.state(ConnectionState::connected(None));
        Ok(Started { channel, ingress })
    }

    async fn next_poll(&self, ctx: &Context, _tag: &str) -> Result<HttpCall, ChannelError> {
        if let Some(fault) = self.mode("nextPoll") {
            fault.commit(ctx).await;
        }
        Ok(HttpCall::get(self.config.poll_url.clone().unwrap_or_default()))
    }

    async fn on_events(&self, ctx: &Context, events: Vec<IngressEvent>) -> Result<Vec<EventOutcome>, ChannelError> {
        let frames = events.iter().filter(|event| matches!(event, IngressEvent::SocketText { .. })).count();
        if frames > 0 {
            self.batches.lock().unwrap_or_else(PoisonError::into_inner).push(frames);
        }
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            outcomes.push(self.on_event(ctx, event).await?);
        }
        Ok(outcomes)
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        match event {
            IngressEvent::Webhook { request } if request.method == "GET" => {
                let sent = json!(*self.sent.lock().unwrap_or_else(PoisonError::into_inner));
                let batches = json!(*self.batches.lock().unwrap_or_else(PoisonError::into_inner));
                let last = ctx.get("last").await?.map(|last| String::from_utf8_lossy(&last).into_owned());
                let seen = json!({"sent": sent, "batches": batches, "last": last, "asked": self.asked.list()});
                return Ok(EventOutcome::reply_json(200, &seen));
            }
            IngressEvent::Webhook { request } => return self.posted(ctx, &request.body).await,
            IngressEvent::SocketOpen { .. } => return self.resume(ctx).await,
            IngressEvent::SocketText { text, .. } => return self.heard(ctx, &text).await,
            IngressEvent::PollResponse { .. } => {
                if let Some(fault) = self.mode("poll") {
                    fault.commit(ctx).await;
                }
            }
            IngressEvent::Timer { .. } => match self.mode("timer") {
                Some(Fault::Flood) => self.flood(ctx),
                Some(fault) => fault.commit(ctx).await,
                None => {}
            },
            _ => {}
        }
        Ok(EventOutcome::default())
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        let text = send.content.words().map(|text| text.text.as_str()).unwrap_or_default();
        self.send_text(ctx, text, &send).await?;
        Ok(SendReceipt::new(send.client_id.as_str()))
    }

    async fn history(&self, ctx: &Context, ask: request::History) -> Result<request::HistoryPage, SendError> {
        history::answer(ctx, &self.asked, ask).await
    }

    async fn reconcile(&self, ctx: &Context, ask: request::Reconcile) -> Result<request::Reconciled, SendError> {
        if let Some(fault) = self.mode("reconcile") {
            fault.commit(ctx).await;
        }
        Ok(match self.config.reconcile.as_str() {
            "sent" => request::Reconciled::Sent { receipt: SendReceipt::new(ask.send.client_id.as_str()) },
            "notSent" => request::Reconciled::NotSent,
            _ => request::Reconciled::Unresolved,
        })
    }

    async fn stop(&self, ctx: &Context) {
        if let Some(fault) = self.mode("stop") {
            fault.commit(ctx).await;
        }
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).take();
        match own {
            // It goes on as if nobody had said a word.
            Some(_) if self.config.mode == "ownLingers" => {}
            Some(own) => own.stop(),
            None => {}
        }
    }
}

export_channel!(Faulty, "../channel.json");
