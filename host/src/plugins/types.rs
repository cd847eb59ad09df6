//! What is said about plugins, to whoever asks and to whoever runs instances on them.

use super::allowance::Allowance;
use super::child::ProcessStatus;
use super::line::Line;
use super::trust::{TrustOptions, Trusted};
use super::wasm::Sandbox;
use crate::clock::Clock;
use crate::config::{ForChannel, Isolation};
use crate::store::Time;
use omni_channel_sdk::manifest::{Manifest, WASM_ABI};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What became of a plugin file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum PluginState {
    /// It was seen and is being checked.
    Found,
    /// It was checked and opened; no instance runs on it.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// On threads of the host.
    InProcess,
    /// In a child process.
    Process,
    /// In a sandbox of the host: a WASM component, and nothing else.
    Sandbox,
}

impl Home {
    /// As it is written.
    pub fn word(self) -> &'static str {
        match self {
            Self::InProcess => "in-process",
            Self::Process => "process",
            Self::Sandbox => "sandbox",
        }
    }
}

impl std::str::FromStr for Home {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "in-process" => Ok(Self::InProcess),
            "process" => Ok(Self::Process),
            other => Err(format!("{other:?} is no place to run in; expected \"process\" or \"in-process\"")),
        }
    }
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
    /// Why it may be used, when it may.
    pub trust: Option<Trusted>,
    /// Where its code runs when an instance says nothing else.
    pub home: Option<Home>,
    /// What it may use.
    pub allowance: Option<Allowance>,
    /// Its child process, when it has had one.
    pub process: Option<ProcessStatus>,
    /// Threads of it that hang in the host.
    pub hung_threads: usize,
    /// What became of it.
    pub state: PluginState,
}

/// Where plugins are looked for, and how they are run.
#[derive(Clone, Debug)]
pub struct PluginOptions {
    /// The operator's folder. A file here wins over a bundled one with the same id.
    pub folder: PathBuf,
    /// Where the plugins lie that came with this program: as trusted as the program itself.
    pub bundled: Option<PathBuf>,
    /// Copies under their hashes, ours alone.
    pub cache: PathBuf,
    /// Which home.
    pub isolation: Isolation,
    /// What plugins may use of which nothing else is said.
    pub limits: Limits,
    /// What the operator has granted while the host runs.
    pub grants: PathBuf,
    /// How long a sandboxed channel may compute on one frame.
    pub frame_within: Duration,
    /// Runs WASM.
    pub sandbox: Sandbox,
    /// What holds for single channels.
    pub channels: BTreeMap<String, ForChannel>,
    /// Which files may be used.
    pub trust: TrustOptions,
    /// The host's own program, for child processes.
    pub program: PathBuf,
    /// Time.
    pub clock: Clock,
}

impl PluginOptions {
    /// Where a plugin runs when its file is trusted like this.
    pub fn home(&self, manifest: &Manifest, trusted: &Trusted) -> Home {
        let channel = &manifest.channel.id;
        if manifest.abi == WASM_ABI {
            return Home::Sandbox;
        }
        let wish = self.channels.get(channel).and_then(|channel| channel.isolation).unwrap_or(self.isolation);
        match wish {
            Isolation::InProcess => Home::InProcess,
            Isolation::Auto if trusted.as_the_program() && !manifest.channel.own_process => Home::InProcess,
            Isolation::Auto | Isolation::Process => Home::Process,
        }
    }
}

/// What plugins may use of which nothing else is said, as the configuration has it. 0 is no limit.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// Bytes of memory of a plugin's process, or of an instance in a sandbox.
    pub memory: u64,
    /// Bytes that an instance keeps.
    pub state: u64,
    /// Events of one call.
    pub events_per_call: u64,
    /// Bytes of events and entries of one call.
    pub bytes_per_call: u64,
    /// What an instance in a sandbox computes on one frame.
    pub fuel_per_frame: u64,
    /// Entries in the tables of an instance in a sandbox.
    pub table_entries: u64,
}

impl From<&crate::config::Plugins> for Limits {
    fn from(config: &crate::config::Plugins) -> Self {
        Self {
            memory: config.memory_limit.0,
            state: config.state_limit.0,
            events_per_call: config.events_per_call,
            bytes_per_call: config.bytes_per_call.0,
            fuel_per_frame: config.fuel_per_frame,
            table_entries: config.table_entries,
        }
    }
}

/// Why no instance could be made.
#[derive(Clone, Debug)]
pub struct NotOpened {
    /// In one sentence.
    pub reason: String,
    /// When it makes sense to try again, when that is known.
    pub not_before: Option<Time>,
}

impl From<String> for NotOpened {
    fn from(reason: String) -> Self {
        Self { reason, not_before: None }
    }
}

/// An instance that was made: its line, and on what.
#[derive(Debug)]
pub struct Opened {
    /// The line to it.
    pub line: Line,
    /// What its plugin says about itself.
    pub manifest: Manifest,
    /// Which content.
    pub sha256: String,
    /// Where it runs.
    pub home: Home,
    /// What it may use.
    pub allowance: Allowance,
    /// Counts it as long as it runs.
    pub running: Running,
}

/// How many instances run on a plugin, and how many threads of it hang in the host.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub instances: AtomicUsize,
    pub hung: AtomicUsize,
}

/// Counts a running instance.
#[derive(Debug)]
pub struct Running(Arc<Counters>);

impl Running {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        counters.instances.fetch_add(1, Ordering::Relaxed);
        Self(counters)
    }

    /// It left a thread behind that hangs. Such a thread cannot be ended, only counted.
    pub fn abandon(&self) {
        let abandoned = self.0.hung.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(abandoned, "a thread of a plugin hangs in this process and was given up");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.instances.fetch_sub(1, Ordering::Relaxed);
    }
}
