//! The host's side of an ingress: waiting for what arrives, handing it over, and trying again when that fails.
//!
//! Every function here runs until the instance is to end, and says why. Nothing that arrived is acked (an offset moved,
//! a webhook answered) before [`Session::events`] returned, which is when it is durable.

use super::state::Reporter;
use crate::clock::Clock;
use crate::plugins::host_api::Services;
use crate::plugins::session::{CallError, EventsTaken, Session};
use crate::traces::{SpanKind, Step, Traces};
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::frame::TimerSet;
use omni_channel_sdk::ingress::{IngressEvent, LongPoll, NextPoll, Timer};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::mpsc;

/// Timers of one instance that wait at the same time.
const TIMERS_AT_MOST: usize = 10_000;

/// Why an ingress has ended.
#[derive(Debug)]
pub enum End {
    /// Somebody has to act: this is the state from now on.
    Terminal(ConnectionState),
    /// Start the instance again after a while.
    Retry(String),
}

/// What every ingress of an instance needs.
#[derive(Clone, Debug)]
pub struct Line {
    /// The instance.
    pub session: Session,
    /// Its services.
    pub services: Services,
    /// Where its states go.
    pub reporter: Reporter,
    /// How long a call may take.
    pub within: Duration,
    /// Makes spans of what comes in.
    pub traces: Traces,
}

/// Waits between attempts: doubled each time, with full jitter.
#[derive(Debug)]
pub struct Backoff {
    next_ms: u64,
}

impl Backoff {
    const FIRST_MS: u64 = 500;
    const MAX_MS: u64 = 60_000;

    /// Nothing has failed yet.
    pub fn new() -> Self {
        Self { next_ms: Self::FIRST_MS }
    }

    /// It worked: the next wait is short again.
    pub fn reset(&mut self) {
        self.next_ms = Self::FIRST_MS;
    }

    /// How long to wait now: between half of the step and the whole of it.
    pub fn step(&mut self) -> Duration {
        let step = self.next_ms;
        self.next_ms = (step * 2).min(Self::MAX_MS);
        Duration::from_millis(rand::random_range(step / 2..=step))
    }
}

impl Line {
    fn clock(&self) -> &Clock {
        self.services.clock()
    }

    /// The step that begins with what a network brought.
    pub(super) fn step(&self, way: &'static str, events: usize) -> Step {
        let step = self.traces.root("ingress", SpanKind::Consumer, None);
        step.set("ingress.kind", way);
        step.set("channel.name", self.session.channel().to_owned());
        step.set("instance.id", self.services.instance_id().to_string());
        step.set("ingress.events", events as i64);
        step
    }

    /// Hands over what a network brought by one of the ways; durable when it returns.
    pub(super) async fn events(&self, way: &'static str, events: Vec<IngressEvent>) -> Result<EventsTaken, CallError> {
        let step = self.step(way, events.len());
        let taken = step.run(self.session.events(events, self.within)).await;
        if taken.is_err() {
            step.fail("it was not taken");
        }
        taken
    }

    /// Whether a failed call ends the instance; else the reason to wait.
    pub(super) fn verdict(&self, error: CallError) -> Result<String, End> {
        match error {
            CallError::Failed(failure) => match failure.state.map(|state| *state) {
                Some(
                    state
                    @ (ConnectionState::LoggedOut { .. } | ConnectionState::Disconnected { transient: false, .. }),
                ) => Err(End::Terminal(state)),
                Some(ConnectionState::Disconnected { transient: true, .. }) => Err(End::Retry(failure.error.message)),
                _ => Ok(failure.error.message),
            },
            CallError::TimedOut { stuck: true, .. } => {
                let reason = error.to_string();
                self.session.kill(&reason);
                Err(End::Retry(reason))
            }
            CallError::Ended(reason) | CallError::NotSent(reason) => Err(End::Retry(reason)),
            CallError::TimedOut { .. } | CallError::NotStored(_) => Ok(error.to_string()),
        }
    }
}

/// Repeats a poll and hands each answer over.
pub async fn long_poll(line: Line, poll: LongPoll, first: NextPoll) -> End {
    let mut call = first.call;
    let mut backoff = Backoff::new();
    loop {
        let answered = line.services.http().call(call.clone(), line.services.secrets(), line.services.origins()).await;
        let tag = poll.tag.clone();
        let failed = answered.as_ref().err().map(|failure| failure.message.clone());
        let event = match answered {
            Ok(response) => IngressEvent::PollResponse { tag, response },
            Err(failure) => IngressEvent::PollFailed { tag, failure },
        };
        let taken = line.events("poll", vec![event]).await;
        let wait = match taken {
            Ok(mut taken) => {
                if let Some(next) = taken.polls.pop() {
                    call = next.call;
                }
                let asked = taken.outcomes.pop().and_then(|outcome| outcome.poll_after_ms).map(Duration::from_millis);
                match (failed, asked) {
                    (Some(reason), asked) => {
                        line.reporter.poll_failed(&reason);
                        Some(asked.unwrap_or_else(|| backoff.step()))
                    }
                    (None, Some(asked)) => Some(asked),
                    (None, None) => {
                        backoff.reset();
                        line.reporter.poll_worked();
                        (poll.min_interval_ms > 0).then(|| Duration::from_millis(poll.min_interval_ms))
                    }
                }
            }
            Err(error) => match line.verdict(error) {
                Err(end) => return end,
                Ok(reason) => {
                    line.reporter.poll_failed(&reason);
                    Some(backoff.step())
                }
            },
        };
        if let Some(wait) = wait {
            line.clock().sleep(wait).await;
        }
    }
}

/// Calls at regular times, and once where a timer was set.
pub async fn timers(
    line: Line,
    regular: Vec<Timer>,
    mut set: mpsc::UnboundedReceiver<TimerSet>,
    is_only_way: bool,
) -> End {
    let now = line.clock().now();
    let mut due: HashMap<String, crate::store::Time> = HashMap::new();
    let every: HashMap<String, u64> = regular.into_iter().map(|timer| (timer.tag, timer.every_ms.max(10))).collect();
    for (tag, every_ms) in &every {
        due.insert(tag.clone(), now.plus_millis(i64::try_from(*every_ms).unwrap_or(i64::MAX)));
    }
    let mut backoff = Backoff::new();
    loop {
        let next = due.values().min().copied();
        let wait = async {
            match next {
                Some(next) => line.clock().sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            timer = set.recv() => {
                let Some(timer) = timer else { return End::Retry("the instance has ended".into()) };
                match timer.after_ms {
                    Some(after) if due.len() < TIMERS_AT_MOST || due.contains_key(&timer.tag) => {
                        let after = i64::try_from(after).unwrap_or(i64::MAX);
                        due.insert(timer.tag, line.clock().now().plus_millis(after));
                    }
                    Some(_) => tracing::warn!(instance.id = %line.services.instance_id(), "too many timers; one was dropped"),
                    None => drop(due.remove(&timer.tag)),
                }
                continue;
            }
            () = wait => {}
        }
        let now = line.clock().now();
        let tags: Vec<String> = due.iter().filter(|(_, at)| **at <= now).map(|(tag, _)| tag.clone()).collect();
        for tag in &tags {
            match every.get(tag) {
                Some(ms) => drop(due.insert(tag.clone(), now.plus_millis(i64::try_from(*ms).unwrap_or(i64::MAX)))),
                None => drop(due.remove(tag)),
            }
        }
        let events: Vec<IngressEvent> = tags.iter().map(|tag| IngressEvent::Timer { tag: tag.clone() }).collect();
        match line.events("timer", events).await {
            Ok(_) => {
                backoff.reset();
                if is_only_way {
                    line.reporter.poll_worked();
                }
            }
            Err(error) => match line.verdict(error) {
                Err(end) => return end,
                Ok(reason) => {
                    // Nothing else comes in: a channel that looks for itself, and finds nobody.
                    if is_only_way {
                        line.reporter.poll_failed(&reason);
                    }
                    tracing::warn!(instance.id = %line.services.instance_id(), "a timer call failed: {reason}");
                    let again = line.clock().now().plus(backoff.step());
                    for tag in tags {
                        due.entry(tag).or_insert(again);
                    }
                }
            },
        }
    }
}
