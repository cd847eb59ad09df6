//! `omni plugins`: plugin files and what became of them.

use super::client::{Client, nothing};
use super::ui::{Ui, pick, size};
use super::{CliError, Exit, Result};
use clap::Subcommand;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them
    List,
    /// Show one
    Show {
        /// Its channel or file name
        plugin: String,
    },
    /// Read what a file says about itself, without running it and without a server
    Inspect {
        /// The file
        file: PathBuf,
    },
    /// Look at the folder now
    Rescan,
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    match command {
        Command::List => {
            let items = all(client).await?;
            list(&items, ui)
        }
        Command::Show { plugin } => {
            let found = find(&plugin, &all(client).await?)?;
            show(&found, ui)
        }
        Command::Rescan => {
            client.post("/plugins/rescan", nothing()).await?;
            let items = all(client).await?;
            list(&items, ui)
        }
        Command::Inspect { .. } => unreachable!("this was run before a server was looked for"),
    }
}

async fn all(client: &Client) -> Result<Vec<Value>> {
    client.list("/plugins", &[], super::Paging { limit: 0, all: true }).await
}

/// Its channel, wherever the API puts it.
fn channel(plugin: &Value) -> String {
    pick(plugin, &["/manifest/channel", "/manifest/channel/id"])
}

fn file_name(plugin: &Value) -> String {
    let file = pick(plugin, &["/file"]);
    Path::new(&file).file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or(file)
}

fn state(plugin: &Value) -> String {
    pick(plugin, &["/status/state"])
}

fn reason(plugin: &Value) -> String {
    pick(plugin, &["/status/reason"])
}

fn find(named: &str, all: &[Value]) -> Result<Value> {
    let fits =
        |plugin: &&Value| channel(plugin) == named || file_name(plugin) == named || pick(plugin, &["/file"]) == named;
    all.iter().find(fits).cloned().ok_or_else(|| {
        CliError::new(Exit::NotFound, format!("there is no plugin {named:?}"))
            .help(format!("there are: {}", all.iter().map(file_name).collect::<Vec<_>>().join(", ")))
    })
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(&items);
    }
    let rows = items.iter().map(|item| {
        vec![
            channel(item),
            pick(item, &["/manifest/version"]),
            state(item),
            pick(item, &["/home"]),
            file_name(item),
            reason(item),
        ]
    });
    let none = "there are no plugins; put their files into the plugins folder";
    ui.table(&["CHANNEL", "VERSION", "STATE", "RUNS", "FILE", "WHY"], rows.collect(), none)
}

fn show(item: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(item);
    }
    ui.pairs(&[
        ("Channel", channel(item)),
        ("Name", pick(item, &["/manifest/name", "/manifest/channel/name"])),
        ("Description", pick(item, &["/manifest/description", "/manifest/channel/description"])),
        ("Version", pick(item, &["/manifest/version"])),
        ("SDK", pick(item, &["/manifest/sdk"])),
        ("State", state(item)),
        ("Why", reason(item)),
        ("Runs", pick(item, &["/home"])),
        ("Instances", pick(item, &["/status/instances"])),
        ("File", pick(item, &["/file"])),
        ("Size", size(item, "/size")),
        ("SHA-256", pick(item, &["/sha256"])),
        ("Target", pick(item, &["/manifest/target"])),
    ])
}

/// Says what a file says about itself.
pub(super) fn inspect(file: &Path, ui: &mut Ui) -> Result<()> {
    let bytes = std::fs::read(file).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        CliError::new(exit, format!("failed to read {}: {error}", file.display()))
    })?;
    let manifest = crate::plugins::manifest_of(&bytes)
        .map_err(|reason| CliError::failed(format!("{}: {reason}", file.display())))?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let manifest = serde_json::to_value(&manifest).map_err(std::io::Error::from)?;
    let plugin = serde_json::json!({
        "file": file,
        "sha256": sha256,
        "size": bytes.len(),
        "manifest": manifest,
    });
    show(&plugin, ui)
}
