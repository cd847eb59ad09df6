//! Events that a consumer could not take, whole, with all that is needed to do it again.
//!
//! Deliberately not here: when they are tried again.

use super::ledger::Account;
use super::{Result, Run, StoreError, Time, Tx, on};
use std::borrow::Cow;
use uuid::Uuid;

/// What a consumer could not take.
#[derive(Clone, Debug)]
pub struct NewDeadLetter {
    /// The event's id.
    pub event_id: Uuid,
    /// Its type, in the words of domain events.
    pub event_type: String,
    /// Who could not.
    pub consumer: Cow<'static, str>,
    /// Whose event it is.
    pub instance_id: Option<Uuid>,
    /// When it was accepted: it is done again as if then.
    pub accepted_at: Time,
    /// The event, whole, as it was.
    pub payload: Vec<u8>,
    /// Why.
    pub error: String,
    /// When the host tries again by itself, where that may help.
    pub next_auto_retry_at: Option<Time>,
}

/// One that is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct DeadLetter {
    /// Its own id.
    pub id: Uuid,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// `{type}.{channel}.{instance}`.
    pub subject: String,
    /// Who could not take it.
    pub consumer: String,
    /// Whose event it is.
    pub instance_id: Option<Uuid>,
    /// When it was accepted.
    pub accepted_at: Time,
    /// The event, whole.
    pub payload: Vec<u8>,
    /// Why.
    pub error: String,
    /// Tried again by the host.
    pub auto_retry_count: i64,
    /// Tried again by people.
    pub manual_retry_count: i64,
    /// When the host tries again.
    pub next_auto_retry_at: Option<Time>,
    /// `pending`, `retrying`, `resolved` or `abandoned`.
    pub status: String,
    /// When it was put here.
    pub created_at: Time,
    /// When it was last tried.
    pub last_retry_at: Option<Time>,
    /// When it was settled.
    pub resolved_at: Option<Time>,
    /// By whom.
    pub resolved_by: Option<String>,
    /// What they said about it.
    pub resolution_note: Option<String>,
}

const COLUMNS: &str = "id, event_id, event_type, subject, consumer, instance_id, accepted_at, payload, error, \
    auto_retry_count, manual_retry_count, next_auto_retry_at, status, created_at, last_retry_at, resolved_at, \
    resolved_by, resolution_note";

/// Puts an event here; the same event of the same consumer again renews its error and waits anew.
pub async fn insert(tx: &mut Tx, letter: &NewDeadLetter, now: Time) -> Result<Uuid> {
    let id = tx.new_id(now);
    let channel: Option<String> = on!(tx, conn => sqlx::query_scalar("select channel from instances where id = $1")
        .bind(letter.instance_id)
        .fetch_optional(conn)
        .await)?;
    let subject = match (channel, letter.instance_id) {
        (Some(channel), Some(instance)) => format!("{}.{channel}.{instance}", letter.event_type),
        _ => letter.event_type.clone(),
    };
    let kept: Uuid = on!(tx, conn => sqlx::query_scalar(
        "insert into dead_letter_events
           (id, event_id, event_type, subject, consumer, instance_id, accepted_at, payload, error, created_at,
            next_auto_retry_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         on conflict (event_id, consumer) do update set error = excluded.error, status = 'pending', resolved_at = null,
           resolved_by = null
         returning id",
    )
    .bind(id)
    .bind(letter.event_id)
    .bind(&letter.event_type)
    .bind(&subject)
    .bind(&*letter.consumer)
    .bind(letter.instance_id)
    .bind(letter.accepted_at)
    .bind(letter.payload.as_slice())
    .bind(&letter.error)
    .bind(now)
    .bind(letter.next_auto_retry_at)
    .fetch_one(conn)
    .await)?;
    if let Some(instance) = letter.instance_id.filter(|_| kept == id) {
        tx.count(instance, Account::Letters, 1);
    }
    Ok(kept)
}

/// Which ones are listed. Absent: all.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// By status.
    pub status: Option<String>,
    /// By event type.
    pub event_type: Option<String>,
    /// By instance.
    pub instance_id: Option<Uuid>,
    /// Put here at or after.
    pub since: Option<Time>,
    /// Put here before.
    pub until: Option<Time>,
}

/// Newest first, those older than the one with the id `before` (ids rise with time).
pub async fn list(tx: &mut Tx, filter: &Filter, before: Option<Uuid>, limit: u32) -> Result<Vec<DeadLetter>> {
    let text = sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from dead_letter_events
         where ($1 is null or status = $1) and ($2 is null or event_type = $2) and ($3 is null or instance_id = $3)
           and ($4 is null or created_at >= $4) and ($5 is null or created_at < $5) and ($6 is null or id < $6)
         order by id desc limit $7"
    ));
    Ok(on!(tx, conn => sqlx::query_as(text)
        .bind(&filter.status)
        .bind(&filter.event_type)
        .bind(filter.instance_id)
        .bind(filter.since)
        .bind(filter.until)
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await)?)
}

/// One of them.
pub async fn get(tx: &mut Tx, id: Uuid) -> Result<Option<DeadLetter>> {
    let text = sqlx::AssertSqlSafe(format!("select {COLUMNS} from dead_letter_events where id = $1"));
    Ok(on!(tx, conn => sqlx::query_as(text).bind(id).fetch_optional(conn).await)?)
}

/// How many there are of each status and event type.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Count {
    /// The status.
    pub status: String,
    /// The event type.
    pub event_type: String,
    /// How many.
    pub count: i64,
}

/// How many there are, by status and event type.
pub async fn stats(tx: &mut Tx) -> Result<Vec<Count>> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select status, event_type, count(*) as count from dead_letter_events group by status, event_type
         order by status, event_type",
    )
    .fetch_all(conn)
    .await)?)
}

/// What becomes of one.
#[derive(Clone, Debug)]
pub enum Mark {
    /// It could not even be tried: why.
    RetryFailed(String),
    /// Somebody says that it needs no more.
    Resolved {
        /// Who.
        by: String,
        /// What they say.
        note: Option<String>,
    },
    /// Somebody gave it up.
    Abandoned {
        /// Who.
        by: String,
        /// What they say.
        note: Option<String>,
    },
}

/// Who tries one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A person.
    Hand,
    /// The host, and when it will do so again should this be in vain.
    Itself(Option<Time>),
}

/// Says that one is on its way to its consumer again, in the transaction that puts it there. `false` when it is settled
/// or on its way already.
pub async fn retrying(tx: &mut Tx, id: Uuid, by: By, now: Time) -> Result<bool> {
    let (automatic, next) = match by {
        By::Hand => (0_i64, None),
        By::Itself(next) => (1, next),
    };
    let done = on!(tx, conn => sqlx::query(
        "update dead_letter_events set status = 'retrying', last_retry_at = $2, resolved_at = null, resolved_by = null,
           auto_retry_count = auto_retry_count + $3, manual_retry_count = manual_retry_count + 1 - $3,
           next_auto_retry_at = case when $3 = 1 then $4 else next_auto_retry_at end
         where id = $1 and status in ('pending', 'abandoned')",
    )
    .bind(id)
    .bind(now)
    .bind(automatic)
    .bind(next)
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// Says that a consumer has taken an event that lay here, if one did.
pub async fn settled(tx: &mut Tx, event_id: Uuid, consumer: &str, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update dead_letter_events set status = 'resolved', resolved_at = $3, resolved_by = 'retry'
         where event_id = $1 and consumer = $2 and status in ('pending', 'retrying')",
    )
    .bind(event_id)
    .bind(consumer)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Says of one that its consumer has come past it. `false` when it came back, or was settled otherwise.
pub async fn passed(tx: &mut Tx, id: Uuid, now: Time) -> Result<bool> {
    Ok(on!(tx, conn => sqlx::query(
        "update dead_letter_events set status = 'resolved', resolved_at = $2, resolved_by = 'retry'
         where id = $1 and status = 'retrying'",
    )
    .bind(id)
    .bind(now)
    .run(conn)
    .await)?
        == 1)
}

/// Has those tried again that were on their way to a consumer, or to NATS, when nobody watched any more.
pub async fn begin_anew(tx: &mut Tx, consumer: &str, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update dead_letter_events set status = 'pending', next_auto_retry_at = $2
         where (consumer = $1 or substr(consumer, 1, 5) = 'nats:') and status = 'retrying'",
    )
    .bind(consumer)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Those that the host is to try again now.
pub async fn due(tx: &mut Tx, now: Time, limit: u32) -> Result<Vec<DeadLetter>> {
    let text = sqlx::AssertSqlSafe(format!(
        "select {COLUMNS} from dead_letter_events where status = 'pending' and next_auto_retry_at <= $1
         order by next_auto_retry_at limit $2"
    ));
    Ok(on!(tx, conn => sqlx::query_as(text).bind(now).bind(i64::from(limit)).fetch_all(conn).await)?)
}

/// How many wait, by consumer.
pub async fn pending(tx: &mut Tx) -> Result<Vec<(String, i64)>> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select consumer, count(*) from dead_letter_events where status in ('pending', 'retrying') group by consumer",
    )
    .fetch_all(conn)
    .await)?)
}

/// Marks one. `false` when there is none with this id.
pub async fn mark(tx: &mut Tx, id: Uuid, mark: &Mark, now: Time) -> Result<bool> {
    let (status, retried, error, by, note) = match mark {
        Mark::RetryFailed(error) => ("pending", 1_i64, Some(error), None, None),
        Mark::Resolved { by, note } => ("resolved", 0, None, Some(by.as_str()), note.as_ref()),
        Mark::Abandoned { by, note } => ("abandoned", 0, None, Some(by.as_str()), note.as_ref()),
    };
    Ok(on!(tx, conn => sqlx::query(
        "update dead_letter_events set status = $2, manual_retry_count = manual_retry_count + $3,
           last_retry_at = case when $3 = 1 then $4 else last_retry_at end,
           error = coalesce($5, error), resolved_by = $6, next_auto_retry_at = null, resolution_note = coalesce($7, resolution_note),
           resolved_at = case when $6 is null then null else $4 end
         where id = $1",
    )
    .bind(id)
    .bind(status)
    .bind(retried)
    .bind(now)
    .bind(error)
    .bind(by)
    .bind(note)
    .run(conn)
    .await)
    .map_err(StoreError::from)?
        == 1)
}
