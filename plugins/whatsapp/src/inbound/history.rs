//! What the phone tells of the past: a large part of it after linking, more when it is asked for.

use super::{Inbound, Out};
use omni_channel_sdk::event::{ChatUpdate, EventOrigin, Reaction};
use omni_channel_sdk::prelude::*;
use wacore::chrono::DateTime;
use wacore::types::message::{MessageInfo, MessageSource};
use wacore_binary::{Jid, JidExt};
use waproto::whatsapp as wa;

/// Where the account itself is addressed.
#[derive(Clone, Debug)]
pub struct Me {
    /// By its phone number.
    pub pn: Jid,
    /// By its LID.
    pub lid: Option<Jid>,
}

/// The oldest message of a conversation's piece: where to ask on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Oldest {
    /// Its id.
    pub id: String,
    /// Whether it is ours.
    pub is_from_me: bool,
    /// When it was written, milliseconds since 1970.
    pub at: i64,
}

impl Inbound {
    /// Adds a conversation's messages, from old to new, and tells the oldest.
    pub async fn conversation(&self, told: &wa::Conversation, me: &Me, out: &mut Out) -> Option<Oldest> {
        let Ok(chat) = told.id.parse::<Jid>() else { return None };
        let other = told.pn_jid.as_deref().or(told.lid_jid.as_deref()).and_then(|jid| jid.parse::<Jid>().ok());
        let at = i64::try_from(told.conversation_timestamp.unwrap_or(0)).unwrap_or(0) * 1_000;
        if self.is_wanted(&chat) {
            let mut known = self.chat(&chat, other.as_ref(), at, out).await;
            known.name = told.display_name.clone().or_else(|| told.name.clone()).filter(|name| !name.is_empty());
            known.description = told.description.clone().filter(|words| !words.is_empty());
            if known.name.is_some() || known.description.is_some() {
                let event =
                    Event { origin: Some(EventOrigin::History), ..Event::new(known, at, ChatUpdate::default()) };
                out.events.push(event);
            }
        }
        let mut messages: Vec<(MessageInfo, &wa::Message)> = told
            .messages
            .iter()
            .filter_map(|one| one.message.as_option())
            .filter_map(|one| Some((info(one, &chat, other.as_ref(), me)?, one.message.as_option()?)))
            .collect();
        messages.sort_by_key(|(info, _)| info.timestamp);
        let oldest = messages.first().map(|(info, _)| Oldest {
            id: info.id.clone(),
            is_from_me: info.source.is_from_me,
            at: info.timestamp.timestamp_millis(),
        });
        for (info, message) in messages {
            self.take(message, &info, Some(EventOrigin::History), out).await;
        }
        if self.is_wanted(&chat) {
            for one in told.messages.iter().filter_map(|one| one.message.as_option()) {
                self.reactions(one, &chat, other.as_ref(), me, out).await;
            }
        }
        oldest
    }

    /// Adds what people had put to a message of the past.
    async fn reactions(&self, told: &wa::WebMessageInfo, chat: &Jid, other: Option<&Jid>, me: &Me, out: &mut Out) {
        let Some(target) = told.key.as_option().and_then(|key| key.id.as_deref()) else { return };
        for reaction in &told.reactions {
            let Some(key) = reaction.key.as_option() else { continue };
            let Some(emoji) = reaction.text.as_deref().filter(|emoji| !emoji.is_empty()) else { continue };
            let at = reaction.sender_timestamp_ms.unwrap_or(0);
            // The key is that of the reaction: who sent it, and its own id.
            let by = wa::WebMessageInfo {
                key: reaction.key.clone(),
                message_timestamp: Some(u64::try_from(at / 1_000).unwrap_or(0)),
                ..wa::WebMessageInfo::default()
            };
            let Some(info) = info(&by, chat, other, me) else { continue };
            let (place, sender) = self.who(&info.source, at, out).await;
            let key = format!("{}/{}/{}", place.id, sender.user.id, key.id.as_deref().unwrap_or(target));
            let reaction = Reaction {
                target: target.into(),
                sender: Some(sender),
                emojis: vec![emoji.into()],
                revision: at,
                change: Default::default(),
                counts: Vec::new(),
            };
            let event = Event { origin: Some(EventOrigin::History), ..Event::new(place, at, reaction) };
            out.events.push(event.delivered_as(key));
        }
    }
}

/// What the stanza would have said, had it come now.
fn info(told: &wa::WebMessageInfo, chat: &Jid, other: Option<&Jid>, me: &Me) -> Option<MessageInfo> {
    let key = told.key.as_option()?;
    let is_from_me = key.from_me.unwrap_or_default();
    let is_group = chat.is_group();
    let sender = if is_from_me {
        if chat.is_lid() { me.lid.clone().unwrap_or_else(|| me.pn.clone()) } else { me.pn.clone() }
    } else if is_group || chat.is_status_broadcast() {
        told.participant.as_deref().or(key.participant.as_deref())?.parse().ok()?
    } else {
        chat.clone()
    };
    let seconds = i64::try_from(told.message_timestamp?).ok()?;
    Some(MessageInfo {
        source: MessageSource {
            chat: chat.clone(),
            sender,
            is_from_me,
            is_group,
            sender_alt: other.filter(|_| !is_from_me && !is_group).cloned(),
            recipient_alt: other.filter(|_| is_from_me && !is_group).cloned(),
            ..MessageSource::default()
        },
        id: key.id.clone()?,
        timestamp: DateTime::from_timestamp(seconds, 0)?,
        push_name: told.push_name.clone().unwrap_or_default(),
        ..MessageInfo::default()
    })
}
