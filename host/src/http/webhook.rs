//! The way in for a network's webhooks. No API key: the host verifies each request as the channel declared, and the
//! channel answers once its events are durable.

use super::App;
use super::error::{ApiError, ApiResult};
use super::extract::{self, Path};
use axum::Router;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use omni_channel_sdk::http::Header;
use omni_channel_sdk::ingress::WebhookRequest;
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
    let method = request.method().as_str().to_owned();
    let query = request.uri().query().unwrap_or_default().to_owned();
    let header = |(name, value): (&HeaderName, &HeaderValue)| Header {
        name: name.as_str().to_owned(),
        value: String::from_utf8_lossy(value.as_bytes()).into_owned(),
    };
    let headers = request.headers().iter().map(header).collect();
    let body = extract::bytes(request, &()).await?.to_vec();
    let answer = app.host.instances.webhook(id, WebhookRequest { method, path, query, headers, body }).await?;
    let status = StatusCode::from_u16(answer.status)
        .map_err(|_| ApiError::internal(&format!("a channel answered a webhook with status {}", answer.status)))?;
    let mut response = (status, Body::from(answer.body)).into_response();
    for header in answer.headers {
        let (Ok(name), Ok(value)) = (header.name.parse::<HeaderName>(), HeaderValue::from_str(&header.value)) else {
            continue;
        };
        // The connection is the host's.
        if !matches!(name.as_str(), "connection" | "content-length" | "transfer-encoding" | "upgrade" | "keep-alive") {
            response.headers_mut().append(name, value);
        }
    }
    Ok(response)
}
