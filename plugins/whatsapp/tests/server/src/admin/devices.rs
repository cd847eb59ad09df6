//! What a network does to a device, and what a server may.

use super::{Answer, Problem, device, devices_named};
use crate::accounts::{LinkId, Who};
use crate::server::Server;
use crate::world::World;
use crate::{devices, login, stanza};
use axum::extract::{Json, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// Those of the devices that are connected.
fn links(world: &mut World, jid: Option<&str>) -> Result<Vec<LinkId>, Problem> {
    let named = devices_named(world, jid)?;
    Ok(named.iter().filter_map(|who| world.device(who)?.link).collect())
}

/// `{jid?, code, keep?}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disconnect {
    jid: Option<String>,
    code: u16,
    #[serde(default)]
    keep: bool,
}

/// `POST /admin/disconnect`: 401 unlinks the device for good, unless it is kept; 440 is that of another connection.
pub async fn disconnect(State(server): State<Arc<Server>>, Json(asked): Json<Disconnect>) -> Answer {
    let mut world = server.world();
    let named = devices_named(&world, asked.jid.as_deref())?;
    let mut ended = 0;
    for who in named {
        let Some(link) = world.device(&who).and_then(|device| device.link) else { continue };
        ended += 1;
        if asked.code == 401 && !asked.keep && who.device != 0 {
            devices::remove(&mut world, &who);
        } else {
            login::stream_error(&mut world, link, asked.code);
        }
    }
    Ok(Json(json!({"ended": ended})))
}

/// `{jid?}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Named {
    jid: Option<String>,
}

/// `POST /admin/drop-tcp`: the connection ends without a word.
pub async fn drop_tcp(State(server): State<Arc<Server>>, Json(asked): Json<Named>) -> Answer {
    let mut world = server.world();
    let links = links(&mut world, asked.jid.as_deref())?;
    for link in &links {
        // Whose it was is not forgotten, so that the device counts as gone once the connection is.
        world.cut(*link);
    }
    Ok(Json(json!({"ended": links.len()})))
}

/// `{code, count?}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusals {
    code: u16,
    count: Option<usize>,
}

impl Refusals {
    fn each(&self) -> impl Iterator<Item = u16> {
        std::iter::repeat_n(self.code, self.count.unwrap_or(1))
    }
}

/// `POST /admin/nack`: the next messages, whoever sends them, are refused with this code.
pub async fn nack(State(server): State<Arc<Server>>, Json(asked): Json<Refusals>) -> Answer {
    let mut world = server.world();
    world.faults.refused_messages.extend(asked.each());
    Ok(Json(json!({"refused": world.faults.refused_messages.len()})))
}

/// `POST /admin/refuse-login`: the next logins are refused with this reason.
pub async fn refuse_login(State(server): State<Arc<Server>>, Json(asked): Json<Refusals>) -> Answer {
    let mut world = server.world();
    world.faults.refused_logins.extend(asked.each());
    Ok(Json(json!({"refused": world.faults.refused_logins.len()})))
}

/// `{jid?, on}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    jid: Option<String>,
    on: bool,
}

/// `POST /admin/hold`: nothing is sent to the device, but kept; or what was kept comes at once.
pub async fn hold(State(server): State<Arc<Server>>, Json(asked): Json<Hold>) -> Answer {
    let mut world = server.world();
    for who in devices_named(&world, asked.jid.as_deref())? {
        let Some(device) = world.device(&who) else { continue };
        let released = std::mem::replace(&mut device.held, asked.on) && !asked.on;
        if let (true, Some(link)) = (released, device.link) {
            login::flush(&mut world, &who, link);
        }
    }
    Ok(Json(json!({})))
}

/// `{jid, id}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resend {
    jid: String,
    id: String,
}

/// `POST /admin/resend`: what was delivered once comes again, whether it was acknowledged or not.
pub async fn resend(State(server): State<Arc<Server>>, Json(asked): Json<Resend>) -> Answer {
    let mut world = server.world();
    let who = device(&world, &asked.jid)?;
    let history = world.device(&who).map(|device| device.history.clone()).unwrap_or_default();
    let found = history.into_iter().rfind(|node| stanza::value(node, "id").as_deref() == Some(&asked.id));
    let node = found.ok_or_else(|| Problem(StatusCode::NOT_FOUND, format!("{} never got {}", asked.jid, asked.id)))?;
    world.deliver(&who, node);
    Ok(Json(json!({})))
}

/// `{to, stanza, keep?}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inject {
    to: String,
    stanza: Value,
    #[serde(default)]
    keep: bool,
}

/// `POST /admin/inject`: a stanza of the test's own, at once, or kept until it is acknowledged.
pub async fn inject(State(server): State<Arc<Server>>, Json(asked): Json<Inject>) -> Answer {
    let node = stanza::from_json(&asked.stanza)?;
    let mut world = server.world();
    let who = device(&world, &asked.to)?;
    if asked.keep {
        world.deliver(&who, node);
        return Ok(Json(json!({})));
    }
    let link = world.device(&who).and_then(|device| device.link);
    let link = link.ok_or_else(|| Problem(StatusCode::CONFLICT, format!("{} is not connected", asked.to)))?;
    world.send(link, node);
    Ok(Json(json!({})))
}

/// `POST /admin/forget-keys` `{jid?}`: the one-time keys that devices have left are gone.
pub async fn forget_keys(State(server): State<Arc<Server>>, Json(asked): Json<Named>) -> Answer {
    let mut world = server.world();
    let named: Vec<Who> = devices_named(&world, asked.jid.as_deref())?;
    for who in named {
        if let Some(keys) = world.device(&who).and_then(|device| device.keys.as_mut()) {
            keys.one_time.clear();
        }
    }
    Ok(Json(json!({})))
}
