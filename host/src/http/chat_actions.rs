//! What is asked of the network about one chat, at this moment: what can be done in it, and changing it as a group.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Path};
use crate::store::chat_list::{self, Chat};
use axum::Json;
use axum::extract::State;
use omni_channel_sdk::content::Media;
use omni_channel_sdk::ids::{BlobId, ChatId, UserId};
use omni_channel_sdk::request::{GroupAction, GroupChange, Reply, Request};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(capabilities)).routes(routes!(group))
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
    /// `getInvite`, `revokeInvite` or `leave`.
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
        message: body.message_id.map(|id| id.into()),
    };
    match app.host.instances.request(chat.instance_id, Request::Group(Box::new(change))).await? {
        Reply::Group(changed) => Ok(Json(Data { data: json!(changed) })),
        _ => Err(ApiError::internal("the channel answered something else than a group")),
    }
}
