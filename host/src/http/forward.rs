//! Hands requests on to the host that can answer them: about an instance to the one that has it, about work that is done
//! once to the one that does it. Whoever asks need not know; any host may be asked.
//!
//! Before anything else looks at the request: the other host does all of that, scope, rate and audit log included. Only
//! its body is looked at here, as far as memory goes: it is as large as the route allows, there is room for it, and where
//! the route needs a key, it is from somebody who has one.

use super::error::ApiError;
use super::forwarded::Client;
use super::intake::{Held, Trouble};
use super::routes::{self, Access, Found, Route};
use super::{App, BASE, guard};
use crate::hosts::{Answers, Asked, AskedHead, AskedOf, Elsewhere};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
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
    let Some(route) = route(&request) else { return next.run(request).await };
    let owner = match subject(&request) {
        Some(Subject::DoneOnce) => app.host.hosts.worker(),
        Some(Subject::Instance { named, has_key }) => owner(&app, &named, has_key).await,
        None => None,
    };
    let Some(owner) = owner else { return next.run(request).await };
    let (parts, body) = request.into_parts();
    if route.access != Access::Open && guard::caller(&app, route, &parts).await.is_err() {
        // Refused here: what strangers send costs no other host anything.
        return next.run(Request::from_parts(parts, body)).await;
    }
    let within = app.shared.options.timeout + ON_THE_WAY;
    // For as long as the body may be in memory.
    let held = Held::default();
    match asked(&app, route, parts, body, &held).await {
        Ok(asked) => match app.host.hosts.hand_on(&owner, asked, within).await {
            AskedOf::Answered(answer) => answered(answer),
            AskedOf::NotThere => gone(&owner).into_response(),
            AskedOf::TooLate => too_late(&owner).into_response(),
            AskedOf::TooLarge(sentence) => ApiError::too_large(sentence).into_response(),
            AskedOf::NotTaken(sentence) => not_taken(&owner, &sentence).into_response(),
            AskedOf::Lost(sentence) => lost(&owner, &sentence).into_response(),
        },
        Err(refusal) => refusal.into_response(),
    }
}

/// What the table says of a request.
fn route(request: &Request) -> Option<&'static Route> {
    match routes::find(request.method(), request.extensions().get::<MatchedPath>()?.as_str()) {
        Found::Route(route) => Some(route),
        Found::OtherMethods(_) | Found::Nothing => None,
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

async fn asked(app: &App, route: &Route, parts: Parts, body: Body, held: &Held) -> Result<Asked, ApiError> {
    let trouble = parts.extensions.get::<Trouble>().cloned().unwrap_or_default();
    let body = guard::fit(app, route, &parts, body, held, &trouble)?;
    // It is in memory here, whatever the route takes.
    let most = guard::most(app, route).min(app.shared.options.media_limit.max(app.shared.options.body_limit));
    let body = to_bytes(body, most).await.map_err(|error| {
        let refusal = || ApiError::too_large(format!("the body cannot be read: {error} (at most {most} bytes)"));
        trouble.answer().unwrap_or_else(refusal)
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

fn not_taken(owner: &Elsewhere, sentence: &str) -> ApiError {
    let message = format!("{} has to answer this: {sentence}; nothing was done", owner.name);
    ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "HOST_BUSY", message).retry_after(5)
}

fn lost(owner: &Elsewhere, sentence: &str) -> ApiError {
    let message = format!("{} had to answer this: {sentence}; what was asked is done, if it could be", owner.name);
    ApiError::new(StatusCode::BAD_GATEWAY, "HOST_ANSWER_LOST", message)
}

/// Answers what other hosts hand on, with no more than `largest` bytes.
pub(crate) fn answers(router: Router, largest: usize) -> Answers {
    Arc::new(move |asked: Asked| {
        let router = router.clone();
        Box::pin(async move { answer(router, asked, largest).await })
    })
}

async fn answer(router: Router, asked: Asked, largest: usize) -> Asked {
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
    match whole(response, largest).await {
        Ok(answer) => answer,
        Err(error) => {
            let message = format!("the answer cannot be handed on: {error} (at most {largest} bytes)");
            let refusal = ApiError::new(StatusCode::BAD_GATEWAY, "HOST_ANSWER_LOST", message);
            whole(refusal.into_response(), largest).await.unwrap_or_else(|_| bad())
        }
    }
}

async fn whole(response: Response, largest: usize) -> Result<Asked, axum::Error> {
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, largest).await?;
    let head = AskedHead { status: parts.status.as_u16(), headers: plain(&parts.headers), ..AskedHead::default() };
    Ok(Asked { head, body })
}
