//! Why a channel's own work failed: starting, taking events, asking the host.

use crate::connection::ConnectionState;
use crate::http::HttpFailure;
use crate::outcome::{ErrorCode, NextActor, SendError};

/// Why starting, polling or taking an event failed, and what the connection is from now on.
///
/// Nothing of a call that fails so is stored: neither its events nor its key-value entries.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelError {
    /// What went wrong and who acts next.
    pub error: SendError,
    /// The connection's state from now on; `disconnected` and tried again when absent. Said as `disconnected` and
    /// transient, the instance begins anew.
    pub state: Option<Box<ConnectionState>>,
}

impl ChannelError {
    /// Something failed that may work later.
    pub fn transient(message: impl Into<String>) -> Self {
        Self { error: SendError::transient(message), state: None }
    }

    /// The same input will always fail so: the event is no good. The host puts it into the dead letters.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self { error: SendError::invalid(message), state: None }
    }

    /// Trying again will not help before somebody changes something (the configuration, another program that uses the
    /// same account).
    pub fn stopped(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            error: SendError::new(ErrorCode::NotConnected, NextActor::Operator, reason.clone()),
            state: Some(Box::new(ConnectionState::Disconnected { reason, transient: false })),
        }
    }

    /// The instance has to begin anew, as after a start that failed: how it is connected is no longer right (another number
    /// of sockets, credentials that were just put in).
    pub fn restart(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            error: SendError::transient(reason.clone()),
            state: Some(Box::new(ConnectionState::Disconnected { reason, transient: true })),
        }
    }

    /// The network no longer accepts the credentials; `user_action` is the sentence that says what to do.
    pub fn logged_out(reason: impl Into<String>, user_action: impl Into<String>) -> Self {
        let reason = reason.into();
        Self {
            error: SendError::unauthorized(reason.clone()),
            state: Some(Box::new(ConnectionState::LoggedOut { reason, user_action: user_action.into() })),
        }
    }
}

impl std::fmt::Display for ChannelError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error.message)
    }
}

impl std::error::Error for ChannelError {}

impl From<SendError> for ChannelError {
    fn from(error: SendError) -> Self {
        Self { error, state: None }
    }
}

impl From<HttpFailure> for ChannelError {
    fn from(failure: HttpFailure) -> Self {
        Self::transient(failure.message)
    }
}

impl From<HttpFailure> for SendError {
    /// A call that may have reached the network has an unknown outcome.
    fn from(failure: HttpFailure) -> Self {
        if failure.sent { Self::uncertain(failure.message) } else { Self::transient(failure.message) }
    }
}

impl From<HostError> for ChannelError {
    fn from(error: HostError) -> Self {
        Self::transient(error.0)
    }
}

impl From<HostError> for SendError {
    fn from(error: HostError) -> Self {
        Self::transient(error.0)
    }
}

impl From<serde_json::Error> for ChannelError {
    fn from(error: serde_json::Error) -> Self {
        Self::invalid(format!("the network sent something that is not what it should be: {error}"))
    }
}

/// A service that the host could not or would not give, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError(pub String);

impl std::fmt::Display for HostError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HostError {}
