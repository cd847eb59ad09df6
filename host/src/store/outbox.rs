//! What is to be asked of networks: the table `outbox`.
//!
//! A row is one part. Within a chat rows are claimed in order, one at a time: the head of a chat's open rows is the only
//! one that can be claimed. Deliberately not here: what is tried again and when.
//!
//! ```text
//! target  the chats and messages that it is about
//! settle  what becomes of a row, and of its message
//! ```

mod settle;
mod target;

pub use settle::{Settlement, echo_of, settle};
pub use target::{
    ChatTarget, MessageTarget, NewMessageRow, chat_by_external, chat_by_id, chat_of_person, insert_chat,
    insert_message, message_by_external, message_by_id, person_exists,
};

use super::bulk::{self, Bulk};
use super::ledger::Account;
use super::messages::{self, MessageRow};
use super::page::hex_list;
use super::{Json, Result, Run, Store, StoreError, Time, Tx, fault, on};
use serde_json::Value;
use sqlx::FromRow;
use std::sync::{Arc, LazyLock};
use uuid::Uuid;

/// A row to be written, with the message that it sends or changes.
#[derive(Clone, Debug)]
pub struct NewOutbox {
    /// Its id.
    pub id: Uuid,
    /// Through which instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// The message.
    pub message_id: Uuid,
    /// The API call that it belongs to.
    pub send_id: Uuid,
    /// Its place within that.
    pub part: i64,
    /// `send`, `edit`, `delete` or `react`.
    pub kind: &'static str,
    /// The wire request.
    pub request: Value,
    /// Our own id of the message, as the network may see it.
    pub client_id: String,
    /// The trace that it belongs to, when somebody looks at that.
    pub trace: Option<Arc<str>>,
}

/// A claimed row.
#[derive(Clone, Debug, FromRow)]
pub struct OutboxRow {
    /// Its order.
    pub seq: i64,
    /// Its id.
    pub id: Uuid,
    /// Through which instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// The message.
    pub message_id: Uuid,
    /// The API call that it belongs to.
    pub send_id: Uuid,
    /// Its place within that.
    pub part: i64,
    /// `send`, `edit`, `delete` or `react`.
    pub kind: String,
    /// The wire request.
    pub request: Json<Value>,
    /// How often it was tried, this time included.
    pub attempts: i64,
    /// `sending`, or `unknown` when it is only to be reconciled.
    pub status: String,
    /// When it was first tried.
    pub claimed_at: Option<Time>,
    /// Since when its outcome is not known, while it is not.
    pub unknown_since: Option<Time>,
    /// When it was accepted.
    pub created_at: Time,
    /// The trace that it belongs to, when somebody looks at that.
    #[sqlx(default)]
    pub trace: Option<String>,
}

/// How one part of a call stands.
#[derive(Clone, Debug, FromRow)]
pub struct PartState {
    /// `pending`, `sending`, `unknown`, `delivered` or `failed`.
    pub status: String,
    /// The network's receipt, once it took it.
    pub receipt: Option<Json<Value>>,
    /// Why it failed, or was not yet sent.
    pub error: Option<Json<Value>>,
}

/// Writes a row.
pub async fn enqueue(tx: &mut Tx, row: &NewOutbox, now: Time) -> Result<()> {
    let query = "insert into outbox (id, instance_id, chat_key, message_id, send_id, part, kind, request, client_id,
            status, available_at, created_at, updated_at, trace)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', $10, $10, $10, $11)";
    on!(tx, conn => sqlx::query(query)
        .bind(row.id)
        .bind(row.instance_id)
        .bind(&row.chat_key)
        .bind(row.message_id)
        .bind(row.send_id)
        .bind(row.part)
        .bind(row.kind)
        .bind(Json(&row.request))
        .bind(&row.client_id)
        .bind(now)
        .bind(row.trace.as_deref())
        .run(conn)
        .await)?;
    tx.count(row.instance_id, Account::Queued, 1);
    Ok(())
}

/// Claims due rows of some instances: of each chat the oldest open one, when it is due. An `unknown` one stays unknown:
/// it is to be reconciled.
pub async fn claim(store: &Store, instances: &[Uuid], now: Time, limit: u32) -> Result<Vec<OutboxRow>, ClaimError> {
    let mut tx = store.begin().await?;
    let query = "update outbox set attempts = attempts + 1, claimed_at = coalesce(claimed_at, $1), updated_at = $1,
            status = case status when 'pending' then 'sending' else 'reconciling' end
        where seq in (
            select seq from outbox
            where status in ('pending', 'unknown') and available_at <= $1 and seq in (
                select min(seq) from outbox
                where status in ('pending', 'sending', 'unknown', 'reconciling')
                  and instance_id in (select unhex(value) from json_each($2))
                group by instance_id, chat_key)
            order by seq limit $3)
        returning seq, id, instance_id, chat_key, message_id, send_id, part, kind, request, attempts, status,
           claimed_at, unknown_since, created_at, trace";
    let mut rows: Vec<OutboxRow> = on!(&mut tx, conn => sqlx::query_as(query)
        .bind(now)
        .bind(hex_list(instances))
        .bind(i64::from(limit))
        .fetch_all(conn)
        .await)?;
    if let Err(error) = commit_claim(tx).await {
        return Err(ClaimError { unsure: rows.into_iter().map(|row| row.id).collect(), error });
    }
    rows.sort_by_key(|row| row.seq);
    Ok(rows)
}

async fn commit_claim(tx: Tx) -> Result<()> {
    fault!("outbox.claim.before");
    tx.commit().await?;
    fault!("outbox.claim.after");
    Ok(())
}

/// Why nothing was claimed, as far as that is known.
#[derive(Debug)]
pub struct ClaimError {
    /// Rows that may be claimed all the same: the commit failed, which does not say that it did not happen. They are
    /// to be given back.
    pub unsure: Vec<Uuid>,
    /// What failed.
    pub error: StoreError,
}

impl<E: Into<StoreError>> From<E> for ClaimError {
    fn from(error: E) -> Self {
        Self { unsure: Vec::new(), error: error.into() }
    }
}

/// Gives back rows that were claimed and never handed to a channel.
pub async fn give_back(store: &Store, ids: &[Uuid], now: Time) -> Result<()> {
    let mut tx = store.begin().await?;
    let query = "update outbox set updated_at = $1, attempts = attempts - 1,
            status = case status when 'sending' then 'pending' else 'unknown' end,
            claimed_at = case status when 'sending' then null else claimed_at end
        where status in ('sending', 'reconciling') and id in (select unhex(value) from json_each($2))";
    on!(&mut tx, conn => sqlx::query(query).bind(now).bind(hex_list(ids)).run(conn).await)?;
    tx.commit().await
}

/// When the next row of some instances may become due, if there is one.
pub async fn next_due(store: &Store, instances: &[Uuid]) -> Result<Option<Time>> {
    let mut tx = store.read().await?;
    let query = "select min(available_at) from outbox where status in ('pending', 'unknown')
        and instance_id in (select unhex(value) from json_each($1))
        and seq in (select min(seq) from outbox where status in ('pending', 'sending', 'unknown', 'reconciling')
            group by instance_id, chat_key)";
    Ok(on!(&mut tx, conn => sqlx::query_scalar(query).bind(hex_list(instances)).fetch_one(conn).await)?)
}

/// A send whose outcome is not known.
#[derive(Clone, Debug, FromRow)]
pub struct UnknownSend {
    /// The row.
    pub id: Uuid,
    /// Through which instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// `unknown`.
    pub status: String,
}

/// After a start: what was under way when the host ended has an unknown outcome; what can be repeated is pending again.
/// Gives back the former.
pub async fn recover(store: &Store, instances: Option<&[Uuid]>, now: Time) -> Result<Vec<UnknownSend>> {
    let mut tx = store.begin().await?;
    let query = "update outbox set updated_at = $1, available_at = $1,
            status = case when kind = 'send' then 'unknown' else 'pending' end,
            unknown_since = case when kind = 'send' then $1 end
        where status in ('sending', 'reconciling')
          and ($2 or instance_id in (select unhex(value) from json_each($3)))
        returning id, instance_id, chat_key, status";
    let rows: Vec<UnknownSend> = on!(&mut tx, conn => sqlx::query_as(query)
        .bind(now)
        .bind(instances.is_none())
        .bind(hex_list(instances.unwrap_or_default()))
        .fetch_all(conn)
        .await)?;
    tx.commit().await?;
    Ok(rows.into_iter().filter(|row| row.status == "unknown").collect())
}

/// A send whose echo is known by nothing but what is in it.
#[derive(Clone, Debug, FromRow)]
pub struct ByContent {
    /// Through which instance.
    pub instance_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// When it was first tried.
    pub claimed_at: Time,
    /// The message.
    #[sqlx(flatten)]
    pub message: MessageRow,
}

static BY_CONTENT: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        concat!("select o.instance_id, o.chat_key, o.claimed_at, ", messages::columns!(), " from ("),
        "uuid text",
        ") v cross join outbox o cross join messages m
           where o.instance_id = v.column1 and o.chat_key = v.column2
             and o.status in ('pending', 'sending', 'unknown', 'reconciling')
             and o.status in ('unknown', 'reconciling') and o.by_content and o.kind = 'send'
             and o.claimed_at is not null and m.id = o.message_id and m.external_id is null
           order by o.seq",
    )
});

/// Such sends in chats, given as (instance, the network's id of the chat): the oldest first.
pub async fn by_content(tx: &mut Tx, chats: &[(Uuid, &str)]) -> Result<Vec<ByContent>> {
    bulk::fetch(tx, &BY_CONTENT, chats, |row, (instance, chat)| {
        row.bind(*instance).bind(*chat);
    })
    .await
}

/// What a call was made into.
#[derive(Clone, Debug, FromRow)]
pub struct Call {
    /// The first part's message.
    pub message_id: Uuid,
    /// The network's id of the chat.
    pub chat_key: String,
    /// How many parts.
    pub parts: i64,
}

/// What a call was made into, if there was one with this id.
pub async fn call(tx: &mut Tx, send_id: Uuid) -> Result<Option<Call>> {
    let query = "select o.message_id, o.chat_key, (select count(*) from outbox where send_id = $1) as parts
        from outbox o where o.send_id = $1 order by o.part limit 1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(send_id).fetch_optional(conn).await)?)
}

/// How the parts of a call stand, in order.
pub async fn parts(store: &Store, send_id: Uuid) -> Result<Vec<PartState>> {
    let mut tx = store.read().await?;
    let query = "select status, receipt, error from outbox where send_id = $1 order by part";
    Ok(on!(&mut tx, conn => sqlx::query_as(query).bind(send_id).fetch_all(conn).await)?)
}

/// How many rows are open.
pub async fn depth(store: &Store) -> Result<i64> {
    let mut tx = store.read().await?;
    let query = "select count(*) from outbox where status in ('pending', 'sending', 'unknown', 'reconciling')";
    Ok(on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await)?)
}
