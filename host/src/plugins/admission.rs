//! What has to be true of a file before any of it is run: one pipeline, one sentence for each way to fail.
//!
//! A file is read once; what was read is what is hashed, checked and copied, so that swapping it in between changes
//! nothing. The copy under its hash is what is opened: the original may be overwritten at any time.

use super::config_schema;
use super::manifest::{component, glibc_here, is_wasm, native};
use super::trust::{self, Candidate, TrustOptions, Trusted};
use omni_channel_sdk::manifest::{Manifest, NATIVE_ABI, SDK_VERSION, Secrets, WASM_ABI};
use sha2::{Digest, Sha256};
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// No plugin is larger; a debug build of a large one has 100 MB.
const MAX_FILE: u64 = 512 << 20;

/// A file that may be opened.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// What it says about itself.
    pub manifest: Manifest,
    /// The copy that is opened.
    pub copy: PathBuf,
}

/// A file that may not be opened.
#[derive(Clone, Debug)]
pub struct Refused {
    /// What was found, what is needed, what to do.
    pub reason: String,
    /// Whether it is what may be done with the file that is wrong, and not what is in it: then what was opened under its
    /// name before is not to go on either.
    pub distrusted: bool,
    /// Its SHA-256, when it was read that far.
    pub sha256: Option<String>,
    /// What it says about itself, when that could be read.
    pub manifest: Option<Box<Manifest>>,
}

/// The longest reason, in characters: it may quote what is in the file.
const MAX_REASON: usize = 500;

impl Refused {
    /// Refused for what is in the file.
    pub fn damaged(reason: String) -> Self {
        let mut reason = reason.replace(char::is_control, "�");
        if let Some((end, _)) = reason.char_indices().nth(MAX_REASON) {
            reason.truncate(end);
            reason.push('…');
        }
        Self { reason, distrusted: false, sha256: None, manifest: None }
    }

    fn place(reason: String) -> Self {
        Self { distrusted: true, ..Self::damaged(reason) }
    }

    /// With what is known of the file all the same.
    pub fn of(self, sha256: &str, manifest: &Manifest) -> Self {
        Self { sha256: Some(sha256.to_owned()), manifest: Some(Box::new(manifest.clone())), ..self }
    }
}

/// Checks a file and copies it under its hash into `cache`.
pub fn admit(file: &Path, bundled: bool, cache: &Path, trust: &TrustOptions) -> Result<(Admitted, Trusted), Refused> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let metadata = check_place(folder, file).map_err(Refused::place)?;
    let bytes = read(file, &metadata).map_err(Refused::damaged)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    let manifest = inspect(&bytes, &sha256)?;
    let candidate = Candidate { file, bytes: &bytes, sha256: &sha256, manifest: &manifest, bundled };
    let trusted = trust::judge(trust, candidate).map_err(|reason| Refused::place(reason).of(&sha256, &manifest))?;
    let copy = store_copy(cache, &sha256, &bytes).map_err(|error| {
        Refused::damaged(format!("it could not be copied into {}: {error}", cache.display())).of(&sha256, &manifest)
    })?;
    Ok((Admitted { sha256, manifest, copy }, trusted))
}

/// Whether what is in a file can be opened here, whoever put it there.
pub(crate) fn inspect(bytes: &[u8], sha256: &str) -> Result<Manifest, Refused> {
    let refused = |reason| Refused { sha256: Some(sha256.to_owned()), ..Refused::damaged(reason) };
    let (manifest, glibc, abi) = if is_wasm(bytes) {
        (component(bytes).map_err(refused)?, None, WASM_ABI)
    } else {
        let found = native(bytes).map_err(refused)?;
        (found.manifest, found.glibc, NATIVE_ABI)
    };
    check_fit(&manifest, abi, glibc).map_err(|reason| Refused::damaged(reason).of(sha256, &manifest))?;
    Ok(manifest)
}

fn check_fit(manifest: &Manifest, abi: &str, glibc: Option<(u32, u32)>) -> Result<(), String> {
    check_manifest(manifest, abi)?;
    match (glibc, glibc_here()) {
        (Some(needs), Some(has)) if needs > has => Err(format!(
            "it needs glibc {}.{}, this machine has {}.{}; build it on an older system",
            needs.0, needs.1, has.0, has.1
        )),
        _ => Ok(()),
    }
}

fn check_place(folder: &Path, file: &Path) -> Result<Metadata, String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let link = fs::symlink_metadata(file).map_err(unreadable)?;
    if link.file_type().is_symlink() {
        let target = fs::canonicalize(file).map_err(|error| format!("it is a link that leads nowhere: {error}"))?;
        let folder = fs::canonicalize(folder).map_err(unreadable)?;
        if !target.starts_with(&folder) {
            return Err(format!(
                "it is a link out of the plugins folder, to {}; put the file itself there",
                target.display()
            ));
        }
    }
    let metadata = fs::metadata(file).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("it is not a regular file".into());
    }
    let writable = |metadata: &Metadata| metadata.mode() & 0o002 != 0;
    if writable(&metadata) {
        return Err(format!("everybody on this machine may overwrite it; run: chmod o-w {}", file.display()));
    }
    let folder_metadata = fs::metadata(folder).map_err(unreadable)?;
    if writable(&folder_metadata) {
        return Err(format!(
            "everybody on this machine may put files into its folder; run: chmod o-w {}",
            folder.display()
        ));
    }
    let me = rustix::process::geteuid().as_raw();
    if metadata.uid() != me && metadata.uid() != 0 {
        return Err(format!(
            "it belongs to user {}, not to the user that runs the host ({me}) or root",
            metadata.uid()
        ));
    }
    if metadata.len() > MAX_FILE {
        return Err(format!("it has {} bytes; a plugin has at most {MAX_FILE}", metadata.len()));
    }
    Ok(metadata)
}

fn read(file: &Path, metadata: &Metadata) -> Result<Vec<u8>, String> {
    let unreadable = |error: io::Error| format!("it cannot be read: {error}");
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    File::open(file).map_err(unreadable)?.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn check_manifest(manifest: &Manifest, abi: &str) -> Result<(), String> {
    if manifest.manifest != 1 {
        return Err(format!(
            "its manifest has format {}, this host reads format 1; a newer host may load it",
            manifest.manifest
        ));
    }
    if manifest.abi != abi {
        return Err(format!("it speaks {:?}, this host speaks {abi:?}; rebuild it", manifest.abi));
    }
    // In a sandbox a panic is a trap in any case.
    if abi == NATIVE_ABI && manifest.panic != "unwind" {
        return Err("it is built with panic = \"abort\", so that a panic in it would end the host; \
                    rebuild it with panic = \"unwind\""
            .into());
    }
    if abi == WASM_ABI && manifest.channel.secrets == Secrets::Plain {
        return Err(
            "it asks for its secrets in clear, which no plugin in a sandbox gets; take \"secrets\" out of its \
                    channel.json, and use them in addresses and headers as they are"
                .into(),
        );
    }
    check_sdk(&manifest.sdk)?;
    let id = &manifest.channel.id;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() || id.len() > 50 || !id.chars().all(good) {
        return Err(format!("its channel id {id:?} is not 1 to 50 lower-case letters, digits and dashes"));
    }
    config_schema::check(&manifest.channel.config_schema)
}

/// Within one major version everything loads; the frames say what the other side does not know.
fn check_sdk(sdk: &str) -> Result<(), String> {
    let major = |version: &str| version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    let here = major(SDK_VERSION).expect("the SDK's own version is semver");
    match major(sdk) {
        None => Err(format!("the SDK version {sdk:?} in its manifest is no version")),
        Some(there) if there > here => {
            Err(format!("it is built against SDK {sdk}, this host has {SDK_VERSION}; it needs a newer host"))
        }
        Some(there) if there < here => {
            Err(format!("it is built against SDK {sdk}, this host needs {here}.x; rebuild it with the current SDK"))
        }
        Some(_) => Ok(()),
    }
}

/// Copies under the hash, readable by us alone; a copy that is there already is good, for its name is its content.
fn store_copy(cache: &Path, sha256: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let end = if is_wasm(bytes) { "wasm" } else { "so" };
    let copy = cache.join(format!("{sha256}.{end}"));
    if fs::metadata(&copy).is_ok_and(|there| there.len() == bytes.len() as u64) {
        return Ok(copy);
    }
    // Two files with one content may be copied at the same time.
    static COPIES: AtomicU64 = AtomicU64::new(0);
    let number = COPIES.fetch_add(1, Ordering::Relaxed);
    let partial = cache.join(format!("{sha256}.{}-{number}.partial", std::process::id()));
    let _ = fs::remove_file(&partial);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o500).open(&partial)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&partial, &copy)?;
    Ok(copy)
}
