//! `omni plugins`: plugin files and what became of them.

use super::client::{Client, nothing};
use super::ui::{Ui, pick, size};
use super::{CliError, Exit, Result, author, plugin_grant, plugin_trust};
use crate::config::Config;
use crate::plugins::grants::Grants;
use crate::plugins::{Allowance, manifest};
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
    /// Put the content of files on the list of trusted files (works without a server)
    Trust(plugin_trust::Trust),
    /// Take files off that list (works without a server)
    Untrust(plugin_trust::Untrust),
    /// Show or change what a plugin may use: hosts, memory, what it keeps (works without a server)
    Grant(plugin_grant::Grant),
    /// Begin a plugin of your own
    New(author::New),
    /// Make a plugin file of a project
    Build(author::Build),
    /// Run the conformance suite on a plugin file
    Check(author::Check),
    /// Make what is published: the file under its name, its transcripts, its sum
    Pack(author::Pack),
    /// Sign a plugin file, or make the key for that
    Sign(author::Sign),
    /// Build a project whenever it changes, put it into a running host and show its traffic
    Dev(author::Dev),
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
        _ => unreachable!("these were run before a server was looked for"),
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

/// Why it may be used, with the key that signed it.
fn trust(plugin: &Value) -> String {
    let key = pick(plugin, &["/trust/keyId"]);
    let reason = pick(plugin, &["/trust/reason"]);
    if key.is_empty() { reason } else { format!("{reason} by {key}") }
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
    let none = "there are no plugins; put their files into the plugins folder";
    ui.list(items, &["CHANNEL", "VERSION", "STATE", "RUNS", "TRUST", "SHA-256", "FILE", "WHY"], none, |item| {
        vec![
            channel(item),
            pick(item, &["/manifest/version"]),
            state(item),
            runs(item),
            trust(item),
            pick(item, &["/sha256"]).chars().take(12).collect(),
            file_name(item),
            reason(item),
        ]
    })
}

/// Where it runs, and how its process is doing.
fn runs(plugin: &Value) -> String {
    let pid = pick(plugin, &["/process/pid"]);
    let restarts = pick(plugin, &["/process/restarts"]);
    let mut words = vec![pick(plugin, &["/home"])];
    if !pid.is_empty() {
        words = vec![format!("process {pid}"), size(plugin, "/process/memoryBytes")];
    }
    if !restarts.is_empty() && restarts != "0" {
        words.push(format!("{restarts} restarts"));
    }
    words.retain(|word| !word.is_empty());
    words.join(", ")
}

fn show(item: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(item);
    }
    let mut pairs = vec![
        ("Channel", channel(item)),
        ("Name", pick(item, &["/manifest/name", "/manifest/channel/name"])),
        ("Description", pick(item, &["/manifest/description", "/manifest/channel/description"])),
        ("Version", pick(item, &["/manifest/version"])),
        ("SDK", pick(item, &["/manifest/sdk"])),
        ("State", state(item)),
        ("Why", reason(item)),
        ("Trust", trust(item)),
        ("Runs", pick(item, &["/home"])),
        ("Instances", pick(item, &["/status/instances"])),
        ("Process", pick(item, &["/process/pid"])),
        ("Shut in by", pick(item, &["/process/sandbox"])),
        ("Memory", size(item, "/process/memoryBytes")),
        ("Restarts", pick(item, &["/process/restarts"])),
        ("Last end", pick(item, &["/process/lastEnd"])),
        ("Hung threads", pick(item, &["/hungThreads"]).trim_start_matches('0').to_owned()),
        ("File", pick(item, &["/file"])),
        ("Size", size(item, "/size")),
        ("SHA-256", pick(item, &["/sha256"])),
        ("Target", pick(item, &["/manifest/target"])),
        ("Imports", words(item, "/imports")),
        ("Needs glibc", pick(item, &["/glibc"])),
        ("Runs here", runs_here(item)),
        ("To sign it", sign(item)),
    ];
    if let Ok(allowance) = serde_json::from_value::<Allowance>(item["allowance"].clone()) {
        let at = pairs.iter().position(|(name, _)| *name == "File").unwrap_or(pairs.len());
        pairs.splice(at..at, plugin_grant::pairs_of(&allowance));
    }
    ui.pairs(&pairs)
}

/// A list of words in one line.
fn words(item: &Value, pointer: &str) -> String {
    let words = item.pointer(pointer).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(", ")
}

/// Whether this host would load a file that was inspected.
fn runs_here(item: &Value) -> String {
    match item.get("compatible").and_then(Value::as_bool) {
        Some(true) => "yes".into(),
        Some(false) => format!("no: {}", pick(item, &["/incompatible"])),
        None => String::new(),
    }
}

/// How a file that was inspected is signed.
fn sign(plugin: &Value) -> String {
    let comment = pick(plugin, &["/signatureComment"]);
    if comment.is_empty() {
        return comment;
    }
    format!("omni plugins sign {} --key YOUR.key", pick(plugin, &["/file"]))
}

/// Says what a file says about itself, and what this host makes of it.
pub(super) fn inspect(file: &Path, config: &Config, ui: &mut Ui) -> Result<()> {
    let bytes = read(file)?;
    let manifest =
        manifest::manifest_of(&bytes).map_err(|reason| CliError::failed(format!("{}: {reason}", file.display())))?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let comment = crate::plugins::signature::comment(&manifest);
    let refused = crate::plugins::admission::inspect(&bytes, &sha256).err().map(|refused| refused.reason);
    let granted = Grants::read(&config.plugins_grants()).map_err(CliError::failed)?;
    let granted = granted.channel.get(&manifest.channel.id).cloned().unwrap_or_default();
    let allowance = plugin_grant::effective(&manifest.channel, config, granted);
    let imports = manifest::is_wasm(&bytes).then(|| manifest::imports(&bytes));
    let glibc = manifest::native(&bytes).ok().and_then(|native| native.glibc);
    let said = serde_json::to_value(&manifest).map_err(std::io::Error::from)?;
    let plugin = serde_json::json!({
        "file": file,
        "sha256": sha256,
        "size": bytes.len(),
        "manifest": said,
        "allowance": allowance,
        "imports": imports,
        "glibc": glibc.map(|(major, minor)| format!("{major}.{minor}")),
        "compatible": refused.is_none(),
        "incompatible": refused,
        "signatureComment": comment,
    });
    show(&plugin, ui)
}

/// The bytes of a file that a person named.
pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(|error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
        CliError::new(exit, format!("failed to read {}: {error}", file.display()))
    })
}
