//! What Telegram says once and later takes for known: where a poll of ours is, and how a topic was renamed.
//!
//! A vote names only the poll, never the chat or the message; and every message in a topic repeats the title that the
//! topic was made with. One small key-value entry for each open poll of ours and for each renamed topic.

use omni_channel_sdk::content::Poll;
use omni_channel_sdk::event::PollVote;
use omni_channel_sdk::prelude::*;
use serde::Serialize;

#[derive(Debug, Serialize, Deserialize)]
struct Place {
    chat: Chat,
    message: MessageId,
}

fn poll_key(poll: &str) -> String {
    format!("poll/{poll}")
}

fn topic_key(topic: &ChatId) -> String {
    format!("topic/{topic}")
}

/// Remembers a poll that we sent.
pub fn remember_poll(ctx: &Context, poll: &str, chat: Chat, message: MessageId) {
    if let Ok(place) = serde_json::to_vec(&Place { chat, message }) {
        ctx.set(poll_key(poll), place);
    }
}

/// Adds to an event what is known from before.
pub async fn complete(ctx: &Context, event: &mut Event) -> Result<(), HostError> {
    match &mut event.body {
        EventBody::PollVote(vote) => {
            if let Some(chat) = place_vote(ctx, vote).await? {
                event.chat = Some(chat);
            }
            Ok(())
        }
        body => match &mut event.chat {
            Some(chat) if chat.kind == ChatKind::Thread => {
                let renamed = matches!(body, EventBody::ChatUpdate(_)) && says_renamed(event.raw.as_ref());
                name_topic(ctx, chat, renamed).await
            }
            _ => Ok(()),
        },
    }
}

async fn place_vote(ctx: &Context, vote: &mut PollVote) -> Result<Option<Chat>, HostError> {
    let Some(poll) = &vote.poll_id else { return Ok(None) };
    let key = poll_key(poll);
    let Some(stored) = ctx.get(&key).await? else { return Ok(None) };
    if matches!(vote.poll, Some(Poll { closed: true, .. })) {
        ctx.delete(key);
    }
    let Ok(place) = serde_json::from_slice::<Place>(&stored) else { return Ok(None) };
    vote.target = Some(place.message.into());
    Ok(Some(place.chat))
}

fn says_renamed(update: Option<&Value>) -> bool {
    update.and_then(|update| update.pointer("/message/forum_topic_edited/name")).is_some()
}

async fn name_topic(ctx: &Context, chat: &mut Chat, renamed: bool) -> Result<(), HostError> {
    let Some(name) = &chat.name else { return Ok(()) };
    let key = topic_key(&chat.id);
    if renamed {
        ctx.set(key, name.as_str());
    } else if let Some(stored) = ctx.get(&key).await? {
        chat.name = String::from_utf8(stored).ok();
    }
    Ok(())
}
