//! Messages to the networks: accept, claim, deliver, settle.

use crate::instances::InstanceError;
use crate::store::StoreError;
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::Emoji;
use omni_channel_sdk::outcome::SendError;
use std::time::Duration;
use uuid::Uuid;

/// Where a message goes, as the API names it.
#[derive(Clone, Debug)]
pub enum Target {
    /// As written by a caller: our chat's UUID, a person's UUID (their most recent direct chat on this instance), or
    /// the network's id.
    Any(String),
}

/// One message to be sent, not yet split.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The id of the call, when whoever asks has chosen one (an `Idempotency-Key`): a second accept with the same id
    /// answers what the first one made, and makes nothing.
    pub send_id: Option<Uuid>,
    /// Through which instance.
    pub instance_id: Uuid,
    /// Where to.
    pub to: Target,
    /// What. Media in it names a `blob` of the media store or a public `url`.
    pub content: Content,
    /// What it answers: our message UUID or the network's id.
    pub reply_to: Option<String>,
    /// Further options of one network.
    pub options: std::collections::BTreeMap<String, serde_json::Value>,
}

/// A change to a message that exists. `message` is our UUID, or the network's id together with `chat`.
#[derive(Clone, Debug)]
pub struct Change {
    /// The id of the call, when whoever asks has chosen one (an `Idempotency-Key`): a second accept with the same id
    /// answers what the first one made, and makes nothing.
    pub send_id: Option<Uuid>,
    /// Through which instance; may be absent when `message` is our UUID.
    pub instance_id: Option<Uuid>,
    /// The chat, when `message` is the network's id.
    pub chat: Option<String>,
    /// Which message.
    pub message: String,
    /// What becomes of it.
    pub action: Action,
}

/// What becomes of a message.
#[derive(Clone, Debug)]
pub enum Action {
    /// New content.
    Edit(Content),
    /// Taken back.
    Delete,
    /// Our reactions, whole.
    React(Vec<Emoji>),
}

/// What was accepted: durable, and on its way.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// The call that it belongs to; parts are numbered within it.
    pub send_id: Uuid,
    /// The first part's message.
    pub message_id: Uuid,
    /// How many parts.
    pub parts: u32,
    /// The network's id of the chat.
    pub chat: String,
    /// The first part's reference when the message is already known to the network (edits, reactions).
    pub target: Option<MessageRef>,
}

/// How far a call has come.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The network took every part.
    Sent {
        /// The network's id of the first part.
        external_id: String,
    },
    /// Not yet settled.
    Pending,
    /// The outcome is not known and is being reconciled; it is not repeated.
    Unknown {
        /// Why.
        message: String,
    },
    /// Given up.
    Failed {
        /// Why, and who acts next.
        error: SendError,
    },
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum OutboundError {
    /// The request is wrong: the sentence says what, and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The channel cannot do this, or not so large.
    #[error("{0}")]
    Unsupported(String),
    /// There is no such chat, person or message.
    #[error("{0}")]
    NotFound(String),
    /// The instance is missing or its plugin is.
    #[error(transparent)]
    Instance(#[from] InstanceError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle that the API uses. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbound {}

#[expect(clippy::unused_async, unused_variables, reason = "signatures first")]
impl Outbound {
    /// Checks a message against the instance's capabilities, splits it, and makes it durable.
    pub async fn accept(&self, message: NewMessage) -> Result<Accepted, OutboundError> {
        Err(OutboundError::Invalid("not built".into()))
    }

    /// The same for a change of a message.
    pub async fn accept_change(&self, change: Change) -> Result<Accepted, OutboundError> {
        Err(OutboundError::Invalid("not built".into()))
    }

    /// Waits until every part is settled, or `wait` has passed.
    pub async fn outcome(&self, accepted: &Accepted, wait: Duration) -> Result<Outcome, OutboundError> {
        Ok(Outcome::Pending)
    }
}
