//! Events that a consumer could not take: looked at, tried again, settled.

use super::answer::{Data, List};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Paging, Path, Query};
use super::{App, cursor, instances};
use crate::dead_letters::Outcome;
use crate::store::Time;
use crate::store::dead_letter_list::{self, DeadLetter, DeadLetterFilter, DeadLetterStats};
use crate::store::dead_letters::{self, By, Mark};
use axum::Json;
use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(stats))
        .routes(routes!(get))
        .routes(routes!(retry))
        .routes(routes!(resolve))
        .routes(routes!(abandon))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `pending`, `retrying`, `resolved` or `abandoned`.
    status: Option<String>,
    /// Of this type.
    event_type: Option<String>,
    /// Of this instance, by id or name.
    instance_id: Option<String>,
    /// Of this consumer: `storage`, or `webhook:` and an id.
    consumer: Option<String>,
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
}

/// Lists dead letters, newest first.
#[utoipa::path(get, path = "/dead-letters", tag = "dead letters", params(ListQuery, Paging),
    responses((status = 200, body = List<DeadLetter>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<DeadLetter>>> {
    let filter = DeadLetterFilter {
        instances: instances::narrow(&app, &caller, query.instance_id.as_deref()).await?,
        status: query.status,
        event_type: query.event_type,
        consumer: query.consumer,
        since: query.since,
        until: query.until,
    };
    let from = cursor::decode(paging.cursor.as_deref())?;
    Ok(Json(dead_letter_list::list(&app.host.store, &filter, from, paging.limit()?).await?.into()))
}

/// Counts dead letters.
#[utoipa::path(get, path = "/dead-letters/stats", tag = "dead letters",
    responses((status = 200, body = Data<DeadLetterStats>), (status = "default", body = ErrorBody)))]
async fn stats(State(app): State<App>, caller: Caller) -> ApiResult<Json<Data<DeadLetterStats>>> {
    Ok(Json(Data { data: dead_letter_list::stats(&app.host.store, caller.instances()).await? }))
}

/// A dead letter with its payload.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WholeLetter {
    #[serde(flatten)]
    letter: DeadLetter,
    /// The event, whole: as JSON, or in base64 when it is none.
    #[schema(value_type = Object)]
    payload: Value,
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> ApiResult<DeadLetter> {
    let found = dead_letter_list::get(&app.host.store, id, caller.instances()).await?;
    found.ok_or_else(|| ApiError::not_found("dead letter", id))
}

/// The same with all that is needed to do it again.
async fn whole(app: &App, id: Uuid) -> ApiResult<dead_letters::DeadLetter> {
    let found = dead_letters::get(&mut app.host.store.read().await?, id).await?;
    found.ok_or_else(|| ApiError::not_found("dead letter", id))
}

/// Shows one dead letter with its payload.
#[utoipa::path(get, path = "/dead-letters/{id}", tag = "dead letters",
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<WholeLetter>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<WholeLetter>>> {
    let letter = find(&app, &caller, id).await?;
    let bytes = whole(&app, id).await?.payload;
    let payload = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(STANDARD.encode(&bytes)));
    Ok(Json(Data { data: WholeLetter { letter, payload } }))
}

/// Whether its consumer has it, or it is on its way there; should that fail again, it comes back here.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct RetryView {
    success: bool,
    dead_letter_id: Uuid,
    /// Why it failed again, or could not even be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Tries an event again, now.
#[utoipa::path(post, path = "/dead-letters/{id}/retry", tag = "dead letters",
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = RetryView), (status = "default", body = ErrorBody)))]
async fn retry(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<RetryView>> {
    let letter = find(&app, &caller, id).await?;
    if letter.status == "resolved" {
        return Err(settled(&letter));
    }
    let whole = whole(&app, id).await?;
    let error = match app.host.dead_letters.retry(whole, By::Hand).await? {
        Outcome::Taken | Outcome::OnItsWay => None,
        Outcome::Failed(reason) => Some(reason),
        Outcome::NotNow => return Err(settled(&find(&app, &caller, id).await?)),
    };
    Ok(Json(RetryView { success: error.is_none(), dead_letter_id: id, error }))
}

async fn marked(app: &App, id: Uuid, mark: &Mark) -> ApiResult<()> {
    let mut tx = app.host.store.begin().await?;
    dead_letters::mark(&mut tx, id, mark, app.host.clock.now()).await?;
    Ok(tx.commit().await?)
}

/// What was done about it.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = ResolveDeadLetterRequest)]
struct ResolveBody {
    /// In a sentence.
    note: String,
}

/// Settles a dead letter: what was lost was made good otherwise.
#[utoipa::path(post, path = "/dead-letters/{id}/resolve", tag = "dead letters", request_body = ResolveBody,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<DeadLetter>), (status = "default", body = ErrorBody)))]
async fn resolve(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(body): Body<ResolveBody>,
) -> ApiResult<Json<Data<DeadLetter>>> {
    let mark = Mark::Resolved { by: caller.name().to_owned(), note: Some(body.note) };
    settle(&app, &caller, id, &mark).await
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = AbandonDeadLetterRequest)]
struct AbandonBody {
    /// Why, in a sentence.
    note: Option<String>,
}

/// Gives a dead letter up. It stays, and can still be tried again.
#[utoipa::path(post, path = "/dead-letters/{id}/abandon", tag = "dead letters", request_body = Option<AbandonBody>,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<DeadLetter>), (status = "default", body = ErrorBody)))]
async fn abandon(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    OptionalBody(body): OptionalBody<AbandonBody>,
) -> ApiResult<Json<Data<DeadLetter>>> {
    let mark = Mark::Abandoned { by: caller.name().to_owned(), note: body.note };
    settle(&app, &caller, id, &mark).await
}

async fn settle(app: &App, caller: &Caller, id: Uuid, mark: &Mark) -> ApiResult<Json<Data<DeadLetter>>> {
    let letter = find(app, caller, id).await?;
    if !matches!(letter.status.as_str(), "pending" | "retrying") {
        return Err(settled(&letter));
    }
    marked(app, id, mark).await?;
    Ok(Json(Data { data: find(app, caller, id).await? }))
}

fn settled(letter: &DeadLetter) -> ApiError {
    ApiError::conflict(format!("dead letter {} is {}", letter.id, letter.status))
}
