//! What is told late, under an id that a chat had until its network moved it.
//!
//! There messages had other numbers: the same number is another message in the chat as it is now. So the messages that
//! such an event names get the ids that the move gave to those which were stored by then, `<old chat>/<message>`.

use super::cache::Cache;
use crate::store::entry::Entry;
use crate::store::{Result, Tx, chats};
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::content::{Content, System};
use omni_channel_sdk::event::{Event, EventBody};
use omni_channel_sdk::ids::{ChatId, MessageId};
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// The events of a segment that are told so, as they are to be applied, each in its place; nothing when there is none.
pub(super) async fn copies(tx: &mut Tx, cache: &mut Cache, segment: &[(&Entry, &Event)]) -> Result<Vec<Option<Event>>> {
    let moved = match cache.moved.take() {
        Some(moved) => moved,
        None => read(tx).await?,
    };
    let late = |entry: &Entry, event: &Event| {
        let chat = event.chat.as_ref()?;
        moved.get(&entry.instance_id)?.contains(chat.id.as_str()).then(|| apart(event, &chat.id))
    };
    let copies = if !moved.is_empty() && segment.iter().any(|(entry, _)| moved.contains_key(&entry.instance_id)) {
        segment.iter().map(|(entry, event)| late(entry, event)).collect()
    } else {
        Vec::new()
    };
    cache.moved = Some(moved);
    Ok(copies)
}

async fn read(tx: &mut Tx) -> Result<HashMap<Uuid, HashSet<String>>> {
    let mut moved: HashMap<Uuid, HashSet<String>> = HashMap::new();
    for (instance, id) in chats::moved_ids(tx).await? {
        moved.entry(instance).or_default().insert(id);
    }
    Ok(moved)
}

/// An event whose messages are told apart from those of the chat as it is now.
fn apart(event: &Event, chat: &ChatId) -> Event {
    let mut event = event.clone();
    let name = |id: &mut MessageId| *id = MessageId::new(format!("{chat}/{id}"));
    let all = |targets: &mut [MessageRef]| targets.iter_mut().for_each(|target| name(&mut target.id));
    match &mut event.body {
        EventBody::Message(message) => {
            name(&mut message.message.id);
            if let Some(reply) = message.reply_to.as_mut().filter(|reply| reply.chat.is_none()) {
                name(&mut reply.message.id);
            }
            if let Content::System(System { message: Some(about), .. }) = &mut message.content {
                name(about);
            }
        }
        EventBody::Edit(edit) => name(&mut edit.target.id),
        EventBody::Delete(delete) => all(&mut delete.targets),
        EventBody::Reaction(reaction) => name(&mut reaction.target.id),
        EventBody::PollVote(vote) => all(vote.target.as_mut_slice()),
        EventBody::ButtonAnswer(answer) => all(answer.target.as_mut_slice()),
        EventBody::Receipt(receipt) => all(&mut receipt.targets),
        EventBody::SendUpdate(update) => name(&mut update.target.id),
        _ => {}
    }
    event
}
