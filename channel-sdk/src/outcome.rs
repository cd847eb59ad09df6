//! How a request ended, and who acts next when it failed.

use crate::ids::MessageId;
use crate::ids::PartId;
use crate::wire::open_words;
use serde::{Deserialize, Serialize};

open_words! {
    /// Who has to act before the same request can succeed.
    pub enum NextActor {
        /// Whoever asked: the request itself is wrong (no such chat, text too long).
        "caller" => Caller,
        /// Nobody: asked again later, perhaps after `retryAfterMs`, it may succeed.
        "retry" => Retry,
        /// The operator: log in again, give the bot a right, pay a bill.
        "operator" => Operator,
        /// Us: a bug in the channel or the host.
        "us" => Us,
    }
}

open_words! {
    /// What went wrong, in words that programs can tell apart.
    pub enum ErrorCode {
        /// The channel cannot do this at all.
        "unsupported" => Unsupported,
        /// The request does not make sense to the network.
        "invalid" => Invalid,
        /// No such chat, or this account is not in it.
        "chatNotFound" => ChatNotFound,
        /// No such message, or it can no longer be changed.
        "messageNotFound" => MessageNotFound,
        /// The text, the file or the list is larger than the network takes.
        "tooLarge" => TooLarge,
        /// Too late: the network only allows it for a while.
        "tooOld" => TooOld,
        /// The account has no right to do this here.
        "forbidden" => Forbidden,
        /// The other side has blocked the account.
        "blocked" => Blocked,
        /// Slow down.
        "rateLimited" => RateLimited,
        /// The credentials are no longer good.
        "unauthorized" => Unauthorized,
        /// The network did not answer, or not in time.
        "unreachable" => Unreachable,
        /// The network failed.
        "network" => Network,
        /// The instance is not connected.
        "notConnected" => NotConnected,
        /// The file could not be had.
        "media" => Media,
        /// A bug.
        "internal" => Internal,
    }
}

/// Why a request failed. Made with the constructors, which set who acts next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SendError {
    /// What went wrong.
    pub code: ErrorCode,
    /// The sentence that a person reads, without secrets: what was wrong, where, what to do.
    pub message: String,
    /// Who acts next.
    pub next: NextActor,
    /// How long to wait before trying again, in milliseconds, when the network said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
    /// Whether it is certain that nothing was done. When it is not, the host never just repeats the request.
    pub certain: bool,
}

impl SendError {
    /// An error that is certain: nothing was done.
    pub fn new(code: ErrorCode, next: NextActor, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), next, retry_after_ms: None, certain: true }
    }

    /// The channel cannot do this.
    pub fn unsupported(what: &str) -> Self {
        Self::new(ErrorCode::Unsupported, NextActor::Caller, format!("this channel does not support {what}"))
    }

    /// The request is wrong; asking again will not help.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Invalid, NextActor::Caller, message)
    }

    /// The network asked to wait.
    pub fn rate_limited(retry_after_ms: u64, message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorCode::RateLimited, NextActor::Retry, message);
        error.retry_after_ms = Some(retry_after_ms);
        error
    }

    /// The credentials are no longer good.
    pub fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unauthorized, NextActor::Operator, message)
    }

    /// The network certainly did nothing and may do it later.
    pub fn transient(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Network, NextActor::Retry, message)
    }

    /// It is not known whether the network did it: the connection broke after the request was written.
    pub fn uncertain(message: impl Into<String>) -> Self {
        let mut error = Self::new(ErrorCode::Unreachable, NextActor::Retry, message);
        error.certain = false;
        error
    }

    /// A bug of the channel or the host.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, NextActor::Us, message)
    }
}

impl std::fmt::Display for SendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for SendError {}

/// What the network said when it took a message. "Taken", never "read".
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SendReceipt {
    /// The id that the network gave the message.
    pub message_id: MessageId,
    /// Which part of it, when it is one of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<PartId>,
    /// When the network took it, milliseconds since 1970; the host's own time when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<i64>,
    /// The chat it really went to, when that is another id than was asked for: both are one chat from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<crate::ids::ChatId>,
    /// The chat that the message began, and is in: a post of a forum. What was asked for stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began: Option<Box<crate::chat::Chat>>,
    /// The receipts of the other items of an album, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub album: Vec<SendReceipt>,
}

impl SendReceipt {
    /// A receipt that says no more than the id.
    pub fn new(message_id: impl Into<MessageId>) -> Self {
        Self { message_id: message_id.into(), part: None, at: None, chat_id: None, began: None, album: Vec::new() }
    }
}
