//! The small questions that a client asks when it begins, and what a person sets for itself.

use super::Answer;
use crate::accounts::{Account, Who};
use crate::devices::notification;
use crate::stanza::{Node, Refusal, address, bytes, child, each, need, node, text, value, with};
use crate::world::World;
use wacore_binary::Server;

/// Everything that has no module of its own. What is not known is answered with nothing, which clients take for yes.
pub fn request(world: &mut World, who: &Who, space: &str, iq: &Node) -> Answer {
    let set = value(iq, "type").as_deref() == Some("set");
    match space {
        "abt" => Ok(vec![node("props").attr("protocol", "1").attr("hash", "H1").attr("refresh", "86400").build()]),
        "w:m" => Ok(vec![media_connection(world)]),
        "privacy" if child(iq, "tokens").is_some() => tokens(world, who, iq),
        "privacy" => privacy(own(world, who)?, iq),
        "blocklist" => blocked(own(world, who)?, iq),
        "status" if set => {
            own(world, who)?.about = child(iq, "status").and_then(text);
            Ok(Vec::new())
        }
        "w:profile:picture" => picture(world, who, set, iq),
        "w:mex" => Ok(vec![node("result").bytes("{\"data\":{}}").build()]),
        _ => Ok(Vec::new()),
    }
}

fn own<'a>(world: &'a mut World, who: &Who) -> Result<&'a mut Account, Refusal> {
    world.accounts.get_mut(&who.phone).ok_or(Refusal::NOT_FOUND)
}

/// Where files go: to this server itself.
fn media_connection(world: &mut World) -> Node {
    let auth = format!("auth-{}", world.number());
    let host = node("host").attr("hostname", world.address.to_string()).attr("type", "primary");
    node("media_conn")
        .attr("auth", auth)
        .attr("ttl", "300")
        .attr("auth_ttl", "21600")
        .attr("max_buckets", "12")
        .children([host.children([node("download").build(), node("upload").build()]).build()])
        .build()
}

/// One account lets another write to it, which the other must know.
fn tokens(world: &mut World, who: &Who, iq: &Node) -> Answer {
    let issuer = own(world, who)?;
    let (from, lid) = (issuer.jid(false), issuer.jid(true));
    for token in child(iq, "tokens").into_iter().flat_map(|tokens| each(tokens, "token")) {
        let jid = address(token, "jid").ok_or(Refusal::BAD_REQUEST)?;
        let Some(to) = world.named(&jid) else { continue };
        let (phone, to) = (to.phone.clone(), to.jid(false));
        for device in world.devices_of(&phone) {
            let id = world.id();
            let issued = with(token.clone(), "jid", to.clone());
            let issued = Node { content: Some(wacore_binary::NodeContent::Bytes(format!("tc-{id}").into())), ..issued };
            let told = notification(from.clone(), id, "privacy_token").attr("sender_lid", lid.clone());
            world.deliver(&device, told.children([node("tokens").children([issued]).build()]).build());
        }
    }
    Ok(Vec::new())
}

fn privacy(account: &mut Account, iq: &Node) -> Answer {
    for category in child(iq, "privacy").into_iter().flat_map(|privacy| each(privacy, "category")) {
        account.privacy.insert(need(category, "name")?, need(category, "value")?);
    }
    let mut all = account.privacy.clone();
    for name in ["readreceipts", "last", "online", "profile", "status", "groupadd", "calladd"] {
        all.entry(name.to_owned()).or_insert_with(|| "all".to_owned());
    }
    let all = all.into_iter().map(|(name, value)| node("category").attr("name", name).attr("value", value).build());
    Ok(vec![node("privacy").children(all).build()])
}

fn blocked(account: &mut Account, iq: &Node) -> Answer {
    for item in each(iq, "item") {
        let jid = need(item, "jid")?;
        match need(item, "action")?.as_str() {
            "block" => account.blocked.insert(jid),
            "unblock" => account.blocked.remove(&jid),
            _ => return Err(Refusal::BAD_REQUEST),
        };
    }
    let all = account.blocked.iter().map(|jid| node("item").attr("jid", jid.clone()).build());
    Ok(vec![node("list").children(all).build()])
}

fn picture(world: &mut World, who: &Who, set: bool, iq: &Node) -> Answer {
    let target = address(iq, "target").or_else(|| address(iq, "to").filter(|to| !to.user.is_empty()));
    if set {
        let id = world.number().to_string();
        let file = child(iq, "picture").and_then(bytes);
        let picture = file.map(|file| (id.clone(), file));
        match target.filter(|target| target.server == Server::Group) {
            Some(group) => {
                world.groups.get_mut(&group.to_string()).ok_or(Refusal::NOT_FOUND)?.picture = picture;
            }
            None => own(world, who)?.picture = picture,
        }
        return Ok(vec![node("picture").attr("id", id).build()]);
    }
    let found = match &target {
        Some(jid) if jid.server == Server::Group => {
            world.groups.get(&jid.to_string()).and_then(|group| group.picture.clone())
        }
        Some(jid) => world.named(jid).and_then(|account| account.picture.clone()),
        None => own(world, who)?.picture.clone(),
    };
    let (id, file) = found.ok_or(Refusal::NOT_FOUND)?;
    let path = world.files.keep(file);
    let url = format!("http://{}{path}", world.address);
    let kind = child(iq, "picture").and_then(|asked| value(asked, "type")).unwrap_or_else(|| "image".to_owned());
    Ok(vec![node("picture").attr("id", id).attr("type", kind).attr("url", url).attr("direct_path", path).build()])
}
