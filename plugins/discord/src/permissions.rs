//! What a bot may do in a channel: the bits, and how Discord adds them up.
//!
//! The names are Discord's, the rule is that of its documentation (topics, permissions, "permission hierarchy"): the roles'
//! bits together, then the overwrites of everybody, of the roles, of the member. Deliberately no asking here.

use crate::api::{Channel, Overwrite, Role};

macro_rules! bits {
    ($($(#[$meta:meta])* $name:ident = $bit:literal;)*) => {$($(#[$meta])* pub const $name: u64 = 1 << $bit;)*};
}

bits! {
    /// Ban members for good.
    BAN_MEMBERS = 2;
    /// Send members away.
    KICK_MEMBERS = 1;
    /// Make invite links.
    CREATE_INSTANT_INVITE = 0;
    /// Everything.
    ADMINISTRATOR = 3;
    /// Change channels.
    MANAGE_CHANNELS = 4;
    /// React to messages.
    ADD_REACTIONS = 6;
    /// See the channel at all.
    VIEW_CHANNEL = 10;
    /// Write.
    SEND_MESSAGES = 11;
    /// Delete and pin the messages of others.
    MANAGE_MESSAGES = 13;
    /// Have links unfold, and send embeds.
    EMBED_LINKS = 14;
    /// Send files.
    ATTACH_FILES = 15;
    /// Read what was written before.
    READ_MESSAGE_HISTORY = 16;
    /// Use emoji of other guilds.
    USE_EXTERNAL_EMOJIS = 18;
    /// Make and use webhooks.
    MANAGE_WEBHOOKS = 29;
    /// Change and delete threads.
    MANAGE_THREADS = 34;
    /// Make threads that all see.
    CREATE_PUBLIC_THREADS = 35;
    /// Write in threads.
    SEND_MESSAGES_IN_THREADS = 38;
    /// Send voice messages.
    SEND_VOICE_MESSAGES = 46;
    /// Send polls.
    SEND_POLLS = 49;
    /// Pin messages.
    PIN_MESSAGES = 51;
}

/// A member as far as permissions go.
#[derive(Clone, Debug, Default)]
pub struct Standing<'a> {
    /// Their id.
    pub user: &'a str,
    /// The guild's id, which is also the id of everybody's role.
    pub guild: &'a str,
    /// The guild's owner.
    pub owner: Option<&'a str>,
    /// The ids of their roles, without everybody's.
    pub roles: &'a [String],
}

/// What a member may do in a channel.
pub fn within(standing: &Standing<'_>, roles: &[Role], channel: &Channel) -> u64 {
    if standing.owner == Some(standing.user) {
        return u64::MAX;
    }
    let has = |role: &str| role == standing.guild || standing.roles.iter().any(|theirs| theirs == role);
    let base = roles.iter().filter(|role| has(&role.id)).fold(0, |all, role| all | bits(&role.permissions));
    if base & ADMINISTRATOR != 0 {
        return u64::MAX;
    }
    let overwrites = &channel.permission_overwrites;
    let everybody = overwrites.iter().find(|overwrite| overwrite.id == standing.guild);
    let with_everybody = everybody.map_or(base, |overwrite| apply(base, overwrite));
    let theirs = |overwrite: &&Overwrite| overwrite.id != standing.guild && overwrite.kind == 0 && has(&overwrite.id);
    let (allow, deny) = overwrites
        .iter()
        .filter(theirs)
        .fold((0, 0), |(allow, deny), overwrite| (allow | bits(&overwrite.allow), deny | bits(&overwrite.deny)));
    let with_roles = (with_everybody & !deny) | allow;
    let own = overwrites.iter().find(|overwrite| overwrite.kind == 1 && overwrite.id == standing.user);
    own.map_or(with_roles, |overwrite| apply(with_roles, overwrite))
}

fn apply(base: u64, overwrite: &Overwrite) -> u64 {
    (base & !bits(&overwrite.deny)) | bits(&overwrite.allow)
}

fn bits(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(id: &str, permissions: u64) -> Role {
        Role { id: id.into(), name: id.into(), permissions: permissions.to_string() }
    }

    fn overwrite(id: &str, kind: u8, allow: u64, deny: u64) -> Overwrite {
        Overwrite { id: id.into(), kind, allow: allow.to_string(), deny: deny.to_string() }
    }

    #[test]
    fn overwrites_are_added_in_discords_order() {
        let theirs = ["r1".to_owned(), "r2".to_owned()];
        let standing = Standing { user: "me", guild: "g", owner: Some("boss"), roles: &theirs };
        let roles = [role("g", VIEW_CHANNEL | SEND_MESSAGES), role("r1", ATTACH_FILES), role("r3", EMBED_LINKS)];
        let within = |overwrites: Vec<Overwrite>| {
            within(&standing, &roles, &Channel { permission_overwrites: overwrites, ..Channel::default() })
        };
        assert_eq!(within(vec![]), VIEW_CHANNEL | SEND_MESSAGES | ATTACH_FILES);
        assert_eq!(within(vec![overwrite("g", 0, 0, SEND_MESSAGES)]), VIEW_CHANNEL | ATTACH_FILES);
        let roles_disagree = vec![overwrite("r1", 0, 0, SEND_MESSAGES), overwrite("r2", 0, SEND_MESSAGES, 0)];
        assert_eq!(
            within(roles_disagree),
            VIEW_CHANNEL | SEND_MESSAGES | ATTACH_FILES,
            "what one role allows is allowed"
        );
        let member_last = vec![overwrite("me", 1, 0, VIEW_CHANNEL), overwrite("r1", 0, VIEW_CHANNEL, 0)];
        assert_eq!(within(member_last), SEND_MESSAGES | ATTACH_FILES);
        assert_eq!(within(vec![overwrite("r3", 0, EMBED_LINKS, 0)]), VIEW_CHANNEL | SEND_MESSAGES | ATTACH_FILES);
    }

    #[test]
    fn owners_and_administrators_may_do_everything() {
        let deny = Channel { permission_overwrites: vec![overwrite("g", 0, 0, u64::MAX)], ..Channel::default() };
        let owner = Standing { user: "me", guild: "g", owner: Some("me"), roles: &[] };
        assert_eq!(within(&owner, &[role("g", 0)], &deny), u64::MAX);
        let member = Standing { owner: None, ..owner };
        assert_eq!(within(&member, &[role("g", ADMINISTRATOR)], &deny), u64::MAX);
    }
}
