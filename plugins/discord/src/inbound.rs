//! What the gateway brings → events; what is learnt on the way; and the timers.
//!
//! A batch of frames is one call: its events and how far the sessions have come are stored together. A frame that cannot be
//! read is said in the log and passed over, for the next may be good; what people wrote in words that cannot be read is kept
//! as it is, as an event of an unknown kind.
//!
//! ```text
//! events  one thing that happened → its events, pure
//! names   what is learnt by name, and asked where the gateway did not tell it
//! votes   what somebody's vote in a poll is now
//! ```

mod events;
mod missed;
mod names;
mod votes;

pub use events::{events, is_told_first};
pub use names::learn;

use crate::Discord;
use crate::api;
use crate::commands;
use crate::convert::Scene;
use crate::gateway::{Dispatch, Frame};
use crate::install;
use crate::interactions::{self, first_word};
use crate::servers;
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;

/// How long one batch may take to find out what things are called, in milliseconds. What is behind it waits as long, and
/// that a heartbeat was answered is said there, too.
const NAMES_MS: i64 = 5_000;

/// Takes what arrived.
pub async fn take(ctx: &Context, bot: &Discord, events: Vec<IngressEvent>) -> Result<Vec<EventOutcome>, ChannelError> {
    let mut outcomes = Vec::with_capacity(events.len());
    let mut unheard = Vec::new();
    let ask_until = ctx.now() + NAMES_MS;
    for event in events {
        let outcome = match event {
            IngressEvent::SocketOpen { tag } => {
                bot.gateway.opened(&tag);
                ctx.state(ConnectionState::Connecting);
                EventOutcome::default()
            }
            IngressEvent::SocketText { tag, text } => {
                frame(ctx, bot, &tag, Frame::read(&text), ask_until).await?;
                EventOutcome::default()
            }
            IngressEvent::SocketBinary { tag, bytes } => {
                frame(ctx, bot, &tag, Frame::unpack(&bytes), ask_until).await?;
                EventOutcome::default()
            }
            IngressEvent::SocketClosed { tag, code, reason } => {
                bot.gateway.closed(ctx, &tag, code, &reason)?;
                EventOutcome::default()
            }
            IngressEvent::Timer { tag } => {
                match tag.strip_prefix("answer/") {
                    // Said at last, and all at once: heartbeats do not wait for them.
                    Some(id) => unheard.push(id.to_owned()),
                    None => timer(ctx, bot, &tag)?,
                }
                EventOutcome::default()
            }
            IngressEvent::Webhook { request } => install::answered(ctx, bot, &request).await?,
            IngressEvent::PollResponse { .. } | IngressEvent::PollFailed { .. } => EventOutcome::default(),
        };
        outcomes.push(outcome);
    }
    first_word::say(ctx, bot, &unheard).await;
    bot.gateway.keep(ctx);
    servers::keep(ctx, bot);
    Ok(outcomes)
}

fn timer(ctx: &Context, bot: &Discord, tag: &str) -> Result<(), ChannelError> {
    if bot.gateway.timer(ctx, tag) {
        return Ok(());
    }
    match tag {
        interactions::SWEEP => bot.interactions.sweep(ctx),
        crate::login::BEGIN => {
            return Err(ChannelError::restart("it has a token now, and begins anew with it"));
        }
        _ => {}
    }
    Ok(())
}

async fn frame(
    ctx: &Context,
    bot: &Discord,
    tag: &str,
    frame: Result<Frame, String>,
    ask_until: i64,
) -> Result<(), ChannelError> {
    let frame = match frame {
        Ok(frame) => frame,
        Err(what) => {
            ctx.log(LogLevel::Warn, what);
            return Ok(());
        }
    };
    let chance = if frame.wants_chance() { ctx.random(1).await?.first().copied().unwrap_or(0) } else { 0 };
    let Some(dispatch) = bot.gateway.frame(ctx, tag, frame, chance) else { return Ok(()) };
    if matches!(dispatch.kind.as_str(), "READY" | "RESUMED") && bot.gateway.all_ready() {
        let limited = commands::limited(ctx).await?.map(Box::new);
        ctx.state(ConnectionState::Connected { profile: Some(bot.profile.clone()), limited });
    }
    take_dispatch(ctx, bot, &dispatch, ask_until).await
}

/// Reads what a kind of event has to have; what cannot be read is said in the log.
fn read<T: DeserializeOwned>(ctx: &Context, dispatch: &Dispatch) -> Option<T> {
    match T::deserialize(&dispatch.data) {
        Ok(read) => Some(read),
        Err(error) => {
            ctx.log(LogLevel::Warn, format!("a {} of the gateway cannot be read: {error}", dispatch.kind));
            None
        }
    }
}

async fn take_dispatch(ctx: &Context, bot: &Discord, dispatch: &Dispatch, ask_until: i64) -> Result<(), ChannelError> {
    let data = &dispatch.data;
    let words = |name: &str| data.get(name).and_then(Value::as_str);
    let kind = dispatch.kind.as_str();
    let guild = words("guild_id").or_else(|| words("id").filter(|_| kind.starts_with("GUILD_")));
    if !bot.config.takes_guild(guild) {
        return Ok(());
    }
    if kind == "INTERACTION_CREATE" {
        // It says itself where it happened, and has no time for questions.
        if let Some(arrived) = read::<api::Interaction>(ctx, dispatch).filter(|arrived| !arrived.id.is_empty()) {
            bot.interactions.arrived(ctx, &bot.config, &arrived);
        }
    } else if let (Some(channel), Some(guild)) = (words("channel_id"), guild) {
        names::find(ctx, bot, channel, guild, ask_until).await;
    }
    let is_news = guild.is_some_and(|guild| bot.known.names().is_new_guild(guild, &dispatch.key));
    match kind {
        "MESSAGE_POLL_VOTE_ADD" | "MESSAGE_POLL_VOTE_REMOVE" => return votes::voted(ctx, bot, dispatch).await,
        "GUILD_CREATE" if is_news => install::noticed(ctx, data),
        _ => {}
    }
    if is_told_first(kind) {
        emit(ctx, bot, dispatch);
        take_note(ctx, bot, dispatch);
    } else {
        take_note(ctx, bot, dispatch);
        emit(ctx, bot, dispatch);
    }
    match kind {
        "READY" => servers::listed(ctx, bot, dispatch).await?,
        "GUILD_CREATE" if is_news => {
            bot.known.names().note_came(guild.unwrap_or_default(), &dispatch.key);
            servers::changed(ctx, bot, dispatch.shard);
        }
        "GUILD_CREATE" => missed::look(ctx, bot, dispatch),
        "GUILD_DELETE" if data.get("unavailable") != Some(&json!(true)) => {
            servers::changed(ctx, bot, dispatch.shard);
        }
        _ => {}
    }
    if kind == "MESSAGE_UPDATE" && data.pointer("/poll/results/is_finalized") == Some(&json!(true)) {
        votes::forget(ctx, words("id").unwrap_or_default()).await?;
    }
    Ok(())
}

fn take_note(ctx: &Context, bot: &Discord, dispatch: &Dispatch) {
    if let Err(error) = learn(&mut bot.known.names(), &dispatch.kind, &dispatch.data, &dispatch.key) {
        ctx.log(LogLevel::Warn, format!("a {} of the gateway cannot be read: {error}", dispatch.kind));
    }
}

fn emit(ctx: &Context, bot: &Discord, dispatch: &Dispatch) {
    let names = bot.known.names();
    let scene =
        Scene { names: &names, me: &bot.me.id, application: &bot.application, key: &dispatch.key, now: ctx.now() };
    for event in events(&dispatch.kind, &dispatch.data, scene) {
        ctx.emit(event);
    }
}
