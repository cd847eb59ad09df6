//! Messages that nobody wrote: what Telegram shows in a chat when something about it changed.

use crate::api;
use crate::convert::message::sender;
use crate::convert::people::{self, Target};
use crate::convert::update::Me;
use omni_channel_sdk::content::System;
use omni_channel_sdk::event::{ChatUpdate, Membership, MembershipChange};
use omni_channel_sdk::prelude::*;

/// Fields of a message that make it a line of the network's own, beside those that we have a better event for.
const LINES: [&str; 40] = [
    "pinned_message",
    "message_auto_delete_timer_changed",
    "chat_owner_left",
    "chat_owner_changed",
    "successful_payment",
    "refunded_payment",
    "users_shared",
    "chat_shared",
    "gift",
    "unique_gift",
    "gift_upgrade_sent",
    "connected_website",
    "write_access_allowed",
    "passport_data",
    "proximity_alert_triggered",
    "boost_added",
    "chat_background_set",
    "checklist_tasks_done",
    "checklist_tasks_added",
    "direct_message_price_changed",
    "forum_topic_closed",
    "forum_topic_reopened",
    "general_forum_topic_hidden",
    "general_forum_topic_unhidden",
    "giveaway_created",
    "giveaway_completed",
    "managed_bot_created",
    "paid_message_price_changed",
    "poll_option_added",
    "poll_option_deleted",
    "suggested_post_approved",
    "suggested_post_approval_failed",
    "suggested_post_declined",
    "suggested_post_paid",
    "suggested_post_refunded",
    "video_chat_scheduled",
    "video_chat_started",
    "video_chat_ended",
    "video_chat_participants_invited",
    "web_app_data",
];

/// The event of a service message; nothing when somebody wrote it.
pub fn event(message: &api::Message, raw: &Value, chat: &Chat, at: i64, me: Me) -> Option<Event> {
    if let Some(membership) = membership(message, me) {
        return Some(Event::new(chat.clone(), at, membership));
    }
    if let Some((chat, update)) = chat_update(message, chat) {
        return Some(Event::new(chat, at, update));
    }
    let line = raw.as_object()?.keys().find(|name| LINES.contains(&name.as_str()))?;
    let system = System {
        event: line.clone(),
        text: None,
        message: message.pinned_message.as_deref().map(|pinned| MessageId::new(pinned.message_id)),
    };
    let content = Content::System(system);
    Some(Event::new(chat.clone(), at, Message::new(MessageId::new(message.message_id), sender(message, me), content)))
}

fn membership(message: &api::Message, me: Me) -> Option<Membership> {
    let by = message.from.as_ref();
    let myself = |user: &api::User| by.is_some_and(|by| by.id == user.id);
    let (users, change): (Vec<&api::User>, _) = if let Some(left) = &message.left_chat_member {
        (vec![left], if myself(left) { MembershipChange::Left } else { MembershipChange::Removed })
    } else {
        let users: Vec<&api::User> = message.new_chat_members.iter().collect();
        let first = *users.first()?;
        let alone = users.len() == 1 && myself(first);
        (users, if alone { MembershipChange::Joined } else { MembershipChange::Added })
    };
    Some(Membership {
        change,
        by: Some(sender(message, me)),
        role: None,
        is_me: users.iter().any(|user| user.id == me.id),
        users: users.into_iter().map(people::user).collect(),
    })
}

fn chat_update(message: &api::Message, chat: &Chat) -> Option<(Chat, ChatUpdate)> {
    let mut chat = chat.clone();
    let mut update = ChatUpdate::default();
    if let Some(title) = &message.new_chat_title {
        chat.name = Some(title.clone());
    } else if let Some(photo) = message.new_chat_photo.iter().max_by_key(|size| size.width) {
        chat.avatar = Some(MediaRef::new(&photo.file_id));
    } else if message.delete_chat_photo == Some(true) {
        chat.avatar = Some(MediaRef::new(""));
    } else if let Some(to) = message.migrate_to_chat_id {
        update.moved_to = Some(ChatId::new(to));
    } else if let Some(from) = message.migrate_from_chat_id {
        update.moved_from = Some(ChatId::new(from));
    } else {
        let made = [message.group_chat_created, message.supergroup_chat_created, message.channel_chat_created];
        let topic = message.forum_topic_created.is_some() || message.forum_topic_edited.is_some();
        if !topic && !made.contains(&Some(true)) {
            return None;
        }
        if topic {
            topic_chat(message, &mut chat);
        }
    }
    Some((chat, update))
}

/// The message that makes a topic is itself the topic's id, should it not say that it is in it.
fn topic_chat(message: &api::Message, chat: &mut Chat) {
    if chat.kind != ChatKind::Thread {
        let topic = message.message_thread_id.unwrap_or(message.message_id);
        let target = Target { chat: message.chat.id.to_string(), corner: people::Corner::Topic(topic) };
        chat.parent = Some(std::mem::replace(&mut chat.id, target.id()));
        chat.kind = ChatKind::Thread;
        chat.name = message.forum_topic_created.as_ref().and_then(|topic| topic.name.clone());
    }
}
