//! Reading a request: bodies, queries and paths, where every refusal names the field.

use super::error::ApiError;
use crate::bus::door::escape_nul;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use utoipa::IntoParams;

/// A JSON body.
pub(crate) struct Body<T>(pub(crate) T);

/// A JSON body that may be left out.
pub(crate) struct OptionalBody<T>(pub(crate) T);

/// The query.
pub(crate) struct Query<T>(pub(crate) T);

/// The variable parts of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let is_json = is_json(request.headers());
        let bytes = bytes(request, state).await?;
        if !is_json {
            return Err(ApiError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "VALIDATION_ERROR",
                "the body must be JSON, and the header `content-type: application/json` must say so",
            ));
        }
        object(&bytes)?;
        parse(&bytes).map(Self)
    }
}

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for OptionalBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let bytes = bytes(request, state).await?;
        if bytes.is_empty() {
            return Ok(Self(T::default()));
        }
        // `null` is how some clients leave a body out.
        if bytes.trim_ascii() == b"null" {
            return Ok(Self(T::default()));
        }
        object(&bytes)?;
        parse(&bytes).map(Self)
    }
}

/// Every body is an object; serde alone would take a list of its fields as well.
fn object(bytes: &[u8]) -> Result<(), ApiError> {
    match bytes.trim_ascii_start().first() {
        Some(b'{') => Ok(()),
        _ => Err(ApiError::validation("the body must be a JSON object")),
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// The whole body, within the limit.
pub(crate) async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, ApiError> {
    Bytes::from_request(request, state).await.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => ApiError::too_large("the body is larger than this route takes"),
        _ => ApiError::validation("the body ended early"),
    })
}

/// Parses JSON so that an error says where.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // As with what networks bring: no database of ours need take it.
    let bytes = escape_nul(bytes);
    let mut deserializer = serde_json::Deserializer::from_slice(&bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let message = error.into_inner().to_string();
        // serde says only in words which field is missing.
        let missing = message.strip_prefix("missing field `").and_then(|rest| rest.split('`').next());
        match (path.as_str(), missing) {
            (".", Some(field)) => ApiError::field(field, "is missing"),
            (".", None) => ApiError::validation(format!("the body is not what this route takes: {message}")),
            (path, Some(field)) => ApiError::field(&format!("{path}.{field}"), "is missing"),
            (path, None) => ApiError::field(path, message),
        }
    })?;
    deserializer.end().map_err(|error| ApiError::validation(format!("something follows the JSON body: {error}")))?;
    Ok(value)
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        without_nul(parts.uri.query())?;
        axum::extract::Query::try_from_uri(&parts.uri).map(|query| Self(query.0)).map_err(|rejection| {
            let words = rejection.body_text();
            let words = words.strip_prefix("Failed to deserialize query string: ").unwrap_or(&words);
            match words.split_once(": ") {
                Some((field, message)) if !field.contains(' ') => ApiError::field(field, message),
                _ => match words.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
                    Some(field) => ApiError::field(field, "is missing"),
                    None => ApiError::validation(format!("the query is not what this route takes: {words}")),
                },
            }
        })
    }
}

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        without_nul(Some(parts.uri.path()))?;
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(path) => Ok(Self(path.0)),
            Err(rejection) => {
                let words = rejection.body_text();
                let words = words.strip_prefix("Invalid URL: ").unwrap_or(&words);
                Err(ApiError::validation(format!("the path is not what this route takes: {words}")))
            }
        }
    }
}

/// Refuses the one character that no text of ours has, in a part of an address.
fn without_nul(part: Option<&str>) -> Result<(), ApiError> {
    match part.is_some_and(|part| part.contains("%00")) {
        true => Err(ApiError::validation("the address holds the character NUL (%00), which no text here has")),
        false => Ok(()),
    }
}

/// Reads `null` as if the field were left out.
pub(crate) fn null_is_absent<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: serde::Deserializer<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// How much of a list is wanted.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// How many items, 1 to 100; 50 when not said.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100)]
    pub(crate) limit: Option<String>,
    /// Where the last page ended: its `meta.cursor`.
    pub(crate) cursor: Option<String>,
}

impl Paging {
    /// The number of items, checked.
    pub(crate) fn limit(&self) -> Result<u32, ApiError> {
        limit(self.limit.as_deref(), 100)
    }
}

/// A number of items, checked; 50 when not said.
pub(crate) fn limit(words: Option<&str>, most: u32) -> Result<u32, ApiError> {
    let Some(words) = words else { return Ok(most.min(50)) };
    match words.parse() {
        Ok(limit) if (1..=most).contains(&limit) => Ok(limit),
        _ => Err(ApiError::field("limit", format!("must be a whole number from 1 to {most}"))),
    }
}
