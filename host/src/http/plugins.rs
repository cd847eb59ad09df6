//! Plugin files, and what became of each.

use super::App;
use super::answer::{Data, List};
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::Path;
use crate::plugins::trust::Trusted;
use crate::plugins::{Allowance, Home, Plugin, PluginState, ProcessStatus};
use axum::Json;
use axum::extract::State;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::manifest::LoginFlow;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(rescan)).routes(routes!(get))
}

/// A plugin file.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Plugin)]
struct PluginView {
    /// The file's name.
    file: String,
    /// Its content's SHA-256 in hex, once it was read.
    sha256: Option<String>,
    /// In bytes.
    size: u64,
    /// Why it may be used: `{reason: bundled | listed | signed {keyId} | any}`; absent for one that may not.
    #[schema(value_type = Option<Object>)]
    trust: Option<Trusted>,
    /// Where its code runs when an instance says nothing else: `in-process`, `process`, or `sandbox` for WASM.
    #[schema(value_type = Option<String>)]
    home: Option<Home>,
    /// What it may use, its manifest and what the operator granted taken together: `{hosts, grantedHosts, memoryBytes,
    /// stateBytes, eventsPerCall, bytesPerCall, fuelPerFrame, tableEntries}`; 0 is no limit.
    #[schema(value_type = Option<Object>)]
    allowance: Option<Allowance>,
    /// Its process, once it has had one: `{pid, memoryBytes, sandbox, restarts, lastEnd}`.
    #[schema(value_type = Option<Object>)]
    process: Option<ProcessStatus>,
    /// Threads of it that hang in the host and cannot be ended.
    hung_threads: usize,
    /// `{state: found | loaded | running {instances} | failed {reason}}`
    #[schema(value_type = Object)]
    status: PluginState,
    /// What it says about itself, when that could be read.
    manifest: Option<ManifestView>,
}

/// What a plugin says about itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ManifestView {
    /// What `channel` says in instances.
    channel: String,
    /// What else it is called.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aliases: Vec<String>,
    name: String,
    description: String,
    version: String,
    /// The SDK it was built against.
    sdk: String,
    abi: String,
    target: String,
    #[schema(value_type = Object)]
    capabilities: Capabilities,
    /// JSON Schema of an instance's configuration; `writeOnly` marks secrets.
    #[schema(value_type = Object)]
    config_schema: Value,
    /// The ways to log in, best first.
    #[schema(value_type = Vec<Object>)]
    login_flows: Vec<LoginFlow>,
}

impl From<Plugin> for PluginView {
    fn from(plugin: Plugin) -> Self {
        let file = plugin.file.file_name().unwrap_or(plugin.file.as_os_str()).to_string_lossy().into_owned();
        let manifest = plugin.manifest.map(|manifest| ManifestView {
            channel: manifest.channel.id,
            aliases: manifest.channel.aliases,
            name: manifest.channel.name,
            description: manifest.channel.description,
            version: manifest.version,
            sdk: manifest.sdk,
            abi: manifest.abi,
            target: manifest.target,
            capabilities: manifest.channel.capabilities,
            config_schema: manifest.channel.config_schema,
            login_flows: manifest.channel.login_flows,
        });
        Self {
            file,
            sha256: plugin.sha256,
            size: plugin.size,
            trust: plugin.trust,
            home: plugin.home,
            allowance: plugin.allowance,
            process: plugin.process,
            hung_threads: plugin.hung_threads,
            status: plugin.state,
            manifest,
        }
    }
}

/// Lists the plugin files, by name.
#[utoipa::path(get, path = "/plugins", tag = "plugins",
    responses((status = 200, body = List<PluginView>), (status = "default", body = ErrorBody)))]
async fn list(State(app): State<App>) -> Json<List<PluginView>> {
    Json(List::whole(app.host.plugins.list().into_iter().map(PluginView::from).collect()))
}

/// Looks at the plugins folder now, and lists what is there.
#[utoipa::path(post, path = "/plugins/rescan", tag = "plugins",
    responses((status = 200, body = List<PluginView>), (status = "default", body = ErrorBody)))]
async fn rescan(State(app): State<App>) -> Json<List<PluginView>> {
    app.host.plugins.rescan().await;
    list(State(app)).await
}

/// Shows the usable plugin of a channel.
#[utoipa::path(get, path = "/plugins/{channel}", tag = "plugins",
    params(("channel" = String, Path, description = "The id of the channel")),
    responses((status = 200, body = Data<PluginView>), (status = "default", body = ErrorBody)))]
async fn get(State(app): State<App>, Path(channel): Path<String>) -> ApiResult<Json<Data<PluginView>>> {
    let found = app.host.plugins.channel(&channel).ok_or_else(|| ApiError::not_found("plugin", &channel))?;
    Ok(Json(Data { data: found.into() }))
}
