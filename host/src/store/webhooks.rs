//! The table `webhooks`: where events are sent. Secrets and headers are sealed.
//!
//! Deliberately not here: what waits to be sent; that is `webhook_queue`.

use super::page::InstanceSet;
use super::{Json, Result, Run, Store, StoreError, Time, Tx, consumers, events, on};
use sqlx::FromRow;
use uuid::Uuid;

/// The stream that webhooks read, as `consumer_offsets` names it.
pub const STREAM: &str = "events";

/// The name of a webhook as a consumer.
pub fn consumer(id: Uuid) -> String {
    format!("webhook:{id}")
}

/// The webhook that a consumer's name names.
pub fn of_consumer(name: &str) -> Option<Uuid> {
    name.strip_prefix("webhook:")?.parse().ok()
}

/// A row.
#[derive(Clone, Debug, FromRow)]
pub struct WebhookRow {
    /// Its id.
    pub id: Uuid,
    /// Its name, unique.
    pub name: String,
    /// Where it leads.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
    /// Names and patterns of events; all when empty.
    #[sqlx(json)]
    pub event_types: Vec<String>,
    /// The only instances; all when absent.
    #[sqlx(json(nullable))]
    pub instance_ids: Option<Vec<Uuid>>,
    /// The only chats, by our id or the network's; all when empty.
    #[sqlx(json)]
    pub chat_ids: Vec<String>,
    /// Sealed.
    pub secrets: Vec<u8>,
    /// Sealed.
    pub headers: Option<Vec<u8>>,
    /// Whether the operator pointed it at a private address.
    pub private_granted: bool,
    /// Whether it is sent to.
    pub enabled: bool,
    /// Why not.
    pub disabled_reason: Option<String>,
    /// Since when not.
    pub disabled_at: Option<Time>,
    /// Attempts in a row that failed.
    pub failures: i64,
    /// Since when every attempt failed.
    pub failing_since: Option<Time>,
    /// Until when it is left alone.
    pub resting_until: Option<Time>,
    /// When it last took something.
    pub last_success_at: Option<Time>,
    /// When it last did not.
    pub last_failure_at: Option<Time>,
    /// Why not.
    pub last_error: Option<String>,
    /// By whom it was made.
    pub created_by: Option<String>,
    /// When.
    pub created_at: Time,
    /// When it was changed.
    pub updated_at: Time,
}

impl WebhookRow {
    /// One that was never used, for every event, disabled and without secrets.
    pub fn new(id: Uuid, name: String, url: String, now: Time) -> Self {
        Self {
            id,
            name,
            url,
            description: None,
            event_types: Vec::new(),
            instance_ids: None,
            chat_ids: Vec::new(),
            secrets: Vec::new(),
            headers: None,
            private_granted: false,
            enabled: false,
            disabled_reason: None,
            disabled_at: None,
            failures: 0,
            failing_since: None,
            resting_until: None,
            last_success_at: None,
            last_failure_at: None,
            last_error: None,
            created_by: None,
            created_at: now,
            updated_at: now,
        }
    }

    /// The events that it wants.
    pub fn filter(&self) -> events::Filter {
        events::Filter {
            instances: self.instance_ids.clone().map_or(InstanceSet::All, InstanceSet::Only),
            types: self.event_types.clone(),
            chats: self.chat_ids.clone(),
        }
    }
}

/// Every webhook, in the order in which they were made. They are few.
pub async fn all(store: &Store) -> Result<Vec<WebhookRow>> {
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as("select * from webhooks order by id").fetch_all(conn).await)?)
}

/// One of them.
pub async fn get(tx: &mut Tx, id: Uuid) -> Result<Option<WebhookRow>> {
    let query = "select * from webhooks where id = $1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(id).fetch_optional(conn).await)?)
}

/// One of them, by its name.
pub async fn by_name(tx: &mut Tx, name: &str) -> Result<Option<WebhookRow>> {
    let query = "select * from webhooks where name = $1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(name).fetch_optional(conn).await)?)
}

/// Writes a new one. It begins with what happens from now on.
pub async fn insert(tx: &mut Tx, row: &WebhookRow, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "insert into webhooks (id, name, url, description, event_types, instance_ids, chat_ids, secrets, headers,
           private_granted, enabled, created_by, created_at, updated_at)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $13)",
    )
    .bind(row.id)
    .bind(&row.name)
    .bind(&row.url)
    .bind(&row.description)
    .bind(Json(&row.event_types))
    .bind(row.instance_ids.as_ref().map(Json))
    .bind(Json(&row.chat_ids))
    .bind(&row.secrets)
    .bind(&row.headers)
    .bind(row.private_granted)
    .bind(row.enabled)
    .bind(&row.created_by)
    .bind(now)
    .run(conn)
    .await)
    .map_err(|error| name_taken(error, &row.name))?;
    let newest = events::newest(tx).await?;
    consumers::claim(tx, consumer(row.id), STREAM, newest, now).await?;
    Ok(())
}

/// Writes what people change.
pub async fn update(tx: &mut Tx, row: &WebhookRow, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update webhooks set name = $2, url = $3, description = $4, event_types = $5, instance_ids = $6, chat_ids = $7,
           secrets = $8, headers = $9, private_granted = $10, updated_at = $11 where id = $1",
    )
    .bind(row.id)
    .bind(&row.name)
    .bind(&row.url)
    .bind(&row.description)
    .bind(Json(&row.event_types))
    .bind(row.instance_ids.as_ref().map(Json))
    .bind(Json(&row.chat_ids))
    .bind(&row.secrets)
    .bind(&row.headers)
    .bind(row.private_granted)
    .bind(now)
    .run(conn)
    .await)
    .map_err(|error| name_taken(error, &row.name))?;
    Ok(())
}

fn name_taken(error: sqlx::Error, name: &str) -> StoreError {
    match &error {
        sqlx::Error::Database(refused) if refused.is_unique_violation() => {
            StoreError::Conflict(format!("a webhook named {name:?}"))
        }
        _ => StoreError::Database(error),
    }
}

/// Begins to send again, with a clean slate and at once.
pub async fn enable(tx: &mut Tx, id: Uuid, now: Time) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update webhooks set enabled = true, disabled_reason = null, disabled_at = null, failures = 0,
           failing_since = null, resting_until = null, updated_at = $2 where id = $1",
    )
    .bind(id)
    .bind(now)
    .run(conn)
    .await)?;
    on!(tx, conn => sqlx::query(
        "update webhook_deliveries set next_attempt_at = $2 where webhook_id = $1 and next_attempt_at > $2",
    )
    .bind(id)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(())
}

/// Sends no more, and says why. `false` when it was so already.
pub async fn disable(tx: &mut Tx, id: Uuid, reason: &str, now: Time) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query(
        "update webhooks set enabled = false, disabled_reason = $2, disabled_at = $3, updated_at = $3
         where id = $1 and enabled",
    )
    .bind(id)
    .bind(reason)
    .bind(now)
    .run(conn)
    .await)?;
    Ok(done == 1)
}

/// How the last attempts went.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// Attempts in a row that failed.
    pub failures: i64,
    /// Since when every attempt failed.
    pub failing_since: Option<Time>,
    /// Until when it is left alone.
    pub resting_until: Option<Time>,
    /// When it last took something, if that was now.
    pub succeeded_at: Option<Time>,
    /// When it last did not and why, if that was now.
    pub failed: Option<(Time, String)>,
}

/// Writes how the last attempts went.
pub async fn note(tx: &mut Tx, id: Uuid, health: &Health) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update webhooks set failures = $2, failing_since = $3, resting_until = $4,
           last_success_at = coalesce($5, last_success_at), last_failure_at = coalesce($6, last_failure_at),
           last_error = coalesce($7, last_error) where id = $1",
    )
    .bind(id)
    .bind(health.failures)
    .bind(health.failing_since)
    .bind(health.resting_until)
    .bind(health.succeeded_at)
    .bind(health.failed.as_ref().map(|failed| failed.0))
    .bind(health.failed.as_ref().map(|failed| failed.1.as_str()))
    .run(conn)
    .await)?;
    Ok(())
}

/// Shows a failure as the last one, without counting it.
pub async fn note_failure(tx: &mut Tx, id: Uuid, at: Time, error: &str) -> Result<()> {
    on!(tx, conn => sqlx::query("update webhooks set last_failure_at = $2, last_error = $3 where id = $1")
        .bind(id)
        .bind(at)
        .bind(error)
        .run(conn)
        .await)?;
    Ok(())
}

/// Deletes one with its queue and its place. Its dead letters stay.
pub async fn delete(tx: &mut Tx, id: Uuid) -> Result<bool> {
    let done = on!(tx, conn => sqlx::query("delete from webhooks where id = $1").bind(id).run(conn).await)?;
    consumers::forget(tx, &consumer(id)).await?;
    Ok(done == 1)
}
