//! A channel's memory: per instance, transactional. Values are sealed before they come here.

use super::{Result, Run, Time, Tx, on};
use futures_util::TryStreamExt;
use uuid::Uuid;

/// One entry to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvWriteSealed {
    /// Its key.
    pub key: String,
    /// Its sealed value; `None` takes it away.
    pub value: Option<Vec<u8>>,
}

/// What an instance keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Usage {
    /// How many entries.
    pub entries: i64,
    /// Bytes of keys and sealed values.
    pub bytes: i64,
}

/// One entry's sealed value.
pub async fn get(tx: &mut Tx, instance_id: Uuid, key: &str) -> Result<Option<Vec<u8>>> {
    Ok(on!(tx, conn => sqlx::query_scalar("select value from plugin_storage where instance_id = $1 and key = $2")
        .bind(instance_id)
        .bind(key)
        .fetch_optional(conn)
        .await)?)
}

/// Entries whose keys begin with `prefix` and come behind `after`, in order of their bytes. Nothing when those that were
/// asked for have more than `most_bytes` together; no more than that is read.
pub async fn scan(
    tx: &mut Tx,
    instance_id: Uuid,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
    most_bytes: usize,
) -> Result<Option<Vec<(String, Vec<u8>)>>> {
    // Keys with a prefix are one range: no pattern, which would read the user's `%` and `_`.
    let start = after.filter(|after| *after >= prefix).unwrap_or("");
    on!(tx, conn => {
        let mut rows = sqlx::query_as::<_, (String, Vec<u8>)>(
            "select key, value from plugin_storage
             where instance_id = $1 and key >= $2 and key > $3 and substr(key, 1, length($2)) = $2
               and ($4 is null or key < $4)
             order by key limit $5",
        )
        .bind(instance_id)
        .bind(prefix)
        .bind(start)
        .bind(successor(prefix))
        .bind(i64::from(limit))
        .fetch(conn);
        let (mut found, mut bytes) = (Vec::new(), 0);
        while let Some((key, value)) = rows.try_next().await? {
            bytes += key.len() + value.len();
            if bytes > most_bytes {
                return Ok(None);
            }
            found.push((key, value));
        }
        Ok(Some(found))
    })
}

/// The first string behind all that begin with `prefix`, if there is one: the last character that can be raised is.
fn successor(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

/// Writes entries, in order.
pub async fn write(tx: &mut Tx, instance_id: Uuid, plugin_id: &str, writes: &[KvWriteSealed], now: Time) -> Result<()> {
    for write in writes {
        match &write.value {
            Some(value) => on!(tx, conn => sqlx::query(
                "insert into plugin_storage (instance_id, key, plugin_id, value, updated_at)
                 values ($1, $2, $3, $4, $5)
                 on conflict (instance_id, key) do update
                 set value = excluded.value, plugin_id = excluded.plugin_id, updated_at = excluded.updated_at",
            )
            .bind(instance_id)
            .bind(&write.key)
            .bind(plugin_id)
            .bind(value.as_slice())
            .bind(now)
            .run(conn)
            .await)?,
            None => on!(tx, conn => sqlx::query("delete from plugin_storage where instance_id = $1 and key = $2")
                .bind(instance_id)
                .bind(&write.key)
                .run(conn)
                .await)?,
        };
    }
    Ok(())
}

/// How much an instance keeps.
pub async fn usage(tx: &mut Tx, instance_id: Uuid) -> Result<Usage> {
    Ok(on!(tx, conn => sqlx::query_as(
        "select count(*) as entries, cast(coalesce(sum(octet_length(key) + octet_length(value)), 0) as bigint) as bytes
         from plugin_storage where instance_id = $1",
    )
    .bind(instance_id)
    .fetch_one(conn)
    .await)?)
}

#[cfg(test)]
mod tests {
    use super::successor;

    #[test]
    fn the_successor_is_behind_every_key_with_the_prefix() {
        for prefix in ["a", "session/", "z\u{10ffff}", "\u{d7ff}", "ü"] {
            let end = successor(prefix).expect("these have one");
            assert!(end.as_str() > prefix);
            assert!(format!("{prefix}\u{10ffff}\u{10ffff}") < end, "{prefix:?} … {end:?}");
        }
        assert_eq!(successor(""), None);
        assert_eq!(successor("\u{10ffff}"), None);
    }
}
