//! A channel says that it missed something: a job is written down before what it did in that call is, so that a death in
//! between costs a look too many and never one too few. Several within a short time are one job.

use super::fetch::MOST_CHATS;
use super::job::Wanted;
use super::new_row;
use crate::clock::Clock;
use crate::store::sync_jobs::{self as rows, MISSED, Place};
use crate::store::{Result, Store};
use omni_channel_sdk::frame::MissedIn;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

/// How long such a job waits for more of the kind: a network that drops a connection often drops the next one, too.
pub(super) const GATHER: Duration = Duration::from_secs(3);

/// Takes what channels say that they missed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Gaps(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    clock: Clock,
    wake: Notify,
}

impl Gaps {
    /// None so far.
    pub fn new(store: Store, clock: Clock) -> Self {
        Self(Arc::new(Inner { store, clock, wake: Notify::new() }))
    }

    /// An instance may have missed something up to now. One that says so again before anybody has looked says nothing new.
    pub async fn told(&self, instance: Uuid, channel: &str) -> Result<()> {
        let now = self.0.clock.now();
        let mut tx = self.0.store.begin().await?;
        if rows::waiting(&mut tx, instance, MISSED).await?.0 == 0 {
            let wanted = Wanted { missed_at: Some(now), ..Wanted::default() };
            let id = tx.new_id(now);
            rows::insert(&mut tx, &new_row(id, (instance, channel), MISSED, &wanted, now)).await?;
            tx.commit().await?;
        } else {
            tx.rollback().await?;
        }
        self.wake();
        Ok(())
    }

    /// An instance has missed something in these chats, whether they are known or not: a job of its own, for nothing else.
    pub async fn told_of(&self, instance: Uuid, channel: &str, missed: Vec<MissedIn>) -> Result<()> {
        let now = self.0.clock.now();
        let place = |missed: MissedIn| Place { chat: missed.chat.0, anchor: missed.after.map(|id| id.0) };
        let places = missed.into_iter().take(MOST_CHATS as usize).map(place).collect();
        let wanted = Wanted { places, ..Wanted::default() };
        let mut tx = self.0.store.begin().await?;
        let id = tx.new_id(now);
        rows::insert(&mut tx, &new_row(id, (instance, channel), MISSED, &wanted, now)).await?;
        tx.commit().await?;
        self.wake();
        Ok(())
    }

    /// There is a job that was not there before.
    pub(super) fn wake(&self) {
        self.0.wake.notify_one();
    }

    /// Returns when there is one.
    pub(super) async fn woken(&self) {
        self.0.wake.notified().await;
    }
}
