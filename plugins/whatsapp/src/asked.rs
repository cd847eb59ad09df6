//! Everything that is asked beside sending: receipts, typing, how a chat is kept, history; [`groups`], and [`people`].

pub mod groups;
pub mod people;

use crate::account::Account;
use crate::address;
use crate::outbound;
use omni_channel_sdk::content::Media;
use omni_channel_sdk::event::Activity;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{ChatAction, History, HistoryPage, MarkRead, SetChat, ShowTyping};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use wacore_binary::{Jid, JidExt};
use whatsapp_rust::Client;
use whatsapp_rust::features as wa;

/// How long the phone may take to send older messages.
const HISTORY_WITHIN: Duration = Duration::from_secs(45);
/// Most messages that the phone is asked for at once.
const HISTORY_AT_ONCE: u32 = 50;

fn failed(what: &str, error: impl std::fmt::Display) -> SendError {
    SendError::transient(format!("{what}: {error}"))
}

/// A picture that is to be shown, whole.
async fn picture(account: &Account, picture: &Media) -> Result<Vec<u8>, SendError> {
    let blob = picture.blob.as_ref();
    let blob = blob.ok_or_else(|| SendError::invalid("the picture is not among the host's files"))?;
    outbound::read(&account.host, blob).await
}

/// Shows that we write.
pub async fn typing(client: Arc<Client>, asked: ShowTyping) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let state = client.chatstate();
    let done = match asked.activity {
        Activity::Paused => state.send_paused(&chat).await,
        Activity::Recording => state.send_recording(&chat).await,
        _ => state.send_composing(&chat).await,
    };
    done.map_err(|error| failed("the other side could not be shown that somebody writes", error))
}

/// Tells the other side what was read.
pub async fn mark_read(account: Arc<Account>, client: Arc<Client>, asked: MarkRead) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    if asked.messages.is_empty() {
        let done = client.chat_actions().mark_chat_as_read(&chat, true, None).await;
        return done.map_err(|error| failed("the chat could not be marked as read", error));
    }
    // A receipt is for one author's messages.
    let mut by_author: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for message in &asked.messages {
        let known = account.names.message(message.id.as_str()).await?;
        if known.as_ref().is_some_and(|known| known.m) {
            continue;
        }
        let author = known.map(|known| known.s).or_else(|| message.sender.as_ref().map(ToString::to_string));
        by_author
            .entry(author.filter(|_| chat.is_group() || chat.is_status_broadcast()))
            .or_default()
            .push(message.id.to_string());
    }
    for (author, ids) in by_author {
        let author = author
            .map(|author| author.parse::<Jid>())
            .transpose()
            .map_err(|error| SendError::invalid(error.to_string()))?;
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let done = client.mark_as_read(&chat, author.as_ref(), &ids).await;
        done.map_err(|error| failed("the receipt could not be sent", error))?;
    }
    Ok(())
}

/// Changes how the account keeps a chat.
pub async fn set_chat(account: Arc<Account>, client: Arc<Client>, asked: SetChat) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let actions = client.chat_actions();
    let wrong = |error: wa::AppStateError| failed("the chat could not be changed on the account's devices", error);
    match asked.action {
        ChatAction::Archive => actions.archive_chat(&chat, None).await.map_err(wrong),
        ChatAction::Unarchive => actions.unarchive_chat(&chat, None).await.map_err(wrong),
        ChatAction::Pin => actions.pin_chat(&chat).await.map_err(wrong),
        ChatAction::Unpin => actions.unpin_chat(&chat).await.map_err(wrong),
        ChatAction::Mute => match asked.until {
            Some(until) => actions.mute_chat_until(&chat, until).await.map_err(wrong),
            None => actions.mute_chat(&chat).await.map_err(wrong),
        },
        ChatAction::Unmute => actions.unmute_chat(&chat).await.map_err(wrong),
        ChatAction::Block => {
            client.blocking().block(&chat).await.map_err(|error| failed("the account could not be blocked", error))
        }
        ChatAction::Unblock => {
            client.blocking().unblock(&chat).await.map_err(|error| failed("the account could not be unblocked", error))
        }
        ChatAction::Star | ChatAction::Unstar => {
            let id = asked.message.as_ref().ok_or_else(|| SendError::invalid("nobody says which message"))?;
            let known = account.names.message(id.id.as_str()).await?;
            let known =
                known.ok_or_else(|| SendError::invalid(format!("the message {} is not known any more", id.id)))?;
            let author = known.s.parse::<Jid>().ok().filter(|_| chat.is_group() && !known.m);
            let done = match asked.action {
                ChatAction::Star => actions.star_message(&chat, author.as_ref(), &known.i, known.m).await,
                _ => actions.unstar_message(&chat, author.as_ref(), &known.i, known.m).await,
            };
            done.map_err(wrong)
        }
        ChatAction::SetDisappearing => {
            let seconds = asked.seconds.unwrap_or(0);
            if chat.is_group() {
                let done = client.groups().set_ephemeral(&chat, seconds).await;
                return done.map_err(|error| failed("the group could not be changed", error));
            }
            let done = client.set_chat_disappearing_timer(chat, seconds).await.map(|_| ());
            done.map_err(|error| failed("the chat could not be changed", error))
        }
        other => Err(SendError::unsupported(&format!("{other} of a chat"))),
    }
}

/// Asks the phone for older messages.
pub async fn history(account: Arc<Account>, client: Arc<Client>, asked: History) -> Result<HistoryPage, SendError> {
    if asked.forward {
        return Err(SendError::unsupported(
            "history towards newer messages; WhatsApp delivers what was missed by itself",
        ));
    }
    let chat = address::parse(asked.chat.as_str())?;
    let (id, is_from_me, at) = match (&asked.cursor, &asked.anchor) {
        (Some(cursor), _) => {
            let mut parts = cursor.splitn(3, '|');
            let at = parts.next().and_then(|at| at.parse::<i64>().ok());
            let (Some(at), Some(mine), Some(id)) = (at, parts.next(), parts.next()) else {
                return Err(SendError::invalid(format!("{cursor:?} is no place in a history of WhatsApp's")));
            };
            (id.to_owned(), mine == "1", at)
        }
        (None, Some(anchor)) => {
            let known = account.names.message(anchor.id.as_str()).await?;
            let known =
                known.ok_or_else(|| SendError::invalid(format!("the message {} is not known any more", anchor.id)))?;
            (known.i, known.m, known.a)
        }
        (None, None) => {
            return Err(SendError::invalid(
                "WhatsApp gives older messages only before one that is known; name one as the anchor",
            ));
        }
    };
    let count = i32::try_from(asked.limit.clamp(1, HISTORY_AT_ONCE)).unwrap_or(1);
    let session = client.fetch_message_history(&chat, &id, is_from_me, at, count).await;
    let session = session.map_err(|error| failed("the phone could not be asked for older messages", error))?;
    let told = account.expect_history(&session);
    match tokio::time::timeout(HISTORY_WITHIN, told).await {
        Ok(Ok(answer)) => {
            let cursor =
                answer.oldest.map(|oldest| format!("{}|{}|{}", oldest.at, u8::from(oldest.is_from_me), oldest.id));
            // One that does not lead further is the end.
            let cursor = cursor.filter(|cursor| asked.cursor.as_ref() != Some(cursor) && !answer.events.is_empty());
            Ok(HistoryPage { events: answer.events, cursor })
        }
        _ => Err(SendError::transient("the phone did not answer in time; it has to be online to give older messages")),
    }
}
