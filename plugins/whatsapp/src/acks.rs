//! What the server said to what we sent. A message counts as taken when the server acknowledged it, not when it was written to
//! the socket.

use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// The server's word about one stanza.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ack {
    /// When the server took it, milliseconds since 1970.
    pub at: Option<i64>,
    /// Why it did not (`463`).
    pub error: Option<String>,
}

/// Sends that wait for their acknowledgement, by the id of the stanza.
#[derive(Debug, Default)]
pub struct Acks(Mutex<HashMap<String, oneshot::Sender<Ack>>>);

impl Acks {
    fn waiting(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Ack>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to wait; to be called before the stanza is written.
    pub fn expect(&self, id: &str) -> Waiting<'_> {
        let (tell, told) = oneshot::channel();
        self.waiting().insert(id.to_owned(), tell);
        Waiting { acks: self, id: id.to_owned(), told }
    }

    /// The server spoke.
    pub fn resolve(&self, id: &str, ack: Ack) {
        if let Some(tell) = self.waiting().remove(id) {
            // Whoever waited may have given up.
            let _ = tell.send(ack);
        }
    }

    /// The connection is gone: nobody who waits will be answered on it.
    pub fn connection_lost(&self) {
        self.waiting().clear();
    }
}

/// Waits for one acknowledgement; forgotten when dropped.
#[derive(Debug)]
pub struct Waiting<'a> {
    acks: &'a Acks,
    id: String,
    told: oneshot::Receiver<Ack>,
}

impl Waiting<'_> {
    /// The acknowledgement; `None` when the connection broke before it came.
    pub async fn ack(&mut self) -> Option<Ack> {
        (&mut self.told).await.ok()
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.acks.waiting().remove(&self.id);
    }
}

/// Why the server refused, by the codes that WhatsApp Web knows.
pub fn refusal(code: &str) -> SendError {
    match code {
        "463" => {
            let mut error = SendError::new(
                ErrorCode::Forbidden,
                NextActor::Operator,
                "WhatsApp has restricted the account: it may not write first to people who have not written to it (463). Answers to \
                 them still go out; the restriction ends by itself",
            );
            error.certain = true;
            error
        }
        "429" => SendError::rate_limited(60_000, "WhatsApp asks to send more slowly (429)"),
        "479" => {
            SendError::transient("WhatsApp knows another list of the receiver's devices (479); it is looked up again")
        }
        "401" | "403" | "405" => SendError::new(
            ErrorCode::Forbidden,
            NextActor::Caller,
            format!("the account may not write in this chat ({code})"),
        ),
        "404" | "406" => {
            let mut error = SendError::invalid(format!("there is no such chat on WhatsApp ({code})"));
            error.code = ErrorCode::ChatNotFound;
            error
        }
        "400" | "475" | "487" => SendError::invalid(format!("WhatsApp does not take this message ({code})")),
        "500" | "503" => SendError::transient(format!("WhatsApp could not take the message now ({code})")),
        other => {
            SendError::new(ErrorCode::Network, NextActor::Caller, format!("WhatsApp refused the message ({other})"))
        }
    }
}
