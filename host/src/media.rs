//! The media store: a folder of files named by our ids, filled as streams, with a row for each.

use crate::store::StoreError;
use axum::body::Bytes;
use futures_util::Stream;
use uuid::Uuid;

/// A file that is stored.
#[derive(Clone, Debug)]
pub struct StoredMedia {
    /// Its id: the `blob` of the wire types.
    pub id: Uuid,
    /// The instance that it came or goes through.
    pub instance_id: Uuid,
    /// MIME type, if known.
    pub mime_type: Option<String>,
    /// Its name, if it has one.
    pub file_name: Option<String>,
    /// Size in bytes.
    pub size: u64,
    /// Where it lies.
    pub path: std::path::PathBuf,
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
    /// The disk failed.
    #[error("failed to use the media folder")]
    Io(#[from] std::io::Error),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MediaStore {}

#[expect(clippy::unused_async, unused_variables, reason = "signatures first")]
impl MediaStore {
    /// Stores a stream; nothing is left behind when it fails or is too large.
    pub async fn put<E: std::error::Error + Send + Sync + 'static>(
        &self,
        instance_id: Uuid,
        bytes: impl Stream<Item = Result<Bytes, E>> + Send + Unpin,
        mime_type: Option<String>,
        file_name: Option<String>,
        limit: u64,
    ) -> Result<StoredMedia, MediaError> {
        Err(MediaError::TooLarge(limit))
    }

    /// A stored file.
    pub async fn get(&self, id: Uuid) -> Result<StoredMedia, MediaError> {
        Err(MediaError::NotFound(id))
    }
}
