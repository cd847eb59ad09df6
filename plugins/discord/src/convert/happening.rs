//! What happens beside messages: reactions, votes, typing, who is online, members, changes of chats.

use crate::api;
use crate::convert::{Scene, people};
use crate::known::is_thread;
use omni_channel_sdk::event::{
    Activity, ChatUpdate, Emoji, Membership, MembershipChange, PollVote, Presence, PresenceState, Reaction,
    ReactionChange, Typing, UserUpdate,
};
use omni_channel_sdk::prelude::*;

/// How long Discord shows that somebody is writing, in milliseconds.
const TYPING_MS: u64 = 10_000;

/// Something about a message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the fields have Discord's own names")]
pub struct About {
    #[serde(deserialize_with = "api::maybe_id")]
    pub user_id: Option<String>,
    pub channel_id: String,
    pub message_id: String,
    #[serde(deserialize_with = "api::maybe_id")]
    pub guild_id: Option<String>,
    pub member: Option<api::Member>,
    pub emoji: Option<api::Emoji>,
    pub answer_id: u64,
}

impl About {
    /// Who did it, as far as it says.
    fn sender(&self, scene: Scene<'_>) -> Option<Sender> {
        let id = self.user_id.as_deref()?;
        let bare = api::User { id: id.to_owned(), ..api::User::default() };
        let user = self.member.as_ref().and_then(|member| member.user.as_ref()).unwrap_or(&bare);
        Some(people::sender(user, self.member.as_ref(), scene.me))
    }

    fn event(&self, raw: &Value, scene: Scene<'_>, body: impl Into<EventBody>) -> Event {
        let chat = scene.names.chat(&self.channel_id, self.guild_id.as_deref());
        let mut event = Event::new(chat, scene.now, body).delivered_as(scene.key);
        event.raw = Some(raw.clone());
        event
    }
}

/// An emoji of Discord's.
pub fn emoji(emoji: &api::Emoji) -> Emoji {
    Emoji { emoji: emoji.name.clone().unwrap_or_default(), custom_id: emoji.id.clone() }
}

/// A reaction was given or taken back, by one person or all at once; nothing where it is not said by whom, or which.
pub fn reaction(raw: &Value, about: &About, kind: &str, scene: Scene<'_>) -> Option<Event> {
    let by_one = matches!(kind, "MESSAGE_REACTION_ADD" | "MESSAGE_REACTION_REMOVE");
    let names_one = about.emoji.as_ref().is_some_and(|emoji| emoji.id.is_some() || emoji.name.is_some());
    if by_one && about.user_id.is_none() || kind != "MESSAGE_REACTION_REMOVE_ALL" && !names_one {
        return None;
    }
    let change = match kind {
        "MESSAGE_REACTION_ADD" => ReactionChange::Add,
        "MESSAGE_REACTION_REMOVE_ALL" => ReactionChange::Set,
        _ => ReactionChange::Remove,
    };
    let reaction = Reaction {
        target: MessageRef::from(about.message_id.as_str()),
        sender: about.sender(scene),
        emojis: about.emoji.iter().map(emoji).collect(),
        revision: scene.now,
        change,
        counts: Vec::new(),
    };
    Some(about.event(raw, scene, reaction))
}

/// What somebody's vote is now.
pub fn vote(raw: &Value, about: &About, option_ids: Vec<String>, scene: Scene<'_>) -> Event {
    let vote = PollVote {
        target: Some(MessageRef::from(about.message_id.as_str())),
        poll_id: None,
        sender: about.sender(scene),
        option_ids,
        poll: None,
    };
    about.event(raw, scene, vote)
}

/// Somebody is writing; not the bot itself.
pub fn typing(about: &About, scene: Scene<'_>) -> Option<Event> {
    let sender = about.sender(scene).filter(|sender| !sender.is_from_me)?;
    let typing = Typing { sender, activity: Activity::Typing, timeout_ms: Some(TYPING_MS) };
    let chat = scene.names.chat(&about.channel_id, about.guild_id.as_deref());
    Some(Event::new(chat, scene.now, typing).delivered_as(scene.key))
}

/// Somebody came or went.
pub fn presence(data: &Value, scene: Scene<'_>) -> Option<Event> {
    let id = data.pointer("/user/id")?.as_str().filter(|id| !id.is_empty())?;
    let state = match data.get("status")?.as_str()? {
        "online" => PresenceState::Online,
        "idle" => PresenceState::Away,
        "dnd" => PresenceState::Busy,
        _ => PresenceState::Offline,
    };
    let presence = Presence { user: User::new(id), state, last_seen: None };
    let event = Event { delivery_key: None, at: scene.now, chat: None, body: presence.into(), origin: None, raw: None };
    Some(event.delivered_as(scene.key))
}

/// Somebody came into a guild, or went.
pub fn membership(
    raw: &Value,
    guild: &str,
    users: Vec<User>,
    change: MembershipChange,
    scene: Scene<'_>,
) -> Option<Event> {
    let is_me = users.iter().any(|user| user.id.as_str() == scene.me);
    if users.is_empty() {
        return None;
    }
    let membership = Membership { users, change, by: None, role: None, is_me };
    let mut event = Event::new(scene.names.guild_as_chat(guild), scene.now, membership).delivered_as(scene.key);
    event.raw = Some(raw.clone());
    Some(event)
}

/// A member has another name, picture or other roles. What it was before is not said, so what of it is new is not, either.
pub fn member_changed(raw: &Value, user: User, scene: Scene<'_>) -> Event {
    let body = UserUpdate { user }.into();
    let event = Event { delivery_key: None, at: scene.now, chat: None, body, origin: None, raw: Some(raw.clone()) };
    event.delivered_as(scene.key)
}

/// A channel or a thread was made or changed, or is gone. What it is now is already known by name.
pub fn chat_changed(
    raw: &Value,
    channel: &api::Channel,
    guild: Option<&str>,
    deleted: bool,
    scene: Scene<'_>,
) -> Event {
    let mut chat = scene.names.chat(&channel.id, guild.or(channel.guild_id.as_deref()));
    if deleted {
        // It is no longer known; what was said of it at last is what it was.
        let parent = channel.parent_id.as_deref().filter(|_| is_thread(channel.kind)).map(ChatId::from);
        chat.name = channel.name.clone().or(chat.name);
        chat.kind = if parent.is_some() { ChatKind::Thread } else { chat.kind };
        chat.parent = parent.or(chat.parent);
    }
    chat.description.clone_from(&channel.topic);
    chat.participants = channel.member_count;
    let update = ChatUpdate { deleted, ..ChatUpdate::default() };
    let mut event = Event::new(chat, scene.now, update).delivered_as(scene.key);
    event.raw = Some(raw.clone());
    event
}

/// A guild changed.
pub fn guild_changed(raw: &Value, guild: &api::Guild, scene: Scene<'_>) -> Event {
    let mut chat = scene.names.guild_as_chat(&guild.id);
    chat.name = guild.name.clone().or(chat.name);
    chat.description.clone_from(&guild.description);
    chat.participants = guild.member_count.or(guild.approximate_member_count);
    let mut event = Event::new(chat, scene.now, ChatUpdate::default()).delivered_as(scene.key);
    event.raw = Some(raw.clone());
    event
}
