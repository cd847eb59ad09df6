//! `omni persons`: people, with their accounts on the networks; everything that there is of one, to be given out or erased.

use super::client::{Client, nothing, segment};
use super::ui::{Ui, pick, time};
use super::{CliError, Paging, Result};
use clap::Subcommand;
use futures_util::StreamExt;
use reqwest::Response;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// How often it is asked how far an erasure is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them
    List {
        /// Only those whose name, phone number or address holds this
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Their id
        person: String,
    },
    /// Write everything that is stored about one into a file: one JSON object a line
    Export {
        /// Their id
        person: String,
        /// The file, which must not be there yet
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Erase one: their accounts, what they wrote, sent and did. It cannot be undone
    Erase {
        /// Their id
        person: String,
        /// Do not ask
        #[arg(long)]
        yes: bool,
        /// Do not wait until it is done
        #[arg(long)]
        no_wait: bool,
    },
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    match command {
        Command::List { search, paging } => {
            let items = client.list("/persons", &[("search", search)], paging).await?;
            list(&items, ui)
        }
        Command::Show { person } => {
            let person = client.get(&format!("/persons/{}", segment(&person))).await?;
            show(&person, ui)
        }
        Command::Export { person, out } => export(&person, &out, client, ui).await,
        Command::Erase { person, yes, no_wait } => erase(&person, yes, no_wait, client, ui).await,
    }
}

async fn export(person: &str, out: &Path, client: &Client, ui: &mut Ui) -> Result<()> {
    let failed = |error: std::io::Error| CliError::failed(format!("failed to write {}: {error}", out.display()));
    if out.exists() {
        return Err(CliError::usage(format!("{} is there already", out.display())).help("name another file with --out"));
    }
    let response = client.download(&format!("/persons/{}/export", segment(person))).await?;
    // Beside it, so that half of it is not taken for the whole.
    let mut name = out.as_os_str().to_owned();
    name.push(".partial");
    let partial = PathBuf::from(name);
    // Of an export that was killed.
    let _ = tokio::fs::remove_file(&partial).await;
    let written = write(response, &partial).await;
    let moved = match written {
        Ok(true) => tokio::fs::rename(&partial, out).await.map_err(failed),
        Ok(false) => Err(CliError::failed("the export broke off before its end").help("try it again")),
        Err(error) => Err(failed(error)),
    };
    if let Err(error) = moved {
        // It may never have been made.
        let _ = tokio::fs::remove_file(&partial).await;
        return Err(error);
    }
    let bytes = tokio::fs::metadata(out).await.map_err(failed)?.len();
    if ui.json {
        return ui.json(&json!({ "file": out.to_string_lossy(), "bytes": bytes }));
    }
    ui.note(&format!("everything about {person} is in {} ({bytes} bytes)", out.display()))
}

/// Writes an answer into a file that nobody else may read, and says whether it was whole.
async fn write(response: Response, to: &Path) -> std::io::Result<bool> {
    let mut file = tokio::fs::File::options().write(true).create_new(true).mode(0o600).open(to).await?;
    let mut pieces = response.bytes_stream();
    let mut last = Vec::new();
    while let Some(piece) = pieces.next().await {
        let Ok(piece) = piece else { return Ok(false) };
        file.write_all(&piece).await?;
        // Of the last line, the end is enough.
        last.extend_from_slice(&piece);
        last.drain(..last.len().saturating_sub(256));
    }
    file.sync_all().await?;
    let line = last.trim_ascii_end().rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(serde_json::from_slice::<Value>(line).is_ok_and(|line| line["kind"] == "end"))
}

async fn erase(person: &str, yes: bool, no_wait: bool, client: &Client, ui: &mut Ui) -> Result<()> {
    let path = format!("/persons/{}", segment(person));
    if !yes {
        let found = client.get(&path).await?;
        let name = pick(&found, &["/displayName", "/id"]);
        ui.confirm(&format!("Erase {name:?} with everything they wrote, for good?"), "--yes")?;
    }
    let answer = client.post(&format!("{path}/erase"), nothing()).await?;
    let mut erasure = answer.get("data").cloned().unwrap_or(answer);
    if !no_wait {
        let spinner = ui.spinner("erasing");
        while erasure["status"] == "running" {
            #[expect(clippy::disallowed_methods, reason = "waits for a server, not for a moment in time")]
            tokio::time::sleep(LOOK_EVERY).await;
            let answer = client.get(&format!("{path}/erasure")).await?;
            erasure = answer.get("data").cloned().unwrap_or(answer);
        }
        spinner.finish_and_clear();
    }
    if ui.json {
        return ui.json(&erasure);
    }
    let state = if erasure["status"] == "running" { "goes on" } else { "is done" };
    ui.pairs(&[
        ("Erasure", state.to_owned()),
        ("Messages", pick(&erasure, &["/messages"])),
        ("Events", pick(&erasure, &["/events"])),
        ("Files", pick(&erasure, &["/files"])),
    ])
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    ui.list(items, &["NAME", "PHONE", "EMAIL", "SINCE", "ID"], "there are no persons", |item| {
        let text = |pointer| pick(item, &[pointer]);
        vec![text("/displayName"), text("/phone"), text("/email"), time(item, &["/createdAt"]), text("/id")]
    })
}

fn show(item: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(item);
    }
    ui.pairs(&[
        ("Name", pick(item, &["/displayName"])),
        ("Id", pick(item, &["/id"])),
        ("Phone", pick(item, &["/phone"])),
        ("Email", pick(item, &["/email"])),
        ("Since", time(item, &["/createdAt"])),
    ])?;
    let accounts = item["identities"].as_array().map(Vec::as_slice).unwrap_or_default();
    let rows: Vec<_> = accounts
        .iter()
        .map(|account| {
            let text = |pointers: &[&str]| pick(account, pointers);
            vec![text(&["/channel"]), text(&["/platformUserId"]), text(&["/platformUsername"]), text(&["/id"])]
        })
        .collect();
    if rows.is_empty() { Ok(()) } else { ui.table(&["CHANNEL", "ACCOUNT", "USERNAME", "ID"], rows, "") }
}
