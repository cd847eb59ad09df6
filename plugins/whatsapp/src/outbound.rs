//! Sending, and changing what was sent.
//!
//! The id of a message is made from the host's own id for it, so that the same send tried again is the same message: whoever
//! has it already drops the second. It counts as sent when the server acknowledged it.

pub mod content;
pub mod markup;

use crate::account::Account;
use crate::acks;
use crate::address;
use crate::names::Known;
use crate::session;
use content::Around;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{DeleteMessage, EditMessage, React, Send};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use wacore::download::MediaType;
use wacore_binary::{Jid, JidExt};
use waproto::buffa::MessageField;
use waproto::whatsapp as wa;
use whatsapp_rust::features::StatusSendOptions;
use whatsapp_rust::{Client, RevokeType, SendOptions, UploadOptions};

/// How long to wait for the server's acknowledgement.
const ACK_WITHIN: Duration = Duration::from_secs(20);
/// How much of a file is read from the host at once.
const PIECE: u32 = 1 << 20;

/// The id of a message, as WhatsApp Web makes them: `3EB0` and eighteen hex digits.
pub fn message_id(client_id: &str) -> String {
    let hash = Sha256::digest(client_id.as_bytes());
    format!("3EB0{}", hex::encode_upper(&hash[..9]))
}

/// Whether this kind of content can be sent at all, asked before anything else is.
pub fn check(content: &Content) -> Result<(), SendError> {
    match content {
        Content::LiveLocation(_) | Content::System(_) | Content::Unknown(_) => {
            Err(SendError::unsupported(&format!("sending this kind of content ({})", content.kind())))
        }
        _ => Ok(()),
    }
}

/// What the library's failure means for the request.
pub fn failed(error: &whatsapp_rust::SendError) -> SendError {
    use whatsapp_rust::SendError as Failure;
    match error {
        Failure::InvalidRequest(why) => SendError::invalid(format!("WhatsApp does not take this: {why}")),
        Failure::NotLoggedIn => {
            SendError::new(ErrorCode::NotConnected, NextActor::Operator, "the account is not logged in")
        }
        other => {
            // Most fail before anything is written; what was written and not acknowledged is told apart by the caller.
            let mut error = SendError::uncertain(format!("the message could not be sent: {other}"));
            error.code = ErrorCode::Network;
            error
        }
    }
}

/// Sends one message. Within the runtime.
pub async fn send(account: Arc<Account>, client: Arc<Client>, asked: Send) -> Result<SendReceipt, SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let audience = if chat.is_status_broadcast() { audience(&asked)? } else { Vec::new() };
    let party = account.names.party(&chat, None).await;
    let is_direct = address::is_account(&chat);
    let stranger = is_direct && !is_known(&account, &party).await?;
    let now = account.host.now().max(wacore::time::now_millis());
    account.care.pass(stranger, now)?;
    let around = around(&account, &asked, &chat).await?;
    let words = asked.content.words().map(|text| text.text.clone());
    let message = match asked.content.media().cloned() {
        Some(media) => {
            let upload = upload(&account, &client, &asked.content, &media).await?;
            content::file(&asked.content, &media, upload, around)
        }
        None => content::words(asked.content, around)?,
    };
    let message = with_secret(&account, message).await?;
    let id = message_id(asked.client_id.as_str());
    let mut options = SendOptions::default().with_message_id(id.clone());
    if let Some(seconds) =
        asked.options.get("ephemeralSeconds").and_then(Value::as_u64).and_then(|s| u32::try_from(s).ok())
    {
        options = options.with_ephemeral_expiration(seconds);
    }
    let mut waiting = account.acks.expect(&id);
    let sent = if audience.is_empty() {
        client.send_message_with_options(&chat, message, options).await
    } else {
        let options = StatusSendOptions { message_id: Some(id.clone()), ..StatusSendOptions::default() };
        client.status().send_raw(message, &audience, options).await
    };
    sent.map_err(|error| failed(&error))?;
    let acked = tokio::time::timeout(ACK_WITHIN, waiting.ack()).await;
    drop(waiting);
    let ack = match acked {
        Ok(Some(ack)) => ack,
        Ok(None) => return Err(SendError::uncertain("the connection broke before WhatsApp acknowledged the message")),
        Err(_) => return Err(SendError::uncertain("WhatsApp did not acknowledge the message in time")),
    };
    if let Some(code) = &ack.error {
        return Err(refused(&account, &client, code, now).await);
    }
    account.care.went_out();
    let me = client.pn().unwrap_or_default();
    let known = Known::new(&id, (&chat, &me), true, ack.at.unwrap_or(now), words.as_deref());
    let (care, kept) = account.care.entry();
    let mut writes = vec![known.write()];
    if stranger {
        writes.push((care, Some(kept)));
    }
    // What cannot be remembered cannot be reacted to later; the message is sent all the same.
    if let Err(error) = account.kv.write(writes).await {
        account.host.log(LogLevel::Warn, format!("a sent message could not be remembered: {error}"));
    }
    let mut receipt = SendReceipt::new(id);
    receipt.at = ack.at;
    receipt.chat_id = is_direct.then(|| ChatId::new(&party.id)).filter(|id| *id != asked.chat);
    Ok(receipt)
}

/// Who is to see a status update: WhatsApp leaves it to whoever sends to say to whom.
fn audience(asked: &Send) -> Result<Vec<Jid>, SendError> {
    let named = asked.options.get("statusJidList").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if named.is_empty() {
        return Err(SendError::invalid(
            "a status update needs options.statusJidList, the numbers or addresses of those who are to see it",
        ));
    }
    let one = |named: &Value| {
        let jid = address::parse(named.as_str().unwrap_or_default())?;
        if address::is_account(&jid) { Ok(jid) } else { Err(SendError::invalid(format!("{named} is no account"))) }
    };
    named.iter().map(one).collect()
}

async fn is_known(account: &Account, party: &address::Party) -> Result<bool, SendError> {
    use wacore::store::traits::SignalStore;
    if account.names.has_written(&party.id).await? {
        return Ok(true);
    }
    let users = [Some(&party.id), party.lid.as_ref()];
    for user in users.into_iter().flatten().filter_map(|id| id.split('@').next()) {
        // Who has a session with us was talked to before, perhaps by the program that the account comes from.
        let known = account.store.has_signal_state_for_user(user).await;
        if known.map_err(|error| SendError::transient(error.to_string()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn refused(account: &Arc<Account>, client: &Arc<Client>, code: &str, now: i64) -> SendError {
    if code == "429" {
        let error = account.care.slowed(now);
        session::tell_limits(account, client);
        return error;
    }
    if code == "463" {
        let until = client.mex().fetch_reachout_timelock().await.ok().and_then(|lock| {
            let told = serde_json::to_value(&lock).ok()?;
            let ends = told.get("time_enforcement_ends")?;
            let seconds = ends.as_i64().or_else(|| ends.as_str()?.parse().ok())?;
            Some(seconds * 1_000)
        });
        account.care.restricted(now, until);
        let (key, value) = account.care.entry();
        if let Err(error) = account.kv.write(vec![(key, Some(value))]).await {
            account.host.log(LogLevel::Warn, format!("the restriction could not be kept: {error}"));
        }
        session::tell_limits(account, client);
    }
    acks::refusal(code)
}

/// What stands around the content: what it answers.
async fn around(account: &Account, asked: &Send, chat: &Jid) -> Result<Around, SendError> {
    let mut around = Around::default();
    if let Some(target) = &asked.reply_to {
        let known = account.names.message(target.id.as_str()).await?;
        around.context.stanza_id = Some(target.id.to_string());
        let author = known.as_ref().map(|known| known.s.clone());
        around.context.participant = author.or_else(|| (!chat.is_group()).then(|| chat.to_string()));
        let words = known.and_then(|known| known.t).unwrap_or_default();
        around.context.quoted_message =
            MessageField::some(wa::Message { conversation: Some(words), ..wa::Message::default() });
    }
    if asked.options.get("forwarded").and_then(Value::as_bool) == Some(true) {
        around.context.is_forwarded = Some(true);
        around.context.forwarding_score = Some(1);
    }
    Ok(around)
}

/// Votes in a poll are encrypted with a secret that comes with it.
async fn with_secret(account: &Account, mut message: wa::Message) -> Result<wa::Message, SendError> {
    if message.poll_creation_message.is_set() || message.poll_creation_message_v3.is_set() {
        let secret = account.host.random(32).await?;
        let context = wa::MessageContextInfo { message_secret: Some(secret), ..wa::MessageContextInfo::default() };
        message.message_context_info = MessageField::some(context);
    }
    Ok(message)
}

async fn upload(
    account: &Account,
    client: &Client,
    content: &Content,
    media: &Media,
) -> Result<whatsapp_rust::upload::UploadResponse, SendError> {
    let Some(blob) = &media.blob else {
        return Err(SendError::invalid("the file to be sent is not among the host's"));
    };
    let bytes = read(&account.host, blob).await?;
    let kind = match content {
        Content::Image(_) => MediaType::Image,
        Content::Video(_) => MediaType::Video,
        Content::Audio(_) => MediaType::Audio,
        Content::Sticker(_) => MediaType::Sticker,
        _ => MediaType::Document,
    };
    client.upload(bytes, kind, UploadOptions::new()).await.map_err(|error| {
        let mut failed = SendError::transient(format!("the file could not be uploaded to WhatsApp: {error}"));
        failed.code = ErrorCode::Media;
        failed
    })
}

/// A file of the host's, whole.
pub async fn read(host: &Host, blob: &BlobId) -> Result<Vec<u8>, SendError> {
    let mut bytes = Vec::new();
    loop {
        let (piece, size) = host.media_get(blob, bytes.len() as u64, PIECE).await?;
        if piece.is_empty() && (bytes.len() as u64) < size {
            return Err(SendError::internal("the host gave less of the file than it said"));
        }
        bytes.extend_from_slice(&piece);
        if bytes.len() as u64 >= size {
            return Ok(bytes);
        }
    }
}

fn not_known(id: &str) -> SendError {
    let mut error = SendError::invalid(format!(
        "WhatsApp wants to know who wrote the message {id}, and that is not known any more"
    ));
    error.code = ErrorCode::MessageNotFound;
    error
}

/// How a message is named on the wire.
async fn key_of(account: &Account, chat: &Jid, id: &str) -> Result<wa::MessageKey, SendError> {
    let known = account.names.message(id).await?;
    let needs_author = chat.is_group() || chat.is_status_broadcast();
    let known = match known {
        Some(known) => known,
        // In a chat of two, what we did not send is the other side's.
        None if !needs_author => Known::new(id, (chat, chat), false, 0, None),
        None => return Err(not_known(id)),
    };
    Ok(wa::MessageKey {
        remote_jid: Some(chat.to_string()),
        from_me: Some(known.m),
        id: Some(id.to_owned()),
        participant: (needs_author && !known.m).then_some(known.s),
    })
}

/// Sets our reaction.
pub async fn react(account: Arc<Account>, client: Arc<Client>, asked: React) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let key = key_of(&account, &chat, asked.target.id.as_str()).await?;
    let emoji = asked.emojis.last().map_or("", |emoji| emoji.emoji.as_str());
    client.send_reaction(&chat, key, emoji).await.map(|_| ()).map_err(|error| failed(&error))
}

/// Changes a message of ours.
pub async fn edit(account: Arc<Account>, client: Arc<Client>, asked: EditMessage) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    if account.names.message(asked.target.id.as_str()).await?.is_some_and(|known| !known.m) {
        return Err(SendError::new(
            ErrorCode::Forbidden,
            NextActor::Caller,
            "only messages of the account itself can be changed",
        ));
    }
    let message = match asked.content {
        text @ Content::Text(_) => content::words(text, Around::default())?,
        _ => return Err(SendError::unsupported("changing anything but the words of a message")),
    };
    client.edit_message(&chat, asked.target.id.as_str(), message).await.map(|_| ()).map_err(|error| failed(&error))
}

/// Takes a message back.
pub async fn delete(account: Arc<Account>, client: Arc<Client>, asked: DeleteMessage) -> Result<(), SendError> {
    let chat = address::parse(asked.chat.as_str())?;
    let id = asked.target.id.as_str();
    let known = account.names.message(id).await?;
    let author = known.as_ref().map(|known| known.s.parse::<Jid>()).transpose().map_err(|_| not_known(id))?;
    if asked.only_for_me {
        let is_mine = known.as_ref().is_some_and(|known| known.m);
        let participant = author.filter(|_| chat.is_group() && !is_mine);
        let actions = client.chat_actions();
        let done = actions
            .delete_message_for_me(&chat, participant.as_ref(), id, is_mine, true, known.as_ref().map(|known| known.a))
            .await;
        return done.map_err(|error| {
            SendError::transient(format!("the message could not be taken away on the other devices: {error}"))
        });
    }
    let how = match (known, author) {
        (Some(known), Some(author)) if !known.m => {
            if !chat.is_group() {
                return Err(SendError::new(
                    ErrorCode::Forbidden,
                    NextActor::Caller,
                    "only one's own messages can be taken back in a chat of two",
                ));
            }
            RevokeType::Admin { original_sender: author }
        }
        _ => RevokeType::Sender,
    };
    client.revoke_message(&chat, id, how).await.map_err(|error| failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_send_is_the_same_message() {
        let id = message_id("018f2c4e-0000-7000-8000-000000000001");
        assert_eq!(id, message_id("018f2c4e-0000-7000-8000-000000000001"));
        assert_ne!(id, message_id("018f2c4e-0000-7000-8000-000000000002"));
        assert!(id.starts_with("3EB0") && id.len() == 22, "{id}");
    }
}
