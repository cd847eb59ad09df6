//! What the gateway told of guilds and channels: names, kinds, parents.
//!
//! The gateway tells all of it when a session begins, and nothing when one is taken up again: so it is in memory, and what
//! changed is kept by the call that stores what changed it ([`Record`], one for each guild). A few dozen bytes for each
//! channel, and no members, for those come with what they do.
//!
//! ```text
//! record  a guild as it is kept
//! marks   what has happened and is not over: answers on their way, who was just banned
//! ```

mod marks;
mod record;

pub use marks::Marks;
pub use record::Record;

use crate::api::{Channel, Guild, Role};
use omni_channel_sdk::ids::ChatId;
use omni_channel_sdk::prelude::*;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Channels, and roles, that are remembered; beyond that channels are fetched when something happens in them.
const CHANNELS: usize = 500_000;

/// A channel's kinds, by Discord's numbers.
pub mod kind {
    /// Between two.
    pub const DIRECT: u8 = 1;
    /// To be heard in, and to write in beside it.
    pub const VOICE: u8 = 2;
    /// Between some.
    pub const GROUP: u8 = 3;
    /// What channels are sorted into.
    pub const CATEGORY: u8 = 4;
    /// One side publishes.
    pub const ANNOUNCEMENT: u8 = 5;
    /// A thread under an announcement.
    pub const ANNOUNCEMENT_THREAD: u8 = 10;
    /// A thread that all see.
    pub const PUBLIC_THREAD: u8 = 11;
    /// A thread for those who were invited.
    pub const PRIVATE_THREAD: u8 = 12;
    /// Some are heard, others listen.
    pub const STAGE: u8 = 13;
    /// Posts with answers.
    pub const FORUM: u8 = 15;
    /// Posts with pictures.
    pub const MEDIA: u8 = 16;
}

/// Whether a kind of channel hangs off another one.
pub fn is_thread(kind: u8) -> bool {
    matches!(kind, kind::ANNOUNCEMENT_THREAD | kind::PUBLIC_THREAD | kind::PRIVATE_THREAD)
}

/// Whether a kind of channel takes nothing but posts, each a thread.
pub fn takes_posts(kind: u8) -> bool {
    matches!(kind, kind::FORUM | kind::MEDIA)
}

/// What is known of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Discord's number for its kind.
    pub kind: u8,
    /// Its name.
    pub name: Option<Box<str>>,
    /// The channel that a thread hangs off.
    pub parent: Option<u64>,
    /// The guild it is in.
    pub guild: Option<u64>,
}

/// What is in a guild.
#[derive(Debug, Default)]
struct Inside {
    /// Whether all that is in it was told.
    is_whole: bool,
    channels: BTreeSet<u64>,
    roles: BTreeSet<u64>,
}

/// What is known.
#[derive(Debug, Default)]
pub struct Names {
    channels: HashMap<u64, Place>,
    guilds: HashMap<u64, Box<str>>,
    inside: HashMap<u64, Inside>,
    /// Guilds that the bot came into, with what told of it: what could not be stored comes again, and is news again.
    came: HashMap<u64, Box<str>>,
    roles: HashMap<u64, Box<str>>,
    /// Guilds of which something else is known than what is kept.
    changed: BTreeSet<u64>,
    /// The webhook that the operator named, by which we write under other names: Discord does not say that it is ours.
    own_webhook: Option<u64>,
    /// What has happened and is not over.
    pub marks: Marks,
    /// Nobody is asked for a name before, milliseconds since 1970: the last time nobody could tell.
    pub ask_not_before: i64,
}

impl Names {
    /// A channel.
    pub fn channel(&self, id: &str) -> Option<&Place> {
        self.channels.get(&number(id)?)
    }

    /// What comes by this webhook was written by us.
    pub fn note_own_webhook(&mut self, id: &str) {
        self.own_webhook = number(id);
    }

    /// Whether what comes by a webhook was written by us.
    pub fn is_own_webhook(&self, id: &str) -> bool {
        self.own_webhook.is_some() && self.own_webhook == number(id)
    }

    /// A guild's name.
    pub fn guild(&self, id: &str) -> Option<&str> {
        self.guilds.get(&number(id)?).map(AsRef::as_ref)
    }

    /// A role's name.
    pub fn role(&self, id: &str) -> Option<&str> {
        self.roles.get(&number(id)?).map(AsRef::as_ref)
    }

    /// How many channels are remembered.
    #[cfg(test)]
    fn count(&self) -> usize {
        self.channels.len()
    }

    /// Remembers a channel; one of a guild's list does not say in which guild it is.
    pub fn note_channel(&mut self, channel: &Channel, guild: Option<&str>) {
        let Some(id) = number(&channel.id) else { return };
        let place = Place {
            kind: channel.kind,
            name: channel.name.as_deref().map(Box::from),
            parent: channel.parent_id.as_deref().filter(|_| is_thread(channel.kind)).and_then(number),
            guild: channel.guild_id.as_deref().or(guild).and_then(number),
        };
        let guild = place.guild;
        if self.put(id, place) {
            self.changed.extend(guild);
        }
    }

    /// Remembers that a channel cannot be found out about.
    pub fn note_hidden(&mut self, id: &str, guild: &str) {
        if let Some(id) = number(id) {
            self.put(id, Place { guild: number(guild), ..Place::default() });
        }
    }

    /// Whether that is another place than was known.
    fn put(&mut self, id: u64, place: Place) -> bool {
        if self.channels.len() >= CHANNELS && !self.channels.contains_key(&id) {
            return false;
        }
        if let Some(guild) = place.guild {
            self.inside.entry(guild).or_default().channels.insert(id);
        }
        let before = self.channels.insert(id, place);
        before.as_ref() != self.channels.get(&id)
    }

    /// Forgets a channel, and its threads.
    pub fn forget_channel(&mut self, id: &str) {
        let Some(id) = number(id) else { return };
        let Some(guild) = self.channels.remove(&id).and_then(|place| place.guild) else { return };
        let Some(inside) = self.inside.get_mut(&guild) else { return };
        let channels = &mut self.channels;
        inside.channels.retain(|other| {
            let goes = *other == id || channels.get(other).is_some_and(|place| place.parent == Some(id));
            if goes {
                channels.remove(other);
            }
            !goes
        });
        self.changed.insert(guild);
    }

    /// Remembers a guild with all that is in it, and nothing else in it but threads; whether it was unknown.
    pub fn note_guild(&mut self, guild: &Guild) -> bool {
        let Some(id) = number(&guild.id) else { return false };
        let is_new = !self.guilds.contains_key(&id);
        let listed: BTreeSet<u64> = guild.channels.iter().filter_map(|channel| number(&channel.id)).collect();
        if let Some(inside) = self.inside.get_mut(&id) {
            let channels = &mut self.channels;
            inside.channels.retain(|other| {
                let stays = listed.contains(other) || channels.get(other).is_some_and(|place| is_thread(place.kind));
                if !stays {
                    channels.remove(other);
                }
                stays
            });
        }
        for channel in guild.channels.iter().chain(&guild.threads) {
            if channel.kind != kind::CATEGORY {
                self.note_channel(channel, Some(&guild.id));
            }
        }
        self.note_guild_itself(guild);
        let inside = self.inside.entry(id).or_default();
        if !std::mem::replace(&mut inside.is_whole, true) {
            self.changed.insert(id);
        }
        is_new
    }

    /// Remembers what a guild is called, and its roles.
    pub fn note_guild_itself(&mut self, guild: &Guild) {
        let Some(id) = number(&guild.id) else { return };
        for role in &guild.roles {
            self.note_role(role, &guild.id);
        }
        let name: Box<str> = Box::from(guild.name.as_deref().unwrap_or_default());
        if self.guilds.insert(id, name).as_ref() != self.guilds.get(&id) {
            self.changed.insert(id);
        }
    }

    /// Remembers that there is a guild, of which nothing else is known yet.
    pub fn note_guild_id(&mut self, id: &str) {
        if let Some(id) = number(id) {
            self.guilds.entry(id).or_default();
        }
    }

    /// Whether there is a guild of which not all was told.
    pub fn is_in_part(&self, id: &str) -> bool {
        let Some(id) = number(id) else { return false };
        self.guilds.contains_key(&id) && !self.inside.get(&id).is_some_and(|inside| inside.is_whole)
    }

    /// Takes it that all of a guild is known that can be.
    pub fn note_whole(&mut self, id: &str) {
        if let Some(id) = number(id) {
            self.inside.entry(id).or_default().is_whole = true;
        }
    }

    /// Whether the bot was not in a guild before a delivery told of it.
    pub fn is_new_guild(&self, id: &str, delivery: &str) -> bool {
        let Some(id) = number(id) else { return false };
        !self.guilds.contains_key(&id) || self.came.get(&id).is_some_and(|told| **told == *delivery)
    }

    /// Remembers what told that the bot came into a guild.
    pub fn note_came(&mut self, id: &str, delivery: &str) {
        if let Some(id) = number(id) {
            self.came.insert(id, Box::from(delivery));
        }
    }

    /// The ids of the guilds, from old to new.
    pub fn guild_ids(&self) -> impl Iterator<Item = u64> + use<> {
        let mut ids: Vec<u64> = self.guilds.keys().copied().collect();
        ids.sort_unstable();
        ids.into_iter()
    }

    /// Remembers a role of a guild.
    pub fn note_role(&mut self, role: &Role, guild: &str) {
        let (Some(id), Some(guild)) = (number(&role.id), number(guild)) else { return };
        if self.roles.len() >= CHANNELS && !self.roles.contains_key(&id) {
            return;
        }
        self.inside.entry(guild).or_default().roles.insert(id);
        if self.roles.insert(id, Box::from(role.name.as_str())).as_ref() != self.roles.get(&id) {
            self.changed.insert(guild);
        }
    }

    /// Forgets a role of a guild.
    pub fn forget_role(&mut self, id: &str, guild: &str) {
        let (Some(id), Some(guild)) = (number(id), number(guild)) else { return };
        if self.roles.remove(&id).is_some() {
            self.changed.insert(guild);
        }
        if let Some(inside) = self.inside.get_mut(&guild) {
            inside.roles.remove(&id);
        }
    }

    /// Forgets a guild and all that is in it.
    pub fn forget_guild(&mut self, id: &str) {
        let Some(id) = number(id) else { return };
        self.guilds.remove(&id);
        self.came.remove(&id);
        let inside = self.inside.remove(&id).unwrap_or_default();
        for channel in inside.channels {
            self.channels.remove(&channel);
        }
        for role in inside.roles {
            self.roles.remove(&role);
        }
        self.changed.insert(id);
    }

    /// The chat that a channel is, as far as is known.
    pub fn chat(&self, id: &str, guild: Option<&str>) -> Chat {
        let Some(place) = self.channel(id) else {
            return match guild {
                Some(guild) => Chat { parent: Some(guild_chat(guild)), ..Chat::new(id, ChatKind::Group) },
                None => Chat::new(id, ChatKind::Direct),
            };
        };
        let kind = match place.kind {
            kind::DIRECT => ChatKind::Direct,
            kind if is_thread(kind) => ChatKind::Thread,
            kind::ANNOUNCEMENT => ChatKind::Channel,
            _ => ChatKind::Group,
        };
        let guild = place.guild.map(|guild| guild_chat(&guild.to_string()));
        let parent = place.parent.map(ChatId::new).or(guild);
        let name = place.name.as_deref().map(str::to_owned).filter(|_| place.kind != kind::DIRECT);
        Chat { name, parent, ..Chat::new(id, kind) }
    }

    /// The chat that stands for a guild as a whole: who comes and goes.
    pub fn guild_as_chat(&self, id: &str) -> Chat {
        let name = self.guild(id).filter(|name| !name.is_empty()).map(str::to_owned);
        Chat { name, ..Chat::new(guild_chat(id), ChatKind::Group) }
    }
}

/// The id of the chat that stands for a guild. The oldest guilds have a channel with the guild's own id, so it is marked.
pub fn guild_chat(id: &str) -> ChatId {
    ChatId::from(format!("guild:{id}"))
}

/// The guild that a chat stands for.
pub fn guild_of_chat(chat: &ChatId) -> Option<&str> {
    chat.as_str().strip_prefix("guild:")
}

fn number(id: &str) -> Option<u64> {
    id.parse().ok()
}

/// What is known, for all that run at the same time.
#[derive(Debug, Default)]
pub struct Known(Mutex<Names>);

impl From<Names> for Known {
    fn from(names: Names) -> Self {
        Self(Mutex::new(names))
    }
}

impl Known {
    /// Looks, or takes note. Never held over an `await`.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guild_is_news_until_it_is_known_by_another_delivery() {
        let mut names = Names::default();
        assert!(names.is_new_guild("100", "s1:5") && !names.is_new_guild("no id", "s1:5"));
        names.note_came("100", "s1:5");
        names.note_guild_id("100");
        assert!(names.is_new_guild("100", "s1:5"), "the same delivery again");
        assert!(!names.is_new_guild("100", "s1:9"), "it is back after an outage");
        names.forget_guild("100");
        assert!(names.is_new_guild("100", "s1:12"), "let in once more");
    }

    #[test]
    fn a_guild_is_remembered_and_forgotten_as_a_whole() {
        let guild: Guild = serde_json::from_value(json!({
            "id": "100", "name": "Home", "roles": [{"id": "7", "name": "mods"}],
            "channels": [{"id": "1", "type": 0, "name": "general"}, {"id": "2", "type": 4, "name": "sorted"}],
            "threads": [{"id": "3", "type": 11, "name": "aside", "parent_id": "1"}]
        }))
        .expect("it is read");
        let mut names = Names::default();
        names.note_guild_id("100");
        assert!(names.is_in_part("100") && !names.note_guild(&guild) && !names.is_in_part("100"));
        names.forget_guild("100");
        assert!(names.note_guild(&guild) && !names.note_guild(&guild));
        assert_eq!((names.count(), names.role("7"), names.guild("100")), (2, Some("mods"), Some("Home")));
        let general = names.chat("1", Some("100"));
        assert_eq!((general.name.as_deref(), general.parent), (Some("general"), Some(guild_chat("100"))));
        let aside = names.chat("3", None);
        assert_eq!((aside.kind, aside.parent), (ChatKind::Thread, Some(ChatId::from("1"))));
        assert_eq!(names.chat("9", None).kind, ChatKind::Direct, "what no guild has is between two");
        names.forget_channel("1");
        assert_eq!(names.count(), 0, "its threads go along");
        names.note_guild(&guild);
        names.note_channel(&Channel { id: "4".into(), name: Some("gone".into()), ..Channel::default() }, Some("100"));
        names.note_guild(&guild);
        assert_eq!(names.channel("4"), None, "what is no longer listed");
        names.forget_guild("100");
        assert_eq!((names.count(), names.guild("100"), names.role("7")), (0, None, None));
    }
}
