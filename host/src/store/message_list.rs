//! Reading messages: lists, one by one, and what is needed to name one to the network.

use super::page::{InstanceSet, Page, Position, hex_list, one_more, pattern};
use super::{Result, Store, Time, Tx, on};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// A message as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Our id.
    pub id: Uuid,
    /// Our id of its chat.
    pub chat_id: Uuid,
    /// The network's id of its chat.
    pub chat_external_id: String,
    /// The instance that it came or went through.
    pub instance_id: Uuid,
    /// The network's id; absent until the network has taken a message of ours.
    pub external_id: Option<String>,
    /// Which part of a message that is stored as several; empty for the only one.
    pub part: String,
    /// `realtime`, `sync`, `api` or `import`.
    pub source: String,
    /// The person who wrote it.
    pub sender_person_id: Option<Uuid>,
    /// Their account.
    pub sender_platform_identity_id: Option<Uuid>,
    /// The network's id of that account.
    pub sender_platform_user_id: Option<String>,
    /// The name they had.
    pub sender_display_name: Option<String>,
    /// Whether the account of the instance wrote it.
    pub is_from_me: bool,
    /// `text`, `image`, `audio` …
    pub message_type: String,
    /// Its words.
    pub text_content: Option<String>,
    /// Its content, whole, as the channel gave it.
    #[sqlx(json)]
    #[schema(value_type = Object)]
    pub content: Box<RawValue>,
    /// Whether a file belongs to it.
    pub has_media: bool,
    /// The file's MIME type.
    pub media_mime_type: Option<String>,
    /// Where the file can be had.
    pub media_url: Option<String>,
    /// Why the file could not be had, once it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_error: Option<String>,
    /// What is known of the file.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub media_metadata: Option<Box<RawValue>>,
    /// Our id of the message that it answers.
    pub reply_to_message_id: Option<Uuid>,
    /// The network's id of that.
    pub reply_to_external_id: Option<String>,
    /// What of it was quoted.
    pub quoted_text: Option<String>,
    /// Who wrote that.
    pub quoted_sender_name: Option<String>,
    /// Whether it was forwarded.
    pub is_forwarded: bool,
    /// How often, where the network counts.
    pub forward_count: i64,
    /// What binds the items of an album together.
    pub album: Option<String>,
    /// Who is addressed in it.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Vec<Object>>)]
    pub mentions: Option<Box<RawValue>>,
    /// `active`, `edited`, `deleted`, `expired`, or `erased` with whoever wrote it.
    pub status: String,
    /// `pending`, `sent`, `delivered`, `read` or `failed`.
    pub delivery_status: Option<String>,
    /// Why it was not delivered.
    pub error: Option<String>,
    /// How often it was changed.
    pub edit_count: i64,
    /// Its words before the first change.
    pub original_text: Option<String>,
    /// What it was before each change.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Vec<Object>>)]
    pub edit_history: Option<Box<RawValue>>,
    /// When it was last changed.
    pub edited_at: Option<Time>,
    /// When it was taken back.
    pub deleted_at: Option<Time>,
    /// Who reacted with what.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Vec<Object>>)]
    pub reactions: Option<Box<RawValue>>,
    /// How many reacted with what.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub reaction_counts: Option<Box<RawValue>>,
    /// Who voted for what.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub poll_votes: Option<Box<RawValue>>,
    /// When it was written, by the network's clock.
    pub platform_timestamp: Time,
    /// When it reached us.
    pub received_at: Time,
    /// When it was stored.
    pub created_at: Time,
    /// When the row was last changed.
    pub updated_at: Time,
}

/// What a list of messages is narrowed by. Absent fields narrow nothing.
#[derive(Clone, Debug, Default)]
pub struct MessageFilter {
    /// Of these instances.
    pub instances: InstanceSet,
    /// `text`, `image` …
    pub message_type: Option<String>,
    /// `active`, `edited` …
    pub status: Option<String>,
    /// `realtime`, `sync` …
    pub source: Option<String>,
    /// With or without a file.
    pub has_media: Option<bool>,
    /// Ours or theirs.
    pub is_from_me: Option<bool>,
    /// By this person.
    pub sender_person_id: Option<Uuid>,
    /// Not older.
    pub since: Option<Time>,
    /// Older.
    pub until: Option<Time>,
    /// With this in their words.
    pub search: Option<String>,
}

/// The columns of [`Message`], once.
macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select m.id, m.chat_id, c.external_id as chat_external_id, c.instance_id, m.external_id, m.part, m.source, \
             m.sender_person_id, m.sender_platform_identity_id, m.sender_platform_user_id, m.sender_display_name, \
             m.is_from_me, m.message_type, m.text_content, m.content, m.has_media, m.media_mime_type, m.media_url, \
             m.media_metadata, case when m.has_media and m.media_url is null then (select f.error from media f \
               where f.message_id = m.id and f.status = 'failed' limit 1) end as media_error, \
             m.reply_to_message_id, m.reply_to_external_id, m.quoted_text, m.quoted_sender_name, \
             m.is_forwarded, m.forward_count, m.album, m.mentions, m.status, m.delivery_status, m.error, \
             m.edit_count, m.original_text, m.edit_history, m.edited_at, m.deleted_at, m.reactions, \
             m.reaction_counts, m.poll_votes, m.platform_timestamp, m.received_at, m.created_at, m.updated_at \
             from messages m join chats c on c.id = m.chat_id ",
            $rest
        )
    };
}

/// The conditions of a [`MessageFilter`], numbered from 4. Where a value would be compared with a condition of a partial
/// index, or is a pattern, it stands in a `coalesce`: SQLite would make a new plan for every value otherwise.
macro_rules! filtered {
    ($start:literal, $order:literal) => {
        concat!(
            select!($start),
            " and ($4 is null or c.instance_id in (select unhex(value) from json_each($4))) \
             and ($5 is null or m.message_type = $5) and ($6 is null or m.status = $6) \
             and ($7 is null or m.source = $7) and ($8 is null or m.has_media = $8) \
             and m.is_from_me = coalesce($9, m.is_from_me) and ($10 is null or m.sender_person_id = $10) \
             and ($11 is null or m.platform_timestamp >= $11) and ($12 is null or m.platform_timestamp < $12) \
             and ($13 is null or lower(m.text_content) like lower(coalesce($13, '')) escape '\\') ",
            $order,
            " limit $14"
        )
    };
}

/// The messages of one chat, newest first by the network's clock.
pub async fn in_chat(
    store: &Store,
    chat: Uuid,
    filter: &MessageFilter,
    from: Option<Position>,
    limit: u32,
) -> Result<Page<Message>> {
    const SQL: &str = filtered!(
        "where m.chat_id = $1 and (m.platform_timestamp, m.id) < ($2, $3)",
        "order by m.platform_timestamp desc, m.id desc"
    );
    let rows = page(store, SQL, Some(chat), filter, from, limit).await?;
    Ok(Page::cut(rows, limit, |row| Position { at: row.platform_timestamp.0, id: row.id }))
}

/// The messages of every chat, the one stored last first.
pub async fn everywhere(
    store: &Store,
    filter: &MessageFilter,
    from: Option<Position>,
    limit: u32,
) -> Result<Page<Message>> {
    const SQL: &str = filtered!("where $1 is null and $2 is not null and m.id < $3", "order by m.id desc");
    let rows = page(store, SQL, None, filter, from, limit).await?;
    Ok(Page::cut(rows, limit, |row| Position { at: 0, id: row.id }))
}

async fn page(
    store: &Store,
    sql: &'static str,
    chat: Option<Uuid>,
    filter: &MessageFilter,
    from: Option<Position>,
    limit: u32,
) -> Result<Vec<Message>> {
    let from = from.unwrap_or(Position::START);
    let mut tx = store.read().await?;
    let rows = on!(&mut tx, conn => sqlx::query_as(sql)
        .bind(chat)
        .bind(from.time())
        .bind(from.id)
        .bind(filter.instances.json())
        .bind(&filter.message_type)
        .bind(&filter.status)
        .bind(&filter.source)
        .bind(filter.has_media)
        .bind(filter.is_from_me)
        .bind(filter.sender_person_id)
        .bind(filter.since)
        .bind(filter.until)
        .bind(pattern(filter.search.as_deref()))
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(rows)
}

/// One message, by our id.
pub async fn get(store: &Store, id: Uuid, instances: &InstanceSet) -> Result<Option<Message>> {
    const SQL: &str =
        select!("where m.id = $1 and ($2 is null or c.instance_id in (select unhex(value) from json_each($2)))");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).bind(instances.json()).fetch_optional(conn).await)?)
}

/// Messages by our ids, in their order, within a transaction.
pub(super) async fn of_ids(tx: &mut Tx, ids: &[Uuid]) -> Result<Vec<Message>> {
    const SQL: &str = select!("where m.id in (select unhex(value) from json_each($1)) order by m.id");
    Ok(on!(tx, conn => sqlx::query_as(SQL).bind(hex_list(ids)).fetch_all(conn).await)?)
}

/// The parts of one message, by the network's id within a chat.
pub async fn by_external(
    store: &Store,
    chat: Uuid,
    external_id: &str,
    instances: &InstanceSet,
) -> Result<Option<Message>> {
    const SQL: &str = select!(
        "where m.chat_id = $1 and m.external_id = $2 \
         and ($3 is null or c.instance_id in (select unhex(value) from json_each($3))) order by m.part limit 1"
    );
    let mut tx = store.read().await?;
    let row = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(chat).bind(external_id).bind(instances.json()).fetch_optional(conn).await)?;
    Ok(row)
}

/// What the network calls a message and its author, for a read receipt.
#[derive(Clone, Debug, FromRow)]
pub struct Named {
    /// Our id.
    pub id: Uuid,
    /// Its instance.
    pub instance_id: Uuid,
    /// The network's id of its chat.
    pub chat_external_id: String,
    /// The network's id of it.
    pub external_id: Option<String>,
    /// The network's id of its author.
    pub sender_platform_user_id: Option<String>,
    /// When it was written, by the network's clock.
    pub platform_timestamp: Time,
}

/// The networks' names of messages, by our ids, in one statement.
pub async fn named(store: &Store, ids: &[Uuid]) -> Result<Vec<Named>> {
    const SQL: &str = "select m.id, c.instance_id, c.external_id as chat_external_id, m.external_id, \
         m.sender_platform_user_id, m.platform_timestamp from messages m join chats c on c.id = m.chat_id \
         where m.id in (select unhex(value) from json_each($1))";
    let ids = InstanceSet::Only(ids.to_vec()).json();
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(ids).fetch_all(conn).await)?)
}
