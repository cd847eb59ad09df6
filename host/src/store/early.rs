//! What was said about messages that had not come yet. Networks repeat and overtake themselves: a reaction, a receipt, a
//! deletion may be here before its message, and waits for it.
//!
//! Deliberately not here: what becomes of a message by it. That is `apply::early`.

use super::bulk::{self, Bulk};
use super::{Result, Time, Tx, on};
use std::sync::LazyLock;
use uuid::Uuid;

/// A word about a message, as it is kept.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct EarlyRow {
    /// Its place; they are folded in the order in which they came.
    pub seq: i64,
    /// The chat that was named; a thread's message may have been looked for in its parent.
    pub chat_id: Uuid,
    /// The message, by the network's id.
    pub external_id: String,
    /// Who said it, when they are known.
    pub person_id: Option<Uuid>,
    /// What was said, as JSON.
    pub said: String,
    /// When that happened.
    pub at: Time,
}

/// Whether anything waits at all. Mostly nothing does, and then nobody has to look further.
pub async fn any(tx: &mut Tx) -> Result<bool> {
    Ok(on!(tx, conn => sqlx::query_scalar("select exists (select 1 from early_events)").fetch_one(conn).await)?)
}

static LOAD: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "select e.seq, e.chat_id, e.external_id, e.person_id, cast(e.said as text) as said, e.at from (",
        "uuid text",
        ") v cross join early_events e where e.chat_id = v.column1 and e.external_id = v.column2 order by e.seq",
    )
});

/// What waits for these messages, given as (chat, the network's id), in order.
pub async fn load(tx: &mut Tx, keys: &[(Uuid, &str)]) -> Result<Vec<EarlyRow>> {
    bulk::fetch(tx, &LOAD, keys, |row, (chat, message)| {
        row.bind(*chat).bind(*message);
    })
    .await
}

static INSERT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into early_events (chat_id, external_id, person_id, said, at, received_at)",
        "uuid text uuid json timestamptz timestamptz",
        "",
    )
});

/// Keeps what is to wait; `seq` is given by the table.
pub async fn insert(tx: &mut Tx, rows: &[EarlyRow], now: Time) -> Result<()> {
    bulk::execute(tx, &INSERT, rows, |row, early| {
        row.bind(early.chat_id)
            .bind(early.external_id.as_str())
            .bind(early.person_id)
            .bind(early.said.as_str())
            .bind(early.at)
            .bind(now);
    })
    .await?;
    Ok(())
}

static FORGET: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("delete from early_events where seq in (select column1 from (", "bigint", ") v)"));

/// Forgets what has been folded in.
pub async fn forget(tx: &mut Tx, seqs: &[i64]) -> Result<()> {
    bulk::execute(tx, &FORGET, seqs, |row, seq| {
        row.bind(*seq);
    })
    .await?;
    Ok(())
}
