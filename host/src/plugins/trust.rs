//! Whether a good plugin file may be used here: what the operator asks for, and why this file has it.
//!
//! Deliberately not here: whether the file is any good, and who may write it ([`super::admission`]): that is asked of
//! every file.

use super::lock_file::LockFile;
use super::signature::{self, Key};
use super::versions::Versions;
use crate::config::Trust;
use omni_channel_sdk::manifest::Manifest;
use semver::Version;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What the operator asks for.
#[derive(Clone, Debug)]
pub struct TrustOptions {
    /// How much.
    pub level: Trust,
    /// Keys whose signatures are good.
    pub keys: Vec<Key>,
    /// The list of trusted files.
    pub lock: PathBuf,
    /// The newest signed versions that were loaded.
    pub versions: PathBuf,
}

/// Why a file may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Trusted {
    /// It came with this program.
    Bundled,
    /// Its content is on the list.
    Listed,
    /// One of the configured keys has signed it.
    Signed {
        /// Which, as minisign shows it.
        key_id: String,
    },
    /// Nobody asks for more than that it lies in the folder.
    Any,
}

impl Trusted {
    /// Whether it may run in the host when nothing else is said: as trusted as the program itself.
    pub fn as_the_program(&self) -> bool {
        matches!(self, Self::Bundled | Self::Listed)
    }
}

/// A file whose trust is in question.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Where it lies.
    pub file: &'a Path,
    /// What was read from it.
    pub bytes: &'a [u8],
    /// The hash of that.
    pub sha256: &'a str,
    /// What it says about itself.
    pub manifest: &'a Manifest,
    /// Whether it came with this program.
    pub bundled: bool,
}

/// Why a file may be used, or in a sentence why not and what to do.
pub fn judge(options: &TrustOptions, candidate: Candidate<'_>) -> Result<Trusted, String> {
    let Candidate { file, sha256, manifest, .. } = candidate;
    if candidate.bundled {
        return Ok(Trusted::Bundled);
    }
    let list = LockFile::read(&options.lock);
    match options.level {
        // A list that cannot be read trusts nobody, and takes nothing away either.
        Trust::Any => Ok(if list.is_ok_and(|list| list.has(sha256)) { Trusted::Listed } else { Trusted::Any }),
        Trust::Listed => {
            let list = list?;
            if list.has(sha256) {
                return Ok(Trusted::Listed);
            }
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            Err(match list.before(&manifest.channel.id, &name) {
                Some(before) => format!(
                    "it is not the content that was trusted (that was version {} with the SHA-256 {}…, this is version \
                     {} with {}…); if it is meant to be another, run: omni plugins trust {}",
                    if before.version.is_empty() { "?" } else { &before.version },
                    &before.sha256[..12],
                    manifest.version,
                    &sha256[..12],
                    file.display()
                ),
                None => format!(
                    "it is not on the list of trusted files; look at it with omni plugins inspect, and if you trust it \
                     run: omni plugins trust {}",
                    file.display()
                ),
            })
        }
        Trust::Signed => {
            let key_id = signature::verify(file, candidate.bytes, manifest, &options.keys)?;
            let version = version(manifest)?;
            let versions = Versions::read(&options.versions)?;
            let Some(newest) = versions.newest(&manifest.channel.id).filter(|newest| **newest > version) else {
                return Ok(Trusted::Signed { key_id });
            };
            if list?.has(sha256) {
                return Ok(Trusted::Signed { key_id });
            }
            Err(format!(
                "its signature is older than what was loaded here before: it is for version {version}, and that was \
                 {newest}; put the newer file back, or allow this one: omni plugins trust {}",
                file.display()
            ))
        }
    }
}

/// Remembers a version that was loaded, so that an older one is refused from then on.
pub fn loaded(options: &TrustOptions, trusted: &Trusted, manifest: &Manifest) -> Result<(), String> {
    match trusted {
        Trusted::Signed { .. } => Versions::remember(&options.versions, &manifest.channel.id, &version(manifest)?),
        _ => Ok(()),
    }
}

fn version(manifest: &Manifest) -> Result<Version, String> {
    Version::parse(&manifest.version).map_err(|_| {
        format!(
            "its version {:?} is no semantic version, so that newer and older cannot be told apart",
            manifest.version
        )
    })
}
