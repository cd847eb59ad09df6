//! What was answered to a request that carried an `Idempotency-Key`, per API key, for a day.
//!
//! Deliberately not here: deleting what is older; that is `retention`.

use super::{Result, Run, Store, Time, on};
use sqlx::FromRow;
use uuid::Uuid;

/// What is known of a key before a request is carried out.
#[derive(Clone, Debug)]
pub enum Begun {
    /// It is to be carried out, then [`finish`] or [`release`]: it is new, or was begun before with the same body and never
    /// finished, because the program ended in between or could not tell what had happened.
    Open {
        /// When it was first begun.
        since: Time,
    },
    /// It was answered so.
    Answered {
        /// The status.
        status: u16,
        /// The body.
        response: String,
    },
    /// It was used for another request.
    Differs,
}

#[derive(FromRow)]
struct Row {
    created_at: Time,
    body_hash: Vec<u8>,
    status_code: Option<i64>,
    response: Option<String>,
}

/// Writes down that a request begins, unless it has.
pub async fn begin(
    store: &Store,
    api_key: Uuid,
    key: &str,
    body_hash: &[u8],
    now: Time,
    expired: Time,
) -> Result<Begun> {
    let mut tx = store.begin().await?;
    on!(&mut tx, conn => sqlx::query(
        "delete from idempotency_keys where api_key_id = $1 and key = $2 and created_at <= $3")
        .bind(api_key).bind(key).bind(expired).run(conn).await)?;
    let row: Option<Row> = on!(&mut tx, conn => sqlx::query_as(
        "select created_at, body_hash, status_code, response from idempotency_keys where api_key_id = $1 and key = $2")
        .bind(api_key).bind(key).fetch_optional(conn).await)?;
    if let Some(row) = row {
        return Ok(match (row.status_code, row.response) {
            _ if row.body_hash != body_hash => Begun::Differs,
            (Some(status), Some(response)) => {
                Begun::Answered { status: u16::try_from(status).unwrap_or(200), response }
            }
            _ => Begun::Open { since: row.created_at },
        });
    }
    on!(&mut tx, conn => sqlx::query(
        "insert into idempotency_keys (api_key_id, key, body_hash, created_at) values ($1, $2, $3, $4)")
        .bind(api_key).bind(key).bind(body_hash).bind(now).run(conn).await)?;
    tx.commit().await?;
    Ok(Begun::Open { since: now })
}

/// Writes down what was answered.
pub async fn finish(store: &Store, api_key: Uuid, key: &str, status: u16, response: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    on!(&mut tx, conn => sqlx::query(
        "update idempotency_keys set status_code = $3, response = $4 where api_key_id = $1 and key = $2")
        .bind(api_key).bind(key).bind(i64::from(status)).bind(response).run(conn).await)?;
    tx.commit().await
}

/// Forgets a request that was refused before anything was done, so that it may be corrected and sent again.
pub async fn release(store: &Store, api_key: Uuid, key: &str) -> Result<()> {
    let mut tx = store.begin().await?;
    on!(&mut tx, conn => sqlx::query("delete from idempotency_keys where api_key_id = $1 and key = $2")
        .bind(api_key).bind(key).run(conn).await)?;
    tx.commit().await
}
