//! What the phone of an account does: it vouches for the devices that it links, and has keys of its own.

use crate::accounts::{Account, Keys, SignedKey};
use crate::certificate::public;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use std::collections::VecDeque;
use wacore::adv::{AdvValidation, validate_adv_with_identity_key};
use wacore::libsignal::protocol::KeyPair;
use waproto::buffa::Message as _;
use waproto::whatsapp::{
    ADVDeviceIdentity, ADVKeyIndexList, ADVSignedDeviceIdentity, ADVSignedDeviceIdentityHMAC, ADVSignedKeyIndexList,
};

/// What each signature begins with, so that none can be taken for another.
const ACCOUNT_SIGNATURE: [u8; 2] = [6, 0];
const KEY_INDEX_SIGNATURE: [u8; 2] = [6, 2];

/// The phone's word for a device, sealed with the secret that only the two of them know.
pub fn vouch(account: &Account, key_index: u16, now: u64, identity: &[u8; 32], secret: &[u8]) -> Vec<u8> {
    let details = ADVDeviceIdentity {
        raw_id: Some(account.raw_id),
        timestamp: Some(now),
        key_index: Some(u32::from(key_index)),
        ..ADVDeviceIdentity::default()
    }
    .encode_to_vec();
    let signature = sign(&account.identity, &[&ACCOUNT_SIGNATURE, details.as_slice(), identity]);
    let signed = ADVSignedDeviceIdentity {
        details: Some(details),
        account_signature_key: Some(public(&account.identity).to_vec()),
        account_signature: Some(signature),
        ..ADVSignedDeviceIdentity::default()
    }
    .encode_to_vec();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("a key of any length is fine");
    mac.update(&signed);
    let hmac = mac.finalize().into_bytes().to_vec();
    ADVSignedDeviceIdentityHMAC { details: Some(signed), hmac: Some(hmac), ..ADVSignedDeviceIdentityHMAC::default() }
        .encode_to_vec()
}

/// Whether the device has signed what the phone vouched for.
pub fn is_signed(account: &Account, identity: &[u8; 32], signed: &[u8]) -> bool {
    let fallback = public(&account.identity);
    validate_adv_with_identity_key(signed, identity, Some(&fallback)) == AdvValidation::Valid
}

/// Which devices there are, in the phone's word.
pub fn key_index_list(account: &Account, now: u64) -> Vec<u8> {
    let details = ADVKeyIndexList {
        raw_id: Some(account.raw_id),
        timestamp: Some(now),
        current_index: Some(u32::from(account.last_device)),
        valid_indexes: account.devices.values().map(|device| u32::from(device.key_index)).collect(),
        ..ADVKeyIndexList::default()
    }
    .encode_to_vec();
    let signature = sign(&account.identity, &[&KEY_INDEX_SIGNATURE, details.as_slice()]);
    ADVSignedKeyIndexList {
        details: Some(details),
        account_signature: Some(signature),
        account_signature_key: Some(public(&account.identity).to_vec()),
    }
    .encode_to_vec()
}

/// The keys of a phone that no client plays. Nobody reads what is encrypted for them, so the private halves are gone.
pub fn keys(identity: &KeyPair) -> Keys {
    let pair = KeyPair::generate(&mut rand::rng());
    let signature = sign(identity, &[&pair.public_key.serialize()]);
    let registration = (rand::random::<u32>() & 0x3fff).to_be_bytes().to_vec();
    let signed = SignedKey { id: vec![0, 0, 1], value: public(&pair).to_vec(), signature };
    Keys { registration, signed, one_time: VecDeque::new() }
}

fn sign(pair: &KeyPair, parts: &[&[u8]]) -> Vec<u8> {
    let signature = pair.calculate_signature(&parts.concat(), &mut rand::rng());
    signature.expect("a key of ours signs").to_vec()
}
