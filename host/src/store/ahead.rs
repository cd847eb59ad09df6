//! Working out what is to be written before it is one's turn to write.
//!
//! SQLite has one writer, and whoever holds it should keep it busy. So the storage consumer reads what it needs from a
//! snapshot beside the writer, notes its statements down ([`Store::ahead`]), and runs them when its turn comes
//! ([`Tx::replay`]): in between nobody else may have written what it read. Those who may have are counted, when they begin
//! and when their connection is free again, so an odd number means that somebody is at it. When the count is another
//! than it was, the work is done again inside the transaction.

use super::bulk::Statement;
use super::{Result, Store, Tx, events, ledger};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the transactions that may have changed what was read: once when each has begun, once when it is over.
#[derive(Clone, Debug, Default)]
pub(super) struct Disturbances(Arc<AtomicU64>);

impl Disturbances {
    /// Somebody has begun.
    pub fn begin(&self) -> Disturbance {
        self.0.fetch_add(1, Ordering::AcqRel);
        Disturbance(self.clone())
    }

    /// How often until now, if nobody is at it.
    fn quiet(&self) -> Option<u64> {
        let count = self.0.load(Ordering::Acquire);
        count.is_multiple_of(2).then_some(count)
    }
}

/// Somebody is at it until this is dropped.
pub(super) struct Disturbance(Disturbances);

impl Drop for Disturbance {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::AcqRel);
    }
}

/// Statements that were noted down.
#[derive(Default)]
pub(super) struct Recording {
    statements: Vec<Statement>,
    /// Whether domain events are among them.
    pub appends_events: bool,
}

impl Recording {
    pub fn push(&mut self, statement: Statement) {
        self.statements.push(statement);
    }
}

/// What is to be written, as long as nobody else has written since.
pub struct Ahead {
    recording: Recording,
    ledger: ledger::Changes,
    since: u64,
}

impl std::fmt::Debug for Ahead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ahead").field("statements", &self.recording.statements.len()).finish_non_exhaustive()
    }
}

/// A snapshot in which bulk writes are noted down. Any other write in it is an error, since it only reads.
#[derive(Debug)]
pub struct Sketch {
    /// What to read from and to write to.
    pub tx: Tx,
    since: u64,
}

impl Sketch {
    /// What was noted down.
    pub fn done(mut self) -> Ahead {
        let (recording, ledger) = (self.tx.recording.take(), std::mem::take(&mut self.tx.ledger));
        Ahead { recording: recording.unwrap_or_default(), ledger, since: self.since }
    }
}

impl Store {
    /// A snapshot to work ahead in; `None` when somebody is writing just now.
    pub async fn ahead(&self) -> Result<Option<Sketch>> {
        let Some(since) = self.disturbances.quiet() else { return Ok(None) };
        let mut tx = self.read().await?;
        tx.recording = Some(Recording::default());
        Ok(Some(Sketch { tx, since }))
    }

    /// Whether what was worked out ahead is still true. To be asked by whoever has begun to write.
    pub fn is_undisturbed(&self, ahead: &Ahead) -> bool {
        self.disturbances.quiet() == Some(ahead.since)
    }
}

impl Tx {
    /// Where to note statements down, when this is no transaction that writes.
    pub(super) fn recording(&mut self) -> Option<&mut Recording> {
        self.recording.as_mut()
    }

    /// Writes what was worked out ahead.
    pub async fn replay(&mut self, ahead: Ahead) -> Result<()> {
        for statement in ahead.recording.statements {
            statement.execute(self).await?;
        }
        self.count_all(&ahead.ledger);
        if ahead.recording.appends_events {
            self.newest_event = events::newest(self).await?;
        }
        Ok(())
    }
}
