//! The app state: its keys, the version of each collection, the MACs of what was set.

use super::{Store, to_json};
use async_trait::async_trait;
use wacore::appstate::hash::HashState;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::error::Result;
use wacore::store::traits::{AppStateSyncKey, AppSyncStore};

pub(super) const KEYS: &str = "ask/";
pub(super) const VERSIONS: &str = "asv/";
pub(super) const MACS: &str = "asm/";
const LATEST: &str = "ask-latest";

fn mac(name: &str, index: &[u8]) -> String {
    format!("{MACS}{name}/{}", hex::encode(index))
}

#[async_trait]
impl AppSyncStore for Store {
    async fn get_sync_key(&self, key_id: &[u8]) -> Result<Option<AppStateSyncKey>> {
        self.json(&format!("{KEYS}{}", hex::encode(key_id))).await
    }

    async fn set_sync_key(&self, key_id: &[u8], key: AppStateSyncKey) -> Result<()> {
        let id = format!("{KEYS}{}", hex::encode(key_id));
        self.write(vec![(id, Some(to_json(&key)?)), (LATEST.into(), Some(key_id.to_vec()))]).await
    }

    async fn get_version(&self, name: &str) -> Result<HashState> {
        Ok(self.json(&format!("{VERSIONS}{name}")).await?.unwrap_or_default())
    }

    async fn set_version(&self, name: &str, state: HashState) -> Result<()> {
        self.put(format!("{VERSIONS}{name}"), to_json(&state)?).await
    }

    async fn put_mutation_macs(&self, name: &str, _version: u64, mutations: &[AppStateMutationMAC]) -> Result<()> {
        let writes = mutations.iter().map(|one| (mac(name, &one.index_mac), Some(one.value_mac.clone())));
        self.write(writes.collect()).await
    }

    async fn get_mutation_mac(&self, name: &str, index_mac: &[u8]) -> Result<Option<Vec<u8>>> {
        self.get(&mac(name, index_mac)).await
    }

    async fn delete_mutation_macs(&self, name: &str, index_macs: &[Vec<u8>]) -> Result<()> {
        self.write(index_macs.iter().map(|index| (mac(name, index), None)).collect()).await
    }

    async fn clear_mutation_macs(&self, name: &str) -> Result<()> {
        self.sweep(&format!("{MACS}{name}/"), |_| true).await.map(|_| ())
    }

    async fn get_latest_sync_key_id(&self) -> Result<Option<Vec<u8>>> {
        self.get(LATEST).await
    }
}
