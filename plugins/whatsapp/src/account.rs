//! What belongs to one account, whether it is connected or not.

use crate::acks::Acks;
use crate::care::Care;
use crate::config::Config;
use crate::inbound::{Inbound, Wanted};
use crate::kv::{Kv, Patient, Write};
use crate::login::Login;
use crate::names::Names;
use crate::store::Store;
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use wacore::store::traits::DeviceStore;

/// Why the account is not to be connected, kept over a restart.
const ENDED: &str = "ended";
/// Where what belonged to an earlier identity lies.
const KEPT: &str = "kept/";
/// Marks that the device's certificate of the server was given by the configuration.
const STAND_IN: &str = "stand-in";

/// The parts of one account.
pub struct Account {
    /// The configuration.
    pub config: Config,
    /// The host, at any time.
    pub host: Host,
    /// The host's key-value store.
    pub kv: Arc<dyn Kv>,
    /// The library's state in it.
    pub store: Arc<Store>,
    /// Where the library runs.
    pub runtime: Handle,
    /// A login under way.
    pub login: Login,
    /// Sends that wait.
    pub acks: Acks,
    /// How fast it may send.
    pub care: Care,
    /// Accounts and messages.
    pub names: Arc<Names>,
    /// What turns messages into events.
    pub inbound: Arc<Inbound>,
    asked_history: Mutex<HashMap<String, oneshot::Sender<HistoryAnswer>>>,
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

/// A piece of history that was asked for.
#[derive(Debug, Default)]
pub struct HistoryAnswer {
    /// From old to new.
    pub events: Vec<Event>,
    /// Where to go on.
    pub oldest: Option<crate::inbound::history::Oldest>,
}

/// Why the account is no longer to be connected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// In a sentence.
    pub reason: String,
    /// What to do, in a sentence.
    pub user_action: String,
}

impl Account {
    /// The account as it was left.
    pub async fn load(ctx: &Context, config: Config, runtime: Handle) -> Result<Self, ChannelError> {
        let host = ctx.background();
        let kv: Arc<dyn Kv> = Arc::new(host.clone());
        let names = Arc::new(Names::load(Arc::clone(&kv)).await?);
        let wanted = Wanted { status: config.status_updates, newsletters: config.newsletters };
        let care = Care::load(&*kv, config.pacing).await?;
        Ok(Self {
            inbound: Arc::new(Inbound::new(Arc::clone(&names), wanted)),
            store: Arc::new(Store::new(Arc::new(Patient::new(host.clone(), runtime.clone())))),
            login: Login::default(),
            acks: Acks::default(),
            asked_history: Mutex::default(),
            config,
            host,
            kv,
            runtime,
            care,
            names,
        })
    }

    /// Whether a phone has linked this device.
    pub async fn is_linked(&self) -> Result<bool, ChannelError> {
        let device = self.store.load().await.map_err(|error| {
            ChannelError::stopped(format!(
                "the account's device cannot be read ({error}); take its auth state over again"
            ))
        })?;
        Ok(device.is_some_and(|device| device.pn.is_some()))
    }

    /// Why it is not to be connected.
    pub async fn ended(&self) -> Result<Option<Ended>, HostError> {
        Ok(self.kv.get(ENDED).await?.and_then(|value| serde_json::from_slice(&value).ok()))
    }

    /// The entry that keeps why it is not to be connected, or takes that away.
    pub fn ended_entry(ended: Option<&Ended>) -> Write {
        (ENDED.to_owned(), ended.and_then(|ended| serde_json::to_vec(ended).ok()))
    }

    /// Puts the certificate of a stand-in server where the library looks for it, and takes it away when there is none any more.
    pub async fn prepare_stand_in(&self) -> Result<(), ChannelError> {
        let chain = self.config.cert_chain()?;
        let marked = self.kv.get(STAND_IN).await?.is_some();
        if chain.is_none() && !marked {
            return Ok(());
        }
        let failed = |error: wacore::store::error::StoreError| ChannelError::transient(error.to_string());
        if let Some(mut device) = self.store.load().await.map_err(failed)? {
            device.server_cert_chain.clone_from(&chain);
            self.store.save(&device).await.map_err(failed)?;
        }
        self.kv.write(vec![(STAND_IN.to_owned(), chain.map(|_| Vec::new()))]).await?;
        Ok(())
    }

    /// Moves everything that belonged to an identity out of the way of a new one. Nothing is thrown away: it lies under
    /// `kept/` until the next time.
    pub async fn set_aside(&self) -> Result<(), HostError> {
        let writes = aside(self.kv.all("").await?);
        for piece in writes.chunks(500) {
            self.kv.write(piece.to_vec()).await?;
        }
        Ok(())
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<HistoryAnswer>>> {
        self.asked_history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the answer to a request for history.
    pub fn expect_history(&self, id: &str) -> oneshot::Receiver<HistoryAnswer> {
        let (tell, told) = oneshot::channel();
        let mut asked = self.asked();
        asked.retain(|_, waiting| !waiting.is_closed());
        asked.insert(id.to_owned(), tell);
        told
    }

    /// The answer to a request for history; `false` when nobody asked.
    pub fn answer_history(&self, id: &str, answer: HistoryAnswer) -> bool {
        self.asked().remove(id).is_some_and(|tell| tell.send(answer).is_ok())
    }

    /// Whether somebody waits for history under that id.
    pub fn is_history_asked(&self, id: &str) -> bool {
        self.asked().contains_key(id)
    }
}

/// The writes that put everything below `kept/`, in the place of what was kept before.
///
/// They are done in pieces: first everything is copied, then it goes, the device and the word that it ended for the last. After
/// a death in between it is done anew, and what is kept already stays.
fn aside(entries: Vec<(String, Vec<u8>)>) -> Vec<Write> {
    let (before, now): (BTreeMap<_, _>, BTreeMap<_, _>) =
        entries.into_iter().partition(|(key, _)| key.starts_with(KEPT));
    let device = now.get("device");
    let is_anew = device.is_none() || device == before.get(&format!("{KEPT}device"));
    let mut writes: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    if !is_anew {
        writes.extend(before.into_keys().map(|key| (key, None)));
    }
    for (key, value) in now {
        writes.insert(format!("{KEPT}{key}"), Some(value));
        writes.insert(key, None);
    }
    let mut writes: Vec<Write> = writes.into_iter().collect();
    writes.sort_by_key(|(key, value)| match (value, key.as_str()) {
        (Some(_), _) => 0,
        (None, "device") => 2,
        (None, ENDED) => 3,
        (None, _) => 1,
    });
    writes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kv::Memory;

    fn kept(kv: &Memory) -> Vec<(String, Vec<u8>)> {
        kv.entries().into_iter().collect()
    }

    async fn put(kv: &Memory, entries: &[(&str, &str)]) {
        kv.write(entries.iter().map(|(key, value)| ((*key).to_owned(), Some((*value).into()))).collect())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn what_is_set_aside_is_there_whole_also_the_second_time() {
        let kv = Memory::default();
        put(&kv, &[("device", "first"), ("s/1", "session"), (ENDED, "why")]).await;
        kv.write(aside(kv.all("").await.unwrap())).await.unwrap();
        assert_eq!(kept(&kv).len(), 3);
        put(&kv, &[("device", "second"), (ENDED, "why")]).await;
        kv.write(aside(kv.all("").await.unwrap())).await.unwrap();
        let expected = [("kept/device", "second"), ("kept/ended", "why")];
        assert_eq!(kept(&kv), expected.map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())));
    }

    #[tokio::test]
    async fn a_death_at_any_write_loses_nothing_that_is_set_aside() {
        let entries = [("device", "d"), ("id/1", "i"), ("s/1", "s"), (ENDED, "why")];
        let steps = entries.len() * 2;
        for died_after in 0..=steps {
            let kv = Memory::default();
            put(&kv, &entries).await;
            for write in aside(kv.all("").await.unwrap()).into_iter().take(died_after) {
                kv.write(vec![write]).await.unwrap();
            }
            assert!(
                died_after == steps || kv.get(ENDED).await.unwrap().is_some(),
                "it is known that there is more to do"
            );
            kv.write(aside(kv.all("").await.unwrap())).await.unwrap();
            let expected = entries.map(|(key, value)| (format!("{KEPT}{key}"), value.as_bytes().to_vec()));
            assert_eq!(kv.entries(), BTreeMap::from(expected), "after {died_after} writes");
        }
    }
}
