//! The keys by which others begin a conversation with a device: left here, counted, compared, and given away, of which
//! each one-time key is once.

use super::Answer;
use crate::accounts::{Keys, SignedKey, Who};
use crate::certificate::public;
use crate::devices::notification;
use crate::stanza::{Node, Refusal, SERVER, address, child, child_bytes, children, each, node, value};
use crate::world::World;
use std::collections::VecDeque;
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::prekeys::compute_key_bundle_digest;

/// Fewer than this, and a device is asked for more.
const FEW: usize = 5;
/// What a key bundle's type always is.
const TYPE: u8 = 5;

/// `xmlns="encrypt"`.
pub fn request(world: &mut World, who: &Who, iq: &Node) -> Answer {
    let set = value(iq, "type").as_deref() == Some("set");
    let asked = |tag| child(iq, tag);
    if let Some(asked) = asked("key") {
        let users: Vec<Node> = each(asked, "user").filter_map(|user| given(world, user)).collect();
        return Ok(vec![node("list").children(users).build()]);
    }
    if let Some(rotate) = asked("rotate") {
        let signed = signed_key(world, who, child(rotate, "skey"))?;
        world.device(who).and_then(|device| device.keys.as_mut()).ok_or(Refusal::NOT_FOUND)?.signed = signed;
        return Ok(Vec::new());
    }
    if set && asked("list").is_some() {
        return left(world, who, iq);
    }
    let keys = world.device(who).and_then(|device| device.keys.as_ref());
    if asked("count").is_some() {
        let count = keys.map_or(0, |keys| keys.one_time.len());
        return Ok(vec![node("count").attr("value", count).build()]);
    }
    if asked("digest").is_some() {
        return digest(world, who);
    }
    match children(iq) {
        [] => Err(Refusal::BAD_REQUEST),
        _ => Ok(Vec::new()),
    }
}

/// A device leaves keys.
fn left(world: &mut World, who: &Who, iq: &Node) -> Answer {
    let identity = child_bytes(iq, "identity").ok_or(Refusal::BAD_REQUEST)?;
    let registration = child_bytes(iq, "registration").ok_or(Refusal::BAD_REQUEST)?;
    let signed = signed_key(world, who, child(iq, "skey"))?;
    let device = world.device(who).ok_or(Refusal::NOT_FOUND)?;
    if identity != device.identity {
        return Err(Refusal { code: 406, text: "not-acceptable" });
    }
    let mut one_time = device.keys.take().map(|keys| keys.one_time).unwrap_or_default();
    for key in child(iq, "list").into_iter().flat_map(|list| each(list, "key")) {
        let id = child_bytes(key, "id").ok_or(Refusal::BAD_REQUEST)?;
        one_time.retain(|(there, _)| *there != id);
        one_time.push_back((id, child_bytes(key, "value").ok_or(Refusal::BAD_REQUEST)?));
    }
    device.keys = Some(Keys { registration, signed, one_time });
    Ok(Vec::new())
}

/// A key that the device's identity has signed indeed.
fn signed_key(world: &mut World, who: &Who, skey: Option<&Node>) -> Result<SignedKey, Refusal> {
    let skey = skey.ok_or(Refusal::BAD_REQUEST)?;
    let part = |tag| child_bytes(skey, tag).ok_or(Refusal::BAD_REQUEST);
    let (id, value, signature) = (part("id")?, part("value")?, part("signature")?);
    let device = world.device(who).ok_or(Refusal::NOT_FOUND)?;
    let identity = PublicKey::from_djb_public_key_bytes(&device.identity).map_err(|_| Refusal::BAD_REQUEST)?;
    if !identity.verify_signature(&[&[TYPE], value.as_slice()].concat(), &signature) {
        return Err(Refusal { code: 406, text: "not-acceptable" });
    }
    Ok(SignedKey { id, value, signature })
}

/// So that a device can see whether the server has what it thinks it left.
fn digest(world: &mut World, who: &Who) -> Answer {
    let device = world.device(who).ok_or(Refusal::NOT_FOUND)?;
    let identity = device.identity;
    let keys = device.keys.as_ref().ok_or(Refusal::NOT_FOUND)?;
    let values: Vec<&[u8]> = keys.one_time.iter().map(|(_, value)| value.as_slice()).collect();
    let hash = compute_key_bundle_digest(&identity, &keys.signed.value, &keys.signed.signature, &values);
    let ids = keys.one_time.iter().map(|(id, _)| node("id").bytes(id.clone()).build());
    Ok(vec![
        node("digest")
            .children([
                node("registration").bytes(keys.registration.clone()).build(),
                node("type").bytes(vec![TYPE]).build(),
                node("identity").bytes(identity).build(),
                keys.signed.node(),
                node("list").children(ids).build(),
                node("hash").bytes(hash).build(),
            ])
            .build(),
    ])
}

/// The keys of a device that somebody wants to write to.
fn given(world: &mut World, user: &Node) -> Option<Node> {
    let jid = address(user, "jid")?;
    let found = match world.who(&jid) {
        Some(who) => bundle(world, &who),
        None => Err(Refusal { code: 406, text: "not-acceptable" }),
    };
    let answer = node("user").attr("jid", &jid);
    Some(match found {
        Ok(parts) => answer.attr("t", crate::clock::now()).children(parts).build(),
        Err(refusal) => answer.children([refusal.node()]).build(),
    })
}

fn bundle(world: &mut World, who: &Who) -> Result<Vec<Node>, Refusal> {
    let id = world.id();
    let device = world.device(who).ok_or(Refusal::NOT_FOUND)?;
    let takes = device.only_takes();
    let keys = device.keys.as_mut().ok_or(Refusal::NOT_FOUND)?;
    let mut parts = vec![
        node("registration").bytes(keys.registration.clone()).build(),
        node("type").bytes(vec![TYPE]).build(),
        node("identity").bytes(device.identity).build(),
        keys.signed.node(),
    ];
    let taken = if takes { Some(endless(&mut keys.one_time)) } else { keys.one_time.pop_front() };
    if let Some((id, value)) = taken {
        parts.push(node("key").children([node("id").bytes(id).build(), node("value").bytes(value).build()]).build());
    }
    parts.extend(device.device_identity.clone().map(|word| node("device-identity").bytes(word).build()));
    let count = keys.one_time.len();
    if !takes && count < FEW {
        let few = notification(SERVER.to_owned(), id, "encrypt").children([node("count").attr("value", count).build()]);
        world.deliver(who, few.build());
    }
    Ok(parts)
}

/// A phone that only takes messages never runs out.
fn endless(taken: &mut VecDeque<(Vec<u8>, Vec<u8>)>) -> (Vec<u8>, Vec<u8>) {
    let id = u32::try_from(taken.len()).unwrap_or_default() + 1;
    let key = (id.to_be_bytes()[1..].to_vec(), public(&KeyPair::generate(&mut rand::rng())).to_vec());
    taken.push_back(key.clone());
    key
}
