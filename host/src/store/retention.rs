//! Deletes old rows, a step at a time, and says of every table how long what is in it is kept.

use super::ledger::Account;
use super::{Result, Run, Store, Time, on};
use uuid::Uuid;

/// How long the rows of a table are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Until they are as old as this key of the configuration says.
    For(&'static str),
    /// Until somebody deletes them, or what they belong to; why they do not grow by themselves.
    UntilDeleted(&'static str),
}

/// Every table, and what bounds it. A test holds this against the schema.
pub const KEPT: &[(&str, Kept)] = &[
    ("instances", Kept::UntilDeleted("made by people")),
    ("persons", Kept::UntilDeleted("people are kept; erasing one is asked for")),
    ("erasures", Kept::UntilDeleted("one small row a person who was erased")),
    ("platform_identities", Kept::UntilDeleted("accounts of people, with their instance")),
    ("chats", Kept::UntilDeleted("with their instance")),
    ("chat_id_mappings", Kept::UntilDeleted("with their chat")),
    ("chat_participants", Kept::UntilDeleted("with their chat")),
    ("messages", Kept::UntilDeleted("messages are what is kept; with their chat")),
    ("early_events", Kept::For("retention.delivery_key_days")),
    ("omni_events", Kept::For("retention.event_days")),
    ("inbound_log", Kept::For("retention.log_days")),
    ("delivery_keys", Kept::For("retention.delivery_key_days")),
    ("consumer_offsets", Kept::UntilDeleted("one row a consumer")),
    // Those that nobody settled are failures that nobody has looked at yet, and stay.
    ("dead_letter_events", Kept::For("retention.dead_letter_days")),
    ("ledger", Kept::UntilDeleted("a few numbers an instance, with it")),
    ("plugin_storage", Kept::UntilDeleted("with their instance, which may keep so much and no more")),
    ("plugin_state_snapshots", Kept::UntilDeleted("the newest two of an instance, with it")),
    ("plugin_state_snapshot_entries", Kept::UntilDeleted("with their snapshot")),
    ("auth_imports", Kept::UntilDeleted("a row a takeover, asked for by people; with their instance")),
    ("auth_import_entries", Kept::UntilDeleted("what an instance kept before the newest of them, with it")),
    ("outbox", Kept::For("retention.outbox_days")),
    ("idempotency_keys", Kept::For("retention.idempotency_hours")),
    ("media", Kept::UntilDeleted("a row a file of a message; the files go by media_days and media_quota")),
    ("webhooks", Kept::UntilDeleted("made by people")),
    ("webhook_deliveries", Kept::For("retention.webhook_days")),
    ("webhook_attempts", Kept::UntilDeleted("with their delivery")),
    ("event_replays", Kept::For("retention.webhook_days")),
    ("sync_jobs", Kept::For("retention.event_days")),
    ("api_keys", Kept::UntilDeleted("made by people")),
    ("api_key_audit_logs", Kept::For("retention.audit_days")),
    ("global_settings", Kept::UntilDeleted("made by people")),
    ("hosts", Kept::UntilDeleted("one row a host, as long as it runs")),
    ("leases", Kept::UntilDeleted("one row an instance that runs, and one for the work that is done for all")),
    ("store_moves", Kept::UntilDeleted("one row, when the installation was moved into this database")),
    ("store_move_tables", Kept::UntilDeleted("a row a table of such a move")),
];

/// What has become old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// What was said about messages that never came.
    Early,
    /// Domain events. Messages stay.
    Events,
    /// Settled rows of the outbox.
    Outbox,
    /// Dead letters that were resolved or abandoned.
    DeadLetters,
    /// What was sent to webhooks.
    WebhookDeliveries,
    /// Replays that have ended.
    Replays,
    /// Jobs that fetched older or missed messages, and have ended.
    SyncJobs,
    /// Answers for repeated requests.
    IdempotencyKeys,
    /// Lines of the audit log.
    Audit,
}

/// Deletes at most `limit` rows that are older than `before`. Of tables that are filled in order only the oldest rows are
/// looked at: finding that nothing is old must not cost a walk through everything.
pub async fn delete(store: &Store, what: Old, before: Time, limit: u32) -> Result<u64> {
    let query = match what {
        Old::Early => {
            "delete from early_events where seq in
                (select seq from early_events where received_at < $1 order by received_at limit $2)"
        }
        Old::Events => {
            "delete from omni_events where seq in
                (select seq from (select seq, received_at from omni_events order by seq limit $2) first
                 where received_at < $1)"
        }
        Old::Outbox => {
            "delete from outbox where seq in
                (select seq from (select seq, updated_at from outbox where status in ('delivered', 'failed')
                    order by seq limit $2) first
                 where updated_at < $1)"
        }
        Old::DeadLetters => {
            "delete from dead_letter_events where id in (select id from dead_letter_events
                where status in ('resolved', 'abandoned') and created_at < $1 order by created_at limit $2)
             returning instance_id"
        }
        Old::WebhookDeliveries => {
            "delete from webhook_deliveries where seq in
                (select seq from webhook_deliveries where settled_at < $1 order by settled_at limit $2)"
        }
        Old::Replays => {
            "delete from event_replays where id in
                (select id from event_replays where completed_at < $1 limit $2)"
        }
        Old::SyncJobs => {
            "delete from sync_jobs where id in
                (select id from sync_jobs where status in ('completed', 'failed', 'cancelled') and completed_at < $1 limit $2)"
        }
        Old::IdempotencyKeys => {
            "delete from idempotency_keys where (api_key_id, key) in
                (select api_key_id, key from idempotency_keys where created_at < $1 limit $2)"
        }
        Old::Audit => {
            "delete from api_key_audit_logs where id in
                (select id from (select id, timestamp from api_key_audit_logs order by id limit $2) first
                 where timestamp < $1)"
        }
    };
    let mut tx = store.begin().await?;
    if what == Old::DeadLetters {
        let gone: Vec<Option<Uuid>> =
            on!(&mut tx, conn => sqlx::query_scalar(query).bind(before).bind(i64::from(limit)).fetch_all(conn).await)?;
        for instance in gone.iter().flatten() {
            tx.count(*instance, Account::Letters, -1);
        }
        tx.commit().await?;
        return Ok(gone.len() as u64);
    }
    let done = on!(&mut tx, conn => sqlx::query(query).bind(before).bind(i64::from(limit)).run(conn).await)?;
    tx.commit().await?;
    Ok(done)
}

/// The tables that there are.
pub async fn tables(store: &Store) -> Result<Vec<String>> {
    let mut tx = store.read().await?;
    let query = tx.pick(
        "select name from sqlite_master where type = 'table' and name not like 'sqlite_%' \
         and name <> '_sqlx_migrations' order by name",
        "select cast(tablename as text) from pg_tables where schemaname = current_schema() \
         and tablename not in ('_sqlx_migrations', 'sequences') order by tablename",
    );
    Ok(on!(&mut tx, conn => sqlx::query_scalar(query).fetch_all(conn).await)?)
}
