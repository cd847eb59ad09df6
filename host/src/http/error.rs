//! Errors as the API says them: `{error: {code, message, details?}}`, Omni v2's codes.

use crate::instances::InstanceError;
use crate::media::MediaError;
use crate::outbound::OutboundError;
use crate::store::StoreError;
use axum::Json;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use omni_channel_sdk::SendError;
use omni_channel_sdk::outcome::ErrorCode;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// When one may ask again while the database is away, in seconds.
const DATABASE_AWAY: u64 = 2;

/// A refusal. Made with the constructors, which know the code that goes with each status.
#[derive(Debug)]
pub(crate) struct ApiError(Box<Refusal>);

#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    details: Option<Value>,
    header: Option<(HeaderName, HeaderValue)>,
}

/// The body of every refusal.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorContent,
}

/// What was wrong.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ErrorContent)]
struct ErrorContent {
    /// In a word that programs can tell apart.
    #[schema(example = "VALIDATION_ERROR")]
    code: &'static str,
    /// In a sentence.
    message: String,
    /// Which field, which resource, who acts next.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    details: Option<Value>,
}

pub(crate) type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Refusal { status, code, message: message.into(), details: None, header: None }))
    }

    /// A field of the request is wrong.
    pub(crate) fn field(field: &str, message: impl std::fmt::Display) -> Self {
        Self::validation(format!("{field}: {message}")).details(json!({ "field": field }))
    }

    /// The request is wrong.
    pub(crate) fn validation(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "VALIDATION_ERROR", message)
    }

    /// Nobody said who they are, or it is not true.
    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
            .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"omni\""))
    }

    /// They may not.
    pub(crate) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    /// There is no such thing.
    pub(crate) fn not_found(kind: &str, id: impl std::fmt::Display) -> Self {
        let id = id.to_string();
        Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", format!("there is no {kind} {id}"))
            .details(json!({ "resourceType": kind, "resourceId": id }))
    }

    /// It is taken, or in another state.
    pub(crate) fn conflict(message: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, "CONFLICT", message)
    }

    /// Larger than allowed.
    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "PAYLOAD_TOO_LARGE", message)
    }

    /// Our fault: the cause goes to the log, not to the caller.
    pub(crate) fn internal(cause: &str) -> Self {
        tracing::error!(error = cause, "a request failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "INTERNAL_ERROR",
            "the host failed; its log says why, by the x-request-id of this answer",
        )
    }

    pub(crate) fn details(mut self, details: Value) -> Self {
        self.0.details = Some(details);
        self
    }

    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }

    pub(crate) fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let Refusal { status, code, message, details, header } = *self.0;
        let mut response = (status, Json(ErrorBody { error: ErrorContent { code, message, details } })).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict(what) => Self::conflict(format!("{what} already exists")),
            other if other.is_outage() => {
                tracing::warn!(error = other.explain(), "a request could not be answered without the database");
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "DATABASE_UNAVAILABLE",
                    "the database does not answer, or has no room; try again later",
                )
                .retry_after(DATABASE_AWAY)
            }
            other => Self::internal(&other.explain()),
        }
    }
}

impl From<InstanceError> for ApiError {
    fn from(error: InstanceError) -> Self {
        match error {
            InstanceError::NotFound(id) => Self::not_found("instance", id),
            InstanceError::Invalid(message) => Self::validation(message),
            InstanceError::NotAllowed(message) => Self::forbidden(message),
            InstanceError::Conflict(message) => Self::conflict(message),
            InstanceError::NoPlugin(message) | InstanceError::NotConnected(message) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_NOT_CONNECTED", message)
            }
            InstanceError::Elsewhere(message) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "INSTANCE_ON_ANOTHER_HOST", message).retry_after(1)
            }
            InstanceError::Channel(error) => Self::channel(&error),
            // Only the webhook's own route gets these, and it answers them itself.
            InstanceError::Webhook(refused) => Self::validation(refused.to_string()),
            InstanceError::Store(error) => error.into(),
        }
    }
}

impl ApiError {
    /// A channel refused or failed to do something that is not a send.
    fn channel(error: &SendError) -> Self {
        let (status, code) = match &error.code {
            ErrorCode::Unsupported => (StatusCode::UNPROCESSABLE_ENTITY, "CAPABILITY_NOT_SUPPORTED"),
            ErrorCode::Invalid | ErrorCode::TooLarge | ErrorCode::TooOld => {
                (StatusCode::BAD_REQUEST, "VALIDATION_ERROR")
            }
            ErrorCode::ChatNotFound | ErrorCode::MessageNotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
            ErrorCode::RateLimited => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
            ErrorCode::NotConnected | ErrorCode::Unauthorized => {
                (StatusCode::SERVICE_UNAVAILABLE, "CHANNEL_NOT_CONNECTED")
            }
            ErrorCode::Unreachable => (StatusCode::GATEWAY_TIMEOUT, "CHANNEL_TIMEOUT"),
            _ => (StatusCode::BAD_GATEWAY, "CHANNEL_SEND_FAILED"),
        };
        let answer = Self::new(status, code, &error.message).details(send_error_details(error));
        match error.retry_after_ms {
            Some(wait) => answer.retry_after(wait.div_ceil(1_000)),
            None => answer,
        }
    }

    /// A send was given up.
    pub(crate) fn send_failed(error: &SendError, message_id: uuid::Uuid) -> Self {
        let mut details = send_error_details(error);
        details["messageId"] = json!(message_id);
        let answer = Self::new(StatusCode::BAD_GATEWAY, "CHANNEL_SEND_FAILED", &error.message).details(details);
        match error.retry_after_ms {
            Some(wait) => answer.retry_after(wait.div_ceil(1_000)),
            None => answer,
        }
    }
}

/// What a program can do about it.
fn send_error_details(error: &SendError) -> Value {
    json!({ "code": error.code, "next": error.next, "retryAfterMs": error.retry_after_ms, "certain": error.certain })
}

impl From<OutboundError> for ApiError {
    fn from(error: OutboundError) -> Self {
        match error {
            OutboundError::Invalid(message) => Self::validation(message),
            OutboundError::Unsupported(message) => {
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "CAPABILITY_NOT_SUPPORTED", message)
            }
            OutboundError::NotHere(error) => {
                let answer = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "CAPABILITY_NOT_SUPPORTED", &error.message);
                let wait = error.retry_after_ms.unwrap_or_default().div_ceil(1_000);
                answer.details(send_error_details(&error)).retry_after(wait)
            }
            OutboundError::NotFound(message) => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            OutboundError::Instance(error) => error.into(),
            OutboundError::Store(error) => error.into(),
        }
    }
}

impl From<MediaError> for ApiError {
    fn from(error: MediaError) -> Self {
        match error {
            MediaError::TooLarge(_) => Self::too_large(error.to_string()),
            MediaError::NotFound(id) => Self::not_found("media", id),
            MediaError::Gone(_) => Self::new(StatusCode::GONE, "NOT_FOUND", error.to_string()),
            MediaError::Full(_) => Self::new(StatusCode::INSUFFICIENT_STORAGE, "STORAGE_FULL", error.to_string()),
            MediaError::Stream(_) | MediaError::Sealed(_) => Self::validation(error.to_string()),
            MediaError::Io(cause) => Self::internal(&format!("failed to use the media folder: {cause}")),
            MediaError::Store(error) => error.into(),
        }
    }
}

/// Answers a path that nothing lies at.
pub(crate) async fn no_such_route(method: Method, uri: Uri) -> ApiError {
    let message = format!("there is nothing at {method} {}; see {}/docs", uri.path(), super::BASE);
    ApiError::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
}

/// Answers a request whose handler panicked.
pub(crate) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a handler panicked");
    ApiError::internal(&format!("panic: {message}")).into_response()
}
