//! `omni chats`: conversations.

use super::client::{Client, segment};
use super::ui::{Ui, pick, shorten, time};
use super::{Paging, Result};
use clap::Subcommand;
use serde_json::Value;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// List them, the latest first
    List {
        /// Only those of this instance
        #[arg(long)]
        instance: Option<String>,
        /// Only those of this channel
        #[arg(long)]
        channel: Option<String>,
        /// Only those whose name holds this
        #[arg(long, value_name = "TEXT")]
        search: Option<String>,
        #[command(flatten)]
        paging: Paging,
    },
    /// Show one
    Show {
        /// Its id
        chat: String,
    },
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    match command {
        Command::List { instance, channel, search, paging } => {
            let query = [("instanceId", instance), ("channel", channel), ("search", search)];
            let items = client.list("/chats", &query, paging).await?;
            list(&items, ui)
        }
        Command::Show { chat } => {
            let chat = client.get(&format!("/chats/{}", segment(&chat))).await?;
            show(&chat, ui)
        }
    }
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    ui.list(items, &["NAME", "KIND", "CHANNEL", "LAST", "TEXT", "ID"], "there are no chats", |item| {
        vec![
            shorten(&pick(item, &["/name", "/externalId"]), 40),
            pick(item, &["/chatType"]),
            pick(item, &["/channel"]),
            time(item, &["/lastMessageAt"]),
            shorten(&pick(item, &["/lastMessagePreview"]), 60),
            pick(item, &["/id"]),
        ]
    })
}

fn show(item: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(item);
    }
    ui.pairs(&[
        ("Name", pick(item, &["/name"])),
        ("Id", pick(item, &["/id"])),
        ("Network's id", pick(item, &["/externalId"])),
        ("Kind", pick(item, &["/chatType"])),
        ("Channel", pick(item, &["/channel"])),
        ("Instance", pick(item, &["/instanceId"])),
        ("Members", pick(item, &["/participantCount"])),
        ("Messages", pick(item, &["/messageCount"])),
        ("Unread", pick(item, &["/unreadCount"])),
        ("Last message", time(item, &["/lastMessageAt"])),
        ("Text", pick(item, &["/lastMessagePreview"])),
    ])
}
