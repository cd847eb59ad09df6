//! Chats: listed, looked at, put away, read.

use super::answer::{Data, List, Meta, SuccessData};
use super::auth::Caller;
use super::change::{ReadView, read_chat};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Paging, Path, Query};
use super::messages::{MessageQuery, of_chat};
use super::{App, cursor, instances};
use crate::store::chat_list::{self, Chat, ChatChange, ChatFilter, Participant};
use crate::store::message_list::Message;
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(by_external))
        .routes(routes!(get, update))
        .routes(routes!(archive))
        .routes(routes!(unarchive))
        .routes(routes!(messages))
        .routes(routes!(participants))
        .routes(routes!(read))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this instance, by id or name.
    instance_id: Option<String>,
    /// Of this channel.
    channel: Option<String>,
    /// `dm`, `group`, `channel` or `thread`.
    chat_type: Option<String>,
    /// With this in the name, or with exactly this id of the network.
    search: Option<String>,
    /// With unread messages only.
    #[serde(default)]
    unread_only: bool,
    /// Those that were put away too.
    #[serde(default)]
    include_archived: bool,
}

/// Lists chats, the one with the newest activity first.
#[utoipa::path(get, path = "/chats", tag = "chats", params(ListQuery, Paging),
    responses((status = 200, body = List<Chat>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Chat>>> {
    let filter = ChatFilter {
        instances: instances::narrow(&app, &caller, query.instance_id.as_deref()).await?,
        channel: query.channel,
        chat_type: query.chat_type,
        search: query.search,
        unread_only: query.unread_only,
        include_archived: query.include_archived,
    };
    let from = cursor::decode(paging.cursor.as_deref())?;
    Ok(Json(chat_list::list(&app.host.store, &filter, from, paging.limit()?).await?.into()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ExternalQuery {
    /// The network's id, of now or of before.
    external_id: String,
    /// The instance, by id or name, when several have such a chat.
    instance_id: Option<String>,
}

/// Finds a chat by the network's id.
#[utoipa::path(get, path = "/chats/by-external", tag = "chats", params(ExternalQuery),
    responses((status = 200, body = Data<Chat>), (status = "default", body = ErrorBody)))]
async fn by_external(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExternalQuery>,
) -> ApiResult<Json<Data<Chat>>> {
    let allowed = instances::narrow(&app, &caller, query.instance_id.as_deref()).await?;
    let mut found = chat_list::by_external(&app.host.store, &query.external_id, &allowed).await?;
    match (found.pop(), found.is_empty()) {
        (Some(chat), true) => Ok(Json(Data { data: chat })),
        (None, _) => Err(ApiError::not_found("chat", query.external_id)),
        (Some(_), false) => Err(ApiError::field("instanceId", "is needed: several instances have such a chat")),
    }
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> ApiResult<Chat> {
    let found = chat_list::get(&app.host.store, id, caller.instances()).await?;
    found.ok_or_else(|| ApiError::not_found("chat", id))
}

/// Shows one chat.
#[utoipa::path(get, path = "/chats/{id}", tag = "chats", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Chat>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<Chat>>> {
    Ok(Json(Data { data: find(&app, &caller, id).await? }))
}

/// What is to be changed, here and not on the network. Absent fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpdateChatRequest)]
struct UpdateBody {
    /// Its name here; what the network says later takes its place.
    name: Option<String>,
    /// Settings to be set (`muted`, `pinned` …); a `null` takes one away.
    #[schema(value_type = Option<Object>)]
    settings: Option<Map<String, Value>>,
    /// Put away, or taken out again.
    archived: Option<bool>,
}

/// Changes a chat.
#[utoipa::path(patch, path = "/chats/{id}", tag = "chats", request_body = UpdateBody,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Chat>), (status = "default", body = ErrorBody)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(body): Body<UpdateBody>,
) -> ApiResult<Json<Data<Chat>>> {
    let chat = find(&app, &caller, id).await?;
    let settings = body.settings.map(|change| merged(&chat, change));
    apply(&app, &caller, id, ChatChange { name: body.name, settings, archived: body.archived }).await
}

/// The settings of a chat with some of them changed.
fn merged(chat: &Chat, change: Map<String, Value>) -> Map<String, Value> {
    let mut settings: Map<String, Value> = match &chat.settings {
        Some(settings) => serde_json::from_str(settings.get()).unwrap_or_default(),
        None => Map::new(),
    };
    for (name, value) in change {
        match value {
            Value::Null => settings.remove(&name),
            value => settings.insert(name, value),
        };
    }
    settings
}

async fn apply(app: &App, caller: &Caller, id: Uuid, change: ChatChange) -> ApiResult<Json<Data<Chat>>> {
    chat_list::update(&app.host.store, id, &change, app.host.clock.now()).await?;
    Ok(Json(Data { data: find(app, caller, id).await? }))
}

/// Puts a chat away.
#[utoipa::path(post, path = "/chats/{id}/archive", tag = "chats", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Chat>), (status = "default", body = ErrorBody)))]
async fn archive(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<Chat>>> {
    find(&app, &caller, id).await?;
    apply(&app, &caller, id, ChatChange { archived: Some(true), ..ChatChange::default() }).await
}

/// Takes a chat out again.
#[utoipa::path(post, path = "/chats/{id}/unarchive", tag = "chats",
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Chat>), (status = "default", body = ErrorBody)))]
async fn unarchive(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<Chat>>> {
    find(&app, &caller, id).await?;
    apply(&app, &caller, id, ChatChange { archived: Some(false), ..ChatChange::default() }).await
}

/// Lists the messages of a chat, newest first.
#[utoipa::path(get, path = "/chats/{id}/messages", tag = "chats",
    params(("id" = Uuid, Path, description = "Our id"), MessageQuery, Paging),
    responses((status = 200, body = List<Message>), (status = "default", body = ErrorBody)))]
async fn messages(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(query): Query<MessageQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Message>>> {
    find(&app, &caller, id).await?;
    of_chat(&app, &caller, id, query, &paging).await
}

/// Lists who is, or was, in a chat.
#[utoipa::path(get, path = "/chats/{id}/participants", tag = "chats",
    params(("id" = Uuid, Path, description = "Our id"), Paging),
    responses((status = 200, body = List<Participant>), (status = "default", body = ErrorBody)))]
async fn participants(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Participant>>> {
    find(&app, &caller, id).await?;
    let limit = paging.limit()?;
    let after = cursor::decode_word(paging.cursor.as_deref())?;
    let mut items = chat_list::participants(&app.host.store, id, after.as_deref(), limit).await?;
    let has_more = items.len() > limit as usize;
    items.truncate(limit as usize);
    let last = items.last().filter(|_| has_more).map(|last| cursor::encode_word(&last.platform_user_id));
    Ok(Json(List { items, meta: Meta::new(last) }))
}

/// Omni v2's clients name the instance once more.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MarkChatReadRequest)]
struct ReadBody {
    /// The instance, by id or name; the chat's own when absent.
    instance_id: Option<String>,
}

/// Tells the other side that everything in a chat was read.
#[utoipa::path(post, path = "/chats/{id}/read", tag = "chats", request_body = Option<ReadBody>,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = SuccessData<ReadView>), (status = "default", body = ErrorBody)))]
async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    OptionalBody(body): OptionalBody<ReadBody>,
) -> ApiResult<Json<SuccessData<ReadView>>> {
    let chat = find(&app, &caller, id).await?;
    if let Some(instance) = &body.instance_id
        && instances::named(&app, &caller, instance).await? != chat.instance_id
    {
        return Err(ApiError::field("instanceId", format!("chat {id} is not on this instance")));
    }
    Ok(Json(SuccessData { success: true, data: read_chat(&app, &chat).await? }))
}
