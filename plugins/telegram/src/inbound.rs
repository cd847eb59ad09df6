//! The long poll: what is asked for, and what is made of each answer; and what the webhook shares with it.
//!
//! The offset lies in the key-value store and is written by the call that emits the events, so both are stored together
//! and Telegram forgets an update only when we have it. An answer that brings nothing is never an error of the call: the
//! state says what is wrong, and the next poll waits a while.

use crate::Telegram;
use crate::client::{ApiCall, ApiError, Client, Refusal, read};
use crate::convert::{self, KINDS, Me};
use crate::errors::{self, SLOW_DOWN_MS};
use crate::memory;
use crate::webhook;
use omni_channel_sdk::prelude::*;
use std::sync::Mutex;

/// The key under which the number of the next update is kept, in decimal.
pub const OFFSET: &str = "offset";
/// How long Telegram holds a poll without news, in seconds.
const HOLD_SECONDS: u64 = 50;
/// How long a poll may take, in milliseconds.
const POLL_MS: u64 = 65_000;
/// Most bytes of an answer: a hundred updates with all that they may quote. A larger answer could never be got past.
const POLL_BYTES: u64 = 64 * 1024 * 1024;
/// Waited before polling again while another program polls, in milliseconds: longer than its own poll may be cut off.
pub const CONFLICT_MS: u64 = 15_000;
/// Two empty answers within this time, in milliseconds, are of a server that does not hold polls, as some test servers
/// do not: it is then asked this often.
const HURRIED_MS: i64 = 1_000;
/// Longest wait after failures, in milliseconds.
const MAX_BACKOFF_MS: u64 = 30_000;

/// What the poll was last known to do.
#[derive(Debug, Default)]
pub struct Health(Mutex<Trouble>);

#[derive(Debug, Default)]
struct Trouble {
    /// What was last reported; nothing while all is well.
    reason: Option<String>,
    /// Whether another program polled just now.
    conflict: bool,
    /// Failures in a row.
    failures: u32,
    /// When an answer without news came, if the last one was that.
    empty_at: Option<i64>,
    /// When an update last came to the webhook.
    heard_at: i64,
}

impl Health {
    fn change<T>(&self, change: impl FnOnce(&mut Trouble) -> T) -> T {
        // Plain data, good after a panic too.
        change(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// Whether another program had the updates when last was looked.
    pub fn in_conflict(&self) -> bool {
        self.change(|trouble| trouble.conflict)
    }

    /// Another program has the updates.
    pub fn conflict(&self) {
        self.change(|trouble| trouble.conflict = true);
    }

    /// An update came to the webhook.
    pub fn heard(&self, now: i64) {
        self.change(|trouble| trouble.heard_at = now);
    }

    /// When one last did.
    pub fn heard_at(&self) -> i64 {
        self.change(|trouble| trouble.heard_at)
    }

    /// Whether there was trouble, which is over now.
    pub fn recovered(&self) -> bool {
        self.change(|trouble| {
            trouble.failures = 0;
            trouble.conflict = false;
            trouble.reason.take().is_some()
        })
    }

    /// Takes note of an answer; how long to wait when it was empty much too soon.
    fn answered(&self, empty: bool, now: i64) -> Option<u64> {
        self.change(|trouble| {
            let before = std::mem::replace(&mut trouble.empty_at, empty.then_some(now));
            let hurried = empty && before.is_some_and(|before| now - before < HURRIED_MS);
            hurried.then_some(HURRIED_MS.unsigned_abs())
        })
    }

    /// Takes note of a failure; whether it is news, and how long to wait.
    fn failed(&self, reason: &str) -> (bool, u64) {
        self.change(|trouble| {
            let news = trouble.reason.as_deref() != Some(reason);
            trouble.reason = Some(reason.to_owned());
            let wait = 1_000u64.saturating_mul(1 << trouble.failures.min(5)).min(MAX_BACKOFF_MS);
            trouble.failures = trouble.failures.saturating_add(1);
            (news, wait)
        })
    }
}

/// What to poll next. After a conflict the answer is wanted at once: a poll that waits for news would leave everybody in
/// the belief that the other program still polls.
pub async fn next_poll(ctx: &Context, client: &Client, health: &Health) -> Result<HttpCall, ChannelError> {
    let hold = if health.in_conflict() { 0 } else { HOLD_SECONDS };
    let mut call = ApiCall::new("getUpdates", json!({"timeout": hold, "limit": 100, "allowed_updates": KINDS}));
    if let Some(offset) = offset(ctx).await? {
        call.set("offset", offset);
    }
    let mut http = client.http(&call).timeout_ms(POLL_MS);
    http.max_bytes = Some(POLL_BYTES);
    Ok(http)
}

async fn offset(ctx: &Context) -> Result<Option<i64>, HostError> {
    let stored = ctx.get(OFFSET).await?;
    Ok(stored.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok()))
}

/// Takes an answer of Telegram's.
pub async fn answered(ctx: &Context, bot: &Telegram, response: &HttpResponse) -> Result<EventOutcome, ChannelError> {
    let Telegram { client, health, profile, me, config, .. } = bot;
    match read(response) {
        Ok(Value::Array(updates)) => {
            // The offset cannot move past updates without numbers: they would come again at once, for ever.
            if !updates.is_empty() && updates.iter().all(|update| convert::update_id(update).is_none()) {
                return Ok(trouble(ctx, health, "the Bot API server gave updates without numbers".to_owned(), None));
            }
            let poll_after_ms = health.answered(updates.is_empty(), ctx.now());
            take(ctx, *me, updates).await?;
            if health.recovered() {
                ctx.state(ConnectionState::connected(profile.clone()));
            }
            Ok(EventOutcome { poll_after_ms, ..EventOutcome::default() })
        }
        Ok(_) => Ok(trouble(ctx, health, "the Bot API server gave no list of updates".to_owned(), None)),
        Err(ApiError::Refused(refusal)) => refused(ctx, client, health, config.take_over, &refusal).await,
        Err(ApiError::Garbage { status, what }) => {
            Ok(trouble(ctx, health, format!("the Bot API server gave HTTP {status} and {what}"), None))
        }
        Err(ApiError::Failed(failure)) => Ok(unanswered(ctx, health, &failure)),
    }
}

/// Takes note of a poll that brought no answer.
pub fn unanswered(ctx: &Context, health: &Health, failure: &HttpFailure) -> EventOutcome {
    trouble(ctx, health, format!("Telegram cannot be reached: {}", failure.message), None)
}

/// Emits the events of a batch and moves the offset behind it, whatever is in it.
async fn take(ctx: &Context, me: Me, updates: Vec<Value>) -> Result<(), ChannelError> {
    let last = updates.iter().filter_map(convert::update_id).max();
    for update in updates {
        if convert::update_id(&update).is_none() {
            ctx.log(LogLevel::Warn, "Telegram sent an update without an update_id; it is kept as unknown");
        }
        emit(ctx, me, update).await?;
    }
    if let Some(last) = last {
        ctx.set(OFFSET, last.saturating_add(1).to_string());
    }
    Ok(())
}

/// Hands over the event of an update.
pub async fn emit(ctx: &Context, me: Me, update: Value) -> Result<(), ChannelError> {
    let mut event = convert::event(update, me, ctx.now());
    memory::complete(ctx, &mut event).await?;
    ctx.emit(event);
    Ok(())
}

async fn refused(
    ctx: &Context,
    client: &Client,
    health: &Health,
    take_over: bool,
    refusal: &Refusal,
) -> Result<EventOutcome, ChannelError> {
    let description = &refusal.description;
    match refusal.code {
        401 | 404 => Err(errors::logged_out(description)),
        429 => {
            let wait = refusal.retry_after_ms.unwrap_or(SLOW_DOWN_MS);
            ctx.log(LogLevel::Warn, format!("Telegram asks the poll to wait {} s", wait.div_ceil(1000)));
            Ok(EventOutcome { poll_after_ms: Some(wait), ..EventOutcome::default() })
        }
        409 if refusal.says(&["webhook"]) => webhook::in_the_way(ctx, client, health, take_over).await,
        409 => {
            let reason = "another program polls Telegram with the same token, and Telegram serves only one: \
                          stop the other one, or get this bot a token of its own from @BotFather";
            health.conflict();
            Ok(trouble(ctx, health, reason.to_owned(), Some(CONFLICT_MS)))
        }
        _ => Ok(trouble(ctx, health, format!("Telegram refused to give updates: {description}"), None)),
    }
}

/// Reports what is wrong, once, and waits: as long as it is said, or longer with each failure.
pub fn trouble(ctx: &Context, health: &Health, reason: String, wait_ms: Option<u64>) -> EventOutcome {
    let (news, backoff) = health.failed(&reason);
    if news {
        ctx.state(ConnectionState::Disconnected { reason, transient: true });
    }
    EventOutcome { poll_after_ms: Some(wait_ms.unwrap_or(backoff)), ..EventOutcome::default() }
}
