//! API keys: made, listed, changed, ended. A key is shown once; nobody can give what they have not.

use super::answer::{Data, List, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Paging, Path, Query};
use super::routes::known_scope;
use super::{App, cursor};
use crate::store::Time;
use crate::store::api_keys::{self, ApiKey, ApiKeyChange, NewApiKey};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// Most requests a minute that a key can be given.
const MOST_A_MINUTE: u32 = 1_000_000;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, create)).routes(routes!(get, update, delete)).routes(routes!(revoke))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// `active` or `revoked`.
    status: Option<String>,
}

/// Lists keys, newest first. The keys themselves are not stored.
#[utoipa::path(get, path = "/keys", tag = "keys", params(ListQuery, Paging),
    responses((status = 200, body = List<ApiKey>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(query): Query<ListQuery>,
    Query(paging): Query<Paging>,
) -> ApiResult<Json<List<ApiKey>>> {
    caller.allow_everywhere()?;
    let from = cursor::decode(paging.cursor.as_deref())?;
    Ok(Json(api_keys::list(&app.host.store, query.status.as_deref(), from, paging.limit()?).await?.into()))
}

/// What is needed to make a key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreateApiKeyRequest)]
struct CreateBody {
    /// What people call it.
    name: String,
    /// What it is for.
    description: Option<String>,
    /// What it may do: `ns:action`, `ns:*` or `*`. No more than the key that makes it.
    #[schema(example = json!(["messages:*", "chats:read"]))]
    scopes: Vec<String>,
    /// The only instances that it may see.
    instance_ids: Option<Vec<Uuid>>,
    /// Most requests a minute.
    #[schema(minimum = 1, maximum = 1_000_000)]
    rate_limit: Option<u32>,
    /// When it ends, RFC 3339.
    expires_at: Option<Time>,
}

/// A new key. This is the only time that it is shown.
#[derive(Debug, Serialize, ToSchema)]
struct NewKeyView {
    #[serde(flatten)]
    about: ApiKey,
    /// The key.
    key: String,
}

/// Makes a key.
#[utoipa::path(post, path = "/keys", tag = "keys", request_body = CreateBody,
    responses((status = 201, body = Data<NewKeyView>), (status = "default", body = ErrorBody)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> ApiResult<(StatusCode, Json<Data<NewKeyView>>)> {
    caller.allow_everywhere()?;
    if body.name.trim().is_empty() {
        return Err(ApiError::field("name", "must not be empty"));
    }
    grantable(&caller, &body.scopes)?;
    rate(body.rate_limit)?;
    let new = NewApiKey {
        name: body.name,
        description: body.description,
        scopes: body.scopes,
        instance_ids: body.instance_ids,
        rate_limit: body.rate_limit.map(i64::from),
        expires_at: body.expires_at,
        created_by: Some(caller.name().to_owned()),
    };
    let (about, key) = api_keys::create(&app.host.store, &new, app.host.clock.now()).await?;
    Ok((StatusCode::CREATED, Json(Data { data: NewKeyView { about, key } })))
}

/// Refuses a number of requests a minute that is none.
fn rate(limit: Option<u32>) -> ApiResult<()> {
    match limit {
        Some(limit) if !(1..=MOST_A_MINUTE).contains(&limit) => {
            Err(ApiError::field("rateLimit", format!("must be 1 to {MOST_A_MINUTE}, or absent for none of its own")))
        }
        _ => Ok(()),
    }
}

/// Refuses scopes that do not exist, and those that the caller has not.
fn grantable(caller: &Caller, scopes: &[String]) -> ApiResult<()> {
    if scopes.is_empty() {
        return Err(ApiError::field("scopes", "must name at least one"));
    }
    for scope in scopes {
        if !known_scope(scope) {
            return Err(ApiError::field("scopes", format!("there is no scope {scope:?}")));
        }
        if !caller.may(scope) {
            return Err(ApiError::forbidden(format!("this key has not the scope {scope} and cannot give it")));
        }
    }
    Ok(())
}

async fn find(app: &App, caller: &Caller, id: Uuid) -> ApiResult<ApiKey> {
    caller.allow_everywhere()?;
    api_keys::get(&app.host.store, id).await?.ok_or_else(|| ApiError::not_found("key", id))
}

/// Shows one key, without the key.
#[utoipa::path(get, path = "/keys/{id}", tag = "keys", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<ApiKey>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Data<ApiKey>>> {
    Ok(Json(Data { data: find(&app, &caller, id).await? }))
}

/// What is to be changed. Absent fields stay; `null` takes a limit away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpdateApiKeyRequest)]
struct UpdateBody {
    name: Option<String>,
    description: Option<String>,
    scopes: Option<Vec<String>>,
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Vec<Uuid>>)]
    instance_ids: Option<Option<Vec<Uuid>>>,
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    rate_limit: Option<Option<u32>>,
    #[serde(default, deserialize_with = "said")]
    #[schema(value_type = Option<Time>)]
    expires_at: Option<Option<Time>>,
}

/// Tells `null` from absent.
fn said<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Changes a key.
#[utoipa::path(patch, path = "/keys/{id}", tag = "keys", request_body = UpdateBody,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<ApiKey>), (status = "default", body = ErrorBody)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    Body(body): Body<UpdateBody>,
) -> ApiResult<Json<Data<ApiKey>>> {
    let before = find(&app, &caller, id).await?;
    // A key that can do more than the caller is not the caller's to change.
    grantable(&caller, &before.scopes)?;
    if let Some(scopes) = &body.scopes {
        grantable(&caller, scopes)?;
    }
    rate(body.rate_limit.flatten())?;
    let change = ApiKeyChange {
        name: body.name,
        description: body.description,
        scopes: body.scopes,
        instance_ids: body.instance_ids,
        rate_limit: body.rate_limit.map(|limit| limit.map(i64::from)),
        expires_at: body.expires_at,
    };
    api_keys::update(&app.host.store, id, &change, app.host.clock.now()).await?;
    app.shared.keys.forget();
    Ok(Json(Data { data: find(&app, &caller, id).await? }))
}

/// Removes a key. It ends at once.
#[utoipa::path(delete, path = "/keys/{id}", tag = "keys", params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<Uuid>) -> ApiResult<Json<Success>> {
    caller.allow_everywhere()?;
    let gone = api_keys::delete(&app.host.store, id).await?;
    app.shared.keys.forget();
    if gone { Ok(Json(Success::because("the key is removed"))) } else { Err(ApiError::not_found("key", id)) }
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[schema(as = RevokeApiKeyRequest)]
struct RevokeBody {
    /// Why, in a sentence.
    reason: Option<String>,
}

/// Ends a key at once, and keeps what is known of it.
#[utoipa::path(post, path = "/keys/{id}/revoke", tag = "keys", request_body = Option<RevokeBody>,
    params(("id" = Uuid, Path, description = "Our id")),
    responses((status = 200, body = Data<ApiKey>), (status = "default", body = ErrorBody)))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<Uuid>,
    OptionalBody(body): OptionalBody<RevokeBody>,
) -> ApiResult<Json<Data<ApiKey>>> {
    caller.allow_everywhere()?;
    let now = app.host.clock.now();
    api_keys::revoke(&app.host.store, id, caller.name(), body.reason.as_deref(), now).await?;
    app.shared.keys.forget();
    Ok(Json(Data { data: find(&app, &caller, id).await? }))
}
