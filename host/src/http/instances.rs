//! Instances: made, listed, changed, connected. What is secret about them goes in and never comes out.

use super::App;
use super::answer::{Data, List, Meta, Success};
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Paging, Path, Query, null_is_absent};
use crate::instances::{Instance, InstanceChange, InstanceError, NewInstance};
use crate::plugins::Home;
use crate::store::Time;
use crate::store::page::Position;
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::request::{Nothing, Request};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::time::Duration;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

/// How long connecting may take before the answer says that it goes on.
const CONNECT_WAIT: Duration = Duration::from_secs(10);

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(supported_channels))
        .routes(routes!(get, update, delete))
        .routes(routes!(status))
        .routes(routes!(connect))
        .routes(routes!(disconnect))
        .routes(routes!(restart))
        .routes(routes!(logout))
        .routes(routes!(restore_state))
}

/// One configured account of a channel, without its secrets.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Instance)]
pub(crate) struct InstanceView {
    /// Our id.
    id: Uuid,
    /// Its name, unique.
    name: String,
    /// The id of its channel.
    channel: String,
    /// Its configuration without secrets.
    #[schema(value_type = Object)]
    config: Map<String, Value>,
    /// Whether a token is set. It is never shown.
    has_token: bool,
    /// The names of the secrets that are set.
    secrets: Vec<String>,
    /// Whether a person wants it connected.
    is_active: bool,
    /// Whether it is used for its channel when none is named.
    is_default: bool,
    /// Where it is to run, `process` or `in-process`; null when that is left to the configuration.
    #[schema(value_type = Option<String>)]
    isolation: Option<Home>,
    /// The proxy of its own, without user and password; null when it goes by way of the configuration's, if there is one.
    #[schema(example = "http://proxy.example.org:3128")]
    proxy: Option<String>,
    /// Whether messages flow.
    is_connected: bool,
    /// `connecting`, `connected`, `waiting_for_login`, `disconnected` or `logged_out`.
    #[schema(example = "connected")]
    status: &'static str,
    /// The name of the account on the network.
    profile_name: Option<String>,
    /// Its picture.
    profile_pic_url: Option<String>,
    /// Its id on the network.
    owner_identifier: Option<String>,
    /// When a message last came or went.
    last_message_at: Option<Time>,
    /// When it was made.
    created_at: Time,
    /// When it was last changed.
    updated_at: Time,
}

impl From<Instance> for InstanceView {
    fn from(instance: Instance) -> Self {
        let mut config = instance.config;
        // They should not be there; should they ever be, they stop here.
        config.retain(|field, _| !instance.secrets.contains(field));
        Self {
            id: instance.id,
            name: instance.name,
            channel: instance.channel,
            config,
            has_token: instance.secrets.iter().any(|secret| secret == "token"),
            secrets: instance.secrets,
            is_active: instance.is_active,
            is_default: instance.is_default,
            isolation: instance.isolation,
            proxy: instance.proxy,
            is_connected: matches!(instance.state, ConnectionState::Connected { .. }),
            status: instance.state.name(),
            profile_name: instance.profile_name,
            profile_pic_url: instance.profile_pic_url,
            owner_identifier: instance.owner_identifier,
            last_message_at: instance.last_message_at,
            created_at: instance.created_at,
            updated_at: instance.updated_at,
        }
    }
}

/// The instance that a path names, by id or name, when the caller may see it.
pub(crate) async fn find(app: &App, caller: &Caller, id_or_name: &str) -> ApiResult<Instance> {
    let instance = app.host.instances.find(id_or_name).await?;
    match caller.instances().contains(instance.id) {
        true => Ok(instance),
        false => Err(ApiError::not_found("instance", id_or_name)),
    }
}

/// The id of the instance that a body or a query names, by id or name.
pub(crate) async fn named(app: &App, caller: &Caller, id_or_name: &str) -> ApiResult<Uuid> {
    match Uuid::parse_str(id_or_name) {
        Ok(id) => {
            caller.allow(id)?;
            Ok(id)
        }
        Err(_) => Ok(find(app, caller, id_or_name).await?.id),
    }
}

/// What a list is narrowed by when it can be narrowed by instance.
pub(crate) async fn narrow(
    app: &App,
    caller: &Caller,
    instance: Option<&str>,
) -> ApiResult<crate::store::page::InstanceSet> {
    match instance {
        Some(instance) => caller.narrow(Some(named(app, caller, instance).await?)),
        None => caller.narrow(None),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of this channel.
    channel: Option<String>,
    /// In this state: `connected`, `disconnected` …; or `active`, `inactive`: what a person wants of it.
    status: Option<String>,
}

/// Lists instances, by name.
#[utoipa::path(get, path = "/instances", tag = "instances", params(Paging, ListQuery),
    responses((status = 200, body = List<InstanceView>), (status = "default", body = ErrorBody)))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Query(paging): Query<Paging>,
    Query(query): Query<ListQuery>,
) -> ApiResult<Json<List<InstanceView>>> {
    let limit = paging.limit()? as usize;
    let after = super::cursor::decode(paging.cursor.as_deref())?;
    let mut found = app.host.instances.list(query.channel.as_deref()).await?;
    found.retain(|instance| caller.instances().contains(instance.id));
    if let Some(status) = &query.status {
        found.retain(|instance| match status.as_str() {
            "active" => instance.is_active,
            "inactive" => !instance.is_active,
            state => instance.state.name() == state,
        });
    }
    // They are few and come whole; ids rise with time, so that pages hold still while names change.
    found.sort_by_key(|instance| instance.id);
    found.retain(|instance| after.is_none_or(|after| instance.id > after.id));
    let has_more = found.len() > limit;
    found.truncate(limit);
    let last = found.last().filter(|_| has_more).map(|last| Position { at: 0, id: last.id });
    let meta = Meta::new(last.map(super::cursor::encode));
    Ok(Json(List { items: found.into_iter().map(InstanceView::from).collect(), meta }))
}

/// What is needed to make an instance.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CreateInstanceRequest)]
struct CreateBody {
    /// Its name, unique, 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// The id of its channel.
    #[schema(example = "telegram")]
    channel: String,
    /// Short for the configuration's secret field `token`.
    token: Option<String>,
    /// As the channel's schema says.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Object>)]
    config: Map<String, Value>,
    /// Whether it becomes its channel's default.
    #[serde(default)]
    is_default: bool,
    /// Whether it is connected when its credentials are complete; it is when nothing is said.
    connect: Option<bool>,
    /// Where it is to run: `process`, `in-process`, or `default` (the configuration says).
    #[schema(example = "process")]
    isolation: Option<String>,
    /// An HTTP proxy of its own, for its calls, files and sockets; `none` leaves that to the configuration. Its user and
    /// password are never shown.
    #[schema(example = "http://user:password@proxy.example.org:3128")]
    proxy: Option<String>,
}

/// `default` is nothing said.
fn isolation(word: Option<&str>) -> ApiResult<Option<Option<Home>>> {
    match word {
        None => Ok(None),
        Some("default") => Ok(Some(None)),
        Some(word) => match word.parse() {
            Ok(home) => Ok(Some(Some(home))),
            Err(reason) => Err(ApiError::field("isolation", format!("{reason}, or \"default\""))),
        },
    }
}

/// Makes an instance, and connects it when its credentials are complete.
#[utoipa::path(post, path = "/instances", tag = "instances", request_body = CreateBody,
    responses((status = 201, body = Data<InstanceView>), (status = "default", body = ErrorBody)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<CreateBody>,
) -> ApiResult<(StatusCode, Json<Data<InstanceView>>)> {
    caller.allow_everywhere()?;
    let new = NewInstance {
        name: body.name,
        channel: body.channel,
        token: body.token,
        config: body.config,
        is_default: body.is_default,
        by_operator: caller.is_operator(),
        isolation: isolation(body.isolation.as_deref())?.flatten(),
        proxy: body.proxy,
        stays_disconnected: body.connect == Some(false),
    };
    let made = app.host.instances.create(new).await.map_err(|error| match error {
        InstanceError::NoPlugin(message) => ApiError::field("channel", message),
        other => other.into(),
    })?;
    Ok((StatusCode::CREATED, Json(Data { data: made.into() })))
}

/// A channel that instances can be made of.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SupportedChannel {
    /// What `channel` says.
    id: String,
    /// The network's name.
    name: String,
    /// The plugin's version.
    version: String,
    /// In a sentence.
    description: String,
    /// Whether its plugin can be used.
    loaded: bool,
    /// What it can do.
    #[schema(value_type = Object)]
    capabilities: omni_channel_sdk::capabilities::Capabilities,
    /// JSON Schema of its configuration; `writeOnly` marks secrets.
    #[schema(value_type = Object)]
    config_schema: Value,
}

/// Lists the channels that instances can be made of.
#[utoipa::path(get, path = "/instances/supported-channels", tag = "instances",
    responses((status = 200, body = List<SupportedChannel>), (status = "default", body = ErrorBody)))]
async fn supported_channels(State(app): State<App>) -> Json<List<SupportedChannel>> {
    let channels = app.host.plugins.list().into_iter().filter_map(|plugin| {
        let loaded = !matches!(plugin.state, crate::plugins::PluginState::Failed { .. });
        let manifest = plugin.manifest?;
        Some(SupportedChannel {
            id: manifest.channel.id,
            name: manifest.channel.name,
            version: manifest.version,
            description: manifest.channel.description,
            loaded,
            capabilities: manifest.channel.capabilities,
            config_schema: manifest.channel.config_schema,
        })
    });
    Json(List::whole(channels.collect()))
}

/// Shows one instance.
#[utoipa::path(get, path = "/instances/{id}", tag = "instances", params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<InstanceView>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<InstanceView>>> {
    Ok(Json(Data { data: find(&app, &caller, &id).await?.into() }))
}

/// What is to be changed. Absent fields stay; a `null` in `config` takes that field away.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpdateInstanceRequest)]
struct UpdateBody {
    /// A new name.
    name: Option<String>,
    /// A new token.
    token: Option<String>,
    /// Fields to be set or taken away.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Object>)]
    config: Map<String, Value>,
    /// Whether it is its channel's default.
    is_default: Option<bool>,
    /// Where it is to run: `process`, `in-process`, or `default` (the configuration says).
    isolation: Option<String>,
    /// An HTTP proxy of its own, with user and password; `none` takes it away.
    proxy: Option<String>,
}

/// Changes an instance. A connected one is restarted when its configuration changed.
#[utoipa::path(patch, path = "/instances/{id}", tag = "instances", request_body = UpdateBody,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<InstanceView>), (status = "default", body = ErrorBody)))]
async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<UpdateBody>,
) -> ApiResult<Json<Data<InstanceView>>> {
    let id = find(&app, &caller, &id).await?.id;
    let change = InstanceChange {
        name: body.name,
        token: body.token,
        config: body.config,
        is_default: body.is_default,
        by_operator: caller.is_operator(),
        isolation: isolation(body.isolation.as_deref())?,
        proxy: body.proxy,
    };
    Ok(Json(Data { data: app.host.instances.update(id, change).await?.into() }))
}

/// Ends and deletes an instance, with its chats and messages. Its channel takes back what it had set up on the network,
/// and logs out there, when the network answers within some seconds; the sentence says when it did not.
#[utoipa::path(delete, path = "/instances/{id}", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn delete(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Success>> {
    let instance = find(&app, &caller, &id).await?;
    let left = app.host.instances.delete(instance.id).await?;
    Ok(Json(Success::because(with_rest(format!("instance {} is deleted", instance.name), left))))
}

/// What was done, and what stayed behind on the network.
fn with_rest(done: String, left: Option<String>) -> String {
    match left {
        Some(left) => format!("{done}, but {left}"),
        None => done,
    }
}

/// What an instance is doing, truthfully.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InstanceStatus {
    instance_id: Uuid,
    /// `connecting`, `connected`, `waiting_for_login`, `disconnected` or `logged_out`.
    state: &'static str,
    /// Whether messages flow.
    is_connected: bool,
    /// Whether a person wants it connected.
    is_active: bool,
    /// Since when the state holds.
    since: Time,
    /// The same, when it is connected.
    connected_at: Option<Time>,
    /// Why it is not connected, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// Until when the network does not let the account do what `message` says, while it is connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    limited_until: Option<Time>,
    /// Whether the host tries again by itself.
    will_retry: bool,
    /// What a person has to do now, in a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    user_action: Option<String>,
    /// The current step, when somebody has to log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    login: Option<omni_channel_sdk::login::LoginStep>,
    profile_name: Option<String>,
    profile_pic_url: Option<String>,
    owner_identifier: Option<String>,
}

impl InstanceStatus {
    fn of(instance: &Instance) -> Self {
        let (message, will_retry, user_action) = match &instance.state {
            ConnectionState::Connecting => (Some("connecting".to_owned()), instance.is_active, None),
            ConnectionState::Connected { limited, .. } => {
                (limited.as_ref().map(|limited| limited.reason.clone()), false, None)
            }
            ConnectionState::WaitingForLogin => {
                let action = format!("log in: POST {}/instances/{}/login", super::BASE, instance.id);
                (Some("waiting for somebody to log in".to_owned()), false, Some(action))
            }
            ConnectionState::Disconnected { reason, transient } => {
                (Some(reason.clone()), *transient && instance.is_active, None)
            }
            ConnectionState::LoggedOut { reason, user_action } => {
                (Some(reason.clone()), false, Some(user_action.clone()))
            }
        };
        let limited_until = match &instance.state {
            ConnectionState::Connected { limited: Some(limited), .. } => limited.until.map(Time::from_millis),
            _ => None,
        };
        let is_connected = matches!(instance.state, ConnectionState::Connected { .. });
        // A channel does not know what its instance is called.
        let plain = |name: &str| name.chars().all(|sign| sign.is_alphanumeric() || "-_.".contains(sign));
        let name = if plain(&instance.name) { instance.name.clone() } else { instance.id.to_string() };
        let named = |words: String| words.replace("<instance>", &name);
        let (message, user_action) = (message.map(named), user_action.map(named));
        Self {
            instance_id: instance.id,
            state: instance.state.name(),
            is_connected,
            is_active: instance.is_active,
            since: instance.state_since,
            connected_at: is_connected.then_some(instance.state_since),
            message,
            limited_until,
            will_retry,
            user_action,
            login: None,
            profile_name: instance.profile_name.clone(),
            profile_pic_url: instance.profile_pic_url.clone(),
            owner_identifier: instance.owner_identifier.clone(),
        }
    }
}

/// Tells what an instance is doing, since when, why, and what to do about it.
#[utoipa::path(get, path = "/instances/{id}/status", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<InstanceStatus>), (status = "default", body = ErrorBody)))]
async fn status(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Data<InstanceStatus>>> {
    let instance = find(&app, &caller, &id).await?;
    let mut status = InstanceStatus::of(&instance);
    if instance.state == ConnectionState::WaitingForLogin && caller.may("instances:write") {
        // The state is the answer; the step is shown when the channel has one.
        status.login =
            app.host.instances.login(instance.id, omni_channel_sdk::login::LoginCall::Poll, false).await.ok();
    }
    Ok(Json(Data { data: status }))
}

/// How far connecting has come.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConnectAnswer {
    instance_id: Uuid,
    /// `connected`, `connecting` …
    status: &'static str,
    /// In a sentence.
    message: String,
}

impl From<Instance> for ConnectAnswer {
    fn from(instance: Instance) -> Self {
        let status = InstanceStatus::of(&instance);
        let message = status.message.unwrap_or_else(|| "connected".to_owned());
        let message = status.user_action.map_or(message.clone(), |action| format!("{message}; {action}"));
        Self { instance_id: instance.id, status: instance.state.name(), message }
    }
}

/// Credentials that may come with a connect.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ConnectInstanceRequest)]
struct ConnectBody {
    /// A new token.
    token: Option<String>,
}

/// Connects an instance. Does nothing to one that is connected.
#[utoipa::path(post, path = "/instances/{id}/connect", tag = "instances", request_body = Option<ConnectBody>,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<ConnectAnswer>), (status = "default", body = ErrorBody)))]
async fn connect(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalBody(body): OptionalBody<ConnectBody>,
) -> ApiResult<Json<Data<ConnectAnswer>>> {
    let id = find(&app, &caller, &id).await?.id;
    if let Some(token) = body.token {
        app.host.instances.update(id, InstanceChange { token: Some(token), ..InstanceChange::default() }).await?;
    }
    Ok(Json(Data { data: app.host.instances.connect(id, CONNECT_WAIT).await?.into() }))
}

/// Disconnects an instance, and waits until it has ended. Its channel takes back what it had set up on the network, as
/// when it is deleted; its login stays.
#[utoipa::path(post, path = "/instances/{id}/disconnect", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn disconnect(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Success>> {
    let id = find(&app, &caller, &id).await?.id;
    let left = app.host.instances.disconnect(id).await?;
    Ok(Json(Success::because(with_rest("disconnected".to_owned(), left))))
}

/// Disconnects and connects an instance.
#[utoipa::path(post, path = "/instances/{id}/restart", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<ConnectAnswer>), (status = "default", body = ErrorBody)))]
async fn restart(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Data<ConnectAnswer>>> {
    let id = find(&app, &caller, &id).await?.id;
    Ok(Json(Data { data: app.host.instances.restart(id, CONNECT_WAIT).await?.into() }))
}

/// Logs an instance out on the network and disconnects it. One that is not connected is only disconnected.
#[utoipa::path(post, path = "/instances/{id}/logout", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Success), (status = "default", body = ErrorBody)))]
async fn logout(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Success>> {
    let instance = find(&app, &caller, &id).await?;
    let asked = app.host.instances.request(instance.id, Request::Logout(Nothing {})).await;
    let message = match asked {
        Ok(_) => "logged out and disconnected",
        Err(InstanceError::NotConnected(_)) => "disconnected; it was not connected, so the network was not asked",
        Err(InstanceError::Channel(error)) if error.code == omni_channel_sdk::outcome::ErrorCode::Unsupported => {
            "disconnected; this channel has no logging out"
        }
        Err(error) => return Err(error.into()),
    };
    app.host.instances.disconnect(instance.id).await?;
    Ok(Json(Success::because(message)))
}

/// Puts back what an instance kept before a newer plugin changed it, for a plugin that is the older one again. What the
/// newer one kept since is lost.
#[utoipa::path(post, path = "/instances/{id}/restore-state", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<InstanceView>), (status = "default", body = ErrorBody)))]
async fn restore_state(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Data<InstanceView>>> {
    let id = find(&app, &caller, &id).await?.id;
    Ok(Json(Data { data: app.host.instances.restore_state(id).await?.into() }))
}
