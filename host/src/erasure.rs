//! Erasing people: one step after another, beside everything else that is written, and on after a death.
//!
//! Deliberately not here: what is taken away and what is left ([`crate::store::erasures`] has the table).

use crate::clock::Clock;
use crate::inbound::Inbound;
use crate::media::MediaStore;
use crate::store::erasures::{self as rows, Erasure};
use crate::store::{Result, Store, StoreError, fault};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

/// How long the database is left alone after a failure, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Erasures(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    inbound: Inbound,
    media: MediaStore,
    stop: CancellationToken,
    tasks: TaskTracker,
    /// Held by the one that works: they take turns.
    turn: tokio::sync::Mutex<()>,
}

impl Erasures {
    /// Nothing runs before [`start`](Self::start).
    pub fn new(store: Store, clock: Clock, inbound: Inbound, media: MediaStore) -> Self {
        let (stop, tasks, turn) = (CancellationToken::new(), TaskTracker::new(), tokio::sync::Mutex::default());
        Self(Arc::new(Inner { store, clock, inbound, media, stop, tasks, turn }))
    }

    /// Goes on with what ran when the host ended.
    pub async fn start(&self) -> Result<usize> {
        let running = rows::running(&self.0.store).await?;
        let count = running.len();
        running.into_iter().for_each(|erasure| self.spawn(erasure));
        Ok(count)
    }

    /// Stops between two steps; what runs goes on after the next start.
    pub async fn stop(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn spawn(&self, erasure: Erasure) {
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move { inner.run(erasure).await });
    }

    /// Begins to erase a person: they and their accounts are gone when this returns, and the rest goes on. `None` when there
    /// is nobody of that id; the erasure that there is when they are erased already.
    pub async fn begin(&self, person: Uuid, by: &str) -> Result<Option<Erasure>> {
        // What was accepted before must not be stored afterwards.
        self.0.inbound.settle().await;
        let known = rows::of_person(&self.0.store, person).await?;
        let found = match known {
            Some(before) => return Ok(Some(before)),
            None => rows::begin(&self.0.store, person, by, self.0.clock.now()).await?,
        };
        if let Some(erasure) = &found {
            tracing::info!(erasure.id = %erasure.id, "a person is being erased");
            self.spawn(erasure.clone());
        }
        Ok(found)
    }

    /// How far the erasure of a person is.
    pub async fn get(&self, person: Uuid) -> Result<Option<Erasure>> {
        rows::of_person(&self.0.store, person).await
    }
}

impl Inner {
    async fn run(&self, mut erasure: Erasure) {
        let _turn = self.turn.lock().await;
        let mut wait = BACKOFF.0;
        while erasure.completed_at.is_none() && !self.stop.is_cancelled() {
            match self.step(&mut erasure).await {
                Ok(()) => {
                    wait = BACKOFF.0;
                    // Whoever else writes comes in between.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    tracing::warn!(erasure.id = %erasure.id, "a step of an erasure failed: {}", error.explain());
                    tokio::select! {
                        () = self.stop.cancelled() => return,
                        () = self.clock.sleep(wait) => wait = (wait * 2).min(BACKOFF.1),
                    }
                }
            }
        }
        if erasure.completed_at.is_some() {
            let (messages, events, files) = (erasure.messages, erasure.events, erasure.files);
            tracing::info!(erasure.id = %erasure.id, messages, events, files, "a person is erased");
        }
    }

    async fn step(&self, erasure: &mut Erasure) -> Result<(), StoreError> {
        fault!("erasure.step");
        let files = rows::step(&self.store, erasure, self.clock.now()).await?;
        // A file that is left by a death here is one that no row tells of, and is collected as such.
        self.media.gone(files.into_iter().filter_map(|file| Some((file.path?, file.size)))).await;
        Ok(())
    }
}
