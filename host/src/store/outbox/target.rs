//! What a send is about: the chat that it goes to, the message that it makes or changes.

use crate::store::apply::content;
use crate::store::ledger::Account;
use crate::store::{Json, Result, Run, Time, Tx, files, on};
use omni_channel_sdk::content::Content;
use sqlx::FromRow;
use uuid::Uuid;

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
    let query = "select exists (select 1 from persons where id = $1)";
    Ok(on!(tx, conn => sqlx::query_scalar(query).bind(id).fetch_one(conn).await)?)
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
        .run(conn)
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
        .run(conn)
        .await)?;
    let instance: Option<Uuid> = on!(tx, conn => sqlx::query_scalar("select instance_id from chats where id = $1")
        .bind(row.chat_id)
        .fetch_optional(conn)
        .await)?;
    if let Some(instance) = instance {
        tx.count(instance, Account::Messages, 1);
    }
    match media.and_then(|media| media.blob.as_ref()?.as_str().parse().ok()) {
        Some(file) => files::attach(tx, &[(file, row.id)]).await,
        None => Ok(()),
    }
}
