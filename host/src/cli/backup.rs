//! `omni backup` and `omni restore`: on this machine, on the files themselves. Backing up works while the host runs.

use super::{CliError, Result, World};
use crate::backup::{self, BackupError, Source, Target};
use crate::config::{Config, DatabaseUrl};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// Where to: a new folder, or a file that ends in .tar
    to: PathBuf,
    /// Put the key file in as well: whoever has such a backup has your tokens
    #[arg(long)]
    with_key: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// The backup: a folder, or a .tar file
    from: PathBuf,
    /// The key file that belongs to it, when it is not in it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Put what is in the data folder aside, into a folder beside it
    #[arg(long)]
    force: bool,
}

pub(super) fn backup(args: &BackupArgs, config: &Config, world: &mut World) -> Result<()> {
    let source = Source { data: config.data.dir.clone(), database: config.database_file(), with_key: args.with_key };
    let to = world.folder.join(&args.to);
    let made = super::world::block_on(backup::backup(&source, &to, world.clock.now()))?;
    let manifest = made.map_err(refused)?;
    let ui = &mut world.ui;
    if ui.json {
        return ui.json(&manifest);
    }
    let bytes: u64 = manifest.files.iter().map(|file| file.size).sum();
    let (count, mib) = (manifest.files.len(), bytes.div_ceil(1 << 20));
    ui.note(&format!("backed up {} messages to {} ({count} files, {mib} MiB)", manifest.messages, to.display()))?;
    for missing in &manifest.missing {
        ui.note(&format!("warning: {missing} is damaged or not there, and is not in the backup"))?;
    }
    if !manifest.has_key {
        let key = config.data.dir.join(crate::data::KEY_FILE);
        ui.note(&format!("the key is not in it; keep a copy of {} elsewhere", key.display()))?;
    }
    Ok(())
}

pub(super) fn restore(args: &RestoreArgs, config: &Config, world: &mut World) -> Result<()> {
    if config.database.url != DatabaseUrl::Embedded {
        return Err(CliError::usage("`database.url` names a database outside of the data folder")
            .help("restore without it, and then move omni.db to where it says"));
    }
    let key = args.key.as_ref().map(|key| world.folder.join(key));
    let target = Target { data: config.data.dir.clone(), key, force: args.force };
    let from = world.folder.join(&args.from);
    let restored = super::world::block_on(backup::restore(&from, &target, world.clock.now()))?;
    let restored = restored.map_err(refused)?;
    let ui = &mut world.ui;
    if ui.json {
        return ui.json(&serde_json::json!({
            "manifest": restored.manifest, "hasKey": restored.has_key, "aside": restored.aside,
        }));
    }
    let (count, at) = (restored.manifest.messages, restored.manifest.created_at);
    ui.note(&format!("restored {count} messages, as of {at}, to {}", target.data.display()))?;
    if let Some(aside) = &restored.aside {
        ui.note(&format!("what was there before is in {}", aside.display()))?;
    }
    if !restored.has_key {
        let key = target.data.join(crate::data::KEY_FILE);
        ui.note(&format!("put the key file back as {} before you start it", key.display()))?;
    }
    Ok(())
}

fn refused(error: BackupError) -> CliError {
    match error {
        BackupError::NotEmpty(_) | BackupError::Exists(_) | BackupError::NoDatabase(_) => {
            CliError::usage(error.to_string())
        }
        other => CliError::failed(other.to_string()),
    }
}
