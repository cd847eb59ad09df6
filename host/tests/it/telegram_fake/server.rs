//! HTTP: the token, the body in any of its forms, faults, the record, and judging by the specification.

use super::state::{Recorded, Refusal, Uploaded};
use super::{Fault, Shared, methods, poll};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Path, Query, Request, State as Extract};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{any, get};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What Telegram takes of a bot, in bytes.
const MAX_UPLOAD: usize = 50 * 1024 * 1024;

pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/{bot}/{method}", any(call))
        .route("/file/{bot}/{*path}", get(download))
        .layer(DefaultBodyLimit::disable())
        .with_state(shared)
}

async fn download(Extract(shared): Extract<Arc<Shared>>, Path((bot, path)): Path<(String, String)>) -> Response {
    let state = shared.lock();
    if bot.strip_prefix("bot") != Some(state.token.as_str()) {
        return (StatusCode::UNAUTHORIZED, "Unauthorized").into_response();
    }
    match state.files.values().find(|file| file.path == path) {
        Some(file) => ([(header::CONTENT_TYPE, "application/octet-stream")], file.bytes.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, "Not Found").into_response(),
    }
}

async fn call(
    Extract(shared): Extract<Arc<Shared>>,
    Path((bot, method)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (params, files) = match parameters(&shared, &method, request).await {
        Ok(read) => read,
        Err(what) => {
            let wrong = format!("request {method}: {what}");
            shared.lock().violations.push(wrong);
            return refused(&Refusal::bad("can't parse the request")).response;
        }
    };
    judge(&shared, |spec| spec.request(&method, &params));
    let fault = loop {
        let resumed = shared.resumed.notified();
        tokio::pin!(resumed);
        resumed.as_mut().enable();
        let fault = shared.lock().fault(&method);
        match fault {
            Some(Fault::Stall) => {
                shared.stalled.send_modify(|calls| *calls += 1);
                resumed.await;
                shared.stalled.send_modify(|calls| *calls -= 1);
            }
            fault => break fault,
        }
    };
    let answer = match fault {
        Some(Fault::Gateway(status)) => gateway(status),
        Some(Fault::TooMany(seconds)) => {
            let mut refusal = Refusal::new(429, format!("Too Many Requests: retry after {seconds}"));
            refusal.parameters = Some(json!({"retry_after": seconds}));
            refused(&refusal)
        }
        Some(Fault::Refuse(code, description)) => refused(&Refusal::new(code, description)),
        Some(Fault::DoneThenGateway(status)) => {
            let _done = answer(&shared, &bot, &method, &params, &files).await;
            gateway(status)
        }
        Some(Fault::DoneThenCut) => {
            let _done = answer(&shared, &bot, &method, &params, &files).await;
            cut()
        }
        Some(Fault::Stall) | None => answer(&shared, &bot, &method, &params, &files).await,
    };
    let Answer { status, json, response } = answer;
    shared.lock().record.push(Recorded { method, params, files, status, answer: json });
    shared.recorded.notify_waiters();
    response
}

/// An answer on its way out: what is recorded of it, and what is sent.
struct Answer {
    status: u16,
    json: Value,
    response: Response,
}

async fn answer(shared: &Shared, bot: &str, method: &str, params: &Value, files: &[Uploaded]) -> Answer {
    match result(shared, bot, method, params, files).await {
        Ok(result) => {
            judge(shared, |spec| spec.result(method, &result));
            let json = json!({"ok": true, "result": result});
            Answer { status: 200, response: axum::Json(json.clone()).into_response(), json }
        }
        Err(refusal) => refused(&refusal),
    }
}

async fn result(
    shared: &Shared,
    bot: &str,
    method: &str,
    params: &Value,
    files: &[Uploaded],
) -> Result<Value, Refusal> {
    let known = {
        let token = &shared.lock().token;
        !token.is_empty() && bot.strip_prefix("bot") == Some(token.as_str())
    };
    if !known {
        return Err(Refusal::new(401, "Unauthorized"));
    }
    if files.iter().map(|file| file.bytes.len()).sum::<usize>() > MAX_UPLOAD {
        return Err(Refusal::new(413, "Request Entity Too Large"));
    }
    if method == "getUpdates" {
        return poll::get_updates(shared, params).await;
    }
    if method == "setWebhook" {
        poll::judge_kinds(shared, params);
    }
    let answered = methods::answer(&mut shared.lock(), method, params, files);
    // A webhook may have gone, or come.
    shared.news.notify_waiters();
    answered
}

fn judge(shared: &Shared, wrong: impl FnOnce(&super::spec::Spec) -> Vec<String>) {
    if let Some(spec) = &shared.spec {
        let wrong = wrong(spec);
        shared.lock().violations.extend(wrong);
    }
}

fn refused(refusal: &Refusal) -> Answer {
    let mut json = json!({"ok": false, "error_code": refusal.code, "description": refusal.description});
    if let Some(parameters) = &refusal.parameters {
        json["parameters"] = parameters.clone();
    }
    let status = StatusCode::from_u16(refusal.code).expect("refusals have the codes of HTTP");
    Answer { status: refusal.code, response: (status, axum::Json(json.clone())).into_response(), json }
}

fn gateway(status: u16) -> Answer {
    let code = StatusCode::from_u16(status).expect("a test gives a code of HTTP");
    let response = (code, Html(format!("<html><body><h1>{code}</h1></body></html>"))).into_response();
    Answer { status, json: Value::Null, response }
}

/// A body that promises more than comes.
fn cut() -> Answer {
    let pieces = [Ok(Bytes::from_static(b"{\"ok\":tr")), Err(std::io::Error::other("the connection is cut"))];
    let body = Body::from_stream(futures_util::stream::iter(pieces));
    let response = ([(header::CONTENT_TYPE, "application/json")], body).into_response();
    Answer { status: 0, json: Value::Null, response }
}

type Read = (Value, Vec<Uploaded>);

async fn parameters(shared: &Shared, method: &str, request: Request) -> Result<Read, String> {
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    if content_type.starts_with("multipart/form-data") {
        let form = Multipart::from_request(request, &()).await.map_err(|error| error.to_string())?;
        return read_form(shared, method, form).await;
    }
    let json = content_type.starts_with("application/json");
    let Query(query) =
        Query::<BTreeMap<String, String>>::try_from_uri(request.uri()).map_err(|error| error.to_string())?;
    let body = axum::body::to_bytes(request.into_body(), MAX_UPLOAD).await.map_err(|error| error.to_string())?;
    if body.is_empty() {
        let fields: Vec<(String, String)> = query.into_iter().collect();
        return Ok((form_value(shared, method, &fields, &[]), Vec::new()));
    }
    if !json {
        return Err("a body that is neither JSON nor a form".to_owned());
    }
    let params: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
    if params.is_object() { Ok((params, Vec::new())) } else { Err("parameters that are no object".to_owned()) }
}

async fn read_form(shared: &Shared, method: &str, mut form: Multipart) -> Result<Read, String> {
    let (mut fields, mut files) = (Vec::new(), Vec::new());
    while let Some(field) = form.next_field().await.map_err(|error| error.to_string())? {
        let name = field.name().ok_or("a part without a name")?.to_owned();
        let file_name = field.file_name().map(str::to_owned);
        let mime_type = field.content_type().unwrap_or("application/octet-stream").to_owned();
        let bytes = field.bytes().await.map_err(|error| error.to_string())?;
        match file_name {
            Some(file_name) => files.push(Uploaded { field: name, file_name, mime_type, bytes: bytes.to_vec() }),
            None => fields.push((name, String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())?)),
        }
    }
    let names: Vec<String> = files.iter().map(|file| file.field.clone()).collect();
    Ok((form_value(shared, method, &fields, &names), files))
}

fn form_value(shared: &Shared, method: &str, fields: &[(String, String)], files: &[String]) -> Value {
    if let Some(spec) = &shared.spec {
        return spec.form(method, fields, files);
    }
    let read = |value: &String| serde_json::from_str(value).unwrap_or_else(|_| Value::from(value.as_str()));
    fields.iter().map(|(name, value)| (name.clone(), read(value))).collect::<Map<_, _>>().into()
}
