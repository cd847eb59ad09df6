//! Hands requests on to the host that can answer them: about an instance to the one that has it, about work that is done
//! once to the one that does it. Whoever asks need not know; any host may be asked.
//!
//! Before anything else looks at the request: the other host does all of that, key, rate and audit log included.

use super::error::ApiError;
use super::forwarded::Client;
use super::{App, BASE};
use crate::hosts::{Answers, Asked, AskedHead, AskedOf, Elsewhere};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// How much longer than a request may take the other host is waited for.
const ON_THE_WAY: Duration = Duration::from_secs(5);

/// Says that a request came from another host, which has looked for the right one already.
#[derive(Clone, Copy, Debug)]
struct HandedOn;

/// The layer.
pub(crate) async fn forward(State(app): State<App>, request: Request, next: Next) -> Response {
    if !app.host.hosts.has_others() || request.extensions().get::<HandedOn>().is_some() {
        return next.run(request).await;
    }
    let owner = match subject(&request) {
        Some(Subject::DoneOnce) => app.host.hosts.worker(),
        Some(Subject::Instance { named, has_key }) => owner(&app, &named, has_key).await,
        None => None,
    };
    let Some(owner) = owner else { return next.run(request).await };
    let within = app.shared.options.timeout + ON_THE_WAY;
    match asked(&app, request).await {
        Ok(asked) => match app.host.hosts.hand_on(&owner, asked, within).await {
            AskedOf::Answered(answer) => answered(answer),
            AskedOf::NotThere => gone(&owner).into_response(),
            AskedOf::TooLate => too_late(&owner).into_response(),
            AskedOf::TooLarge(sentence) => ApiError::too_large(sentence).into_response(),
        },
        Err(refusal) => refusal.into_response(),
    }
}

/// What a request is about, when not every host can answer it.
enum Subject {
    DoneOnce,
    Instance { named: String, has_key: bool },
}

fn subject(request: &Request) -> Option<Subject> {
    let matched = request.extensions().get::<MatchedPath>()?;
    let path = matched.as_str().strip_prefix(BASE)?;
    let done_once = ["/webhooks", "/dead-letters", "/event-ops", "/persons/{id}/erase"];
    if done_once.iter().any(|prefix| path.starts_with(prefix)) && !request.method().is_safe() {
        return Some(Subject::DoneOnce);
    }
    let of_an_instance = ["/instances/{id}", "/channels/{instanceId}/"];
    if !of_an_instance.iter().any(|prefix| path.starts_with(prefix)) {
        return None;
    }
    let named = request.uri().path().strip_prefix(BASE)?.split('/').nth(2)?;
    let named = percent_encoding::percent_decode_str(named).decode_utf8().ok()?.into_owned();
    Some(Subject::Instance { named, has_key: has_key(request.headers()) })
}

/// The other host that has an instance, which is named by id or by name.
async fn owner(app: &App, named: &str, has_key: bool) -> Option<Elsewhere> {
    let id = match named.parse() {
        Ok(id) => id,
        // Those who have no key are not worth a look into the database.
        Err(_) if has_key => app.host.instances.find(named).await.ok()?.id,
        Err(_) => return None,
    };
    app.host.hosts.owner(id)
}

fn has_key(headers: &HeaderMap) -> bool {
    headers.contains_key(header::AUTHORIZATION) || headers.contains_key("x-api-key")
}

async fn asked(app: &App, request: Request) -> Result<Asked, ApiError> {
    let (parts, body) = request.into_parts();
    let largest = app.host.hosts.largest();
    let body = to_bytes(body, largest).await.map_err(|error| {
        ApiError::too_large(format!(
            "the body cannot be handed to the host that answers it: {error} (at most {largest} bytes)"
        ))
    })?;
    let head = AskedHead {
        method: parts.method.to_string(),
        target: parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
        client: parts.extensions.get::<Client>().map(|client| client.0),
        status: 0,
        headers: plain(&parts.headers),
    };
    Ok(Asked { head, body })
}

/// Headers that are about the message and not about the way that it took.
fn plain(headers: &HeaderMap) -> Vec<(String, String)> {
    let of_the_way = |name: &HeaderName| {
        [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::UPGRADE, header::TE]
            .contains(name)
    };
    let readable = |value: &HeaderValue| value.to_str().map(str::to_owned).ok();
    let kept = headers.iter().filter(|(name, _)| !of_the_way(name));
    kept.filter_map(|(name, value)| Some((name.to_string(), readable(value)?))).collect()
}

fn answered(answer: Asked) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.head.status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = headers(&answer.head);
    response
}

fn headers(head: &AskedHead) -> HeaderMap {
    let readable = |(name, value): &(String, String)| {
        Some((HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in head.headers.iter().filter_map(readable) {
        headers.append(name, value);
    }
    headers
}

fn gone(owner: &Elsewhere) -> ApiError {
    let name = &owner.name;
    let message = format!("{name} has to answer this and does not; if it is gone another host takes over within 15 s");
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "HOST_GONE", message).retry_after(5)
}

fn too_late(owner: &Elsewhere) -> ApiError {
    let message = format!("{} has to answer this and did not in time; it may have done what was asked", owner.name);
    ApiError::new(StatusCode::GATEWAY_TIMEOUT, "HOST_TIMEOUT", message)
}

/// Answers what other hosts hand on.
pub(crate) fn answers(router: Router) -> Answers {
    Arc::new(move |asked: Asked| {
        let router = router.clone();
        Box::pin(async move { answer(router, asked).await })
    })
}

async fn answer(router: Router, asked: Asked) -> Asked {
    let length = asked.body.len();
    let mut request = Request::new(Body::from(asked.body));
    let bad = || Asked { head: AskedHead { status: 400, ..AskedHead::default() }, body: Default::default() };
    let (Ok(method), Ok(target)) = (Method::from_bytes(asked.head.method.as_bytes()), asked.head.target.parse()) else {
        return bad();
    };
    *request.headers_mut() = headers(&asked.head);
    request.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    *request.method_mut() = method;
    *request.uri_mut() = target;
    request.extensions_mut().insert(HandedOn);
    if let Some(client) = asked.head.client {
        request.extensions_mut().insert(Client(client));
    }
    // A router cannot fail.
    let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    let head = AskedHead { status: parts.status.as_u16(), headers: plain(&parts.headers), ..AskedHead::default() };
    Asked { head, body }
}
