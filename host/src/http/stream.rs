//! Live events over SSE. Every reader reads the store from where it stands, a piece at a time, and is only woken when
//! there is more: a slow one costs nobody memory and misses nothing that is still kept.
//!
//! Deliberately not here: a queue per reader.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::Query;
use super::instances;
use crate::clock::Clock;
use crate::store::event_list::{self, Event as Stored, StreamFilter};
use crate::store::events::matches;
use crate::store::{Store, StoreError};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use serde::Deserialize;
use serde_json::json;
use std::collections::VecDeque;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How many events are looked at in one read.
const PIECE: u32 = 256;
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
/// what lay in between is no longer kept.
#[utoipa::path(get, path = "/events/stream", tag = "events", params(StreamQuery,
    ("Last-Event-ID" = Option<i64>, Header, description = "Go on behind this sequence number")),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = ErrorBody)))]
async fn follow(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<StreamQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let filter = StreamFilter {
        instances: instances::narrow(&app, &caller, query.instance_id.as_deref()).await?,
        chat: query.chat_id,
    };
    let after = match headers.get("last-event-id").map(|id| id.to_str().unwrap_or_default().trim().parse()) {
        Some(Ok(after)) => Some(after),
        Some(Err(_)) => return Err(ApiError::field("Last-Event-ID", "must be the id of an event of this stream")),
        None => query.after,
    };
    let (oldest, newest) = event_list::ends(&app.host.store).await?;
    let (after, gap) = start(after, oldest, newest);
    let kinds = query
        .kinds
        .as_deref()
        .map_or(Vec::new(), |kinds| kinds.split(',').map(|kind| kind.trim().to_owned()).collect());
    let reader = Reader {
        store: app.host.store.clone(),
        clock: app.host.clock.clone(),
        news: app.shared.options.events.clone(),
        shutdown: app.shared.options.shutdown.clone(),
        filter,
        kinds,
        after,
        ready: gap.into_iter().collect(),
    };
    let sse = Sse::new(events(reader)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let headers = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")),
    ];
    Ok((headers, sse).into_response())
}

/// Where a reader begins, and what it is told when that is not where it wanted to.
fn start(after: Option<i64>, oldest: i64, newest: i64) -> (i64, Option<Event>) {
    let gap = |after: i64, next: i64, why: &str| {
        let data = json!({ "after": after, "next": next, "reason": why });
        Some(Event::default().event("gap").data(data.to_string()))
    };
    match after {
        None => (newest, None),
        Some(after) if after > newest => (newest, gap(after, newest + 1, "there is no such event yet")),
        Some(after) if after.max(0) + 1 < oldest && after > 0 => {
            (oldest - 1, gap(after, oldest, "the events in between are no longer kept"))
        }
        Some(after) => (after.max(0), None),
    }
}

/// One who follows.
struct Reader {
    store: Store,
    clock: Clock,
    news: watch::Receiver<i64>,
    shutdown: CancellationToken,
    filter: StreamFilter,
    kinds: Vec<String>,
    /// Up to where it has looked.
    after: i64,
    /// What it has read and not yet been asked for: one piece at most.
    ready: VecDeque<Event>,
}

fn events(reader: Reader) -> impl Stream<Item = Result<Event, std::convert::Infallible>> {
    stream::unfold(reader, |mut reader| async move {
        loop {
            if let Some(event) = reader.ready.pop_front() {
                return Some((Ok(event), reader));
            }
            let shutdown = reader.shutdown.clone();
            let goes_on = tokio::select! {
                biased;
                () = shutdown.cancelled() => false,
                goes_on = reader.read_on() => goes_on,
            };
            if !goes_on {
                return None;
            }
        }
    })
}

impl Reader {
    /// Looks at the next piece, or waits for news when there is none. False when there will be none any more.
    async fn read_on(&mut self) -> bool {
        let seen = *self.news.borrow_and_update();
        match self.next_piece().await {
            Ok(true) => true,
            // Nothing new. Whoever wrote since `seen` was taken wakes this at once.
            Ok(false) if seen <= self.after => self.news.changed().await.is_ok(),
            Ok(false) => {
                // News of what cannot be read yet, or was deleted.
                self.after = self.after.max(seen);
                true
            }
            Err(error) => {
                tracing::warn!(error = error.explain(), "an event stream could not read the store");
                self.clock.sleep(PAUSE).await;
                true
            }
        }
    }

    async fn next_piece(&mut self) -> Result<bool, StoreError> {
        let piece = event_list::after(&self.store, self.after, &self.filter, PIECE).await?;
        let moved = piece.seen > self.after;
        self.after = piece.seen;
        let wanted = piece.events.iter().filter(|event| matches(&self.kinds, &event.event_type));
        self.ready.extend(wanted.map(published));
        Ok(moved)
    }
}

/// An event in Omni v2's envelope.
fn published(event: &Stored) -> Event {
    let data = json!({
        "seq": event.seq,
        "id": event.id,
        "type": event.event_type,
        "payload": event.payload,
        "timestamp": event.received_at.millis(),
        "metadata": {
            "correlationId": event.id,
            "instanceId": event.instance_id,
            "channelType": event.channel,
            "personId": event.person_id,
            "platformIdentityId": event.platform_identity_id,
            "chatId": event.chat_uuid,
            "messageId": event.message_id,
            "source": if event.direction == "inbound" { "channel" } else { "host" },
        },
    });
    Event::default().id(event.seq.to_string()).data(data.to_string())
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
