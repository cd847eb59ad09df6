//! Sealing what is secret: XChaCha20-Poly1305 under the key of the data folder, bound to the place it belongs to.
//!
//! A sealed value is `version (1) ‖ key id (4) ‖ nonce (24) ‖ ciphertext ‖ tag (16)`. The version and the key id are
//! authenticated, and so is the context, a string such as `instance:<uuid>`: a value moved to another row does not open.
//!
//! Deliberately not here: where the key and the sealed values are kept ([`crate::data`], [`crate::store`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{Key, XChaCha20Poly1305, XNonce};
use rand::{Rng, RngExt};
use sha2::{Digest, Sha256};
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::{Zeroize, Zeroizing};

const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE: usize = 24;
const TAG: usize = 16;
const HEADER: usize = 1 + KEY_ID;
const CHECK_CONTEXT: &str = "omni:key-check";
const CHECK_WORD: &[u8] = b"omni";

/// How many bytes sealing adds.
pub const OVERHEAD: usize = HEADER + NONCE + TAG;

/// Why a value does not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It is too short, or of a version that this program does not know.
    #[error("the sealed value is damaged, or was written by a newer version")]
    Format,
    /// It was sealed under another key.
    #[error("the value was sealed with another key file than this one")]
    OtherKey,
    /// It was changed, or moved here from another place.
    #[error("the sealed value was changed, or belongs elsewhere")]
    Tampered,
}

/// The database was written with another key file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this database was written with another key file: put the omni.key that belongs to it into the data folder. \
     If that file is lost, the tokens and logins in the database are lost with it (messages are not); \
     they have to be entered again on a new database"
)]
pub struct KeyMismatch;

/// The key that seals everything, as it lies in the key file. Wiped when dropped.
pub struct MasterKey([u8; 32]);

impl MasterKey {
    /// A new one, from the system's randomness.
    pub fn generate() -> Self {
        let mut bytes = [0; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// Reads 64 hex digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// As 64 hex digits.
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0))
    }
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// Seals under one key, and opens what was sealed under it or under one of the keys before it. Cheap to clone: all clones
/// change keys together. The keys are wiped with the last clone.
#[derive(Clone)]
pub struct Sealer(Arc<RwLock<Ring>>);

/// The key that seals, and those that only open.
struct Ring {
    current: Arc<One>,
    older: Vec<Arc<One>>,
}

struct One {
    cipher: XChaCha20Poly1305,
    id: [u8; KEY_ID],
}

impl One {
    fn new(key: &MasterKey) -> Self {
        let digest = Sha256::new().chain_update(b"omni key id").chain_update(key.0).finalize();
        let mut id = [0; KEY_ID];
        id.copy_from_slice(&digest[..KEY_ID]);
        Self { cipher: XChaCha20Poly1305::new(&Key::from(key.0)), id }
    }

    fn aad(&self, context: &str) -> Vec<u8> {
        let mut aad = Vec::with_capacity(HEADER + context.len());
        aad.push(VERSION);
        aad.extend_from_slice(&self.id);
        aad.extend_from_slice(context.as_bytes());
        aad
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealer(key {})", hex::encode(self.key_id()))
    }
}

impl Sealer {
    /// One for this key.
    pub fn new(key: &MasterKey) -> Self {
        Self::with_older(key, &[])
    }

    /// One for this key, which opens what was sealed under the older ones as well.
    pub fn with_older(key: &MasterKey, older: &[MasterKey]) -> Self {
        let older = older.iter().map(|key| Arc::new(One::new(key))).collect();
        Self(Arc::new(RwLock::new(Ring { current: Arc::new(One::new(key)), older })))
    }

    /// From now on seals under this key; the one before it still opens.
    pub fn change_key(&self, key: &MasterKey) {
        let mut ring = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut ring.current, Arc::new(One::new(key)));
        ring.older.push(before);
    }

    /// From now on opens only what is sealed under the current key.
    pub fn forget_older(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).older.clear();
    }

    /// Whether there are older keys.
    pub fn has_older(&self) -> bool {
        !self.0.read().unwrap_or_else(PoisonError::into_inner).older.is_empty()
    }

    /// The id of the key that seals: part of every sealed value, and no secret.
    pub fn key_id(&self) -> [u8; KEY_ID] {
        self.current().id
    }

    fn current(&self) -> Arc<One> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).current)
    }

    fn named(&self, id: &[u8]) -> Option<Arc<One>> {
        let ring = self.0.read().unwrap_or_else(PoisonError::into_inner);
        std::iter::once(&ring.current).chain(&ring.older).find(|one| one.id == id).cloned()
    }

    /// Seals a value for the place that `context` names. Two seals of one value differ.
    pub fn seal(&self, context: &str, plaintext: &[u8]) -> Vec<u8> {
        let one = self.current();
        let mut nonce = [0; NONCE];
        rand::rng().fill_bytes(&mut nonce);
        let aad = one.aad(context);
        let payload = Payload { msg: plaintext, aad: &aad };
        let ciphertext =
            one.cipher.encrypt(&XNonce::from(nonce), payload).expect("only a value of 256 GiB cannot be sealed");
        let mut sealed = Vec::with_capacity(OVERHEAD + plaintext.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&one.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Opens a value that was sealed for this context.
    pub fn open(&self, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        if sealed.len() < OVERHEAD || sealed[0] != VERSION {
            return Err(SealError::Format);
        }
        let (header, rest) = sealed.split_at(HEADER);
        let one = self.named(&header[1..]).ok_or(SealError::OtherKey)?;
        let (nonce, ciphertext) = rest.split_at(NONCE);
        let nonce = XNonce::try_from(nonce).map_err(|_| SealError::Format)?;
        let aad = one.aad(context);
        let payload = Payload { msg: ciphertext, aad: &aad };
        one.cipher.decrypt(&nonce, payload).map(Zeroizing::new).map_err(|_| SealError::Tampered)
    }

    /// The same value, sealed under the current key.
    pub fn reseal(&self, context: &str, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok(self.seal(context, &self.open(context, sealed)?))
    }

    /// What the store keeps in its settings, so that a host with another key is known before it writes.
    pub fn check_value(&self) -> String {
        BASE64.encode(self.seal(CHECK_CONTEXT, CHECK_WORD))
    }

    /// Whether the database that holds this check value was written with this key.
    pub fn verify(&self, check_value: &str) -> Result<(), KeyMismatch> {
        let sealed = BASE64.decode(check_value).map_err(|_| KeyMismatch)?;
        match self.open(CHECK_CONTEXT, &sealed) {
            Ok(word) if *word == CHECK_WORD => Ok(()),
            _ => Err(KeyMismatch),
        }
    }
}

/// A new API key: `omni_sk_` and 32 letters and digits, 190 random bits.
pub fn new_api_key() -> String {
    let mut key = String::from("omni_sk_");
    key.extend(rand::rng().sample_iter(rand::distr::Alphanumeric).take(32).map(char::from));
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_opens_in_its_place_only() {
        let sealer = Sealer::new(&MasterKey::generate());
        for plaintext in [&b""[..], b"token", &[7; 100_000]] {
            let sealed = sealer.seal("instance:1", plaintext);
            assert_eq!(sealed.len(), plaintext.len() + OVERHEAD);
            assert_eq!(**sealer.open("instance:1", &sealed).expect("opens"), *plaintext);
            assert_eq!(sealer.open("instance:2", &sealed), Err(SealError::Tampered));
        }
        assert_ne!(sealer.seal("a", b"x"), sealer.seal("a", b"x"));
    }

    #[test]
    fn no_byte_can_be_changed_and_no_end_cut_off() {
        let sealer = Sealer::new(&MasterKey::generate());
        let sealed = sealer.seal("kv:1:offset", b"a small value");
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut changed = sealed.clone();
                changed[at] ^= 1 << bit;
                let expected = match at {
                    0 => SealError::Format,
                    1..HEADER => SealError::OtherKey,
                    _ => SealError::Tampered,
                };
                assert_eq!(sealer.open("kv:1:offset", &changed), Err(expected), "byte {at}");
            }
            assert!(sealer.open("kv:1:offset", &sealed[..at]).is_err());
        }
        let mut longer = sealed;
        longer.push(0);
        assert_eq!(sealer.open("kv:1:offset", &longer), Err(SealError::Tampered));
    }

    #[test]
    fn another_key_is_told_from_a_damaged_value() {
        let (ours, theirs) = (Sealer::new(&MasterKey::generate()), Sealer::new(&MasterKey::generate()));
        assert_eq!(theirs.open("x", &ours.seal("x", b"y")), Err(SealError::OtherKey));
        assert_eq!(ours.verify(&ours.check_value()), Ok(()));
        assert_eq!(theirs.verify(&ours.check_value()), Err(KeyMismatch));
        assert_eq!(ours.verify("not base64"), Err(KeyMismatch));
        assert!(KeyMismatch.to_string().contains("are lost with it"));
    }

    #[test]
    fn a_new_key_seals_at_once_and_the_old_one_opens_until_it_is_forgotten() {
        let (old, new) = (MasterKey::generate(), MasterKey::generate());
        let sealer = Sealer::new(&old);
        let (clone, before) = (sealer.clone(), sealer.seal("x", b"y"));
        sealer.change_key(&new);
        assert_eq!(**clone.open("x", &before).expect("the old key opens"), *b"y");
        let after = clone.seal("x", b"z");
        assert_eq!(**Sealer::new(&new).open("x", &after).expect("every clone seals under the new one"), *b"z");
        let resealed = sealer.reseal("x", &before).expect("opens");
        assert_eq!(sealer.reseal("elsewhere", &before), Err(SealError::Tampered));
        sealer.forget_older();
        assert_eq!(clone.open("x", &before), Err(SealError::OtherKey));
        assert_eq!(**clone.open("x", &resealed).expect("opens"), *b"y");
        let again = Sealer::with_older(&new, &[old]);
        assert!(again.has_older() && again.open("x", &before).is_ok());
    }

    #[test]
    fn a_key_survives_its_file_and_is_never_printed() {
        let key = MasterKey::generate();
        let again = MasterKey::from_hex(&key.to_hex()).expect("reads what it wrote");
        let sealed = Sealer::new(&key).seal("x", b"y");
        assert_eq!(**Sealer::new(&again).open("x", &sealed).expect("the same key"), *b"y");
        assert!(!format!("{key:?} {:?}", Sealer::new(&key)).contains(&*key.to_hex()));
        let api_key = new_api_key();
        assert!(api_key.starts_with("omni_sk_") && api_key.len() == 40 && api_key != new_api_key());
    }
}
