//! A message comes in, or our own comes back.
//!
//! Our own is known by the id under which we sent it, or by the network's. Where neither is known, because the host died
//! with the send under way and its network cannot tell, it is known by its words: the first message of ours with the same
//! words that is shown in that chat while the outcome is looked for is the oldest such send. Should that be what somebody
//! typed on the phone at that moment, and the send be lost, then one message is stored as the network has one, and only
//! who wrote it is mistaken; were it not taken for the send, every send that did arrive would be stored twice, as failed and
//! as sent, and be sent again by whoever believes that. Files are known by their captions alone, so without one they stay
//! two.

use super::content::{self, json};
use super::early::Said;
use super::work::{Scene, Work, client_id};
use crate::store::chats::Participation;
use crate::store::entry::Origin;
use crate::store::events::NewDomainEvent;
use crate::store::ledger::Account;
use crate::store::media::NewMedia;
use crate::store::messages::MessageRow;
use crate::store::{Time, Tx};
use omni_channel_sdk::chat::{MessageRef, Sender};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{EventBody, Message};
use serde::Serialize;
use std::borrow::Cow;
use uuid::Uuid;

/// Omni v2's payload of `message.received` and `message.sent`, with our ids beside the network's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payload<'a> {
    pub external_id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub part: &'a str,
    pub chat_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_name: Option<&'a str>,
    pub content: PayloadContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to_id: Option<&'a str>,
    pub message_id: Uuid,
    pub chat_uuid: Uuid,
    pub timestamp: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PayloadContent<'a> {
    #[serde(rename = "type")]
    pub kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_url: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mime_type: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub is_voice_note: bool,
}

impl<'a> PayloadContent<'a> {
    pub fn of(content: &'a Content) -> Self {
        let media = content.media();
        Self {
            kind: content::message_type(content),
            text: content::text(content),
            media_url: media.and_then(|media| media.url.as_deref()),
            mime_type: media.and_then(|media| media.mime_type.as_deref()),
            is_voice_note: media.is_some_and(|media| media.voice),
        }
    }
}

impl<'a> Work<'a> {
    /// A domain event about what a scene shows, with nothing of a message yet.
    pub(super) fn domain_event(
        &self,
        scene: Scene<'a>,
        event_type: impl Into<Cow<'static, str>>,
        payload: String,
    ) -> NewDomainEvent<'a> {
        let entry = scene.entry;
        NewDomainEvent {
            channel: self.channel(entry.instance_id),
            instance_id: entry.instance_id,
            chat_id: scene.event.chat.as_ref().map(|chat| Cow::Borrowed(chat.id.as_str())),
            chat_uuid: scene.chat.map(|index| self.chats[index].change.id),
            raw_payload: entry.raw().map(Cow::Borrowed),
            trace: entry.trace.as_deref().map(Cow::Borrowed),
            ..NewDomainEvent::new(entry.event_id, event_type, "inbound", payload, entry.accepted_at)
        }
    }

    /// Says who did it, when they are known.
    pub(super) fn signed(&self, mut event: NewDomainEvent<'a>, sender: Option<&Sender>) -> NewDomainEvent<'a> {
        if let Some(user) = sender.and_then(|sender| self.user(event.instance_id, &sender.user)) {
            event.person_id = user.person_id;
            event.platform_identity_id = Some(user.id);
        }
        if sender.is_some_and(|sender| sender.is_from_me) {
            event.direction = "outbound";
        }
        event
    }

    pub(super) fn message(&mut self, tx: &Tx, scene: Scene<'a>, message: &'a Message) {
        let Some(chat) = scene.chat else { return };
        let chat_id = self.chats[chat].change.id;
        if message.sender.is_from_me
            && let Some(index) = client_id(message).and_then(|id| self.sent(scene.entry.instance_id, id))
        {
            return self.join_echo(tx, scene, chat, index, message);
        }
        let part = message.message.part.as_ref().map_or("", |part| part.as_str());
        let same = self.parts(chat_id, message.message.id.as_str());
        if let Some(index) = same.iter().copied().find(|index| self.messages[*index].row.part == part) {
            if message.sender.is_from_me {
                self.join_echo(tx, scene, chat, index, message);
            }
            return self.complete(tx, scene, chat, index, message);
        }
        if message.sender.is_from_me
            && client_id(message).is_none()
            && let Some(index) = self.sent_with(scene, message)
        {
            return self.join_echo(tx, scene, chat, index, message);
        }
        let row = self.new_row(tx, scene, chat_id, &message.message, Some(&message.sender), &message.content);
        let row = self.with_surroundings(row, message, chat_id);
        self.wait_for_answered(chat, message, &row, scene.at);
        self.store_new(tx, scene, chat, row, &message.content, Some(&message.sender), true);
    }

    /// An answer to what is not stored is led to it when it comes.
    pub(super) fn wait_for_answered(&mut self, chat: usize, message: &Message, row: &MessageRow, at: Time) {
        let Some(reply) = message.reply_to.as_ref().filter(|reply| reply.chat.is_none()) else { return };
        if row.reply_to_message_id.is_none() {
            self.wait(chat, Said::Answered { target: reply.message.clone(), by: row.id }, None, at);
        }
    }

    /// What we sent came back: the row that we wrote when we sent it is the message.
    fn join_echo(&mut self, tx: &Tx, scene: Scene<'a>, chat: usize, index: usize, message: &'a Message) {
        let (id, part) = (message.message.id.as_str(), message.message.part.as_ref().map_or("", |part| part.as_str()));
        let chat_id = self.messages[index].row.chat_id;
        // When another row has that id already, the one who settles the send makes them one.
        let taken = self.parts(chat_id, id).iter().any(|other| *other != index);
        let work = &mut self.messages[index];
        if work.row.external_id.is_none() && !taken {
            work.row.external_id = Some(id.to_owned());
            work.row.part = part.to_owned();
            work.row.platform_timestamp = scene.at;
            (work.changed, work.completed) = (true, true);
            self.index_message(index);
        }
        let row = &mut self.messages[index].row;
        if matches!(row.delivery_status.as_deref(), Some("pending" | "failed")) {
            row.delivery_status = Some("sent".to_owned());
            row.error = None;
            row.latest_event_id = Some(scene.entry.event_id);
            self.messages[index].changed = true;
        }
        if self.chats[chat].marks.status_of(scene.at).is_none() {
            return;
        }
        let mut row = self.messages[index].row.clone();
        // Its time is the network's here; the row's may be ours.
        if let Some(event) = self.marked(tx, scene, chat, &mut row, scene.at) {
            let work = &mut self.messages[index];
            (work.row, work.changed) = (row, true);
            self.events.push(event);
        }
    }

    /// A row for a message that is not stored yet.
    pub(super) fn new_row(
        &self,
        tx: &Tx,
        scene: Scene<'a>,
        chat_id: Uuid,
        target: &MessageRef,
        sender: Option<&Sender>,
        content: &Content,
    ) -> MessageRow {
        let user = sender.and_then(|sender| self.user(scene.entry.instance_id, &sender.user));
        let is_from_me = sender.is_some_and(|sender| sender.is_from_me);
        let media = content.media();
        MessageRow {
            id: tx.new_id(self.now),
            chat_id,
            external_id: Some(target.id.as_str().to_owned()),
            part: target.part.as_ref().map_or_else(String::new, |part| part.as_str().to_owned()),
            client_id: None,
            source: scene.entry.origin().source().to_owned(),
            sender_person_id: user.and_then(|user| user.person_id),
            sender_platform_identity_id: user.map(|user| user.id),
            sender_platform_user_id: sender.map(|sender| sender.user.id.as_str().to_owned()),
            sender_display_name: sender.and_then(|sender| sender.user.name.clone()),
            is_from_me,
            message_type: content::message_type(content).to_owned(),
            text_content: content::text(content).map(str::to_owned),
            content: json(content),
            has_media: media.is_some(),
            media_mime_type: media.and_then(|media| media.mime_type.clone()),
            media_url: media.and_then(|media| media.url.clone()),
            media_metadata: media.map(content::media_metadata),
            reply_to_message_id: None,
            reply_to_external_id: None,
            quoted_text: None,
            quoted_sender_name: None,
            forwarded_from_external_id: None,
            forward_count: 0,
            is_forwarded: false,
            album: None,
            mentions: content::mentions(content),
            status: "active".to_owned(),
            delivery_status: is_from_me.then(|| "sent".to_owned()),
            error: None,
            edit_count: 0,
            original_text: None,
            edit_history: None,
            revision: 0,
            edited_at: None,
            deleted_at: None,
            reactions: None,
            reaction_counts: None,
            reaction_revisions: None,
            poll_id: poll_id(content),
            poll_votes: None,
            original_event_id: Some(scene.entry.event_id),
            latest_event_id: Some(scene.entry.event_id),
            platform_timestamp: scene.at,
            received_at: scene.entry.accepted_at,
        }
    }

    /// What a message answers, where it comes from, what it belongs to.
    pub(super) fn with_surroundings(&self, mut row: MessageRow, message: &'a Message, chat_id: Uuid) -> MessageRow {
        if let Some(reply) = &message.reply_to {
            row.reply_to_external_id = Some(reply.message.id.as_str().to_owned());
            // What was erased does not come back as a quotation.
            if !self.answers_erased(chat_id, message) {
                row.quoted_text.clone_from(&reply.quoted_text);
                row.quoted_sender_name = reply.sender.as_ref().and_then(|sender| sender.name.clone());
            }
            let target = if reply.chat.is_none() { self.find_message(chat_id, &reply.message) } else { None };
            if let Some(target) = target.map(|index| &self.messages[index].row) {
                row.reply_to_message_id = Some(target.id);
                row.quoted_text = row.quoted_text.or_else(|| target.text_content.clone());
                row.quoted_sender_name = row.quoted_sender_name.or_else(|| target.sender_display_name.clone());
            }
        }
        if let Some(forward) = &message.forward {
            row.is_forwarded = true;
            row.forward_count = i64::from(forward.count.unwrap_or(1));
            row.forwarded_from_external_id = forward.message.as_ref().map(|id| id.as_str().to_owned());
        }
        row.album.clone_from(&message.album);
        row
    }

    /// Whether a message answers one whose author was erased.
    fn answers_erased(&self, chat_id: Uuid, message: &Message) -> bool {
        let Some(reply) = message.reply_to.as_ref().filter(|reply| reply.chat.is_none()) else { return false };
        self.find_message(chat_id, &reply.message).is_some_and(|index| self.messages[index].row.status == "erased")
    }

    /// Stores a message that is new: its row, its file, the counters around it, and the event. One that is not `whole` was
    /// made by an edit, and does not come up in its chat.
    #[expect(clippy::too_many_arguments, reason = "what is stored, where, and whether it is all of it")]
    pub(super) fn store_new(
        &mut self,
        tx: &Tx,
        scene: Scene<'a>,
        chat: usize,
        mut row: MessageRow,
        content: &'a Content,
        sender: Option<&'a Sender>,
        whole: bool,
    ) {
        let entry = scene.entry;
        let mut early = self.fold_early(tx, scene, &mut row, whole);
        let written = row.platform_timestamp;
        early.extend(self.marked(tx, scene, chat, &mut row, written));
        if let Some(file) = content.media().and_then(|media| media.blob.as_ref()?.as_str().parse().ok()) {
            self.held_files.push((file, row.id));
        }
        if let Some((media, reference)) = content.media().and_then(|media| Some((media, media.reference.as_ref()?))) {
            self.media.push(NewMedia {
                id: tx.new_id(self.now),
                instance_id: entry.instance_id,
                message_id: row.id,
                reference: reference.as_str().to_owned(),
                mime_type: media.mime_type.clone(),
                file_name: media.file_name.clone(),
                size: media.size.map(|size| i64::try_from(size).unwrap_or(i64::MAX)),
            });
        }
        let chat_key = scene.event.chat.as_ref().map_or("", |chat| chat.id.as_str());
        let payload = Payload {
            external_id: row.external_id.as_deref().unwrap_or_default(),
            part: &row.part,
            chat_id: chat_key,
            from: row.sender_platform_user_id.as_deref(),
            to: row.is_from_me.then_some(chat_key),
            from_name: row.sender_display_name.as_deref(),
            content: PayloadContent::of(content),
            reply_to_id: row.reply_to_external_id.as_deref(),
            message_id: row.id,
            chat_uuid: row.chat_id,
            timestamp: scene.at.millis(),
        };
        let name = if row.is_from_me { "message.sent" } else { "message.received" };
        let mut event = self.signed(self.domain_event(scene, name, json(&payload)), sender);
        event.external_id = row.external_id.clone().map(Cow::Owned);
        event.content_type = Some(content::message_type(content));
        event.text_content = content::text(content).map(Cow::Borrowed);
        event.message_id = Some(row.id);
        if let EventBody::Message(message) = &scene.event.body
            && self.answers_erased(row.chat_id, message)
        {
            event.raw_payload = None;
        }
        self.events.push(event);
        self.events.extend(early);
        self.count(scene, chat, &row, content, sender, whole);
        self.counted.count(scene.entry.instance_id, Account::Messages, 1);
        self.remember_message(row, true);
    }

    /// The counters of a new message.
    fn count(
        &mut self,
        scene: Scene<'a>,
        chat: usize,
        row: &MessageRow,
        content: &Content,
        sender: Option<&'a Sender>,
        whole: bool,
    ) {
        let work = &mut self.chats[chat];
        work.touched = true;
        work.change.messages += 1;
        if !row.is_from_me && scene.entry.origin() != Origin::History {
            work.change.unread_changes(1, row.platform_timestamp);
        }
        if whole {
            self.show(scene, chat, row.chat_id, content, sender);
        } else if work.new.is_some() && work.change.last.is_none() {
            // Nothing else is known of the chat.
            work.change.last = Some((scene.at, content::preview(content)));
        }
    }

    /// A message comes up in its chat, and counts for its author and its instance.
    pub(super) fn show(
        &mut self,
        scene: Scene<'a>,
        chat: usize,
        chat_id: Uuid,
        content: &Content,
        sender: Option<&'a Sender>,
    ) {
        let work = &mut self.chats[chat];
        work.touched = true;
        let newest = work.change.last.as_ref().is_none_or(|(at, _)| *at <= scene.at);
        if newest {
            work.change.last = Some((scene.at, content::preview(content)));
        }
        self.touch_instance(scene.entry.instance_id, scene.at);
        let Some(sender) = sender.filter(|sender| !sender.is_from_me) else { return };
        let Some(index) = self.user_of.get(&(scene.entry.instance_id, sender.user.id.as_str())).copied() else {
            return;
        };
        let user = &mut self.users[index];
        user.messages += 1;
        user.seen_at = user.seen_at.max(Some(scene.at));
        let (identity, person) = (user.id, user.person_id);
        let seat = self.seat(chat, chat_id, sender, Some(identity), person);
        seat.messages += 1;
        seat.seen_at = seat.seen_at.max(Some(scene.at));
    }

    /// Somebody's place in a chat.
    fn seat(
        &mut self,
        chat: usize,
        chat_id: Uuid,
        sender: &'a Sender,
        identity: Option<Uuid>,
        person: Option<Uuid>,
    ) -> &mut Participation<'a> {
        let user = &sender.user;
        let seat = self.participants.entry((chat, user.id.as_str())).or_insert_with(|| Participation {
            chat_id,
            platform_user_id: user.id.as_str(),
            platform_identity_id: identity,
            person_id: person,
            display_name: None,
            role: None,
            active: true,
            joined_at: None,
            left_at: None,
            seen_at: None,
            messages: 0,
        });
        seat.display_name = user.name.as_deref().or(seat.display_name);
        seat
    }
}

/// The network's id of the poll in a message.
pub(super) fn poll_id(content: &Content) -> Option<String> {
    match content {
        Content::Poll(poll) => poll.id.clone(),
        _ => None,
    }
}
