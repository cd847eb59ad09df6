//! The gateway: sessions that are begun, kept alive, taken up again and given up, one for each shard.
//!
//! The host holds the sockets; what is said on them is said here (<https://discord.com/developers/docs/events/gateway>). A
//! session's number of the last event is written by the call that emits the events, so both are stored together: after a
//! crash Discord replays exactly what was not stored. In memory is only what the next connection finds out anew.
//!
//! Deliberately not here: what an event means (`inbound`), and waiting, which is done by timers.

mod begins;

use crate::api::{Application, GatewayBot};
use crate::client::{Call, Client};
use crate::config::{Config, Presence};
use crate::errors;
use crate::intents;
use begins::Begins;
use omni_channel_sdk::ingress::{Ingress, SocketAct, Websocket};
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A socket that says nothing at all for so long is dead. Every heartbeat is answered, so this is rarely what finds out.
const IDLE_MS: u64 = 120_000;
/// The code with which we close a socket whose session we want to take up again: Discord ends it for 1000 and 1001.
const COME_BACK: u16 = 4_000;
/// How often a session that Discord does not take up is begun anew, at random within.
const INVALID_MS: (u64, u64) = (1_000, 5_000);
/// A session that lasted so long was a good one; after others it is waited longer each time, at most 2⁷ times as long.
const GOOD_LIFE_MS: i64 = 60_000;
const LONGEST_PAUSE: u32 = 7;
/// A wait for the beginning of a session that somebody should know of: many shards begin one after the other for longer.
const LONG_MS: u64 = 900_000;
/// How long it may take until all servers are listed that a session brings.
const LISTED_WITHIN_MS: i64 = 300_000;
/// Larger payloads than this are not unpacked.
const UNPACKED: usize = 32 << 20;

/// A session, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Session {
    id: String,
    /// The number of the last event that is stored.
    seq: u64,
    /// Where it is taken up again.
    url: String,
    /// Of how many shards it is one.
    shards: u32,
    /// What it was begun with: it brings nothing else when it is taken up again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    intents: Option<u64>,
    /// What members see of the bot.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    presence: Value,
    /// When it last brought something, milliseconds since 1970.
    #[serde(default)]
    seen_at: i64,
}

impl Session {
    /// Whether a gateway with so many shards and these intents may take it up.
    fn fits(&self, shards: u32, intents: u64) -> bool {
        // Other numbers of shards divide the guilds otherwise.
        self.shards == shards && self.intents.is_none_or(|begun_with| begun_with == intents)
    }
}

/// What one shard is doing.
#[derive(Debug, Default)]
struct Shard {
    session: Option<Session>,
    /// Whether the socket is open and said hello, and how often it wants to hear from us.
    heartbeat_ms: Option<u64>,
    /// Whether the last heartbeat was answered.
    answered: bool,
    /// Whether events come.
    ready: bool,
    /// When it may begin a session.
    identify_at: Option<i64>,
    /// When its session began to bring events, and how many before it did not last.
    ready_at: i64,
    short_lived: u32,
    /// Whether there was a session before this one, whose last events may be lost.
    had_session: bool,
    /// When the one before last brought something, as far as that is known.
    lost_at: Option<i64>,
    /// Whether what is kept is older than what is here.
    touched: bool,
}

/// An event of the gateway.
#[derive(Debug, PartialEq)]
pub struct Dispatch {
    /// `MESSAGE_CREATE`.
    pub kind: String,
    /// What happened.
    pub data: Value,
    /// What Discord would deliver it as again.
    pub key: String,
    /// Of which shard.
    pub shard: u32,
}

/// The gateway of one bot.
pub struct Gateway {
    token: String,
    /// Where it is; `fixed` when the operator said so.
    url: String,
    fixed: bool,
    intents: u64,
    presence: Option<Presence>,
    concurrency: u32,
    count: u32,
    /// Whether the operator said how many shards there are.
    chosen: bool,
    shards: Mutex<Shards>,
}

#[derive(Debug, Default)]
struct Shards {
    all: Vec<Shard>,
    begins: Begins,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("url", &self.url).field("shards", &self.count).finish_non_exhaustive()
    }
}

fn key(shard: u32) -> String {
    format!("gateway/{shard}")
}

/// A frame as it comes.
#[derive(Debug, Deserialize)]
pub struct Frame {
    op: u8,
    #[serde(default)]
    t: Option<String>,
    #[serde(default)]
    s: Option<u64>,
    #[serde(default)]
    d: Value,
}

impl Frame {
    /// Reads one.
    pub fn read(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| format!("a frame of the gateway cannot be read: {error}"))
    }

    /// Takes one that came compressed apart.
    pub fn unpack(bytes: &[u8]) -> Result<Self, String> {
        let unpacked = miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(bytes, UNPACKED)
            .map_err(|error| format!("a compressed frame of the gateway cannot be read: {error}"))?;
        serde_json::from_slice(&unpacked)
            .map_err(|error| format!("a compressed frame of the gateway cannot be read: {error}"))
    }

    /// Whether what is to be done about it is done after a while, at random: many bots are told the same at once.
    pub fn wants_chance(&self) -> bool {
        matches!(self.op, 7 | 9 | 10)
    }
}

impl Gateway {
    /// Asks Discord where the gateway is and how many shards it wants, and takes up what was kept.
    pub async fn open(
        ctx: &Context,
        client: &Client,
        config: &Config,
        application: &Application,
    ) -> Result<Self, ChannelError> {
        let intents = intents::choose(config, application.flags).map_err(ChannelError::stopped)?;
        let bot: GatewayBot = client.get(ctx, &Call::get("/gateway/bot")).await.map_err(errors::connection)?;
        let count = config.shards.unwrap_or(bot.shards).clamp(1, 1_000);
        let limit = &bot.session_start_limit;
        let url = config.gateway_url.clone().unwrap_or(bot.url);
        let mut all = Vec::new();
        for shard in 0..count {
            let kept = ctx.get(&key(shard)).await?.and_then(|kept| serde_json::from_slice::<Session>(&kept).ok());
            let had_session = kept.is_some();
            let (session, lost) = match kept {
                Some(kept) if kept.fits(count, intents) => (Some(kept), None),
                lost => (None, lost),
            };
            let lost_at = lost.map(|lost| lost.seen_at).filter(|at| *at > 0);
            all.push(Shard { session, had_session, lost_at, ..Shard::default() });
        }
        let to_begin = all.iter().filter(|shard| shard.session.is_none()).count();
        if limit.remaining < u32::try_from(to_begin).unwrap_or(u32::MAX) {
            let minutes = limit.reset_after.div_ceil(60_000);
            let what = format!(
                "Discord lets this bot begin {} more sessions, and {to_begin} are needed: it is tried again, at the latest in \
                 {minutes} minutes there are more",
                limit.remaining
            );
            let mut error = ChannelError::transient(what);
            error.error.retry_after_ms = Some(limit.reset_after);
            return Err(error);
        }
        Ok(Self {
            token: client.token().to_owned(),
            url,
            fixed: config.gateway_url.is_some(),
            intents,
            presence: config.presence.clone(),
            concurrency: limit.max_concurrency.max(1),
            count,
            chosen: config.shards.is_some(),
            shards: Mutex::new(Shards { all, begins: Begins::new(limit, ctx.now()) }),
        })
    }

    /// The gateway of a bot that has no token yet: no socket at all.
    pub fn closed_for_good() -> Self {
        let (token, url, presence, shards) = Default::default();
        Self { token, url, fixed: false, intents: 0, presence, concurrency: 1, count: 0, chosen: false, shards }
    }

    /// The sockets that the host is to hold, one for each shard.
    pub fn ingress(&self) -> Vec<Ingress> {
        let shards = self.shards();
        let sockets = (0..self.count).zip(&shards.all).map(|(shard, state)| {
            let elsewhere = state.session.as_ref().filter(|_| !self.fixed).map(|session| session.url.as_str());
            Ingress::from(Websocket {
                tag: shard.to_string(),
                url: address(&self.url),
                first_url: elsewhere.filter(|url| !url.is_empty()).map(address),
                headers: Vec::new(),
                idle_ms: Some(IDLE_MS),
            })
        });
        sockets.collect()
    }

    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A socket is open: what was true of the one before no longer is.
    pub fn opened(&self, tag: &str) {
        self.with(tag, |_, state, _| {
            (state.heartbeat_ms, state.ready, state.identify_at, state.answered) = (None, false, None, true);
        });
    }

    fn with<T>(&self, tag: &str, change: impl FnOnce(u32, &mut Shard, &mut Begins) -> T) -> Option<T> {
        let shard: u32 = tag.parse().ok()?;
        let mut shards = self.shards();
        let Shards { all, begins } = &mut *shards;
        let state = all.get_mut(usize::try_from(shard).ok()?)?;
        Some(change(shard, state, begins))
    }

    /// Takes a frame; what is an event is given back. `chance` is any number.
    pub fn frame(&self, ctx: &Context, tag: &str, frame: Frame, chance: u8) -> Option<Dispatch> {
        let taken = self.with(tag, |shard, state, begins| match frame.op {
            0 => self.dispatch(ctx, tag, shard, state, frame),
            1 => {
                heartbeat(ctx, tag, state);
                None
            }
            7 => {
                come_back(ctx, tag, u64::from(chance));
                None
            }
            9 => {
                if frame.d != json!(true) {
                    self.give_up(ctx, tag, shard, state);
                }
                let lasted = state.ready && ctx.now() - state.ready_at >= GOOD_LIFE_MS;
                state.short_lived = if lasted { 0 } else { state.short_lived + 1 };
                let (from, to) = INVALID_MS;
                let pause = from + (to - from) * u64::from(chance) / 255;
                // The first time is nobody's fault.
                come_back(ctx, tag, pause << state.short_lived.saturating_sub(1).min(LONGEST_PAUSE));
                None
            }
            10 => {
                let every =
                    frame.d.get("heartbeat_interval").and_then(Value::as_u64).unwrap_or(41_250).clamp(10, 600_000);
                state.heartbeat_ms = Some(every);
                state.answered = true;
                ctx.set_timer(format!("beat/{shard}"), every * u64::from(chance) / 255);
                match &state.session {
                    Some(session) => {
                        let resume = json!({"token": self.token, "session_id": session.id, "seq": session.seq});
                        say(ctx, tag, 6, &resume);
                    }
                    None => self.queue(ctx, tag, shard, state, begins),
                }
                None
            }
            11 => {
                state.answered = true;
                None
            }
            _ => None,
        });
        taken.flatten()
    }

    fn dispatch(&self, ctx: &Context, tag: &str, shard: u32, state: &mut Shard, frame: Frame) -> Option<Dispatch> {
        let kind = frame.t?;
        if kind == "READY" {
            let words = |name: &str| frame.d.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let url = words("resume_gateway_url");
            if !self.fixed && !url.is_empty() {
                ctx.socket(SocketAct { tag: tag.to_owned(), url: Some(address(&url)), ..SocketAct::default() });
            }
            let (intents, presence) = (Some(self.intents), self.presence());
            let id = words("session_id");
            state.session = Some(Session { id, seq: 0, url, shards: self.count, intents, presence, seen_at: 0 });
            if std::mem::replace(&mut state.had_session, true) {
                ctx.missed();
            }
        }
        let session = state.session.as_mut()?;
        if matches!(kind.as_str(), "READY" | "RESUMED") {
            (state.ready, state.ready_at) = (true, ctx.now());
            if kind == "RESUMED" {
                // Nothing is lost, and what was before it was looked for when it began.
                state.lost_at = None;
            }
            let presence = self.presence();
            if session.presence != presence {
                // The session still shows what it was begun with.
                say(ctx, tag, 3, &presence_as_json(&self.presence.clone().unwrap_or_default()));
                session.presence = presence;
            }
        }
        if let Some(seq) = frame.s {
            session.seq = session.seq.max(seq);
            state.touched = true;
        }
        let key = format!("{}:{}", session.id, frame.s.unwrap_or(session.seq));
        Some(Dispatch { kind, data: frame.d, key, shard })
    }

    /// The shard that a guild's events come by.
    pub fn shard_of(&self, guild: u64) -> u32 {
        u32::try_from((guild >> 22) % u64::from(self.count.max(1))).unwrap_or(0)
    }

    /// Since when what a shard lists at the beginning of its session may hold things that no session told of; nothing when
    /// there is no such gap, or the session has gone on for a while.
    pub fn gap_since(&self, shard: u32, now: i64) -> Option<i64> {
        let shards = self.shards();
        let state = shards.all.get(usize::try_from(shard).ok()?)?;
        state.lost_at.filter(|_| state.ready && now - state.ready_at < LISTED_WITHIN_MS)
    }

    /// Whether all shards have their events.
    pub fn all_ready(&self) -> bool {
        self.shards().all.iter().all(|shard| shard.ready)
    }

    /// Writes how far the sessions have come, to be stored with what they brought.
    pub fn keep(&self, ctx: &Context) {
        let mut shards = self.shards();
        for (shard, state) in (0..).zip(&mut shards.all) {
            if !std::mem::take(&mut state.touched) {
                continue;
            }
            if let Some(session) = &mut state.session {
                session.seen_at = ctx.now();
            }
            if let Some(kept) = state.session.as_ref().and_then(|session| serde_json::to_vec(session).ok()) {
                ctx.set(key(shard), kept);
            }
        }
    }

    /// Begins a session, now or when it is this shard's turn.
    fn queue(&self, ctx: &Context, tag: &str, shard: u32, state: &mut Shard, begins: &mut Begins) {
        let at = begins.take(shard % self.concurrency, ctx.now());
        if at <= ctx.now() {
            self.identify(ctx, tag, shard);
        } else {
            let wait = (at - ctx.now()).unsigned_abs();
            if wait > LONG_MS {
                let minutes = wait.div_ceil(60_000);
                let what =
                    format!("shard {shard} waits {minutes} min: Discord lets this bot begin no more sessions now");
                ctx.log(LogLevel::Warn, what);
            }
            state.identify_at = Some(at);
            ctx.set_timer(format!("identify/{shard}"), wait);
        }
    }

    /// What members are to see of the bot; nothing when nobody said so.
    fn presence(&self) -> Value {
        self.presence.as_ref().map(presence_as_json).unwrap_or_default()
    }

    fn identify(&self, ctx: &Context, tag: &str, shard: u32) {
        let mut identify = json!({
            "token": self.token,
            "intents": self.intents,
            "properties": {"os": std::env::consts::OS, "browser": "omni", "device": "omni"},
            "compress": true,
            "large_threshold": 50,
            "shard": [shard, self.count],
        });
        if let Some(presence) = &self.presence {
            identify["presence"] = presence_as_json(presence);
        }
        say(ctx, tag, 2, &identify);
    }

    /// A timer is due; whether it was one of the gateway's.
    pub fn timer(&self, ctx: &Context, timer: &str) -> bool {
        let Some((what, tag)) = timer.split_once('/') else { return false };
        match what {
            "beat" => drop(self.with(tag, |_, state, _| {
                let Some(every) = state.heartbeat_ms else { return };
                if !state.answered {
                    ctx.log(LogLevel::Warn, format!("shard {tag} did not answer a heartbeat; it is connected anew"));
                    state.heartbeat_ms = None;
                    come_back(ctx, tag, 0);
                    return;
                }
                heartbeat(ctx, tag, state);
                state.answered = false;
                ctx.set_timer(timer, every);
            })),
            "identify" => drop(self.with(tag, |shard, state, _| match state.identify_at {
                Some(at) if at <= ctx.now() && state.heartbeat_ms.is_some() && state.session.is_none() => {
                    state.identify_at = None;
                    self.identify(ctx, tag, shard);
                }
                Some(at) => ctx.set_timer(timer, (at - ctx.now()).max(1).unsigned_abs()),
                None => {}
            })),
            _ => return false,
        }
        true
    }

    /// A socket has closed: whether and how it is opened again.
    pub fn closed(&self, ctx: &Context, tag: &str, code: Option<u16>, reason: &str) -> Result<(), ChannelError> {
        self.with(tag, |_, state, _| (state.heartbeat_ms, state.ready, state.identify_at) = (None, false, None));
        ctx.cancel_timer(format!("beat/{tag}"));
        match code {
            Some(4_004) => return Err(errors::logged_out("Discord does not know this token any more")),
            Some(4_010) => {
                return Err(ChannelError::stopped(
                    "Discord does not know this shard; set `shards` right, or leave it away",
                ));
            }
            Some(4_011) if self.chosen => {
                return Err(ChannelError::stopped(format!(
                    "Discord wants this bot to have more than {} shards; set `shards` higher, or leave it away",
                    self.count
                )));
            }
            // It asks again how many there should be.
            Some(4_011) => return Err(ChannelError::restart("Discord wants this bot to have more shards")),
            Some(4_012 | 4_013) => {
                return Err(ChannelError::stopped(format!(
                    "Discord's gateway does not take what this plugin asks ({reason})"
                )));
            }
            Some(4_014) => return Err(ChannelError::stopped(intents::refused(self.intents))),
            // It does not know the session, or what we have of it.
            Some(4_003 | 4_005 | 4_007 | 4_009) => {
                self.with(tag, |shard, state, _| self.give_up(ctx, tag, shard, state));
            }
            _ => {}
        }
        Ok(())
    }

    /// The session cannot be taken up again: the next one is a new one.
    fn give_up(&self, ctx: &Context, tag: &str, shard: u32, state: &mut Shard) {
        if let Some(lost) = state.session.take() {
            state.lost_at = Some(lost.seen_at).filter(|at| *at > 0).or(state.lost_at);
            ctx.log(
                LogLevel::Warn,
                format!("Discord does not take up the session of shard {shard}; a new one is begun"),
            );
        }
        state.touched = false;
        // What is kept says that there was one, of a number of shards that is never used.
        let gone = Session { seen_at: state.lost_at.unwrap_or_default(), ..Session::default() };
        if state.had_session
            && let Ok(kept) = serde_json::to_vec(&gone)
        {
            ctx.set(key(shard), kept);
        }
        if !self.fixed {
            // The way in itself may lead to where the session was to be taken up.
            ctx.socket(SocketAct { tag: tag.to_owned(), url: Some(address(&self.url)), ..SocketAct::default() });
        }
    }
}

fn heartbeat(ctx: &Context, tag: &str, state: &Shard) {
    let seq = state.session.as_ref().map(|session| session.seq).filter(|seq| *seq > 0);
    say(ctx, tag, 1, &json!(seq));
}

fn say(ctx: &Context, tag: &str, op: u8, d: &Value) {
    ctx.socket_send(tag, json!({"op": op, "d": d}).to_string());
}

fn come_back(ctx: &Context, tag: &str, after_ms: u64) {
    ctx.socket(SocketAct {
        tag: tag.to_owned(),
        close: Some(COME_BACK),
        reopen_after_ms: Some(after_ms),
        ..SocketAct::default()
    });
}

/// The gateway's address with the version and the encoding that are spoken here.
fn address(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains('?') {
        return url.to_owned();
    }
    format!("{url}/?v=10&encoding=json")
}

fn presence_as_json(presence: &Presence) -> Value {
    let kinds = ["playing", "streaming", "listening", "watching", "custom", "competing"];
    let kind = presence.activity_type.as_deref().and_then(|kind| kinds.iter().position(|known| *known == kind));
    let activities: Vec<Value> = presence
        .activity
        .iter()
        .map(|words| match kind {
            Some(4) | None => json!({"name": "Custom Status", "type": 4, "state": words}),
            Some(kind) => json!({"name": words, "type": kind}),
        })
        .collect();
    json!({
        "since": null,
        "activities": activities,
        "status": presence.status.as_deref().unwrap_or("online"),
        "afk": false,
    })
}
