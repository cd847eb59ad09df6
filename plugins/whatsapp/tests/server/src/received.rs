//! A stanza came: which part of the server it is for.

use crate::accounts::LinkId;
use crate::stanza::Node;
use crate::world::World;
use crate::{calls, iq, messages, presence, receipts};

/// Does what it asks for.
pub fn stanza(world: &mut World, link: LinkId, node: &Node) {
    let who = world.of_link(link);
    world.log.stanza("received", link, who.as_ref().map(ToString::to_string), node);
    if node.tag == "iq" {
        return iq::request(world, link, node);
    }
    let Some(who) = who else {
        return world.log.note(link, format!("<{}/> of a client that is not logged in", node.tag));
    };
    match node.tag.as_ref() {
        "message" => messages::message(world, &who, link, node),
        "receipt" => receipts::receipt(world, &who, link, node),
        "ack" => receipts::ack(world, &who, node),
        "presence" => presence::presence(world, &who, node),
        "chatstate" => presence::chatstate(world, &who, node),
        "call" => calls::call(world, &who, link, node),
        // Counts, batches and sessions of the client: nothing comes of them here.
        "ib" => {}
        other => world.log.note(link, format!("nothing is known of <{other}/>")),
    }
}
