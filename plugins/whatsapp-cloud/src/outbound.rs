//! What is asked of the number, as calls of the Graph API.
//!
//! Nothing is repeated here: Meta has no key by which it would know a send again. Our own id goes along and comes back with
//! what Meta tells of the message, so a send whose answer was lost is found again when that comes.

mod build;

pub use build::{Target, can_send, message};

use crate::api::{BlockedUsers, Profiles, Sent, Stored, Uploaded};
use crate::convert::people::is_number;
use crate::{Running, account};
use omni_channel_sdk::event::Activity;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{
    AddressReply, ChatAction, DirectoryList, DirectoryPage, MediaReply, ProfileReply, Reconciled, SetChat, SetProfile,
};
use serde_json::Map;

/// Largest file that is fetched: documents have a hundred megabytes.
const MAX_DOWNLOAD: u64 = 100 * 1024 * 1024;

/// Sends one message.
pub async fn send(ctx: &Context, cloud: &Running, send: request::Send) -> Result<SendReceipt, SendError> {
    let target = Target::parse(&send.chat)?;
    let mut json = build::message(&send, &target, &cloud.config)?;
    if let Some((kind, blob)) = build::upload(&send) {
        let media = send.content.media().cloned().unwrap_or_default();
        let mime_type = media.mime_type.unwrap_or_else(|| "application/octet-stream".to_owned());
        let file_name = media.file_name.unwrap_or_else(|| kind.to_owned());
        let uploaded = cloud.client.ask::<Uploaded>(ctx, cloud.client.upload(blob, file_name, mime_type)).await;
        // A file that was stored twice does no harm: certainly no message went out.
        let uploaded = uploaded.map_err(|error| SendError { certain: true, ..SendError::from(error) })?;
        json[kind]["id"] = uploaded.id.as_str().into();
    }
    let sent: Sent = cloud.client.ask(ctx, cloud.client.post("messages", json)).await?;
    let Some(message) = sent.messages.first() else {
        return Err(SendError::uncertain("WhatsApp took the message and did not say what it calls it"));
    };
    // Meta writes some numbers otherwise than people do.
    let real = sent.contacts.first().and_then(|contact| contact.wa_id.as_ref());
    let real = real.filter(|id| is_number(id.as_str()) && target.is_number()).map(|id| ChatId::new(id.as_str()));
    let mut receipt = SendReceipt::new(message.id.as_str());
    receipt.chat_id = real.filter(|chat| *chat != send.chat);
    Ok(receipt)
}

/// Tells whether Meta has told of a send since.
pub fn reconcile(cloud: &Running, send: &request::Send) -> Reconciled {
    cloud
        .memory
        .sent(&send.client_id, &send.chat)
        .map_or(Reconciled::Unresolved, |receipt| Reconciled::Sent { receipt })
}

/// Makes a call of which only matters that it is done.
async fn done(ctx: &Context, cloud: &Running, call: HttpCall) -> Result<(), SendError> {
    Ok(cloud.client.ask::<Value>(ctx, call).await.map(drop)?)
}

/// Sets the reaction to a message; WhatsApp has one of each person.
pub async fn react(ctx: &Context, cloud: &Running, react: request::React) -> Result<(), SendError> {
    let target = Target::parse(&react.chat)?;
    let emoji = react.emojis.first().map(|emoji| emoji.emoji.as_str()).unwrap_or_default();
    let mut json = build::envelope(&target, "reaction");
    json["reaction"] = json!({"message_id": react.target.id, "emoji": emoji});
    done(ctx, cloud, cloud.client.post("messages", json)).await
}

/// Shows that somebody is writing, for 25 seconds or until a message goes out. Meta shows it beneath a message of theirs, which
/// is read with that.
pub async fn typing(ctx: &Context, cloud: &Running, typing: request::ShowTyping) -> Result<(), SendError> {
    if typing.activity == Activity::Paused {
        return Ok(());
    }
    let Some(newest) = cloud.memory.heard(&typing.chat) else {
        let what = "WhatsApp shows that somebody is writing beneath a message of theirs, and none came since this instance began";
        return Err(SendError::new(ErrorCode::MessageNotFound, NextActor::Caller, what));
    };
    let mut json = build::read(&newest);
    json["typing_indicator"] = json!({"type": "text"});
    done(ctx, cloud, cloud.client.post("messages", json)).await
}

/// Tells the other side that messages were read. Meta takes one for all before it, too.
pub async fn mark_read(ctx: &Context, cloud: &Running, read: request::MarkRead) -> Result<(), SendError> {
    let newest = read.messages.last().map(|message| message.id.clone()).or_else(|| cloud.memory.heard(&read.chat));
    let Some(newest) = newest else {
        return Err(SendError::invalid("which message was read is not said, and none came since this instance began"));
    };
    done(ctx, cloud, cloud.client.post("messages", build::read(&newest))).await
}

/// Tells where a file is downloaded from: for five minutes, and to us alone.
pub async fn fetch_media(ctx: &Context, cloud: &Running, fetch: request::FetchMedia) -> Result<MediaReply, SendError> {
    let id = fetch.reference.as_str();
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')) {
        return Err(SendError::new(ErrorCode::Media, NextActor::Caller, "this is no id of a file of WhatsApp's"));
    }
    let call = cloud.client.get(&format!("{id}?phone_number_id={}", cloud.client.phone()));
    let stored: Stored = cloud.client.ask(ctx, call).await.map_err(|error| {
        let error = SendError::from(error);
        match error.code {
            // Meta keeps what was sent to a number for a week or a month.
            ErrorCode::Invalid | ErrorCode::ChatNotFound => {
                let what = format!("WhatsApp no longer gives out this file: {}", error.message);
                SendError::new(ErrorCode::Media, NextActor::Caller, what)
            }
            _ => error,
        }
    })?;
    let size = stored.file_size.and_then(|size| size.as_u64().or_else(|| size.as_str()?.parse().ok()));
    let mut call = cloud.client.download(&stored.url)?;
    call.max_bytes = Some(MAX_DOWNLOAD);
    Ok(MediaReply { call, mime_type: stored.mime_type, file_name: None, size, sealed: None })
}

/// Tells about the number itself. Meta tells of nobody else.
pub async fn profile(ctx: &Context, cloud: &Running, asked: request::GetProfile) -> Result<ProfileReply, SendError> {
    if asked.user.is_some_and(|user| user.as_str() != cloud.client.phone()) {
        return Err(SendError::unsupported("profiles of other accounts"));
    }
    let number = account::confirm(ctx, &cloud.client).await?;
    let edge = format!("{}/whatsapp_business_profile?fields=about,profile_picture_url", cloud.client.phone());
    let profiles: Profiles = cloud.client.ask(ctx, cloud.client.get(&edge)).await?;
    // Meta's document wraps it once more than Meta does.
    let found = profiles.data.into_iter().next().map(|found| match found.business_profile {
        Some(within) => *within,
        None => found,
    });
    let mut profile = account::profile(&cloud.client, &number);
    profile.avatar_url = found.as_ref().and_then(|found| found.profile_picture_url.clone());
    Ok(ProfileReply { profile, about: found.and_then(|found| found.about), ..ProfileReply::default() })
}

/// Changes what the number says about itself. The name is for Meta to judge, and the picture goes in by the app's own upload.
pub async fn set_profile(ctx: &Context, cloud: &Running, change: SetProfile) -> Result<(), SendError> {
    if change.name.is_some() || change.picture.is_some() || change.remove_picture || !change.privacy.is_empty() {
        return Err(SendError::unsupported(
            "changing the name, the picture or the privacy of a business number: that is done in WhatsApp Manager",
        ));
    }
    let Some(about) = change.about else { return Ok(()) };
    let length = about.chars().count();
    if !(1..=139).contains(&length) {
        return Err(SendError::invalid(format!(
            "what a number says about itself has 1 to 139 characters, not {length}"
        )));
    }
    let json = json!({"messaging_product": "whatsapp", "about": about});
    done(ctx, cloud, cloud.client.post("whatsapp_business_profile", json)).await
}

/// Blocks a person, or lets them write again.
pub async fn set_chat(ctx: &Context, cloud: &Running, change: SetChat) -> Result<(), SendError> {
    let method = match change.action {
        ChatAction::Block => "POST",
        ChatAction::Unblock => "DELETE",
        _ => return Err(SendError::unsupported("keeping chats of a business number otherwise than blocking people")),
    };
    let target = Target::parse(&change.chat)?;
    let users = json!([{"user": target.id()}]);
    let mut call = cloud.client.post("block_users", json!({"messaging_product": "whatsapp", "block_users": users}));
    call.method = method.to_owned();
    done(ctx, cloud, call).await
}

/// Lists who is blocked. Meta has no other list.
pub async fn directory(ctx: &Context, cloud: &Running, asked: request::Directory) -> Result<DirectoryPage, SendError> {
    if asked.list != DirectoryList::Blocked {
        return Err(SendError::unsupported("listing chats or contacts: WhatsApp tells a business number of none"));
    }
    let mut edge = format!("{}/block_users?limit={}", cloud.client.phone(), asked.limit.clamp(1, 100));
    if let Some(cursor) = &asked.cursor {
        if !cursor.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'=' | b'.')) {
            return Err(SendError::invalid("this is no cursor of such a list"));
        }
        edge.push_str(&format!("&after={}", cursor.replace('=', "%3D")));
    }
    let page: BlockedUsers = cloud.client.ask(ctx, cloud.client.get(&edge)).await?;
    let users = page.data.iter().filter_map(|blocked| {
        let mut user = User::new(blocked.user_id.as_ref().or(blocked.wa_id.as_ref())?.as_str());
        user.phone = blocked.wa_id.as_ref().filter(|id| is_number(id.as_str())).map(|id| format!("+{}", id.as_str()));
        Some(user)
    });
    let users = users.collect();
    let next = page.paging.filter(|paging| paging.next.is_some()).and_then(|paging| paging.cursors?.after);
    Ok(DirectoryPage { users, cursor: next.map(|after| after.as_str().to_owned()), ..DirectoryPage::default() })
}

/// Tells which chat a phone number is. Whether it is on WhatsApp Meta says only when something is sent there.
pub fn resolve(asked: &request::Resolve) -> AddressReply {
    let digits = account::digits(&asked.address);
    let written = |letter: char| letter.is_ascii_digit() || matches!(letter, '+' | ' ' | '-' | '(' | ')' | '.');
    if !is_number(&digits) || !asked.address.chars().all(written) {
        return AddressReply::default();
    }
    let mut user = User::new(digits.as_str());
    user.phone = Some(format!("+{digits}"));
    AddressReply { user: Some(user), chat: Some(Chat::new(digits.as_str(), ChatKind::Direct)) }
}

/// An option of a send.
fn option<'a>(options: &'a std::collections::BTreeMap<String, Value>, name: &str) -> Option<&'a Value> {
    options.get(name).filter(|value| !value.is_null())
}

/// An object of an option's, or what is wrong with it.
fn object<'a>(value: &'a Value, name: &str) -> Result<&'a Map<String, Value>, SendError> {
    value.as_object().ok_or_else(|| SendError::invalid(format!("the option {name} is no object")))
}
