//! The keys of a backup under a passphrase: Argon2id makes the key of it, XChaCha20-Poly1305 seals with that.
//!
//! What it took to make the key is said beside what is sealed, so that it can be raised later, and is authenticated with
//! it. Deliberately not here: where the passphrase comes from.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The shortest passphrase that is taken.
pub const SHORTEST: usize = 8;
const FORMAT: u32 = 1;
/// RFC 9106's choice for machines without 2 GiB to spare.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
/// More than this nobody's backup asks for: a file must not make the host take all memory, or for ever.
const MOST_MEMORY_KIB: u32 = 1 << 20;
const MOST_PASSES: u32 = 64;

/// Why what is sealed does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// It is not what [`seal`] made.
    #[error("it is damaged, or was written by a newer version")]
    Format,
    /// The tag is wrong: nobody can tell which of the two it is.
    #[error("this is not the passphrase that it was made with, or it was changed since")]
    Passphrase,
}

/// As it lies in the backup.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sealed {
    #[serde(flatten)]
    how: How,
    nonce: String,
    sealed: String,
}

/// What it took.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct How {
    format: u32,
    kdf: String,
    memory_kib: u32,
    passes: u32,
    salt: String,
}

/// Texts by name.
pub type Texts = BTreeMap<String, String>;

/// Seals texts.
pub fn seal(passphrase: &str, texts: &Texts) -> Vec<u8> {
    let (mut salt, mut nonce) = ([0; 16], [0; 24]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut nonce);
    let how = How {
        format: FORMAT,
        kdf: "argon2id".into(),
        memory_kib: MEMORY_KIB,
        passes: PASSES,
        salt: BASE64.encode(salt),
    };
    let cipher = cipher(passphrase, &how).expect("these numbers are within what Argon2 takes");
    let plain = Zeroizing::new(serde_json::to_vec(texts).expect("texts are JSON"));
    let payload = Payload { msg: &plain, aad: &aad(&how) };
    let sealed = cipher.encrypt(&XNonce::from(nonce), payload).expect("it is short");
    let whole = Sealed { how, nonce: BASE64.encode(nonce), sealed: BASE64.encode(sealed) };
    serde_json::to_vec_pretty(&whole).expect("texts are JSON")
}

/// Opens what was sealed.
pub fn open(passphrase: &str, bytes: &[u8]) -> Result<Texts, Closed> {
    let Sealed { how, nonce, sealed } = serde_json::from_slice(bytes).map_err(|_| Closed::Format)?;
    if how.format != FORMAT || how.kdf != "argon2id" || how.memory_kib > MOST_MEMORY_KIB || how.passes > MOST_PASSES {
        return Err(Closed::Format);
    }
    let cipher = cipher(passphrase, &how).ok_or(Closed::Format)?;
    let nonce: [u8; 24] = BASE64.decode(nonce).ok().and_then(|nonce| nonce.try_into().ok()).ok_or(Closed::Format)?;
    let sealed = BASE64.decode(sealed).map_err(|_| Closed::Format)?;
    let payload = Payload { msg: &sealed, aad: &aad(&how) };
    let plain = cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| Closed::Passphrase)?;
    serde_json::from_slice(&Zeroizing::new(plain)).map_err(|_| Closed::Format)
}

fn aad(how: &How) -> Vec<u8> {
    serde_json::to_vec(how).expect("words and numbers are JSON")
}

fn cipher(passphrase: &str, how: &How) -> Option<XChaCha20Poly1305> {
    let salt = BASE64.decode(&how.salt).ok()?;
    let params = Params::new(how.memory_kib, how.passes, 1, Some(32)).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    let made = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    made.hash_password_into(passphrase.as_bytes(), &salt, &mut *key).ok()?;
    Some(XChaCha20Poly1305::new(&Key::from(*key)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Texts {
        [("omni.key".to_owned(), "ab".repeat(32))].into()
    }

    #[test]
    fn it_opens_with_its_passphrase_and_no_other() {
        let sealed = seal("correct horse", &texts());
        assert!(!String::from_utf8_lossy(&sealed).contains("abab"));
        assert_eq!(open("correct horse", &sealed), Ok(texts()));
        assert_eq!(open("correct horsf", &sealed), Err(Closed::Passphrase));
    }

    #[test]
    fn no_byte_of_it_can_be_changed() {
        let sealed = seal("correct horse", &texts());
        let mut whole: serde_json::Value = serde_json::from_slice(&sealed).expect("JSON");
        // Also what it took to make the key is bound to it.
        whole["passes"] = 4.into();
        assert_eq!(open("correct horse", whole.to_string().as_bytes()), Err(Closed::Passphrase));
        whole["passes"] = (MOST_PASSES + 1).into();
        assert_eq!(
            open("correct horse", whole.to_string().as_bytes()),
            Err(Closed::Format),
            "it may not take for ever"
        );
        let place = String::from_utf8_lossy(&sealed).find("\"sealed\": \"").expect("it is there") + 15;
        let mut changed = sealed;
        changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
        assert_eq!(open("correct horse", &changed), Err(Closed::Passphrase));
        assert_eq!(open("correct horse", b"{}"), Err(Closed::Format));
    }
}
