//! What waits to be sent to webhooks: one row an event, in order within a chat, settled singly.
//!
//! Only the first row of a chat has a time for its next attempt; the others wait behind it, however often it fails,
//! and the chats beside it go on. Whoever is being sent is known to the sender alone: after a crash a row is sent again
//! under the same id.
//!
//! Deliberately not here: when something is tried again, and when it is given up.

use super::bulk::{self, Bulk};
use super::dead_letters::{self, NewDeadLetter};
use super::events::DomainEvent;
use super::{Result, Run, Time, Tx, on};
use sqlx::FromRow;
use std::collections::HashSet;
use std::sync::LazyLock;
use uuid::Uuid;

/// An event to be queued.
#[derive(Clone, Debug)]
pub struct Queued {
    /// Its place in the order of events.
    pub event_seq: i64,
    /// Its id.
    pub event_id: Uuid,
    /// Its type.
    pub event_type: String,
    /// Its instance; nil for none.
    pub instance_id: Uuid,
    /// Order is kept within it.
    pub chat_key: String,
    /// The envelope, where the event itself may be gone.
    pub payload: Option<Vec<u8>>,
}

impl From<&DomainEvent> for Queued {
    fn from(event: &DomainEvent) -> Self {
        let instance_id = event.metadata.instance_id;
        Self {
            event_seq: event.seq,
            event_id: event.id,
            event_type: event.event_type.clone(),
            instance_id,
            chat_key: format!("{}/{}", instance_id.simple(), event.chat.as_deref().unwrap_or_default()),
            payload: None,
        }
    }
}

static ENQUEUE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into webhook_deliveries (id, webhook_id, event_seq, event_id, event_type, instance_id, chat_key, \
         payload, next_attempt_at, created_at)",
        "uuid uuid bigint uuid text uuid text bytea timestamptz timestamptz",
        "",
    )
});

/// Queues events for a webhook, behind what waits of the same chats.
pub async fn enqueue(tx: &mut Tx, webhook: Uuid, events: &[Queued], now: Time) -> Result<()> {
    let keys: HashSet<&str> = events.iter().map(|event| event.chat_key.as_str()).collect();
    let keys = serde_json::to_string(&keys).expect("strings are JSON");
    let waiting: Vec<String> = on!(tx, conn => sqlx::query_scalar(
        "select value from json_each($2) as wanted where exists
           (select 1 from webhook_deliveries where webhook_id = $1 and chat_key = wanted.value and status = 'pending')",
    )
    .bind(webhook)
    .bind(keys)
    .fetch_all(conn)
    .await)?;
    let mut waiting: HashSet<String> = waiting.into_iter().collect();
    let rows: Vec<(Uuid, &Queued, Option<Time>)> = events
        .iter()
        .map(|event| {
            let first = waiting.insert(event.chat_key.clone());
            (tx.new_id(now), event, first.then_some(now))
        })
        .collect();
    bulk::execute(tx, &ENQUEUE, &rows, |row, (id, event, next)| {
        row.bind(*id)
            .bind(webhook)
            .bind(event.event_seq)
            .bind(event.event_id)
            .bind(event.event_type.as_str())
            .bind(event.instance_id)
            .bind(event.chat_key.as_str())
            .bind(event.payload.as_deref())
            .bind(*next)
            .bind(now);
    })
    .await?;
    Ok(())
}

/// A row that is to be sent.
#[derive(Clone, Debug, FromRow)]
pub struct Due {
    /// Its place in the queue.
    pub seq: i64,
    /// The event's place.
    pub event_seq: i64,
    /// The event's id.
    pub event_id: Uuid,
    /// The event's type.
    pub event_type: String,
    /// The event's instance; nil for none.
    pub instance_id: Uuid,
    /// Order is kept within it.
    pub chat_key: String,
    /// The envelope, where the event itself may be gone.
    pub payload: Option<Vec<u8>>,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was queued.
    pub created_at: Time,
}

/// The rows of a webhook whose time has come, the longest waiting first.
pub async fn due(tx: &mut Tx, webhook: Uuid, now: Time, limit: usize) -> Result<Vec<Due>> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select seq, event_seq, event_id, event_type, instance_id, chat_key, payload, attempts, created_at
         from webhook_deliveries where webhook_id = $1 and next_attempt_at <= $2
         order by next_attempt_at, seq limit $3",
    )
    .bind(webhook)
    .bind(now)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(conn)
    .await)?)
}

/// When the next row of a webhook comes due after a time.
pub async fn next_due(tx: &mut Tx, webhook: Uuid, after: Time) -> Result<Option<Time>> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select min(next_attempt_at) from webhook_deliveries where webhook_id = $1 and next_attempt_at > $2",
    )
    .bind(webhook)
    .bind(after)
    .fetch_one(conn)
    .await)?)
}

/// How many rows of a webhook wait, counted up to a number: those whose time has come, and all.
pub async fn waiting(tx: &mut Tx, webhook: Uuid, now: Time, most: (i64, i64)) -> Result<(i64, i64)> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select (select count(*) from (select 1 from webhook_deliveries
                   where webhook_id = $1 and next_attempt_at <= $2 limit $3) due),
                (select count(*) from (select 1 from webhook_deliveries
                   where webhook_id = $1 and status = 'pending' limit $4) pending)",
    )
    .bind(webhook)
    .bind(now)
    .bind(most.0)
    .bind(most.1)
    .fetch_one(conn)
    .await)?)
}

/// How one attempt went, for the log of attempts.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// When it began.
    pub at: Time,
    /// How long it took.
    pub duration_ms: i64,
    /// What the other side answered.
    pub status_code: Option<u16>,
    /// Why it counts as failed.
    pub error: Option<String>,
    /// The first bytes of the answer.
    pub answer: Option<String>,
}

/// What becomes of a row after an attempt.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// It was taken.
    Delivered,
    /// It is tried again at a time.
    Again(Time),
    /// It is given up, with all that is needed to do it again.
    Failed(Box<NewDeadLetter>),
}

/// Writes how an attempt went and what becomes of its row; lets the next of its chat come forward when it is settled.
pub async fn settle(
    tx: &mut Tx,
    webhook: Uuid,
    due: &Due,
    attempt: &Attempt,
    verdict: &Verdict,
    now: Time,
) -> Result<()> {
    let (status, next) = match verdict {
        Verdict::Delivered => ("delivered", None),
        Verdict::Again(at) => ("pending", Some(*at)),
        Verdict::Failed(_) => ("failed", None),
    };
    let done = on!(tx, conn => sqlx::query(
        "update webhook_deliveries set status = $2, attempts = attempts + 1, next_attempt_at = $3, last_attempt_at = $4,
           last_status_code = $5, last_error = $6, settled_at = case when $2 = 'pending' then null else $7 end
         where seq = $1 and status = 'pending' and attempts = $8",
    )
    .bind(due.seq)
    .bind(status)
    .bind(next)
    .bind(attempt.at)
    .bind(attempt.status_code.map(i64::from))
    .bind(&attempt.error)
    .bind(now)
    .bind(due.attempts)
    .run(conn)
    .await)?;
    if done == 0 {
        // The webhook was deleted meanwhile, and everything of it; or this attempt is written down already.
        return Ok(());
    }
    on!(tx, conn => sqlx::query(
        "insert into webhook_attempts (delivery_seq, attempt, at, duration_ms, status_code, error, answer)
         select seq, attempts, $2, $3, $4, $5, $6 from webhook_deliveries where seq = $1",
    )
    .bind(due.seq)
    .bind(attempt.at)
    .bind(attempt.duration_ms)
    .bind(attempt.status_code.map(i64::from))
    .bind(&attempt.error)
    .bind(&attempt.answer)
    .run(conn)
    .await)?;
    match verdict {
        Verdict::Again(_) => return Ok(()),
        // What lay in the dead letters is settled with it.
        Verdict::Delivered => dead_letters::settled(tx, due.event_id, &super::webhooks::consumer(webhook), now).await?,
        Verdict::Failed(letter) => {
            dead_letters::insert(tx, letter, now).await?;
        }
    }
    come_forward(tx, webhook, &due.chat_key, now).await
}

/// Why a row whose event is no longer kept is not sent.
const EXPIRED: &str = "the event was no longer kept when its turn came (retention.event_days)";

/// Settles a row whose event is no longer kept, and says so where its attempts are shown.
pub async fn expire(tx: &mut Tx, webhook: Uuid, due: &Due, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update webhook_deliveries set status = 'expired', next_attempt_at = null, settled_at = $2, last_error = $3
         where seq = $1",
    )
    .bind(due.seq)
    .bind(now)
    .bind(EXPIRED)
    .run(conn)
    .await)?;
    on!(tx, conn => sqlx::query(
        "insert into webhook_attempts (delivery_seq, attempt, at, duration_ms, error)
         select seq, attempts + 1, $2, 0, $3 from webhook_deliveries where seq = $1",
    )
    .bind(due.seq)
    .bind(now)
    .bind(EXPIRED)
    .run(conn)
    .await)?;
    super::webhooks::note_failure(tx, webhook, now, EXPIRED).await?;
    come_forward(tx, webhook, &due.chat_key, now).await
}

async fn come_forward(tx: &mut Tx, webhook: Uuid, chat_key: &str, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update webhook_deliveries set next_attempt_at = $3 where seq =
           (select min(seq) from webhook_deliveries where webhook_id = $1 and chat_key = $2 and status = 'pending')",
    )
    .bind(webhook)
    .bind(chat_key)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Those of these events that a webhook has taken already.
pub async fn delivered(tx: &mut Tx, webhook: Uuid, event_seqs: &[i64]) -> Result<HashSet<i64>> {
    let seqs = serde_json::to_string(event_seqs).expect("numbers are JSON");
    let found: Vec<i64> = on!(tx, conn => sqlx::query_scalar(
        "select distinct event_seq from webhook_deliveries
         where webhook_id = $1 and status = 'delivered' and event_seq in (select cast(value as bigint) from json_each($2))",
    )
    .bind(webhook)
    .bind(seqs)
    .fetch_all(conn)
    .await)?;
    Ok(found.into_iter().collect())
}
