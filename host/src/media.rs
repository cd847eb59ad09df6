//! The media store: a folder of files named by our ids, filled as streams, with a row for each.
//!
//! A file appears under its name only when it is whole. Deliberately not here: when a network's file is fetched
//! (`fetch`), and who may read one (the API).

mod fetch;

pub use fetch::run as fetch_due;

use crate::clock::Clock;
use crate::store::files::{self, FileRow};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::sync::Arc;
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
    /// There is no such file, or it has not been fetched yet.
    #[error("there is no stored media {0}")]
    NotFound(Uuid),
    /// The stream broke off.
    #[error("the file broke off: {0}")]
    Stream(String),
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
}

/// A file that was written, not yet in any row.
#[derive(Debug)]
struct Written {
    /// Within the media folder.
    path: String,
    size: u64,
    sha256: String,
}

impl MediaStore {
    /// A store in a folder, which is made when there is none.
    pub fn new(folder: PathBuf, store: Store, clock: Clock) -> std::io::Result<Self> {
        std::fs::create_dir_all(&folder)?;
        Ok(Self(Arc::new(Inner { folder, store, clock })))
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
        let written = self.write(id, bytes, limit).await?;
        let size = i64::try_from(written.size).unwrap_or(i64::MAX);
        let path = self.0.folder.join(&written.path);
        let row = FileRow { id, instance_id, mime_type, file_name, size: Some(size), path: Some(written.path) };
        if let Err(error) = files::insert_stored(&self.0.store, &row, &written.sha256, self.0.clock.now()).await {
            let _ = fs::remove_file(&path).await;
            return Err(error.into());
        }
        let FileRow { mime_type, file_name, .. } = row;
        Ok(StoredMedia { id, instance_id, mime_type, file_name, size: written.size, path })
    }

    /// A stored file.
    pub async fn get(&self, id: Uuid) -> Result<StoredMedia, MediaError> {
        let row = files::get(&self.0.store, id).await?.ok_or(MediaError::NotFound(id))?;
        let path = row.path.ok_or(MediaError::NotFound(id))?;
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
    async fn write<E: std::fmt::Display>(
        &self,
        id: Uuid,
        mut bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        limit: u64,
    ) -> Result<Written, MediaError> {
        let name = id.simple().to_string();
        // The last digits of a UUIDv7 are random: the folders fill evenly.
        let relative = format!("{}/{name}", &name[30..]);
        let path = self.0.folder.join(&relative);
        let partial = Partial(path.with_extension("partial"));
        fs::create_dir_all(path.parent().unwrap_or(&self.0.folder)).await?;
        // What a dead attempt left behind is of no use.
        let _ = fs::remove_file(&partial.0).await;
        let mut file = fs::File::create_new(&partial.0).await?;
        let mut hash = Sha256::new();
        let mut size = 0u64;
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(|error| MediaError::Stream(error.to_string()))?;
            size += chunk.len() as u64;
            if size > limit {
                return Err(MediaError::TooLarge(limit));
            }
            hash.update(&chunk);
            file.write_all(&chunk).await?;
        }
        file.sync_all().await?;
        fs::rename(&partial.0, &path).await?;
        Ok(Written { path: relative, size, sha256: hex::encode(hash.finalize()) })
    }
}

/// A file that is not whole yet: gone when this is dropped, unless it was moved to its place.
struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // Moved to its place, it is not here any more: that is the good case.
        let _ = std::fs::remove_file(&self.0);
    }
}
