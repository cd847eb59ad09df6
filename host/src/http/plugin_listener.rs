//! Serves the webhook of one instance on an address of its own: every path and method there is handed over.

use super::ServeLimits;
use super::intake::{Held, Room, Trouble, content_length};
use crate::clock::Clock;
use crate::instances::live::{Live, WebhookRefused};
use crate::instances::verify::{DEFAULT_MAX_BODY, max_body};
use crate::instances::{expect_webhook, take_webhook};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode};
use axum::response::{IntoResponse, Response};
use omni_channel_sdk::http::{Header, HttpResponse};
use omni_channel_sdk::ingress::WebhookRequest;
use serde_json::json;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// How much comes in on such addresses: all of them share the room, and each has the limits.
#[derive(Clone, Debug)]
pub struct Intake {
    /// For connections.
    pub limits: ServeLimits,
    /// For bodies.
    pub room: Room,
}

impl Default for Intake {
    fn default() -> Self {
        Self { limits: ServeLimits::default(), room: Room::new(64 << 20) }
    }
}

#[derive(Clone)]
struct Listener {
    live: Arc<Live>,
    clock: Clock,
    room: Room,
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, live: Arc<Live>, clock: Clock, intake: Intake) {
    let router = Router::new().fallback(take).with_state(Listener { live, clock, room: intake.room });
    // Connections are tasks of their own; they end when this future is dropped.
    let end = CancellationToken::new();
    let _guard = end.clone().drop_guard();
    super::serve(listener, router, intake.limits, end).await;
}

async fn take(State(here): State<Listener>, request: Request<Body>) -> Response {
    let Listener { live, clock, room } = here;
    let limit = live.gate().map_or(DEFAULT_MAX_BODY, |gate| max_body(&gate.webhook));
    let trouble = request.extensions().get::<Trouble>().cloned().unwrap_or_default();
    let (parts, body) = request.into_parts();
    let mut request = webhook_request(&parts, parts.uri.path().to_owned(), Vec::new());
    if let Err(refusal) = expect_webhook(&live, &request, content_length(&parts.headers), clock.now()) {
        return refused(&refusal);
    }
    // For as long as the body is in memory.
    let held = Held::default();
    let body = match room.admit(&parts.headers, body, &held, &trouble) {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let limit_bytes = usize::try_from(limit).unwrap_or(usize::MAX);
    let Ok(body) = to_bytes(body, limit_bytes).await else {
        let too_large = || refused(&WebhookRefused::TooLarge(limit));
        return trouble.answer().map_or_else(too_large, IntoResponse::into_response);
    };
    request.body = body.into();
    match take_webhook(&live, request, clock.now()).await {
        Ok(reply) => answer(reply),
        Err(error) => refused(&error),
    }
}

/// A request as the channel gets it.
pub fn webhook_request(parts: &Parts, path: String, body: Vec<u8>) -> WebhookRequest {
    let value = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter();
    WebhookRequest {
        method: parts.method.as_str().to_owned(),
        path,
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers: headers.map(|(name, found)| Header { name: name.as_str().to_owned(), value: value(found) }).collect(),
        body,
    }
}

/// A channel's answer as HTTP. What is no HTTP in it is left out; hop-by-hop headers are the server's.
pub fn answer(reply: HttpResponse) -> Response {
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    let mut response = (status, reply.body).into_response();
    for header in reply.headers {
        let (name, value) = (HeaderName::from_bytes(header.name.as_bytes()), HeaderValue::from_str(&header.value));
        if let (Ok(name), Ok(value)) = (name, value)
            && !matches!(
                name.as_str(),
                "connection" | "content-length" | "transfer-encoding" | "upgrade" | "keep-alive"
            )
        {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// A refusal as HTTP: what was wrong, and with `Retry-After` when it should come again.
pub fn refused(refusal: &WebhookRefused) -> Response {
    let (status, code) = match refusal {
        WebhookRefused::NotVerified(_) => (StatusCode::UNAUTHORIZED, "UNAUTHORIZED"),
        WebhookRefused::Bad(_) => (StatusCode::BAD_REQUEST, "VALIDATION_ERROR"),
        WebhookRefused::NotNow(_) => (StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_NOT_CONNECTED"),
        WebhookRefused::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE"),
    };
    let body = json!({"error": {"code": code, "message": refusal.to_string()}});
    let mut response = (status, axum::Json(body)).into_response();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert("retry-after", HeaderValue::from_static("5"));
    }
    response
}
