//! What is learnt by name, and asked for where the gateway did not tell it.
//!
//! A session that is taken up again tells nothing, but what it told before is kept (`servers`); so Discord is asked only where
//! nothing was kept, all of a server at once, and about what nobody was told of (a thread that was put away long ago). Names
//! are not worth much waiting: when Discord cannot tell, nobody is asked again for a while.

use crate::Discord;
use crate::api;
use crate::client::{ApiError, Call, Refusal};
use crate::known::Names;
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;

/// How long one question may take, in milliseconds.
const ONE_MS: i64 = 5_000;
/// How long nobody is asked after Discord could not tell, in milliseconds.
const PAUSE_MS: i64 = 60_000;

/// Finds out what a channel is of which nothing is known, until a time; what cannot be found out is a channel of its server.
pub async fn find(ctx: &Context, bot: &Discord, channel: &str, guild: &str, until: i64) {
    let is_unknown = || bot.known.names().channel(channel).is_none();
    if !is_unknown() {
        return;
    }
    if bot.known.names().is_in_part(guild) {
        all_of(ctx, bot, guild, until).await;
    }
    if !is_unknown() {
        return;
    }
    let parent = one(ctx, bot, channel, guild, until).await;
    if let Some(parent) = parent.filter(|parent| bot.known.names().channel(parent).is_none()) {
        one(ctx, bot, &parent, guild, until).await;
    }
}

/// Learns one channel of a server, and what it hangs off if it is a thread.
async fn one(ctx: &Context, bot: &Discord, channel: &str, guild: &str, until: i64) -> Option<String> {
    let [found] = ask(ctx, bot, [Call::get(format!("/channels/{channel}"))], until).await?;
    let found = found.and_then(|found| serde_json::from_value::<api::Channel>(found).ok());
    let mut names = bot.known.names();
    match &found {
        Some(found) => names.note_channel(found, Some(guild)),
        None => names.note_hidden(channel, guild),
    }
    found.filter(|found| crate::known::is_thread(found.kind))?.parent_id
}

/// Learns all of a server that the bot is in, and of which nothing was kept.
async fn all_of(ctx: &Context, bot: &Discord, guild: &str, until: i64) {
    let base = format!("/guilds/{guild}");
    let paths = [base.clone(), format!("{base}/channels"), format!("{base}/threads/active")];
    let Some([itself, channels, threads]) = ask(ctx, bot, paths.map(Call::get), until).await else { return };
    let mut names = bot.known.names();
    let itself = itself.and_then(|itself| serde_json::from_value::<api::Guild>(itself).ok());
    match itself.filter(|itself| itself.id == guild) {
        Some(itself) => {
            let list = |found: Option<Value>| serde_json::from_value(found.unwrap_or_default()).unwrap_or_default();
            let threads = threads.and_then(|mut threads| Some(threads.get_mut("threads")?.take()));
            names.note_guild(&api::Guild { channels: list(channels), threads: list(threads), ..itself });
        }
        // It is not to be known.
        None => names.note_whole(guild),
    }
}

/// Answers to questions that are asked side by side: nothing for what Discord does not tell us. Nothing at all when it could
/// not be asked, or not all of it.
async fn ask<const N: usize>(ctx: &Context, bot: &Discord, calls: [Call; N], until: i64) -> Option<[Option<Value>; N]> {
    let left = (until - ctx.now()).min(ONE_MS);
    if left <= 0 || ctx.now() < bot.known.names().ask_not_before {
        return None;
    }
    let calls = calls.map(|call| call.within_ms(left.unsigned_abs()));
    let mut answers = [const { None }; N];
    for (place, found) in answers.iter_mut().zip(bot.client.ask_all(ctx, &calls).await) {
        match found {
            Ok(found) => *place = Some(found),
            Err(ApiError::Refused(Refusal { status: 403 | 404, .. })) => {}
            Err(error) => {
                let pause = match error {
                    ApiError::Wait(ms) => PAUSE_MS.min(0_i64.saturating_add_unsigned(ms)),
                    _ => PAUSE_MS,
                };
                bot.known.names().ask_not_before = ctx.now() + pause;
                return None;
            }
        }
    }
    Some(answers)
}

/// What is known after one thing that the gateway brought; `key` is what it would be delivered as again. Pure, but for the
/// names.
pub fn learn(names: &mut Names, kind: &str, data: &Value, key: &str) -> Result<(), serde_json::Error> {
    let words = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    let guild = data.get("guild_id").and_then(Value::as_str);
    let user = || data.pointer("/user/id").and_then(Value::as_str).unwrap_or_default();
    match kind {
        // Of one that cannot be reached nothing is told.
        "GUILD_CREATE" if data.get("unavailable") == Some(&json!(true)) => names.note_guild_id(words("id")),
        "GUILD_CREATE" => {
            names.note_guild(&read_as::<api::Guild>(data)?);
        }
        "GUILD_UPDATE" => names.note_guild_itself(&read_as::<api::Guild>(data)?),
        "GUILD_DELETE" if data.get("unavailable") != Some(&json!(true)) => names.forget_guild(words("id")),
        "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE" => {
            names.note_role(&read_as(data.get("role").unwrap_or(&Value::Null))?, words("guild_id"));
        }
        "GUILD_ROLE_DELETE" => names.forget_role(words("role_id"), words("guild_id")),
        "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE" => {
            names.note_channel(&read_as::<api::Channel>(data)?, None);
        }
        "THREAD_LIST_SYNC" => {
            for thread in data.get("threads").and_then(Value::as_array).into_iter().flatten() {
                names.note_channel(&read_as::<api::Channel>(thread)?, guild);
            }
        }
        "CHANNEL_DELETE" | "THREAD_DELETE" => names.forget_channel(words("id")),
        // An interaction tells where it happened; of a channel that is known no more than that.
        "INTERACTION_CREATE" => {
            let place = data.get("channel").map(read_as::<api::Channel>).transpose()?;
            if let Some(place) = place.filter(|place| guild.is_some() && names.channel(&place.id).is_none()) {
                names.note_channel(&place, guild);
            }
        }
        "MESSAGE_CREATE" if is_awaited(data) => names.marks.awaits(words("id")),
        "MESSAGE_UPDATE" if !is_awaited(data) => names.marks.came(words("id"), key),
        "MESSAGE_DELETE" => names.marks.forget(words("id")),
        "GUILD_BAN_ADD" => names.marks.banned(words("guild_id"), user()),
        "GUILD_BAN_REMOVE" | "GUILD_MEMBER_ADD" => names.marks.not_banned(words("guild_id"), user()),
        _ => {}
    }
    Ok(())
}

/// Whether a message stands for an answer that comes later.
fn is_awaited(message: &Value) -> bool {
    let flags = message.get("flags").and_then(Value::as_u64).unwrap_or(0);
    flags & crate::convert::message::IS_LOADING != 0
}

fn read_as<T: DeserializeOwned>(data: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(data)
}
