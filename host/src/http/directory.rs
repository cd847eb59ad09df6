//! What a channel knows of people and groups, asked at this moment: profiles, contacts, groups.

use super::App;
use super::answer::{Data, List, Meta};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Paging, Path, Query};
use super::instances::find;
use axum::Json;
use axum::extract::State;
use omni_channel_sdk::chat::{Chat, ChatKind, User};
use omni_channel_sdk::ids::UserId;
use omni_channel_sdk::request::{Directory, DirectoryList, DirectoryPage, GetProfile, Reply, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(profile)).routes(routes!(contacts)).routes(routes!(groups))
}

/// An account on the network.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UserProfile {
    /// The network's id.
    platform_user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<String>,
    /// What it says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    bio: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    /// What else the channel says.
    #[schema(value_type = Object)]
    platform_metadata: Value,
}

/// Tells about an account on the network.
#[utoipa::path(get, path = "/instances/{id}/users/{userId}/profile", tag = "instances",
    params(("id" = String, Path, description = "Id or name"), ("userId" = String, Path, description = "The network's id")),
    responses((status = 200, body = Data<UserProfile>), (status = "default", body = ErrorBody)))]
async fn profile(
    State(app): State<App>,
    caller: Caller,
    Path((id, user)): Path<(String, String)>,
) -> ApiResult<Json<Data<UserProfile>>> {
    let id = find(&app, &caller, &id).await?.id;
    let request = Request::Profile(GetProfile { user: Some(UserId::new(&user)) });
    let Reply::Profile(reply) = app.host.instances.request(id, request).await? else { return Err(odd("a profile")) };
    let phone = reply.profile.username.clone().filter(|name| name.starts_with('+'));
    let data = UserProfile {
        platform_user_id: reply.profile.id,
        display_name: reply.profile.name,
        avatar_url: reply.profile.avatar_url,
        bio: reply.about,
        phone,
        platform_metadata: json!({ "username": reply.profile.username }),
    };
    Ok(Json(Data { data }))
}

/// Somebody whom the account knows.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Contact {
    /// The network's id.
    platform_user_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
    /// Always false: groups are listed apart.
    is_group: bool,
    #[schema(value_type = Object)]
    platform_metadata: Value,
}

impl From<User> for Contact {
    fn from(user: User) -> Self {
        Self {
            platform_user_id: user.id.0,
            display_name: user.name,
            phone: user.phone,
            is_group: false,
            platform_metadata: json!({ "username": user.username, "isBot": user.is_bot }),
        }
    }
}

/// A group that the account is in.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Group {
    /// The network's id.
    external_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    member_count: Option<u64>,
    #[schema(value_type = Object)]
    platform_metadata: Value,
}

impl From<Chat> for Group {
    fn from(chat: Chat) -> Self {
        Self {
            external_id: chat.id.0,
            name: chat.name,
            description: chat.description,
            member_count: chat.participants,
            platform_metadata: json!({ "kind": chat.kind, "parent": chat.parent }),
        }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DirectoryQuery {
    /// Words to look for.
    search: Option<String>,
}

/// Lists whom the account knows, as the network tells now. The cursor is the network's.
#[utoipa::path(get, path = "/instances/{id}/contacts", tag = "instances",
    params(("id" = String, Path, description = "Id or name"), Paging, DirectoryQuery),
    responses((status = 200, body = List<Contact>), (status = "default", body = ErrorBody)))]
async fn contacts(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
    Query(query): Query<DirectoryQuery>,
) -> ApiResult<Json<List<Contact>>> {
    people(&app, &caller, &id, DirectoryList::Contacts, paging, query).await
}

/// Answers with a page of a list of accounts.
pub(super) async fn people(
    app: &App,
    caller: &Caller,
    instance: &str,
    list: DirectoryList,
    paging: Paging,
    query: DirectoryQuery,
) -> ApiResult<Json<List<Contact>>> {
    let id = find(app, caller, instance).await?.id;
    let page = directory(app, id, list, paging, query).await?;
    let meta = Meta { total_fetched: Some(page.users.len()), ..Meta::new(page.cursor) };
    Ok(Json(List { items: page.users.into_iter().map(Contact::from).collect(), meta }))
}

/// Lists the groups that the account is in, as the network tells now. The cursor is the network's.
#[utoipa::path(get, path = "/instances/{id}/groups", tag = "instances",
    params(("id" = String, Path, description = "Id or name"), Paging, DirectoryQuery),
    responses((status = 200, body = List<Group>), (status = "default", body = ErrorBody)))]
async fn groups(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Query(paging): Query<Paging>,
    Query(query): Query<DirectoryQuery>,
) -> ApiResult<Json<List<Group>>> {
    let id = find(&app, &caller, &id).await?.id;
    let page = directory(&app, id, DirectoryList::Chats, paging, query).await?;
    let meta = Meta { total_fetched: Some(page.chats.len()), ..Meta::new(page.cursor) };
    let groups = page.chats.into_iter().filter(|chat| chat.kind != ChatKind::Direct).map(Group::from);
    Ok(Json(List { items: groups.collect(), meta }))
}

async fn directory(
    app: &App,
    id: Uuid,
    list: DirectoryList,
    paging: Paging,
    query: DirectoryQuery,
) -> ApiResult<DirectoryPage> {
    let limit = paging.limit()?;
    let ask = Directory { list, chat: None, search: query.search, cursor: paging.cursor, limit };
    match app.host.instances.request(id, Request::Directory(ask)).await? {
        Reply::Directory(page) => Ok(page),
        _ => Err(odd("a directory")),
    }
}

pub(super) fn odd(wanted: &str) -> ApiError {
    ApiError::internal(&format!("a channel answered something other than {wanted}"))
}
