//! What there is in the store, for giving it away.

use super::signal::{IDENTITIES, PRE_KEYS, SENDER_KEYS, SESSIONS, number};
use super::sync::{KEYS, MACS};
use super::{Store, damaged};
use crate::baileys::Listing;
use async_trait::async_trait;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::error::Result;

impl Store {
    /// What comes behind a prefix in the keys of the entries below it.
    async fn below(&self, prefix: &str) -> Result<Vec<String>> {
        Ok(self.all(prefix).await?.into_iter().map(|(key, _)| key[prefix.len()..].to_owned()).collect())
    }
}

fn bytes(key: &str, digits: &str) -> Result<Vec<u8>> {
    hex::decode(digits).map_err(|error| damaged(key, &format!("its key is not in hex digits: {error}")))
}

#[async_trait]
impl Listing for Store {
    async fn session_addresses(&self) -> Result<Vec<String>> {
        self.below(SESSIONS).await
    }

    async fn identity_addresses(&self) -> Result<Vec<String>> {
        self.below(IDENTITIES).await
    }

    async fn sender_key_names(&self) -> Result<Vec<String>> {
        self.below(SENDER_KEYS).await
    }

    async fn prekey_ids(&self) -> Result<Vec<u32>> {
        self.all(PRE_KEYS).await?.iter().map(|(key, _)| number(key)).collect()
    }

    async fn sync_key_ids(&self) -> Result<Vec<Vec<u8>>> {
        self.below(KEYS).await?.iter().map(|digits| bytes(KEYS, digits)).collect()
    }

    async fn mutation_macs(&self, collection: &str) -> Result<Vec<AppStateMutationMAC>> {
        let prefix = format!("{MACS}{collection}/");
        let entries = self.all(&prefix).await?.into_iter();
        entries
            .map(|(key, value_mac)| {
                Ok(AppStateMutationMAC { index_mac: bytes(&key, &key[prefix.len()..])?, value_mac })
            })
            .collect()
    }
}
