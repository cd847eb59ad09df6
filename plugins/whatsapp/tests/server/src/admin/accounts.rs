//! What the phone does, and what was there before the test began.

use super::{Answer, Problem, bytes, key};
use crate::accounts::{Device, Keys, SignedKey, Who};
use crate::certificate::public;
use crate::server::Server;
use crate::stanza;
use crate::world::World;
use crate::{groups, pairing, pairing_code, passkey};
use axum::extract::{Json, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::Arc;
use waproto::buffa::Message as _;
use waproto::whatsapp::ADVSignedDeviceIdentity;

/// An account, which is made when there is none with this number.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Account {
    phone: Option<String>,
    lid: Option<String>,
    name: Option<String>,
    business: Option<String>,
}

impl Account {
    /// Its number. One that is not given is made up.
    fn make(self, world: &mut World) -> Result<String, Problem> {
        let phone = match self.phone {
            Some(phone) => phone,
            None => format!("5511{:09}", 900_000_000 + world.number()),
        };
        let account = world.account(&phone, self.lid.as_deref())?;
        account.name = self.name.or(account.name.take());
        account.business = self.business.or(account.business.take());
        Ok(phone)
    }
}

/// `POST /admin/accounts`. The private half of its identity lets a client be the phone itself.
pub async fn account(State(server): State<Arc<Server>>, Json(asked): Json<Account>) -> Answer {
    let mut world = server.world();
    let phone = asked.make(&mut world)?;
    let account = world.account(&phone, None)?;
    Ok(Json(json!({
        "phone": phone,
        "lid": account.lid,
        "identity": {
            "private": hex::encode(account.identity.private_key.serialize()),
            "public": hex::encode(public(&account.identity)),
        },
    })))
}

fn linked(world: &World, who: &Who) -> Value {
    let account = world.accounts.get(&who.phone);
    json!({
        "phone": who.phone,
        "lid": account.map(|account| account.lid.clone()),
        "device": who.device,
        "jid": account.map(|account| account.device_jid(who.device, false)),
        "lidJid": account.map(|account| account.device_jid(who.device, true)),
    })
}

/// `{qr}` and what is said of an account.
#[derive(Deserialize)]
pub struct Scan {
    qr: String,
    #[serde(flatten)]
    account: Account,
}

/// `POST /admin/scan`: the phone scans what a client shows.
pub async fn scan(State(server): State<Arc<Server>>, Json(asked): Json<Scan>) -> Answer {
    let mut world = server.world();
    let phone = asked.account.make(&mut world)?;
    let who = pairing::scan(&mut world, &asked.qr, &phone)?;
    Ok(Json(linked(&world, &who)))
}

/// `{code}` and what is said of an account.
#[derive(Deserialize)]
pub struct Code {
    code: String,
    #[serde(flatten)]
    account: Account,
}

/// `POST /admin/enter-code`: somebody types on the phone what a client shows. Whether it was right shows in the log.
pub async fn enter_code(State(server): State<Arc<Server>>, Json(asked): Json<Code>) -> Answer {
    let typed = {
        let mut world = server.world();
        let phone = asked.account.make(&mut world)?;
        pairing_code::typed(&world, &phone, &asked.code)?
    };
    let opened = tokio::task::spawn_blocking(move || typed.open()).await.map_err(|why| why.to_string())??;
    pairing_code::opened(&mut server.world(), opened)?;
    Ok(Json(json!({})))
}

/// `POST /admin/refresh-refs`: every client that waits for a phone gets new codes to show; the old ones are void.
pub async fn refresh(State(server): State<Arc<Server>>) -> Answer {
    let mut world = server.world();
    let waiting = pairing::waiting(&world);
    for link in &waiting {
        pairing::refresh(&mut world, *link);
    }
    Ok(Json(json!({"clients": waiting.len()})))
}

/// `POST /admin/passkey` and what is said of an account: the client that waits is asked for the account's passkey.
pub async fn ask_passkey(State(server): State<Arc<Server>>, Json(asked): Json<Account>) -> Answer {
    let mut world = server.world();
    let phone = asked.make(&mut world)?;
    Ok(Json(passkey::ask(&mut world, &phone)?))
}

/// `POST /admin/agree`: the phone goes on with a client that has shown the passkey.
pub async fn agree(State(server): State<Arc<Server>>) -> Answer {
    passkey::agree(&mut server.world())?;
    Ok(Json(json!({})))
}

/// `GET /admin/passkey`: what the phone shows, to be compared.
pub async fn passkey_code(State(server): State<Arc<Server>>) -> Answer {
    Ok(Json(json!({"code": passkey::code(&server.world())})))
}

/// A device that was linked elsewhere, or the phone itself (device 0).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    #[serde(flatten)]
    account: Account,
    device: u16,
    noise_public: String,
    identity_public: String,
    registration_id: u32,
    signed_pre_key: SignedPreKey,
    #[serde(default)]
    pre_keys: Vec<OneTime>,
    word: Option<Word>,
}

#[derive(Deserialize)]
struct SignedPreKey {
    id: u32,
    public: String,
    signature: String,
}

#[derive(Deserialize)]
struct OneTime {
    id: u32,
    public: String,
}

/// The phone's word for it, as a client keeps it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Word {
    details: String,
    account_signature_key: String,
    account_signature: String,
    device_signature: String,
}

/// `POST /admin/devices`.
pub async fn device(State(server): State<Arc<Server>>, Json(asked): Json<Imported>) -> Answer {
    let mut world = server.world();
    let three = |id: u32| id.to_be_bytes()[1..].to_vec();
    let signed = SignedKey {
        id: three(asked.signed_pre_key.id),
        value: key(&asked.signed_pre_key.public, "signedPreKey.public")?.to_vec(),
        signature: bytes(&asked.signed_pre_key.signature, "signedPreKey.signature")?,
    };
    let one_time = asked.pre_keys.iter().map(|one| Ok((three(one.id), key(&one.public, "preKeys.public")?.to_vec())));
    let one_time: VecDeque<_> = one_time.collect::<Result<_, Problem>>()?;
    let identity = key(&asked.identity_public, "identityPublic")?;
    let imported = Device {
        noise_key: Some(key(&asked.noise_public, "noisePublic")?),
        device_identity: asked.word.as_ref().map(word).transpose()?,
        keys: Some(Keys { registration: asked.registration_id.to_be_bytes().to_vec(), signed, one_time }),
        ..Device::new(asked.device, identity)
    };
    let phone = asked.account.make(&mut world)?;
    let account = world.account(&phone, None)?;
    if asked.device == 0 && identity != public(&account.identity) {
        return Err("the phone's identity is the account's: see POST /admin/accounts".into());
    }
    account.last_device = account.last_device.max(asked.device);
    account.devices.insert(asked.device, imported);
    Ok(Json(linked(&world, &Who { phone, device: asked.device })))
}

fn word(word: &Word) -> Result<Vec<u8>, Problem> {
    let signed = ADVSignedDeviceIdentity {
        details: Some(bytes(&word.details, "word.details")?),
        account_signature_key: Some(bytes(&word.account_signature_key, "word.accountSignatureKey")?),
        account_signature: Some(bytes(&word.account_signature, "word.accountSignature")?),
        device_signature: Some(bytes(&word.device_signature, "word.deviceSignature")?),
    };
    Ok(signed.encode_to_vec())
}

/// `{subject, participants, mode?}`: numbers, of which the first makes the group.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewGroup {
    subject: String,
    participants: Vec<String>,
    mode: Option<String>,
}

/// `POST /admin/groups`.
pub async fn group(State(server): State<Arc<Server>>, Json(asked): Json<NewGroup>) -> Answer {
    let [owner, others @ ..] = asked.participants.as_slice() else { return Err("a group has a participant".into()) };
    let lid = match asked.mode.as_deref() {
        None | Some("lid") => true,
        Some("pn") => false,
        Some(other) => return Err(format!("{other:?} is neither \"lid\" nor \"pn\"").into()),
    };
    let jid = groups::create(&mut server.world(), owner, &asked.subject, others, lid)?;
    Ok(Json(json!({"jid": jid})))
}

/// `GET /admin/groups`.
pub async fn groups(State(server): State<Arc<Server>>) -> Answer {
    let world = server.world();
    let all = world.groups.values().map(|group| {
        let members = group.members.iter().map(|(phone, role)| json!({"phone": phone, "role": role.name()}));
        json!({
            "jid": group.jid,
            "subject": group.subject,
            "description": group.description.as_ref().map(|(_, text, _, _)| text),
            "mode": groups::mode(group.lid),
            "invite": group.invite,
            "members": members.collect::<Value>(),
            "settings": group.settings.iter().map(stanza::to_xml).collect::<Vec<_>>(),
        })
    });
    Ok(Json(all.collect()))
}
