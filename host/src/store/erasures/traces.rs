//! What else tells of somebody: events, what waits, what failed, what is queued, the log, seats.

use super::mention::{names, names_anywhere, quotes, raw_names};
use super::{Erasure, Step, Subject, begin_thorough, save};
use crate::store::bulk::{self, Bulk};
use crate::store::ledger::Account;
use crate::store::page::hex_list;
use crate::store::{Result, Run, Store, Tx, on};
use serde_json::{Value, json};
use sqlx::FromRow;
use std::sync::LazyLock;
use uuid::Uuid;

/// Rows that are looked at in one step.
const PAGE: i64 = 1_000;
/// Rows with a large payload that are looked at in one step.
const LARGE: i64 = 100;

/// An event that may tell of them.
#[derive(Debug, FromRow)]
struct Suspect {
    seq: i64,
    instance_id: Uuid,
    theirs: bool,
    message: bool,
    of_erased: bool,
    payload: String,
    raw: Option<String>,
}

/// What becomes of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// They caused it: nothing of it is left but that it happened.
    Theirs,
    /// It is about them: the same, and who caused it is still known.
    Blank,
    /// Only what the network said of it tells of them.
    Unsaid,
    Stays,
}

static BLANK: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update omni_events set payload = '{\"erased\":true}', raw_payload = null, text_content = null, metadata = null,
           person_id = case when v.column2 then null else person_id end,
           platform_identity_id = case when v.column2 then null else platform_identity_id end
         from (",
        "bigint boolean",
        ") v where omni_events.seq = v.column1",
    )
});

static UNSAY: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new("update omni_events set raw_payload = null from (", "bigint", ") v where omni_events.seq = v.column1")
});

static UNANSWER: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update webhook_attempts set answer = null where answer is not null and delivery_seq in (
           select d.seq from webhook_deliveries d where d.webhook_id in (select id from webhooks)
             and d.event_seq in (select v.column1 from (",
        "bigint",
        ") v))",
    )
});

pub(super) async fn events(store: &Store, erasure: &mut Erasure) -> Result<Step> {
    let subject = erasure.subject();
    const SQL: &str = "select seq, instance_id, theirs, message, of_erased, payload, raw from (
        select e.seq, e.instance_id, e.message_id is not null as message,
          coalesce(e.person_id = $3, false)
            or coalesce(e.platform_identity_id in (select unhex(value) from json_each($4)), false)
            or (e.event_type in ('message.received', 'message.synced', 'message.edited') and exists (
                 select 1 from messages m where m.id = e.message_id and m.status = 'erased')) as theirs,
          exists (select 1 from messages m left join messages t on t.id = m.reply_to_message_id
            where m.id = e.message_id and (m.status = 'erased' or t.status = 'erased')) as of_erased,
          cast(e.payload as text) as payload, cast(e.raw_payload as text) as raw
        from omni_events e where e.seq > $1 and e.seq <= $2
          and e.instance_id in (select unhex(value) from json_each($5))) seen
        where theirs or (of_erased and raw is not null)
          or exists (select 1 from json_each($6) as wanted
               where payload like wanted.value escape '\\' or raw like wanted.value escape '\\')
        order by seq";
    let mut tx = store.read().await?;
    let full: Option<i64> = on!(&mut tx, conn => sqlx::query_scalar(
        "select seq from omni_events where seq > $1 and seq <= $2 order by seq limit 1 offset $3")
        .bind(erasure.after_seq).bind(erasure.until_seq).bind(PAGE - 1).fetch_optional(conn).await)?;
    let end = full.unwrap_or(erasure.until_seq);
    let suspects: Vec<Suspect> = on!(&mut tx, conn => sqlx::query_as(SQL)
        .bind(erasure.after_seq)
        .bind(end)
        .bind(erasure.person_id)
        .bind(hex_list(&subject.account_ids()))
        .bind(hex_list(&subject.instances()))
        .bind(subject.patterns())
        .fetch_all(conn)
        .await)?;
    drop(tx);
    let fates: Vec<(i64, Fate)> = suspects.iter().map(|event| (event.seq, fate(&subject, event))).collect();
    let of = |wanted: &[Fate]| -> Vec<(i64, bool)> {
        let these = fates.iter().filter(|(_, fate)| wanted.contains(fate));
        these.map(|(seq, fate)| (*seq, *fate == Fate::Theirs)).collect()
    };
    let (blank, unsaid) = (of(&[Fate::Theirs, Fate::Blank]), of(&[Fate::Unsaid]));
    erasure.after_seq = end;
    if !blank.is_empty() || !unsaid.is_empty() {
        let mut tx = begin_thorough(store).await?;
        bulk::execute(&mut tx, &BLANK, &blank, |row, (seq, theirs)| {
            row.bind(*seq).bind(*theirs);
        })
        .await?;
        bulk::execute(&mut tx, &UNSAY, &unsaid, |row, (seq, _)| {
            row.bind(*seq);
        })
        .await?;
        bulk::execute(&mut tx, &UNANSWER, &blank, |row, (seq, _)| {
            row.bind(*seq);
        })
        .await?;
        erasure.events += i64::try_from(blank.len()).unwrap_or(0);
        save(&mut tx, erasure).await?;
        tx.commit().await?;
    }
    Ok(Step { ended: full.is_none(), ..Step::default() })
}

fn fate(subject: &Subject, event: &Suspect) -> Fate {
    if event.theirs {
        return Fate::Theirs;
    }
    let users = subject.users(event.instance_id);
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let payload = read(&event.payload);
    // An event about a chat names it, and a chat with them alone has their id.
    if !event.message && names_anywhere(&payload, &users) {
        return Fate::Blank;
    }
    let raw = || event.raw.as_deref().is_some_and(|raw| raw_names(&read(raw), &users));
    if event.of_erased || names(&payload, &users) || raw() { Fate::Unsaid } else { Fate::Stays }
}

static DELETE_EARLY: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("delete from early_events where seq in (select v.column1 from (", "bigint", ") v)"));

pub(super) async fn early(store: &Store, erasure: &mut Erasure) -> Result<Step> {
    let subject = erasure.subject();
    let mut tx = store.read().await?;
    let rows: Vec<(i64, Option<Uuid>, Uuid, String)> = on!(&mut tx, conn => sqlx::query_as(
        "select e.seq, e.person_id, c.instance_id, cast(e.said as text) from early_events e
         join chats c on c.id = e.chat_id where e.seq > $1 order by e.seq limit $2")
        .bind(erasure.after_seq).bind(PAGE).fetch_all(conn).await)?;
    drop(tx);
    let theirs = |(_, person, instance, said): &&(i64, Option<Uuid>, Uuid, String)| {
        let said = || serde_json::from_str::<Value>(said).unwrap_or_default();
        *person == Some(erasure.person_id) || names(&said(), &subject.users(*instance))
    };
    let gone: Vec<i64> = rows.iter().filter(theirs).map(|row| row.0).collect();
    erasure.after_seq = rows.last().map_or(erasure.after_seq, |row| row.0);
    if !gone.is_empty() {
        let mut tx = begin_thorough(store).await?;
        delete(&mut tx, &DELETE_EARLY, &gone).await?;
        save(&mut tx, erasure).await?;
        tx.commit().await?;
    }
    Ok(Step { ended: is_last(rows.len(), PAGE), ..Step::default() })
}

async fn delete(tx: &mut Tx, statement: &Bulk, rows: &[i64]) -> Result<()> {
    bulk::execute(tx, statement, rows, |row, seq| {
        row.bind(*seq);
    })
    .await?;
    Ok(())
}

fn is_last(rows: usize, page: i64) -> bool {
    i64::try_from(rows).is_ok_and(|rows| rows < page)
}

/// Whether they caused an event, as it is kept whole: an envelope, or as it crossed the boundary. What cannot be read is
/// looked through for their ids.
fn caused(subject: &Subject, instance: Uuid, payload: &[u8]) -> bool {
    let users = subject.users(instance);
    let Ok(value) = serde_json::from_slice::<Value>(payload) else {
        return users.iter().any(|user| payload.windows(user.len().max(1)).any(|window| window == user.as_bytes()));
    };
    let is_id = |pointer: &str, ids: &[Uuid]| {
        let found = value.pointer(pointer).and_then(Value::as_str).and_then(|id| id.parse().ok());
        found.is_some_and(|id| ids.contains(&id))
    };
    is_id("/metadata/personId", &[subject.person_id])
        || is_id("/metadata/platformIdentityId", &subject.account_ids())
        || names(&value, &users)
        || value.pointer("/chat/id").is_some() && quotes(&value)
}

pub(super) async fn letters(store: &Store, erasure: &mut Erasure) -> Result<Step> {
    let subject = erasure.subject();
    let mut tx = store.read().await?;
    let rows: Vec<(Uuid, Option<Uuid>, Vec<u8>)> = on!(&mut tx, conn => sqlx::query_as(
        "select id, instance_id, payload from dead_letter_events where id > $1 order by id limit $2")
        .bind(erasure.after_id).bind(LARGE).fetch_all(conn).await)?;
    drop(tx);
    let instances = subject.instances();
    let theirs = |(_, instance, payload): &&(Uuid, Option<Uuid>, Vec<u8>)| {
        instance.is_some_and(|instance| instances.contains(&instance) && caused(&subject, instance, payload))
    };
    let gone: Vec<Uuid> = rows.iter().filter(theirs).map(|row| row.0).collect();
    erasure.after_id = rows.last().map_or(erasure.after_id, |row| row.0);
    if !gone.is_empty() {
        let mut tx = begin_thorough(store).await?;
        on!(&mut tx, conn => sqlx::query(
            "delete from dead_letter_events where id in (select unhex(value) from json_each($1))")
            .bind(hex_list(&gone)).run(conn).await)?;
        for instance in rows.iter().filter(theirs).filter_map(|row| row.1) {
            tx.count(instance, Account::Letters, -1);
        }
        save(&mut tx, erasure).await?;
        tx.commit().await?;
    }
    Ok(Step { ended: is_last(rows.len(), LARGE), ..Step::default() })
}

static REWRITE: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "update webhook_deliveries set payload = v.column2 from (",
        "bigint bytea",
        ") v where webhook_deliveries.seq = v.column1",
    )
});

/// Envelopes that are queued whole. Those that are read from the events are erased with these.
pub(super) async fn queue(store: &Store, erasure: &mut Erasure) -> Result<Step> {
    let subject = erasure.subject();
    let mut tx = store.read().await?;
    let rows: Vec<(i64, Uuid, Vec<u8>)> = on!(&mut tx, conn => sqlx::query_as(
        "select seq, instance_id, payload from webhook_deliveries where seq > $1 and payload is not null
         order by seq limit $2")
        .bind(erasure.after_seq).bind(LARGE).fetch_all(conn).await)?;
    drop(tx);
    let instances = subject.instances();
    let mut erased: Vec<(i64, Vec<u8>)> = Vec::new();
    for (seq, instance, payload) in &rows {
        if instances.contains(instance) && caused(&subject, *instance, payload) {
            erased.push((*seq, emptied(payload)));
        }
    }
    erasure.after_seq = rows.last().map_or(erasure.after_seq, |row| row.0);
    if !erased.is_empty() {
        let mut tx = begin_thorough(store).await?;
        bulk::execute(&mut tx, &REWRITE, &erased, |row, (seq, payload)| {
            row.bind(*seq).bind(payload.as_slice());
        })
        .await?;
        on!(&mut tx, conn => sqlx::query(
            "update webhook_attempts set answer = null where delivery_seq in
               (select cast(value as bigint) from json_each($1))")
            .bind(json!(erased.iter().map(|(seq, _)| seq.to_string()).collect::<Vec<_>>()).to_string())
            .run(conn)
            .await)?;
        save(&mut tx, erasure).await?;
        tx.commit().await?;
    }
    Ok(Step { ended: is_last(rows.len(), LARGE), ..Step::default() })
}

/// An envelope that says that something happened, and nothing of it.
fn emptied(payload: &[u8]) -> Vec<u8> {
    let mut value = serde_json::from_slice::<Value>(payload).unwrap_or_else(|_| json!({}));
    if let Some(envelope) = value.as_object_mut() {
        envelope.insert("payload".into(), json!({"erased": true}));
    }
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("personId");
        metadata.remove("platformIdentityId");
    }
    value.to_string().into_bytes()
}

static DELETE_LOG: LazyLock<Bulk> =
    LazyLock::new(|| Bulk::new("delete from inbound_log where seq in (select v.column1 from (", "bigint", ") v)"));

pub(super) async fn log(store: &Store, erasure: &mut Erasure) -> Result<Step> {
    let subject = erasure.subject();
    let mut tx = store.read().await?;
    let rows: Vec<(i64, Uuid, Vec<u8>)> = on!(&mut tx, conn => sqlx::query_as(
        "select seq, instance_id, payload from inbound_log where seq > $1 and seq <= $2 order by seq limit $3")
        .bind(erasure.after_seq).bind(erasure.until_log).bind(LARGE).fetch_all(conn).await)?;
    drop(tx);
    let instances = subject.instances();
    let tells = |(_, instance, payload): &&(i64, Uuid, Vec<u8>)| {
        instances.contains(instance)
            && serde_json::from_slice::<Value>(payload)
                .map_or(true, |event| raw_names(&event, &subject.users(*instance)) || quotes(&event))
    };
    let gone: Vec<i64> = rows.iter().filter(tells).map(|row| row.0).collect();
    erasure.after_seq = rows.last().map_or(erasure.after_seq, |row| row.0);
    if !gone.is_empty() {
        let mut tx = store.begin_log().await?;
        let thorough = tx.pick("pragma secure_delete = on", "select 1");
        on!(&mut tx, conn => sqlx::query(thorough).run(conn).await)?;
        delete(&mut tx, &DELETE_LOG, &gone).await?;
        tx.commit().await?;
        // Where it is goes by another connection: what is done twice finds nothing.
        let mut tx = begin_thorough(store).await?;
        save(&mut tx, erasure).await?;
        tx.commit().await?;
    }
    Ok(Step { ended: is_last(rows.len(), LARGE), ..Step::default() })
}

/// Chats with them alone lose their names. As many at a time as they have accounts, and once by their seats.
pub(super) async fn chats(store: &Store, erasure: &Erasure) -> Result<Step> {
    let mut tx = begin_thorough(store).await?;
    for account in &erasure.accounts.0 {
        on!(&mut tx, conn => sqlx::query(
            "update chats set name = null, description = null, avatar_url = null, platform_metadata = null
             where chat_type = 'dm' and instance_id = $1 and external_id = $2")
            .bind(account.instance_id).bind(&account.user).run(conn).await)?;
    }
    let done = on!(&mut tx, conn => sqlx::query(
        "update chats set name = null, description = null, avatar_url = null, platform_metadata = null
         where id in (select c.id from chat_participants p join chats c on c.id = p.chat_id
           where p.person_id = $1 and c.chat_type = 'dm'
             and (c.name is not null or c.description is not null or c.avatar_url is not null
               or c.platform_metadata is not null) limit $2)")
        .bind(erasure.person_id).bind(PAGE).run(conn).await)?;
    tx.commit().await?;
    Ok(Step { ended: done == 0, ..Step::default() })
}

pub(super) async fn seats(store: &Store, erasure: &Erasure) -> Result<Step> {
    let mut tx = begin_thorough(store).await?;
    let done = on!(&mut tx, conn => sqlx::query(
        "delete from chat_participants where id in
           (select id from chat_participants where person_id = $1 limit $2)")
        .bind(erasure.person_id).bind(PAGE).run(conn).await)?;
    tx.commit().await?;
    Ok(Step { ended: done == 0, ..Step::default() })
}
