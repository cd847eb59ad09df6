//! `Idempotency-Key`: a request that is repeated with the same key is carried out once, and answered the same way for a
//! day. Per API key; another body under the same key is refused; a twin that comes while the first is under way waits.
//!
//! What was begun and not finished because the program ended is carried out again under the same send id, which the
//! outbox takes once.

use super::App;
use super::auth::Caller;
use super::error::{ApiError, ApiResult};
use super::extract;
use crate::store::Time;
use crate::store::idempotency::{self, Begun};
use axum::body::{Body, to_bytes};
use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use uuid::Uuid;

const HEADER: &str = "idempotency-key";
const LONGEST_KEY: usize = 255;
const KEPT_MS: i64 = 24 * 3_600_000;
/// Largest answer that is kept; answers of these routes are far smaller.
const LARGEST_ANSWER: usize = 1 << 20;

/// Whose turn it is under each key.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<HashMap<(Uuid, String), Weak<Turn>>>);

/// Held by the one request that is carried out.
type Turn = tokio::sync::Mutex<()>;

impl Turns {
    fn of(&self, caller: Uuid, key: &str) -> Arc<Turn> {
        let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.len() > 1_024 {
            turns.retain(|_, turn| turn.strong_count() > 0);
        }
        let turn = turns.entry((caller, key.to_owned())).or_default();
        turn.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Turn::new(()));
            *turn = Arc::downgrade(&fresh);
            fresh
        })
    }
}

/// The id under which the outbox takes this request: the same for the same `Idempotency-Key`, new otherwise.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SendId(pub(crate) Option<Uuid>);

impl<S: Send + Sync> FromRequestParts<S> for SendId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get().copied().unwrap_or(Self(None)))
    }
}

/// The layer of every route that sends.
pub(crate) async fn once(State(app): State<App>, caller: Caller, request: Request, next: Next) -> Response {
    match key(&request) {
        Ok(None) => next.run(request).await,
        Ok(Some(key)) => keyed(&app, &caller, &key, request, next).await.unwrap_or_else(IntoResponse::into_response),
        Err(refusal) => refusal.into_response(),
    }
}

fn key(request: &Request) -> ApiResult<Option<String>> {
    let Some(value) = request.headers().get(HEADER) else { return Ok(None) };
    match value.to_str() {
        Ok(key) if (1..=LONGEST_KEY).contains(&key.len()) => Ok(Some(key.to_owned())),
        _ => Err(ApiError::field("Idempotency-Key", format!("must be 1 to {LONGEST_KEY} visible characters"))),
    }
}

async fn keyed(app: &App, caller: &Caller, key: &str, request: Request, next: Next) -> ApiResult<Response> {
    let (mut parts, body) = request.into_parts();
    let whole = Request::from_parts(parts.clone(), body);
    let body = extract::bytes(whole, &()).await?;
    let mut hasher = Sha256::new();
    hasher.update(format!("{} {}\n", parts.method, parts.uri));
    hasher.update(&body);
    let body_hash = hasher.finalize();

    let turn = app.shared.turns.of(caller.id(), key);
    let _turn = turn.lock().await;
    let store = &app.host.store;
    let now = app.host.clock.now();
    match idempotency::begin(store, caller.id(), key, &body_hash, now, now.plus_millis(-KEPT_MS)).await? {
        Begun::Differs => Err(ApiError::conflict(
            "this Idempotency-Key was used for another request; take a new one for a new request",
        )),
        Begun::Answered { status, response } => Ok(replayed(status, response)),
        Begun::Open { since } => {
            parts.extensions.insert(SendId(Some(send_id(caller.id(), key, &body_hash, since))));
            let response = next.run(Request::from_parts(parts, Body::from(body))).await;
            keep(app, caller.id(), key, response).await
        }
    }
}

/// Stores an answer after which nothing more is to be done; forgets the request where nothing was done.
async fn keep(app: &App, caller: Uuid, key: &str, response: Response) -> ApiResult<Response> {
    let status = response.status();
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, LARGEST_ANSWER)
        .await
        .map_err(|error| ApiError::internal(&format!("failed to read an own answer: {error}")))?;
    let done = status.is_success() || status == StatusCode::BAD_GATEWAY;
    match std::str::from_utf8(&bytes) {
        Ok(text) if done => {
            idempotency::finish(&app.host.store, caller, key, status.as_u16(), text).await?;
        }
        _ => idempotency::release(&app.host.store, caller, key).await?,
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn replayed(status: u16, response: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::HeaderName::from_static("idempotent-replayed"), HeaderValue::from_static("true")),
    ];
    (status, headers, response).into_response()
}

/// Made of the key and of when it was first used, so that it is the same after a restart, and another one when the key is
/// used again after its day.
fn send_id(caller: Uuid, key: &str, body_hash: &[u8], since: Time) -> Uuid {
    let mut hasher = Sha256::new();
    hasher.update(since.0.to_le_bytes());
    hasher.update(caller.as_bytes());
    hasher.update(key.as_bytes());
    hasher.update(body_hash);
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}
