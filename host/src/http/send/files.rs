//! Files: one, an album of them, a sticker.

use super::{Envelope, SentView, send, send_all};
use crate::http::App;
use crate::http::answer::Data;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::extract::Body;
use crate::http::idempotency::SendId;
use crate::http::instances::named;
use crate::http::media::{Attached, attach};
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use omni_channel_sdk::content::{Content, Media, Text};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(media))
        .routes(routes!(album))
        .routes(routes!(sticker))
        .route("/messages/media", post(media))
        .route("/messages/sticker", post(sticker))
}

/// What sort of file it is.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum MediaType {
    Image,
    Audio,
    Video,
    Document,
}

/// A file to be sent: one of `url`, `base64` and `mediaId`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendMediaRequest)]
struct MediaBody {
    #[serde(flatten)]
    to: Envelope,
    #[serde(rename = "type")]
    kind: MediaType,
    #[serde(flatten)]
    file: Attached,
    /// The words below it.
    caption: Option<String>,
    /// An audio that is to be heard as speech.
    #[serde(default)]
    voice_note: bool,
}

/// Sends a file.
#[utoipa::path(post, path = "/messages/send/media", tag = "messages", request_body = MediaBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent once, however often it is asked")),
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn media(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(mut body): Body<MediaBody>,
) -> ApiResult<Response> {
    let mut media = file(&app, &caller, &mut body.to, body.file).await?;
    media.caption = body.caption.map(Text::plain);
    media.voice = body.voice_note && matches!(body.kind, MediaType::Audio);
    let (content, name) = body.kind.content(media);
    send(&app, &caller, send_id, body.to, content, Some(name)).await
}

impl MediaType {
    fn content(self, media: Media) -> (Content, &'static str) {
        match self {
            Self::Image => (Content::Image(media), "image"),
            Self::Audio => (Content::Audio(media), "audio"),
            Self::Video => (Content::Video(media), "video"),
            Self::Document => (Content::Document(media), "document"),
        }
    }
}

/// One file of an album: one of `url`, `base64` and `mediaId`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AlbumItem)]
struct AlbumItemBody {
    #[serde(rename = "type")]
    kind: MediaType,
    #[serde(flatten)]
    file: Attached,
    /// The words below it.
    caption: Option<String>,
}

/// Files to be sent together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendAlbumRequest)]
struct AlbumBody {
    #[serde(flatten)]
    to: Envelope,
    /// In the order in which they are shown. A channel without albums sends each as a message of its own.
    #[schema(min_items = 2)]
    items: Vec<AlbumItemBody>,
}

/// Sends several files as one album.
#[utoipa::path(post, path = "/messages/send/album", tag = "messages", request_body = AlbumBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent once, however often it is asked")),
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn album(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(mut body): Body<AlbumBody>,
) -> ApiResult<Response> {
    if body.items.len() < 2 {
        return Err(ApiError::field("items", "must be at least two"));
    }
    let mut contents = Vec::with_capacity(body.items.len());
    for item in body.items {
        let mut media = file(&app, &caller, &mut body.to, item.file).await?;
        media.caption = item.caption.map(Text::plain);
        contents.push(item.kind.content(media).0);
    }
    let first = contents.remove(0);
    send_all(&app, &caller, send_id, body.to, first, contents, Some("album")).await
}

/// The file of a body, in the media store or at its address.
async fn file(app: &App, caller: &Caller, to: &mut Envelope, file: Attached) -> ApiResult<Media> {
    let instance = named(app, caller, &to.instance_id).await?;
    to.instance_id = instance.to_string();
    attach(app, caller, instance, file).await
}

/// A sticker to be sent: one of `url`, `base64` and `mediaId`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendStickerRequest)]
struct StickerBody {
    #[serde(flatten)]
    to: Envelope,
    #[serde(flatten)]
    file: Attached,
    /// The emoji that it stands for.
    emoji: Option<String>,
}

/// Sends a sticker.
#[utoipa::path(post, path = "/messages/send/sticker", tag = "messages", request_body = StickerBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn sticker(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(mut body): Body<StickerBody>,
) -> ApiResult<Response> {
    let mut media = file(&app, &caller, &mut body.to, body.file).await?;
    media.emoji = body.emoji;
    send(&app, &caller, send_id, body.to, Content::Sticker(media), Some("sticker")).await
}
