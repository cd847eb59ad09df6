//! Files: uploaded before they are sent, and read after they have come.
//!
//! What strangers sent is served so that a browser never runs it.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Path, Query};
use super::instances::named;
use crate::media::StoredMedia;
use axum::Json;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{DefaultBodyLimit, FromRequest, Multipart, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use futures_util::stream;
use omni_channel_sdk::content::Media;
use omni_channel_sdk::ids::BlobId;
use serde::{Deserialize, Serialize};
use std::io::SeekFrom;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router(limit: usize) -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(upload)).layer(DefaultBodyLimit::max(limit)).routes(routes!(download))
}

/// A file in a body that sends: one of `url`, `base64` and `mediaId`.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Attached {
    /// A public address. The host fetches it where the channel does not.
    url: Option<String>,
    /// The file itself, or a `data:` address.
    base64: Option<String>,
    /// What an upload answered.
    media_id: Option<Uuid>,
    /// Its name.
    filename: Option<String>,
    /// Its MIME type.
    mime_type: Option<String>,
}

/// Makes a file of a body ready to be sent.
pub(crate) async fn attach(app: &App, caller: &Caller, instance: Uuid, file: Attached) -> ApiResult<Media> {
    let Attached { url, base64, media_id, filename, mime_type } = file;
    let media = Media { file_name: filename, mime_type, ..Media::default() };
    match (url, base64, media_id) {
        (Some(url), None, None) => {
            if !(url.starts_with("https://") || url.starts_with("http://")) {
                return Err(ApiError::field("url", "must begin with http:// or https://"));
            }
            if app.host.instances.takes_addresses(instance).await? {
                return Ok(Media { url: Some(url), ..media });
            }
            let (found, mime_type) = app.host.instances.file_at(instance, url).await?;
            let limit = app.shared.options.media_limit as u64;
            let mime_type = media.mime_type.or(mime_type);
            let stored = app.host.media.put(instance, found, mime_type, media.file_name, limit).await?;
            Ok(held(stored))
        }
        (None, Some(text), None) => {
            let (declared, bytes) = decode(&text)?;
            let mime_type = media.mime_type.or(declared);
            let body = stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(bytes))]);
            let limit = app.shared.options.media_limit as u64;
            let stored = app.host.media.put(instance, body, mime_type, media.file_name, limit).await?;
            Ok(held(stored))
        }
        (None, None, Some(id)) => {
            let stored = app.host.media.get(id).await?;
            caller.allow(stored.instance_id)?;
            let known = held(stored);
            Ok(Media {
                file_name: media.file_name.or(known.file_name.clone()),
                mime_type: media.mime_type.or(known.mime_type.clone()),
                ..known
            })
        }
        (None, None, None) => Err(ApiError::field("url", "one of url, base64 and mediaId is needed")),
        _ => Err(ApiError::field("url", "only one of url, base64 and mediaId may be given")),
    }
}

fn held(stored: StoredMedia) -> Media {
    Media {
        blob: Some(BlobId::new(stored.id)),
        size: Some(stored.size),
        mime_type: stored.mime_type,
        file_name: stored.file_name,
        ..Media::default()
    }
}

/// The bytes of a base64 text, and the MIME type that a `data:` address says.
fn decode(text: &str) -> ApiResult<(Option<String>, Vec<u8>)> {
    let (mime, data) = match text.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,")) {
        Some((mime, data)) => (Some(mime.to_owned()).filter(|mime| !mime.is_empty()), data),
        None => (None, text),
    };
    let bytes = STANDARD.decode(data).or_else(|_| STANDARD_NO_PAD.decode(data));
    Ok((mime, bytes.map_err(|error| ApiError::field("base64", format!("is not base64: {error}")))?))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct UploadQuery {
    /// The instance that it will be sent through, by id or name.
    instance_id: String,
    /// Its name, when the body is the bare file.
    filename: Option<String>,
}

/// A file that is stored.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StoredView {
    /// Give it as `mediaId`.
    id: Uuid,
    mime_type: Option<String>,
    file_name: Option<String>,
    /// In bytes.
    size: u64,
    /// Where it can be read.
    url: String,
}

/// Stores a file to be sent: as `multipart/form-data` with one file, or as the bare body.
#[utoipa::path(post, path = "/media", tag = "media", params(UploadQuery),
    request_body(content_type = "application/octet-stream", content = Vec<u8>),
    responses((status = 201, body = Data<StoredView>), (status = "default", body = ErrorBody)))]
async fn upload(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<UploadQuery>,
    request: Request,
) -> ApiResult<(StatusCode, Json<Data<StoredView>>)> {
    let instance = named(&app, &caller, &query.instance_id).await?;
    app.host.instances.get(instance).await?;
    let limit = app.shared.options.media_limit as u64;
    let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
    let stored = if kind.as_deref().is_some_and(|kind| kind.starts_with("multipart/form-data")) {
        let mut form = Multipart::from_request(request, &app).await.map_err(|error| multipart(error.body_text()))?;
        loop {
            let field = form.next_field().await.map_err(|error| multipart(error.body_text()))?;
            let Some(field) = field else { return Err(ApiError::field("file", "the form holds no file")) };
            let Some(name) = field.file_name().map(str::to_owned) else { continue };
            let kind = field.content_type().map(str::to_owned);
            break app.host.media.put(instance, field, kind, Some(name), limit).await?;
        }
    } else {
        let body = request.into_body();
        if body.is_end_stream() {
            return Err(ApiError::validation("the body is empty: it must be the file"));
        }
        let body = body.into_data_stream();
        let kind = kind.filter(|kind| kind != "application/octet-stream");
        app.host.media.put(instance, body, kind, query.filename, limit).await?
    };
    let data = StoredView {
        url: format!("{}/media/{}", super::BASE, stored.id),
        id: stored.id,
        mime_type: stored.mime_type,
        file_name: stored.file_name,
        size: stored.size,
    };
    Ok((StatusCode::CREATED, Json(Data { data })))
}

fn multipart(words: String) -> ApiError {
    ApiError::validation(format!("the form is broken: {words}"))
}

/// Reads a stored file. Takes `Range` for one range, and the key as `?api_key=` too.
#[utoipa::path(get, path = "/media/{id}", tag = "media", params(("id" = Uuid, Path, description = "Our id of the file")),
    responses((status = 200, body = Vec<u8>, content_type = "application/octet-stream"), (status = 206, body = Vec<u8>),
        (status = "default", body = ErrorBody)))]
async fn download(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let stored = app.host.media.get(id).await?;
    if !caller.instances().contains(stored.instance_id) {
        return Err(ApiError::not_found("media", id));
    }
    let mut file = match tokio::fs::File::open(&stored.path).await {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(media.id = %id, "a file that is stored is not in the media folder");
            return Err(crate::media::MediaError::Gone(id).into());
        }
        Err(error) => return Err(crate::media::MediaError::Io(error).into()),
    };
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (status, from, length) = match range.map(|range| asked_range(range, stored.size)) {
        None | Some(Asked::Everything) => (StatusCode::OK, 0, stored.size),
        Some(Asked::Part(from, to)) => (StatusCode::PARTIAL_CONTENT, from, to - from + 1),
        Some(Asked::Outside) => {
            let whole = HeaderValue::from_str(&format!("bytes */{}", stored.size));
            let error = ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "VALIDATION_ERROR", "the file is shorter");
            return Err(match whole {
                Ok(whole) => error.header(header::CONTENT_RANGE, whole),
                Err(_) => error,
            });
        }
    };
    if from > 0 {
        file.seek(SeekFrom::Start(from)).await.map_err(crate::media::MediaError::Io)?;
    }
    let body = Body::from_stream(ReaderStream::with_capacity(file.take(length), 64 << 10));
    let mut response = (status, safe_headers(&stored), body).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(part) = HeaderValue::from_str(&format!("bytes {from}-{}/{}", from + length - 1, stored.size))
    {
        headers.insert(header::CONTENT_RANGE, part);
    }
    Ok(response)
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Everything,
    Part(u64, u64),
    Outside,
}

/// One range of a `Range` header; several, or a broken one, mean everything, as RFC 9110 allows.
fn asked_range(range: &str, size: u64) -> Asked {
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Asked::Everything;
    };
    let last = size.saturating_sub(1);
    match (from.parse::<u64>(), to.parse::<u64>()) {
        (Ok(from), _) if from >= size => Asked::Outside,
        (Ok(from), Ok(to)) if from <= to => Asked::Part(from, to.min(last)),
        (Ok(from), Err(_)) if to.is_empty() => Asked::Part(from, last),
        (Err(_), Ok(0)) if from.is_empty() => Asked::Outside,
        (Err(_), Ok(_)) if from.is_empty() && size == 0 => Asked::Outside,
        (Err(_), Ok(count)) if from.is_empty() => Asked::Part(size.saturating_sub(count), last),
        _ => Asked::Everything,
    }
}

/// Headers under which a file from a stranger does no harm: only pictures, sound and film are shown in place.
fn safe_headers(stored: &StoredMedia) -> [(HeaderName, HeaderValue); 6] {
    let mime = stored.mime_type.as_deref().unwrap_or_default().to_ascii_lowercase();
    let essence = mime.split(';').next().unwrap_or_default().trim();
    let (family, kind) = essence.split_once('/').unwrap_or_default();
    let shown = matches!(family, "image" | "audio" | "video") && !kind.contains("svg") && !kind.contains("xml");
    let served = if shown || essence == "application/pdf" { essence } else { "application/octet-stream" };
    let disposition = disposition(if shown { "inline" } else { "attachment" }, stored.file_name.as_deref());
    let value = |text: &str, otherwise: &'static str| {
        HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(otherwise))
    };
    [
        (header::CONTENT_TYPE, value(served, "application/octet-stream")),
        (header::CONTENT_DISPOSITION, value(&disposition, "attachment")),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; sandbox")),
        (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=86400, immutable")),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
    ]
}

/// A `Content-Disposition` with the name in ASCII and, whole, as RFC 8187 writes it.
fn disposition(kind: &str, name: Option<&str>) -> String {
    let Some(name) = name else { return kind.to_owned() };
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    let harmless = |c: char| if c.is_ascii_alphanumeric() || " ._-".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(harmless).collect();
    let mut encoded = String::new();
    for byte in name.bytes() {
        match byte.is_ascii_alphanumeric() || b"._-".contains(&byte) {
            true => encoded.push(char::from(byte)),
            false => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    format!("{kind}; filename=\"{ascii}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_to_the_file() {
        assert_eq!(asked_range("bytes=0-4", 10), Asked::Part(0, 4));
        assert_eq!(asked_range("bytes=5-", 10), Asked::Part(5, 9));
        assert_eq!(asked_range("bytes=5-99", 10), Asked::Part(5, 9));
        assert_eq!(asked_range("bytes=-3", 10), Asked::Part(7, 9));
        assert_eq!(asked_range("bytes=-99", 10), Asked::Part(0, 9));
        assert_eq!(asked_range("bytes=10-", 10), Asked::Outside);
        assert_eq!(asked_range("bytes=0-", 0), Asked::Outside);
        assert_eq!(asked_range("bytes=4-2", 10), Asked::Everything);
        assert_eq!(asked_range("bytes=0-1,4-5", 10), Asked::Everything);
        assert_eq!(asked_range("lines=0-1", 10), Asked::Everything);
    }

    #[test]
    fn a_name_from_a_stranger_cannot_break_out_of_its_header() {
        let name = disposition("attachment", Some("../a\"b\r\nSet-Cookie: x=ü.html"));
        assert_eq!(
            name,
            "attachment; filename=\"a_b__Set-Cookie_ x__.html\"; filename*=UTF-8''a%22b%0D%0ASet-Cookie%3A%20x%3D%C3%BC.html"
        );
    }

    #[test]
    fn what_a_browser_would_run_is_a_download() {
        for mime in ["text/html", "image/svg+xml", "application/xhtml+xml", "text/xml", ""] {
            let stored = StoredMedia {
                id: Uuid::nil(),
                instance_id: Uuid::nil(),
                mime_type: Some(mime.to_owned()),
                file_name: None,
                size: 0,
                path: std::path::PathBuf::new(),
            };
            let headers = safe_headers(&stored);
            assert_eq!(headers[0].1, "application/octet-stream", "{mime}");
            assert_eq!(headers[1].1, "attachment", "{mime}");
        }
    }
}
