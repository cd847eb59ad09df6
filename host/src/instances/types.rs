//! What is said about instances: what they are, what is asked of them, and why that cannot be done.

use super::live::WebhookRefused;
use crate::hosts::Hosts;
use crate::http::plugin_listener::Intake;
use crate::plugins::Home;
use crate::plugins::session::CallError;
use crate::store::{StoreError, Time};
use crate::traces::Traces;
use omni_channel_sdk::SendError;
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::outcome::{ErrorCode, NextActor};
use serde_json::{Map, Value};
use std::time::Duration;
use uuid::Uuid;

/// One configured account of a channel, with what it is doing now. Secrets are named, never held.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Its id.
    pub id: Uuid,
    /// Its name, unique.
    pub name: String,
    /// The id of its channel.
    pub channel: String,
    /// Its configuration without secrets.
    pub config: Map<String, Value>,
    /// The names of the secrets that are set (`token`).
    pub secrets: Vec<String>,
    /// Whether a person wants it connected.
    pub is_active: bool,
    /// Whether it is the one that is used for its channel when none is named.
    pub is_default: bool,
    /// Where it is to run, when that is not left to the configuration.
    pub isolation: Option<Home>,
    /// The proxy that it goes by way of, when that is not the configuration's; without user and password.
    pub proxy: Option<String>,
    /// What its connection is doing.
    pub state: ConnectionState,
    /// Since when.
    pub state_since: Time,
    /// The name of the account on the network.
    pub profile_name: Option<String>,
    /// The picture of the account.
    pub profile_pic_url: Option<String>,
    /// The account's id on the network.
    pub owner_identifier: Option<String>,
    /// When a message last came or went.
    pub last_message_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// When it was last changed.
    pub updated_at: Time,
}

/// What is needed to make an instance.
#[derive(Clone, Debug, Default)]
pub struct NewInstance {
    /// Its name, unique, 1 to 100 characters.
    pub name: String,
    /// The id of its channel.
    pub channel: String,
    /// Short for the configuration's secret field `token`.
    pub token: Option<String>,
    /// As the channel's schema says; secrets among it are sealed.
    pub config: Map<String, Value>,
    /// Whether it becomes its channel's default.
    pub is_default: bool,
    /// Where it is to run, when that is not left to the configuration.
    pub isolation: Option<Home>,
    /// The proxy that it goes by way of, with user and password (`none` is the configuration's).
    pub proxy: Option<String>,
    /// Whether the operator asks, who may point it at private addresses.
    pub by_operator: bool,
    /// Whether it is not connected, complete as it may be.
    pub stays_disconnected: bool,
}

/// What is to be changed. Absent fields stay as they are; a `null` in `config` takes that field away.
#[derive(Clone, Debug, Default)]
pub struct InstanceChange {
    /// A new name.
    pub name: Option<String>,
    /// A new token.
    pub token: Option<String>,
    /// Fields to be set or taken away.
    pub config: Map<String, Value>,
    /// Whether it is its channel's default.
    pub is_default: Option<bool>,
    /// Where it is to run; `Some(None)` leaves that to the configuration again.
    pub isolation: Option<Option<Home>>,
    /// The proxy that it goes by way of, with user and password; `none` takes it away.
    pub proxy: Option<String>,
    /// Whether the operator asks, who may point it at private addresses.
    pub by_operator: bool,
}

/// Why something could not be done with an instance.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// There is no such instance.
    #[error("there is no instance {0:?}; see: omni instances list")]
    NotFound(String),
    /// The request is wrong: the sentence says what and what to do.
    #[error("{0}")]
    Invalid(String),
    /// Who asks may not do this: the sentence says what and who may.
    #[error("{0}")]
    NotAllowed(String),
    /// The name is taken.
    #[error("{0}")]
    Conflict(String),
    /// No plugin for its channel is loaded: the sentence says which are.
    #[error("{0}")]
    NoPlugin(String),
    /// Another host has it, which this one did not know: the sentence says which.
    #[error("{0}")]
    Elsewhere(String),
    /// It is not connected: the sentence says why and what to do.
    #[error("{0}")]
    NotConnected(String),
    /// The channel refused or failed.
    #[error("{0}")]
    Channel(#[from] SendError),
    /// A request from the network was refused.
    #[error("{0}")]
    Webhook(#[from] WebhookRefused),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How long channels may take, and where networks reach them.
#[derive(Clone, Debug)]
pub struct InstanceOptions {
    /// For a call.
    pub call_within: Duration,
    /// For a start.
    pub start_within: Duration,
    /// The host's public address, without a slash at its end.
    pub public_url: Option<String>,
    /// How much comes in on addresses of their own.
    pub intake: Intake,
    /// Makes spans of what comes in.
    pub traces: Traces,
    /// Which of them are this host's.
    pub hosts: Hosts,
}

impl Default for InstanceOptions {
    fn default() -> Self {
        Self {
            call_within: Duration::from_secs(30),
            start_within: Duration::from_secs(60),
            public_url: None,
            intake: Intake::default(),
            traces: Traces::default(),
            hosts: Hosts::alone(),
        }
    }
}

impl InstanceError {
    /// The same as whoever asked a channel gets it.
    pub fn into_send_error(self) -> SendError {
        match self {
            Self::Channel(error) => error,
            Self::Store(error) => SendError::transient(error.explain()),
            Self::NotConnected(message) | Self::NoPlugin(message) | Self::Elsewhere(message) => {
                SendError::new(ErrorCode::NotConnected, NextActor::Retry, message)
            }
            other => SendError::internal(other.to_string()),
        }
    }
}

/// A failed call as an instance error.
impl From<CallError> for InstanceError {
    fn from(error: CallError) -> Self {
        Self::Channel(error.into_send_error())
    }
}
