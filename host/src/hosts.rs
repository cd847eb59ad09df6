//! Several hosts on one database and one NATS: who of them has which instance, and who does the work that is done once.
//!
//! Each says every second that it lives, by the database's clock. One that could not say so for [`ENDS`] ends its
//! instances; one that nobody has heard of for [`TAKEN`] is no more: whatever it had is free, and whatever it still writes
//! is refused (`store::hosts`). In between it has ended by itself, by force if it has to: two hosts that believe that they
//! have one account would end with the network throwing both out.
//!
//! ```text
//! share      what this host takes, begins, ends and gives away
//! watchdog   ends the process when it could not end its instances in time
//! talk       what hosts tell each other: news, and what one asks the one that has an instance
//! folder     whether all of them see the same folder of files
//! live       typing and presence, for whoever follows them on another host
//! ```
//!
//! With the log in the database, or on SQLite, there is one host, which has everything.

mod folder;
mod live;
mod share;
mod talk;
mod watchdog;

pub use share::{Parts, run};
pub(crate) use talk::{Answers, Asked, AskedHead, AskedOf, News};
pub use watchdog::{Watchdog, watch};

use crate::bus::{Bus, Peers, Sizes};
use crate::store::hosts::{self as rows, Member, NewHost, View};
use crate::store::{Result, Store, StoreError, Time};
use omni_channel_sdk::SendError;
use omni_channel_sdk::request::{Reply, Request};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often a host says that it lives, and looks at what others have.
const EVERY: Duration = Duration::from_secs(1);
/// How long a host has what it has after it last said so: then it writes nothing and ends its instances.
pub const ENDS: Duration = Duration::from_secs(6);
/// How much later its process is ended when there are instances still.
const FORCED: Duration = Duration::from_secs(3);
/// How long a host must have been silent to be taken over.
pub const TAKEN: Duration = Duration::from_secs(10);

/// How long a host must have been silent for its folder of files not to matter to whoever joins: longer than one that comes
/// back after an outage of the database takes to say that it lives.
const GONE: Duration = Duration::from_secs(30);

/// Whether nobody has heard of a host for so long that it may soon be taken over.
pub fn is_silent(host: &rows::HostRow) -> bool {
    u128::try_from(host.silent_ms).unwrap_or(0) * 2 > TAKEN.as_millis()
}

/// What this host has, and what it knows of the others. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Hosts(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    me: Uuid,
    store: Store,
    peers: Peers,
    /// The instances that this host has. Nobody takes one away while the host lives.
    mine: Mutex<HashSet<Uuid>>,
    /// Whether this host does the work that is done once.
    works: watch::Sender<bool>,
    seen: watch::Sender<Arc<View>>,
    /// There is something to be taken or given.
    look: Notify,
}

/// A host that joins the others.
#[derive(Debug)]
pub(crate) struct Joins<'a> {
    /// Its id, which it keeps from run to run.
    pub id: Uuid,
    /// Its name, for people.
    pub name: &'a str,
    /// How large what goes to and from others may be.
    pub sizes: Sizes,
    /// Where it keeps files: the same folder on all hosts.
    pub media: PathBuf,
}

/// Another host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its id.
    pub host: Uuid,
    /// Its name.
    pub name: String,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Hosts {
    /// One host, which has everything.
    pub fn alone() -> Self {
        Self(None)
    }

    /// One of several on a database, where `bus` leads to the others.
    pub(crate) async fn join(store: &Store, bus: &Bus, host: Joins<'_>, now: Time) -> Result<(Self, Member)> {
        let Joins { id, name, sizes, media } = host;
        let Some(peers) = bus.peers(sizes) else {
            return Err(StoreError::Unfit("several hosts need NATS (`bus.url`)".into()));
        };
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let joining = store.join(NewHost { id, name: name.to_owned(), version, ends: ENDS }, GONE, now).await?;
        let folder = folder::Folder { path: media, host: id };
        let mark = folder.agree(&joining.others, joining.mark.clone()).await.map_err(StoreError::Unfit)?;
        let member = joining.go_on(mark.as_deref(), now).await?;
        let view = store.view().await?;
        let of_mine = view.leases.iter().filter(|lease| lease.host_id == id);
        let mine = of_mine.clone().filter_map(rows::LeaseRow::instance).collect();
        let works = of_mine.clone().any(|lease| lease.name == rows::WORK);
        bus.share(view.hosts.len() > 1);
        let inner = Inner {
            me: id,
            store: store.clone(),
            peers,
            mine: Mutex::new(mine),
            works: watch::Sender::new(works),
            seen: watch::Sender::new(Arc::new(view)),
            look: Notify::new(),
        };
        Ok((Self(Some(Arc::new(inner))), member))
    }

    /// This host's id, when it is one of several.
    pub fn me(&self) -> Option<Uuid> {
        Some(self.0.as_ref()?.me)
    }

    /// Returns once this host does the work that is done once.
    pub async fn works(&self) {
        match &self.0 {
            None => {}
            // The sender is ours.
            Some(inner) => drop(inner.works.subscribe().wait_for(|works| *works).await),
        }
    }

    /// What was seen last of all hosts.
    pub fn view(&self) -> Arc<View> {
        self.0.as_ref().map_or_else(Arc::default, |inner| Arc::clone(&inner.seen.borrow()))
    }

    /// Who else has an instance, as far as this host knows.
    pub fn owner(&self, instance: Uuid) -> Option<Elsewhere> {
        let inner = self.0.as_ref()?;
        if lock(&inner.mine).contains(&instance) {
            return None;
        }
        inner.elsewhere(&rows::lease_of(instance))
    }

    /// Who else does the work that is done once.
    pub fn worker(&self) -> Option<Elsewhere> {
        let inner = self.0.as_ref()?;
        if *inner.works.borrow() { None } else { inner.elsewhere(rows::WORK) }
    }

    /// Whether there are others.
    pub fn has_others(&self) -> bool {
        let Some(inner) = &self.0 else { return false };
        inner.seen.borrow().hosts.iter().any(|host| host.id != inner.me)
    }

    /// Makes an instance this host's, if nobody has it.
    pub async fn own(&self, instance: Uuid) -> Result<std::result::Result<(), Elsewhere>> {
        let Some(inner) = &self.0 else { return Ok(Ok(())) };
        if lock(&inner.mine).contains(&instance) {
            return Ok(Ok(()));
        }
        let name = rows::lease_of(instance);
        if inner.store.take(inner.me, std::slice::from_ref(&name), &[], TAKEN).await?.is_empty() {
            self.look_again().await?;
            // Whoever had it may have let go of it in the meantime: then the next try has it.
            let unknown = || Elsewhere { host: Uuid::nil(), name: "another host".into() };
            return Ok(Err(inner.elsewhere(&name).unwrap_or_else(unknown)));
        }
        lock(&inner.mine).insert(instance);
        self.tell(&News::Leases).await;
        Ok(Ok(()))
    }

    /// Looks at who has what.
    async fn look_again(&self) -> Result<()> {
        if let Some(inner) = &self.0 {
            inner.seen.send_replace(Arc::new(inner.store.view().await?));
        }
        Ok(())
    }

    /// Whether this host may still act for its instances: a host that was paused finds out here, before it speaks to a
    /// network.
    pub fn may_act(&self) -> bool {
        match &self.0 {
            None => true,
            Some(inner) => inner.store.lease_left().is_none_or(|left| !left.is_zero()),
        }
    }

    /// Asks the host that has an instance for something that is not a message.
    pub async fn request(
        &self,
        owner: &Elsewhere,
        instance: Uuid,
        request: &Request,
        within: Duration,
    ) -> std::result::Result<Reply, SendError> {
        match &self.0 {
            None => Err(SendError::internal("there are no other hosts")),
            Some(inner) => talk::request(&inner.peers, owner, instance, request, within).await,
        }
    }

    /// Hands a request of the API to another host, whole; gives back its answer.
    pub(crate) async fn hand_on(&self, owner: &Elsewhere, http: Asked, within: Duration) -> AskedOf {
        match &self.0 {
            None => AskedOf::NotThere,
            Some(inner) => talk::hand_on(&inner.peers, owner, http, within).await,
        }
    }

    /// Tells the others something.
    pub(crate) async fn tell(&self, news: &News) {
        if let Some(inner) = &self.0
            && self.has_others()
        {
            talk::tell(&inner.peers, inner.me, news).await;
        }
    }
}

impl Inner {
    fn elsewhere(&self, lease: &str) -> Option<Elsewhere> {
        let view = self.seen.borrow();
        let lease = view.leases.iter().find(|found| found.name == lease && found.host_id != self.me)?;
        let host = view.hosts.iter().find(|host| host.id == lease.host_id)?;
        Some(Elsewhere { host: host.id, name: host.name.clone() })
    }
}

/// Says every second that this host lives, until it is told to stop; then what it had is free. Returns before when it was
/// taken over.
pub async fn keep(mut member: Member, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut warned = false;
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        match tokio::time::timeout(ENDS / 3, member.beat()).await {
            Ok(Ok(true)) => {
                if std::mem::take(&mut warned) {
                    tracing::info!("the database answers again, and this host still has what it had");
                }
            }
            Ok(Ok(false)) => {
                tracing::error!("another host has taken over what this one had; it stops");
                return;
            }
            Ok(Err(StoreError::Taken(reason))) => {
                tracing::error!(reason, "the database is another host's alone; this one stops");
                return;
            }
            failed => {
                let reason = match failed {
                    Ok(Err(error)) => error.explain(),
                    _ => "it did not answer in time".to_owned(),
                };
                if !std::mem::replace(&mut warned, true) {
                    let ends = ENDS.as_secs();
                    tracing::warn!(
                        reason,
                        "this host cannot tell the database that it lives; unless it can within {ends} s its instances end"
                    );
                }
            }
        }
    }
    match tokio::time::timeout(EVERY * 2, member.leave()).await {
        Ok(Ok(())) => {}
        _ => tracing::warn!("the database could not be told that this host is gone; others find out in a few seconds"),
    }
}

/// The id of the host of a data folder: made once, and anew in a copy of the folder, which is another host's.
pub fn id_of(folder: &Path) -> std::io::Result<Uuid> {
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;
    const FILE: &str = "host.id";
    let file = folder.join(FILE);
    let written = || {
        let text = std::fs::read_to_string(&file).ok()?;
        let (id, inode) = text.trim().split_once(' ')?;
        let same = std::fs::metadata(&file).ok()?.ino().to_string() == inode;
        id.parse::<Uuid>().ok().filter(|_| same)
    };
    if let Some(id) = written() {
        return Ok(id);
    }
    let id = Uuid::new_v4();
    let new = folder.join(format!("{FILE}.new"));
    let mut made = std::fs::File::create(&new)?;
    let inode = made.metadata()?.ino();
    made.write_all(format!("{id} {inode}\n").as_bytes())?;
    made.sync_all()?;
    std::fs::rename(&new, &file)?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_keeps_its_id_and_a_copy_of_its_folder_gets_another() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let id = id_of(folder.path()).expect("an id");
        assert_eq!(id_of(folder.path()).expect("an id"), id);
        let copy = tempfile::tempdir().expect("a temporary folder");
        std::fs::copy(folder.path().join("host.id"), copy.path().join("host.id")).expect("copies");
        let other = id_of(copy.path()).expect("an id");
        assert_ne!(other, id);
        assert_eq!(id_of(copy.path()).expect("an id"), other);
        std::fs::write(copy.path().join("host.id"), "damaged").expect("writes");
        assert_ne!(id_of(copy.path()).expect("an id"), other);
    }
}
