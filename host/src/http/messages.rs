//! Reading messages.

use super::App;
use super::answer::{Data, List, Meta};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Paging, Path, Query};
use super::{cursor, instances};
use crate::store::message_list::{self, Message, MessageFilter};
use crate::store::page::InstanceSet;
use crate::store::{Time, chat_list};
use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(by_external)).routes(routes!(get))
}

/// What a list of messages is narrowed by.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct MessageQuery {
    /// `text`, `image` …
    message_type: Option<String>,
    /// `active`, `edited`, `deleted`, `expired` or `erased`.
    status: Option<String>,
    /// `realtime`, `sync`, `api` or `import`.
    source: Option<String>,
    /// With or without a file.
    has_media: Option<bool>,
    /// Ours or theirs.
    is_from_me: Option<bool>,
    /// By this person.
    sender_person_id: Option<Uuid>,
    /// Not older, RFC 3339.
    since: Option<Time>,
    /// Older, RFC 3339.
    until: Option<Time>,
    /// With this in their words.
    search: Option<String>,
}

impl MessageQuery {
    fn filter(self, instances: InstanceSet) -> MessageFilter {
        MessageFilter {
            instances,
            message_type: self.message_type,
            status: self.status,
            source: self.source,
            has_media: self.has_media,
            is_from_me: self.is_from_me,
            sender_person_id: self.sender_person_id,
            since: self.since,
            until: self.until,
            search: self.search,
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this chat: our id or the network's. Then newest first by the network's clock, else the one stored last first.
    chat_id: Option<String>,
    /// Of this instance, by id or name.
    instance_id: Option<String>,
}

/// Lists messages, newest first.
#[utoipa::path(get, path = "/messages", tag = "messages", params(ListQuery, MessageQuery, Paging),
    responses((status = 200, body = List<Message>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(filter): Query<MessageQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<Message>>> {
    let filter = filter.filter(instances::narrow(&app, &caller, query.instance_id.as_deref()).await?);
    let Some(chat) = &query.chat_id else {
        let (limit, from) = (paging.limit()?, cursor::decode(paging.cursor.as_deref())?);
        return Ok(Json(message_list::everywhere(&app.host.store, &filter, from, limit).await?.into()));
    };
    match find_chat(&app, chat, &filter.instances).await? {
        Some(chat) => in_chat(&app, chat, filter, &paging).await,
        // A filter that nothing fits: the chat may come to be with its first message.
        None => Ok(Json(List { items: Vec::new(), meta: Meta::default() })),
    }
}

/// The messages of one chat.
async fn in_chat(app: &App, chat: Uuid, filter: MessageFilter, paging: &Paging) -> ApiResult<Json<List<Message>>> {
    let (limit, from) = (paging.limit()?, cursor::decode(paging.cursor.as_deref())?);
    Ok(Json(message_list::in_chat(&app.host.store, chat, &filter, from, limit).await?.into()))
}

/// The same, for a chat that the caller may see.
pub(crate) async fn of_chat(
    app: &App,
    caller: &Caller,
    chat: Uuid,
    query: MessageQuery,
    paging: &Paging,
) -> ApiResult<Json<List<Message>>> {
    in_chat(app, chat, query.filter(caller.narrow(None)?), paging).await
}

/// Our id of a chat that is named by it or by the network's id.
async fn find_chat(app: &App, chat: &str, instances: &InstanceSet) -> ApiResult<Option<Uuid>> {
    if let Ok(id) = Uuid::parse_str(chat)
        && chat_list::get(&app.host.store, id, instances).await?.is_some()
    {
        return Ok(Some(id));
    }
    match chat_list::by_external(&app.host.store, chat, instances).await?.as_slice() {
        [] => Ok(None),
        [one] => Ok(Some(one.id)),
        _ => Err(ApiError::field("chatId", format!("{chat} is on several instances; add instanceId"))),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
struct ExternalQuery {
    /// The chat: our id or the network's.
    chat_id: String,
    /// The network's id of the message.
    external_id: String,
    /// The instance, by id or name, when the chat is named by the network's id on several.
    instance_id: Option<String>,
}

/// Finds a message by the network's id.
#[utoipa::path(get, path = "/messages/by-external", tag = "messages", params(ExternalQuery),
    responses((status = 200, body = Data<Message>), (status = "default", body = ErrorBody)))]
async fn by_external(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ExternalQuery>,
) -> ApiResult<Json<Data<Message>>> {
    let allowed = instances::narrow(&app, &caller, query.instance_id.as_deref()).await?;
    let missing = || ApiError::not_found("message", &query.external_id);
    let chat = find_chat(&app, &query.chat_id, &allowed).await?.ok_or_else(missing)?;
    let found = message_list::by_external(&app.host.store, chat, &query.external_id, &allowed).await?;
    Ok(Json(Data { data: found.ok_or_else(missing)? }))
}

/// Shows one message.
#[utoipa::path(get, path = "/messages/{id}", tag = "messages", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Message>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<Message>>> {
    let found = message_list::get(&app.host.store, id, caller.instances()).await?;
    Ok(Json(Data { data: found.ok_or_else(|| ApiError::not_found("message", id))? }))
}
