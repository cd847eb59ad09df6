//! The list of trusted plugin files, `plugins.lock`: a file is trusted by what is in it, so a name on the list means
//! nothing and an altered byte makes another file of it.
//!
//! ```toml
//! version = 1
//!
//! [[plugin]]
//! sha256 = "9f86…"                          # what is trusted
//! channel = "telegram"                      # the rest is for people, and for better sentences
//! version = "0.1.0"
//! file = "libomni_channel_telegram.so"
//! added = "2026-11-22T09:40:00Z"
//! ```
//!
//! `omni plugins trust` keeps it; it may be written by hand as well. Deliberately not here: whether the list matters
//! ([`super::trust`]).

use super::kept;
use crate::store::Time;
use chrono::SecondsFormat;
use serde::{Deserialize, Serialize};
use std::path::Path;

const HEADER: &str = "\
# Plugin files that this host trusts, by their content.
# Kept by `omni plugins trust FILE` and `omni plugins untrust FILE`; a running host sees changes by itself.
";
/// The only format there is.
const VERSION: u32 = 1;
/// What people call it.
const WHAT: &str = "the list of trusted files";

/// The list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockFile {
    version: u32,
    /// What is trusted.
    #[serde(default)]
    pub plugin: Vec<Entry>,
}

/// One trusted content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
    /// The channel that it said it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub channel: String,
    /// The version that it said it is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// The file's name when it was trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// When it was trusted.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub added: String,
}

impl LockFile {
    /// Reads the list; an absent one is empty. The error is a sentence that says what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        match kept::read(path, WHAT)? {
            None => Ok(Self { version: VERSION, plugin: Vec::new() }),
            Some(text) => Self::parse(&text).map_err(|error| format!("{WHAT} {} is damaged: {error}", path.display())),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut list: Self = kept::parse(text)?;
        if list.version != VERSION {
            return Err(format!("it has format {}, this host reads format {VERSION}", list.version));
        }
        for entry in &mut list.plugin {
            entry.sha256.make_ascii_lowercase();
            if entry.sha256.len() != 64 || !entry.sha256.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(format!("{:?} is no SHA-256; expected 64 hex digits", entry.sha256));
            }
        }
        Ok(list)
    }

    /// Whether a content is on it.
    pub fn has(&self, sha256: &str) -> bool {
        self.plugin.iter().any(|entry| entry.sha256 == sha256)
    }

    /// The newest entry for this channel or file name, for the sentence about a content that is not on the list.
    pub fn before(&self, channel: &str, file: &str) -> Option<&Entry> {
        self.plugin.iter().rev().find(|entry| entry.channel == channel || entry.file == file)
    }

    /// Puts a content on it; says whether it was not there before.
    pub fn add(&mut self, entry: Entry) -> bool {
        let is_new = !self.has(&entry.sha256);
        if is_new {
            self.plugin.push(entry);
        }
        is_new
    }

    /// Takes every entry off that `fits`, and gives them back.
    pub fn remove(&mut self, fits: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let (gone, stay) = std::mem::take(&mut self.plugin).into_iter().partition(|entry| fits(entry));
        self.plugin = stay;
        gone
    }

    /// Reads the list, changes it and writes it; two that do so at the same time wait for each other.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Self) -> T) -> Result<T, String> {
        kept::change(path, WHAT, HEADER, Self::read, change)
    }
}

/// An entry for a content that is trusted now.
pub fn entry(sha256: String, channel: &str, version: &str, file: &Path, now: Time) -> Entry {
    Entry {
        sha256,
        channel: channel.to_owned(),
        version: version.to_owned(),
        file: file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        added: now.datetime().to_rfc3339_opts(SecondsFormat::Secs, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn one(hash: char) -> Entry {
        let sha256 = hash.to_string().repeat(64);
        entry(sha256, "echo", "0.1.0", Path::new("/p/libomni_channel_echo.so"), Time::from_millis(1_767_225_600_000))
    }

    #[test]
    fn what_is_written_is_read_and_can_be_read_by_people() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugins.lock");
        let mut list = LockFile::read(&path).expect("an absent one is empty");
        assert!(list.add(one('a')) && list.add(one('b')) && !list.add(one('a')));
        kept::write(&path, HEADER, &list).expect("writes");
        assert_eq!(LockFile::read(&path).expect("reads"), list);
        insta::assert_snapshot!(fs::read_to_string(&path).expect("reads"), @r#"
        # Plugin files that this host trusts, by their content.
        # Kept by `omni plugins trust FILE` and `omni plugins untrust FILE`; a running host sees changes by itself.
        version = 1

        [[plugin]]
        sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
        channel = "echo"
        version = "0.1.0"
        file = "libomni_channel_echo.so"
        added = "2026-01-01T00:00:00Z"

        [[plugin]]
        sha256 = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
        channel = "echo"
        version = "0.1.0"
        file = "libomni_channel_echo.so"
        added = "2026-01-01T00:00:00Z"
        "#);
        let gone = list.remove(|entry| entry.sha256.starts_with('a'));
        assert_eq!((gone.len(), list.plugin.len()), (1, 1));
    }

    #[test]
    fn a_damaged_list_says_where() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugins.lock");
        for (text, told) in [
            ("version = 1\n[[plugin]]\nsha = \"x\"\n", "line 3: unknown field `sha`"),
            ("version = 2\n", "it has format 2, this host reads format 1"),
            ("version = 1\n[[plugin]]\nsha256 = \"abc\"\n", "\"abc\" is no SHA-256"),
            ("version = ", "line 1"),
        ] {
            fs::write(&path, text).expect("writes");
            let error = LockFile::read(&path).expect_err("is refused");
            assert!(error.contains(told) && error.contains("plugins.lock"), "{error}");
        }
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("rights");
        assert!(LockFile::read(&path).expect_err("is refused").contains("chmod o-w"));
    }
}
