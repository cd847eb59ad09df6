//! Counts for health, metrics and benchmarks.

use super::{Result, Store, on};

/// How many messages are stored. Walks an index: not for every request.
pub async fn messages(store: &Store) -> Result<i64> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_scalar("select count(*) from messages").fetch_one(conn).await)?)
}
