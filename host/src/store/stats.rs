//! Counts for health, metrics and benchmarks.

use super::{Result, Store, Time, Tx, log, on};

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
    /// Size of the database.
    pub database_bytes: u64,
    /// Size of its write-ahead log; 0 on Postgres, where it is the server's.
    pub database_log_bytes: u64,
}

/// A consumer.
#[derive(Clone, Debug)]
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
#[derive(Clone, Debug)]
pub struct Open {
    /// The state.
    pub status: String,
    /// How many.
    pub count: i64,
    /// How old the oldest is, in microseconds.
    pub age_us: i64,
}

/// Looks at everything, in one snapshot. How far the log in NATS is, the bus knows.
pub async fn look(store: &Store, now: Time) -> Result<Seen> {
    let mut tx = store.read().await?;
    let accepted = log::newest(&mut tx).await?;
    let (stored, newest_event): (i64, i64) = on!(&mut tx, conn => sqlx::query_as(
        "select coalesce((select max(last_sequence) from consumer_offsets
             where consumer_name = 'storage' and stream_name = 'inbound'), 0),
           coalesce((select max(seq) from omni_events), 0)",
    )
    .fetch_one(conn)
    .await)?;
    let consumers: Vec<(String, String, i64, Option<Time>)> = on!(&mut tx, conn => sqlx::query_as(
        "select c.name, c.stream, c.place, case c.stream
             when 'inbound' then (select accepted_at from inbound_log where seq > c.place order by seq limit 1)
             else (select received_at from omni_events where seq > c.place order by seq limit 1) end
         from (select consumer_name as name, stream_name as stream, min(last_sequence) as place from consumer_offsets
               where stream_name in ('inbound', 'events') group by consumer_name, stream_name order by consumer_name limit 100) c",
    )
    .fetch_all(conn)
    .await)?;
    let age = |since: Option<Time>| since.map_or(0, |since| (now.0 - since.0).max(0));
    let consumers = consumers
        .into_iter()
        .map(|(name, stream, place, oldest)| {
            let newest = if stream == "inbound" { accepted } else { newest_event };
            Consumer { name, stream, depth: (newest - place).max(0), lag_us: age(oldest) }
        })
        .collect();
    let outbox: Vec<(String, i64, Option<Time>)> = on!(&mut tx, conn => sqlx::query_as(
        "select status, count(*), min(created_at) from outbox
         where status in ('pending', 'sending', 'unknown', 'reconciling') group by status",
    )
    .fetch_all(conn)
    .await)?;
    let outbox =
        outbox.into_iter().map(|(status, count, oldest)| Open { status, count, age_us: age(oldest) }).collect();
    let (database_bytes, database_log_bytes) = sizes(&mut tx).await?;
    Ok(Seen { accepted, stored, newest_event, consumers, outbox, database_bytes, database_log_bytes })
}

/// Size of the database, and of its write-ahead log where that is its own: Postgres has one for all its databases.
async fn sizes(tx: &mut Tx) -> Result<(u64, u64)> {
    if tx.pick(false, true) {
        let size: i64 =
            on!(tx, conn => sqlx::query_scalar("select pg_database_size(current_database())").fetch_one(conn).await)?;
        return Ok((u64::try_from(size).unwrap_or(0), 0));
    }
    let file: Option<String> = on!(tx, conn => sqlx::query_scalar(
        "select file from pragma_database_list where name = 'main'",
    )
    .fetch_optional(conn)
    .await)?;
    let size = |end: &str| {
        file.as_ref().and_then(|file| std::fs::metadata(format!("{file}{end}")).ok()).map_or(0, |found| found.len())
    };
    Ok((size(""), size("-wal")))
}
