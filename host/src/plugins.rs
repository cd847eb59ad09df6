//! Plugins: the files in the folders, what became of each, and how an instance is made on one.
//!
//! ```text
//! admission    what has to be true of a file before any of it is run
//! manifest     what a file says about itself
//! watch        looks at the folders again when they change
//! native       opens a library (the one file with `unsafe`)
//! line         one instance's line to its channel, in process
//! child        the same over a socket, in a process of its own; `runner` is its far side, `wire` what goes between
//! session      calls, questions, the commit at the end of a call
//! host_api     the answers to an instance's questions; `http_calls` makes its HTTP calls
//! ```
//!
//! A plugin that fails is a shown state and harms nothing else. Deliberately not here: instances and their connections.

pub mod admission;
pub mod child;
pub mod host_api;
pub mod http_calls;
pub mod line;
pub mod manifest;
pub mod native;
pub mod runner;
pub mod session;
mod watch;
mod wire;

pub use manifest::manifest_of;
pub use watch::watch;

use admission::Admitted;
use child::{ChildHome, ChildOptions};
use line::{Line, in_process};
use native::Library;
use omni_channel_sdk::manifest::Manifest;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::watch as tokio_watch;

/// Threads of one plugin that may hang in this process before no other is given to it.
const MAX_ABANDONED: usize = 8;

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Home {
    /// On threads of the host.
    InProcess,
    /// In a child process.
    Process,
}

/// Which home plugins get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// In process for bundled files and those that are trusted by hash, a child process for every other.
    Auto,
    /// A child process for all.
    Process,
    /// In process for all.
    InProcess,
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
    /// SHA-256 of files that the operator trusts, in hex.
    pub trusted: Vec<String>,
    /// The host's own program, for child processes.
    pub program: PathBuf,
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plugins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PluginOptions,
    files: Mutex<BTreeMap<PathBuf, Known>>,
    /// One look at the folders at a time.
    scanning: tokio::sync::Mutex<()>,
    changed: tokio_watch::Sender<u64>,
}

/// What is known of a file, and of which state of the file.
#[derive(Debug, Clone)]
struct Known {
    stamp: Option<Stamp>,
    bundled: bool,
    home: Home,
    size: u64,
    outcome: Option<Result<Arc<Ready>, String>>,
    /// Why a good file is not used, for now: another one has the same id.
    shadowed: Option<String>,
}

/// Tells two contents of one path apart without reading them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

/// A plugin on which instances can be made.
#[derive(Debug)]
struct Ready {
    admitted: Admitted,
    home: OpenHome,
    instances: Arc<AtomicUsize>,
    /// Threads of it that hang in this process.
    abandoned: Arc<AtomicUsize>,
}

#[derive(Debug)]
enum OpenHome {
    InProcess(Library),
    Process(ChildHome),
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
    /// Counts it as long as it runs.
    pub running: Running,
}

/// Counts a running instance.
#[derive(Debug)]
pub struct Running {
    instances: Arc<AtomicUsize>,
    abandoned: Arc<AtomicUsize>,
}

impl Running {
    /// It left a thread behind that hangs. Such a thread cannot be ended, only counted.
    pub fn abandon(&self) {
        let abandoned = self.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::error!(abandoned, "a thread of a plugin hangs in this process and was given up");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.instances.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Plugins {
    /// Nothing is looked at before the first [`rescan`](Self::rescan).
    pub fn new(options: PluginOptions) -> Self {
        Self(Arc::new(Inner {
            options,
            files: Mutex::default(),
            scanning: tokio::sync::Mutex::default(),
            changed: tokio_watch::Sender::new(0),
        }))
    }

    /// Where plugins are looked for.
    pub fn options(&self) -> &PluginOptions {
        &self.0.options
    }

    /// Moves whenever a file was added, replaced or removed.
    pub fn changed(&self) -> tokio_watch::Receiver<u64> {
        self.0.changed.subscribe()
    }

    /// Every file in the folders, by name.
    pub fn list(&self) -> Vec<Plugin> {
        lock(&self.0.files).iter().map(|(file, known)| known.show(file)).collect()
    }

    /// The usable plugin of a channel.
    pub fn channel(&self, id: &str) -> Option<Plugin> {
        let files = lock(&self.0.files);
        files.iter().find(|(_, known)| known.usable(id).is_some()).map(|(file, known)| known.show(file))
    }

    /// The ids of all channels that can be used.
    pub fn channels(&self) -> Vec<String> {
        let files = lock(&self.0.files);
        let usable = files.values().filter(|known| known.shadowed.is_none());
        usable.filter_map(|known| Some(known.ready()?.admitted.manifest.channel.id.clone())).collect()
    }

    /// Makes an instance on the plugin of a channel.
    pub async fn open(&self, channel: &str) -> Result<Opened, String> {
        let ready = lock(&self.0.files).values().find_map(|known| known.usable(channel).cloned());
        let ready = ready.ok_or_else(|| self.missing(channel))?;
        let abandoned = ready.abandoned.load(Ordering::Relaxed);
        if abandoned >= MAX_ABANDONED {
            return Err(format!(
                "{abandoned} threads of this plugin hang in the host; restart the host, and run the plugin in a process \
                 of its own (plugins.isolation = \"process\")"
            ));
        }
        let line = match &ready.home {
            OpenHome::InProcess(library) => in_process(*library, channel)?,
            OpenHome::Process(child) => child.open().await?,
        };
        ready.instances.fetch_add(1, Ordering::Relaxed);
        Ok(Opened {
            line,
            manifest: ready.admitted.manifest.clone(),
            sha256: ready.admitted.sha256.clone(),
            running: Running { instances: Arc::clone(&ready.instances), abandoned: Arc::clone(&ready.abandoned) },
        })
    }

    /// The sentence for a channel that has no usable plugin.
    pub fn missing(&self, channel: &str) -> String {
        let failed = self.list().into_iter().find_map(|plugin| match plugin.state {
            PluginState::Failed { reason }
                if plugin.manifest.as_ref().is_some_and(|manifest| manifest.channel.id == channel)
                    || plugin.file.to_string_lossy().contains(channel) =>
            {
                Some(format!("{} cannot be used: {reason}", plugin.file.display()))
            }
            _ => None,
        });
        if let Some(failed) = failed {
            return format!("no plugin for channel {channel:?} is loaded; {failed}");
        }
        let folder = self.0.options.folder.display();
        let channels = self.channels();
        if channels.is_empty() {
            return format!("no plugin for channel {channel:?} is loaded; put its file into {folder}");
        }
        format!(
            "no plugin for channel {channel:?} is loaded (there are: {}); put its file into {folder}",
            channels.join(", ")
        )
    }

    /// Looks at the folders now.
    pub async fn rescan(&self) {
        let _one_at_a_time = self.0.scanning.lock().await;
        let mut there = Vec::new();
        let options = &self.0.options;
        if let Some(bundled) = &options.bundled {
            there.extend(plugin_files(bundled, true).into_iter().map(|file| (file, true)));
        }
        if options.bundled.as_ref() != Some(&options.folder) {
            there.extend(plugin_files(&options.folder, false).into_iter().map(|file| (file, false)));
        }
        let mut changed = self.forget_all_but(&there);
        for (file, bundled) in there {
            let stamp = stamp_of(&file);
            if lock(&self.0.files).get(&file).is_some_and(|known| known.is_settled(stamp.as_ref())) {
                continue;
            }
            changed = true;
            let home = self.home(bundled, None);
            let size = stamp.as_ref().map_or(0, |stamp| stamp.size);
            let known = Known { stamp, bundled, home, size, outcome: None, shadowed: None };
            lock(&self.0.files).insert(file.clone(), known);
            let outcome = self.admit(&file, bundled).await;
            match &outcome {
                Ok(ready) => tracing::info!(
                    plugin.file = %file.display(), channel.name = ready.admitted.manifest.channel.id,
                    plugin.version = ready.admitted.manifest.version, "plugin loaded"
                ),
                Err(reason) => tracing::warn!(plugin.file = %file.display(), "plugin not loaded: {reason}"),
            }
            if let Some(known) = lock(&self.0.files).get_mut(&file) {
                if let Ok(ready) = &outcome {
                    known.home = ready.home();
                }
                known.outcome = Some(outcome);
            }
        }
        if changed {
            settle_duplicates(&mut lock(&self.0.files));
            self.0.changed.send_modify(|version| *version += 1);
        }
    }

    fn forget_all_but(&self, there: &[(PathBuf, bool)]) -> bool {
        let mut files = lock(&self.0.files);
        let before = files.len();
        files.retain(|file, _| {
            let stays = there.iter().any(|(path, _)| path == file);
            if !stays {
                tracing::info!(plugin.file = %file.display(), "plugin removed");
            }
            stays
        });
        files.len() != before
    }

    fn home(&self, bundled: bool, sha256: Option<&str>) -> Home {
        let options = &self.0.options;
        let trusted =
            || sha256.is_some_and(|hash| options.trusted.iter().any(|known| known.eq_ignore_ascii_case(hash)));
        match options.isolation {
            Isolation::InProcess => Home::InProcess,
            Isolation::Auto if bundled || trusted() => Home::InProcess,
            Isolation::Auto | Isolation::Process => Home::Process,
        }
    }

    async fn admit(&self, file: &Path, bundled: bool) -> Result<Arc<Ready>, String> {
        let folder = file.parent().unwrap_or(Path::new("/")).to_owned();
        let (path, cache) = (file.to_owned(), self.0.options.cache.clone());
        let admitted = tokio::task::spawn_blocking(move || admission::admit(&folder, &path, &cache))
            .await
            .map_err(|_| "it could not be checked".to_owned())??;
        let home = match self.home(bundled, Some(&admitted.sha256)) {
            Home::InProcess => {
                let copy = admitted.copy.clone();
                let opened = tokio::task::spawn_blocking(move || Library::open(&copy)).await;
                OpenHome::InProcess(opened.map_err(|_| "it could not be opened".to_owned())??)
            }
            Home::Process => {
                let child = ChildHome::new(ChildOptions {
                    program: self.0.options.program.clone(),
                    library: admitted.copy.clone(),
                    name: admitted.manifest.channel.id.clone(),
                });
                child.probe().await?;
                OpenHome::Process(child)
            }
        };
        Ok(Arc::new(Ready { admitted, home, instances: Arc::default(), abandoned: Arc::default() }))
    }
}

impl Ready {
    fn home(&self) -> Home {
        match self.home {
            OpenHome::InProcess(_) => Home::InProcess,
            OpenHome::Process(_) => Home::Process,
        }
    }
}

impl Known {
    /// Whether nothing can have changed. What was refused is looked at again: its rights may be others now.
    fn is_settled(&self, stamp: Option<&Stamp>) -> bool {
        stamp.is_some() && self.stamp.as_ref() == stamp && matches!(self.outcome, Some(Ok(_)))
    }

    fn ready(&self) -> Option<&Arc<Ready>> {
        self.outcome.as_ref()?.as_ref().ok()
    }

    fn usable(&self, channel: &str) -> Option<&Arc<Ready>> {
        let ready = self.ready()?;
        (self.shadowed.is_none() && ready.admitted.manifest.channel.id == channel).then_some(ready)
    }

    fn show(&self, file: &Path) -> Plugin {
        let ready = self.ready();
        let state = match (&self.outcome, &self.shadowed) {
            (None, _) => PluginState::Found,
            (Some(Err(reason)), _) | (Some(Ok(_)), Some(reason)) => PluginState::Failed { reason: reason.clone() },
            (Some(Ok(ready)), None) => match ready.instances.load(Ordering::Relaxed) {
                0 => PluginState::Loaded,
                instances => PluginState::Running { instances },
            },
        };
        Plugin {
            file: file.to_owned(),
            sha256: ready.map(|ready| ready.admitted.sha256.clone()),
            size: self.size,
            manifest: ready.map(|ready| ready.admitted.manifest.clone()),
            home: self.home,
            state,
        }
    }
}

/// Of two files with one id none is used, for nobody could say which; but a file in the operator's folder is meant to
/// replace a bundled one.
fn settle_duplicates(files: &mut BTreeMap<PathBuf, Known>) {
    let mut by_id: HashMap<String, Vec<(PathBuf, bool, String)>> = HashMap::new();
    for (file, known) in files.iter_mut() {
        known.shadowed = None;
        if let Some(ready) = known.ready() {
            let id = ready.admitted.manifest.channel.id.clone();
            by_id.entry(id).or_default().push((file.clone(), known.bundled, ready.admitted.sha256.clone()));
        }
    }
    for (id, same) in by_id {
        let own: Vec<_> = same.iter().filter(|(_, bundled, _)| !bundled).collect();
        let chosen = match own.as_slice() {
            [] => same.first(),
            [one] => Some(*one),
            [first, rest @ ..] if rest.iter().all(|other| other.2 == first.2) => Some(*first),
            _ => None,
        };
        for (file, bundled, hash) in &same {
            let reason = match chosen {
                Some((winner, ..)) if winner == file => None,
                Some((winner, _, winner_hash)) if winner_hash == hash => {
                    Some(format!("it is the same file as {}", winner.display()))
                }
                Some((winner, ..)) if *bundled => Some(format!("{} replaces it", winner.display())),
                _ => {
                    let others: Vec<_> = own.iter().map(|(other, ..)| other.display().to_string()).collect();
                    Some(format!("several files have the channel id {id:?}: {}; keep one", others.join(", ")))
                }
            };
            if let Some(known) = files.get_mut(file) {
                known.shadowed = reason;
            }
        }
    }
}

/// The files of a folder that look like plugins; of a folder that holds other things too, only those named like ours.
fn plugin_files(folder: &Path, bundled: bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let library = matches!(file.extension().and_then(|end| end.to_str()), Some("so" | "dylib" | "dll" | "wasm"));
        library && !name.starts_with('.') && (!bundled || name.starts_with("libomni_channel_"))
    });
    files.sort();
    files
}

fn stamp_of(file: &Path) -> Option<Stamp> {
    use std::os::unix::fs::MetadataExt;
    let metadata = std::fs::metadata(file).ok()?;
    Some(Stamp { size: metadata.len(), modified: metadata.modified().ok(), inode: metadata.ino() })
}
