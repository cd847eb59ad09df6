//! Identities, sessions, pre-keys and sender keys.

use super::{NOT_KNOWN, Store, damaged};
use crate::kv::Write;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use wacore::store::error::Result;
use wacore::store::traits::SignalStore;

pub(super) const PRE_KEYS: &str = "pk/";
pub(super) const SIGNED_PRE_KEYS: &str = "spk/";
pub(super) const SESSIONS: &str = "s/";
pub(super) const IDENTITIES: &str = "id/";
pub(super) const SENDER_KEYS: &str = "sk/";

/// In the order of the numbers, too.
fn pre_key(id: u32) -> String {
    format!("{PRE_KEYS}{id:010}")
}

fn signed_pre_key(id: u32) -> String {
    format!("{SIGNED_PRE_KEYS}{id:010}")
}

/// The number at the end of a pre-key's entry.
pub(super) fn number(key: &str) -> Result<u32> {
    let digits = key.rsplit('/').next().unwrap_or_default();
    digits.parse().map_err(|_| damaged(key, "its key is no number"))
}

fn with_flag(record: &[u8], uploaded: bool) -> Vec<u8> {
    let mut value = Vec::with_capacity(record.len() + 1);
    value.push(u8::from(uploaded));
    value.extend_from_slice(record);
    value
}

#[async_trait]
impl SignalStore for Store {
    async fn put_identity(&self, address: &str, key: [u8; 32]) -> Result<()> {
        self.put(format!("{IDENTITIES}{address}"), key.to_vec()).await
    }

    async fn put_identities_batch(&self, identities: &[(Arc<str>, [u8; 32])]) -> Result<()> {
        let writes = identities.iter().map(|(address, key)| (format!("{IDENTITIES}{address}"), Some(key.to_vec())));
        self.write(writes.collect()).await
    }

    async fn load_identity(&self, address: &str) -> Result<Option<[u8; 32]>> {
        let key = format!("{IDENTITIES}{address}");
        let Some(value) = self.get(&key).await? else { return Ok(None) };
        let identity = value.as_slice().try_into();
        identity.map(Some).map_err(|_| damaged(&key, "an identity has 32 bytes"))
    }

    async fn delete_identity(&self, address: &str) -> Result<()> {
        self.remove(format!("{IDENTITIES}{address}")).await
    }

    async fn get_session(&self, address: &str) -> Result<Option<Bytes>> {
        Ok(self.get_if_whole(&format!("{SESSIONS}{address}")).await?.map(Bytes::from))
    }

    async fn put_session(&self, address: &str, session: &[u8]) -> Result<()> {
        self.put(format!("{SESSIONS}{address}"), session.to_vec()).await
    }

    async fn put_sessions_batch(&self, sessions: &[(Arc<str>, Bytes)]) -> Result<()> {
        let writes = sessions.iter().map(|(address, session)| (format!("{SESSIONS}{address}"), Some(session.to_vec())));
        self.write(writes.collect()).await
    }

    async fn delete_session(&self, address: &str) -> Result<()> {
        self.remove(format!("{SESSIONS}{address}")).await
    }

    async fn has_signal_state_for_user(&self, user: &str) -> Result<bool> {
        for kind in [SESSIONS, IDENTITIES] {
            for end in ['@', ':'] {
                if self.any(&format!("{kind}{user}{end}")).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    async fn store_prekey(&self, id: u32, record: &[u8], uploaded: bool) -> Result<()> {
        self.store_prekeys_batch(&[(id, Bytes::copy_from_slice(record))], uploaded).await
    }

    async fn store_prekeys_batch(&self, keys: &[(u32, Bytes)], uploaded: bool) -> Result<()> {
        self.write(keys.iter().map(|(id, record)| (pre_key(*id), Some(with_flag(record, uploaded)))).collect()).await?;
        // Only what is known can grow; what is not is looked up when it is asked for.
        for (id, _) in keys {
            let higher = |known| (known != NOT_KNOWN && known < *id).then_some(*id);
            let _ = self.highest_pre_key.fetch_update(Ordering::AcqRel, Ordering::Acquire, higher);
        }
        Ok(())
    }

    async fn load_prekey(&self, id: u32) -> Result<Option<Bytes>> {
        Ok(self.get(&pre_key(id)).await?.filter(|value| !value.is_empty()).map(|value| Bytes::from(value).slice(1..)))
    }

    async fn mark_prekeys_uploaded(&self, ids: &[u32]) -> Result<()> {
        let mut writes: Vec<Write> = Vec::with_capacity(ids.len());
        // One that is gone was used in the meantime, and stays gone.
        for id in ids {
            if let Some(mut value) = self.get(&pre_key(*id)).await?.filter(|value| value.first() == Some(&0)) {
                value[0] = 1;
                writes.push((pre_key(*id), Some(value)));
            }
        }
        self.write(writes).await
    }

    async fn remove_prekey(&self, id: u32) -> Result<()> {
        self.remove(pre_key(id)).await
    }

    async fn get_max_prekey_id(&self) -> Result<u32> {
        let known = self.highest_pre_key.load(Ordering::Acquire);
        if known != NOT_KNOWN {
            return Ok(known);
        }
        let highest = match self.all(PRE_KEYS).await?.last() {
            Some((key, _)) => number(key)?,
            None => 0,
        };
        self.highest_pre_key.store(highest, Ordering::Release);
        Ok(highest)
    }

    async fn store_signed_prekey(&self, id: u32, record: &[u8]) -> Result<()> {
        self.put(signed_pre_key(id), record.to_vec()).await
    }

    async fn load_signed_prekey(&self, id: u32) -> Result<Option<Vec<u8>>> {
        self.get(&signed_pre_key(id)).await
    }

    async fn load_all_signed_prekeys(&self) -> Result<Vec<(u32, Vec<u8>)>> {
        self.all(SIGNED_PRE_KEYS).await?.into_iter().map(|(key, record)| Ok((number(&key)?, record))).collect()
    }

    async fn remove_signed_prekey(&self, id: u32) -> Result<()> {
        self.remove(signed_pre_key(id)).await
    }

    async fn put_sender_key(&self, address: &str, record: &[u8]) -> Result<()> {
        self.put(format!("{SENDER_KEYS}{address}"), record.to_vec()).await
    }

    async fn put_sender_keys_batch(&self, sender_keys: &[(Arc<str>, Bytes)]) -> Result<()> {
        let writes = sender_keys.iter().map(|(name, record)| (format!("{SENDER_KEYS}{name}"), Some(record.to_vec())));
        self.write(writes.collect()).await
    }

    async fn get_sender_key(&self, address: &str) -> Result<Option<Vec<u8>>> {
        self.get_if_whole(&format!("{SENDER_KEYS}{address}")).await
    }

    async fn delete_sender_key(&self, address: &str) -> Result<()> {
        self.remove(format!("{SENDER_KEYS}{address}")).await
    }
}
