//! What the operator lets plugins use while the host runs, `plugins.grants` in the data folder: over what the configuration
//! says, and in the same words.
//!
//! ```toml
//! version = 1
//!
//! [channel.telegram]
//! hosts = ["api.telegram.org"]
//! memory_limit = "64 MiB"
//! ```
//!
//! `omni plugins grant` keeps it; it may be written by hand as well. Deliberately not here: what comes of it
//! ([`super::allowance`]).

use super::kept;
use crate::config::ForChannel;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

const HEADER: &str = "\
# What plugins may use, over what the configuration of the host says.
# Kept by `omni plugins grant CHANNEL`; a running host sees changes by itself.
";
/// The only format there is.
const VERSION: u32 = 1;

/// The list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    version: u32,
    /// By the ids of channels.
    #[serde(default)]
    pub channel: BTreeMap<String, ForChannel>,
}

impl Default for Grants {
    fn default() -> Self {
        Self { version: VERSION, channel: BTreeMap::new() }
    }
}

impl Grants {
    /// Reads the list; an absent one is empty. The error is a sentence that says what to do.
    pub fn read(path: &Path) -> Result<Self, String> {
        let Some(text) = kept::read(path, "the list of grants")? else { return Ok(Self::default()) };
        let damaged = |error: String| format!("the list of grants {} is damaged: {error}", path.display());
        let list: Self = kept::parse(&text).map_err(damaged)?;
        if list.version != VERSION {
            return Err(damaged(format!("it has format {}, this host reads format {VERSION}", list.version)));
        }
        if let Some((id, _)) = list.channel.iter().find(|(_, given)| given.isolation.is_some()) {
            return Err(damaged(format!("[channel.{id}]: where a plugin runs is said in the configuration only")));
        }
        Ok(list)
    }

    /// Reads the list, changes it and writes it; two that do so at the same time wait for each other.
    pub fn change<T>(path: &Path, change: impl FnOnce(&mut Self) -> T) -> Result<T, String> {
        kept::change(path, "the list of grants", HEADER, Self::read, change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    #[test]
    fn what_is_written_is_read_and_a_damaged_list_says_where() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("plugins.grants");
        assert_eq!(Grants::read(&path), Ok(Grants::default()));
        let given = ForChannel {
            hosts: Some(vec!["api.example.org".into()]),
            memory_limit: Some(ByteSize::mib(64)),
            ..ForChannel::default()
        };
        Grants::change(&path, |list| list.channel.insert("echo".into(), given.clone())).expect("writes");
        insta::assert_snapshot!(std::fs::read_to_string(&path).expect("reads"), @r#"
        # What plugins may use, over what the configuration of the host says.
        # Kept by `omni plugins grant CHANNEL`; a running host sees changes by itself.
        version = 1

        [channel.echo]
        hosts = ["api.example.org"]
        memory_limit = "64 MiB"
        "#);
        assert_eq!(Grants::read(&path).expect("reads").channel["echo"], given);
        for (text, told) in [
            ("version = 2\n", "it has format 2, this host reads format 1"),
            ("version = 1\n[channel.echo]\nhost = []\n", "line 3: unknown field `host`"),
            ("version = 1\n[channel.echo]\nmemory_limit = \"much\"\n", "\"much\" is no size"),
            ("version = 1\n[channel.echo]\nisolation = \"in-process\"\n", "in the configuration only"),
        ] {
            std::fs::write(&path, text).expect("writes");
            let error = Grants::read(&path).expect_err("is refused");
            assert!(error.contains(told) && error.contains("plugins.grants"), "{error}");
        }
    }
}
