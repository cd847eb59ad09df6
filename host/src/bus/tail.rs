//! The newest durable entries, in memory, so that a consumer that keeps up does not read back what was just written.
//!
//! Bounded; whoever falls behind reads the log.

use crate::store::entry::Entry;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::watch;

/// At most so many entries.
const ENTRIES: usize = 8_192;
/// At most so many bytes of payload.
const BYTES: usize = 32 << 20;

#[derive(Debug)]
pub(super) struct Tail {
    newest: watch::Sender<i64>,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// Without a gap, up to the newest.
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

impl Tail {
    pub fn new(newest: i64) -> Self {
        Self { newest: watch::Sender::new(newest), held: Mutex::default() }
    }

    pub fn newest(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// Takes entries that are durable now, and tells of them.
    pub fn push(&self, entries: Vec<Entry>) {
        let Some(newest) = entries.last().map(|entry| entry.seq) else { return };
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                held.bytes += entry.body.payload.len();
                held.entries.push_back(Arc::new(entry));
            }
            while held.entries.len() > ENTRIES || held.bytes > BYTES {
                let Some(oldest) = held.entries.pop_front() else { break };
                held.bytes -= oldest.body.payload.len();
            }
        }
        self.newest.send_replace(newest);
    }

    /// Forgets what it holds, which may have a gap, and tells of a newer place: what is there is read from the log.
    pub fn skip_to(&self, newest: i64) {
        {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            *held = Held::default();
        }
        self.newest.send_replace(newest);
    }

    /// Entries behind a place; `None` when some of them are no longer here.
    pub fn read(&self, after: i64, max: usize) -> Option<Vec<Arc<Entry>>> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let first = held.entries.front()?.seq;
        let start = usize::try_from(after.checked_add(1)?.checked_sub(first)?).ok()?;
        Some(held.entries.iter().skip(start).take(max).map(Arc::clone).collect())
    }
}
