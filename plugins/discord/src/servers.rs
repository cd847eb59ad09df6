//! Which servers the bot is in, kept over a restart.
//!
//! The gateway lists all of them whenever a session begins, and tells of one that the bot was just let into in the same
//! words. Only one that was in no list before is news; no clock is asked, so the same frames mean the same at any time.

use crate::Discord;
use crate::gateway::Dispatch;
use crate::known::Names;
use omni_channel_sdk::prelude::*;

const PREFIX: &str = "guilds/";

/// What was known when the instance ran the last time.
pub async fn load(ctx: &Context) -> Result<Names, HostError> {
    let mut names = Names::default();
    for (_, kept) in ctx.scan(PREFIX, None, 1_000).await? {
        for guild in serde_json::from_slice::<Vec<String>>(&kept).unwrap_or_default() {
            names.note_guild_id(&guild);
        }
    }
    Ok(names)
}

/// A session has begun and lists the servers of its shard. What nothing was kept of is known from now on; where something
/// was, the bot came into the others meanwhile, and they are news once they are told of.
pub async fn listed(ctx: &Context, bot: &Discord, dispatch: &Dispatch) -> Result<(), HostError> {
    let key = format!("{PREFIX}{}", dispatch.shard);
    let kept = ctx.get(&key).await?.and_then(|kept| serde_json::from_slice::<Vec<String>>(&kept).ok());
    let guilds = dispatch.data.get("guilds").and_then(Value::as_array);
    let mut listed: Vec<&str> = guilds.into_iter().flatten().filter_map(|guild| guild.get("id")?.as_str()).collect();
    if let Some(kept) = kept {
        listed.retain(|guild| kept.iter().any(|known| known == guild));
        let mut names = bot.known.names();
        for gone in kept.iter().filter(|known| !listed.contains(&known.as_str())) {
            names.forget_guild(gone);
        }
    }
    let mut names = bot.known.names();
    for guild in &listed {
        names.note_guild_id(guild);
    }
    ctx.set(key, json!(listed).to_string());
    Ok(())
}

/// The bot came into a server, or is no longer in one.
pub fn changed(ctx: &Context, bot: &Discord, shard: u32) {
    let mine = bot.known.names().guild_ids().filter(|id| bot.gateway.shard_of(*id) == shard).collect::<Vec<_>>();
    let mine: Vec<String> = mine.iter().map(u64::to_string).collect();
    ctx.set(format!("{PREFIX}{shard}"), json!(mine).to_string());
}
