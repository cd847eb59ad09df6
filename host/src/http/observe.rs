//! What is seen of every request from outside: an id, a span, a count and a duration. Never a body, a key or a query.

use super::auth::Caller;
use super::forwarded::Client;
use crate::traces::{SpanKind, Traces};
use axum::extract::{MatchedPath, Request};
use axum::http::HeaderValue;
use axum::middleware::Next;
use axum::response::Response;
use tracing::field::Empty;
use tracing::{Instrument, Span};
use uuid::Uuid;

const REQUEST_ID: &str = "x-request-id";

/// The observer, as a layer around everything else.
pub(crate) async fn observe(traces: Traces, request: Request, next: Next) -> Response {
    let id = request_id(&request);
    let route =
        request.extensions().get::<MatchedPath>().map_or("unmatched".to_owned(), |path| path.as_str().to_owned());
    let method = request.method().as_str().to_owned();
    let _flight = Flight::begin();
    let is_read = request.method().is_safe();
    let client = request.extensions().get::<Client>().map(|client| tracing::field::display(client.0));
    let span = tracing::info_span!(
        "http",
        request.id = id,
        http.method = method,
        http.route = route,
        client.address = client,
        key.prefix = Empty
    );
    let began = std::time::Instant::now();
    let step = match route.as_str() {
        // What nobody asks about.
        "unmatched" | "/metrics" | "/health" | "/ready" => Traces::default(),
        _ => traces,
    };
    let parent = request.headers().get("traceparent").and_then(|parent| parent.to_str().ok().map(str::to_owned));
    let step = step.root(format!("{} {route}", known_method(&method)), SpanKind::Server, parent.as_deref());
    step.set("http.request.method", known_method(&method).to_owned());
    step.set("http.route", route.clone());
    step.set("request.id", id.clone());
    let mut response = step.run(next.run(request).instrument(span.clone())).await;
    let elapsed = began.elapsed();
    let status = response.status().as_u16();
    step.set("http.response.status_code", i64::from(status));
    if status >= 500 {
        step.fail("it was not answered");
    }
    drop(step);
    let duration_ms = elapsed.as_millis() as u64;
    span.in_scope(|| match status {
        500.. => tracing::warn!(http.status = status, duration_ms, "answered"),
        // Reading is most of the traffic and says nothing that an operator looks for.
        ..400 if is_read => tracing::debug!(http.status = status, duration_ms, "answered"),
        _ => tracing::info!(http.status = status, duration_ms, "answered"),
    });
    let labels = [("method", known_method(&method).to_owned()), ("route", route), ("status", status.to_string())];
    metrics::histogram!("omni_http_request_duration_seconds", &labels).record(elapsed.as_secs_f64());
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// A method as a label: whoever asks may invent words, and a label must not.
fn known_method(method: &str) -> &str {
    const KNOWN: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("other")
}

/// Counts the requests that are under way, however they end.
struct Flight;

impl Flight {
    fn begin() -> Self {
        metrics::gauge!("omni_http_requests_in_flight").increment(1.0);
        Self
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        metrics::gauge!("omni_http_requests_in_flight").decrement(1.0);
    }
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
