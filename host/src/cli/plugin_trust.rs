//! `omni plugins trust` and `untrust`: keep the list of trusted files. They work without a host, and tell one that runs.

use super::client::{Client, nothing};
use super::plugins::read;
use super::ui::Ui;
use super::{CliError, Exit, Global, Result, World};
use crate::config::Config;
use crate::plugins::lock_file::{Entry, LockFile, entry};
use crate::plugins::manifest_of;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
pub(super) struct Trust {
    /// Plugin files: paths, or names or channels of files in the plugins folder
    #[arg(required_unless_present = "all")]
    files: Vec<PathBuf>,
    /// Every plugin in the plugins folder
    #[arg(long, conflicts_with = "files")]
    all: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Untrust {
    /// Files, channels or SHA-256 sums (their beginning will do) on the list
    #[arg(required_unless_present = "all")]
    entries: Vec<String>,
    /// Everything on the list
    #[arg(long, conflicts_with = "entries")]
    all: bool,
}

/// Puts the content of files on the list.
pub(super) fn trust(args: &Trust, global: &Global, world: &mut World) -> Result<()> {
    let config = super::load(global, None, Vec::new(), world)?.config;
    let lock = config.plugins_lock();
    let files = if args.all {
        plugins_in(&config.plugins_dir())?
    } else {
        args.files.iter().map(|named| find(named, &config, world)).collect::<Result<_>>()?
    };
    let now = world.clock.now();
    let mut entries = Vec::new();
    for file in &files {
        let bytes = read(file)?;
        let manifest = manifest_of(&bytes)
            .map_err(|reason| CliError::failed(format!("{}: {reason}; nothing was trusted", file.display())))?;
        let sha256 = hex::encode(Sha256::digest(&bytes));
        entries.push(entry(sha256, &manifest.channel.id, &manifest.version, file, now));
    }
    let added = LockFile::change(&lock, |list| {
        entries.into_iter().map(|entry| (list.add(entry.clone()), entry)).collect::<Vec<_>>()
    })
    .map_err(CliError::failed)?;
    let told = tell(global, world);
    let ui = &mut world.ui;
    if ui.json {
        let entries: Vec<_> = added.iter().map(|(is_new, entry)| json!({"entry": entry, "added": is_new})).collect();
        return ui.json(&json!({"lock": lock, "entries": entries, "hostTold": told}));
    }
    for (is_new, entry) in &added {
        let word = if *is_new { "trusted" } else { "was trusted already" };
        ui.note(&format!("{} {} (SHA-256 {}) {word}", entry.channel, entry.version, entry.sha256))?;
    }
    finish(&lock, told, ui)
}

/// Takes entries off the list.
pub(super) fn untrust(args: &Untrust, global: &Global, world: &mut World) -> Result<()> {
    let config = super::load(global, None, Vec::new(), world)?.config;
    let lock = config.plugins_lock();
    let folder = world.folder.clone();
    let gone = LockFile::change(&lock, |list| {
        if args.all {
            return Ok(list.remove(|_| true));
        }
        let mut gone = Vec::new();
        let before = list.clone();
        for named in &args.entries {
            let taken = list.remove(|entry| fits(entry, named, &folder));
            if taken.is_empty() {
                // Of a command that cannot do all of it, nothing is done.
                *list = before;
                return Err(named.clone());
            }
            gone.extend(taken);
        }
        Ok(gone)
    })
    .map_err(CliError::failed)?;
    let gone = gone.map_err(|named| {
        CliError::new(Exit::NotFound, format!("there is no {named:?} on the list {}", lock.display()))
            .help("a file, a channel or the beginning of a SHA-256 sum is taken; nothing was changed")
    })?;
    let told = tell(global, world);
    let ui = &mut world.ui;
    if ui.json {
        return ui.json(&json!({"lock": lock, "removed": gone, "hostTold": told}));
    }
    for entry in &gone {
        ui.note(&format!("{} {} (SHA-256 {}) is not trusted any more", entry.channel, entry.version, entry.sha256))?;
    }
    finish(&lock, told, ui)
}

fn finish(lock: &Path, told: bool, ui: &mut Ui) -> Result<()> {
    let host = if told { "; the running host knows" } else { "; a host that runs will see it by itself" };
    ui.note(&format!("the list is {}{host}", lock.display()))
}

/// Has a running host look at once. One that is not reached sees the list by itself, or reads it when it starts.
pub(super) fn tell(global: &Global, world: &World) -> bool {
    let Ok(client) = Client::find(global, world) else { return false };
    super::world::block_on(client.post("/plugins/rescan", nothing())).is_ok_and(|told| told.is_ok())
}

fn plugins_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(|error| {
        CliError::failed(format!("failed to read the plugins folder {}: {error}", folder.display()))
    })?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| matches!(file.extension().and_then(|end| end.to_str()), Some("so" | "dylib" | "dll" | "wasm")));
    files.sort();
    if files.is_empty() {
        return Err(CliError::new(Exit::NotFound, format!("there is no plugin in {}", folder.display())));
    }
    Ok(files)
}

/// The file that is meant: a path, a name in the plugins folder, or a channel.
pub(super) fn find(named: &Path, config: &Config, world: &World) -> Result<PathBuf> {
    let folder = config.plugins_dir();
    for file in [world.folder.join(named), folder.join(named)] {
        if file.is_file() {
            return Ok(file);
        }
    }
    let of_channel = |file: &PathBuf| {
        let manifest = std::fs::read(file).ok().and_then(|bytes| manifest_of(&bytes).ok());
        manifest.is_some_and(|manifest| named == Path::new(&manifest.channel.id))
    };
    plugins_in(&folder).ok().and_then(|files| files.into_iter().find(of_channel)).ok_or_else(|| {
        CliError::new(Exit::NotFound, format!("there is no file {}", named.display()))
            .help(format!("name a file, or a file or channel in {}", folder.display()))
    })
}

fn fits(entry: &Entry, named: &str, folder: &Path) -> bool {
    let named_hash = named.len() >= 8 && entry.sha256.starts_with(&named.to_ascii_lowercase());
    let of_file =
        || std::fs::read(folder.join(named)).is_ok_and(|bytes| hex::encode(Sha256::digest(bytes)) == entry.sha256);
    named_hash || entry.channel == named || entry.file == named || of_file()
}
