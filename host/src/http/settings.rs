//! Settings by name. Secrets among them are never shown.

use super::App;
use super::answer::{Data, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, Path, Query};
use crate::store::Time;
use crate::store::settings::{self, Setting};
use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

const LONGEST_NAME: usize = 255;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, update)).routes(routes!(get, put, delete))
}

/// A setting.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Setting)]
struct SettingView {
    key: String,
    /// Any JSON; null when it is secret.
    value: Value,
    /// What stands before the first dot of its name.
    category: Option<String>,
    is_secret: bool,
    description: Option<String>,
    created_at: Time,
    updated_at: Time,
}

impl From<Setting> for SettingView {
    fn from(setting: Setting) -> Self {
        let value = if setting.is_secret { Value::Null } else { setting.json() };
        Self {
            key: setting.key,
            value,
            category: setting.category,
            is_secret: setting.is_secret,
            description: None,
            created_at: setting.created_at,
            updated_at: setting.updated_at,
        }
    }
}

/// Settings.
#[derive(Debug, Serialize, ToSchema)]
struct Settings {
    items: Vec<SettingView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this category.
    category: Option<String>,
}

async fn all(app: &App, category: Option<&str>) -> ApiResult<Json<Settings>> {
    let found = settings::list(&app.host.store, category).await?;
    Ok(Json(Settings { items: found.into_iter().filter(|found| !is_own(&found.key)).map(SettingView::from).collect() }))
}

/// Lists settings, by name.
#[utoipa::path(get, path = "/settings", tag = "settings", params(ListQuery),
    responses((status = 200, body = Settings), (status = "default", body = ErrorBody)))]
async fn list(State(app): State<App>, Query(query): Query<ListQuery>) -> ApiResult<Json<Settings>> {
    all(&app, query.category.as_deref()).await
}

/// Settings to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = UpdateSettingsRequest)]
struct UpdateBody {
    /// Name → value.
    #[schema(value_type = Object)]
    settings: BTreeMap<String, Value>,
}

/// Sets several, all or none.
#[utoipa::path(patch, path = "/settings", tag = "settings", request_body = UpdateBody,
    responses((status = 200, body = Settings), (status = "default", body = ErrorBody)))]
async fn update(State(app): State<App>, caller: Caller, Body(body): Body<UpdateBody>) -> ApiResult<Json<Settings>> {
    caller.allow_everywhere()?;
    body.settings.keys().try_for_each(|key| named(key))?;
    settings::set(&app.host.store, &body.settings, app.host.clock.now()).await?;
    all(&app, None).await
}

/// What the host keeps for itself among the settings: nobody else sees or changes it.
fn is_own(key: &str) -> bool {
    key.starts_with("data.") || key.starts_with("bus.")
}

fn named(key: &str) -> ApiResult<()> {
    if is_own(key) {
        return Err(ApiError::field("key", "names beginning with `data.` or `bus.` are the host's own".to_owned()));
    }
    match (1..=LONGEST_NAME).contains(&key.len()) {
        true => Ok(()),
        false => Err(ApiError::field("key", format!("must be 1 to {LONGEST_NAME} bytes long"))),
    }
}

async fn find(app: &App, key: &str) -> ApiResult<Json<Data<SettingView>>> {
    let found = settings::get(&app.host.store, key).await?.filter(|_| !is_own(key));
    Ok(Json(Data { data: found.ok_or_else(|| ApiError::not_found("setting", key))?.into() }))
}

/// Shows one setting.
#[utoipa::path(get, path = "/settings/{key}", tag = "settings", params(("key" = String, Path, description = "Its name")),
    responses((status = 200, body = Data<SettingView>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, Path(key): Path<String>) -> ApiResult<Json<Data<SettingView>>> {
    find(&app, &key).await
}

/// A value.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PutSettingRequest)]
struct PutBody {
    /// Any JSON.
    value: Value,
}

/// Sets one.
#[utoipa::path(put, path = "/settings/{key}", tag = "settings", request_body = PutBody,
    params(("key" = String, Path, description = "Its name")),
    responses((status = 200, body = Data<SettingView>), (status = "default", body = ErrorBody)))]
async fn put(
    State(app): State<App>,
    caller: Caller,
    Path(key): Path<String>,
    Body(body): Body<PutBody>,
) -> ApiResult<Json<Data<SettingView>>> {
    caller.allow_everywhere()?;
    named(&key)?;
    settings::set(&app.host.store, [(&key, &body.value)], app.host.clock.now()).await?;
    find(&app, &key).await
}

/// Takes one away.
#[utoipa::path(delete, path = "/settings/{key}", tag = "settings",
    params(("key" = String, Path, description = "Its name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn delete(State(app): State<App>, caller: Caller, Path(key): Path<String>) -> ApiResult<Json<Success>> {
    caller.allow_everywhere()?;
    named(&key)?;
    match settings::delete(&app.host.store, &key).await? {
        true => Ok(Json(Success::because(format!("setting {key} is gone")))),
        false => Err(ApiError::not_found("setting", key)),
    }
}
