//! `omni instances profile`, `privacy`, `check`, `block`, `unblock`, `blocked`: the account of an instance on its network.

use super::client::Client;
use super::instances::path;
use super::ui::{Ui, pick};
use super::{CliError, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use reqwest::Method;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Largest picture that is sent within a request, in bytes.
const MOST_BYTES: u64 = 5 << 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Change what an account shows of itself on its network
    Profile(Profile),
    /// Show who may see what of an account, or change it
    Privacy {
        /// Its name or id
        instance: String,
        /// What to change, in the network's words (last=contacts)
        #[arg(value_name = "SETTING=VALUE")]
        settings: Vec<String>,
    },
    /// Say who has an account on the network
    Check {
        /// The name or id of the instance that asks
        instance: String,
        /// Phone numbers with their country codes
        #[arg(required = true, value_name = "PHONE")]
        phones: Vec<String>,
    },
    /// Take nothing of somebody any more
    Block(Contact),
    /// Let somebody write again
    Unblock(Contact),
    /// List who is blocked
    Blocked {
        /// Its name or id
        instance: String,
        #[command(flatten)]
        paging: super::Paging,
    },
}

#[derive(Debug, Args)]
pub(super) struct Profile {
    /// Its name or id
    instance: String,
    /// The name that people see
    #[arg(long)]
    name: Option<String>,
    /// What it says about itself
    #[arg(long, value_name = "TEXT")]
    about: Option<String>,
    /// Its picture, from a file
    #[arg(long, value_name = "FILE", conflicts_with = "no_picture")]
    picture: Option<PathBuf>,
    /// Take the picture away
    #[arg(long)]
    no_picture: bool,
}

#[derive(Debug, Args)]
pub(super) struct Contact {
    /// The instance's name or id
    instance: String,
    /// Whom: the network's id
    contact: String,
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    match command {
        Command::Profile(profile) => change(profile, client, ui).await,
        Command::Privacy { instance, settings } => {
            let path = path(&instance, "/privacy");
            let all = if settings.is_empty() {
                client.get(&path).await?
            } else {
                client.call(Method::PUT, &path, Some(chosen(&settings)?)).await?
            };
            if ui.json {
                return ui.json(&all);
            }
            let all: Vec<Value> = all
                .as_object()
                .into_iter()
                .flatten()
                .map(|(name, value)| json!({"name": name, "value": value}))
                .collect();
            ui.list(&all, &["SETTING", "VALUE"], "this network has no such settings", |one| {
                vec![pick(one, &["/name"]), pick(one, &["/value"])]
            })
        }
        Command::Check { instance, phones } => {
            let found = client.post(&path(&instance, "/check-number"), json!({"phones": phones})).await?;
            if ui.json {
                return ui.json(&found);
            }
            let found = found.as_array().cloned().unwrap_or_default();
            ui.list(&found, &["PHONE", "THERE", "WRITE TO", "NAME"], "nobody was looked for", |one| {
                let there = if one["exists"] == true { "yes" } else { "no" };
                vec![pick(one, &["/phone"]), there.into(), pick(one, &["/jid"]), pick(one, &["/name"])]
            })
        }
        Command::Block(contact) => block(Method::POST, &contact, "is blocked", client, ui).await,
        Command::Unblock(contact) => block(Method::DELETE, &contact, "may write again", client, ui).await,
        Command::Blocked { instance, paging } => {
            let items = client.list(&path(&instance, "/blocklist"), &[], paging).await?;
            ui.list(&items, &["WHO", "NAME", "PHONE"], "nobody is blocked", |one| {
                vec![pick(one, &["/platformUserId"]), pick(one, &["/displayName"]), pick(one, &["/phone"])]
            })
        }
    }
}

async fn change(profile: Profile, client: &Client, ui: &mut Ui) -> Result<()> {
    let picture = profile.picture.as_deref().map(read).transpose()?;
    let whose = |rest: &str| path(&profile.instance, &format!("/profile/{rest}"));
    let changes = [
        (Method::PUT, "name", profile.name.map(|name| json!({"name": name}))),
        (Method::PUT, "status", profile.about.map(|about| json!({"status": about}))),
        (Method::PUT, "picture", picture),
        (Method::DELETE, "picture", profile.no_picture.then(|| json!({}))),
    ];
    let mut done = Map::new();
    for (method, what, body) in changes {
        if let Some(body) = body {
            client.call(method, &whose(what), Some(body)).await?;
            done.insert(what.into(), true.into());
        }
    }
    if done.is_empty() {
        return Err(
            CliError::usage("nothing was said to change").help("`omni instances profile --help` lists what can be")
        );
    }
    if ui.json { ui.json(&done) } else { ui.note("changed") }
}

fn read(file: &Path) -> Result<Value> {
    let cannot = |why: String| CliError::usage(format!("failed to read {}: {why}", file.display()));
    let size = std::fs::metadata(file).map_err(|error| cannot(error.to_string()))?.len();
    if size > MOST_BYTES {
        return Err(CliError::usage(format!(
            "{} has {size} bytes; a picture has {MOST_BYTES} at most",
            file.display()
        )));
    }
    let bytes = std::fs::read(file).map_err(|error| cannot(error.to_string()))?;
    Ok(json!({"base64": STANDARD.encode(bytes)}))
}

/// `SETTING=VALUE`, several times.
fn chosen(settings: &[String]) -> Result<Value> {
    let one = |setting: &String| match setting.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), Value::from(value))),
        _ => Err(CliError::usage(format!("{setting:?} is not like last=contacts"))),
    };
    Ok(settings.iter().map(one).collect::<Result<Map<_, _>>>()?.into())
}

async fn block(method: Method, contact: &Contact, words: &str, client: &Client, ui: &mut Ui) -> Result<()> {
    let body = json!({"contactId": contact.contact});
    let done = client.call(method, &path(&contact.instance, "/block"), Some(body)).await?;
    if ui.json { ui.json(&done) } else { ui.note(&format!("{} {words}", contact.contact)) }
}
