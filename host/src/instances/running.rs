//! Connecting instances and ending them: what a person wants, and the task that sees to it.

use super::farewell::{self, Farewell};
use super::live::Live;
use super::show::home_of;
use super::supervisor::Supervisor;
use super::{Entry, Instance, InstanceError, Instances, Result, lock};
use crate::hosts::Elsewhere;
use crate::store::{
    self,
    instances::{self as rows, InstanceRow},
};
use omni_channel_sdk::connection::ConnectionState;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

impl Instances {
    /// Connects every instance that a person wants connected.
    pub async fn start_active(&self) -> Result<usize> {
        let rows = rows::all(&self.0.shared.store).await?;
        let active: Vec<InstanceRow> = rows.into_iter().filter(|row| row.is_active).collect();
        for row in &active {
            self.spawn(row);
        }
        Ok(active.len())
    }

    /// How many run.
    pub fn running(&self) -> usize {
        lock(&self.0.running).len()
    }

    /// Whether one runs.
    pub fn runs(&self, id: Uuid) -> bool {
        lock(&self.0.running).contains_key(&id)
    }

    /// Begins one that is this host's, unless it runs or nobody wants it to; `first` is done before, when it does not run.
    pub async fn begin_mine(
        &self,
        id: Uuid,
        first: impl Future<Output = store::Result<()>> + Send + 'static,
    ) -> Result<()> {
        self.detached(move |this| async move {
            let row = this.row(id).await?;
            if row.is_active && !this.runs(id) {
                first.await?;
                this.spawn_mine(&row).await?;
            }
            Ok(())
        })
        .await
    }

    /// Hands nothing new to one that is about to go to another host.
    pub fn leave(&self, id: Uuid) {
        if let Some(entry) = lock(&self.0.running).get_mut(&id) {
            entry.is_leaving = true;
        }
    }

    /// Ends one and lets another host have it; nobody begins it in between. One that is `idle` is left if it is not any
    /// more.
    pub async fn hand_over(&self, id: Uuid, idle: bool, give: impl Future<Output = store::Result<()>>) -> Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        if idle {
            let row = rows::get(&self.0.shared.store, id).await?;
            if self.runs(id) || row.is_some_and(|row| row.is_active) {
                return Ok(());
            }
        } else {
            if let Some(live) = self.entry(id) {
                // The first reason counts.
                let _ = live.ending.set("it goes to another host, which connects it again");
            }
            self.end(id).await;
        }
        Ok(give.await?)
    }

    /// Ends every running instance; they are connected again after the next start.
    pub async fn stop_all(&self, within: Duration) {
        let entries: Vec<Entry> = lock(&self.0.running).drain().map(|(_, entry)| entry).collect();
        for entry in &entries {
            // The first reason counts.
            let _ = entry.live.ending.set("the host was stopped; it is connected again when the host starts");
            entry.cancel.cancel();
        }
        let all = async {
            for entry in entries {
                let _ = entry.task.await;
            }
        };
        if timeout(within, all).await.is_err() {
            tracing::warn!("some instances did not stop within {} s", within.as_secs());
        }
    }

    /// Wants it connected. Does nothing to one that already is; waits up to `wait` for the first outcome.
    pub async fn connect(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            this.begin(&row).await
        })
        .await?;
        self.settled(id, wait).await
    }

    /// Wants it disconnected, and waits until it has ended. Gives back, in a sentence, what stayed behind on the network.
    pub async fn disconnect(&self, id: Uuid) -> Result<Option<String>> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            this.expect_mine(id)?;
            this.want(id, false).await?;
            Ok(this.end_for_good(&row, Farewell::Disconnect).await)
        })
        .await
    }

    /// Disconnects and connects.
    pub async fn restart(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            this.expect_mine(id)?;
            this.end(id).await;
            this.begin(&row).await
        })
        .await?;
        self.settled(id, wait).await
    }

    /// Wants an instance connected and begins it, unless it is on its way already.
    async fn begin(&self, row: &InstanceRow) -> Result<()> {
        if self.0.plugins.channel(&row.channel).is_none() {
            return Err(InstanceError::NoPlugin(self.0.plugins.missing(&row.channel)));
        }
        self.expect_mine(row.id)?;
        self.expect_free(row.id)?;
        // First: another host takes one that is wanted and nobody's.
        self.own(row.id).await?;
        self.want(row.id, true).await?;
        let idle = self.entry(row.id).is_none_or(|live| {
            // One that waits, for a person or for its next attempt, is begun anew: that is what is asked for.
            matches!(
                live.state.borrow().state,
                ConnectionState::LoggedOut { .. } | ConnectionState::Disconnected { .. }
            )
        });
        if idle {
            self.end(row.id).await;
            self.spawn_mine(row).await?;
        }
        Ok(())
    }

    /// Makes it this host's; refused when it is another's.
    async fn own(&self, id: Uuid) -> Result<()> {
        self.0.options.hosts.own(id).await?.map_err(|owner| elsewhere(&owner))
    }

    /// Refuses what another host has.
    pub(super) fn expect_mine(&self, id: Uuid) -> Result<()> {
        self.0.options.hosts.owner(id).map_or(Ok(()), |owner| Err(elsewhere(&owner)))
    }

    /// Begins one, which is this host's from now on; refused when it is another's.
    pub(super) async fn spawn_mine(&self, row: &InstanceRow) -> Result<()> {
        self.own(row.id).await?;
        self.spawn(row);
        Ok(())
    }

    /// Waits for an instance to be more than on its way, and shows it. Not settled in time is no error: the state says so.
    pub(super) async fn settled(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        if let Some(live) = self.entry(id) {
            let mut states = live.state.subscribe();
            let settled = states.wait_for(|now| !matches!(now.state, ConnectionState::Connecting));
            let _ = timeout(wait, settled).await;
        }
        self.get(id).await
    }

    pub(super) async fn want(&self, id: Uuid, active: bool) -> Result<()> {
        let mut tx = self.0.shared.store.begin().await?;
        rows::set_active(&mut tx, id, active, self.0.shared.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    fn spawn(&self, row: &InstanceRow) {
        let cancel = CancellationToken::new();
        let live = Arc::new(Live::new(row.id, self.0.shared.clock.now()));
        let supervisor = Supervisor {
            shared: self.0.shared.clone(),
            plugins: self.0.plugins.clone(),
            live: Arc::clone(&live),
            channel: row.channel.clone(),
            isolation: home_of(row),
            call_within: self.0.options.call_within,
            traces: self.0.options.traces.clone(),
            start_within: self.0.options.start_within,
            intake: self.0.options.intake.clone(),
            webhook_url: self.0.options.public_url.as_ref().map(|url| webhook_url(url, row.id)),
            cancel: cancel.clone(),
        };
        let mut sessions = live.session.subscribe();
        let this = self.clone();
        tokio::spawn(async move {
            while sessions.changed().await.is_ok() {
                this.0.started.send_modify(|version| *version += 1);
            }
        });
        // Whoever is told that it has started must find it there.
        let mut running = lock(&self.0.running);
        let entry = Entry { live, cancel, task: tokio::spawn(supervisor.run()), is_leaving: false };
        fail::fail_point!("instances.spawned");
        running.insert(row.id, entry);
    }

    /// Ends it, if it runs; it may be begun anew.
    pub(super) async fn end(&self, id: Uuid) {
        let entry = lock(&self.0.running).remove(&id);
        if let Some(entry) = entry {
            entry.cancel.cancel();
            let _ = entry.task.await;
        }
    }

    /// Ends it as a person wants it, and the channel may first take back what it has set up on the network. Gives back,
    /// in a sentence, what stayed behind there.
    pub(super) async fn end_for_good(&self, row: &InstanceRow, wish: Farewell) -> Option<String> {
        let live = self.entry(row.id)?;
        // The first wish counts.
        let _ = live.farewell.set(wish);
        self.end(row.id).await;
        // Its state was "connecting" while it was being tried again.
        let cut_off = live.is_cut_off.load(Ordering::Relaxed);
        let asks = || self.manifest(&row.channel).is_ok_and(|found| !wish.asks(&found.capabilities).is_empty());
        match live.left_behind.get() {
            Some(left) => Some(left.clone()),
            None if cut_off && asks() => Some(farewell::NOT_ASKED.to_owned()),
            None => None,
        }
    }
}

pub(super) fn elsewhere(owner: &Elsewhere) -> InstanceError {
    let name = &owner.name;
    InstanceError::Elsewhere(format!("another host has the instance ({name}), and this one did not know; ask again"))
}

/// Where a network reaches the webhook of an instance.
fn webhook_url(public_url: &str, id: Uuid) -> String {
    format!("{}/api/v2/channels/{id}/webhook", public_url.trim_end_matches('/'))
}
