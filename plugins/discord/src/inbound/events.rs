//! What the gateway brings → events, pure; votes, which need what was voted before, are not among them.

use crate::api;
use crate::convert::happening::{self, About};
use crate::convert::{Scene, content, interaction, message, people};
use omni_channel_sdk::Unknown;
use omni_channel_sdk::event::{MembershipChange, PollVote};
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;

/// Whether something is told by what was known before it: what is gone by the name that it had; a server is news as long as
/// it is not known, and an answer as long as it is awaited.
pub fn is_told_first(kind: &str) -> bool {
    kind.ends_with("_DELETE") || matches!(kind, "GUILD_CREATE" | "MESSAGE_UPDATE")
}

/// The events of one thing that the gateway brought.
pub fn events(kind: &str, data: &Value, scene: Scene<'_>) -> Vec<Event> {
    let known: Result<Vec<Event>, serde_json::Error> = match kind {
        "MESSAGE_CREATE" => {
            read_named(data, &["id", "channel_id"]).map(|read: api::Message| message::written(data, &read, scene))
        }
        "MESSAGE_UPDATE" => {
            read_named(data, &["id", "channel_id"]).map(|read: api::Message| updated(data, &read, scene))
        }
        "MESSAGE_DELETE" | "MESSAGE_DELETE_BULK" => read_named(data, &["channel_id"]).map(|read: Gone| {
            let ids: Vec<String> = read.id.into_iter().chain(read.ids).filter(|id| !id.is_empty()).collect();
            message::deleted(data, &ids, &read.channel_id, read.guild_id.as_deref(), scene).into_iter().collect()
        }),
        "MESSAGE_REACTION_ADD"
        | "MESSAGE_REACTION_REMOVE"
        | "MESSAGE_REACTION_REMOVE_ALL"
        | "MESSAGE_REACTION_REMOVE_EMOJI" => read_named(data, &["message_id", "channel_id"])
            .map(|read: About| happening::reaction(data, &read, kind, scene).into_iter().collect()),
        "INTERACTION_CREATE" => {
            read_named(data, &["id"]).map(|read: api::Interaction| interaction::events(data, &read, scene))
        }
        "TYPING_START" => read_named(data, &["channel_id", "user_id"])
            .map(|read: About| happening::typing(&read, scene).into_iter().collect()),
        "PRESENCE_UPDATE" => Ok(happening::presence(data, scene).into_iter().collect()),
        _ => Ok(around(kind, data, scene)),
    };
    // What people said is not lost because it cannot be read.
    known.unwrap_or_else(|_| match kind {
        "MESSAGE_CREATE" | "MESSAGE_UPDATE" | "INTERACTION_CREATE" if data.get("id").is_some() => {
            vec![unread(kind, data, scene)]
        }
        _ => Vec::new(),
    })
}

/// Takes an event's data for what it is; without the ids that every host needs it cannot be read.
fn read_named<T: DeserializeOwned>(data: &Value, ids: &[&str]) -> Result<T, serde_json::Error> {
    match ids.iter().find(|id| data.get(**id).and_then(Value::as_str).unwrap_or_default().is_empty()) {
        Some(missing) => Err(serde::de::Error::custom(format!("{missing} is missing"))),
        None => read_as(data),
    }
}

fn read_as<T: DeserializeOwned>(data: &Value) -> Result<T, serde_json::Error> {
    T::deserialize(data)
}

/// Messages that are gone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Gone {
    id: Option<String>,
    ids: Vec<String>,
    channel_id: String,
    guild_id: Option<String>,
}

fn unread(kind: &str, data: &Value, scene: Scene<'_>) -> Event {
    let chat = data.get("channel_id").and_then(Value::as_str).filter(|chat| !chat.is_empty());
    let chat = chat.map(|chat| scene.names.chat(chat, data.get("guild_id").and_then(Value::as_str)));
    let body = EventBody::Unknown(Unknown { kind: format!("discord.{kind}"), fields: serde_json::Map::new() });
    let event = Event {
        delivery_key: None,
        at: scene.now,
        chat,
        body,
        origin: None,
        raw: Some(interaction::without_token(data)),
    };
    event.delivered_as(scene.key)
}

/// A message changed: what it says, or how its poll stands; or it is there at last, which stood for an answer on its way.
fn updated(data: &Value, read: &api::Message, scene: Scene<'_>) -> Vec<Event> {
    if scene.names.marks.is_awaited(&read.id, scene.key) {
        return message::written(data, read, scene);
    }
    let mut events: Vec<Event> = message::edited(data, read, scene).into_iter().collect();
    if let Some(poll) = read.poll.as_ref().filter(|poll| poll.results.is_some()) {
        let vote = PollVote {
            target: Some(MessageRef::from(read.id.as_str())),
            poll_id: None,
            sender: None,
            option_ids: Vec::new(),
            poll: Some(content::poll(poll)),
        };
        let chat = scene.names.chat(&read.channel_id, read.guild_id.as_deref());
        events.push(Event::new(chat, scene.now, vote).delivered_as(format!("{}/poll", scene.key)));
    }
    events
}

/// What happens to servers, channels and members.
fn around(kind: &str, data: &Value, scene: Scene<'_>) -> Vec<Event> {
    let words = |name: &str| data.get(name).and_then(Value::as_str).filter(|words| !words.is_empty());
    let guild = words("guild_id");
    let changed = |deleted: bool| {
        let channel: api::Channel = read_as(data).ok()?;
        (channel.kind != crate::known::kind::CATEGORY && !channel.id.is_empty())
            .then(|| happening::chat_changed(data, &channel, guild, deleted, scene))
    };
    let came_or_went = |change: MembershipChange| {
        let member = read_as::<api::Member>(data).ok()?;
        happening::membership(data, guild?, people::member(&member).into_iter().collect(), change, scene)
    };
    let me = || vec![User::new(scene.me)];
    let event = match kind {
        "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_UPDATE" => changed(false),
        // It is also said when the bot is let into one.
        "THREAD_CREATE" => changed(false),
        "CHANNEL_DELETE" | "THREAD_DELETE" => changed(true),
        "GUILD_UPDATE" => {
            read_named(data, &["id"]).ok().map(|guild: api::Guild| happening::guild_changed(data, &guild, scene))
        }
        "GUILD_MEMBER_ADD" => came_or_went(MembershipChange::Joined),
        "GUILD_MEMBER_REMOVE" => {
            let user = data.pointer("/user/id").and_then(Value::as_str).unwrap_or_default();
            // Of somebody who was banned it is told twice that they are gone.
            let is_told = scene.names.marks.is_banned(guild.unwrap_or_default(), user);
            (!is_told).then(|| came_or_went(MembershipChange::Left)).flatten()
        }
        "GUILD_MEMBER_UPDATE" => {
            let member = read_as::<api::Member>(data).ok();
            member.as_ref().and_then(people::member).map(|user| happening::member_changed(data, user, scene))
        }
        "GUILD_BAN_ADD" => came_or_went(MembershipChange::Banned),
        "GUILD_BAN_REMOVE" => came_or_went(MembershipChange::from("unbanned")),
        // Every start of a session lists all servers; only one that the bot was not in before is news.
        "GUILD_CREATE" => {
            let guild = words("id").filter(|guild| scene.names.is_new_guild(guild, scene.key));
            let small = json!({"id": words("id"), "name": words("name"), "joined_at": words("joined_at")});
            guild.and_then(|guild| {
                let mut event = happening::membership(&small, guild, me(), MembershipChange::Joined, scene)?;
                event.chat.as_mut()?.name = words("name").map(str::to_owned);
                Some(event)
            })
        }
        // One that cannot be reached for a while is not gone.
        "GUILD_DELETE" if data.get("unavailable") != Some(&json!(true)) => {
            words("id").and_then(|guild| happening::membership(data, guild, me(), MembershipChange::Removed, scene))
        }
        _ => None,
    };
    event.into_iter().collect()
}
