//! Who waits for domain events hears here that there are new ones, and gets the ones that are not stored.
//!
//! Deliberately not here: the events themselves. Whoever hears reads them from the store, from where it stands.

use super::events::DomainEvent;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use tokio::sync::{broadcast, watch};

/// How many unread ephemeral events a slow listener may be behind before it misses some.
const EPHEMERAL_BACKLOG: usize = 1_024;
/// The same for whoever tells other hosts, where old ones are worth less still.
const OWN_BACKLOG: usize = 256;

/// The news of domain events. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Feed {
    newest: Arc<watch::Sender<i64>>,
    ephemeral: broadcast::Sender<Arc<DomainEvent>>,
    /// Those of them that come from this host's instances.
    own: broadcast::Sender<Arc<DomainEvent>>,
    /// How often accounts got other persons by hand.
    people_moved: Arc<AtomicI64>,
}

impl Feed {
    pub(super) fn new(newest: i64) -> Self {
        Self {
            newest: Arc::new(watch::Sender::new(newest)),
            ephemeral: broadcast::Sender::new(EPHEMERAL_BACKLOG),
            own: broadcast::Sender::new(OWN_BACKLOG),
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

    /// Those of them that come from this host's instances, for whoever tells other hosts.
    pub(crate) fn own(&self) -> broadcast::Receiver<Arc<DomainEvent>> {
        self.own.subscribe()
    }

    /// Whether anybody listens to events that are not stored.
    pub(crate) fn is_followed(&self) -> bool {
        self.ephemeral.receiver_count() > 0
    }

    /// Hands an event of one of this host's instances that is not stored to whoever listens, here and on other hosts.
    pub fn publish(&self, event: DomainEvent) {
        let event = Arc::new(event);
        // Nobody listens: nobody misses it.
        let _ = self.own.send(Arc::clone(&event));
        let _ = self.ephemeral.send(event);
    }

    /// Hands one that another host told to whoever listens here.
    pub(crate) fn relay(&self, event: DomainEvent) {
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
