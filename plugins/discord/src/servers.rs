//! Which servers the bot is in, and what they are called, kept over a restart.
//!
//! The gateway lists all of them whenever a session begins, and tells of one that the bot was just let into in the same
//! words. Only one that was in no list before is news, and so is one that is in no list any more; no clock is asked, so the
//! same frames mean the same at any time.

use crate::Discord;
use crate::convert::{Scene, happening};
use crate::gateway::{Dispatch, Gateway};
use crate::known::{Names, Record};
use omni_channel_sdk::event::MembershipChange;
use omni_channel_sdk::prelude::*;
use std::collections::BTreeMap;

const LISTS: &str = "guilds/";
const RECORDS: &str = "names/";
const AWAITED: &str = "awaited";
/// Guilds of which what is kept is read at once. The largest have less than a megabyte, and the host gives 16 at a time.
const RECORDS_AT_ONCE: u32 = 16;

/// What was known when the instance ran the last time.
pub async fn load(ctx: &Context, gateway: &Gateway) -> Result<Names, HostError> {
    let mut names = Names::default();
    for guild in lists(ctx, gateway).await? {
        names.note_guild_id(&guild);
    }
    let mut after = None;
    loop {
        let page = ctx.scan(RECORDS, after.as_deref(), RECORDS_AT_ONCE).await?;
        let is_last = page.len() < RECORDS_AT_ONCE as usize;
        after = page.last().map(|(key, _)| key.clone());
        for (key, kept) in page {
            let record = serde_json::from_slice::<Record>(&kept).ok();
            let guild = key.strip_prefix(RECORDS).unwrap_or_default();
            if !record.is_some_and(|record| names.recall(guild, record)) {
                ctx.delete(key);
            }
        }
        if is_last {
            break;
        }
    }
    let awaited = ctx.get(AWAITED).await?.and_then(|kept| serde_json::from_slice(&kept).ok());
    names.marks.recall(awaited.unwrap_or_default());
    Ok(names)
}

/// The servers of all lists. They are kept shard by shard: when there are others than before, each server goes to the list
/// of its own.
async fn lists(ctx: &Context, gateway: &Gateway) -> Result<Vec<String>, HostError> {
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut is_other = false;
    for (key, kept) in ctx.scan(LISTS, None, 1_000).await? {
        for guild in serde_json::from_slice::<Vec<String>>(&kept).unwrap_or_default() {
            let Ok(id) = guild.parse() else { continue };
            let own = format!("{LISTS}{}", gateway.shard_of(id));
            is_other |= own != key;
            lists.entry(own).or_default().push(guild);
        }
        lists.entry(key).or_default();
    }
    if is_other {
        for (key, list) in &lists {
            ctx.set(key.as_str(), json!(list).to_string());
        }
    }
    Ok(lists.into_values().flatten().collect())
}

/// A session has begun and lists the servers of its shard. What nothing was kept of is known from now on; where something
/// was, the bot came into the others meanwhile, and they are news once they are told of, and those that are not listed any
/// more it has left.
pub async fn listed(ctx: &Context, bot: &Discord, dispatch: &Dispatch) -> Result<(), HostError> {
    let Some(guilds) = dispatch.data.get("guilds").and_then(Value::as_array) else { return Ok(()) };
    let key = format!("{LISTS}{}", dispatch.shard);
    let kept = ctx.get(&key).await?.and_then(|kept| serde_json::from_slice::<Vec<String>>(&kept).ok());
    let mut listed: Vec<&str> = guilds.iter().filter_map(|guild| guild.get("id")?.as_str()).collect();
    let gone = kept.iter().flatten().filter(|known| !listed.contains(&known.as_str()));
    for guild in gone {
        left(ctx, bot, dispatch, guild);
    }
    if let Some(kept) = &kept {
        listed.retain(|guild| kept.iter().any(|known| known == guild));
    }
    let mut names = bot.known.names();
    for guild in &listed {
        names.note_guild_id(guild);
    }
    ctx.set(key, json!(listed).to_string());
    Ok(())
}

/// The bot was sent away from a server while no session told of it.
fn left(ctx: &Context, bot: &Discord, dispatch: &Dispatch, guild: &str) {
    let mut names = bot.known.names();
    if bot.config.takes_guild(Some(guild)) {
        let key = format!("{}/{guild}", dispatch.key);
        let scene = Scene { names: &names, me: &bot.me.id, application: &bot.application, key: &key, now: ctx.now() };
        let me = vec![User::new(bot.me.id.as_str())];
        let raw = json!({"id": guild});
        if let Some(event) = happening::membership(&raw, guild, me, MembershipChange::Removed, scene) {
            ctx.emit(event);
        }
    }
    names.forget_guild(guild);
}

/// The bot came into a server, or is no longer in one.
pub fn changed(ctx: &Context, bot: &Discord, shard: u32) {
    let mine = bot.known.names().guild_ids().filter(|id| bot.gateway.shard_of(*id) == shard).collect::<Vec<_>>();
    let mine: Vec<String> = mine.iter().map(u64::to_string).collect();
    ctx.set(format!("{LISTS}{shard}"), json!(mine).to_string());
}

/// Writes what is known by name now, to be stored with what told it.
pub fn keep(ctx: &Context, bot: &Discord) {
    let mut names = bot.known.names();
    for (guild, record) in names.take_changed() {
        let key = format!("{RECORDS}{guild}");
        match record.and_then(|record| serde_json::to_vec(&record).ok()) {
            Some(kept) => ctx.set(key, kept),
            None => ctx.delete(key),
        }
    }
    if let Some(awaited) = names.marks.take_changed() {
        ctx.set(AWAITED, json!(awaited).to_string());
    }
}
