//! Users and chats, and the ids that we make for chats.
//!
//! A message id of Telegram's is unique within a Telegram chat, and that is what a chat id of ours names; what has to be
//! said beside it to write to the same place again stands behind a slash (see [`Target`]).

use crate::api;
use omni_channel_sdk::prelude::*;
use serde_json::Map;

/// Where a message goes: what a chat id of ours stands for.
///
/// `<chat>` a chat, or `@name` of a public one; `<chat>/<thread>` a topic of a forum; `<chat>/d<topic>` a topic in the
/// direct messages of a channel; `<chat>/b<connection>` a private chat of the business account that the bot works for.
/// The last is another conversation than the bot's own with the same person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The number, or `@name`.
    pub chat: String,
    /// Which corner of it.
    pub corner: Corner,
}

/// A part of a Telegram chat that is a chat of its own to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Corner {
    /// The chat itself.
    Whole,
    /// A topic of a forum.
    Topic(i64),
    /// A topic in the direct messages of a channel.
    Direct(i64),
    /// Seen through a business connection.
    Business(String),
}

impl Target {
    /// Reads a chat id of ours.
    pub fn parse(id: &ChatId) -> Result<Self, SendError> {
        let wrong = || {
            let what = "it must be a number, @name, or one of them with /<topic> behind it";
            SendError::new(ErrorCode::ChatNotFound, NextActor::Caller, format!("{id} is no Telegram chat: {what}"))
        };
        let (chat, corner) = match id.as_str().split_once('/') {
            None => (id.as_str(), Corner::Whole),
            Some((chat, rest)) => (chat, Corner::parse(rest).ok_or_else(wrong)?),
        };
        let named = chat.strip_prefix('@').is_some_and(|name| !name.is_empty());
        if !named && chat.parse::<i64>().is_err() {
            return Err(wrong());
        }
        Ok(Self { chat: chat.to_owned(), corner })
    }

    /// The chat id of ours for it.
    pub fn id(&self) -> ChatId {
        let chat = &self.chat;
        match &self.corner {
            Corner::Whole => ChatId::new(chat),
            Corner::Topic(topic) => ChatId(format!("{chat}/{topic}")),
            Corner::Direct(topic) => ChatId(format!("{chat}/d{topic}")),
            Corner::Business(connection) => ChatId(format!("{chat}/b{connection}")),
        }
    }

    /// `chat_id`, as Telegram takes it.
    pub fn chat_value(&self) -> Value {
        self.chat.parse::<i64>().map_or_else(|_| Value::from(self.chat.as_str()), Value::from)
    }

    /// Names the chat in a call that acts on a message.
    pub fn name_chat(&self, params: &mut Map<String, Value>) {
        params.insert("chat_id".into(), self.chat_value());
        if let Corner::Business(connection) = &self.corner {
            params.insert("business_connection_id".into(), connection.as_str().into());
        }
    }

    /// Names the chat, and the corner of it, in a call that writes something new.
    pub fn name_place(&self, params: &mut Map<String, Value>) {
        self.name_chat(params);
        match self.corner {
            Corner::Topic(topic) => drop(params.insert("message_thread_id".into(), topic.into())),
            Corner::Direct(topic) => drop(params.insert("direct_messages_topic_id".into(), topic.into())),
            Corner::Whole | Corner::Business(_) => {}
        }
    }
}

impl Corner {
    fn parse(words: &str) -> Option<Self> {
        if let Some(connection) = words.strip_prefix('b') {
            return (!connection.is_empty()).then(|| Self::Business(connection.to_owned()));
        }
        match words.strip_prefix('d') {
            Some(topic) => topic.parse().ok().map(Self::Direct),
            None => words.parse().ok().map(Self::Topic),
        }
    }
}

/// A Telegram chat without any corner of it.
pub fn chat(chat: &api::Chat) -> Chat {
    let kind = match chat.r#type.as_deref() {
        Some("private") => ChatKind::Direct,
        Some("channel") => ChatKind::Channel,
        Some(_) => ChatKind::Group,
        // Some test servers leave the type out; Telegram gives people positive numbers and all else negative ones.
        None if chat.id > 0 => ChatKind::Direct,
        None => ChatKind::Group,
    };
    let mut found = Chat::new(ChatId::new(chat.id), kind);
    found.name = chat_name(chat);
    found.description = chat.description.clone().or_else(|| chat.bio.clone());
    found.avatar = chat.photo.as_ref().map(|photo| MediaRef::new(&photo.big_file_id));
    found
}

fn chat_name(chat: &api::Chat) -> Option<String> {
    chat.title.clone().or_else(|| full_name(chat.first_name.as_deref(), chat.last_name.as_deref()))
}

/// The chat that a message is in.
pub fn chat_of(message: &api::Message) -> Chat {
    let mut found = chat(&message.chat);
    let place = |corner| Target { chat: message.chat.id.to_string(), corner }.id();
    if let Some(connection) = &message.business_connection_id {
        found.id = place(Corner::Business(connection.as_str().to_owned()));
    } else if let Some(topic) = &message.direct_messages_topic {
        thread(&mut found, place(Corner::Direct(topic.topic_id)));
    } else if let (Some(topic), Some(true)) = (message.message_thread_id, message.is_topic_message) {
        // Without `is_topic_message` a thread id is only a chain of replies.
        thread(&mut found, place(Corner::Topic(topic)));
        found.name = topic_name(message);
    }
    found
}

fn thread(chat: &mut Chat, id: ChatId) {
    chat.parent = Some(std::mem::replace(&mut chat.id, id));
    chat.kind = ChatKind::Thread;
    chat.name = None;
    chat.description = None;
    chat.avatar = None;
}

/// The title of a topic: on the message that made or renamed it, and on the one that every message in it seems to answer.
fn topic_name(message: &api::Message) -> Option<String> {
    let named = |message: &api::Message| {
        message
            .forum_topic_edited
            .as_ref()
            .or(message.forum_topic_created.as_ref())
            .and_then(|topic| topic.name.clone())
    };
    named(message).or_else(|| message.reply_to_message.as_deref().and_then(named))
}

/// An account.
pub fn user(user: &api::User) -> User {
    let mut found = User::new(UserId::new(user.id));
    found.name = full_name(user.first_name.as_deref(), user.last_name.as_deref());
    found.username = user.username.clone();
    found.language = user.language_code.clone();
    found.is_bot = user.is_bot.unwrap_or(false);
    found
}

/// A chat that writes in its own name.
pub fn chat_as_user(chat: &api::Chat) -> User {
    let mut found = User::new(UserId::new(chat.id));
    found.name = chat_name(chat);
    found.username = chat.username.clone();
    found
}

fn full_name(first: Option<&str>, last: Option<&str>) -> Option<String> {
    let words: Vec<&str> = [first, last].into_iter().flatten().filter(|name| !name.is_empty()).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

/// Somebody who did something, told apart from the bot itself.
pub fn actor(who: &api::User, me: i64) -> Sender {
    Sender { user: user(who), is_from_me: who.id == me, on_behalf_of: None }
}

/// Somebody who did something, or the chat in whose name they did it.
pub fn actor_or_chat(who: Option<&api::User>, chat: Option<&api::Chat>, me: i64) -> Option<Sender> {
    match (chat, who) {
        (Some(chat), who) => Some(Sender {
            user: chat_as_user(chat),
            is_from_me: who.is_some_and(|who| who.id == me),
            on_behalf_of: Some(ChatId::new(chat.id)),
        }),
        (None, Some(who)) => Some(actor(who, me)),
        (None, None) => None,
    }
}
