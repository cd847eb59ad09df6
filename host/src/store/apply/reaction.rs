//! Reactions, votes and touched buttons.
//!
//! What one person's reactions are is a state with a revision: an older one is passed over, an equal one changes
//! nothing, and one that was given, taken back and given again is three events.

use super::content::json;
use super::early::Said;
use super::work::{Scene, Work};
use crate::store::Time;
use crate::store::messages::MessageRow;
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{ButtonAnswer, Emoji, PollVote, Reaction, ReactionChange};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeMap;
use uuid::Uuid;

/// How many reactions and votes of a message are kept by name. Beyond that only the events tell.
const NAMED: usize = 4_096;

/// Omni v2's entry of `reactions`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReactionInfo {
    emoji: String,
    platform_user_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    person_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    at: Time,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_custom_emoji: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    custom_emoji_id: Option<String>,
}

impl ReactionInfo {
    fn is(&self, user: &str, emoji: &Emoji) -> bool {
        self.platform_user_id == user && self.emoji == emoji.emoji && self.custom_emoji_id == emoji.custom_id
    }
}

/// What became of a person's reactions.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changed {
    pub given: Vec<Emoji>,
    pub taken: Vec<Emoji>,
}

fn read<T: for<'de> Deserialize<'de> + Default>(text: Option<&str>) -> T {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Puts a person's reactions into a row; `None` when that changes nothing.
fn change(row: &mut MessageRow, reaction: &Reaction, person_id: Option<Uuid>, at: Time) -> Option<Changed> {
    let sender = reaction.sender.as_ref()?;
    let user = sender.user.id.as_str();
    let mut revisions: BTreeMap<String, i64> = read(row.reaction_revisions.as_deref());
    let mut infos: Vec<ReactionInfo> = read(row.reactions.as_deref());
    let before: Vec<Emoji> = infos
        .iter()
        .filter(|info| info.platform_user_id == user)
        .map(|info| Emoji { emoji: info.emoji.clone(), custom_id: info.custom_emoji_id.clone() })
        .collect();
    if revisions.get(user).is_some_and(|last| reaction.revision < *last) {
        return None;
    }
    let after: Vec<Emoji> = match reaction.change {
        ReactionChange::Set => reaction.emojis.clone(),
        ReactionChange::Add => before.iter().chain(&reaction.emojis).cloned().collect(),
        ReactionChange::Remove => before.iter().filter(|emoji| !reaction.emojis.contains(emoji)).cloned().collect(),
    };
    let mut changed = Changed::default();
    for emoji in &after {
        if !before.contains(emoji) && !changed.given.contains(emoji) {
            changed.given.push(emoji.clone());
        }
    }
    changed.taken = before.iter().filter(|emoji| !after.contains(emoji)).cloned().collect();
    let newer = revisions.get(user).is_some_and(|last| reaction.revision > *last);
    if newer && reaction.change == ReactionChange::Set {
        // Who says it again says it now: whether they took it back in between is not known when that comes late.
        for info in infos.iter_mut().filter(|info| after.iter().any(|emoji| info.is(user, emoji))) {
            info.at = at;
        }
        infos.sort_by_key(|info| info.at);
        row.reactions = (!infos.is_empty()).then(|| json(&infos));
    }
    let fits = infos.len() + changed.given.len() <= NAMED && (revisions.contains_key(user) || revisions.len() < NAMED);
    if fits {
        revisions.insert(user.to_owned(), reaction.revision);
        row.reaction_revisions = Some(json(&revisions));
    }
    if changed == Changed::default() {
        return None;
    }
    infos.retain(|info| !changed.taken.iter().any(|emoji| info.is(user, emoji)));
    if fits {
        infos.extend(changed.given.iter().map(|emoji| ReactionInfo {
            emoji: emoji.emoji.clone(),
            platform_user_id: user.to_owned(),
            person_id,
            display_name: sender.user.name.clone(),
            at,
            is_custom_emoji: emoji.custom_id.is_some(),
            custom_emoji_id: emoji.custom_id.clone(),
        }));
    }
    // Whoever overtook another stands behind them all the same.
    infos.sort_by_key(|info| info.at);
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for info in &infos {
        *counts.entry(&info.emoji).or_default() += 1;
    }
    row.reaction_counts = (!counts.is_empty()).then(|| json(&counts));
    row.reactions = (!infos.is_empty()).then(|| json(&infos));
    Some(changed)
}

/// Puts counts into a row, for networks that do not say who; `false` when they are the ones that are stored.
fn count(row: &mut MessageRow, reaction: &Reaction) -> bool {
    // Nobody's: the counts have one revision for all.
    let mut revisions: BTreeMap<String, i64> = read(row.reaction_revisions.as_deref());
    if revisions.get("").is_some_and(|last| reaction.revision < *last) {
        return false;
    }
    let counts: BTreeMap<&str, u64> = reaction
        .counts
        .iter()
        .filter(|count| count.count > 0)
        .take(NAMED)
        .map(|count| (count.emoji.emoji.as_str(), count.count))
        .collect();
    let counts = (!counts.is_empty()).then(|| json(&counts));
    if counts == row.reaction_counts {
        return false;
    }
    revisions.insert(String::new(), reaction.revision);
    row.reaction_revisions = Some(json(&revisions));
    row.reaction_counts = counts;
    true
}

/// Puts somebody's reactions, or counts, into a row; `None` when that changes nothing.
pub(super) fn put(row: &mut MessageRow, reaction: &Reaction, person_id: Option<Uuid>, at: Time) -> Option<Changed> {
    match reaction.sender {
        Some(_) => change(row, reaction, person_id, at),
        None => count(row, reaction).then(Changed::default),
    }
}

impl<'a> Work<'a> {
    pub(super) fn reaction(&mut self, scene: Scene<'a>, reaction: &'a Reaction) {
        let Some(chat) = scene.chat else { return };
        let target = self.find_message_or_in_threads(self.chats[chat].change.id, &reaction.target);
        let sender = reaction.sender.as_ref();
        let person = sender.and_then(|sender| self.user(scene.entry.instance_id, &sender.user)?.person_id);
        let changed = match target.map(|index| &mut self.messages[index]) {
            Some(work) => {
                let before = work.row.reaction_revisions.clone();
                let changed = put(&mut work.row, reaction, person, scene.at);
                work.changed |= changed.is_some() || work.row.reaction_revisions != before;
                match changed {
                    Some(changed) => changed,
                    None => return,
                }
            }
            // The message is not stored: what was said about it still happened, and waits for it.
            None => {
                self.wait(chat, Said::Reaction { reaction: reaction.clone() }, person, scene.at);
                match reaction.change {
                    ReactionChange::Remove => Changed { given: Vec::new(), taken: reaction.emojis.clone() },
                    ReactionChange::Set | ReactionChange::Add => {
                        Changed { given: reaction.emojis.clone(), taken: Vec::new() }
                    }
                }
            }
        };
        let removed = !changed.taken.is_empty() || (reaction.emojis.is_empty() && reaction.counts.is_empty());
        let name = if changed.given.is_empty() && removed { "reaction.removed" } else { "reaction.received" };
        let shown = changed.given.first().or(changed.taken.first());
        let message_id = target.map(|index| self.messages[index].row.id);
        let payload = json!({
            "messageId": reaction.target.id,
            "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
            "from": sender.map(|sender| &sender.user.id),
            "emoji": shown.map_or("", |emoji| emoji.emoji.as_str()),
            "isCustomEmoji": shown.is_some_and(|emoji| emoji.custom_id.is_some()),
            "given": changed.given,
            "taken": changed.taken,
            "counts": reaction.counts,
            "messageUuid": message_id,
        });
        let mut event = self.signed(self.domain_event(scene, name, payload.to_string()), sender);
        event.external_id = Some(Cow::Borrowed(reaction.target.id.as_str()));
        event.message_id = message_id;
        event.content_type = Some("reaction");
        event.text_content = shown.map(|emoji| Cow::Owned(emoji.emoji.clone()));
        self.events.push(event);
    }

    pub(super) fn poll_vote(&mut self, scene: Scene<'a>, vote: &'a PollVote) {
        let by_target = match (scene.chat, &vote.target) {
            (Some(chat), Some(target)) => self.find_message(self.chats[chat].change.id, target),
            _ => None,
        };
        let by_poll = || self.poll(scene.entry.instance_id, vote.poll_id.as_deref()?);
        let index = by_target.or_else(by_poll);
        if let Some(work) = index.map(|index| &mut self.messages[index])
            && !put_vote(&mut work.row, vote)
        {
            return;
        }
        if let Some(index) = index {
            self.messages[index].changed = true;
        } else if let Some(chat) = scene.chat {
            self.wait(chat, Said::Vote { vote: vote.clone() }, None, scene.at);
        }
        let row = index.map(|index| &self.messages[index].row);
        let payload = json!({
            "externalId": vote.target.as_ref().map(|target| target.id.as_str())
                .or(row.and_then(|row| row.external_id.as_deref())),
            "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
            "pollId": vote.poll_id,
            "from": vote.sender.as_ref().map(|sender| &sender.user.id),
            "optionIds": vote.option_ids,
            "poll": vote.poll,
            "messageUuid": row.map(|row| row.id),
        });
        let message_id = row.map(|row| row.id);
        let event = self.domain_event(scene, "message.poll_vote", payload.to_string());
        let mut event = self.signed(event, vote.sender.as_ref());
        event.external_id = vote.target.as_ref().map(|target| Cow::Borrowed(target.id.as_str()));
        event.message_id = message_id;
        self.events.push(event);
    }

    pub(super) fn button_answer(&mut self, scene: Scene<'a>, answer: &'a ButtonAnswer) {
        let target = scene.chat.zip(answer.target.as_ref());
        let message = target.and_then(|(chat, target)| self.find_message(self.chats[chat].change.id, target));
        let message_id = message.map(|index| self.messages[index].row.id);
        let payload = json!({
            "id": answer.id,
            "externalId": answer.target.as_ref().map(|target| &target.id),
            "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
            "from": answer.sender.user.id,
            "data": answer.data,
            "text": answer.text,
            "messageUuid": message_id,
        });
        let event = self.domain_event(scene, "message.button_click", payload.to_string());
        let mut event = self.signed(event, Some(&answer.sender));
        event.external_id = answer.target.as_ref().map(|target| Cow::Borrowed(target.id.as_str()));
        event.message_id = message_id;
        event.text_content = answer.text.as_deref().map(Cow::Borrowed);
        self.events.push(event);
    }
}

/// Puts a vote into a row; `false` when it is the one that is stored.
pub(super) fn put_vote(row: &mut MessageRow, vote: &PollVote) -> bool {
    let before = (row.poll_votes.clone(), row.content.clone());
    let mut votes: BTreeMap<String, Vec<String>> = read(row.poll_votes.as_deref());
    if let Some(sender) = &vote.sender {
        let user = sender.user.id.as_str();
        if vote.option_ids.is_empty() {
            votes.remove(user);
        } else if votes.contains_key(user) || votes.len() < NAMED {
            votes.insert(user.to_owned(), vote.option_ids.clone());
        }
        row.poll_votes = (!votes.is_empty()).then(|| json(&votes));
    }
    if let Some(poll) = &vote.poll {
        let content = Content::Poll(poll.clone());
        row.content = json(&content);
    }
    before != (row.poll_votes.clone(), row.content.clone())
}
