//! Calls of Discord's REST API over the host's HTTP.
//!
//! The token stands in a header as a placeholder that only the host can fill. Every call goes through the limits first and
//! through the list of what Discord refused afterwards. Deliberately not here: what a refusal means (`errors`).

mod together;

use crate::config::Config;
use crate::limits::{Limits, Route, retry_after};
use omni_channel_sdk::http::{FormPart, HttpBody};
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;
use std::sync::atomic::{AtomicBool, Ordering};
use together::{Work, side_by_side};

/// How long a call may take, in milliseconds. Uploads stream and may take longer.
const CALL_MS: u64 = 30_000;
const UPLOAD_MS: u64 = 600_000;
/// Most bytes of an answer that are read: a hundred messages with all that they carry.
const ANSWER_BYTES: u64 = 16 << 20;
/// Most characters of a refusal that are repeated.
const SENTENCE: usize = 1_000;

/// One call.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// `GET`, `POST` …
    pub method: &'static str,
    /// Behind `/api/v10`, with its query.
    pub path: String,
    /// What is sent; nothing when it is `null`.
    pub body: Value,
    /// Files that go along.
    pub files: Vec<Upload>,
    /// How long it may take, when that is another time than usual.
    pub timeout_ms: Option<u64>,
    /// Whether the address itself says who we are: an interaction's or a webhook's token.
    pub is_by_token: bool,
}

/// A file of the host's that goes along with a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The file.
    pub blob: BlobId,
    /// Its name.
    pub file_name: String,
    /// Its MIME type.
    pub mime_type: Option<String>,
}

impl Call {
    /// A call with a body.
    pub fn new(method: &'static str, path: impl Into<String>, body: Value) -> Self {
        Self { method, path: path.into(), body, files: Vec::new(), timeout_ms: None, is_by_token: false }
    }

    /// A `GET`.
    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path, Value::Null)
    }

    /// The same call with another time limit.
    pub fn within_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// The same call, which says by its address who we are.
    pub fn by_token(mut self) -> Self {
        self.is_by_token = true;
        self
    }
}

/// One bot at one API.
pub struct Client {
    base: String,
    token: String,
    limits: Limits,
    revoked: AtomicBool,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiError {
    /// No answer came.
    Failed(HttpFailure),
    /// Discord said no.
    Refused(Refusal),
    /// It was not made: a limit is used up for so many milliseconds.
    Wait(u64),
    /// It was not made: there is no token that Discord takes.
    Revoked,
    /// Something answered that is not Discord's API, or not as we know it.
    Garbage {
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        what: String,
        /// How long it asks to wait, in milliseconds.
        retry_after_ms: Option<u64>,
    },
}

/// Discord's no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// Discord's own code, 0 when it gave none.
    pub code: i64,
    /// In words, with the fields that are wrong.
    pub message: String,
    /// How long to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// Whether it was said to the token of an interaction or a webhook, and not to the bot's.
    pub is_by_token: bool,
}

impl Client {
    /// A client with a token, or the placeholder of one; empty until somebody has put one in.
    pub fn new(config: &Config, token: &str) -> Self {
        Self {
            base: config.api_base_url.trim_end_matches('/').to_owned(),
            token: token.trim().to_owned(),
            limits: Limits::default(),
            revoked: AtomicBool::new(token.trim().is_empty()),
        }
    }

    /// The token, or the placeholder of it.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The address of a path behind `/api/v10`; what does not begin with `/` is an address, or the placeholder of one.
    pub fn url(&self, path: &str) -> String {
        if path.starts_with('/') { format!("{}/api/v10{path}", self.base) } else { path.to_owned() }
    }

    /// The HTTP call for a call.
    pub fn http(&self, call: &Call) -> HttpCall {
        let body = match (&call.body, call.files.is_empty()) {
            (Value::Null, true) => HttpBody::Empty,
            (json, true) => HttpBody::Json { json: json.clone() },
            (json, false) => {
                let mut payload = FormPart::text("payload_json", json.to_string());
                payload.mime_type = Some("application/json".into());
                let files = call.files.iter().enumerate().map(|(index, file)| {
                    let name = format!("files[{index}]");
                    FormPart::blob(name, file.blob.clone(), Some(file.file_name.clone()), file.mime_type.clone())
                });
                HttpBody::Multipart { parts: std::iter::once(payload).chain(files).collect() }
            }
        };
        let usual = if call.files.is_empty() { CALL_MS } else { UPLOAD_MS };
        let agent = concat!("DiscordBot (https://github.com/omni-host/omni, ", env!("CARGO_PKG_VERSION"), ")");
        let mut http =
            HttpCall { method: call.method.to_owned(), url: self.url(&call.path), body, ..HttpCall::default() }
                .header("user-agent", agent)
                .timeout_ms(call.timeout_ms.unwrap_or(usual));
        if !call.is_by_token {
            http = http.header("authorization", format!("Bot {}", self.token));
        }
        http.max_bytes = Some(ANSWER_BYTES);
        http
    }

    /// Makes a call. An answer without a body is `null`.
    pub async fn ask(&self, ctx: &Context, call: &Call) -> Result<Value, ApiError> {
        if self.revoked.load(Ordering::Relaxed) {
            return Err(ApiError::Revoked);
        }
        let route = Route::of(call.method, &call.path);
        self.limits.take(&route, ctx.now()).map_err(ApiError::Wait)?;
        let response = ctx.http(self.http(call)).await.map_err(ApiError::Failed)?;
        self.limits.note(&route, &response, ctx.now());
        let read = read(&response).map_err(|error| match error {
            ApiError::Refused(refusal) => ApiError::Refused(Refusal { is_by_token: call.is_by_token, ..refusal }),
            error => error,
        });
        if response.status == 401 && !call.is_by_token && !self.revoked.swap(true, Ordering::Relaxed) {
            ctx.state(crate::errors::logged_out_state("Discord does not know this token any more"));
        }
        read
    }

    /// Makes calls side by side, for what cannot wait until others are done. The results are in their order.
    pub async fn ask_all(&self, ctx: &Context, calls: &[Call]) -> Vec<Result<Value, ApiError>> {
        side_by_side(calls.iter().map(|call| Box::pin(self.ask(ctx, call)) as Work<'_, _>).collect()).await
    }

    /// Makes a call and reads its result.
    pub async fn get<T: DeserializeOwned>(&self, ctx: &Context, call: &Call) -> Result<T, ApiError> {
        let found = self.ask(ctx, call).await?;
        serde_json::from_value(found).map_err(|error| ApiError::Garbage {
            status: 200,
            what: format!("an unexpected answer to {} {}: {error}", call.method, template(&call.path)),
            retry_after_ms: None,
        })
    }
}

/// A path as it may stand in a sentence: tokens in it are secrets.
fn template(path: &str) -> &str {
    let end =
        ["/webhooks/", "/interactions/"].iter().filter_map(|part| path.find(part).map(|at| at + part.len())).min();
    path.get(..end.unwrap_or(path.len())).unwrap_or_default()
}

/// The result of an answer.
pub fn read(response: &HttpResponse) -> Result<Value, ApiError> {
    let wait = retry_after(response).filter(|_| response.status == 429);
    let retry_after_ms = wait.map(|seconds| (seconds.clamp(0.0, 86_400.0) * 1_000.0).ceil() as u64);
    let garbage = |what: &str| ApiError::Garbage { status: response.status, what: what.to_owned(), retry_after_ms };
    if response.status == 204 || response.is_success() && response.body.is_empty() {
        return Ok(Value::Null);
    }
    let body = response.json::<Value>();
    match (response.is_success(), body) {
        (true, Ok(found)) => Ok(found),
        (true, Err(_)) => Err(garbage("an answer that is no JSON")),
        (false, body) => match body {
            // A proxy's or a guard's page has no code and no message.
            Ok(Value::Object(body)) if body.contains_key("message") || response.status == 429 => {
                let words = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
                let mut message = words("message").to_owned();
                if let Some(errors) = body.get("errors") {
                    let mut wrong = Vec::new();
                    fields(errors, "", &mut wrong);
                    if !wrong.is_empty() {
                        message = format!("{message}: {}", wrong.join("; "));
                    }
                }
                Err(ApiError::Refused(Refusal {
                    status: response.status,
                    code: body.get("code").and_then(Value::as_i64).unwrap_or(0),
                    message: message.chars().take(SENTENCE).collect(),
                    retry_after_ms,
                    is_by_token: false,
                }))
            }
            _ => Err(garbage("an answer that is not Discord's")),
        },
    }
}

/// The fields that are wrong, each with what is wrong with it. At most ten.
fn fields(errors: &Value, path: &str, wrong: &mut Vec<String>) {
    let Value::Object(errors) = errors else { return };
    for (name, below) in errors {
        if wrong.len() >= 10 {
            return;
        }
        if name == "_errors" {
            let list = below.as_array().into_iter().flatten();
            let words = list.filter_map(|error| error.get("message").and_then(Value::as_str));
            wrong.extend(words.map(|words| format!("{}: {words}", path.trim_start_matches('.'))));
        } else {
            fields(below, &format!("{path}.{name}"), wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> HttpResponse {
        HttpResponse { status, headers: Vec::new(), body: body.as_bytes().to_vec() }
    }

    #[test]
    fn an_answer_is_read() {
        assert_eq!(read(&answer(204, "")), Ok(Value::Null));
        assert_eq!(read(&answer(200, r#"{"id": "1"}"#)), Ok(json!({"id": "1"})));
        assert!(matches!(read(&answer(200, "<html>")), Err(ApiError::Garbage { status: 200, .. })));
        assert!(matches!(read(&answer(403, r#"{"a": 1}"#)), Err(ApiError::Garbage { status: 403, .. })));
    }

    #[test]
    fn a_refusal_names_the_fields() {
        let body = r#"{"code": 50035, "message": "Invalid Form Body", "errors": {"embeds": {"0": {"title": {"_errors":
            [{"code": "X", "message": "Must be 256 or fewer in length."}]}}}}}"#;
        let Err(ApiError::Refused(refusal)) = read(&answer(400, body)) else { panic!("it is refused") };
        assert_eq!((refusal.status, refusal.code), (400, 50035));
        assert_eq!(refusal.message, "Invalid Form Body: embeds.0.title: Must be 256 or fewer in length.");
    }

    #[test]
    fn tokens_are_not_in_sentences() {
        assert_eq!(template("/channels/1/messages"), "/channels/1/messages");
        assert_eq!(template("/webhooks/1/secret"), "/webhooks/");
    }
}
