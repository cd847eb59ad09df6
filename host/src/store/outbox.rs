//! What is to be asked of networks: the table `outbox`, and the messages that it settles.
//!
//! A row is one part. Within a chat rows are claimed in order, one at a time: the head of a chat's open rows is the only
//! one that can be claimed. Deliberately not here: what is tried again and when.

use super::apply::content;
use super::events::{self, NewDomainEvent};
use super::{Result, Store, StoreError, Time, Tx, chats, fault, messages, on};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::outcome::SendError;
use serde_json::{Value, json};
use sqlx::FromRow;
use sqlx::types::Json;
use uuid::Uuid;

/// A row to be written, with the message that it sends or changes.
#[derive(Clone, Debug)]
pub struct NewOutbox {
    /// Its id.
    pub id: Uuid,
    /// Through which instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// The message.
    pub message_id: Uuid,
    /// The API call that it belongs to.
    pub send_id: Uuid,
    /// Its place within that.
    pub part: i64,
    /// `send`, `edit`, `delete` or `react`.
    pub kind: &'static str,
    /// The wire request.
    pub request: Value,
    /// Our own id of the message, as the network may see it.
    pub client_id: String,
}

/// A claimed row.
#[derive(Clone, Debug, FromRow)]
pub struct OutboxRow {
    /// Its order.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// Through which instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// The message.
    pub message_id: Uuid,
    /// The API call that it belongs to.
    pub send_id: Uuid,
    /// Its place within that.
    pub part: i64,
    /// `send`, `edit`, `delete` or `react`.
    pub kind: String,
    /// The wire request.
    pub request: Json<Value>,
    /// How often it was tried, this time included.
    pub attempts: i64,
    /// `sending`, or `unknown` when it is only to be reconciled.
    pub status: String,
    /// When it was first tried.
    pub claimed_at: Option<Time>,
    /// Since when its outcome is not known, while it is not.
    pub unknown_since: Option<Time>,
    /// When it was accepted.
    pub created_at: Time,
}

/// A message of ours that is about to be sent.
#[derive(Clone, Debug)]
pub struct NewMessageRow {
    /// Its id.
    pub id: Uuid,
    /// Its chat.
    pub chat_id: Uuid,
    /// Our own id, as the network may see it.
    pub client_id: String,
    /// What it is made of.
    pub content: Content,
    /// What it answers: our id, and the network's.
    pub reply_to: Option<(Option<Uuid>, String)>,
    /// When it was accepted.
    pub at: Time,
}

/// A message as a change of it needs to know it.
#[derive(Clone, Debug, FromRow)]
pub struct MessageTarget {
    /// Its id.
    pub id: Uuid,
    /// Its chat.
    pub chat_id: Uuid,
    /// The chat's instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_external_id: String,
    /// The network's id of the message, once it has one.
    pub external_id: Option<String>,
    /// Which part it is; empty for the only one.
    pub part: String,
    /// Whether we wrote it.
    pub is_from_me: bool,
    /// When it was written.
    pub platform_timestamp: Time,
}

/// A chat as a send needs to know it.
#[derive(Clone, Debug, FromRow)]
pub struct ChatTarget {
    /// Its id.
    pub id: Uuid,
    /// Its instance.
    pub instance_id: Uuid,
    /// The network's id.
    pub external_id: String,
}

/// How one part of a call stands.
#[derive(Clone, Debug, FromRow)]
pub struct PartState {
    /// `pending`, `sending`, `unknown`, `delivered` or `failed`.
    pub status: String,
    /// The network's receipt, once it took it.
    pub receipt: Option<Json<Value>>,
    /// Why it failed, or was not yet sent.
    pub error: Option<Json<Value>>,
}

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
    },
    /// Not known; to be reconciled again.
    Unknown {
        /// When.
        at: Time,
        /// Why.
        error: Value,
    },
    /// Given up.
    Failed {
        /// Why.
        error: Value,
    },
}

/// A chat by our id.
pub async fn chat_by_id(tx: &mut Tx, id: Uuid) -> Result<Option<ChatTarget>> {
    let query = "select id, instance_id, external_id from chats where id = $1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

/// A chat by the network's id, the present one or one it had before.
pub async fn chat_by_external(tx: &mut Tx, instance_id: Uuid, external_id: &str) -> Result<Option<ChatTarget>> {
    let query = "select id, instance_id, external_id from chats where instance_id = $1 and external_id = $2
        union all
        select c.id, c.instance_id, c.external_id from chat_id_mappings m join chats c on c.id = m.chat_id
        where m.instance_id = $1 and m.external_id = $2
        limit 1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(instance_id).bind(external_id).fetch_optional(conn).await)?)
}

/// The chat in which a person is best reached through an instance: their newest direct one.
pub async fn chat_of_person(tx: &mut Tx, instance_id: Uuid, person_id: Uuid) -> Result<Option<ChatTarget>> {
    let query = "select c.id, c.instance_id, c.external_id
        from chat_participants p join chats c on c.id = p.chat_id
        where p.person_id = $2 and c.instance_id = $1 and c.chat_type = 'dm'
        order by c.last_message_at desc nulls last, c.id
        limit 1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(instance_id).bind(person_id).fetch_optional(conn).await)?)
}

/// Whether there is such a person.
pub async fn person_exists(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let found: Option<i64> =
        on!(tx, conn => sqlx::query_scalar("select 1 from persons where id = $1").bind(id).fetch_optional(conn).await)?;
    Ok(found.is_some())
}

/// Writes a chat that was not known, of which only the network's id is.
pub async fn insert_chat(
    tx: &mut Tx,
    id: Uuid,
    instance_id: Uuid,
    external_id: &str,
    channel: &str,
    now: Time,
) -> Result<()> {
    let query = "insert into chats (id, instance_id, external_id, chat_type, channel, created_at, updated_at)
        values ($1, $2, $3, 'dm', $4, $5, $5)";
    on!(tx, conn => sqlx::query(query)
        .bind(id)
        .bind(instance_id)
        .bind(external_id)
        .bind(channel)
        .bind(now)
        .execute(conn)
        .await)?;
    Ok(())
}

/// A message by our id.
pub async fn message_by_id(tx: &mut Tx, id: Uuid) -> Result<Option<MessageTarget>> {
    let query = "select m.id, m.chat_id, c.instance_id, c.external_id as chat_external_id, m.external_id, m.part,
            m.is_from_me, m.platform_timestamp
        from messages m join chats c on c.id = m.chat_id where m.id = $1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

/// A message by the network's id within a chat: its first part.
pub async fn message_by_external(tx: &mut Tx, chat_id: Uuid, external_id: &str) -> Result<Option<MessageTarget>> {
    let query = "select m.id, m.chat_id, c.instance_id, c.external_id as chat_external_id, m.external_id, m.part,
            m.is_from_me, m.platform_timestamp
        from messages m join chats c on c.id = m.chat_id
        where m.chat_id = $1 and m.external_id = $2 order by m.part limit 1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(chat_id).bind(external_id).fetch_optional(conn).await)?)
}

/// Writes a message of ours, which the network has not taken yet.
pub async fn insert_message(tx: &mut Tx, row: &NewMessageRow) -> Result<()> {
    let media = row.content.media();
    let query = "insert into messages (id, chat_id, client_id, source, is_from_me, message_type, text_content, content,
            has_media, media_mime_type, media_url, reply_to_message_id, reply_to_external_id, delivery_status,
            platform_timestamp, received_at, created_at, updated_at)
        values ($1, $2, $3, 'api', true, $4, $5, $6, $7, $8, $9, $10, $11, 'pending', $12, $12, $12, $12)";
    on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(row.chat_id)
        .bind(&row.client_id)
        .bind(content::message_type(&row.content))
        .bind(row.content.words().map(|text| text.text.as_str()))
        .bind(Json(&row.content))
        .bind(media.is_some())
        .bind(media.and_then(|media| media.mime_type.as_deref()))
        .bind(media.and_then(|media| media.url.as_deref()))
        .bind(row.reply_to.as_ref().and_then(|(id, _)| *id))
        .bind(row.reply_to.as_ref().map(|(_, external)| external.as_str()))
        .bind(row.at)
        .execute(conn)
        .await)?;
    match media.and_then(|media| media.blob.as_ref()?.as_str().parse().ok()) {
        Some(file) => super::files::attach(tx, &[(file, row.id)]).await,
        None => Ok(()),
    }
}

/// Writes a row.
pub async fn enqueue(tx: &mut Tx, row: &NewOutbox, now: Time) -> Result<()> {
    let query = "insert into outbox (id, instance_id, chat_key, message_id, send_id, part, kind, request, client_id,
            status, available_at, created_at, updated_at)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $10, $10)";
    on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(row.instance_id)
        .bind(&row.chat_key)
        .bind(row.message_id)
        .bind(row.send_id)
        .bind(row.part)
        .bind(row.kind)
        .bind(Json(&row.request))
        .bind(&row.client_id)
        .bind(now)
        .execute(conn)
        .await)?;
    Ok(())
}

/// Claims due rows of some instances: of each chat the oldest open one, when it is due. An `unknown` one stays unknown:
/// it is to be reconciled.
pub async fn claim(store: &Store, instances: &[Uuid], now: Time, limit: u32) -> Result<Vec<OutboxRow>, ClaimError> {
    let mut tx = store.begin().await?;
    let query = "update outbox set attempts = attempts + 1, claimed_at = coalesce(claimed_at, $1), updated_at = $1,
            status = case status when 'pending' then 'sending' else 'reconciling' end
        where seq in (
            select seq from outbox
            where status in ('pending', 'unknown') and available_at <= $1 and seq in (
                select min(seq) from outbox
                where status in ('pending', 'sending', 'unknown', 'reconciling')
                  and instance_id in (select unhex(value) from json_each($2))
                group by instance_id, chat_key)
            order by seq limit $3)
        returning seq, id, instance_id, chat_key, message_id, send_id, part, kind, request, attempts, status,
           claimed_at, unknown_since, created_at";
    let ids: Vec<String> = instances.iter().map(|id| id.simple().to_string()).collect();
    let mut rows: Vec<OutboxRow> = on!(&mut tx, conn => sqlx::query_as(query)
        .bind(now)
        .bind(Json(ids))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await)?;
    if let Err(error) = commit_claim(tx).await {
        return Err(ClaimError { unsure: rows.into_iter().map(|row| row.id).collect(), error });
    }
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

async fn commit_claim(tx: Tx) -> Result<()> {
    fault!("outbox.claim.before");
    tx.commit().await?;
    fault!("outbox.claim.after");
    Ok(())
}

/// Why nothing was claimed, as far as that is known.
#[derive(Debug)]
pub struct ClaimError {
    /// Rows that may be claimed all the same: the commit failed, which does not say that it did not happen. They are
    /// to be given back.
    pub unsure: Vec<Uuid>,
    /// What failed.
    pub error: StoreError,
}

impl<E: Into<StoreError>> From<E> for ClaimError {
    fn from(error: E) -> Self {
        Self { unsure: Vec::new(), error: error.into() }
    }
}

/// Gives back rows that were claimed and never handed to a channel.
pub async fn give_back(store: &Store, ids: &[Uuid], now: Time) -> Result<()> {
    let mut tx = store.begin().await?;
    let query = "update outbox set updated_at = $1, attempts = attempts - 1,
            status = case status when 'sending' then 'pending' else 'unknown' end,
            claimed_at = case status when 'sending' then null else claimed_at end
        where status in ('sending', 'reconciling') and id in (select unhex(value) from json_each($2))";
    let ids: Vec<String> = ids.iter().map(|id| id.simple().to_string()).collect();
    on!(&mut tx, conn => sqlx::query(query).bind(now).bind(Json(ids)).execute(conn).await)?;
    tx.commit().await
}

/// When the next row of some instances may become due, if there is one.
pub async fn next_due(store: &Store, instances: &[Uuid]) -> Result<Option<Time>> {
    let mut tx = store.read().await?;
    let ids: Vec<String> = instances.iter().map(|id| id.simple().to_string()).collect();
    let query = "select min(available_at) from outbox where status in ('pending', 'unknown')
        and instance_id in (select unhex(value) from json_each($1))
        and seq in (select min(seq) from outbox where status in ('pending', 'sending', 'unknown', 'reconciling')
            group by instance_id, chat_key)";
    Ok(on!(&mut tx, conn => sqlx::query_scalar(query).bind(Json(ids)).fetch_one(conn).await)?)
}

/// After a start: what was under way when the host ended has an unknown outcome; what can be repeated is pending again.
pub async fn recover(store: &Store, now: Time) -> Result<u64> {
    let mut tx = store.begin().await?;
    let query = "update outbox set updated_at = $1, available_at = $1,
            status = case when kind = 'send' then 'unknown' else 'pending' end,
            unknown_since = case when kind = 'send' then $1 end
        where status in ('sending', 'reconciling')";
    let done = on!(&mut tx, conn => sqlx::query(query).bind(now).execute(conn).await)?;
    tx.commit().await?;
    Ok(done.rows_affected())
}

/// What a call was made into.
#[derive(Clone, Debug, FromRow)]
pub struct Call {
    /// The first part's message.
    pub message_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// How many parts.
    pub parts: i64,
}

/// What a call was made into, if there was one with this id.
pub async fn call(tx: &mut Tx, send_id: Uuid) -> Result<Option<Call>> {
    let query = "select o.message_id, o.chat_key, (select count(*) from outbox where send_id = $1) as parts
        from outbox o where o.send_id = $1 order by o.part limit 1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(send_id).fetch_optional(conn).await)?)
}

/// How the parts of a call stand, in order.
pub async fn parts(store: &Store, send_id: Uuid) -> Result<Vec<PartState>> {
    let mut tx = store.read().await?;
    let query = "select status, receipt, error from outbox where send_id = $1 order by part";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(send_id).fetch_all(conn).await)?)
}

/// How many rows are open.
pub async fn depth(store: &Store) -> Result<i64> {
    let mut tx = store.read().await?;
    let query = "select count(*) from outbox where status in ('pending', 'sending', 'unknown', 'reconciling')";
    Ok(on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await)?)
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
    if let Settlement::Delivered(Some(receipt)) = &settlement {
        follow_move(&mut tx, row, receipt, now).await?;
    }
    if settle_row(&mut tx, channel, row, "sending", &settlement, now).await? {
        settle_album(&mut tx, channel, row, &settlement, now).await?;
    }
    fault!("outbox.settle.before");
    tx.commit().await?;
    fault!("outbox.settle.after");
    Ok(())
}

/// The network took a message for another chat than was asked for, because the chat has moved: both are one from now on.
async fn follow_move(tx: &mut Tx, row: &OutboxRow, receipt: &omni_channel_sdk::SendReceipt, now: Time) -> Result<()> {
    let Some(to) = receipt.chat_id.as_ref().filter(|to| row.kind == "send" && to.as_str() != row.chat_key) else {
        return Ok(());
    };
    chats::moved(tx, row.instance_id, &row.chat_key, to.as_str(), now).await?;
    tx.people_move();
    Ok(())
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
        Settlement::Retry { at, error } => ("pending", Some(*at), None, Some(error)),
        Settlement::Unknown { at, error } => ("unknown", Some(*at), None, Some(error)),
        Settlement::Failed { error } => ("failed", None, None, Some(error)),
    };
    let query = "update outbox set status = $2, available_at = coalesce($3, available_at), receipt = $4, error = $5,
            claimed_at = case when $2 = 'pending' then null else claimed_at end,
            unknown_since = case when $2 = 'unknown' then coalesce(unknown_since, $6) end, updated_at = $6
        where id = $1 and (status = $7 or ($7 = 'sending' and status = 'reconciling'))";
    let done = on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(status)
        .bind(at)
        .bind(receipt.map(Json))
        .bind(error.map(Json))
        .bind(now)
        .bind(from)
        .execute(conn)
        .await)?;
    if done.rows_affected() == 0 {
        // Deleted with its instance, or settled by an echo of it: there is nothing left to say.
        return Ok(false);
    }
    match settlement {
        Settlement::Delivered(receipt) => delivered(tx, channel, row, receipt.as_ref(), now).await?,
        Settlement::Failed { error } => failed(tx, channel, row, error, now).await?,
        Settlement::Retry { .. } | Settlement::Unknown { .. } => {}
    }
    Ok(true)
}

/// What the network's echo of a message told of it, if there was one.
pub async fn echo_of(tx: &mut Tx, message_id: Uuid) -> Result<Option<omni_channel_sdk::SendReceipt>> {
    let Some(message) = message_by_id(tx, message_id).await? else { return Ok(None) };
    Ok(message.external_id.map(|id| {
        let mut receipt = omni_channel_sdk::SendReceipt::new(id);
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
            let query = "update instances set last_message_at = max(coalesce(last_message_at, 0), $2) where id = $1";
            on!(tx, conn => sqlx::query(query).bind(row.instance_id).bind(at).execute(conn).await)?;
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
            let text = content.as_ref().and_then(|content| content.words()).map(|text| text.text.clone());
            let query = "update messages set original_text = coalesce(original_text, text_content),
                    edit_history = json_insert(coalesce(edit_history, '[]'), '$[#]',
                        json_object('text', text_content, 'at', $4)),
                    text_content = coalesce($2, text_content), content = coalesce($3, content), status = 'edited',
                    edit_count = edit_count + 1, edited_at = $5, updated_at = $5, revision = max(revision, $5 / 1000)
                where id = $1";
            on!(tx, conn => sqlx::query(query)
                .bind(row.message_id)
                .bind(text)
                .bind(content.map(Json))
                .bind(now.to_string())
                .bind(now)
                .execute(conn)
                .await)?;
            change_event(tx, "message.edited", channel, row, now).await
        }
        "delete" => {
            let query = "update messages set status = 'deleted', deleted_at = coalesce(deleted_at, $2), updated_at = $2
                where id = $1";
            on!(tx, conn => sqlx::query(query).bind(row.message_id).bind(now).execute(conn).await)?;
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
        on!(tx, conn => sqlx::query(query).bind(row.message_id).bind(reason).bind(now).execute(conn).await)?;
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
