//! What the devices of an account share: chats that are muted, names of contacts, labels. The server numbers the changes
//! and hands them on; it cannot read them.

use super::Answer;
use crate::accounts::Who;
use crate::devices::notification;
use crate::stanza::{Node, Refusal, bytes, child, each, need, node, value};
use crate::world::World;
use waproto::buffa::MessageField;
use waproto::codec::{syncd_patch_decode, syncd_patch_to_vec};
use waproto::whatsapp::SyncdVersion;

/// `xmlns="w:sync:app:state"`.
pub fn request(world: &mut World, who: &Who, iq: &Node) -> Answer {
    let sync = child(iq, "sync").ok_or(Refusal::BAD_REQUEST)?;
    let mut answers = Vec::new();
    for asked in each(sync, "collection") {
        let name = need(asked, "name")?;
        let known: usize = value(asked, "version").and_then(|version| version.parse().ok()).unwrap_or(0);
        answers.push(match child(asked, "patch").and_then(bytes) {
            Some(patch) => add(world, who, &name, known, &patch)?,
            None => since(world, who, &name, known),
        });
    }
    Ok(vec![node("sync").children(answers).build()])
}

fn collection(name: &str) -> wacore_binary::builder::NodeBuilder {
    node("collection").attr("name", name)
}

/// The changes that a device has not seen.
fn since(world: &World, who: &Who, name: &str, known: usize) -> Node {
    let all = world.accounts.get(&who.phone).and_then(|account| account.collections.get(name));
    let unseen = all.and_then(|all| all.get(known..)).unwrap_or_default();
    let answer = collection(name).attr("version", known);
    if unseen.is_empty() {
        return answer.build();
    }
    let patches = unseen.iter().map(|patch| node("patch").bytes(patch.clone()).build());
    answer.attr("has_more_patches", "false").children([node("patches").children(patches).build()]).build()
}

/// A device changes something. What it did not base on the last change is not taken.
fn add(world: &mut World, who: &Who, name: &str, known: usize, patch: &[u8]) -> Result<Node, Refusal> {
    let mut patch = syncd_patch_decode(patch).map_err(|_| Refusal::BAD_REQUEST)?;
    let account = world.accounts.get_mut(&who.phone).ok_or(Refusal::NOT_FOUND)?;
    let all = account.collections.entry(name.to_owned()).or_default();
    if known != all.len() {
        let conflict = Refusal { code: 409, text: "conflict" };
        return Ok(collection(name).attr("type", "error").children([conflict.node()]).build());
    }
    let version = all.len() as u64 + 1;
    patch.version = MessageField::some(SyncdVersion { version: Some(version) });
    all.push(syncd_patch_to_vec(&patch));
    let from = account.jid(false);
    for other in world.devices_of(&who.phone).into_iter().filter(|other| other != who) {
        let id = world.id();
        let changed = collection(name).attr("version", version).build();
        world.deliver(&other, notification(from.clone(), id, "server_sync").children([changed]).build());
    }
    Ok(collection(name).attr("type", "result").attr("version", version).build())
}
