//! The newest signed version of each channel that was loaded here, `plugin-versions.toml` in the data folder: who can put
//! files into the plugins folder cannot bring an old, signed mistake back.

use semver::Version;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const HEADER: &str = "\
# The newest signed version of each plugin that was loaded here. An older one is refused; `omni plugins trust FILE` lets
# one older file in.
";

/// Channel → its newest version.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions(BTreeMap<String, Version>);

impl Versions {
    /// Reads them; none yet is none.
    pub fn read(path: &Path) -> Result<Self, String> {
        let wrong = |error: &dyn std::fmt::Display| format!("{} cannot be read: {error}", path.display());
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text).map_err(|error| wrong(&error)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(wrong(&error)),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    /// The newest version of a channel.
    pub fn newest(&self, channel: &str) -> Option<&Version> {
        self.0.get(channel)
    }

    /// Remembers a version, when it is newer than what is known.
    pub fn remember(path: &Path, channel: &str, version: &Version) -> Result<(), String> {
        let mut versions = Self::read(path)?;
        if versions.newest(channel).is_some_and(|newest| newest >= version) {
            return Ok(());
        }
        versions.0.insert(channel.to_owned(), version.clone());
        versions.write(path).map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(HEADER.as_bytes())?;
        file.write_all(toml::to_string(self).map_err(io::Error::other)?.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    }
}
