//! What we read of Discord's objects, and nothing else of them.
//!
//! Everything that may be absent has a default, and what is not read is not looked at: Discord adds fields and kinds at any
//! time. A number that JavaScript could not hold comes as text. Deliberately no behaviour here beyond what an id says.

#![expect(missing_docs, reason = "the fields have Discord's own names, and its documentation says what they are")]

use serde::{Deserialize, Deserializer};
use serde_json::Value;

mod message;

pub use message::*;

/// The first second of 2015 in milliseconds since 1970: where Discord's ids begin to count.
const EPOCH_MS: i64 = 1_420_070_400_000;

/// When an id was made, in milliseconds since 1970.
pub fn time_of(id: &str) -> Option<i64> {
    let id: u64 = id.parse().ok()?;
    i64::try_from(id >> 22).ok()?.checked_add(EPOCH_MS)
}

/// The smallest id that could have been made at a time.
pub fn id_at(at_ms: i64) -> String {
    let since = u64::try_from(at_ms.saturating_sub(EPOCH_MS)).unwrap_or(0);
    (since << 22).to_string()
}

/// A time as Discord writes it, in milliseconds since 1970.
pub fn millis(time: &str) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(time).ok().map(|time| time.timestamp_millis())
}

/// `null` is as good as absent.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// An id that has to be there.
fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let id = String::deserialize(deserializer)?;
    if id.is_empty() { Err(serde::de::Error::custom("an id is empty")) } else { Ok(id) }
}

/// An id that may be absent; an empty one is none.
pub fn maybe_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.filter(|id| !id.is_empty()))
}

/// Items that are not as they should be are left out of a list.
fn readable<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let items: Vec<Value> = or_default(deserializer)?;
    Ok(items.into_iter().filter_map(|item| serde_json::from_value(item).ok()).collect())
}

/// A user.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct User {
    #[serde(deserialize_with = "id")]
    pub id: String,
    #[serde(default)]
    pub username: Option<String>,
    #[serde(default)]
    pub global_name: Option<String>,
    #[serde(default)]
    pub avatar: Option<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub bot: bool,
    /// In `mentions` of a message: who they are in its guild.
    #[serde(default)]
    pub member: Option<Box<Member>>,
}

/// A user in a guild.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Member {
    pub user: Option<User>,
    pub nick: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub roles: Vec<String>,
    /// Until when they may only look.
    pub communication_disabled_until: Option<String>,
}

/// A channel, or a thread.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Channel {
    pub id: String,
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u8,
    #[serde(deserialize_with = "maybe_id")]
    pub guild_id: Option<String>,
    pub name: Option<String>,
    pub topic: Option<String>,
    #[serde(deserialize_with = "maybe_id")]
    pub parent_id: Option<String>,
    /// Who began a thread.
    #[serde(deserialize_with = "maybe_id")]
    pub owner_id: Option<String>,
    pub last_message_id: Option<String>,
    pub member_count: Option<u64>,
    #[serde(deserialize_with = "readable")]
    pub recipients: Vec<User>,
    #[serde(deserialize_with = "readable")]
    pub permission_overwrites: Vec<Overwrite>,
    /// Of a thread that was just made.
    #[serde(deserialize_with = "or_default")]
    pub newly_created: bool,
    pub thread_metadata: Option<ThreadMetadata>,
}

/// How a thread stands.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct ThreadMetadata {
    /// Whether only those who manage threads may open it again.
    #[serde(deserialize_with = "or_default")]
    pub locked: bool,
}

/// What is allowed and denied to a role (0) or a member (1) in a channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Overwrite {
    pub id: String,
    #[serde(rename = "type")]
    pub kind: u8,
    pub allow: String,
    pub deny: String,
}

/// A role.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Role {
    pub id: String,
    pub name: String,
    pub permissions: String,
}

/// A guild.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Guild {
    pub id: String,
    pub name: Option<String>,
    pub icon: Option<String>,
    pub description: Option<String>,
    pub owner_id: Option<String>,
    pub member_count: Option<u64>,
    pub approximate_member_count: Option<u64>,
    #[serde(deserialize_with = "or_default")]
    pub unavailable: bool,
    /// How far it is boosted.
    #[serde(deserialize_with = "or_default")]
    pub premium_tier: u8,
    #[serde(deserialize_with = "readable")]
    pub channels: Vec<Channel>,
    #[serde(deserialize_with = "readable")]
    pub threads: Vec<Channel>,
    #[serde(deserialize_with = "readable")]
    pub roles: Vec<Role>,
}

/// Something that a person did with a command, a button, a menu or a form.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Interaction {
    pub id: String,
    pub application_id: String,
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u8,
    pub token: String,
    #[serde(deserialize_with = "maybe_id")]
    pub guild_id: Option<String>,
    #[serde(deserialize_with = "maybe_id")]
    pub channel_id: Option<String>,
    pub channel: Option<Channel>,
    pub member: Option<Member>,
    pub user: Option<User>,
    pub message: Option<Box<Message>>,
    pub data: Option<InteractionData>,
}

/// What was done.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct InteractionData {
    pub name: Option<String>,
    /// Of a command: 1 typed, 2 on a user, 3 on a message.
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u8,
    #[serde(deserialize_with = "readable")]
    pub options: Vec<CommandOption>,
    pub resolved: Option<Value>,
    #[serde(deserialize_with = "maybe_id")]
    pub target_id: Option<String>,
    pub custom_id: Option<String>,
    #[serde(deserialize_with = "or_default")]
    pub component_type: u8,
    #[serde(deserialize_with = "readable")]
    pub values: Vec<String>,
    #[serde(deserialize_with = "readable")]
    pub components: Vec<Component>,
}

/// What was written behind a command.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct CommandOption {
    pub name: String,
    #[serde(rename = "type", deserialize_with = "or_default")]
    pub kind: u8,
    pub value: Option<Value>,
    #[serde(deserialize_with = "readable")]
    pub options: Vec<CommandOption>,
    #[serde(deserialize_with = "or_default")]
    pub focused: bool,
}

/// An application.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Application {
    pub id: String,
    pub name: Option<String>,
    /// What it may ask the gateway for, among others; absent where that is not said.
    pub flags: Option<u64>,
}

/// Where the gateway is and how it is to be used.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct GatewayBot {
    pub url: String,
    #[serde(deserialize_with = "or_default")]
    pub shards: u32,
    pub session_start_limit: SessionStartLimit,
}

/// How many sessions may still be begun.
#[derive(Clone, Debug, Deserialize)]
#[serde(default)]
pub struct SessionStartLimit {
    pub total: u32,
    pub remaining: u32,
    pub reset_after: u64,
    pub max_concurrency: u32,
}

impl Default for SessionStartLimit {
    fn default() -> Self {
        Self { total: 1_000, remaining: 1_000, reset_after: 0, max_concurrency: 1 }
    }
}

/// A webhook of a channel.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Webhook {
    pub id: String,
    pub token: Option<String>,
    pub application_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_when_it_was_made() {
        // Discord's own example.
        assert_eq!(time_of("175928847299117063"), Some(1_462_015_105_796));
        assert_eq!(time_of(&id_at(1_767_225_600_000)), Some(1_767_225_600_000));
        assert_eq!((time_of("no id"), id_at(0).as_str()), (None, "0"));
    }

    #[test]
    fn times_are_read() {
        assert_eq!(millis("2026-01-01T00:00:00.123000+00:00"), Some(1_767_225_600_123));
        assert_eq!(millis("yesterday"), None);
    }
}
