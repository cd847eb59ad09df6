//! What a key is good for, and what this host is.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiResult, ErrorBody};
use crate::store::event_list;
use crate::store::page::InstanceSet;
use axum::Json;
use axum::extract::State;
use omni_channel_sdk::connection::ConnectionState;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

const DAY_MS: i64 = 24 * 3_600_000;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(validate)).routes(routes!(info))
}

/// What a key is good for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = KeyValidation)]
struct Validated {
    valid: bool,
    /// The key's beginning.
    #[schema(example = "omni_sk_abc12345...")]
    key_prefix: String,
    key_name: String,
    scopes: Vec<String>,
    /// The only instances that it reaches; every one when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    instance_ids: Option<Vec<Uuid>>,
}

/// Tells what the key of this request is good for.
#[utoipa::path(post, path = "/auth/validate", tag = "auth",
    responses((status = 200, body = Data<Validated>), (status = "default", body = ErrorBody)))]
async fn validate(caller: Caller) -> Json<Data<Validated>> {
    let instance_ids = match caller.instances() {
        InstanceSet::All => None,
        InstanceSet::Only(ids) => Some(ids.clone()),
    };
    let data = Validated {
        valid: true,
        key_prefix: format!("{}{}...", crate::store::api_keys::PREFIX, caller.prefix()),
        key_name: caller.name().to_owned(),
        scopes: caller.scopes().to_vec(),
        instance_ids,
    };
    Json(Data { data })
}

/// What this host is and how much it has seen.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = InfoResponse)]
struct Info {
    version: &'static str,
    environment: &'static str,
    /// In seconds.
    uptime: i64,
    instances: InstanceCounts,
    /// Absent for a key that reaches some instances only.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = EventCounts, required = true)]
    events: Option<EventCounts>,
}

/// How many instances there are.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct InstanceCounts {
    pub(crate) total: usize,
    pub(crate) connected: usize,
}

#[derive(Debug, Serialize, ToSchema)]
struct EventCounts {
    /// In the last 24 hours.
    today: i64,
    total: i64,
}

/// Counts the instances that somebody may see.
pub(crate) async fn count_instances(app: &App, allowed: &InstanceSet) -> ApiResult<InstanceCounts> {
    let mut counts = InstanceCounts::default();
    for instance in app.host.instances.list(None).await?.iter().filter(|found| allowed.contains(found.id)) {
        counts.total += 1;
        counts.connected += usize::from(matches!(instance.state, ConnectionState::Connected { .. }));
    }
    Ok(counts)
}

/// Tells what this host is.
#[utoipa::path(get, path = "/info", tag = "system",
    responses((status = 200, body = Info), (status = "default", body = ErrorBody)))]
async fn info(State(app): State<App>, caller: Caller) -> ApiResult<Json<Info>> {
    let now = app.host.clock.now();
    let events = match caller.instances() {
        InstanceSet::All => {
            let (today, total) = event_list::counts(&app.host.store, now.plus_millis(-DAY_MS)).await?;
            Some(EventCounts { today, total })
        }
        InstanceSet::Only(_) => None,
    };
    Ok(Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        environment: "production",
        uptime: (now.millis() - app.shared.started.millis()) / 1_000,
        instances: count_instances(&app, caller.instances()).await?,
        events,
    }))
}
