//! The account of an instance on its network, as the network has it now: what it shows of itself, who may see what, whom it
//! has blocked, and who has an account there.

use super::App;
use super::answer::{Data, List, Success};
use super::auth::Caller;
use super::directory::{Contact, DirectoryQuery, odd, people};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Paging, Path, Query};
use super::instances::find;
use super::media::{Attached, attach};
use axum::Json;
use axum::extract::State;
use futures_util::{StreamExt, TryStreamExt, stream};
use omni_channel_sdk::request::{
    AddressReply, ChatAction, DirectoryList, GetProfile, Reply, Request, Resolve, SetChat, SetProfile,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Most addresses that are looked up in one call.
const MOST_ADDRESSES: usize = 100;
/// How many of them at the same time.
const AT_ONCE: usize = 4;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(set_name))
        .routes(routes!(set_about))
        .routes(routes!(set_picture, remove_picture))
        .routes(routes!(privacy, set_privacy))
        .routes(routes!(check))
        .routes(routes!(block, unblock))
        .routes(routes!(blocked))
}

/// Asks for what is answered with nothing but that it is done.
async fn done(app: &App, id: Uuid, request: Request) -> ApiResult<Json<Success>> {
    match app.host.instances.request(id, request).await? {
        Reply::Done(_) => Ok(Json(Success { success: true, message: None })),
        _ => Err(odd("that it is done")),
    }
}

async fn set(app: &App, id: Uuid, change: SetProfile) -> ApiResult<Json<Success>> {
    done(app, id, Request::SetProfile(change)).await
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SetProfileNameRequest)]
struct NameBody {
    /// What people see.
    name: String,
}

/// Changes the name of the account.
#[utoipa::path(put, path = "/instances/{id}/profile/name", tag = "instances", request_body = NameBody,
    operation_id = "set_profile_name", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn set_name(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<NameBody>,
) -> ApiResult<Json<Success>> {
    let id = find(&app, &caller, &id).await?.id;
    if body.name.trim().is_empty() {
        return Err(ApiError::field("name", "must not be empty"));
    }
    set(&app, id, SetProfile { name: Some(body.name), ..SetProfile::default() }).await
}

#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = SetProfileStatusRequest)]
struct AboutBody {
    /// What it says about itself; empty for nothing.
    status: String,
}

/// Changes what the account says about itself.
#[utoipa::path(put, path = "/instances/{id}/profile/status", tag = "instances", request_body = AboutBody,
    operation_id = "set_profile_status", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn set_about(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<AboutBody>,
) -> ApiResult<Json<Success>> {
    let id = find(&app, &caller, &id).await?.id;
    set(&app, id, SetProfile { about: Some(body.status), ..SetProfile::default() }).await
}

/// Changes the picture of the account: one of `url`, `base64` and `mediaId`.
#[utoipa::path(put, path = "/instances/{id}/profile/picture", tag = "instances", request_body = Attached,
    operation_id = "set_profile_picture", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn set_picture(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(file): Body<Attached>,
) -> ApiResult<Json<Success>> {
    let id = find(&app, &caller, &id).await?.id;
    let picture = attach(&app, &caller, id, file).await?;
    set(&app, id, SetProfile { picture: Some(picture), ..SetProfile::default() }).await
}

/// Takes the picture of the account away.
#[utoipa::path(delete, path = "/instances/{id}/profile/picture", tag = "instances", operation_id = "remove_profile_picture",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn remove_picture(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Success>> {
    let id = find(&app, &caller, &id).await?.id;
    set(&app, id, SetProfile { remove_picture: true, ..SetProfile::default() }).await
}

/// Who may see or do what, in the network's own words (`last` → `contacts`).
type Privacy = BTreeMap<String, String>;

/// Tells who may see or do what.
#[utoipa::path(get, path = "/instances/{id}/privacy", tag = "instances", operation_id = "get_privacy",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<Privacy>), (status = "default", body = ErrorBody)))]
async fn privacy(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<Privacy>>> {
    let id = find(&app, &caller, &id).await?.id;
    settings(&app, id).await
}

async fn settings(app: &App, id: Uuid) -> ApiResult<Json<Data<Privacy>>> {
    match app.host.instances.request(id, Request::Profile(GetProfile { user: None })).await? {
        Reply::Profile(reply) => Ok(Json(Data { data: reply.privacy })),
        _ => Err(odd("a profile")),
    }
}

/// Changes who may see or do what; what is not named stays. Answers with all of it.
#[utoipa::path(put, path = "/instances/{id}/privacy", tag = "instances", request_body = Privacy, operation_id = "set_privacy",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<Privacy>), (status = "default", body = ErrorBody)))]
async fn set_privacy(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(privacy): Body<Privacy>,
) -> ApiResult<Json<Data<Privacy>>> {
    let id = find(&app, &caller, &id).await?.id;
    let Json(_) = set(&app, id, SetProfile { privacy, ..SetProfile::default() }).await?;
    settings(&app, id).await
}

/// Who is looked for.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = CheckNumberRequest)]
struct CheckBody {
    /// Phone numbers with their country codes, or what else people give to be found by on the network.
    #[schema(max_items = 100)]
    phones: Vec<String>,
}

/// Whether somebody has an account.
#[derive(Debug, Serialize, ToSchema)]
struct Checked {
    /// As it was asked.
    phone: String,
    exists: bool,
    /// Where to write to: the network's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    jid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// Tells who has an account on the network.
#[utoipa::path(post, path = "/instances/{id}/check-number", tag = "instances", request_body = CheckBody,
    operation_id = "check_number", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<Vec<Checked>>), (status = "default", body = ErrorBody)))]
async fn check(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<CheckBody>,
) -> ApiResult<Json<Data<Vec<Checked>>>> {
    let id = find(&app, &caller, &id).await?.id;
    if body.phones.is_empty() || body.phones.len() > MOST_ADDRESSES {
        return Err(ApiError::field("phones", format!("must be 1 to {MOST_ADDRESSES}")));
    }
    let looked_up = stream::iter(body.phones.into_iter().map(|phone| one(&app, id, phone))).buffered(AT_ONCE);
    Ok(Json(Data { data: looked_up.try_collect().await? }))
}

async fn one(app: &App, id: Uuid, phone: String) -> ApiResult<Checked> {
    let request = Request::Resolve(Resolve { address: phone.clone() });
    let Reply::Address(AddressReply { user, chat }) = app.host.instances.request(id, request).await? else {
        return Err(odd("an address"));
    };
    let jid = chat.map(|chat| chat.id.0).or_else(|| user.as_ref().map(|user| user.id.to_string()));
    Ok(Checked { phone, exists: jid.is_some(), jid, name: user.and_then(|user| user.name) })
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BlockRequest)]
struct BlockBody {
    /// Whom: the network's id.
    contact_id: String,
}

/// Takes nothing of somebody any more.
#[utoipa::path(post, path = "/instances/{id}/block", tag = "instances", request_body = BlockBody, operation_id = "block_contact",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn block(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<BlockBody>,
) -> ApiResult<Json<Success>> {
    change_block(&app, &caller, &id, body, ChatAction::Block).await
}

/// Lets somebody write again.
#[utoipa::path(delete, path = "/instances/{id}/block", tag = "instances", request_body = BlockBody,
    operation_id = "unblock_contact", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn unblock(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<BlockBody>,
) -> ApiResult<Json<Success>> {
    change_block(&app, &caller, &id, body, ChatAction::Unblock).await
}

async fn change_block(
    app: &App,
    caller: &Caller,
    id: &str,
    body: BlockBody,
    action: ChatAction,
) -> ApiResult<Json<Success>> {
    let id = find(app, caller, id).await?.id;
    if body.contact_id.trim().is_empty() {
        return Err(ApiError::field("contactId", "must not be empty"));
    }
    let change = SetChat { chat: body.contact_id.into(), action, until: None, seconds: None, message: None };
    done(app, id, Request::SetChat(change)).await
}

/// Lists whom the account has blocked, as the network tells now. The cursor is the network's.
#[utoipa::path(get, path = "/instances/{id}/blocklist", tag = "instances", operation_id = "list_blocked",
    params(("id" = String, Path, description = "Id or name"), Paging, DirectoryQuery),
    responses((status = 200, body = List<Contact>), (status = "default", body = ErrorBody)))]
async fn blocked(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
    Query(query): Query<DirectoryQuery>,
) -> ApiResult<Json<List<Contact>>> {
    people(&app, &caller, &id, DirectoryList::Blocked, paging, query).await
}
