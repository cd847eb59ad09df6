//! `omni plugins check`: the conformance suite on a plugin file, native or WASM.
//!
//! What a channel declares is proved by the transcripts that lie beside its file. What is declared and not proved is said,
//! and is an exit code of its own: a channel that brings its own network library is proved by its author's tests.

use super::transcripts_of;
use crate::cli::plugins::read;
use crate::cli::ui::Ui;
use crate::cli::{CliError, Exit, Result, World};
use crate::plugins::conformance::{Candidate, Place};
use omni_channel_sdk::testkit::{Proofs, RULES, Subject};
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What a plugin may use while it is looked at.
const MEMORY: u64 = 1 << 30;
const FRAME: Duration = Duration::from_secs(30);
/// The rule that needs no transcript.
const MANIFEST: &str = "manifest";
const PROOFS: &str = "proofs";

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Check {
    /// The plugin file
    file: PathBuf,
    /// The folder of its transcripts [default: beside the file, FILE.transcripts without the file's ending, or transcripts]
    #[arg(long, value_name = "DIR")]
    transcripts: Option<PathBuf>,
}

/// What became of one rule.
#[derive(Debug, Serialize)]
struct Ruled {
    rule: &'static str,
    says: &'static str,
    /// `holds`, `broken`, or `not tried`.
    outcome: &'static str,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    channel: String,
    version: String,
    transcripts: usize,
    rules: Vec<Ruled>,
    proved: BTreeSet<String>,
    #[serde(rename = "declaredNotProved")]
    unproved: BTreeSet<String>,
}

impl Report {
    fn broken(&self) -> usize {
        self.rules.iter().filter(|rule| rule.outcome == "broken").count()
    }
}

/// Runs the suite.
pub(in crate::cli) fn check(args: &Check, world: &mut World) -> Result<()> {
    let file = world.folder.join(&args.file);
    let bytes = read(&file)?;
    let transcripts = transcripts_of(&file, args.transcripts.as_deref(), &world.folder)?;
    let scratch = tempfile::tempdir()?;
    let runtime = Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?);
    let place =
        Place { program: world.program.clone(), folder: scratch.path().to_owned(), memory: MEMORY, frame: FRAME };
    let spinner = world.ui.spinner("looking at the file");
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let opened = Candidate::new(&bytes, &sha256, &place, runtime);
    let candidate = opened.map_err(|reason| {
        spinner.finish_and_clear();
        CliError::failed(format!("{}: {reason}", file.display()))
    })?;
    let channel_json = serde_json::to_string(&candidate.manifest.channel).map_err(std::io::Error::from)?;
    let written = crate::plugins::manifest::channel_json(&bytes).unwrap_or(channel_json);
    let (id, version) = (candidate.manifest.channel.id.clone(), candidate.manifest.version.clone());
    let open = Box::new(move || candidate.open());
    let subject = match &transcripts {
        Some(folder) => Subject::new(&written, folder, open),
        None => Subject::without_transcripts(&written, open),
    };
    let subject = subject.map_err(|reason| {
        spinner.finish_and_clear();
        CliError::failed(reason)
    })?;
    let mut rules = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.name != PROOFS) {
        spinner.set_message(format!("{}: {}", rule.name, rule.says));
        let tried = rule.name == MANIFEST || !subject.transcripts.is_empty();
        let problems: Vec<String> =
            if tried { (rule.check)(&subject).into_iter().map(|problem| problem.0).collect() } else { Vec::new() };
        let outcome = if !tried {
            "not tried"
        } else if problems.is_empty() {
            "holds"
        } else {
            "broken"
        };
        rules.push(Ruled { rule: rule.name, says: rule.says, outcome, problems });
    }
    spinner.set_message("what is proved");
    let Proofs { proved, unproved, wrong } = subject.proofs();
    let problems: Vec<String> = wrong.into_iter().map(|problem| problem.0).collect();
    let outcome = if problems.is_empty() { "holds" } else { "broken" };
    rules.push(Ruled { rule: PROOFS, says: "nothing is claimed that is not so", outcome, problems });
    spinner.finish_and_clear();
    let report = Report { file, channel: id, version, transcripts: subject.transcripts.len(), rules, proved, unproved };
    tell(&report, &mut world.ui)?;
    verdict(&report)
}

fn tell(report: &Report, ui: &mut Ui) -> Result<()> {
    if ui.json {
        return ui.json(report);
    }
    let rows = report.rules.iter().map(|rule| vec![rule.rule.into(), rule.outcome.into(), rule.says.into()]).collect();
    ui.table(&["RULE", "OUTCOME", "WHAT HOLDS"], rows, "")?;
    for rule in report.rules.iter().filter(|rule| !rule.problems.is_empty()) {
        ui.line(&format!("\n{} is broken:", rule.rule))?;
        for problem in &rule.problems {
            ui.line(&format!("  - {}", problem.replace('\n', "\n    ")))?;
        }
    }
    let list = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>().join(", ");
    ui.line("")?;
    ui.pairs(&[
        ("Channel", format!("{} {}", report.channel, report.version)),
        ("Transcripts", report.transcripts.to_string()),
        ("Proved", list(&report.proved)),
        ("Declared, not proved", list(&report.unproved)),
    ])
}

fn verdict(report: &Report) -> Result<()> {
    match (report.broken(), report.transcripts, report.unproved.len()) {
        (0, _, 0) => Ok(()),
        (0, 0, _) => Err(CliError::new(
            Exit::NotProved,
            "there is no transcript, so that nothing of what the channel declares is proved",
        )
        .help("name their folder with --transcripts DIR, or put them beside the file")),
        (0, _, unproved) => Err(CliError::new(
            Exit::NotProved,
            format!("no rule is broken, and {unproved} of what the channel declares is not proved by a transcript"),
        )),
        (broken, ..) => Err(CliError::failed(format!("{broken} of {} rules are broken", report.rules.len()))),
    }
}
