//! A message is changed or taken back.
//!
//! An edit counts when its revision is newer, or the same with other content. An edit of a message that is not stored
//! makes it, marked as edited. A deletion marks and keeps; of a message that is not stored there is nothing to mark, so
//! only the event says so, and a stub that nobody could read is not made.

use super::content::{self, json};
use super::message::{PayloadContent, poll_id};
use super::work::{Scene, Work};
use crate::store::messages::MessageRow;
use crate::store::{Time, Tx};
use omni_channel_sdk::chat::Sender;
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Delete, Edit};
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
}

/// Adds a text to a history.
fn remember(history: Option<&str>, text: Option<String>, at: Time, by: Option<&Sender>) -> String {
    let mut entries: Vec<HistoryEntry> =
        history.and_then(|history| serde_json::from_str(history).ok()).unwrap_or_default();
    entries.push(HistoryEntry { text, at, by: by.map(|by| by.user.id.as_str().to_owned()) });
    let surplus = entries.len().saturating_sub(HISTORY);
    entries.drain(..surplus);
    json(&entries)
}

/// Puts an edit into a row. `false` when it changes nothing.
pub(super) fn change(row: &mut MessageRow, edit: &Edit, at: Time) -> bool {
    if edit.revision < row.revision {
        return false;
    }
    let content = json(&edit.content);
    if content == row.content {
        // The state is the one that is stored; only its revision may be news, and that changes nothing that is seen.
        row.revision = edit.revision;
        return false;
    }
    let text = content::text(&edit.content).map(str::to_owned);
    if text != row.text_content {
        if row.edit_count == 0 {
            row.original_text.clone_from(&row.text_content);
        }
        let before = row.text_content.take();
        row.edit_history = Some(remember(row.edit_history.as_deref(), before, at, edit.sender.as_ref()));
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
            return self.store_new(tx, scene, chat, row, &edit.content, edit.sender.as_ref());
        };
        let row = &mut self.messages[index].row;
        let (before, revision) = (row.text_content.clone(), row.revision);
        if !change(row, edit, scene.at) {
            self.messages[index].changed |= self.messages[index].row.revision != revision;
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
                if work.row.deleted_at.is_none() {
                    fresh = true;
                    work.row.status = "deleted".to_owned();
                    work.row.deleted_at = Some(scene.at);
                    work.row.latest_event_id = Some(scene.entry.event_id);
                    work.changed = true;
                }
            }
            if known && !fresh {
                continue;
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
