//! What becomes of files that nobody needs, that are too old, or for which there is no room.
//!
//! A file goes in two steps, its row first. What a crash leaves in between, and files of instances that were deleted, are
//! found by looking through the folder: every file that no row tells of goes, except those that are being written.

use super::{MediaError, MediaStore};
use crate::config::Retention;
use crate::store::files::{self, Expendable, Which};
use crate::store::{StoreError, Time};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(3_600);
/// Files that go at a time.
const STEP: u32 = 256;
/// A file that is younger is about to be used.
const YOUNG_MS: i64 = 10 * 60_000;

/// Collects until it is told to stop.
pub async fn run(media: MediaStore, retention: Retention, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            swept = sweep(&media, &retention) => match swept {
                Ok(0) => {}
                Ok(files) => tracing::info!(files, "stored files that nobody needs are gone"),
                Err(error) => tracing::warn!("stored files could not be collected: {error}"),
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = media.0.clock.sleep(EVERY) => {}
        }
    }
}

/// Takes away everything that is not to be kept, and says how many files that were.
pub async fn sweep(media: &MediaStore, retention: &Retention) -> Result<u64, MediaError> {
    const HOUR_MS: i64 = 3_600_000;
    let now = media.0.clock.now();
    let before = |hours: i64| now.plus_millis(-hours.saturating_mul(HOUR_MS));
    let mut files = all(media, Which::Unneeded, before(i64::from(retention.upload_hours))).await?;
    if retention.media_days > 0 {
        files += all(media, Which::Any, before(i64::from(retention.media_days) * 24)).await?;
    }
    files += orphans(media).await?;
    media.take_stock().await?;
    if media.bytes() > media.0.quota {
        make_room(media).await?;
    }
    Ok(files)
}

async fn all(media: &MediaStore, which: Which, before: Time) -> Result<u64, MediaError> {
    let mut files = 0;
    loop {
        let step = files::expendable(&media.0.store, which, before, STEP).await?;
        if step.is_empty() {
            return Ok(files);
        }
        files += step.len() as u64;
        let_go(media, &step).await?;
    }
}

async fn let_go(media: &MediaStore, step: &[Expendable]) -> Result<(), StoreError> {
    let ids: Vec<Uuid> = step.iter().map(|file| file.id).collect();
    files::let_go(&media.0.store, &ids, media.0.clock.now()).await?;
    for file in step {
        remove(&media.0.folder.join(&file.path)).await;
        let size = u64::try_from(file.size).unwrap_or(0);
        // A sum that was taken in between may be smaller.
        let _ = media.0.stored.fetch_update(Ordering::AcqRel, Ordering::Acquire, |sum| Some(sum.saturating_sub(size)));
    }
    metrics::counter!("omni_media_let_go_total").increment(step.len() as u64);
    Ok(())
}

/// Removes files whose rows are gone already: where they lie in the folder, and their sizes.
pub(super) async fn gone(media: &MediaStore, files: impl Iterator<Item = (String, i64)>) {
    for (path, size) in files {
        remove(&media.0.folder.join(path)).await;
        let size = u64::try_from(size).unwrap_or(0);
        let _ = media.0.stored.fetch_update(Ordering::AcqRel, Ordering::Acquire, |sum| Some(sum.saturating_sub(size)));
    }
}

async fn remove(path: &Path) {
    match tokio::fs::remove_file(path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), "a file that nobody needs could not be removed: {error}");
        }
        _ => {}
    }
}

/// Takes files away until what is there and what is being written fits: those that no message needs first, then the
/// oldest. An error when what is left is needed now.
pub(super) async fn make_room(media: &MediaStore) -> Result<(), MediaError> {
    let _turn = media.0.making_room.lock().await;
    let quota = media.0.quota;
    // A little more than is needed, so that the next piece need not ask again.
    let goal = quota - quota / 50;
    let before = media.0.clock.now().plus_millis(-YOUNG_MS);
    let mut files = 0;
    for which in [Which::Unneeded, Which::Any] {
        while media.bytes() > goal {
            let mut over = media.bytes() - goal;
            let mut step = files::expendable(&media.0.store, which, before, STEP).await?;
            let enough = step.iter().position(|file| {
                over = over.saturating_sub(u64::try_from(file.size).unwrap_or(0));
                over == 0
            });
            step.truncate(enough.map_or(step.len(), |at| at + 1));
            if step.is_empty() {
                break;
            }
            files += step.len();
            let_go(media, &step).await?;
        }
    }
    if files > 0 {
        tracing::warn!(files, quota, "stored files were let go of to make room (`retention.media_quota`)");
    }
    if media.bytes() > quota { Err(MediaError::Full(quota)) } else { Ok(()) }
}

/// Removes files that no row tells of.
async fn orphans(media: &MediaStore) -> Result<u64, MediaError> {
    let mut gone = 0;
    for folder in listed(&media.0.folder).await? {
        if !folder.is_dir() {
            continue;
        }
        for piece in listed(&folder).await?.chunks(STEP as usize) {
            gone += orphans_of(media, piece).await?;
        }
    }
    Ok(gone)
}

async fn orphans_of(media: &MediaStore, paths: &[PathBuf]) -> Result<u64, MediaError> {
    // What is not named as we name files is not ours to touch.
    let named = |path: &PathBuf| {
        let partial = path.extension().is_some_and(|end| end == "partial");
        let stem = path.file_stem()?.to_str()?;
        let id = Uuid::try_parse(stem).ok().filter(|id| id.simple().to_string() == stem)?;
        (partial || path.extension().is_none()).then_some((id, partial))
    };
    let ids: Vec<Uuid> = paths.iter().filter_map(named).map(|(id, _)| id).collect();
    let is_open = |id: &Uuid| media.0.open.lock().unwrap_or_else(PoisonError::into_inner).contains(id);
    // Before the rows are asked: one that is closed afterwards has a row by then.
    let open: Vec<Uuid> = ids.iter().copied().filter(|id| is_open(id)).collect();
    let needed = files::needed(&media.0.store, &ids).await?;
    let mut gone = 0;
    for path in paths {
        let Some((id, partial)) = named(path) else { continue };
        if open.contains(&id) || is_open(&id) || (!partial && needed.contains(&id)) {
            continue;
        }
        tracing::debug!(media.id = %id, "a file that no row tells of is removed");
        remove(path).await;
        gone += 1;
    }
    Ok(gone)
}

async fn listed(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    let mut entries = tokio::fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        paths.push(entry.path());
    }
    Ok(paths)
}
