//! A channel that misbehaves on purpose, for the tests of the host.
//!
//! It is an echo otherwise: `POST /` with `{"chatId", "from", "externalId", "text"}` brings a message in, `GET /sent`
//! lists the texts that went out since the start. What it does wrong is said by [`mode`](Config::mode), by the text of
//! a send, or by the text of a message that comes in: the words are in `Fault`. Deliberately nothing here that needs
//! `unsafe`: it is what a careless author can write.

mod fault;

use fault::Fault;
use omni_channel_sdk::prelude::*;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A running instance.
#[derive(Debug)]
pub struct Faulty {
    config: Config,
    /// The texts that were sent.
    sent: Mutex<Vec<Value>>,
    /// How often each text was tried.
    tries: Mutex<HashMap<String, u64>>,
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
}

/// A message as it is posted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Posted {
    chat_id: String,
    from: String,
    external_id: String,
    text: String,
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
        let posted: Posted = match serde_json::from_slice(body) {
            Ok(posted) => posted,
            Err(error) => return Ok(EventOutcome::reply_json(400, &json!({"error": error.to_string()}))),
        };
        let fault = self.mode("event").or_else(|| Fault::of(&posted.text));
        let chat = Chat::new(posted.chat_id.clone(), ChatKind::Direct);
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
            Some(Fault::Invalid) => return Err(ChannelError::invalid("this event is no good, on purpose")),
            Some(Fault::Fails) => return Err(ChannelError::transient("this fails, on purpose")),
            Some(fault) => {
                ctx.set("written-before-the-fault", posted.text.clone());
                ctx.emit(event(posted.external_id.clone(), posted.text.clone()));
                fault.commit(ctx).await;
            }
            None => ctx.emit(event(posted.external_id.clone(), posted.text.clone())),
        }
        Ok(EventOutcome::reply_json(200, &json!({"ok": true})))
    }

    async fn send_text(&self, ctx: &Context, text: &str, chat: &str) -> Result<(), SendError> {
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
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(json!({"chat": chat, "text": text}));
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
        let channel = Self { sent: Mutex::default(), tries: Mutex::default(), config };
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
        ctx.state(ConnectionState::Connected { profile: None });
        Ok(Started { channel, ingress })
    }

    async fn next_poll(&self, _ctx: &Context, _tag: &str) -> Result<HttpCall, ChannelError> {
        Ok(HttpCall::get(self.config.poll_url.clone().unwrap_or_default()))
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        match event {
            IngressEvent::Webhook { request } if request.method == "GET" => {
                let sent = json!(*self.sent.lock().unwrap_or_else(PoisonError::into_inner));
                return Ok(EventOutcome::reply_json(200, &json!({"sent": sent})));
            }
            IngressEvent::Webhook { request } => return self.posted(ctx, &request.body).await,
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
        self.send_text(ctx, text, send.chat.as_str()).await?;
        Ok(SendReceipt::new(send.client_id.as_str()))
    }

    async fn reconcile(&self, _ctx: &Context, ask: request::Reconcile) -> Result<request::Reconciled, SendError> {
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
    }
}

export_channel!(Faulty, "../channel.json");
