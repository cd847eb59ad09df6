//! Behind the door: what came in is stored, a second time as well, and can be read by everybody.

use super::NOW;
use crate::bus::door;
use crate::store::apply::Apply;
use crate::store::entry::{Body, Entry};
use crate::store::{SqliteOptions, Store, bench_instance, events};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// An empty store; every input finds it empty.
#[derive(Debug)]
pub struct Stored {
    runtime: Runtime,
    store: Store,
    instance: Uuid,
}

impl Stored {
    /// A store in this folder.
    pub fn open(folder: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (store, instance) = runtime.block_on(async {
            let store = Store::open_sqlite(&folder.join("omni.db"), SqliteOptions::default()).await.expect("opens");
            let instance = bench_instance(&store, NOW).await.expect("an instance");
            (store, instance)
        });
        Self { runtime, store, instance }
    }

    /// Events as a channel hands them over, one a line, applied together and then once more.
    pub fn check(&self, data: &[u8]) {
        let lines = data.split(|byte| *byte == b'\n').take(8);
        let entries: Vec<Arc<Entry>> = lines
            .filter_map(|line| door::read(line.to_vec(), NOW).ok())
            .zip(1..)
            .map(|((payload, parsed), seq)| {
                let body = Arc::new(Body { payload, parsed: Ok(parsed) });
                let event_id = self.store.new_id(NOW);
                Arc::new(Entry {
                    seq,
                    lane: 0,
                    instance_id: self.instance,
                    event_id,
                    accepted_at: NOW,
                    trace: None,
                    body,
                    key: None,
                    again: false,
                })
            })
            .collect();
        if !entries.is_empty() {
            self.runtime.block_on(self.apply(&entries));
        }
    }

    async fn apply(&self, entries: &[Arc<Entry>]) {
        let mut tx = self.store.begin().await.expect("begins");
        let mut apply = Apply::default();
        // The second time as what the network sends again when its delivery keys are forgotten: under ids of its own.
        let again: Vec<Arc<Entry>> = entries
            .iter()
            .map(|entry| Arc::new(Entry { event_id: self.store.new_id(NOW), ..Entry::clone(entry) }))
            .collect();
        for entries in [entries, &again] {
            if let Err(error) = apply.batch(&mut tx, entries, NOW).await {
                panic!("what came in cannot be stored: {}", error.explain());
            }
        }
        let piece = events::after(&mut tx, 0, &events::Filter::default(), 1_000).await.expect("they can be read");
        for event in &piece.events {
            let written = serde_json::to_vec(event).expect("an event can be written");
            if let Err(error) = serde_json::from_slice::<Value>(&written) {
                panic!("an event that nobody can read ({error}): {}", String::from_utf8_lossy(&written));
            }
        }
        tx.rollback().await.expect("is taken back");
    }
}
