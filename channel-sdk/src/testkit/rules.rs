//! The rules of the suite, one function each. What they say is in the header of [`testkit`](crate::testkit).

pub(super) mod inspect;
mod network;

use super::play::{Play, play};
use super::transcript::{Action, Transcript};
use super::{InProcess, Port, manifest, samples};
use crate::content::Content;
use crate::frame::{Op, Output};
use crate::manifest::ChannelManifest;
use crate::outcome::ErrorCode;
use crate::request::Request;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// A rule of the suite.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What holds.
    pub says: &'static str,
    /// Everything that breaks it.
    pub check: fn(&Subject) -> Vec<Problem>,
}

/// All rules, in the order in which they are best read.
pub const RULES: &[Rule] = &[
    Rule {
        name: "manifest",
        says: "channel.json is sane",
        check: |subject| manifest::problems(&subject.manifest, &subject.manifest_json),
    },
    Rule { name: "transcripts", says: "every transcript passes", check: transcripts },
    Rule {
        name: "proofs",
        says: "what is declared is proved, and nothing else",
        check: |subject| subject.proofs().all(),
    },
    Rule { name: "undeclared_requests", says: "what is not declared is unsupported", check: undeclared_requests },
    Rule { name: "unknown_requests", says: "what is not known is unsupported", check: unknown_requests },
    Rule { name: "garbage", says: "garbage from the network harms nothing", check: network::garbage },
    Rule { name: "mangled", says: "odd values in known payloads do not panic a channel", check: network::mangled },
    Rule { name: "replay", says: "the same input has the same delivery keys", check: network::replay },
    Rule { name: "failed_calls", says: "a call that fails has stored nothing", check: network::failed_calls },
    Rule { name: "uncertain_sends", says: "an uncertain send is never certain", check: network::uncertain_sends },
    Rule { name: "sizes", says: "everything is of a sane size", check: |subject| network::breaches(subject, "sizes") },
    Rule { name: "times", says: "times are in milliseconds", check: |subject| network::breaches(subject, "times") },
    Rule { name: "secrets", says: "secrets are seen nowhere", check: |subject| network::breaches(subject, "secrets") },
    Rule { name: "stop", says: "an instance stops cleanly", check: stop },
];

/// Something that breaks a rule, as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem(pub String);

/// Something that was seen in a frame and is never allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Breach {
    pub rule: &'static str,
    pub what: String,
}

impl Breach {
    pub fn new(rule: &'static str, what: impl Into<String>) -> Self {
        Self { rule, what: what.into() }
    }
}

/// A channel that is looked at: its manifest, its transcripts, and a way to open instances of it.
pub struct Subject {
    /// What it says about itself.
    pub manifest: ChannelManifest,
    /// The same as it was written, for what parsing does not see.
    pub manifest_json: Value,
    /// What it was seen to do.
    pub transcripts: Vec<Transcript>,
    /// Opens an instance that waits for its start.
    pub open: Box<dyn Fn() -> Result<Box<dyn Port>, String>>,
}

impl Subject {
    /// A channel in this process, with the transcripts beside its `Cargo.toml`.
    pub fn of<C: crate::Exported>(plugin_dir: &Path) -> Result<Self, String> {
        let folder = plugin_dir.join("tests/transcripts");
        Self::new(C::CHANNEL_JSON, &folder, Box::new(|| Ok(Box::new(InProcess::<C>::open()))))
    }

    /// Any channel: the text of its `channel.json`, a folder of transcripts, a way to open instances.
    pub fn new(
        channel_json: &str,
        folder: &Path,
        open: Box<dyn Fn() -> Result<Box<dyn Port>, String>>,
    ) -> Result<Self, String> {
        let subject = Self::without_transcripts(channel_json, open)?;
        let mut files = Vec::new();
        let entries = std::fs::read_dir(folder)
            .map_err(|error| format!("{}: {error}; transcripts (*.json) belong there", folder.display()))?;
        for entry in entries {
            let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                files.push(path);
            }
        }
        files.sort();
        if files.is_empty() {
            return Err(format!("{}: there is no transcript (*.json)", folder.display()));
        }
        let read = files.iter().map(|path| Transcript::read(path, &subject.manifest));
        let transcripts = read.collect::<Result<_, _>>()?;
        Ok(Self { transcripts, ..subject })
    }

    /// Any channel of which there is no transcript: only its manifest can be looked at.
    pub fn without_transcripts(
        channel_json: &str,
        open: Box<dyn Fn() -> Result<Box<dyn Port>, String>>,
    ) -> Result<Self, String> {
        let in_manifest = |error: serde_json::Error| format!("channel.json: {error}");
        let manifest = serde_json::from_str(channel_json).map_err(in_manifest)?;
        let manifest_json = serde_json::from_str(channel_json).map_err(in_manifest)?;
        Ok(Self { manifest, manifest_json, transcripts: Vec::new(), open })
    }

    /// What its transcripts prove of what it declares.
    pub fn proofs(&self) -> Proofs {
        proofs(self)
    }

    /// An instance that has started and is not offline, as the first transcript has it that starts well. The error says that
    /// none does.
    pub(super) fn started(&self) -> Result<Play<'_>, Problem> {
        let mut online = self.transcripts.iter().filter(|transcript| !transcript.offline);
        let started = online.find_map(|transcript| self.start(transcript));
        started.map(|(play, _)| play).ok_or_else(|| Problem("no transcript starts well".into()))
    }

    /// A transcript after its start, if that is well, and what the start gave back.
    pub(super) fn start<'s>(&'s self, transcript: &'s Transcript) -> Option<(Play<'s>, Output)> {
        let mut play = Play::open(self, transcript).ok()?;
        let mut result = play.step(0);
        match result.calls.pop()?.result {
            Ok(output @ Output::Started { .. }) => Some((play, output)),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject").field("id", &self.manifest.id).finish_non_exhaustive()
    }
}

fn transcripts(subject: &Subject) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for transcript in &subject.transcripts {
        let config = manifest::config_problems(&subject.manifest, &transcript.config);
        wrong.extend(config.into_iter().map(|problem| Problem(format!("{}: {problem}", transcript.name))));
        wrong.extend(play(subject, transcript).problems.into_iter().map(Problem));
    }
    wrong
}

/// What transcripts prove of what a channel declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proofs {
    /// Declared, and shown by a transcript that passes.
    pub proved: BTreeSet<String>,
    /// Declared, and not shown.
    pub unproved: BTreeSet<String>,
    /// Claimed and not shown, or shown and not declared.
    pub wrong: Vec<Problem>,
}

impl Proofs {
    /// Everything that is not as it should be.
    pub fn all(self) -> Vec<Problem> {
        let mut wrong = self.wrong;
        let missing = self.unproved.iter();
        wrong.extend(missing.map(|name| Problem(format!("{name} is declared, and no passing transcript proves it"))));
        wrong
    }
}

fn proofs(subject: &Subject) -> Proofs {
    let declared: BTreeSet<String> = subject.manifest.capabilities.names().into_iter().collect();
    let mut proved = BTreeSet::new();
    let mut wrong = Vec::new();
    for transcript in &subject.transcripts {
        let played = play(subject, transcript);
        for claim in &transcript.proves {
            if !declared.contains(claim) {
                wrong.push(Problem(format!("{} proves {claim}, which channel.json does not declare", transcript.name)));
            } else if !played.shown.contains(claim) {
                wrong.push(Problem(format!("{} says that it proves {claim}, and no step shows it", transcript.name)));
            } else if played.problems.is_empty() {
                proved.insert(claim.clone());
            }
        }
        for shown in played.shown.difference(&declared) {
            wrong.push(Problem(format!("{} shows {shown}, which channel.json does not declare", transcript.name)));
        }
    }
    let unproved = declared.difference(&proved).cloned().collect();
    Proofs { proved, unproved, wrong }
}

fn undeclared_requests(subject: &Subject) -> Vec<Problem> {
    let capabilities = &subject.manifest.capabilities;
    let kinds = Request::KINDS.iter().filter(|kind| **kind != "send" && !capabilities.can(kind));
    let contents = Content::KINDS.iter().filter(|content| !capabilities.can_send(content));
    let requests = kinds.map(|kind| samples::request(kind)).chain(contents.map(|content| samples::send(content)));
    unsupported(subject, requests)
}

fn unknown_requests(subject: &Subject) -> Vec<Problem> {
    unsupported(subject, ["teleport", "", "Send", "x-very-new"].into_iter().map(samples::request))
}

fn unsupported(subject: &Subject, requests: impl Iterator<Item = Request>) -> Vec<Problem> {
    let mut play = match subject.started() {
        Ok(play) => play,
        Err(problem) => return vec![problem],
    };
    play.host.network = super::host::Network::Hostile;
    let mut wrong = Vec::new();
    for request in requests {
        let asked = json!(request);
        let answered = match play.host.call(Op::Request { request }).map(|finished| finished.result) {
            Ok(Err(failure)) if failure.error.code == ErrorCode::Unsupported && failure.error.certain => continue,
            Ok(Err(failure)) => format!("the error {}", json!(failure.error)),
            Ok(Ok(output)) => json!(output).to_string(),
            Err(problem) => problem,
        };
        wrong.push(Problem(format!("{asked} was to be answered `unsupported` and was: {answered}")));
    }
    wrong
}

fn stop(subject: &Subject) -> Vec<Problem> {
    let mut wrong = Vec::new();
    for transcript in &subject.transcripts {
        let Some((mut play, _)) = subject.start(transcript) else { continue };
        let stops = |step: &super::Step| matches!(step.action(), Ok(Action::Stop));
        // What the network answers to a goodbye, if the transcript has one; else nothing sensible.
        match transcript.steps.iter().find(|step| stops(step)) {
            Some(step) => play.host.script = step.http.iter().cloned().collect(),
            None => play.host.network = super::host::Network::Hostile,
        }
        match play.host.call(Op::Stop {}).map(|finished| finished.result) {
            Ok(Ok(Output::Stopped {})) => {}
            other => wrong.push(Problem(format!("{}: the stop ended with {other:?}", transcript.name))),
        }
        if let Ok(answer) = play.host.call(Op::Request { request: samples::request("send") })
            && answer.result.is_ok()
        {
            wrong.push(Problem(format!("{}: a request was answered after the stop", transcript.name)));
        }
    }
    wrong
}
