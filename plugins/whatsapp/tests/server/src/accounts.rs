//! Accounts and their devices. An account has two addresses, its phone number and its LID, and any number of devices, of
//! which device 0 is the phone.

use crate::certificate::public;
use crate::clock;
use crate::phone;
use crate::stanza::{Node, SERVER, node};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use wacore::libsignal::protocol::KeyPair;

/// Which connection.
pub type LinkId = u64;

/// A device of an account.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The account's phone number.
    pub phone: String,
    /// 0 is the phone itself.
    pub device: u16,
}

impl std::fmt::Display for Who {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:{}", self.phone, self.device)
    }
}

/// One person's.
pub struct Account {
    /// The number.
    pub phone: String,
    /// The other address, which does not tell the number.
    pub lid: String,
    /// What others see it called, once a device has said.
    pub name: Option<String>,
    /// The name of a business, told to a device when it is paired.
    pub business: Option<String>,
    /// The phone's, by which it vouches for its devices.
    pub identity: KeyPair,
    /// Names this set of devices.
    pub raw_id: u32,
    /// By number.
    pub devices: BTreeMap<u16, Device>,
    /// The last number given away.
    pub last_device: u16,
    /// What its devices share of settings, by collection; the server cannot read them.
    pub collections: BTreeMap<String, Vec<Vec<u8>>>,
    /// Whom it does not want to hear.
    pub blocked: BTreeSet<String>,
    /// Who may see what.
    pub privacy: BTreeMap<String, String>,
    /// A line about itself.
    pub about: Option<String>,
    /// Its picture's number and file.
    pub picture: Option<(String, Vec<u8>)>,
    /// Whose devices want to know whether it is there.
    pub watchers: BTreeSet<Who>,
}

impl Account {
    /// With a phone that takes messages and says nothing.
    pub fn new(phone: &str, lid: &str) -> Self {
        let identity = KeyPair::generate(&mut rand::rng());
        let device = Device { keys: Some(phone::keys(&identity)), ..Device::new(0, public(&identity)) };
        Self {
            phone: phone.to_owned(),
            lid: lid.to_owned(),
            name: None,
            business: None,
            identity,
            raw_id: rand::random(),
            devices: BTreeMap::from([(0, device)]),
            last_device: 0,
            collections: BTreeMap::new(),
            blocked: BTreeSet::new(),
            privacy: BTreeMap::new(),
            about: None,
            picture: None,
            watchers: BTreeSet::new(),
        }
    }

    /// The address of one of its devices, as a LID or as a number.
    pub fn device_jid(&self, device: u16, lid: bool) -> String {
        let (user, server) = if lid { (&self.lid, "lid") } else { (&self.phone, SERVER) };
        if device == 0 { format!("{user}@{server}") } else { format!("{user}:{device}@{server}") }
    }

    /// Its address.
    pub fn jid(&self, lid: bool) -> String {
        self.device_jid(0, lid)
    }

    /// `<device/>` for each, as lists of devices have them.
    pub fn device_list(&self) -> Vec<Node> {
        let device = |(id, device): (&u16, &Device)| {
            let listed = node("device").attr("id", *id);
            if *id == 0 { listed.build() } else { listed.attr("key-index", device.key_index).build() }
        };
        self.devices.iter().map(device).collect()
    }

    /// The phone's word about which devices are its own.
    pub fn key_index_list(&self) -> Node {
        let now = clock::now();
        node("key-index-list").attr("ts", now).bytes(phone::key_index_list(self, now)).build()
    }

    /// Stands for the set of devices; changes with it.
    pub fn device_hash(&self) -> String {
        use base64::prelude::{BASE64_STANDARD, Engine as _};
        use sha2::{Digest as _, Sha256};
        let all: Vec<_> = self.devices.keys().map(|id| self.device_jid(*id, false)).collect();
        format!("2:{}", BASE64_STANDARD.encode(&Sha256::digest(all.concat())[..6]))
    }
}

/// A device.
pub struct Device {
    /// Its number in the phone's list.
    pub key_index: u16,
    /// By which it logs in; none for a phone that only takes messages.
    pub noise_key: Option<[u8; 32]>,
    /// By which others encrypt for it.
    pub identity: [u8; 32],
    /// The phone's word for it, signed by both.
    pub device_identity: Option<Vec<u8>>,
    /// What others begin a conversation with.
    pub keys: Option<Keys>,
    /// Its connection, once it is logged in.
    pub link: Option<LinkId>,
    /// What it has not acknowledged, in order.
    pub queue: Vec<Node>,
    /// Nothing is sent to it for now.
    pub held: bool,
    /// What was queued, ever.
    pub history: Vec<Node>,
    /// It says that somebody is looking.
    pub available: bool,
}

impl Device {
    /// That has not logged in yet.
    pub fn new(key_index: u16, identity: [u8; 32]) -> Self {
        Self {
            key_index,
            noise_key: None,
            identity,
            device_identity: None,
            keys: None,
            link: None,
            queue: Vec::new(),
            held: false,
            history: Vec::new(),
            available: false,
        }
    }

    /// Whether it is a phone that no client plays.
    pub fn only_takes(&self) -> bool {
        self.noise_key.is_none()
    }
}

/// The public halves that a device leaves with the server. Numbers are as they came: three or four bytes.
pub struct Keys {
    /// The installation.
    pub registration: Vec<u8>,
    /// Used when the others are used up.
    pub signed: SignedKey,
    /// For one conversation each.
    pub one_time: VecDeque<(Vec<u8>, Vec<u8>)>,
}

/// A key that the identity has signed.
pub struct SignedKey {
    /// Its number.
    pub id: Vec<u8>,
    /// The public half.
    pub value: Vec<u8>,
    /// Over it.
    pub signature: Vec<u8>,
}

impl SignedKey {
    /// `<skey/>`.
    pub fn node(&self) -> Node {
        node("skey")
            .children([
                node("id").bytes(self.id.clone()).build(),
                node("value").bytes(self.value.clone()).build(),
                node("signature").bytes(self.signature.clone()).build(),
            ])
            .build()
    }
}
