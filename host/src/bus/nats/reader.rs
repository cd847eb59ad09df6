//! The storage consumer's end of the log: follows the stream from where the consumer stands, and holds what comes until it
//! is stored. What is held is bounded; meanwhile the server keeps the rest.

use super::{AGAIN, Shared, packet, pause};
use crate::store::Time;
use crate::store::entry::Entry;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures_util::StreamExt;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// At most so many entries are held, and so many bytes.
const ENTRIES: usize = 8_192;
const BYTES: usize = 32 << 20;
/// How long a read waits for what is on its way.
const ON_ITS_WAY: Duration = Duration::from_millis(250);
/// How many messages are asked for at once, and how long the server keeps the question open.
const AT_ONCE: usize = 256;
const OPEN_FOR: Duration = Duration::from_secs(2);
/// How long the stream is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What has come and is not stored yet, in order.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    held: Mutex<Held>,
    came: Notify,
    went: Notify,
}

#[derive(Debug, Default)]
struct Held {
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Buffer {
    /// Entries behind a place; what lies before it is stored and goes. Waits a little when there are none.
    pub async fn read(&self, after: i64, max: usize) -> Vec<Arc<Entry>> {
        let some = async {
            loop {
                let came = self.came.notified();
                let found = self.take(after, max);
                if !found.is_empty() {
                    return found;
                }
                came.await;
            }
        };
        tokio::time::timeout(ON_ITS_WAY, some).await.unwrap_or_default()
    }

    /// When the oldest that is held behind a place was accepted.
    pub fn waits_since(&self, place: i64) -> Option<Time> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.entries.iter().find(|entry| entry.seq > place).map(|entry| entry.accepted_at)
    }

    fn take(&self, after: i64, max: usize) -> Vec<Arc<Entry>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let mut gone = false;
        while held.entries.front().is_some_and(|entry| entry.seq <= after) {
            if let Some(entry) = held.entries.pop_front() {
                held.bytes -= entry.body.payload.len();
                gone = true;
            }
        }
        if gone {
            self.went.notify_one();
        }
        held.entries.iter().take(max).map(Arc::clone).collect()
    }

    /// Takes entries in, once there is room.
    async fn push(&self, entries: Vec<Entry>) {
        loop {
            let went = self.went.notified();
            {
                let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
                if held.entries.is_empty() || (held.entries.len() < ENTRIES && held.bytes < BYTES) {
                    for entry in entries {
                        held.bytes += entry.body.payload.len();
                        held.entries.push_back(Arc::new(entry));
                    }
                    break;
                }
            }
            went.await;
        }
        self.came.notify_one();
    }
}

/// Follows the stream behind a place, for as long as the task runs.
pub(super) async fn follow(shared: Arc<Shared>, after: i64) {
    // The message that the place lies in may not be stored to its end.
    let mut next = packet::message_of(after).max(1);
    let mut backoff = BACKOFF.0;
    let mut warned = false;
    loop {
        let before = next;
        let Err(error) = follow_once(&shared, after, &mut next).await;
        if next > before {
            (backoff, warned) = (BACKOFF.0, false);
        }
        if !std::mem::replace(&mut warned, true) {
            tracing::warn!(error, stream = shared.inbound, "the log in NATS cannot be read; trying again");
        }
        pause(backoff).await;
        backoff = (backoff * 2).min(BACKOFF.1);
    }
}

async fn follow_once(shared: &Shared, after: i64, next: &mut u64) -> Result<std::convert::Infallible, String> {
    let stream = shared.jetstream.get_stream_no_info(&shared.inbound).await.map_err(|error| error.to_string())?;
    let config = pull::Config {
        description: Some("the storage consumer of Omni".into()),
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: *next },
        // The position in the database is what counts.
        ack_policy: AckPolicy::None,
        inactive_threshold: OPEN_FOR * 15,
        ..pull::Config::default()
    };
    let consumer = stream.create_consumer(config).await.map_err(|error| error.to_string())?;
    let mut delivered = 0;
    loop {
        let mut batch = consumer
            .batch()
            .max_messages(AT_ONCE)
            .max_bytes(BYTES)
            .expires(OPEN_FOR)
            .messages()
            .await
            .map_err(|error| error.to_string())?;
        let before = *next;
        while let Some(message) = batch.next().await {
            let message = message.map_err(|error| error.to_string())?;
            let (number, count) = {
                let info = message.info().map_err(|error| error.to_string())?;
                (info.stream_sequence, info.consumer_sequence)
            };
            delivered += 1;
            if count != delivered {
                return Err(format!("message {delivered} was lost on its way"));
            }
            let again = message.headers.as_ref().is_some_and(|headers| headers.get(AGAIN).is_some());
            take(shared, number, after, &message.payload, again).await;
            *next = number + 1;
        }
        if *next > before {
            continue;
        }
        // Nothing came, which may be because the server believes that we have it.
        let info = stream.get_info().await.map_err(|error| error.to_string())?;
        if info.state.last_sequence >= *next && info.state.messages > 0 {
            return Err(format!("messages from {next} to {} did not come", info.state.last_sequence));
        }
    }
}

/// Hands on what a message holds, behind a place.
async fn take(shared: &Shared, number: u64, after: i64, bytes: &[u8], again: bool) {
    match packet::read(number, bytes) {
        Ok(mut entries) => {
            entries.retain(|entry| entry.seq > after);
            entries.iter_mut().for_each(|entry| entry.again = again);
            if let Some(last) = entries.last().map(|entry| entry.seq) {
                shared.buffer.push(entries).await;
                shared.reached(last);
            }
        }
        Err(reason) => {
            metrics::counter!("omni_bus_foreign_messages_total").increment(1);
            tracing::error!(
                message = number,
                stream = shared.inbound,
                reason,
                "a message of the log is none of ours and is left out; only Omni may publish to this subject"
            );
        }
    }
}
