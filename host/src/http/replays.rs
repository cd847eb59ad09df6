//! Replays: what happened, once more, for one consumer. The paths are Omni v2's.

use super::answer::{Data, List, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Path};
use super::{App, instances, webhooks};
use crate::replay::Wanted;
use crate::store::Time;
use crate::store::replays::ReplayRow;
use crate::webhooks::valid_types;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// The most that one replay may be asked for.
const MOST: i64 = 1_000_000;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, start)).routes(routes!(get, cancel))
}

/// What is to be replayed, and for whom.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = StartReplayRequest)]
struct StartBody {
    /// For whom: a webhook, by id or name, or as `webhook:` and its id.
    consumer: Option<String>,
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
    /// Names and patterns; what the consumer does not want is not replayed either.
    #[serde(default)]
    event_types: Vec<String>,
    /// Of this instance, by id or name.
    instance_id: Option<String>,
    /// No more than so many.
    #[schema(minimum = 1, maximum = 1000000)]
    limit: Option<i64>,
    /// Not known here: events are replayed as fast as the consumer takes them.
    speed_multiplier: Option<f64>,
    /// Whether to leave out what the consumer has taken already.
    #[serde(default)]
    skip_processed: bool,
    /// Whether only to count.
    #[serde(default)]
    dry_run: bool,
}

/// A replay and how far it has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Replay)]
pub(crate) struct ReplayView {
    /// Our id.
    id: Uuid,
    /// For whom.
    consumer: String,
    /// `running`, `completed`, `cancelled` or `failed`.
    status: String,
    /// What was asked for.
    #[schema(value_type = Wanted)]
    options: Value,
    /// How far it has come.
    progress: Progress,
    /// Why it failed.
    error: Option<String>,
    /// By whom it was asked for.
    created_by: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayProgress)]
struct Progress {
    /// How many events are looked at in all.
    total: i64,
    /// How many were looked at.
    processed: i64,
    /// Always 0: what the consumer does not take is with the consumer.
    failed: i64,
    /// How many were wanted.
    matched: i64,
    /// How many were handed to the consumer.
    replayed: i64,
    /// How many it had taken before.
    skipped: i64,
    started_at: Time,
    completed_at: Option<Time>,
}

impl From<ReplayRow> for ReplayView {
    fn from(row: ReplayRow) -> Self {
        Self {
            id: row.id,
            consumer: row.consumer,
            status: row.status,
            options: row.options.0,
            progress: Progress {
                total: row.total,
                processed: row.total - (row.end_seq - row.position),
                failed: 0,
                matched: row.matched,
                replayed: row.replayed,
                skipped: row.skipped,
                started_at: row.started_at,
                completed_at: row.completed_at,
            },
            error: row.error,
            created_by: row.created_by,
        }
    }
}

/// Begins to replay events to a consumer.
#[utoipa::path(post, path = "/event-ops/replay", tag = "event ops", request_body = StartBody,
    responses((status = 202, body = Data<ReplayView>), (status = "default", body = ErrorBody)))]
async fn start(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<StartBody>,
) -> ApiResult<(StatusCode, Json<Data<ReplayView>>)> {
    let Some(consumer) = &body.consumer else {
        return Err(ApiError::field("consumer", "is missing; name the webhook that is to get the events"));
    };
    let Some(since) = body.since else { return Err(ApiError::field("since", "is missing")) };
    if body.until.is_some_and(|until| until <= since) {
        return Err(ApiError::field("until", "must be later than since"));
    }
    if body.limit.is_some_and(|limit| !(1..=MOST).contains(&limit)) {
        return Err(ApiError::field("limit", format!("must be a whole number from 1 to {MOST}")));
    }
    if body.speed_multiplier.is_some_and(|speed| speed != 0.0) {
        return Err(ApiError::field("speedMultiplier", "events are replayed as fast as the consumer takes them"));
    }
    let webhook = webhooks::find(&app, &caller, consumer.strip_prefix("webhook:").unwrap_or(consumer)).await?;
    let wanted = Wanted {
        since: Some(since),
        until: body.until,
        event_types: valid_types(body.event_types)?,
        instance_id: match &body.instance_id {
            Some(named) => Some(instances::named(&app, &caller, named).await?),
            None => None,
        },
        limit: body.limit,
        skip_processed: body.skip_processed,
        dry_run: body.dry_run,
    };
    let row = app.host.replays.begin(webhook.id, &wanted, caller.instances(), caller.name()).await?;
    Ok((StatusCode::ACCEPTED, Json(Data { data: row.into() })))
}

/// Lists the last replays, newest first.
#[utoipa::path(get, path = "/event-ops/replay", tag = "event ops",
    responses((status = 200, body = List<ReplayView>), (status = "default", body = ErrorBody)))]
async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<List<ReplayView>>> {
    let rows = app.host.replays.list(caller.instances()).await?;
    Ok(Json(List::whole(rows.into_iter().map(ReplayView::from).collect())))
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> ApiResult<ReplayRow> {
    let found = app.host.replays.get(id, caller.instances()).await?;
    found.ok_or_else(|| ApiError::not_found("replay", id))
}

/// Shows a replay and how far it has come.
#[utoipa::path(get, path = "/event-ops/replay/{id}", tag = "event ops", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<ReplayView>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<ReplayView>>> {
    Ok(Json(Data { data: find(&app, &caller, id).await?.into() }))
}

/// Cancels a replay. What it has handed over stays with the consumer.
#[utoipa::path(delete, path = "/event-ops/replay/{id}", tag = "event ops",
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn cancel(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Success>> {
    let row = find(&app, &caller, id).await?;
    if app.host.replays.cancel(id).await? {
        return Ok(Json(Success::because("the replay is cancelled".to_owned())));
    }
    let status = find(&app, &caller, id).await.map_or(row.status, |row| row.status);
    Err(ApiError::validation(format!("replay {id} is not running: it is {status}")))
}
