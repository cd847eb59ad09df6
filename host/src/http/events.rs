//! Reading what happened. The live stream is `stream`.

use super::answer::{Data, List, Meta};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Paging, Path, Query};
use super::persons::{TimelineQuery, timeline_of};
use super::{App, cursor, instances};
use crate::store::Time;
use crate::store::event_list::{self, Event, EventFilter};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(timeline)).routes(routes!(by_sender)).routes(routes!(get))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this channel.
    channel: Option<String>,
    /// Of this instance, by id or name.
    instance_id: Option<String>,
    /// Of this person.
    person_id: Option<Uuid>,
    /// Of this chat, by the network's id.
    chat_id: Option<String>,
    /// `message.received` …
    event_type: Option<String>,
    /// `text`, `image` …
    content_type: Option<String>,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
    /// With this in the words.
    search: Option<String>,
}

/// Lists events, newest first.
#[utoipa::path(get, path = "/events", tag = "events", params(ListQuery, Paging),
    responses((status = 200, body = List<Event>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Event>>> {
    let filter = EventFilter {
        instances: instances::narrow(&app, &caller, query.instance_id.as_deref()).await?,
        channel: query.channel,
        person_id: query.person_id,
        event_type: query.event_type,
        content_type: query.content_type,
        direction: query.direction,
        chat_id: query.chat_id,
        sender_id: None,
        since: query.since,
        until: query.until,
        search: query.search,
    };
    page(&app, filter, &paging).await
}

async fn page(app: &App, filter: EventFilter, paging: &Paging) -> ApiResult<Json<List<Event>>> {
    let from = cursor::decode(paging.cursor.as_deref())?;
    Ok(Json(event_list::list(&app.host.store, &filter, from, paging.limit()?).await?.into()))
}

/// A person's events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Timeline {
    person_id: Uuid,
    items: Vec<Event>,
    meta: Meta,
}

/// Lists what happened with a person, newest first.
#[utoipa::path(get, path = "/events/timeline/{personId}", tag = "events",
    params(("personId" = Uuid, Path, description = "Our id"), TimelineQuery, Paging),
    responses((status = 200, body = Timeline), (status = "default", body = ErrorBody)))]
async fn timeline(
    State(app): State<App>,
    caller: Caller,
    Path(person): Path<Uuid>,
    Query(query): Query<TimelineQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<Timeline>> {
    let List { items, meta } = timeline_of(&app, &caller, person, query, &paging).await?;
    Ok(Json(Timeline { person_id: person, items, meta }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct SenderQuery {
    /// Seen by this instance, by id or name.
    instance_id: Option<String>,
}

/// Lists what an account did, newest first.
#[utoipa::path(get, path = "/events/by-sender/{senderId}", tag = "events",
    params(("senderId" = String, Path, description = "The network's id of the account"), SenderQuery, Paging),
    responses((status = 200, body = List<Event>), (status = "default", body = ErrorBody)))]
async fn by_sender(
    State(app): State<App>,
    caller: Caller,
    Path(sender): Path<String>,
    Query(query): Query<SenderQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Event>>> {
    let allowed = instances::narrow(&app, &caller, query.instance_id.as_deref()).await?;
    let filter = EventFilter { instances: allowed, sender_id: Some(sender), ..EventFilter::default() };
    let Json(mut list) = page(&app, filter, &paging).await?;
    list.meta.total = Some(list.items.len());
    Ok(Json(list))
}

/// Shows one event.
#[utoipa::path(get, path = "/events/{id}", tag = "events", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Event>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<Event>>> {
    let found = event_list::get(&app.host.store, id, caller.instances()).await?;
    Ok(Json(Data { data: found.ok_or_else(|| ApiError::not_found("event", id))? }))
}
