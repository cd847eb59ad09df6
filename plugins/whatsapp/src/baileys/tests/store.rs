//! wacore's store in memory, as the Signal protocol sees it, and a list of what was put in.

use crate::baileys::import::{Converted, State};
use crate::baileys::{Export, Listing, Snapshot, convert, export};
use async_trait::async_trait;
use std::sync::Arc;
use wacore::appstate::processor::AppStateMutationMAC;
use wacore::libsignal::protocol::{
    CiphertextMessage, Direction, IdentityChange, IdentityKey, IdentityKeyPair, IdentityKeyStore, PreKeyId,
    PreKeyRecord, PreKeySignalMessage, PreKeyStore, ProtocolAddress, PublicKey, SenderKeyName, SenderKeyRecord,
    SenderKeyStore, SessionRecord, SessionStore, SignalMessage, SignalProtocolError, SignedPreKeyId,
    SignedPreKeyRecord, SignedPreKeyStore, UsePQRatchet, group_decrypt, message_decrypt, message_encrypt,
};
use wacore::libsignal::store::record_helpers;
use wacore::store::Device;
use wacore::store::error::{Result as StoreResult, StoreError};
use wacore::store::in_memory::InMemoryBackend;
use wacore::store::traits::{Backend, DeviceStore, ProtocolStore, SignalStore};
use wacore::types::jid::JidExt;
use wacore_binary::Jid;

type Result<T> = std::result::Result<T, SignalProtocolError>;

/// An account that was taken over.
#[derive(Clone)]
pub struct Account {
    pub backend: Arc<InMemoryBackend>,
    pub device: Arc<Device>,
    pub converted: Arc<Converted>,
}

pub async fn take_over(snapshot: &Snapshot, now: i64) -> Account {
    let converted = convert(snapshot, now).unwrap();
    let backend = Arc::new(InMemoryBackend::new());
    converted.store(&*backend).await.unwrap();
    let device = backend.load().await.unwrap().expect("the account was paired");
    Account { backend, device: Arc::new(device), converted: Arc::new(converted) }
}

impl Account {
    pub fn state(&self) -> &State {
        self.converted.state.as_ref().unwrap()
    }

    /// The address that a session with somebody has: by the LID, when it is known.
    async fn address(&self, sender: &str) -> ProtocolAddress {
        let jid: Jid = sender.parse().unwrap();
        match self.backend.get_pn_mapping(&jid.user).await.unwrap() {
            Some(pair) => format!("{}@lid", pair.lid).parse::<Jid>().unwrap().to_protocol_address(),
            None => jid.to_protocol_address(),
        }
    }

    pub async fn decrypt(&self, sender: &str, kind: &str, message: &[u8]) -> Result<Vec<u8>> {
        let address = self.address(sender).await;
        let message = match kind {
            "pkmsg" => CiphertextMessage::PreKeySignalMessage(PreKeySignalMessage::try_from(message)?),
            _ => CiphertextMessage::SignalMessage(SignalMessage::try_from(message)?),
        };
        let mut rng = rand::rng();
        let (mut sessions, mut identities, mut pre_keys) = (self.clone(), self.clone(), self.clone());
        let (sessions, identities): (&mut dyn SessionStore, &mut dyn IdentityKeyStore) =
            (&mut sessions, &mut identities);
        let found =
            message_decrypt(&message, &address, sessions, identities, &mut pre_keys, self, &mut rng, UsePQRatchet::No);
        found.await.map(|found| found.plaintext)
    }

    pub async fn encrypt(&self, to: &str, text: &[u8]) -> Result<CiphertextMessage> {
        let address = self.address(to).await;
        message_encrypt(text, &address, &mut self.clone(), &mut self.clone()).await
    }

    pub async fn decrypt_group(&self, group: &str, sender: &str, message: &[u8]) -> Result<Vec<u8>> {
        let sender: Jid = sender.parse().unwrap();
        let name = SenderKeyName::from_parts(group, sender.to_protocol_address().as_str());
        group_decrypt(message, &mut self.clone(), &name).await
    }

    pub async fn export(&self) -> Export {
        let backend: &dyn Backend = &*self.backend;
        export(backend, self).await.unwrap()
    }
}

fn broken(error: StoreError) -> SignalProtocolError {
    SignalProtocolError::BackendError("test", Box::new(error))
}

#[async_trait]
impl SessionStore for Account {
    async fn load_session(&self, address: &ProtocolAddress) -> Result<Option<SessionRecord>> {
        let found = self.backend.get_session(address.as_str()).await.map_err(broken)?;
        found.map(|bytes| SessionRecord::deserialize(&bytes)).transpose()
    }

    async fn has_session(&self, address: &ProtocolAddress) -> Result<bool> {
        Ok(self.load_session(address).await?.is_some())
    }

    async fn store_session(&mut self, address: &ProtocolAddress, record: SessionRecord) -> Result<()> {
        self.backend.put_session(address.as_str(), &record.serialize()?).await.map_err(broken)
    }
}

#[async_trait]
impl IdentityKeyStore for Account {
    async fn get_identity_key_pair(&self) -> Result<IdentityKeyPair> {
        Ok(self.device.identity_key.clone().into())
    }

    async fn get_local_registration_id(&self) -> Result<u32> {
        Ok(self.device.registration_id)
    }

    async fn save_identity(&mut self, address: &ProtocolAddress, identity: &IdentityKey) -> Result<IdentityChange> {
        let known = self.get_identity(address).await?;
        let mut key = [0; 32];
        key.copy_from_slice(identity.public_key().public_key_bytes());
        self.backend.put_identity(address.as_str(), key).await.map_err(broken)?;
        Ok(IdentityChange::from_changed(known.is_some_and(|known| known != *identity)))
    }

    /// Stricter than WhatsApp is: an identity that came over wrong fails here.
    async fn is_trusted_identity(
        &self,
        address: &ProtocolAddress,
        identity: &IdentityKey,
        _: Direction,
    ) -> Result<bool> {
        Ok(self.get_identity(address).await?.is_none_or(|known| known == *identity))
    }

    async fn get_identity(&self, address: &ProtocolAddress) -> Result<Option<IdentityKey>> {
        let found = self.backend.load_identity(address.as_str()).await.map_err(broken)?;
        Ok(found.map(|key| PublicKey::from_djb_public_key_bytes(&key)).transpose()?.map(IdentityKey::new))
    }
}

#[async_trait]
impl PreKeyStore for Account {
    async fn get_pre_key(&self, id: PreKeyId) -> Result<PreKeyRecord> {
        let found = self.backend.load_prekey(id.into()).await.map_err(broken)?;
        let found = found.ok_or(SignalProtocolError::InvalidPreKeyId)?;
        record_helpers::prekey_structure_to_record(waproto::codec::pre_key_record_decode(&found).unwrap())
    }

    async fn save_pre_key(&mut self, _: PreKeyId, _: &PreKeyRecord) -> Result<()> {
        Ok(())
    }

    async fn remove_pre_key(&mut self, _: PreKeyId) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SignedPreKeyStore for Account {
    async fn get_signed_pre_key(&self, id: SignedPreKeyId) -> Result<SignedPreKeyRecord> {
        let device = &self.device;
        assert_eq!(u32::from(id), device.signed_pre_key_id);
        let signature = device.signed_pre_key_signature;
        let time = wacore::chrono::DateTime::UNIX_EPOCH;
        let record = record_helpers::new_signed_pre_key_record(
            device.signed_pre_key_id,
            &device.signed_pre_key,
            signature,
            time,
        );
        record_helpers::signed_prekey_structure_to_record(record)
    }

    async fn save_signed_pre_key(&mut self, _: SignedPreKeyId, _: &SignedPreKeyRecord) -> Result<()> {
        Ok(())
    }
}

#[async_trait]
impl SenderKeyStore for Account {
    async fn store_sender_key(&mut self, name: &SenderKeyName, record: SenderKeyRecord) -> Result<()> {
        self.backend.put_sender_key(name.cache_key(), &record.serialize()?).await.map_err(broken)
    }

    async fn load_sender_key(&self, name: &SenderKeyName) -> Result<Option<SenderKeyRecord>> {
        let found = self.backend.get_sender_key(name.cache_key()).await.map_err(broken)?;
        found.map(|bytes| SenderKeyRecord::deserialize(&bytes)).transpose()
    }
}

#[async_trait]
impl Listing for Account {
    async fn session_addresses(&self) -> StoreResult<Vec<String>> {
        Ok(self.state().sessions.iter().map(|(key, _)| key.to_string()).collect())
    }

    async fn identity_addresses(&self) -> StoreResult<Vec<String>> {
        Ok(self.state().identities.iter().map(|(key, _)| key.to_string()).collect())
    }

    async fn sender_key_names(&self) -> StoreResult<Vec<String>> {
        Ok(self.state().sender_keys.iter().map(|(key, _)| key.to_string()).collect())
    }

    async fn prekey_ids(&self) -> StoreResult<Vec<u32>> {
        Ok(self.state().uploaded.iter().chain(&self.state().fresh).map(|(id, _)| *id).collect())
    }

    async fn sync_key_ids(&self) -> StoreResult<Vec<Vec<u8>>> {
        Ok(self.state().sync_keys.iter().map(|(id, _)| id.clone()).collect())
    }

    async fn mutation_macs(&self, collection: &str) -> StoreResult<Vec<AppStateMutationMAC>> {
        let found = self.state().versions.iter().find(|(name, _)| name == collection);
        Ok(found.map(|(_, version)| version.macs.clone()).unwrap_or_default())
    }
}
