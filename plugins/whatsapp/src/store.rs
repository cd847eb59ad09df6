//! The library's state in the host's key-value store: [`Store`] is the `Backend` that whatsapp-rust asks for.
//!
//! One entry per record, so that a message changes a few small entries. Every write is durable when it returns: the order of
//! the library is the order on the disk. What waited at the server is kept, its ratchets are written, it is handed over and
//! acknowledged. What comes live is kept, handed over and acknowledged, and its ratchets are written some 25 ms later in one
//! go: a receiving chain that is behind derives what it lacks from the next message, and a pre-key stays until the session
//! with it is written. What is sent is behind a lease of counters that is written before, so none is used twice. Nothing is
//! cached here; the library has caches of its own. Keys:
//!
//! | key | value |
//! |---|---|
//! | `device` | the device: who this account is and its keys (JSON) |
//! | `id/ADDRESS`, `s/ADDRESS` | a peer's identity key; the session with it |
//! | `pk/NUMBER`, `spk/NUMBER` | a one-time pre-key (first byte: uploaded or not); a signed pre-key |
//! | `sk/GROUP:ADDRESS`, `skd/GROUP/DEVICE` | a sender key; whether a device has ours |
//! | `ask/HEX`, `ask-latest`, `asv/NAME`, `asm/NAME/HEX` | keys, versions and MACs of the app state |
//! | `lid/LID`, `pn/PHONE` | which phone number a LID is, and the reverse |
//! | `dev/USER`, `gm/GROUP`, `tc/JID` | device lists, group metadata, trusted-contact tokens |
//! | `bk/ADDRESS/MESSAGE`, `sent/CHAT/MESSAGE`, `in/CHAT/SENDER/MESSAGE`, `sec/CHAT/SENDER/MESSAGE` | base keys, what was sent (for retries), what is not yet handed over, secrets of messages |

mod listing;
mod protocol;
mod secrets;
mod signal;
mod sync;

use crate::kv::{Kv, Write};
use async_trait::async_trait;
use omni_channel_sdk::error::HostError;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use wacore::store::Device;
use wacore::store::error::{Result, StoreError};
use wacore::store::traits::DeviceStore;

const DEVICE: &str = "device";
/// No key of the host's store is longer.
const MAX_KEY: usize = 400;

/// The state of one account.
pub struct Store {
    kv: Arc<dyn Kv>,
    /// The highest pre-key that was ever stored, once it was looked up; [`NOT_KNOWN`] before.
    highest_pre_key: AtomicU32,
}

const NOT_KNOWN: u32 = u32::MAX;

impl Store {
    /// The state that lies in a key-value store.
    pub fn new(kv: Arc<dyn Kv>) -> Self {
        Self { kv, highest_pre_key: AtomicU32::new(NOT_KNOWN) }
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        self.kv.get(&checked(key)?).await.map_err(failed)
    }

    /// The same of a record that the two sides can agree on anew. One that the host can no longer read is as good as none, and
    /// is taken away: as long as it lay there, nothing could be read from this peer, nor anything new be agreed on.
    async fn get_if_whole(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let key = checked(key)?;
        match self.kv.get(&key).await {
            Err(HostError(why)) if why.contains("cannot be read") => {
                self.remove(key).await?;
                Ok(None)
            }
            found => found.map_err(failed),
        }
    }

    async fn write(&self, writes: Vec<Write>) -> Result<()> {
        if writes.is_empty() {
            return Ok(());
        }
        let writes =
            writes.into_iter().map(|(key, value)| checked(&key).map(|key| (key, value))).collect::<Result<Vec<_>>>()?;
        self.kv.write(writes).await.map_err(failed)
    }

    async fn put(&self, key: String, value: Vec<u8>) -> Result<()> {
        self.write(vec![(key, Some(value))]).await
    }

    async fn remove(&self, key: String) -> Result<()> {
        self.write(vec![(key, None)]).await
    }

    async fn all(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        self.kv.all(prefix).await.map_err(failed)
    }

    async fn any(&self, prefix: &str) -> Result<bool> {
        Ok(!self.kv.scan(prefix, None, 1).await.map_err(failed)?.is_empty())
    }

    /// Takes away what a look at the value says is old; tells how many.
    async fn sweep(&self, prefix: &str, old: impl Fn(&[u8]) -> bool + Send) -> Result<u32> {
        let gone: Vec<Write> =
            self.all(prefix).await?.into_iter().filter(|(_, value)| old(value)).map(|(key, _)| (key, None)).collect();
        let count = u32::try_from(gone.len()).unwrap_or(u32::MAX);
        for part in gone.chunks(500) {
            self.write(part.to_vec()).await?;
        }
        Ok(count)
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).await?.map(|value| from_json(key, &value)).transpose()
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

/// Ids come from the network: one that is too long for a key is hashed, so that it neither fails nor meets another.
fn checked(key: &str) -> Result<String> {
    use sha2::{Digest, Sha256};
    if key.len() <= MAX_KEY {
        return Ok(key.to_owned());
    }
    let kind = key.split('/').next().unwrap_or_default();
    Ok(format!("{kind}/#{}", hex::encode(Sha256::digest(key.as_bytes()))))
}

fn failed(error: HostError) -> StoreError {
    StoreError::Database(Box::new(error))
}

fn from_json<T: serde::de::DeserializeOwned>(key: &str, value: &[u8]) -> Result<T> {
    serde_json::from_slice(value).map_err(|error| damaged(key, &error.to_string()))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|error| StoreError::Serialization(Box::new(error)))
}

fn damaged(key: &str, why: &str) -> StoreError {
    let kind = key.split('/').next().unwrap_or_default();
    StoreError::Validation(format!("an entry of kind {kind:?} is damaged: {why}"))
}

#[async_trait]
impl DeviceStore for Store {
    async fn save(&self, device: &Device) -> Result<()> {
        self.put(DEVICE.into(), to_json(device)?).await
    }

    async fn load(&self) -> Result<Option<Device>> {
        self.json(DEVICE).await
    }

    async fn exists(&self) -> Result<bool> {
        Ok(self.get(DEVICE).await?.is_some())
    }

    async fn create(&self) -> Result<i32> {
        // One account per store: its number is of no use, and nothing need be written before there is a device.
        Ok(1)
    }
}
