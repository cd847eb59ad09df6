//! Auth state that comes from another program, and that is given to one: what the host hands over goes through
//! `baileys` into the store, and back.

use crate::baileys::{self, ExportError, ImportError, Snapshot};
use crate::kv::{Kv, Memory};
use crate::outbound;
use crate::store::Store;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AuthExport, AuthReport, ImportAuth};
use std::io::Read as _;
use std::sync::Arc;

/// Largest record of an archive. A session with forty closed ones has some hundred KiB.
const MOST_OF_RECORD: u64 = 16 << 20;

/// Takes an account over. What it writes is stored when the call ends well.
pub async fn import(ctx: &Context, asked: ImportAuth, now: i64) -> Result<AuthReport, SendError> {
    let mut snapshot = Snapshot::new();
    if matches!(asked.source.as_str(), "evolution" | "omni-v1") {
        snapshot.of_evolution();
    }
    for (table, rows) in &asked.rows {
        snapshot.rows(table, rows);
    }
    for (name, content) in asked.files {
        let bytes = STANDARD.decode(content.as_bytes());
        let bytes =
            bytes.map_err(|error| SendError::invalid(format!("the file {name} did not arrive whole: {error}")))?;
        snapshot.add(&name, bytes);
    }
    if let Some(archive) = &asked.archive {
        unpack(ctx, archive, &mut snapshot).await?;
    }
    let memory = Arc::new(Memory::default());
    let store = Store::new(Arc::clone(&memory) as Arc<dyn Kv>);
    let report = baileys::import(&snapshot, &store, now / 1_000).await.map_err(|error| refused(&error))?;
    if !asked.dry_run {
        for (key, value) in memory.entries() {
            ctx.set(key, value);
        }
    }
    Ok(report)
}

fn refused(error: &ImportError) -> SendError {
    match error {
        ImportError::Store(_) => SendError::internal(error.to_string()),
        _ => SendError::invalid(error.to_string()),
    }
}

/// Adds the files of an archive that the host holds.
async fn unpack(ctx: &Context, archive: &BlobId, snapshot: &mut Snapshot) -> Result<(), SendError> {
    let bytes = outbound::read(ctx, archive).await?;
    let broken = |error: std::io::Error| SendError::invalid(format!("the archive cannot be read: {error}"));
    let mut archive = tar::Archive::new(bytes.as_slice());
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.take(MOST_OF_RECORD + 1).read_to_end(&mut content).map_err(broken)?;
        if content.len() as u64 > MOST_OF_RECORD {
            return Err(SendError::invalid(format!(
                "{name} has more than {MOST_OF_RECORD} bytes; no record of an auth state has"
            )));
        }
        snapshot.add(name.rsplit('/').next().unwrap_or(&name), content);
    }
    Ok(())
}

/// Gives the account away as the files of a Baileys folder.
pub async fn export(ctx: &Context, store: &Store) -> Result<AuthExport, SendError> {
    let export = baileys::export(store, store).await.map_err(|error| match error {
        ExportError::NotPaired => SendError::invalid(error.to_string()),
        ExportError::Store(_) => SendError::internal(error.to_string()),
    })?;
    for warning in &export.warnings {
        ctx.log(LogLevel::Warn, warning.as_str());
    }
    Ok(AuthExport { files: export.files.into_iter().map(|(name, content)| (name, STANDARD.encode(content))).collect() })
}
