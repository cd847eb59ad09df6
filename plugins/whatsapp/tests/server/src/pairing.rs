//! How a client becomes a device of an account: it shows references, the phone takes one up and vouches for the client,
//! the client signs that, and connects anew. The test is the phone.

use crate::accounts::{Device, LinkId, Who};
use crate::stanza::{Node, SERVER, bytes, child, node, value};
use crate::world::{Stage, World};
use crate::{clock, devices, login, phone};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use waproto::whatsapp::client_payload::DevicePairingRegistrationData;

/// As many as the real one offers at once.
const REFERENCES: usize = 6;

/// A client that waits for a phone.
pub struct Pairing {
    references: Vec<String>,
    /// By which others will encrypt for it.
    identity: Option<[u8; 32]>,
    candidate: Option<Candidate>,
}

/// What a phone has vouched for, until the client has signed it.
struct Candidate {
    id: String,
    who: Who,
    identity: [u8; 32],
}

/// The client asks to be linked.
pub fn offer(world: &mut World, link: LinkId, wish: &DevicePairingRegistrationData) {
    let identity = wish.e_ident.as_deref().and_then(|key| key.try_into().ok());
    let pairing = Pairing { references: Vec::new(), identity, candidate: None };
    if let Some(there) = world.links.get_mut(&link) {
        there.stage = Stage::Pairing(Box::new(pairing));
    }
    refresh(world, link);
}

/// Gives a client that waits new references. The old ones are no longer taken.
pub fn refresh(world: &mut World, link: LinkId) {
    let id = world.id();
    let references: Vec<String> =
        (0..REFERENCES).map(|_| format!("2@{}", BASE64_STANDARD.encode(rand::random::<[u8; 24]>()))).collect();
    let Some(Stage::Pairing(pairing)) = world.links.get_mut(&link).map(|there| &mut there.stage) else { return };
    pairing.references.clone_from(&references);
    let shown = references.into_iter().map(|reference| node("ref").bytes(reference).build());
    let request = node("iq")
        .attr("from", SERVER)
        .attr("type", "set")
        .attr("id", id)
        .attr("xmlns", "md")
        .children([node("pair-device").children(shown).build()]);
    world.send(link, request.build());
}

/// The connections that wait for a phone.
pub fn waiting(world: &World) -> Vec<LinkId> {
    let waits = |there: &Stage| matches!(there, Stage::Pairing(_));
    world.links.iter().filter(|(_, link)| waits(&link.stage)).map(|(id, _)| *id).collect()
}

/// The phone has scanned a code. Links the client that shows it to the account.
pub fn scan(world: &mut World, qr: &str, phone: &str) -> Result<Who, String> {
    let body = qr.rsplit_once('#').map_or(qr, |(_, body)| body);
    let [reference, noise, identity, secret, ..] = body.split(',').collect::<Vec<_>>()[..] else {
        return Err("a code has at least four parts, with commas between them".into());
    };
    let noise = key(noise, "noise key")?;
    let identity = key(identity, "identity")?;
    let secret = BASE64_STANDARD.decode(secret).map_err(|why| format!("the secret of the code: {why}"))?;
    let shows = |stage: &Stage| matches!(stage, Stage::Pairing(pairing) if pairing.references.iter().any(|one| one == reference));
    let (link, there) =
        world.links.iter().find(|(_, link)| shows(&link.stage)).ok_or("no client that waits shows this code")?;
    let said = matches!(&there.stage, Stage::Pairing(pairing) if pairing.identity == Some(identity));
    if there.noise_key != noise || !said {
        return Err("the code names other keys than those of the client that shows it".into());
    }
    link_device(world, *link, phone, identity, &secret)
}

/// Vouches for a client and tells it so.
pub fn link_device(
    world: &mut World,
    link: LinkId,
    phone: &str,
    identity: [u8; 32],
    secret: &[u8],
) -> Result<Who, String> {
    let id = world.id();
    let now = clock::now();
    let account = world.account(phone, None)?;
    account.last_device += 1;
    let device = account.last_device;
    let word = phone::vouch(account, device, now, &identity, secret);
    let mut told = vec![
        node("device-identity").bytes(word).build(),
        node("device")
            .attr("jid", account.device_jid(device, false))
            .attr("lid", account.device_jid(device, true))
            .build(),
        node("platform").attr("name", "android").build(),
    ];
    if let Some(name) = &account.business {
        told.push(node("biz").attr("name", name.clone()).build());
    }
    let who = Who { phone: phone.to_owned(), device };
    let Some(Stage::Pairing(pairing)) = world.links.get_mut(&link).map(|there| &mut there.stage) else {
        return Err("the client is gone".into());
    };
    pairing.references.clear();
    pairing.candidate = Some(Candidate { id: id.clone(), who: who.clone(), identity });
    let success = node("iq")
        .attr("from", SERVER)
        .attr("type", "set")
        .attr("id", id)
        .attr("xmlns", "md")
        .children([node("pair-success").attr("t", now).children(told).build()]);
    world.send(link, success.build());
    Ok(who)
}

/// The client answers something that the server asked of it while it waits: that it has the references, or its signature.
pub fn answered(world: &mut World, link: LinkId, answer: &Node) {
    let Some(there) = world.links.get_mut(&link) else { return };
    let (Stage::Pairing(pairing), noise_key) = (&mut there.stage, there.noise_key) else { return };
    let Some(candidate) = pairing.candidate.take_if(|candidate| value(answer, "id").as_deref() == Some(&candidate.id))
    else {
        return;
    };
    if value(answer, "type").as_deref() == Some("error") {
        return world.log.note(link, "the client refuses to be linked");
    }
    let signed = child(answer, "pair-device-sign").and_then(|sign| child(sign, "device-identity")).and_then(bytes);
    let Candidate { who, identity, .. } = candidate;
    let Some(account) = world.accounts.get_mut(&who.phone) else { return };
    let Some(signed) = signed.filter(|signed| phone::is_signed(account, &identity, signed)) else {
        world.log.note(link, "the client's signature is not right");
        return world.end(link);
    };
    let device =
        Device { noise_key: Some(noise_key), device_identity: Some(signed), ..Device::new(who.device, identity) };
    account.devices.insert(who.device, device);
    login::stream_error(world, link, 515);
    devices::changed(world, &who, "add");
}

fn key(text: &str, what: &str) -> Result<[u8; 32], String> {
    let bytes = BASE64_STANDARD.decode(text).map_err(|why| format!("the {what} of the code: {why}"))?;
    bytes.try_into().map_err(|bytes: Vec<u8>| format!("the {what} of the code has {} bytes", bytes.len()))
}
