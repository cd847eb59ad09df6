//! From an open connection to a device that is logged in, and the ways in which that ends.

use crate::accounts::{LinkId, Who};
use crate::connection::Outgoing;
use crate::handshake::Opened;
use crate::stanza::{Node, SERVER, node, with};
use crate::world::{Stage, World};
use crate::{clock, pairing, presence};
use tokio::sync::mpsc::UnboundedSender;
use waproto::whatsapp::ClientPayload;

/// A handshake is done.
pub fn opened(world: &mut World, sender: UnboundedSender<Outgoing>, opened: &Opened) -> LinkId {
    let link = world.connect(sender, opened.noise_key);
    let payload = &opened.payload;
    let name = payload.username.map_or_else(|| "nobody".to_owned(), |user| user.to_string());
    world.log.note(link, format!("connected {} as {name}:{}", opened.pattern.name(), payload.device.unwrap_or(0)));
    if let Some(wish) = payload.device_pairing_data.as_option() {
        pairing::offer(world, link, wish);
    } else {
        log_in(world, link, payload);
    }
    link
}

/// A connection is gone.
pub fn closed(world: &mut World, link: LinkId) {
    world.log.note(link, "closed");
    world.hellos.retain(|hello| hello.link != link);
    let gone = world.links.remove(&link);
    let Some(Stage::LoggedIn(who)) = gone.map(|link| link.stage) else { return };
    if let Some(device) = world.device(&who)
        && device.link == Some(link)
    {
        device.link = None;
        presence::change(world, &who, false);
    }
}

fn log_in(world: &mut World, link: LinkId, payload: &ClientPayload) {
    if let Some(reason) = world.faults.refused_logins.pop_front() {
        return refuse(world, link, reason);
    }
    let Some(who) = known(world, link, payload) else { return refuse(world, link, 401) };
    if let Some(other) = world.device(&who).and_then(|device| device.link.replace(link)) {
        stream_error(world, other, 440);
    }
    if let Some(there) = world.links.get_mut(&link) {
        there.stage = Stage::LoggedIn(who.clone());
    }
    let success = success(world, &who);
    world.send(link, success);
    // It may say this before it says anything, the next time.
    let routing = node("routing_info").bytes(rand::random::<[u8; 8]>()).build();
    let routing = node("edge_routing").children([routing]).build();
    world.send(link, node("ib").attr("from", SERVER).children([routing]).build());
    flush(world, &who, link);
}

/// The device that a client says it is, if the key that it proved to have is that device's.
fn known(world: &World, link: LinkId, payload: &ClientPayload) -> Option<Who> {
    let phone = payload.username?.to_string();
    let device = u16::try_from(payload.device.unwrap_or(0)).ok()?;
    let there = world.accounts.get(&phone)?.devices.get(&device)?;
    (there.noise_key == Some(world.links.get(&link)?.noise_key)).then_some(Who { phone, device })
}

fn refuse(world: &mut World, link: LinkId, reason: u16) {
    world.send(link, node("failure").attr("reason", reason).attr("location", "atn").build());
    world.end(link);
}

fn success(world: &World, who: &Who) -> Node {
    let lid = world.accounts.get(&who.phone).map(|account| account.device_jid(who.device, true));
    node("success")
        .attr("t", clock::now())
        .attr("props", "27")
        .attr("companion_enc_static", "")
        .attr("lid", lid.unwrap_or_default())
        .attr("creation", "1700000000")
        .build()
}

/// Everything that was kept while the device was away, and how much that was.
pub fn flush(world: &mut World, who: &Who, link: LinkId) {
    let Some(device) = world.device(who).filter(|device| !device.held) else { return };
    let kept = device.queue.clone();
    let count = kept.len();
    if count > 0 {
        let of = |tag: &str| kept.iter().filter(|node| node.tag == tag).count();
        let preview = node("offline_preview")
            .attr("count", count)
            .attr("message", of("message"))
            .attr("receipt", of("receipt"))
            .attr("notification", of("notification"))
            .attr("appdata", 0)
            .build();
        world.send(link, node("ib").attr("from", SERVER).children([preview]).build());
    }
    for (index, kept) in kept.into_iter().enumerate() {
        world.send(link, with(kept, "offline", index));
    }
    let all = node("offline").attr("count", count).build();
    world.send(link, node("ib").attr("from", SERVER).children([all]).build());
}

/// Ends a connection with the error that says why. What a client does about it depends on the code.
pub fn stream_error(world: &mut World, link: LinkId, code: u16) {
    let conflict = |kind: &'static str| node("conflict").attr("type", kind).build();
    let error = match code {
        401 => node("stream:error").attr("code", code).children([conflict("device_removed")]),
        440 => node("stream:error").children([conflict("replaced")]),
        other => node("stream:error").attr("code", other),
    };
    world.send(link, error.build());
    world.end(link);
}
