//! What is known of a guild, as it is kept over a restart.
//!
//! It is written when something of it changed, by the call that also stores how far the gateway's session has come: a session
//! that is taken up again tells what changed since. Channels without a name are not kept, they are asked for again.

use super::{Names, Place, is_thread};
use omni_channel_sdk::prelude::*;
use serde::Serialize;

/// Threads of one guild that are kept, the newest; there may be many more than channels.
const THREADS: usize = 1_000;

/// A guild.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its channels and threads.
    pub channels: Vec<Channel>,
    /// Its roles: ids and names.
    pub roles: Vec<(u64, String)>,
}

/// A channel or a thread of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    id: u64,
    kind: u8,
    name: String,
    /// What a thread hangs off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<u64>,
}

impl Names {
    /// The guilds of which something else is to be kept than before; nothing of one that the bot is not in any more. One of
    /// which not all is known is not kept.
    pub fn take_changed(&mut self) -> Vec<(u64, Option<Record>)> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter_map(|guild| Some((guild, self.record(guild)?))).collect()
    }

    fn record(&self, guild: u64) -> Option<Option<Record>> {
        let Some(name) = self.guilds.get(&guild) else { return Some(None) };
        let inside = self.inside.get(&guild).filter(|inside| inside.is_whole)?;
        let mut threads = 0;
        let newest_first = inside.channels.iter().rev();
        let named = newest_first.filter_map(|id| {
            let place = self.channels.get(id)?;
            threads += usize::from(is_thread(place.kind));
            let is_kept = !is_thread(place.kind) || threads <= THREADS;
            let name = place.name.as_deref().filter(|_| is_kept)?;
            Some(Channel { id: *id, kind: place.kind, name: name.to_owned(), parent: place.parent })
        });
        let roles = inside.roles.iter().filter_map(|id| Some((*id, self.roles.get(id)?.to_string())));
        Some(Some(Record { name: name.to_string(), channels: named.collect(), roles: roles.collect() }))
    }

    /// Takes up what was kept of a guild that the bot is in; whether it is in it.
    pub fn recall(&mut self, guild: &str, record: Record) -> bool {
        let Some(id) = guild.parse().ok().filter(|id| self.guilds.contains_key(id)) else { return false };
        let inside = self.inside.entry(id).or_default();
        inside.is_whole = true;
        for channel in record.channels {
            let Channel { id: channel, kind, name, parent } = channel;
            inside.channels.insert(channel);
            self.channels.insert(channel, Place { kind, name: Some(name.into()), parent, guild: Some(id) });
        }
        for (role, name) in record.roles {
            inside.roles.insert(role);
            self.roles.insert(role, name.into());
        }
        self.guilds.insert(id, record.name.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api;

    fn home() -> api::Guild {
        serde_json::from_value(json!({
            "id": "100", "name": "Home", "roles": [{"id": "7", "name": "mods"}],
            "channels": [{"id": "1", "type": 0, "name": "general"}, {"id": "2", "type": 4, "name": "sorted"}],
            "threads": [{"id": "3", "type": 11, "name": "aside", "parent_id": "1"}]
        }))
        .expect("it is read")
    }

    #[test]
    fn what_is_kept_is_known_again() {
        let mut names = Names::default();
        names.note_guild(&home());
        let mut kept = names.take_changed();
        assert_eq!(names.take_changed(), [], "it is kept once");
        let Some((100, Some(record))) = kept.pop() else { panic!("nothing is kept: {kept:?}") };
        let mut anew = Names::default();
        assert!(!anew.recall("100", record.clone()), "the bot is not in it");
        anew.note_guild_id("100");
        assert!(anew.recall("100", record) && !anew.is_in_part("100"));
        assert_eq!((anew.guild("100"), anew.role("7")), (Some("Home"), Some("mods")));
        for channel in ["1", "2", "3"] {
            assert_eq!(anew.channel(channel), names.channel(channel));
        }
        assert_eq!(anew.take_changed(), [], "it is as it is kept");
    }

    #[test]
    fn only_what_changes_is_kept_anew() {
        let mut names = Names::default();
        names.note_guild(&home());
        names.take_changed();
        names.note_guild(&home());
        names.note_hidden("9", "100");
        assert_eq!(names.take_changed(), [], "nothing is known that has a name");
        let renamed = api::Channel { id: "1".into(), name: Some("lobby".into()), ..api::Channel::default() };
        names.note_channel(&renamed, Some("100"));
        assert!(matches!(&names.take_changed()[..], [(100, Some(record))] if record.channels.len() == 2));
        names.forget_role("7", "100");
        assert!(matches!(&names.take_changed()[..], [(100, Some(record))] if record.roles.is_empty()));
        names.forget_guild("100");
        assert_eq!(names.take_changed(), [(100, None)]);
        names.note_guild_id("100");
        names.note_channel(&renamed, Some("100"));
        assert_eq!(names.take_changed(), [], "a guild of which one channel is known is not known");
    }

    #[test]
    fn of_many_threads_the_newest_are_kept() {
        let mut names = Names::default();
        names.note_guild(&home());
        for id in 10..2_000_u64 {
            let (id, name) = (id.to_string(), Some(format!("thread {id}")));
            names.note_channel(&api::Channel { id, name, kind: 11, ..api::Channel::default() }, Some("100"));
        }
        let kept = names.take_changed();
        let Some((_, Some(record))) = kept.first() else { panic!("nothing is kept") };
        assert_eq!(record.channels.len(), THREADS + 1);
        assert_eq!(record.channels.first().map(|newest| newest.id), Some(1_999));
        assert!(record.channels.iter().any(|channel| channel.id == 1), "channels are kept, however old they are");
    }
}
