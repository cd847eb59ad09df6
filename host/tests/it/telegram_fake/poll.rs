//! getUpdates: holds the poll until there is something, gives updates again until an offset behind them was seen, and
//! lets only the newest poll go on.

use super::Shared;
use super::state::{Refusal, State};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// Kinds that Telegram leaves out unless they are asked for.
const ON_REQUEST: [&str; 3] = ["chat_member", "message_reaction", "message_reaction_count"];

pub async fn get_updates(shared: &Shared, params: &Value) -> Result<Value, Refusal> {
    let number = |name: &str| params.get(name).and_then(Value::as_i64);
    let timeout = number("timeout").unwrap_or(0);
    let limit = usize::try_from(number("limit").unwrap_or(100).clamp(1, 100)).expect("it is 1 to 100");
    judge_kinds(shared, params);
    let mine = begin(&mut shared.lock(), params, number("offset"))?;
    // An older poll, should there be one, learns that it is over.
    shared.news.notify_waiters();
    let deadline = Instant::now() + Duration::from_secs(u64::try_from(timeout).unwrap_or(0));
    loop {
        let news = shared.news.notified();
        tokio::pin!(news);
        news.as_mut().enable();
        let found = look(&mut shared.lock(), mine, limit)?;
        if !found.is_empty() || timeout <= 0 {
            return Ok(found.into());
        }
        if tokio::time::timeout_at(deadline, news).await.is_err() {
            return Ok(Vec::<Value>::new().into());
        }
    }
}

/// Kinds of update that there are not are not by the book, though Telegram passes over them.
pub fn judge_kinds(shared: &Shared, params: &Value) {
    let Some(spec) = &shared.spec else { return };
    let known = spec.fields("Update");
    let asked = params.get("allowed_updates").and_then(Value::as_array).into_iter().flatten();
    let unknown = asked.filter(|kind| !known.iter().any(|known| *kind == known));
    let wrong: Vec<String> = unknown.map(|kind| format!("allowed_updates: there is no {kind}")).collect();
    shared.lock().violations.extend(wrong);
}

fn webhook() -> Refusal {
    let what = "Conflict: can't use getUpdates method while webhook is active; \
                use deleteWebhook to delete the webhook first";
    Refusal::new(409, what)
}

fn begin(state: &mut State, params: &Value, offset: Option<i64>) -> Result<u64, Refusal> {
    if state.webhook.is_some() {
        return Err(webhook());
    }
    state.allow(params);
    match offset {
        Some(offset) if offset < 0 => {
            let keep = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
            let gone = state.pending.len().saturating_sub(keep);
            state.pending.drain(..gone);
        }
        // What has no number cannot be confirmed, and is gone with what is confirmed around it.
        Some(offset) => {
            let unconfirmed = |update: &Value| update["update_id"].as_i64().is_some_and(|number| number >= offset);
            state.pending.retain(unconfirmed);
        }
        None => {}
    }
    state.polls += 1;
    Ok(state.polls)
}

/// Whether an update is of a kind that was asked for; Telegram's default when nothing was.
pub fn wanted(update: &Value, allowed: &[String]) -> bool {
    let kinds = update.as_object().into_iter().flat_map(serde_json::Map::keys);
    let mut kinds = kinds.filter(|kind| *kind != "update_id");
    let Some(kind) = kinds.next() else { return true };
    if allowed.is_empty() { !ON_REQUEST.contains(&kind.as_str()) } else { allowed.contains(kind) }
}

fn look(state: &mut State, mine: u64, limit: usize) -> Result<Vec<Value>, Refusal> {
    if state.token.is_empty() {
        return Err(Refusal::new(401, "Unauthorized"));
    }
    if state.webhook.is_some() {
        return Err(webhook());
    }
    if state.polls != mine {
        let what = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running";
        return Err(Refusal::new(409, what));
    }
    let allowed = state.allowed.clone().unwrap_or_default();
    // What is not by the book was pushed to be given.
    let odd = |update: &Value| update.get("update_id").is_none();
    state.pending.retain(|update| odd(update) || wanted(update, &allowed));
    Ok(state.pending.iter().take(limit).cloned().collect())
}
