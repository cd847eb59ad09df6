//! What an instance is doing at this moment, shared between its supervisor and whoever asks.

use super::farewell::Farewell;
use crate::plugins::session::Session;
use crate::store::Time;
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::{Webhook, WebhookRequest};
use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use uuid::Uuid;

/// How often it is logged that requests are not verified.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// A state and since when.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveState {
    /// The state.
    pub state: ConnectionState,
    /// Since when.
    pub since: Time,
}

/// A request from the network, waiting for the channel.
#[derive(Debug)]
pub struct WebhookJob {
    /// It.
    pub request: WebhookRequest,
    /// Where the answer goes. The error is a sentence, with whether the network should try again.
    pub answer: oneshot::Sender<Result<HttpResponse, WebhookRefused>>,
}

/// Why a request from the network was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebhookRefused {
    /// It is not from the network, as far as can be proved.
    #[error("{0}")]
    NotVerified(String),
    /// The channel says that it is no good; sending it again will not help.
    #[error("{0}")]
    Bad(String),
    /// Not now; the network should send it again.
    #[error("{0}")]
    NotNow(String),
    /// Larger than the channel takes.
    #[error("the body has more than the {0} bytes that are taken")]
    TooLarge(u64),
}

/// The webhook ingress of a running instance.
#[derive(Clone, Debug)]
pub struct WebhookGate {
    /// As the channel declared it, secrets filled in.
    pub webhook: Webhook,
    /// The queue in front of the channel.
    pub jobs: mpsc::Sender<WebhookJob>,
}

/// One instance's live side.
#[derive(Debug)]
pub struct Live {
    /// The instance.
    pub id: Uuid,
    /// What its connection is doing.
    pub state: watch::Sender<LiveState>,
    /// Its session, while it runs.
    pub session: watch::Sender<Option<Session>>,
    /// Whether it has ended by itself and not come up since: what it has set up on the network may still be there.
    pub is_cut_off: AtomicBool,
    gate: Mutex<Option<WebhookGate>>,
    /// Why it is ended, when it is not a person's wish.
    pub ending: OnceLock<&'static str>,
    /// What a person wants who ends it, when it is not begun anew.
    pub farewell: OnceLock<Farewell>,
    /// What then stayed behind on the network, in a sentence.
    pub left_behind: OnceLock<String>,
    /// When it was last logged that a request was not verified.
    warned_at: Mutex<Option<Time>>,
}

impl Live {
    /// An instance that is about to connect.
    pub fn new(id: Uuid, now: Time) -> Self {
        Self {
            id,
            state: watch::Sender::new(LiveState { state: ConnectionState::Connecting, since: now }),
            session: watch::Sender::new(None),
            is_cut_off: AtomicBool::new(false),
            gate: Mutex::default(),
            ending: OnceLock::new(),
            farewell: OnceLock::new(),
            left_behind: OnceLock::new(),
            warned_at: Mutex::default(),
        }
    }

    /// Logs that a request could not be verified: a secret that is no longer the network's looks like nobody writing. Whoever
    /// knows the address could fill the log so, and is named once in a while.
    pub fn warn_of(&self, refused: WebhookRefused, now: Time) -> WebhookRefused {
        if let WebhookRefused::NotVerified(why) = &refused
            && self.may_warn(now)
        {
            tracing::warn!(instance.id = %self.id, "a call to the webhook was refused (said once a minute): {why}");
        }
        refused
    }

    fn may_warn(&self, now: Time) -> bool {
        let mut warned_at = self.warned_at.lock().unwrap_or_else(PoisonError::into_inner);
        let may = warned_at.is_none_or(|before| now >= before.plus(WARN_EVERY));
        if may {
            *warned_at = Some(now);
        }
        may
    }

    /// Its webhook ingress, while it has one.
    pub fn gate(&self) -> Option<WebhookGate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Opens or closes its webhook ingress.
    pub fn set_gate(&self, gate: Option<WebhookGate>) {
        *self.gate.lock().unwrap_or_else(PoisonError::into_inner) = gate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_verified_is_said_once_a_minute() {
        let now = Time(1_000_000_000_000);
        let live = Live::new(Uuid::nil(), now);
        let after = |seconds| live.may_warn(now.plus(Duration::from_secs(seconds)));
        assert_eq!([0, 1, 59, 60, 61, 120].map(after), [true, false, false, true, false, true]);
    }
}
