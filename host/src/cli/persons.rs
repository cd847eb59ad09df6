//! `omni persons`: people, with their accounts on the networks.

use super::client::{Client, segment};
use super::ui::{Ui, pick, time};
use super::{Paging, Result};
use clap::Subcommand;
use serde_json::Value;

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
    }
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
