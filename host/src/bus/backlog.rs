//! How much of each instance waits for the storage consumer. One that brings more than can be stored waits for what it
//! brought before, and its neighbours do not: what they bring is stored soon.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{MutexGuard, watch};
use uuid::Uuid;

/// One instance's part.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// Whoever waits comes through in the order in which they came.
    turn: tokio::sync::Mutex<()>,
    waiting: AtomicI64,
}

#[derive(Debug)]
pub(super) struct Backlog {
    /// How many entries of an instance may wait before it brings no more.
    most: i64,
    gates: Mutex<HashMap<Uuid, Arc<Gate>>>,
    /// What waits, in order: up to which place so many are whose.
    entries: Mutex<VecDeque<(i64, Arc<Gate>, i64)>>,
    stored: watch::Sender<i64>,
}

impl Backlog {
    pub fn new(most: i64) -> Self {
        Self { most, gates: Mutex::default(), entries: Mutex::default(), stored: watch::Sender::new(0) }
    }

    /// An instance's part of it.
    pub fn gate(&self, instance: Uuid) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(gates.entry(instance).or_default())
    }

    /// Waits until an instance may bring more. Who comes next waits until the guard is dropped.
    pub async fn pass<'a>(&self, gate: &'a Gate) -> MutexGuard<'a, ()> {
        let turn = gate.turn.lock().await;
        let mut stored = self.stored.subscribe();
        // The sender is ours, so waiting cannot fail.
        let _ = stored.wait_for(|_| gate.waiting.load(Ordering::Acquire) < self.most).await;
        turn
    }

    /// So many entries of an instance are durable now, the last of them at this place.
    pub fn push(&self, instance: Uuid, last: i64, count: i64) {
        let gate = self.gate(instance);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // The consumer may have found them in the log before we came here.
        if last > *self.stored.borrow() {
            gate.waiting.fetch_add(count, Ordering::AcqRel);
            entries.push_back((last, gate, count));
        }
    }

    /// Everything up to this place is stored.
    pub fn stored(&self, seq: i64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        while entries.front().is_some_and(|(last, ..)| *last <= seq) {
            if let Some((_, gate, count)) = entries.pop_front() {
                gate.waiting.fetch_sub(count, Ordering::AcqRel);
            }
        }
        self.stored.send_replace(seq);
    }
}
