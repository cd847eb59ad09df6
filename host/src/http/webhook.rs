//! The way in for a network's webhooks. No API key: the host verifies each request as the channel declared, and the
//! channel answers once its events are durable.

use super::App;
use super::error::ApiResult;
use super::extract::{self, Path};
use super::plugin_listener::{answer, refused, webhook_request};
use crate::instances::InstanceError;
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::response::Response;
use axum::routing::any;
use uuid::Uuid;

/// Larger bodies are no business of a channel; a smaller limit of its own holds before it is called.
const LARGEST: usize = 5 << 20;

pub(crate) fn router() -> Router<App> {
    Router::new()
        .route("/channels/{instanceId}/webhook", any(at_root))
        .route("/channels/{instanceId}/webhook/{*rest}", any(below))
        .layer(DefaultBodyLimit::max(LARGEST))
}

async fn at_root(State(app): State<App>, Path(id): Path<Uuid>, request: Request) -> ApiResult<Response> {
    hand_over(&app, id, "/".to_owned(), request).await
}

async fn below(
    State(app): State<App>,
    Path((id, rest)): Path<(Uuid, String)>,
    request: Request,
) -> ApiResult<Response> {
    hand_over(&app, id, format!("/{rest}"), request).await
}

async fn hand_over(app: &App, id: Uuid, path: String, request: Request) -> ApiResult<Response> {
    let (parts, body) = request.into_parts();
    let body = extract::bytes(Request::from_parts(parts.clone(), body), &()).await?.to_vec();
    let request = webhook_request(&parts, path, body);
    match app.host.instances.webhook(id, request).await {
        Ok(reply) => Ok(answer(reply)),
        Err(InstanceError::Webhook(refusal)) => Ok(refused(&refusal)),
        Err(error) => Err(error.into()),
    }
}
