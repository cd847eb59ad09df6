//! Signatures as [Standard Webhooks](https://www.standardwebhooks.com) has them: HMAC-SHA256 over id, time and body,
//! under a secret that is written `whsec_` and base64. Pure.

use crate::store::Time;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

const PREFIX: &str = "whsec_";
/// What a secret may hold, in bytes.
const LENGTH: std::ops::RangeInclusive<usize> = 24..=64;

/// A secret, and until when it signs beside its successor.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SigningSecret {
    /// As it was shown: `whsec_…`.
    pub secret: String,
    /// Its end, in microseconds since 1970; none for the newest.
    pub until: Option<i64>,
}

impl std::fmt::Debug for SigningSecret {
    /// Without the secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningSecret").field("until", &self.until).finish_non_exhaustive()
    }
}

/// A new secret of 32 random bytes.
pub fn generate() -> String {
    let key: [u8; 32] = rand::random();
    format!("{PREFIX}{}", STANDARD.encode(key))
}

/// The key that a secret is; or what is wrong with it.
pub fn key_of(secret: &str) -> Result<Vec<u8>, String> {
    let wrong = || "must be whsec_ and the base64 of 24 to 64 bytes".to_owned();
    let encoded = secret.strip_prefix(PREFIX).ok_or_else(wrong)?;
    let key = STANDARD.decode(encoded).map_err(|_| wrong())?;
    if LENGTH.contains(&key.len()) { Ok(key) } else { Err(wrong()) }
}

/// One signature: `v1,…`.
fn sign(key: &[u8], id: &str, timestamp: i64, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The header's value: a signature under every secret that holds at this time, with spaces between.
pub fn header(secrets: &[SigningSecret], id: &str, now: Time, body: &[u8]) -> String {
    let holds = |secret: &&SigningSecret| secret.until.is_none_or(|until| now.0 < until);
    let keys = secrets.iter().filter(holds).filter_map(|secret| key_of(&secret.secret).ok());
    let timestamp = now.millis().div_euclid(1_000);
    let signatures: Vec<String> = keys.map(|key| sign(&key, id, timestamp, body)).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        // The example of the specification and of its reference libraries.
        let key = key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let signed = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn an_old_secret_signs_beside_the_new_one_until_its_end() {
        let new = SigningSecret { secret: generate(), until: None };
        let old = SigningSecret { secret: generate(), until: Some(2_000_000) };
        let secrets = [new.clone(), old.clone()];
        let both = header(&secrets, "id", Time(1_999_999), b"{}");
        assert_eq!(both.split(' ').count(), 2);
        let alone = header(&secrets, "id", Time(2_000_000), b"{}");
        assert_eq!(alone, header(&[new], "id", Time(2_000_000), b"{}"));
        assert!(!format!("{old:?}").contains("whsec_"));
    }

    #[test]
    fn a_secret_of_another_kind_is_refused() {
        assert_eq!(key_of(&generate()).expect("ours").len(), 32);
        for wrong in ["", "secret", "whsec_", "whsec_c2hvcnQ=", "whsec_!!!", &format!("whsec_{}", "QUFB".repeat(22))] {
            key_of(wrong).expect_err(wrong);
        }
    }
}
