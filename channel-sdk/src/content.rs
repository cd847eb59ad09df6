//! What a message is made of. The same types describe what arrives and what is to be sent.

use crate::chat::User;
use crate::ids::{BlobId, MediaRef, MessageId};
use crate::wire::{open_enum, open_words};
use serde::{Deserialize, Serialize};

open_enum! {
    /// The content of a message.
    pub enum Content {
        /// Words.
        "text" => Text(Text),
        /// A picture.
        "image" => Image(Media),
        /// Sound; a voice note when [`Media::voice`] is set.
        "audio" => Audio(Media),
        /// A film; a loop without sound when [`Media::animation`] is set.
        "video" => Video(Media),
        /// Any other file.
        "document" => Document(Media),
        /// A sticker.
        "sticker" => Sticker(Media),
        /// A place.
        "location" => Location(Location),
        /// A place that moves for a while.
        "liveLocation" => LiveLocation(LiveLocation),
        /// Contact cards.
        "contact" => Contact(Contacts),
        /// A question with options.
        "poll" => Poll(Poll),
        /// Words with buttons or a list to choose from.
        "buttons" => Buttons(Buttons),
        /// Something that the network shows in the chat but nobody wrote (a pinned message, a new title).
        "system" => System(System),
    }
}

impl Content {
    /// Plain words.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(Text::plain(text))
    }

    /// The words in it: a text, a caption, a poll's question.
    pub fn words(&self) -> Option<&Text> {
        match self {
            Self::Text(text) => Some(text),
            Self::Image(media) | Self::Audio(media) | Self::Video(media) | Self::Document(media) => {
                media.caption.as_ref()
            }
            Self::Buttons(buttons) => Some(&buttons.text),
            _ => None,
        }
    }

    /// The file in it.
    pub fn media(&self) -> Option<&Media> {
        match self {
            Self::Image(media)
            | Self::Audio(media)
            | Self::Video(media)
            | Self::Document(media)
            | Self::Sticker(media) => Some(media),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn media_mut(&mut self) -> Option<&mut Media> {
        match self {
            Self::Image(media)
            | Self::Audio(media)
            | Self::Video(media)
            | Self::Document(media)
            | Self::Sticker(media) => Some(media),
            _ => None,
        }
    }
}

/// Words, with what is special about pieces of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Text {
    /// The words, without markup.
    pub text: String,
    /// Pieces with a meaning, in order of their start; they may nest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entities: Vec<Entity>,
}

impl Text {
    /// Words without any formatting.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), entities: Vec::new() }
    }
}

/// A piece of a text that means something.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Entity {
    /// Where it starts, in UTF-16 code units (as Telegram, WhatsApp and JavaScript count).
    pub offset: u32,
    /// How long it is, in UTF-16 code units.
    pub length: u32,
    /// What it means.
    #[serde(flatten)]
    pub kind: EntityKind,
}

open_enum! {
    /// What a piece of text means.
    pub enum EntityKind {
        /// Strong.
        "bold" => Bold(Plain),
        /// Emphasised.
        "italic" => Italic(Plain),
        /// Underlined.
        "underline" => Underline(Plain),
        /// Struck out.
        "strikethrough" => Strikethrough(Plain),
        /// Hidden until touched.
        "spoiler" => Spoiler(Plain),
        /// Quoted.
        "quote" => Quote(Plain),
        /// Code within a line.
        "code" => Code(Plain),
        /// A block of code.
        "pre" => Pre(Pre),
        /// Words that lead to an address.
        "link" => Link(Link),
        /// An address written out.
        "url" => Url(Plain),
        /// An e-mail address.
        "email" => Email(Plain),
        /// A phone number.
        "phone" => Phone(Plain),
        /// `#tag`.
        "hashtag" => Hashtag(Plain),
        /// A command to a bot, `/start`.
        "command" => Command(Plain),
        /// A person, a role or everybody, addressed.
        "mention" => Mention(Mention),
        /// An emoji of the network's own.
        "customEmoji" => CustomEmoji(CustomEmoji),
    }
}

/// An entity that needs no more than its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plain {}

/// A block of code.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Pre {
    /// Its language, if said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<String>,
}

/// Words that lead to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Link {
    /// The address.
    pub url: String,
}

/// Somebody addressed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Mention {
    /// The person, when the network says who; absent for a bare `@handle` and for everybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// A person, a role, a channel, everyone or all who are here.
    pub target: MentionTarget,
}

open_words! {
    /// Whom a mention addresses.
    pub enum MentionTarget {
        /// One account.
        "user" => User,
        /// A role.
        "role" => Role,
        /// Another chat.
        "channel" => Channel,
        /// All members.
        "everyone" => Everyone,
        /// All members who are online.
        "here" => Here,
    }
}

/// An emoji of the network's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CustomEmoji {
    /// The network's id for it.
    pub id: String,
}

/// A file. Inbound it says where the file can be had (`reference`); outbound what is to be sent (`blob` or `url`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Media {
    /// Where the host can have it fetched from, later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<MediaRef>,
    /// A file that the host holds and will stream into an HTTP call of the channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobId>,
    /// A public address that the network itself may fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The words below it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caption: Option<Text>,
    /// MIME type, as far as known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
    /// The name it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// Size in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Width in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// How long it plays, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// An audio that was recorded to be heard as speech (push to talk).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub voice: bool,
    /// A video that plays as a loop without sound (a "GIF").
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub animation: bool,
    /// Meant to be seen once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub view_once: bool,
    /// The emoji that a sticker stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub emoji: Option<String>,
    /// Loudness of a voice note, 0 to 100, evenly spaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waveform: Vec<u8>,
}

/// A place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// Degrees north, −90 to 90.
    pub latitude: f64,
    /// Degrees east, −180 to 180.
    pub longitude: f64,
    /// What is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How exact it is, in metres.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// A place that moves for a while. Each move arrives as an edit of the first message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct LiveLocation {
    /// Where it is now.
    #[serde(flatten)]
    pub location: Location,
    /// How long it is shared, in seconds from the message's time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period_seconds: Option<u64>,
    /// Direction of travel, 1 to 360 degrees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heading: Option<u16>,
}

/// Contact cards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Contacts {
    /// At least one.
    pub contacts: Vec<ContactCard>,
}

/// One contact card.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ContactCard {
    /// The name on it.
    pub name: String,
    /// Phone numbers as written on the card.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<String>,
    /// E-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub emails: Vec<String>,
    /// Where they work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<String>,
    /// Their account on this network, if the card names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<User>,
    /// The card as vCard (RFC 6350), when the network sent one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vcard: Option<String>,
}

/// A question with options.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Poll {
    /// The network's id for the poll, where it has one beside the message's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is asked.
    pub question: String,
    /// What can be answered, in order.
    pub options: Vec<PollOption>,
    /// How many options one person may choose; 1 when not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_choices: Option<u32>,
    /// Whether votes are secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub anonymous: bool,
    /// Whether voting has ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// When voting ends, milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<i64>,
}

/// One answer to a poll.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PollOption {
    /// The network's id for it; its position from 0 when the network has none.
    pub id: String,
    /// Its words.
    pub text: String,
    /// How many chose it, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub votes: Option<u64>,
}

/// Words with something to choose from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Buttons {
    /// The words above.
    pub text: Text,
    /// Rows of buttons, from top to bottom.
    pub rows: Vec<Vec<Button>>,
    /// The words on the button that opens a list, for networks that show rows as a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list_title: Option<String>,
}

/// One button.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Button {
    /// The words on it.
    pub text: String,
    /// What comes back in a button answer when it is touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// An address that it opens instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A second line, for networks that show rows as a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Something that the network shows in a chat although nobody wrote it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// What happened, in the network's own word (`pinned_message`, `new_chat_title`).
    pub event: String,
    /// It in words, when the network or the channel can say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// The message that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageId>,
}
