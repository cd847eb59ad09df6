//! Plays a transcript: what the host and the network do, step by step, and compares what the channel does.

use super::host::{Finished, Network, ScriptedHost};
use super::matching::mismatches;
use super::rules::{Breach, Subject};
use super::transcript::{Action, Step, Transcript, bytes_of, check_list};
use crate::event::{Event, EventBody};
use crate::frame::{Failure, Op, OutcomeHead, Output};
use crate::ingress::{IngressEvent, NextPoll};
use crate::request::{Reply, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How often the timers of one `advanceMs` may set themselves again.
const MOST_TIMERS: usize = 1_000;

/// A transcript that is being played.
#[derive(Debug)]
pub struct Play<'a> {
    subject: &'a Subject,
    transcript: &'a Transcript,
    /// The host at the other end.
    pub host: ScriptedHost,
}

/// What came of one step.
#[derive(Debug, Default)]
pub struct StepResult {
    /// The calls that it made: one, but for timers that are due.
    pub calls: Vec<Finished>,
    /// What was other than expected, a sentence each.
    pub problems: Vec<String>,
    /// Names of the capabilities that it showed.
    pub shown: BTreeSet<String>,
}

/// What came of a whole transcript.
#[derive(Debug, Default)]
pub struct Played {
    /// What was other than expected, a sentence each.
    pub problems: Vec<String>,
    /// Names of the capabilities that it showed.
    pub shown: BTreeSet<String>,
    /// Its steps, as far as it came.
    pub steps: Vec<StepResult>,
    pub(super) breaches: Vec<Breach>,
}

/// Plays a transcript from its beginning to its end.
pub fn play(subject: &Subject, transcript: &Transcript) -> Played {
    let mut played = Played::default();
    let mut play = match Play::open(subject, transcript) {
        Ok(play) => play,
        Err(problem) => {
            played.problems.push(problem);
            return played;
        }
    };
    for index in 0..transcript.steps.len() {
        let result = play.step(index);
        played.problems.extend(result.problems.iter().cloned());
        played.shown.extend(result.shown.iter().cloned());
        played.steps.push(result);
    }
    if shows_album(transcript, &played.steps) {
        played.shown.insert("album".into());
    }
    played.breaches = std::mem::take(&mut play.host.breaches);
    played
}

impl<'a> Play<'a> {
    /// A new instance and a host that has what the transcript says; nothing has happened yet.
    pub fn open(subject: &'a Subject, transcript: &'a Transcript) -> Result<Self, String> {
        let mut host = ScriptedHost::new((subject.open)()?, transcript.now);
        host.kv = all_bytes(&transcript.kv)?;
        host.media = all_bytes(&transcript.media)?;
        host.canaries = transcript.canaries(&subject.manifest);
        host.any_time = transcript.any_time;
        host.webhook_url.clone_from(&transcript.webhook_url);
        host.offline = transcript.offline;
        Ok(Self { subject, transcript, host })
    }

    /// Does the next steps up to `end` without comparing anything.
    pub(super) fn skip_to(&mut self, steps: std::ops::Range<usize>) {
        for index in steps {
            drop(self.step(index));
        }
    }

    /// Does one step and compares.
    pub fn step(&mut self, index: usize) -> StepResult {
        let step = &self.transcript.steps[index];
        let mut result = StepResult::default();
        self.host.script = step.http.iter().cloned().collect();
        match self.act(step, &mut result.calls) {
            Ok(()) => self.compare(step, &mut result),
            Err(problem) => result.problems.push(problem),
        }
        for problem in &mut result.problems {
            *problem = format!("{}, step {index}: {problem}", self.transcript.name);
        }
        result
    }

    fn act(&mut self, step: &Step, calls: &mut Vec<Finished>) -> Result<(), String> {
        let op = match step.action()? {
            Action::Start => {
                let config = self.transcript.config_for_channel(&self.subject.manifest);
                calls.push(self.host.start(config)?);
                return Ok(());
            }
            Action::Advance(ms) => return self.advance(ms, calls),
            Action::Request(request) => Op::Request { request: *request },
            Action::Events(events) => Op::Events { events },
            Action::Login(login) => Op::Login { login },
            Action::Stop => Op::Stop {},
        };
        calls.push(self.host.call(op)?);
        Ok(())
    }

    fn advance(&mut self, ms: u64, calls: &mut Vec<Finished>) -> Result<(), String> {
        self.host.now = self.host.now.saturating_add_unsigned(ms);
        for _ in 0..MOST_TIMERS {
            let due = self.host.timers.iter().filter(|(_, due)| **due <= self.host.now);
            let Some(tag) = due.min_by_key(|(_, due)| **due).map(|(tag, _)| tag.clone()) else { return Ok(()) };
            self.host.timers.remove(&tag);
            calls.push(self.host.call(Op::Events { events: vec![IngressEvent::Timer { tag }] })?);
        }
        Err(format!("timers were due {MOST_TIMERS} times: they set themselves again without end"))
    }

    fn compare(&mut self, step: &Step, result: &mut StepResult) {
        let mut wrong = Vec::new();
        for call in &result.calls {
            wrong.extend(call.unexpected.iter().cloned());
        }
        if self.host.network == Network::Script {
            wrong.extend(self.host.script.iter().map(|left| {
                let (method, url) = (&left.expect.method, &left.expect.url);
                format!("this call was expected and not made: {method:?} {url:?}")
            }));
        }
        for call in &result.calls {
            wrong.extend(compare_end(step, call));
        }
        let events: Vec<Value> = result.calls.iter().flat_map(|call| &call.events).map(|event| json!(event)).collect();
        wrong.extend(check_list("emits", &step.emits, &events));
        if let Some(expected) = &step.states {
            let states: Vec<Value> = self.host.states.iter().map(|state| json!(state)).collect();
            wrong.extend(check_list("states", expected, &states));
        }
        self.host.states.clear();
        if let Some(expected) = &step.timers {
            let timers: Vec<Value> =
                result.calls.iter().flat_map(|call| &call.timers).map(|timer| json!(timer)).collect();
            wrong.extend(check_list("timers", expected, &timers));
        }
        if let Some(expected) = &step.sockets {
            let acts: Vec<Value> = result.calls.iter().flat_map(|call| &call.sockets).map(|act| json!(act)).collect();
            wrong.extend(check_list("sockets", expected, &acts));
        }
        if let Some(expected) = step.missed {
            let missed = result.calls.iter().any(|call| call.missed);
            wrong.extend((missed != expected).then(|| format!("missed: expected {expected}, found {missed}")));
        }
        if let Some(expected) = &step.missed_in {
            let missed: Vec<Value> =
                result.calls.iter().flat_map(|call| &call.missed_in).map(|missed| json!(missed)).collect();
            wrong.extend(check_list("missedIn", expected, &missed));
        }
        wrong.extend(compare_entries(&step.kv, &self.host.kv));
        result.problems = wrong;
        shows(step, result);
    }
}

fn all_bytes(entries: &BTreeMap<String, Value>) -> Result<BTreeMap<String, Vec<u8>>, String> {
    entries.iter().map(|(key, value)| Ok((key.clone(), bytes_of(value)?))).collect()
}

/// Compares how a call ended, and what it gave back.
fn compare_end(step: &Step, call: &Finished) -> Vec<String> {
    match (&call.result, &step.error) {
        (Err(failure), Some(expected)) => {
            mismatches(expected, &flat(failure)).into_iter().map(|wrong| format!("error {wrong}")).collect()
        }
        (Err(failure), None) => vec![format!("failed: {}", flat(failure))],
        (Ok(output), Some(_)) => vec![format!("was to fail and ended well: {}", json!(output))],
        (Ok(output), None) => compare_output(step, output, &call.bodies),
    }
}

/// A failure as transcripts write it: the fields of its error, and the state beside them.
fn flat(failure: &Failure) -> Value {
    let mut json = json!(failure.error);
    json["state"] = json!(failure.state);
    json["panicked"] = json!(failure.panicked);
    json
}

fn compare_output(step: &Step, output: &Output, bodies: &[Vec<u8>]) -> Vec<String> {
    let mut wrong = Vec::new();
    let polls = match output {
        Output::Started { ingress, polls } => {
            if let Some(expected) = &step.ingress {
                let found: Vec<Value> = ingress.iter().map(|ingress| json!(ingress)).collect();
                wrong.extend(check_list("ingress", expected, &found));
            }
            polls
        }
        Output::Events { outcomes, polls } => {
            wrong.extend(compare_outcomes(step, outcomes, bodies));
            polls
        }
        Output::Reply { reply } => {
            if let Some(expected) = &step.reply {
                wrong.extend(mismatches(expected, &json!(reply)).into_iter().map(|wrong| format!("reply {wrong}")));
            }
            return wrong;
        }
        Output::Login { step: show } => {
            if let Some(expected) = &step.reply {
                wrong.extend(mismatches(expected, &json!(show)).into_iter().map(|wrong| format!("reply {wrong}")));
            }
            return wrong;
        }
        Output::Stopped {} => return wrong,
    };
    wrong.extend(compare_polls(step, polls));
    wrong
}

fn compare_polls(step: &Step, polls: &[NextPoll]) -> Vec<String> {
    let Some(expected) = &step.polls else { return Vec::new() };
    if expected.len() != polls.len() {
        return vec![format!("polls: expected {}, found {}: {}", expected.len(), polls.len(), json!(polls))];
    }
    let mut wrong = Vec::new();
    for expected in expected {
        match polls.iter().find(|poll| poll.tag == expected.tag) {
            Some(poll) => {
                let found = expected.call.check(&poll.call);
                wrong.extend(found.into_iter().map(|wrong| format!("polls {:?} {wrong}", expected.tag)));
            }
            None => wrong.push(format!("polls: there is no poll {:?}", expected.tag)),
        }
    }
    wrong
}

fn compare_outcomes(step: &Step, outcomes: &[OutcomeHead], bodies: &[Vec<u8>]) -> Vec<String> {
    let mut wrong = Vec::new();
    if let Some(expected) = &step.outcomes {
        let found: Vec<Value> = outcomes.iter().map(|outcome| json!(outcome)).collect();
        wrong.extend(check_list("outcomes", expected, &found));
    }
    if let Some(expected) = &step.replies {
        let mut bodies = bodies.iter();
        let found: Vec<Value> = outcomes
            .iter()
            .map(|outcome| {
                let Some(reply) = &outcome.reply else { return Value::Null };
                let body = bodies.next().map(Vec::as_slice).unwrap_or_default();
                let headers: serde_json::Map<String, Value> =
                    reply.headers.iter().map(|header| (header.name.to_lowercase(), json!(header.value))).collect();
                json!({
                    "status": reply.status,
                    "headers": headers,
                    "json": serde_json::from_slice::<Value>(body).ok(),
                    "text": String::from_utf8_lossy(body),
                })
            })
            .collect();
        wrong.extend(check_list("replies", expected, &found));
    }
    wrong
}

fn compare_entries(expected: &BTreeMap<String, Value>, kv: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, expected) in expected {
        let found = kv.get(key);
        let words = found.map_or(Value::Null, |bytes| json!(String::from_utf8_lossy(bytes)));
        let path = format!("kv {key:?}");
        if let Some(bytes) = expected.get("$base64").and_then(|_| bytes_of(expected).ok()) {
            if found != Some(&bytes) {
                wrong.push(format!("{path}: expected other bytes than {words}"));
            }
        } else if expected.is_string() || expected.is_null() {
            wrong.extend(super::matching::mismatches_at(&path, expected, &words));
        } else {
            let json = found.and_then(|bytes| serde_json::from_slice(bytes).ok());
            // Words that are no JSON may still be compared with `$contains`.
            wrong.extend(super::matching::mismatches_at(&path, expected, &json.unwrap_or(words)));
        }
    }
    wrong
}

/// Notes the capabilities that a step showed.
fn shows(step: &Step, result: &mut StepResult) {
    for event in result.calls.iter().flat_map(|call| &call.events) {
        result.shown.insert(format!("event.{}", event.body.kind()));
    }
    let Ok(Action::Request(request)) = step.action() else { return };
    let Some(Ok(Output::Reply { reply })) = result.calls.first().map(|call| &call.result) else { return };
    if reply.kind() != reply_kind(request.kind()) {
        result.problems.push(format!("a request {:?} was answered by {:?}", request.kind(), reply.kind()));
        return;
    }
    match &*request {
        Request::Send(send) => {
            result.shown.insert(format!("send.{}", send.content.kind()));
            if send.reply_to.is_some() {
                result.shown.insert("reply".into());
            }
        }
        other => drop(result.shown.insert(format!("request.{}", other.kind()))),
    }
}

fn reply_kind(request: &str) -> &'static str {
    match request {
        "send" => "sent",
        "history" => "history",
        "directory" => "directory",
        "profile" => "profile",
        "group" => "group",
        "resolve" => "address",
        "fetchMedia" => "media",
        "reconcile" => "reconciled",
        "capabilities" => "capabilities",
        "importAuth" => "authImported",
        "exportAuth" => "authExported",
        _ => "done",
    }
}

/// Two messages of one album came in, or a send with an `album` was answered with a receipt for each of its items.
fn shows_album(transcript: &Transcript, steps: &[StepResult]) -> bool {
    let mut albums: BTreeMap<String, usize> = BTreeMap::new();
    for (step, result) in transcript.steps.iter().zip(steps) {
        for event in result.calls.iter().flat_map(|call| &call.events) {
            if let EventBody::Message(message) = &event.body
                && let Some(album) = &message.album
            {
                *albums.entry(format!("in {album}")).or_default() += 1;
            }
        }
        let items = step.request.as_ref().and_then(|request| request.pointer("/album")?.as_array());
        let whole = |reply: &Reply| matches!(reply, Reply::Sent(sent) if Some(sent.album.len()) == items.map(Vec::len));
        let sent = |call: &Finished| matches!(&call.result, Ok(Output::Reply { reply }) if whole(reply));
        if items.is_some_and(|items| !items.is_empty()) && result.calls.iter().any(sent) {
            albums.insert("out".to_owned(), 2);
        }
    }
    albums.values().any(|count| *count >= 2)
}

/// The delivery keys of a step's events, in order.
pub(super) fn keys<'e>(events: impl IntoIterator<Item = &'e Event>) -> Vec<Option<String>> {
    events.into_iter().map(|event| event.delivery_key.as_ref().map(|key| key.0.clone())).collect()
}
