//! The way in for a network's webhooks. No API key: the host verifies each request as the channel declared, and the
//! channel answers once its events are durable.

use super::App;
use super::error::ApiResult;
use super::extract::{self, Path};
use super::intake::content_length;
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
    let mut request = webhook_request(&parts, path, Vec::new());
    let instances = &app.host.instances;
    if let Err(error) = instances.expect_webhook(id, &request, content_length(&parts.headers)).await {
        return not_taken(error);
    }
    request.body = extract::bytes(Request::from_parts(parts, body), &()).await?.to_vec();
    instances.webhook(id, request).await.map(answer).or_else(not_taken)
}

/// A refusal of the instance's has the form that webhooks have; everything else is the API's to say.
fn not_taken(error: InstanceError) -> ApiResult<Response> {
    match error {
        InstanceError::Webhook(refusal) => Ok(refused(&refusal)),
        error => Err(error.into()),
    }
}
