//! Reactions, votes and touched buttons.
//!
//! What one person's reactions are is a state with a revision: an older one is passed over, an equal one changes
//! nothing, and one that was given, taken back and given again is three events. Where a network says what was added or
//! taken away instead, that holds for each emoji: the newest word about it counts, by revision and then by time, and what
//! was taken away before it was given stays away. So the order in which a network delivers does not matter, but for two
//! words of one person about one emoji that have the same revision and the same time: of these the one that comes last
//! counts, which is right for every network that delivers in order. Votes have no revision: the last one that comes counts.

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
use std::cmp::Ordering;
use std::collections::BTreeMap;
use uuid::Uuid;

/// How many reactions and votes of a message are kept by name. Beyond that only the events tell.
const NAMED: usize = 4_096;
/// Of how many emojis of one person it is remembered when they were given or taken away by themselves.
const EACH: usize = 64;

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
    /// By when it was given; what was given at the same time has an order as well, whatever came first.
    fn order(&self, other: &Self) -> Ordering {
        let by_name = || (&self.platform_user_id, &self.emoji).cmp(&(&other.platform_user_id, &other.emoji));
        self.at.cmp(&other.at).then_with(by_name)
    }

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

/// When somebody said something: by revision, and then by time.
type Stamp = (i64, Time);

/// What was last heard of somebody about one message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Heard {
    /// When they said what all of their reactions are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    all: Option<Stamp>,
    /// When an emoji was given or taken away by itself, since then.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    each: BTreeMap<String, Stamp>,
}

impl Heard {
    /// When something was last said about an emoji.
    fn of(&self, emoji: &Emoji) -> Option<Stamp> {
        self.each.get(&key(emoji)).copied().max(self.all)
    }

    /// Notes that something was said about an emoji by itself.
    fn note(&mut self, emoji: &Emoji, stamp: Stamp) {
        self.each.insert(key(emoji), stamp);
        if self.each.len() > EACH {
            let oldest = self.each.iter().min_by_key(|(_, stamp)| **stamp).map(|(key, _)| key.clone());
            self.each.remove(&oldest.unwrap_or_default());
        }
    }
}

fn key(emoji: &Emoji) -> String {
    match &emoji.custom_id {
        Some(id) => format!("{}/{id}", emoji.emoji),
        None => emoji.emoji.clone(),
    }
}

fn read<T: for<'de> Deserialize<'de> + Default>(text: Option<&str>) -> T {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// Puts a person's reactions into a row; `None` when that changes nothing.
fn change(row: &mut MessageRow, reaction: &Reaction, person_id: Option<Uuid>, at: Time) -> Option<Changed> {
    let sender = reaction.sender.as_ref()?;
    let user = sender.user.id.as_str();
    let stamp = (reaction.revision, at);
    let mut everybody: BTreeMap<String, Heard> = read(row.reaction_revisions.as_deref());
    let known = everybody.contains_key(user);
    let mut heard = everybody.get(user).cloned().unwrap_or_default();
    let mut infos: Vec<ReactionInfo> = read(row.reactions.as_deref());
    let before: Vec<Emoji> = infos
        .iter()
        .filter(|info| info.platform_user_id == user)
        .map(|info| Emoji { emoji: info.emoji.clone(), custom_id: info.custom_emoji_id.clone() })
        .collect();
    // What was said later about an emoji stays as it is.
    let is_news = |emoji: &Emoji| heard.of(emoji).is_none_or(|last| last <= stamp);
    let said: Vec<Emoji> = reaction.emojis.iter().filter(|emoji| is_news(emoji)).cloned().collect();
    let mut changed = Changed::default();
    if reaction.change != ReactionChange::Remove {
        for emoji in &said {
            if !before.contains(emoji) && !changed.given.contains(emoji) {
                changed.given.push(emoji.clone());
            }
        }
    }
    changed.taken = match reaction.change {
        ReactionChange::Set => {
            before.iter().filter(|emoji| is_news(emoji) && !reaction.emojis.contains(emoji)).cloned().collect()
        }
        ReactionChange::Add => Vec::new(),
        ReactionChange::Remove => before.iter().filter(|emoji| said.contains(emoji)).cloned().collect(),
    };
    if known && reaction.change != ReactionChange::Remove {
        // Who says it again says it now: whether they took it back in between is not known when that comes late.
        for info in infos.iter_mut().filter(|info| said.iter().any(|emoji| info.is(user, emoji))) {
            info.at = at;
        }
        infos.sort_by(ReactionInfo::order);
        row.reactions = (!infos.is_empty()).then(|| json(&infos));
    }
    let fits = infos.len() + changed.given.len() <= NAMED && (known || everybody.len() < NAMED);
    if fits {
        if reaction.change == ReactionChange::Set {
            heard.all = heard.all.max(Some(stamp));
            heard.each.retain(|_, last| *last > stamp);
        } else {
            said.iter().for_each(|emoji| heard.note(emoji, stamp));
        }
        everybody.insert(user.to_owned(), heard);
        row.reaction_revisions = Some(json(&everybody));
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
    infos.sort_by(ReactionInfo::order);
    put_infos(row, &infos);
    Some(changed)
}

/// Puts counts into a row, for networks that do not say who; `false` when they are the ones that are stored.
fn count(row: &mut MessageRow, reaction: &Reaction, at: Time) -> bool {
    // Nobody's: the counts have one revision for all.
    let stamp = (reaction.revision, at);
    let mut everybody: BTreeMap<String, Heard> = read(row.reaction_revisions.as_deref());
    if everybody.get("").is_some_and(|heard| heard.all > Some(stamp)) {
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
    // Also when they are the same: what is older than this word is passed over from now on.
    everybody.insert(String::new(), Heard { all: Some(stamp), ..Heard::default() });
    row.reaction_revisions = Some(json(&everybody));
    let changed = counts != row.reaction_counts;
    row.reaction_counts = counts;
    changed
}

/// Takes away what everybody had given, of some emojis or of all; what was given later stays. `None` when nothing was there.
fn clear(row: &mut MessageRow, reaction: &Reaction, at: Time) -> Option<Changed> {
    let stamp = (reaction.revision, at);
    let mut everybody: BTreeMap<String, Heard> = read(row.reaction_revisions.as_deref());
    if everybody.get("").is_some_and(|counted| counted.all > Some(stamp)) {
        return None;
    }
    let mut infos: Vec<ReactionInfo> = read(row.reactions.as_deref());
    let meant = |emoji: &Emoji| reaction.emojis.is_empty() || reaction.emojis.contains(emoji);
    let mut changed = Changed::default();
    infos.retain(|info| {
        let emoji = Emoji { emoji: info.emoji.clone(), custom_id: info.custom_emoji_id.clone() };
        let last = everybody.get(&info.platform_user_id).and_then(|heard| heard.of(&emoji));
        let stays = !meant(&emoji) || last > Some(stamp);
        if !stays && !changed.taken.contains(&emoji) {
            changed.taken.push(emoji);
        }
        stays
    });
    // What is counted later and said to be older is passed over, too.
    everybody.entry(String::new()).or_default();
    for heard in everybody.values_mut() {
        if reaction.emojis.is_empty() {
            heard.all = heard.all.max(Some(stamp));
            heard.each.retain(|_, last| *last > stamp);
        } else {
            let older = |emoji: &&Emoji| heard.of(emoji).is_none_or(|last| last <= stamp);
            let said: Vec<&Emoji> = reaction.emojis.iter().filter(older).collect();
            said.into_iter().for_each(|emoji| heard.note(emoji, stamp));
        }
    }
    row.reaction_revisions = Some(json(&everybody));
    let counted = row.reaction_counts.is_some();
    put_infos(row, &infos);
    (!changed.taken.is_empty() || counted && row.reaction_counts.is_none()).then_some(changed)
}

/// Puts reactions by name into a row, with how many there are of each.
fn put_infos(row: &mut MessageRow, infos: &[ReactionInfo]) {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for info in infos {
        *counts.entry(&info.emoji).or_default() += 1;
    }
    row.reaction_counts = (!counts.is_empty()).then(|| json(&counts));
    row.reactions = (!infos.is_empty()).then(|| json(&infos));
}

/// Puts somebody's reactions, or counts, into a row; `None` when that changes nothing.
pub(super) fn put(row: &mut MessageRow, reaction: &Reaction, person_id: Option<Uuid>, at: Time) -> Option<Changed> {
    match reaction.sender {
        Some(_) => change(row, reaction, person_id, at),
        None if reaction.is_of_everybody() => clear(row, reaction, at),
        None => count(row, reaction, at).then(Changed::default),
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

/// Takes what these accounts gave and voted out of a row, as if they had never; the counts go down with it where they are
/// ours. `false` when nothing of them is in it.
pub(in crate::store) fn forget(row: &mut MessageRow, users: &[&str]) -> bool {
    let before = (row.reactions.clone(), row.reaction_revisions.clone(), row.poll_votes.clone());
    let infos: Vec<ReactionInfo> = read(row.reactions.as_deref());
    let (theirs, infos): (Vec<_>, Vec<_>) =
        infos.into_iter().partition(|info| users.contains(&info.platform_user_id.as_str()));
    if !theirs.is_empty() {
        let mut counts: BTreeMap<String, u64> = read(row.reaction_counts.as_deref());
        for info in theirs {
            if let Some(count) = counts.get_mut(&info.emoji) {
                *count = count.saturating_sub(1);
            }
        }
        counts.retain(|_, count| *count > 0);
        row.reaction_counts = (!counts.is_empty()).then(|| json(&counts));
        row.reactions = (!infos.is_empty()).then(|| json(&infos));
    }
    let mut heard: BTreeMap<String, Heard> = read(row.reaction_revisions.as_deref());
    if users.iter().filter(|user| heard.remove(**user).is_some()).count() > 0 {
        row.reaction_revisions = (!heard.is_empty()).then(|| json(&heard));
    }
    let mut votes: BTreeMap<String, Vec<String>> = read(row.poll_votes.as_deref());
    if users.iter().filter(|user| votes.remove(**user).is_some()).count() > 0 {
        row.poll_votes = (!votes.is_empty()).then(|| json(&votes));
    }
    before != (row.reactions.clone(), row.reaction_revisions.clone(), row.poll_votes.clone())
}
