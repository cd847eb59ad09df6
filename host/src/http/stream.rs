//! Live events over SSE. Every reader reads the store from where it stands, a piece at a time, and is only woken when
//! there is more: a slow one costs nobody memory and misses nothing that is still kept. One that takes nothing at all for
//! a while is let go, with the reason as the last thing that it can read.
//!
//! ```text
//! id: 7, data: {…}      an event, as webhooks get it; `Last-Event-ID: 7` goes on behind it
//! data: {…}             without an id: typing and presence, which are not kept
//! event: gap            what lay in between is no longer kept: {after, next, lost, reason}
//! event: end            the stream ends, and why: {code, reason, after}
//! : (a comment)         a heartbeat
//! ```
//!
//! Deliberately not here: more of a queue than it takes to write while the next piece is read.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::Query;
use super::instances;
use crate::store::events::{self, DomainEvent, Filter};
use crate::store::{StoreError, chat_list};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, watch};
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// How many events are looked at in one read.
const PIECE: u32 = 256;
/// How many events wait for the reader.
const QUEUE: usize = 32;
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long to wait after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(follow))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct StreamQuery {
    /// Go on behind this sequence number; 0 for everything that is kept. The header `Last-Event-ID` goes before it. From
    /// now on when neither is given.
    after: Option<i64>,
    /// Of this instance, by id or name.
    instance_id: Option<String>,
    /// Of this chat, by our id or the network's.
    chat_id: Option<String>,
    /// Of these types, with commas between; `message.*` for all that begin so.
    #[serde(rename = "type")]
    kinds: Option<String>,
    /// The key, for a browser's `EventSource`, which can set no header.
    #[serde(rename = "api_key")]
    _api_key: Option<String>,
}

/// Follows what happens, as server-sent events: `id` is the sequence number, `data` the event. `event: gap` says that
/// what lay in between is no longer kept, `event: end` why the stream ends. Typing and presence come without an `id`:
/// they are not kept and cannot be resumed.
#[utoipa::path(get, path = "/events/stream", tag = "events", params(StreamQuery,
    ("Last-Event-ID" = Option<i64>, Header, description = "Go on behind this sequence number")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = ErrorBody)))]
async fn follow(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let after = last_event_id(&headers)?.or(query.after);
    let filter = Filter {
        instances: instances::narrow(&app, &caller, query.instance_id.as_deref()).await?,
        types: query
            .kinds
            .as_deref()
            .map_or(Vec::new(), |kinds| kinds.split(',').map(|kind| kind.trim().to_owned()).collect()),
        chats: match query.chat_id {
            Some(chat) => names_of(&app, &caller, chat).await?,
            None => Vec::new(),
        },
    };
    // From now on nothing of this moment is missed.
    let ephemeral = app.host.store.feed().ephemeral();
    let (oldest, newest) = events::ends(&mut app.host.store.read().await?).await?;
    let (after, gap) = start(after, oldest, newest);
    let (queue, ready) = mpsc::channel(QUEUE);
    let farewell = Arc::new(OnceLock::new());
    let reader = Reader { news: app.shared.options.events.clone(), app, caller, filter, after, ephemeral, queue };
    tokio::spawn(reader.run(gap, Arc::clone(&farewell)));
    let sse = Sse::new(written(ready, farewell)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, sse).into_response())
}

/// Where a reader that was here before goes on.
pub(super) fn last_event_id(headers: &HeaderMap) -> Result<Option<i64>, ApiError> {
    let id = headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().trim().parse());
    id.transpose().map_err(|_| ApiError::field("Last-Event-ID", "must be the id of an event of this stream"))
}

/// The ids by which a chat's events name it: typing and presence know the network's only.
async fn names_of(app: &App, caller: &Caller, chat: String) -> ApiResult<Vec<String>> {
    let mut names = Vec::new();
    if let Ok(id) = Uuid::parse_str(&chat)
        && let Some(found) = chat_list::get(&app.host.store, id, caller.instances()).await?
    {
        names.push(found.external_id);
    }
    names.push(chat);
    Ok(names)
}

fn gap(after: i64, next: i64, why: &str) -> Event {
    let lost = (next - after - 1).max(0);
    let data = json!({ "after": after, "next": next, "lost": lost, "reason": why });
    Event::default().event("gap").data(data.to_string())
}

/// Where a reader begins, and what it is told when that is not where it wanted to.
pub(super) fn start(after: Option<i64>, oldest: i64, newest: i64) -> (i64, Option<Event>) {
    match after {
        None => (newest, None),
        Some(after) if after > newest => (newest, Some(gap(after, newest + 1, "there is no such event yet"))),
        Some(after) if after > 0 && after + 1 < oldest => (oldest - 1, Some(gap(after, oldest, NOT_KEPT))),
        Some(after) => (after.max(0), None),
    }
}

const NOT_KEPT: &str = "the events in between are no longer kept";

/// What is written to the reader: what is ready, and at the end why it is the end.
fn written(
    ready: mpsc::Receiver<Event>,
    farewell: Arc<OnceLock<Event>>,
) -> impl Stream<Item = Result<Event, std::convert::Infallible>> {
    stream::unfold((ready, Some(farewell)), |(mut ready, farewell)| async move {
        if let Some(event) = ready.recv().await {
            return Some((Ok(event), (ready, farewell)));
        }
        let last = farewell?.get().cloned()?;
        Some((Ok(last), (ready, None)))
    })
}

/// One who follows.
struct Reader {
    app: App,
    caller: Caller,
    news: watch::Receiver<i64>,
    ephemeral: broadcast::Receiver<Arc<DomainEvent>>,
    filter: Filter,
    /// Up to where it has looked.
    after: i64,
    queue: mpsc::Sender<Event>,
}

/// Why a stream ends: a word for programs, and a sentence.
type End = (&'static str, String);

impl Reader {
    /// Reads on until there is a reason not to, which is the last thing that is written.
    async fn run(mut self, gap: Option<Event>, farewell: Arc<OnceLock<Event>>) {
        let (app, caller, queue) = (self.app.clone(), self.caller.clone(), self.queue.clone());
        let shutdown = app.shared.options.shutdown.clone();
        let key_ended = app.shared.keys.ended(&app.host.store, &app.host.clock, &caller);
        let end = tokio::select! {
            biased;
            () = shutdown.cancelled() => Some(("shutdown", "the host is stopping; connect again".to_owned())),
            end = key_ended => Some(end),
            () = queue.closed() => None,
            end = self.read_on(gap) => end,
        };
        let Some((code, reason)) = end else { return };
        if code == "too_slow" {
            metrics::counter!("omni_streams_dropped_total").increment(1);
            tracing::info!(api_key.name = caller.name(), "an event stream was ended: {reason}");
        }
        let data = json!({ "code": code, "reason": reason, "after": self.after });
        // Read when the queue is empty and both of its ends here are gone.
        let _ = farewell.set(Event::default().event("end").data(data.to_string()));
    }

    /// `None` when nobody reads any more.
    async fn read_on(&mut self, gap: Option<Event>) -> Option<End> {
        if let Some(gap) = gap
            && let Err(end) = self.write(gap).await
        {
            return end;
        }
        loop {
            let seen = *self.news.borrow_and_update();
            let moved = match self.next_piece().await {
                Ok(moved) => moved,
                Err(Stopped::Reader(end)) => return end,
                Err(Stopped::Store(error)) => {
                    tracing::warn!(error = error.explain(), "an event stream could not read the store");
                    self.app.host.clock.sleep(PAUSE).await;
                    continue;
                }
            };
            // Nothing new. Whoever wrote since `seen` was taken wakes this at once.
            if !moved && seen <= self.after {
                tokio::select! {
                    changed = self.news.changed() => if changed.is_err() {
                        return Some(("shutdown", "the host is stopping; connect again".to_owned()));
                    },
                    event = self.ephemeral.recv() => match event {
                        Ok(event) => if let Err(end) = self.pass_on(&event).await { return end },
                        // Typing of a while ago is worth nothing now.
                        Err(RecvError::Lagged(_) | RecvError::Closed) => {}
                    },
                }
            } else if !moved {
                // News of what cannot be read yet, or was deleted.
                self.after = self.after.max(seen);
            }
        }
    }

    async fn next_piece(&mut self) -> Result<bool, Stopped> {
        let piece = async {
            let mut tx = self.app.host.store.read().await?;
            events::after(&mut tx, self.after, &self.filter, PIECE).await
        };
        let piece = piece.await.map_err(Stopped::Store)?;
        if piece.lost > 0 && self.after > 0 {
            let next = self.after + piece.lost + 1;
            self.write(gap(self.after, next, NOT_KEPT)).await.map_err(Stopped::Reader)?;
            self.after = next - 1;
        }
        for event in &piece.events {
            self.write(published(event)).await.map_err(Stopped::Reader)?;
            self.after = event.seq;
        }
        let moved = piece.seen > self.after || !piece.events.is_empty();
        self.after = self.after.max(piece.seen);
        Ok(moved)
    }

    async fn pass_on(&self, event: &DomainEvent) -> Result<(), Option<End>> {
        if !self.filter.lets_through(event) {
            return Ok(());
        }
        self.write(published(event)).await
    }

    /// Hands an event over as soon as there is room.
    async fn write(&self, event: Event) -> Result<(), Option<End>> {
        let patience = self.app.shared.options.stream_patience;
        match tokio::time::timeout(patience, self.queue.send(event)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(None),
            Err(_) => Err(Some((
                "too_slow",
                format!("nothing was read for {} s; connect again to go on", patience.as_secs_f32()),
            ))),
        }
    }
}

/// Why reading stopped.
enum Stopped {
    /// The reader is gone or too slow.
    Reader(Option<End>),
    /// For now.
    Store(StoreError),
}

/// An event in Omni v2's envelope; one that is not kept has no id.
fn published(event: &DomainEvent) -> Event {
    let data = serde_json::to_string(event).expect("an event is plain JSON");
    let written = Event::default().data(data);
    if event.seq > 0 { written.id(event.seq.to_string()) } else { written }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_begins_where_it_left_or_is_told_why_not() {
        assert_eq!(start(None, 5, 9).0, 9);
        assert_eq!(start(Some(0), 5, 9).0, 0);
        assert!(start(Some(0), 5, 9).1.is_none(), "everything that is kept is no gap");
        assert!(start(Some(4), 5, 9).1.is_none());
        assert_eq!(start(Some(4), 5, 9).0, 4);
        let (after, gap) = start(Some(3), 5, 9);
        assert!(gap.is_some());
        assert_eq!(after, 4);
        let (after, gap) = start(Some(12), 5, 9);
        assert!(gap.is_some());
        assert_eq!(after, 9);
    }
}
