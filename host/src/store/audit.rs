//! What was asked of the API by whom: who, what, when, from where, and what came of it. Never a body, a query or a key.
//!
//! Deliberately not here: what is worth a line; that is [`crate::audit`]. Deleting old lines; that is `retention`.

use super::bulk::{self, Bulk};
use super::page::{Page, Position, one_more};
use super::{Result, Store, Time, on};
use serde::Serialize;
use sqlx::FromRow;
use std::sync::LazyLock;
use utoipa::ToSchema;
use uuid::Uuid;

/// One line.
#[derive(Clone, Debug, FromRow, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditLine {
    /// Our id.
    pub id: Uuid,
    /// The key; absent when none was proved, and for the key of the configuration.
    pub api_key_id: Option<Uuid>,
    /// What the key was called then.
    pub key_name: Option<String>,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What was answered.
    pub status_code: i64,
    /// From where.
    pub ip_address: Option<String>,
    /// The program that asked, as it calls itself.
    pub user_agent: Option<String>,
    /// How long it took until the answer began.
    pub response_time_ms: i64,
    /// When the answer began.
    pub timestamp: Time,
}

static INSERT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into api_key_audit_logs (id, api_key_id, key_name, method, path, status_code, ip_address, user_agent, \
         response_time_ms, timestamp)",
        "uuid uuid text text text bigint text text bigint timestamptz",
        "",
    )
});

/// Writes lines, in one transaction.
pub async fn append(store: &Store, lines: &[AuditLine]) -> Result<()> {
    let mut tx = store.begin().await?;
    bulk::execute(&mut tx, &INSERT, lines, |row, line| {
        row.bind(line.id)
            .bind(line.api_key_id)
            .bind(line.key_name.as_deref())
            .bind(line.method.as_str())
            .bind(line.path.as_str())
            .bind(line.status_code)
            .bind(line.ip_address.as_deref())
            .bind(line.user_agent.as_deref())
            .bind(line.response_time_ms)
            .bind(line.timestamp);
    })
    .await?;
    tx.commit().await
}

/// What a list is narrowed by.
#[derive(Clone, Debug, Default)]
pub struct AuditFilter {
    /// By this key.
    pub api_key_id: Option<Uuid>,
    /// Not older.
    pub since: Option<Time>,
    /// Older.
    pub until: Option<Time>,
    /// Answered with this status or a higher one.
    pub min_status: Option<i64>,
}

/// Lines, newest first.
pub async fn list(store: &Store, filter: &AuditFilter, from: Option<Position>, limit: u32) -> Result<Page<AuditLine>> {
    const SQL: &str = "select id, api_key_id, key_name, method, path, status_code, ip_address, user_agent, \
         response_time_ms, timestamp from api_key_audit_logs where id < $1 \
         and ($2 is null or api_key_id = $2) and ($3 is null or timestamp >= $3) \
         and ($4 is null or timestamp < $4) and ($5 is null or status_code >= $5) order by id desc limit $6";
    let mut tx = store.read().await?;
    let rows: Vec<AuditLine> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(from.unwrap_or(Position::START).id)
        .bind(filter.api_key_id)
        .bind(filter.since)
        .bind(filter.until)
        .bind(filter.min_status)
        .bind(one_more(limit))
        .fetch_all(conn)
        .await)?;
    Ok(Page::cut(rows, limit, |row| Position { at: 0, id: row.id }))
}
