//! The files in the folders, and what is known of each.

use super::admission::Refused;
use super::content::Content;
use super::signature::signature_file;
use super::trust::Trusted;
use super::types::{Home, Plugin, PluginState};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

/// Every file, by name.
pub(super) type Files = BTreeMap<PathBuf, Known>;

/// What is known of a file, and of which state of the file.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub stamp: Option<Stamp>,
    pub bundled: bool,
    pub size: u64,
    /// What became of it; nothing while it is checked for the first time.
    pub outcome: Option<Result<Ready, Refused>>,
    /// What the instances run on that began before a file that cannot be used was written over theirs.
    pub still: Option<Ready>,
    /// Why a good file is not used, for now: another one has the same id.
    pub shadowed: Option<String>,
}

/// A good file.
#[derive(Debug, Clone)]
pub(super) struct Ready {
    pub content: Arc<Content>,
    pub trusted: Trusted,
    pub home: Home,
}

impl Ready {
    pub fn channel(&self) -> &str {
        &self.content.admitted.manifest.channel.id
    }
}

/// Tells two states of a file apart without reading it: itself, its signature, and the list that may name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    file: FileStamp,
    signature: Option<FileStamp>,
    lock: Option<FileStamp>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileStamp {
    size: u64,
    modified: Option<SystemTime>,
    inode: u64,
    mode: u32,
}

impl FileStamp {
    pub fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            size: metadata.len(),
            modified: metadata.modified().ok(),
            inode: metadata.ino(),
            mode: metadata.mode(),
        })
    }
}

impl Stamp {
    /// The stamp of a file; the signature and the list mean nothing to a bundled one.
    pub fn of(file: &Path, bundled: bool, lock: &Path) -> Option<Self> {
        let other = |path: &Path| if bundled { None } else { FileStamp::of(path) };
        Some(Self { file: FileStamp::of(file)?, signature: other(&signature_file(file)), lock: other(lock) })
    }

    pub fn size(&self) -> u64 {
        self.file.size
    }
}

impl Known {
    /// Whether nothing can have changed. What was refused is looked at again: its folder's rights may be others now.
    pub fn is_settled(&self, stamp: Option<&Stamp>) -> bool {
        stamp.is_some() && self.stamp.as_ref() == stamp && matches!(self.outcome, Some(Ok(_)))
    }

    pub fn ready(&self) -> Option<&Ready> {
        self.outcome.as_ref()?.as_ref().ok()
    }

    /// What instances are made on, if this file is one to make them on.
    pub fn usable_now(&self) -> Option<&Ready> {
        self.ready().filter(|_| self.shadowed.is_none()).or(self.still.as_ref())
    }

    /// The same, if it is for this channel.
    pub fn usable(&self, channel: &str) -> Option<&Ready> {
        self.usable_now().filter(|ready| ready.channel() == channel)
    }

    pub fn show(&self, file: &Path) -> Plugin {
        let used = self.ready().or(self.still.as_ref());
        let state = match (&self.outcome, &self.shadowed) {
            (None, _) => PluginState::Found,
            (Some(Ok(_)), Some(reason)) => PluginState::Failed { reason: reason.clone() },
            (Some(Err(refused)), _) => PluginState::Failed {
                reason: match &self.still {
                    Some(still) => format!(
                        "{}; until a good file is there its instances go on with version {}, which was here before",
                        refused.reason, still.content.admitted.manifest.version
                    ),
                    None => refused.reason.clone(),
                },
            },
            (Some(Ok(ready)), None) => match ready.content.instances() {
                0 => PluginState::Loaded,
                instances => PluginState::Running { instances },
            },
        };
        let refused = self.outcome.as_ref().and_then(|outcome| outcome.as_ref().err());
        let admitted = self.ready().map(|ready| &ready.content.admitted);
        Plugin {
            file: file.to_owned(),
            sha256: admitted
                .map(|admitted| admitted.sha256.clone())
                .or_else(|| refused.and_then(|refused| refused.sha256.clone())),
            size: self.size,
            manifest: admitted
                .map(|admitted| admitted.manifest.clone())
                .or_else(|| refused.and_then(|refused| refused.manifest.as_deref().cloned())),
            trust: self.ready().map(|ready| ready.trusted.clone()),
            home: used.map(|ready| ready.home),
            allowance: None,
            process: used
                .map(|ready| ready.content.child.status())
                .filter(|status| status.pid.is_some() || status.sandbox.is_some() || status.last_end.is_some()),
            hung_threads: used.map_or(0, |ready| ready.content.hung()),
            state,
        }
    }
}

/// Of two files with one id none is used, for nobody could say which; but a file in the operator's folder is meant to
/// replace a bundled one, and one that instances run on is not taken from them by another that is put beside it.
pub(super) fn settle_duplicates(files: &mut Files) {
    let mut by_id: HashMap<String, Vec<Same>> = HashMap::new();
    for (file, known) in files.iter_mut() {
        let was_used = known.shadowed.take().is_none();
        let Some(ready) = known.ready() else { continue };
        let same = Same {
            file: file.clone(),
            bundled: known.bundled,
            sha256: ready.content.admitted.sha256.clone(),
            in_use: was_used && ready.content.instances() > 0,
        };
        by_id.entry(ready.channel().to_owned()).or_default().push(same);
    }
    for (id, same) in by_id {
        let own: Vec<_> = same.iter().filter(|same| !same.bundled).collect();
        let chosen = match own.as_slice() {
            [] => same.first(),
            [one] => Some(*one),
            [first, rest @ ..] if rest.iter().all(|other| other.sha256 == first.sha256) => Some(*first),
            several => {
                let mut in_use = several.iter().filter(|same| same.in_use);
                in_use.next().filter(|_| in_use.next().is_none()).copied()
            }
        };
        let others = || own.iter().map(|other| other.file.display().to_string()).collect::<Vec<_>>().join(", ");
        for one in &same {
            let reason = match chosen {
                Some(winner) if winner.file == one.file => None,
                Some(winner) if winner.sha256 == one.sha256 => {
                    Some(format!("it is the same file as {}", winner.file.display()))
                }
                Some(winner) if one.bundled => Some(format!("{} replaces it", winner.file.display())),
                Some(winner) => Some(format!(
                    "several files have the channel id {id:?}: {}; {} stays in use until the host is restarted; keep one",
                    others(),
                    winner.file.display()
                )),
                None => Some(format!("several files have the channel id {id:?}: {}; keep one", others())),
            };
            let Some(known) = files.get_mut(&one.file) else { continue };
            if known.shadowed == reason {
                continue;
            }
            match &reason {
                // That is what a person wants who puts another one into the folder.
                Some(reason) if one.bundled => {
                    tracing::info!(plugin.file = %one.file.display(), "plugin not loaded: {reason}");
                }
                Some(reason) => tracing::warn!(plugin.file = %one.file.display(), "plugin not loaded: {reason}"),
                None => {}
            }
            known.shadowed = reason;
        }
    }
}

/// A good file among those with its id.
struct Same {
    file: PathBuf,
    bundled: bool,
    sha256: String,
    in_use: bool,
}

/// The files of a folder that look like plugins; of a folder that holds other things too, only those named like ours.
pub(super) fn plugin_files(folder: &Path, bundled: bool) -> Vec<PathBuf> {
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
