//! Groups: who is in one, what it is called, how it is described to a client, and who hears of a change.

use crate::accounts::{Account, Who};
use crate::clock;
use crate::devices::notification;
use crate::stanza::{Maybe as _, Node, node};
use crate::world::World;

/// What a member may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Write.
    Member,
    /// Change the group.
    Admin,
    /// It made the group, and stays an admin.
    Owner,
}

impl Role {
    /// As a client has it; members have none.
    pub fn name(self) -> Option<&'static str> {
        match self {
            Self::Member => None,
            Self::Admin => Some("admin"),
            Self::Owner => Some("superadmin"),
        }
    }
}

/// One.
pub struct Group {
    /// `…@g.us`.
    pub jid: String,
    /// Its name.
    pub subject: String,
    /// Who named it, and when.
    pub subject_by: (String, u64),
    /// Who made it, and when.
    pub created_by: (String, u64),
    /// Its text's id, the text, who wrote it, and when.
    pub description: Option<(String, String, String, u64)>,
    /// By phone number, in the order in which they came.
    pub members: Vec<(String, Role)>,
    /// Whether members are named by LID, not by number.
    pub lid: bool,
    /// By which one may join.
    pub invite: String,
    /// `announcement`, `locked` and the like, while they are on.
    pub settings: Vec<Node>,
    /// Its picture's number and file.
    pub picture: Option<(String, Vec<u8>)>,
}

impl Group {
    /// What somebody is in it.
    pub fn role(&self, phone: &str) -> Option<Role> {
        self.members.iter().find(|(member, _)| member == phone).map(|(_, role)| *role)
    }

    /// Whether somebody may change it.
    pub fn may_change(&self, phone: &str) -> bool {
        self.role(phone).is_some_and(|role| role != Role::Member)
    }

    /// Whether a setting is on.
    pub fn is(&self, setting: &str) -> bool {
        self.settings.iter().any(|there| there.tag == setting)
    }

    /// `<participant/>`, with both addresses, the group's own first.
    pub fn participant(&self, account: &Account, role: Option<Role>) -> Node {
        let other = if self.lid { "phone_number" } else { "lid" };
        node("participant")
            .attr("jid", account.jid(self.lid))
            .attr(other, account.jid(!self.lid))
            .maybe("type", role.and_then(Role::name))
            .build()
    }

    /// `<group/>`, whole.
    pub fn node(&self, world: &World) -> Node {
        let jid = |phone: &str, lid| world.accounts.get(phone).map(|account| account.jid(lid));
        let (created_by, created) = &self.created_by;
        let (subject_by, subject_at) = &self.subject_by;
        let mut content: Vec<Node> = self
            .members
            .iter()
            .filter_map(|(phone, role)| Some(self.participant(world.accounts.get(phone)?, Some(*role))))
            .collect();
        if let Some((id, text, by, at)) = &self.description {
            let body = node("body").bytes(text.clone()).build();
            let described = node("description").attr("id", id.clone()).attr("t", *at);
            content.push(described.maybe("participant", jid(by, self.lid)).children([body]).build());
        }
        content.extend(self.settings.iter().cloned());
        node("group")
            .attr("id", self.jid.trim_end_matches("@g.us"))
            .attr("subject", self.subject.clone())
            .attr("s_t", *subject_at)
            .maybe("s_o", jid(subject_by, self.lid))
            .attr("creation", *created)
            .maybe("creator", jid(created_by, self.lid))
            .maybe("creator_pn", jid(created_by, false).filter(|_| self.lid))
            .attr("addressing_mode", mode(self.lid))
            .attr("size", self.members.len())
            .children(content)
            .build()
    }
}

/// As stanzas name the kind of address.
pub fn mode(lid: bool) -> &'static str {
    if lid { "lid" } else { "pn" }
}

/// Makes a group, and lets its members know.
pub fn create(world: &mut World, by: &str, subject: &str, others: &[String], lid: bool) -> Result<String, String> {
    let now = clock::now();
    let number = world.number();
    let jid = format!("120363{number:012}@g.us");
    let mut members = vec![(by.to_owned(), Role::Owner)];
    members.extend(others.iter().filter(|other| *other != by).map(|other| (other.clone(), Role::Member)));
    if let Some((stranger, _)) = members.iter().find(|(phone, _)| !world.accounts.contains_key(phone)) {
        return Err(format!("{stranger} has no account"));
    }
    let group = Group {
        jid: jid.clone(),
        subject: subject.to_owned(),
        subject_by: (by.to_owned(), now),
        created_by: (by.to_owned(), now),
        description: None,
        members,
        lid,
        invite: format!("Invite{number:016}"),
        settings: Vec::new(),
        picture: None,
    };
    let whole = group.node(world);
    world.groups.insert(jid.clone(), group);
    announce(world, &jid, by, node("create").attr("type", "new").children([whole]).build(), &[]);
    Ok(jid)
}

/// Tells the members what somebody has changed, and those who are not members any more.
pub fn announce(world: &mut World, jid: &str, by: &str, change: Node, also: &[String]) {
    let Some(group) = world.groups.get(jid) else { return };
    let (lid, members) = (group.lid, group.members.iter().map(|(member, _)| member.clone()));
    let hear: Vec<Who> = members.chain(also.iter().cloned()).flat_map(|phone| world.devices_of(&phone)).collect();
    let Some(account) = world.accounts.get(by) else { return };
    let (participant, other, name) = (account.jid(lid), account.jid(!lid), account.name.clone());
    for who in hear {
        let id = world.id();
        let told = notification(jid.to_owned(), id, "w:gp2")
            .attr("participant", participant.clone())
            .attr(if lid { "participant_pn" } else { "participant_lid" }, other.clone())
            .attr("addressing_mode", mode(lid))
            .maybe("notify", name.clone())
            .children([change.clone()]);
        world.deliver(&who, told.build());
    }
}
