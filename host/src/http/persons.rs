//! People, and which accounts are theirs.

use super::answer::{Data, List};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Paging, Path, Query};
use super::{App, cursor, instances};
use crate::store::Time;
use crate::store::event_list::{self, Event, EventFilter};
use crate::store::person_links::{self, Linked};
use crate::store::person_list::{self, Identity, Person};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(link))
        .routes(routes!(unlink))
        .routes(routes!(merge))
        .routes(routes!(get))
        .routes(routes!(timeline))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// In a name, a phone number, an e-mail address or a handle; or exactly a network's id.
    search: Option<String>,
    /// Seen by this instance, by id or name.
    instance_id: Option<String>,
}

/// Lists people, the one who was seen first last.
#[utoipa::path(get, path = "/persons", tag = "persons", params(ListQuery, Paging),
    responses((status = 200, body = List<Person>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Person>>> {
    let allowed = instances::narrow(&app, &caller, query.instance_id.as_deref()).await?;
    let from = cursor::decode(paging.cursor.as_deref())?;
    let page = person_list::list(&app.host.store, query.search.as_deref(), &allowed, from, paging.limit()?).await?;
    Ok(Json(page.into()))
}

/// A human with their accounts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PersonView {
    id: Uuid,
    display_name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
    avatar_url: Option<String>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<Box<serde_json::value::RawValue>>,
    created_at: Time,
    updated_at: Time,
    /// The accounts that this key may see.
    identities: Vec<Identity>,
}

/// Shows one human with their accounts.
#[utoipa::path(get, path = "/persons/{id}", tag = "persons", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<PersonView>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<PersonView>>> {
    let found = person_list::get(&app.host.store, id, caller.instances()).await?;
    let (person, identities) = found.ok_or_else(|| ApiError::not_found("person", id))?;
    let data = PersonView {
        id: person.id,
        display_name: person.display_name,
        email: person.email,
        phone: person.phone,
        avatar_url: person.avatar_url,
        metadata: person.metadata,
        created_at: person.created_at,
        updated_at: person.updated_at,
        identities,
    };
    Ok(Json(Data { data }))
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct TimelineQuery {
    /// On this channel.
    channel: Option<String>,
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
}

/// What happened with a person, newest first.
pub(crate) async fn timeline_of(
    app: &App,
    caller: &Caller,
    person: Uuid,
    query: TimelineQuery,
    paging: &Paging,
) -> ApiResult<List<Event>> {
    let filter = EventFilter {
        instances: caller.narrow(None)?,
        channel: query.channel,
        person_id: Some(person),
        since: query.since,
        until: query.until,
        ..EventFilter::default()
    };
    let from = cursor::decode(paging.cursor.as_deref())?;
    let page = event_list::list(&app.host.store, &filter, from, paging.limit()?).await?;
    if page.items.is_empty() && person_list::get(&app.host.store, person, caller.instances()).await?.is_none() {
        return Err(ApiError::not_found("person", person));
    }
    Ok(page.into())
}

/// Lists what happened with a person, newest first.
#[utoipa::path(get, path = "/persons/{id}/timeline", tag = "persons",
    params(("id" = Uuid, Path, description = "Our id"), TimelineQuery, Paging),
    responses((status = 200, body = List<Event>), (status = "default", body = ErrorBody)))]
async fn timeline(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<TimelineQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Event>>> {
    Ok(Json(timeline_of(&app, &caller, id, query, &paging).await?))
}

/// Two accounts of one human.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LinkIdentitiesRequest)]
struct LinkBody {
    identity_a: Uuid,
    identity_b: Uuid,
}

/// Gives two accounts to one person.
#[utoipa::path(post, path = "/persons/link", tag = "persons", request_body = LinkBody,
    responses((status = 200, body = Data<Person>), (status = "default", body = ErrorBody)))]
async fn link(State(app): State<App>, caller: Caller, Body(body): Body<LinkBody>) -> ApiResult<Json<Data<Person>>> {
    caller.allow_everywhere()?;
    let now = app.host.clock.now();
    match person_links::link(&app.host.store, body.identity_a, body.identity_b, now).await? {
        Linked::Done(data) => Ok(Json(Data { data })),
        Linked::Missing(id) => Err(ApiError::not_found("identity", id)),
    }
}

/// An account that is somebody else's.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UnlinkIdentityRequest)]
struct UnlinkBody {
    identity_id: Uuid,
    /// Why.
    reason: String,
}

/// An account and its new person.
#[derive(Debug, Serialize, ToSchema)]
struct Unlinked {
    person: Person,
    identity: Identity,
}

/// Gives an account to a new person of its own.
#[utoipa::path(post, path = "/persons/unlink", tag = "persons", request_body = UnlinkBody,
    responses((status = 200, body = Data<Unlinked>), (status = "default", body = ErrorBody)))]
async fn unlink(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<UnlinkBody>,
) -> ApiResult<Json<Data<Unlinked>>> {
    caller.allow_everywhere()?;
    let now = app.host.clock.now();
    match person_links::unlink(&app.host.store, body.identity_id, &body.reason, now).await? {
        Linked::Done((person, identity)) => Ok(Json(Data { data: Unlinked { person, identity } })),
        Linked::Missing(id) => Err(ApiError::not_found("identity", id)),
    }
}

/// Two people who are one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MergePersonsRequest)]
struct MergeBody {
    /// Who is removed.
    source_person_id: Uuid,
    /// Who is left.
    target_person_id: Uuid,
    /// Why.
    reason: Option<String>,
}

/// Who is left, and what moved.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MergedView {
    person: Person,
    merged_identity_ids: Vec<Uuid>,
    deleted_person_id: Uuid,
}

/// Gives every account of one person to another, and removes the first.
#[utoipa::path(post, path = "/persons/merge", tag = "persons", request_body = MergeBody,
    responses((status = 200, body = Data<MergedView>), (status = "default", body = ErrorBody)))]
async fn merge(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<MergeBody>,
) -> ApiResult<Json<Data<MergedView>>> {
    caller.allow_everywhere()?;
    let MergeBody { source_person_id: source, target_person_id: target, reason } = body;
    if source == target {
        return Err(ApiError::field("targetPersonId", "is the same person"));
    }
    match person_links::merge(&app.host.store, source, target, reason.as_deref(), app.host.clock.now()).await? {
        Linked::Done((person, merged_identity_ids)) => {
            Ok(Json(Data { data: MergedView { person, merged_identity_ids, deleted_person_id: source } }))
        }
        Linked::Missing(id) => Err(ApiError::not_found("person", id)),
    }
}
