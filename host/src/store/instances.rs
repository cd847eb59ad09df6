//! The table `instances`.

use super::bulk::{self, Bulk};
use super::ledger::Account;
use super::{Json, Result, Run, Store, StoreError, Time, Tx, on};
use serde_json::{Map, Value};
use sqlx::FromRow;
use std::sync::LazyLock;
use uuid::Uuid;

/// A row. Secrets are sealed.
#[derive(Clone, Debug, FromRow)]
pub struct InstanceRow {
    /// Its id.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The id of its channel.
    pub channel: String,
    /// Its configuration without secrets.
    pub config: Json<Map<String, Value>>,
    /// The fields of its configuration that the operator pointed at private addresses.
    pub private_fields: Json<Vec<String>>,
    /// Its secrets: a sealed JSON object.
    pub secrets: Option<Vec<u8>>,
    /// Whether a person wants it connected.
    pub is_active: bool,
    /// Whether it is its channel's default.
    pub is_default: bool,
    /// Where it is to run (`process`, `in-process`), when that is not left to the configuration.
    pub isolation: Option<String>,
    /// The proxy of its own: its address, sealed.
    pub proxy: Option<Vec<u8>>,
    /// Whether the operator pointed that at a private address.
    pub proxy_granted: bool,
    /// What its connection was doing when that last changed.
    pub state: Json<Value>,
    /// Since when.
    pub state_since: Time,
    /// The name of the account.
    pub profile_name: Option<String>,
    /// Its picture.
    pub profile_pic_url: Option<String>,
    /// Its id on the network.
    pub owner_identifier: Option<String>,
    /// The version of what the channel keeps.
    pub state_version: i64,
    /// When a message last came or went.
    pub last_message_at: Option<Time>,
    /// When it was made.
    pub created_at: Time,
    /// When it was changed.
    pub updated_at: Time,
}

/// Every instance, by name. They are few.
pub async fn all(store: &Store) -> Result<Vec<InstanceRow>> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as("select * from instances order by name").fetch_all(conn).await)?)
}

/// One instance.
pub async fn get(store: &Store, id: Uuid) -> Result<Option<InstanceRow>> {
    let mut tx = store.read().await?;
    let query = "select * from instances where id = $1";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

/// One instance by its name.
pub async fn by_name(store: &Store, name: &str) -> Result<Option<InstanceRow>> {
    let mut tx = store.read().await?;
    let query = "select * from instances where name = $1";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(name).fetch_optional(conn).await)?)
}

/// Writes a new instance.
pub async fn insert(tx: &mut Tx, row: &InstanceRow) -> Result<()> {
    let query = "insert into instances (id, name, channel, config, secrets, is_active, is_default, state, state_since,
            state_version, created_at, updated_at, private_fields, isolation, proxy, proxy_granted)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    let done = on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(&row.name)
        .bind(&row.channel)
        .bind(&row.config)
        .bind(&row.secrets)
        .bind(row.is_active)
        .bind(row.is_default)
        .bind(&row.state)
        .bind(row.state_since)
        .bind(row.state_version)
        .bind(row.created_at)
        .bind(row.updated_at)
        .bind(&row.private_fields)
        .bind(&row.isolation)
        .bind(&row.proxy)
        .bind(row.proxy_granted)
        .run(conn)
        .await);
    done.map(drop).map_err(|error| name_taken(error, &row.name))
}

/// Writes what people change.
pub async fn update(tx: &mut Tx, row: &InstanceRow) -> Result<()> {
    let query = "update instances set name = $2, config = $3, secrets = $4, is_default = $5, updated_at = $6,
            private_fields = $7, isolation = $8, proxy = $9, proxy_granted = $10
        where id = $1";
    let done = on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(&row.name)
        .bind(&row.config)
        .bind(&row.secrets)
        .bind(row.is_default)
        .bind(row.updated_at)
        .bind(&row.private_fields)
        .bind(&row.isolation)
        .bind(&row.proxy)
        .bind(row.proxy_granted)
        .run(conn)
        .await);
    done.map(drop).map_err(|error| name_taken(error, &row.name))
}

fn name_taken(error: sqlx::Error, name: &str) -> StoreError {
    match &error {
        sqlx::Error::Database(refused) if refused.is_unique_violation() => {
            StoreError::Conflict(format!("an instance named {name:?}"))
        }
        _ => StoreError::Database(error),
    }
}

/// Makes an instance the only default of its channel.
pub async fn only_default(tx: &mut Tx, channel: &str, id: Uuid) -> Result<()> {
    let query = "update instances set is_default = (id = $2) where channel = $1";
    on!(tx, conn => sqlx::query(query).bind(channel).bind(id).run(conn).await)?;
    Ok(())
}

/// Writes whether a person wants it connected.
pub async fn set_active(tx: &mut Tx, id: Uuid, active: bool, now: Time) -> Result<()> {
    let query = "update instances set is_active = $2, updated_at = $3 where id = $1";
    on!(tx, conn => sqlx::query(query).bind(id).bind(active).bind(now).run(conn).await)?;
    Ok(())
}

/// Writes what its connection is doing, and who it is where that is known.
pub async fn set_state(
    tx: &mut Tx,
    id: Uuid,
    state: &Value,
    since: Time,
    profile: Option<&omni_channel_sdk::connection::Profile>,
) -> Result<()> {
    let query = "update instances set state = $2, state_since = $3, profile_name = coalesce($4, profile_name),
            profile_pic_url = coalesce($5, profile_pic_url), owner_identifier = coalesce($6, owner_identifier)
        where id = $1";
    on!(tx, conn => sqlx::query(query)
        .bind(id)
        .bind(Json(state))
        .bind(since)
        .bind(profile.and_then(|profile| profile.name.as_deref()))
        .bind(profile.and_then(|profile| profile.avatar_url.as_deref()))
        .bind(profile.map(|profile| profile.id.as_str()))
        .run(conn)
        .await)?;
    Ok(())
}

/// Writes the version of what its channel keeps.
pub async fn set_state_version(tx: &mut Tx, id: Uuid, version: u32) -> Result<()> {
    let query = "update instances set state_version = $2 where id = $1";
    on!(tx, conn => sqlx::query(query).bind(id).bind(i64::from(version)).run(conn).await)?;
    Ok(())
}

/// Deletes an instance with all that hangs on it. What happened stays in `omni_events`.
///
/// Everything of it goes in this one transaction, for which others wait: what is much of it goes before, with
/// [`delete_messages`].
pub async fn delete(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query("delete from instances where id = $1").bind(id).run(conn).await)?;
    for query in [
        "delete from inbound_log where instance_id = $1",
        "delete from delivery_keys where instance_id = $1",
        "delete from ledger where instance_id = $1",
    ] {
        on!(tx, conn => sqlx::query(query).bind(id).run(conn).await)?;
    }
    Ok(done == 1)
}

/// Deletes some of an instance's messages, at most `limit`, so that whoever writes waits for no more than that; says
/// whether there may be more. Its chats stay: what is accepted and not yet stored may name them.
pub async fn delete_messages(tx: &mut Tx, id: Uuid, limit: u32) -> Result<bool> {
    let query = "delete from messages where id in (
        select m.id from chats c join messages m on m.chat_id = c.id where c.instance_id = $1 limit $2)";
    let done = on!(tx, conn => sqlx::query(query).bind(id).bind(i64::from(limit)).run(conn).await)?;
    tx.count(id, Account::Messages, -i64::try_from(done).unwrap_or(0));
    Ok(done == u64::from(limit))
}

static NOTE_MESSAGES: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update instances set last_message_at = v.column2 from (",
        "uuid timestamptz",
        ") v where instances.id = v.column1 and (last_message_at is null or last_message_at < v.column2)",
    )
});

/// Notes when instances last had a message; each is named once.
pub(super) async fn note_messages(tx: &mut Tx, last: &[(Uuid, Time)]) -> Result<()> {
    bulk::execute(tx, &NOTE_MESSAGES, last, |row, (instance, at)| {
        row.bind(*instance).bind(*at);
    })
    .await?;
    Ok(())
}

/// An instance's state, in a word.
#[derive(Clone, Debug, FromRow)]
pub struct StateRow {
    /// The instance.
    pub id: Uuid,
    /// Its channel.
    pub channel: String,
    /// `connected` …
    pub state: String,
}

/// The state of every instance, as it was last written.
pub async fn states(store: &Store) -> Result<Vec<StateRow>> {
    let mut tx = store.read().await?;
    let query = "select id, channel, coalesce(state ->> 'state', 'disconnected') as state from instances order by id";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).fetch_all(conn).await)?)
}
