//! Threads, posts, members, pins and invites; and what a chat allows.

use super::build::Body;
use super::{receipt, target};
use crate::Discord;
use crate::api;
use crate::client::Call;
use crate::known::{guild_chat, guild_of_chat};
use crate::permissions::{self as bit, Standing};
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{GroupAction, GroupChange, GroupReply};

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
    bot.known.names().note_channel(&opened, None);
    let first = made.get("message").cloned().unwrap_or(Value::Null);
    // The first message of a post has the post's own id.
    let sent = super::taken(first).unwrap_or(api::Message { id: opened.id.clone(), ..api::Message::default() });
    if sent.id.is_empty() {
        return Err(SendError::uncertain("Discord took the post and did not say which it is"));
    }
    let mut receipt = receipt(send, &sent, forum);
    receipt.chat_id = Some(ChatId::from(opened.id)).filter(|id| !id.as_str().is_empty()).or(receipt.chat_id);
    Ok(receipt)
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
    let standing = Standing { user: &bot.me.id, guild: &guild, owner: home.owner_id.as_deref(), roles: &member.roles };
    narrow(&mut can, bit::within(&standing, &home.roles, &channel), in_thread);
    Ok(can)
}

/// Takes away what the permissions do not allow.
fn narrow(can: &mut Capabilities, permissions: u64, in_thread: bool) {
    let may = |bits: u64| permissions & bits == bits;
    let write = bit::VIEW_CHANNEL | if in_thread { bit::SEND_MESSAGES_IN_THREADS } else { bit::SEND_MESSAGES };
    if !may(write) {
        can.send.clear();
        can.reply = false;
        can.requests.retain(|request, _| !matches!(request.as_str(), "typing" | "edit"));
    }
    if !may(bit::ATTACH_FILES) {
        can.send.retain(|kind, _| matches!(kind.as_str(), "text" | "poll" | "buttons"));
        can.album_max_items = None;
    }
    if !may(bit::SEND_POLLS) {
        can.send.remove("poll");
    }
    if !may(bit::VIEW_CHANNEL | bit::READ_MESSAGE_HISTORY) {
        can.reply = false;
        can.requests.retain(|request, _| !matches!(request.as_str(), "history" | "react"));
    }
    if !may(bit::ADD_REACTIONS) {
        can.requests.remove("react");
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_taken_away() {
        let manifest: omni_channel_sdk::manifest::ChannelManifest =
            serde_json::from_str(<Discord as omni_channel_sdk::Exported>::CHANNEL_JSON).expect("it is read");
        let with = |permissions: u64, in_thread: bool| {
            let mut can = manifest.capabilities.clone();
            narrow(&mut can, permissions, in_thread);
            can
        };
        let read_only = with(bit::VIEW_CHANNEL | bit::READ_MESSAGE_HISTORY, false);
        assert!(read_only.send.is_empty() && !read_only.can("typing") && read_only.can("history"));
        let words = with(bit::VIEW_CHANNEL | bit::SEND_MESSAGES, false);
        assert!(words.can_send("text") && !words.can_send("image") && !words.can("react") && !words.reply);
        assert!(
            !with(bit::VIEW_CHANNEL | bit::SEND_MESSAGES, true).can_send("text"),
            "a thread has a right of its own"
        );
        assert_eq!(with(u64::MAX, false), manifest.capabilities);
    }
}
