//! `omni dead-letters`: events that could not be processed, and what is to become of them.

use super::client::{Client, nothing, segment};
use super::ui::{Ui, pick, shorten, time};
use super::{CliError, Paging, Result};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them
    List {
        /// Only those that are pending, retrying, resolved or abandoned
        #[arg(long)]
        status: Option<String>,
        /// Only those of this type of event
        #[arg(long = "type", value_name = "TYPE")]
        kind: Option<String>,
        /// Only those of this consumer (storage, webhook:ID)
        #[arg(long)]
        consumer: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Count them
    Stats,
    /// Show one, with its whole payload
    Show {
        /// Its id
        id: String,
    },
    /// Process one again
    Retry {
        /// Its id
        id: String,
    },
    /// Note that one was taken care of
    Resolve {
        /// Its id
        id: String,
        /// How
        #[arg(long)]
        note: String,
    },
    /// Give one up
    Abandon {
        /// Its id
        id: String,
        /// Why
        #[arg(long)]
        note: Option<String>,
    },
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    let path = |id: &str, action: &str| format!("/dead-letters/{}{action}", segment(id));
    match command {
        Command::List { status, kind, consumer, paging } => {
            let query = [("status", status), ("eventType", kind), ("consumer", consumer)];
            let items = client.list("/dead-letters", &query, paging).await?;
            list(&items, ui)
        }
        Command::Stats => {
            let stats = client.get("/dead-letters/stats").await?;
            show_stats(&stats, ui)
        }
        Command::Show { id } => {
            let letter = client.get(&path(&id, "")).await?;
            show(&letter, ui)
        }
        Command::Retry { id } => {
            let answer = client.post(&path(&id, "/retry"), nothing()).await?;
            if answer["success"] == false {
                let reason = pick(&answer, &["/error"]);
                return Err(CliError::failed(format!("it failed again: {reason}")));
            }
            done(&answer, "it is processed again", ui)
        }
        Command::Resolve { id, note } => {
            let answer = client.post(&path(&id, "/resolve"), json!({ "note": note })).await?;
            done(&answer, "resolved", ui)
        }
        Command::Abandon { id, note } => {
            let body = note.map_or_else(nothing, |note| json!({ "note": note }));
            let answer = client.post(&path(&id, "/abandon"), body).await?;
            done(&answer, "abandoned", ui)
        }
    }
}

fn done(answer: &Value, word: &str, ui: &mut Ui) -> Result<()> {
    if ui.json { ui.json(answer) } else { ui.note(word) }
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    ui.list(
        items,
        &["TIME", "TYPE", "CONSUMER", "STATUS", "TRIES", "ERROR", "ID"],
        "there are no dead letters",
        |item| {
            vec![
                time(item, &["/createdAt"]),
                pick(item, &["/eventType"]),
                pick(item, &["/consumer"]),
                pick(item, &["/status"]),
                pick(item, &["/retryCount"]),
                shorten(&pick(item, &["/errorMessage", "/error"]), 100),
                pick(item, &["/id"]),
            ]
        },
    )
}

fn show_stats(stats: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(stats);
    }
    let words = [("Total", "/total"), ("Pending", "/pending"), ("Retrying", "/retrying"), ("Resolved", "/resolved")];
    let mut pairs: Vec<_> = words.iter().map(|(name, pointer)| (*name, pick(stats, &[pointer]))).collect();
    pairs.push(("Abandoned", pick(stats, &["/abandoned"])));
    ui.pairs(&pairs)
}

fn show(letter: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(letter);
    }
    ui.pairs(&[
        ("Id", pick(letter, &["/id"])),
        ("Event", pick(letter, &["/eventId"])),
        ("Type", pick(letter, &["/eventType"])),
        ("Consumer", pick(letter, &["/consumer"])),
        ("Status", pick(letter, &["/status"])),
        ("Tries", pick(letter, &["/retryCount"])),
        ("Time", time(letter, &["/createdAt"])),
        ("Error", pick(letter, &["/errorMessage", "/error"])),
        ("Note", pick(letter, &["/resolutionNote"])),
    ])?;
    match letter.get("payload").filter(|payload| !payload.is_null()) {
        Some(payload) => {
            let payload = serde_json::to_string_pretty(payload).map_err(std::io::Error::from)?;
            ui.line(&payload)
        }
        None => Ok(()),
    }
}
