//! The audit log, read. It tells of every instance, so a key that reaches some only cannot read it.

use super::answer::List;
use super::auth::Caller;
use super::error::{ApiResult, ErrorBody};
use super::extract::{Paging, Path, Query};
use super::{App, cursor};
use crate::store::Time;
use crate::store::audit::{self, AuditFilter, AuditLine};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(of_key))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// By this key.
    key_id: Option<Uuid>,
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
    /// Answered with this status or a higher one: 400 for everything that was refused or failed.
    min_status: Option<i64>,
}

/// Lists who asked what, newest first: every change and every refusal.
#[utoipa::path(get, path = "/audit", operation_id = "audit", tag = "keys", params(ListQuery, Paging),
    responses((status = 200, body = List<AuditLine>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<AuditLine>>> {
    page(&app, &caller, query, &paging).await
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct KeyQuery {
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
}

/// Lists what a key was used for, newest first. Also of one that is removed.
#[utoipa::path(get, path = "/keys/{id}/audit", operation_id = "key_audit", tag = "keys",
    params(("id" = Uuid, Path, description = "Our id"), KeyQuery, Paging),
    responses((status = 200, body = List<AuditLine>), (status = "default", body = ErrorBody)))]
async fn of_key(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<KeyQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<AuditLine>>> {
    let query = ListQuery { key_id: Some(id), since: query.since, until: query.until, min_status: None };
    page(&app, &caller, query, &paging).await
}

async fn page(app: &App, caller: &Caller, query: ListQuery, paging: &Paging) -> ApiResult<Json<List<AuditLine>>> {
    caller.allow_everywhere()?;
    let filter =
        AuditFilter { api_key_id: query.key_id, since: query.since, until: query.until, min_status: query.min_status };
    let from = cursor::decode(paging.cursor.as_deref())?;
    Ok(Json(audit::list(&app.host.store, &filter, from, paging.limit()?).await?.into()))
}
