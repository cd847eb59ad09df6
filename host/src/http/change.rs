//! Changing what was said: edit, take back, react, and tell that it was read.

use super::App;
use super::answer::SuccessData;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Path, Query, null_is_absent};
use super::idempotency::SendId;
use super::instances::named;
use super::send::network_id;
use crate::outbound::{Action, Change, Outcome};
use crate::store::{chat_list, message_list};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use omni_channel_sdk::content::{Content, Entity, Text};
use omni_channel_sdk::event::Emoji;
use omni_channel_sdk::ids::{ChatId, MessageId, UserId};
use omni_channel_sdk::request::{MarkRead, ReadMessage, Request};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Most messages in one read receipt.
const MOST_READ: usize = 500;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(edit))
        .routes(routes!(delete))
        .routes(routes!(react, unreact))
        .routes(routes!(edit_channel))
        .routes(routes!(delete_channel))
        .routes(routes!(read_one))
        .routes(routes!(read_many))
}

/// What became of a change.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChangedView {
    /// Our id of the message.
    message_id: Uuid,
    /// The network's.
    external_message_id: Option<String>,
    /// `done`; `pending` when the network has not answered yet; `unknown` when it is not known whether it did.
    status: &'static str,
}

/// Where a message is, when its id is the network's.
#[derive(Debug, Default, Deserialize, ToSchema, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct Place {
    /// The instance, by id or name; needed when the message is named by the network's id.
    instance_id: Option<String>,
    /// The chat, by our id or the network's; needed then too.
    #[serde(alias = "channelId")]
    chat_id: Option<String>,
}

async fn change(
    app: &App,
    caller: &Caller,
    send_id: SendId,
    message: String,
    place: Place,
    action: Action,
) -> ApiResult<Response> {
    let instance_id = match &place.instance_id {
        Some(instance) => Some(named(app, caller, instance).await?),
        None => None,
    };
    match Uuid::parse_str(&message) {
        Ok(id) => {
            if message_list::get(&app.host.store, id, caller.instances()).await?.is_none() {
                return Err(ApiError::not_found("message", message));
            }
        }
        Err(_) if instance_id.is_none() => {
            return Err(ApiError::field("instanceId", "is needed when the message is named by the network's id"));
        }
        Err(_) if place.chat_id.is_none() => {
            return Err(ApiError::field("chatId", "is needed when the message is named by the network's id"));
        }
        Err(_) => {}
    }
    let change = Change { send_id: send_id.0, instance_id, chat: place.chat_id, message, action };
    let accepted = app.host.outbound.accept_change(change).await?;
    let external = accepted.target.as_ref().map(|target| target.id.0.clone());
    let outcome = app.host.outbound.outcome(&accepted, app.shared.options.send_wait).await?;
    let (code, status, external_message_id) = match outcome {
        Outcome::Sent { external_id } => (StatusCode::OK, "done", Some(external_id)),
        Outcome::Pending => (StatusCode::ACCEPTED, "pending", external),
        Outcome::Unknown { .. } => (StatusCode::ACCEPTED, "unknown", external),
        Outcome::Failed { error } => return Err(ApiError::send_failed(&error, accepted.message_id)),
    };
    let data = ChangedView { message_id: accepted.message_id, external_message_id, status };
    Ok((code, Json(SuccessData { success: true, data })).into_response())
}

/// What a message becomes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EditMessageRequest)]
struct EditBody {
    #[serde(flatten)]
    place: Place,
    /// The new words.
    text: String,
    /// What is special about pieces of them.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Vec<Object>>)]
    entities: Vec<Entity>,
}

/// Changes the words of a message that we sent.
#[utoipa::path(post, path = "/messages/{id}/edit", tag = "messages", request_body = EditBody,
    params(("id" = String, Path, description = "Our id, or the network's")),
    responses((status = 200, body = SuccessData<ChangedView>), (status = 202, body = SuccessData<ChangedView>),
        (status = "default", body = ErrorBody)))]
async fn edit(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Path(id): Path<String>,
    Body(body): Body<EditBody>,
) -> ApiResult<Response> {
    let content = Content::Text(Text { text: body.text, entities: body.entities });
    change(&app, &caller, send_id, id, body.place, Action::Edit(Box::new(content))).await
}

/// Takes a message back. It stays stored, marked as deleted.
#[utoipa::path(delete, path = "/messages/{id}", tag = "messages",
    params(("id" = String, Path, description = "Our id, or the network's"), Place),
    responses((status = 200, body = SuccessData<ChangedView>), (status = 202, body = SuccessData<ChangedView>),
        (status = "default", body = ErrorBody)))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> ApiResult<Response> {
    change(&app, &caller, send_id, id, place, Action::Delete).await
}

/// What our reactions become.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReactRequest)]
struct ReactBody {
    #[serde(flatten)]
    place: Place,
    /// The emoji.
    emoji: Option<String>,
    /// Several, where the network takes several.
    #[serde(default)]
    emojis: Vec<String>,
}

/// Sets our reactions to a message.
#[utoipa::path(post, path = "/messages/{id}/reactions", tag = "messages", request_body = ReactBody,
    params(("id" = String, Path, description = "Our id, or the network's")),
    responses((status = 200, body = SuccessData<ChangedView>), (status = 202, body = SuccessData<ChangedView>),
        (status = "default", body = ErrorBody)))]
async fn react(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Path(id): Path<String>,
    Body(body): Body<ReactBody>,
) -> ApiResult<Response> {
    let emojis: Vec<Emoji> = body.emoji.iter().chain(&body.emojis).map(|emoji| emoji.as_str().into()).collect();
    if emojis.is_empty() {
        return Err(ApiError::field("emoji", "is missing; DELETE takes reactions back"));
    }
    change(&app, &caller, send_id, id, body.place, Action::React(emojis)).await
}

/// Takes our reactions to a message back.
#[utoipa::path(delete, path = "/messages/{id}/reactions", tag = "messages",
    params(("id" = String, Path, description = "Our id, or the network's"), Place),
    responses((status = 200, body = SuccessData<ChangedView>), (status = 202, body = SuccessData<ChangedView>),
        (status = "default", body = ErrorBody)))]
async fn unreact(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Path(id): Path<String>,
    Query(place): Query<Place>,
) -> ApiResult<Response> {
    change(&app, &caller, send_id, id, place, Action::React(Vec::new())).await
}

/// A message by the network's ids, and its new words.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EditChannelRequest)]
struct EditChannelBody {
    #[serde(flatten)]
    place: Place,
    /// The message: the network's id, or ours.
    message_id: String,
    /// The new words.
    text: String,
}

/// Changes the words of a message that is named by the network's ids.
#[utoipa::path(post, path = "/messages/edit-channel", tag = "messages", request_body = EditChannelBody,
    responses((status = 200, body = SuccessData<ChangedView>), (status = 202, body = SuccessData<ChangedView>),
        (status = "default", body = ErrorBody)))]
async fn edit_channel(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<EditChannelBody>,
) -> ApiResult<Response> {
    change(&app, &caller, send_id, body.message_id, body.place, Action::Edit(Box::new(Content::text(body.text)))).await
}

/// A message by the network's ids.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DeleteChannelRequest)]
struct DeleteChannelBody {
    #[serde(flatten)]
    place: Place,
    /// The message: the network's id, or ours.
    message_id: String,
}

/// Takes a message back that is named by the network's ids.
#[utoipa::path(post, path = "/messages/delete-channel", tag = "messages", request_body = DeleteChannelBody,
    responses((status = 200, body = SuccessData<ChangedView>), (status = 202, body = SuccessData<ChangedView>),
        (status = "default", body = ErrorBody)))]
async fn delete_channel(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<DeleteChannelBody>,
) -> ApiResult<Response> {
    change(&app, &caller, send_id, body.message_id, body.place, Action::Delete).await
}

/// What was told to have been read.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReadReceiptResponse)]
pub(crate) struct ReadView {
    #[serde(skip_serializing_if = "Option::is_none")]
    message_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_message_id: Option<String>,
    /// The network's id of the chat.
    chat_id: String,
    instance_id: Uuid,
    /// How many messages; every one of the chat when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    message_count: Option<usize>,
}

/// Tells the other side that a message was read.
#[utoipa::path(post, path = "/messages/{id}/read", tag = "messages", request_body = Option<Place>,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = SuccessData<ReadView>), (status = "default", body = ErrorBody)))]
async fn read_one(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    OptionalBody(body): OptionalBody<Place>,
) -> ApiResult<Json<SuccessData<ReadView>>> {
    let instance = match &body.instance_id {
        Some(instance) => Some(named(&app, &caller, instance).await?),
        None => None,
    };
    let found = message_list::named(&app.host.store, &[id]).await?;
    let found = found.into_iter().find(|found| caller.instances().contains(found.instance_id));
    let Some(found) = found else { return Err(ApiError::not_found("message", id)) };
    if instance.is_some_and(|instance| instance != found.instance_id) {
        return Err(ApiError::field("instanceId", format!("message {id} is not on this instance")));
    }
    let Some(external) = found.external_id else {
        return Err(ApiError::conflict(format!("message {id} has not reached the network yet")));
    };
    let read = ReadMessage { id: MessageId::new(&external), sender: found.sender_platform_user_id.map(UserId) };
    tell(&app, found.instance_id, &found.chat_external_id, vec![read]).await?;
    let data = ReadView {
        message_id: Some(id),
        external_message_id: Some(external),
        chat_id: found.chat_external_id,
        instance_id: found.instance_id,
        message_count: None,
    };
    Ok(Json(SuccessData { success: true, data }))
}

/// Messages that were read.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MarkBatchReadRequest)]
struct ReadManyBody {
    /// The instance, by id or name.
    instance_id: String,
    /// The chat, by our id or the network's.
    chat_id: String,
    /// Our ids or the network's, 1 to 500.
    message_ids: Vec<String>,
}

/// Tells the other side that messages were read.
#[utoipa::path(post, path = "/messages/read", tag = "messages", request_body = ReadManyBody,
    responses((status = 200, body = SuccessData<ReadView>), (status = "default", body = ErrorBody)))]
async fn read_many(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<ReadManyBody>,
) -> ApiResult<Json<SuccessData<ReadView>>> {
    if !(1..=MOST_READ).contains(&body.message_ids.len()) {
        return Err(ApiError::field("messageIds", format!("must be 1 to {MOST_READ}")));
    }
    let instance_id = named(&app, &caller, &body.instance_id).await?;
    let chat_id = network_id(&app, &caller, instance_id, &body.chat_id).await?;
    let ours: Vec<Uuid> = body.message_ids.iter().filter_map(|id| Uuid::parse_str(id).ok()).collect();
    let found = message_list::named(&app.host.store, &ours).await?;
    let mut read = Vec::with_capacity(body.message_ids.len());
    for id in &body.message_ids {
        let stored = Uuid::parse_str(id).ok().and_then(|id| found.iter().find(|found| found.id == id));
        match stored {
            Some(stored) if stored.instance_id == instance_id => {
                let Some(external) = &stored.external_id else { continue };
                let sender = stored.sender_platform_user_id.clone().map(UserId);
                read.push((
                    Some((stored.platform_timestamp, stored.id)),
                    ReadMessage { id: MessageId::new(external), sender },
                ));
            }
            None if Uuid::parse_str(id).is_err() => {
                read.push((None, ReadMessage { id: MessageId::new(id), sender: None }));
            }
            _ => return Err(ApiError::not_found("message", id)),
        }
    }
    let count = read.len();
    // Those whose time nobody knows stay where they were put, which is behind.
    read.sort_by_key(|(at, _)| (at.is_none(), *at));
    let read = read.into_iter().map(|(_, read)| read).collect();
    tell(&app, instance_id, &chat_id, read).await?;
    let data = ReadView { chat_id, instance_id, message_count: Some(count), ..ReadView::default() };
    Ok(Json(SuccessData { success: true, data }))
}

/// Tells the other side that everything in a chat was read, and takes it as read here.
pub(crate) async fn read_chat(app: &App, chat: &chat_list::Chat) -> ApiResult<ReadView> {
    // Some networks want to know which; without any the channel takes it for all.
    let unread = usize::try_from(chat.unread_count).unwrap_or(0).clamp(1, MOST_READ);
    let newest = chat_list::newest_of_others(&app.host.store, chat.id, unread).await?;
    let oldest_first = newest.into_iter().rev();
    let read = oldest_first.map(|(id, sender)| ReadMessage { id: id.into(), sender: sender.map(Into::into) });
    tell(app, chat.instance_id, &chat.external_id, read.collect()).await?;
    chat_list::mark_read(&app.host.store, chat.id, app.host.clock.now()).await?;
    Ok(ReadView { chat_id: chat.external_id.clone(), instance_id: chat.instance_id, ..ReadView::default() })
}

async fn tell(app: &App, instance: Uuid, chat: &str, messages: Vec<ReadMessage>) -> ApiResult<()> {
    let ask = MarkRead { chat: ChatId::new(chat), messages };
    app.host.instances.request(instance, Request::MarkRead(ask)).await?;
    Ok(())
}
