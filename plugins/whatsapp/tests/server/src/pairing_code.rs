//! Linking with eight characters instead of a picture. The client shows them and sends a key sealed with them; whoever
//! types them on the phone lets it open that key, and the two agree on a secret. The server passes on what it cannot open;
//! the phone's part is played here, too.

use crate::accounts::LinkId;
use crate::certificate::public;
use crate::clock;
use crate::pairing;
use crate::stanza::{Node, Refusal, SERVER, child_bytes, need, node, value};
use crate::world::World;
use wacore::crypto::hkdf_sha256_into;
use wacore::libsignal::crypto::aes_256_gcm_decrypt;
use wacore::libsignal::protocol::{KeyPair, PublicKey};
use wacore::pair_code::PairCodeUtils;

/// A client that has shown characters.
pub struct Hello {
    /// Its connection.
    pub link: LinkId,
    /// The number that it wants to be linked to.
    pub phone: String,
    reference: Vec<u8>,
    sealed: Vec<u8>,
    agreed: Option<Agreed>,
}

/// What the phone knows once the characters were typed.
struct Agreed {
    ephemeral: KeyPair,
    theirs: [u8; 32],
}

/// What typing the characters needs, and takes a while with.
pub struct Typed {
    link: LinkId,
    sealed: Vec<u8>,
    code: String,
}

/// What comes of it.
pub struct Opened {
    link: LinkId,
    ephemeral: KeyPair,
    theirs: [u8; 32],
    answer: [u8; 80],
}

/// `<link_code_companion_reg/>`, in both of its stages. What the second leads to is [`answered`].
pub fn request(world: &mut World, link: LinkId, asked: &Node) -> Result<Vec<Node>, Refusal> {
    match need(asked, "stage")?.as_str() {
        "companion_hello" => hello(world, link, asked),
        "companion_finish" => Ok(Vec::new()),
        _ => Err(Refusal::BAD_REQUEST),
    }
}

/// A stage was answered. With the second the phone has what it needs to link the client.
pub fn answered(world: &mut World, link: LinkId, asked: &Node) {
    if value(asked, "stage").as_deref() == Some("companion_finish")
        && let Err(why) = finish(world, link, asked)
    {
        world.log.note(link, format!("the phone cannot link: {why}"));
    }
}

fn hello(world: &mut World, link: LinkId, asked: &Node) -> Result<Vec<Node>, Refusal> {
    let jid = crate::stanza::address(asked, "jid").ok_or(Refusal::BAD_REQUEST)?;
    let sealed = child_bytes(asked, "link_code_pairing_wrapped_companion_ephemeral_pub").ok_or(Refusal::BAD_REQUEST)?;
    let reference = format!("ref-{}", world.number()).into_bytes();
    world.hellos.retain(|hello| hello.link != link);
    let phone = jid.user.to_string();
    world.hellos.push(Hello { link, phone, reference: reference.clone(), sealed, agreed: None });
    let answer =
        node("link_code_companion_reg")
            .attr("stage", "companion_hello")
            .children([node("link_code_pairing_ref").bytes(reference).build()]);
    Ok(vec![answer.build()])
}

/// The characters were typed on the phone with this number. The rest is [`Typed::open`] and [`opened`].
pub fn typed(world: &World, phone: &str, code: &str) -> Result<Typed, String> {
    let hello = world.hellos.iter().rev().find(|hello| hello.phone == phone);
    let hello = hello.ok_or_else(|| format!("no client waits to be linked to {phone}"))?;
    Ok(Typed { link: hello.link, sealed: hello.sealed.clone(), code: code.replace('-', "").to_uppercase() })
}

impl Typed {
    /// Opens the client's key. This computes for a good part of a second, so it is not done while others wait.
    pub fn open(self) -> Result<Opened, String> {
        let theirs =
            PairCodeUtils::decrypt_primary_ephemeral_pub(&self.sealed, &self.code).map_err(|why| why.to_string())?;
        let ephemeral = KeyPair::generate(&mut rand::rng());
        let answer = PairCodeUtils::encrypt_ephemeral_pub(&public(&ephemeral), &self.code);
        Ok(Opened { link: self.link, ephemeral, theirs, answer })
    }
}

/// Tells the client the phone's key.
pub fn opened(world: &mut World, opened: Opened) -> Result<(), String> {
    let id = world.id();
    let Opened { link, ephemeral, theirs, answer } = opened;
    let gone = || "the client is gone".to_owned();
    let hello = world.hellos.iter_mut().find(|hello| hello.link == link).ok_or_else(gone)?;
    hello.agreed = Some(Agreed { ephemeral, theirs });
    let (phone, reference) = (hello.phone.clone(), hello.reference.clone());
    let identity = public(&world.account(&phone, None)?.identity);
    let told = node("link_code_companion_reg").attr("stage", "primary_hello").children([
        node("link_code_pairing_wrapped_primary_ephemeral_pub").bytes(answer).build(),
        node("primary_identity_pub").bytes(identity).build(),
        node("link_code_pairing_ref").bytes(reference).build(),
    ]);
    let notification = node("notification")
        .attr("from", SERVER)
        .attr("id", id)
        .attr("t", clock::now())
        .attr("type", "link_code_companion_reg")
        .children([told.build()]);
    world.send(link, notification.build());
    Ok(())
}

fn finish(world: &mut World, link: LinkId, asked: &Node) -> Result<(), String> {
    let part = |tag: &str| child_bytes(asked, tag).ok_or_else(|| format!("<{tag}/> is missing"));
    let (bundle, identity) = (part("link_code_pairing_wrapped_key_bundle")?, part("companion_identity_public")?);
    let reference = part("link_code_pairing_ref")?;
    let place = world.hellos.iter().position(|hello| hello.link == link && hello.reference == reference);
    let hello = world.hellos.remove(place.ok_or("the reference is not known")?);
    let agreed = hello.agreed.ok_or("nobody has typed the characters yet")?;
    let identity: [u8; 32] = identity.try_into().map_err(|_| "an identity of another length".to_owned())?;
    let shared = agree(&agreed.ephemeral, &agreed.theirs)?;
    let random = open_bundle(&bundle, &shared, &identity)?;
    let ours = &world.account(&hello.phone, None)?.identity;
    let identities = agree(ours, &identity)?;
    let mut secret = [0; 32];
    hkdf_sha256_into(&[shared.as_slice(), &identities, &random].concat(), None, b"adv_secret", &mut secret)
        .map_err(|why| why.to_string())?;
    pairing::link_device(world, link, &hello.phone, identity, &secret)?;
    Ok(())
}

/// The client's random part. That it opens at all says that the characters were right.
fn open_bundle(bundle: &[u8], shared: &[u8; 32], identity: &[u8; 32]) -> Result<Vec<u8>, String> {
    let (Some(salt), Some(iv), Some(sealed)) = (bundle.get(..32), bundle.get(32..44), bundle.get(44..)) else {
        return Err(format!("a bundle of {} bytes", bundle.len()));
    };
    let mut key = [0; 32];
    hkdf_sha256_into(shared, Some(salt), b"link_code_pairing_key_bundle_encryption_key", &mut key)
        .map_err(|why| why.to_string())?;
    let iv = iv.try_into().map_err(|_| "an iv of another length".to_owned())?;
    let mut plain = Vec::new();
    aes_256_gcm_decrypt(&key, iv, b"", sealed, &mut plain).map_err(|_| "other characters were typed".to_owned())?;
    match (plain.get(..32), plain.get(64..96)) {
        (Some(said), Some(random)) if said == identity => Ok(random.to_vec()),
        _ => Err("the bundle names another identity".into()),
    }
}

fn agree(ours: &KeyPair, theirs: &[u8; 32]) -> Result<[u8; 32], String> {
    let theirs = PublicKey::from_djb_public_key_bytes(theirs).map_err(|why| why.to_string())?;
    ours.calculate_agreement(&theirs).map_err(|why| why.to_string())
}
