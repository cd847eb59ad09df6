//! The rows of an embedded installation, read from its file and written into Postgres, so that both hold the same.
//!
//! A row is read once into what Postgres has on the wire (`page`), and that is what is written (`copy … format binary`),
//! hashed and compared: both sides are read in the order of the primary key, which is the same in both databases, since
//! ids, keys and numbers sort by their bytes there as well. What columns and keys a table has is asked of the target's
//! catalogue; only the tables themselves are listed here, and tests hold the list against the schema.
//!
//! Deliberately not here: the data folder, and in which order things are done ([`crate::moving`]).

mod page;
mod source;
mod tables;
mod target;

pub use page::{Key, Page};
pub use source::Source;
pub use tables::Table;
pub use target::{Copied, Found, Move, Target, is_unfinished};

use super::StoreError;

/// Every table that is copied, each behind those that it refers to.
pub const TABLES: [&str; 31] = [
    "instances",
    "persons",
    "platform_identities",
    "chats",
    "chat_id_mappings",
    "chat_participants",
    "messages",
    "early_events",
    "omni_events",
    "inbound_log",
    "delivery_keys",
    "consumer_offsets",
    "dead_letter_events",
    "plugin_storage",
    "plugin_state_snapshots",
    "plugin_state_snapshot_entries",
    "auth_imports",
    "auth_import_entries",
    "outbox",
    "idempotency_keys",
    "media",
    "api_keys",
    "global_settings",
    "webhooks",
    "webhook_deliveries",
    "webhook_attempts",
    "event_replays",
    "sync_jobs",
    "api_key_audit_logs",
    "erasures",
    "ledger",
];
/// Tables that are not copied: about the copy itself, about the schema, the numbers that SQLite counts by itself, and the
/// hosts that share a database.
pub const LEFT: [&str; 6] = ["store_moves", "store_move_tables", "_sqlx_migrations", "sequences", "hosts", "leases"];

/// Why rows could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// One of the databases.
    #[error("{}", .0.explain())]
    Store(#[from] StoreError),
    /// A row that Postgres cannot take.
    #[error("the row {key} of {table} cannot be copied: {reason}")]
    Row {
        /// The table.
        table: &'static str,
        /// Its primary key.
        key: String,
        /// Which column, and what is wrong with it.
        reason: String,
    },
    /// A page was refused as a whole.
    #[error("Postgres refuses rows of {table}: {reason}")]
    Refused {
        /// The table.
        table: &'static str,
        /// In its words.
        reason: String,
    },
}

impl CopyError {
    /// Whether rows are what is wrong, so that they have to be mended.
    pub fn is_about_rows(&self) -> bool {
        !matches!(self, Self::Store(_))
    }
}

impl From<sqlx::Error> for CopyError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}
