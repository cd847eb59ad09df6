//! What a bot may do in a channel: the bits, and how Discord adds them up.
//!
//! The names are Discord's, the rule is that of its documentation (topics, permissions, "permission hierarchy"): the roles'
//! bits together, then the overwrites of everybody, of the roles, of the member. Deliberately no asking here.

use crate::api::{self, Channel, Guild, Member, Overwrite, Role};
use crate::known::{is_thread, kind};
use omni_channel_sdk::capabilities::Capabilities;

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
    /// Go into a voice channel.
    CONNECT = 20;
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

/// What is left to somebody who may only look for a while.
const TIMED_OUT: u64 = VIEW_CHANNEL | READ_MESSAGE_HISTORY;
/// With none of these nothing can be changed about a chat, nor about who is in it.
const ANY_OF_GROUP: u64 = CREATE_INSTANT_INVITE
    | MANAGE_CHANNELS
    | MANAGE_MESSAGES
    | PIN_MESSAGES
    | MANAGE_THREADS
    | CREATE_PUBLIC_THREADS
    | SEND_MESSAGES_IN_THREADS;

/// Where a bot is, as far as it says what can be done there.
#[derive(Clone, Copy, Debug)]
pub struct Here<'a> {
    /// The bot's id.
    pub me: &'a str,
    /// The guild, with its roles.
    pub guild: &'a Guild,
    /// The bot in the guild.
    pub member: &'a Member,
    /// The channel or thread; a thread with the overwrites of its channel.
    pub channel: &'a Channel,
    /// The time, milliseconds since 1970.
    pub now: i64,
}

impl Here<'_> {
    /// What the bot may do there now.
    pub fn permissions(&self) -> u64 {
        let Self { me, guild, member, channel, now } = self;
        let standing = Standing { user: me, guild: &guild.id, owner: guild.owner_id.as_deref(), roles: &member.roles };
        let bits = within(&standing, &guild.roles, channel);
        // Owners and administrators are above all that.
        if bits == u64::MAX {
            return bits;
        }
        let until = member.communication_disabled_until.as_deref().and_then(api::millis);
        let bits = if until.is_some_and(|until| until > *now) { bits & TIMED_OUT } else { bits };
        let is_voice = matches!(channel.kind, kind::VOICE | kind::STAGE);
        if is_voice && bits & CONNECT == 0 { bits & VIEW_CHANNEL } else { bits }
    }

    /// Takes away what cannot be done there.
    pub fn narrow(&self, can: &mut Capabilities) {
        let permissions = self.permissions();
        let may = |bits: u64| permissions & bits == bits;
        let in_thread = is_thread(self.channel.kind);
        let write = VIEW_CHANNEL | if in_thread { SEND_MESSAGES_IN_THREADS } else { SEND_MESSAGES };
        let is_locked = self.channel.thread_metadata.as_ref().is_some_and(|thread| thread.locked);
        if !may(write) || is_locked && !may(MANAGE_THREADS) {
            can.send.clear();
            can.reply = false;
            can.requests.retain(|request, _| !matches!(request.as_str(), "typing" | "edit"));
        }
        if !may(ATTACH_FILES) {
            can.send.retain(|kind, _| matches!(kind.as_str(), "text" | "poll" | "buttons"));
            can.album_max_items = None;
        }
        if !may(SEND_POLLS) {
            can.send.remove("poll");
        }
        if !may(VIEW_CHANNEL | READ_MESSAGE_HISTORY) {
            can.reply = false;
            can.requests.retain(|request, _| !matches!(request.as_str(), "history" | "react"));
        }
        if !may(ADD_REACTIONS) {
            can.requests.remove("react");
        }
        if permissions & ANY_OF_GROUP == 0 {
            can.requests.remove("group");
        }
        narrow_files(can, self.guild.premium_tier);
    }
}

/// Takes what files may have down to what a guild's boosts allow; between two it is what one without boosts does.
pub fn narrow_files(can: &mut Capabilities, premium_tier: u8) {
    let most = match premium_tier {
        0 | 1 => 10 << 20,
        2 => 50 << 20,
        _ => 100 << 20,
    };
    for limits in can.send.values_mut() {
        limits.max_bytes = limits.max_bytes.map(|bytes| bytes.min(most));
    }
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

    fn manifest() -> Capabilities {
        let json = <crate::Discord as omni_channel_sdk::Exported>::CHANNEL_JSON;
        let manifest: omni_channel_sdk::manifest::ChannelManifest = serde_json::from_str(json).expect("it is read");
        manifest.capabilities
    }

    /// What can be done with some permissions in a guild that is boosted to the top.
    fn can(permissions: u64, member: &Member, channel: &Channel) -> Capabilities {
        let guild = Guild { id: "g".into(), roles: vec![role("g", permissions)], premium_tier: 3, ..Guild::default() };
        let mut can = manifest();
        Here { me: "me", guild: &guild, member, channel, now: 1_767_225_600_000 }.narrow(&mut can);
        can
    }

    #[test]
    fn what_is_not_allowed_is_taken_away() {
        let (member, channel) = (Member::default(), Channel::default());
        let thread = Channel { kind: kind::PUBLIC_THREAD, ..Channel::default() };
        let read_only = can(VIEW_CHANNEL | READ_MESSAGE_HISTORY, &member, &channel);
        assert!(read_only.send.is_empty() && !read_only.can("typing") && read_only.can("history"));
        assert!(!read_only.can("group"), "there is nothing that it may change");
        let words = can(VIEW_CHANNEL | SEND_MESSAGES | CREATE_PUBLIC_THREADS, &member, &channel);
        assert!(words.can_send("text") && !words.can_send("image") && !words.can("react") && !words.reply);
        assert!(words.can("group"), "it may begin a thread");
        let in_thread = can(VIEW_CHANNEL | SEND_MESSAGES, &member, &thread);
        assert!(!in_thread.can_send("text"), "a thread has a right of its own");
        let all = VIEW_CHANNEL | SEND_MESSAGES_IN_THREADS | SEND_MESSAGES | READ_MESSAGE_HISTORY;
        let locked = Channel { thread_metadata: Some(api::ThreadMetadata { locked: true }), ..thread };
        assert!(!can(all, &member, &locked).can_send("text"));
        assert!(can(all | MANAGE_THREADS, &member, &locked).can_send("text"));
        let voice = Channel { kind: kind::VOICE, ..Channel::default() };
        assert!(!can(all, &member, &voice).can_send("text") && can(all | CONNECT, &member, &voice).can_send("text"));
        assert_eq!(can(u64::MAX, &member, &channel), manifest());
    }

    #[test]
    fn whoever_may_only_look_for_a_while_does_not_write() {
        let all = VIEW_CHANNEL | SEND_MESSAGES | READ_MESSAGE_HISTORY | ADD_REACTIONS;
        let until = |time: &str| Member { communication_disabled_until: Some(time.into()), ..Member::default() };
        let now = can(all, &until("2026-01-01T00:00:01+00:00"), &Channel::default());
        assert!(now.send.is_empty() && !now.can("react") && now.can("history"));
        assert!(can(all, &until("2025-12-31T23:59:59+00:00"), &Channel::default()).can_send("text"), "it is over");
        let administrator = can(ADMINISTRATOR, &until("2026-01-01T00:00:01+00:00"), &Channel::default());
        assert!(administrator.can_send("text"));
    }

    #[test]
    fn files_are_as_large_as_the_guild_is_boosted() {
        for (tier, most) in [(0, 10 << 20), (1, 10 << 20), (2, 50 << 20), (3, 100 << 20), (9, 100 << 20)] {
            let mut can = manifest();
            narrow_files(&mut can, tier);
            let most_of = |kind: &str| can.send.get(kind).and_then(|limits| limits.max_bytes);
            assert_eq!((most_of("document"), most_of("text")), (Some(most), None));
        }
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
