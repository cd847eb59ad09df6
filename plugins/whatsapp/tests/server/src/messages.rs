//! Messages: each comes once and encrypted for every device, and goes on to those devices, with the sender's addresses
//! and name. Of a group's, what is the same for all goes to all.

use crate::accounts::{LinkId, Who};
use crate::clock;
use crate::groups::mode;
use crate::stanza::{Maybe as _, Node, address, child, children, each, node, value};
use crate::world::World;
use std::collections::BTreeMap;
use wacore_binary::{Jid, Server};

/// What is not encrypted, and goes on as it came.
const PASSED_ON: [&str; 7] = ["device-identity", "meta", "biz", "bot", "hsm", "url_text", "url_number"];

/// What one device gets.
struct Copy {
    encrypted: Vec<Node>,
    /// It was addressed by LID.
    lid: bool,
}

/// A device sends one.
pub fn message(world: &mut World, who: &Who, link: LinkId, message: &Node) {
    let (Some(id), Some(to)) = (value(message, "id"), address(message, "to")) else {
        return world.log.note(link, "a message without id or address");
    };
    let ack = node("ack").attr("class", "message").attr("from", &to).attr("id", id).attr("t", clock::now());
    if let Some(code) = world.faults.refused_messages.pop_front() {
        return world.send(link, ack.attr("error", code).build());
    }
    if let Some(group) = world.groups.get(&to.to_string()) {
        let writes = group.role(&who.phone).is_some() && (group.may_change(&who.phone) || !group.is("announcement"));
        if !writes {
            return world.send(link, ack.attr("error", 403).build());
        }
    }
    world.send(link, ack.build());
    let copies = copies(world, who, &to, message);
    if let Some(other) = world.named(&to).map(|account| account.phone.clone()).filter(|other| *other != who.phone) {
        world.acquainted.insert((who.phone.clone(), other.clone()));
        world.acquainted.insert((other, who.phone.clone()));
    }
    for (device, copy) in copies {
        if let Some(node) = outgoing(world, who, &device, &to, message, copy) {
            world.deliver(&device, node);
        }
    }
}

/// Who gets what.
fn copies(world: &World, who: &Who, to: &Jid, message: &Node) -> BTreeMap<Who, Copy> {
    let mut copies: BTreeMap<Who, Copy> = BTreeMap::new();
    for part in child(message, "participants").into_iter().flat_map(|all| each(all, "to")) {
        let Some(jid) = address(part, "jid") else { continue };
        if let Some(device) = world.who(&jid) {
            let encrypted = each(part, "enc").cloned().collect();
            copies.insert(device, Copy { encrypted, lid: jid.server == Server::Lid });
        }
    }
    let (shared, direct): (Vec<Node>, Vec<Node>) =
        each(message, "enc").cloned().partition(|enc| value(enc, "type").as_deref() == Some("skmsg"));
    if !direct.is_empty() {
        // One device's own: it asked for the message again, or is the only one that it is for.
        let one = address(message, "participant").unwrap_or_else(|| to.clone());
        if let Some(device) = world.who(&one) {
            copies.insert(device, Copy { encrypted: direct, lid: one.server == Server::Lid });
        }
    }
    if !shared.is_empty() {
        for (device, lid) in everybody(world, to, &copies) {
            if device != *who {
                let copy = copies.entry(device).or_insert_with(|| Copy { encrypted: Vec::new(), lid });
                copy.encrypted.extend(shared.iter().cloned());
            }
        }
    }
    copies.retain(|device, _| {
        let blocked = world.accounts.get(&device.phone).map(|account| &account.blocked);
        let sender = world.accounts.get(&who.phone);
        !blocked.zip(sender).is_some_and(|(all, from)| all.contains(&from.jid(false)) || all.contains(&from.jid(true)))
    });
    copies
}

/// Whom a message that is the same for all is for: a group's members, or those that it names.
fn everybody(world: &World, to: &Jid, named: &BTreeMap<Who, Copy>) -> Vec<(Who, bool)> {
    match world.groups.get(&to.to_string()) {
        Some(group) => {
            let devices = group.members.iter().flat_map(|(member, _)| world.devices_of(member));
            devices.map(|device| (device, group.lid)).collect()
        }
        None => named.iter().map(|(device, copy)| (device.clone(), copy.lid)).collect(),
    }
}

fn outgoing(world: &World, from: &Who, device: &Who, to: &Jid, message: &Node, copy: Copy) -> Option<Node> {
    let account = world.accounts.get(&from.phone)?;
    let group = world.groups.get(&to.to_string());
    let lid = group.map_or(copy.lid, |group| group.lid);
    let sender = account.device_jid(from.device, lid);
    let mut out = node("message")
        .maybe("id", value(message, "id"))
        .attr("type", value(message, "type").unwrap_or_else(|| "text".to_owned()))
        .attr("t", clock::now())
        .maybe("notify", account.name.clone())
        .maybe("edit", value(message, "edit"))
        .maybe("category", value(message, "category"))
        .attr("addressing_mode", mode(lid));
    let other = account.jid(!lid);
    if matches!(to.server, Server::Group | Server::Broadcast) {
        let named = if lid { "participant_pn" } else { "participant_lid" };
        out = out.attr("from", to).attr("participant", sender).attr(named, other);
    } else {
        out = out.attr("from", sender).attr(if lid { "sender_pn" } else { "sender_lid" }, other);
        let peer = value(message, "category").as_deref() == Some("peer");
        if device.phone == from.phone && !peer {
            // To another of one's own devices: in which chat it was written.
            let chat = address(message, "recipient").unwrap_or_else(|| to.to_non_ad());
            let known = if chat.server == Server::Lid { "peer_recipient_pn" } else { "peer_recipient_lid" };
            let also = world.named(&chat).map(|peer| peer.jid(chat.server != Server::Lid));
            out = out.attr("recipient", &chat).maybe(known, also);
        }
    }
    let mut content = copy.encrypted;
    // The phone needs nobody's word for it.
    let passed_on =
        |part: &&Node| PASSED_ON.contains(&part.tag.as_ref()) && (from.device != 0 || part.tag != "device-identity");
    content.extend(children(message).iter().filter(passed_on).cloned());
    Some(out.children(content).build())
}
