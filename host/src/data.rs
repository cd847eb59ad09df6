//! The data folder: one host at a time, readable by its owner alone, with the key that seals what is secret in it.
//!
//! ```text
//! omni.lock    held while a host (or an offline command) uses the folder; says which process
//! omni.key     seals tokens and logins in the database: back it up, apart from the database. While the key is changed
//!              it holds two: a line with the new one, then one with the old
//! omni.db      the database (unless it is configured elsewhere)
//! cli.key      an API key for the command line on this machine
//! host.id      by which other hosts on the same database know this one; a copy of the folder gets another
//! omni.moved   says that the database is in Postgres now, and the file is what it was before
//! ```
//!
//! Deliberately not here: what is in the database, and what is sealed ([`crate::secrets`]).

use crate::secrets::{MasterKey, Sealer};
use rustix::fs::{FlockOperation, flock};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// The key file's name.
pub const KEY_FILE: &str = "omni.key";
/// The lock file's name.
pub const LOCK_FILE: &str = "omni.lock";
/// The file with the key of the command line.
pub const CLI_KEY_FILE: &str = "cli.key";

/// Why the data folder cannot be used. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another process uses it.
    #[error("the data folder {folder} is in use by {}; stop it first, or name another folder with --data", owner(*pid))]
    InUse {
        /// Which folder.
        folder: PathBuf,
        /// By which process, when that could be read.
        pid: Option<u32>,
    },
    /// The key file can be read or changed by others.
    #[error(
        "the key file {file} can be used by others (mode {mode:04o}): run `chmod 600 {file}`, \
         and log your instances in anew if somebody else may have read it"
    )]
    KeyExposed {
        /// Which file.
        file: PathBuf,
        /// Its rights.
        mode: u32,
    },
    /// The key file does not hold a key.
    #[error("the key file {0} is damaged: it must hold a line of 64 hex digits; put it back from your backup")]
    KeyDamaged(PathBuf),
    /// There is a database but no key file.
    #[error(
        "the key file {key} is missing, but the database {database} exists: put the key file back from your backup. \
         Without it the tokens and logins in the database cannot be read again; to begin anew without them, move the \
         database away and start again"
    )]
    KeyLost {
        /// Where it should be.
        key: PathBuf,
        /// What was found.
        database: PathBuf,
    },
    /// The file system refused.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was tried (`create the folder`).
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

fn owner(pid: Option<u32>) -> String {
    match pid {
        Some(pid) => format!("another omni (process {pid})"),
        None => "another omni".into(),
    }
}

type Result<T, E = DataError> = std::result::Result<T, E>;

/// A data folder that this process alone uses, as long as this value lives.
#[derive(Debug)]
pub struct DataFolder {
    /// Where it is.
    pub path: PathBuf,
    /// Seals and opens what is secret.
    pub sealer: Sealer,
    /// Whether the key was made just now.
    pub is_new: bool,
    _lock: Lock,
}

/// A folder that is this process's, until this is dropped.
#[derive(Debug)]
pub struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A process that is just being started may have the file for a moment, too, and would hold the lock.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

impl DataFolder {
    /// Takes the folder for this process: makes it when there is none, locks it, and reads its key, or makes one when
    /// there is neither a key nor a `database` yet. One that is no file is looked at by [`crate::run`].
    pub fn open(path: &Path, database: Option<&Path>) -> Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create the folder", path))?;
        let path = path.canonicalize().map_err(failed("find the folder", path))?;
        let lock = lock(&path)?;
        let key_file = path.join(KEY_FILE);
        let (mut keys, is_new) = match read_keys(&key_file)? {
            Some(keys) => (keys, false),
            None => {
                if let Some(database) = database.filter(|database| has_content(database)) {
                    return Err(DataError::KeyLost { key: key_file, database: database.to_path_buf() });
                }
                let keys = vec![MasterKey::generate()];
                write_keys(&path, &keys)?;
                (keys, true)
            }
        };
        let older = keys.split_off(1);
        Ok(Self { path, sealer: Sealer::with_older(&keys[0], &older), is_new, _lock: lock })
    }

    /// Takes a key that was made just now away again: it is none for the database that was found.
    pub fn forget_new_key(&self) -> Result<()> {
        let file = self.path.join(KEY_FILE);
        if self.is_new { std::fs::remove_file(&file).map_err(failed("take away", &file)) } else { Ok(()) }
    }

    /// Takes the lock of a folder alone, for somebody who is about to move the whole folder away.
    pub fn lock(path: &Path) -> Result<Lock> {
        lock(path)
    }

    /// Where uploaded and fetched files lie.
    pub fn media(&self) -> PathBuf {
        self.path.join("media")
    }

    /// Keeps an API key for the command line on this machine.
    pub fn write_cli_key(&self, key: &str) -> Result<()> {
        write_private(&self.path.join(CLI_KEY_FILE), format!("{key}\n").as_bytes())
    }
}

/// The API key that a host left for the command line, when there is one and it can be read.
pub fn read_cli_key(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join(CLI_KEY_FILE)).ok()?;
    Some(text.trim().to_owned()).filter(|key| !key.is_empty())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataError {
    let path = path.to_path_buf();
    move |source| DataError::Io { action, path, source }
}

fn has_content(file: &Path) -> bool {
    std::fs::metadata(file).is_ok_and(|found| found.len() > 0)
}

fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failed("open the lock file", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            // The pid is there to help; the lock decides.
            let _ = file.take(32).read_to_string(&mut text);
            return Err(DataError::InUse { folder: folder.to_path_buf(), pid: text.trim().parse().ok() });
        }
        Err(error) => return Err(failed("lock", &path)(error.into())),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("write the lock file", &path))?;
    Ok(Lock(file))
}

/// Most keys that a key file holds.
const MOST_KEYS: usize = 4;

/// The keys of a key file, the one that seals first; nothing when there is no such file.
pub fn read_keys(path: &Path) -> Result<Option<Vec<MasterKey>>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("open the key file", path)(error)),
    };
    let mode = file.metadata().map_err(failed("look at the key file", path))?.mode() & 0o777;
    // A group that may only read is how some orchestrators hand secrets in.
    if mode & 0o027 != 0 {
        return Err(DataError::KeyExposed { file: path.to_path_buf(), mode });
    }
    let damaged = || DataError::KeyDamaged(path.to_path_buf());
    let mut text = Zeroizing::new(String::with_capacity(512));
    (&mut file).take(512).read_to_string(&mut text).map_err(|_| damaged())?;
    let keys: Option<Vec<MasterKey>> = text.split_whitespace().map(MasterKey::from_hex).collect();
    match keys {
        Some(keys) if (1..=MOST_KEYS).contains(&keys.len()) => Ok(Some(keys)),
        _ => Err(damaged()),
    }
}

/// Puts keys into the key file of a data folder, the one that seals first: all of them or none, and durable when this
/// returns.
pub fn write_keys(folder: &Path, keys: &[MasterKey]) -> Result<()> {
    let mut text = Zeroizing::new(String::with_capacity(512));
    for key in keys {
        text.push_str(&key.to_hex());
        text.push('\n');
    }
    write_private(&folder.join(KEY_FILE), text.as_bytes())
}

/// Writes a file that only its owner may read: whole or not at all, and durable when this returns.
pub(crate) fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let fresh = path.with_extension("new");
    let write = || -> io::Result<()> {
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(content)?;
        file.sync_all()?;
        std::fs::rename(&fresh, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(failed("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).expect("it exists").mode() & 0o777
    }

    fn open(folder: &Path) -> Result<DataFolder> {
        DataFolder::open(folder, Some(&folder.join("omni.db")))
    }

    #[test]
    fn a_first_start_makes_a_private_folder_with_a_private_key_that_stays() {
        let home = tempfile::tempdir().expect("temporary folder");
        let folder = home.path().join("a/data");
        let first = open(&folder).expect("opens");
        assert!(first.is_new);
        assert_eq!((mode(&folder), mode(&folder.join(KEY_FILE)), mode(&folder.join(LOCK_FILE))), (0o700, 0o600, 0o600));
        let sealed = first.sealer.seal("x", b"token");
        drop(first);
        let second = open(&folder).expect("opens again");
        assert!(!second.is_new);
        assert_eq!(&*second.sealer.open("x", &sealed).expect("the same key"), b"token");
    }

    #[test]
    fn a_second_host_is_refused_by_the_first_ones_pid_until_it_ends() {
        let home = tempfile::tempdir().expect("temporary folder");
        let first = open(home.path()).expect("opens");
        let error = open(home.path()).expect_err("is refused").to_string();
        assert!(error.contains(&format!("in use by another omni (process {})", std::process::id())), "{error}");
        drop(first);
        open(home.path()).expect("opens once the first has ended");
    }

    #[test]
    fn a_file_that_a_process_being_started_still_has_stops_nobody() {
        let home = tempfile::tempdir().expect("temporary folder");
        let first = open(home.path()).expect("opens");
        let shared = first._lock.0.try_clone().expect("as by a fork");
        drop(first);
        open(home.path()).expect("opens once the first has ended");
        drop(shared);
    }

    #[test]
    fn a_lock_file_left_by_a_dead_host_stops_nobody() {
        let home = tempfile::tempdir().expect("temporary folder");
        std::fs::write(home.path().join(LOCK_FILE), "999999999\n").expect("writes");
        open(home.path()).expect("opens");
        let text = std::fs::read_to_string(home.path().join(LOCK_FILE)).expect("reads");
        assert_eq!(text.trim(), std::process::id().to_string());
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_what_to_do() {
        let home = tempfile::tempdir().expect("temporary folder");
        drop(open(home.path()).expect("opens"));
        let key = home.path().join(KEY_FILE);
        for bad in [0o644, 0o604, 0o660] {
            std::fs::set_permissions(&key, Permissions::from_mode(bad)).expect("chmod");
            let error = open(home.path()).expect_err("is refused").to_string();
            assert!(error.contains(&format!("mode {bad:04o}")) && error.contains("chmod 600"), "{error}");
        }
        for good in [0o600, 0o400, 0o440] {
            std::fs::set_permissions(&key, Permissions::from_mode(good)).expect("chmod");
            open(home.path()).expect("opens");
        }
    }

    #[test]
    fn a_damaged_or_missing_key_is_never_replaced() {
        let home = tempfile::tempdir().expect("temporary folder");
        drop(open(home.path()).expect("opens"));
        let key = home.path().join(KEY_FILE);
        let good = std::fs::read(&key).expect("reads");
        for bad in [&b""[..], b"hello", &good[..63], &[0xff; 64]] {
            std::fs::write(&key, bad).expect("writes");
            assert!(matches!(open(home.path()), Err(DataError::KeyDamaged(_))));
            assert_eq!(std::fs::read(&key).expect("reads"), bad);
        }
        std::fs::remove_file(&key).expect("removes");
        std::fs::write(home.path().join("omni.db"), "rows").expect("writes");
        let error = open(home.path()).expect_err("is refused").to_string();
        assert!(error.contains("from your backup") && error.contains("cannot be read again"), "{error}");
        assert!(!key.exists());
    }

    #[test]
    fn the_command_lines_key_is_private_and_comes_back() {
        let home = tempfile::tempdir().expect("temporary folder");
        let folder = open(home.path()).expect("opens");
        assert_eq!(read_cli_key(home.path()), None);
        folder.write_cli_key("omni_sk_one").expect("writes");
        folder.write_cli_key("omni_sk_two").expect("writes");
        assert_eq!(mode(&home.path().join(CLI_KEY_FILE)), 0o600);
        assert_eq!(read_cli_key(home.path()).as_deref(), Some("omni_sk_two"));
    }
}
