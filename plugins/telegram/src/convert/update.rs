//! One update of Telegram's → one event. Never fails: what we cannot read is an event of an unknown kind, whole.

use crate::api::{self, millis};
use crate::convert::{content, message, people};
use omni_channel_sdk::Unknown;
use omni_channel_sdk::chat::Sender;
use omni_channel_sdk::event::{
    ButtonAnswer, Delete, Emoji, EmojiCount, Membership, MembershipChange, PollVote, Reaction, ReactionChange,
};
use omni_channel_sdk::lenient::nests_deeper;
use omni_channel_sdk::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::Map;

/// The account that an update came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Me {
    /// The bot's id.
    pub id: i64,
}

/// The kinds of update that we ask for: all that become an event of the host's, and those that arrive as unknown so that
/// nothing which was meant for the bot is lost.
pub const KINDS: [&str; 25] = [
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "business_connection",
    "business_message",
    "edited_business_message",
    "deleted_business_messages",
    "guest_message",
    "message_reaction",
    "message_reaction_count",
    "inline_query",
    "chosen_inline_result",
    "callback_query",
    "shipping_query",
    "pre_checkout_query",
    "purchased_paid_media",
    "poll",
    "poll_answer",
    "my_chat_member",
    "chat_member",
    "chat_join_request",
    "chat_boost",
    "removed_chat_boost",
    "managed_bot",
];

/// How deep an update may nest to be read and kept whole. Telegram's nest some ten levels; each costs stack while it is read,
/// and the host takes no event that nests deeper than 100: what it does not take would be polled again for ever.
const DEEPEST: usize = 32;

/// The number of an update, if it has a good one.
pub fn update_id(update: &Value) -> Option<i64> {
    update.get("update_id").and_then(Value::as_i64)
}

/// The event of an update. `now` (milliseconds) is the time of what Telegram gives no time for.
pub fn event(update: Value, me: Me, now: i64) -> Event {
    let kind = update.as_object().into_iter().flat_map(Map::keys).find(|name| *name != "update_id").cloned();
    let kind = kind.unwrap_or_else(|| "empty".to_owned());
    let is_whole = !nests_deeper(&update, DEEPEST);
    let read = update.get(&kind).filter(|_| is_whole).and_then(|body| known(&kind, body, me, now));
    let mut event = read.unwrap_or_else(|| Event {
        delivery_key: None,
        at: date_within(update.get(&kind)).unwrap_or(now),
        chat: chat_within(update.get(&kind)),
        body: EventBody::Unknown(Unknown {
            kind: format!("telegram.{kind}"),
            fields: if is_whole { whole(&kind, &update) } else { Map::new() },
        }),
        origin: None,
        raw: None,
    });
    event.delivery_key = update_id(&update).map(DeliveryKey::new);
    event.raw = Some(update).filter(|_| is_whole);
    event
}

/// The chat of something that we cannot read, so that it keeps its place in the chat's order. Of the chat, only plain words
/// and numbers are looked at.
fn chat_within(body: Option<&Value>) -> Option<Chat> {
    let fields = body?.get("chat")?.as_object()?.iter().filter(|(_, value)| !value.is_object() && !value.is_array());
    let plain = fields.map(|(name, value)| (name.clone(), value.clone())).collect();
    serde_json::from_value(Value::Object(plain)).ok().map(|chat| people::chat(&chat))
}

/// What we have no word for, for whoever has: under its name, for it may have any fields.
fn whole(kind: &str, update: &Value) -> Map<String, Value> {
    update.get(kind).map(|body| (kind.to_owned(), body.clone())).into_iter().collect()
}

/// When something happened that we have no word for, where it says so as other things do.
fn date_within(body: Option<&Value>) -> Option<i64> {
    let dates = ["/date", "/boost/add_date", "/remove_date"];
    dates.iter().find_map(|date| millis(body?.pointer(date)?.as_i64()))
}

fn read<T: DeserializeOwned>(body: &Value) -> Option<T> {
    serde_json::from_value(body.clone()).ok()
}

fn known(kind: &str, body: &Value, me: Me, now: i64) -> Option<Event> {
    Some(match kind {
        "message" | "channel_post" | "business_message" | "guest_message" => {
            message::new_message(&read(body)?, body, me, now)
        }
        "edited_message" | "edited_channel_post" | "edited_business_message" => {
            message::edited_message(&read(body)?, body, me, now)
        }
        "deleted_business_messages" => deleted(&read(body)?, now),
        "message_reaction" => reaction(&read(body)?, me, now)?,
        "message_reaction_count" => reaction_count(&read(body)?, now),
        "callback_query" => button(&read(body)?, me, now),
        "poll" => poll(&read(body)?, now),
        "poll_answer" => poll_answer(&read(body)?, me, now),
        "my_chat_member" | "chat_member" => membership(&read(body)?, me, now),
        "chat_join_request" => join_request(&read(body)?, now),
        _ => return None,
    })
}

fn deleted(found: &api::DeletedMessages, now: i64) -> Event {
    let mut chat = people::chat(&found.chat);
    if let Some(connection) = &found.business_connection_id {
        let corner = people::Corner::Business(connection.as_str().to_owned());
        chat.id = people::Target { chat: found.chat.id.to_string(), corner }.id();
    }
    let targets = found.message_ids.iter().map(|id| MessageRef::from(MessageId::new(id))).collect();
    Event::new(chat, now, Delete { targets, sender: None, only_for_me: false })
}

fn reaction(found: &api::ReactionUpdate, me: Me, now: i64) -> Option<Event> {
    let at = millis(found.date).unwrap_or(now);
    let reaction = Reaction {
        target: MessageRef::from(MessageId::new(found.message_id)),
        sender: Some(people::actor_or_chat(found.user.as_ref(), found.actor_chat.as_ref(), me.id)?),
        emojis: found.new_reaction.iter().map(emoji).collect(),
        revision: at,
        change: ReactionChange::Set,
        counts: Vec::new(),
    };
    Some(Event::new(people::chat(&found.chat), at, reaction))
}

fn reaction_count(found: &api::ReactionCountUpdate, now: i64) -> Event {
    let at = millis(found.date).unwrap_or(now);
    let counts = found.reactions.iter();
    let counts = counts.map(|one| EmojiCount { emoji: emoji(&one.r#type), count: one.total_count.unwrap_or(0) });
    let reaction = Reaction {
        target: MessageRef::from(MessageId::new(found.message_id)),
        sender: None,
        emojis: Vec::new(),
        revision: at,
        change: ReactionChange::Set,
        counts: counts.collect(),
    };
    Event::new(people::chat(&found.chat), at, reaction)
}

/// An emoji of a reaction. A custom one has no name here, only its id; a paid one is a star.
fn emoji(found: &api::ReactionType) -> Emoji {
    match found {
        api::ReactionType { emoji: Some(emoji), .. } => Emoji::from(emoji.as_str()),
        api::ReactionType { custom_emoji_id: Some(id), .. } => Emoji { emoji: id.clone(), custom_id: Some(id.clone()) },
        api::ReactionType { r#type, .. } => Emoji { emoji: "⭐".to_owned(), custom_id: Some(r#type.clone()) },
    }
}

fn button(found: &api::CallbackQuery, me: Me, now: i64) -> Event {
    let message = found.message.as_ref();
    let answer = ButtonAnswer {
        id: found.id.clone(),
        target: message.map(|message| MessageRef::from(MessageId::new(message.message_id))),
        sender: people::actor(&found.from, me.id),
        data: found.data.clone(),
        text: message.and_then(|message| button_text(message, found.data.as_deref()?)),
    };
    let body = EventBody::ButtonAnswer(answer);
    Event { delivery_key: None, at: now, chat: message.map(people::chat_of), body, origin: None, raw: None }
}

fn button_text(message: &api::Message, data: &str) -> Option<String> {
    let mut buttons = message.reply_markup.iter().flat_map(|keyboard| keyboard.inline_keyboard.iter().flatten());
    buttons.find(|button| button.callback_data.as_deref() == Some(data))?.text.clone()
}

fn vote(vote: PollVote, now: i64) -> Event {
    Event { delivery_key: None, at: now, chat: None, body: vote.into(), origin: None, raw: None }
}

/// Totals, or the end, of a poll.
fn poll(found: &api::Poll, now: i64) -> Event {
    let totals = content::poll(found);
    vote(
        PollVote { target: None, poll_id: totals.id.clone(), sender: None, option_ids: Vec::new(), poll: Some(totals) },
        now,
    )
}

fn poll_answer(found: &api::PollAnswer, me: Me, now: i64) -> Event {
    let sender: Option<Sender> = people::actor_or_chat(found.user.as_ref(), found.voter_chat.as_ref(), me.id);
    let option_ids = found.option_ids.iter().map(ToString::to_string).collect();
    vote(
        PollVote { target: None, poll_id: Some(found.poll_id.as_str().to_owned()), sender, option_ids, poll: None },
        now,
    )
}

fn membership(found: &api::MemberUpdate, me: Me, now: i64) -> Event {
    let user = &found.new_chat_member.user;
    let membership = Membership {
        users: vec![people::user(user)],
        change: member_change(found),
        by: Some(people::actor(&found.from, me.id)),
        role: Some(found.new_chat_member.status.clone()),
        is_me: user.id == me.id,
    };
    Event::new(people::chat(&found.chat), millis(found.date).unwrap_or(now), membership)
}

fn member_change(found: &api::MemberUpdate) -> MembershipChange {
    let (old, new) = (rank(&found.old_chat_member), rank(&found.new_chat_member));
    let by_themselves = found.from.id == found.new_chat_member.user.id
        || found.via_join_request == Some(true)
        || found.invite_link.is_some();
    match (old, new) {
        (_, BANNED) => MembershipChange::Banned,
        (BANNED, OUT) => MembershipChange::Other("unbanned".to_owned()),
        (OUT, OUT) => MembershipChange::Other("changed".to_owned()),
        (_, OUT) if by_themselves => MembershipChange::Left,
        (_, OUT) => MembershipChange::Removed,
        (OUT | BANNED, _) if by_themselves => MembershipChange::Joined,
        (OUT | BANNED, _) => MembershipChange::Added,
        (old, new) if new > old => MembershipChange::Promoted,
        (old, new) if new < old => MembershipChange::Demoted,
        _ => MembershipChange::Other("changed".to_owned()),
    }
}

const BANNED: u8 = 0;
const OUT: u8 = 1;

/// How much a member may do.
fn rank(member: &api::Member) -> u8 {
    match member.status.as_str() {
        "kicked" => BANNED,
        "left" => OUT,
        "restricted" if member.is_member == Some(false) => OUT,
        "restricted" => 2,
        "administrator" => 4,
        "creator" => 5,
        _ => 3,
    }
}

fn join_request(found: &api::JoinRequest, now: i64) -> Event {
    let membership = Membership {
        users: vec![people::user(&found.from)],
        change: MembershipChange::Requested,
        by: None,
        role: None,
        is_me: false,
    };
    Event::new(people::chat(&found.chat), millis(found.date).unwrap_or(now), membership)
}
