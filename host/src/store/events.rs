//! Domain events: what happened, in order, in Omni v2's names and shapes. Every consumer but storage reads these.
//!
//! An event is appended in the transaction of the change that it tells of. `seq` is taken by the one writer and never
//! twice, so whoever remembers how far it has read misses nothing.

use super::bulk::{self, Bulk};
use super::{Result, StoreError, Time, Tx, on};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// Something that happened, to be appended. The texts may be borrowed from what it is made of.
#[derive(Clone, Debug)]
pub struct NewDomainEvent<'a> {
    /// Its id: the accepted event's where it comes from one.
    pub id: Uuid,
    /// `message.received` and so on.
    pub event_type: Cow<'static, str>,
    /// The network's id of the message.
    pub external_id: Option<Cow<'a, str>>,
    /// The instance's channel.
    pub channel: Arc<str>,
    /// The instance.
    pub instance_id: Uuid,
    /// The person who did it.
    pub person_id: Option<Uuid>,
    /// Their account.
    pub platform_identity_id: Option<Uuid>,
    /// `inbound` or `outbound`.
    pub direction: &'static str,
    /// `text`, `image` …, for events about messages.
    pub content_type: Option<&'static str>,
    /// The words, for events about messages.
    pub text_content: Option<Cow<'a, str>>,
    /// The network's id of the chat.
    pub chat_id: Option<Cow<'a, str>>,
    /// Our id of the chat.
    pub chat_uuid: Option<Uuid>,
    /// Our id of the message.
    pub message_id: Option<Uuid>,
    /// The payload, as JSON, in Omni v2's shape.
    pub payload: String,
    /// The network's own words, as JSON; this is the one place where they are kept.
    pub raw_payload: Option<Cow<'a, str>>,
    /// When the network was told that we have it, or when the host did it.
    pub received_at: Time,
}

static APPEND: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into omni_events (id, event_type, external_id, channel, instance_id, person_id, \
         platform_identity_id, direction, content_type, text_content, chat_id, chat_uuid, message_id, payload, \
         raw_payload, received_at, processed_at) values",
        17,
        "",
    )
});

/// Appends events, in order. Those who wait for them are told once the transaction is committed.
pub async fn append(tx: &mut Tx, events: &[NewDomainEvent<'_>], now: Time) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    bulk::execute(tx, &APPEND, events, |row, event| {
        row.bind(event.id);
        match &event.event_type {
            Cow::Borrowed(word) => row.word(word),
            Cow::Owned(name) => row.bind(name.as_str()),
        };
        row.bind(event.external_id.as_deref())
            .bind(Arc::clone(&event.channel))
            .bind(event.instance_id)
            .bind(event.person_id)
            .bind(event.platform_identity_id)
            .word(event.direction);
        match event.content_type {
            Some(word) => row.word(word),
            None => row.bind(None::<&str>),
        };
        row.bind(event.text_content.as_deref())
            .bind(event.chat_id.as_deref())
            .bind(event.chat_uuid)
            .bind(event.message_id)
            .bind(event.payload.as_str())
            .bind(event.raw_payload.as_deref())
            .bind(event.received_at)
            .bind(now);
    })
    .await?;
    match tx.recording() {
        Some(recording) => recording.appends_events = true,
        None => tx.newest_event = newest(tx).await?,
    }
    Ok(())
}

/// The number of the newest event that was ever appended.
pub async fn newest(tx: &mut Tx) -> Result<i64> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select coalesce((select seq from sqlite_sequence where name = 'omni_events'), 0)",
    )
    .fetch_one(conn)
    .await)?)
}

/// An event as its readers get it: Omni v2's envelope.
#[derive(Clone, Debug, Serialize)]
pub struct DomainEvent {
    /// Its place in the order; 0 for one that is not stored. Not part of the envelope.
    #[serde(skip)]
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// `message.received` and so on.
    #[serde(rename = "type")]
    pub event_type: String,
    /// What happened.
    pub payload: Box<RawValue>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Where it belongs.
    pub metadata: Metadata,
}

/// Where an event belongs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// What belongs together has the same; the event's own id when nothing else is known.
    pub correlation_id: Uuid,
    /// The instance.
    pub instance_id: Uuid,
    /// Its channel.
    pub channel_type: String,
    /// The person who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_id: Option<Uuid>,
    /// Their account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_identity_id: Option<Uuid>,
    /// Who says so: `channel` for what a network told, `host` for what we did.
    pub source: &'static str,
}

impl DomainEvent {
    /// `{type}.{channel}.{instance}`: where Omni v2 published it.
    pub fn subject(&self) -> String {
        format!("{}.{}.{}", self.event_type, self.metadata.channel_type, self.metadata.instance_id)
    }
}

/// Which events are read. Absent: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of one instance.
    pub instance_id: Option<Uuid>,
    /// Of these types; one that ends in `.*` (`message.*`) stands for all that begin like it. Empty: all.
    pub types: Vec<String>,
    /// In one chat, by the network's id.
    pub chat_id: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    id: Uuid,
    event_type: String,
    channel: String,
    instance_id: Uuid,
    person_id: Option<Uuid>,
    platform_identity_id: Option<Uuid>,
    direction: String,
    payload: String,
    received_at: Time,
}

/// Events behind a place, in order, at most `limit`; with the place up to which was looked, so that a reader whose
/// filter lets little through still moves on.
pub async fn after(tx: &mut Tx, seq: i64, filter: &Filter, limit: u32) -> Result<(Vec<DomainEvent>, i64)> {
    // The names are filtered here: they are few, and a list of patterns is not the same text on both databases.
    let rows: Vec<Row> = on!(tx, conn => sqlx::query_as(
        "select seq, id, event_type, channel, instance_id, person_id, platform_identity_id, direction, payload,
           received_at
         from omni_events
         where seq > $1 and ($2 is null or instance_id = $2) and ($3 is null or chat_id = $3)
         order by seq limit $4",
    )
    .bind(seq)
    .bind(filter.instance_id)
    .bind(&filter.chat_id)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await)?;
    let reached = match rows.last() {
        Some(row) if rows.len() >= limit as usize => row.seq,
        // Everything there is was looked at, in this transaction's snapshot.
        _ => newest(tx).await?.max(seq),
    };
    let events =
        rows.into_iter().filter(|row| matches(&filter.types, &row.event_type)).map(envelope).collect::<Result<_>>()?;
    Ok((events, reached))
}

/// Whether a list of names and patterns lets a type through.
pub fn matches(types: &[String], event_type: &str) -> bool {
    types.is_empty()
        || types.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => event_type.starts_with(start),
            None => wanted == event_type,
        })
}

fn envelope(row: Row) -> Result<DomainEvent> {
    let payload = RawValue::from_string(row.payload).map_err(|error| StoreError::Inconsistent {
        table: "omni_events",
        column: "payload",
        id: row.id.to_string(),
        reason: error.to_string(),
    })?;
    Ok(DomainEvent {
        seq: row.seq,
        id: row.id,
        event_type: row.event_type,
        payload,
        timestamp: row.received_at.millis(),
        metadata: Metadata {
            correlation_id: row.id,
            instance_id: row.instance_id,
            channel_type: row.channel,
            person_id: row.person_id,
            platform_identity_id: row.platform_identity_id,
            source: if row.direction == "outbound" { "host" } else { "channel" },
        },
    })
}
