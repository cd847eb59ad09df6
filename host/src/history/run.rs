//! Which job runs: of the instances that run on this host, one of each at a time. Those that ran when the host ended are
//! among them, and go on where they were.

use super::fetch::Fetch;
use super::{History, gaps, lock};
use crate::store::sync_jobs as rows;
use crate::store::{StoreError, Time};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{self, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Jobs that run at the same time: each has a page in memory.
const AT_ONCE: usize = 16;
/// How often the table is looked at when nothing says that there is something new, which another host may have written.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What runs.
struct Running {
    history: History,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    /// The job and the instance of each.
    of: HashMap<task::Id, (Uuid, Uuid)>,
}

impl History {
    /// Runs jobs until it is told to stop; what has not ended then goes on after the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut started = self.0.instances.started();
        let clock = self.0.clock.clone();
        let mut running = Running { history: self, stop: stop.clone(), tasks: JoinSet::new(), of: HashMap::new() };
        while !stop.is_cancelled() {
            started.borrow_and_update();
            let due = match running.begin_due().await {
                Ok(due) => due,
                Err(error) => {
                    tracing::warn!(error = error.explain(), "the jobs that fetch history cannot be looked at");
                    None
                }
            };
            let later = clock.now().plus(LOOK_EVERY);
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = running.tasks.join_next_with_id() => running.ended(ended).await,
                () = running.history.0.gaps.woken() => {}
                changed = started.changed() => if changed.is_err() { break },
                () = clock.sleep_until(due.map_or(later, |due| due.min(later))) => {}
            }
        }
        while running.tasks.join_next().await.is_some() {}
    }
}

impl Running {
    /// Begins what can be, and says when the next one may that has to wait for its time.
    async fn begin_due(&mut self) -> Result<Option<Time>, StoreError> {
        let inner = Arc::clone(&self.history.0);
        let mut here: Vec<Uuid> = inner.instances.sessions().into_iter().map(|(id, _)| id).collect();
        here.retain(|id| !self.of.values().any(|(_, instance)| instance == id));
        let mut next = None;
        if here.is_empty() {
            return Ok(next);
        }
        for job in rows::unfinished(&inner.store, &here).await? {
            if self.tasks.len() >= AT_ONCE {
                break;
            }
            if self.of.values().any(|(_, instance)| *instance == job.instance_id) {
                continue;
            }
            let Some(fetch) = Fetch::load(&inner, job.id, &self.stop).await? else { continue };
            let due = fetch.missed_at().map(|at| at.plus(gaps::GATHER)).filter(|due| *due > inner.clock.now());
            if let Some(due) = due {
                next = Some(next.map_or(due, |next: Time| next.min(due)));
                continue;
            }
            let ends = fetch.ends();
            lock(&inner.running).insert(job.id, ends);
            let task = self.tasks.spawn(fetch.run());
            self.of.insert(task.id(), (job.id, job.instance_id));
        }
        Ok(next)
    }

    async fn ended(&mut self, ended: Result<(task::Id, ()), JoinError>) {
        let id = match &ended {
            Ok((id, ())) => *id,
            Err(error) => error.id(),
        };
        let Some((job, _)) = self.of.remove(&id) else { return };
        let inner = &self.history.0;
        lock(&inner.running).remove(&job);
        if let Err(error) = ended {
            tracing::error!(job.id = %job, "a job that fetches history failed: {error}");
            // It would only fail again.
            let ending = async {
                let mut tx = inner.store.begin().await?;
                rows::end(&mut tx, job, "failed", Some("a bug of this program; its log says where"), inner.clock.now())
                    .await?;
                tx.commit().await
            };
            if let Err(error) = ending.await {
                tracing::warn!(job.id = %job, error = error.explain(), "failed to write that down");
            }
        }
    }
}
