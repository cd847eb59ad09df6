//! Questions and requests, each of which gets one answer.

mod collections;
mod groups;
mod keys;
mod settings;
mod usync;

use crate::accounts::{LinkId, Who};
use crate::stanza::{Node, Refusal, SERVER, child, node, value};
use crate::world::World;
use crate::{devices, pairing, pairing_code, passkey};

/// What a request comes to.
type Answer = Result<Vec<Node>, Refusal>;

/// Answers.
pub fn request(world: &mut World, link: LinkId, iq: &Node) {
    let kind = value(iq, "type").unwrap_or_default();
    if kind == "result" || kind == "error" {
        return pairing::answered(world, link, iq);
    }
    let Some(id) = value(iq, "id") else {
        return world.log.note(link, "a request without an id cannot be answered");
    };
    let answer = match world.of_link(link) {
        Some(who) => of_device(world, &who, iq),
        None => of_stranger(world, link, iq),
    };
    let from = value(iq, "to").filter(|to| !to.is_empty()).unwrap_or_else(|| SERVER.to_owned());
    let answered = node("iq").attr("from", from).attr("id", id);
    let answered = match answer {
        Ok(content) if content.is_empty() => answered.attr("type", "result"),
        Ok(content) => answered.attr("type", "result").children(content),
        Err(refusal) => answered.attr("type", "error").children([refusal.node()]),
    };
    world.send(link, answered.build());
    if let Some(asked) = child(iq, "link_code_companion_reg") {
        pairing_code::answered(world, link, asked);
    }
    passkey::answered(world, link, iq);
}

/// Of a client that waits to be linked.
fn of_stranger(world: &mut World, link: LinkId, iq: &Node) -> Answer {
    if let Some(answer) = passkey::request(world, link, iq) {
        return answer;
    }
    match child(iq, "link_code_companion_reg") {
        Some(asked) => pairing_code::request(world, link, asked),
        None if value(iq, "xmlns").as_deref() == Some("w:p") => Ok(Vec::new()),
        None => Err(Refusal { code: 401, text: "not-authorized" }),
    }
}

fn of_device(world: &mut World, who: &Who, iq: &Node) -> Answer {
    match value(iq, "xmlns").unwrap_or_default().as_str() {
        "encrypt" => keys::request(world, who, iq),
        "usync" => usync::request(world, iq),
        "w:g2" => groups::request(world, who, iq),
        "w:sync:app:state" => collections::request(world, who, iq),
        "md" => {
            if child(iq, "remove-companion-device").is_some() {
                devices::remove(world, who);
            }
            Ok(Vec::new())
        }
        space => settings::request(world, who, space, iq),
    }
}
