//! What is asked of Discord beside sending: history, lists, profiles, addresses, files.

use crate::Discord;
use crate::api;
use crate::client::{ApiError, Call, Client, Refusal};
use crate::convert::{Scene, content, message, people};
use crate::known::{guild_of_chat, is_thread, kind, takes_posts};
use crate::outbound::{chat, percent, place, target};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AddressReply, DirectoryList, DirectoryPage, HistoryPage, MediaReply, ProfileReply};

/// Most messages of a page, and most members, that Discord gives.
const MESSAGES: u32 = 100;
const MEMBERS: u32 = 1_000;
const GUILDS: u32 = 200;
/// Channels of a server that are looked through for who is in it, where Discord does not list them.
const LIVELY: usize = 5;
/// A file's address is used until shortly before it ends, in milliseconds.
const MARGIN_MS: i64 = 60_000;
/// How long a file may take, in milliseconds.
const FILE_MS: u64 = 600_000;
/// Most bytes of a file of which Discord did not say how many it has.
const FILE_BYTES: u64 = 512 << 20;

/// The bot's application. What stands before Discord's API may know only the older of the two ways to ask for it.
pub async fn application(ctx: &Context, client: &Client) -> Result<api::Application, ApiError> {
    match client.get(ctx, &Call::get("/applications/@me")).await {
        Err(ApiError::Refused(Refusal { status: 404 | 501, .. }) | ApiError::Garbage { status: 404 | 501, .. }) => {
            client.get(ctx, &Call::get("/oauth2/applications/@me")).await
        }
        found => found,
    }
}

/// A page of what was written, from old to new, as events that are the same as when they came by the gateway.
pub async fn history(ctx: &Context, bot: &Discord, asked: request::History) -> Result<HistoryPage, SendError> {
    let channel = target(ctx, bot, &asked.chat).await?;
    let place = place(ctx, bot, &channel).await;
    let guild = place.and_then(|place| place.guild).map(|guild| guild.to_string());
    let limit = asked.limit.clamp(1, MESSAGES);
    let mut path = format!("/channels/{channel}/messages?limit={limit}");
    let from = asked.cursor.or_else(|| asked.anchor.map(|anchor| anchor.id.0));
    if let Some(from) = &from {
        let side = if asked.forward { "after" } else { "before" };
        path.push_str(&format!("&{side}={}", percent(from)));
    } else if asked.forward {
        path.push_str("&after=0");
    }
    let mut found: Vec<Value> = bot.client.get(ctx, &Call::get(path)).await?;
    // Discord gives the newest first, whichever way it looks.
    found.reverse();
    let id = |message: Option<&Value>| Some(message?.get("id")?.as_str()?.to_owned());
    let edge = if asked.forward { id(found.last()) } else { id(found.first()) };
    let cursor = edge.filter(|_| found.len() >= limit as usize);
    let names = bot.known.names();
    let scene = Scene { names: &names, me: &bot.me.id, application: &bot.application, key: "", now: ctx.now() };
    let events = found.iter().flat_map(|raw| {
        let mut read: api::Message = api::Message::deserialize(raw).unwrap_or_default();
        read.guild_id = read.guild_id.or_else(|| guild.clone());
        message::written(raw, &read, scene)
    });
    Ok(HistoryPage { events: events.collect(), cursor })
}

/// A page of servers, channels or people.
pub async fn directory(ctx: &Context, bot: &Discord, asked: request::Directory) -> Result<DirectoryPage, SendError> {
    match &asked.list {
        DirectoryList::Spaces => spaces(ctx, bot, &asked).await,
        DirectoryList::Chats => chats(ctx, bot, &asked).await,
        DirectoryList::Members => members(ctx, bot, &asked).await,
        DirectoryList::Contacts => contacts(ctx, bot, &asked).await,
        other => Err(SendError::unsupported(&format!("a list of {}", other.as_str()))),
    }
}

async fn guilds(ctx: &Context, bot: &Discord, after: Option<&str>, limit: u32) -> Result<Vec<api::Guild>, SendError> {
    let mut path = format!("/users/@me/guilds?with_counts=true&limit={limit}");
    if let Some(after) = after {
        path.push_str(&format!("&after={}", percent(after)));
    }
    Ok(bot.client.get(ctx, &Call::get(path)).await?)
}

fn fits(name: Option<&str>, search: Option<&str>) -> bool {
    let Some(search) = search.filter(|search| !search.is_empty()) else { return true };
    name.is_some_and(|name| name.to_lowercase().contains(&search.to_lowercase()))
}

async fn spaces(ctx: &Context, bot: &Discord, asked: &request::Directory) -> Result<DirectoryPage, SendError> {
    let limit = asked.limit.clamp(1, GUILDS);
    let page = guilds(ctx, bot, asked.cursor.as_deref(), limit).await?;
    let cursor = page.last().filter(|_| page.len() >= limit as usize).map(|last| last.id.clone());
    let wanted = page.iter().filter(|guild| bot.config.takes_guild(Some(&guild.id)));
    let wanted = wanted.filter(|guild| fits(guild.name.as_deref(), asked.search.as_deref()));
    Ok(DirectoryPage { chats: wanted.map(chat::space).collect(), cursor, ..DirectoryPage::default() })
}

/// Where a list that goes through one server after the other has come: the server, and what was last of it.
fn place_in(cursor: Option<&str>) -> (Option<&str>, Option<&str>) {
    match cursor.map(|cursor| cursor.split_once('/').unwrap_or((cursor, ""))) {
        Some((guild, last)) => {
            (Some(guild).filter(|guild| !guild.is_empty()), Some(last).filter(|last| !last.is_empty()))
        }
        None => (None, None),
    }
}

/// The server that a list goes on with: the one that it is in the middle of, the one that is asked for, or the next.
async fn next_guild(
    ctx: &Context,
    bot: &Discord,
    asked: &request::Directory,
) -> Result<Option<(String, Option<String>, bool)>, SendError> {
    let (guild, last) = place_in(asked.cursor.as_deref());
    if let (Some(guild), Some(last)) = (guild, last) {
        return Ok(Some((guild.to_owned(), Some(last.to_owned()), asked.chat.is_none())));
    }
    if let Some(chat) = &asked.chat {
        let found = chat::guild_of(ctx, bot, chat).await;
        let missing = || SendError::new(ErrorCode::ChatNotFound, NextActor::Caller, format!("{chat} is in no server"));
        return Ok(Some((found.ok_or_else(missing)?, None, false)));
    }
    let mut after = guild.map(str::to_owned);
    loop {
        let page = guilds(ctx, bot, after.as_deref(), GUILDS).await?;
        let next = page.iter().find(|guild| bot.config.takes_guild(Some(&guild.id)));
        match (next, page.last()) {
            (Some(next), _) => return Ok(Some((next.id.clone(), None, true))),
            (None, Some(last)) if page.len() >= GUILDS as usize => after = Some(last.id.clone()),
            _ => return Ok(None),
        }
    }
}

async fn chats(ctx: &Context, bot: &Discord, asked: &request::Directory) -> Result<DirectoryPage, SendError> {
    let Some((guild, last, goes_on)) = next_guild(ctx, bot, asked).await? else { return Ok(DirectoryPage::default()) };
    let mut channels: Vec<api::Channel> = bot.client.get(ctx, &Call::get(format!("/guilds/{guild}/channels"))).await?;
    let threads = bot.client.ask(ctx, &Call::get(format!("/guilds/{guild}/threads/active"))).await?;
    let threads = threads.get("threads").cloned().unwrap_or_default();
    channels.extend(serde_json::from_value::<Vec<api::Channel>>(threads).unwrap_or_default());
    channels.retain(|channel| channel.kind != kind::CATEGORY);
    let number = |id: &str| id.parse::<u64>().unwrap_or(0);
    channels.sort_by_key(|channel| number(&channel.id));
    let behind = last.as_deref().map_or(0, number);
    let rest: Vec<&api::Channel> = channels.iter().filter(|channel| number(&channel.id) > behind).collect();
    let limit = asked.limit.max(1) as usize;
    let cursor = match rest.get(limit - 1).filter(|_| rest.len() > limit) {
        Some(last) => Some(format!("{guild}/{}", last.id)),
        None => goes_on.then(|| format!("{guild}/")),
    };
    let mut names = bot.known.names();
    let wanted = rest.into_iter().take(limit).filter(|channel| fits(channel.name.as_deref(), asked.search.as_deref()));
    let chats = wanted.map(|channel| {
        names.note_channel(channel, Some(&guild));
        Chat { description: channel.topic.clone(), ..names.chat(&channel.id, Some(&guild)) }
    });
    Ok(DirectoryPage { chats: chats.collect(), cursor, ..DirectoryPage::default() })
}

async fn members(ctx: &Context, bot: &Discord, asked: &request::Directory) -> Result<DirectoryPage, SendError> {
    let Some(chat) = &asked.chat else {
        return Err(SendError::invalid("of which chat the members are wanted is not said"));
    };
    let thread = match guild_of_chat(chat) {
        None => place(ctx, bot, chat.as_str()).await.filter(|place| is_thread(place.kind)),
        Some(_) => None,
    };
    if thread.is_some() {
        let limit = asked.limit.clamp(1, 100);
        let mut path = format!("/channels/{chat}/thread-members?with_member=true&limit={limit}");
        if let Some(after) = &asked.cursor {
            path.push_str(&format!("&after={}", percent(after)));
        }
        let found: Vec<Value> = bot.client.get(ctx, &Call::get(path)).await?;
        let id = |member: &Value| Some(member.get("user_id")?.as_str()?.to_owned());
        let cursor = found.last().and_then(id).filter(|_| found.len() >= limit as usize);
        let read = |found: &Value| {
            let member =
                found.get("member").and_then(|member| serde_json::from_value::<api::Member>(member.clone()).ok());
            member.as_ref().and_then(people::member).or_else(|| id(found).map(User::new))
        };
        return Ok(DirectoryPage {
            users: found.iter().filter_map(read).collect(),
            cursor,
            ..DirectoryPage::default()
        });
    }
    let Some(guild) = chat::guild_of(ctx, bot, chat).await else {
        return Err(SendError::new(ErrorCode::ChatNotFound, NextActor::Caller, format!("{chat} is in no server")));
    };
    let (users, cursor) = members_of(ctx, bot, &guild, asked.cursor.as_deref(), asked).await?;
    Ok(DirectoryPage { users, cursor, ..DirectoryPage::default() })
}

async fn members_of(
    ctx: &Context,
    bot: &Discord,
    guild: &str,
    after: Option<&str>,
    asked: &request::Directory,
) -> Result<(Vec<User>, Option<String>), SendError> {
    let limit = asked.limit.clamp(1, MEMBERS);
    let search = asked.search.as_deref().filter(|search| !search.is_empty());
    let path = match search {
        Some(search) => format!("/guilds/{guild}/members/search?limit={limit}&query={}", percent(search)),
        None => format!("/guilds/{guild}/members?limit={limit}&after={}", percent(after.unwrap_or("0"))),
    };
    let found: Vec<api::Member> = match bot.client.get(ctx, &Call::get(path)).await {
        Err(ApiError::Refused(refusal)) if refusal.status == 403 => {
            let what = format!(
                "Discord lists no members for this bot ({}): switch \"Server Members Intent\" on in the Developer Portal (your \
                 application, Bot, Privileged Gateway Intents)",
                refusal.message
            );
            // Those who wrote lately are known all the same.
            let mut users = if after.is_none() { seen(ctx, bot, guild, asked).await } else { Vec::new() };
            if users.is_empty() && after.is_none() {
                return Err(SendError::new(ErrorCode::Forbidden, NextActor::Operator, what));
            }
            ctx.log(LogLevel::Warn, format!("only who wrote lately is listed: {what}"));
            users.truncate(limit as usize);
            return Ok((users, None));
        }
        found => found?,
    };
    let last = found.last().and_then(|member| member.user.as_ref()).map(|user| user.id.clone());
    let cursor = last.filter(|_| search.is_none() && found.len() >= limit as usize);
    Ok((found.iter().filter_map(people::member).collect(), cursor))
}

/// Who wrote lately in a channel, or in those of a server in which somebody wrote last.
async fn seen(ctx: &Context, bot: &Discord, guild: &str, asked: &request::Directory) -> Vec<User> {
    let chat = asked.chat.as_ref().filter(|chat| guild_of_chat(chat).is_none());
    let channels: Vec<String> = match chat {
        Some(chat) => vec![chat.to_string()],
        None => {
            let all = bot.client.get(ctx, &Call::get(format!("/guilds/{guild}/channels"))).await;
            let mut all: Vec<api::Channel> = all.unwrap_or_default();
            let last = |channel: &api::Channel| channel.last_message_id.as_ref()?.parse::<u64>().ok();
            all.retain(|channel| last(channel).is_some() && !takes_posts(channel.kind));
            all.sort_by_key(|channel| std::cmp::Reverse(last(channel)));
            all.into_iter().take(LIVELY).map(|channel| channel.id).collect()
        }
    };
    let path = |channel: &String| Call::get(format!("/channels/{channel}/messages?limit={MESSAGES}"));
    let found = bot.client.ask_all(ctx, &channels.iter().map(path).collect::<Vec<_>>()).await;
    let messages = found.into_iter().filter_map(|found| serde_json::from_value::<Vec<api::Message>>(found.ok()?).ok());
    let mut users: Vec<User> = Vec::new();
    for message in messages.flatten().filter(|message| message.webhook_id.is_none()) {
        let Some(user) = message.author.map(|author| people::user(&author, None)) else { continue };
        if fits(user.name.as_deref(), asked.search.as_deref()) && !users.iter().any(|known| known.id == user.id) {
            users.push(user);
        }
    }
    users
}

/// The people of all servers, one server after the other; programs are left out.
async fn contacts(ctx: &Context, bot: &Discord, asked: &request::Directory) -> Result<DirectoryPage, SendError> {
    let Some((guild, last, goes_on)) = next_guild(ctx, bot, asked).await? else { return Ok(DirectoryPage::default()) };
    let (mut users, more) = members_of(ctx, bot, &guild, last.as_deref(), asked).await?;
    users.retain(|user| !user.is_bot);
    let cursor = match more {
        Some(last) => Some(format!("{guild}/{last}")),
        None => goes_on.then(|| format!("{guild}/")),
    };
    Ok(DirectoryPage { users, cursor, ..DirectoryPage::default() })
}

/// Tells about an account.
pub async fn profile(ctx: &Context, bot: &Discord, asked: request::GetProfile) -> Result<ProfileReply, SendError> {
    let Some(user) = asked.user else {
        return Ok(ProfileReply { profile: bot.profile.clone(), ..ProfileReply::default() });
    };
    let found: api::User = bot.client.get(ctx, &Call::get(format!("/users/{}", percent(user.as_str())))).await?;
    Ok(ProfileReply { profile: profile_of(&found), ..ProfileReply::default() })
}

/// An account as a profile.
pub fn profile_of(user: &api::User) -> Profile {
    let shown = people::user(user, None);
    let avatar_url = user.avatar.as_ref().map(|hash| avatar_url(&user.id, hash));
    Profile { id: shown.id.0, name: shown.name, username: shown.username, avatar_url }
}

fn avatar_url(user: &str, hash: &str) -> String {
    format!("https://cdn.discordapp.com/avatars/{user}/{hash}.png")
}

/// Tells who or what an address is: the id of a channel or a person, what Discord copies as a mention or a link.
pub async fn resolve(ctx: &Context, bot: &Discord, asked: request::Resolve) -> Result<AddressReply, SendError> {
    let words = asked.address.trim();
    if words == "default" {
        let channel = target(ctx, bot, &ChatId::from(words)).await?;
        return found_channel(ctx, bot, &channel).await;
    }
    let link =
        words.strip_prefix("https://discord.com/channels/").or(words.strip_prefix("https://discordapp.com/channels/"));
    if let Some(channel) = link.and_then(|path| path.split('/').nth(1)) {
        return found_channel(ctx, bot, channel).await;
    }
    let inner = words.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(words);
    if let Some(channel) = inner.strip_prefix('#') {
        return found_channel(ctx, bot, channel).await;
    }
    let user = inner.strip_prefix("user:").or(inner.strip_prefix("@!")).or(inner.strip_prefix('@'));
    if let Some(user) = user {
        return found_user(ctx, bot, user).await;
    }
    let found = found_channel(ctx, bot, inner).await?;
    if found.chat.is_some() { Ok(found) } else { found_user(ctx, bot, inner).await }
}

/// Whether words are an id of Discord's.
pub fn is_id(words: &str) -> bool {
    !words.is_empty() && words.len() <= 20 && words.bytes().all(|byte| byte.is_ascii_digit())
}

async fn found_channel(ctx: &Context, bot: &Discord, id: &str) -> Result<AddressReply, SendError> {
    if !is_id(id) {
        return Ok(AddressReply::default());
    }
    match bot.client.get::<api::Channel>(ctx, &Call::get(format!("/channels/{id}"))).await {
        Err(ApiError::Refused(refusal)) if matches!(refusal.status, 403 | 404) => Ok(AddressReply::default()),
        found => {
            let found = found?;
            if !bot.config.takes_guild(found.guild_id.as_deref()) {
                return Ok(AddressReply::default());
            }
            let mut names = bot.known.names();
            names.note_channel(&found, None);
            let user = found.recipients.iter().find(|user| user.id != bot.me.id).map(|user| people::user(user, None));
            Ok(AddressReply { user, chat: Some(names.chat(id, found.guild_id.as_deref())) })
        }
    }
}

async fn found_user(ctx: &Context, bot: &Discord, id: &str) -> Result<AddressReply, SendError> {
    if !is_id(id) {
        return Ok(AddressReply::default());
    }
    match bot.client.get::<api::User>(ctx, &Call::get(format!("/users/{id}"))).await {
        Err(ApiError::Refused(refusal)) if matches!(refusal.status, 403 | 404) => Ok(AddressReply::default()),
        found => {
            let user = people::user(&found?, None);
            let chat = Chat { name: user.name.clone(), ..Chat::new(format!("user:{id}"), ChatKind::Direct) };
            Ok(AddressReply { user: Some(user), chat: Some(chat) })
        }
    }
}

/// Tells how a file can be had. Its address is good for a day; later a new one is asked for by its place.
pub async fn fetch_media(ctx: &Context, bot: &Discord, fetch: request::FetchMedia) -> Result<MediaReply, SendError> {
    let reference = fetch.reference.as_str();
    let gone = |why: &str| {
        SendError::new(ErrorCode::Media, NextActor::Caller, format!("Discord no longer gives out this file: {why}"))
    };
    if let Some(name) = reference.strip_prefix("sticker/") {
        let server =
            if name.ends_with(".json") { "https://cdn.discordapp.com" } else { "https://media.discordapp.net" };
        return Ok(reply(format!("{server}/stickers/{name}"), None));
    }
    if let Some((user, hash)) = reference.strip_prefix("avatar/").and_then(|path| path.split_once('/')) {
        return Ok(reply(avatar_url(user, hash), None));
    }
    let Some((path, rest)) = reference.split_once(' ') else { return Err(gone("it is not a file of this channel")) };
    let sized = rest.split_once(' ').and_then(|(size, url)| Some((size.parse().ok()?, url)));
    let (size, url) = sized.map_or((None, rest), |(size, url)| (Some(size), url));
    let ids: Vec<&str> = path.split('/').collect();
    let ["file", channel, message, id] = ids.as_slice() else { return Err(gone("it is not a file of this channel")) };
    let ends = url
        .split(['?', '&'])
        .find_map(|field| field.strip_prefix("ex="))
        .and_then(|hex| i64::from_str_radix(hex, 16).ok());
    let is_good = ends.is_none_or(|seconds| ctx.now() < seconds.saturating_mul(1_000).saturating_sub(MARGIN_MS));
    if is_good && !url.is_empty() && !fetch.gone {
        return Ok(reply(url.to_owned(), size));
    }
    let asked = Call::get(format!("/channels/{channel}/messages/{message}"));
    let found: api::Message = match bot.client.get(ctx, &asked).await {
        Err(ApiError::Refused(refusal)) if refusal.status == 404 => return Err(gone("its message is gone")),
        found => found?,
    };
    if let Some(number) = id.strip_prefix(content::OF_EMBED) {
        let embed = number.parse::<usize>().ok().and_then(|number| found.embeds.get(number));
        let url = embed.and_then(content::picture_url).ok_or_else(|| gone("it was taken out of its message"))?;
        return Ok(reply(url.to_owned(), None));
    }
    let copies = found.message_snapshots.iter().filter_map(|snapshot| snapshot.message.as_deref());
    let mut files = found.attachments.iter().chain(copies.flat_map(|copy| &copy.attachments));
    let file = files.find(|file| file.id == *id).ok_or_else(|| gone("it was taken out of its message"))?;
    let url = file.url.clone().ok_or_else(|| gone("it has no address"))?;
    Ok(MediaReply { mime_type: file.content_type.clone(), file_name: file.filename.clone(), ..reply(url, file.size) })
}

fn reply(url: String, size: Option<u64>) -> MediaReply {
    let mut call = HttpCall::get(url).timeout_ms(FILE_MS);
    call.max_bytes = Some(size.unwrap_or(FILE_BYTES));
    MediaReply { call, mime_type: None, file_name: None, size, sealed: None }
}
