//! What a channel kept before a newer version of its plugin changed it: the way back to the older file.

use super::{Result, Run, Time, Tx, on};
use uuid::Uuid;

/// A snapshot that can be gone back to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Snapshot {
    /// The version of what is in it.
    pub state_version: i64,
    /// When it was taken.
    pub taken_at: Time,
}

/// Most snapshots of one instance; the oldest go.
const KEPT: i64 = 2;

/// Copies all that an instance keeps, as that version. One of the same version is taken anew.
pub async fn take(tx: &mut Tx, instance_id: Uuid, state_version: i64, now: Time) -> Result<()> {
    let query = "delete from plugin_state_snapshots where instance_id = $1 and state_version = $2";
    on!(tx, conn => sqlx::query(query).bind(instance_id).bind(state_version).run(conn).await)?;
    let query = "insert into plugin_state_snapshots (instance_id, state_version, taken_at) values ($1, $2, $3)";
    on!(tx, conn => sqlx::query(query).bind(instance_id).bind(state_version).bind(now).run(conn).await)?;
    let query = "insert into plugin_state_snapshot_entries (instance_id, state_version, key, plugin_id, value)
        select instance_id, $2, key, plugin_id, value from plugin_storage where instance_id = $1";
    on!(tx, conn => sqlx::query(query).bind(instance_id).bind(state_version).run(conn).await)?;
    let query = "delete from plugin_state_snapshots where instance_id = $1 and state_version not in (
            select state_version from plugin_state_snapshots where instance_id = $1
            order by taken_at desc, state_version desc limit $2)";
    on!(tx, conn => sqlx::query(query).bind(instance_id).bind(KEPT).run(conn).await)?;
    Ok(())
}

/// The newest snapshot that a plugin which knows `state_version` can read.
pub async fn newest(tx: &mut Tx, instance_id: Uuid, state_version: i64) -> Result<Option<Snapshot>> {
    let query = "select state_version, taken_at from plugin_state_snapshots
        where instance_id = $1 and state_version <= $2 order by state_version desc limit 1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(instance_id).bind(state_version).fetch_optional(conn).await)?)
}

/// Puts what is in a snapshot in the place of what the instance keeps. The snapshot stays.
pub async fn restore(tx: &mut Tx, instance_id: Uuid, snapshot: Snapshot, now: Time) -> Result<()> {
    let query = "delete from plugin_storage where instance_id = $1";
    on!(tx, conn => sqlx::query(query).bind(instance_id).run(conn).await)?;
    let query = "insert into plugin_storage (instance_id, key, plugin_id, value, updated_at)
        select instance_id, key, plugin_id, value, $3 from plugin_state_snapshot_entries
        where instance_id = $1 and state_version = $2";
    on!(tx, conn => sqlx::query(query)
        .bind(instance_id)
        .bind(snapshot.state_version)
        .bind(now)
        .run(conn)
        .await)?;
    let query = "update instances set state_version = $2 where id = $1";
    on!(tx, conn => sqlx::query(query).bind(instance_id).bind(snapshot.state_version).run(conn).await)?;
    Ok(())
}
