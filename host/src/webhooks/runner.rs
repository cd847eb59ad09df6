//! One webhook at work: reads the events from its own place, queues those that it wants, sends the first of every chat
//! and writes down how it went.
//!
//! Nothing is written before an attempt: one that is under way when the host dies is made again, under the same id. An
//! event that fails is tried again later and its chat waits for it; the other chats go on. A webhook that fails whatever
//! is sent rests, and what happens meanwhile stays where it is kept anyway, in the events.

use super::attempt::{Answer, Target};
use super::schedule::{self, TIRED_AFTER};
use super::{Inner, opened};
use crate::store::consumers::{self, Position};
use crate::store::dead_letters::NewDeadLetter;
use crate::store::events::{self, NewDomainEvent};
use crate::store::webhook_queue::{self as queue, Attempt, Due, Queued, Verdict};
use crate::store::webhooks::{self as rows, Health, STREAM, WebhookRow, consumer};
use crate::store::{Result, StoreError, Time, Tx, fault};
use bytes::Bytes;
use serde_json::json;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How many events are looked at in one read.
const WINDOW: u32 = 1_024;
/// No more events are queued while so many wait for nothing but their turn.
const READY: i64 = 512;
/// Nor while so many are queued at all: the rest waits in the events.
const MOST: i64 = 50_000;
/// A place is written at the latest when so many events were looked at that nobody wanted.
const UNSAVED: i64 = 20_000;
/// And at the latest when so much time has passed, so that what nobody wanted is not taken for lost once it is gone.
const UNSAVED_FOR: Duration = Duration::from_secs(3_600);
/// How long the database is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// One that was sent, and what was sent.
struct Finished {
    due: Due,
    body: Bytes,
    attempt: Attempt,
    answer: Answer,
}

/// What a runner waits for.
struct Wait {
    /// A row comes due, or a rest ends.
    until: Option<Time>,
    /// New events would be queued.
    for_news: bool,
    /// There is more to do at once.
    not_at_all: bool,
}

pub(super) struct Runner {
    inner: Arc<Inner>,
    id: Uuid,
    changed: watch::Receiver<u64>,
    news: watch::Receiver<i64>,
    position: Position,
    /// Where the position was last written, and when.
    saved: i64,
    saved_at: Time,
    sending: JoinSet<Finished>,
    /// The rows that are being sent, or were and are not yet settled.
    in_flight: HashSet<i64>,
    finished: Vec<Finished>,
}

/// Why a runner ends.
enum Ended {
    /// The webhook was deleted, or another host reads for it.
    ForGood,
    /// For now.
    Store(StoreError),
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Runner {
    /// Claims the webhook's place and runs until it is told to stop or the webhook is deleted.
    pub async fn run(inner: Arc<Inner>, id: Uuid, changed: watch::Receiver<u64>, stop: CancellationToken) {
        let mut backoff = BACKOFF.0;
        let position = loop {
            match claim(&inner, id).await {
                Ok(position) => break position,
                Err(error) => {
                    tracing::warn!(webhook.id = %id, error = error.explain(), "a webhook could not begin; trying again");
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = inner.clock.sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
                    }
                }
            }
        };
        let news = inner.store.feed().newest();
        let (saved, saved_at) = (position.seq, inner.clock.now());
        let mut runner = Self {
            inner,
            id,
            changed,
            news,
            position,
            saved,
            saved_at,
            sending: JoinSet::new(),
            in_flight: HashSet::new(),
            finished: Vec::new(),
        };
        backoff = BACKOFF.0;
        while !stop.is_cancelled() {
            match runner.work(&stop).await {
                Ok(()) => backoff = BACKOFF.0,
                Err(Ended::ForGood) => return,
                Err(Ended::Store(error)) => {
                    tracing::warn!(webhook.id = %id, error = error.explain(), "a webhook failed to use the store; trying again");
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = runner.inner.clock.sleep(backoff) => backoff = (backoff * 2).min(BACKOFF.1),
                    }
                }
            }
        }
        runner.finish().await;
    }

    /// Works with the webhook as it stands until that changes or the host stops.
    async fn work(&mut self, stop: &CancellationToken) -> Result<(), Ended> {
        self.changed.borrow_and_update();
        let row = rows::get(&mut self.inner.store.read().await?, self.id).await?.ok_or(Ended::ForGood)?;
        let target = match opened(&self.inner.sealer, &row) {
            Ok(target) => Arc::new(target),
            Err(reason) => {
                tracing::error!(webhook.id = %self.id, "a webhook cannot be sent to: {reason}");
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    changed = self.changed.changed() => return changed.map_err(|_| Ended::ForGood),
                }
            }
        };
        let filter = row.filter();
        let mut health = Health {
            failures: row.failures,
            failing_since: row.failing_since,
            resting_until: row.resting_until,
            ..Health::default()
        };
        let mut enabled = row.enabled;
        loop {
            if !self.finished.is_empty() && self.settle(&row, &mut health).await? {
                enabled = false;
            }
            let wait = if enabled { self.step(&filter, &target, &health).await? } else { Wait::FOR_A_CHANGE };
            if wait.not_at_all && !stop.is_cancelled() && !self.changed.has_changed().unwrap_or(true) {
                self.gather();
                continue;
            }
            let due = async {
                match wait.until {
                    Some(at) => self.inner.clock.sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                changed = self.changed.changed() => return changed.map_err(|_| Ended::ForGood),
                Some(done) = self.sending.join_next() => self.take(done),
                changed = self.news.changed(), if wait.for_news => changed.map_err(|_| Ended::ForGood)?,
                () = due => {}
            }
            self.gather();
        }
    }

    fn take(&mut self, done: Result<Finished, tokio::task::JoinError>) {
        match done {
            Ok(done) => self.finished.push(done),
            // It does not panic; should it ever, its row stays in flight and is sent again after the next start.
            Err(error) => tracing::error!(webhook.id = %self.id, "an attempt was lost: {error}"),
        }
    }

    /// Takes every attempt that is finished by now, so that they are written together.
    fn gather(&mut self) {
        while let Some(done) = self.sending.try_join_next() {
            self.take(done);
        }
    }

    /// Queues what is new and sends what is due.
    async fn step(&mut self, filter: &events::Filter, target: &Arc<Target>, health: &Health) -> Result<Wait, Ended> {
        let now = self.inner.clock.now();
        if let Some(until) = health.resting_until.filter(|until| *until > now) {
            return Ok(Wait { until: Some(until), ..Wait::FOR_A_CHANGE });
        }
        let tired = health.failures >= TIRED_AFTER;
        let mut tx = self.inner.store.read().await?;
        let (ready, queued) = queue::waiting(&mut tx, self.id, now, (READY, MOST)).await?;
        drop(tx);
        let room = !tired && ready < READY && queued < MOST;
        let more = if room { self.fan_out(filter).await? } else { false };
        let free = if tired { 1 } else { self.inner.options.concurrency }.saturating_sub(self.in_flight.len());
        let mut tx = self.inner.store.read().await?;
        let mut expired = Vec::new();
        if free > 0 {
            // Those that are being sent are still due, and come first.
            let due = queue::due(&mut tx, self.id, now, free + self.in_flight.len()).await?;
            let new: Vec<Due> = due.into_iter().filter(|due| !self.in_flight.contains(&due.seq)).take(free).collect();
            for due in new {
                match body(&mut tx, &due).await? {
                    Some(body) => self.begin(due, body, target),
                    None => expired.push(due),
                }
            }
        }
        let until = queue::next_due(&mut tx, self.id, now).await?;
        drop(tx);
        self.observe(queued);
        if !expired.is_empty() {
            self.expire(&expired).await?;
        }
        // Behind what expired others came forward, which this snapshot has not seen.
        Ok(Wait { until, for_news: room, not_at_all: more || !expired.is_empty() })
    }

    /// Queues the next piece of what happened; says whether there may be more.
    async fn fan_out(&mut self, filter: &events::Filter) -> Result<bool, Ended> {
        let newest = *self.news.borrow_and_update();
        if newest <= self.position.seq {
            return Ok(false);
        }
        let mut tx = self.inner.store.read().await?;
        let piece = events::after(&mut tx, self.position.seq, filter, WINDOW).await?;
        drop(tx);
        let lost = if self.position.seq > 0 { piece.lost } else { 0 };
        let now = self.inner.clock.now();
        let overdue = piece.seen - self.saved >= UNSAVED || now >= self.saved_at.plus(UNSAVED_FOR);
        if !piece.events.is_empty() || lost > 0 || overdue {
            let events: Vec<Queued> = piece.events.iter().map(Queued::from).collect();
            let written = Position { seq: self.saved, ..self.position.clone() };
            let mut tx = self.inner.store.begin().await?;
            let moved = async {
                // First, so that what is queued already is not queued again.
                if !consumers::advance_from(&mut tx, &written, piece.seen, now).await? {
                    return Ok(false);
                }
                if lost > 0 {
                    self.tell_lost(&mut tx, lost, now).await?;
                }
                if !events.is_empty() {
                    queue::enqueue(&mut tx, self.id, &events, now).await?;
                }
                Ok(true)
            };
            match moved.await {
                Ok(true) => commit_queued(tx).await?,
                Ok(false) => {
                    let held = consumers::held(&mut tx, &written).await;
                    tx.rollback().await?;
                    let Some(seq) = held? else {
                        tracing::warn!(webhook.id = %self.id, "a webhook was deleted, or is read for by another host");
                        return Err(Ended::ForGood);
                    };
                    // A commit that was reported as failed has happened.
                    (self.saved, self.position.seq) = (seq, seq);
                    return Ok(seq < newest);
                }
                Err(error) => return Err(tx.fail(error).await.into()),
            }
            if lost > 0 {
                self.count_expired(lost);
            }
            (self.saved, self.saved_at) = (piece.seen, now);
        }
        self.position.seq = piece.seen;
        Ok(piece.seen < newest)
    }

    /// Says of events that are no longer kept, and that the webhook has not had, that they are lost to it: in the log, among
    /// the events, and where the webhook's last failure is shown. How many of them it wanted nobody can tell any more.
    async fn tell_lost(&self, tx: &mut Tx, lost: i64, now: Time) -> Result<()> {
        let (from, to) = (self.position.seq + 1, self.position.seq + lost);
        let told = format!("events {from} to {to} were no longer kept when their turn came (retention.event_days)");
        tracing::error!(webhook.id = %self.id, events = lost, "a webhook has lost events: {told}");
        let Some(row) = rows::get(tx, self.id).await? else { return Ok(()) };
        rows::note_failure(tx, self.id, now, &told).await?;
        let payload = json!({"webhookId": self.id, "name": row.name, "from": from, "to": to, "reason": told});
        let event = NewDomainEvent::new(tx.new_id(now), "webhook.events_lost", "outbound", payload.to_string(), now);
        events::append(tx, &[event], now).await
    }

    fn count_expired(&self, events: i64) {
        let events = u64::try_from(events).unwrap_or(0);
        metrics::counter!("omni_webhook_expired_total", "webhook" => self.id.to_string()).increment(events);
    }

    /// Begins one attempt.
    fn begin(&mut self, due: Due, body: Bytes, target: &Arc<Target>) {
        self.in_flight.insert(due.seq);
        let (sender, slots, target) = (self.inner.sender.clone(), Arc::clone(&self.inner.slots), Arc::clone(target));
        self.sending.spawn(async move {
            // All webhooks together have so many; the semaphore is never closed.
            let _slot = slots.acquire_owned().await;
            let (attempt, answer) = sender.send(&target, due.event_id, body.clone()).await;
            Finished { due, body, attempt, answer }
        });
    }

    /// Settles rows whose events are no longer kept.
    async fn expire(&self, expired: &[Due]) -> Result<()> {
        let now = self.inner.clock.now();
        let mut tx = self.inner.store.begin().await?;
        let written = async {
            for due in expired {
                queue::expire(&mut tx, self.id, due, now).await?;
            }
            Ok(())
        };
        match written.await {
            Ok(()) => tx.commit().await?,
            Err(error) => return Err(tx.fail(error).await),
        }
        for due in expired {
            tracing::warn!(webhook.id = %self.id, event.id = %due.event_id, "an event was no longer kept when its turn came");
        }
        self.count_expired(i64::try_from(expired.len()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Writes how attempts went, all in one transaction; says whether the webhook was disabled by it.
    async fn settle(&mut self, row: &WebhookRow, health: &mut Health) -> Result<bool, Ended> {
        let now = self.inner.clock.now();
        let mut after = Health { succeeded_at: None, failed: None, ..health.clone() };
        let mut stop: Option<String> = None;
        let mut verdicts = Vec::with_capacity(self.finished.len());
        for Finished { due, body, attempt, answer } in &self.finished {
            let verdict = match answer {
                Answer::Taken => {
                    after.failures = 0;
                    after.failing_since = None;
                    after.resting_until = None;
                    after.succeeded_at = Some(now);
                    Verdict::Delivered
                }
                Answer::Gone => {
                    stop = Some("it answered 410 Gone: it wants nothing more".into());
                    Verdict::Again(now)
                }
                Answer::NotTaken(wish) => {
                    after.failures += 1;
                    after.failing_since = after.failing_since.or(Some(attempt.at));
                    let rest = schedule::rest(after.failures, *wish).map(|rest| now.plus(rest));
                    after.resting_until = after.resting_until.max(rest);
                    match schedule::next_after(due.attempts + 1, *wish, rand::random()) {
                        Some(delay) => Verdict::Again(now.plus(delay)),
                        None => Verdict::Failed(Box::new(self.letter(due, body, attempt))),
                    }
                }
            };
            if let Some(error) = &attempt.error {
                after.failed = Some((attempt.at, error.clone()));
                tracing::info!(
                    webhook.id = %self.id, webhook.name = row.name, event.id = %due.event_id,
                    event.r#type = due.event_type, attempt = due.attempts + 1, duration_ms = attempt.duration_ms,
                    given_up = matches!(verdict, Verdict::Failed(_)), "a webhook did not take an event: {error}"
                );
            }
            verdicts.push(verdict);
        }
        if let Some(since) = after.failing_since
            && stop.is_none()
            && now.0 - since.0 >= i64::try_from(self.inner.options.disable_after.as_micros()).unwrap_or(i64::MAX)
        {
            stop = Some(format!("every attempt since {since} failed"));
        }
        let mut tx = self.inner.store.begin().await?;
        let written = async {
            for (Finished { due, attempt, .. }, verdict) in self.finished.iter().zip(&verdicts) {
                queue::settle(&mut tx, self.id, due, attempt, verdict, now).await?;
            }
            rows::note(&mut tx, self.id, &after).await?;
            match &stop {
                Some(reason) => disable(&mut tx, row, reason, now).await,
                None => Ok(()),
            }
        };
        match written.await {
            // When that is reported as failed all the same, it is written once more, and changes nothing then.
            Ok(()) => commit_settled(tx).await?,
            Err(error) => return Err(tx.fail(error).await.into()),
        }
        for (Finished { due, attempt, answer, .. }, verdict) in
            std::mem::take(&mut self.finished).into_iter().zip(verdicts)
        {
            self.in_flight.remove(&due.seq);
            count(row, &attempt, &answer);
            if let Verdict::Failed(_) = verdict {
                metrics::counter!("omni_dead_letters_total", "consumer" => consumer(self.id)).increment(1);
            }
        }
        *health = after;
        Ok(stop.is_some())
    }

    /// All that is needed to send an event again: what was sent, which may be gone from the events by now.
    fn letter(&self, due: &Due, body: &Bytes, attempt: &Attempt) -> NewDeadLetter {
        let timestamp =
            serde_json::from_slice(body).ok().and_then(|event: serde_json::Value| event["timestamp"].as_i64());
        let error = attempt.error.as_deref().unwrap_or("it was not taken");
        NewDeadLetter {
            event_id: due.event_id,
            event_type: due.event_type.clone(),
            consumer: consumer(self.id).into(),
            instance_id: (!due.instance_id.is_nil()).then_some(due.instance_id),
            accepted_at: timestamp.map_or(due.created_at, Time::from_millis),
            payload: body.to_vec(),
            error: format!("given up after {} attempts: {error}", due.attempts + 1),
            // It was tried for days.
            next_auto_retry_at: None,
        }
    }

    /// Lets what is being sent come to its end, within reason, and writes it down.
    async fn finish(mut self) {
        let within = self.inner.options.stop_within;
        let all = async {
            while let Some(done) = self.sending.join_next().await {
                self.take(done);
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            tracing::info!(webhook.id = %self.id, attempts = self.sending.len(), "attempts were cut off; they are made again");
        }
        if let Err(error) = self.save().await {
            tracing::debug!(webhook.id = %self.id, error = error.explain(), "how far a webhook has read was not written");
        }
        if self.finished.is_empty() {
            return;
        }
        let row = match self.inner.store.read().await {
            Ok(mut tx) => rows::get(&mut tx, self.id).await,
            Err(error) => Err(error),
        };
        let Ok(Some(row)) = row else { return };
        let mut health = Health {
            failures: row.failures,
            failing_since: row.failing_since,
            resting_until: row.resting_until,
            ..Health::default()
        };
        if let Err(Ended::Store(error)) = self.settle(&row, &mut health).await {
            tracing::warn!(webhook.id = %self.id, error = error.explain(), "how the last attempts went was not written; they are made again");
        }
    }

    /// Writes how far it has read, where the rest was wanted by nobody.
    async fn save(&mut self) -> Result<()> {
        if self.position.seq == self.saved {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let written = Position { seq: self.saved, ..self.position.clone() };
        let mut tx = self.inner.store.begin().await?;
        match consumers::advance_from(&mut tx, &written, self.position.seq, now).await {
            Ok(true) => tx.commit().await,
            // Somebody else reads on, or has written it already.
            Ok(false) => tx.rollback().await,
            Err(error) => Err(tx.fail(error).await),
        }
    }

    fn observe(&self, queued: i64) {
        let id = self.id.to_string();
        metrics::gauge!("omni_webhook_queued", "webhook" => id).set(queued as f64);
    }
}

impl Wait {
    const FOR_A_CHANGE: Self = Self { until: None, for_news: false, not_at_all: false };
}

/// What is sent: the envelope of the event as it is kept; nothing when it is no longer.
async fn body(tx: &mut Tx, due: &Due) -> Result<Option<Bytes>> {
    if let Some(payload) = &due.payload {
        return Ok(Some(payload.clone().into()));
    }
    let event = events::at(tx, due.event_seq).await?.filter(|event| event.id == due.event_id);
    Ok(event.map(|event| serde_json::to_vec(&event).expect("an event is plain JSON").into()))
}

async fn commit_queued(tx: Tx) -> Result<()> {
    fault!("webhook.enqueue.before");
    tx.commit().await?;
    fault!("webhook.enqueue.after");
    Ok(())
}

async fn commit_settled(tx: Tx) -> Result<()> {
    fault!("webhook.settle.before");
    tx.commit().await?;
    fault!("webhook.settle.after");
    Ok(())
}

async fn claim(inner: &Inner, id: Uuid) -> Result<Position> {
    let mut tx = inner.store.begin().await?;
    let newest = events::newest(&mut tx).await?;
    let position = consumers::claim(&mut tx, consumer(id), STREAM, newest, inner.clock.now()).await?;
    tx.commit().await?;
    Ok(position)
}

fn count(row: &WebhookRow, attempt: &Attempt, answer: &Answer) {
    let outcome = match answer {
        Answer::Taken => "delivered",
        Answer::NotTaken(_) => "failed",
        Answer::Gone => "gone",
    };
    let id = row.id.to_string();
    metrics::counter!("omni_webhook_attempts_total", "webhook" => id.clone(), "outcome" => outcome).increment(1);
    metrics::histogram!("omni_webhook_attempt_duration_seconds", "webhook" => id)
        .record(attempt.duration_ms as f64 / 1_000.0);
}

/// Disables a webhook and says so in the log and among the events, so that somebody hears of it.
pub(super) async fn disable(tx: &mut Tx, row: &WebhookRow, reason: &str, now: Time) -> Result<()> {
    if !rows::disable(tx, row.id, reason, now).await? {
        return Ok(());
    }
    tracing::warn!(webhook.id = %row.id, webhook.name = row.name, "a webhook was disabled: {reason}");
    let payload = json!({"webhookId": row.id, "name": row.name, "reason": reason, "disabledAt": now});
    let event = NewDomainEvent::new(tx.new_id(now), "webhook.disabled", "outbound", payload.to_string(), now);
    events::append(tx, &[event], now).await
}
