//! Credentials: `creds.json` to a `Device`, and back.
//!
//! Everything that the account cannot live without is checked, and what is wrong aborts the import: a device whose keys do not
//! fit together would be logged out by the server. Not carried: the pairing's own keys, `registered` (false after a QR
//! code), counters of history and settings. A server certificate is never taken from a source: whoever could write it could
//! stand between.

use super::encoding::{self, text, word};
use super::keys;
use serde_json::{Value, json};
use std::sync::Arc;
use wacore::adv::{AdvValidation, validate_adv_with_identity_key};
use wacore::libsignal::protocol::KeyPair;
use wacore::store::Device;
use wacore_binary::{Jid, Server};
use waproto::whatsapp::ADVSignedDeviceIdentity;

/// Ids of pre-keys have 24 bits on the wire.
pub(super) const MAX_KEY_ID: u32 = 0x00ff_ffff;

/// Credentials that fit together.
pub(super) struct Account {
    pub device: Device,
    /// The identity key of the account's phone.
    pub phone_identity: Option<[u8; 32]>,
    /// The newest app-state key.
    pub sync_key: Option<Vec<u8>>,
    /// Logged in as a linked device.
    pub paired: bool,
}

/// What is wrong with credentials: the field, and why.
#[derive(Debug, PartialEq)]
pub(super) struct Flaw {
    pub field: &'static str,
    pub why: String,
}

fn flaw(field: &'static str) -> impl Fn(String) -> Flaw {
    move |why| Flaw { field, why }
}

fn no(field: &'static str, why: &str) -> Flaw {
    Flaw { field, why: why.into() }
}

/// Reads and checks credentials.
pub(super) fn convert(creds: &Value) -> Result<Account, Flaw> {
    if !creds.is_object() {
        return Err(no("creds", "it is not an object"));
    }
    let noise_key = keys::pair_of(creds.get("noiseKey")).map_err(flaw("noiseKey"))?;
    let identity_key = keys::pair_of(creds.get("signedIdentityKey")).map_err(flaw("signedIdentityKey"))?;
    let (signed_pre_key, signature, signed_id) = signed_pre_key(creds, &identity_key)?;
    let registration_id = creds
        .get("registrationId")
        .and_then(word)
        .filter(|id| *id <= 0x7fff_ffff)
        .ok_or_else(|| no("registrationId", "it is missing or not a number of 31 bits"))?;
    let adv_secret_key = creds
        .get("advSecretKey")
        .and_then(encoding::exactly)
        .ok_or_else(|| no("advSecretKey", "it is missing or does not have 32 bytes"))?;
    let pn = me(creds)?;
    let account = account(creds, &identity_key)?;
    let paired = pn.is_some() && account.is_some();

    let next = creds.get("nextPreKeyId").and_then(word).unwrap_or(1).clamp(1, MAX_KEY_ID);
    let first = creds.get("firstUnuploadedPreKeyId").and_then(word).unwrap_or(1).clamp(1, next);
    let mut device = Device::new();
    device.lid = pn.as_ref().and_then(|pn| own_lid(creds, pn));
    device.pn = pn;
    device.registration_id = registration_id;
    device.noise_key = noise_key;
    device.identity_key = identity_key;
    device.signed_pre_key = signed_pre_key;
    device.signed_pre_key_id = signed_id;
    device.signed_pre_key_signature = signature;
    device.adv_secret_key = adv_secret_key;
    device.push_name = creds.pointer("/me/name").and_then(text).filter(|name| *name != "~").unwrap_or_default().into();
    device.edge_routing_info = creds.get("routingInfo").and_then(encoding::bytes).filter(|info| !info.is_empty());
    device.props_hash = creds.get("lastPropHash").and_then(text).map(Into::into);
    device.next_pre_key_id = next;
    device.first_unupload_pre_key_id = first;
    device.server_has_prekeys = first > 1;
    device.server_cert_chain = None;
    // Zero: the clock of the rotation starts with the first connection.
    device.last_signed_pre_key_rotation_ms = 0;
    let phone_identity = phone_identity(creds, account.as_ref());
    device.account = account.map(Arc::new);
    let sync_key = creds.get("myAppStateKeyId").and_then(encoding::bytes).filter(|id| !id.is_empty());
    Ok(Account { device, phone_identity, sync_key, paired })
}

fn signed_pre_key(creds: &Value, identity: &KeyPair) -> Result<(KeyPair, [u8; 64], u32), Flaw> {
    let wrong = flaw("signedPreKey");
    let signed = creds.get("signedPreKey").ok_or_else(|| wrong("it is missing".into()))?;
    let pair = keys::pair_of(signed.get("keyPair")).map_err(&wrong)?;
    let signature: [u8; 64] = signed
        .get("signature")
        .and_then(encoding::exactly)
        .ok_or_else(|| wrong("its signature is missing or does not have 64 bytes".into()))?;
    if !identity.public_key.verify_signature(&pair.public_key.serialize(), &signature) {
        return Err(wrong("its signature is not by the identity key".into()));
    }
    let id = signed
        .get("keyId")
        .and_then(word)
        .filter(|id| *id <= MAX_KEY_ID)
        .ok_or_else(|| wrong("its id is missing or not a number of 24 bits".into()))?;
    Ok((pair, signature, id))
}

/// The account's own address. Absent: it was never paired.
fn me(creds: &Value) -> Result<Option<Jid>, Flaw> {
    let Some(id) = creds.pointer("/me/id").and_then(text) else { return Ok(None) };
    let jid: Jid = id.parse().map_err(|_| no("me.id", "it is not an address"))?;
    if jid.server != Server::Pn || !super::address::digits(&jid.user) {
        return Err(no("me.id", "it is not the address of a phone number"));
    }
    if jid.device == 0 {
        return Err(no("me.id", "it names a phone and not a linked device, and only those can be taken over"));
    }
    Ok(Some(jid))
}

/// Trees from before 2024 have none; the server tells it at the next login.
fn own_lid(creds: &Value, pn: &Jid) -> Option<Jid> {
    let mut lid: Jid = creds.pointer("/me/lid").and_then(text)?.parse().ok()?;
    if lid.device == 0 {
        lid.device = pn.device;
    }
    (lid.server == Server::Lid && super::address::digits(&lid.user)).then_some(lid)
}

/// The phone's word that this is its device. Absent: it was never paired.
fn account(creds: &Value, identity: &KeyPair) -> Result<Option<ADVSignedDeviceIdentity>, Flaw> {
    let Some(found) = creds.get("account").filter(|account| account.as_object().is_some_and(|map| !map.is_empty()))
    else {
        return Ok(None);
    };
    let part = |name: &str| found.get(name).and_then(encoding::bytes).filter(|bytes| !bytes.is_empty());
    let account = ADVSignedDeviceIdentity {
        details: part("details"),
        // Left out by some programs, as the phone's identity is the same key.
        account_signature_key: part("accountSignatureKey").or_else(|| identifier_key(creds).map(Vec::from)),
        account_signature: part("accountSignature"),
        device_signature: part("deviceSignature"),
    };
    let encoded = waproto::codec::adv_signed_device_identity_to_vec(&account);
    match validate_adv_with_identity_key(&encoded, &keys::raw(&identity.public_key), None) {
        AdvValidation::Valid => Ok(Some(account)),
        AdvValidation::NoAccountKey => Err(no("account", "its accountSignatureKey is missing")),
        AdvValidation::Invalid => {
            Err(no("account", "the signatures of the phone and of the device are not by the keys that are here"))
        }
    }
}

fn identifier_key(creds: &Value) -> Option<[u8; 32]> {
    let key = creds.pointer("/signalIdentities/0/identifierKey").and_then(encoding::bytes)?;
    keys::public(&key).map(|key| keys::raw(&key))
}

fn phone_identity(creds: &Value, account: Option<&ADVSignedDeviceIdentity>) -> Option<[u8; 32]> {
    let signing = account.and_then(|account| account.account_signature_key.clone());
    signing.and_then(|key| key.try_into().ok()).or_else(|| identifier_key(creds))
}

/// Credentials as Baileys 7 keeps them.
pub(super) fn export(device: &Device, sync_key: Option<&[u8]>, synced: bool) -> Value {
    let pair = |pair: &KeyPair| {
        json!({
            "private": encoding::buffer(pair.private_key.serialize()),
            "public": encoding::buffer(pair.public_key.public_key_bytes()),
        })
    };
    let mut creds = json!({
        "noiseKey": pair(&device.noise_key),
        "signedIdentityKey": pair(&device.identity_key),
        "signedPreKey": {
            "keyPair": pair(&device.signed_pre_key),
            "signature": encoding::buffer(&device.signed_pre_key_signature),
            "keyId": device.signed_pre_key_id,
        },
        "registrationId": device.registration_id,
        "advSecretKey": encoding::to_base64(&device.adv_secret_key),
        "processedHistoryMessages": [],
        "nextPreKeyId": device.next_pre_key_id.max(1),
        "firstUnuploadedPreKeyId": device.first_unupload_pre_key_id.max(1),
        "accountSyncCounter": u32::from(synced),
        "accountSettings": { "unarchiveChats": false },
        "registered": false,
    });
    let Some(map) = creds.as_object_mut() else { return creds };
    if let Some(account) = &device.account {
        let part = |bytes: &Option<Vec<u8>>| bytes.as_deref().map(encoding::to_base64);
        map.insert(
            "account".into(),
            json!({
                "details": part(&account.details),
                "accountSignatureKey": part(&account.account_signature_key),
                "accountSignature": part(&account.account_signature),
                "deviceSignature": part(&account.device_signature),
            }),
        );
    }
    if let Some(pn) = &device.pn {
        let lid = device.lid.as_ref().map(ToString::to_string);
        map.insert("me".into(), json!({ "id": pn.to_string(), "name": name(device), "lid": lid }));
        let signing = device.account.as_ref().and_then(|account| account.account_signature_key.as_deref());
        if let Some(key) = signing.and_then(keys::public) {
            let name = lid.unwrap_or_else(|| pn.to_string());
            map.insert(
                "signalIdentities".into(),
                json!([{
                    "identifier": { "name": name, "deviceId": 0 },
                    "identifierKey": encoding::buffer(&key.serialize()),
                }]),
            );
        }
    }
    let optional = [
        ("myAppStateKeyId", sync_key.map(|id| Value::String(encoding::to_base64(id)))),
        ("lastPropHash", device.props_hash.clone().map(Value::String)),
        ("routingInfo", device.edge_routing_info.as_deref().map(encoding::buffer)),
    ];
    map.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_string(), value?))));
    creds
}

/// Baileys waits for a name and takes `~` for none.
fn name(device: &Device) -> &str {
    if device.push_name.is_empty() { "~" } else { &device.push_name }
}
