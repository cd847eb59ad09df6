//! That a message has come, was read, or could not be read; and that a client has what the server sent.

use crate::accounts::{LinkId, Who};
use crate::clock;
use crate::stanza::{Maybe as _, Node, address, children, each, node, value};
use crate::world::World;
use wacore_binary::{Jid, Server};

/// A device says what became of messages.
pub fn receipt(world: &mut World, who: &Who, link: LinkId, receipt: &Node) {
    let (Some(id), Some(to)) = (value(receipt, "id"), address(receipt, "to")) else {
        return world.log.note(link, "a receipt without id or address");
    };
    let kind = value(receipt, "type");
    let ack = node("ack")
        .attr("class", "receipt")
        .attr("id", id.clone())
        .attr("from", &to)
        .maybe("type", kind.clone())
        .maybe("participant", value(receipt, "participant"));
    world.send(link, ack.build());
    for id in std::iter::once(id).chain(listed(receipt)) {
        world.acknowledged(who, "message", &id);
    }
    let kind = kind.unwrap_or_default();
    if matches!(kind.as_str(), "read" | "read-self" | "played" | "played-self") {
        own_devices(world, who, &to, receipt);
    }
    if kind.ends_with("-self") || kind == "peer_msg" || kind == "hist_sync" {
        return;
    }
    let author = address(receipt, "participant").unwrap_or_else(|| to.clone());
    let Some(account) = world.named(&author).map(|account| account.phone.clone()) else { return };
    let to_one = matches!(kind.as_str(), "retry" | "enc_rekey_retry" | "sender");
    for device in world.devices_of(&account) {
        if (!to_one || device.device == author.device)
            && device != *who
            && let Some(told) = told(world, who, &to, &author, receipt)
        {
            world.deliver(&device, told);
        }
    }
}

/// The other messages that a receipt is about.
fn listed(receipt: &Node) -> Vec<String> {
    each(receipt, "list").flat_map(|list| each(list, "item")).filter_map(|item| value(item, "id")).collect()
}

fn begun(receipt: &Node) -> wacore_binary::builder::NodeBuilder {
    let begun = node("receipt")
        .maybe("id", value(receipt, "id"))
        // That nobody was looking is between the device and the server.
        .maybe("type", value(receipt, "type").filter(|kind| kind != "inactive"))
        .attr("t", value(receipt, "t").unwrap_or_else(|| clock::now().to_string()));
    match children(receipt) {
        [] => begun,
        content => begun.children(content.to_vec()),
    }
}

/// As the author of the message gets it.
fn told(world: &World, who: &Who, to: &Jid, author: &Jid, receipt: &Node) -> Option<Node> {
    let reader = world.accounts.get(&who.phone)?.device_jid(who.device, author.server == Server::Lid);
    let told = begun(receipt);
    Some(match to.server {
        Server::Group | Server::Broadcast => told.attr("from", to).attr("participant", reader).build(),
        _ => told.attr("from", reader).maybe("recipient", value(receipt, "recipient")).build(),
    })
}

/// One's other devices learn what was read.
fn own_devices(world: &mut World, who: &Who, chat: &Jid, receipt: &Node) {
    let Some(account) = world.accounts.get(&who.phone) else { return };
    let me = account.device_jid(who.device, chat.server == Server::Lid);
    let told = match chat.server {
        Server::Group | Server::Broadcast => begun(receipt).attr("from", chat).attr("participant", me),
        _ => begun(receipt).attr("from", me).attr("recipient", chat.to_non_ad()),
    };
    let told = told.build();
    for device in world.devices_of(&who.phone).into_iter().filter(|device| device != who) {
        world.deliver(&device, told.clone());
    }
}

/// A client has something, whatever it thinks of it.
pub fn ack(world: &mut World, who: &Who, ack: &Node) {
    if let (Some(class), Some(id)) = (value(ack, "class"), value(ack, "id")) {
        world.acknowledged(who, &class, &id);
    }
}
