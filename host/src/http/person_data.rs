//! All that there is of somebody: given out, or taken away.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::Path;
use crate::store::erasures::Erasure;
use crate::store::person_export::{self, Export};
use crate::store::{StoreError, Time};
use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(export)).routes(routes!(erase)).routes(routes!(erasure))
}

/// Gives out everything that is stored about a person: one JSON object a line, each with its `kind` (`person`, `identity`,
/// `seat`, `message`, `media`, `reaction`, `vote`, `event`). The last line is of the kind `end` and has the number of lines
/// before it; without it the export is not whole.
#[utoipa::path(get, path = "/persons/{id}/export", tag = "persons", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, content_type = "application/x-ndjson", body = String),
        (status = "default", body = ErrorBody)))]
async fn export(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Response> {
    caller.allow_everywhere()?;
    let found = person_export::begin(&app.host.store, id, app.host.clock.now()).await?;
    let export = found.ok_or_else(|| ApiError::not_found("person", id))?;
    let pages = futures_util::stream::try_unfold(export, |mut export: Export| async move {
        let page = export.next().await.inspect_err(|error| {
            tracing::warn!("the export of a person broke off: {}", error.explain());
        })?;
        Ok::<_, StoreError>(page.map(|page| (page, export)))
    });
    let name = format!("attachment; filename=\"person-{id}.ndjson\"");
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, Body::from_stream(pages)).into_response())
}

/// How far the erasure of a person is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Erasure)]
struct ErasureView {
    id: Uuid,
    person_id: Uuid,
    /// `running` or `completed`.
    #[schema(example = "completed")]
    status: &'static str,
    /// Messages that were emptied.
    messages: i64,
    /// Events that were emptied.
    events: i64,
    /// Files that were deleted.
    files: i64,
    /// The name of the key that asked for it.
    requested_by: Option<String>,
    requested_at: Time,
    completed_at: Option<Time>,
}

impl From<Erasure> for ErasureView {
    fn from(erasure: Erasure) -> Self {
        Self {
            id: erasure.id,
            person_id: erasure.person_id,
            status: if erasure.completed_at.is_some() { "completed" } else { "running" },
            messages: erasure.messages,
            events: erasure.events,
            files: erasure.files,
            requested_by: erasure.requested_by,
            requested_at: erasure.requested_at,
            completed_at: erasure.completed_at,
        }
    }
}

/// Erases a person: they and their accounts are gone with the answer, and what they wrote and did is taken out after it.
/// `GET /persons/{id}/erasure` says how far that is, and the event `identity.erased` that it is done. What they write from
/// now on is a new person's. It cannot be undone.
#[utoipa::path(post, path = "/persons/{id}/erase", tag = "persons", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 202, body = Data<ErasureView>), (status = "default", body = ErrorBody)))]
async fn erase(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
) -> ApiResult<(StatusCode, Json<Data<ErasureView>>)> {
    caller.allow_everywhere()?;
    let found = app.host.erasures.begin(id, caller.name()).await?;
    let data = found.ok_or_else(|| ApiError::not_found("person", id))?.into();
    Ok((StatusCode::ACCEPTED, Json(Data { data })))
}

/// Says how far the erasure of a person is.
#[utoipa::path(get, path = "/persons/{id}/erasure", tag = "persons", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<ErasureView>), (status = "default", body = ErrorBody)))]
async fn erasure(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<ErasureView>>> {
    caller.allow_everywhere()?;
    let found = app.host.erasures.get(id).await?;
    Ok(Json(Data { data: found.ok_or_else(|| ApiError::not_found("erasure of person", id))?.into() }))
}
