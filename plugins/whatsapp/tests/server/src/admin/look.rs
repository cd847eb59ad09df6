//! What a test may look at.

use super::Answer;
use crate::server::Server;
use crate::world::World;
use axum::extract::{Json, Query, State};
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// `?after=NUMBER&waitMs=…`
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Since {
    #[serde(default)]
    after: u64,
    #[serde(default)]
    wait_ms: u64,
}

/// `GET /admin/log`: the lines after one that is known; with `waitMs`, not before there is one, or the time is over.
pub async fn log(State(server): State<Arc<Server>>, Query(asked): Query<Since>) -> Answer {
    let mut last = server.world().log.watch();
    let new = last.wait_for(|number| *number > asked.after);
    // Nothing new is an answer, too.
    let _ = timeout(Duration::from_millis(asked.wait_ms), new).await;
    Ok(Json(json!({"entries": server.world().log.after(asked.after)})))
}

/// `GET /admin/stats`.
pub async fn stats(State(server): State<Arc<Server>>) -> Answer {
    let world = server.world();
    let accounts: Vec<Value> = world
        .accounts
        .values()
        .map(|account| {
            let devices = account.devices.iter().map(|(id, device)| {
                json!({
                    "device": id,
                    "jid": account.device_jid(*id, false),
                    "lidJid": account.device_jid(*id, true),
                    "connected": device.link.is_some(),
                    "available": device.available,
                    "held": device.held,
                    "preKeys": device.keys.as_ref().map(|keys| keys.one_time.len()),
                    "queued": device.queue.len(),
                    "delivered": device.history.len(),
                })
            });
            let collections = account.collections.iter().map(|(name, all)| (name.clone(), Value::from(all.len())));
            json!({
                "phone": account.phone,
                "lid": account.lid,
                "name": account.name,
                "devices": devices.collect::<Vec<_>>(),
                "collections": Value::Object(collections.collect()),
            })
        })
        .collect();
    Ok(Json(json!({
        "connections": world.links.len(),
        "waitingToPair": crate::pairing::waiting(&world).len(),
        "accounts": accounts,
        "groups": world.groups.len(),
        "files": world.files.all.len(),
    })))
}

/// `GET /admin/files`: paths and sizes.
pub async fn files(State(server): State<Arc<Server>>) -> Answer {
    let world: &World = &server.world();
    let all = world.files.all.iter().map(|(path, content)| json!({"path": path, "bytes": content.len()}));
    Ok(Json(all.collect()))
}

/// `DELETE /admin/files`: as if they had been kept for too long.
pub async fn forget_files(State(server): State<Arc<Server>>) -> Answer {
    server.world().files.all.clear();
    Ok(Json(json!({})))
}
