//! Chats and accounts change, members come and go, calls ring, and what is not known yet is kept.

use super::cache::Cache;
use super::content;
use super::work::{Scene, Work};
use crate::store::chats::{self, Participation};
use crate::store::entry::{Entry, event_type};
use crate::store::{Result, Time, Tx};
use omni_channel_sdk::Unknown;
use omni_channel_sdk::chat::{Chat, ChatKind};
use omni_channel_sdk::event::{Call, ChatUpdate, Event, EventBody, Membership, MembershipChange, UserUpdate};
use serde_json::json;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use uuid::Uuid;

/// What sort of chat it is; one that is only named as a parent has members.
pub(super) fn kind(chat: Option<&Chat>) -> ChatKind {
    chat.map_or(ChatKind::Group, |chat| chat.kind.clone())
}

/// Makes chats one of which an event says that they are: `also_known_as`, `moved_to`, `moved_from`.
pub(super) async fn join(
    tx: &mut Tx,
    cache: &mut Cache,
    entry: &Entry,
    event: &Event,
    instances: &HashMap<Uuid, Arc<str>>,
    now: Time,
) -> Result<()> {
    let Some(chat) = &event.chat else { return Ok(()) };
    let instance = entry.instance_id;
    let (to, from) = match &event.body {
        EventBody::ChatUpdate(update) => (update.moved_to.as_ref(), update.moved_from.as_ref()),
        _ => (None, None),
    };
    let alias = chat.also_known_as.as_ref();
    if to.is_none() && from.is_none() && alias.is_none() {
        return Ok(());
    }
    cache.forget_chats();
    let id = chat.id.as_str();
    let moves = to.map(|to| (id, to.as_str())).into_iter().chain(from.map(|from| (from.as_str(), id)));
    for (from, to) in moves {
        if !chats::moved(tx, instance, from, to, now).await? {
            let new = chats::NewChat {
                id: tx.new_id(now),
                instance_id: instance,
                external_id: to,
                chat_type: content::chat_type(&chat.kind),
                channel: instances.get(&instance).map_or_else(|| Arc::from(""), Arc::clone),
            };
            let uuid = new.id;
            chats::insert(tx, &[new], now).await?;
            chats::map_moved(tx, instance, from, uuid, now).await?;
        }
    }
    if let Some(other) = alias {
        let known = chats::find(tx, &[(instance, id), (instance, other.as_str())]).await?;
        let find = |wanted: &str| known.iter().find(|known| known.external_id == wanted).map(|known| known.id);
        match (find(id), find(other.as_str())) {
            (Some(one), Some(two)) if one != two => {
                // The one that was made first is kept: ids rise with time.
                chats::merge(tx, instance, one.min(two), one.max(two), now).await?;
            }
            (Some(_), Some(_)) => {}
            (Some(one), None) => chats::map(tx, instance, other.as_str(), one, now).await?,
            (None, Some(two)) => chats::map(tx, instance, id, two, now).await?,
            (None, None) => {
                let new = chats::NewChat {
                    id: tx.new_id(now),
                    instance_id: instance,
                    external_id: id,
                    chat_type: content::chat_type(&chat.kind),
                    channel: instances.get(&instance).map_or_else(|| Arc::from(""), Arc::clone),
                };
                let uuid = new.id;
                chats::insert(tx, &[new], now).await?;
                chats::map(tx, instance, other.as_str(), uuid, now).await?;
            }
        }
    }
    Ok(())
}

/// Whether somebody is in the chat after a change; `None` when it says nothing about that.
fn active(change: &MembershipChange) -> Option<bool> {
    match change {
        MembershipChange::Joined | MembershipChange::Added | MembershipChange::Promoted | MembershipChange::Demoted => {
            Some(true)
        }
        MembershipChange::Left | MembershipChange::Removed | MembershipChange::Banned => Some(false),
        MembershipChange::Requested | MembershipChange::Other(_) => None,
    }
}

impl<'a> Work<'a> {
    /// What an event says about its chat is news when it is not what was said last.
    pub(super) fn chat_news(&mut self, index: usize, chat: &'a Chat) {
        let mut hasher = DefaultHasher::new();
        (&chat.name, &chat.description, &chat.parent, &chat.participants, chat.kind.as_str()).hash(&mut hasher);
        let seen = hasher.finish() | 1;
        if self.chats[index].seen == seen {
            return;
        }
        let parent = chat.parent.as_ref();
        let parent = parent.and_then(|id| self.chat_of.get(&(self.chats[index].instance_id, id.as_str())));
        let parent = parent.map(|parent| self.chats[*parent].change.id);
        let work = &mut self.chats[index];
        work.seen = seen;
        work.touched = true;
        let change = &mut work.change;
        change.name = chat.name.as_deref().or(change.name);
        change.description = chat.description.as_deref().or(change.description);
        change.parent = parent.filter(|parent| *parent != change.id).or(change.parent);
        let participants = chat.participants.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        change.participants = participants.or(change.participants);
        if !matches!(chat.kind, ChatKind::Other(_)) {
            change.chat_type = Some(content::chat_type(&chat.kind));
        }
    }

    pub(super) fn chat_update(&mut self, scene: Scene<'a>, update: &'a ChatUpdate) {
        let (Some(index), Some(chat)) = (scene.chat, &scene.event.chat) else { return };
        let work = &mut self.chats[index];
        work.touched = true;
        work.change.deleted = Some(update.deleted);
        let payload = json!({
            "chatId": chat.id,
            "chatUuid": work.change.id,
            "name": chat.name,
            "description": chat.description,
            "movedTo": update.moved_to,
            "movedFrom": update.moved_from,
            "deleted": update.deleted,
        });
        let event = self.domain_event(scene, "system.chat_updated", payload.to_string());
        self.events.push(event);
    }

    pub(super) fn membership(&mut self, scene: Scene<'a>, membership: &'a Membership) {
        let (Some(chat), Some(named)) = (scene.chat, &scene.event.chat) else { return };
        let chat_id = self.chats[chat].change.id;
        for user in &membership.users {
            let (identity, person) = match self.user(scene.entry.instance_id, user) {
                Some(user) => (Some(user.id), user.person_id),
                None => (None, None),
            };
            let Some(active) = active(&membership.change) else { continue };
            let seat = self.participants.entry((chat, user.id.as_str())).or_insert_with(|| Participation {
                chat_id,
                platform_user_id: user.id.as_str(),
                platform_identity_id: identity,
                person_id: person,
                display_name: None,
                role: None,
                active,
                joined_at: None,
                left_at: None,
                seen_at: None,
                messages: 0,
            });
            seat.display_name = user.name.as_deref().or(seat.display_name);
            seat.role = membership.role.as_deref().or(seat.role);
            seat.active = active;
            match membership.change {
                MembershipChange::Joined | MembershipChange::Added => {
                    seat.joined_at = Some(scene.at);
                    seat.left_at = None;
                }
                _ if !active => seat.left_at = Some(scene.at),
                _ => {}
            }
        }
        let payload = json!({
            "chatId": named.id,
            "chatUuid": chat_id,
            "users": membership.users,
            "change": membership.change.as_str(),
            "by": membership.by.as_ref().map(|by| &by.user.id),
            "role": membership.role,
            "isMe": membership.is_me,
        });
        let first = membership.users.first().and_then(|user| self.user(scene.entry.instance_id, user));
        let who = first.map(|user| (user.id, user.person_id));
        let mut event = self.domain_event(scene, "system.membership", payload.to_string());
        event.platform_identity_id = who.map(|(id, _)| id);
        event.person_id = who.and_then(|(_, person)| person);
        self.events.push(event);
    }

    pub(super) fn user_update(&mut self, scene: Scene<'a>, update: &'a UserUpdate) {
        let known = self.user(scene.entry.instance_id, &update.user).map(|user| (user.id, user.person_id));
        let payload = json!({ "user": update.user, "platformIdentityId": known.map(|(id, _)| id) });
        let mut event = self.domain_event(scene, "system.user_updated", payload.to_string());
        event.platform_identity_id = known.map(|(id, _)| id);
        event.person_id = known.and_then(|(_, person)| person);
        self.events.push(event);
    }

    pub(super) fn call(&mut self, scene: Scene<'a>, call: &'a Call) {
        let payload = json!({
            "callId": call.id,
            "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
            "from": call.sender.user.id,
            "state": call.state,
            "video": call.video,
            "at": scene.at.millis(),
        });
        let event = self.domain_event(scene, "system.call", payload.to_string());
        let event = self.signed(event, Some(&call.sender));
        self.events.push(event);
    }

    /// A kind that this version does not know: kept whole, under the channel's name.
    pub(super) fn unknown(&mut self, scene: Scene<'a>, unknown: &'a Unknown) {
        let channel = self.channel(scene.entry.instance_id);
        let word = event_type(&scene.event.body);
        let name = format!("custom.{channel}.{}", word.trim_start_matches("custom."));
        let payload = json!({
            "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
            "kind": unknown.kind,
            "fields": unknown.fields,
            "at": scene.at.millis(),
        });
        let event = self.domain_event(scene, name, payload.to_string());
        self.events.push(event);
    }
}
