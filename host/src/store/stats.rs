//! Counts for health, metrics and benchmarks.

use super::{Result, Store, Time, on};
use sqlx::FromRow;

/// How many messages are stored. Walks an index: not for every request.
pub async fn messages(store: &Store) -> Result<i64> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_scalar("select count(*) from messages").fetch_one(conn).await)?)
}

/// What an operator watches. None of it walks a large table.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The place of the newest accepted event: as many were accepted since the beginning.
    pub accepted: i64,
    /// Up to where they are stored.
    pub stored: i64,
    /// The place of the newest domain event.
    pub newest_event: i64,
    /// Who reads, and how far behind.
    pub consumers: Vec<Consumer>,
    /// What is to be sent, by status.
    pub outbox: Vec<Open>,
    /// Size of the database file.
    pub database_bytes: u64,
    /// Size of its write-ahead log.
    pub database_log_bytes: u64,
}

/// A consumer.
#[derive(Clone, Debug, FromRow)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// What it reads: `inbound` or `events`.
    pub stream: String,
    /// How many it has not had.
    pub depth: i64,
    /// How old the oldest of those is, in microseconds.
    pub lag_us: i64,
}

/// Rows of the outbox in one state.
#[derive(Clone, Debug, FromRow)]
pub struct Open {
    /// The state.
    pub status: String,
    /// How many.
    pub count: i64,
    /// How old the oldest is, in microseconds.
    pub age_us: i64,
}

/// Looks at everything, in one snapshot.
pub async fn look(store: &Store, now: Time) -> Result<Seen> {
    let mut tx = store.read().await?;
    let (accepted, stored, newest_event): (i64, i64, i64) = on!(&mut tx, conn => sqlx::query_as(
        "select max(coalesce((select max(seq) from inbound_log), 0),
             coalesce((select max(last_sequence) from consumer_offsets where stream_name = 'inbound'), 0)),
           coalesce((select max(last_sequence) from consumer_offsets where consumer_name = 'storage'), 0),
           coalesce((select max(seq) from omni_events), 0)",
    )
    .fetch_one(conn)
    .await)?;
    let consumers = on!(&mut tx, conn => sqlx::query_as(
        "select name, stream, max(0, case stream when 'inbound' then $1 else $2 end - at) as depth,
           max(0, $3 - coalesce(case stream
             when 'inbound' then (select accepted_at from inbound_log where seq > at order by seq limit 1)
             else (select received_at from omni_events where seq > at order by seq limit 1) end, $3)) as lag_us
         from (select consumer_name as name, stream_name as stream, min(last_sequence) as at from consumer_offsets
               group by consumer_name, stream_name order by consumer_name limit 100)",
    )
    .bind(accepted)
    .bind(newest_event)
    .bind(now)
    .fetch_all(conn)
    .await)?;
    let outbox = on!(&mut tx, conn => sqlx::query_as(
        "select status, count(*) as count, max(0, $1 - min(created_at)) as age_us from outbox
         where status in ('pending', 'sending', 'unknown', 'reconciling') group by status",
    )
    .bind(now)
    .fetch_all(conn)
    .await)?;
    let file: Option<String> = on!(&mut tx, conn => sqlx::query_scalar(
        "select file from pragma_database_list where name = 'main'",
    )
    .fetch_optional(conn)
    .await)?;
    let size = |end: &str| {
        file.as_ref().and_then(|file| std::fs::metadata(format!("{file}{end}")).ok()).map_or(0, |found| found.len())
    };
    Ok(Seen {
        accepted,
        stored,
        newest_event,
        consumers,
        outbox,
        database_bytes: size(""),
        database_log_bytes: size("-wal"),
    })
}
