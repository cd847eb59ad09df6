//! What the gateway brings → events; what is learnt on the way; and the timers.
//!
//! A batch of frames is one call: its events and how far the sessions have come are stored together. A frame that cannot be
//! read is said in the log and passed over, for the next may be good; what people wrote in words that cannot be read is kept
//! as it is, as an event of an unknown kind.

use crate::Discord;
use crate::api;
use crate::client::Call;
use crate::convert::happening::{self, About};
use crate::convert::{Scene, content, interaction, message, people};
use crate::gateway::{Dispatch, Frame};
use crate::install;
use crate::interactions;
use crate::known::Names;
use omni_channel_sdk::Unknown;
use omni_channel_sdk::event::{MembershipChange, PollVote};
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;

/// How long the name of a channel may take that is not known, in milliseconds.
const NAME_MS: u64 = 5_000;

/// Takes what arrived.
pub async fn take(ctx: &Context, bot: &Discord, events: Vec<IngressEvent>) -> Result<Vec<EventOutcome>, ChannelError> {
    let mut outcomes = Vec::with_capacity(events.len());
    for event in events {
        let outcome = match event {
            IngressEvent::SocketOpen { tag } => {
                bot.gateway.opened(&tag);
                ctx.state(ConnectionState::Connecting);
                EventOutcome::default()
            }
            IngressEvent::SocketText { tag, text } => {
                frame(ctx, bot, &tag, Frame::read(&text)).await?;
                EventOutcome::default()
            }
            IngressEvent::SocketBinary { tag, bytes } => {
                frame(ctx, bot, &tag, Frame::unpack(&bytes)).await?;
                EventOutcome::default()
            }
            IngressEvent::SocketClosed { tag, code, reason } => {
                bot.gateway.closed(ctx, &tag, code, &reason)?;
                EventOutcome::default()
            }
            IngressEvent::Timer { tag } => {
                timer(ctx, bot, &tag).await?;
                EventOutcome::default()
            }
            IngressEvent::Webhook { request } => install::answered(ctx, bot, &request).await?,
            IngressEvent::PollResponse { .. } | IngressEvent::PollFailed { .. } => EventOutcome::default(),
        };
        outcomes.push(outcome);
    }
    bot.gateway.keep(ctx);
    Ok(outcomes)
}

async fn timer(ctx: &Context, bot: &Discord, tag: &str) -> Result<(), ChannelError> {
    if bot.gateway.timer(ctx, tag) {
        return Ok(());
    }
    match tag.split_once('/') {
        Some(("answer", id)) => interactions::first_word(ctx, bot, id).await,
        Some(("forget", id)) => bot.interactions.forget(ctx, id),
        None if tag == crate::login::BEGIN => {
            return Err(ChannelError::restart("it has a token now, and begins anew with it"));
        }
        _ => {}
    }
    Ok(())
}

async fn frame(ctx: &Context, bot: &Discord, tag: &str, frame: Result<Frame, String>) -> Result<(), ChannelError> {
    let frame = match frame {
        Ok(frame) => frame,
        Err(what) => {
            ctx.log(LogLevel::Warn, what);
            return Ok(());
        }
    };
    let chance = if frame.wants_chance() { ctx.random(1).await?.first().copied().unwrap_or(0) } else { 0 };
    let Some(dispatch) = bot.gateway.frame(ctx, tag, frame, chance) else { return Ok(()) };
    if matches!(dispatch.kind.as_str(), "READY" | "RESUMED") && bot.gateway.all_ready() {
        ctx.state(ConnectionState::connected(bot.profile.clone()));
    }
    take_dispatch(ctx, bot, &dispatch).await
}

/// Reads what a kind of event has to have; what cannot be read is said in the log.
fn read<T: DeserializeOwned>(ctx: &Context, dispatch: &Dispatch) -> Option<T> {
    match read_as(&dispatch.data) {
        Ok(read) => Some(read),
        Err(error) => {
            ctx.log(LogLevel::Warn, format!("a {} of the gateway cannot be read: {error}", dispatch.kind));
            None
        }
    }
}

async fn take_dispatch(ctx: &Context, bot: &Discord, dispatch: &Dispatch) -> Result<(), ChannelError> {
    let data = &dispatch.data;
    let words = |name: &str| data.get(name).and_then(Value::as_str);
    let kind = dispatch.kind.as_str();
    let guild = words("guild_id").or_else(|| words("id").filter(|_| kind.starts_with("GUILD_")));
    if !bot.config.takes_guild(guild) {
        return Ok(());
    }
    if let (Some(channel), Some(guild)) = (words("channel_id"), guild) {
        name(ctx, bot, channel, guild).await;
    }
    let is_news = guild.is_some_and(|guild| bot.known.names().is_new_guild(guild, &dispatch.key));
    match kind {
        "MESSAGE_POLL_VOTE_ADD" | "MESSAGE_POLL_VOTE_REMOVE" => return vote(ctx, bot, dispatch).await,
        "INTERACTION_CREATE" => {
            if let Some(arrived) = read::<api::Interaction>(ctx, dispatch).filter(|arrived| !arrived.id.is_empty()) {
                bot.interactions.arrived(ctx, &arrived);
            }
        }
        "GUILD_CREATE" => install::noticed(ctx, data),
        _ => {}
    }
    if is_told_first(kind) {
        emit(ctx, bot, dispatch);
        take_note(ctx, bot, dispatch);
    } else {
        take_note(ctx, bot, dispatch);
        emit(ctx, bot, dispatch);
    }
    match kind {
        "READY" => crate::servers::listed(ctx, bot, dispatch).await?,
        "GUILD_CREATE" if is_news => {
            bot.known.names().note_came(guild.unwrap_or_default(), &dispatch.key);
            crate::servers::changed(ctx, bot, dispatch.shard);
        }
        "GUILD_DELETE" if data.get("unavailable") != Some(&json!(true)) => {
            crate::servers::changed(ctx, bot, dispatch.shard);
        }
        _ => {}
    }
    if kind == "MESSAGE_UPDATE" && data.pointer("/poll/results/is_finalized") == Some(&json!(true)) {
        forget_votes(ctx, words("id").unwrap_or_default()).await?;
    }
    Ok(())
}

/// Finds out what a channel is of which nothing is known; what cannot be found out is a channel of its server.
async fn name(ctx: &Context, bot: &Discord, channel: &str, guild: &str) {
    if bot.known.names().channel(channel).is_some() {
        return;
    }
    let asked = Call::get(format!("/channels/{channel}")).within_ms(NAME_MS);
    let found = bot.client.get::<api::Channel>(ctx, &asked).await;
    let unknown = api::Channel { id: channel.to_owned(), ..api::Channel::default() };
    bot.known.names().note_channel(found.as_ref().unwrap_or(&unknown), Some(guild));
    if let Ok(api::Channel { parent_id: Some(parent), kind, .. }) = &found
        && crate::known::is_thread(*kind)
        && bot.known.names().channel(parent).is_none()
    {
        let asked = Call::get(format!("/channels/{parent}")).within_ms(NAME_MS);
        if let Ok(above) = bot.client.get::<api::Channel>(ctx, &asked).await {
            bot.known.names().note_channel(&above, Some(guild));
        }
    }
}

/// Takes note of names.
fn take_note(ctx: &Context, bot: &Discord, dispatch: &Dispatch) {
    if let Err(error) = learn(&mut bot.known.names(), &dispatch.kind, &dispatch.data) {
        ctx.log(LogLevel::Warn, format!("a {} of the gateway cannot be read: {error}", dispatch.kind));
    }
}

/// What is known by name after one thing that the gateway brought. Pure, but for the names.
pub fn learn(names: &mut Names, kind: &str, data: &Value) -> Result<(), serde_json::Error> {
    let words = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
    match kind {
        "GUILD_CREATE" | "GUILD_UPDATE" => {
            names.note_guild(&read_as::<api::Guild>(data)?);
        }
        "GUILD_DELETE" if data.get("unavailable") != Some(&json!(true)) => names.forget_guild(words("id")),
        "GUILD_ROLE_CREATE" | "GUILD_ROLE_UPDATE" => {
            let role: api::Role = read_as(data.get("role").unwrap_or(&Value::Null))?;
            names.note_role(&role.id, &role.name);
        }
        "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "THREAD_CREATE" | "THREAD_UPDATE" => {
            names.note_channel(&read_as::<api::Channel>(data)?, None);
        }
        "THREAD_LIST_SYNC" => {
            for thread in data.get("threads").and_then(Value::as_array).into_iter().flatten() {
                names.note_channel(&read_as::<api::Channel>(thread)?, data.get("guild_id").and_then(Value::as_str));
            }
        }
        "CHANNEL_DELETE" | "THREAD_DELETE" => names.forget_channel(words("id")),
        _ => {}
    }
    Ok(())
}

/// Whether something is told by what was known before it: what is gone by the name that it had; a server is news as long as
/// it is not known.
pub fn is_told_first(kind: &str) -> bool {
    kind.ends_with("_DELETE") || kind == "GUILD_CREATE"
}

fn emit(ctx: &Context, bot: &Discord, dispatch: &Dispatch) {
    let names = bot.known.names();
    let scene =
        Scene { names: &names, me: &bot.me.id, application: &bot.application, key: &dispatch.key, now: ctx.now() };
    for event in events(&dispatch.kind, &dispatch.data, scene) {
        ctx.emit(event);
    }
}

/// The events of one thing that the gateway brought. Pure; votes, which need what was voted before, are not among them.
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

/// A message changed: what it says, or how its poll stands.
fn updated(data: &Value, read: &api::Message, scene: Scene<'_>) -> Vec<Event> {
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
        "GUILD_MEMBER_REMOVE" => came_or_went(MembershipChange::Left),
        "GUILD_BAN_ADD" => came_or_went(MembershipChange::Banned),
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

fn vote_key(message: &str, user: &str) -> String {
    format!("vote/{message}/{user}")
}

/// Discord says of each answer by itself that it was chosen or no longer is; what somebody's vote is now is put together.
async fn vote(ctx: &Context, bot: &Discord, dispatch: &Dispatch) -> Result<(), ChannelError> {
    let Some(about) = read::<About>(ctx, dispatch) else { return Ok(()) };
    if about.message_id.is_empty() || about.channel_id.is_empty() {
        return Ok(());
    }
    let key = vote_key(&about.message_id, about.user_id.as_deref().unwrap_or_default());
    let kept = ctx.get(&key).await?;
    let mut chosen: Vec<String> = kept.and_then(|kept| serde_json::from_slice(&kept).ok()).unwrap_or_default();
    let answer = about.answer_id.to_string();
    chosen.retain(|other| *other != answer);
    if dispatch.kind == "MESSAGE_POLL_VOTE_ADD" {
        chosen.push(answer);
        chosen.sort_unstable();
    }
    match chosen.is_empty() {
        true => ctx.delete(key),
        false => ctx.set(key, json!(chosen).to_string()),
    }
    let names = bot.known.names();
    let scene =
        Scene { names: &names, me: &bot.me.id, application: &bot.application, key: &dispatch.key, now: ctx.now() };
    ctx.emit(happening::vote(&dispatch.data, &about, chosen, scene));
    Ok(())
}

/// A poll has ended: nobody changes a vote any more.
async fn forget_votes(ctx: &Context, message: &str) -> Result<(), ChannelError> {
    for (key, _) in ctx.scan(&format!("vote/{message}/"), None, 1_000).await? {
        ctx.delete(key);
    }
    Ok(())
}
