//! Changing a group that the bot is in and has the rights for. A bot makes no groups, joins none, and brings nobody in.

use crate::api;
use crate::client::{ApiCall, ApiError, Client, Upload};
use crate::convert::{Target, people};
use crate::outbound::{build, get_chat};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{GroupAction, GroupChange, GroupReply};

/// What an admin whom the bot makes may do; a bot can give no right that it has not itself.
const RIGHTS: [&str; 6] = [
    "can_manage_chat",
    "can_delete_messages",
    "can_restrict_members",
    "can_invite_users",
    "can_pin_messages",
    "can_manage_video_chats",
];

/// Makes a change and tells the group as it is then.
pub async fn change(ctx: &Context, client: &Client, change: GroupChange) -> Result<GroupReply, SendError> {
    let Some(chat) = &change.chat else { return Err(SendError::unsupported("making a group")) };
    let target = Target::parse(chat)?;
    let mut invite = None;
    match &change.action {
        GroupAction::GetInvite => {}
        GroupAction::RevokeInvite => {
            let call = ApiCall::new("exportChatInviteLink", json!({"chat_id": target.chat_value()}));
            invite = Some(client.ask::<String>(ctx, &call).await?);
        }
        _ => {
            for call in calls(&change, &target)? {
                client.ask::<Value>(ctx, &call).await?;
            }
        }
    }
    if change.action == GroupAction::Leave {
        // Outside of it nothing can be asked about it.
        return Ok(GroupReply { chat: Chat::new(chat.clone(), ChatKind::Group), invite });
    }
    let found = get_chat(ctx, client, &target).await?;
    if change.action == GroupAction::GetInvite {
        invite = Some(invite_link(ctx, client, &target, &found).await?);
    }
    Ok(GroupReply { chat: people::chat(&found), invite })
}

/// The link that is in use; a new one would make that invalid.
async fn invite_link(ctx: &Context, client: &Client, target: &Target, found: &api::Chat) -> Result<String, ApiError> {
    match &found.invite_link {
        Some(link) => Ok(link.clone()),
        None => client.ask(ctx, &ApiCall::new("exportChatInviteLink", json!({"chat_id": target.chat_value()}))).await,
    }
}

fn calls(change: &GroupChange, target: &Target) -> Result<Vec<ApiCall>, SendError> {
    let call = |method| ApiCall::new(method, json!({"chat_id": target.chat_value()}));
    let with = |method, name: &str, value: Value| {
        let mut call = call(method);
        call.set(name, value);
        call
    };
    let text = || Value::from(change.text.as_deref().unwrap_or_default());
    Ok(match change.action {
        GroupAction::Leave => vec![call("leaveChat")],
        GroupAction::SetName => vec![with("setChatTitle", "title", text())],
        GroupAction::SetDescription => vec![with("setChatDescription", "description", text())],
        GroupAction::SetPicture => vec![picture(change, call("setChatPhoto"), call("deleteChatPhoto"))?],
        GroupAction::Remove => {
            // A ban that is lifted at once: sent away, and free to come back.
            let mut calls = Vec::new();
            for user in user_ids(change)? {
                calls.push(with("banChatMember", "user_id", user.into()));
                let mut unban = with("unbanChatMember", "user_id", user.into());
                unban.set("only_if_banned", true);
                calls.push(unban);
            }
            calls
        }
        GroupAction::Ban => {
            user_ids(change)?.into_iter().map(|user| with("banChatMember", "user_id", user.into())).collect()
        }
        GroupAction::Unban => {
            let unban = |user: i64| {
                let mut call = with("unbanChatMember", "user_id", user.into());
                // Without it somebody who is in the group would be sent away.
                call.set("only_if_banned", true);
                call
            };
            user_ids(change)?.into_iter().map(unban).collect()
        }
        GroupAction::Pin | GroupAction::Unpin => vec![pin(change, target)?],
        GroupAction::Promote | GroupAction::Demote => {
            let rights = change.action == GroupAction::Promote;
            let promote = |user: i64| {
                let mut call = with("promoteChatMember", "user_id", user.into());
                RIGHTS.iter().for_each(|right| call.set(right, rights));
                call
            };
            user_ids(change)?.into_iter().map(promote).collect()
        }
        ref other => return Err(SendError::unsupported(&format!("the group action {other}"))),
    })
}

fn pin(change: &GroupChange, target: &Target) -> Result<ApiCall, SendError> {
    let method = match (&change.action, &change.message) {
        (GroupAction::Pin, Some(_)) => "pinChatMessage",
        (GroupAction::Pin, None) => return Err(SendError::invalid("which message is to be pinned is not said")),
        (_, Some(_)) => "unpinChatMessage",
        (_, None) => "unpinAllChatMessages",
    };
    let mut call = ApiCall::new(method, json!({"chat_id": target.chat_value()}));
    if let Some(message) = &change.message {
        call.set("message_id", build::message_id(&message.id)?);
    }
    Ok(call)
}

fn user_ids(change: &GroupChange) -> Result<Vec<i64>, SendError> {
    let number = |user: &UserId| {
        user.as_str()
            .parse()
            .map_err(|_| SendError::invalid(format!("{user} is no Telegram user: it must be a number")))
    };
    change.users.iter().map(number).collect()
}

fn picture(change: &GroupChange, mut set: ApiCall, delete: ApiCall) -> Result<ApiCall, SendError> {
    let Some(media) = &change.picture else { return Ok(delete) };
    let Some(blob) = media.blob.clone() else {
        return Err(SendError::invalid("Telegram takes the picture of a group only as an upload"));
    };
    let file_name = media.file_name.clone().unwrap_or_else(|| "picture.jpg".to_owned());
    set.uploads.push(Upload { field: "photo".to_owned(), blob, file_name, mime_type: media.mime_type.clone() });
    Ok(set)
}
