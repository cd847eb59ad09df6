//! `omni config check`: every value and where it came from. Works without a server.

use super::{Result, World};
use crate::config::{ConfigError, Loaded, Setting};
use clap::Subcommand;
use serde_json::{Value, json};
use std::path::PathBuf;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check the configuration, and show every value and where it came from
    Check {
        /// The configuration file
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

pub(super) fn check(loaded: Result<Loaded, ConfigError>, world: &mut World) -> Result<()> {
    // The advice of a wrong configuration elsewhere is this command.
    let loaded = loaded.map_err(|error| super::CliError::usage(error.to_string()))?;
    let ui = &mut world.ui;
    if ui.json {
        let settings: Vec<_> = loaded.settings.iter().map(as_json).collect();
        return ui.json(&json!({ "file": loaded.file, "settings": settings, "warnings": loaded.warnings }));
    }
    match &loaded.file {
        Some(file) => ui.note(&format!("read {}", file.display()))?,
        None => ui.note("no configuration file was read: there is no omni.toml here, and none was named")?,
    }
    let rows = loaded
        .settings
        .iter()
        .map(|setting| vec![setting.key.to_owned(), shown(setting), setting.origin.to_string(), setting.env.clone()]);
    ui.table(&["KEY", "VALUE", "FROM", "ENVIRONMENT"], rows.collect(), "")?;
    for warning in &loaded.warnings {
        ui.note(&format!("warning: {warning}"))?;
    }
    ui.note("the configuration is valid")
}

fn shown(setting: &Setting) -> String {
    match &setting.value {
        None => "-".into(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

fn as_json(setting: &Setting) -> Value {
    json!({
        "key": setting.key,
        "value": setting.value,
        "origin": setting.origin.to_string(),
        "env": setting.env,
    })
}
