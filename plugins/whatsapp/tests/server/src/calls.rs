//! Calls ring, and end. Nothing is ever said in one.

use crate::accounts::{LinkId, Who};
use crate::clock;
use crate::stanza::{Maybe as _, Node, address, children, node, value};
use crate::world::World;
use wacore_binary::Server;

/// A device calls somebody, or answers, or does not want to.
pub fn call(world: &mut World, who: &Who, link: LinkId, call: &Node) {
    let (Some(id), Some(to)) = (value(call, "id"), address(call, "to")) else {
        return world.log.note(link, "a call without id or address");
    };
    let kind = children(call).first().map(|what| what.tag.to_string());
    let ack = node("ack").attr("class", "call").attr("from", &to).attr("id", id.clone()).maybe("type", kind);
    world.send(link, ack.build());
    let lid = to.server == Server::Lid;
    let Some(account) = world.accounts.get(&who.phone) else { return };
    let told = node("call")
        .attr("from", account.device_jid(who.device, lid))
        .attr("id", id)
        .attr("t", clock::now())
        .maybe("notify", account.name.clone())
        .attr(if lid { "sender_pn" } else { "sender_lid" }, account.jid(!lid))
        .children(children(call).to_vec())
        .build();
    let Some(phone) = world.named(&to).map(|account| account.phone.clone()) else { return };
    for device in world.devices_of(&phone) {
        if to.device == 0 || device.device == to.device {
            world.deliver(&device, told.clone());
        }
    }
}
