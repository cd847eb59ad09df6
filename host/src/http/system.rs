//! The host itself: its key, and how much it says in its log.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::Body;
use crate::rotation::{GRACE, Progress, Rotation, RotationError};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(key)).routes(routes!(rotate)).routes(routes!(level, set_level))
}

/// The key that seals tokens and logins.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DataKey)]
struct KeyView {
    /// Its id, which is no secret.
    key_id: String,
    /// Whether it is being changed: an older key is still there.
    under_way: bool,
    /// Values that are still sealed under the older key.
    remaining: u64,
}

impl From<Progress> for KeyView {
    fn from(progress: Progress) -> Self {
        Self { key_id: progress.key_id, under_way: progress.under_way, remaining: progress.remaining }
    }
}

fn rotation(app: &App) -> ApiResult<&Rotation> {
    app.shared.options.rotation.as_ref().ok_or_else(|| ApiError::not_found("key", "of a data folder"))
}

fn refused(error: RotationError) -> ApiError {
    match error {
        RotationError::UnderWay => ApiError::conflict(error.to_string()),
        other => ApiError::internal(&other.to_string()),
    }
}

/// Tells which key seals tokens and logins, and whether it is being changed.
#[utoipa::path(get, path = "/system/key", operation_id = "data_key", tag = "system",
    responses((status = 200, body = Data<KeyView>), (status = "default", body = ErrorBody)))]
async fn key(State(app): State<App>, caller: Caller) -> ApiResult<Json<Data<KeyView>>> {
    caller.allow_everywhere()?;
    let progress = rotation(&app)?.progress().await.map_err(refused)?;
    Ok(Json(Data { data: progress.into() }))
}

/// Makes a new key and seals everything anew under it, while the host works. The older key goes a minute after nothing
/// needs it any more.
#[utoipa::path(post, path = "/system/key/rotate", operation_id = "rotate_data_key", tag = "system",
    responses((status = 202, body = Data<KeyView>), (status = "default", body = ErrorBody)))]
async fn rotate(State(app): State<App>, caller: Caller) -> ApiResult<(StatusCode, Json<Data<KeyView>>)> {
    caller.allow_everywhere()?;
    if app.host.hosts.has_others() {
        return Err(ApiError::conflict(
            "several hosts use this database, and each has the key in a file of its own: stop all but one (`omni hosts`), \
             change the key there, and copy its file to the others",
        ));
    }
    let rotation = rotation(&app)?.clone();
    rotation.begin().await.map_err(refused)?;
    let progress = rotation.progress().await.map_err(refused)?;
    let shutdown = app.shared.options.shutdown.clone();
    tokio::spawn(async move {
        // Ended midway it is gone on with at the next start.
        if let Some(Err(error)) = shutdown.run_until_cancelled(rotation.finish(GRACE)).await {
            tracing::error!("the key of the data folder could not be changed: {error}");
        }
    });
    Ok((StatusCode::ACCEPTED, Json(Data { data: progress.into() })))
}

/// How much the host says in its log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
struct LogLevelView {
    /// `error`, `warn`, `info`, `debug`, `trace`, or by part: `info,omni_host::outbound=debug`.
    #[schema(example = "info")]
    level: String,
}

fn log(app: &App) -> ApiResult<&crate::log::LogLevel> {
    app.shared.options.log.as_ref().ok_or_else(|| ApiError::not_found("log", "that can be changed"))
}

/// Tells how much the host says in its log.
#[utoipa::path(get, path = "/system/log-level", operation_id = "log_level", tag = "system",
    responses((status = 200, body = Data<LogLevelView>), (status = "default", body = ErrorBody)))]
async fn level(State(app): State<App>) -> ApiResult<Json<Data<LogLevelView>>> {
    Ok(Json(Data { data: LogLevelView { level: log(&app)?.get() } }))
}

/// Changes how much the host says in its log, at once and until it ends.
#[utoipa::path(put, path = "/system/log-level", operation_id = "set_log_level", tag = "system",
    request_body = LogLevelView,
    responses((status = 200, body = Data<LogLevelView>), (status = "default", body = ErrorBody)))]
async fn set_level(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<LogLevelView>,
) -> ApiResult<Json<Data<LogLevelView>>> {
    caller.allow_everywhere()?;
    let log = log(&app)?;
    log.set(&body.level).map_err(|error| ApiError::field("level", error))?;
    Ok(Json(Data { data: LogLevelView { level: log.get() } }))
}
