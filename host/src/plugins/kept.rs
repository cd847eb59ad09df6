//! Small lists of an operator's that the command line keeps and a running host reads: TOML, written whole or not at all.

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Such a list is a few kilobytes.
const MAX_SIZE: u64 = 1 << 20;

/// The text of a list; nothing when there is none. `what` is what people call it. The error says what to do.
pub(super) fn read(path: &Path, what: &str) -> Result<Option<String>, String> {
    let failed = |error: io::Error| format!("{what} {} cannot be read: {error}", path.display());
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if metadata.mode() & 0o002 != 0 {
        return Err(format!("everybody on this machine may write {what}; run: chmod o-w {}", path.display()));
    }
    if metadata.len() > MAX_SIZE {
        return Err(format!("{what} {} is too large to be one", path.display()));
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

/// Reads TOML; the error says in which line it is wrong.
pub(super) fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(0, |span| span.start);
        let line = text.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
        format!("line {line}: {}", error.message())
    })
}

/// Reads a list, changes it and writes it; two that do so at the same time wait for each other.
pub(super) fn change<L: Clone + PartialEq + Serialize, T>(
    path: &Path,
    what: &str,
    header: &str,
    read: impl FnOnce(&Path) -> Result<L, String>,
    change: impl FnOnce(&mut L) -> T,
) -> Result<T, String> {
    let failed = |error: io::Error| format!("{what} {} cannot be written: {error}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let held = File::open(folder).map_err(failed)?;
    flock(&held, FlockOperation::LockExclusive).map_err(|error| failed(error.into()))?;
    let mut list = read(path)?;
    let before = list.clone();
    let outcome = change(&mut list);
    if list != before {
        write(path, header, &list).map_err(failed)?;
    }
    Ok(outcome)
}

/// Writes a list: whole or not at all, for its owner to change and everybody to read.
pub(super) fn write<L: Serialize>(path: &Path, header: &str, list: &L) -> io::Result<()> {
    let body = toml::to_string(list).map_err(io::Error::other)?;
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&fresh)?;
        file.write_all(header.as_bytes())?;
        file.write_all(body.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    })();
    if written.is_err() {
        // It may not even be there; the error that counts is the first one.
        let _ = fs::remove_file(&fresh);
    }
    written
}
