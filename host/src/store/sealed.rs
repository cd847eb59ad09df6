//! Everything that is sealed, wherever it lies, so that it can be sealed anew under another key.
//!
//! A sealed value begins with its version and the id of its key, so that the rows which still need the old one are found
//! without opening any. Deliberately not here: sealing and opening; that is [`crate::secrets`].

use super::{Result, Run, Store, on};
use uuid::Uuid;

/// Where sealed values lie. A test holds this against the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `instances.secrets`.
    Instances,
    /// `instances.proxy`.
    InstanceProxies,
    /// `plugin_storage.value`.
    PluginStorage,
    /// `plugin_state_snapshot_entries.value`; the key of a row is `version:key`.
    StateSnapshots,
    /// `auth_imports.snapshot_key`.
    AuthSnapshots,
    /// `auth_import_entries.value`.
    AuthImportEntries,
    /// `webhooks.secrets`.
    WebhookSecrets,
    /// `webhooks.headers`.
    WebhookHeaders,
}

/// All of them.
pub const PLACES: [Place; 8] = [
    Place::Instances,
    Place::InstanceProxies,
    Place::PluginStorage,
    Place::StateSnapshots,
    Place::AuthSnapshots,
    Place::AuthImportEntries,
    Place::WebhookSecrets,
    Place::WebhookHeaders,
];

impl Place {
    /// Table and column.
    pub fn column(self) -> (&'static str, &'static str) {
        match self {
            Self::Instances => ("instances", "secrets"),
            Self::InstanceProxies => ("instances", "proxy"),
            Self::PluginStorage => ("plugin_storage", "value"),
            Self::StateSnapshots => ("plugin_state_snapshot_entries", "value"),
            Self::AuthSnapshots => ("auth_imports", "snapshot_key"),
            Self::AuthImportEntries => ("auth_import_entries", "value"),
            Self::WebhookSecrets => ("webhooks", "secrets"),
            Self::WebhookHeaders => ("webhooks", "headers"),
        }
    }

    /// What a value of this place is bound to.
    pub fn context(self, row: &SealedRow) -> String {
        match self {
            Self::Instances => format!("instance:{}", row.id),
            Self::InstanceProxies => format!("instance-proxy:{}", row.id),
            Self::PluginStorage | Self::AuthImportEntries => format!("kv:{}:{}", row.id, row.key),
            Self::AuthSnapshots => format!("auth-snapshot:{}", row.id),
            // As it was when it was copied.
            Self::StateSnapshots => {
                format!("kv:{}:{}", row.id, row.key.split_once(':').map_or(row.key.as_str(), |(_, key)| key))
            }
            Self::WebhookSecrets | Self::WebhookHeaders => format!("webhook:{}", row.id),
        }
    }
}

/// One sealed value.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct SealedRow {
    /// The instance or webhook.
    pub id: Uuid,
    /// The entry's key; empty where there is none.
    pub key: String,
    /// The value.
    pub sealed: Vec<u8>,
}

/// Values that were not sealed under the key with this id, behind a row, in the order of their rows.
pub async fn others(
    store: &Store,
    place: Place,
    key_id: &[u8],
    after: Option<&SealedRow>,
    limit: u32,
) -> Result<Vec<SealedRow>> {
    let query = match place {
        Place::Instances => {
            "select id, '' as key, secrets as sealed from instances
             where secrets is not null and substr(secrets, 2, 4) <> $1 and (id, '') > ($2, $3) order by id limit $4"
        }
        Place::InstanceProxies => {
            "select id, '' as key, proxy as sealed from instances
             where proxy is not null and substr(proxy, 2, 4) <> $1 and (id, '') > ($2, $3) order by id limit $4"
        }
        Place::PluginStorage => {
            "select instance_id as id, key, value as sealed from plugin_storage
             where substr(value, 2, 4) <> $1 and (instance_id, key) > ($2, $3) order by instance_id, key limit $4"
        }
        Place::StateSnapshots => {
            "select instance_id as id, state_version || ':' || key as key, value as sealed
             from plugin_state_snapshot_entries
             where substr(value, 2, 4) <> $1 and (instance_id, state_version || ':' || key) > ($2, $3)
             order by instance_id, state_version || ':' || key limit $4"
        }
        Place::AuthSnapshots => {
            "select id, '' as key, snapshot_key as sealed from auth_imports
             where snapshot_key is not null and substr(snapshot_key, 2, 4) <> $1 and (id, '') > ($2, $3)
             order by id limit $4"
        }
        Place::AuthImportEntries => {
            "select instance_id as id, key, value as sealed from auth_import_entries
             where substr(value, 2, 4) <> $1 and (instance_id, key) > ($2, $3) order by instance_id, key limit $4"
        }
        Place::WebhookSecrets => {
            "select id, '' as key, secrets as sealed from webhooks
             where substr(secrets, 2, 4) <> $1 and (id, '') > ($2, $3) order by id limit $4"
        }
        Place::WebhookHeaders => {
            "select id, '' as key, headers as sealed from webhooks
             where headers is not null and substr(headers, 2, 4) <> $1 and (id, '') > ($2, $3) order by id limit $4"
        }
    };
    let (id, key) = after.map_or((Uuid::nil(), ""), |row| (row.id, row.key.as_str()));
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(query)
        .bind(key_id)
        .bind(id)
        .bind(key)
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await)?)
}

/// Puts newly sealed values in the place of the old ones, together; a row that was changed meanwhile keeps what it has.
pub async fn replace(store: &Store, place: Place, rows: &[(SealedRow, Vec<u8>)]) -> Result<()> {
    let query = match place {
        Place::Instances => "update instances set secrets = $1 where id = $2 and secrets = $4 and $3 = ''",
        Place::InstanceProxies => "update instances set proxy = $1 where id = $2 and proxy = $4 and $3 = ''",
        Place::PluginStorage => {
            "update plugin_storage set value = $1 where instance_id = $2 and key = $3 and value = $4"
        }
        Place::StateSnapshots => {
            "update plugin_state_snapshot_entries set value = $1
             where instance_id = $2 and state_version || ':' || key = $3 and value = $4"
        }
        Place::AuthSnapshots => {
            "update auth_imports set snapshot_key = $1 where id = $2 and snapshot_key = $4 and $3 = ''"
        }
        Place::AuthImportEntries => {
            "update auth_import_entries set value = $1 where instance_id = $2 and key = $3 and value = $4"
        }
        Place::WebhookSecrets => "update webhooks set secrets = $1 where id = $2 and secrets = $4 and $3 = ''",
        Place::WebhookHeaders => "update webhooks set headers = $1 where id = $2 and headers = $4 and $3 = ''",
    };
    let mut tx = store.begin().await?;
    for (row, fresh) in rows {
        on!(&mut tx, conn => sqlx::query(query)
            .bind(fresh)
            .bind(row.id)
            .bind(&row.key)
            .bind(&row.sealed)
            .run(conn)
            .await)?;
    }
    tx.commit().await
}

/// How many values are not sealed under the key with this id.
pub async fn count_others(store: &Store, key_id: &[u8]) -> Result<u64> {
    let mut tx = store.read().await?;
    let query = "select (select count(*) from instances where secrets is not null and substr(secrets, 2, 4) <> $1)
        + (select count(*) from instances where proxy is not null and substr(proxy, 2, 4) <> $1)
        + (select count(*) from plugin_storage where substr(value, 2, 4) <> $1)
        + (select count(*) from plugin_state_snapshot_entries where substr(value, 2, 4) <> $1)
        + (select count(*) from auth_imports where snapshot_key is not null and substr(snapshot_key, 2, 4) <> $1)
        + (select count(*) from auth_import_entries where substr(value, 2, 4) <> $1)
        + (select count(*) from webhooks where substr(secrets, 2, 4) <> $1)
        + (select count(*) from webhooks where headers is not null and substr(headers, 2, 4) <> $1)";
    let count: i64 = on!(&mut tx, conn => sqlx::query_scalar(query).bind(key_id).fetch_one(conn).await)?;
    Ok(u64::try_from(count).unwrap_or(0))
}
