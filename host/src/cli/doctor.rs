//! `omni doctor`: what a host stands on, and what to do about it. Works without a server and beside one.

use super::{CliError, Result, World};
use crate::config::{ConfigError, Loaded};
use crate::doctor::{self, Finding, State};
use serde_json::json;
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

pub(super) fn run(loaded: Result<Loaded, ConfigError>, world: &mut World) -> Result<()> {
    let findings = match loaded {
        Ok(loaded) => {
            let examined = doctor::examine(&loaded.config, &loaded.warnings, &world.clock);
            super::world::block_on(examined)?
        }
        // Without a configuration nothing else can be looked at.
        Err(error) => vec![Finding {
            check: "config",
            state: State::Fail,
            message: error.to_string(),
            help: Some("`omni config check` shows every value and where it came from".into()),
        }],
    };
    let ui = &mut world.ui;
    if ui.json {
        let list: Vec<_> = findings.iter().map(as_json).collect();
        ui.json(&list)?;
    } else {
        for finding in &findings {
            ui.line(&format!("{:<4}  {}: {}", finding.state.word(), finding.check, finding.message))?;
            if let Some(help) = &finding.help {
                ui.line(&format!("      → {help}"))?;
            }
        }
    }
    let bad = findings.iter().filter(|finding| finding.state == State::Fail).count();
    match doctor::worst(&findings) {
        State::Fail => Err(CliError::failed(format!("{bad} of {} checks failed", findings.len()))),
        State::Ok | State::Warn => Ok(()),
    }
}

fn as_json(finding: &Finding) -> serde_json::Value {
    json!({
        "check": finding.check,
        "status": finding.state.word(),
        "message": finding.message,
        "help": finding.help,
    })
}
