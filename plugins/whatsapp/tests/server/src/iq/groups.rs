//! What members ask of a group, and change about it.

use super::Answer;
use crate::accounts::Who;
use crate::clock;
use crate::groups::{Group, Role, announce, create};
use crate::stanza::{Node, NodeContent, Refusal, address, child, children, each, need, node, text, value};
use crate::world::World;

/// `xmlns="w:g2"`.
pub fn request(world: &mut World, who: &Who, iq: &Node) -> Answer {
    let to = value(iq, "to").unwrap_or_default();
    let asked = children(iq).first().ok_or(Refusal::BAD_REQUEST)?;
    let set = value(iq, "type").as_deref() == Some("set");
    if to == "@g.us" || to == "g.us" {
        return at_large(world, who, set, asked);
    }
    let group = world.groups.get(&to).ok_or(Refusal::NOT_FOUND)?;
    group.role(&who.phone).ok_or(Refusal::FORBIDDEN)?;
    match (asked.tag.as_ref(), set) {
        ("query", false) => Ok(vec![group.node(world)]),
        ("invite", false) if group.may_change(&who.phone) => Ok(vec![invite(&group.invite)]),
        (_, false) => Ok(vec![like(asked, Vec::new())]),
        (_, true) => change(world, who, &to, asked),
    }
}

fn invite(code: &str) -> Node {
    node("invite").attr("code", code).build()
}

/// A node of the same kind with something else in it.
fn like(asked: &Node, content: Vec<Node>) -> Node {
    Node { tag: asked.tag.clone(), content: Some(NodeContent::Nodes(content)), ..Node::default() }
}

/// What is not asked of one group.
fn at_large(world: &mut World, who: &Who, set: bool, asked: &Node) -> Answer {
    let mine = |group: &&Group| group.role(&who.phone).is_some();
    match (asked.tag.as_ref(), set) {
        ("participating", false) => {
            let all = world.groups.values().filter(mine).map(|group| group.node(world));
            Ok(vec![node("groups").children(all).build()])
        }
        ("invite", false) => {
            let code = need(asked, "code")?;
            let group = world.groups.values().find(|group| group.invite == code).ok_or(Refusal::NOT_FOUND)?;
            Ok(vec![group.node(world)])
        }
        ("invite", true) => join(world, who, &need(asked, "code")?),
        ("create", true) => {
            let others: Vec<String> = named(world, asked).into_iter().filter_map(|(_, phone)| phone).collect();
            let subject = need(asked, "subject")?;
            let jid = create(world, &who.phone, &subject, &others, true).map_err(|_| Refusal::BAD_REQUEST)?;
            // That it is a community, or which one it is made in.
            let kinds = ["parent", "linked_parent"].into_iter().filter_map(|kind| child(asked, kind).cloned());
            if let Some(group) = world.groups.get_mut(&jid) {
                group.settings.extend(kinds);
            }
            Ok(world.groups.get(&jid).map(|group| group.node(world)).into_iter().collect())
        }
        ("leave", true) => {
            for left in each(asked, "group") {
                leave(world, who, &need(left, "id")?)?;
            }
            Ok(vec![asked.clone()])
        }
        _ => Err(Refusal::BAD_REQUEST),
    }
}

fn join(world: &mut World, who: &Who, code: &str) -> Answer {
    let group = world.groups.values_mut().find(|group| group.invite == code).ok_or(Refusal::NOT_FOUND)?;
    let jid = group.jid.clone();
    if group.role(&who.phone).is_none() {
        group.members.push((who.phone.clone(), Role::Member));
        let joined = participants(world, &jid, std::slice::from_ref(&who.phone));
        announce(world, &jid, &who.phone, node("add").attr("reason", "invite").children(joined).build(), &[]);
    }
    Ok(vec![node("group").attr("jid", jid).build()])
}

fn leave(world: &mut World, who: &Who, jid: &str) -> Result<(), Refusal> {
    let left = participants(world, jid, std::slice::from_ref(&who.phone));
    let group = world.groups.get_mut(jid).ok_or(Refusal::NOT_FOUND)?;
    group.role(&who.phone).ok_or(Refusal::NOT_FOUND)?;
    group.members.retain(|(member, _)| *member != who.phone);
    let change = node("remove").children(left).build();
    announce(world, jid, &who.phone, change, std::slice::from_ref(&who.phone));
    Ok(())
}

fn change(world: &mut World, who: &Who, jid: &str, asked: &Node) -> Answer {
    let group = world.groups.get_mut(jid).ok_or(Refusal::NOT_FOUND)?;
    let admin = group.may_change(&who.phone);
    let now = clock::now();
    let by = who.phone.clone();
    let told = match asked.tag.as_ref() {
        "add" | "remove" | "promote" | "demote" if admin => return members(world, who, jid, asked),
        "links" | "unlink" if admin && group.is("parent") => return linked(world, who, jid, asked),
        "subject" | "description" if !admin && group.is("locked") => return Err(Refusal::FORBIDDEN),
        "subject" => {
            let subject = text(asked).ok_or(Refusal::BAD_REQUEST)?;
            group.subject.clone_from(&subject);
            group.subject_by = (by, now);
            node("subject").attr("subject", subject).attr("s_t", now).build()
        }
        "description" => {
            let id = value(asked, "id").unwrap_or_default();
            group.description = child(asked, "body").and_then(text).map(|text| (id, text, by, now));
            asked.clone()
        }
        "invite" if admin => {
            group.invite.push('r');
            let fresh = invite(&group.invite);
            announce(world, jid, &who.phone, fresh.clone(), &[]);
            return Ok(vec![fresh]);
        }
        setting if admin => {
            let (on, name) = match setting.strip_prefix("not_") {
                Some(name) => (false, name),
                None if setting == "unlocked" => (false, "locked"),
                None => (true, setting),
            };
            group.settings.retain(|there| there.tag != name);
            if on {
                group.settings.push(asked.clone());
            }
            asked.clone()
        }
        _ => return Err(Refusal::FORBIDDEN),
    };
    announce(world, jid, &who.phone, told, &[]);
    Ok(Vec::new())
}

/// Groups come into a community, or leave it.
fn linked(world: &mut World, who: &Who, community: &str, asked: &Node) -> Answer {
    let named = child(asked, "link").unwrap_or(asked);
    let mut answers = Vec::new();
    for jid in each(named, "group").map(|group| need(group, "jid")) {
        let jid = jid?;
        let answer = node("group").attr("jid", jid.clone());
        match world.groups.get_mut(&jid).filter(|group| group.may_change(&who.phone)) {
            Some(group) => {
                group.settings.retain(|there| there.tag != "linked_parent");
                if asked.tag == "links" {
                    group.settings.push(node("linked_parent").attr("jid", community).build());
                }
                answers.push(answer.build());
            }
            None => answers.push(answer.attr("error", 403).build()),
        }
    }
    let changed = like(named, answers);
    Ok(vec![if asked.tag == "links" { node("links").children([changed]).build() } else { changed }])
}

/// Members come, go, or change their role. Each is answered on its own.
fn members(world: &mut World, who: &Who, jid: &str, asked: &Node) -> Answer {
    let mut changed = Vec::new();
    let mut answers = Vec::new();
    for (said, phone) in named(world, asked) {
        let group = world.groups.get_mut(jid).ok_or(Refusal::NOT_FOUND)?;
        let answer = node("participant").attr("jid", said);
        let error = match &phone {
            None => Some(404),
            Some(phone) => apply(group, asked.tag.as_ref(), phone).err(),
        };
        match (error, phone) {
            (None, Some(phone)) => {
                changed.push(phone);
                answers.push(answer.build());
            }
            (code, _) => answers.push(answer.attr("error", code.unwrap_or(404)).build()),
        }
    }
    if !changed.is_empty() {
        let content = participants(world, jid, &changed);
        let gone = if asked.tag == "remove" { changed.as_slice() } else { &[] };
        announce(world, jid, &who.phone, like(asked, content), gone);
    }
    Ok(vec![like(asked, answers)])
}

fn apply(group: &mut Group, how: &str, phone: &str) -> Result<(), u16> {
    let there = group.members.iter_mut().find(|(member, _)| member == phone);
    match (how, there) {
        ("add", Some(_)) => Err(409),
        ("add", None) => {
            group.members.push((phone.to_owned(), Role::Member));
            Ok(())
        }
        (_, None) => Err(404),
        (_, Some((_, Role::Owner))) => Err(403),
        ("remove", Some(_)) => {
            group.members.retain(|(member, _)| member != phone);
            Ok(())
        }
        ("promote", Some((_, role))) => {
            *role = Role::Admin;
            Ok(())
        }
        (_, Some((_, role))) => {
            *role = Role::Member;
            Ok(())
        }
    }
}

/// Each participant that is named, as it was said, and whose number that is.
fn named(world: &World, asked: &Node) -> Vec<(String, Option<String>)> {
    let one = |participant: &Node| {
        let jid = address(participant, "jid")?;
        Some((jid.to_string(), world.named(&jid).map(|account| account.phone.clone())))
    };
    each(asked, "participant").filter_map(one).collect()
}

fn participants(world: &World, jid: &str, phones: &[String]) -> Vec<Node> {
    let Some(group) = world.groups.get(jid) else { return Vec::new() };
    let accounts = phones.iter().filter_map(|phone| world.accounts.get(phone));
    accounts.map(|account| group.participant(account, None)).collect()
}
