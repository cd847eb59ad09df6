//! Who is there, and who is typing. Nothing of it is kept.

use crate::accounts::Who;
use crate::stanza::{Node, address, children, node, value};
use crate::world::World;
use wacore_binary::Server;

/// A device says that somebody is looking, or what its account is called, or asks about another.
pub fn presence(world: &mut World, who: &Who, presence: &Node) {
    let kind = value(presence, "type");
    if kind.as_deref() == Some("subscribe") {
        return subscribe(world, who, presence);
    }
    if let Some(name) = value(presence, "name").filter(|name| !name.is_empty() && name != "~")
        && let Some(account) = world.accounts.get_mut(&who.phone)
    {
        account.name = Some(name);
    }
    match kind.as_deref() {
        Some("available") => change(world, who, true),
        Some("unavailable") => change(world, who, false),
        _ => {}
    }
}

fn subscribe(world: &mut World, who: &Who, presence: &Node) {
    let Some(jid) = address(presence, "to") else { return };
    let Some(phone) = world.named(&jid).map(|account| account.phone.clone()) else { return };
    let Some(account) = world.accounts.get_mut(&phone) else { return };
    account.watchers.insert(who.clone());
    let there = account.devices.values().any(|device| device.available);
    let said = said(account.jid(jid.server == Server::Lid), there);
    world.tell(who, said);
}

fn said(from: String, there: bool) -> Node {
    let said = node("presence").attr("from", from);
    if there { said.build() } else { said.attr("type", "unavailable").attr("last", "deny").build() }
}

/// A device is looked at, or not any more; those who asked hear it when that changes something.
pub fn change(world: &mut World, who: &Who, available: bool) {
    let Some(account) = world.accounts.get_mut(&who.phone) else { return };
    let is_there = |account: &crate::accounts::Account| account.devices.values().any(|device| device.available);
    let before = is_there(account);
    if let Some(device) = account.devices.get_mut(&who.device) {
        device.available = available;
    }
    let there = is_there(account);
    if there == before {
        return;
    }
    let (jid, watchers) = (account.jid(false), account.watchers.clone());
    for watcher in watchers {
        world.tell(&watcher, said(jid.clone(), there));
    }
}

/// A person types, or stops.
pub fn chatstate(world: &mut World, who: &Who, state: &Node) {
    let Some(to) = address(state, "to") else { return };
    let (phones, lid) = match world.groups.get(&to.to_string()) {
        Some(group) => (group.members.iter().map(|(member, _)| member.clone()).collect(), group.lid),
        None => (
            world.named(&to).map(|account| account.phone.clone()).into_iter().collect::<Vec<_>>(),
            to.server == Server::Lid,
        ),
    };
    let Some(account) = world.accounts.get(&who.phone) else { return };
    let me = account.jid(lid);
    let told = node("chatstate").children(children(state).to_vec());
    let told =
        if to.server == Server::Group { told.attr("from", &to).attr("participant", me) } else { told.attr("from", me) };
    let told = told.build();
    for phone in phones.into_iter().filter(|phone| *phone != who.phone) {
        for device in world.devices_of(&phone) {
            world.tell(&device, told.clone());
        }
    }
}
