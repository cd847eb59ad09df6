//! What is asked of the network about one chat, at this moment: what can be done in it, and changing it as a group.

use super::App;
use super::answer::{Data, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Path};
use crate::store::chat_list::{self, Chat};
use axum::Json;
use axum::extract::State;
use omni_channel_sdk::content::Media;
use omni_channel_sdk::ids::{BlobId, ChatId, UserId};
use omni_channel_sdk::request::{ChatAction, GroupAction, GroupChange, Reply, Request, SetChat};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(capabilities))
        .routes(routes!(group))
        .routes(routes!(new_group))
        .routes(routes!(act))
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> ApiResult<Chat> {
    let found = chat_list::get(&app.host.store, id, caller.instances()).await?;
    found.ok_or_else(|| ApiError::not_found("chat", id))
}

/// Tells what can be done in a chat: what the channel can, less what this chat does not allow. The network is asked, and
/// for half a minute what it does not allow is refused at once where it is sent.
#[utoipa::path(get, path = "/chats/{id}/capabilities", tag = "chats", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Value>), (status = "default", body = ErrorBody)))]
async fn capabilities(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<Value>>> {
    let chat = find(&app, &caller, id).await?;
    let can = app.host.outbound.capabilities(chat.instance_id, &chat.channel, &chat.external_id).await?;
    Ok(Json(Data { data: json!(can) }))
}

/// A change of a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ChangeGroupRequest)]
struct GroupBody {
    /// `setName`, `setDescription`, `setPicture`, `add`, `remove`, `ban`, `unban`, `promote`, `demote`, `pin`, `unpin`,
    /// `getInvite`, `revokeInvite`, `setParent` or `leave`.
    #[schema(value_type = String, example = "setName")]
    action: GroupAction,
    /// To whom: the network's ids.
    #[serde(default)]
    users: Vec<String>,
    /// The name or the description.
    text: Option<String>,
    /// The picture, as an upload answered.
    media_id: Option<Uuid>,
    /// The message to be pinned: the network's id.
    message_id: Option<String>,
    /// The space that it is put under, for `setParent`: the network's id. Out of the one that it is in when absent.
    parent: Option<String>,
}

/// Changes a group on the network, as far as the account has the rights.
#[utoipa::path(post, path = "/chats/{id}/group", tag = "chats", request_body = GroupBody,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<Value>), (status = "default", body = ErrorBody)))]
async fn group(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(body): Body<GroupBody>,
) -> ApiResult<Json<Data<Value>>> {
    let chat = find(&app, &caller, id).await?;
    let picture = match body.media_id {
        Some(media) => {
            let stored = app.host.media.get(media).await?;
            caller.allow(stored.instance_id)?;
            Some(Media {
                blob: Some(BlobId::new(stored.id)),
                mime_type: stored.mime_type,
                file_name: stored.file_name,
                ..Media::default()
            })
        }
        None => None,
    };
    let change = GroupChange {
        chat: Some(ChatId::new(&chat.external_id)),
        action: body.action,
        users: body.users.iter().map(UserId::new).collect(),
        text: body.text,
        picture,
        message: body.message_id.map(Into::into),
        parent: body.parent.map(Into::into),
    };
    match app.host.instances.request(chat.instance_id, Request::Group(Box::new(change))).await? {
        Reply::Group(changed) => Ok(Json(Data { data: json!(changed) })),
        _ => Err(ApiError::internal("the channel answered something else than a group")),
    }
}

/// A group that is made, or that the account comes into.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewGroupRequest)]
struct NewGroupBody {
    /// Its name, for one that is made.
    name: Option<String>,
    /// Who is in it from the beginning: the network's ids.
    #[serde(default)]
    users: Vec<String>,
    /// The link or code of an invitation, to come into one that is there.
    invite: Option<String>,
    /// The space that it is made in: the network's id.
    parent: Option<String>,
    /// Make a space (a community), in which groups are gathered.
    #[serde(default)]
    is_space: bool,
}

/// Makes a group on the network, or comes into one by an invitation.
#[utoipa::path(post, path = "/instances/{id}/groups", tag = "chats", request_body = NewGroupBody, operation_id = "new_group",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<Value>), (status = "default", body = ErrorBody)))]
async fn new_group(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<NewGroupBody>,
) -> ApiResult<Json<Data<Value>>> {
    let instance = super::instances::find(&app, &caller, &id).await?;
    let (action, text) = match (body.name, body.invite) {
        (Some(name), None) if body.is_space => (GroupAction::CreateSpace, name),
        (Some(name), None) => (GroupAction::Create, name),
        (None, Some(invite)) => (GroupAction::Join, invite),
        _ => return Err(ApiError::field("name", "or `invite` is needed: one of the two")),
    };
    let users = body.users.iter().map(UserId::new).collect();
    let parent = body.parent.map(Into::into);
    let change = GroupChange { chat: None, action, users, text: Some(text), picture: None, message: None, parent };
    match app.host.instances.request(instance.id, Request::Group(Box::new(change))).await? {
        Reply::Group(made) => Ok(Json(Data { data: json!(made) })),
        _ => Err(ApiError::internal("the channel answered something else than a group")),
    }
}

/// How the account keeps a chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = ChatActionRequest)]
struct ActionBody {
    /// `archive`, `unarchive`, `pin`, `unpin`, `mute`, `unmute`, `block`, `unblock`, `star`, `unstar` or `setDisappearing`.
    #[schema(value_type = String, example = "mute")]
    action: ChatAction,
    /// Until when it is muted; for good when absent.
    until: Option<crate::store::Time>,
    /// After how many seconds messages disappear, for `setDisappearing`; 0 for never.
    seconds: Option<u32>,
    /// The message of a star: the network's id.
    message_id: Option<String>,
}

/// Changes how the account keeps a chat on the network, on all of its devices. What Omni itself keeps of the chat is changed
/// with `PATCH /chats/{id}`.
#[utoipa::path(post, path = "/chats/{id}/actions", tag = "chats", request_body = ActionBody, operation_id = "act_on_chat",
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn act(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(body): Body<ActionBody>,
) -> ApiResult<Json<Success>> {
    let chat = find(&app, &caller, id).await?;
    let change = SetChat {
        chat: ChatId::new(&chat.external_id),
        action: body.action,
        until: body.until.map(crate::store::Time::millis),
        seconds: body.seconds,
        message: body.message_id.map(Into::into),
    };
    match app.host.instances.request(chat.instance_id, Request::SetChat(change)).await? {
        Reply::Done(_) => Ok(Json(Success { success: true, message: None })),
        _ => Err(ApiError::internal("the channel answered something else than that it is done")),
    }
}
