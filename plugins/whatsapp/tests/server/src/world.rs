//! Everything that the server knows, and the two ways in which a stanza leaves it: at once, or kept until the device has
//! said that it has it.

use crate::accounts::{Account, Device, LinkId, Who};
use crate::connection::Outgoing;
use crate::groups::Group;
use crate::log::Log;
use crate::media::Files;
use crate::pairing::Pairing;
use crate::pairing_code::Hello;
use crate::passkey::Ceremony;
use crate::presence;
use crate::stanza::{self, Node};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use tokio::sync::mpsc::UnboundedSender;
use wacore_binary::{Jid, Server};

/// All of it.
pub struct World {
    /// By phone number.
    pub accounts: BTreeMap<String, Account>,
    /// By address.
    pub groups: BTreeMap<String, Group>,
    /// Open connections.
    pub links: BTreeMap<LinkId, Link>,
    /// Who has written to whom, both ways: they hear of each other's devices.
    pub acquainted: BTreeSet<(String, String)>,
    /// Uploaded files.
    pub files: Files,
    /// Clients that show characters to be typed on a phone.
    pub hellos: Vec<Hello>,
    /// A client that is asked for a passkey.
    pub ceremony: Option<Ceremony>,
    /// What tests let go wrong.
    pub faults: Faults,
    /// What was said.
    pub log: Log,
    /// Where this server is.
    pub address: SocketAddr,
    lids: BTreeMap<String, String>,
    counter: u64,
}

/// An open connection.
pub struct Link {
    sender: UnboundedSender<Outgoing>,
    /// The key that its client has.
    pub noise_key: [u8; 32],
    /// How far it is.
    pub stage: Stage,
}

/// What a connection is for.
pub enum Stage {
    /// Its client wants to be linked to an account.
    Pairing(Box<Pairing>),
    /// It is a device.
    LoggedIn(Who),
    /// It was told to go.
    Ended,
}

/// What goes wrong next.
#[derive(Default)]
pub struct Faults {
    /// Messages are refused with these codes, one each.
    pub refused_messages: VecDeque<u16>,
    /// Logins are refused with these reasons, one each.
    pub refused_logins: VecDeque<u16>,
}

impl World {
    /// Empty.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            accounts: BTreeMap::new(),
            groups: BTreeMap::new(),
            links: BTreeMap::new(),
            acquainted: BTreeSet::new(),
            files: Files::default(),
            hellos: Vec::new(),
            ceremony: None,
            faults: Faults::default(),
            log: Log::new(),
            address,
            lids: BTreeMap::new(),
            counter: 0,
        }
    }

    /// Never the same twice.
    pub fn number(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// The id of a stanza that the server begins.
    pub fn id(&mut self) -> String {
        format!("srv-{}", self.number())
    }

    /// The account with this number, made when it is new. A LID that is not given is made up, and never one in use.
    pub fn account(&mut self, phone: &str, lid: Option<&str>) -> Result<&mut Account, String> {
        if phone.is_empty() || !phone.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err(format!("{phone:?} is not a phone number in digits"));
        }
        if let Some(there) = self.accounts.get(phone) {
            if lid.is_some_and(|lid| lid != there.lid) {
                return Err(format!("{phone} has the LID {}", there.lid));
            }
        } else {
            let lid = match lid {
                Some(lid) => lid.to_owned(),
                None => (100_000_000_000_000 + self.number()).to_string(),
            };
            if self.lids.insert(lid.clone(), phone.to_owned()).is_some() {
                return Err(format!("the LID {lid} is another account's"));
            }
            self.accounts.insert(phone.to_owned(), Account::new(phone, &lid));
        }
        Ok(self.accounts.get_mut(phone).expect("it is there, or was just made"))
    }

    /// The account that an address names, by number or by LID.
    pub fn named(&self, jid: &Jid) -> Option<&Account> {
        let phone = match jid.server {
            Server::Lid => self.lids.get(jid.user.as_str())?,
            Server::Pn => jid.user.as_str(),
            _ => return None,
        };
        self.accounts.get(phone)
    }

    /// The device that an address names, when there is one.
    pub fn who(&self, jid: &Jid) -> Option<Who> {
        let account = self.named(jid)?;
        account.devices.contains_key(&jid.device).then(|| Who { phone: account.phone.clone(), device: jid.device })
    }

    /// The device of a connection.
    pub fn of_link(&self, link: LinkId) -> Option<Who> {
        match &self.links.get(&link)?.stage {
            Stage::LoggedIn(who) => Some(who.clone()),
            _ => None,
        }
    }

    /// A device.
    pub fn device(&mut self, who: &Who) -> Option<&mut Device> {
        self.accounts.get_mut(&who.phone)?.devices.get_mut(&who.device)
    }

    /// Every device of an account.
    pub fn devices_of(&self, phone: &str) -> Vec<Who> {
        let devices = self.accounts.get(phone).into_iter().flat_map(|account| account.devices.keys());
        devices.map(|device| Who { phone: phone.to_owned(), device: *device }).collect()
    }

    /// Begins a connection.
    pub fn connect(&mut self, sender: UnboundedSender<Outgoing>, noise_key: [u8; 32]) -> LinkId {
        let id = self.number();
        self.links.insert(id, Link { sender, noise_key, stage: Stage::Ended });
        id
    }

    /// Sends at once, to a connection that is open, and forgets.
    pub fn send(&mut self, link: LinkId, node: Node) {
        let who = self.of_link(link).map(|who| who.to_string());
        if let Some(there) = self.links.get(&link) {
            self.log.stanza("sent", link, who, &node);
            // A connection that has just ended takes nothing, which is what a network does.
            let _ = there.sender.send(Outgoing::Node(node));
        }
    }

    /// Ends a connection, after everything that was sent.
    pub fn end(&mut self, link: LinkId) {
        if let Some(there) = self.links.get(&link) {
            let _ = there.sender.send(Outgoing::Close);
        }
        self.leave(link);
    }

    /// What a connection was for is over: its device can connect anew, and what comes of it still is nobody's.
    fn leave(&mut self, link: LinkId) {
        let who = self.of_link(link);
        if let Some(there) = self.links.get_mut(&link) {
            there.stage = Stage::Ended;
        }
        if let Some(who) = who
            && let Some(device) = self.device(&who)
            && device.link == Some(link)
        {
            device.link = None;
            presence::change(self, &who, false);
        }
    }

    /// Lets a connection end as if the network had failed.
    pub fn cut(&mut self, link: LinkId) {
        if let Some(there) = self.links.get(&link) {
            let _ = there.sender.send(Outgoing::Cut);
        }
    }

    /// Sends to a device if it is connected, and forgets.
    pub fn tell(&mut self, who: &Who, node: Node) {
        if let Some(device) = self.device(who)
            && let Some(link) = device.link
            && !device.held
        {
            self.send(link, node);
        }
    }

    /// Keeps for a device until it acknowledges, and sends if it is connected.
    pub fn deliver(&mut self, who: &Who, node: Node) {
        let Some(device) = self.device(who) else { return };
        device.history.push(node.clone());
        if device.only_takes() {
            return self.log.stanza("swallowed", 0, Some(who.to_string()), &node);
        }
        device.queue.push(node.clone());
        self.tell(who, node);
    }

    /// A device has what it acknowledges.
    pub fn acknowledged(&mut self, who: &Who, class: &str, id: &str) {
        if let Some(device) = self.device(who) {
            device.queue.retain(|node| node.tag != class || stanza::value(node, "id").as_deref() != Some(id));
        }
    }
}
