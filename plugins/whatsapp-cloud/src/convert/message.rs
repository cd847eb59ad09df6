//! Messages, and what is done with them: reactions, choices, edits, what is taken back.

use super::people::Party;
use super::{Converted, Scene, content, unknown};
use crate::api::{self, millis};
use omni_channel_sdk::chat::Forward;
use omni_channel_sdk::event::{ButtonAnswer, Delete, Edit, Emoji, Reaction, ReactionChange};
use omni_channel_sdk::lenient::Id;
use omni_channel_sdk::prelude::*;

/// One message, in the chat that it was written in.
struct Found {
    message: api::Message,
    chat: Chat,
    sender: Sender,
    at: i64,
    raw: Value,
}

/// How a message comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Arrival<'a> {
    /// Just now.
    Now,
    /// Out of the app on a phone; with the other side.
    History(Option<&'a Id>),
    /// The same, of which all but the file came before.
    HistoryFile,
}

/// Takes a message that came in, or one of history, where it may be our own.
pub(super) fn take(scene: &Scene<'_>, raw: Value, how: Arrival<'_>, converted: &mut Converted) {
    let Ok(message) = api::Message::deserialize(&raw) else {
        converted.events.push(unknown("message", raw, scene.now));
        return;
    };
    let is_ours = message.from.as_ref().is_some_and(|from| scene.me.digits.as_deref() == Some(from.as_str()));
    let from = Party::find(scene, message.from.as_ref(), message.from_user_id.as_ref());
    let thread = if let Arrival::History(thread) = how { thread } else { None };
    let other =
        if is_ours { Party::find(scene, thread.or(message.to.as_ref()), message.to_user_id.as_ref()) } else { from };
    let (Some(from), Some(other)) = (from, other) else {
        converted.events.push(unknown("message", raw, scene.now));
        return;
    };
    let sender = if is_ours { scene.me.sender() } else { from.account().into() };
    let chat = chat(&message, &other);
    let at = millis(message.timestamp.as_ref()).unwrap_or(scene.now);
    let found = Found { message, chat, sender, at, raw };
    if matches!(how, Arrival::HistoryFile) {
        return converted.events.push(completed(found));
    }
    let heard = (found.chat.clone(), MessageId::new(found.message.id.as_str()));
    let is_written = events(found, &mut converted.events);
    if is_written && !is_ours && matches!(how, Arrival::Now) {
        converted.heard.push(heard);
    }
}

/// A message that was there without its file, whole: it takes the place of what was there, whichever came first.
fn completed(found: Found) -> Event {
    let Found { message, chat, sender, at, raw } = found;
    let target = MessageId::new(message.id.as_str()).into();
    let edit = Edit { target, revision: at, content: content::content(&message), sender: Some(sender) };
    let key = DeliveryKey::new(format!("{}/file", message.id.as_str()));
    Event { delivery_key: Some(key), at, chat: Some(chat), body: edit.into(), origin: None, raw: Some(raw) }
}

/// Takes a message that somebody wrote in the app on the phone of this number.
pub(super) fn take_echo(scene: &Scene<'_>, raw: Value, converted: &mut Converted) {
    let Ok(message) = api::Message::deserialize(&raw) else {
        converted.events.push(unknown("message_echo", raw, scene.now));
        return;
    };
    let Some(to) = Party::find(scene, message.to.as_ref(), message.to_user_id.as_ref()) else {
        converted.events.push(unknown("message_echo", raw, scene.now));
        return;
    };
    let chat = chat(&message, &to);
    let at = millis(message.timestamp.as_ref()).unwrap_or(scene.now);
    events(Found { message, chat, sender: scene.me.sender(), at, raw }, &mut converted.events);
}

fn chat(message: &api::Message, other: &Party<'_>) -> Chat {
    match &message.group_id {
        Some(group) => Chat::new(group.as_str(), ChatKind::Group),
        None => other.chat(),
    }
}

/// What a message says; whether it is one, and not something that was done with another.
fn events(found: Found, events: &mut Vec<Event>) -> bool {
    let Found { message, chat, sender, at, raw } = found;
    let id = MessageId::new(message.id.as_str());
    let key = DeliveryKey::new(message.id.as_str());
    let mut push = |body: EventBody, key: DeliveryKey, raw: Option<Value>| {
        events.push(Event { delivery_key: Some(key), at, chat: Some(chat.clone()), body, origin: None, raw });
    };
    if let (Some("reaction"), Some(reaction)) = (message.r#type.as_deref(), &message.reaction) {
        let emoji = reaction.emoji.as_deref().filter(|emoji| !emoji.is_empty());
        let body = Reaction {
            target: MessageId::new(reaction.message_id.as_str()).into(),
            sender: Some(sender),
            emojis: emoji.map(Emoji::from).into_iter().collect(),
            revision: at,
            change: ReactionChange::Set,
            counts: Vec::new(),
        };
        push(body.into(), key, Some(raw));
        return false;
    }
    if let (Some("revoke"), Some(revoked)) = (message.r#type.as_deref(), &message.revoke) {
        let targets = vec![MessageId::new(revoked.original_message_id.as_str()).into()];
        push(Delete { targets, sender: Some(sender), only_for_me: false }.into(), key, Some(raw));
        return false;
    }
    if let (Some("edit"), Some(edited)) = (message.r#type.as_deref(), &message.edit)
        && let Some(after) = edited_to(edited)
    {
        let body = Edit {
            target: MessageId::new(edited.original_message_id.as_str()).into(),
            revision: at,
            content: content::content(&after),
            sender: Some(sender),
        };
        push(body.into(), key, Some(raw));
        return false;
    }
    if let Some((data, text)) = content::answer(&message) {
        let target = content::asked_by(&message).map(|id| MessageId::new(id.as_str()).into());
        let body = ButtonAnswer { id: id.to_string(), target, sender: sender.clone(), data, text };
        push(body.into(), DeliveryKey::new(format!("{id}/answer")), None);
    }
    let mut written = Message::new(id, sender, content::content(&message));
    if let Some(context) = &message.context {
        written.reply_to = context.id.as_ref().map(|id| ReplyTo {
            sender: context.from.as_ref().map(|from| User::new(from.as_str())),
            ..ReplyTo::from(id.as_str())
        });
        let forwarded = context.forwarded == Some(true) || context.frequently_forwarded == Some(true);
        written.forward = forwarded.then(Forward::default);
    }
    push(written.into(), key, Some(raw));
    true
}

/// What a message was changed to. Meta leaves the id out there.
fn edited_to(edited: &api::Edited) -> Option<api::Message> {
    let mut after = edited.message.as_object()?.clone();
    after.entry("id").or_insert_with(|| edited.original_message_id.as_str().into());
    serde_json::from_value(Value::Object(after)).ok()
}
