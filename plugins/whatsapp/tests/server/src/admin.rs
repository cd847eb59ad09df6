//! The interface of the tests. A test acts as the phone that links a device, lets connections end and messages fail, and
//! looks at what was said. Every body is JSON, and every error is one sentence.
//!
//! Devices are named by address (`5511999990001:1@s.whatsapp.net`, or by LID); a device that is left out means all.

mod accounts;
mod devices;
mod look;

use crate::accounts::Who;
use crate::server::Server;
use crate::world::World;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde_json::{Value, json};
use std::sync::Arc;
use wacore_binary::Jid;

/// What a request comes to.
type Answer = Result<Json<Value>, Problem>;

/// Why it did not work.
struct Problem(StatusCode, String);

impl From<String> for Problem {
    fn from(why: String) -> Self {
        Self(StatusCode::BAD_REQUEST, why)
    }
}

impl From<&str> for Problem {
    fn from(why: &str) -> Self {
        Self(StatusCode::BAD_REQUEST, why.to_owned())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// Below `/admin`.
pub fn router() -> Router<Arc<Server>> {
    Router::new()
        .route("/scan", post(accounts::scan))
        .route("/enter-code", post(accounts::enter_code))
        .route("/refresh-refs", post(accounts::refresh))
        .route("/passkey", get(accounts::passkey_code).post(accounts::ask_passkey))
        .route("/agree", post(accounts::agree))
        .route("/accounts", post(accounts::account))
        .route("/devices", post(accounts::device))
        .route("/groups", get(accounts::groups).post(accounts::group))
        .route("/disconnect", post(devices::disconnect))
        .route("/refuse-login", post(devices::refuse_login))
        .route("/nack", post(devices::nack))
        .route("/drop-tcp", post(devices::drop_tcp))
        .route("/hold", post(devices::hold))
        .route("/resend", post(devices::resend))
        .route("/inject", post(devices::inject))
        .route("/forget-keys", post(devices::forget_keys))
        .route("/log", get(look::log))
        .route("/stats", get(look::stats))
        .route("/files", get(look::files).delete(look::forget_files))
        .layer(DefaultBodyLimit::disable())
}

/// The device that an address names.
fn device(world: &World, jid: &str) -> Result<Who, Problem> {
    let parsed: Jid = jid.parse().map_err(|_| Problem::from(format!("{jid:?} is not an address")))?;
    world.who(&parsed).ok_or_else(|| Problem(StatusCode::NOT_FOUND, format!("there is no device {jid}")))
}

/// One device, or all.
fn devices_named(world: &World, jid: Option<&str>) -> Result<Vec<Who>, Problem> {
    match jid {
        Some(jid) => Ok(vec![device(world, jid)?]),
        None => Ok(world.accounts.keys().flat_map(|phone| world.devices_of(phone)).collect()),
    }
}

/// Bytes, in hexadecimal or base64.
fn bytes(text: &str, what: &str) -> Result<Vec<u8>, Problem> {
    let read = if text.len().is_multiple_of(2) && text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        hex::decode(text).ok()
    } else {
        BASE64_STANDARD.decode(text).ok()
    };
    read.ok_or_else(|| format!("{what} is neither hexadecimal nor base64").into())
}

/// A public key, with or without the byte that names its kind.
fn key(text: &str, what: &str) -> Result<[u8; 32], Problem> {
    let bytes = bytes(text, what)?;
    let bare = if bytes.len() == 33 { &bytes[1..] } else { &bytes };
    bare.try_into().map_err(|_| format!("{what} has {} bytes, not 32", bytes.len()).into())
}
