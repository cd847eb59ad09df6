//! Backup and restore of an embedded installation: everything that was acknowledged before the backup began, copied while
//! the host runs, and put back whole or not at all.
//!
//! ```text
//! backup.json    what belongs to it: every other file with its size and SHA-256. Written last
//! omni.db        the database at one moment
//! media/…        the stored files that it knows
//! plugins/…      plugin files of the data folder
//! auth-snapshots/…  sealed copies of auth state that was taken over
//! omni.key       only when it is asked for, with the key of the command line beside it
//! omni.key.sealed  the same under a passphrase, instead
//! ```
//!
//! A backup is a folder, or one `.tar` file of it. Deliberately not here: when backups are made, and where they are kept.

pub mod passphrase;

use crate::auth_state;
use crate::data::{CLI_KEY_FILE, DataFolder, KEY_FILE, LOCK_FILE, read_keys, write_private};
use crate::secrets::Sealer;
use crate::store::snapshot::{self, Inside};
use crate::store::{StoreError, Time};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use zeroize::Zeroizing;

const MANIFEST: &str = "backup.json";
const DATABASE: &str = "omni.db";
const SEALED: &str = "omni.key.sealed";
const FORMAT: u32 = 1;

/// Why a backup was not made or not put back. Each sentence says what to do.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Something is there already.
    #[error("{0} exists already; name another place for the backup")]
    Exists(PathBuf),
    /// There is nothing to be backed up.
    #[error("there is no database at {0}; name the data folder with --data")]
    NoDatabase(PathBuf),
    /// It is no backup, or not a whole one.
    #[error("{place} is no whole backup: {reason}")]
    Broken {
        /// What was given.
        place: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It is of a newer program.
    #[error(
        "the backup was made by omni {version}, which writes its database in a newer way; restore it with that version or a newer one"
    )]
    Newer {
        /// Which.
        version: String,
    },
    /// The key does not belong to it.
    #[error("the key in {0} does not belong to this backup: its tokens and logins would be lost")]
    OtherKey(PathBuf),
    /// There is no passphrase to open it with.
    #[error("the key in it is under a passphrase: {0}")]
    NoPassphrase(String),
    /// The key in it does not open.
    #[error("the key in {place} does not open: {reason}")]
    Closed {
        /// What was given.
        place: PathBuf,
        /// Why not.
        reason: passphrase::Closed,
    },
    /// The data folder holds something.
    #[error(
        "the data folder {0} is not empty: name another with --data, or add --force to put what is in it aside, \
         into a folder beside it"
    )]
    NotEmpty(PathBuf),
    /// The data folder is used or its key file is bad.
    #[error(transparent)]
    Data(#[from] crate::data::DataError),
    /// The database.
    #[error("{}", .0.explain())]
    Store(#[from] StoreError),
    /// The disk.
    #[error("failed to {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

type Result<T, E = BackupError> = std::result::Result<T, E>;

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_path_buf();
    move |source| BackupError::Io { action, path, source }
}

/// What belongs to a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// How it is laid out.
    pub format: u32,
    /// The program that made it.
    pub version: String,
    /// When it began.
    pub created_at: Time,
    /// The newest step of the database's schema.
    pub schema: i64,
    /// Messages in it.
    pub messages: i64,
    /// Whether the key file is in it.
    pub has_key: bool,
    /// Whether it is so under a passphrase.
    #[serde(default)]
    pub key_sealed: bool,
    /// Every file, by its path in the backup.
    pub files: Vec<Entry>,
    /// Files that the database knows and that were not there.
    pub missing: Vec<String>,
}

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path in the backup.
    pub path: String,
    /// In bytes.
    pub size: u64,
    /// In hex.
    pub sha256: String,
}

/// What is backed up.
#[derive(Clone, Debug)]
pub struct Source {
    /// The data folder.
    pub data: PathBuf,
    /// The database.
    pub database: PathBuf,
    /// Whether the key file goes along.
    pub key: KeyIn,
}

/// Whether and how the key file goes into a backup.
#[derive(Clone, Debug)]
pub enum KeyIn {
    /// It does not.
    Left,
    /// As it is.
    Plain,
    /// Under a passphrase.
    Sealed(Passphrase),
}

/// A passphrase. Wiped when dropped, and never shown.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// One that is long enough; else what is wrong with it.
    pub fn new(words: Zeroizing<String>) -> Result<Self, String> {
        match words.chars().count() {
            long if long >= passphrase::SHORTEST => Ok(Self(words)),
            short => Err(format!("the passphrase has {short} characters; it takes at least {}", passphrase::SHORTEST)),
        }
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// Makes a backup at a place where nothing is yet: a folder, or one file when its name ends in `.tar`. Nothing is left of
/// one that fails.
pub async fn backup(source: &Source, to: &Path, now: Time) -> Result<Manifest> {
    if to.exists() {
        return Err(BackupError::Exists(to.to_path_buf()));
    }
    if !source.database.exists() {
        return Err(BackupError::NoDatabase(source.database.clone()));
    }
    let staging = Staging::beside(to)?;
    let manifest = gather(source, &staging.0, now).await?;
    if is_tar(to) {
        let packed = to.with_extension("tar.partial");
        pack(&staging.0, &packed).map_err(failed("write", &packed))?;
        fs::rename(&packed, to).map_err(failed("write", to))?;
    } else {
        fs::rename(&staging.0, to).map_err(failed("write", to))?;
    }
    sync_folder(to);
    Ok(manifest)
}

fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "tar")
}

/// A folder beside a place, in which something is made ready; gone when it is not needed.
struct Staging(PathBuf);

impl Staging {
    fn beside(place: &Path) -> Result<Self> {
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        let folder = place.with_file_name(format!(".{name}.partial-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder).map_err(failed("create", &folder))?;
        Ok(Self(folder))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Moved to its place, it is not here any more: that is the good case.
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn gather(source: &Source, to: &Path, now: Time) -> Result<Manifest> {
    // The database first: a file that it knows is on the disk already, and files do not change.
    let copy = to.join(DATABASE);
    snapshot::take(&source.database, &copy).await?;
    private(&copy)?;
    let inside = snapshot::inspect(&copy).await?;
    let mut files = vec![entry(to, DATABASE)?];
    let mut missing = Vec::new();
    for file in &inside.files {
        let relative = format!("media/{}", file.path);
        match copy_in(&source.data.join(&relative), to, &relative)? {
            Some(copied) if file.sha256.as_ref().is_none_or(|known| *known == copied.sha256) => files.push(copied),
            _ => missing.push(relative),
        }
    }
    for folder in ["plugins", auth_state::FOLDER] {
        for name in files_in(&source.data.join(folder)) {
            files.extend(copy_in(&source.data.join(folder).join(&name), to, &format!("{folder}/{name}"))?);
        }
    }
    let mut has_key = false;
    match &source.key {
        KeyIn::Left => {}
        KeyIn::Plain => {
            for name in [KEY_FILE, CLI_KEY_FILE] {
                let copied = copy_in(&source.data.join(name), to, name)?;
                has_key |= name == KEY_FILE && copied.is_some();
                files.extend(copied);
            }
        }
        KeyIn::Sealed(passphrase) => {
            let read = |name: &str| Some((name.to_owned(), fs::read_to_string(source.data.join(name)).ok()?));
            let texts: passphrase::Texts = [KEY_FILE, CLI_KEY_FILE].into_iter().filter_map(read).collect();
            has_key = texts.contains_key(KEY_FILE);
            let file = to.join(SEALED);
            let written = fs::write(&file, passphrase::seal(&passphrase.0, &texts));
            written.and_then(|()| File::open(&file)?.sync_all()).map_err(failed("write", &file))?;
            private(&file)?;
            files.push(entry(to, SEALED)?);
        }
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now,
        schema: inside.schema,
        messages: inside.messages,
        has_key,
        key_sealed: matches!(source.key, KeyIn::Sealed(_)),
        files,
        missing,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(io::Error::from).map_err(failed("write", to))?;
    let file = to.join(MANIFEST);
    fs::write(&file, text).and_then(|()| File::open(&file)?.sync_all()).map_err(failed("write", &file))?;
    private(&file)?;
    Ok(manifest)
}

fn private(file: &Path) -> Result<()> {
    fs::set_permissions(file, PermissionsExt::from_mode(0o600)).map_err(failed("close to others", file))
}

fn files_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        // What is being written belongs to nothing yet.
        .filter(|name| !name.ends_with(".partial"))
        .collect();
    names.sort();
    names
}

/// Copies one file; nothing when it is not there.
fn copy_in(from: &Path, folder: &Path, relative: &str) -> Result<Option<Entry>> {
    let to = folder.join(relative);
    if let Some(parent) = to.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed("create", parent))?;
    }
    match fs::copy(from, &to) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("copy", from)(error)),
    }
    File::open(&to).and_then(|file| file.sync_all()).map_err(failed("write", &to))?;
    entry(folder, relative).map(Some)
}

fn entry(folder: &Path, relative: &str) -> Result<Entry> {
    let path = folder.join(relative);
    let (size, sha256) = digest(&path).map_err(failed("read", &path))?;
    Ok(Entry { path: relative.to_owned(), size, sha256 })
}

fn digest(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut buffer, mut size) = (Sha256::new(), vec![0; 256 << 10], 0);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((size, hex::encode(hash.finalize()))),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

fn pack(folder: &Path, to: &Path) -> io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(to)?;
    let mut tar = tar::Builder::new(io::BufWriter::new(file));
    tar.append_dir_all(".", folder)?;
    tar.into_inner()?.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}

fn sync_folder(place: &Path) {
    let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Where a folder cannot be synced there is nothing else to be done.
    let _ = File::open(parent).and_then(|folder| folder.sync_all());
}

/// Where a backup goes back to.
#[derive(Clone, Debug)]
pub struct Target {
    /// The data folder.
    pub data: PathBuf,
    /// Its key file, when it is not in the backup.
    pub key: Option<PathBuf>,
    /// Whether what is in the data folder is put aside.
    pub force: bool,
}

/// What was restored.
#[derive(Clone, Debug)]
pub struct Restored {
    /// What was in the backup.
    pub manifest: Manifest,
    /// Whether the key file is in its place.
    pub has_key: bool,
    /// Where the folder that was there before is now.
    pub aside: Option<PathBuf>,
}

/// Asks for a passphrase. The error is why there is none.
pub type Ask<'a> = &'a mut dyn FnMut() -> Result<Passphrase, String>;

/// Puts a backup back. It is unpacked and checked beside the data folder and then moved to its place: whatever goes wrong
/// before that leaves the data folder as it was. When its key is under a passphrase, that is asked for.
pub async fn restore(from: &Path, target: &Target, ask: Ask<'_>, now: Time) -> Result<Restored> {
    let folder_in_use = !is_empty(&target.data);
    if folder_in_use && !target.force {
        return Err(BackupError::NotEmpty(target.data.clone()));
    }
    let staging = Staging::beside(&target.data)?;
    if from.is_dir() {
        copy_all(from, &staging.0, from)?;
    } else {
        unpack(from, &staging.0)?;
    }
    let manifest = verify(from, &staging.0).await?;
    open_key(from, &staging.0, target, &manifest, ask)?;
    let has_key = put_key(&staging.0, target, &manifest).await?;
    fs::remove_file(staging.0.join(MANIFEST)).map_err(failed("finish", &staging.0))?;
    // Nobody may be using what is put aside, nor begin to.
    let lock = folder_in_use.then(|| DataFolder::lock(&target.data)).transpose()?;
    let aside = match folder_in_use {
        true => {
            let name = target.data.file_name().unwrap_or_default().to_string_lossy();
            let aside = target.data.with_file_name(format!("{name}.before-restore-{}", now.0 / 1_000_000));
            fs::rename(&target.data, &aside).map_err(failed("put aside", &target.data))?;
            Some(aside)
        }
        false => {
            let _ = fs::remove_dir(&target.data);
            None
        }
    };
    if let Err(error) = fs::rename(&staging.0, &target.data) {
        if let Some(aside) = &aside {
            // As it was.
            let _ = fs::rename(aside, &target.data);
        }
        return Err(failed("put in its place", &target.data)(error));
    }
    sync_folder(&target.data);
    drop(lock);
    Ok(Restored { manifest, has_key, aside })
}

/// A folder in which nothing is, but perhaps a lock file of long ago.
fn is_empty(folder: &Path) -> bool {
    let Ok(entries) = fs::read_dir(folder) else { return true };
    entries.flatten().all(|entry| entry.file_name() == LOCK_FILE)
}

fn broken(place: &Path, reason: impl Into<String>) -> BackupError {
    BackupError::Broken { place: place.to_path_buf(), reason: reason.into() }
}

fn unpack(from: &Path, to: &Path) -> Result<()> {
    let file = File::open(from).map_err(failed("open", from))?;
    let mut tar = tar::Archive::new(io::BufReader::new(file));
    for found in tar.entries().map_err(|error| broken(from, error.to_string()))? {
        let mut found = found.map_err(|error| broken(from, error.to_string()))?;
        // Only what a backup is made of: a link or a device could reach out of the folder.
        if !matches!(found.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Directory) {
            return Err(broken(from, "it holds something that is neither a file nor a folder"));
        }
        let inside = found.unpack_in(to).map_err(|error| broken(from, error.to_string()))?;
        if !inside {
            return Err(broken(from, "a path in it leads out of it"));
        }
    }
    Ok(())
}

fn copy_all(from: &Path, to: &Path, whole: &Path) -> Result<()> {
    for found in fs::read_dir(from).map_err(failed("read", from))? {
        let found = found.map_err(failed("read", from))?;
        let kind = found.file_type().map_err(failed("read", from))?;
        let (path, copy) = (found.path(), to.join(found.file_name()));
        if kind.is_dir() {
            fs::DirBuilder::new().mode(0o700).create(&copy).map_err(failed("create", &copy))?;
            copy_all(&path, &copy, whole)?;
        } else if kind.is_file() {
            fs::copy(&path, &copy).map_err(failed("copy", &path))?;
        } else {
            return Err(broken(whole, format!("{} is neither a file nor a folder", path.display())));
        }
    }
    Ok(())
}

/// Whether everything is there, as it was, and nothing else.
async fn verify(place: &Path, folder: &Path) -> Result<Manifest> {
    let text = fs::read(folder.join(MANIFEST)).map_err(|_| broken(place, format!("it has no {MANIFEST}")))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| broken(place, format!("{MANIFEST} cannot be read: {error}")))?;
    if manifest.format != FORMAT || manifest.schema > snapshot::newest_schema() {
        return Err(BackupError::Newer { version: manifest.version });
    }
    let mut told = BTreeSet::from([MANIFEST.to_owned()]);
    for file in &manifest.files {
        if Path::new(&file.path).components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(broken(place, format!("the path {:?} leads out of it", file.path)));
        }
        let path = folder.join(&file.path);
        let (size, sha256) = digest(&path).map_err(|_| broken(place, format!("{} is missing", file.path)))?;
        if size != file.size || sha256 != file.sha256 {
            return Err(broken(place, format!("{} was changed or damaged", file.path)));
        }
        File::open(&path).and_then(|file| file.sync_all()).map_err(failed("write", &path))?;
        if !file.path.starts_with("plugins/") {
            private(&path)?;
        }
        told.insert(file.path.clone());
    }
    let mut found = Vec::new();
    list(folder, folder, &mut found)?;
    if let Some(strange) = found.iter().find(|path| !told.contains(*path)) {
        return Err(broken(place, format!("{strange} is in it and {MANIFEST} does not tell of it")));
    }
    if !told.contains(DATABASE) {
        return Err(broken(place, format!("it has no {DATABASE}")));
    }
    Ok(manifest)
}

fn list(folder: &Path, root: &Path, found: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(failed("read", folder))?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            list(&path, root, found)?;
        } else if let Ok(relative) = path.strip_prefix(root) {
            found.push(relative.to_string_lossy().into_owned());
        }
    }
    Ok(())
}

/// Makes the key files of a sealed one, unless another key was given.
fn open_key(place: &Path, folder: &Path, target: &Target, manifest: &Manifest, ask: Ask<'_>) -> Result<()> {
    if !manifest.key_sealed {
        return Ok(());
    }
    let file = folder.join(SEALED);
    if target.key.is_none() {
        let bytes = fs::read(&file).map_err(|_| broken(place, format!("it has no {SEALED}")))?;
        let passphrase = ask().map_err(BackupError::NoPassphrase)?;
        let closed = |reason| BackupError::Closed { place: place.to_path_buf(), reason };
        for (name, text) in passphrase::open(&passphrase.0, &bytes).map_err(closed)? {
            if name != KEY_FILE && name != CLI_KEY_FILE {
                return Err(broken(place, format!("{SEALED} holds {name:?}")));
            }
            let (key, text) = (folder.join(name), Zeroizing::new(text));
            write_private(&key, text.as_bytes())?;
        }
    }
    fs::remove_file(&file).map_err(failed("finish", &file))
}

/// Puts the key file in its place and checks that it belongs to the database.
async fn put_key(folder: &Path, target: &Target, manifest: &Manifest) -> Result<bool> {
    let inside: Inside = snapshot::inspect(&folder.join(DATABASE)).await?;
    let place = folder.join(KEY_FILE);
    if let Some(given) = &target.key {
        fs::copy(given, &place).map_err(failed("copy", given))?;
        private(&place)?;
    } else if !manifest.has_key {
        return Ok(false);
    }
    let mut keys = read_keys(&place)?.ok_or_else(|| broken(folder, format!("it has no {KEY_FILE}")))?;
    let older = keys.split_off(1);
    let sealer = Sealer::with_older(&keys[0], &older);
    match inside.key_check {
        Some(check) if sealer.verify(&check).is_err() => {
            Err(BackupError::OtherKey(target.key.clone().unwrap_or_else(|| PathBuf::from(KEY_FILE))))
        }
        _ => Ok(true),
    }
}
