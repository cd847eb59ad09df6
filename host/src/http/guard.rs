//! Stands before every route: looks it up in the table, asks for the key, checks its scope and rate, limits the body and
//! the time until the answer begins, ends what goes on for long when the key ends, and writes the audit log.

use super::auth::{self, Caller};
use super::error::{ApiError, ApiResult};
use super::forwarded::Client;
use super::intake::{Held, Trouble, content_length};
use super::limits::Left;
use super::routes::{self, Access, Class, Found, Route};
use super::{App, auth_state, observe};
use crate::audit::Asked;
use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use std::time::Instant;
use tracing::Instrument;

/// Who was let in.
struct Admitted {
    caller: Option<Caller>,
    left: Option<Left>,
}

/// The guard, as a layer.
pub(crate) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let Some(matched) = request.extensions().get::<MatchedPath>().cloned() else {
        return next.run(request).await;
    };
    let route = match routes::find(request.method(), matched.as_str()) {
        Found::Route(route) => route,
        Found::OtherMethods(allowed) => return wrong_method(&request, &allowed).into_response(),
        Found::Nothing => {
            return ApiError::internal(&format!("route {} is not in the table", matched.as_str())).into_response();
        }
    };
    let method = request.method().clone();
    let work = answer(app, route, request, next);
    match goes_on_alone(route, &method) {
        // Whoever goes away in the middle of a change leaves neither half of it nor a gap in the audit log.
        true => match tokio::spawn(crate::traces::carried(work.in_current_span())).await {
            Ok(response) => response,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(error) => ApiError::internal(&error.to_string()).into_response(),
            },
        },
        false => work.await,
    }
}

/// Whether a request is carried out to its end even when nobody waits for the answer any more.
fn goes_on_alone(route: &Route, method: &Method) -> bool {
    !method.is_safe() && route.access != Access::Open
}

async fn answer(app: App, route: &'static Route, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let (parts, body) = request.into_parts();
    let mut asked = asked(&parts);
    let (response, caller) = match admit(&app, route, &parts).await {
        Ok(Admitted { caller, left }) => {
            let mut response = carry_out(&app, route, parts, body, caller.clone(), next).await;
            if let Some(left) = left {
                left.say(&mut response);
            }
            (response, caller)
        }
        Err((refusal, caller)) => (refusal.into_response(), caller),
    };
    asked.status = response.status().as_u16();
    asked.took = began.elapsed();
    asked.key = caller.map(|caller| (caller.id(), caller.name().to_owned()));
    write_down(&app, route, asked).await;
    response
}

fn wrong_method(request: &Request, allowed: &str) -> ApiError {
    let message = format!("{} does not take {}; it takes {allowed}", request.uri().path(), request.method());
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
    match HeaderValue::from_str(allowed) {
        Ok(allowed) => error.header(header::ALLOW, allowed),
        Err(_) => error,
    }
}

/// Hands the request on, within the limits of its route.
async fn carry_out(
    app: &App,
    route: &'static Route,
    mut parts: Parts,
    body: Body,
    caller: Option<Caller>,
    next: Next,
) -> Response {
    if let Some(caller) = &caller {
        observe::name_caller(caller);
        parts.extensions.insert(caller.clone());
    }
    let trouble = parts.extensions.get::<Trouble>().cloned().unwrap_or_default();
    // For as long as the handler may hold the body in memory.
    let held = Held::default();
    let body = match fit(app, route, &parts, body, &held, &trouble) {
        Ok(body) => body,
        Err(refusal) => return refusal.into_response(),
    };
    let request = Request::from_parts(parts, body);
    let response = match route.class {
        Class::Plain => match tokio::time::timeout(app.shared.options.timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => too_late(app).into_response(),
        },
        // A feed says itself why it ends.
        Class::Feed => next.run(request).await,
        Class::File => {
            let response = next.run(request).await;
            match &caller {
                Some(caller) => while_granted(app, caller, response),
                None => response,
            }
        }
        Class::Upload | Class::Takeover => next.run(request).await,
    };
    match trouble.answer() {
        Some(error) if !response.status().is_success() => error.into_response(),
        _ => response,
    }
}

fn too_late(app: &App) -> ApiError {
    let message =
        format!("no answer within {} s; what was begun may still happen", app.shared.options.timeout.as_secs());
    ApiError::new(StatusCode::REQUEST_TIMEOUT, "REQUEST_TIMEOUT", message)
}

/// The body, when it is one that this route takes and there is room for it.
pub(super) fn fit(
    app: &App,
    route: &Route,
    parts: &Parts,
    body: Body,
    held: &Held,
    trouble: &Trouble,
) -> ApiResult<Body> {
    let is_hook = route.access == Access::Open;
    let encoding = parts.headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes);
    // What a network signs is the body as it came: that is the channel's to read.
    if !is_hook && encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        let message = "compressed bodies are not taken; send it as it is, without `content-encoding`";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "VALIDATION_ERROR", message)
            .header(header::ACCEPT_ENCODING, HeaderValue::from_static("identity")));
    }
    let most = most(app, route);
    // Refused before it is sent, where it says how long it is. A form is a little longer than the file in it.
    if content_length(&parts.headers).is_some_and(|length| length > most as u64 + (64 << 10)) {
        return Err(ApiError::too_large(format!("the body is larger than the {most} bytes that this route takes")));
    }
    match route.class {
        // It goes to the disk piece by piece.
        Class::Upload | Class::Takeover => Ok(body),
        // What strangers send shuts out nobody who has a key.
        _ if is_hook => app.shared.options.webhook_room.admit(&parts.headers, body, held, trouble),
        _ => app.shared.room.admit(&parts.headers, body, held, trouble),
    }
}

/// The largest body that a route takes.
pub(super) fn most(app: &App, route: &Route) -> usize {
    let options = &app.shared.options;
    match route.class {
        Class::Upload => options.media_limit,
        Class::Takeover => auth_state::LIMIT,
        Class::Plain | Class::Feed | Class::File => options.body_limit,
    }
}

/// Who has the key that a request shows; the refusal when it shows none, or one that is not known.
pub(super) async fn caller(app: &App, route: &Route, parts: &Parts) -> ApiResult<Caller> {
    let in_query = matches!(route.class, Class::Feed | Class::File);
    let needed = || ApiError::unauthorized("an API key is needed, as `x-api-key` or `Authorization: Bearer`");
    let key = auth::presented(&parts.headers, &parts.uri, in_query).ok_or_else(needed)?;
    app.shared.keys.caller(&app.host.store, key, app.host.clock.now()).await
}

/// An answer that ends when the key does.
fn while_granted(app: &App, caller: &Caller, response: Response) -> Response {
    let (app, caller) = (app.clone(), caller.clone());
    let ended = async move {
        app.shared.keys.ended(&app.host.store, &app.host.clock, &caller).await;
    };
    response.map(|body| Body::from_stream(body.into_data_stream().take_until(Box::pin(ended))))
}

/// Who is asking, when the route wants to know; or the refusal, and who they are when that is proved.
async fn admit(app: &App, route: &Route, parts: &Parts) -> Result<Admitted, (ApiError, Option<Caller>)> {
    let nobody = Admitted { caller: None, left: None };
    let scope = match route.access {
        Access::Open => return Ok(nobody),
        Access::Metrics if app.shared.options.open_metrics => return Ok(nobody),
        Access::Metrics => Some("metrics:read"),
        Access::Key => None,
        Access::Scope(scope) => Some(scope),
    };
    let caller = caller(app, route, parts).await.map_err(|error| (error, None))?;
    let now = app.host.clock.now();
    if let Some(scope) = scope
        && !caller.may(scope)
    {
        let refusal = ApiError::forbidden(format!("this key has not the scope {scope}"))
            .details(serde_json::json!({ "requiredScope": scope }));
        return Err((refusal, Some(caller)));
    }
    // The numbers name every instance.
    if route.access == Access::Metrics
        && let Err(refusal) = caller.allow_everywhere()
    {
        return Err((refusal, Some(caller)));
    }
    let most = caller.rate_limit().or(app.shared.options.rate_limit);
    let left = match app.shared.rates.take(caller.id(), most, now) {
        Ok(left) => left,
        Err(refusal) => return Err((refusal, Some(caller))),
    };
    if let Some(uses) = app.shared.keys.count(&caller, address(parts), now) {
        let store = app.host.store.clone();
        tokio::spawn(async move {
            if let Err(error) = crate::store::api_keys::record_uses(&store, &uses).await {
                tracing::warn!(error = error.explain(), "failed to write down the uses of API keys");
            }
        });
    }
    Ok(Admitted { caller: Some(caller), left })
}

fn address(parts: &Parts) -> Option<String> {
    parts.extensions.get::<Client>().map(|client| client.0.to_string())
}

/// What the audit log says of a request, as far as it is known before it is carried out.
fn asked(parts: &Parts) -> Asked {
    let agent = parts.headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    Asked {
        method: parts.method.as_str().to_owned(),
        // Without the query, in which a key may be.
        path: parts.uri.path().to_owned(),
        address: address(parts),
        user_agent: agent.map(str::to_owned),
        ..Asked::default()
    }
}

/// Changes and refusals have a line in the audit log; reading has one only when the configuration says so.
async fn write_down(app: &App, route: &Route, asked: Asked) {
    let Some(audit) = &app.shared.options.audit else { return };
    let refused = matches!(asked.status, 401 | 403 | 429);
    let changes = asked.method != Method::GET.as_str() && asked.method != Method::HEAD.as_str();
    // Who takes out or away all that there is of somebody, or what an account logs in with, is on record, whatever the configuration says of reading.
    let grave = [Access::Scope("persons:admin"), Access::Scope(routes::AUTH)].contains(&route.access);
    let is_asked = route.access != Access::Open && !matches!(route.access, Access::Metrics);
    if !is_asked || !(refused || changes || grave || app.shared.options.audit_reads) {
        return;
    }
    // Sending is most of the traffic; what an administrator does is rare and must not get lost.
    let durable = (changes || grave)
        && !refused
        && !matches!(route.access, Access::Scope("messages:write" | "chats:write") | Access::Key);
    audit.record(asked, durable).await;
}
