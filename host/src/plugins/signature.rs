//! Minisign signatures of plugin files: `FILE.minisig` beside the file, by one of the configured keys.
//!
//! The trusted comment says what was signed, in words that any tool can write:
//!
//! ```sh
//! minisign -S -m libomni_channel_telegram.so -t 'channel:telegram version:0.2.0'
//! ```
//!
//! It has to say the same as the manifest, so that a signature cannot be shown around for something else. Deliberately
//! not here: whether the version is older than one that was loaded before (`versions`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use minisign_verify::{Error, PublicKey, Signature};
use omni_channel_sdk::manifest::Manifest;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A signature has four short lines.
const MAX_SIGNATURE: u64 = 16 << 10;

/// A key whose signatures are good.
#[derive(Clone, Debug)]
pub struct Key {
    /// As minisign shows it: sixteen hex digits.
    pub id: String,
    key: PublicKey,
}

impl Key {
    /// Reads the second line of a `minisign.pub`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let key = PublicKey::from_base64(text).map_err(|_| format!("{text:?} is no minisign public key"))?;
        Ok(Self { id: key_id(text).unwrap_or_default(), key })
    }
}

/// Where the signature of a file lies.
pub fn signature_file(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".minisig");
    PathBuf::from(name)
}

/// The comment that a good signature of this file has.
pub fn comment(manifest: &Manifest) -> String {
    format!("channel:{} version:{}", manifest.channel.id, manifest.version)
}

/// Which key has signed what was read from `file`. The error is a sentence that says what to do.
pub fn verify(file: &Path, bytes: &[u8], manifest: &Manifest, keys: &[Key]) -> Result<String, String> {
    if keys.is_empty() {
        return Err("plugins.trust is \"signed\", but plugins.keys names no key that could have signed it".into());
    }
    let beside = signature_file(file);
    let text = read(&beside).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!(
            "it has no signature; get {} from whoever made the plugin, or sign it yourself: minisign -S -m {} -t '{}'",
            beside.display(),
            file.display(),
            comment(manifest)
        ),
        _ => format!("its signature {} cannot be read: {error}", beside.display()),
    })?;
    holds(&text, file, bytes, manifest, keys)
}

/// Whether `text` is a good signature of what was read from `file`.
pub(super) fn holds(
    text: &str,
    file: &Path,
    bytes: &[u8],
    manifest: &Manifest,
    keys: &[Key],
) -> Result<String, String> {
    let damaged = || format!("its signature {} is damaged; get it again", signature_file(file).display());
    let signature = Signature::decode(text).map_err(|_| damaged())?;
    let signer = text.lines().nth(1).and_then(key_id).ok_or_else(damaged)?;
    let Some(key) = keys.iter().find(|key| key.id == signer) else {
        return Err(format!(
            "it is signed with the key {signer}, which is not among plugins.keys; add that key if you trust its owner"
        ));
    };
    key.key.verify(bytes, &signature, false).map_err(|error| match error {
        Error::UnsupportedLegacyMode | Error::UnsupportedAlgorithm | Error::UnexpectedAlgorithm => {
            "its signature is of minisign's old kind; sign it anew with minisign 0.9 or later".to_owned()
        }
        _ => format!(
            "it is not what was signed with the key {signer}: the file or its signature was changed afterwards; put the \
             original files back"
        ),
    })?;
    let said = signature.trusted_comment();
    let word = |name: &str| said.split_whitespace().find_map(|word| word.strip_prefix(name));
    match (word("channel:"), word("version:")) {
        (Some(channel), Some(version)) if channel == manifest.channel.id && version == manifest.version => Ok(signer),
        (Some(channel), Some(version)) => Err(format!(
            "its signature is for {channel} {version}, the file is {} {}; put the signature that belongs to it beside it",
            manifest.channel.id, manifest.version
        )),
        _ => Err(format!(
            "its signature does not say which plugin and version it is for; sign it anew: minisign -S -m {} -t '{}'",
            file.display(),
            comment(manifest)
        )),
    }
}

fn read(path: &Path) -> io::Result<String> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() > MAX_SIGNATURE {
        return Err(io::Error::other("it is no signature"));
    }
    let mut text = String::new();
    File::open(path)?.take(MAX_SIGNATURE).read_to_string(&mut text)?;
    Ok(text)
}

/// The id of the key in a key's or a signature's line: eight bytes behind the two that name the algorithm.
fn key_id(line: &str) -> Option<String> {
    let bytes = STANDARD.decode(line.trim()).ok()?;
    let id: [u8; 8] = bytes.get(2..10)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}
