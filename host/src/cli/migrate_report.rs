//! What was taken over, for people: tables that fit, and what to do next.

use super::Result;
use super::ui::{Ui, pick, shorten};
use crate::auth_state::Report;
use std::collections::BTreeSet;

/// Records that are shown one by one.
const SHOWN: usize = 20;

pub(super) fn show(report: &Report, instance: &str, connects: bool, ui: &mut Ui) -> Result<()> {
    let account = report.profile.as_ref().map(|profile| match &profile.name {
        Some(name) => format!("{name} ({})", profile.id),
        None => profile.id.to_string(),
    });
    ui.pairs(&[
        ("Instance", report.instance.clone()),
        ("From", report.program.clone()),
        ("Account", account.unwrap_or_default()),
        ("Logged in", if report.paired { "yes: it connects without a new login" } else { "" }.to_owned()),
        ("Snapshot", shorten(&report.snapshot, 17)),
    ])?;
    if !report.source.is_empty() {
        ui.line("")?;
        let rows = report
            .source
            .iter()
            .map(|store| ["/store", "/place", "/records", "/for"].map(|field| pick(store, &[field])).to_vec());
        ui.table(&["STORE", "PLACE", "RECORDS", "USED FOR"], rows.collect(), "")?;
    }
    let kinds: BTreeSet<&String> = report.found.keys().chain(report.written.keys()).collect();
    if !kinds.is_empty() {
        ui.line("")?;
        let number = |of: Option<&u64>| of.map(u64::to_string).unwrap_or_default();
        let written = if report.dry_run { "WOULD BE WRITTEN" } else { "WRITTEN" };
        let row = |kind: &String| vec![kind.clone(), number(report.found.get(kind)), number(report.written.get(kind))];
        ui.table(&["RECORDS", "FOUND", written], kinds.into_iter().map(row).collect(), "")?;
    }
    if !report.skipped.is_empty() {
        ui.line("")?;
        let row = |skipped: &omni_channel_sdk::request::SkippedRecord| {
            vec![shorten(&skipped.record, 48), skipped.reason.clone()]
        };
        ui.table(&["LEFT BEHIND", "WHY"], report.skipped.iter().take(SHOWN).map(row).collect(), "")?;
        if report.skipped.len() > SHOWN {
            ui.note(&format!("and {} more (--json lists them all)", report.skipped.len() - SHOWN))?;
        }
    }
    for missing in &report.missing {
        ui.note(&format!("missing: {missing}"))?;
    }
    for warning in &report.warnings {
        ui.note(&format!("warning: {warning}"))?;
    }
    match (report.dry_run, report.already_imported) {
        (_, true) => ui.note("this very snapshot is what the instance has; nothing was changed"),
        (true, false) => ui.note("nothing was written. Next: the same without --dry-run, once the other program is stopped"),
        (false, false) if connects => Ok(()),
        (false, false) => ui.note(&format!(
            "next: omni instances connect {instance}   (the way back, until something is sent: omni migrate auth --undo \
             --instance {instance})"
        )),
    }
}
