//! `omni data` and `omni log-level`: the running host's key, and how much it says.

use super::client::{Client, nothing};
use super::ui::{Ui, pick};
use super::{CliError, Result};
use crate::clock::Clock;
use crate::config::Config;
use crate::data::DataFolder;
use crate::rotation::Rotation;
use clap::Subcommand;
use reqwest::Method;
use serde_json::{Value, json};
use std::time::Duration;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// The key that seals tokens and logins: its id, and whether it is being changed
    Key,
    /// Make a new key and seal everything anew; the host works on meanwhile
    RotateKey {
        /// Do it here, on the data folder of a host that does not run
        #[arg(long)]
        offline: bool,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct LogLevelArgs {
    /// error, warn, info, debug, trace, or by part: info,omni_host::outbound=debug
    level: Option<String>,
}

pub(super) async fn run(command: Command, client: &Client, ui: &mut Ui) -> Result<()> {
    let answer = match command {
        Command::Key => client.get("/system/key").await?,
        Command::RotateKey { .. } => client.post("/system/key/rotate", nothing()).await?,
    };
    show(answer.get("data").unwrap_or(&answer), ui)
}

fn show(key: &Value, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(key);
    }
    let state = if key["underWay"] == true { "is being changed; the older one is still there" } else { "in use" };
    ui.pairs(&[
        ("Key", pick(key, &["/keyId"])),
        ("State", state.to_owned()),
        ("Left", format!("{} values are sealed under the older key", pick(key, &["/remaining"]))),
    ])
}

/// Changes the key of a data folder that no host uses.
pub(super) async fn rotate_offline(config: &Config, clock: Clock, ui: &mut Ui) -> Result<()> {
    let failed = |error: String| CliError::failed(error);
    let database = config.database_file();
    if let Some(file) = database.as_ref().filter(|file| !file.exists()) {
        return Err(CliError::usage(format!("there is no database at {}", file.display()))
            .help("name the data folder with --data"));
    }
    let data = DataFolder::open(&config.data.dir, database.as_deref()).map_err(|error| failed(error.to_string()))?;
    let (store, hold) = crate::run::open_store(config, &clock).await.map_err(|error| failed(format!("{error:#}")))?;
    crate::run::check_key(&store, &data, &clock).await.map_err(|error| failed(error.to_string()))?;
    let rotation = Rotation::new(data.path.clone(), store.clone(), data.sealer.clone(), clock);
    if !data.sealer.has_older() {
        rotation.begin().await.map_err(|error| failed(error.to_string()))?;
    }
    let values = rotation.finish(Duration::ZERO).await.map_err(|error| failed(error.to_string()))?;
    store.close().await;
    hold.release().await;
    if ui.json {
        return ui.json(&json!({ "keyId": hex::encode(data.sealer.key_id()), "values": values }));
    }
    ui.note(&format!("the key is changed; {values} values were sealed anew"))
}

pub(super) async fn log_level(args: LogLevelArgs, client: &Client, ui: &mut Ui) -> Result<()> {
    let answer = match args.level {
        Some(level) => client.call(Method::PUT, "/system/log-level", Some(json!({ "level": level }))).await?,
        None => client.get("/system/log-level").await?,
    };
    let data = answer.get("data").unwrap_or(&answer);
    if ui.json { ui.json(data) } else { ui.line(&pick(data, &["/level"])) }
}
