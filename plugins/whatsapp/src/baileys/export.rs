//! Giving an account away: a folder that Baileys 7 loads with `useMultiFileAuthState` and logs in with.
//!
//! The account must be stopped first: a copy of a session that goes on is worthless after its next message. wacore's traits
//! cannot list what there is, so the store says it through [`Listing`].
//!
//! Not given away: what only we keep (secrets of messages, lists of devices, who has which group key, server certificates).

use super::app_state::{self, COLLECTIONS};
use super::{address, creds, encoding, names, sender_key, session_out};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::store::error::{Result as StoreResult, StoreError};
use wacore::store::traits::Backend;

/// What is in a store, where wacore's traits only ask for one thing by its key.
#[async_trait]
pub trait Listing: Send + Sync {
    /// Keys of all sessions, as given to `put_session`.
    async fn session_addresses(&self) -> StoreResult<Vec<String>>;
    /// Keys of all identities, as given to `put_identity`.
    async fn identity_addresses(&self) -> StoreResult<Vec<String>>;
    /// Keys of all sender keys, as given to `put_sender_key`.
    async fn sender_key_names(&self) -> StoreResult<Vec<String>>;
    /// Ids of all pre-keys.
    async fn prekey_ids(&self) -> StoreResult<Vec<u32>>;
    /// Ids of all app-state keys.
    async fn sync_key_ids(&self) -> StoreResult<Vec<Vec<u8>>>;
    /// All mutation MACs of a collection.
    async fn mutation_macs(&self, collection: &str) -> StoreResult<Vec<AppStateMutationMAC>>;
}

/// An account as files.
#[derive(Debug, Default)]
pub struct Export {
    /// Name → content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// What stayed behind and why, a sentence each.
    pub warnings: Vec<String>,
}

/// Why nothing was given away.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The operator logs in first.
    #[error("the instance is not logged in, so there is nothing to give away")]
    NotPaired,
    /// Nobody: it may be tried again.
    #[error("what is stored could not be read")]
    Store(#[from] StoreError),
}

/// Gives an account away as the files of a Baileys 7 folder.
pub async fn export(backend: &dyn Backend, listing: &dyn Listing) -> Result<Export, ExportError> {
    let device = backend.load().await?.filter(|device| device.pn.is_some() && device.account.is_some());
    let device = device.ok_or(ExportError::NotPaired)?;
    let mut export = Export::default();
    let sync_key = backend.get_latest_sync_key_id().await?;
    let synced = export.app_state(backend, listing).await?;
    export.put("creds.json".into(), &creds::export(&device, sync_key.as_deref(), synced && sync_key.is_some()));
    export.pre_keys(backend, listing).await?;
    export.sessions(backend, listing).await?;
    export.sender_keys(backend, listing).await?;
    export.people(backend).await?;
    Ok(export)
}

impl Export {
    fn put(&mut self, name: String, value: &Value) {
        self.files.insert(name, value.to_string().into_bytes());
    }

    fn left(&mut self, what: &str, why: &str) {
        self.warnings.push(format!("{what} stays behind: {why}"));
    }

    async fn pre_keys(&mut self, backend: &dyn Backend, listing: &dyn Listing) -> StoreResult<()> {
        for (id, record) in backend.load_prekeys_batch(&listing.prekey_ids().await?).await? {
            let Ok(key) = waproto::codec::pre_key_record_decode(&record) else {
                self.left(&format!("pre-key {id}"), "it cannot be read");
                continue;
            };
            let part = |bytes: &Option<Vec<u8>>| encoding::buffer(bytes.as_deref().unwrap_or_default());
            let value = json!({ "private": part(&key.private_key), "public": part(&key.public_key) });
            self.put(names::file("pre-key", &id.to_string()), &value);
        }
        Ok(())
    }

    async fn sessions(&mut self, backend: &dyn Backend, listing: &dyn Listing) -> StoreResult<()> {
        let (mut keys_lost, mut states_lost) = (0, 0);
        for key in listing.session_addresses().await? {
            let Some(record) = backend.get_session(&key).await? else { continue };
            let Some((user, device)) = address::exported(&key) else {
                self.left(&format!("the session {key}"), "Baileys has no such address");
                continue;
            };
            match session_out::convert(&record) {
                Ok(session) => {
                    keys_lost += session.keys_lost;
                    states_lost += session.states_lost;
                    let id = format!("{user}.{device}");
                    self.put(names::file("session", &id), &session.value);
                    if let Some(identity) = session.identity {
                        self.put(names::file("identity-key", &id), &encoding::buffer(&identity));
                    }
                }
                Err(why) => self.left(&format!("the session {key}"), &why),
            }
        }
        for key in listing.identity_addresses().await? {
            let Some(identity) = backend.load_identity(&key).await? else { continue };
            if let Some((user, device)) = address::exported(&key) {
                let serialized: Vec<u8> = [5].into_iter().chain(identity).collect();
                self.put(names::file("identity-key", &format!("{user}.{device}")), &encoding::buffer(&serialized));
            }
        }
        if keys_lost > 0 {
            self.warnings
                .push(format!("{keys_lost} keys of skipped messages stay behind: they were stored without their seed"));
        }
        if states_lost > 0 {
            self.warnings
                .push(format!("{states_lost} closed states of sessions stay behind: Baileys has no words for them"));
        }
        Ok(())
    }

    async fn sender_keys(&mut self, backend: &dyn Backend, listing: &dyn Listing) -> StoreResult<()> {
        for name in listing.sender_key_names().await? {
            let Some(record) = backend.get_sender_key(&name).await? else { continue };
            // `<group>@<server>:<address>`; the address has the second `@`.
            let parts = name.split_once('@').and_then(|(group, rest)| {
                let (server, address) = rest.split_once(':')?;
                Some((format!("{group}@{server}"), address::exported(address)?))
            });
            match (parts, sender_key::export(&record)) {
                (Some((group, (user, device))), Ok(value)) => {
                    self.put(names::file("sender-key", &format!("{group}::{user}::{device}")), &value);
                }
                (None, _) => self.left(&format!("the sender key {name}"), "Baileys has no such address"),
                (_, Err(why)) => self.left(&format!("the sender key {name}"), &why),
            }
        }
        Ok(())
    }

    /// Whether any collection was fetched before.
    async fn app_state(&mut self, backend: &dyn Backend, listing: &dyn Listing) -> StoreResult<bool> {
        for id in listing.sync_key_ids().await? {
            if let Some(key) = backend.get_sync_key(&id).await? {
                let name = names::file("app-state-sync-key", &encoding::to_base64(&id));
                self.put(name, &app_state::export_key(&key));
            }
        }
        let mut synced = false;
        for collection in COLLECTIONS {
            let state = backend.get_version(collection).await?;
            if state.version == 0 {
                continue;
            }
            synced = true;
            let macs = listing.mutation_macs(collection).await?;
            self.put(names::file("app-state-sync-version", collection), &app_state::export_version(&state, &macs));
        }
        Ok(synced)
    }

    /// Numbers and LIDs, trusted contacts.
    async fn people(&mut self, backend: &dyn Backend) -> StoreResult<()> {
        for pair in backend.get_all_lid_mappings().await? {
            self.put(names::file("lid-mapping", &pair.phone_number), &json!(pair.lid));
            self.put(names::file("lid-mapping", &format!("{}_reverse", pair.lid)), &json!(pair.phone_number));
        }
        let mut index = Vec::new();
        for user in backend.get_all_tc_token_jids().await? {
            let Some(token) = backend.get_tc_token(&user).await? else { continue };
            let server = if backend.get_pn_mapping(&user).await?.is_some() { "s.whatsapp.net" } else { "lid" };
            let jid = format!("{user}@{server}");
            self.put(names::file("tctoken", &jid), &app_state::export_trusted(&token));
            index.push(jid);
        }
        if !index.is_empty() {
            let text = json!(index).to_string();
            self.put(names::file("tctoken", "__index"), &json!({ "token": encoding::buffer(text.as_bytes()) }));
        }
        Ok(())
    }
}
