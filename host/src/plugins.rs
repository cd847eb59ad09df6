//! Plugins: the files in the folders, what became of each, and how an instance is made on one.
//!
//! ```text
//! files        the files, and what is known of each; `watch` looks at the folders again when they change
//! admission    what has to be true of a file before any of it is run
//! manifest     what a file says about itself
//! trust        whether a good file may be used: `lock_file`, `signature`, `versions` belong to it
//! allowance    what a plugin may use: `grants` is what the operator has said of that while the host runs
//! content      an admitted content, opened, in one home or both
//! native       opens a library (the one file with `unsafe`)
//! wasm         runs WASM components, in a sandbox
//! line         one instance's line to its channel, in process
//! child        the same over a socket, in a process of its own: `process` is that process, `brake` keeps it from being
//!              started too often, `runner` is its far side, shut in by `sandbox`, and `wire` is what goes between
//! session      calls, questions, the commit at the end of a call
//! conformance  a file as the SDK's conformance suite sees it
//! staging      what an instance writes that is only asked something
//! host_api     the answers to an instance's questions; `http_calls` makes its HTTP calls
//! ```
//!
//! A plugin that fails is a shown state and harms nothing else. Deliberately not here: instances and their connections.

pub mod admission;
pub mod allowance;
mod brake;
pub mod child;
pub(crate) mod config_schema;
pub mod conformance;
mod content;
mod files;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
pub mod grants;
pub mod host_api;
pub mod http_calls;
mod kept;
pub mod line;
pub mod lock_file;
pub mod manifest;
pub mod native;
mod process;
mod questions;
pub mod runner;
pub mod sandbox;
pub mod session;
pub mod signature;
pub mod staging;
pub mod trust;
mod types;
mod versions;
pub mod wasm;
mod watch;
mod wire;

pub use allowance::Allowance;
pub use child::ProcessStatus;
pub use manifest::manifest_of;
pub use types::{Home, Limits, NotOpened, Opened, Plugin, PluginOptions, PluginState, Running};
pub use watch::watch;

use admission::{Refused, admit};
use content::Content;
use files::{FileStamp, Files, Known, Ready, Stamp, plugin_files, settle_duplicates};
use futures_util::StreamExt;
use grants::Grants;
use omni_channel_sdk::manifest::ChannelManifest;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::sync::watch as tokio_watch;

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plugins(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    options: PluginOptions,
    files: Mutex<Files>,
    /// What the operator has granted, and of which state of the list.
    grants: Mutex<Granted>,
    /// SHA-256 → what is open of it.
    contents: Mutex<HashMap<String, Weak<Content>>>,
    /// One look at the folders at a time.
    scanning: tokio::sync::Mutex<()>,
    changed: tokio_watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Granted {
    stamp: Option<FileStamp>,
    list: Grants,
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
            grants: Mutex::default(),
            contents: Mutex::default(),
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
        let shown = |(file, known): (&PathBuf, &Known)| self.with_allowance(known.show(file));
        lock(&self.0.files).iter().map(shown).collect()
    }

    /// The usable plugin of a channel.
    pub fn channel(&self, id: &str) -> Option<Plugin> {
        let files = lock(&self.0.files);
        let (file, known) = files.iter().find(|(_, known)| known.usable(id).is_some())?;
        let mut plugin = known.show(file);
        let admitted = &known.usable(id)?.content.admitted;
        // Of a file that was replaced by a bad one: what is still used.
        plugin.manifest = Some(admitted.manifest.clone());
        plugin.sha256 = Some(admitted.sha256.clone());
        Some(self.with_allowance(plugin))
    }

    fn with_allowance(&self, plugin: Plugin) -> Plugin {
        let allowance = plugin.manifest.as_ref().map(|manifest| self.allowance(&manifest.channel));
        Plugin { allowance, ..plugin }
    }

    /// What a plugin may use that says this of itself.
    pub fn allowance(&self, manifest: &ChannelManifest) -> Allowance {
        let options = &self.0.options;
        let configured = options.channels.get(&manifest.id).cloned().unwrap_or_default();
        let granted = lock(&self.0.grants).list.channel.get(&manifest.id).cloned().unwrap_or_default();
        Allowance::of(manifest, &options.limits, granted.over(configured))
    }

    /// Reads the list of grants when it has changed; says whether it has. One that is damaged changes nothing.
    async fn read_grants(&self) -> bool {
        let path = self.0.options.grants.clone();
        let stamp = FileStamp::of(&path);
        if lock(&self.0.grants).stamp == stamp {
            return false;
        }
        let read = tokio::task::spawn_blocking(move || Grants::read(&path)).await;
        let mut granted = lock(&self.0.grants);
        granted.stamp = stamp;
        match read.unwrap_or_else(|_| Err("the list of grants could not be read".into())) {
            Ok(list) if list != granted.list => {
                granted.list = list;
                true
            }
            Ok(_) => false,
            Err(reason) => {
                tracing::error!("{reason}; what was granted before goes on to hold");
                false
            }
        }
    }

    /// The ids of all channels that can be used.
    pub fn channels(&self) -> Vec<String> {
        let files = lock(&self.0.files);
        files.values().filter_map(|known| Some(known.usable_now()?.channel().to_owned())).collect()
    }

    /// The id of the channel that somebody asks for by this name: its id, or another name of it.
    pub fn named(&self, name: &str) -> String {
        let files = lock(&self.0.files);
        let ready = || files.values().filter_map(Known::usable_now);
        let by_alias =
            || ready().find(|ready| ready.content.admitted.manifest.channel.aliases.iter().any(|alias| alias == name));
        match ready().any(|ready| ready.channel() == name) {
            true => name.to_owned(),
            false => by_alias().map_or_else(|| name.to_owned(), |ready| ready.channel().to_owned()),
        }
    }

    fn usable(&self, channel: &str) -> Option<Ready> {
        lock(&self.0.files).values().find_map(|known| known.usable(channel).cloned())
    }

    /// Makes an instance on the plugin of a channel, where it is wished or else where the configuration says.
    pub async fn open(&self, channel: &str, wish: Option<Home>) -> Result<Opened, NotOpened> {
        let ready = self.usable(channel).ok_or_else(|| self.missing(channel))?;
        if let Some(wish) = wish {
            allowed(&ready, wish)?;
        }
        let allowance = self.allowance(&ready.content.admitted.manifest.channel);
        ready.content.open(wish.unwrap_or(ready.home), allowance).await
    }

    /// Whether an instance of a channel may run where it is wished. The error is a sentence that says what to do.
    pub fn may_run(&self, channel: &str, wish: Home) -> Result<(), String> {
        self.usable(channel).map_or(Ok(()), |ready| allowed(&ready, wish))
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
        let mut changed = self.read_grants().await;
        let there = self.there();
        changed |= self.forget_all_but(&there);
        let mut unsettled = Vec::new();
        for (file, bundled) in there {
            let stamp = Stamp::of(&file, bundled, &self.0.options.trust.lock);
            let mut files = lock(&self.0.files);
            if files.get(&file).is_some_and(|known| known.is_settled(stamp.as_ref())) {
                continue;
            }
            let size = stamp.as_ref().map_or(0, Stamp::size);
            let new = Known { stamp: None, bundled, size, outcome: None, still: None, shadowed: None };
            // What is known of it goes on to hold while it is checked.
            files.entry(file.clone()).or_insert(new);
            unsettled.push((file, bundled, stamp, size));
        }
        // A new component takes a second or more to compile: as many at a time as there are processors.
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let checks = unsettled.into_iter().map(|(file, bundled, stamp, size)| async move {
            let outcome = self.check(&file, bundled).await;
            (file, stamp, size, outcome)
        });
        let mut checked = futures_util::stream::iter(checks).buffered(at_once);
        while let Some((file, stamp, size, outcome)) = checked.next().await {
            changed |= self.settle(&file, stamp, size, outcome);
        }
        if changed {
            settle_duplicates(&mut lock(&self.0.files));
            lock(&self.0.contents).retain(|_, content| content.strong_count() > 0);
            self.0.changed.send_modify(|version| *version += 1);
        }
    }

    /// The plugin files that are there, and whether each is a bundled one.
    fn there(&self) -> Vec<(PathBuf, bool)> {
        let options = &self.0.options;
        let bundled = options.bundled.iter().flat_map(|folder| plugin_files(folder, true));
        let mut there: Vec<(PathBuf, bool)> = bundled.map(|file| (file, true)).collect();
        if options.bundled.as_ref() != Some(&options.folder) {
            there.extend(plugin_files(&options.folder, false).into_iter().map(|file| (file, false)));
        }
        there
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

    /// Writes down what became of a file; says whether that is something else than before.
    fn settle(&self, file: &Path, stamp: Option<Stamp>, size: u64, outcome: Result<Ready, Refused>) -> bool {
        let mut files = lock(&self.0.files);
        let Some(known) = files.get_mut(file) else { return false };
        let is_news = match (&known.outcome, &outcome) {
            (Some(Ok(before)), Ok(now)) => {
                !Arc::ptr_eq(&before.content, &now.content) || before.trusted != now.trusted || before.home != now.home
            }
            (Some(Err(before)), Err(now)) => before.reason != now.reason,
            _ => true,
        };
        let before = known.usable_now().cloned();
        known.still = match &outcome {
            Err(refused) if !refused.distrusted => before.filter(|ready| ready.content.instances() > 0),
            _ => None,
        };
        if is_news {
            announce(file, &outcome, known.still.is_some());
        }
        (known.stamp, known.size, known.outcome) = (stamp, size, Some(outcome));
        is_news
    }

    async fn check(&self, file: &Path, bundled: bool) -> Result<Ready, Refused> {
        let inner = Arc::clone(&self.0);
        let path = file.to_owned();
        let admitted =
            tokio::task::spawn_blocking(move || admit(&path, bundled, &inner.options.cache, &inner.options.trust));
        let (admitted, trusted) =
            admitted.await.unwrap_or_else(|_| Err(Refused::damaged("it could not be checked".into())))?;
        let options = &self.0.options;
        let manifest = admitted.manifest.clone();
        let home = options.home(&manifest, &trusted);
        let known = lock(&self.0.contents).get(&admitted.sha256).and_then(Weak::upgrade);
        let content = match known {
            Some(content) => content,
            None => {
                let (sha256, content) = (admitted.sha256.clone(), Arc::new(Content::new(admitted, options)));
                let probed = content.probe(home, &self.allowance(&manifest.channel)).await;
                probed.map_err(|reason| Refused::damaged(reason).of(&sha256, &manifest))?;
                let mut contents = lock(&self.0.contents);
                // Another file with this content may have been checked at the same time.
                let first = contents.get(&sha256).and_then(Weak::upgrade);
                first.unwrap_or_else(|| {
                    contents.insert(sha256, Arc::downgrade(&content));
                    content
                })
            }
        };
        if let Err(reason) = trust::loaded(&options.trust, &trusted, &manifest) {
            tracing::error!(plugin.file = %file.display(), "the version of a plugin is not remembered: {reason}");
        }
        Ok(Ready { content, trusted, home })
    }
}

fn announce(file: &Path, outcome: &Result<Ready, Refused>, goes_on: bool) {
    match outcome {
        Ok(ready) => tracing::info!(
            plugin.file = %file.display(), channel.name = ready.channel(),
            plugin.version = ready.content.admitted.manifest.version, plugin.home = ready.home.word(), "plugin loaded"
        ),
        Err(Refused { reason, .. }) if goes_on => tracing::warn!(
            plugin.file = %file.display(), "plugin not loaded: {reason}; its instances go on with what was there before"
        ),
        Err(Refused { reason, .. }) => tracing::warn!(plugin.file = %file.display(), "plugin not loaded: {reason}"),
    }
}

/// The host is no place for a file that nobody trusts, whoever wishes it.
fn allowed(ready: &Ready, wish: Home) -> Result<(), String> {
    if ready.home == Home::Sandbox {
        let channel = ready.channel();
        return Err(format!("the plugin of channel {channel:?} is WASM and runs in a sandbox, nowhere else"));
    }
    if wish == Home::Process || ready.home == Home::InProcess || ready.trusted.as_the_program() {
        return Ok(());
    }
    let channel = ready.channel();
    Err(format!(
        "the plugin of channel {channel:?} may not run in the host, where it could read everything: trust its file (omni \
         plugins trust {channel}), or write isolation = \"in-process\" under [plugins.channel.{channel}]"
    ))
}
