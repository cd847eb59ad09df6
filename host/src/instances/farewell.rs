//! What a channel is asked when a person switches its instance off: to take back what it set up on the network (a webhook
//! that calls us), and to log out when the instance is deleted.
//!
//! A network that does not answer holds nobody up: there is [`WITHIN`] for all of it, and then the instance ends whatever
//! came of it. Deliberately not here: ends after which the instance goes on (a restart, the end of the host).

use crate::plugins::session::Session;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::request::{Nothing, Request};
use std::time::Duration;
use tokio::time::Instant;

/// How long the network may take, for everything together.
const WITHIN: Duration = Duration::from_secs(5);

/// What is said of an instance that could not be reached by its network just then.
pub const NOT_ASKED: &str =
    "it was not connected, so its channel could not take back what it may have set up on its network";

/// What a person wants of an instance that is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Farewell {
    /// That it is off until they connect it again.
    Disconnect,
    /// That it is gone.
    Delete,
}

impl Farewell {
    /// What a channel that can do so much is asked for.
    pub fn asks(self, can: &Capabilities) -> Vec<Request> {
        let mut asked = Vec::new();
        if can.can("release") {
            asked.push(Request::Release(Nothing {}));
        }
        if self == Self::Delete && can.can("logout") {
            asked.push(Request::Logout(Nothing {}));
        }
        asked
    }
}

/// Asks the channel. Gives back, in a sentence, what was not done and so may stay behind on the network.
pub async fn say(session: &Session, farewell: Farewell, can: &Capabilities) -> Option<String> {
    let until = Instant::now() + WITHIN;
    let mut left = None;
    for request in farewell.asks(can) {
        let what = match &request {
            Request::Logout(_) => "log out of its network",
            _ => "take back what it has set up on its network",
        };
        let within = until.saturating_duration_since(Instant::now());
        if let Err(error) = session.last_request(request, within).await {
            let why = error.into_send_error().message;
            left.get_or_insert(format!("the channel could not {what}: {why}"));
        }
    }
    left
}
