//! Reading what happened, as lists for people.
//!
//! Deliberately not here: the order by sequence number that programs follow; that is `events`.

use super::page::{InstanceSet, Page, Position, one_more, pattern};
use super::{Result, Store, Time, on};
use serde::Serialize;
use serde_json::value::RawValue;
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// An event as the API shows it.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Its place in the order of everything that happened: what `after` and `Last-Event-ID` name.
    pub seq: i64,
    /// Our id.
    pub id: Uuid,
    /// `message.received` …
    pub event_type: String,
    /// The network's id of the message.
    pub external_id: Option<String>,
    /// The id of the channel.
    pub channel: Option<String>,
    /// Where it happened; absent for what belongs to no instance.
    pub instance_id: Option<Uuid>,
    /// Who did it.
    pub person_id: Option<Uuid>,
    /// With which account.
    pub platform_identity_id: Option<Uuid>,
    /// `inbound` or `outbound`.
    pub direction: String,
    /// `text`, `image` …
    pub content_type: Option<String>,
    /// The words in it.
    pub text_content: Option<String>,
    /// Words heard in it. Always absent: this host does not transcribe.
    pub transcription: Option<String>,
    /// What is seen in it. Always absent: this host does not look at pictures.
    pub image_description: Option<String>,
    /// The network's id of the chat.
    pub chat_id: Option<String>,
    /// Our id of the chat.
    pub chat_uuid: Option<Uuid>,
    /// Our id of the message.
    pub message_id: Option<Uuid>,
    /// How far it has come.
    pub status: String,
    /// It, as it is published.
    #[sqlx(json)]
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    /// What goes with it.
    #[sqlx(json(nullable))]
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Box<RawValue>>,
    /// When it reached us.
    pub received_at: Time,
    /// When it was applied.
    pub processed_at: Option<Time>,
    /// When it was stored.
    pub created_at: Time,
}

/// What a list of events is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Of these instances.
    pub instances: InstanceSet,
    /// Of this channel.
    pub channel: Option<String>,
    /// Of this person.
    pub person_id: Option<Uuid>,
    /// `message.received` …
    pub event_type: Option<String>,
    /// `text`, `image` …
    pub content_type: Option<String>,
    /// `inbound` or `outbound`.
    pub direction: Option<String>,
    /// Of this chat, by the network's id.
    pub chat_id: Option<String>,
    /// By this account, by the network's id.
    pub sender_id: Option<String>,
    /// Not older.
    pub since: Option<Time>,
    /// Older.
    pub until: Option<Time>,
    /// With this in the words.
    pub search: Option<String>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select seq, id, event_type, external_id, nullif(channel, '') as channel, \
             nullif(instance_id, unhex('00000000000000000000000000000000')) as instance_id, person_id, platform_identity_id, direction, \
             content_type, text_content, cast(null as text) as transcription, cast(null as text) as image_description, \
             chat_id, chat_uuid, message_id, status, payload, metadata, received_at, processed_at, created_at \
             from omni_events ",
            $rest
        )
    };
}

macro_rules! filtered {
    ($start:literal) => {
        concat!(
            select!($start),
            " and seq < $2 and ($3 is null or instance_id in (select unhex(value) from json_each($3))) \
             and ($4 is null or channel = $4) and ($5 is null or event_type = $5) \
             and ($6 is null or content_type = $6) and ($7 is null or direction = $7) \
             and ($8 is null or chat_id = $8) and ($9 is null or received_at >= $9) \
             and ($10 is null or received_at < $10) and ($11 is null or lower(text_content) like lower($11) escape '\\') \
             and ($12 is null or platform_identity_id in \
                  (select id from platform_identities where platform_user_id = $12)) \
             order by seq desc limit $13"
        )
    };
}

/// Events, newest first.
pub async fn list(store: &Store, filter: &EventFilter, from: Option<Position>, limit: u32) -> Result<Page<Event>> {
    // Two texts, so that a person's events are found by their index.
    const ALL: &str = filtered!("where $1 is null");
    const OF_PERSON: &str = filtered!("where person_id = $1");
    let mut tx = store.read().await?;
    let rows: Vec<Event> = on!(&mut tx, conn => sqlx::query_as(if filter.person_id.is_some() { OF_PERSON } else { ALL })
        .bind(filter.person_id)
        .bind(from.map_or(i64::MAX, |from| from.at))
        .bind(filter.instances.json())
        .bind(&filter.channel)
        .bind(&filter.event_type)
        .bind(&filter.content_type)
        .bind(&filter.direction)
        .bind(&filter.chat_id)
        .bind(filter.since)
        .bind(filter.until)
        .bind(pattern(filter.search.as_deref()))
        .bind(&filter.sender_id)
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: row.seq, id: row.id }))
}

/// One event, by our id.
pub async fn get(store: &Store, id: Uuid, instances: &InstanceSet) -> Result<Option<Event>> {
    const SQL: &str =
        select!("where id = $1 and ($2 is null or instance_id in (select unhex(value) from json_each($2)))");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).bind(instances.json()).fetch_optional(conn).await)?)
}

/// How many events there are since a time, and in all.
pub async fn counts(store: &Store, since: Time) -> Result<(i64, i64)> {
    let mut tx = store.read().await?;
    let counts = on!(&mut tx, conn => sqlx::query_as(
        "select (select count(*) from omni_events where seq > coalesce((select seq from omni_events \
                 where received_at < $1 order by seq desc limit 1), 0)), (select count(*) from omni_events)")
        .bind(since).fetch_one(conn).await)?;
    Ok(counts)
}
