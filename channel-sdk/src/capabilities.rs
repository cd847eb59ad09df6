//! What a channel can do, with the limits. The host refuses or falls back by it before a channel is called.

use crate::chat::ChatKind;
use crate::wire::open_words;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What a channel can do in general, or (narrowed) in one chat. Absent means "cannot".
///
/// Every capability that is declared here has a name, [`Capabilities::names`], and the conformance kit fails a channel
/// that declares one which no test proves.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Capabilities {
    /// The sorts of chat it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub chat_kinds: Vec<ChatKind>,
    /// What can be sent, by content type (`text`, `image`, `location` …).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub send: BTreeMap<String, ContentLimits>,
    /// What can be asked for beside sending, by request type (`edit`, `react`, `history` …).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, RequestLimits>,
    /// Kinds of event it reports (`message`, `edit`, `reaction` …).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<String>,
    /// Whether a message can answer another.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub reply: bool,
    /// The kinds of formatting that arrive as meant, by entity type; others are sent as their plain words.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub formatting: Vec<String>,
    /// Most items in an album, when it has albums.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub album_max_items: Option<u32>,
    /// Whether the id of a sent message can be told before it is sent.
    #[serde(skip_serializing_if = "ClientIdSupport::is_none")]
    pub client_id: ClientIdSupport,
}

/// Limits on one type of content.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ContentLimits {
    /// Longest text, or caption, in [`unit`](Self::unit)s.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    /// What `maxLength` counts.
    #[serde(skip_serializing_if = "LengthUnit::is_default")]
    pub unit: LengthUnit,
    /// Largest file in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// MIME types that it takes, `image/*` allowed; any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mime_types: Vec<String>,
    /// Most options of a poll, or buttons, or contact cards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u32>,
    /// Longest of those in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_item_length: Option<u32>,
    /// Whether the network reads Markdown in the words: where a text is cut, blocks of code (```` ``` ````) stay whole, or are
    /// closed and opened again.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub markdown: bool,
    /// Whether the network itself can fetch a public address, so that the host need not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub by_url: bool,
}

/// Limits on one type of request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct RequestLimits {
    /// How old a message may be, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_age_seconds: Option<u64>,
    /// Most reactions of one account to one message; 1 when not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_items: Option<u32>,
    /// The only values that it takes (a list of emoji), any when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
}

/// What a length counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum LengthUnit {
    /// Unicode scalar values.
    #[default]
    Chars,
    /// UTF-16 code units.
    Utf16,
    /// Bytes of UTF-8.
    Bytes,
}

impl LengthUnit {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// The length of a text in this unit.
    pub fn measure(self, text: &str) -> usize {
        match self {
            Self::Chars => text.chars().count(),
            Self::Utf16 => text.encode_utf16().count(),
            Self::Bytes => text.len(),
        }
    }
}

open_words! {
    /// Whether our own id of a message travels with it.
    #[derive(Default)]
    pub enum ClientIdSupport {
        #[default]
        /// It does not: the network makes the id, and the answer to the send is all that tells it.
        "none" => None,
        /// It comes back with our echo, beside the network's id.
        "nonce" => Nonce,
        /// It *is* the network's id.
        "chosen" => Chosen,
    }
}

impl ClientIdSupport {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

impl Capabilities {
    /// Whether a content type can be sent.
    pub fn can_send(&self, content: &str) -> bool {
        self.send.contains_key(content)
    }

    /// Whether a request type can be asked.
    pub fn can(&self, request: &str) -> bool {
        request == "send" && !self.send.is_empty() || self.requests.contains_key(request)
    }

    /// The name of every capability that is declared: `send.text`, `request.edit`, `event.message`, `reply`, `album`.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.send.keys().map(|content| format!("send.{content}")).collect();
        names.extend(self.requests.keys().map(|request| format!("request.{request}")));
        names.extend(self.events.iter().map(|event| format!("event.{event}")));
        names.extend(self.reply.then(|| "reply".to_owned()));
        names.extend(self.album_max_items.map(|_| "album".to_owned()));
        names
    }
}
