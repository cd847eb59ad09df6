//! Reading what a network sends so that it cannot break a channel: a field that does not fit reads as absent, an element of
//! a list that does not fit is left out. One new word of a network's must not cost a whole message.
//!
//! ```
//! omni_channel_sdk::lenient_objects! {
//!     /// A message, as the network sends it.
//!     Message {
//!         must id: String;
//!         may text: String, sender: User;
//!         list photos: Photo;
//!     }
//!     User { must id: i64; may name: String; }
//!     Photo { must url: String; }
//! }
//!
//! let sent = r#"{"id": "1", "text": 7, "sender": {"id": 2}, "photos": [{"url": "a"}, {"link": "b"}, null]}"#;
//! let message: Message = serde_json::from_str(sent).unwrap();
//! assert_eq!((message.text, message.sender.map(|sender| sender.id), message.photos.len()), (None, Some(2), 1));
//! ```
//!
//! Deliberately not here: keeping what was not understood. An event carries the network's own words beside it.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The longest list. The host takes no event with more than 10,000 items, and what it does not take may come again for ever.
pub const MOST_ITEMS: usize = 1_000;

/// The longest word that is an id. The networks' have some hundred letters; the host takes a thousand.
const LONGEST_ID: usize = 500;

/// A word that goes on as an id, or as part of one: neither empty nor without end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct Id(String);

impl TryFrom<String> for Id {
    type Error = &'static str;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        if (1..=LONGEST_ID).contains(&word.len()) { Ok(Self(word)) } else { Err("an id is empty, or has no end") }
    }
}

impl Id {
    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a value nests deeper than this. Each level costs stack while it is read, and the host takes no event that nests
/// deeper than 100.
pub fn nests_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| nests_deeper(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|field| nests_deeper(field, levels - 1)),
        _ => false,
    }
}

/// A field that does not fit reads as absent. For `#[serde(default, deserialize_with = "…")]`.
pub fn field<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

/// An element that does not fit is left out; what is no list, or one of more than [`MOST_ITEMS`], reads as an empty one.
pub fn list<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(items) if items.len() <= MOST_ITEMS => {
            items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect()
        }
        _ => Vec::new(),
    })
}

/// An element that does not fit is left out, whatever the number of the others: for lists whose elements become events of
/// their own.
pub fn every<'de, D: Deserializer<'de>, T: DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::Array(items) => items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect(),
        _ => Vec::new(),
    })
}

/// Declares objects of a network: fields that must be there, fields that may, lists, and lists without a limit (`every`). See [`lenient`](crate::lenient).
#[macro_export]
macro_rules! lenient_objects {
    ($($(#[$meta:meta])* $name:ident {
        $(must $($must:ident: $must_type:ty),+;)?
        $(may $($may:ident: $may_type:ty),+;)?
        $(list $($list:ident: $list_type:ty),+;)?
        $(every $($every:ident: $every_type:ty),+;)?
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, $crate::__serde::Deserialize)]
        #[serde(crate = "omni_channel_sdk::__serde")]
        pub struct $name {
            $($(pub $must: $must_type,)+)?
            $($(#[serde(default, deserialize_with = "omni_channel_sdk::lenient::field")] pub $may: Option<$may_type>,)+)?
            $($(#[serde(default, deserialize_with = "omni_channel_sdk::lenient::list")] pub $list: Vec<$list_type>,)+)?
            $($(#[serde(default, deserialize_with = "omni_channel_sdk::lenient::every")] pub $every: Vec<$every_type>,)+)?
        }
    )*};
}
