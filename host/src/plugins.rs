//! Plugins: the files in the folder, what became of each, and the running instances' end of the boundary.

use omni_channel_sdk::manifest::Manifest;
use serde::Serialize;
use std::path::PathBuf;

/// What became of a plugin file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PluginState {
    /// It was seen and is being checked.
    Found,
    /// It was checked and can be used; no instance runs on it.
    Loaded,
    /// Instances run on it.
    Running {
        /// How many.
        instances: usize,
    },
    /// It cannot be used: what was found, what is needed, what to do.
    Failed {
        /// In one sentence.
        reason: String,
    },
}

/// Where a plugin's code runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// On threads of the host.
    InProcess,
    /// In a child process.
    Process,
}

/// One plugin file, as API and CLI show it.
#[derive(Clone, Debug)]
pub struct Plugin {
    /// The file.
    pub file: PathBuf,
    /// Its content's SHA-256, in hex, once it was read.
    pub sha256: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// What it says about itself, when that could be read.
    pub manifest: Option<Manifest>,
    /// Where its code runs.
    pub home: Home,
    /// What became of it.
    pub state: PluginState,
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plugins {}

impl Plugins {
    /// Every file in the folder, by name.
    pub fn list(&self) -> Vec<Plugin> {
        Vec::new()
    }

    /// Looks at the folder now, instead of when it is next seen to change.
    pub async fn rescan(&self) {}

    /// The usable plugin of a channel.
    pub fn channel(&self, id: &str) -> Option<Plugin> {
        self.list().into_iter().find(|plugin| plugin.manifest.as_ref().is_some_and(|found| found.channel.id == id))
    }
}
