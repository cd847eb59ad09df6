//! Threads, posts, members, pins and invites; and what a chat allows.

use super::build::Body;
use super::{receipt, target};
use crate::Discord;
use crate::api;
use crate::client::Call;
use crate::known::{guild_chat, guild_of_chat};
use crate::permissions::{self as bit, Here};
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{GroupAction, GroupChange, GroupReply, Reconciled};

/// How far Discord's clock may be from ours.
const CLOCKS_APART_MS: i64 = 60_000;
/// Most characters of a thread's name.
const THREAD_NAME: usize = 100;

/// Writes a post into a forum: a thread with its first message.
pub async fn post(
    ctx: &Context,
    bot: &Discord,
    forum: &str,
    options: Option<&Value>,
    send: &request::Send,
    mut body: Body,
) -> Result<SendReceipt, SendError> {
    body.fields.remove("nonce");
    body.fields.remove("enforce_nonce");
    body.fields.remove("message_reference");
    let words = send.content.words().map(|text| text.text.clone()).unwrap_or_default();
    let mut thread = thread(options, &words);
    thread["message"] = Value::Object(body.fields);
    if let Some(tags) = options.and_then(|options| options.get("tags")) {
        thread["applied_tags"] = tags.clone();
    }
    let mut call = Call::new("POST", format!("/channels/{forum}/threads"), thread);
    call.files = body.files;
    let made: Value = bot.client.ask(ctx, &call).await?;
    let opened: api::Channel = api::Channel::deserialize(&made).unwrap_or_default();
    let first = made.get("message").cloned().unwrap_or(Value::Null);
    // The first message of a post has the post's own id.
    let sent = super::taken(first).unwrap_or(api::Message { id: opened.id.clone(), ..api::Message::default() });
    if sent.id.is_empty() {
        return Err(SendError::uncertain("Discord took the post and did not say which it is"));
    }
    Ok(posted(bot, send, &sent, opened))
}

/// The receipt of a post: it is a chat of its own, and the forum stays what it is.
fn posted(bot: &Discord, send: &request::Send, sent: &api::Message, mut opened: api::Channel) -> SendReceipt {
    if opened.id.is_empty() {
        opened.id.clone_from(&sent.id);
    }
    let mut names = bot.known.names();
    names.note_channel(&opened, None);
    let began = names.chat(&opened.id, opened.guild_id.as_deref());
    SendReceipt { chat_id: None, began: Some(Box::new(began)), ..receipt(send, sent, &opened.id) }
}

/// Looks for a post whose answer was lost, among the newest of its server.
pub async fn find_post(
    ctx: &Context,
    bot: &Discord,
    forum: &str,
    send: &request::Send,
    tried_at: i64,
) -> Result<Reconciled, SendError> {
    let guild = bot.known.names().channel(forum).and_then(|place| place.guild);
    let Some(guild) = guild else { return Ok(Reconciled::Unresolved) };
    let mut active = bot.client.ask(ctx, &Call::get(format!("/guilds/{guild}/threads/active"))).await?;
    let posts: Vec<api::Channel> = serde_json::from_value(active["threads"].take()).unwrap_or_default();
    let words = send.content.words().map(|text| text.text.clone()).unwrap_or_default();
    let wanted = thread(send.options.get("thread"), &words);
    let since = tried_at.saturating_sub(CLOCKS_APART_MS);
    let ours = posts.into_iter().find(|post| {
        post.parent_id.as_deref() == Some(forum)
            && post.owner_id.as_deref() == Some(bot.me.id.as_str())
            && post.name.as_deref() == wanted["name"].as_str()
            && api::time_of(&post.id).is_some_and(|at| at >= since)
    });
    Ok(match ours {
        Some(post) => {
            let sent = api::Message { id: post.id.clone(), ..api::Message::default() };
            Reconciled::Sent { receipt: posted(bot, send, &sent, post) }
        }
        None => Reconciled::NotSent,
    })
}

fn thread(options: Option<&Value>, words: &str) -> Value {
    let of = |name: &str| options.and_then(|options| options.get(name));
    let named = of("name").and_then(Value::as_str).filter(|name| !name.is_empty());
    let first_line = words.lines().next().filter(|line| !line.is_empty()).unwrap_or("…");
    let name: String = named.unwrap_or(first_line).chars().take(THREAD_NAME).collect();
    let mut thread = json!({"name": name});
    if let Some(minutes) = of("autoArchiveMinutes") {
        thread["auto_archive_duration"] = minutes.clone();
    }
    thread
}

/// Begins a thread at a message that was sent; what follows is written there. That the message is sent stays true when
/// Discord makes no thread.
pub async fn thread_of(ctx: &Context, bot: &Discord, sent: &api::Message, options: &Value) {
    let words = sent.content.clone().unwrap_or_default();
    let path = format!("/channels/{}/messages/{}/threads", sent.channel_id, sent.id);
    match bot.client.get::<api::Channel>(ctx, &Call::new("POST", path, thread(Some(options), &words))).await {
        Ok(opened) => bot.known.names().note_channel(&opened, None),
        Err(error) => {
            let why = SendError::from(error).message;
            ctx.log(LogLevel::Warn, format!("the message was sent, and no thread was begun at it: {why}"));
        }
    }
}

/// Makes or changes a channel, a thread or who is in a server.
pub async fn change(ctx: &Context, bot: &Discord, change: GroupChange) -> Result<GroupReply, SendError> {
    let Some(chat) = &change.chat else {
        return Err(SendError::invalid("name the channel in which the thread is to be made"));
    };
    if let Some(guild) = guild_of_chat(chat) {
        return change_guild(ctx, bot, guild, &change).await;
    }
    let channel = target(ctx, bot, chat).await?;
    let text = change.text.clone().unwrap_or_default();
    let path = format!("/channels/{channel}");
    let mut invite = None;
    match &change.action {
        GroupAction::Create => {
            let made = match &change.message {
                Some(message) => {
                    Call::new("POST", format!("{path}/messages/{}/threads", message.id), thread(None, &text))
                }
                None => {
                    let mut thread = thread(None, &text);
                    thread["type"] = json!(crate::known::kind::PUBLIC_THREAD);
                    Call::new("POST", format!("{path}/threads"), thread)
                }
            };
            let made: api::Channel = bot.client.get(ctx, &made).await?;
            let mut names = bot.known.names();
            names.note_channel(&made, None);
            return Ok(GroupReply { chat: names.chat(&made.id, made.guild_id.as_deref()), invite: None });
        }
        GroupAction::SetName => ask(ctx, bot, "PATCH", path.clone(), json!({"name": text})).await?,
        GroupAction::SetDescription => ask(ctx, bot, "PATCH", path.clone(), json!({"topic": text})).await?,
        GroupAction::Join => ask(ctx, bot, "PUT", format!("{path}/thread-members/@me"), Value::Null).await?,
        GroupAction::Leave => ask(ctx, bot, "DELETE", format!("{path}/thread-members/@me"), Value::Null).await?,
        GroupAction::Add | GroupAction::Remove => {
            let method = if change.action == GroupAction::Add { "PUT" } else { "DELETE" };
            for user in &change.users {
                ask(ctx, bot, method, format!("{path}/thread-members/{user}"), Value::Null).await?;
            }
        }
        GroupAction::Pin | GroupAction::Unpin => {
            let Some(message) = &change.message else {
                return Err(SendError::invalid("which message is meant is not said, and Discord wants to know"));
            };
            let method = if change.action == GroupAction::Pin { "PUT" } else { "DELETE" };
            ask(ctx, bot, method, format!("{path}/messages/pins/{}", message.id), Value::Null).await?;
        }
        GroupAction::GetInvite => {
            let made =
                bot.client.ask(ctx, &Call::new("POST", format!("{path}/invites"), json!({"max_age": 0}))).await?;
            let code = made.get("code").and_then(Value::as_str);
            invite = code.map(|code| format!("https://discord.gg/{code}"));
        }
        other => return Err(SendError::unsupported(&format!("{} in a channel", other.as_str()))),
    }
    let mut names = bot.known.names();
    if change.action == GroupAction::SetName
        && let Some(place) = names.channel(&channel).cloned()
    {
        let renamed = api::Channel {
            id: channel.clone(),
            kind: place.kind,
            name: change.text.clone(),
            parent_id: place.parent.map(|parent| parent.to_string()),
            guild_id: place.guild.map(|guild| guild.to_string()),
            ..api::Channel::default()
        };
        names.note_channel(&renamed, None);
    }
    Ok(GroupReply { chat: names.chat(&channel, None), invite })
}

async fn ask(ctx: &Context, bot: &Discord, method: &'static str, path: String, body: Value) -> Result<(), SendError> {
    Ok(bot.client.ask(ctx, &Call::new(method, path, body)).await.map(drop)?)
}

async fn change_guild(
    ctx: &Context,
    bot: &Discord,
    guild: &str,
    change: &GroupChange,
) -> Result<GroupReply, SendError> {
    let base = format!("/guilds/{guild}");
    let each = match &change.action {
        GroupAction::Leave => {
            ask(ctx, bot, "DELETE", format!("/users/@me/guilds/{guild}"), Value::Null).await?;
            return Ok(GroupReply { chat: bot.known.names().guild_as_chat(guild), invite: None });
        }
        GroupAction::Remove => ("DELETE", format!("{base}/members")),
        GroupAction::Ban => ("PUT", format!("{base}/bans")),
        GroupAction::Unban => ("DELETE", format!("{base}/bans")),
        other => return Err(SendError::unsupported(&format!("{} of a server", other.as_str()))),
    };
    for user in &change.users {
        let body = if each.0 == "PUT" { json!({}) } else { Value::Null };
        ask(ctx, bot, each.0, format!("{}/{user}", each.1), body).await?;
    }
    Ok(GroupReply { chat: bot.known.names().guild_as_chat(guild), invite: None })
}

/// What can be done in a chat, by the bot's permissions there.
pub async fn capabilities(
    ctx: &Context,
    bot: &Discord,
    asked: request::ChatCapabilities,
) -> Result<Capabilities, SendError> {
    let manifest: omni_channel_sdk::manifest::ChannelManifest =
        serde_json::from_str(<Discord as omni_channel_sdk::Exported>::CHANNEL_JSON)
            .map_err(|error| SendError::internal(error.to_string()))?;
    let mut can = manifest.capabilities;
    if guild_of_chat(&asked.chat).is_some() {
        can.send.clear();
        can.requests.retain(|request, _| matches!(request.as_str(), "group" | "directory" | "capabilities"));
        return Ok(can);
    }
    let id = target(ctx, bot, &asked.chat).await?;
    let mut channel: api::Channel = bot.client.get(ctx, &Call::get(format!("/channels/{id}"))).await?;
    let Some(guild) = channel.guild_id.clone() else {
        // Between two everything is allowed but what needs a server.
        can.requests.remove("group");
        bit::narrow_files(&mut can, 0);
        return Ok(can);
    };
    let in_thread = crate::known::is_thread(channel.kind);
    if let Some(parent) = channel.parent_id.clone().filter(|_| in_thread) {
        // A thread has the overwrites of its channel.
        let above: api::Channel = bot.client.get(ctx, &Call::get(format!("/channels/{parent}"))).await?;
        channel.permission_overwrites = above.permission_overwrites;
    }
    let home: api::Guild = bot.client.get(ctx, &Call::get(format!("/guilds/{guild}"))).await?;
    let member: api::Member = bot.client.get(ctx, &Call::get(format!("/guilds/{guild}/members/{}", bot.me.id))).await?;
    Here { me: &bot.me.id, guild: &home, member: &member, channel: &channel, now: ctx.now() }.narrow(&mut can);
    Ok(can)
}

/// The guild of a chat that stands for one, or that is in one.
pub async fn guild_of(ctx: &Context, bot: &Discord, chat: &ChatId) -> Option<String> {
    if let Some(guild) = guild_of_chat(chat) {
        return Some(guild.to_owned());
    }
    let place = super::place(ctx, bot, chat.as_str()).await?;
    place.guild.map(|guild| guild.to_string())
}

/// A guild as a chat that can be listed.
pub fn space(guild: &api::Guild) -> Chat {
    Chat {
        name: guild.name.clone(),
        description: guild.description.clone(),
        participants: guild.member_count.or(guild.approximate_member_count),
        ..Chat::new(guild_chat(&guild.id), ChatKind::Group)
    }
}
