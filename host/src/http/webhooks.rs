//! Webhooks out: where events are sent. Secrets go in, are shown once, and never come out again.

use super::answer::{Data, List, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Paging, Path, Query};
use super::{App, cursor, instances};
use crate::store::page::InstanceSet;
use crate::store::webhook_log::{self, Attempt, Delivery};
use crate::store::webhooks::WebhookRow;
use crate::store::{Time, consumers, webhook_queue};
use crate::webhooks::{Change, NewWebhook, WebhookError};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// How long the secret before signs beside its successor when nothing is said.
const OVERLAP_SECONDS: u64 = 86_400;
/// How far what waits is counted.
const COUNTED: i64 = 100_000;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(get, update, delete))
        .routes(routes!(enable))
        .routes(routes!(disable))
        .routes(routes!(test))
        .routes(routes!(rotate))
        .routes(routes!(deliveries))
        .routes(routes!(delivery))
}

/// Where events are sent, without what is secret about it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Webhook)]
struct WebhookView {
    /// Our id.
    id: Uuid,
    /// Its name, unique.
    name: String,
    /// Where it leads.
    url: String,
    /// What it is for.
    description: Option<String>,
    /// Names and patterns of events; all when empty.
    event_types: Vec<String>,
    /// The only instances; all when absent.
    instance_ids: Option<Vec<Uuid>>,
    /// The only chats; all when empty.
    chat_ids: Vec<String>,
    /// The names of the headers that are sent along.
    headers: Vec<String>,
    /// Whether the operator pointed it at a private address.
    private_address: bool,
    /// Until when each secret signs, the newest first; `null` for the newest.
    secrets_until: Vec<Option<Time>>,
    /// Whether it is sent to.
    enabled: bool,
    /// `active`, `failing`, `resting` (it is left alone for a while) or `disabled`.
    #[schema(example = "active")]
    status: &'static str,
    /// Why it is disabled.
    disabled_reason: Option<String>,
    /// Since when it is disabled.
    disabled_at: Option<Time>,
    /// Attempts in a row that failed.
    failures: i64,
    /// Since when every attempt failed.
    failing_since: Option<Time>,
    /// Until when it is left alone.
    resting_until: Option<Time>,
    /// When it last took an event.
    last_success_at: Option<Time>,
    /// When it last did not.
    last_failure_at: Option<Time>,
    /// Why it last did not.
    last_error: Option<String>,
    /// How many events are queued for it.
    queued: i64,
    /// How many events, wanted or not, it has not come to yet.
    behind: i64,
    /// By whom it was made.
    created_by: Option<String>,
    /// When.
    created_at: Time,
    /// When it was changed.
    updated_at: Time,
}

async fn view(app: &App, row: WebhookRow) -> ApiResult<WebhookView> {
    let now = app.host.clock.now();
    let mut tx = app.host.store.read().await?;
    let (_, queued) = webhook_queue::waiting(&mut tx, row.id, now, (1, COUNTED)).await?;
    let reached = consumers::reached(&mut tx, &crate::store::webhooks::consumer(row.id), "events").await?;
    let newest = crate::store::events::newest(&mut tx).await?;
    let opened = app.host.webhooks.open(&row);
    let status = match &row {
        row if !row.enabled => "disabled",
        row if row.resting_until.is_some_and(|until| until > now) => "resting",
        row if row.failing_since.is_some() => "failing",
        _ => "active",
    };
    Ok(WebhookView {
        id: row.id,
        name: row.name,
        url: row.url,
        description: row.description,
        event_types: row.event_types,
        instance_ids: row.instance_ids,
        chat_ids: row.chat_ids,
        headers: opened.headers,
        private_address: row.private_granted,
        secrets_until: opened.secret_ends,
        enabled: row.enabled,
        status,
        disabled_reason: row.disabled_reason,
        disabled_at: row.disabled_at,
        failures: row.failures,
        failing_since: row.failing_since,
        resting_until: row.resting_until,
        last_success_at: row.last_success_at,
        last_failure_at: row.last_failure_at,
        last_error: row.last_error,
        queued,
        behind: (newest - reached.unwrap_or(newest)).max(0),
        created_by: row.created_by,
        created_at: row.created_at,
        updated_at: row.updated_at,
    })
}

impl From<WebhookError> for ApiError {
    fn from(error: WebhookError) -> Self {
        match error {
            WebhookError::NotFound(id) => Self::not_found("webhook", id),
            WebhookError::Invalid(field, problem) => Self::field(field, problem),
            WebhookError::NotAllowed(message) => Self::forbidden(message),
            WebhookError::Store(error) => error.into(),
        }
    }
}

pub(crate) async fn find(app: &App, caller: &Caller, id_or_name: &str) -> ApiResult<WebhookRow> {
    Ok(app.host.webhooks.find(id_or_name, caller.instances()).await?)
}

/// The instances that a webhook is for, by id or name; all that the key reaches when none is named.
async fn instances_of(app: &App, caller: &Caller, named: Option<Vec<String>>) -> ApiResult<Option<Vec<Uuid>>> {
    match (named, caller.instances()) {
        (None, InstanceSet::All) => Ok(None),
        (None, InstanceSet::Only(ids)) => Ok(Some(ids.clone())),
        (Some(named), _) => {
            if named.is_empty() {
                return Err(ApiError::field("instanceIds", "names no instance; leave it out for all"));
            }
            let mut ids = Vec::with_capacity(named.len());
            for name in &named {
                ids.push(instances::named(app, caller, name).await?);
            }
            Ok(Some(ids))
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Only those that are sent to (`true`), or that are not (`false`).
    enabled: Option<bool>,
}

/// Lists webhooks, the oldest first. A key that reaches some instances only sees those that are for these alone.
#[utoipa::path(get, path = "/webhooks", tag = "webhooks", params(ListQuery),
    responses((status = 200, body = List<WebhookView>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<List<WebhookView>>> {
    let mut items = Vec::new();
    for row in app.host.webhooks.list(caller.instances()).await? {
        if query.enabled.is_none_or(|enabled| enabled == row.enabled) {
            items.push(view(&app, row).await?);
        }
    }
    Ok(Json(List::whole(items)))
}

/// What is needed to make a webhook.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreateWebhookRequest)]
struct CreateBody {
    /// Its name, unique, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// Where events are sent, by `POST`.
    #[schema(example = "https://example.org/omni")]
    url: String,
    /// What it is for.
    description: Option<String>,
    /// Names and patterns of events: `message.received`, `message.*`, `*`. All when left out.
    #[serde(default)]
    event_types: Vec<String>,
    /// Only these instances, by id or name.
    instance_ids: Option<Vec<String>>,
    /// Only these chats, by our id or the network's.
    #[serde(default)]
    chat_ids: Vec<String>,
    /// Sent along with every event, such as `authorization`. Kept sealed and never shown.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// The secret to sign with: `whsec_` and the base64 of 24 to 64 bytes. One is made when it is left out.
    secret: Option<String>,
    /// Whether it is sent to at once.
    #[serde(default = "yes")]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// A webhook and the secret that it signs with, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookWithSecret)]
struct WithSecret {
    #[serde(flatten)]
    webhook: WebhookView,
    /// Keep it where the receiver finds it.
    secret: String,
}

/// Makes a webhook. It gets what happens from now on, signed as Standard Webhooks has it.
#[utoipa::path(post, path = "/webhooks", tag = "webhooks", request_body = CreateBody,
    responses((status = 201, body = Data<WithSecret>), (status = "default", body = ErrorBody)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> ApiResult<(StatusCode, Json<Data<WithSecret>>)> {
    let new = NewWebhook {
        name: body.name,
        url: body.url,
        description: body.description,
        event_types: body.event_types,
        instance_ids: instances_of(&app, &caller, body.instance_ids).await?,
        chat_ids: body.chat_ids,
        headers: body.headers,
        secret: body.secret,
        enabled: body.enabled,
        created_by: Some(caller.name().to_owned()),
        by_operator: caller.is_operator(),
    };
    let (row, secret) = app.host.webhooks.create(new).await?;
    Ok((StatusCode::CREATED, Json(Data { data: WithSecret { webhook: view(&app, row).await?, secret } })))
}

/// Shows one webhook.
#[utoipa::path(get, path = "/webhooks/{id}", tag = "webhooks", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<WebhookView>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<WebhookView>>> {
    let row = find(&app, &caller, &id).await?;
    Ok(Json(Data { data: view(&app, row).await? }))
}

/// What is to be changed. Absent fields stay; `null` for `instanceIds` is every instance that the key reaches.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpdateWebhookRequest)]
struct UpdateBody {
    /// A new name.
    name: Option<String>,
    /// Another address: what waits is tried there at once.
    url: Option<String>,
    /// What it is for; an empty text takes it away.
    description: Option<String>,
    /// Names and patterns of events.
    event_types: Option<Vec<String>>,
    /// Only these instances, by id or name.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<Vec<String>>)]
    instance_ids: Option<Option<Vec<String>>>,
    /// Only these chats.
    chat_ids: Option<Vec<String>>,
    /// The headers that are sent along, in place of those before.
    headers: Option<BTreeMap<String, String>>,
    /// Whether it is sent to.
    enabled: Option<bool>,
}

/// Tells a `null` from nothing.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::<T>::deserialize(deserializer).map(Some)
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/webhooks/{id}", tag = "webhooks", request_body = UpdateBody,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<WebhookView>), (status = "default", body = ErrorBody)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<UpdateBody>,
) -> ApiResult<Json<Data<WebhookView>>> {
    let before = find(&app, &caller, &id).await?;
    let change = Change {
        name: body.name,
        url: body.url,
        description: body.description,
        event_types: body.event_types,
        instance_ids: match body.instance_ids {
            Some(named) => Some(instances_of(&app, &caller, named).await?),
            None => None,
        },
        chat_ids: body.chat_ids,
        headers: body.headers,
        by_operator: caller.is_operator(),
    };
    let mut row = app.host.webhooks.change(before.id, change).await?;
    match body.enabled {
        Some(true) if !row.enabled => row = app.host.webhooks.enable(row.id).await?,
        Some(false) if row.enabled => row = app.host.webhooks.disable(row.id, caller.name()).await?,
        _ => {}
    }
    Ok(Json(Data { data: view(&app, row).await? }))
}

/// Deletes a webhook with what waits for it. Its dead letters stay.
#[utoipa::path(delete, path = "/webhooks/{id}", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Success>> {
    let row = find(&app, &caller, &id).await?;
    app.host.webhooks.delete(row.id).await?;
    Ok(Json(Success::because(format!("webhook {} is deleted", row.name))))
}

/// Sends to a webhook again, from where it was left off.
#[utoipa::path(post, path = "/webhooks/{id}/enable", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<WebhookView>), (status = "default", body = ErrorBody)))]
async fn enable(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<WebhookView>>> {
    let row = find(&app, &caller, &id).await?;
    let row = app.host.webhooks.enable(row.id).await?;
    Ok(Json(Data { data: view(&app, row).await? }))
}

/// Sends to a webhook no more. What happens meanwhile is sent once it is enabled, as long as events are kept.
#[utoipa::path(post, path = "/webhooks/{id}/disable", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<WebhookView>), (status = "default", body = ErrorBody)))]
async fn disable(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<WebhookView>>> {
    let row = find(&app, &caller, &id).await?;
    let row = app.host.webhooks.disable(row.id, caller.name()).await?;
    Ok(Json(Data { data: view(&app, row).await? }))
}

/// How a try went.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct TriedView {
    /// Whether it was taken.
    success: bool,
    /// The `webhook-id`.
    event_id: Uuid,
    /// What was answered.
    status_code: Option<u16>,
    /// How long it took.
    duration_ms: i64,
    /// Why it counts as failed.
    error: Option<String>,
    /// The first bytes of the answer.
    answer: Option<String>,
}

/// Sends a webhook an event `webhook.test`, once, and tells how that went.
#[utoipa::path(post, path = "/webhooks/{id}/test", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<TriedView>), (status = "default", body = ErrorBody)))]
async fn test(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<TriedView>>> {
    let row = find(&app, &caller, &id).await?;
    let tried = app.host.webhooks.test(row.id).await?;
    let data = TriedView {
        success: tried.taken,
        event_id: tried.event_id,
        status_code: tried.attempt.status_code,
        duration_ms: tried.attempt.duration_ms,
        error: tried.attempt.error,
        answer: tried.attempt.answer,
    };
    Ok(Json(Data { data }))
}

/// How a secret is replaced.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RotateWebhookRequest)]
struct RotateBody {
    /// The new secret; one is made when it is left out.
    secret: Option<String>,
    /// How long the one before signs beside it, in seconds; a day when it is left out.
    overlap_seconds: Option<u64>,
}

/// Gives a webhook a new secret, which is shown this once. The one before signs beside it for a while.
#[utoipa::path(post, path = "/webhooks/{id}/rotate", tag = "webhooks", request_body = Option<RotateBody>,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<WithSecret>), (status = "default", body = ErrorBody)))]
async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalBody(body): OptionalBody<RotateBody>,
) -> ApiResult<Json<Data<WithSecret>>> {
    let overlap = body.overlap_seconds.unwrap_or(OVERLAP_SECONDS);
    if overlap > 30 * 86_400 {
        return Err(ApiError::field("overlapSeconds", "must be at most 30 days"));
    }
    let row = find(&app, &caller, &id).await?;
    let (row, secret) = app.host.webhooks.rotate(row.id, body.secret, Duration::from_secs(overlap)).await?;
    Ok(Json(Data { data: WithSecret { webhook: view(&app, row).await?, secret } }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeliveriesQuery {
    /// `pending`, `delivered`, `failed` or `expired`.
    status: Option<String>,
}

/// Lists what was sent to a webhook and what waits to be, newest first.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name"), DeliveriesQuery, Paging),
    responses((status = 200, body = List<Delivery>), (status = "default", body = ErrorBody)))]
async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<DeliveriesQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Delivery>>> {
    let row = find(&app, &caller, &id).await?;
    let from = cursor::decode(paging.cursor.as_deref())?;
    let status = query.status.as_deref();
    Ok(Json(webhook_log::list(&app.host.store, row.id, status, from, paging.limit()?).await?.into()))
}

/// A delivery with its attempts.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeliveryView {
    #[serde(flatten)]
    delivery: Delivery,
    /// Every attempt, in order.
    attempt_log: Vec<Attempt>,
}

/// Shows one delivery with its attempts.
#[utoipa::path(get, path = "/webhooks/{id}/deliveries/{deliveryId}", tag = "webhooks",
    params(("id" = String, Path, description = "Id or name"), ("deliveryId" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<DeliveryView>), (status = "default", body = ErrorBody)))]
async fn delivery(
    State(app): State<App>,
    caller: Caller,
    Path((id, delivery_id)): Path<(String, Uuid)>,
) -> ApiResult<Json<Data<DeliveryView>>> {
    let row = find(&app, &caller, &id).await?;
    let found = webhook_log::get(&app.host.store, row.id, delivery_id).await?;
    let (delivery, attempt_log) = found.ok_or_else(|| ApiError::not_found("delivery", delivery_id))?;
    Ok(Json(Data { data: DeliveryView { delivery, attempt_log } }))
}
