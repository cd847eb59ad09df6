//! What becomes of a row that was handed to a channel, of its message, and of those that went out with it; and the domain
//! event that tells of it, in the same transaction.

use super::{OutboxRow, message_by_id};
use crate::store::apply::content::chat_type;
use crate::store::chats::{self, ChatChange, NewChat};
use crate::store::events::{self, NewDomainEvent};
use crate::store::ledger::Account;
use crate::store::{Json, Result, Run, Store, Time, Tx, fault, messages, on};
use omni_channel_sdk::chat::Chat;
use omni_channel_sdk::content::Content;
use omni_channel_sdk::outcome::SendError;
use serde_json::{Value, json};
use sqlx::FromRow;
use uuid::Uuid;

/// What becomes of a claimed row.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// The network took it; the receipt is absent for a change.
    Delivered(Option<omni_channel_sdk::SendReceipt>),
    /// To be tried again.
    Retry {
        /// When.
        at: Time,
        /// Why not now.
        error: Value,
        /// Whether it was tried: what only waits its turn is not given up for having waited often.
        tried: bool,
    },
    /// Not known; to be reconciled again.
    Unknown {
        /// When.
        at: Time,
        /// Why.
        error: Value,
        /// Whether its echo is known by nothing but what is in it, because its network was asked and cannot tell.
        by_content: bool,
    },
    /// Given up.
    Failed {
        /// Why.
        error: Value,
    },
}

/// Writes what became of a row, of its message, and the domain event, in one transaction.
pub async fn settle(store: &Store, channel: &str, row: &OutboxRow, settlement: &Settlement, now: Time) -> Result<()> {
    let mut tx = store.begin().await?;
    // An echo may have told in the meantime that the network has it.
    let echoed = match settlement {
        Settlement::Failed { .. } if row.kind == "send" => echo_of(&mut tx, row.message_id).await?,
        _ => None,
    };
    let settlement = echoed.map_or_else(|| settlement.clone(), |receipt| Settlement::Delivered(Some(receipt)));
    let went = match &settlement {
        Settlement::Delivered(Some(receipt)) => match &receipt.began {
            Some(chat) => Some(begin_chat(&mut tx, channel, row, chat, now).await?),
            None => follow_move(&mut tx, row, receipt, now).await?,
        },
        _ => None,
    };
    // As it was to be sent, but for where it went.
    let went = went.map(|chat_key| OutboxRow { chat_key, ..row.clone() });
    let row = went.as_ref().unwrap_or(row);
    if settle_row(&mut tx, channel, row, "sending", &settlement, now).await? {
        settle_album(&mut tx, channel, row, &settlement, now).await?;
    }
    fault!("outbox.settle.before");
    tx.commit().await?;
    fault!("outbox.settle.after");
    Ok(())
}

/// The network took a message for another chat than was asked for, because the chat has moved: both are one from now on.
async fn follow_move(
    tx: &mut Tx,
    row: &OutboxRow,
    receipt: &omni_channel_sdk::SendReceipt,
    now: Time,
) -> Result<Option<String>> {
    let Some(to) = receipt.chat_id.as_ref().filter(|to| row.kind == "send" && to.as_str() != row.chat_key) else {
        return Ok(None);
    };
    chats::moved(tx, row.instance_id, &row.chat_key, to.as_str(), now).await?;
    tx.people_move().await?;
    Ok(Some(to.to_string()))
}

/// The message began a chat beside the one that was asked for: it is in there, and what belongs to it goes there.
async fn begin_chat(tx: &mut Tx, channel: &str, row: &OutboxRow, chat: &Chat, now: Time) -> Result<String> {
    let (instance_id, to) = (row.instance_id, chat.id.as_str());
    let known = chats::find(tx, &[(instance_id, to), (instance_id, &row.chat_key)]).await?;
    let known = |wanted: &str| known.iter().find(|known| known.external_id == wanted).map(|known| known.id);
    let id = match known(to) {
        Some(id) => id,
        None => {
            let id = tx.new_id(now);
            let new =
                NewChat { id, instance_id, external_id: to, chat_type: chat_type(&chat.kind), channel: channel.into() };
            chats::insert(tx, &[new], now).await?;
            id
        }
    };
    let change = ChatChange { id, name: chat.name.as_deref(), parent: known(&row.chat_key), ..ChatChange::default() };
    chats::update(tx, &[change], now).await?;
    let query = "select id, message_id, request from outbox where send_id = $1 and (id = $2 or status = 'pending')";
    let parts: Vec<(Uuid, Uuid, Json<Value>)> =
        on!(tx, conn => sqlx::query_as(query).bind(row.send_id).bind(row.id).fetch_all(conn).await)?;
    for (part, message, Json(mut request)) in parts {
        request["chat"] = to.into();
        let query = "update outbox set chat_key = $2, request = $3 where id = $1";
        on!(tx, conn => sqlx::query(query).bind(part).bind(to).bind(Json(request)).run(conn).await)?;
        let query = "update messages set chat_id = $2 where id = $1";
        on!(tx, conn => sqlx::query(query).bind(message).bind(id).run(conn).await)?;
    }
    Ok(to.to_owned())
}

/// Settles the other items of an album with the one that began it: they went out with it, or not at all.
async fn settle_album(tx: &mut Tx, channel: &str, row: &OutboxRow, settlement: &Settlement, now: Time) -> Result<()> {
    let items = row.request.0.get("album").and_then(Value::as_array).map_or(0, Vec::len);
    if items == 0 || matches!(settlement, Settlement::Retry { .. } | Settlement::Unknown { .. }) {
        return Ok(());
    }
    let query = "select seq, id, instance_id, chat_key, message_id, send_id, part, kind, request, attempts, status,
            claimed_at, unknown_since, created_at
        from outbox where send_id = $1 and part > $2 order by part limit $3";
    let others: Vec<OutboxRow> = on!(tx, conn => sqlx::query_as(query)
        .bind(row.send_id)
        .bind(row.part)
        .bind(i64::try_from(items).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await)?;
    for (index, other) in others.iter().enumerate() {
        let settlement = match settlement {
            Settlement::Delivered(receipt) => match receipt.as_ref().and_then(|receipt| receipt.album.get(index)) {
                Some(receipt) => Settlement::Delivered(Some(receipt.clone())),
                None => Settlement::Failed {
                    error: json!(SendError::uncertain(
                        "the network took the album and did not say what became of this item",
                    )),
                },
            },
            other => other.clone(),
        };
        settle_row(tx, channel, other, "pending", &settlement, now).await?;
    }
    Ok(())
}

/// Writes what became of one row that is being tried, or (`from`) still waits. Says whether it was there to be settled.
async fn settle_row(
    tx: &mut Tx,
    channel: &str,
    row: &OutboxRow,
    from: &'static str,
    settlement: &Settlement,
    now: Time,
) -> Result<bool> {
    let (status, at, receipt, error) = match settlement {
        Settlement::Delivered(receipt) => ("delivered", None, receipt.as_ref(), None),
        Settlement::Retry { at, error, .. } => ("pending", Some(*at), None, Some(error)),
        Settlement::Unknown { at, error, .. } => ("unknown", Some(*at), None, Some(error)),
        Settlement::Failed { error } => ("failed", None, None, Some(error)),
    };
    let by_content = matches!(settlement, Settlement::Unknown { by_content: true, .. });
    let waited = matches!(settlement, Settlement::Retry { tried: false, .. });
    let query = "update outbox set status = $2, available_at = coalesce($3, available_at), receipt = $4, error = $5,
            claimed_at = case when $2 = 'pending' then null else claimed_at end,
            unknown_since = case when $2 = 'unknown' then coalesce(unknown_since, $6) end, by_content = $8,
            attempts = attempts - $9, updated_at = $6
        where id = $1 and (status = $7 or ($7 = 'sending' and status = 'reconciling'))";
    let done = on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(status)
        .bind(at)
        .bind(receipt.map(Json))
        .bind(error.map(Json))
        .bind(now)
        .bind(from)
        .bind(by_content)
        .bind(i64::from(waited))
        .run(conn)
        .await)?;
    if done == 0 {
        // Deleted with its instance, or settled by an echo of it: there is nothing left to say.
        return Ok(false);
    }
    match settlement {
        Settlement::Delivered(receipt) => {
            tx.count(row.instance_id, Account::Delivered, 1);
            delivered(tx, channel, row, receipt.as_ref(), now).await?;
        }
        Settlement::Failed { error } => {
            tx.count(row.instance_id, Account::Failed, 1);
            failed(tx, channel, row, error, now).await?;
        }
        Settlement::Retry { .. } | Settlement::Unknown { .. } => {}
    }
    Ok(true)
}

/// What the network's echo of a message told of it, if there was one.
pub async fn echo_of(tx: &mut Tx, message_id: Uuid) -> Result<Option<omni_channel_sdk::SendReceipt>> {
    let Some(message) = message_by_id(tx, message_id).await? else { return Ok(None) };
    Ok(message.external_id.map(|id| {
        let mut receipt = omni_channel_sdk::SendReceipt::new(id);
        // That of the echo.
        receipt.at = Some(message.platform_timestamp.millis());
        receipt.part = (!message.part.is_empty()).then(|| message.part.into());
        receipt
    }))
}

#[derive(FromRow)]
struct Sent {
    chat_id: Uuid,
    external_id: Option<String>,
    message_type: String,
    text_content: Option<String>,
    content: Json<Value>,
    reply_to_external_id: Option<String>,
}

async fn sent_message(tx: &mut Tx, id: Uuid) -> Result<Option<Sent>> {
    let query = "select chat_id, external_id, message_type, text_content, content, reply_to_external_id
        from messages where id = $1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

async fn delivered(
    tx: &mut Tx,
    channel: &str,
    row: &OutboxRow,
    receipt: Option<&omni_channel_sdk::SendReceipt>,
    now: Time,
) -> Result<()> {
    match row.kind.as_str() {
        "send" => {
            let Some(receipt) = receipt else { return Ok(()) };
            let at = receipt.at.map_or(now, Time::from_millis);
            let external_id = receipt.message_id.as_str();
            let part = receipt.part.as_ref().map_or("", |part| part.as_str());
            let Some(message) = sent_message(tx, row.message_id).await? else { return Ok(()) };
            let echoed = messages::settle_sent(tx, row.message_id, external_id, part, Some(at), now).await?;
            let preview: String = message.text_content.iter().flat_map(|text| text.chars()).take(100).collect();
            chats::count_own(tx, message.chat_id, at, &preview, now).await?;
            let query = "update instances set last_message_at = $2 where id = $1
                and (last_message_at is null or last_message_at < $2)";
            on!(tx, conn => sqlx::query(query).bind(row.instance_id).bind(at).run(conn).await)?;
            if echoed {
                // The network showed us our own message before it answered: its event is out.
                return Ok(());
            }
            let payload = json!({
                "externalId": external_id, "chatId": row.chat_key, "to": row.chat_key, "content": message.content.0,
                "replyToId": message.reply_to_external_id, "messageId": row.message_id, "timestamp": at.millis(),
            });
            let event = outbound_event("message.sent", channel, row, &message, payload, Some(external_id), now);
            events::append(tx, &[event], now).await
        }
        "edit" => {
            let content: Option<Content> =
                row.request.0.get("content").and_then(|c| serde_json::from_value(c.clone()).ok());
            let stored = sent_message(tx, row.message_id).await?.map(|message| message.content.0);
            if content.as_ref().is_some_and(|content| stored == serde_json::to_value(content).ok()) {
                // The network showed us our change before it answered: it is counted, and its event is out.
                return Ok(());
            }
            let text = content.as_ref().and_then(|content| content.words()).map(|text| text.text.clone());
            macro_rules! text {
                ($history:literal) => {
                    concat!(
                        "update messages set original_text = coalesce(original_text, text_content), edit_history = ",
                        $history,
                        ", text_content = coalesce($2, text_content), content = coalesce($3, content), status = 'edited', \
                         edit_count = edit_count + 1, edited_at = $5, updated_at = $5, \
                         revision = case when revision < $6 then $6 else revision end where id = $1"
                    )
                };
            }
            let query = tx.pick(
                text!("json_insert(coalesce(edit_history, '[]'), '$[#]', json_object('text', text_content, 'at', $4))"),
                text!(
                    "(coalesce(edit_history, '[]')::jsonb \
                     || jsonb_build_array(jsonb_build_object('text', text_content, 'at', $4)))::json"
                ),
            );
            on!(tx, conn => sqlx::query(query)
                .bind(row.message_id)
                .bind(text)
                .bind(content.map(Json))
                .bind(now.to_string())
                .bind(now)
                .bind(now.millis())
                .run(conn)
                .await)?;
            change_event(tx, "message.edited", channel, row, now).await
        }
        "delete" => {
            let query = "update messages set status = 'deleted', deleted_at = $2, updated_at = $2
                where id = $1 and deleted_at is null";
            if on!(tx, conn => sqlx::query(query).bind(row.message_id).bind(now).run(conn).await)? == 0 {
                // The network showed us that it is gone.
                return Ok(());
            }
            change_event(tx, "message.deleted", channel, row, now).await
        }
        _ => change_event(tx, "reaction.sent", channel, row, now).await,
    }
}

async fn change_event(tx: &mut Tx, event_type: &'static str, channel: &str, row: &OutboxRow, now: Time) -> Result<()> {
    let Some(message) = sent_message(tx, row.message_id).await? else { return Ok(()) };
    let external_id = message.external_id.clone();
    let payload = json!({
        "externalId": external_id, "messageId": row.message_id, "chatId": row.chat_key, "content": message.content.0,
        "emojis": row.request.0.get("emojis"),
    });
    let event = outbound_event(event_type, channel, row, &message, payload, external_id.as_deref(), now);
    events::append(tx, &[event], now).await
}

async fn failed(tx: &mut Tx, channel: &str, row: &OutboxRow, error: &Value, now: Time) -> Result<()> {
    let reason = error.get("message").and_then(Value::as_str).unwrap_or("failed");
    if row.kind == "send" {
        let query = "update messages set delivery_status = 'failed', error = $2, updated_at = $3 where id = $1";
        on!(tx, conn => sqlx::query(query).bind(row.message_id).bind(reason).bind(now).run(conn).await)?;
    }
    let Some(message) = sent_message(tx, row.message_id).await? else { return Ok(()) };
    let payload = json!({
        "externalId": message.external_id, "messageId": row.message_id, "chatId": row.chat_key, "error": reason,
        "errorCode": error.get("code"), "retryable": false, "action": row.kind,
        "outcomeKnown": error.get("certain"),
    });
    let event = outbound_event("message.failed", channel, row, &message, payload, message.external_id.as_deref(), now);
    events::append(tx, &[event], now).await
}

fn outbound_event<'a>(
    event_type: &'static str,
    channel: &str,
    row: &'a OutboxRow,
    message: &'a Sent,
    payload: Value,
    external_id: Option<&'a str>,
    now: Time,
) -> NewDomainEvent<'a> {
    NewDomainEvent {
        external_id: external_id.map(Into::into),
        channel: channel.into(),
        instance_id: row.instance_id,
        content_type: Some(static_type(&message.message_type)),
        text_content: message.text_content.as_deref().map(Into::into),
        chat_id: Some(row.chat_key.as_str().into()),
        chat_uuid: Some(message.chat_id),
        message_id: Some(row.message_id),
        trace: row.trace.as_deref().map(Into::into),
        ..NewDomainEvent::new(Uuid::now_v7(), event_type, "outbound", payload.to_string(), now)
    }
}

/// The word for a type that was read from a row.
fn static_type(word: &str) -> &'static str {
    ["text", "image", "audio", "video", "document", "sticker", "location", "contact", "poll"]
        .into_iter()
        .find(|known| *known == word)
        .unwrap_or("system")
}
