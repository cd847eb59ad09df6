//! Taking over and giving away what an account logs in with. There is nothing to log in to: what comes is kept as it is, so
//! that the way through the host can be tried.
//!
//! A file called `bad` is refused, one that begins with `broken-` is left behind. It writes in a dry run as well: that nothing
//! of it stays is the host's to see to.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use omni_channel_sdk::ids::BlobId;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AuthExport, AuthReport, ImportAuth, SkippedRecord};
use std::collections::BTreeMap;

const PREFIX: &str = "auth/";
const PAGE: u32 = 100;
const PIECE: u32 = 1 << 20;
const BLOCK: u64 = 512;

/// Keeps what came.
pub async fn import(ctx: &Context, asked: ImportAuth) -> Result<AuthReport, SendError> {
    let mut report = AuthReport::default();
    for (table, rows) in &asked.rows {
        *report.found.entry("rows".into()).or_default() += rows.len() as u64;
        ctx.set(format!("{PREFIX}{table}.rows"), BASE64.encode(json!(rows).to_string()));
        *report.imported.entry("rows".into()).or_default() += rows.len() as u64;
    }
    for (name, content) in asked.files {
        take(ctx, name, content, &mut report)?;
    }
    if let Some(archive) = &asked.archive {
        let mut at = 0;
        while let Some((name, content, next)) =
            entry(ctx, archive, at).await.map_err(|error| SendError::invalid(error.to_string()))?
        {
            take(ctx, name, BASE64.encode(content), &mut report)?;
            at = next;
        }
    }
    let count = |kind: &str| report.imported.get(kind).copied().unwrap_or(0);
    report.paired = count("creds") > 0 || asked.rows.contains_key("Session");
    if report.paired && count("files") == 0 {
        report.missing.push("keys: there are none".into());
    }
    Ok(report)
}

fn take(ctx: &Context, name: String, content: String, report: &mut AuthReport) -> Result<(), SendError> {
    let kind = if name.starts_with("creds") { "creds" } else { "files" };
    *report.found.entry(kind.into()).or_default() += 1;
    if name == "bad" {
        return Err(SendError::invalid("the file bad is no good"));
    }
    if name.starts_with("broken-") {
        report.skipped.push(SkippedRecord { record: name, reason: "it is broken".into() });
        return Ok(());
    }
    ctx.set(format!("{PREFIX}{name}"), content);
    *report.imported.entry(kind.into()).or_default() += 1;
    Ok(())
}

/// The next file of a tar archive from a place on, and the place behind it.
async fn entry(ctx: &Context, archive: &BlobId, mut at: u64) -> Result<Option<(String, Vec<u8>, u64)>, HostError> {
    let mut long = None;
    loop {
        let (header, _) = ctx.media_get(archive, at, BLOCK as u32).await?;
        let text = |from: usize, to: usize| header.get(from..to).unwrap_or_default().split(|byte| *byte == 0).next();
        let name = String::from_utf8_lossy(text(0, 100).unwrap_or_default()).into_owned();
        if header.len() < BLOCK as usize || name.is_empty() {
            return Ok(None);
        }
        let size = String::from_utf8_lossy(text(124, 136).unwrap_or_default()).trim().to_owned();
        let size = u64::from_str_radix(&size, 8).map_err(|_| HostError("the archive is damaged".into()))?;
        let mut content = Vec::new();
        while (content.len() as u64) < size {
            let left = u32::try_from(size - content.len() as u64).unwrap_or(PIECE).min(PIECE);
            let (piece, _) = ctx.media_get(archive, at + BLOCK + content.len() as u64, left).await?;
            if piece.is_empty() {
                return Err(HostError("the archive ends early".into()));
            }
            content.extend(piece);
        }
        at += BLOCK + size.next_multiple_of(BLOCK);
        if header[156] == b'L' {
            content.retain(|byte| *byte != 0);
            long = Some(String::from_utf8_lossy(&content).into_owned());
            continue;
        }
        return Ok(Some((long.unwrap_or(name), content, at)));
    }
}

/// Gives back what came.
pub async fn export(ctx: &Context) -> Result<AuthExport, HostError> {
    let mut files = BTreeMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = ctx.scan(PREFIX, after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        files.extend(page.into_iter().map(|(key, content)| {
            (key.trim_start_matches(PREFIX).to_owned(), String::from_utf8_lossy(&content).into_owned())
        }));
    }
    Ok(AuthExport { files })
}
