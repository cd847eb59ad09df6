//! Stands before every route: looks it up in the table, asks for the key, checks its scope and rate, and limits the
//! time until the answer begins.

use super::auth::{self, Caller};
use super::error::{ApiError, ApiResult};
use super::routes::{self, Access, Class, Found, Route};
use super::{App, observe};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;

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
    let (mut parts, body) = request.into_parts();
    match admit(&app, route, &parts).await {
        Ok(Some(caller)) => {
            observe::name_caller(&caller);
            parts.extensions.insert(caller);
        }
        Ok(None) => {}
        Err(refusal) => return refusal.into_response(),
    }
    let request = Request::from_parts(parts, body);
    if route.class != Class::Plain {
        return next.run(request).await;
    }
    match tokio::time::timeout(app.shared.options.timeout, next.run(request)).await {
        Ok(response) => response,
        Err(_) => ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "REQUEST_TIMEOUT",
            format!("no answer within {} s; what was begun may still happen", app.shared.options.timeout.as_secs()),
        )
        .into_response(),
    }
}

fn wrong_method(request: &Request, allowed: &str) -> ApiError {
    let message = format!("{} does not take {}; it takes {allowed}", request.uri().path(), request.method());
    let error = ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", message);
    match HeaderValue::from_str(allowed) {
        Ok(allowed) => error.header(header::ALLOW, allowed),
        Err(_) => error,
    }
}

/// Who is asking, when the route wants to know.
async fn admit(app: &App, route: &Route, parts: &Parts) -> ApiResult<Option<Caller>> {
    let scope = match route.access {
        Access::Open => return Ok(None),
        Access::Metrics if app.shared.options.open_metrics => return Ok(None),
        Access::Metrics => Some("metrics:read"),
        Access::Key => None,
        Access::Scope(scope) => Some(scope),
    };
    let in_query = matches!(route.class, Class::Feed | Class::File);
    let key = auth::presented(&parts.headers, &parts.uri, in_query)
        .ok_or_else(|| ApiError::unauthorized("an API key is needed, as `x-api-key` or `Authorization: Bearer`"))?;
    let now = app.host.clock.now();
    let caller = app.shared.keys.caller(&app.host.store, key, now).await?;
    if let Some(scope) = scope
        && !caller.may(scope)
    {
        return Err(ApiError::forbidden(format!("this key has not the scope {scope}"))
            .details(serde_json::json!({ "requiredScope": scope })));
    }
    let most = caller.rate_limit().or(app.shared.options.rate_limit);
    app.shared.rates.take(caller.id(), most, now)?;
    let ip = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip().to_string());
    if let Some(uses) = app.shared.keys.count(&caller, ip, now) {
        let store = app.host.store.clone();
        tokio::spawn(async move {
            if let Err(error) = crate::store::api_keys::record_uses(&store, &uses).await {
                tracing::warn!(error = error.explain(), "failed to write down the uses of API keys");
            }
        });
    }
    Ok(Some(caller))
}
