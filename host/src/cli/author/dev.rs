//! `omni plugins dev`: builds a project whenever it changes, puts it into the plugins folder of a host that runs, which
//! moves its instances to it, and shows what goes through the channel.

use super::build::{Target, plugin, put};
use crate::cli::client::{Client, nothing};
use crate::cli::events::Traffic;
use crate::cli::ui::pick;
use crate::cli::{CliError, Global, Paging, Result, World, world};
use crate::plugins::manifest_of;
use notify::{RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// An editor that saves changes several files.
const QUIET: Duration = Duration::from_millis(300);
/// What tools make is no change of the project.
const MADE: [&str; 8] =
    ["target", "node_modules", "build", ".venv", ".git", "__pycache__", "dist", "package-lock.json"];

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Dev {
    /// The project's folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// What to make of it
    #[arg(long, value_enum, default_value = "wasm")]
    target: Target,
    /// Build once, put it in place and stop
    #[arg(long)]
    once: bool,
}

/// Builds, again and again.
pub(in crate::cli) fn dev(args: &Dev, global: &Global, world: &mut World) -> Result<()> {
    let dir = world.folder.join(&args.dir);
    let folder = crate::cli::load(global, None, Vec::new(), world)?.config.plugins_dir();
    let client = Client::find(global, world)?;
    world::block_on(go_on(args, &dir, &folder, &client, world))?
}

async fn go_on(args: &Dev, dir: &Path, folder: &Path, client: &Client, world: &mut World) -> Result<()> {
    // Before the first build takes its time: whether there is a host at all.
    client.list("/plugins", &[], Paging { limit: 1, all: false }).await?;
    let (changed, mut changes) = mpsc::channel(1);
    let here = dir.to_owned();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access() && event.paths.iter().any(|path| is_source(&here, path))) {
            // One waiting notice is enough.
            let _ = changed.try_send(());
        }
    });
    let watched = watcher.and_then(|mut watcher| watcher.watch(dir, RecursiveMode::Recursive).map(|()| watcher));
    let _watcher =
        watched.map_err(|error| CliError::failed(format!("{} cannot be watched: {error}", dir.display())))?;
    let mut traffic: Option<Traffic> = None;
    loop {
        match reload(args.target, dir, folder, client, world).await {
            Ok((channel, notes)) => {
                // Before anybody reads that it is there, and uses it.
                let opened = match traffic.is_none() && !args.once {
                    true => Some(Traffic::of(&channel, client).await),
                    false => None,
                };
                for note in &notes {
                    world.ui.note(note)?;
                }
                if let Some(opened) = opened {
                    traffic = Some(opened?);
                }
                if args.once {
                    return world.ui.note(&format!("{channel} is in place"));
                }
            }
            Err(error) if args.once => return Err(error),
            Err(error) => {
                world.ui.fail(&error);
                world.ui.note("it is built again when something changes")?;
            }
        }
        loop {
            let line = async {
                match &mut traffic {
                    Some(traffic) => traffic.next(client).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                change = changes.recv() => {
                    if change.is_none() {
                        return Ok(());
                    }
                    world.clock.sleep(QUIET).await;
                    while changes.try_recv().is_ok() {}
                    break;
                }
                line = line => match line? {
                    Some(line) => world.ui.line(&line)?,
                    None => return Err(CliError::failed("the host ended the stream of events")),
                },
            }
        }
    }
}

fn is_source(dir: &Path, path: &Path) -> bool {
    let parts = path.strip_prefix(dir).unwrap_or(path).components();
    !parts.into_iter().any(|part| MADE.iter().any(|made| part.as_os_str() == *made))
}

/// Builds and puts in place; gives back the channel, and what the host makes of it in sentences.
async fn reload(
    target: Target,
    dir: &Path,
    folder: &Path,
    client: &Client,
    world: &mut World,
) -> Result<(String, Vec<String>)> {
    let bytes = plugin(dir, target, world)?;
    let manifest = manifest_of(&bytes).map_err(CliError::failed)?;
    let channel = manifest.channel.id;
    let ending = if target == Target::Wasm { "wasm" } else { std::env::consts::DLL_EXTENSION };
    let file = format!("{channel}.{ending}");
    put(&folder.join(&file), &bytes)?;
    client.post("/plugins/rescan", nothing()).await?;
    let plugins = client.list("/plugins", &[], Paging { limit: 0, all: true }).await?;
    let found = plugins.iter().find(|plugin| pick(plugin, &["/file"]) == file);
    let state = found.map(|found| pick(found, &["/status/state"])).unwrap_or_default();
    if state == "failed" || found.is_none() {
        let reason = found.map(|found| pick(found, &["/status/reason"]));
        let elsewhere = || format!("the host has another plugins folder than {}", folder.display());
        return Err(CliError::failed(format!("the host does not load it: {}", reason.unwrap_or_else(elsewhere))));
    }
    let mut notes = vec![format!("{channel} {} is {state}", manifest.version)];
    let query = [("channel", Some(channel.clone()))];
    let instances = client.list("/instances", &query, Paging { limit: 1, all: false }).await;
    if instances.is_ok_and(|instances| instances.is_empty()) {
        notes.push(format!("next: omni instances create NAME --channel {channel} --config FIELD=VALUE"));
    }
    Ok((channel, notes))
}
