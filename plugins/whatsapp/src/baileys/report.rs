//! The report of an import: what was there, what came over, what did not and why.
//!
//! Words for people: each warning and each gap is a sentence that says what to do, or that nothing needs to be done.

use super::names::Kind;
use super::snapshot::{Snapshot, short};
use omni_channel_sdk::request::{AuthReport, SkippedRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// Skipped records that are listed one by one.
const MAX_LISTED: usize = 500;

/// A report in the making.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub report: AuthReport,
    unlisted: usize,
    /// Reasons that many records share, and how many do.
    notes: BTreeMap<&'static str, usize>,
}

/// The name of a kind in a report. Kinds that are never taken over have none.
pub(super) fn word(kind: Kind) -> Option<&'static str> {
    Some(match kind {
        Kind::Creds => "creds",
        Kind::LidMapping => "lidMappings",
        Kind::PreKey => "preKeys",
        Kind::IdentityKey => "identities",
        Kind::Session => "sessions",
        Kind::SenderKey => "senderKeys",
        Kind::AppStateKey => "appStateKeys",
        Kind::AppStateVersion => "appStateVersions",
        Kind::TcToken => "tcTokens",
        Kind::SenderKeyMemory | Kind::DeviceList => return None,
    })
}

impl Tally {
    pub fn found(&mut self, kind: &str, count: usize) {
        add(&mut self.report.found, kind, count);
    }

    pub fn imported(&mut self, kind: &str, count: usize) {
        self.found(kind, 0);
        add(&mut self.report.imported, kind, count);
    }

    pub fn skip(&mut self, record: &str, reason: impl Into<String>) {
        if self.report.skipped.len() < MAX_LISTED {
            self.report.skipped.push(SkippedRecord { record: short(record), reason: reason.into() });
        } else {
            self.unlisted += 1;
        }
    }

    pub fn warn(&mut self, sentence: impl Into<String>) {
        self.report.warnings.push(sentence.into());
    }

    pub fn missing(&mut self, sentence: impl Into<String>) {
        self.report.missing.push(sentence.into());
    }

    /// Counts something that is told once for all records: `…: {}`.
    pub fn note(&mut self, sentence: &'static str, count: usize) {
        if count > 0 {
            *self.notes.entry(sentence).or_default() += count;
        }
    }

    /// What a source said about itself.
    pub fn about(&mut self, snapshot: &Snapshot) {
        for flaw in &snapshot.unreadable {
            if let Some(kind) = super::names::parse(&flaw.record).and_then(|name| word(name.kind)) {
                self.found(kind, 1);
            }
            self.skip(&flaw.record, flaw.reason.clone());
        }
        if !snapshot.unknown.is_empty() {
            let names: Vec<&str> = snapshot.unknown.iter().map(String::as_str).take(10).collect();
            let more = snapshot.unknown.len() - names.len();
            let mut sentence = format!("not taken over, being of a kind that is not known: {}", names.join(", "));
            if more > 0 {
                let _ = write!(sentence, ", and {more} more");
            }
            self.warn(sentence);
        }
        if let Some(first) = snapshot.twice.first() {
            self.warn(format!(
                "{} records were there twice ({first}); of each, the one that was added last was taken",
                snapshot.twice.len()
            ));
        }
        if snapshot.left_out > 0 {
            self.warn(format!("{} records were left out: there is more than any account has", snapshot.left_out));
        }
        let memory = snapshot.each(Kind::SenderKeyMemory).count();
        self.note(
            "notes on who has our group keys that were left out on purpose, as the keys are sent along once more: {}",
            memory,
        );
        let lists = snapshot.each(Kind::DeviceList).count();
        self.note("lists of devices that were left out, as they are asked for anew: {}", lists);
    }

    pub fn finish(mut self) -> AuthReport {
        for (sentence, count) in self.notes {
            self.report.warnings.push(sentence.replacen("{}", &count.to_string(), 1));
        }
        if self.unlisted > 0 {
            self.report.warnings.push(format!("{} more records were skipped than are listed", self.unlisted));
        }
        self.report
    }
}

fn add(counts: &mut BTreeMap<String, u64>, kind: &str, count: usize) {
    *counts.entry(kind.into()).or_default() += count as u64;
}

/// Which of the ids that the server was given are not there: how many, and the first ranges of them.
pub(super) fn gaps(there: &BTreeSet<u32>, first_unuploaded: u32) -> Option<(u32, String)> {
    let (mut ranges, mut count, mut from): (Vec<(u32, u32)>, u32, u32) = (Vec::new(), 0, 1);
    for id in there.iter().copied().filter(|id| (1..first_unuploaded).contains(id)).chain([first_unuploaded]) {
        if id > from {
            count += id - from;
            ranges.push((from, id - 1));
        }
        from = id.saturating_add(1);
    }
    let said: Vec<String> =
        ranges.iter().take(5).map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") }).collect();
    let more = if ranges.len() > said.len() { ", …" } else { "" };
    (count > 0).then(|| (count, said.join(", ") + more))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_ranges() {
        let there = BTreeSet::from([3, 4, 6, 9, 12]);
        assert_eq!(gaps(&there, 11), Some((6, "1-2, 5, 7-8, 10".into())));
        assert_eq!(gaps(&BTreeSet::from([1, 2]), 3), None);
        assert_eq!(gaps(&BTreeSet::new(), 1), None);
        assert_eq!(gaps(&BTreeSet::new(), 3), Some((2, "1-2".into())));
        assert_eq!(gaps(&BTreeSet::from([u32::MAX]), 1), None);
    }
}
