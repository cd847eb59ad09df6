//! `omni backup` and `omni restore`: on this machine, on the files themselves. Backing up works while the host runs.

use super::{CliError, Result, World};
use crate::backup::{self, BackupError, KeyIn, Passphrase, Source, Target};
use crate::config::{Config, DatabaseUrl};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

#[derive(Debug, clap::Args)]
pub(super) struct BackupArgs {
    /// Where to: a new folder, or a file that ends in .tar
    to: PathBuf,
    /// Put the key in as well, in plain: whoever gets such a backup has your tokens and logins
    #[arg(long, conflicts_with_all = ["passphrase", "passphrase_file"])]
    with_key: bool,
    /// Put the key in as well, under a passphrase that is asked for
    #[arg(long, conflicts_with = "passphrase_file")]
    passphrase: bool,
    /// Put the key in as well, under the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RestoreArgs {
    /// The backup: a folder, or a .tar file
    from: PathBuf,
    /// The key file that belongs to it, when it is not in it
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where the passphrase is, when its key is under one; asked for otherwise
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
    /// Put what is in the data folder aside, into a folder beside it
    #[arg(long)]
    force: bool,
}

/// What is in Postgres is not copied by us: it has better ways.
fn in_postgres(what_to_do: &str) -> CliError {
    CliError::usage("`database.url` names a Postgres database, which this command does not reach").help(what_to_do)
}

pub(super) fn backup(args: &BackupArgs, config: &Config, world: &mut World) -> Result<()> {
    let Some(database) = config.database_file() else {
        return Err(in_postgres(
            "back it up with pg_dump --format=custom (it reads one moment while the host runs), and then copy the data \
             folder: omni.key, media/, plugins/ and plugins.lock",
        ));
    };
    if let Some(moved) = crate::moving::moved(config) {
        return Err(CliError::usage(moved.to_string()));
    }
    let key = match &args.passphrase_file {
        Some(file) => KeyIn::Sealed(read_passphrase(&world.folder.join(file)).map_err(CliError::usage)?),
        None if args.passphrase => KeyIn::Sealed(new_passphrase(world)?),
        None if args.with_key => KeyIn::Plain,
        None => KeyIn::Left,
    };
    let source = Source { data: config.data.dir.clone(), database, key };
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
    } else if manifest.key_sealed {
        ui.note("the key is in it, under the passphrase: without that, tokens and logins cannot be restored")?;
    } else {
        ui.note("the key is in it, in plain: whoever gets this backup has your tokens and logins")?;
    }
    Ok(())
}

pub(super) fn restore(args: &RestoreArgs, config: &Config, world: &mut World) -> Result<()> {
    if let DatabaseUrl::Postgres(_) = config.database.url {
        return Err(in_postgres(
            "put the database back with pg_restore into an empty one, and the data folder where `data.dir` says, while no \
             host runs",
        ));
    }
    if config.database.url != DatabaseUrl::Embedded {
        return Err(CliError::usage("`database.url` names a database outside of the data folder")
            .help("restore without it, and then move omni.db to where it says"));
    }
    let key = args.key.as_ref().map(|key| world.folder.join(key));
    let target = Target { data: config.data.dir.clone(), key, force: args.force };
    let from = world.folder.join(&args.from);
    let now = world.clock.now();
    let file = args.passphrase_file.as_ref().map(|file| world.folder.join(file));
    let ui = &mut world.ui;
    let mut ask = || match &file {
        Some(file) => read_passphrase(file),
        None => {
            let words = ui.ask("Passphrase of the backup", true).map_err(|error| error.to_string())?;
            Passphrase::new(Zeroizing::new(words))
        }
    };
    let restored = super::world::block_on(backup::restore(&from, &target, &mut ask, now))?;
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

/// A passphrase in a file; its last line break is none of it.
fn read_passphrase(file: &Path) -> Result<Passphrase, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("failed to read {}: {error}", file.display()))?;
    let text = Zeroizing::new(text);
    Passphrase::new(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

/// A passphrase that is entered, twice when a person does.
fn new_passphrase(world: &mut World) -> Result<Passphrase> {
    let words = Zeroizing::new(world.ui.ask("Passphrase for the backup", true)?);
    if world.ui.terminal.input && *words != Zeroizing::new(world.ui.ask("Once more", true)?).as_str() {
        return Err(CliError::usage("the two are not the same"));
    }
    Passphrase::new(words).map_err(CliError::usage)
}

fn refused(error: BackupError) -> CliError {
    match error {
        BackupError::NotEmpty(_)
        | BackupError::Exists(_)
        | BackupError::NoDatabase(_)
        | BackupError::NoPassphrase(_) => CliError::usage(error.to_string()),
        other => CliError::failed(other.to_string()),
    }
}
