//! Fetches what messages name: the channel says how a file can be had, the host streams it into the media store.
//!
//! This happens after a message is stored and never holds one up. A file that cannot be had is tried again with backoff
//! and then given up, with the reason in its row.

use super::{MediaError, MediaStore, Open, broke_off, sealed};
use crate::instances::Instances;
use crate::plugins::session::Session;
use crate::store::media::{self as rows, DueMedia, Stored};
use futures_util::StreamExt;
use futures_util::future::Either;
use omni_channel_sdk::outcome::NextActor;
use omni_channel_sdk::request::{FetchMedia, MediaReply, Reply, Request};
use reqwest::StatusCode;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::{self, JoinSet};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Files that are fetched at the same time.
const AT_ONCE: usize = 16;
/// Of one instance: a network that trickles holds up its own files only.
const OF_ONE: usize = 4;
/// A claimed file is nobody else's for so long.
const CLAIM_MS: i64 = 10 * 60 * 1_000;
/// How often a file is tried.
const MAX_ATTEMPTS: i64 = 8;
/// How often the table is looked at when nothing says that there is something new.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long a channel may take to say how a file can be had.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to have a file put where it can be fetched again.
const FIND_WITHIN: Duration = Duration::from_secs(60);
/// How long one file may take; HTTP calls of the host take no longer.
const FETCH_WITHIN_MS: u64 = 5 * 60 * 1_000;

/// Fetches until it is told to stop.
pub async fn run(media: MediaStore, instances: Instances, limit: u64, shutdown: CancellationToken) {
    let mut newest = media.0.store.feed().newest();
    let mut fetching = Fetching { media, instances, limit, tasks: JoinSet::new(), of: HashMap::new() };
    loop {
        newest.borrow_and_update();
        if let Err(error) = fetching.begin_due().await {
            tracing::warn!("media could not be claimed: {error}");
        }
        let clock = fetching.media.0.clock.clone();
        tokio::select! {
            // What is broken off leaves nothing behind: the file is gone and the claim runs out.
            () = shutdown.cancelled() => return,
            Some(ended) = fetching.tasks.join_next_with_id() => fetching.ended(&ended),
            changed = newest.changed(), if fetching.tasks.len() < AT_ONCE => if changed.is_err() { return },
            () = clock.sleep(LOOK_EVERY), if fetching.tasks.len() < AT_ONCE => {}
        }
        while let Some(ended) = fetching.tasks.try_join_next_with_id() {
            fetching.ended(&ended);
        }
    }
}

/// What is being fetched.
struct Fetching {
    media: MediaStore,
    instances: Instances,
    limit: u64,
    tasks: JoinSet<()>,
    /// Through which instance each of them is.
    of: HashMap<task::Id, Uuid>,
}

impl Fetching {
    fn ended(&mut self, ended: &Result<(task::Id, ()), task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => *id,
            Err(error) => {
                tracing::error!("fetching a file failed: {error}");
                error.id()
            }
        };
        self.of.remove(&id);
    }

    /// Begins what is due, as far as there is room for it.
    async fn begin_due(&mut self) -> Result<(), MediaError> {
        let mut room = AT_ONCE - self.tasks.len();
        let under_way = |id: &Uuid| self.of.values().filter(|of| *of == id).count();
        let mut sessions: HashMap<Uuid, Session> = self.instances.sessions().into_iter().collect();
        sessions.retain(|id, _| under_way(id) < OF_ONE);
        if room == 0 || sessions.is_empty() {
            return Ok(());
        }
        let (store, now) = (&self.media.0.store, self.media.0.clock.now());
        let connected: Vec<Uuid> = sessions.keys().copied().collect();
        // Nearly always nothing is: who only looks is in nobody's way.
        let due = rows::with_due(&mut store.read().await?, &connected, now).await?;
        if due.is_empty() {
            return Ok(());
        }
        let mut claimed = Vec::new();
        let mut tx = store.begin().await?;
        for instance in due {
            let limit = (OF_ONE - under_way(&instance)).min(room);
            if limit == 0 {
                break;
            }
            let files = rows::claim_due(&mut tx, instance, now, now.plus_millis(CLAIM_MS), limit).await?;
            room -= files.len();
            claimed.extend(files);
        }
        tx.commit().await?;
        for file in claimed {
            let Some(session) = sessions.get(&file.instance_id).cloned() else { continue };
            let (media, limit, instance) = (self.media.clone(), self.limit, file.instance_id);
            let task = self.tasks.spawn(async move { fetch(&media, &session, file, limit).await });
            self.of.insert(task.id(), instance);
        }
        Ok(())
    }
}

async fn fetch(media: &MediaStore, session: &Session, file: DueMedia, limit: u64) {
    let settled = match stream_in(media, session, &file, limit).await {
        Ok((stored, open)) => {
            let settled = settle_stored(media, &file, &stored).await;
            if settled.is_ok() {
                open.kept();
            }
            settled
        }
        Err((reason, again)) => {
            let now = media.0.clock.now();
            let retry_at = (again && file.attempts < MAX_ATTEMPTS).then(|| {
                // 5 s, 20 s, 80 s … up to some hours.
                now.plus_millis(5_000 << (2 * file.attempts.clamp(1, 7) - 2))
            });
            tracing::info!(
                media.id = %file.id, instance.id = %file.instance_id, attempts = file.attempts,
                given_up = retry_at.is_none(), "a file could not be fetched: {reason}"
            );
            settle_failed(media, &file, &reason, retry_at).await
        }
    };
    if let Err(error) = settled {
        tracing::warn!(media.id = %file.id, "what became of a file could not be written: {}", error.explain());
    }
}

async fn settle_stored(media: &MediaStore, file: &DueMedia, stored: &Stored) -> crate::store::Result<()> {
    let mut tx = media.0.store.begin().await?;
    rows::settle_stored(&mut tx, file.id, stored, media.0.clock.now()).await?;
    tx.commit().await
}

async fn settle_failed(
    media: &MediaStore,
    file: &DueMedia,
    reason: &str,
    retry_at: Option<crate::store::Time>,
) -> crate::store::Result<()> {
    let mut tx = media.0.store.begin().await?;
    rows::settle_failed(&mut tx, file.id, reason, retry_at, media.0.clock.now()).await?;
    tx.commit().await
}

/// How the file can be had; or why not, and whether it may work later. `gone`: it was not where the channel last said.
async fn ask(session: &Session, file: &DueMedia, gone: bool) -> Result<MediaReply, (String, bool)> {
    let request = Request::FetchMedia(FetchMedia { reference: file.reference.as_str().into(), gone });
    let within = if gone { FIND_WITHIN } else { ASK_WITHIN };
    let reply = session.request(request, within).await.map_err(|error| {
        let error = error.into_send_error();
        (error.message, error.next == NextActor::Retry)
    })?;
    match reply {
        Reply::Media(how) => Ok(how),
        _ => Err(("the channel did not say how the file can be had".into(), false)),
    }
}

async fn call(session: &Session, how: &MediaReply) -> Result<reqwest::Response, (String, bool)> {
    let mut call = how.call.clone();
    call.timeout_ms.get_or_insert(FETCH_WITHIN_MS);
    session.fetch(call).await.map_err(|failure| (failure.message, true))
}

/// The file, stored; or why not, and whether it may work later.
async fn stream_in(
    media: &MediaStore,
    session: &Session,
    file: &DueMedia,
    limit: u64,
) -> Result<(Stored, Open), (String, bool)> {
    let mut how = ask(session, file, false).await?;
    let mut response = call(session, &how).await?;
    if matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::GONE) {
        how = ask(session, file, true).await?;
        response = call(session, &how).await?;
    }
    if !response.status().is_success() {
        return Err((format!("the file's server answered {}", response.status()), true));
    }
    let opening = how.sealed.as_ref().map(sealed::Opening::new).transpose();
    let opening = opening.map_err(|broken| (MediaError::from(broken).to_string(), false))?;
    // What the network announced is the most that is taken.
    let limit = limit.min(how.call.max_bytes.unwrap_or(u64::MAX));
    let announced = response.content_length();
    let around = opening.as_ref().map_or(0, sealed::Opening::overhead);
    if announced.is_some_and(|size| size > limit.saturating_add(around)) {
        return Err((MediaError::TooLarge(limit).to_string(), false));
    }
    let from_header = response
        .headers()
        .get("content-type")
        .and_then(|value| value.to_str().ok())
        // What is sealed has another type than what is in it.
        .filter(|mime| opening.is_none() && *mime != "application/octet-stream")
        .map(str::to_owned);
    let stream = Box::pin(response.bytes_stream()).map(|chunk| chunk.map_err(broke_off));
    let stream = match opening {
        Some(opening) => Either::Left(Box::pin(sealed::opened(stream, opening))),
        None => Either::Right(stream),
    };
    // An earlier attempt may have died after the file was in its place and before its row said so.
    let written = media.write(file.id, stream, limit).await.map_err(|error| {
        let again = !matches!(error, MediaError::TooLarge(_) | MediaError::Sealed(_));
        (error.to_string(), again)
    })?;
    let stored = Stored {
        path: written.path,
        url: format!("/api/v2/media/{}", file.id),
        mime_type: how.mime_type.or(file.mime_type.clone()).or(from_header),
        size: i64::try_from(written.size).unwrap_or(i64::MAX),
        sha256: written.sha256,
    };
    Ok((stored, written.open))
}
