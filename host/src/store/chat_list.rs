//! Reading chats, and the little about them that people change.

use super::page::{InstanceSet, Page, Position, one_more, pattern};
use super::{Json, Result, Run, Store, Time, on};
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// A chat as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chat {
    /// Our id.
    pub id: Uuid,
    /// The instance that it is on.
    pub instance_id: Uuid,
    /// The network's id.
    pub external_id: String,
    /// The id it had before the network moved it.
    pub canonical_id: Option<String>,
    /// `dm`, `group`, `channel` or `thread`.
    pub chat_type: String,
    /// The id of its channel.
    pub channel: String,
    /// Its title.
    pub name: Option<String>,
    /// What it says about itself.
    pub description: Option<String>,
    /// Its picture.
    pub avatar_url: Option<String>,
    /// The chat that it is a topic of.
    pub parent_chat_id: Option<Uuid>,
    /// How many people are in it.
    pub participant_count: i64,
    /// How many messages are stored.
    pub message_count: i64,
    /// How many of them are unread.
    pub unread_count: i64,
    /// When the newest was written.
    pub last_message_at: Option<Time>,
    /// The beginning of it.
    pub last_message_preview: Option<String>,
    /// What people set for it here.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub settings: Option<Box<RawValue>>,
    /// What only its network knows of it.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub platform_metadata: Option<Box<RawValue>>,
    /// When it was first seen.
    pub created_at: Time,
    /// When the row was last changed.
    pub updated_at: Time,
    /// When it was put away.
    pub archived_at: Option<Time>,
    #[serde(skip)]
    activity: Time,
}

/// What a list of chats is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct ChatFilter {
    /// Of these instances.
    pub instances: InstanceSet,
    /// Of this channel.
    pub channel: Option<String>,
    /// `dm`, `group` …
    pub chat_type: Option<String>,
    /// With this in the name, or with exactly this id.
    pub search: Option<String>,
    /// With unread messages.
    pub unread_only: bool,
    /// Those that were put away too.
    pub include_archived: bool,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, instance_id, external_id, canonical_id, chat_type, channel, name, description, avatar_url, \
             parent_chat_id, participant_count, message_count, unread_count, last_message_at, last_message_preview, \
             settings, platform_metadata, created_at, updated_at, archived_at, \
             coalesce(last_message_at, created_at) as activity from chats ",
            $rest
        )
    };
}

/// Chats, the one with the newest activity first.
pub async fn list(store: &Store, filter: &ChatFilter, from: Option<Position>, limit: u32) -> Result<Page<Chat>> {
    const SQL: &str = select!(
        "where (coalesce(last_message_at, created_at), id) < ($1, $2) and deleted_at is null \
         and ($3 is null or instance_id in (select unhex(value) from json_each($3))) \
         and ($4 is null or channel = $4) and ($5 is null or chat_type = $5) \
         and ($6 is null or lower(name) like lower($6) escape '\\' or external_id = $7) \
         and (not $8 or unread_count > 0) and ($9 or archived_at is null) \
         order by coalesce(last_message_at, created_at) desc, id desc limit $10"
    );
    let from = from.unwrap_or(Position::START);
    let mut tx = store.read().await?;
    let rows: Vec<Chat> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(from.time())
        .bind(from.id)
        .bind(filter.instances.json())
        .bind(&filter.channel)
        .bind(&filter.chat_type)
        .bind(pattern(filter.search.as_deref()))
        .bind(&filter.search)
        .bind(filter.unread_only)
        .bind(filter.include_archived)
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: row.activity.0, id: row.id }))
}

/// One chat, by our id.
pub async fn get(store: &Store, id: Uuid, instances: &InstanceSet) -> Result<Option<Chat>> {
    const SQL: &str =
        select!("where id = $1 and ($2 is null or instance_id in (select unhex(value) from json_each($2)))");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).bind(instances.json()).fetch_optional(conn).await)?)
}

/// The chats that a network's id names, now or formerly: one on each instance at most. The first two.
pub async fn by_external(store: &Store, external_id: &str, instances: &InstanceSet) -> Result<Vec<Chat>> {
    const SQL: &str = select!(
        "where id in (select id from chats where external_id = $1 \
           union select chat_id from chat_id_mappings where external_id = $1) \
         and ($2 is null or instance_id in (select unhex(value) from json_each($2))) order by id limit 2"
    );
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(external_id).bind(instances.json()).fetch_all(conn).await)?)
}

/// What people may change of a chat. Absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct ChatChange {
    /// Its name here.
    pub name: Option<String>,
    /// What people set for it, whole.
    pub settings: Option<Map<String, Value>>,
    /// Put away, or taken out again.
    pub archived: Option<bool>,
}

/// Changes a chat; tells whether there is one.
pub async fn update(store: &Store, id: Uuid, change: &ChatChange, now: Time) -> Result<bool> {
    const SQL: &str = "update chats set name = coalesce($2, name), settings = coalesce($3, settings), \
         archived_at = case when $4 is null then archived_at when $4 then coalesce(archived_at, $5) end, \
         updated_at = $5 where id = $1";
    let mut tx = store.begin().await?;
    let done = on!(&mut tx, conn => sqlx::query(SQL)
        .bind(id)
        .bind(&change.name)
        .bind(change.settings.as_ref().map(Json))
        .bind(change.archived)
        .bind(now)
        .run(conn)
        .await)?;
    tx.commit().await?;
    Ok(done > 0)
}

/// The newest messages of others in a chat, newest first: the network's id, and who wrote it.
pub async fn newest_of_others(store: &Store, id: Uuid, limit: usize) -> Result<Vec<(String, Option<String>)>> {
    let mut tx = store.read().await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    Ok(on!(&mut tx, conn => sqlx::query_as(
        "select external_id, sender_platform_user_id from messages
         where chat_id = $1 and not is_from_me and external_id is not null
         order by platform_timestamp desc, id desc limit $2")
        .bind(id).bind(limit).fetch_all(conn).await)?)
}

/// Takes every message of a chat as read.
pub async fn mark_read(store: &Store, id: Uuid, now: Time) -> Result<()> {
    let mut tx = store.begin().await?;
    on!(&mut tx, conn => sqlx::query(
        "update chats set unread_count = 0, updated_at = $2,
           own_read_up_to = case when last_message_at >= coalesce(own_read_up_to, last_message_at) then last_message_at
             else own_read_up_to end
         where id = $1 and unread_count <> 0")
        .bind(id).bind(now).run(conn).await)?;
    tx.commit().await
}

/// A member of a chat as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Participant {
    /// Our id of the membership.
    pub id: Uuid,
    /// The chat.
    pub chat_id: Uuid,
    /// The person.
    pub person_id: Option<Uuid>,
    /// Their account.
    pub platform_identity_id: Option<Uuid>,
    /// The network's id of the account.
    pub platform_user_id: String,
    /// Their name here.
    pub display_name: Option<String>,
    /// Their picture.
    pub avatar_url: Option<String>,
    /// What they are here, in the network's word.
    pub role: Option<String>,
    /// Whether they are still in it.
    pub is_active: bool,
    /// When they came.
    pub joined_at: Option<Time>,
    /// When they went.
    pub left_at: Option<Time>,
    /// When they last did something.
    pub last_seen_at: Option<Time>,
    /// How many messages they wrote here.
    pub message_count: i64,
    /// When they were first seen here.
    pub created_at: Time,
    /// When the row was last changed.
    pub updated_at: Time,
}

/// The members of a chat, in the order of the networks' ids.
pub async fn participants(store: &Store, chat: Uuid, after: Option<&str>, limit: u32) -> Result<Vec<Participant>> {
    const SQL: &str = "select id, chat_id, person_id, platform_identity_id, platform_user_id, display_name, avatar_url, \
         role, is_active, joined_at, left_at, last_seen_at, message_count, created_at, updated_at \
         from chat_participants where chat_id = $1 and platform_user_id > $2 order by platform_user_id limit $3";
    let mut tx = store.read().await?;
    let rows = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(chat).bind(after.unwrap_or_default()).bind(one_more(limit)).fetch_all(conn).await)?;
    Ok(rows)
}
