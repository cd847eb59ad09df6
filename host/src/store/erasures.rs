//! Erasing a person, in steps of bounded size, each one transaction that also says how far it is: a death in the middle
//! costs one step, which is done again.
//!
//! | what | becomes |
//! |---|---|
//! | the person, their accounts, their seats in chats | deleted; the first two in the transaction that begins |
//! | messages that they wrote | emptied, `status` `erased`: no words, file, sender, history. The row stays, so that the chat, its counters and the answers of others keep their shape, and so that nothing the network says again of it brings it back |
//! | what others quoted of these | taken out of their messages |
//! | reactions and votes of theirs | taken out, and the counts go down |
//! | files of their messages | deleted, with their rows |
//! | events that they caused | `{"erased":true}` in place of the payload, without the network's words; the place in the order stays, because everybody who reads counts on it |
//! | events of others that name or quote them | lose the network's words; those that are about no message lose their payload, too |
//! | the log of accepted events | what waits is stored first, and then erased like the rest; what is stored and kept is deleted where it names them or quotes anybody: nobody reads it again |
//! | what waits for a message that has not come | deleted where they said it or it names them |
//! | dead letters | deleted where they caused the event: doing it again would store it again |
//! | the queue of webhooks | sent in its turn, as `{"erased":true}`: order and count of what a receiver gets do not change. What receivers answered to their events is deleted |
//! | the name and picture of a chat with them alone | taken out; the network's id of the chat stays, for it is the address of the messages of others in it |
//!
//! Afterwards `identity.erased` tells consumers, who have copies of their own. What they write from the first transaction on
//! belongs to a new person.
//!
//! Deliberately not here: what others wrote about them in their own words; what others quoted of a message that was never
//! stored; what we sent them; sealed memory of channels; keys by which a repeated delivery is known (they hold no words);
//! backups; and what lies in a free page of SQLite's file, or in its write-ahead log, until that is written over.

use super::events::{self, NewDomainEvent};
use super::{Json, Result, Run, Store, Time, Tx, on};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::FromRow;
use uuid::Uuid;

mod mention;
pub(super) mod messages;
mod traces;

/// An account of somebody who is erased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Our id.
    pub id: Uuid,
    /// The instance that saw it.
    pub instance_id: Uuid,
    /// The network's id.
    pub user: String,
}

/// One erasure: a row.
#[derive(Clone, Debug, FromRow)]
pub struct Erasure {
    /// Its id.
    pub id: Uuid,
    /// Who.
    pub person_id: Uuid,
    /// Their accounts, while they are looked for.
    pub accounts: Json<Vec<Account>>,
    /// What is being looked at.
    pub stage: String,
    /// Up to where, by id.
    pub after_id: Uuid,
    /// Up to where, by number.
    pub after_seq: i64,
    /// What is newer is not theirs.
    pub until_id: Uuid,
    /// The newest event of the time.
    pub until_seq: i64,
    /// What was stored of the log by then.
    pub until_log: i64,
    /// Messages that were emptied.
    pub messages: i64,
    /// Events that were emptied.
    pub events: i64,
    /// Files that were deleted.
    pub files: i64,
    /// By whom it was asked for.
    pub requested_by: Option<String>,
    /// When.
    pub requested_at: Time,
    /// When nothing was left.
    pub completed_at: Option<Time>,
}

/// A file that is to go from the media folder.
#[derive(Clone, Debug, FromRow)]
pub struct File {
    /// Where it lies in it, when it is there.
    pub path: Option<String>,
    /// Size in bytes.
    pub size: i64,
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "select id, person_id, accounts, stage, after_id, after_seq, until_id, until_seq, until_log, messages, \
             events, files, requested_by, requested_at, completed_at from erasures ",
            $rest
        )
    };
}

/// The erasure of a person, if they are or were erased.
pub async fn of_person(store: &Store, person: Uuid) -> Result<Option<Erasure>> {
    find(&mut store.read().await?, person).await
}

async fn find(tx: &mut Tx, person: Uuid) -> Result<Option<Erasure>> {
    const SQL: &str = select!("where person_id = $1");
    Ok(on!(tx, conn => sqlx::query_as(SQL).bind(person).fetch_optional(conn).await)?)
}

/// Those that are not finished, the oldest first.
pub async fn running(store: &Store) -> Result<Vec<Erasure>> {
    const SQL: &str = select!("where completed_at is null order by id");
    let mut tx = store.read().await?;
    Ok(on!(&mut tx, conn => sqlx::query_as(SQL).fetch_all(conn).await)?)
}

/// Begins: the person and their accounts are gone when this returns, and whatever comes from these accounts is a new
/// person's. `None` when there is no such person; the erasure that there is when they are erased already.
///
/// Everything that was accepted before must be stored.
pub async fn begin(store: &Store, person: Uuid, by: &str, now: Time) -> Result<Option<Erasure>> {
    let mut tx = begin_thorough(store).await?;
    if let Some(before) = find(&mut tx, person).await? {
        return Ok(Some(before));
    }
    let Subject { accounts, .. } = Subject::load(&mut tx, person).await?;
    let gone = on!(&mut tx, conn => sqlx::query("delete from persons where id = $1").bind(person).run(conn).await)?;
    if gone == 0 {
        return Ok(None);
    }
    let until_log: Option<i64> = on!(&mut tx, conn => sqlx::query_scalar(
        "select min(last_sequence) from consumer_offsets where stream_name = 'inbound'").fetch_one(conn).await)?;
    let erasure = Erasure {
        id: tx.new_id(now),
        person_id: person,
        accounts: Json(accounts),
        stage: STAGES[0].0.to_owned(),
        after_id: Uuid::nil(),
        after_seq: 0,
        until_id: tx.new_id(now),
        until_seq: events::newest(&mut tx).await?,
        until_log: until_log.unwrap_or(0),
        messages: 0,
        events: 0,
        files: 0,
        requested_by: Some(by.to_owned()),
        requested_at: now,
        completed_at: None,
    };
    on!(&mut tx, conn => sqlx::query(
        "insert into erasures (id, person_id, accounts, stage, after_id, after_seq, until_id, until_seq, until_log,
           requested_by, requested_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)")
        .bind(erasure.id)
        .bind(erasure.person_id)
        .bind(&erasure.accounts)
        .bind(&erasure.stage)
        .bind(erasure.after_id)
        .bind(erasure.after_seq)
        .bind(erasure.until_id)
        .bind(erasure.until_seq)
        .bind(erasure.until_log)
        .bind(&erasure.requested_by)
        .bind(erasure.requested_at)
        .run(conn)
        .await)?;
    tx.people_move().await?;
    tx.commit().await?;
    Ok(Some(erasure))
}

/// What a stage looks through.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Messages,
    Events,
    Early,
    Letters,
    Queue,
    Log,
    Chats,
    Seats,
}

/// In the order in which they are looked through: first what is done again by itself; and what others quote is known by
/// what it is taken from.
const STAGES: &[(&str, Stage)] = &[
    ("letters", Stage::Letters),
    ("messages", Stage::Messages),
    ("events", Stage::Events),
    ("early", Stage::Early),
    ("queue", Stage::Queue),
    ("log", Stage::Log),
    ("chats", Stage::Chats),
    ("seats", Stage::Seats),
];

/// What a step came to.
#[derive(Debug, Default)]
pub struct Step {
    /// Files that no row tells of any more.
    pub files: Vec<File>,
    /// Whether the stage has nothing more to look at.
    ended: bool,
}

/// Does one step; the erasure is finished when it has a time of completion.
pub async fn step(store: &Store, erasure: &mut Erasure, now: Time) -> Result<Vec<File>> {
    let Some(place) = STAGES.iter().position(|(name, _)| *name == erasure.stage) else {
        finish(store, erasure, now).await?;
        return Ok(Vec::new());
    };
    let mut next = erasure.clone();
    let mut step = match STAGES[place].1 {
        Stage::Messages => messages::step(store, &mut next, now).await?,
        Stage::Events => traces::events(store, &mut next).await?,
        Stage::Early => traces::early(store, &mut next).await?,
        Stage::Letters => traces::letters(store, &mut next).await?,
        Stage::Queue => traces::queue(store, &mut next).await?,
        Stage::Log => traces::log(store, &mut next).await?,
        Stage::Chats => traces::chats(store, &next).await?,
        Stage::Seats => traces::seats(store, &next).await?,
    };
    if step.ended {
        next.stage = STAGES.get(place + 1).map_or("end", |(name, _)| name).to_owned();
        (next.after_id, next.after_seq) = (Uuid::nil(), 0);
        let mut tx = begin_thorough(store).await?;
        save(&mut tx, &next).await?;
        tx.commit().await?;
    }
    *erasure = next;
    Ok(std::mem::take(&mut step.files))
}

/// Says how far it is, in the transaction of what was done.
async fn save(tx: &mut Tx, erasure: &Erasure) -> Result<()> {
    on!(tx, conn => sqlx::query(
        "update erasures set stage = $2, after_id = $3, after_seq = $4, messages = $5, events = $6, files = $7
         where id = $1")
        .bind(erasure.id)
        .bind(&erasure.stage)
        .bind(erasure.after_id)
        .bind(erasure.after_seq)
        .bind(erasure.messages)
        .bind(erasure.events)
        .bind(erasure.files)
        .run(conn)
        .await)?;
    Ok(())
}

/// Tells consumers, and forgets whom it looked for.
async fn finish(store: &Store, erasure: &mut Erasure, now: Time) -> Result<()> {
    let mut tx = begin_thorough(store).await?;
    let ids: Vec<Uuid> = erasure.accounts.0.iter().map(|account| account.id).collect();
    let payload = json!({
        "personId": erasure.person_id, "platformIdentityIds": ids, "messages": erasure.messages,
        "events": erasure.events, "files": erasure.files,
    });
    let event = NewDomainEvent::new(tx.new_id(now), "identity.erased", "outbound", payload.to_string(), now);
    events::append(&mut tx, &[event], now).await?;
    on!(&mut tx, conn => sqlx::query(
        "update erasures set accounts = '[]', stage = 'end', completed_at = $2 where id = $1")
        .bind(erasure.id).bind(now).run(conn).await)?;
    let usual = tx.pick("pragma secure_delete = fast", "select 1");
    on!(&mut tx, conn => sqlx::query(usual).run(conn).await)?;
    tx.commit().await?;
    (erasure.accounts, erasure.completed_at) = (Json(Vec::new()), Some(now));
    Ok(())
}

/// A transaction whose old values do not stay in the file: SQLite writes over them.
async fn begin_thorough(store: &Store) -> Result<Tx> {
    let mut tx = store.begin().await?;
    let thorough = tx.pick("pragma secure_delete = on", "select 1");
    on!(&mut tx, conn => sqlx::query(thorough).run(conn).await)?;
    Ok(tx)
}

/// Whom is looked for.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub person_id: Uuid,
    pub accounts: Vec<Account>,
}

impl Erasure {
    fn subject(&self) -> Subject {
        Subject { person_id: self.person_id, accounts: self.accounts.0.clone() }
    }
}

impl Subject {
    /// A person as they are now.
    pub async fn load(tx: &mut Tx, person: Uuid) -> Result<Self> {
        let accounts: Vec<(Uuid, Uuid, String)> = on!(tx, conn => sqlx::query_as(
            "select id, instance_id, platform_user_id from platform_identities where person_id = $1 order by id")
            .bind(person).fetch_all(conn).await)?;
        let account = |(id, instance_id, user)| Account { id, instance_id, user };
        Ok(Self { person_id: person, accounts: accounts.into_iter().map(account).collect() })
    }

    fn account_ids(&self) -> Vec<Uuid> {
        self.accounts.iter().map(|account| account.id).collect()
    }

    fn instances(&self) -> Vec<Uuid> {
        let mut ids: Vec<Uuid> = self.accounts.iter().map(|account| account.instance_id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// The network's ids of their accounts on one instance.
    pub fn users(&self, instance: Uuid) -> Vec<&str> {
        let here = self.accounts.iter().filter(|account| account.instance_id == instance);
        here.map(|account| account.user.as_str()).collect()
    }

    /// Patterns of `like` that find these ids in JSON, as a JSON list.
    fn patterns(&self) -> String {
        let patterns: Vec<String> =
            self.accounts.iter().filter_map(|account| super::page::pattern(Some(&account.user))).collect();
        serde_json::to_string(&patterns).expect("strings are JSON")
    }
}
