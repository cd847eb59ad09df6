//! A message is changed or taken back.
//!
//! An edit counts when its revision is newer, or the same and it was made later; an older one that was never heard of takes
//! its place in the history. Of two with the same revision and the same time the one that comes last counts, which is right
//! for every network that delivers in order, and one of them that is told again changes nothing; what cannot be told is
//! which of the two was last when they come in another order.
//!
//! An edit of a message whose author was erased is passed over. An edit of a message that is not stored makes it, marked as edited; when the message itself comes, it is completed, and
//! its words become the first of the history. A deletion marks and keeps; of a message that is not stored there is nothing
//! to mark, so the event says so and the deletion waits: a stub that nobody could read is not made.

use super::content::{self, json};
use super::early::Said;
use super::message::{PayloadContent, poll_id};
use super::work::{Scene, Work};
use crate::store::messages::MessageRow;
use crate::store::{Time, Tx};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Delete, Edit, Message};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;

/// How many old texts of a message are kept; the first one is kept besides.
const HISTORY: usize = 100;

/// Omni v2's entry of `edit_history`: what it said before, and when that ended.
#[derive(Serialize, Deserialize)]
struct HistoryEntry {
    text: Option<String>,
    at: Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    by: Option<String>,
    /// Of the edit that ended it.
    #[serde(default)]
    revision: i64,
    /// The message itself has not come: what it said before the first edit is not known.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    missing: bool,
}

impl HistoryEntry {
    fn ended_by(edit: &Edit, text: Option<String>, at: Time) -> Self {
        let by = edit.sender.as_ref().map(|by| by.user.id.as_str().to_owned());
        Self { text, at, by, revision: edit.revision, missing: false }
    }

    /// When the edit was made that ended it.
    fn stamp(&self) -> Stamp {
        (self.revision, self.at)
    }
}

/// When an edit was made: by revision, and then by time.
type Stamp = (i64, Time);

/// Whether an edit was overtaken by the one that is stored.
fn is_late(row: &MessageRow, edit: &Edit, at: Time) -> bool {
    let stored = row.edited_at.map(|edited| (row.revision, edited));
    // One that was never edited may have a revision all the same, of an edit that changed nothing.
    if stored.map_or(edit.revision < row.revision, |stored| (edit.revision, at) < stored) {
        return true;
    }
    // Of the same moment as the one that is stored, it was put in its place by it before.
    stored == Some((edit.revision, at)) && {
        let entries = read(row.edit_history.as_deref());
        let text = content::text(&edit.content);
        let was_edit = |pair: &[HistoryEntry]| {
            pair.iter().all(|entry| entry.stamp() == (edit.revision, at)) && pair[1].text.as_deref() == text
        };
        entries.windows(2).any(was_edit)
    }
}

fn read(history: Option<&str>) -> Vec<HistoryEntry> {
    history.and_then(|history| serde_json::from_str(history).ok()).unwrap_or_default()
}

/// Whether a row was made by an edit, and whose message it is shows only when that comes.
pub(super) fn is_nobodys_yet(row: &MessageRow) -> bool {
    !row.is_from_me && read(row.edit_history.as_deref()).first().is_some_and(|first| first.missing)
}

fn write(mut entries: Vec<HistoryEntry>) -> String {
    let surplus = entries.len().saturating_sub(HISTORY);
    entries.drain(..surplus);
    json(&entries)
}

/// Puts an edit that was overtaken by a newer one where it belongs: it changes nothing that is seen but the history.
/// `false` when it is there already, or there is no telling where it belongs.
fn remember_late(row: &mut MessageRow, edit: &Edit, at: Time) -> bool {
    let mut entries = read(row.edit_history.as_deref());
    let stamp = (edit.revision, at);
    let Some(place) = entries.iter().position(|entry| stamp <= entry.stamp()) else { return false };
    let text = content::text(&edit.content).map(str::to_owned);
    let is_told = stamp == entries[place].stamp() || (text == entries[place].text && !entries[place].missing);
    let is_too_old = place == 0 && entries.len() >= HISTORY;
    if is_told || is_too_old {
        return false;
    }
    let before = &mut entries[place];
    let (was, missing) = (std::mem::replace(&mut before.text, text), std::mem::take(&mut before.missing));
    entries.insert(place, HistoryEntry { missing, ..HistoryEntry::ended_by(edit, was, at) });
    row.edit_history = Some(write(entries));
    row.edit_count += 1;
    true
}

/// Marks a message as taken back. `false` when it is.
pub(super) fn mark_deleted(row: &mut MessageRow, at: Time) -> bool {
    let fresh = row.deleted_at.is_none();
    if fresh {
        row.status = "deleted".to_owned();
        row.deleted_at = Some(at);
    }
    fresh
}

/// Puts an edit into a row. `false` when it changes nothing that is seen.
pub(super) fn change(row: &mut MessageRow, edit: &Edit, at: Time) -> bool {
    let content = json(&edit.content);
    if content == row.content {
        // The state is the one that is stored; only when that was said is news, and that is nothing to tell.
        row.revision = edit.revision;
        row.edited_at = row.edited_at.map(|_| at);
        return false;
    }
    let text = content::text(&edit.content).map(str::to_owned);
    if text != row.text_content {
        if row.edit_count == 0 {
            row.original_text.clone_from(&row.text_content);
        }
        let before = row.text_content.take();
        let mut entries = read(row.edit_history.as_deref());
        entries.push(HistoryEntry::ended_by(edit, before, at));
        row.edit_history = Some(write(entries));
    }
    replace_content(row, &edit.content, content);
    row.revision = edit.revision;
    row.edit_count += 1;
    row.edited_at = Some(at);
    if row.status == "active" {
        row.status = "edited".to_owned();
    }
    true
}

/// Gives a row other content, with everything that is drawn from it.
pub(super) fn replace_content(row: &mut MessageRow, content: &Content, text: String) {
    let media = content.media();
    row.message_type = content::message_type(content).to_owned();
    row.text_content = content::text(content).map(str::to_owned);
    row.content = text;
    row.has_media = media.is_some();
    row.media_mime_type = media.and_then(|media| media.mime_type.clone());
    row.media_metadata = media.map(content::media_metadata);
    row.mentions = content::mentions(content);
    if let Some(id) = poll_id(content) {
        row.poll_id = Some(id);
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Edited<'a> {
    external_id: &'a str,
    chat_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<&'a str>,
    content: PayloadContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_text: Option<&'a str>,
    revision: i64,
    message_id: uuid::Uuid,
}

impl<'a> Work<'a> {
    pub(super) fn edit(&mut self, tx: &Tx, scene: Scene<'a>, edit: &'a Edit) {
        let Some(chat) = scene.chat else { return };
        let chat_id = self.chats[chat].change.id;
        let Some(index) = self.find_message(chat_id, &edit.target) else {
            let mut row = self.new_row(tx, scene, chat_id, &edit.target, edit.sender.as_ref(), &edit.content);
            row.status = "edited".to_owned();
            row.edit_count = 1;
            row.edited_at = Some(scene.at);
            row.revision = edit.revision;
            let unknown = HistoryEntry { missing: true, ..HistoryEntry::ended_by(edit, None, scene.at) };
            row.edit_history = Some(write(vec![unknown]));
            return self.store_new(tx, scene, chat, row, &edit.content, edit.sender.as_ref(), false);
        };
        let row = &mut self.messages[index].row;
        if row.status == "erased" {
            // Whoever wrote it was erased: what they wrote then does not come back.
            return;
        }
        let (before, stamp) = (row.text_content.clone(), (row.revision, row.edited_at));
        if is_late(row, edit, scene.at) {
            self.messages[index].changed |= remember_late(row, edit, scene.at);
            return;
        }
        if !change(row, edit, scene.at) {
            let row = &self.messages[index].row;
            self.messages[index].changed |= (row.revision, row.edited_at) != stamp;
            return;
        }
        row.latest_event_id = Some(scene.entry.event_id);
        let payload = Edited {
            external_id: edit.target.id.as_str(),
            chat_id: scene.event.chat.as_ref().map_or("", |chat| chat.id.as_str()),
            from: edit.sender.as_ref().map(|sender| sender.user.id.as_str()),
            content: PayloadContent::of(&edit.content),
            previous_text: before.as_deref(),
            revision: edit.revision,
            message_id: row.id,
        };
        let (id, payload) = (row.id, json(&payload));
        self.messages[index].changed = true;
        let mut event = self.signed(self.domain_event(scene, "message.edited", payload), edit.sender.as_ref());
        event.external_id = Some(Cow::Borrowed(edit.target.id.as_str()));
        event.content_type = Some(content::message_type(&edit.content));
        event.text_content = content::text(&edit.content).map(Cow::Borrowed);
        event.message_id = Some(id);
        self.events.push(event);
    }

    /// A message comes that an edit of it has made already: what only it says is filled in. Nothing happens when it is
    /// here.
    pub(super) fn complete(&mut self, tx: &Tx, scene: Scene<'a>, chat: usize, index: usize, message: &'a Message) {
        let mut entries = read(self.messages[index].row.edit_history.as_deref());
        let Some(first) = entries.first_mut().filter(|first| first.missing) else { return };
        first.missing = false;
        first.text = content::text(&message.content).map(str::to_owned);
        let mut row = self.messages[index].row.clone();
        row.original_text.clone_from(&first.text);
        row.edit_history = Some(write(entries));
        let chat_id = row.chat_id;
        let itself = self.new_row(tx, scene, chat_id, &message.message, Some(&message.sender), &message.content);
        let itself = self.with_surroundings(itself, message, chat_id);
        row = MessageRow {
            delivery_status: row.delivery_status.or(itself.delivery_status),
            sender_person_id: itself.sender_person_id,
            sender_platform_identity_id: itself.sender_platform_identity_id,
            sender_platform_user_id: itself.sender_platform_user_id,
            sender_display_name: itself.sender_display_name,
            is_from_me: itself.is_from_me,
            reply_to_message_id: itself.reply_to_message_id,
            reply_to_external_id: itself.reply_to_external_id,
            quoted_text: itself.quoted_text,
            quoted_sender_name: itself.quoted_sender_name,
            forwarded_from_external_id: itself.forwarded_from_external_id,
            forward_count: itself.forward_count,
            is_forwarded: itself.is_forwarded,
            album: itself.album,
            platform_timestamp: itself.platform_timestamp,
            ..row
        };
        let before = &self.messages[index].row;
        let now_ours = row.is_from_me && !before.is_from_me;
        let change = &mut self.chats[chat].change;
        // It was counted as a message of the time of the edit.
        change.unread_changes(if now_ours { -1 } else { 0 }, before.platform_timestamp);
        change.unread_changes(0, row.platform_timestamp);
        let mut events = self.fold_early(tx, scene, &mut row, true);
        let written = row.platform_timestamp;
        events.extend(self.marked(tx, scene, chat, &mut row, written));
        self.events.extend(events);
        self.wait_for_answered(chat, message, &row, scene.at);
        self.show(scene, chat, row.chat_id, &message.content, Some(&message.sender));
        let work = &mut self.messages[index];
        (work.row, work.changed, work.completed) = (row, true, true);
    }

    pub(super) fn delete(&mut self, tx: &Tx, scene: Scene<'a>, delete: &'a Delete) {
        let Some(chat) = scene.chat else { return };
        let chat_id = self.chats[chat].change.id;
        let mut first = true;
        for target in &delete.targets {
            let parts: Vec<usize> = match &target.part {
                Some(_) => self.find_message(chat_id, target).into_iter().collect(),
                None => self.parts(chat_id, target.id.as_str()).to_vec(),
            };
            let known = !parts.is_empty();
            let mut message_id = None;
            let mut fresh = false;
            for index in parts {
                let work = &mut self.messages[index];
                message_id = message_id.or(Some(work.row.id));
                if mark_deleted(&mut work.row, scene.at) {
                    fresh = true;
                    work.row.latest_event_id = Some(scene.entry.event_id);
                    work.changed = true;
                }
            }
            if known && !fresh {
                continue;
            }
            if !known {
                self.wait(chat, Said::Deleted { target: target.clone() }, None, scene.at);
            }
            let payload = json!({
                "externalId": target.id,
                "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
                "from": delete.sender.as_ref().map(|sender| &sender.user.id),
                "messageId": message_id,
                "onlyForMe": delete.only_for_me,
                "known": known,
            });
            let event = self.domain_event(scene, "message.deleted", payload.to_string());
            let mut event = self.signed(event, delete.sender.as_ref());
            event.external_id = Some(Cow::Borrowed(target.id.as_str()));
            event.message_id = message_id;
            self.push_event(tx, event, &mut first);
        }
    }

    /// Appends one of several events that come from one: the first keeps its id and the network's words.
    pub(super) fn push_event(
        &mut self,
        tx: &Tx,
        mut event: crate::store::events::NewDomainEvent<'a>,
        first: &mut bool,
    ) {
        if !std::mem::take(first) {
            event.id = tx.new_id(self.now);
            event.raw_payload = None;
        }
        self.events.push(event);
    }
}
