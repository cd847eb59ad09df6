//! Messages and what they are made of.

use super::{Channel, Member, User, maybe_id, or_default, readable};
use serde::Deserialize;
use serde_json::Value;

/// A message. Of a forwarded one only what its snapshot has is there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Message {
    pub id: String,
    pub channel_id: String,
    #[serde(deserialize_with = "maybe_id")]
    pub guild_id: Option<String>,
    pub author: Option<User>,
    pub member: Option<Member>,
    pub content: Option<String>,
    pub edited_timestamp: Option<String>,
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u32,
    #[serde(deserialize_with = "or_default")]
    pub mention_everyone: bool,
    #[serde(deserialize_with = "readable")]
    pub mentions: Vec<User>,
    #[serde(deserialize_with = "readable")]
    pub attachments: Vec<Attachment>,
    #[serde(deserialize_with = "readable")]
    pub embeds: Vec<Embed>,
    #[serde(deserialize_with = "readable")]
    pub sticker_items: Vec<Sticker>,
    #[serde(deserialize_with = "readable")]
    pub components: Vec<Component>,
    #[serde(deserialize_with = "readable")]
    pub reactions: Vec<ReactionCount>,
    pub poll: Option<Poll>,
    pub nonce: Option<Value>,
    pub webhook_id: Option<String>,
    pub application_id: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub flags: u64,
    pub message_reference: Option<Reference>,
    pub referenced_message: Option<Box<Message>>,
    #[serde(deserialize_with = "readable")]
    pub message_snapshots: Vec<Snapshot>,
    pub thread: Option<Channel>,
}

/// Which message another one answers or forwards.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reference {
    /// 0 for an answer, 1 for a forward.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u8,
    #[serde(deserialize_with = "maybe_id")]
    pub message_id: Option<String>,
    #[serde(deserialize_with = "maybe_id")]
    pub channel_id: Option<String>,
    #[serde(deserialize_with = "maybe_id")]
    pub guild_id: Option<String>,
}

/// What a forwarded message said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    pub message: Option<Box<Message>>,
}

/// A file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Attachment {
    pub id: String,
    pub filename: Option<String>,
    pub description: Option<String>,
    pub content_type: Option<String>,
    pub size: Option<u64>,
    pub url: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
    pub duration_secs: Option<f64>,
    pub waveform: Option<String>,
}

/// A sticker.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Sticker {
    pub id: String,
    pub name: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub format_type: u8,
}

/// What a link unfolds to, or a program laid out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Embed {
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub title: Option<String>,
    pub description: Option<String>,
    pub url: Option<String>,
    pub author: Option<Named>,
    pub footer: Option<Footer>,
    #[serde(deserialize_with = "readable")]
    pub fields: Vec<Field>,
    pub image: Option<Picture>,
    pub thumbnail: Option<Picture>,
}

/// A picture of an embed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Picture {
    /// Where Discord itself gives it out.
    pub proxy_url: Option<String>,
    pub width: Option<u32>,
    pub height: Option<u32>,
}

/// A field of an embed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Field {
    pub name: String,
    pub value: String,
}

/// Something with a name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Named {
    pub name: Option<String>,
}

/// The foot of an embed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Footer {
    pub text: Option<String>,
}

/// A row, a button, a menu, a field of a form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Component {
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u8,
    pub label: Option<String>,
    pub custom_id: Option<String>,
    pub url: Option<String>,
    pub value: Option<String>,
    pub placeholder: Option<String>,
    /// Of a piece of text that is laid out.
    pub content: Option<String>,
    #[serde(deserialize_with = "readable")]
    pub components: Vec<Component>,
    /// What stands in a labelled field of a form.
    pub component: Option<Box<Component>>,
    /// What stands beside a section.
    pub accessory: Option<Box<Component>>,
    #[serde(deserialize_with = "readable")]
    pub options: Vec<Choice>,
    #[serde(deserialize_with = "readable")]
    pub values: Vec<String>,
}

/// An entry of a menu.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Choice {
    pub label: String,
    pub value: String,
    pub description: Option<String>,
}

/// How many reacted with one emoji.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ReactionCount {
    #[serde(deserialize_with = "or_default")]
    pub count: u64,
    #[serde(deserialize_with = "or_default")]
    pub me: bool,
    pub emoji: Emoji,
}

/// An emoji; one of a guild has an id.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Emoji {
    #[serde(deserialize_with = "maybe_id")]
    pub id: Option<String>,
    pub name: Option<String>,
}

/// A poll.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Poll {
    pub question: PollMedia,
    #[serde(deserialize_with = "readable")]
    pub answers: Vec<PollAnswer>,
    pub expiry: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub allow_multiselect: bool,
    pub results: Option<PollResults>,
}

/// Words of a poll.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PollMedia {
    pub text: Option<String>,
    pub emoji: Option<Emoji>,
}

/// An answer of a poll.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PollAnswer {
    pub answer_id: u64,
    pub poll_media: PollMedia,
}

/// How a poll stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PollResults {
    #[serde(deserialize_with = "or_default")]
    pub is_finalized: bool,
    #[serde(deserialize_with = "readable")]
    pub answer_counts: Vec<AnswerCount>,
}

/// How many chose an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct AnswerCount {
    pub id: u64,
    pub count: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_in_a_list_is_left_out() {
        let message: Message =
            serde_json::from_str(r#"{"id": "1", "flags": null, "attachments": [3, {"id": "2"}], "mentions": null}"#)
                .expect("it is read");
        assert_eq!((message.attachments.len(), message.mentions.len()), (1, 0));
    }
}
