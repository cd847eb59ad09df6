//! Calls of the Bot API over the host's HTTP, and what its refusals mean.
//!
//! The token stands in every URL: as a placeholder that only the host can fill, or as it is, when it was taken over. Nothing
//! here writes a URL to the log.

use crate::api::User;
use crate::config::Config;
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Map;

/// What an operator does when Telegram no longer takes the token.
pub const NEW_TOKEN: &str =
    "get a new token from @BotFather and put it in with `omni instances update <instance> --token-stdin`";

/// How long a call may take, in milliseconds. Uploads stream and may take longer.
const CALL_MS: u64 = 30_000;
const UPLOAD_MS: u64 = 300_000;

/// One call: a method, its parameters, and files to be streamed along.
#[derive(Clone, Debug, PartialEq)]
pub struct ApiCall {
    /// `sendMessage`.
    pub method: &'static str,
    /// By name.
    pub params: Map<String, Value>,
    /// Files, each under the name of its field.
    pub uploads: Vec<Upload>,
}

/// A file of the host's that goes along with a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    /// The form's field.
    pub field: String,
    /// The file.
    pub blob: BlobId,
    /// Its name; Telegram tells some formats by the ending.
    pub file_name: String,
    /// Its MIME type.
    pub mime_type: Option<String>,
}

impl ApiCall {
    /// A call with parameters and no file. `params` must be an object.
    pub fn new(method: &'static str, params: Value) -> Self {
        let params = match params {
            Value::Object(params) => params,
            _ => Map::new(),
        };
        Self { method, params, uploads: Vec::new() }
    }

    /// Sets a parameter.
    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.params.insert(name.to_owned(), value.into());
    }
}

/// One bot at one Bot API server.
#[derive(Clone)]
pub struct Client {
    base: String,
    file_base: Option<String>,
    token: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// A client for a configuration, with a token or the placeholder of one.
    pub fn new(config: &Config, token: &str) -> Self {
        let trimmed = |url: &String| url.trim_end_matches('/').to_owned();
        Self {
            base: trimmed(&config.api_base_url),
            file_base: config.file_base_url.as_ref().map(trimmed).filter(|url| !url.is_empty()),
            token: token.to_owned(),
        }
    }

    fn url(&self, method: &str) -> String {
        format!("{}/bot{}/{method}", self.base, self.token)
    }

    /// Where a file is downloaded from, by the path that `getFile` gave. A server that runs with `--local` gives the
    /// path on its own disk, which a web server has to give out; the token in it is ours and becomes the placeholder.
    pub fn file_url(&self, path: &str) -> Result<String, SendError> {
        match &self.file_base {
            Some(base) => {
                let segments = path.split('/').filter(|segment| !segment.is_empty());
                let segments = segments.map(|segment| if is_token(segment) { self.token.as_str() } else { segment });
                Ok(format!("{base}/{}", segments.collect::<Vec<_>>().join("/")))
            }
            None if path.starts_with('/') => Err(SendError::new(
                ErrorCode::Media,
                NextActor::Operator,
                "the Bot API server keeps its files on its own disk (it runs with --local): have a web server give out \
                 that folder and set fileBaseUrl to its address",
            )),
            None => Ok(format!("{}/file/bot{}/{path}", self.base, self.token)),
        }
    }

    /// The HTTP call for a call of the Bot API.
    pub fn http(&self, call: &ApiCall) -> HttpCall {
        let url = self.url(call.method);
        if call.uploads.is_empty() {
            return HttpCall::post_json(url, Value::Object(call.params.clone())).timeout_ms(CALL_MS);
        }
        let mut parts: Vec<FormPart> =
            call.params.iter().map(|(name, value)| FormPart::text(name, words(value))).collect();
        parts.extend(call.uploads.iter().map(|upload| {
            let file_name = Some(upload.file_name.clone());
            FormPart::blob(&upload.field, upload.blob.clone(), file_name, upload.mime_type.clone())
        }));
        HttpCall::post_multipart(url, parts).timeout_ms(UPLOAD_MS)
    }

    /// Makes a call and reads its result.
    pub async fn ask<T: DeserializeOwned>(&self, ctx: &Context, call: &ApiCall) -> Result<T, ApiError> {
        let response = ctx.http(self.http(call)).await.map_err(ApiError::Failed)?;
        let result = read(&response)?;
        serde_json::from_value(result).map_err(|error| ApiError::Garbage {
            status: response.status,
            what: format!("an unexpected answer to {}: {error}", call.method),
        })
    }

    /// Asks Telegram whose token it is.
    pub async fn me(&self, ctx: &Context) -> Result<User, ApiError> {
        self.ask(ctx, &ApiCall::new("getMe", json!({}))).await
    }
}

/// A form's value: words as they are, everything else as JSON.
fn words(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether this is a token: `123456:AA…`, with some 35 letters, digits, `_` and `-` behind the colon.
pub fn is_token(text: &str) -> bool {
    let is_secret = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.split_once(':').is_some_and(|(id, secret)| {
        (1..=20).contains(&id.len())
            && id.bytes().all(|byte| byte.is_ascii_digit())
            && (30..=64).contains(&secret.len())
            && secret.bytes().all(is_secret)
    })
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiError {
    /// No answer came.
    Failed(HttpFailure),
    /// Telegram said no.
    Refused(Refusal),
    /// Something answered that is not the Bot API, or not as we know it.
    Garbage {
        /// The HTTP status.
        status: u16,
        /// What was wrong with it.
        what: String,
    },
}

/// Telegram's no.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// An HTTP status, by Telegram's reckoning.
    pub code: i64,
    /// In words, which are all that tells most refusals apart.
    pub description: String,
    /// How long to wait, in milliseconds.
    pub retry_after_ms: Option<u64>,
    /// The id that the chat has now.
    pub migrate_to: Option<i64>,
}

impl Refusal {
    /// Whether the description has one of these phrases in it. Telegram writes them in different cases.
    pub fn says(&self, phrases: &[&str]) -> bool {
        let description = self.description.to_lowercase();
        phrases.iter().any(|phrase| description.contains(&phrase.to_lowercase()))
    }
}

/// The result of an answer.
pub fn read(response: &HttpResponse) -> Result<Value, ApiError> {
    let garbage = |what: &str| ApiError::Garbage { status: response.status, what: what.to_owned() };
    let Ok(Value::Object(mut answer)) = response.json::<Value>() else {
        return Err(garbage("an answer that is no JSON object"));
    };
    match answer.get("ok").and_then(Value::as_bool) {
        Some(true) => answer.remove("result").ok_or_else(|| garbage("an answer without a result")),
        Some(false) => Err(ApiError::Refused(refusal(&answer, response.status))),
        None => Err(garbage("an answer that does not say whether it is ok")),
    }
}

fn refusal(answer: &Map<String, Value>, status: u16) -> Refusal {
    let parameter = |name: &str| answer.get("parameters").and_then(|parameters| parameters.get(name));
    let seconds = parameter("retry_after").and_then(Value::as_u64);
    Refusal {
        code: answer.get("error_code").and_then(Value::as_i64).unwrap_or(i64::from(status)),
        description: answer.get("description").and_then(Value::as_str).unwrap_or("no reason given").to_owned(),
        retry_after_ms: seconds.map(|seconds| seconds.saturating_mul(1000)),
        migrate_to: parameter("migrate_to_chat_id").and_then(Value::as_i64),
    }
}
