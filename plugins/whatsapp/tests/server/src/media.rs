//! Files. They come encrypted, each under the hash of what it is, and go to whoever asks.

use crate::server::Server;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Json, Response};
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine as _};
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All that were uploaded, by path.
#[derive(Default)]
pub struct Files {
    /// The content.
    pub all: BTreeMap<String, Bytes>,
}

impl Files {
    /// Keeps one; says under which path.
    pub fn keep(&mut self, content: impl Into<Bytes>) -> String {
        let content = content.into();
        let path = path(&BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&content)));
        self.all.insert(path.clone(), content);
        path
    }
}

fn path(token: &str) -> String {
    format!("/v/t62.7118-24/{token}.enc")
}

#[derive(Deserialize)]
pub struct Asked {
    token: Option<String>,
    resume: Option<String>,
}

/// `POST` takes a file, `GET` gives one.
pub async fn file(
    State(server): State<Arc<Server>>,
    method: Method,
    uri: Uri,
    Query(asked): Query<Asked>,
    body: Bytes,
) -> Response {
    match method {
        Method::GET => match server.world().files.all.get(uri.path()) {
            Some(content) => content.clone().into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::POST => upload(&server, uri.path(), &asked, body),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

fn upload(server: &Server, at: &str, asked: &Asked, body: Bytes) -> Response {
    let Some(token) = asked.token.as_deref().map(|token| token.trim_end_matches('=')) else {
        return (StatusCode::UNAUTHORIZED, "a token is needed").into_response();
    };
    let mut world = server.world();
    let there = path(token);
    if asked.resume.is_some() {
        if !world.files.all.contains_key(&there) {
            return StatusCode::NOT_FOUND.into_response();
        }
    } else if BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(&body)) != token {
        world.log.note(0, format!("a file at {at} is not what its token says"));
        return (StatusCode::BAD_REQUEST, "the token is not the hash of the file").into_response();
    } else {
        world.files.keep(body);
    }
    let resume = asked.resume.as_ref().map(|_| "complete");
    Json(json!({"url": format!("http://{}{there}", world.address), "direct_path": there, "resume": resume}))
        .into_response()
}
