//! The hosts that share this installation, and what each of them has.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use crate::hosts::is_silent;
use crate::store::Time;
use crate::store::hosts::WORK;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A host.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Host)]
struct HostView {
    /// Its id.
    id: Uuid,
    /// Its name: the machine and the process.
    name: String,
    /// Its version.
    version: String,
    /// Since when it runs.
    started_at: Time,
    /// When it was last seen, by the clock of the database.
    seen_at: Time,
    /// `alive`, `leaving`, or `silent`: it is taken over when it was silent for ten seconds.
    state: &'static str,
    /// Whether it is the one that was asked.
    is_this: bool,
    /// Whether it does the work that is done once: storing, webhooks, retention.
    works: bool,
    /// The channels that it has plugins for.
    channels: Vec<String>,
    /// The instances that it has.
    instances: Vec<Uuid>,
}

/// Lists the hosts that share this installation. There is one, without a list, when the log is in the database.
#[utoipa::path(get, path = "/hosts", operation_id = "list_hosts", tag = "system",
    responses((status = 200, body = Data<Vec<HostView>>), (status = "default", body = ErrorBody)))]
async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Data<Vec<HostView>>>> {
    caller.allow_everywhere()?;
    let view = app.host.store.view().await.map_err(ApiError::from)?;
    let me = app.host.hosts.me();
    let hosts = view.hosts.into_iter().map(|host| {
        let of_it = || view.leases.iter().filter(|lease| lease.host_id == host.id);
        HostView {
            id: host.id,
            state: if host.is_leaving {
                "leaving"
            } else if is_silent(&host) {
                "silent"
            } else {
                "alive"
            },
            is_this: me == Some(host.id),
            works: of_it().any(|lease| lease.name == WORK),
            instances: of_it().filter_map(|lease| lease.instance()).collect(),
            name: host.name,
            version: host.version,
            started_at: host.started_at,
            seen_at: host.seen_at,
            channels: host.channels.0,
        }
    });
    Ok(Json(Data { data: hosts.collect() }))
}
