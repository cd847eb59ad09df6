//! Linking an account that has a passkey: the client proves that somebody has it, agrees on a key with the phone, shows a code that
//! both can compare, and says who it is under that key. The phone's part is played here, too.

use crate::accounts::LinkId;
use crate::certificate::public;
use crate::devices::notification;
use crate::pairing;
use crate::stanza::{Node, Refusal, SERVER, child, child_bytes, node};
use crate::world::World;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wacore::libsignal::crypto::aes_256_gcm_decrypt;
use wacore::libsignal::protocol::KeyPair;
use wacore::shortcake::ShortcakeUtils;
use waproto::buffa::Message as _;
use waproto::whatsapp::{
    CompanionEphemeralIdentity, EncryptedPairingRequest, PairingRequest, PrimaryEphemeralIdentity, ProloguePayload,
};

/// What a client is to prove, and how far it is.
pub struct Ceremony {
    link: LinkId,
    /// The account.
    phone: String,
    challenge: String,
    reference: String,
    /// The phone's key and number of this attempt.
    ephemeral: KeyPair,
    nonce: [u8; 32],
    prologue: Option<Prologue>,
    /// What the client had committed itself to.
    theirs: Option<[u8; 32]>,
}

struct Prologue {
    identity: Vec<u8>,
    commitment: Vec<u8>,
}

/// The account of a client that waits has a passkey: it is asked for that. Tells what for.
pub fn ask(world: &mut World, phone: &str) -> Result<Value, String> {
    // The newest: it may not be noticed yet that one before it is gone.
    let link = pairing::waiting(world).pop().ok_or("there is no client that waits")?;
    let challenge = BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>());
    let options = json!({"challenge": challenge, "rpId": "web.whatsapp.com", "userVerification": "required"});
    world.ceremony = Some(Ceremony {
        link,
        phone: phone.to_owned(),
        challenge,
        reference: format!("2@{}", BASE64_URL_SAFE_NO_PAD.encode(rand::random::<[u8; 24]>())),
        ephemeral: KeyPair::generate(&mut rand::rng()),
        nonce: rand::random(),
        prologue: None,
        theirs: None,
    });
    let id = world.id();
    let asked = node("passkey_request_options").bytes(options.to_string()).build();
    world.send(link, notification(SERVER.to_owned(), id, "passkey_prologue_request").children([asked]).build());
    Ok(options)
}

/// The phone has seen who wants to be linked, and gives its half.
pub fn agree(world: &mut World) -> Result<(), String> {
    let ceremony = world.ceremony.as_ref().ok_or("nobody is asked for a passkey")?;
    ceremony.prologue.as_ref().ok_or("the passkey was not shown yet")?;
    let identity = PrimaryEphemeralIdentity {
        public_key: Some(public(&ceremony.ephemeral).to_vec()),
        nonce: Some(ceremony.nonce.to_vec()),
    };
    let (link, half) = (ceremony.link, node("primary_ephemeral_identity").bytes(identity.encode_to_vec()).build());
    let id = world.id();
    world.send(link, notification(SERVER.to_owned(), id, "crsc_continuation").children([half]).build());
    Ok(())
}

/// What the phone shows, once the client has said its number.
pub fn code(world: &World) -> Option<String> {
    let ceremony = world.ceremony.as_ref()?;
    Some(ShortcakeUtils::derive_verification_code(&ceremony.theirs?, &public(&ceremony.ephemeral), &ceremony.nonce))
}

/// A step of the client. `None` when it is not about this.
pub fn request(world: &mut World, link: LinkId, iq: &Node) -> Option<Result<Vec<Node>, Refusal>> {
    let ceremony = world.ceremony.as_mut().filter(|ceremony| ceremony.link == link)?;
    if child(iq, "ref").is_some() {
        return Some(Ok(vec![node("ref").bytes(ceremony.reference.clone()).build()]));
    }
    if let Some(asked) = child(iq, "passkey_prologue") {
        return Some(ceremony.begin(asked).map(|()| Vec::new()));
    }
    if let Some(nonce) = child_bytes(iq, "companion_nonce") {
        return Some(ceremony.open(&nonce).map(|()| Vec::new()));
    }
    child(iq, "encrypted_pairing_request").map(|_| Ok(Vec::new()))
}

/// What follows once a step was answered: the last one links the client.
pub fn answered(world: &mut World, link: LinkId, iq: &Node) {
    let Some(sealed) = child_bytes(iq, "encrypted_pairing_request") else { return };
    let Some(ceremony) = world.ceremony.take_if(|ceremony| ceremony.link == link) else { return };
    let done = ceremony.finish(&sealed).and_then(|request| {
        let noise = key(request.companion_public_key, "noise key")?;
        if world.links.get(&link).is_none_or(|there| there.noise_key != noise) {
            return Err("the request names another key than its client's".to_owned());
        }
        let identity = key(request.companion_identity_key, "identity")?;
        pairing::link_device(world, link, &ceremony.phone, identity, &request.adv_secret.unwrap_or_default())
    });
    if let Err(why) = done {
        world.log.note(link, format!("the request is no good: {why}"));
    }
}

impl Ceremony {
    fn begin(&mut self, asked: &Node) -> Result<(), Refusal> {
        let assertion = child_bytes(asked, "webauthn_assertion").ok_or(Refusal::BAD_REQUEST)?;
        let said: Value = serde_json::from_slice(&assertion).map_err(|_| Refusal::BAD_REQUEST)?;
        let data = said.pointer("/response/clientDataJSON").and_then(Value::as_str);
        let data = data.and_then(|data| BASE64_URL_SAFE_NO_PAD.decode(data).ok()).ok_or(Refusal::BAD_REQUEST)?;
        let data: Value = serde_json::from_slice(&data).map_err(|_| Refusal::BAD_REQUEST)?;
        let id = said["rawId"].as_str().and_then(|id| BASE64_URL_SAFE_NO_PAD.decode(id).ok());
        if data["challenge"] != self.challenge.as_str() || id != child_bytes(asked, "credential_id") {
            return Err(Refusal { code: 401, text: "not-authorized" });
        }
        let payload = child_bytes(asked, "prologue_payload").ok_or(Refusal::BAD_REQUEST)?;
        let payload = ProloguePayload::decode_from_slice(&payload).map_err(|_| Refusal::BAD_REQUEST)?;
        let commitment = payload.commitment.as_option().and_then(|commitment| commitment.hash.clone());
        let (Some(identity), Some(commitment)) = (payload.companion_ephemeral_identity, commitment) else {
            return Err(Refusal::BAD_REQUEST);
        };
        self.prologue = Some(Prologue { identity, commitment });
        Ok(())
    }

    /// The number must be the one that was committed to.
    fn open(&mut self, nonce: &[u8]) -> Result<(), Refusal> {
        let prologue = self.prologue.as_ref().ok_or(Refusal::BAD_REQUEST)?;
        let hash = Sha256::new().chain_update(&prologue.identity).chain_update(nonce).finalize();
        if hash[..] != prologue.commitment[..] {
            return Err(Refusal { code: 406, text: "not-acceptable" });
        }
        self.theirs = Some(nonce.try_into().map_err(|_| Refusal::BAD_REQUEST)?);
        Ok(())
    }

    /// What the client says under the key that was agreed on.
    fn finish(&self, sealed: &[u8]) -> Result<PairingRequest, String> {
        let prologue = self.prologue.as_ref().ok_or("it did not begin")?;
        let identity =
            CompanionEphemeralIdentity::decode_from_slice(&prologue.identity).map_err(|why| why.to_string())?;
        if identity.r#ref.as_deref() != Some(&self.reference) {
            return Err("it names another reference".into());
        }
        let theirs = key(identity.public_key, "ephemeral key")?;
        let kind = identity.device_type.ok_or("it does not say what it is")?;
        let secret = ShortcakeUtils::derive_encryption_key(&self.ephemeral, &theirs, kind, &self.reference);
        let secret = secret.map_err(|why| why.to_string())?;
        let sealed = EncryptedPairingRequest::decode_from_slice(sealed).map_err(|why| why.to_string())?;
        let iv: [u8; 12] = sealed.iv.unwrap_or_default().try_into().map_err(|_| "its iv has no 12 bytes")?;
        let mut opened = Vec::new();
        aes_256_gcm_decrypt(&secret, &iv, b"", &sealed.encrypted_payload.unwrap_or_default(), &mut opened)
            .map_err(|_| "it cannot be opened")?;
        PairingRequest::decode_from_slice(&opened).map_err(|why| why.to_string())
    }
}

fn key(bytes: Option<Vec<u8>>, what: &str) -> Result<[u8; 32], String> {
    bytes.unwrap_or_default().try_into().map_err(|_| format!("its {what} has no 32 bytes"))
}
