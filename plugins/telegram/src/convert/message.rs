//! A message, and an edit of one: who wrote it, what it answers, where it was forwarded from.

use crate::api::{self, millis};
use crate::convert::update::Me;
use crate::convert::{content, people, service};
use omni_channel_sdk::chat::Forward;
use omni_channel_sdk::event::Edit;
use omni_channel_sdk::prelude::*;

/// The event of a new message. `raw` is the message's own JSON.
pub fn new_message(message: &api::Message, raw: &Value, me: Me, now: i64) -> Event {
    let at = millis(message.date).unwrap_or(now);
    let chat = people::chat_of(message);
    if let Some(event) = service::event(message, raw, &chat, at, me) {
        return event;
    }
    let mut found =
        Message::new(MessageId::new(message.message_id), sender(message, me), content::content(message, raw));
    found.reply_to = reply(message);
    found.forward = message.forward_origin.as_ref().map(forward);
    found.album = message.media_group_id.clone();
    Event::new(chat, at, found)
}

/// The event of an edit. A live location that moves arrives so, too.
pub fn edited_message(message: &api::Message, raw: &Value, me: Me, now: i64) -> Event {
    let at = millis(message.edit_date).or(millis(message.date)).unwrap_or(now);
    let edit = Edit {
        target: MessageRef::from(MessageId::new(message.message_id)),
        revision: at,
        content: content::content(message, raw),
        sender: Some(sender(message, me)),
    };
    Event::new(people::chat_of(message), at, edit)
}

/// Who wrote a message. A message in the name of a chat has a stand-in for an author, which is nobody's account; a post
/// in a channel has none.
pub fn sender(message: &api::Message, me: Me) -> Sender {
    let found = people::actor_or_chat(message.from.as_ref(), message.sender_chat.as_ref(), me.id);
    let mut sender = found.unwrap_or_else(|| Sender::from(people::chat_as_user(&message.chat)));
    // In a chat of a business account the other side is the chat itself; who else writes is the account.
    if message.business_connection_id.is_some() {
        sender.is_from_me |= message.from.as_ref().is_some_and(|from| from.id != message.chat.id);
    }
    sender
}

fn reply(message: &api::Message) -> Option<ReplyTo> {
    let quote = message.quote.as_ref().map(|quote| quote.text.clone());
    if let Some(target) = message.reply_to_message.as_deref() {
        // Every message in a topic seems to answer the one that made the topic.
        if target.forum_topic_created.is_some() && Some(target.message_id) == message.message_thread_id {
            return None;
        }
        return Some(ReplyTo {
            message: MessageRef::from(MessageId::new(target.message_id)),
            chat: (target.chat.id != message.chat.id).then(|| ChatId::new(target.chat.id)),
            quoted_text: quote.or_else(|| content::words(target)),
            sender: content::author(target),
        });
    }
    let external = message.external_reply.as_ref()?;
    let origin = external.origin.as_ref().map(forward).unwrap_or_default();
    let id = external.message_id.map(MessageId::new).or(origin.message)?;
    Some(ReplyTo {
        message: MessageRef::from(id),
        chat: external.chat.as_ref().map(|chat| ChatId::new(chat.id)).or_else(|| origin.chat.map(|chat| chat.id)),
        quoted_text: quote,
        sender: origin.sender.or_else(|| external.chat.as_ref().map(people::chat_as_user)),
    })
}

/// Where a message came from; every kind of origin says a part of it.
fn forward(origin: &api::Origin) -> Forward {
    let chat = origin.sender_chat.as_ref().or(origin.chat.as_ref());
    Forward {
        sender: origin.sender_user.as_ref().map(people::user),
        sender_name: origin.sender_user_name.clone(),
        chat: chat.map(people::chat),
        message: origin.message_id.map(MessageId::new),
        at: millis(origin.date),
        count: None,
    }
}
