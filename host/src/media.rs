//! The media store: a folder of files named by our ids, filled as streams, with a row for each.
//!
//! A file appears under its name only when it is whole, and its bytes count against a quota. Deliberately not here: when
//! a network's file is fetched (`fetch`) and how one is opened that is sealed (`sealed`), when a file goes (`collect`), and who may read one (the API).

mod collect;
mod fetch;
mod sealed;
#[cfg(test)]
mod tests;

pub use collect::{run as keep_collected, sweep};
pub use fetch::run as fetch_due;

use crate::clock::Clock;
use crate::store::files::{self, FileRow};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::fs;
use tokio::io::AsyncWriteExt;
use uuid::Uuid;

/// A file that is stored.
#[derive(Clone, Debug)]
pub struct StoredMedia {
    /// Its id: the `blob` of the wire types.
    pub id: Uuid,
    /// Through which instance it came, or is to go.
    pub instance_id: Uuid,
    /// MIME type, if known.
    pub mime_type: Option<String>,
    /// Its name, if it has one.
    pub file_name: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// Where it lies.
    pub path: PathBuf,
}

/// Why a file was not stored or found.
#[derive(Debug, thiserror::Error)]
pub enum MediaError {
    /// Larger than allowed: limit in bytes.
    #[error("the file is larger than the {0} bytes that are allowed")]
    TooLarge(u64),
    /// The quota is used up by files that are still needed.
    #[error("there is no room for the file: stored files may take {0} bytes (`retention.media_quota`)")]
    Full(u64),
    /// There is no such file, or it has not been fetched yet.
    #[error("there is no stored media {0}")]
    NotFound(Uuid),
    /// There was one.
    #[error("the media {0} is no longer kept")]
    Gone(Uuid),
    /// The stream broke off.
    #[error("the file broke off: {0}")]
    Stream(String),
    /// It is sealed and does not open.
    #[error("the file does not open: {0}")]
    Sealed(#[from] sealed::Broken),
    /// The disk failed.
    #[error("failed to use the media folder: {0}")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MediaStore(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    store: Store,
    clock: Clock,
    /// Bytes of stored files at most.
    quota: u64,
    /// Bytes of stored files, as the rows say.
    stored: AtomicU64,
    /// Bytes of files that are being written.
    writing: AtomicU64,
    /// The files that are on the disk without a row that says so yet.
    open: Mutex<HashSet<Uuid>>,
    /// Held by the one who makes room.
    making_room: tokio::sync::Mutex<()>,
}

/// A file that was written, not yet in any row. It counts as open until this is dropped.
#[derive(Debug)]
struct Written {
    /// Within the media folder.
    path: String,
    size: u64,
    sha256: String,
    open: Open,
}

/// Keeps a file from being swept up, and its bytes counted, while no row tells of it.
#[derive(Debug)]
struct Open {
    inner: Arc<Inner>,
    id: Uuid,
    bytes: u64,
}

impl Open {
    fn new(inner: &Arc<Inner>, id: Uuid) -> Self {
        inner.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        Self { inner: Arc::clone(inner), id, bytes: 0 }
    }

    fn grow(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.inner.writing.fetch_add(bytes, Ordering::AcqRel);
    }

    /// A row tells of it now.
    fn kept(self) {
        self.inner.stored.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.inner.writing.fetch_sub(self.bytes, Ordering::AcqRel);
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl MediaStore {
    /// A store in a folder, which is made when there is none. Its files may take `quota` bytes; 0 is no limit.
    pub fn new(folder: PathBuf, store: Store, clock: Clock, quota: u64) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self(Arc::new(Inner {
            folder,
            store,
            clock,
            quota: if quota == 0 { u64::MAX } else { quota },
            stored: AtomicU64::new(0),
            writing: AtomicU64::new(0),
            open: Mutex::default(),
            making_room: tokio::sync::Mutex::default(),
        })))
    }

    /// Counts what is stored. Until this was called once, only what was added since counts against the quota.
    pub async fn take_stock(&self) -> Result<(), StoreError> {
        self.0.stored.store(files::bytes(&self.0.store).await?, Ordering::Release);
        Ok(())
    }

    /// Removes files whose rows are gone already: where they lie in the folder, and their sizes.
    pub async fn gone(&self, files: impl Iterator<Item = (String, i64)>) {
        collect::gone(self, files).await;
    }

    /// Bytes of stored files, and of those that are being written.
    pub fn bytes(&self) -> u64 {
        self.0.stored.load(Ordering::Acquire).saturating_add(self.0.writing.load(Ordering::Acquire))
    }

    /// Stores a stream; nothing is left behind when it fails or is too large.
    pub async fn put<E: std::fmt::Display>(
        &self,
        instance_id: Uuid,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        mime_type: Option<String>,
        file_name: Option<String>,
        limit: u64,
    ) -> Result<StoredMedia, MediaError> {
        let id = Uuid::now_v7();
        let Written { path: relative, size, sha256, open } =
            self.write(id, bytes.map(|chunk| chunk.map_err(broke_off)), limit).await?;
        let path = self.0.folder.join(&relative);
        let row = FileRow {
            id,
            instance_id,
            mime_type,
            file_name,
            size: Some(i64::try_from(size).unwrap_or(i64::MAX)),
            path: Some(relative),
            status: "stored".into(),
        };
        if let Err(error) = files::insert_stored(&self.0.store, &row, &sha256, self.0.clock.now()).await {
            let _ = fs::remove_file(&path).await;
            return Err(error.into());
        }
        open.kept();
        let FileRow { mime_type, file_name, .. } = row;
        Ok(StoredMedia { id, instance_id, mime_type, file_name, size, path })
    }

    /// A stored file.
    pub async fn get(&self, id: Uuid) -> Result<StoredMedia, MediaError> {
        let row = files::get(&self.0.store, id).await?.ok_or(MediaError::NotFound(id))?;
        let missing = if row.status == "expired" { MediaError::Gone(id) } else { MediaError::NotFound(id) };
        let path = row.path.ok_or(missing)?;
        Ok(StoredMedia {
            id,
            instance_id: row.instance_id,
            mime_type: row.mime_type,
            file_name: row.file_name,
            size: row.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
            path: self.0.folder.join(path),
        })
    }

    /// Writes a stream beside its place and moves it there when it is whole. A file is never named by what a stranger
    /// chose; two levels of folders keep each small.
    async fn write(
        &self,
        id: Uuid,
        mut bytes: impl Stream<Item = Result<Bytes, MediaError>> + Send + Unpin,
        limit: u64,
    ) -> Result<Written, MediaError> {
        let mut open = Open::new(&self.0, id);
        let name = id.simple().to_string();
        // The last digits of a UUIDv7 are random: the folders fill evenly.
        let relative = format!("{}/{name}", &name[30..]);
        let path = self.0.folder.join(&relative);
        let partial = Partial(path.with_extension("partial"));
        let folder = path.parent().unwrap_or(&self.0.folder);
        if !fs::try_exists(folder).await? {
            fs::create_dir_all(folder).await?;
            sync_folder(&self.0.folder).await?;
        }
        // What a dead attempt left behind is of no use.
        let _ = fs::remove_file(&partial.0).await;
        let mut file = fs::File::create_new(&partial.0).await?;
        let mut hash = Sha256::new();
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk?;
            open.grow(chunk.len() as u64);
            if open.bytes > limit {
                return Err(MediaError::TooLarge(limit));
            }
            if self.bytes() > self.0.quota {
                collect::make_room(self).await?;
            }
            hash.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.sync_all().await?;
        fs::rename(&partial.0, &path).await?;
        // Its name is to be there after a power cut as much as its bytes.
        sync_folder(folder).await?;
        Ok(Written { path: relative, size: open.bytes, sha256: hex::encode(hash.finalize()), open })
    }
}

fn broke_off(error: impl std::fmt::Display) -> MediaError {
    MediaError::Stream(error.to_string())
}

async fn sync_folder(folder: &Path) -> std::io::Result<()> {
    fs::File::open(folder).await?.sync_all().await
}

/// A file that is not whole yet: gone when this is dropped, unless it was moved to its place.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Moved to its place, it is not here any more: that is the good case.
        let _ = std::fs::remove_file(&self.0);
    }
}
