//! What this host takes, begins, ends and gives away, a look a second.
//!
//! Every host decides for itself by what it sees in the database, and the database lets one of them have it. A host takes
//! what is free up to its share, and what nobody else takes for some seconds; one that has more than its share, while
//! another has less, gives one away at a time: what is under way is finished, the instance ends, and the other begins it.

use super::talk::{self, Answers, Ears, News};
use super::{EVERY, Hosts, Inner, TAKEN, live, lock};
use crate::bus::Bus;
use crate::inbound::{CONSUMER, Reached};
use crate::instances::Instances;
use crate::outbound::Outbound;
use crate::plugins::Plugins;
use crate::store::consumers;
use crate::store::hosts::{self as rows, HostRow, View};
use crate::store::{Result, events, fault};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

/// How often something must have been seen free before this host takes it beyond its share.
const SEEN_FREE: u32 = 3;
/// How long an instance may take to end.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How long what is under way may take before an instance goes to another host.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

/// What sharing needs.
#[derive(Clone)]
pub struct Parts {
    /// What this host has.
    pub hosts: Hosts,
    /// The log.
    pub bus: Bus,
    /// Instances.
    pub instances: Instances,
    /// Messages to the networks.
    pub outbound: Outbound,
    /// Plugin files.
    pub plugins: Plugins,
    /// How far the storage consumer is.
    pub reached: Reached,
    /// Answers requests of the API from other hosts.
    pub(crate) answers: Answers,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

/// Shares until it is told to stop; a host that is alone waits for that.
pub async fn run(parts: Parts, stop: CancellationToken) {
    let Some(inner) = parts.hosts.0.clone() else { return stop.cancelled().await };
    let ears = Arc::new(Ears {
        hosts: parts.hosts.clone(),
        instances: parts.instances.clone(),
        outbound: parts.outbound.clone(),
        reached: parts.reached.clone(),
        answers: Arc::clone(&parts.answers),
    });
    let listening = tokio::spawn(talk::listen(ears, stop.clone()));
    let telling = tokio::spawn(tell(parts.hosts.clone(), parts.reached.clone(), stop.clone()));
    let live = [
        AbortOnDropHandle::new(tokio::spawn(live::tell(parts.hosts.clone(), stop.clone()))),
        AbortOnDropHandle::new(tokio::spawn(live::hear(parts.hosts.clone(), stop.clone()))),
    ];
    let mut sharing = Sharing { parts, inner, free: HashMap::new(), well_since: None, channels: None };
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !stop.is_cancelled() && !listening.is_finished() {
        let inner = Arc::clone(&sharing.inner);
        tokio::select! {
            () = stop.cancelled() => break,
            _ = ticks.tick() => {}
            () = inner.look.notified() => {}
        }
        if let Err(error) = sharing.look().await {
            tracing::debug!(error = error.explain(), "the other hosts cannot be looked at");
        }
    }
    telling.abort();
    drop(live);
    match listening.await {
        Ok(Err(error)) => tracing::error!(error, "the other hosts cannot be heard"),
        _ => {
            let leaving = sharing.inner.store.describe(sharing.inner.me, &[], true);
            let _ = timeout(EVERY, leaving).await;
        }
    }
}

/// Tells the others how far the events and the log are, as often as that moves.
async fn tell(hosts: Hosts, reached: Reached, stop: CancellationToken) {
    let Some(inner) = hosts.0.clone() else { return };
    let (mut events, mut stored) = (inner.store.feed().newest(), reached.watch());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            changed = events.changed() => {
                if changed.is_err() { return }
                let seq = *events.borrow_and_update();
                hosts.tell(&News::Events { seq }).await;
            }
            changed = stored.changed() => {
                if changed.is_err() { return }
                let place = *stored.borrow_and_update();
                // What others told is not told back.
                if *inner.works.borrow() {
                    hosts.tell(&News::Stored { place }).await;
                }
            }
        }
    }
}

struct Sharing {
    parts: Parts,
    inner: Arc<Inner>,
    /// How often each instance was seen without a host.
    free: HashMap<Uuid, u32>,
    /// Since when this host has been able to say that it lives: one that could not may be wrong about the others.
    well_since: Option<Instant>,
    /// What was said of its channels.
    channels: Option<Vec<String>>,
}

impl Sharing {
    async fn look(&mut self) -> Result<()> {
        let over = self.inner.store.lease_left().is_some_and(|left| left.is_zero());
        if over {
            self.well_since = None;
            if self.parts.instances.running() > 0 {
                tracing::error!("this host could not say in time that it lives; its instances end until it can");
                self.parts.instances.stop_all(END_WITHIN).await;
            }
            return Ok(());
        }
        let well_since = *self.well_since.get_or_insert_with(Instant::now);
        let Some(view) = self.view().await? else { return Ok(()) };
        self.parts.bus.share(view.hosts.len() > 1);
        self.inner.seen.send_replace(Arc::new(view.clone()));
        self.adopt(&view);
        self.catch_up(&view).await?;
        let channels = self.parts.plugins.channels();
        if self.channels.as_ref() != Some(&channels) {
            self.inner.store.describe(self.inner.me, &channels, false).await?;
            self.channels = Some(channels.clone());
        }
        let is_dead = |host: &&HostRow| {
            host.id != self.inner.me
                && well_since.elapsed() >= TAKEN
                && u128::try_from(host.silent_ms).unwrap_or(0) >= TAKEN.as_millis()
        };
        let dead: Vec<Uuid> = view.hosts.iter().filter(is_dead).map(|host| host.id).collect();
        let others: Vec<&HostRow> = (view.hosts.iter())
            .filter(|host| host.id != self.inner.me && !dead.contains(&host.id) && !host.is_leaving)
            .collect();
        self.take(&view, &dead, &channels, &others).await?;
        self.begin(&view).await?;
        self.let_go(&view).await;
        self.level(&view, &others).await;
        Ok(())
    }

    /// What there is; nothing when the lease is over before the database says so, which the next look sees.
    async fn view(&self) -> Result<Option<View>> {
        let mut view = std::pin::pin!(self.inner.store.view());
        loop {
            // It grows while somebody else of this host says that it lives.
            let Some(left) = self.inner.store.lease_left() else { return view.await.map(Some) };
            if left.is_zero() {
                tracing::warn!("the database did not say in time which hosts there are");
                return Ok(None);
            }
            if let Ok(view) = timeout(left, view.as_mut()).await {
                return view.map(Some);
            }
        }
    }

    /// Finds that something is this host's although the answer to that was lost: nobody else would begin it.
    fn adopt(&self, view: &View) {
        for lease in view.leases.iter().filter(|lease| lease.host_id == self.inner.me) {
            if let Some(id) = lease.instance() {
                lock(&self.inner.mine).insert(id);
            } else if lease.name == rows::WORK {
                self.works();
            }
        }
    }

    fn works(&self) {
        if !self.inner.works.send_replace(true) {
            tracing::info!("this host does the work that is done once");
        }
    }

    /// What news may have been lost of.
    async fn catch_up(&self, view: &View) -> Result<()> {
        if view.hosts.len() < 2 {
            return Ok(());
        }
        let mut tx = self.inner.store.read().await?;
        if let Some(place) = consumers::reached(&mut tx, CONSUMER, self.parts.bus.stream()).await? {
            self.parts.reached.advance(place);
        }
        let newest = events::newest(&mut tx).await?;
        self.inner.store.feed().advance(newest);
        self.parts.outbound.look();
        Ok(())
    }

    /// Takes what is free, and what was the dead's.
    async fn take(&mut self, view: &View, dead: &[Uuid], channels: &[String], others: &[&HostRow]) -> Result<()> {
        let owned: HashSet<&str> = (view.leases.iter())
            .filter(|lease| !dead.contains(&lease.host_id))
            .map(|lease| lease.name.as_str())
            .collect();
        let free: Vec<Uuid> = (view.active.iter())
            .filter(|(id, channel)| channels.contains(channel) && !owned.contains(&*rows::lease_of(*id)))
            .map(|(id, _)| *id)
            .collect();
        self.free.retain(|id, _| free.contains(id));
        for id in &free {
            *self.free.entry(*id).or_default() += 1;
        }
        let room = room(view.active.len(), lock(&self.inner.mine).len(), &counts(view, others));
        let long_free = |id: &&Uuid| self.free.get(*id).is_some_and(|seen| *seen > SEEN_FREE);
        let wanted: HashSet<Uuid> = free.iter().take(room).chain(free.iter().filter(long_free)).copied().collect();
        let mut names: Vec<String> = wanted.into_iter().map(rows::lease_of).collect();
        if !owned.contains(rows::WORK) {
            names.push(rows::WORK.to_owned());
        }
        if names.is_empty() && dead.is_empty() {
            return Ok(());
        }
        names.sort_unstable();
        let taken = self.inner.store.take(self.inner.me, &names, dead, TAKEN).await?;
        let mut count = 0;
        for name in &taken {
            if name == rows::WORK {
                self.works();
            } else if let Some(id) = rows::instance_of(name) {
                lock(&self.inner.mine).insert(id);
                count += 1;
            }
        }
        if count > 0 {
            tracing::info!(instances = count, "this host has taken instances");
        }
        if !taken.is_empty() {
            self.parts.hosts.tell(&News::Leases).await;
        }
        Ok(())
    }

    /// Begins what is this host's and does not run.
    async fn begin(&self, view: &View) -> Result<()> {
        let mine: HashSet<Uuid> = lock(&self.inner.mine).clone();
        let waiting: Vec<Uuid> = view
            .active
            .iter()
            .map(|(id, _)| *id)
            .filter(|id| mine.contains(id) && !self.parts.instances.runs(*id))
            .collect();
        for id in waiting {
            fault!("hosts.begin");
            let outbound = self.parts.outbound.clone();
            // Sends that were under way when it ended elsewhere, before anything of them comes back.
            let recovered = async move { outbound.recover(Some(&[id])).await };
            if let Err(error) = self.parts.instances.begin_mine(id, recovered).await {
                tracing::warn!(instance.id = %id, %error, "an instance could not be begun; trying again");
            }
        }
        Ok(())
    }

    /// Lets go of what does not run any more because nobody wants it to.
    async fn let_go(&self, view: &View) {
        let active: HashSet<Uuid> = view.active.iter().map(|(id, _)| *id).collect();
        let idle: Vec<Uuid> = (lock(&self.inner.mine).iter())
            .filter(|id| !active.contains(id) && !self.parts.instances.runs(**id))
            .copied()
            .collect();
        for id in idle {
            if let Err(error) = self.parts.instances.hand_over(id, true, self.give(id)).await {
                tracing::debug!(instance.id = %id, %error, "an instance could not be let go of");
            }
        }
    }

    /// Gives an instance away when this host has more than its share and another one has less.
    async fn level(&self, view: &View, others: &[&HostRow]) {
        let mine = lock(&self.inner.mine).clone();
        let is_owned = |id: &Uuid| view.leases.iter().any(|lease| lease.instance() == Some(*id));
        let can = |channel: &String| others.iter().any(|host| host.channels.0.contains(channel));
        if view.active.iter().any(|(id, channel)| !is_owned(id) && can(channel)) {
            // What was given away last is on its way still.
            return;
        }
        let counts = counts(view, others);
        let lesser = || others.iter().zip(&counts).filter(|(_, has)| **has + 1 < mine.len());
        let given = view
            .active
            .iter()
            .find(|(id, channel)| mine.contains(id) && lesser().any(|(host, _)| host.channels.0.contains(channel)));
        let Some((id, _)) = given else { return };
        tracing::info!(instance.id = %id, "giving an instance to another host, which has fewer");
        self.parts.instances.leave(*id);
        if timeout(FINISH_WITHIN, self.parts.outbound.finished(*id)).await.is_err() {
            tracing::info!(instance.id = %id, "a send takes long; what became of it is found out on the other host");
        }
        match self.parts.instances.hand_over(*id, false, self.give(*id)).await {
            Ok(()) => self.parts.hosts.tell(&News::Leases).await,
            // If it is still this host's, the next look finds that and begins it again.
            Err(error) => tracing::warn!(%error, "an instance could not be given away"),
        }
    }

    /// Makes an instance nobody's. Whatever the answer, this host does not begin it before it has looked again: another one
    /// may have.
    async fn give(&self, id: Uuid) -> Result<()> {
        lock(&self.inner.mine).remove(&id);
        self.inner.store.give(self.inner.me, &[rows::lease_of(id)]).await
    }
}

/// How many instances each of some hosts has.
fn counts(view: &View, hosts: &[&HostRow]) -> Vec<usize> {
    let has = |host: &&HostRow| {
        view.leases.iter().filter(|lease| lease.host_id == host.id && lease.instance().is_some()).count()
    };
    hosts.iter().map(has).collect()
}

/// How many more of all instances a host takes that has some, beside others: its share, rounded up only while none of them
/// has fewer.
fn room(all: usize, mine: usize, others: &[usize]) -> usize {
    let hosts = others.len() + 1;
    let is_least = others.iter().all(|has| mine <= *has);
    let share = if is_least { all.div_ceil(hosts) } else { all / hosts };
    share.saturating_sub(mine)
}

#[cfg(test)]
mod tests {
    use super::room;

    #[test]
    fn whoever_has_least_takes_what_is_left_over() {
        assert_eq!(room(4, 0, &[]), 4, "alone");
        assert_eq!((room(1, 0, &[0]), room(1, 0, &[1])), (1, 1), "one for whoever is first");
        assert_eq!(room(4, 1, &[2, 0]), 0, "what was given away is for the one that has none");
        assert_eq!(room(4, 0, &[2, 1]), 2);
        assert_eq!(room(4, 2, &[2]), 0);
    }
}
