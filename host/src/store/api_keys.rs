//! The keys of the API. Only a key's SHA-256 is stored; the key itself is seen once, when it is made.

use super::page::{Page, Position, one_more};
use super::{Json, Result, Run, Store, Time, on};
use rand::RngExt;
use rand::distr::Alphanumeric;
use serde::Serialize;
use sha2::{Digest, Sha256};
use sqlx::FromRow;
use utoipa::ToSchema;
use uuid::Uuid;

/// What every key begins with.
pub const PREFIX: &str = "omni_sk_";

/// A key as the API shows it, which is without the key.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApiKey {
    /// Our id.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Its first characters, to tell keys apart.
    pub key_prefix: String,
    /// What it may do: `ns:action`, `ns:*` or `*`.
    #[sqlx(json)]
    pub scopes: Vec<String>,
    /// The only instances that it may see; every one when absent.
    #[sqlx(json(nullable))]
    pub instance_ids: Option<Vec<Uuid>>,
    /// `active` or `revoked`.
    pub status: String,
    /// Most requests a minute.
    pub rate_limit: Option<i64>,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// When it was last used.
    pub last_used_at: Option<Time>,
    /// From where.
    pub last_used_ip: Option<String>,
    /// How often it was used.
    pub usage_count: i64,
    /// When it was revoked.
    pub revoked_at: Option<Time>,
    /// By whom.
    pub revoked_by: Option<String>,
    /// Why.
    pub revoke_reason: Option<String>,
    /// When it was made.
    pub created_at: Time,
    /// By whom.
    pub created_by: Option<String>,
    /// When the row was last changed.
    pub updated_at: Time,
    #[serde(skip)]
    pub(crate) key_hash: String,
}

/// What is needed to make a key.
#[derive(Clone, Debug, Default)]
pub struct NewApiKey {
    /// What people call it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The only instances that it may see.
    pub instance_ids: Option<Vec<Uuid>>,
    /// Most requests a minute.
    pub rate_limit: Option<i64>,
    /// When it ends.
    pub expires_at: Option<Time>,
    /// By whom.
    pub created_by: Option<String>,
}

/// The SHA-256 of a key in hex, as it is stored.
pub fn hash(key: &str) -> String {
    hex::encode(Sha256::digest(key.as_bytes()))
}

/// A new key: the prefix and 32 letters and digits.
pub fn generate() -> String {
    let random: String = rand::rng().sample_iter(Alphanumeric).take(32).map(char::from).collect();
    format!("{PREFIX}{random}")
}

/// The first characters of a key, which may be shown.
pub fn shown(key: &str) -> String {
    key.strip_prefix(PREFIX).unwrap_or(key).chars().take(8).collect()
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, name, description, key_prefix, key_hash, scopes, instance_ids, status, rate_limit, expires_at, \
             last_used_at, last_used_ip, usage_count, revoked_at, revoked_by, revoke_reason, created_at, created_by, \
             updated_at from api_keys ",
            $rest
        )
    };
}

/// Makes a key and gives it, once.
pub async fn create(store: &Store, new: &NewApiKey, now: Time) -> Result<(ApiKey, String)> {
    let key = generate();
    let id = store.new_id(now);
    let mut tx = store.begin().await?;
    on!(&mut tx, conn => sqlx::query(
        "insert into api_keys (id, name, description, key_prefix, key_hash, scopes, instance_ids, rate_limit, \
         expires_at, created_at, created_by, updated_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $10)")
        .bind(id)
        .bind(&new.name)
        .bind(&new.description)
        .bind(shown(&key))
        .bind(hash(&key))
        .bind(Json(&new.scopes))
        .bind(new.instance_ids.as_ref().map(Json))
        .bind(new.rate_limit)
        .bind(new.expires_at)
        .bind(now)
        .bind(&new.created_by)
        .run(conn)
        .await)?;
    const SQL: &str = select!("where id = $1");
    let row = on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).fetch_one(conn).await)?;
    tx.commit().await?;
    Ok((row, key))
}

/// Makes the first key when there is none, and gives it, to be printed once.
pub async fn ensure_first_key(store: &Store, now: Time) -> Result<Option<String>> {
    let mut tx = store.read().await?;
    let (any,): (bool,) =
        on!(&mut tx, conn => sqlx::query_as("select exists (select 1 from api_keys)").fetch_one(conn).await)?;
    drop(tx);
    if any {
        return Ok(None);
    }
    let new = NewApiKey { name: "primary".into(), scopes: vec!["*".into()], ..NewApiKey::default() };
    Ok(Some(create(store, &new, now).await?.1))
}

/// The key with this hash, whatever its state.
pub async fn by_hash(store: &Store, hash: &str) -> Result<Option<ApiKey>> {
    const SQL: &str = select!("where key_hash = $1");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(hash).fetch_optional(conn).await)?)
}

/// One key.
pub async fn get(store: &Store, id: Uuid) -> Result<Option<ApiKey>> {
    const SQL: &str = select!("where id = $1");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).bind(id).fetch_optional(conn).await)?)
}

/// Keys, newest first.
pub async fn list(store: &Store, status: Option<&str>, from: Option<Position>, limit: u32) -> Result<Page<ApiKey>> {
    const SQL: &str = select!("where id < $1 and ($2 is null or status = $2) order by id desc limit $3");
    let mut tx = store.read().await?;
    let rows: Vec<ApiKey> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(from.unwrap_or(Position::START).id).bind(status).bind(one_more(limit)).fetch_all(conn).await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: 0, id: row.id }))
}

/// What may be changed of a key. Absent fields stay.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyChange {
    /// What people call it.
    pub name: Option<String>,
    /// What it is for.
    pub description: Option<String>,
    /// What it may do.
    pub scopes: Option<Vec<String>>,
    /// The only instances that it may see; `Some(None)` for every one.
    pub instance_ids: Option<Option<Vec<Uuid>>>,
    /// Most requests a minute; `Some(None)` for no limit.
    pub rate_limit: Option<Option<i64>>,
    /// When it ends; `Some(None)` for never.
    pub expires_at: Option<Option<Time>>,
}

/// Changes a key; tells whether there is one.
pub async fn update(store: &Store, id: Uuid, change: &ApiKeyChange, now: Time) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = on!(&mut tx, conn => sqlx::query(
        "update api_keys set name = coalesce($2, name), description = coalesce($3, description), \
         scopes = coalesce($4, scopes), instance_ids = case when $5 then $6 else instance_ids end, \
         rate_limit = case when $7 then $8 else rate_limit end, \
         expires_at = case when $9 then $10 else expires_at end, updated_at = $11 where id = $1")
        .bind(id)
        .bind(&change.name)
        .bind(&change.description)
        .bind(change.scopes.as_ref().map(Json))
        .bind(change.instance_ids.is_some())
        .bind(change.instance_ids.as_ref().and_then(Option::as_ref).map(Json))
        .bind(change.rate_limit.is_some())
        .bind(change.rate_limit.flatten())
        .bind(change.expires_at.is_some())
        .bind(change.expires_at.flatten())
        .bind(now)
        .run(conn)
        .await)?;
    tx.commit().await?;
    Ok(done > 0)
}

/// Ends a key; tells whether there is one. Ending it twice keeps the first reason.
pub async fn revoke(store: &Store, id: Uuid, by: &str, reason: Option<&str>, now: Time) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = on!(&mut tx, conn => sqlx::query(
        "update api_keys set status = 'revoked', revoked_at = coalesce(revoked_at, $2), \
         revoked_by = coalesce(revoked_by, $3), revoke_reason = coalesce(revoke_reason, $4), updated_at = $2 \
         where id = $1")
        .bind(id).bind(now).bind(by).bind(reason).run(conn).await)?;
    tx.commit().await?;
    Ok(done > 0)
}

/// Removes a key; tells whether there was one.
pub async fn delete(store: &Store, id: Uuid) -> Result<bool> {
    let mut tx = store.begin().await?;
    let done = on!(&mut tx, conn => sqlx::query("delete from api_keys where id = $1")
        .bind(id).run(conn).await)?;
    tx.commit().await?;
    Ok(done > 0)
}

/// How often a key was used since the last time this was written.
#[derive(Clone, Debug)]
pub struct Use {
    /// The key.
    pub id: Uuid,
    /// How often.
    pub count: i64,
    /// When last.
    pub at: Time,
    /// From where last.
    pub ip: Option<String>,
}

/// Writes down a batch of uses, in one transaction.
pub async fn record_uses(store: &Store, uses: &[Use]) -> Result<()> {
    let mut tx = store.begin().await?;
    for used in uses {
        on!(&mut tx, conn => sqlx::query(
            "update api_keys set usage_count = usage_count + $2, last_used_at = $3, \
             last_used_ip = coalesce($4, last_used_ip) where id = $1")
            .bind(used.id).bind(used.count).bind(used.at).bind(&used.ip).run(conn).await)?;
    }
    tx.commit().await
}
