//! What [`crate::fuzzing`] reaches of the plugins: readers that nobody else outside has a use for.

use super::admission;
use super::http_calls::{Secrets, headers_for};
use super::lock_file::LockFile;
use super::signature::{self, Key};
use super::versions::Versions;
use super::wire;
use crate::fuzzing::sentence;
use omni_channel_sdk::http::HttpCall;
use omni_channel_sdk::manifest::Manifest;
use std::path::Path;

/// What is in a file.
pub(crate) fn inspect(file: &[u8]) -> Result<Manifest, String> {
    admission::inspect(file, "").map_err(|refused| refused.reason)
}

/// A list of trusted files.
pub(crate) fn lock_file(text: &str) {
    let Ok(list) = LockFile::parse(text) else { return };
    let written = toml::to_string(&list).expect("a list can be written");
    assert_eq!(LockFile::parse(&written), Ok(list), "a list is read as it was written");
}

/// The newest versions.
pub(crate) fn versions(text: &str) {
    let Ok(versions) = Versions::parse(text) else { return };
    let written = toml::to_string(&versions).expect("versions can be written");
    assert_eq!(Versions::parse(&written), Ok(versions), "versions are read as they were written");
}

/// A signature; nobody here has the key that could make a good one.
pub(crate) fn is_signed(text: &str) {
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let manifest = crate::fuzzing::plain_manifest();
    let keys = [Key::parse(KEY).expect("a key")];
    let refused = signature::holds(text, Path::new("/p/libx.so"), b"not what was signed", &manifest, &keys);
    sentence(&refused.expect_err("nobody signed that"));
}

/// A message of a plugin's process.
pub(crate) fn message(bytes: &[u8]) {
    let Some((length, body)) = bytes.split_first_chunk::<4>() else { return };
    let Ok(length) = wire::length(*length) else { return };
    let Some(body) = body.get(..length) else { return };
    let Ok((kind, instance, payload)) = wire::parse(body.to_vec()) else { return };
    assert_eq!(wire::message(kind, instance, &payload), bytes[..4 + length], "a message is written as it was read");
}

/// A call that a channel asks the host to make, as far as it goes without a network.
pub(crate) fn call(call: &HttpCall) {
    let (secrets, _) = Secrets::new([("token".to_owned(), "a secret".to_owned())]);
    let _ = headers_for(&call.headers, &secrets);
    let _ = reqwest::Url::parse(&secrets.fill(&call.url));
}
