//! `omni doctor`: what a host stands on, and what to do about it. Works without a server and beside one.

use super::{CliError, Result, World};
use crate::config::{ConfigError, Loaded};
use crate::doctor::{self, Finding, State};
use crate::store::ledger::{Account, Line, Side};
use serde_json::{Map, Value, json};
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
            ledger: Vec::new(),
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
        let lines: Vec<Vec<String>> = findings.iter().flat_map(|finding| &finding.ledger).map(row).collect();
        if !lines.is_empty() {
            ui.line("")?;
            ui.table(&HEADER, lines, "")?;
        }
    }
    let bad = findings.iter().filter(|finding| finding.state == State::Fail).count();
    match doctor::worst(&findings) {
        State::Fail => Err(CliError::failed(format!("{bad} of {} checks failed", findings.len()))),
        State::Ok | State::Warn => Ok(()),
    }
}

/// What must be equal stands side by side: what was accepted, and what became of it.
const HEADER: [&str; 4] = ["INSTANCE", "IN", "OUT", "KEPT"];

fn row(line: &Line) -> Vec<String> {
    let amount = |account| line.amount(account);
    let waiting = line.waiting.map_or("?".to_owned(), |waiting| waiting.to_string());
    let gap = |side: Side| {
        let gap = line.gaps().into_iter().find(|(found, gap)| *found == side && *gap != 0);
        gap.map(|(_, gap)| format!(" (gap {gap})")).unwrap_or_default()
    };
    let inbound = format!(
        "{} = {} stored + {} repeated + {} dead + {waiting} waiting{}",
        amount(Account::Accepted),
        amount(Account::Stored),
        amount(Account::Repeated),
        line.dead(),
        gap(Side::Inbound)
    );
    let outbound = format!(
        "{} = {} delivered + {} failed + {} unknown + {} pending{}",
        amount(Account::Queued),
        amount(Account::Delivered),
        amount(Account::Failed),
        line.unknown,
        line.pending,
        gap(Side::Outbound)
    );
    let kept = format!(
        "{} messages{}, {} dead letters{}",
        amount(Account::Messages),
        gap(Side::Messages),
        amount(Account::Letters),
        gap(Side::DeadLetters)
    );
    vec![line.name.clone(), inbound, outbound, kept]
}

fn line_as_json(line: &Line) -> Value {
    let amounts = Account::ALL.into_iter().map(|account| (account.word().to_owned(), json!(line.amount(account))));
    let gaps = line.gaps().into_iter().map(|(side, gap)| (side.word().to_owned(), json!(gap)));
    json!({
        "instanceId": line.instance_id,
        "instance": line.name,
        "channel": line.channel,
        "counted": amounts.collect::<Map<_, _>>(),
        "there": {
            "waiting": line.waiting, "pending": line.pending, "unknown": line.unknown,
            "messages": line.messages, "letters": line.letters,
        },
        "gaps": gaps.collect::<Map<_, _>>(),
        "balances": line.balances(),
    })
}

fn as_json(finding: &Finding) -> Value {
    let mut found = json!({
        "check": finding.check,
        "status": finding.state.word(),
        "message": finding.message,
        "help": finding.help,
    });
    if !finding.ledger.is_empty() {
        found["ledger"] = finding.ledger.iter().map(line_as_json).collect();
    }
    found
}
