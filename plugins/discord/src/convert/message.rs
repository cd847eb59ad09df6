//! A message → its events, one for each of its parts, and how it changes.

use crate::api;
use crate::convert::{Scene, content, people};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use omni_channel_sdk::chat::{Echo, Forward, Reply};
use omni_channel_sdk::event::{Delete, Edit};
use omni_channel_sdk::ids::{ClientId, PartId};
use omni_channel_sdk::prelude::*;

/// A message's flag: it stands for an answer to an interaction that is on its way.
pub const IS_LOADING: u64 = 1 << 7;
/// How many characters a nonce of Discord's may have.
const NONCE: usize = 25;

/// Our id of a message as Discord takes it along: the sixteen bytes of a UUID in 22 letters, or what is short enough.
pub fn nonce(client: &ClientId) -> Option<String> {
    let hex: String = client.as_str().chars().filter(|letter| *letter != '-').collect();
    match (hex.len() == 32).then(|| u128::from_str_radix(&hex, 16)) {
        Some(Ok(uuid)) => Some(URL_SAFE_NO_PAD.encode(uuid.to_be_bytes())),
        _ => Some(client.as_str().to_owned()).filter(|short| short.len() <= NONCE),
    }
}

/// The id that a nonce stands for.
fn client_id(nonce: &str) -> ClientId {
    let bytes: Option<[u8; 16]> = URL_SAFE_NO_PAD.decode(nonce).ok().and_then(|bytes| bytes.try_into().ok());
    match bytes {
        Some(bytes) => {
            let hex = format!("{:032x}", u128::from_be_bytes(bytes));
            let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
            ClientId::from(parts.join("-"))
        }
        None => ClientId::from(nonce),
    }
}

/// The name of a message's part: none for the first.
pub fn part(index: usize) -> Option<PartId> {
    (index > 0).then(|| PartId::new(index))
}

/// The events of a message that was written.
pub fn written(raw: &Value, message: &api::Message, scene: Scene<'_>) -> Vec<Event> {
    let Some(author) = message.author.as_ref().filter(|_| message.flags & IS_LOADING == 0) else { return Vec::new() };
    let sender = sender(author, message, scene);
    let mut chat = scene.names.chat(&message.channel_id, message.guild_id.as_deref());
    if chat.kind == ChatKind::Direct && !sender.is_from_me {
        chat.name.clone_from(&sender.user.name);
    }
    let at = api::time_of(&message.id).unwrap_or(scene.now);
    let contents = content::contents(message, scene);
    let album = (contents.len() > 1).then(|| message.id.clone());
    let is_own = sender.is_from_me;
    let events = contents.into_iter().enumerate().map(|(index, content)| {
        let part = part(index);
        let delivery_key = match &part {
            Some(part) => format!("message/{}/{part}", message.id),
            None => format!("message/{}", message.id),
        };
        let mut written = Message::new(message.id.as_str(), sender.clone(), content);
        written.message.part = part;
        written.reply_to = reply(message, scene).filter(|_| index == 0);
        written.forward = forward(message, scene);
        written.album.clone_from(&album);
        written.echo = message
            .nonce
            .as_ref()
            .and_then(Value::as_str)
            .filter(|_| is_own && index == 0)
            .map(|nonce| Echo { client_id: Some(client_id(nonce)) });
        let mut event = Event::new(chat.clone(), at, written).delivered_as(delivery_key);
        event.raw = (index == 0).then(|| raw.clone());
        event
    });
    events.collect()
}

/// Who wrote it: we also under another name, by a webhook of the bot's own, or the one that the operator named.
fn sender(author: &api::User, message: &api::Message, scene: Scene<'_>) -> Sender {
    let mut sender = people::sender(author, message.member.as_ref(), scene.me);
    let is_ours = message.application_id.as_deref() == Some(scene.application);
    sender.is_from_me |= message.webhook_id.as_deref().is_some_and(|id| is_ours || scene.names.is_own_webhook(id));
    sender
}

fn reply(message: &api::Message, scene: Scene<'_>) -> Option<Reply> {
    let reference = message.message_reference.as_ref().filter(|reference| reference.kind == 0)?;
    // What a thread begins with, what was pinned and what is followed is referred to as well, and is no answer.
    if !matches!(message.kind, 0 | 19 | 20 | 23) {
        return None;
    }
    let id = reference.message_id.clone()?;
    let answered = message.referenced_message.as_deref();
    let mut reply = Reply::from(id);
    reply.chat = reference.channel_id.clone().filter(|chat| *chat != message.channel_id).map(ChatId::from);
    reply.quoted_text = answered.and_then(|answered| quoted(answered, scene));
    reply.sender =
        answered.and_then(|answered| Some(people::user(answered.author.as_ref()?, answered.member.as_ref())));
    Some(reply)
}

/// The words of a message that is answered.
pub fn quoted(answered: &api::Message, scene: Scene<'_>) -> Option<String> {
    let contents = content::contents(answered, scene);
    contents.first()?.words().map(|text| text.text.clone()).filter(|words| !words.is_empty())
}

fn forward(message: &api::Message, scene: Scene<'_>) -> Option<Forward> {
    let reference = message.message_reference.as_ref().filter(|reference| reference.kind == 1)?;
    let chat = |id: &str| scene.names.chat(id, reference.guild_id.as_deref());
    Some(Forward {
        chat: reference.channel_id.as_deref().map(chat),
        message: reference.message_id.as_deref().map(MessageId::from),
        at: reference.message_id.as_deref().and_then(api::time_of),
        ..Forward::default()
    })
}

/// The event of a message that was changed; none when only Discord itself changed something about it (a link unfolded).
pub fn edited(raw: &Value, message: &api::Message, scene: Scene<'_>) -> Option<Event> {
    let revision = message.edited_timestamp.as_deref().and_then(api::millis)?;
    let author = message.author.as_ref()?;
    let chat = scene.names.chat(&message.channel_id, message.guild_id.as_deref());
    let content = content::contents(message, scene).into_iter().next()?;
    let edit = Edit {
        target: MessageRef::from(message.id.as_str()),
        revision,
        content,
        sender: Some(sender(author, message, scene)),
    };
    let mut event = Event::new(chat, revision, edit).delivered_as(format!("edit/{}/{revision}", message.id));
    event.raw = Some(raw.clone());
    Some(event)
}

/// The event of messages that were taken back.
pub fn deleted(raw: &Value, ids: &[String], channel: &str, guild: Option<&str>, scene: Scene<'_>) -> Option<Event> {
    if ids.is_empty() {
        return None;
    }
    let chat = scene.names.chat(channel, guild);
    let targets = ids.iter().map(|id| MessageRef::from(id.as_str())).collect();
    let delete = Delete { targets, sender: None, only_for_me: false };
    let mut event = Event::new(chat, scene.now, delete).delivered_as(scene.key);
    event.raw = Some(raw.clone());
    Some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_id_comes_back() {
        let uuid = ClientId::from("0198c5a0-7c3b-7e11-9f00-00112233aabb");
        let there = nonce(&uuid).expect("it fits");
        assert!(there.len() <= NONCE, "{there}");
        assert_eq!(client_id(&there), uuid);
        assert_eq!(nonce(&ClientId::from("c1")).map(|nonce| client_id(&nonce)), Some(ClientId::from("c1")));
        assert_eq!(nonce(&ClientId::from("x".repeat(40))), None);
    }
}
