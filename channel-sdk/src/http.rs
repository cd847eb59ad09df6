//! HTTP as data: what a channel asks the host to fetch, and what comes back.

use crate::ids::BlobId;
use serde::{Deserialize, Serialize};

/// A call that the host makes for a channel.
///
/// Where the URL or a header holds a secret's placeholder (see [`Secrets`](crate::manifest::Secrets)), the host puts the
/// secret in; a placeholder in a body stays as it is unless `secretsInBody` is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpCall {
    /// `GET`, `POST` …
    pub method: String,
    /// Absolute, `http` or `https`.
    pub url: String,
    /// In order; names in any case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// What is sent.
    #[serde(default, skip_serializing_if = "HttpBody::is_empty")]
    pub body: HttpBody,
    /// How long the whole call may take, in milliseconds; 30 s when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
    /// Most bytes of the answer to read; 8 MiB when absent. A larger answer is an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Whether placeholders in a JSON or form body are filled in too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub secrets_in_body: bool,
}

impl HttpCall {
    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Self {
        Self { method: "GET".into(), url: url.into(), ..Self::default() }
    }

    /// A `POST` of a JSON value.
    pub fn post_json(url: impl Into<String>, json: serde_json::Value) -> Self {
        Self { method: "POST".into(), url: url.into(), body: HttpBody::Json { json }, ..Self::default() }
    }

    /// A `POST` of form parts; files among them are streamed by the host.
    pub fn post_multipart(url: impl Into<String>, parts: Vec<FormPart>) -> Self {
        Self { method: "POST".into(), url: url.into(), body: HttpBody::Multipart { parts }, ..Self::default() }
    }

    /// The same call with a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(Header { name: name.into(), value: value.into() });
        self
    }

    /// The same call with another time limit.
    pub fn timeout_ms(mut self, timeout_ms: u64) -> Self {
        self.timeout_ms = Some(timeout_ms);
        self
    }
}

/// One header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Header {
    /// Its name, in any case.
    pub name: String,
    /// Its value; what is not UTF-8 has its bytes replaced.
    pub value: String,
}

/// The body of a call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum HttpBody {
    /// Nothing.
    #[default]
    Empty,
    /// A JSON value, sent as `application/json`.
    Json {
        /// The value.
        json: serde_json::Value,
    },
    /// Words, with the content type that a header says.
    Text {
        /// The words.
        text: String,
    },
    /// `multipart/form-data`.
    Multipart {
        /// In order.
        parts: Vec<FormPart>,
    },
    /// A file that the host holds, streamed.
    Blob {
        /// Which.
        blob: BlobId,
    },
}

impl HttpBody {
    fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }
}

/// One part of a form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct FormPart {
    /// The field's name.
    pub name: String,
    /// A value in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// A file that the host holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobId>,
    /// The file's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The file's MIME type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<String>,
}

impl FormPart {
    /// A value in words.
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: Some(text.into()), blob: None, file_name: None, mime_type: None }
    }

    /// A file that the host holds.
    pub fn blob(name: impl Into<String>, blob: BlobId, file_name: Option<String>, mime_type: Option<String>) -> Self {
        Self { name: name.into(), text: None, blob: Some(blob), file_name, mime_type }
    }
}

/// An answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct HttpResponse {
    /// `200`, `404` …
    pub status: u16,
    /// In order, names in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<Header>,
    /// The whole body. It crosses the boundary as raw bytes beside the JSON.
    #[serde(skip)]
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The first header of a name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value.as_str())
    }

    /// The body as JSON.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }
}

/// Why a call brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HttpFailure {
    /// A sentence, without secrets.
    pub message: String,
    /// Whether the request may have reached the other side: a send that fails so has an unknown outcome.
    pub sent: bool,
    /// Whether the time limit ended it.
    #[serde(default)]
    pub timed_out: bool,
}

impl std::fmt::Display for HttpFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HttpFailure {}
