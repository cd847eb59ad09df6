//! Domain events: what happened, in order, in Omni v2's names and shapes. Every consumer but storage reads these.
//!
//! An event is appended in the transaction of the change that it tells of. `seq` is taken by the one writer and never
//! twice (on Postgres from a row that is locked until the commit), so whoever remembers how far it has read misses nothing.

use super::bulk::{self, Bulk};
use super::page::InstanceSet;
use super::{Json, Result, StoreError, Time, Tx, on};
use crate::traces;
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
    /// The instance's channel; empty when it belongs to none.
    pub channel: Arc<str>,
    /// The instance; nil when it belongs to none.
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
    /// The trace that it belongs to, when somebody looks at that.
    pub trace: Option<Cow<'a, str>>,
}

impl NewDomainEvent<'_> {
    /// An event that belongs to nobody and to no instance, chat or message yet.
    pub fn new(
        id: Uuid,
        event_type: impl Into<Cow<'static, str>>,
        direction: &'static str,
        payload: String,
        received_at: Time,
    ) -> Self {
        Self {
            id,
            event_type: event_type.into(),
            external_id: None,
            channel: "".into(),
            instance_id: Uuid::nil(),
            person_id: None,
            platform_identity_id: None,
            direction,
            content_type: None,
            text_content: None,
            chat_id: None,
            chat_uuid: None,
            message_id: None,
            payload,
            raw_payload: None,
            received_at,
            trace: None,
        }
    }
}

/// The columns of an event and their types.
macro_rules! columns {
    ($first:literal) => {
        concat!(
            "insert into omni_events (",
            $first,
            "id, event_type, external_id, channel, instance_id, person_id, \
             platform_identity_id, direction, content_type, text_content, chat_id, chat_uuid, message_id, payload, \
             raw_payload, received_at, processed_at, metadata)"
        )
    };
}
const TYPES: &str = "uuid text text text uuid uuid uuid text text text text uuid uuid json json timestamptz \
     timestamptz json";

static APPEND: LazyLock<Bulk> = LazyLock::new(|| Bulk::new(columns!(""), TYPES, ""));
/// On Postgres, where we number them ourselves.
static APPEND_NUMBERED: LazyLock<Bulk> = LazyLock::new(|| Bulk::new(columns!("seq, "), &format!("bigint {TYPES}"), ""));

/// Appends events, in order. Those who wait for them are told once the transaction is committed.
pub async fn append(tx: &mut Tx, events: &[NewDomainEvent<'_>], now: Time) -> Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    if tx.pick(false, true) {
        let many = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let newest = take_numbers(tx, many).await?;
        let numbered: Vec<(i64, &NewDomainEvent<'_>)> = (newest - many + 1..).zip(events).collect();
        bulk::execute(tx, &APPEND_NUMBERED, &numbered, |row, (seq, event)| {
            row.bind(*seq);
            bind(row, event, now);
        })
        .await?;
        tx.newest_event = newest;
        return Ok(());
    }
    bulk::execute(tx, &APPEND, events, |row, event| bind(row, event, now)).await?;
    match tx.recording() {
        Some(recording) => recording.appends_events = true,
        None => tx.newest_event = newest(tx).await?,
    }
    Ok(())
}

/// Takes so many numbers and gives back the last of them. Whoever takes the next waits for our commit, so that numbers are
/// committed in their order.
async fn take_numbers(tx: &mut Tx, many: i64) -> Result<i64> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "update sequences set seq = seq + $1 where name = 'omni_events' returning seq",
    )
    .bind(many)
    .fetch_one(conn)
    .await)?)
}

fn bind(row: &mut bulk::Binder, event: &NewDomainEvent<'_>, now: Time) {
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
        .bind(now)
        .bind(event.trace.as_deref().and_then(traces::id).map(metadata).as_deref());
}

/// What is kept beside an event.
#[derive(Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    trace_id: Option<String>,
}

fn metadata(trace_id: &str) -> String {
    serde_json::json!({ "traceId": trace_id }).to_string()
}

/// The number of the newest event that was ever appended.
pub async fn newest(tx: &mut Tx) -> Result<i64> {
    let text = tx.pick(
        "select coalesce((select seq from sqlite_sequence where name = 'omni_events'), 0)",
        "select seq from sequences where name = 'omni_events'",
    );
    Ok(on!(tx, conn => sqlx::query_scalar(text).fetch_one(conn).await)?)
}

/// The oldest number that is kept (one more than the newest when none is) and the newest that was ever given.
pub async fn ends(tx: &mut Tx) -> Result<(i64, i64)> {
    let newest = newest(tx).await?;
    let oldest: Option<i64> = on!(tx, conn => sqlx::query_scalar("select seq from omni_events order by seq limit 1").fetch_optional(conn).await)?;
    Ok((oldest.unwrap_or(newest + 1), newest))
}

/// An event as its readers get it: Omni v2's envelope, with its place in front.
#[derive(Clone, Debug, Serialize)]
pub struct DomainEvent {
    /// Its place in the order; 0 for one that is not stored.
    #[serde(skip_serializing_if = "is_zero")]
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
    /// The network's id of the chat.
    #[serde(skip)]
    pub chat: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(seq: &i64) -> bool {
    *seq == 0
}

/// Where an event belongs.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    /// What belongs together has the same; the event's own id when nothing else is known.
    pub correlation_id: Uuid,
    /// The instance; nil when it belongs to none.
    #[serde(skip_serializing_if = "Uuid::is_nil")]
    pub instance_id: Uuid,
    /// Its channel.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub channel_type: String,
    /// The person who did it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub person_id: Option<Uuid>,
    /// Their account.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform_identity_id: Option<Uuid>,
    /// Our id of the chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<Uuid>,
    /// Our id of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<Uuid>,
    /// The trace that it belongs to, in OpenTelemetry's sense, when somebody looks at that.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Who says so: `channel` for what a network told, `host` for what we did.
    pub source: &'static str,
}

impl Metadata {
    /// Of something that a network told, as long as nothing of it is stored.
    pub fn of_channel(id: Uuid, instance: Uuid, channel: String) -> Self {
        Self {
            correlation_id: id,
            instance_id: instance,
            channel_type: channel,
            person_id: None,
            platform_identity_id: None,
            chat_id: None,
            message_id: None,
            trace_id: None,
            source: "channel",
        }
    }
}

impl DomainEvent {
    /// `{type}.{channel}.{instance}`: where Omni v2 published it.
    pub fn subject(&self) -> String {
        let Metadata { instance_id, channel_type, .. } = &self.metadata;
        match instance_id.is_nil() {
            true => self.event_type.clone(),
            false => format!("{}.{channel_type}.{instance_id}", self.event_type),
        }
    }
}

/// Which events are wanted. Empty lists: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of these instances.
    pub instances: InstanceSet,
    /// Of these types; one that ends in `.*` (`message.*`) stands for all that begin like it.
    pub types: Vec<String>,
    /// In these chats, by our id or the network's.
    pub chats: Vec<String>,
}

impl Filter {
    /// Whether an event is wanted.
    pub fn lets_through(&self, event: &DomainEvent) -> bool {
        let chat = |wanted: &String| {
            let ours = |id: Uuid| Uuid::parse_str(wanted).is_ok_and(|wanted| wanted == id);
            event.chat.as_ref() == Some(wanted) || event.metadata.chat_id.is_some_and(ours)
        };
        self.instances.contains(event.metadata.instance_id)
            && matches(&self.types, &event.event_type)
            && (self.chats.is_empty() || self.chats.iter().any(chat))
    }
}

/// Whether a list of names and patterns lets a type through.
pub fn matches(types: &[String], event_type: &str) -> bool {
    types.is_empty()
        || types.iter().any(|wanted| match wanted.strip_suffix('*') {
            Some(start) => event_type.starts_with(start),
            None => wanted == event_type,
        })
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
    chat_id: Option<String>,
    chat_uuid: Option<Uuid>,
    message_id: Option<Uuid>,
    payload: String,
    received_at: Time,
    metadata: Option<Json<Kept>>,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select seq, id, event_type, channel, instance_id, person_id, platform_identity_id, direction, chat_id, \
             chat_uuid, message_id, cast(payload as text) as payload, received_at, metadata from omni_events ",
            $rest
        )
    };
}

/// A piece of what happened.
#[derive(Clone, Debug)]
pub struct Piece {
    /// The wanted events, in order.
    pub events: Vec<DomainEvent>,
    /// Up to where was looked, wanted or not.
    pub seen: i64,
    /// How many numbers in front of them are no longer kept, wanted or not.
    pub lost: i64,
}

/// Looks at the next `window` events behind a place. Whoever wants few of them still moves on.
pub async fn after(tx: &mut Tx, seq: i64, filter: &Filter, window: u32) -> Result<Piece> {
    const SQL: &str = select!(
        "where seq > $1 and seq <= $2 and ($3 is null or instance_id in (select unhex(value) from json_each($3))) \
         order by seq"
    );
    let (oldest, newest) = ends(tx).await?;
    let from = seq.max(oldest - 1);
    let seen = from.saturating_add(i64::from(window)).min(newest).max(seq);
    let lost = from - seq;
    if seen <= from {
        return Ok(Piece { events: Vec::new(), seen, lost });
    }
    let rows: Vec<Row> = on!(tx, conn => sqlx::query_as(SQL)
        .bind(from)
        .bind(seen)
        .bind(filter.instances.json())
        .fetch_all(conn)
        .await)?;
    // The names and patterns are looked at here: they are few, and a list of patterns is not the same text on both
    // databases.
    let mut events = rows.into_iter().map(envelope).collect::<Result<Vec<_>>>()?;
    events.retain(|event| filter.lets_through(event));
    Ok(Piece { events, seen, lost })
}

/// The event at a place, as long as it is kept.
pub async fn at(tx: &mut Tx, seq: i64) -> Result<Option<DomainEvent>> {
    const SQL: &str = select!("where seq = $1");
    let row: Option<Row> = on!(tx, conn => sqlx::query_as(SQL).bind(seq).fetch_optional(conn).await)?;
    row.map(envelope).transpose()
}

/// The place before everything that was stored at or after a time. Found by halving: places and times rise together.
pub async fn place_before(tx: &mut Tx, since: Time) -> Result<i64> {
    let (oldest, newest) = ends(tx).await?;
    let (mut low, mut high) = (oldest, newest + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let next: Option<(i64, Time)> = on!(tx, conn => sqlx::query_as(
            "select seq, processed_at from omni_events where seq >= $1 order by seq limit 1")
            .bind(middle)
            .fetch_optional(conn)
            .await)?;
        match next {
            Some((seq, at)) if at < since => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok(low - 1)
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
            chat_id: row.chat_uuid,
            message_id: row.message_id,
            trace_id: row.metadata.and_then(|kept| kept.0.trace_id),
            source: if row.direction == "outbound" { "host" } else { "channel" },
        },
        chat: row.chat_id,
    })
}
