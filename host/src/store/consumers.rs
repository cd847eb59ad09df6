//! How far each consumer has come. A position moves in the transaction of its consumer's effects and only for the one
//! who claimed it last: order, fencing and exactly-once effect come from there.

use super::{Result, Run, Time, Tx, on};
use std::borrow::Cow;

/// A claimed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Who reads.
    pub consumer: Cow<'static, str>,
    /// What is read: `inbound` or `events`.
    pub stream: &'static str,
    /// Everything up to here has had its effect.
    pub seq: i64,
    /// Rises with every claim; a position moves only for the newest.
    pub fence: i64,
}

/// Claims a consumer's position, which puts an end to whoever claimed it before; a new consumer starts behind `start`.
pub async fn claim(
    tx: &mut Tx,
    consumer: impl Into<Cow<'static, str>>,
    stream: &'static str,
    start: i64,
    now: Time,
) -> Result<Position> {
    let consumer = consumer.into();
    let (seq, fence): (i64, i64) = on!(tx, conn => sqlx::query_as(
        "insert into consumer_offsets (consumer_name, stream_name, lane, last_sequence, fence, updated_at)
         values ($1, $2, -1, $3, 1, $4)
         on conflict (consumer_name, stream_name, lane)
         do update set fence = consumer_offsets.fence + 1, updated_at = excluded.updated_at
         returning last_sequence, fence",
    )
    .bind(&*consumer)
    .bind(stream)
    .bind(start)
    .bind(now)
    .fetch_one(conn)
    .await)?;
    Ok(Position { consumer, stream, seq, fence })
}

/// Says where a consumer begins that has never claimed its position, and leaves one that has.
pub async fn begins(tx: &mut Tx, consumer: &str, stream: &'static str, start: i64, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "insert into consumer_offsets (consumer_name, stream_name, lane, last_sequence, fence, updated_at)
         values ($1, $2, -1, $3, 0, $4) on conflict (consumer_name, stream_name, lane) do nothing",
    )
    .bind(consumer)
    .bind(stream)
    .bind(start)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Moves a position. `false` when somebody else has claimed it since: then nothing of the transaction may be committed.
pub async fn advance(tx: &mut Tx, position: &Position, seq: i64, now: Time) -> Result<bool> {
    Ok(on!(tx, conn => sqlx::query(
        "update consumer_offsets set last_sequence = $1, updated_at = $2
         where consumer_name = $3 and stream_name = $4 and lane = -1 and fence = $5",
    )
    .bind(seq)
    .bind(now)
    .bind(position.consumer.as_ref())
    .bind(position.stream)
    .bind(position.fence)
    .run(conn)
    .await)?
        == 1)
}

/// As [`advance`], from exactly where the position is believed to be. `false` also when it is not there: a commit that was
/// reported as failed has happened, as [`held`] tells.
pub async fn advance_from(tx: &mut Tx, position: &Position, seq: i64, now: Time) -> Result<bool> {
    // In one statement: where others write beside us, what was read before it may no longer be true in it.
    Ok(on!(tx, conn => sqlx::query(
        "update consumer_offsets set last_sequence = $1, updated_at = $2
         where consumer_name = $3 and stream_name = $4 and lane = -1 and fence = $5 and last_sequence = $6",
    )
    .bind(seq)
    .bind(now)
    .bind(position.consumer.as_ref())
    .bind(position.stream)
    .bind(position.fence)
    .bind(position.seq)
    .run(conn)
    .await)?
        == 1)
}

/// How far a consumer has come, when it has ever begun.
pub async fn reached(tx: &mut Tx, consumer: &str, stream: &str) -> Result<Option<i64>> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select last_sequence from consumer_offsets where consumer_name = $1 and stream_name = $2 and lane = -1",
    )
    .bind(consumer)
    .bind(stream)
    .fetch_optional(conn)
    .await)?)
}

/// Forgets a consumer that is no more.
pub async fn forget(tx: &mut Tx, consumer: &str) -> Result<()> {
    on!(tx, conn => sqlx::query("delete from consumer_offsets where consumer_name = $1")
        .bind(consumer)
        .run(conn)
        .await)?;
    Ok(())
}

/// Where a claimed position is; `None` when somebody else has claimed it since.
pub async fn held(tx: &mut Tx, position: &Position) -> Result<Option<i64>> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select last_sequence from consumer_offsets
         where consumer_name = $1 and stream_name = $2 and lane = -1 and fence = $3",
    )
    .bind(position.consumer.as_ref())
    .bind(position.stream)
    .bind(position.fence)
    .fetch_optional(conn)
    .await)?)
}
