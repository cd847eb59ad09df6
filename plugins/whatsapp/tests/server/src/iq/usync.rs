//! What is known of people: whether a number has an account, its other address, its devices, its line about itself.

use super::Answer;
use crate::accounts::Account;
use crate::stanza::{Maybe as _, Node, Refusal, SERVER, address, child, children, each, node, text, value};
use crate::world::World;
use wacore_binary::Jid;
use wacore_binary::builder::NodeBuilder;

/// `xmlns="usync"`.
pub fn request(world: &mut World, iq: &Node) -> Answer {
    let usync = child(iq, "usync").ok_or(Refusal::BAD_REQUEST)?;
    let asked: Vec<&str> =
        child(usync, "query").map(children).unwrap_or_default().iter().map(|node| node.tag.as_ref()).collect();
    let list = child(usync, "list").ok_or(Refusal::BAD_REQUEST)?;
    let users: Vec<Node> = each(list, "user").filter_map(|user| answer(world, &asked, user)).collect();
    let result = asked.iter().map(|tag| NodeBuilder::new_dynamic((*tag).to_owned()).build());
    let answered = node("usync")
        .maybe("sid", value(usync, "sid"))
        .maybe("mode", value(usync, "mode"))
        .maybe("context", value(usync, "context"))
        .attr("index", "0")
        .attr("last", "true")
        .children([node("result").children(result).build(), node("list").children(users).build()]);
    Ok(vec![answered.build()])
}

fn answer(world: &World, asked: &[&str], user: &Node) -> Option<Node> {
    let number = child(user, "contact").and_then(text).filter(|text| !text.is_empty());
    let jid = match (address(user, "jid"), &number) {
        (Some(jid), _) => jid.to_non_ad(),
        (None, Some(number)) => format!("{}@{SERVER}", number.trim_start_matches('+')).parse::<Jid>().ok()?,
        (None, None) => address(user, "pn_jid")?,
    };
    let account = world.named(&jid);
    let mut parts: Vec<Node> = Vec::new();
    for protocol in asked {
        match (*protocol, account) {
            ("contact", found) => {
                let contact = node("contact").attr("type", if found.is_some() { "in" } else { "out" });
                parts.push(match &number {
                    Some(number) => contact.string_content(number.as_str()).build(),
                    None => contact.build(),
                });
            }
            ("devices", Some(account)) => parts.push(devices(account)),
            ("lid", Some(account)) => parts.push(node("lid").attr("val", account.jid(true)).build()),
            ("status", Some(Account { about: Some(about), .. })) => {
                parts.push(node("status").attr("t", crate::clock::now()).string_content(about.as_str()).build());
            }
            ("picture", Some(Account { picture: Some((id, _)), .. })) => {
                parts.push(node("picture").attr("id", id.clone()).build());
            }
            _ => {}
        }
    }
    Some(node("user").attr("jid", jid).children(parts).build())
}

fn devices(account: &Account) -> Node {
    let list = node("device-list").attr("hash", account.device_hash()).children(account.device_list());
    node("devices").children([list.build(), account.key_index_list()]).build()
}
