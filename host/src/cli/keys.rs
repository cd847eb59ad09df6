//! `omni keys`: API keys.

use super::client::{Client, nothing, segment};
use super::ui::{Ui, pick, time};
use super::{CliError, Exit, Paging, Result};
use clap::Subcommand;
use serde_json::{Value, json};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Make a key; it is shown this once
    Create {
        /// Its name
        name: String,
        /// What it may do (messages:write, instances:*, *); may be repeated
        #[arg(long = "scope", value_name = "SCOPE", default_value = "*")]
        scopes: Vec<String>,
        /// Only for this instance; may be repeated
        #[arg(long = "instance", value_name = "INSTANCE")]
        instances: Vec<String>,
        /// Until when (2026-12-31T00:00:00Z)
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Most requests a minute
        #[arg(long, value_name = "COUNT")]
        rate_limit: Option<u32>,
    },
    /// List them
    List {
        #[command(flatten)]
        paging: Paging,
    },
    /// Make a key worthless
    Revoke {
        /// Its id or name
        key: String,
    },
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    match command {
        Command::Create { name, scopes, instances, expires, rate_limit } => {
            let mut body = json!({ "name": name, "scopes": scopes });
            let mut ids = Vec::new();
            for instance in &instances {
                ids.push(client.instance_id(instance).await?);
            }
            if !ids.is_empty() {
                body["instanceIds"] = ids.into();
            }
            if let Some(expires) = expires {
                body["expiresAt"] = expires.into();
            }
            if let Some(rate_limit) = rate_limit {
                body["rateLimit"] = rate_limit.into();
            }
            let made = client.post("/keys", body).await?;
            show_new(&made, ui)
        }
        Command::List { paging } => {
            let items = client.list("/keys", &[], paging).await?;
            list(&items, ui)
        }
        Command::Revoke { key } => {
            let id = find(&key, client).await?;
            let answer = client.post(&format!("/keys/{}/revoke", segment(&id)), nothing()).await?;
            if ui.json { ui.json(&answer) } else { ui.note(&format!("revoked {key}")) }
        }
    }
}

pub(super) async fn find(named: &str, client: &Client) -> Result<String> {
    if named.parse::<uuid::Uuid>().is_ok() {
        return Ok(named.to_owned());
    }
    let all = client.list("/keys", &[], Paging { limit: 0, all: true }).await?;
    let named_so: Vec<_> = all.iter().filter(|key| key["name"] == named).map(|key| pick(key, &["/id"])).collect();
    match &named_so[..] {
        [one] => Ok(one.clone()),
        [] => Err(CliError::new(Exit::NotFound, format!("there is no key {named:?}"))
            .help("`omni keys list` shows those there are")),
        _ => Err(CliError::usage(format!("several keys are named {named:?}")).help("give the id of one")),
    }
}

fn show_new(made: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(made);
    }
    let key = pick(made, &["/plainTextKey", "/key", "/apiKey"]);
    ui.note("this is the only time that the key is shown:")?;
    ui.line(&key)
}

fn list(items: &[Value], ui: &mut Ui) -> Result<()> {
    ui.list(items, &["NAME", "KEY", "STATUS", "SCOPES", "LAST USED", "ID"], "there are no keys", |item| {
        vec![
            pick(item, &["/name"]),
            format!("omni_sk_{}…", pick(item, &["/keyPrefix"]).trim_start_matches("omni_sk_")),
            pick(item, &["/status"]),
            pick(item, &["/scopes"]),
            time(item, &["/lastUsedAt"]),
            pick(item, &["/id"]),
        ]
    })
}
