//! Who waits for domain events hears here that there are new ones, and gets the ones that are not stored.
//!
//! Deliberately not here: the events themselves. Whoever hears reads them from the store, from where it stands.

use super::events::DomainEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{broadcast, watch};

/// How many unread ephemeral events a slow listener may be behind before it misses some.
const EPHEMERAL_BACKLOG: usize = 1_024;

/// The news of domain events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    newest: Arc<watch::Sender<i64>>,
    ephemeral: broadcast::Sender<Arc<DomainEvent>>,
    /// How often accounts got other persons by hand.
    people_moved: Arc<AtomicI64>,
}

impl Feed {
    pub(super) fn new(newest: i64) -> Self {
        Self {
            newest: Arc::new(watch::Sender::new(newest)),
            ephemeral: broadcast::Sender::new(EPHEMERAL_BACKLOG),
            people_moved: Arc::default(),
        }
    }

    /// The number of the newest committed domain event, and word of every change.
    pub fn newest(&self) -> watch::Receiver<i64> {
        self.newest.subscribe()
    }

    /// Events that are not stored (typing, presence), from now on. One who reads too slowly misses the oldest.
    pub fn ephemeral(&self) -> broadcast::Receiver<Arc<DomainEvent>> {
        self.ephemeral.subscribe()
    }

    /// Hands an event that is not stored to whoever listens.
    pub fn publish(&self, event: DomainEvent) {
        // Nobody listens: nobody misses it.
        let _ = self.ephemeral.send(Arc::new(event));
    }

    pub(super) fn people_move(&self) {
        self.people_moved.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn people_moved(&self) -> i64 {
        self.people_moved.load(Ordering::Acquire)
    }

    /// Says that events up to this one are committed.
    pub(crate) fn advance(&self, seq: i64) {
        self.newest.send_if_modified(|newest| {
            let later = seq > *newest;
            *newest = seq.max(*newest);
            later
        });
    }
}
