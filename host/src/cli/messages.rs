//! `omni messages`: what was said.

use super::client::{Client, segment};
use super::ui::{Ui, pick, shorten, time};
use super::{Paging, Result};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List those of a chat, the latest first
    List {
        /// The chat: its id or the network's
        #[arg(allow_hyphen_values = true)]
        chat: String,
        /// Only those of this instance, when several know the network's id
        #[arg(long)]
        instance: Option<String>,
        /// Only those that hold this
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        /// Only those since this time (2026-01-31T12:00:00Z)
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Its id
        message: String,
    },
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    match command {
        Command::List { chat, instance, search, since, paging } => {
            let query = [("chatId", Some(chat)), ("instanceId", instance), ("search", search), ("since", since)];
            let items = client.list("/messages", &query, paging).await?;
            list(&items, ui)
        }
        Command::Show { message } => {
            let message = client.get(&format!("/messages/{}", segment(&message))).await?;
            show(&message, ui)
        }
    }
}

/// Who wrote it.
fn sender(item: &Value) -> String {
    if item["isFromMe"] == true {
        return "me".into();
    }
    pick(item, &["/senderDisplayName", "/senderName", "/sender/displayName", "/senderPlatformUserId"])
}

/// What it says, or what it is.
fn text(item: &Value) -> String {
    let kind = pick(item, &["/messageType"]);
    let text = pick(item, &["/textContent", "/text"]);
    let text = match kind.as_str() {
        "" | "text" => text,
        kind if text.is_empty() => format!("[{kind}]"),
        kind => format!("[{kind}] {text}"),
    };
    if item.get("deletedAt").is_some_and(|deleted| !deleted.is_null()) { format!("[deleted] {text}") } else { text }
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    ui.list(items, &["TIME", "FROM", "TEXT", "STATUS", "ID"], "there are no messages", |item| {
        vec![
            time(item, &["/platformTimestamp", "/createdAt"]),
            shorten(&sender(item), 30),
            shorten(&text(item), 200),
            pick(item, &["/deliveryStatus", "/status"]),
            pick(item, &["/id"]),
        ]
    })
}

fn show(item: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(item);
    }
    ui.pairs(&[
        ("Id", pick(item, &["/id"])),
        ("Network's id", pick(item, &["/externalId"])),
        ("Chat", pick(item, &["/chatId"])),
        ("Time", time(item, &["/platformTimestamp", "/createdAt"])),
        ("From", sender(item)),
        ("Text", text(item)),
        ("Media", pick(item, &["/mediaUrl", "/mediaMimeType"])),
        ("Answers", pick(item, &["/replyToMessageId", "/replyToExternalId"])),
        ("Status", pick(item, &["/deliveryStatus", "/status"])),
        ("Error", pick(item, &["/errorMessage", "/error/message", "/error"])),
        ("Edited", time(item, &["/editedAt"])),
        ("Deleted", time(item, &["/deletedAt"])),
    ])
}
