//! One segment of a batch: what its events name, as rows in memory; the fold over them; and writing back what changed.

use super::cache::{self, Cache};
use super::early::Early;
use super::{chat, content, people};
use crate::store::chats::{self, ChatChange, Marks, NewChat, Participation};
use crate::store::entry::{Entry, Origin, SYNCED};
use crate::store::events::{self, NewDomainEvent};
use crate::store::instances;
use crate::store::ledger::Changes;
use crate::store::media::{self, NewMedia};
use crate::store::messages::{self, MessageRow};
use crate::store::{Result, Time, Tx, outbox};
use omni_channel_sdk::chat::{Chat, MessageRef, Sender, User};
use omni_channel_sdk::event::{Event, EventBody, Message};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// A chat that events of the segment name.
pub(super) struct ChatWork<'a> {
    pub instance_id: Uuid,
    pub channel: Arc<str>,
    pub external_id: &'a str,
    pub new: Option<&'static str>,
    pub seen: u64,
    /// How far our messages in it have come, the segment's events included.
    pub marks: Marks,
    pub change: ChatChange<'a>,
    pub touched: bool,
}

/// An account that events of the segment name.
pub(super) struct UserWork<'a> {
    pub instance_id: Uuid,
    pub channel: Arc<str>,
    pub external_id: &'a str,
    pub id: Uuid,
    pub person_id: Option<Uuid>,
    /// How it was linked to its person, when it was not known.
    pub new: Option<people::Link>,
    pub seen: u64,
    /// What the network says about it, when that is news.
    pub news: Option<&'a User>,
    pub messages: i64,
    pub seen_at: Option<Time>,
}

/// A message that events of the segment name or make.
pub(super) struct MessageWork {
    pub row: MessageRow,
    pub new: bool,
    pub changed: bool,
    /// An edit made it, and now it is here itself: what only it says is to be written.
    pub completed: bool,
}

/// What one event is applied with.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub entry: &'a Entry,
    pub event: &'a Event,
    /// The event's chat, in `Work::chats`.
    pub chat: Option<usize>,
    pub at: Time,
}

pub(super) struct Work<'a> {
    pub now: Time,
    pub instances: &'a HashMap<Uuid, Arc<str>>,
    pub chats: Vec<ChatWork<'a>>,
    pub chat_of: HashMap<(Uuid, &'a str), usize>,
    /// The threads of a chat that the segment has to do with.
    threads: HashMap<Uuid, Vec<Uuid>>,
    pub users: Vec<UserWork<'a>>,
    pub user_of: HashMap<(Uuid, &'a str), usize>,
    pub messages: Vec<MessageWork>,
    /// The new ones among them, for the ledger.
    pub counted: Changes,
    message_of: HashMap<(Uuid, Cow<'a, str>), Vec<usize>>,
    sent_of: HashMap<(Uuid, &'a str), usize>,
    poll_of: HashMap<(Uuid, &'a str), usize>,
    /// Sends whose echo is known by what is in it, the oldest first, each with when it was tried.
    by_content: HashMap<(Uuid, &'a str), Vec<(usize, Time)>>,
    pub participants: BTreeMap<(usize, &'a str), Participation<'a>>,
    pub media: Vec<NewMedia>,
    /// Files that the host holds already, each with the message that needs it.
    pub held_files: Vec<(Uuid, Uuid)>,
    pub events: Vec<NewDomainEvent<'a>>,
    /// What was said about messages before they came.
    pub early: Early,
    last_message: HashMap<Uuid, Time>,
}

/// How far the network's clock may be behind ours when it shows what we sent.
const CLOCKS_DIFFER_MS: i64 = 10_000;

/// The id of ours under which a message came back.
pub(super) fn client_id(message: &Message) -> Option<&str> {
    message.echo.as_ref()?.client_id.as_ref().map(|id| id.as_str())
}

/// The account that an event is about or comes from, to be known afterwards. Our own account is not a person.
fn users(event: &Event) -> Vec<&User> {
    fn other(sender: &Sender) -> Option<&User> {
        (!sender.is_from_me && !sender.user.id.as_str().is_empty()).then_some(&sender.user)
    }
    match &event.body {
        EventBody::Message(message) => other(&message.sender).into_iter().collect(),
        EventBody::Edit(edit) => edit.sender.as_ref().and_then(other).into_iter().collect(),
        EventBody::Delete(delete) => delete.sender.as_ref().and_then(other).into_iter().collect(),
        EventBody::Reaction(reaction) => reaction.sender.as_ref().and_then(other).into_iter().collect(),
        EventBody::PollVote(vote) => vote.sender.as_ref().and_then(other).into_iter().collect(),
        EventBody::ButtonAnswer(answer) => other(&answer.sender).into_iter().collect(),
        EventBody::Call(call) => other(&call.sender).into_iter().collect(),
        EventBody::UserUpdate(update) => vec![&update.user],
        EventBody::Membership(membership) if !membership.is_me => membership.users.iter().collect(),
        _ => Vec::new(),
    }
}

/// The messages that an event names, beside the one that it makes.
fn targets(event: &Event) -> Vec<&MessageRef> {
    match &event.body {
        EventBody::Message(message) => std::iter::once(&message.message)
            .chain(message.reply_to.as_ref().filter(|reply| reply.chat.is_none()).map(|reply| &reply.message))
            .collect(),
        EventBody::Edit(edit) => vec![&edit.target],
        EventBody::Delete(delete) => delete.targets.iter().collect(),
        EventBody::Reaction(reaction) => vec![&reaction.target],
        EventBody::PollVote(vote) => vote.target.iter().collect(),
        EventBody::ButtonAnswer(answer) => answer.target.iter().collect(),
        EventBody::Receipt(receipt) => receipt.targets.iter().collect(),
        EventBody::SendUpdate(update) => vec![&update.target],
        _ => Vec::new(),
    }
}

impl<'a> Work<'a> {
    pub fn new(instances: &'a HashMap<Uuid, Arc<str>>, now: Time) -> Self {
        Self {
            now,
            instances,
            chats: Vec::new(),
            chat_of: HashMap::new(),
            threads: HashMap::new(),
            users: Vec::new(),
            user_of: HashMap::new(),
            messages: Vec::new(),
            counted: Changes::default(),
            message_of: HashMap::new(),
            sent_of: HashMap::new(),
            poll_of: HashMap::new(),
            by_content: HashMap::new(),
            participants: BTreeMap::new(),
            media: Vec::new(),
            held_files: Vec::new(),
            events: Vec::new(),
            early: Early::default(),
            last_message: HashMap::new(),
        }
    }

    /// Loads, folds, writes back.
    pub async fn apply(mut self, tx: &mut Tx, cache: &mut Cache, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        self.load_chats(tx, cache, segment).await?;
        self.load_users(tx, cache, segment).await?;
        self.load_messages(tx, segment).await?;
        for (entry, event) in segment {
            let chat = event.chat.as_ref().and_then(|chat| self.chat_of.get(&(entry.instance_id, chat.id.as_str())));
            let scene = Scene { entry, event, chat: chat.copied(), at: Time::from_millis(event.at) };
            if let (Some(index), Some(chat)) = (scene.chat, &event.chat) {
                self.chat_news(index, chat);
            }
            self.fold(tx, scene).await?;
        }
        self.write(tx, cache).await
    }

    async fn fold(&mut self, tx: &mut Tx, scene: Scene<'a>) -> Result<()> {
        let told = self.events.len();
        match &scene.event.body {
            EventBody::Message(message) => self.message(tx, scene, message),
            EventBody::Edit(edit) => self.edit(tx, scene, edit),
            EventBody::Delete(delete) => self.delete(tx, scene, delete),
            EventBody::Reaction(reaction) => self.reaction(scene, reaction),
            EventBody::PollVote(vote) => self.poll_vote(scene, vote),
            EventBody::Receipt(receipt) => self.receipt(tx, scene, receipt).await?,
            EventBody::SendUpdate(update) => self.send_update(scene, update),
            EventBody::Membership(membership) => self.membership(scene, membership),
            EventBody::ChatUpdate(update) => self.chat_update(scene, update),
            EventBody::ButtonAnswer(answer) => self.button_answer(scene, answer),
            EventBody::UserUpdate(update) => self.user_update(scene, update),
            EventBody::Call(call) => self.call(scene, call),
            EventBody::Unknown(unknown) => self.unknown(scene, unknown),
            // Told to whoever listened when they were accepted, and not stored.
            EventBody::Typing(_) | EventBody::Presence(_) => {}
        }
        if scene.entry.origin() == Origin::History {
            self.tell_as_history(told);
        }
        Ok(())
    }

    /// Nothing of history is news: its messages are told by a name of their own, for whoever answers messages must not answer
    /// one of last year; and what was done to them is in what is stored of them.
    fn tell_as_history(&mut self, from: usize) {
        let told = self.events.split_off(from);
        let messages =
            told.into_iter().filter(|event| matches!(&*event.event_type, "message.received" | "message.sent"));
        self.events.extend(messages.map(|event| NewDomainEvent { event_type: SYNCED.into(), ..event }));
    }

    /// The channel of an instance.
    pub fn channel(&self, instance: Uuid) -> Arc<str> {
        self.instances.get(&instance).map_or_else(|| Arc::from(""), Arc::clone)
    }

    async fn load_chats(&mut self, tx: &mut Tx, cache: &Cache, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        // What sort of chat it is: a parent is only named.
        let mut wanted: Vec<(Uuid, &'a str, Option<&'a Chat>)> = Vec::new();
        for (entry, event) in segment {
            if let Some(chat) = &event.chat {
                wanted.push((entry.instance_id, chat.id.as_str(), Some(chat)));
                wanted.extend(chat.parent.iter().map(|parent| (entry.instance_id, parent.as_str(), None)));
            }
        }
        let mut missing: Vec<(Uuid, &'a str)> = Vec::new();
        let mut found: HashMap<(Uuid, String), cache::Chat> = HashMap::new();
        let mut marks: HashMap<Uuid, Marks> = HashMap::new();
        let mut asked = HashSet::new();
        for (instance, id, _) in &wanted {
            if asked.insert((*instance, *id)) && cache.chat(*instance, id).is_none() {
                missing.push((*instance, *id));
            }
        }
        if !missing.is_empty() {
            missing.sort_unstable();
            for known in chats::find(tx, &missing).await? {
                marks.insert(known.id, known.marks);
                found.insert((known.instance_id, known.external_id), cache::Chat { id: known.id, seen: 0 });
            }
        }
        let mut by_id: HashMap<Uuid, usize> = HashMap::new();
        for (instance, id, chat) in wanted {
            if self.chat_of.contains_key(&(instance, id)) {
                continue;
            }
            let known = cache.chat(instance, id).or_else(|| found.get(&(instance, id.to_owned())).copied());
            let index = match known.and_then(|known| by_id.get(&known.id)) {
                Some(index) => *index,
                None => {
                    let uuid = known.map_or_else(|| tx.new_id(self.now), |known| known.id);
                    by_id.insert(uuid, self.chats.len());
                    self.chats.push(ChatWork {
                        instance_id: instance,
                        channel: self.channel(instance),
                        external_id: id,
                        new: known.is_none().then(|| super::content::chat_type(&chat::kind(chat))),
                        seen: known.map_or(0, |known| known.seen),
                        marks: marks.get(&uuid).copied().unwrap_or_else(|| cache.marks(uuid)),
                        change: ChatChange { id: uuid, ..ChatChange::default() },
                        touched: false,
                    });
                    self.chats.len() - 1
                }
            };
            self.chat_of.insert((instance, id), index);
        }
        for (entry, event) in segment {
            let place = |id: &'a str| Some(self.chats[*self.chat_of.get(&(entry.instance_id, id))?].change.id);
            let Some(chat) = &event.chat else { continue };
            if let (Some(thread), Some(parent)) =
                (place(chat.id.as_str()), chat.parent.as_ref().and_then(|parent| place(parent.as_str())))
            {
                self.add_thread(parent, thread);
            }
        }
        Ok(())
    }

    async fn load_users(&mut self, tx: &mut Tx, cache: &Cache, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        let mut wanted: Vec<(Uuid, &'a User)> = Vec::new();
        for (entry, event) in segment {
            wanted.extend(users(event).into_iter().map(|user| (entry.instance_id, user)));
        }
        people::resolve(self, tx, cache, &wanted).await?;
        for (instance, user) in wanted {
            self.user_news(instance, user);
        }
        Ok(())
    }

    async fn load_messages(&mut self, tx: &mut Tx, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        let mut keys: Vec<(Uuid, &'a str)> = Vec::new();
        let mut sent: Vec<(Uuid, &'a str)> = Vec::new();
        let mut polls: Vec<(Uuid, &'a str)> = Vec::new();
        for (entry, event) in segment {
            let chat = event.chat.as_ref().and_then(|chat| self.chat_of.get(&(entry.instance_id, chat.id.as_str())));
            if let Some(chat) = chat.map(|index| &self.chats[*index]).filter(|chat| chat.new.is_none()) {
                keys.extend(targets(event).into_iter().map(|target| (chat.change.id, target.id.as_str())));
            }
            match &event.body {
                EventBody::Message(message) if message.sender.is_from_me => {
                    sent.extend(client_id(message).map(|id| (entry.instance_id, id)));
                }
                EventBody::PollVote(vote) if vote.target.is_none() => {
                    polls.extend(vote.poll_id.iter().map(|id| (entry.instance_id, id.as_str())));
                }
                _ => {}
            }
        }
        for list in [&mut keys, &mut sent, &mut polls] {
            list.sort_unstable();
            list.dedup();
        }
        for row in messages::load(tx, &keys).await? {
            self.remember_message(row, false);
        }
        self.load_from_threads(tx, segment).await?;
        self.load_early(tx, segment).await?;
        self.load_by_content(tx, segment).await?;
        for row in messages::load_sent(tx, &sent).await? {
            let key = sent.iter().find(|(_, id)| row.client_id.as_deref() == Some(*id)).copied();
            let index = self.remember_message(row, false);
            self.sent_of.extend(key.map(|key| (key, index)));
        }
        for row in messages::load_polls(tx, &polls).await? {
            let key = polls.iter().find(|(_, id)| row.poll_id.as_deref() == Some(*id)).copied();
            let index = self.remember_message(row, false);
            self.poll_of.extend(key.map(|key| (key, index)));
        }
        Ok(())
    }

    /// What is shown of ours and is not stored was written on another device, or is a send that we do not know the id of.
    async fn load_by_content(&mut self, tx: &mut Tx, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        let mut keys: Vec<(Uuid, &'a str)> = Vec::new();
        for (entry, event) in segment {
            let (EventBody::Message(message), Some(chat)) = (&event.body, &event.chat) else { continue };
            let known = self.chat_of.get(&(entry.instance_id, chat.id.as_str())).map(|index| &self.chats[*index]);
            let is_new = known.is_some_and(|chat| {
                chat.new.is_none() && self.parts(chat.change.id, message.message.id.as_str()).is_empty()
            });
            if is_new && message.sender.is_from_me && client_id(message).is_none() {
                keys.push((entry.instance_id, chat.id.as_str()));
            }
        }
        keys.sort_unstable();
        keys.dedup();
        for sent in outbox::by_content(tx, &keys).await? {
            let key = keys.iter().find(|(instance, chat)| *instance == sent.instance_id && *chat == sent.chat_key);
            let index = self.remember_message(sent.message, false);
            if let Some(key) = key {
                self.by_content.entry(*key).or_default().push((index, sent.claimed_at));
            }
        }
        Ok(())
    }

    /// The oldest of our sends that this message is the echo of, as far as what is in it tells.
    pub fn sent_with(&mut self, scene: Scene<'a>, message: &Message) -> Option<usize> {
        let chat = scene.event.chat.as_ref()?;
        let sent = self.by_content.get_mut(&(scene.entry.instance_id, chat.id.as_str()))?;
        let place = sent.iter().position(|(index, tried_at)| {
            let row = &self.messages[*index].row;
            row.external_id.is_none()
                && scene.at.plus_millis(CLOCKS_DIFFER_MS) >= *tried_at
                && content::says_the_same(row, &message.content)
        })?;
        Some(sent.remove(place).0)
    }

    /// A reaction in a forum names the forum, and the message lies in one of its topics.
    async fn load_from_threads(&mut self, tx: &mut Tx, segment: &[(&'a Entry, &'a Event)]) -> Result<()> {
        let mut missing: Vec<(Uuid, &'a str)> = Vec::new();
        for (entry, event) in segment {
            let (EventBody::Reaction(reaction), Some(chat)) = (&event.body, &event.chat) else { continue };
            let chat = self.chat_of.get(&(entry.instance_id, chat.id.as_str())).map(|index| &self.chats[*index]);
            let known = chat.filter(|chat| chat.new.is_none()).map(|chat| chat.change.id);
            if let Some(chat) = known.filter(|chat| self.find_message(*chat, &reaction.target).is_none()) {
                missing.push((chat, reaction.target.id.as_str()));
            }
        }
        missing.sort_unstable();
        missing.dedup();
        let found = chats::find_in_threads(tx, &missing).await?;
        let keys: Vec<(Uuid, &str)> = found.iter().map(|(_, thread, id)| (*thread, id.as_str())).collect();
        for row in messages::load(tx, &keys).await? {
            self.remember_message(row, false);
        }
        for (chat, thread, _) in &found {
            self.add_thread(*chat, *thread);
        }
        Ok(())
    }

    fn add_thread(&mut self, chat: Uuid, thread: Uuid) {
        let threads = self.threads.entry(chat).or_default();
        if chat != thread && !threads.contains(&thread) {
            threads.push(thread);
        }
    }

    /// The chats that a chat is a thread of.
    pub fn parents(&self, chat: Uuid) -> impl Iterator<Item = Uuid> {
        self.threads.iter().filter(move |(_, threads)| threads.contains(&chat)).map(|(parent, _)| *parent)
    }

    /// Keeps a message in memory, once, where it is found by the network's id.
    pub fn remember_message(&mut self, row: MessageRow, new: bool) -> usize {
        let key = (row.chat_id, Cow::Owned(row.external_id.clone().unwrap_or_default()));
        let list = self.message_of.entry(key).or_default();
        if let Some(index) = list.iter().find(|index| self.messages[**index].row.id == row.id) {
            return *index;
        }
        let index = self.messages.len();
        list.push(index);
        self.messages.push(MessageWork { row, new, changed: false, completed: false });
        index
    }

    /// Makes a message that got the network's id only now found by it.
    pub fn index_message(&mut self, index: usize) {
        let row = &self.messages[index].row;
        if let Some(id) = &row.external_id {
            self.message_of.entry((row.chat_id, Cow::Owned(id.clone()))).or_default().push(index);
        }
    }

    /// The parts of a message, in the order in which they came.
    pub fn parts(&self, chat: Uuid, id: &'a str) -> &[usize] {
        self.message_of.get(&(chat, Cow::Borrowed(id))).map_or(&[], Vec::as_slice)
    }

    /// The message that a reference names: the very part, or the first when none is named.
    pub fn find_message(&self, chat: Uuid, target: &'a MessageRef) -> Option<usize> {
        let parts = self.parts(chat, target.id.as_str());
        let wanted = target.part.as_ref().map_or("", |part| part.as_str());
        let exact = parts.iter().find(|index| self.messages[**index].row.part == wanted);
        exact.or_else(|| parts.first().filter(|_| target.part.is_none())).copied()
    }

    /// The same, also when it lies in a thread of the chat.
    pub fn find_message_or_in_threads(&self, chat: Uuid, target: &'a MessageRef) -> Option<usize> {
        let in_threads = || self.threads.get(&chat)?.iter().find_map(|thread| self.find_message(*thread, target));
        self.find_message(chat, target).or_else(in_threads)
    }

    /// The message that we sent under an id of ours.
    pub fn sent(&self, instance: Uuid, client_id: &str) -> Option<usize> {
        self.sent_of.get(&(instance, client_id)).copied()
    }

    /// The message with a poll.
    pub fn poll(&self, instance: Uuid, poll_id: &str) -> Option<usize> {
        self.poll_of.get(&(instance, poll_id)).copied()
    }

    /// The person and the account of somebody who is not us, when they are known.
    pub fn user(&self, instance: Uuid, user: &User) -> Option<&UserWork<'a>> {
        self.user_of.get(&(instance, user.id.as_str())).map(|index| &self.users[*index])
    }

    /// Notes when the instance last had a message.
    pub fn touch_instance(&mut self, instance: Uuid, at: Time) {
        let last = self.last_message.entry(instance).or_insert(at);
        *last = at.max(*last);
    }

    async fn write(mut self, tx: &mut Tx, cache: &mut Cache) -> Result<()> {
        people::write(&mut self, tx, cache).await?;
        self.insert_chats(tx, cache).await?;
        let new: Vec<&MessageRow> = self.messages.iter().filter(|work| work.new).map(|work| &work.row).collect();
        messages::insert(tx, &new, self.now).await?;
        tx.count_all(&self.counted);
        let changed: Vec<&MessageRow> =
            self.messages.iter().filter(|work| work.changed && !work.new).map(|work| &work.row).collect();
        messages::update(tx, &changed, self.now).await?;
        let completed: Vec<&MessageRow> =
            self.messages.iter().filter(|work| work.completed && !work.new).map(|work| &work.row).collect();
        messages::complete(tx, &completed).await?;
        self.update_chats(tx).await?;
        messages::link_answers(tx, &self.early.links).await?;
        self.write_early(tx).await?;
        media::insert(tx, &self.media, self.now).await?;
        crate::store::files::attach(tx, &self.held_files).await?;
        events::append(tx, &self.events, self.now).await?;
        let last_messages: Vec<(Uuid, Time)> = self.last_message.into_iter().collect();
        instances::note_messages(tx, &last_messages).await?;
        Ok(())
    }

    async fn insert_chats(&mut self, tx: &mut Tx, cache: &mut Cache) -> Result<()> {
        let new: Vec<NewChat<'_>> = self
            .chats
            .iter()
            .filter_map(|chat| {
                Some(NewChat {
                    id: chat.change.id,
                    instance_id: chat.instance_id,
                    external_id: chat.external_id,
                    chat_type: chat.new?,
                    channel: Arc::clone(&chat.channel),
                })
            })
            .collect();
        chats::insert(tx, &new, self.now).await?;
        for ((instance, id), index) in &self.chat_of {
            let chat = &self.chats[*index];
            let now = cache::Chat { id: chat.change.id, seen: chat.seen };
            if cache.chat(*instance, id) != Some(now) {
                cache.learn_chat(*instance, id, now);
            }
            if cache.marks(now.id) != chat.marks {
                cache.learn_marks(now.id, chat.marks);
            }
        }
        Ok(())
    }

    async fn update_chats(&mut self, tx: &mut Tx) -> Result<()> {
        let mut changes: Vec<ChatChange<'a>> =
            self.chats.drain(..).filter(|chat| chat.touched).map(|chat| chat.change).collect();
        changes.sort_unstable_by_key(|change| change.id);
        chats::update(tx, &changes, self.now).await?;
        let participants: Vec<Participation<'a>> = std::mem::take(&mut self.participants).into_values().collect();
        chats::participate(tx, &participants, self.now).await
    }
}
