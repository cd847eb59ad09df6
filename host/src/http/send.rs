//! Sending: each route reads its own body, makes one content of it, and waits for the network's word for a while.

use super::App;
use super::answer::{Data, Success, SuccessData};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, null_is_absent};
use super::idempotency::SendId;
use super::instances::named;
use super::media::{Attached, attach};
use crate::outbound::{Action, Change, NewMessage, Outcome, Target};
use crate::store::{chat_list, outbox};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use omni_channel_sdk::content::{
    Button, Buttons, ContactCard, Contacts, Content, Entity, Location, Media, Poll, PollOption, Text,
};
use omni_channel_sdk::event::{Activity, Emoji};
use omni_channel_sdk::ids::ChatId;
use omni_channel_sdk::request::{Request, ShowTyping};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(text))
        .routes(routes!(media))
        .routes(routes!(album))
        .routes(routes!(sticker))
        .routes(routes!(contact))
        .routes(routes!(location))
        .routes(routes!(poll))
        .routes(routes!(buttons))
        .routes(routes!(reaction))
        .routes(routes!(presence))
        // What Omni v2's document and its SDKs call some of them.
        .routes(routes!(text_as_before))
        .route("/messages/media", post(media))
        .route("/messages/sticker", post(sticker))
        .route("/messages/contact", post(contact))
        .route("/messages/location", post(location))
        .route("/messages/reaction", post(reaction))
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageResponse)]
pub(crate) struct SentView {
    /// Our id of it, or of its first part: `GET /messages/{id}` follows it.
    message_id: Uuid,
    /// The network's id; empty until the network has taken it.
    external_message_id: String,
    /// `sent`; `pending` when the network has not answered yet; `unknown` when it is not known whether it did.
    #[schema(example = "sent")]
    status: &'static str,
    instance_id: Uuid,
    /// As it was asked for.
    to: String,
    /// Milliseconds since 1970.
    timestamp: i64,
    /// How many parts it was split into.
    parts: u32,
    /// Why the outcome is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'static str>,
}

/// What every body that sends begins with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    /// Through which instance: id or name.
    instance_id: String,
    /// Where to: our id of a chat or a person, or the network's id.
    to: String,
    /// What it answers: our id of a message or the network's.
    reply_to: Option<String>,
    /// Options that only one network has, by name.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Object>)]
    options: BTreeMap<String, Value>,
}

/// Sends a content and answers when the network has, or when it takes too long.
async fn send(
    app: &App,
    caller: &Caller,
    send_id: SendId,
    to: Envelope,
    content: Content,
    media_type: Option<&'static str>,
) -> ApiResult<Response> {
    send_all(app, caller, send_id, to, content, Vec::new(), media_type).await
}

/// The same with the other items of the album that the content begins.
async fn send_all(
    app: &App,
    caller: &Caller,
    send_id: SendId,
    to: Envelope,
    content: Content,
    album: Vec<Content>,
    media_type: Option<&'static str>,
) -> ApiResult<Response> {
    let instance_id = named(app, caller, &to.instance_id).await?;
    if to.to.trim().is_empty() {
        return Err(ApiError::field("to", "must name a chat"));
    }
    let message = NewMessage {
        send_id: send_id.0,
        instance_id,
        to: Target::Any(to.to.clone()),
        content,
        album,
        reply_to: to.reply_to,
        options: to.options,
    };
    let accepted = app.host.outbound.accept(message).await?;
    let outcome = app.host.outbound.outcome(&accepted, app.shared.options.send_wait).await?;
    let (code, status, external_message_id, message) = match outcome {
        Outcome::Sent { external_id } => (StatusCode::CREATED, "sent", external_id, None),
        Outcome::Pending => (StatusCode::ACCEPTED, "pending", String::new(), None),
        Outcome::Unknown { message } => (StatusCode::ACCEPTED, "unknown", String::new(), Some(message)),
        Outcome::Failed { error } => return Err(ApiError::send_failed(&error, accepted.message_id)),
    };
    let data = SentView {
        message_id: accepted.message_id,
        external_message_id,
        status,
        instance_id,
        to: to.to,
        timestamp: app.host.clock.now().millis(),
        parts: accepted.parts,
        message,
        media_type,
    };
    Ok((code, Json(Data { data })).into_response())
}

/// A text to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendTextRequest)]
struct TextBody {
    #[serde(flatten)]
    to: Envelope,
    /// The words. Longer ones than the channel takes are split.
    #[schema(min_length = 1)]
    text: String,
    /// What is special about pieces of them; offsets and lengths in UTF-16 code units.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Vec<Object>>)]
    entities: Vec<Entity>,
}

/// Sends a text.
#[utoipa::path(post, path = "/messages/send", tag = "messages", request_body = TextBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent once, however often it is asked")),
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn text(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<TextBody>,
) -> ApiResult<Response> {
    if body.text.is_empty() {
        return Err(ApiError::field("text", "must not be empty"));
    }
    let content = Content::Text(Text { text: body.text, entities: body.entities });
    send(&app, &caller, send_id, body.to, content, None).await
}

/// Sends a text, as Omni v2's SDKs name it: the same as `POST /messages/send`.
#[utoipa::path(post, path = "/messages", operation_id = "send_text", tag = "messages", request_body = TextBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent once, however often it is asked")),
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn text_as_before(
    state: State<App>,
    caller: Caller,
    send_id: SendId,
    body: Body<TextBody>,
) -> ApiResult<Response> {
    text(state, caller, send_id, body).await
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

/// A contact card to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendContactRequest)]
struct ContactBody {
    #[serde(flatten)]
    to: Envelope,
    contact: ContactFields,
}

/// A contact card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ContactFields {
    name: String,
    phone: Option<String>,
    email: Option<String>,
    organization: Option<String>,
}

/// Sends a contact card.
#[utoipa::path(post, path = "/messages/send/contact", tag = "messages", request_body = ContactBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn contact(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<ContactBody>,
) -> ApiResult<Response> {
    let card = ContactCard {
        name: body.contact.name,
        phones: body.contact.phone.into_iter().collect(),
        emails: body.contact.email.into_iter().collect(),
        organization: body.contact.organization,
        ..ContactCard::default()
    };
    send(&app, &caller, send_id, body.to, Content::Contact(Contacts { contacts: vec![card] }), None).await
}

/// A place to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendLocationRequest)]
struct LocationBody {
    #[serde(flatten)]
    to: Envelope,
    /// Degrees north, −90 to 90.
    latitude: f64,
    /// Degrees east, −180 to 180.
    longitude: f64,
    /// What is there.
    name: Option<String>,
    /// Its address.
    address: Option<String>,
}

/// Sends a place.
#[utoipa::path(post, path = "/messages/send/location", tag = "messages", request_body = LocationBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn location(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<LocationBody>,
) -> ApiResult<Response> {
    for (field, value, most) in [("latitude", body.latitude, 90.0), ("longitude", body.longitude, 180.0)] {
        if !(-most..=most).contains(&value) {
            return Err(ApiError::field(field, format!("must be from -{most} to {most}")));
        }
    }
    let place = Location {
        latitude: body.latitude,
        longitude: body.longitude,
        name: body.name,
        address: body.address,
        accuracy: None,
    };
    send(&app, &caller, send_id, body.to, Content::Location(place), None).await
}

/// A question with options to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendPollRequest)]
struct PollBody {
    #[serde(flatten)]
    to: Envelope,
    /// What is asked.
    question: String,
    /// What can be answered.
    #[serde(alias = "choices")]
    #[schema(min_items = 2)]
    answers: Vec<String>,
    /// How many options one person may choose; 1 when not said.
    max_choices: Option<u32>,
    /// Whether more than one may be chosen: short for `maxChoices` as many as there are.
    #[serde(default)]
    multi_select: bool,
    /// Whether votes are secret.
    #[serde(default)]
    anonymous: bool,
}

/// Sends a poll.
#[utoipa::path(post, path = "/messages/send/poll", tag = "messages", request_body = PollBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn poll(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<PollBody>,
) -> ApiResult<Response> {
    let count = u32::try_from(body.answers.len()).unwrap_or(u32::MAX);
    if count < 2 {
        return Err(ApiError::field("answers", "must be at least two"));
    }
    let option = |(at, text): (usize, String)| PollOption { id: at.to_string(), text, votes: None };
    let poll = Poll {
        question: body.question,
        options: body.answers.into_iter().enumerate().map(option).collect(),
        max_choices: body.max_choices.or(body.multi_select.then_some(count)),
        anonymous: body.anonymous,
        ..Poll::default()
    };
    send(&app, &caller, send_id, body.to, Content::Poll(poll), None).await
}

/// Words with buttons to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendButtonsRequest)]
struct ButtonsBody {
    #[serde(flatten)]
    to: Envelope,
    /// The words above.
    text: String,
    /// Rows of buttons, from top to bottom: `{text, data?, url?}`.
    #[schema(value_type = Vec<Vec<Object>>)]
    rows: Vec<Vec<Button>>,
    /// The words on the button that opens a list, for networks that show rows as a list.
    list_title: Option<String>,
}

/// Sends words with buttons.
#[utoipa::path(post, path = "/messages/send/buttons", tag = "messages", request_body = ButtonsBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn buttons(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<ButtonsBody>,
) -> ApiResult<Response> {
    if body.rows.iter().all(Vec::is_empty) {
        return Err(ApiError::field("rows", "must hold at least one button"));
    }
    let content = Buttons { text: Text::plain(body.text), rows: body.rows, list_title: body.list_title };
    send(&app, &caller, send_id, body.to, Content::Buttons(content), None).await
}

/// A reaction to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendReactionRequest)]
struct ReactionBody {
    /// Through which instance: id or name.
    instance_id: String,
    /// The chat: our id or the network's.
    to: String,
    /// The message: our id or the network's.
    message_id: String,
    /// The emoji; empty to take the reaction back.
    emoji: String,
}

/// Reacts to a message.
#[utoipa::path(post, path = "/messages/send/reaction", tag = "messages", request_body = ReactionBody,
    responses((status = 200, body = Success), (status = 202, body = Success), (status = "default", body = ErrorBody)))]
async fn reaction(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<ReactionBody>,
) -> ApiResult<Response> {
    let instance_id = named(&app, &caller, &body.instance_id).await?;
    let emojis = if body.emoji.is_empty() { Vec::new() } else { vec![Emoji::from(body.emoji.as_str())] };
    let change = Change {
        send_id: send_id.0,
        instance_id: Some(instance_id),
        chat: Some(body.to),
        message: body.message_id,
        action: Action::React(emojis),
    };
    let accepted = app.host.outbound.accept_change(change).await?;
    match app.host.outbound.outcome(&accepted, app.shared.options.send_wait).await? {
        Outcome::Sent { .. } => Ok(Json(Success::because("the reaction is set")).into_response()),
        Outcome::Failed { error } => Err(ApiError::send_failed(&error, accepted.message_id)),
        Outcome::Pending | Outcome::Unknown { .. } => {
            Ok((StatusCode::ACCEPTED, Json(Success::because("the reaction is on its way"))).into_response())
        }
    }
}

/// What to show in a chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendPresenceRequest)]
struct PresenceBody {
    /// Through which instance: id or name.
    instance_id: String,
    /// The chat: our id or the network's.
    to: String,
    #[serde(rename = "type")]
    kind: PresenceType,
    /// For how long, in milliseconds; 5000 when not said.
    duration: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum PresenceType {
    Typing,
    Recording,
    Paused,
}

/// What is shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PresenceView {
    instance_id: Uuid,
    /// The network's id of the chat.
    chat_id: String,
    #[serde(rename = "type")]
    kind: PresenceType,
    duration: u64,
}

/// Shows that somebody is writing, or no longer is.
#[utoipa::path(post, path = "/messages/send/presence", tag = "messages", request_body = PresenceBody,
    responses((status = 200, body = SuccessData<PresenceView>), (status = "default", body = ErrorBody)))]
async fn presence(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<PresenceBody>,
) -> ApiResult<Json<SuccessData<PresenceView>>> {
    let instance_id = named(&app, &caller, &body.instance_id).await?;
    let chat_id = network_id(&app, &caller, instance_id, &body.to).await?;
    let duration = body.duration.unwrap_or(5_000);
    let activity = match body.kind {
        PresenceType::Typing => Activity::Typing,
        PresenceType::Recording => Activity::Recording,
        PresenceType::Paused => Activity::Paused,
    };
    let ask = ShowTyping { chat: ChatId::new(&chat_id), activity, duration_ms: Some(duration) };
    app.host.instances.request(instance_id, Request::Typing(ask)).await?;
    let data = PresenceView { instance_id, chat_id, kind: body.kind, duration };
    Ok(Json(SuccessData { success: true, data }))
}

/// The network's id of a chat that is named by our id of it, by our id of the person whom one writes to in it, or already
/// by the network's.
pub(crate) async fn network_id(app: &App, caller: &Caller, instance: Uuid, chat: &str) -> ApiResult<String> {
    let Ok(id) = Uuid::parse_str(chat) else { return Ok(chat.to_owned()) };
    match chat_list::get(&app.host.store, id, caller.instances()).await? {
        Some(found) if found.instance_id == instance => return Ok(found.external_id),
        Some(_) => return Err(ApiError::field("instanceId", format!("chat {id} is not on this instance"))),
        None => {}
    }
    let mut tx = app.host.store.read().await?;
    match outbox::chat_of_person(&mut tx, instance, id).await? {
        Some(found) => Ok(found.external_id),
        None => Err(ApiError::not_found("chat", chat)),
    }
}
