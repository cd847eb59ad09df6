//! The server's long-lived key and the chain of certificates that says so. A client trusts the root, whose public half
//! is told to the tests; a client that knows the leaf already can speak without checking the chain.

use crate::clock;
use serde_json::{Value, json};
use wacore::libsignal::protocol::KeyPair;
use waproto::buffa::{Message as _, MessageField};
use waproto::whatsapp::CertChain;
use waproto::whatsapp::cert_chain::{NoiseCertificate, noise_certificate::Details};

const DAY: u64 = 86_400;

/// Made anew with every server.
pub struct Certificate {
    /// Whose public half the leaf names.
    pub key: KeyPair,
    /// As it is sent, encrypted, in a handshake.
    pub chain: Vec<u8>,
    root: [u8; 32],
    intermediate: [u8; 32],
    not_before: u64,
    not_after: u64,
}

impl Certificate {
    /// Root, intermediate and leaf, signed from the first to the last.
    pub fn new() -> anyhow::Result<Self> {
        let rng = &mut rand::rng();
        let (root, intermediate, key) = (KeyPair::generate(rng), KeyPair::generate(rng), KeyPair::generate(rng));
        let (not_before, not_after) = (clock::now() - DAY, clock::now() + 365 * DAY);
        let mut certify = |serial, issuer_serial, subject: &KeyPair, issuer: &KeyPair| {
            let details = Details {
                serial: Some(serial),
                issuer_serial: Some(issuer_serial),
                key: Some(public(subject).to_vec()),
                not_before: Some(not_before),
                not_after: Some(not_after),
            }
            .encode_to_vec();
            let signature = issuer.calculate_signature(&details, rng)?.to_vec();
            anyhow::Ok(NoiseCertificate { details: Some(details), signature: Some(signature) })
        };
        let chain = CertChain {
            intermediate: MessageField::some(certify(1, 0, &intermediate, &root)?),
            leaf: MessageField::some(certify(2, 1, &key, &intermediate)?),
        };
        Ok(Self {
            chain: chain.encode_to_vec(),
            root: public(&root),
            intermediate: public(&intermediate),
            key,
            not_before,
            not_after,
        })
    }

    /// The root's public key, to be given to a client that lets itself be told.
    pub fn root(&self) -> String {
        hex::encode(self.root)
    }

    /// What a client keeps of the chain once it has checked it.
    pub fn cached(&self) -> Value {
        json!({
            "leaf": hex::encode(public(&self.key)),
            "intermediate": hex::encode(self.intermediate),
            "notBefore": self.not_before,
            "notAfter": self.not_after,
        })
    }
}

/// The 32 bytes of a public key.
pub fn public(pair: &KeyPair) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(pair.public_key.public_key_bytes());
    bytes
}
