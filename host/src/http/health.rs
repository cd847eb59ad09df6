//! Whether the program lives, whether it can work, and its numbers. Without a key, so that they say nothing private.

use super::App;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::session::{InstanceCounts, count_instances};
use crate::bus::Durability;
use crate::store::Time;
use crate::store::page::InstanceSet;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(metrics))
}

/// The same at the top, where probes look for them.
pub(crate) fn top_level() -> Router<App> {
    Router::new().route("/health", get(health)).route("/ready", get(ready)).route("/metrics", get(metrics))
}

/// How the program is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = HealthResponse)]
struct Health {
    /// `healthy`, `degraded` or `unhealthy`.
    status: &'static str,
    version: &'static str,
    /// In seconds.
    uptime: i64,
    timestamp: Time,
    checks: Checks,
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<InstanceCounts>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Checks {
    database: Check,
    /// The log that events go through; in the embedded shape it lies in the database.
    bus: Check,
    /// The same, under Omni v2's name for it.
    nats: Check,
    /// What an acknowledgement of NATS means: `flushed`, `replicated`, `lazy` (a power cut loses what was accepted last) or
    /// `unknown`. Absent when the log is in the database.
    #[serde(skip_serializing_if = "Option::is_none")]
    durability: Option<Durability>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = HealthCheck)]
struct Check {
    /// `ok` or `error`.
    status: &'static str,
    /// In milliseconds.
    latency: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

async fn check(app: &App) -> Check {
    let began = app.host.clock.now();
    let asked = async { crate::store::events::ends(&mut app.host.store.read().await?).await }.await;
    let latency = app.host.clock.now().millis() - began.millis();
    match asked {
        Ok(_) => Check { status: "ok", latency, error: None },
        Err(error) => {
            tracing::warn!(error = error.explain(), "the health check failed to read the database");
            Check { status: "error", latency, error: Some("the database cannot be read; the log says why") }
        }
    }
}

/// Tells how the program is. 503 when it cannot work.
#[utoipa::path(get, path = "/health", tag = "system", security(()),
    responses((status = 200, body = Health), (status = 503, body = Health)))]
async fn health(State(app): State<App>) -> Response {
    let database = check(&app).await;
    let instances = count_instances(&app, &InstanceSet::All).await.ok();
    let nats = app.host.bus.nats();
    let bus = match nats {
        Some((false, _)) => Check { status: "error", latency: 0, error: Some("there is no connection to NATS") },
        Some((true, _)) => Check { status: "ok", latency: 0, error: None },
        None => database.clone(),
    };
    let status = match (database.status, bus.status, &instances) {
        ("ok", "ok", Some(_)) => "healthy",
        ("ok", ..) => "degraded",
        _ => "unhealthy",
    };
    let now = app.host.clock.now();
    let body = Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime: (now.millis() - app.shared.started.millis()) / 1_000,
        timestamp: now,
        checks: Checks { nats: bus.clone(), bus, database, durability: nats.map(|(_, durability)| durability) },
        instances,
    };
    let code = if status == "unhealthy" { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, Json(body)).into_response()
}

/// Whether requests may be sent here.
#[derive(Debug, Serialize, ToSchema)]
struct Ready {
    ready: bool,
}

/// Tells whether requests may be sent here: not while the program ends, nor without its database.
#[utoipa::path(get, path = "/ready", tag = "system", security(()),
    responses((status = 200, body = Ready), (status = 503, body = Ready)))]
async fn ready(State(app): State<App>) -> Response {
    let ready = !app.shared.options.shutdown.is_cancelled() && check(&app).await.status == "ok";
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(Ready { ready })).into_response()
}

/// Shows the numbers, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "system", security((), ("apiKey" = []), ("bearer" = [])),
    responses((status = 200, content_type = "text/plain", body = String), (status = "default", body = ErrorBody)))]
async fn metrics(State(app): State<App>) -> ApiResult<Response> {
    let options = &app.shared.options;
    let handle = options.metrics.as_ref().ok_or_else(|| ApiError::not_found("page", "/metrics"))?;
    crate::numbers::look_up(&app.host, options.rotation.as_ref(), options.data_dir.as_deref()).await?;
    let text = handle.render();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}
