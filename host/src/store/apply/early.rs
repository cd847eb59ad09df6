//! What was said about a message before it came: it waits, and is folded into the message as soon as that is there, so
//! that the order in which a network delivers does not change what is stored.
//!
//! Domain events tell of a reaction, a deletion or a vote when it arrives, with the message or without; the deletion is
//! told again behind the message, for whoever follows along. A receipt is only told once its message is there.

use super::content::json;
use super::edit;
use super::reaction;
use super::receipt;
use super::work::{Scene, Work};
use crate::store::early::{self, EarlyRow};
use crate::store::entry::Entry;
use crate::store::events::NewDomainEvent;
use crate::store::messages::{Answer, MessageRow};
use crate::store::{Result, Time, Tx};
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::event::{Event, EventBody, PollVote, Reaction, SendUpdate};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::HashMap;
use uuid::Uuid;

/// A word about a message.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(super) enum Said {
    /// Somebody reacted to it.
    Reaction { reaction: Reaction },
    /// It was taken back.
    Deleted { target: MessageRef },
    /// It was delivered or read.
    Receipt { target: MessageRef, status: String, from: Option<String> },
    /// Somebody voted in it.
    Vote { vote: PollVote },
    /// Its sending ended.
    Ended { update: SendUpdate },
    /// A message that is stored answers it.
    Answered { target: MessageRef, by: Uuid },
}

impl Said {
    /// The message that it is about.
    fn target(&self) -> Option<&MessageRef> {
        match self {
            Self::Reaction { reaction } => Some(&reaction.target),
            Self::Deleted { target } | Self::Receipt { target, .. } | Self::Answered { target, .. } => Some(target),
            Self::Vote { vote } => vote.target.as_ref(),
            Self::Ended { update } => Some(&update.target),
        }
    }

    /// Whether it is about this part of the message.
    fn is_about(&self, part: &str) -> bool {
        let named = self.target().and_then(|target| target.part.as_ref());
        named.is_none_or(|named| named.as_str() == part)
    }
}

/// A word that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Its place in the table, when it is there already.
    seq: Option<i64>,
    person: Option<Uuid>,
    said: Said,
    at: Time,
}

/// What waits in a segment, and what becomes of it.
#[derive(Debug, Default)]
pub(super) struct Early {
    waiting: HashMap<(Uuid, String), Vec<Waiting>>,
    folded: Vec<i64>,
    /// Answers that were stored before what they answer: the answer, and what it answers.
    pub links: Vec<Answer>,
}

impl<'a> Work<'a> {
    /// Loads what waits for the messages that the segment may make.
    pub(super) async fn load_early(&mut self, tx: &mut Tx, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        let mut keys: Vec<(Uuid, &'a str)> = Vec::new();
        for (entry, event) in segment {
            let id = match &event.body {
                EventBody::Message(message) => message.message.id.as_str(),
                EventBody::Edit(edit) => edit.target.id.as_str(),
                _ => continue,
            };
            let Some(chat) = event.chat.as_ref() else { continue };
            let Some(index) = self.chat_of.get(&(entry.instance_id, chat.id.as_str())) else { continue };
            let chat = self.chats[*index].change.id;
            keys.extend(self.parents(chat).chain([chat]).map(|chat| (chat, id)));
        }
        if keys.is_empty() || !early::any(tx).await? {
            return Ok(());
        }
        keys.sort_unstable();
        keys.dedup();
        for row in early::load(tx, &keys).await? {
            // What another version wrote and this one cannot read waits on.
            let Ok(said) = serde_json::from_str(&row.said) else { continue };
            let waiting = Waiting { seq: Some(row.seq), person: row.person_id, said, at: row.at };
            self.early.waiting.entry((row.chat_id, row.external_id)).or_default().push(waiting);
        }
        Ok(())
    }

    /// Lets a word wait for its message.
    pub(super) fn wait(&mut self, chat: usize, said: Said, person: Option<Uuid>, at: Time) {
        let Some(id) = said.target().map(|target| target.id.as_str().to_owned()) else { return };
        let key = (self.chats[chat].change.id, id);
        self.early.waiting.entry(key).or_default().push(Waiting { seq: None, person, said, at });
    }

    /// Folds what waited for a message into its row. Gives back the domain events that are to follow the message's own.
    /// A row that is not `whole` was made by an edit: whose it is shows later.
    pub(super) fn fold_early(
        &mut self,
        tx: &Tx,
        scene: Scene<'a>,
        row: &mut MessageRow,
        whole: bool,
    ) -> Vec<NewDomainEvent<'a>> {
        let mut events = Vec::new();
        if self.early.waiting.is_empty() {
            return events;
        }
        let id = row.external_id.clone().unwrap_or_default();
        let parents: Vec<Uuid> = self.parents(row.chat_id).collect();
        for chat in parents.into_iter().chain([row.chat_id]) {
            let key = (chat, id.clone());
            let Some(list) = self.early.waiting.remove(&key) else { continue };
            let mut rest = Vec::new();
            for waiting in list {
                let is_here = chat == row.chat_id || matches!(waiting.said, Said::Reaction { .. });
                // Whose message it is decides whether it can be delivered.
                let can_be = whole || !matches!(waiting.said, Said::Receipt { .. } | Said::Ended { .. });
                if !is_here || !can_be || !waiting.said.is_about(&row.part) {
                    rest.push(waiting);
                    continue;
                }
                events.extend(self.fold_one(tx, scene, row, &waiting));
                // Other parts of the message may still come, and all of them were taken back.
                let is_for_all = matches!(&waiting.said, Said::Deleted { target } if target.part.is_none());
                if is_for_all && !row.part.is_empty() {
                    rest.push(waiting);
                } else {
                    self.early.folded.extend(waiting.seq);
                }
            }
            if !rest.is_empty() {
                self.early.waiting.insert(key, rest);
            }
        }
        events
    }

    fn fold_one(
        &mut self,
        tx: &Tx,
        scene: Scene<'a>,
        row: &mut MessageRow,
        waiting: &Waiting,
    ) -> Option<NewDomainEvent<'a>> {
        let (name, payload) = match &waiting.said {
            Said::Reaction { reaction } => {
                reaction::put(row, reaction, waiting.person, waiting.at);
                return None;
            }
            Said::Vote { vote } => {
                reaction::put_vote(row, vote);
                return None;
            }
            Said::Ended { update } => {
                receipt::put_end(row, update);
                return None;
            }
            Said::Answered { by, .. } => {
                self.answered(*by, row);
                return None;
            }
            Said::Deleted { .. } => {
                if !edit::mark_deleted(row, waiting.at) {
                    return None;
                }
                let payload = json!({
                    "externalId": row.external_id,
                    "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
                    "messageId": row.id,
                    "onlyForMe": false,
                    "known": true,
                });
                ("message.deleted", payload)
            }
            Said::Receipt { status, from, .. } => {
                if !receipt::put(row, status) {
                    return None;
                }
                receipt::told(scene, row.external_id.as_deref(), row.id, status, waiting.at, from.as_deref())
            }
        };
        Some(self.event_about(tx, scene, row, name, payload))
    }

    /// A domain event about a message to which something applies that was said before it came.
    pub(super) fn event_about(
        &self,
        tx: &Tx,
        scene: Scene<'a>,
        row: &MessageRow,
        name: &'static str,
        payload: Value,
    ) -> NewDomainEvent<'a> {
        let mut event = self.domain_event(scene, name, payload.to_string());
        event.id = tx.new_id(self.now);
        event.raw_payload = None;
        event.external_id = row.external_id.clone().map(Cow::Owned);
        event.message_id = Some(row.id);
        event
    }

    /// A message that was stored before finds what it answers.
    fn answered(&mut self, by: Uuid, row: &MessageRow) {
        let link =
            Answer { by, message: row.id, text: row.text_content.clone(), sender: row.sender_display_name.clone() };
        if let Some(answer) = self.messages.iter_mut().find(|work| work.row.id == by).map(|work| &mut work.row) {
            answer.reply_to_message_id = Some(link.message);
            answer.quoted_text = answer.quoted_text.take().or_else(|| link.text.clone());
            answer.quoted_sender_name = answer.quoted_sender_name.take().or_else(|| link.sender.clone());
        }
        self.early.links.push(link);
    }

    /// Writes down what waits on, and forgets what does not.
    pub(super) async fn write_early(&mut self, tx: &mut Tx) -> Result<()> {
        let mut rows = Vec::new();
        for ((chat, id), list) in std::mem::take(&mut self.early.waiting) {
            for waiting in list.into_iter().filter(|waiting| waiting.seq.is_none()) {
                rows.push(EarlyRow {
                    seq: 0,
                    chat_id: chat,
                    external_id: id.clone(),
                    person_id: waiting.person,
                    said: json(&waiting.said),
                    at: waiting.at,
                });
            }
        }
        early::insert(tx, &rows, self.now).await?;
        early::forget(tx, &self.early.folded).await
    }
}
