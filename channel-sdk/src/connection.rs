//! Whether an instance is connected, since when, why not, and what to do about it.

use serde::{Deserialize, Serialize};

/// What the connection of an instance is doing. Connecting cannot fail as a call: a channel reports states.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "state", rename_all = "snake_case", rename_all_fields = "camelCase")]
pub enum ConnectionState {
    /// On the way.
    Connecting,
    /// Messages flow.
    Connected {
        /// Who this account is on the network.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        profile: Option<Profile>,
        /// What the network does not let it do for now, although it is connected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limited: Option<Box<Limited>>,
    },
    /// Somebody has to log in: the current login step says how.
    WaitingForLogin,
    /// Not connected at this moment; the host tries again by itself.
    Disconnected {
        /// Why, in a sentence.
        reason: String,
        /// Whether trying again may help. When not, somebody has to change something first.
        transient: bool,
    },
    /// The network no longer accepts the credentials. The host does not try again.
    LoggedOut {
        /// Why, in a sentence.
        reason: String,
        /// What a person has to do now, in a sentence.
        user_action: String,
    },
}

/// What a network does not let an account do for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limited {
    /// What, and why, in a sentence.
    pub reason: String,
    /// Until when, milliseconds since 1970, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
}

impl ConnectionState {
    /// Connected, and nothing is in the way.
    pub fn connected(profile: impl Into<Option<Profile>>) -> Self {
        Self::Connected { profile: profile.into(), limited: None }
    }

    /// The word for the state as it is written on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected { .. } => "connected",
            Self::WaitingForLogin => "waiting_for_login",
            Self::Disconnected { .. } => "disconnected",
            Self::LoggedOut { .. } => "logged_out",
        }
    }
}

/// Who an account is on its network.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// The account's id on the network.
    pub id: String,
    /// The name that people see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The handle without `@`, or the phone number in E.164.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Its picture, as a public address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub avatar_url: Option<String>,
}
