//! Rows are claimed, handed to the channel, and settled. One loop for all instances; a chat has one part under way.

use super::{Inner, Outbound, allowed, lock};
use crate::hosts::News;
use crate::plugins::session::Session;
use crate::store::outbox::{self, OutboxRow, Settlement, UnknownSend};
use crate::store::{StoreError, Time};
use crate::traces::{self, SpanKind, Step};
use futures_util::FutureExt;
use omni_channel_sdk::capabilities::ClientIdSupport;
use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use omni_channel_sdk::request::{Reconcile, Reconciled, Reply, Request, Send};
use serde_json::Value;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// Rows that are claimed at once.
const CLAIM: u32 = 256;
/// How long the outbox is not looked at when nothing happens, at most.
const LOOK_EVERY_MS: i64 = 10_000;
/// How long a send waits its turn under a network's limits before that counts as having been tried.
const WAITS_FOR: Duration = Duration::from_secs(86_400);
/// The longest wait between two attempts.
const MAX_RETRY: Duration = Duration::from_secs(3_600);
/// How often an unknown outcome is asked for within its window.
const RECONCILE_EVERY: Duration = Duration::from_secs(5);
/// How long a network may take to say what a chat allows, once it has refused something there.
const ASK_WITHIN: Duration = Duration::from_secs(10);

/// Delivers until it is told to stop; then waits for what is under way. What was under way when the host ended last is
/// [recovered](Outbound::recover) before.
pub async fn run(outbound: Outbound, shutdown: CancellationToken) {
    let inner = Arc::clone(&outbound.0);
    let tracker = TaskTracker::new();
    let mut lanes: HashMap<Uuid, Arc<Semaphore>> = HashMap::new();
    let mut unsure: Vec<Uuid> = Vec::new();
    let mut started = inner.instances.started();
    loop {
        started.mark_unchanged();
        let due = claim_and_deliver(&outbound, &mut lanes, &mut unsure, &tracker).await;
        let timer = async {
            match due {
                Some(due) => inner.clock.sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = inner.wake.notified() => {}
            _ = started.changed() => {}
            () = timer => {}
        }
    }
    tracker.close();
    tracker.wait().await;
}

/// Finds what was under way when the host ended. To be done before any channel can show an echo of it.
pub(super) async fn recover(inner: &Inner, instances: Option<&[Uuid]>) -> Result<(), StoreError> {
    fail::fail_point!("outbound.recover");
    let sends = outbox::recover(&inner.store, instances, inner.clock.now()).await?;
    if !sends.is_empty() {
        let count = sends.len();
        tracing::warn!(count, "sends were under way when the host ended; their outcome is being found out");
        let wait = |send: UnknownSend| (send.id, inner.instances.sending(send.instance_id, &send.chat_key));
        lock(&inner.unasked).extend(sends.into_iter().map(wait));
    }
    Ok(())
}

/// Claims what is due and spawns its delivery; gives back when to look again.
async fn claim_and_deliver(
    outbound: &Outbound,
    lanes: &mut HashMap<Uuid, Arc<Semaphore>>,
    unsure: &mut Vec<Uuid>,
    tracker: &TaskTracker,
) -> Option<Time> {
    let inner = &outbound.0;
    loop {
        let sessions: HashMap<Uuid, Session> = inner.instances.sessions().into_iter().collect();
        if sessions.is_empty() {
            return None;
        }
        let per_instance = inner.options.per_instance;
        lanes.retain(|id, _| sessions.contains_key(id));
        let ready: Vec<Uuid> = sessions
            .keys()
            .filter(|id| {
                let lane = lanes.entry(**id).or_insert_with(|| Arc::new(Semaphore::new(per_instance)));
                lane.available_permits() > 0
            })
            .copied()
            .collect();
        let now = inner.clock.now();
        // Never more than can begin at once: what waits here would have an unknown outcome if the host died now.
        let free = ready.iter().filter_map(|id| lanes.get(id)).map(|lane| lane.available_permits()).min();
        let limit = free.map_or(0, |free| u32::try_from(free).unwrap_or(CLAIM)).min(CLAIM);
        if limit == 0 {
            return Some(now.plus_millis(LOOK_EVERY_MS));
        }
        if !unsure.is_empty() {
            if let Err(error) = outbox::give_back(&inner.store, unsure, now).await {
                tracing::error!("claimed rows could not be given back: {}", error.explain());
                return Some(now.plus_millis(1_000));
            }
            unsure.clear();
        }
        let later = now.plus_millis(LOOK_EVERY_MS);
        match outbox::next_due(&inner.store, &ready).await {
            Ok(Some(due)) if due <= now => {}
            // However nobody was told of a row, it does not lie for longer.
            Ok(due) => return Some(due.map_or(later, |due| due.min(later))),
            Err(error) => {
                tracing::error!("the outbox could not be read: {}", error.explain());
                return Some(now.plus_millis(1_000));
            }
        }
        let rows = match outbox::claim(&inner.store, &ready, now, limit).await {
            Ok(rows) => rows,
            Err(failed) => {
                tracing::error!("the outbox could not be claimed: {}", failed.error.explain());
                unsure.extend(failed.unsure);
                return Some(now.plus_millis(1_000));
            }
        };
        if rows.is_empty() {
            // Somebody else has it, or it is not its turn yet.
            return Some(later);
        }
        for row in rows {
            let (Some(session), Some(lane)) = (sessions.get(&row.instance_id), lanes.get(&row.instance_id)) else {
                continue;
            };
            let (outbound, session, lane) = (outbound.clone(), session.clone(), Arc::clone(lane));
            // There was room for each of them a moment ago, and only this loop takes it.
            let permit = lane.try_acquire_owned();
            *lock(&inner.under_way).entry(row.instance_id).or_default() += 1;
            tracker.spawn(async move {
                if AssertUnwindSafe(deliver(&outbound, &session, &row)).catch_unwind().await.is_err() {
                    // A bug of ours, in the log by now. It may have been sent: that is found out like any other.
                    let now = outbound.0.clock.now();
                    let error = SendError::uncertain("the host failed while it was being sent");
                    let unknown = Settlement::Unknown { at: now, error: to_json(&error), by_content: false };
                    settle(&outbound, session.channel(), &row, &unknown).await;
                }
                drop(permit);
                ended(&outbound.0, row.instance_id);
                outbound.0.wake.notify_one();
            });
        }
    }
}

/// A part of an instance is under way no more.
fn ended(inner: &Inner, instance: Uuid) {
    {
        let mut under_way = lock(&inner.under_way);
        if let Some(count) = under_way.get_mut(&instance) {
            *count -= 1;
            if *count > 0 {
                return;
            }
            under_way.remove(&instance);
        }
    }
    inner.ended.notify_waiters();
}

async fn deliver(outbound: &Outbound, session: &Session, row: &OutboxRow) {
    let step = outbound.0.options.traces.resumed("outbox.deliver", SpanKind::Consumer, row.trace.as_deref());
    step.set("channel.name", session.channel().to_owned());
    step.set("instance.id", row.instance_id.to_string());
    step.set("message.id", row.message_id.to_string());
    step.set("outbox.kind", row.kind.clone());
    step.set("outbox.attempts", row.attempts);
    step.run(deliver_it(outbound, session, row, &step)).await;
}

async fn deliver_it(outbound: &Outbound, session: &Session, row: &OutboxRow, step: &Step) {
    let inner = &outbound.0;
    let began = inner.clock.now();
    let waits = row.kind == "send" && makes_ids(inner, session.channel());
    let echoes_wait = waits.then(|| inner.instances.sending(row.instance_id, &row.chat_key));
    let asked_now = lock(&inner.unasked).remove(&row.id);
    let settlement = match row.status.as_str() {
        "reconciling" => reconcile(outbound, session, row).await,
        _ => attempt(outbound, session, row).await,
    };
    fail::fail_point!("outbound.answered", |_| std::process::abort());
    step.set("outcome", outcome_word(&settlement));
    if let Settlement::Failed { .. } = settlement {
        step.fail("it was given up");
    }
    log(row, session.channel(), &settlement, inner.clock.now().millis() - began.millis());
    settle(outbound, session.channel(), row, &settlement).await;
    drop(asked_now);
    if let (Settlement::Unknown { by_content: false, .. }, Some(echoes_wait)) = (&settlement, echoes_wait) {
        // Until its network was asked: whether an echo is to be known by what is in it shows then.
        lock(&inner.unasked).insert(row.id, echoes_wait);
    }
    if was_forbidden(&settlement) {
        ask_what_is_allowed(outbound, session.channel(), row).await;
    }
}

/// Whether a network makes the ids of messages, so that nothing but its answer tells that of a send.
fn makes_ids(inner: &Inner, channel: &str) -> bool {
    inner.instances.manifest(channel).is_ok_and(|found| found.capabilities.client_id == ClientIdSupport::None)
}

/// Whether the network certainly refused it for want of a right.
fn was_forbidden(settlement: &Settlement) -> bool {
    let Settlement::Failed { error } = settlement else { return false };
    let error = serde_json::from_value::<SendError>(error.clone());
    error.is_ok_and(|error| error.certain && error.code == ErrorCode::Forbidden)
}

/// Finds out what else a chat does not take, so that it is not tried in vain, unless that was asked a moment ago.
async fn ask_what_is_allowed(outbound: &Outbound, channel: &str, row: &OutboxRow) {
    let inner = &outbound.0;
    let can_tell = inner.instances.manifest(channel).is_ok_and(|found| found.capabilities.can("capabilities"));
    if !can_tell || !inner.allowed.should_ask(row.instance_id, &row.chat_key, inner.clock.now()) {
        return;
    }
    let asked = outbound.capabilities(row.instance_id, channel, &row.chat_key);
    if let Ok(Err(error)) = tokio::time::timeout(ASK_WITHIN, asked).await {
        tracing::debug!(instance.id = %row.instance_id, "what the chat allows could not be asked: {error}");
    }
}

/// Writes what became of a row. What the network did must not be forgotten because the database is away for a moment: it
/// is written until it is.
async fn settle(outbound: &Outbound, channel: &str, row: &OutboxRow, settlement: &Settlement) {
    let inner = &outbound.0;
    let now = inner.clock.now();
    let mut wait = Duration::from_millis(100);
    let step = traces::child("outbox.settle", SpanKind::Internal);
    while let Err(error) = step.run(outbox::settle(&inner.store, channel, row, settlement, now)).await {
        tracing::error!(outbox.id = %row.id, "an outcome could not be written: {}; trying again", error.explain());
        inner.clock.sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(30));
    }
    outbound.moved(row.send_id);
    inner.options.hosts.tell(&News::Settled { send: row.send_id }).await;
}

async fn attempt(outbound: &Outbound, session: &Session, row: &OutboxRow) -> Settlement {
    let inner = &outbound.0;
    let request = match request_of(outbound, row).await {
        Ok(request) => request,
        Err(error) => return failed(&error),
    };
    // Accepted before that was known.
    let needs = allowed::needs(&request);
    if let Some(error) = inner.allowed.refusal(row.instance_id, &row.chat_key, &needs, inner.clock.now()) {
        return failed(&error);
    }
    if !inner.options.hosts.may_act() {
        // Nothing left this host: whoever has the instance by then sends it.
        let error = SendError::transient("this host has lost its share of the database");
        return Settlement::Retry { at: inner.clock.now(), error: to_json(&error), tried: false };
    }
    let repeatable = row.kind != "send";
    let step = traces::child("channel.request", SpanKind::Client);
    match step.run(session.request(request, inner.options.call_within)).await {
        Ok(Reply::Sent(receipt)) => Settlement::Delivered(Some(receipt)),
        Ok(Reply::Done(_)) if repeatable => Settlement::Delivered(None),
        Ok(_) => failed(&SendError {
            certain: false,
            ..SendError::internal("the channel answered something else than was asked")
        }),
        Err(error) => {
            let mut error = error.into_send_error();
            // Doing the same edit, deletion or reaction twice is doing it once.
            error.certain |= repeatable;
            settle_error(outbound, row, error)
        }
    }
}

/// The wire request of a row. A change of a message that had no id yet when it was asked for gets it now.
async fn request_of(outbound: &Outbound, row: &OutboxRow) -> Result<Request, SendError> {
    let damaged = |error: serde_json::Error| SendError::internal(format!("the stored request is damaged: {error}"));
    let mut request: Value = row.request.0.clone();
    let target_is_open = request.pointer("/target/id").and_then(Value::as_str) == Some("");
    if target_is_open {
        let found = async {
            let mut tx = outbound.0.store.read().await?;
            outbox::message_by_id(&mut tx, row.message_id).await
        };
        let found = found.await.map_err(|error| SendError::transient(error.explain()))?;
        let external = found.and_then(|message| message.external_id).ok_or_else(|| {
            SendError::new(ErrorCode::MessageNotFound, NextActor::Caller, "the message was never sent")
        })?;
        request["target"]["id"] = Value::String(external);
    }
    serde_json::from_value(request).map_err(damaged)
}

fn settle_error(outbound: &Outbound, row: &OutboxRow, error: SendError) -> Settlement {
    let options = &outbound.0.options;
    let now = outbound.0.clock.now();
    if !error.certain {
        return Settlement::Unknown { at: now, error: to_json(&error), by_content: false };
    }
    let attempts = u32::try_from(row.attempts).unwrap_or(u32::MAX);
    // Whom the network tells when to come again, comes again then; for a day.
    let is_told = error.code == ErrorCode::RateLimited && error.retry_after_ms.is_some();
    let waits = is_told && now < row.created_at.plus(WAITS_FOR);
    if error.next != NextActor::Retry || (!waits && attempts >= options.max_attempts) {
        return failed(&error);
    }
    let backoff = options.first_retry.saturating_mul(1 << attempts.saturating_sub(1).min(20)).min(MAX_RETRY);
    let jitter = rand::random_range(0.8..=1.2);
    let wait = match error.retry_after_ms {
        // The network said when: not a moment earlier.
        Some(after) => Duration::from_millis(after),
        None => backoff.mul_f64(jitter),
    };
    let at = now.plus(wait);
    Settlement::Retry { at, error: to_json(&error), tried: !waits }
}

/// Asks the network whether an earlier send happened. Where it cannot tell, the chat waits its window and goes on.
async fn reconcile(outbound: &Outbound, session: &Session, row: &OutboxRow) -> Settlement {
    let inner = &outbound.0;
    let now = inner.clock.now();
    let tried_at = row.claimed_at.unwrap_or(row.created_at);
    let unknown_since = row.unknown_since.unwrap_or(now);
    let echo = async {
        let mut tx = inner.store.read().await?;
        outbox::echo_of(&mut tx, row.message_id).await
    };
    if let Ok(Some(receipt)) = echo.await {
        return Settlement::Delivered(Some(receipt));
    }
    let can = inner.instances.manifest(session.channel()).is_ok_and(|found| found.capabilities.can("reconcile"));
    if can && let Ok(Request::Send(send)) = request_of(outbound, row).await {
        let request = Request::Reconcile(Reconcile { send: Send::clone(&send), tried_at: tried_at.millis() });
        match session.request(request, inner.options.call_within).await {
            Ok(Reply::Reconciled(Reconciled::Sent { receipt })) => return Settlement::Delivered(Some(receipt)),
            Ok(Reply::Reconciled(Reconciled::NotSent)) => {
                let error = SendError::transient("the network says that it was not sent; it is sent again");
                // At once the first time, when the host was killed or the network hung up; whatever fails so again may
                // go on doing so.
                return match row.attempts {
                    ..=2 => Settlement::Retry { at: now, error: to_json(&error), tried: true },
                    _ => settle_error(outbound, row, error),
                };
            }
            _ => {}
        }
    }
    let sentence = "it is not known whether the network took the message; it is not sent again by itself";
    let error = SendError::uncertain(sentence);
    let ends = unknown_since.plus(inner.options.reconcile_window);
    if now < ends {
        let next = now.plus(RECONCILE_EVERY);
        let by_content = makes_ids(inner, session.channel());
        return Settlement::Unknown { at: next.min(ends), error: to_json(&error), by_content };
    }
    failed(&error)
}

fn failed(error: &SendError) -> Settlement {
    Settlement::Failed { error: to_json(error) }
}

fn to_json(error: &SendError) -> Value {
    serde_json::to_value(error).expect("wire types are plain JSON")
}

fn log(row: &OutboxRow, channel: &str, settlement: &Settlement, duration_ms: i64) {
    let (instance, message, attempts) = (row.instance_id, row.message_id, row.attempts);
    let sentence = |error: &Value| error.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    match settlement {
        Settlement::Delivered(_) => tracing::debug!(
            instance.id = %instance, channel.name = channel, message.id = %message, attempts, duration_ms,
            "{} delivered", row.kind
        ),
        Settlement::Retry { at, error, .. } => tracing::info!(
            instance.id = %instance, channel.name = channel, message.id = %message, attempts, duration_ms, again_at = %at,
            "{} put off: {}", row.kind, sentence(error)
        ),
        Settlement::Unknown { error, .. } => tracing::warn!(
            instance.id = %instance, channel.name = channel, message.id = %message, attempts, duration_ms,
            "outcome of {} unknown: {}", row.kind, sentence(error)
        ),
        Settlement::Failed { error } => tracing::warn!(
            instance.id = %instance, channel.name = channel, message.id = %message, attempts, duration_ms,
            "{} failed: {}", row.kind, sentence(error)
        ),
    }
    metrics::counter!("omni_outbound_total", "channel" => channel.to_owned(), "outcome" => outcome_word(settlement))
        .increment(1);
}

fn outcome_word(settlement: &Settlement) -> &'static str {
    match settlement {
        Settlement::Delivered(_) => "delivered",
        Settlement::Retry { .. } => "retried",
        Settlement::Unknown { .. } => "unknown",
        Settlement::Failed { .. } => "failed",
    }
}
