//! Older messages, and those that were missed: jobs that fetch them from the network. The paths are Omni v2's.

use super::answer::{Data, List, Meta, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Paging, Path, Query};
use super::instances::find;
use super::send::network_id;
use super::{App, cursor};
use crate::history::{Progress, Wanted};
use crate::store::sync_jobs::SyncJobRow;
use crate::store::{StoreError, Time};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// How far back a job goes, by its word, in days.
const DEPTHS: [(&str, Option<i64>); 5] =
    [("7d", Some(7)), ("30d", Some(30)), ("90d", Some(90)), ("1y", Some(365)), ("all", None)];
/// How far when nothing is said.
const DEPTH: &str = "30d";
const DAY_MS: i64 = 24 * 3_600 * 1_000;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, start)).routes(routes!(get, cancel)).routes(routes!(resync))
}

/// A job that fetches messages, and how far it has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SyncJob)]
pub(crate) struct JobView {
    /// Our id.
    id: Uuid,
    /// The same, in Omni v2's word.
    job_id: Uuid,
    /// The instance.
    instance_id: Uuid,
    /// The id of its channel.
    channel: String,
    /// `messages`: older ones; `missed`: those behind the newest that was stored.
    #[serde(rename = "type")]
    kind: String,
    /// `pending`, `running`, `completed`, `failed` or `cancelled`.
    status: String,
    /// What was asked for.
    config: Wanted,
    /// How far it has come.
    progress: Progress,
    /// Why it failed.
    error_message: Option<String>,
    /// When it was asked for.
    created_at: Time,
    /// When it began.
    started_at: Option<Time>,
    /// When it ended.
    completed_at: Option<Time>,
}

impl TryFrom<SyncJobRow> for JobView {
    type Error = ApiError;

    fn try_from(row: SyncJobRow) -> Result<Self, ApiError> {
        let broken = |column, error: serde_json::Error| StoreError::Inconsistent {
            table: "sync_jobs",
            column,
            id: row.id.to_string(),
            reason: error.to_string(),
        };
        Ok(Self {
            id: row.id,
            job_id: row.id,
            instance_id: row.instance_id,
            channel: row.channel.clone(),
            kind: row.kind.clone(),
            status: row.status.clone(),
            config: Wanted::deserialize(&row.config.0).map_err(|error| broken("config", error))?,
            progress: Progress::deserialize(&row.progress.0).map_err(|error| broken("progress", error))?,
            error_message: row.error_message.clone(),
            created_at: row.created_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
        })
    }
}

/// What is to be fetched.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SyncRequest)]
struct StartBody {
    /// `messages`; there are no others.
    #[serde(rename = "type")]
    #[schema(example = "messages")]
    kind: String,
    /// Of this chat only, by our id or the network's; of the 500 with the newest activity when absent.
    #[serde(alias = "channelId")]
    chat_id: Option<String>,
    /// How far back: `7d`, `30d`, `90d`, `1y` or `all`; `30d` when neither this nor `since` is said.
    #[schema(example = "30d")]
    depth: Option<String>,
    /// Nothing that was written before, RFC 3339.
    since: Option<Time>,
    /// Nothing that was written after, RFC 3339.
    until: Option<Time>,
}

/// Begins to fetch older messages from the network, from the oldest that is stored back. They are stored as what they are,
/// old: they are told as `message.synced` and are not unread. Files are fetched like those of any message.
#[utoipa::path(post, path = "/instances/{id}/sync", tag = "instances", request_body = StartBody, operation_id = "start_sync",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 202, body = Data<JobView>), (status = "default", body = ErrorBody)))]
async fn start(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<StartBody>,
) -> ApiResult<(StatusCode, Json<Data<JobView>>)> {
    let instance = find(&app, &caller, &id).await?;
    if body.kind != "messages" {
        let sentence = format!("{:?} cannot be fetched; there is: messages", body.kind);
        return Err(ApiError::field("type", sentence));
    }
    let (depth, since) = reach(body.depth, body.since, app.host.clock.now())?;
    in_order(since, body.until)?;
    let chat_id = match &body.chat_id {
        Some(chat) if chat.is_empty() => return Err(ApiError::field("chatId", "is empty; leave it out for all chats")),
        Some(chat) => Some(network_id(&app, &caller, instance.id, chat).await?),
        None => None,
    };
    let wanted = Wanted { depth, chat_id, since, until: body.until, ..Wanted::default() };
    let row = app.host.history.backfill(&instance, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(Data { data: row.try_into()? })))
}

/// How far back it goes: the word for it, and since when.
fn reach(depth: Option<String>, since: Option<Time>, now: Time) -> ApiResult<(Option<String>, Option<Time>)> {
    let depth = match (depth, since) {
        (Some(_), Some(_)) => return Err(ApiError::field("depth", "cannot be said together with since")),
        (None, Some(_)) => return Ok((None, since)),
        (depth, None) => depth.unwrap_or_else(|| DEPTH.to_owned()),
    };
    match DEPTHS.into_iter().find(|(word, _)| *word == depth) {
        Some((_, days)) => Ok((Some(depth), days.map(|days| now.plus_millis(-days * DAY_MS)))),
        None => {
            let words = DEPTHS.map(|(word, _)| word).join(", ");
            Err(ApiError::field("depth", format!("must be one of {words}")))
        }
    }
}

fn in_order(since: Option<Time>, until: Option<Time>) -> ApiResult<()> {
    match since.zip(until) {
        Some((since, until)) if until <= since => Err(ApiError::field("until", "must be later than since")),
        _ => Ok(()),
    }
}

/// From when on something may have been missed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ResyncRequest)]
struct ResyncBody {
    /// From this time on, RFC 3339.
    since: Time,
    /// Up to this time, RFC 3339.
    until: Option<Time>,
}

/// Begins to fetch what was missed from a time on, in the chats that had a message before. It is news: it is told as
/// `message.received` and is unread.
#[utoipa::path(post, path = "/instances/{id}/resync", tag = "instances", request_body = ResyncBody,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 202, body = Data<JobView>), (status = "default", body = ErrorBody)))]
async fn resync(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<ResyncBody>,
) -> ApiResult<(StatusCode, Json<Data<JobView>>)> {
    let instance = find(&app, &caller, &id).await?;
    in_order(Some(body.since), body.until)?;
    let wanted = Wanted { since: Some(body.since), until: body.until, ..Wanted::default() };
    let row = app.host.history.resync(&instance, wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(Data { data: row.try_into()? })))
}

/// Lists the jobs of an instance that fetch messages, the newest first.
#[utoipa::path(get, path = "/instances/{id}/sync", tag = "instances", operation_id = "list_syncs",
    params(("id" = String, Path, description = "Id or name"), Paging),
    responses((status = 200, body = List<JobView>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<JobView>>> {
    let instance = find(&app, &caller, &id).await?;
    let from = cursor::decode(paging.cursor.as_deref())?;
    let page = app.host.history.list(instance.id, from, paging.limit()?).await?;
    let items = page.items.into_iter().map(JobView::try_from).collect::<ApiResult<_>>()?;
    Ok(Json(List { items, meta: Meta::new(page.next.map(cursor::encode)) }))
}

async fn found(app: &App, caller: &Caller, instance: &str, job: Uuid) -> ApiResult<SyncJobRow> {
    let instance = find(app, caller, instance).await?;
    let found = app.host.history.get(instance.id, job).await?;
    found.ok_or_else(|| ApiError::not_found("sync", job))
}

/// Shows a job that fetches messages, and how far it has come.
#[utoipa::path(get, path = "/instances/{id}/sync/{jobId}", tag = "instances", operation_id = "get_sync",
    params(("id" = String, Path, description = "Id or name"), ("jobId" = Uuid, Path, description = "Our id of the job")),
    responses((status = 200, body = Data<JobView>), (status = "default", body = ErrorBody)))]
async fn get(
    State(app): State<App>,
    caller: Caller,
    Path((id, job)): Path<(String, Uuid)>,
) -> ApiResult<Json<Data<JobView>>> {
    Ok(Json(Data { data: found(&app, &caller, &id, job).await?.try_into()? }))
}

/// Cancels a job that fetches messages. What it has fetched stays.
#[utoipa::path(delete, path = "/instances/{id}/sync/{jobId}", tag = "instances", operation_id = "cancel_sync",
    params(("id" = String, Path, description = "Id or name"), ("jobId" = Uuid, Path, description = "Our id of the job")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path((id, job)): Path<(String, Uuid)>,
) -> ApiResult<Json<Success>> {
    let row = found(&app, &caller, &id, job).await?;
    if app.host.history.cancel(job).await? {
        return Ok(Json(Success::because("the sync is cancelled; what it has fetched stays")));
    }
    let status = found(&app, &caller, &id, job).await.map_or(row.status, |row| row.status);
    Err(ApiError::conflict(format!("sync {job} does not run: it is {status}")))
}
