//! Keys of Curve25519 as both programs keep them: read from any spelling, and checked against each other.
//!
//! A public key has 32 bytes, or 33 with the type 5 before them; a private one has 32.

use super::encoding;
use serde_json::Value;
use wacore::libsignal::protocol::{KeyPair, PrivateKey, PublicKey};

/// A public key of 32 or 33 bytes.
pub(super) fn public(bytes: &[u8]) -> Option<PublicKey> {
    match bytes.len() {
        32 => PublicKey::from_djb_public_key_bytes(bytes).ok(),
        33 => PublicKey::deserialize(bytes).ok(),
        _ => None,
    }
}

/// The 33 bytes of a public key.
pub(super) fn serialized(value: &Value) -> Option<[u8; 33]> {
    encoding::bytes(value).and_then(|bytes| public(&bytes)).map(|key| key.serialize())
}

/// The 32 bytes of a public key.
pub(super) fn raw(key: &PublicKey) -> [u8; 32] {
    let mut raw = [0; 32];
    raw.copy_from_slice(key.public_key_bytes());
    raw
}

/// A pair whose halves belong together.
pub(super) fn pair(public: Option<&Value>, private: Option<&Value>) -> Result<KeyPair, String> {
    let private = private.and_then(encoding::bytes).ok_or("its private key is missing or cannot be read")?;
    let private =
        whole(&private).ok_or_else(|| format!("its private key has {} bytes instead of 32", private.len()))?;
    let public = public.and_then(encoding::bytes).ok_or("its public key is missing or cannot be read")?;
    let public = self::public(&public)
        .ok_or_else(|| format!("its public key, of {} bytes, is none of Curve25519", public.len()))?;
    if !belong_together(&public, &private) {
        return Err("its public key is not that of its private key".into());
    }
    Ok(KeyPair::new(public, private))
}

/// `{public, private}`, as Baileys keeps its own.
pub(super) fn pair_of(value: Option<&Value>) -> Result<KeyPair, String> {
    let value = value.filter(|value| value.is_object()).ok_or("it is missing")?;
    pair(value.get("public"), value.get("private"))
}

pub(super) fn belong_together(public: &PublicKey, private: &PrivateKey) -> bool {
    private.public_key().is_ok_and(|key| key == *public)
}

fn whole(private: &[u8]) -> Option<PrivateKey> {
    (private.len() == 32).then(|| PrivateKey::deserialize(private).ok()).flatten()
}
