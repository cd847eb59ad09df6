//! The embedded bus's rows: the log of accepted events, and the keys by which a second delivery is recognised.
//!
//! Deliberately not here: when it is trimmed and what a group is. That is the bus.

use super::bulk::{self, Bulk};
use super::entry::{Body, Entry, parse};
use super::{Result, Run, Time, Tx, on};
use std::collections::HashSet;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// A delivery key that is to be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Whose.
    pub instance_id: Uuid,
    /// What the network would deliver again.
    pub key: String,
}

static APPEND: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into inbound_log (seq, lane, instance_id, event_id, accepted_at, payload, trace)",
        "bigint bigint uuid uuid timestamptz bytea text",
        "",
    )
});

static REMEMBER: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into delivery_keys (instance_id, key, seen_at)",
        "uuid text timestamptz",
        "on conflict do nothing",
    )
});

static REMEMBER_TELLING: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into delivery_keys (instance_id, key, seen_at)",
        "uuid text timestamptz",
        "on conflict do nothing returning instance_id, key",
    )
});

static KNOWN: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "select d.instance_id, d.key from (",
        "uuid text",
        ") v join delivery_keys d on d.instance_id = v.column1 and d.key = v.column2",
    )
});

/// Remembers the keys of entries and gives back the entries that were not delivered before.
pub async fn first_deliveries(tx: &mut Tx, entries: &[Arc<Entry>], now: Time) -> Result<Vec<Arc<Entry>>> {
    let key = |entry: &Entry| Some(Key { instance_id: entry.instance_id, key: entry.key.clone()? });
    let mut seen = HashSet::new();
    let mut first: Vec<(&Arc<Entry>, Option<Key>)> = entries.iter().map(|entry| (entry, key(entry))).collect();
    first.retain(|(_, key)| key.as_ref().is_none_or(|key| seen.insert(key.clone())));
    let keys: Vec<Key> = first.iter().filter_map(|(_, key)| key.clone()).collect();
    let known: HashSet<Key> =
        if keys.is_empty() { HashSet::new() } else { remember(tx, &keys, now).await?.into_iter().collect() };
    first.retain(|(_, key)| key.as_ref().is_none_or(|key| !known.contains(key)));
    Ok(first.into_iter().map(|(entry, _)| Arc::clone(entry)).collect())
}

/// Which of some keys, each named once, are remembered.
pub async fn known(tx: &mut Tx, keys: &[Key]) -> Result<HashSet<Key>> {
    let known: Vec<(Uuid, String)> = bulk::fetch(tx, &KNOWN, keys, |row, key| {
        row.bind(key.instance_id).bind(key.key.as_str());
    })
    .await?;
    Ok(known.into_iter().map(|(instance_id, key)| Key { instance_id, key }).collect())
}

/// Appends entries, which have their places already.
pub async fn append(tx: &mut Tx, entries: &[Entry]) -> Result<()> {
    bulk::execute(tx, &APPEND, entries, |row, entry| {
        row.bind(entry.seq)
            .bind(entry.lane)
            .bind(entry.instance_id)
            .bind(entry.event_id)
            .bind(entry.accepted_at)
            .bind(entry.body.payload.as_slice())
            .bind(entry.trace.clone());
    })
    .await?;
    Ok(())
}

/// Remembers keys, each named once, and gives back those that were known before.
pub async fn remember(tx: &mut Tx, keys: &[Key], now: Time) -> Result<Vec<Key>> {
    let insert = |row: &mut bulk::Binder, key: &Key| {
        row.bind(key.instance_id).bind(key.key.as_str()).bind(now);
    };
    if tx.pick(false, true) {
        // One round trip: what does not come back was there.
        let new: Vec<(Uuid, String)> = bulk::fetch(tx, &REMEMBER_TELLING, keys, insert).await?;
        if new.len() == keys.len() {
            return Ok(Vec::new());
        }
        let new: HashSet<(Uuid, &str)> = new.iter().map(|(instance_id, key)| (*instance_id, key.as_str())).collect();
        let is_known = |key: &&Key| !new.contains(&(key.instance_id, key.key.as_str()));
        return Ok(keys.iter().filter(is_known).cloned().collect());
    }
    // Nearly always all are new; only when they are not is it worth asking which.
    on!(tx, conn => sqlx::query("savepoint delivery_keys").run(conn).await)?;
    if bulk::execute(tx, &REMEMBER, keys, insert).await? == keys.len() as u64 {
        // The commit releases it.
        return Ok(Vec::new());
    }
    on!(tx, conn => sqlx::query("rollback to delivery_keys").run(conn).await)?;
    on!(tx, conn => sqlx::query("release delivery_keys").run(conn).await)?;
    let known = known(tx, keys).await?;
    bulk::execute(tx, &REMEMBER, keys, insert).await?;
    Ok(known.into_iter().collect())
}

#[derive(sqlx::FromRow)]
struct Row {
    seq: i64,
    lane: i64,
    instance_id: Uuid,
    event_id: Uuid,
    accepted_at: Time,
    payload: Vec<u8>,
    trace: Option<String>,
}

/// Entries behind a place, in order.
pub async fn read(tx: &mut Tx, after: i64, limit: u32) -> Result<Vec<Entry>> {
    let rows: Vec<Row> = on!(tx, conn => sqlx::query_as(
        "select seq, lane, instance_id, event_id, accepted_at, payload, trace from inbound_log
         where seq > $1 order by seq limit $2",
    )
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(conn)
    .await)?;
    Ok(rows
        .into_iter()
        .map(|row| Entry {
            seq: row.seq,
            lane: row.lane,
            instance_id: row.instance_id,
            event_id: row.event_id,
            accepted_at: row.accepted_at,
            trace: row.trace.map(Arc::from),
            body: Arc::new(Body { parsed: parse(&row.payload, row.accepted_at), payload: row.payload }),
            key: None,
            again: false,
        })
        .collect())
}

/// The newest place that was ever taken: the log's, or a consumer's when the log has been trimmed behind it.
pub async fn newest(tx: &mut Tx) -> Result<i64> {
    Ok(on!(tx, conn => sqlx::query_scalar(
        "select coalesce(max(taken.seq), 0) from (select max(seq) as seq from inbound_log
         union all select max(last_sequence) from consumer_offsets where stream_name = 'inbound') taken",
    )
    .fetch_one(conn)
    .await)?)
}

/// Deletes entries that every consumer has behind it and that are older than a time, or more than `keep` places behind
/// the newest. At most `limit` at once, so that the writer is not held for long; says how many.
pub async fn trim(tx: &mut Tx, older_than: Time, keep: i64, limit: u32) -> Result<u64> {
    Ok(on!(tx, conn => sqlx::query(
        "delete from inbound_log where seq in (
           select seq from inbound_log
           where seq <= (select min(last_sequence) from consumer_offsets where stream_name = 'inbound')
             and (accepted_at < $1 or seq <= (select max(seq) from inbound_log) - $2)
           order by seq limit $3)",
    )
    .bind(older_than)
    .bind(keep)
    .bind(i64::from(limit))
    .run(conn)
    .await)?)
}

/// Forgets delivery keys older than a time, at most `limit` at once; says how many.
pub async fn forget(tx: &mut Tx, older_than: Time, limit: u32) -> Result<u64> {
    Ok(on!(tx, conn => sqlx::query(
        "delete from delivery_keys where (instance_id, key) in (
           select instance_id, key from delivery_keys where seen_at < $1 order by seen_at limit $2)",
    )
    .bind(older_than)
    .bind(i64::from(limit))
    .run(conn)
    .await)?)
}

/// How many lanes there are: what was stored at first start, or else `wanted`, which is stored now.
pub async fn lanes(tx: &mut Tx, wanted: u32, now: Time) -> Result<u32> {
    let id = tx.new_id(now);
    on!(tx, conn => sqlx::query(
        "insert into global_settings (id, key, value, value_type, category, created_at, updated_at)
         values ($1, 'bus.lanes', $2, 'number', 'bus', $3, $3) on conflict (key) do nothing",
    )
    .bind(id)
    .bind(wanted.to_string())
    .bind(now)
    .run(conn)
    .await)?;
    let stored: Option<String> = on!(tx, conn => sqlx::query_scalar("select value from global_settings where key = 'bus.lanes'")
            .fetch_one(conn)
            .await)?;
    let stored = stored.unwrap_or_default();
    match stored.parse() {
        Ok(lanes) if lanes > 0 => Ok(lanes),
        _ => Err(super::StoreError::Inconsistent {
            table: "global_settings",
            column: "value",
            id: "bus.lanes".into(),
            reason: format!("`{stored}` is not a number of lanes"),
        }),
    }
}
