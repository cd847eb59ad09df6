//! What the bot may do in one chat, and who runs it: what Telegram lets a bot ask about a chat.

use crate::Telegram;
use crate::api::{FullChat, Member, Rights};
use crate::client::{ApiCall, Client};
use crate::convert::{Target, people};
use omni_channel_sdk::Exported;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::manifest::ChannelManifest;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{ChatCapabilities, Directory, DirectoryList, DirectoryPage};

/// What can be done in a chat: what the manifest says, less what the group's permissions and the bot's rights forbid.
pub async fn capabilities(ctx: &Context, bot: &Telegram, asked: ChatCapabilities) -> Result<Capabilities, SendError> {
    let target = Target::parse(&asked.chat)?;
    let manifest: ChannelManifest = serde_json::from_str(Telegram::CHANNEL_JSON)
        .map_err(|error| SendError::internal(format!("channel.json is broken: {error}")))?;
    let mut can = manifest.capabilities;
    let is_business = matches!(target.corner, people::Corner::Business(_));
    if !is_business {
        can.requests.remove("markRead");
    }
    if target.chat.parse::<i64>().is_ok_and(|id| id > 0) {
        for request in ["group", "directory"] {
            can.requests.remove(request);
        }
        if is_business {
            can.requests.remove("react");
        }
        return Ok(can);
    }
    let chat = json!({"chat_id": target.chat_value()});
    let found: FullChat = bot.client.ask(ctx, &ApiCall::new("getChat", chat.clone())).await?;
    let mut call = ApiCall::new("getChatMember", chat);
    call.set("user_id", bot.me.id);
    let me: Rights = bot.client.ask(ctx, &call).await?;
    Ok(narrowed(can, &found, &me))
}

/// Takes away what a chat does not allow.
pub fn narrowed(mut can: Capabilities, chat: &FullChat, me: &Rights) -> Capabilities {
    let status = me.status.as_deref().unwrap_or("member");
    let gone = matches!(status, "left" | "kicked") || (status == "restricted" && me.is_member == Some(false));
    let is_channel = chat.r#type.as_deref() == Some("channel");
    let is_admin = matches!(status, "administrator" | "creator");
    let may_post = !is_channel || status == "creator" || (is_admin && me.can_post_messages == Some(true));
    if gone || !may_post {
        can.send.clear();
        can.album_max_items = None;
        can.reply = false;
        can.requests.retain(|request, _| !gone && request == "directory");
        return can;
    }
    if !is_channel && !is_admin {
        // What a restricted member may do is said of it, and of all others by the group.
        let rules = if status == "restricted" { Some(me) } else { chat.permissions.as_ref() };
        let allowed = |of: fn(&Rights) -> Option<bool>| rules.and_then(of).unwrap_or(rules.is_none());
        can.send.retain(|content, _| match content.as_str() {
            "image" => allowed(|rights| rights.can_send_photos),
            "video" => allowed(|rights| rights.can_send_videos),
            "audio" => allowed(|rights| rights.can_send_audios) || allowed(|rights| rights.can_send_voice_notes),
            "document" => allowed(|rights| rights.can_send_documents),
            "poll" => allowed(|rights| rights.can_send_polls),
            "sticker" => allowed(|rights| rights.can_send_other_messages),
            _ => allowed(|rights| rights.can_send_messages),
        });
        if rules.is_some_and(|rights| rights.can_react_to_messages == Some(false)) {
            can.requests.remove("react");
        }
        can.requests.remove("group");
    }
    let files = ["image", "video", "audio", "document"];
    can.album_max_items = can.album_max_items.filter(|_| files.iter().any(|file| can.can_send(file)));
    if let (Some(available), Some(react)) = (&chat.available_reactions, can.requests.get_mut("react")) {
        let emojis: Vec<&str> = available.iter().filter_map(|reaction| reaction.emoji.as_deref()).collect();
        react.allowed.retain(|emoji| emojis.iter().any(|other| bare(other) == bare(emoji)));
        if react.allowed.is_empty() {
            can.requests.remove("react");
        }
    }
    can
}

fn bare(emoji: &str) -> String {
    emoji.replace('\u{fe0f}', "")
}

/// Lists the admins of a chat: of all its members Telegram shows a bot no others.
pub async fn directory(ctx: &Context, client: &Client, asked: Directory) -> Result<DirectoryPage, SendError> {
    let (DirectoryList::Members, Some(chat)) = (&asked.list, &asked.chat) else {
        return Err(SendError::unsupported("a list of anything but the admins of a chat"));
    };
    let target = Target::parse(chat)?;
    let call = ApiCall::new("getChatAdministrators", json!({"chat_id": target.chat_value()}));
    let admins: Vec<Member> = client.ask(ctx, &call).await?;
    let wanted = asked.search.as_deref().unwrap_or_default().to_lowercase();
    let has = |words: &Option<String>| words.as_deref().is_some_and(|words| words.to_lowercase().contains(&wanted));
    let users = admins.iter().map(|admin| people::user(&admin.user));
    let users = users.filter(|user| wanted.is_empty() || has(&user.name) || has(&user.username));
    Ok(DirectoryPage { users: users.take(asked.limit.max(1) as usize).collect(), ..DirectoryPage::default() })
}
