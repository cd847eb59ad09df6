//! What was handed in, as it comes: sealed at once, counted and summed, and in memory only as far as a plugin gets it whole.

use super::tree;
use crate::sealed_file::{Reader, Writer};
use crate::secrets::MasterKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use omni_channel_sdk::ids::BlobId;
use omni_channel_sdk::request::ImportAuth;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use uuid::Uuid;

/// The entry of an archive that says what the rest is. It comes first.
pub const HEAD: &str = "import.json";
/// Files that have more than this together go to the plugin as an archive.
const INLINE: u64 = 8 << 20;
/// Largest file.
const MOST_FILE: u64 = 32 << 20;
/// Most bytes of rows.
const MOST_ROWS: usize = 32 << 20;
/// Most files.
const MOST_FILES: usize = 1_000_000;
/// Longest name of a file.
const MOST_NAME: usize = 1_024;

/// What is handed in beside the files.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Head {
    /// Which program it comes from.
    pub source: String,
    /// Database rows: table → rows.
    #[serde(default)]
    pub rows: BTreeMap<String, Vec<Value>>,
    /// Which of its stores were used, and what for; goes into the report.
    #[serde(default)]
    pub used: Vec<Value>,
}

/// Why it was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It is wrong: the sentence says what.
    #[error("{0}")]
    Wrong(String),
    /// It broke off, or the disk failed.
    #[error("what was handed in could not be kept: {0}")]
    Io(#[from] io::Error),
}

fn wrong(sentence: impl Into<String>) -> NotTaken {
    NotTaken::Wrong(sentence.into())
}

/// What is coming in.
pub struct Incoming {
    id: Uuid,
    folder: PathBuf,
    key: MasterKey,
    head: Head,
    writer: Writer,
    sums: BTreeMap<String, [u8; 32]>,
    bytes: u64,
    /// All of them, as long as they are few.
    inline: Option<BTreeMap<String, String>>,
}

impl Incoming {
    /// Begins, in the folder of sealed copies.
    pub fn begin(id: Uuid, folder: &Path, head: Head) -> Result<Self, NotTaken> {
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if head.source.is_empty() || head.source.len() > 40 || !head.source.chars().all(is_name) {
            return Err(wrong("source: must name the program that it comes from, such as `baileys`"));
        }
        let text = serde_json::to_vec(&head).map_err(io::Error::from)?;
        if text.len() > MOST_ROWS {
            return Err(wrong(format!("rows: have more than the {MOST_ROWS} bytes that are taken")));
        }
        let key = MasterKey::generate();
        let name = id.simple().to_string();
        let writer = Writer::create(folder.join(format!("{name}.partial")), &name, &key, &text)?;
        let folder = folder.to_path_buf();
        Ok(Self { id, folder, key, head, writer, sums: BTreeMap::new(), bytes: 0, inline: Some(BTreeMap::new()) })
    }

    /// Takes one file.
    pub fn file(&mut self, name: &str, content: &[u8]) -> Result<(), NotTaken> {
        if name.is_empty() || name.len() > MOST_NAME || name.contains('\0') {
            return Err(wrong(format!("a file has a name of {} bytes; 1 to {MOST_NAME} are taken", name.len())));
        }
        if content.len() as u64 > MOST_FILE {
            return Err(wrong(format!("the file {name:?} has more than the {MOST_FILE} bytes that are taken")));
        }
        if self.sums.len() >= MOST_FILES {
            return Err(wrong(format!("there are more than {MOST_FILES} files")));
        }
        if self.sums.insert(name.to_owned(), Sha256::digest(content).into()).is_some() {
            return Err(wrong(format!("the file {name:?} is in it twice")));
        }
        self.bytes += content.len() as u64;
        if self.bytes > INLINE {
            self.inline = None;
        }
        if let Some(inline) = &mut self.inline {
            inline.insert(name.to_owned(), BASE64.encode(content));
        }
        Ok(tree::append(&mut self.writer, name, content)?)
    }

    /// All of it is there.
    pub fn end(mut self) -> Result<Snapshot, NotTaken> {
        tree::end(&mut self.writer)?;
        self.writer.finish()?;
        let mut sum = Sha256::new();
        let mut part = |bytes: &[u8]| {
            sum.update((bytes.len() as u64).to_le_bytes());
            sum.update(bytes);
        };
        part(self.head.source.as_bytes());
        part(&serde_json::to_vec(&self.head.rows).map_err(io::Error::from)?);
        for (name, content) in &self.sums {
            part(name.as_bytes());
            part(content);
        }
        let Self { id, folder, key, head, writer, sums, bytes, inline } = self;
        let files = sums.len();
        Ok(Snapshot { id, sha256: hex::encode(sum.finalize()), head, files, bytes, key, inline, writer, folder })
    }

    /// Takes a tar archive, whose first entry is [`HEAD`].
    pub fn from_archive(id: Uuid, folder: &Path, archive: impl Read) -> Result<Snapshot, NotTaken> {
        let mut archive = tar::Archive::new(archive);
        let mut incoming: Option<Self> = None;
        let broken = |error: io::Error| match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::Other | io::ErrorKind::InvalidData => {
                wrong(format!("the body is no whole tar archive: {error}"))
            }
            _ => NotTaken::Io(error),
        };
        for entry in archive.entries().map_err(broken)? {
            let mut entry = entry.map_err(broken)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8(entry.path_bytes().into_owned())
                .map_err(|_| wrong("a file has a name that is not UTF-8"))?;
            let most = if incoming.is_none() { MOST_ROWS as u64 } else { MOST_FILE };
            if entry.size() > most {
                return Err(wrong(format!("the file {name:?} has more than the {most} bytes that are taken")));
            }
            let mut content = zeroize::Zeroizing::new(Vec::with_capacity(usize::try_from(entry.size()).unwrap_or(0)));
            entry.read_to_end(&mut content).map_err(broken)?;
            match &mut incoming {
                Some(incoming) => incoming.file(name.strip_prefix("./").unwrap_or(&name), &content)?,
                None if name.trim_start_matches("./") == HEAD => {
                    let head = serde_json::from_slice(&content)
                        .map_err(|error| wrong(format!("{HEAD} is not what it should be: {error}")))?;
                    incoming = Some(Self::begin(id, folder, head)?);
                }
                None => return Err(wrong(format!("the archive begins with {name:?}; its first entry must be {HEAD}"))),
            }
        }
        incoming.ok_or_else(|| wrong(format!("the archive is empty; its first entry must be {HEAD}")))?.end()
    }
}

/// What was handed in, whole. Its sealed copy is gone when this is dropped before it is kept.
pub struct Snapshot {
    /// Its id, and the name of its copy.
    pub id: Uuid,
    /// What it is known by.
    pub sha256: String,
    /// What it is beside its files.
    pub head: Head,
    /// How many files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Opens its copy.
    pub key: MasterKey,
    inline: Option<BTreeMap<String, String>>,
    writer: Writer,
    folder: PathBuf,
}

/// An archive that a plugin may read: under which id, and from where.
pub type Archive = (Uuid, Arc<Reader>);

impl Snapshot {
    /// What the plugin is asked, and the archive that it may read then.
    pub fn request(&mut self, dry_run: bool) -> io::Result<(ImportAuth, Option<Archive>)> {
        let Head { source, rows, .. } = self.head.clone();
        let request = ImportAuth { source, rows, dry_run, ..ImportAuth::default() };
        match self.inline.take() {
            Some(files) => Ok((ImportAuth { files, ..request }, None)),
            None => {
                let (reader, _) = Reader::open(self.writer.path(), &self.id.simple().to_string(), &self.key)?;
                let archive = Some(BlobId::new(self.id));
                Ok((ImportAuth { archive, ..request }, Some((self.id, Arc::new(reader)))))
            }
        }
    }

    /// Bytes of the copy's content.
    pub fn size(&self) -> u64 {
        self.writer.size()
    }

    /// Moves the copy to its place; gives that back.
    pub fn keep(&mut self) -> io::Result<PathBuf> {
        let to = self.folder.join(self.id.simple().to_string());
        self.writer.keep(&to)?;
        Ok(to)
    }
}
