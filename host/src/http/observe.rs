//! What is seen of every request from outside: an id, a span, a count and a duration. Never a body, a key or a query.

use super::auth::Caller;
use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use uuid::Uuid;

const REQUEST_ID: &str = "x-request-id";

/// The observer, as a layer around everything else.
pub(crate) async fn observe(request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().as_str().to_owned();
    let is_read = request.method().is_safe();
    let span =
        tracing::info_span!("http", request.id = id, http.method = method, http.route = route, key.prefix = Empty);
    let began = std::time::Instant::now();
    let mut response = next.run(request).instrument(span.clone()).await;
    let elapsed = began.elapsed();
    let status = response.status().as_u16();
    let duration_ms = elapsed.as_millis() as u64;
    span.in_scope(|| match status {
        500.. => tracing::warn!(http.status = status, duration_ms, "answered"),
        // Reading is most of the traffic and says nothing that an operator looks for.
        ..400 if is_read => tracing::debug!(http.status = status, duration_ms, "answered"),
        _ => tracing::info!(http.status = status, duration_ms, "answered"),
    });
    let labels = [("method", method), ("route", route), ("status", status.to_string())];
    metrics::histogram!("omni_http_request_duration_seconds", &labels).record(elapsed.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// Names who is asking in the span of the request, once that is known.
pub(crate) fn name_caller(caller: &Caller) {
    Span::current().record("key.prefix", caller.prefix());
}

/// The caller's own id for the request when it is harmless, else a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|id| id.to_str().ok());
    let harmless = |id: &&str| !id.is_empty() && id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_graphic());
    given.filter(harmless).map_or_else(|| Uuid::new_v4().to_string(), str::to_owned)
}
