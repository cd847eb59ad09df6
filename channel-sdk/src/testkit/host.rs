//! The scripted host at the other end of the boundary: runs one call at a time and answers what the channel asks.
//!
//! It keeps what a host keeps (the key-value store, the clock, timers, states) and looks at every frame for what is
//! never allowed. Deliberately not here: what a transcript expects, that is in `play`.

use super::rules::{Breach, inspect};
use super::transcript::Exchange;
use super::{Port, limits};
use crate::connection::ConnectionState;
use crate::event::Event;
use crate::frame::{
    CallResult, Commit, Egress, Failure, HostAnswer, HostRequest, KvWrite, LogLevel, MissedIn, Op, Output, Tails,
    TimerSet, ToChannel, ToHost, decode, encode, encode_events,
};
use crate::http::{HttpCall, HttpFailure, HttpResponse};
use crate::ids::{BlobId, InstanceId};
use crate::ingress::SocketAct;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How long a call may be silent before it is taken for stuck. Only a broken channel gets there.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often one call may ask. Only a channel that repeats a failed question for ever gets there.
const MOST_QUESTIONS: u32 = 10_000;

/// How the scripted host answers HTTP calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Network {
    /// As the script says: another call than the next one is a problem.
    Script,
    /// As the script says, but a call that does not fit is answered by the next exchange all the same.
    Loose,
    /// With garbage, every kind of it in turn.
    Hostile,
}

/// A host whose network is a script.
pub struct ScriptedHost {
    port: Box<dyn Port>,
    /// Its clock, milliseconds since 1970.
    pub now: i64,
    /// What is stored.
    pub kv: BTreeMap<String, Vec<u8>>,
    /// Files that it holds.
    pub media: BTreeMap<String, Vec<u8>>,
    /// The states that were reported, and not yet looked at.
    pub states: Vec<ConnectionState>,
    /// What was logged.
    pub log: Vec<(LogLevel, String)>,
    /// Timers that are set: tag → when due.
    pub timers: BTreeMap<String, i64>,
    /// Events that background tasks of an `own` channel handed over.
    pub background: Vec<Event>,
    pub(super) network: Network,
    pub(super) script: VecDeque<Exchange>,
    pub(super) canaries: Vec<String>,
    pub(super) any_time: bool,
    pub(super) webhook_url: Option<String>,
    pub(super) offline: bool,
    pub(super) breaches: Vec<Breach>,
    hostile: usize,
    random: u8,
    last_call: u64,
}

/// How a call ended.
#[derive(Debug)]
pub struct Finished {
    /// Well or not.
    pub result: Result<Output, Box<Failure>>,
    /// The events that it emitted.
    pub events: Vec<Event>,
    /// The timers that it set.
    pub timers: Vec<TimerSet>,
    /// What it did with its sockets.
    pub sockets: Vec<SocketAct>,
    /// Whether it said that it missed something.
    pub missed: bool,
    /// In which chats it said so.
    pub missed_in: Vec<MissedIn>,
    /// The bodies of the answers to webhooks, one for each outcome with a reply.
    pub bodies: Vec<Vec<u8>>,
    /// The HTTP calls that were not as the script says, or were not in it.
    pub unexpected: Vec<String>,
}

impl Finished {
    fn failed(result: Result<Output, Box<Failure>>) -> Self {
        let (events, timers, sockets, bodies, unexpected) = Default::default();
        Self { result, events, timers, sockets, missed: false, missed_in: Vec::new(), bodies, unexpected }
    }
}

impl ScriptedHost {
    /// A host around one instance.
    pub fn new(port: Box<dyn Port>, now: i64) -> Self {
        Self {
            port,
            now,
            kv: BTreeMap::new(),
            media: BTreeMap::new(),
            states: Vec::new(),
            log: Vec::new(),
            timers: BTreeMap::new(),
            background: Vec::new(),
            network: Network::Script,
            script: VecDeque::new(),
            canaries: Vec::new(),
            any_time: false,
            webhook_url: None,
            offline: false,
            breaches: Vec::new(),
            hostile: 0,
            random: 0,
            last_call: 0,
        }
    }

    /// Starts the instance.
    pub fn start(&mut self, config: serde_json::Value) -> Result<Finished, String> {
        let webhook_url = self.webhook_url.clone();
        let instance = InstanceId::from("00000000-0000-7000-8000-000000000001");
        let (offline, egress) = (self.offline, Egress::default());
        self.call(Op::Start { instance, config, webhook_url, offline, egress })
    }

    /// Makes one call and serves it to its end. The error says why it did not end as a call ends.
    pub fn call(&mut self, op: Op) -> Result<Finished, String> {
        self.last_call += 1;
        let (call, now) = (self.last_call, self.now);
        let expected = if let Op::Events { events } = &op { events.len() } else { 0 };
        let frame = match op {
            Op::Events { events } => encode_events(call, now, events),
            op => encode(&ToChannel::Begin { call, now, op }, &[]),
        };
        self.port.deliver(&frame)?;
        let mut unexpected = Vec::new();
        let mut committed_early = false;
        let mut questions = 0;
        loop {
            let Some(frame) = self.port.next(PATIENCE) else {
                let silent = || "the call does not end: it waits for nothing that the host owes it".into();
                return Err(self.port.ended().unwrap_or_else(silent));
            };
            let (head, tails) = decode::<ToHost>(&frame).map_err(|error| error.to_string())?;
            match head {
                ToHost::Done { call: done, result, commit } if done == call => {
                    return self.finish(expected, result, commit, tails, unexpected, committed_early);
                }
                ToHost::Done { call, .. } => return Err(format!("call {call} ended, which was not under way")),
                ToHost::Call { call: asking, id, request } => {
                    questions += 1;
                    if questions > MOST_QUESTIONS {
                        return Err(format!("the call does not end: it asked the host {MOST_QUESTIONS} questions"));
                    }
                    committed_early |= asking == call && matches!(request, HostRequest::Commit { .. });
                    let (answer, tails) = self.answer(request, tails, &mut unexpected)?;
                    let answer = ToChannel::Answer { call: asking, id, now: self.now, answer };
                    self.port.deliver(&encode(&answer, &tails))?;
                }
                ToHost::Wake { call } => self.port.deliver(&encode(&ToChannel::Poll { call, now: self.now }, &[]))?,
                ToHost::State { state } => {
                    inspect::state(self, &state);
                    self.states.push(state);
                }
                ToHost::Log { level, message } => {
                    inspect::sentence(self, "a log line", &message);
                    self.log.push((level, message));
                }
                ToHost::Pong { .. } => {}
            }
        }
    }

    fn finish(
        &mut self,
        expected: usize,
        result: CallResult,
        commit: Commit,
        mut tails: Tails,
        unexpected: Vec<String>,
        committed_early: bool,
    ) -> Result<Finished, String> {
        let result = match result {
            CallResult::Ok(output) => Ok(output),
            CallResult::Err(failure) => Err(Box::new(failure)),
        };
        let (timers, sockets) = (commit.timers.clone(), commit.sockets.clone());
        let (missed, missed_in) = (commit.missed, commit.missed_in.clone());
        if let Err(failure) = &result {
            let waits = !commit.timers.is_empty() || !commit.sockets.is_empty() || missed || !missed_in.is_empty();
            if !commit.events.is_empty() || !commit.writes.is_empty() || waits || committed_early {
                self.breaches.push(Breach::new("failed_calls", "a call that failed has stored something"));
            }
            inspect::failure(self, failure);
            return Ok(Finished { unexpected, ..Finished::failed(result) });
        }
        let events = self.store(commit, &mut tails)?;
        let mut bodies = Vec::new();
        while tails.remaining() > 0 {
            bodies.push(tails.next_bytes().map_err(|error| error.to_string())?);
        }
        if let Ok(output) = &result {
            inspect::output(self, output, &bodies);
            if let Output::Events { outcomes, .. } = output
                && outcomes.len() != expected
            {
                return Err(format!("{expected} events were handed over and {} outcomes came back", outcomes.len()));
            }
        }
        Ok(Finished { result, events, timers, sockets, missed, missed_in, bodies, unexpected })
    }

    /// Stores a commit as a host does, all of it.
    fn store(&mut self, commit: Commit, tails: &mut Tails) -> Result<Vec<Event>, String> {
        if commit.events.len() > limits::EVENTS_PER_CALL {
            self.breaches.push(Breach::new("sizes", format!("{} events in one call", commit.events.len())));
        }
        let mut events = Vec::with_capacity(commit.events.len());
        for raw in &commit.events {
            let event: Event = serde_json::from_str(raw.get()).map_err(|error| format!("an event: {error}"))?;
            inspect::event(self, &event, raw.get());
            events.push(event);
        }
        for KvWrite { key, delete } in commit.writes {
            if delete {
                self.kv.remove(&key);
                continue;
            }
            let value = tails.next_bytes().map_err(|error| error.to_string())?;
            inspect::entry(self, &key, &value);
            self.kv.insert(key, value);
        }
        for TimerSet { tag, after_ms } in commit.timers {
            match after_ms {
                Some(after) => drop(self.timers.insert(tag, self.now.saturating_add_unsigned(after))),
                None => drop(self.timers.remove(&tag)),
            }
        }
        Ok(events)
    }

    fn answer(
        &mut self,
        request: HostRequest,
        mut tails: Tails,
        unexpected: &mut Vec<String>,
    ) -> Result<(HostAnswer, Vec<Vec<u8>>), String> {
        Ok(match request {
            HostRequest::Http { http } => match self.exchange(&http, unexpected) {
                Ok(mut response) => {
                    let body = std::mem::take(&mut response.body);
                    (HostAnswer::Http { response }, vec![body])
                }
                Err(failure) => (HostAnswer::HttpFailed { failure }, Vec::new()),
            },
            HostRequest::KvGet { key } => {
                let value = self.kv.get(&key).cloned();
                (HostAnswer::KvValue { found: value.is_some() }, Vec::from_iter(value))
            }
            HostRequest::KvScan { prefix, after, limit } => {
                let found = self.kv.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
                let found = found.filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after));
                let (keys, values) =
                    found.take(limit.min(1_000) as usize).map(|(key, value)| (key.clone(), value.clone())).unzip();
                (HostAnswer::KvEntries { keys }, values)
            }
            HostRequest::Commit { commit } => {
                let events = self.store(commit, &mut tails)?;
                self.background.extend(events);
                (HostAnswer::Committed {}, Vec::new())
            }
            HostRequest::MediaPut { .. } => {
                let blob = format!("put-{}", self.media.len());
                self.media.insert(blob.clone(), tails.next_bytes().map_err(|error| error.to_string())?);
                (HostAnswer::Media { blob: BlobId::from(blob) }, Vec::new())
            }
            HostRequest::MediaGet { blob, offset, limit } => match self.media.get(blob.as_str()) {
                Some(bytes) => {
                    let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
                    let to = bytes.len().min(from + limit.min(1_048_576) as usize);
                    (HostAnswer::MediaBytes { size: bytes.len() as u64 }, vec![bytes[from..to].to_vec()])
                }
                None => (HostAnswer::Failed { message: format!("no such blob: {blob}") }, Vec::new()),
            },
            HostRequest::Random { bytes } => {
                let random = (0..bytes.min(1_024)).map(|_| {
                    self.random = self.random.wrapping_add(1);
                    self.random.wrapping_sub(1)
                });
                (HostAnswer::Random {}, vec![random.collect()])
            }
        })
    }

    fn exchange(&mut self, call: &HttpCall, unexpected: &mut Vec<String>) -> Result<HttpResponse, HttpFailure> {
        inspect::http(self, call);
        let described = || format!("{} {} {}", call.method, call.url, serde_json::json!(call.body));
        if self.network == Network::Hostile {
            self.hostile += 1;
            return super::samples::hostile_answer(self.hostile);
        }
        let Some(exchange) = self.script.pop_front() else {
            unexpected.push(format!("this call is not in the transcript: {}", described()));
            return Err(HttpFailure { message: "the transcript has no answer".into(), sent: false, timed_out: false });
        };
        if self.network == Network::Script {
            let wrong = exchange.expect.check(call);
            if !wrong.is_empty() {
                unexpected.push(format!("this call is not as expected: {}\n{}", described(), wrong.join("\n")));
            }
        }
        exchange.answer().expect("exchanges were checked when the transcript was read")
    }
}

impl std::fmt::Debug for ScriptedHost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScriptedHost").field("now", &self.now).finish_non_exhaustive()
    }
}
