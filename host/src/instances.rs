//! Instances: what people make, connect and look at. Each connected one is supervised by a task of its own.

use crate::store::{StoreError, Time};
use omni_channel_sdk::SendError;
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::WebhookRequest;
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::request::{Reply, Request};
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
}

/// Why something could not be done with an instance.
#[derive(Debug, thiserror::Error)]
pub enum InstanceError {
    /// There is no such instance.
    #[error("there is no instance {0}")]
    NotFound(String),
    /// The request is wrong: the sentence says what and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The name is taken.
    #[error("{0}")]
    Conflict(String),
    /// No plugin for its channel is loaded: the sentence says which are.
    #[error("{0}")]
    NoPlugin(String),
    /// It is not connected: the sentence says why and what to do.
    #[error("{0}")]
    NotConnected(String),
    /// The channel refused or failed.
    #[error("{0}")]
    Channel(#[from] SendError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle that the API, the CLI's offline commands and outbound use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Instances {}

type Result<T, E = InstanceError> = std::result::Result<T, E>;

#[expect(clippy::unused_async, unused_variables, reason = "signatures first")]
impl Instances {
    /// Makes an instance, and connects it at once when its configuration is complete (then it is active).
    pub async fn create(&self, new: NewInstance) -> Result<Instance> {
        Err(InstanceError::NotFound(new.name))
    }

    /// All of them (they are few), by name; `channel` narrows.
    pub async fn list(&self, channel: Option<&str>) -> Result<Vec<Instance>> {
        Ok(Vec::new())
    }

    /// One, by id.
    pub async fn get(&self, id: Uuid) -> Result<Instance> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// One, by id or name, as a person types it.
    pub async fn find(&self, id_or_name: &str) -> Result<Instance> {
        Err(InstanceError::NotFound(id_or_name.to_owned()))
    }

    /// Changes one; a connected one is restarted when its configuration changed.
    pub async fn update(&self, id: Uuid, change: InstanceChange) -> Result<Instance> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Ends and deletes one, with its chats, messages and state.
    pub async fn delete(&self, id: Uuid) -> Result<()> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Wants it connected. Does nothing to one that already is; waits up to `wait` for the first outcome.
    pub async fn connect(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Wants it disconnected, and waits until it has ended.
    pub async fn disconnect(&self, id: Uuid) -> Result<Instance> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Disconnects and connects.
    pub async fn restart(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Makes a move in its login. Starts it first when it does not run.
    pub async fn login(&self, id: Uuid, call: LoginCall) -> Result<LoginStep> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Asks the channel for something that is not a message (typing, profile, directory, history …).
    pub async fn request(&self, id: Uuid, request: Request) -> Result<Reply> {
        Err(InstanceError::NotFound(id.to_string()))
    }

    /// Hands a request from the network to the channel's webhook ingress; verified, and answered once the events in it
    /// are durable.
    pub async fn webhook(&self, id: Uuid, request: WebhookRequest) -> Result<HttpResponse> {
        Err(InstanceError::NotFound(id.to_string()))
    }
}
