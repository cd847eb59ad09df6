//! Devices come and go, and others hear of it.

use crate::accounts::Who;
use crate::stanza::{Node, node};
use crate::world::World;
use crate::{clock, login};
use std::collections::BTreeSet;

/// The account unlinks a device. It is told so, and never logs in again.
pub fn remove(world: &mut World, who: &Who) {
    let Some(gone) = world.accounts.get_mut(&who.phone).and_then(|account| account.devices.remove(&who.device)) else {
        return;
    };
    if let Some(link) = gone.link {
        login::stream_error(world, link, 401);
    }
    changed(world, who, "remove");
}

/// Tells the account's other devices, and those who know the account.
pub fn changed(world: &mut World, who: &Who, how: &'static str) {
    let key_index = world.device(who).map(|device| device.key_index);
    for other in world.devices_of(&who.phone).into_iter().filter(|other| other != who) {
        own(world, who, &other);
    }
    for friend in friends(world, &who.phone) {
        for device in world.devices_of(&friend) {
            friends_device(world, who, &device, how, key_index);
        }
    }
}

/// Those with whom it has written, or is in a group.
fn friends(world: &World, phone: &str) -> BTreeSet<String> {
    let mut all: BTreeSet<String> =
        world.acquainted.iter().filter(|(one, _)| one == phone).map(|(_, other)| other.clone()).collect();
    for group in world.groups.values().filter(|group| group.role(phone).is_some()) {
        all.extend(group.members.iter().map(|(member, _)| member.clone()));
    }
    all.remove(phone);
    all
}

fn own(world: &mut World, who: &Who, to: &Who) {
    let id = world.id();
    let Some(account) = world.accounts.get(&who.phone) else { return };
    let device = |(id, there): (&u16, &crate::accounts::Device)| {
        node("device").attr("jid", account.device_jid(*id, false)).attr("key-index", there.key_index).build()
    };
    let mut listed: Vec<Node> = account.devices.iter().map(device).collect();
    listed.push(account.key_index_list());
    let devices = node("devices").attr("dhash", account.device_hash()).children(listed);
    let told = notification(account.jid(false), id, "account_sync").children([devices.build()]);
    world.deliver(to, told.build());
}

fn friends_device(world: &mut World, who: &Who, to: &Who, how: &'static str, key_index: Option<u16>) {
    let id = world.id();
    let Some(account) = world.accounts.get(&who.phone) else { return };
    let device = node("device")
        .attr("jid", account.device_jid(who.device, false))
        .attr("lid", account.device_jid(who.device, true))
        .attr("key-index", key_index.unwrap_or(who.device));
    let change =
        node(how).attr("device_hash", account.device_hash()).children([device.build(), account.key_index_list()]);
    let told =
        notification(account.jid(false), id, "devices").attr("lid", account.jid(true)).children([change.build()]);
    world.deliver(to, told.build());
}

/// Begins a notification.
pub fn notification(from: String, id: String, kind: &'static str) -> wacore_binary::builder::NodeBuilder {
    node("notification").attr("from", from).attr("id", id).attr("t", clock::now()).attr("type", kind)
}
