//! Who and where: chats, the people in them, and how a message names them.

use crate::ids::{ChatId, ClientId, MediaRef, MessageId, PartId, UserId};
use crate::wire::open_words;
use serde::{Deserialize, Serialize};

open_words! {
    /// What sort of conversation a chat is.
    pub enum ChatKind {
        /// Two parties.
        "direct" => Direct,
        /// Several people who may all write.
        "group" => Group,
        /// One side publishes, the other reads.
        "channel" => Channel,
        /// A thread or topic inside another chat, which is its `parent`.
        "thread" => Thread,
    }
}

/// A conversation, with as much of it as the channel knows at this moment.
///
/// Absent fields mean "no news", never "empty": a host keeps what it had. To clear a name, send `Some("")`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Chat {
    /// The network's id for it.
    pub id: ChatId,
    /// Direct, group, channel or thread.
    pub kind: ChatKind,
    /// The title people see. For a direct chat usually the other side's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The group that a topic belongs to, the channel that a thread hangs off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ChatId>,
    /// What it says about itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its picture, to be fetched later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<MediaRef>,
    /// How many people are in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participants: Option<u64>,
    /// Another id that this same chat is or was known by on the network; the host joins the two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub also_known_as: Option<ChatId>,
}

impl Chat {
    /// A chat of which only id and kind are known.
    pub fn new(id: impl Into<ChatId>, kind: ChatKind) -> Self {
        Self {
            id: id.into(),
            kind,
            name: None,
            parent: None,
            description: None,
            avatar: None,
            participants: None,
            also_known_as: None,
        }
    }

    /// The same chat with the title that people see.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// An account on the network, as far as an event tells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct User {
    /// The network's id for it.
    pub id: UserId,
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The handle without `@`, where the network has handles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Phone number in E.164 with `+`, only when the network vouches for it: people are recognised by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    /// E-mail address, only when the network vouches for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Their picture, to be fetched later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar: Option<MediaRef>,
    /// BCP 47 language tag of their app, if known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
    /// Whether it is a program.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_bot: bool,
}

impl User {
    /// A user of whom only the id is known.
    pub fn new(id: impl Into<UserId>) -> Self {
        Self {
            id: id.into(),
            name: None,
            username: None,
            phone: None,
            email: None,
            avatar: None,
            language: None,
            is_bot: false,
        }
    }

    /// The same user with the name that people see.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// Who wrote something, kept apart from the account through which we saw it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Sender {
    /// The author.
    #[serde(flatten)]
    pub user: User,
    /// Whether the author is the account of this instance: our own echo, or a human typing on the phone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_from_me: bool,
    /// The chat on whose behalf it was written (a channel posting in its group, an anonymous admin).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_behalf_of: Option<ChatId>,
}

impl From<User> for Sender {
    fn from(user: User) -> Self {
        Self { user, is_from_me: false, on_behalf_of: None }
    }
}

/// Names a message within its chat, or one part of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageRef {
    /// The message.
    pub id: MessageId,
    /// One part of it; absent for the only part.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartId>,
}

impl<T: Into<MessageId>> From<T> for MessageRef {
    fn from(id: T) -> Self {
        Self { id: id.into(), part: None }
    }
}

/// What a message answers, with as much of it as the network repeats.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(rename = "ReplyTo"))]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The message that is answered.
    #[serde(flatten)]
    pub message: MessageRef,
    /// The chat it is in, when it is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<ChatId>,
    /// Its text, or the piece of it that was quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quoted_text: Option<String>,
    /// Who wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<User>,
}

impl<T: Into<MessageId>> From<T> for Reply {
    fn from(id: T) -> Self {
        Self { message: id.into().into(), chat: None, quoted_text: None, sender: None }
    }
}

/// Where a forwarded message came from, as far as the network tells.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Forward {
    /// The original author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<User>,
    /// Their name, when the network hides who they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_name: Option<String>,
    /// The chat it was first written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat: Option<Chat>,
    /// The original message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
    /// When it was first written, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// How often it was forwarded before, where the network counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// Under which ids a message that we sent came back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Echo {
    /// The id that we chose before sending, when the network returns it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<ClientId>,
}
