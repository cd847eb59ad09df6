//! The rules about what a network may do: garbage, repetition, silence in the wrong moment.

use super::{Problem, Subject};
use crate::frame::{Op, Output, event_body};
use crate::http::HttpFailure;
use crate::ingress::{IngressEvent, NextPoll};
use crate::request::Request;
use crate::testkit::host::Network;
use crate::testkit::play::{Play, keys, play};
use crate::testkit::samples;
use crate::testkit::transcript::{Action, Transcript};
use std::collections::BTreeSet;

/// How far the clock is off when the same input comes again.
const LATER_MS: i64 = 3_600_000;

/// What was seen in frames and breaks one rule: in the transcripts, and with a network that has gone mad.
pub(super) fn breaches(subject: &Subject, rule: &str) -> Vec<Problem> {
    let mut found = BTreeSet::new();
    for transcript in &subject.transcripts {
        let played = play(subject, transcript);
        let with_name = |what: String| format!("{}: {what}", transcript.name);
        found.extend(played.breaches.into_iter().filter(|breach| breach.rule == rule).map(|b| with_name(b.what)));
        let mad = mad_network(subject, transcript);
        found.extend(
            mad.into_iter()
                .filter(|breach| breach.rule == rule)
                .map(|b| format!("{} (with a mad network)", with_name(b.what))),
        );
    }
    found.into_iter().map(Problem).collect()
}

/// Every step of a transcript with a network that answers garbage, each from where the transcript had come.
fn mad_network(subject: &Subject, transcript: &Transcript) -> Vec<super::Breach> {
    let mut breaches = Vec::new();
    for index in 0..transcript.steps.len() {
        let Ok(mut play) = Play::open(subject, transcript) else { continue };
        play.skip_to(0..index);
        play.host.breaches.clear();
        play.host.network = Network::Hostile;
        // Three times, so that each call meets another sort of garbage.
        play.skip_to(index..index + 1);
        if index > 0 {
            play.skip_to(index..index + 1);
            play.skip_to(index..index + 1);
        }
        breaches.append(&mut play.host.breaches);
    }
    breaches
}

/// Garbage that comes in.
pub(super) fn garbage(subject: &Subject) -> Vec<Problem> {
    let mut wrong = breaches(subject, "panics");
    for transcript in &subject.transcripts {
        let Some((mut play, Output::Started { ingress, polls })) = subject.start(transcript) else { continue };
        play.host.network = Network::Hostile;
        for (what, event) in ingress.iter().flat_map(samples::garbage_events) {
            let problems = one_garbage(&mut play, event, &polls);
            wrong
                .extend(problems.into_iter().map(|problem| Problem(format!("{}: {what}: {problem}", transcript.name))));
        }
        wrong.extend(goes_on(subject, transcript, play));
    }
    wrong
}

fn one_garbage(play: &mut Play<'_>, event: IngressEvent, polls: &[NextPoll]) -> Vec<String> {
    let before = play.host.kv.clone();
    let has_poll = matches!(event, IngressEvent::PollResponse { .. } | IngressEvent::PollFailed { .. });
    let finished = match play.host.call(Op::Events { events: vec![event] }) {
        Ok(finished) => finished,
        Err(problem) => return vec![problem],
    };
    let mut wrong = Vec::new();
    if !finished.events.is_empty() {
        wrong.push(format!("it emitted {} events", finished.events.len()));
    }
    match &finished.result {
        Err(failure) if failure.panicked => wrong.push(failure.error.message.clone()),
        Err(_) => {}
        Ok(Output::Events { polls: next, .. }) if has_poll => {
            for poll in next {
                let first = polls.iter().find(|first| first.tag == poll.tag);
                if first.is_some_and(|first| first.call != poll.call) {
                    wrong.push(format!("it lost its position: the next poll is {}", serde_json::json!(poll.call)));
                }
            }
        }
        Ok(_) => {
            for (key, value) in &before {
                if play.host.kv.get(key) != Some(value) {
                    wrong.push(format!("it changed the entry {key:?}"));
                }
            }
        }
    }
    wrong
}

/// After the garbage, the rest of the transcript has to bring the events that it brings without.
fn goes_on(subject: &Subject, transcript: &Transcript, mut play: Play<'_>) -> Vec<Problem> {
    let without = crate::testkit::play::play(subject, transcript);
    play.host.network = Network::Loose;
    play.host.now = transcript.now;
    let mut wrong = Vec::new();
    for index in 1..transcript.steps.len() {
        let result = play.step(index);
        let (found, expected) = (step_keys(&result), without.steps.get(index).map(step_keys).unwrap_or_default());
        if found != expected {
            wrong.push(Problem(format!(
                "{}, step {index}: after garbage had come, its events have the keys {found:?} instead of {expected:?}",
                transcript.name
            )));
        }
    }
    wrong
}

fn step_keys(step: &crate::testkit::StepResult) -> Vec<Option<String>> {
    keys(step.calls.iter().flat_map(|call| &call.events))
}

/// The transcripts' own payloads with one thing wrong.
pub(super) fn mangled(subject: &Subject) -> Vec<Problem> {
    let mut wrong = BTreeSet::new();
    for (transcript, index, events) in event_steps(subject) {
        let Ok(mut play) = Play::open(subject, transcript) else { continue };
        play.skip_to(0..index);
        play.host.network = Network::Loose;
        for event in events {
            for event in mangled_events(event) {
                let shown = crate::frame::encode_events(1, 0, vec![event.clone()]);
                play.host.script = transcript.steps[index].http.iter().cloned().collect();
                let problem = match play.host.call(Op::Events { events: vec![event] }) {
                    Ok(finished) => finished.result.err().filter(|failure| failure.panicked).map(|f| f.error.message),
                    Err(problem) => Some(problem),
                };
                if let Some(problem) = problem {
                    let shown: String = String::from_utf8_lossy(&shown).chars().take(2_000).collect();
                    wrong.insert(format!("{}, step {index}: {problem}\nafter {shown}", transcript.name));
                }
            }
        }
    }
    wrong.into_iter().map(Problem).take(20).collect()
}

fn mangled_events(mut event: IngressEvent) -> Vec<IngressEvent> {
    if let IngressEvent::SocketText { tag, text } = &event {
        let texts = samples::mangled(text.as_bytes()).into_iter();
        return texts
            .map(|text| IngressEvent::SocketText {
                tag: tag.clone(),
                text: String::from_utf8_lossy(&text).into_owned(),
            })
            .collect();
    }
    let Some(body) = event_body(&mut event).map(|body| body.clone()) else { return Vec::new() };
    let bodies = samples::mangled(&body).into_iter();
    bodies
        .map(|body| {
            let mut event = event.clone();
            if let Some(place) = event_body(&mut event) {
                *place = body;
            }
            event
        })
        .collect()
}

/// Every step with events, of transcripts that start well.
fn event_steps(subject: &Subject) -> Vec<(&Transcript, usize, Vec<IngressEvent>)> {
    let mut found = Vec::new();
    for transcript in &subject.transcripts {
        if subject.start(transcript).is_none() {
            continue;
        }
        for (index, step) in transcript.steps.iter().enumerate() {
            if let Ok(Action::Events(events)) = step.action() {
                found.push((transcript, index, events));
            }
        }
    }
    found
}

/// The same input another time, and again.
pub(super) fn replay(subject: &Subject) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for (transcript, index, events) in event_steps(subject) {
        let at = |shift: i64| {
            let mut play = Play::open(subject, transcript).ok()?;
            play.host.network = Network::Loose;
            play.host.now += shift;
            play.skip_to(0..index);
            let result = play.step(index);
            Some((play, step_keys(&result)))
        };
        let (Some((mut play, first)), Some((_, later))) = (at(0), at(LATER_MS)) else { continue };
        let place = format!("{}, step {index}", transcript.name);
        if first != later {
            wrong.push(Problem(format!(
                "{place}: the keys {first:?} are {later:?} an hour later: they hang on the clock"
            )));
        }
        let again = events
            .iter()
            .all(|event| matches!(event, IngressEvent::PollResponse { .. } | IngressEvent::Webhook { .. }));
        if again {
            let result = play.step(index);
            let new: Vec<_> =
                step_keys(&result).into_iter().flatten().filter(|key| !first.contains(&Some(key.clone()))).collect();
            if !new.is_empty() {
                wrong.push(Problem(format!("{place}: delivered again, it has other keys: {new:?} beside {first:?}")));
            }
        }
    }
    wrong
}

/// Good things in a batch with garbage, and with a network that fails.
pub(super) fn failed_calls(subject: &Subject) -> Vec<Problem> {
    let mut wrong = breaches(subject, "failed_calls");
    for (transcript, index, events) in event_steps(subject) {
        let Some((_, Output::Started { ingress, .. })) = subject.start(transcript) else { continue };
        let bad: Vec<IngressEvent> =
            ingress.iter().flat_map(samples::garbage_events).map(|(_, event)| event).take(6).collect();
        for bad in bad {
            let Ok(mut play) = Play::open(subject, transcript) else { continue };
            play.skip_to(0..index);
            let before = play.host.kv.clone();
            play.host.network = Network::Hostile;
            let batch: Vec<IngressEvent> = events.iter().cloned().chain([bad]).collect();
            play.host.breaches.clear();
            let failed = play.host.call(Op::Events { events: batch });
            let seen = play.host.breaches.drain(..).filter(|breach| breach.rule == "failed_calls");
            wrong.extend(seen.map(|breach| Problem(format!("{}, step {index}: {}", transcript.name, breach.what))));
            if !failed.is_ok_and(|finished| finished.result.is_err()) {
                continue;
            }
            let place = format!("{}, step {index}, in a batch with garbage", transcript.name);
            if play.host.kv != before {
                wrong.push(Problem(format!("{place}: the call failed, and entries have changed")));
            }
            play.host.network = Network::Loose;
            let alone = play.step(index);
            let expected = crate::testkit::play::play(subject, transcript);
            let expected = expected.steps.get(index).map(step_keys).unwrap_or_default();
            if step_keys(&alone) != expected {
                wrong.push(Problem(format!(
                    "{place}: the call failed, and the good events alone then have the keys {:?} instead of \
                     {expected:?}: what was not stored is remembered",
                    step_keys(&alone)
                )));
            }
        }
    }
    wrong
}

/// Sends whose last call breaks off after it was written.
pub(super) fn uncertain_sends(subject: &Subject) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for transcript in &subject.transcripts {
        for (index, step) in transcript.steps.iter().enumerate() {
            let Ok(Action::Request(request)) = step.action() else { continue };
            if !matches!(*request, Request::Send(_)) || step.http.is_empty() {
                continue;
            }
            if step.http.last().is_some_and(|last| last.fail.is_some()) || step.error.is_some() {
                continue;
            }
            let Ok(mut play) = Play::open(subject, transcript) else { continue };
            play.skip_to(0..index);
            play.host.network = Network::Loose;
            play.host.script = step.http.iter().cloned().collect();
            if let Some(last) = play.host.script.back_mut() {
                last.respond = None;
                let message = "the connection broke after the request was written".into();
                last.fail = Some(HttpFailure { message, sent: true, timed_out: false });
            }
            if let Ok(finished) = play.host.call(Op::Request { request: *request })
                && let Err(failure) = finished.result
                && failure.error.certain
            {
                wrong.push(Problem(format!(
                    "{}, step {index}: the last call may have reached the network, and the error says that nothing was \
                     done for certain: {}",
                    transcript.name, failure.error.message
                )));
            }
        }
    }
    wrong
}
