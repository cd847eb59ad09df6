//! The ledger: of every instance, how much came in and what became of it, how much was to go out and how that ended, and
//! how much of it is kept. Each amount is written in the transaction of what it counts ([`Tx::count`]), with one statement
//! a transaction, so whatever happens to the host the two agree. What is counted and what is there are two things: a row
//! that is lost is still counted, and that is the gap.
//!
//! Inbound, `accepted = stored + repeated + dead letters + waiting`: what waits is counted in the log. Outbound,
//! `queued = delivered + failed + unknown + pending`: what is open is counted in the outbox. And of messages and dead
//! letters as many rows are there as were written and not taken away.
//!
//! What is deleted with its instance is not counted any more. Deliberately not here: what lies in the log in NATS, which
//! the bus knows, and who looks when ([`crate::ledger`]).

use super::bulk::{self, Bulk};
use super::{Result, Run, Store, StoreError, Time, Tx, TxKind, on};
use sqlx::postgres::PgPoolOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;
use uuid::Uuid;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Account {
    /// Events that the log took.
    Accepted,
    /// Events that went back into it from the dead letters.
    Retried,
    /// Events out of it that had their effect.
    Stored,
    /// Events out of it that had been there before, with NATS: the other log does not take them.
    Repeated,
    /// Events out of it that went into the dead letters.
    Buried,
    /// Parts that were accepted to be sent, and changes of messages.
    Queued,
    /// Those that the network took.
    Delivered,
    /// Those that were given up.
    Failed,
    /// Messages that were written, without those that were taken away.
    Messages,
    /// Dead letters that were written, without those that were taken away.
    Letters,
}

impl Account {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Accepted,
        Self::Retried,
        Self::Stored,
        Self::Repeated,
        Self::Buried,
        Self::Queued,
        Self::Delivered,
        Self::Failed,
        Self::Messages,
        Self::Letters,
    ];

    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retried => "retried",
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Buried => "buried",
            Self::Queued => "queued",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Messages => "messages",
            Self::Letters => "letters",
        }
    }
}

/// Amounts that are to be added. In order, so that of two who add to the same rows one waits and neither for ever.
#[derive(Clone, Debug, Default)]
pub struct Changes(BTreeMap<(Uuid, Account), i64>);

impl Changes {
    /// Adds to an amount, or takes from it.
    pub fn count(&mut self, instance: Uuid, account: Account, amount: i64) {
        if amount != 0 {
            *self.0.entry((instance, account)).or_default() += amount;
        }
    }

    /// Adds what others say.
    pub fn add(&mut self, others: &Self) {
        for ((instance, account), amount) in &others.0 {
            self.count(*instance, *account, *amount);
        }
    }

    /// Whether there is nothing to add.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Tx {
    /// Counts something that happens in this transaction: it is in the ledger when that is committed, and else not.
    pub fn count(&mut self, instance: Uuid, account: Account, amount: i64) {
        self.ledger.count(instance, account, amount);
    }

    /// The same of much at once.
    pub(crate) fn count_all(&mut self, changes: &Changes) {
        self.ledger.add(changes);
    }
}

static ADD: LazyLock<Bulk> = LazyLock::new(|| {
    Bulk::new(
        "insert into ledger (instance_id, account, amount) select v.column1, v.column2, v.column3 from (",
        "uuid text bigint",
        ") v where exists (select 1 from instances i where i.id = v.column1)
         on conflict (instance_id, account) do update set amount = ledger.amount + excluded.amount",
    )
});

/// Writes what a transaction has counted. The last thing in it, so that nobody waits for the rows for long.
pub(super) async fn write(tx: &mut Tx) -> Result<()> {
    if tx.ledger.is_empty() {
        return Ok(());
    }
    let changes: Vec<((Uuid, Account), i64)> = std::mem::take(&mut tx.ledger).0.into_iter().collect();
    bulk::execute(tx, &ADD, &changes, |row, ((instance, account), amount)| {
        row.bind(*instance).word(account.word()).bind(*amount);
    })
    .await?;
    Ok(())
}

/// What begins the names of those who count what goes into the log in NATS, one a host; the place of each there is up to
/// where everything of that host is counted.
const COUNTING: &str = "accepting:";
/// The log in NATS, among consumers.
const NATS: &str = "inbound.nats";

/// Up to which place of the log in NATS everything is counted that a host accepted, and how often that was written down.
pub async fn counted(tx: &mut Tx, host: Uuid) -> Result<Option<(i64, i64)>> {
    let query = "select last_sequence, fence from consumer_offsets
        where consumer_name = $1 and stream_name = $2 and lane = -1";
    Ok(on!(tx, conn => sqlx::query_as(query).bind(counting(host)).bind(NATS).fetch_optional(conn).await)?)
}

/// The same, and nobody else writes it down before this transaction ends.
pub async fn counted_for_good(tx: &mut Tx, host: Uuid) -> Result<Option<(i64, i64)>> {
    let query = tx.pick(
        "select last_sequence, fence from consumer_offsets
         where consumer_name = $1 and stream_name = $2 and lane = -1",
        "select last_sequence, fence from consumer_offsets
         where consumer_name = $1 and stream_name = $2 and lane = -1 for update",
    );
    Ok(on!(tx, conn => sqlx::query_as(query).bind(counting(host)).bind(NATS).fetch_optional(conn).await)?)
}

/// Writes that down.
pub async fn count_up_to(tx: &mut Tx, host: Uuid, place: i64, now: Time) -> Result<()> {
    let query = "insert into consumer_offsets (consumer_name, stream_name, lane, last_sequence, fence, updated_at)
        values ($1, $2, -1, $3, 1, $4)
        on conflict (consumer_name, stream_name, lane)
        do update set last_sequence = excluded.last_sequence, fence = consumer_offsets.fence + 1,
          updated_at = excluded.updated_at";
    on!(tx, conn => sqlx::query(query).bind(counting(host)).bind(NATS).bind(place).bind(now).run(conn).await)?;
    Ok(())
}

/// A host that is no more, with up to where what it accepted is counted, and how often that was written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone {
    /// Which.
    pub host: Uuid,
    /// Up to there.
    pub place: i64,
    /// So often.
    pub times: i64,
}

/// Hosts that have counted and are no more.
pub async fn gone(tx: &mut Tx) -> Result<Vec<Gone>> {
    let query = "select consumer_name, last_sequence, fence from consumer_offsets
        where stream_name = $1 and lane = -1 order by consumer_name";
    let rows: Vec<(String, i64, i64)> = on!(tx, conn => sqlx::query_as(query).bind(NATS).fetch_all(conn).await)?;
    let living: Vec<(Uuid,)> = on!(tx, conn => sqlx::query_as("select id from hosts").fetch_all(conn).await)?;
    let of = |(name, place, times): (String, i64, i64)| Some(Gone { host: host_of(&name)?, place, times });
    Ok(rows.into_iter().filter_map(of).filter(|gone| !living.contains(&(gone.host,))).collect())
}

/// Forgets a host of which everything is counted. `false` when it has come back.
pub async fn forget(tx: &mut Tx, gone: &Gone) -> Result<bool> {
    let query = "delete from consumer_offsets
        where consumer_name = $1 and stream_name = $2 and lane = -1 and fence = $3";
    let name = counting(gone.host);
    Ok(on!(tx, conn => sqlx::query(query).bind(name).bind(NATS).bind(gone.times).run(conn).await)? == 1)
}

fn counting(host: Uuid) -> String {
    format!("{COUNTING}{host}")
}

fn host_of(counting: &str) -> Option<Uuid> {
    counting.strip_prefix(COUNTING)?.parse().ok()
}

/// Up to where the log in NATS is stored, and up to where each host counted what it accepted: in the same snapshot.
async fn in_nats(tx: &mut Tx) -> Result<Option<InNats>> {
    let Some(stored) = super::consumers::reached(tx, "storage", NATS).await? else { return Ok(None) };
    let query = "select consumer_name, last_sequence from consumer_offsets where stream_name = $1 and lane = -1";
    let rows: Vec<(String, i64)> = on!(tx, conn => sqlx::query_as(query).bind(NATS).fetch_all(conn).await)?;
    let counted = rows.into_iter().filter_map(|(name, place)| Some((host_of(&name)?, place))).collect();
    Ok(Some(InNats { stored, counted }))
}

/// An instance, with what was counted of it and what is there, all at one moment.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Which.
    pub instance_id: Uuid,
    /// Its name.
    pub name: String,
    /// Its channel.
    pub channel: String,
    amounts: BTreeMap<Account, i64>,
    /// Events in the log that are not stored yet; absent when that cannot be told.
    pub waiting: Option<i64>,
    /// Parts that are to be sent, or are being sent.
    pub pending: i64,
    /// Parts whose outcome is not known.
    pub unknown: i64,
    /// Messages that are there; absent when they were not counted.
    pub messages: Option<i64>,
    /// Dead letters that are there.
    pub letters: i64,
}

/// What must be equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What came in.
    Inbound,
    /// What was to go out.
    Outbound,
    /// What is kept of messages.
    Messages,
    /// What is kept of dead letters.
    DeadLetters,
}

impl Side {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Messages => "messages",
            Self::DeadLetters => "dead_letters",
        }
    }
}

impl Line {
    /// What was counted.
    pub fn amount(&self, account: Account) -> i64 {
        self.amounts.get(&account).copied().unwrap_or(0)
    }

    /// Events that are in the dead letters, or were settled there by somebody.
    pub fn dead(&self) -> i64 {
        self.amount(Account::Buried) - self.amount(Account::Retried)
    }

    /// How much is counted and is nowhere, on each side that was looked at: below zero there is more than was counted.
    pub fn gaps(&self) -> Vec<(Side, i64)> {
        use Account::{Accepted, Delivered, Failed, Letters, Messages, Queued, Repeated, Stored};
        let amount = |account| self.amount(account);
        let inbound = self.waiting.map(|waiting| {
            (Side::Inbound, amount(Accepted) - amount(Stored) - amount(Repeated) - self.dead() - waiting)
        });
        let outbound = amount(Queued) - amount(Delivered) - amount(Failed) - self.pending - self.unknown;
        let messages = self.messages.map(|there| (Side::Messages, amount(Messages) - there));
        let letters = (Side::DeadLetters, amount(Letters) - self.letters);
        inbound.into_iter().chain([(Side::Outbound, outbound)]).chain(messages).chain([letters]).collect()
    }

    /// Whether nothing is missing anywhere.
    pub fn balances(&self) -> bool {
        self.gaps().iter().all(|(_, gap)| *gap == 0)
    }
}

/// Every instance, at one moment.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// A line an instance, by name.
    pub lines: Vec<Line>,
    /// Where the log in NATS is, when it was ever used.
    pub nats: Option<InNats>,
    /// How many domain events are not published to NATS yet, and when the oldest of them happened; absent when none ever
    /// were to be.
    pub unpublished: Option<(i64, Option<Time>)>,
}

/// Where the log in NATS is.
#[derive(Clone, Debug, Default)]
pub struct InNats {
    /// Up to where it is stored.
    pub stored: i64,
    /// Up to where each host has counted what it accepted.
    pub counted: Vec<(Uuid, i64)>,
}

/// Events of one host in the log in NATS that are in one of two amounts only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Who accepted them.
    pub host: Uuid,
    /// They come behind this place.
    pub after: i64,
    /// And not behind this one.
    pub up_to: i64,
    /// Whether they are counted and not stored; else it is the other way round.
    pub waits: bool,
}

impl Ledger {
    /// The events of the log in NATS that have to be looked at there.
    pub fn between(&self) -> Vec<Span> {
        let Some(InNats { stored, counted }) = &self.nats else { return Vec::new() };
        let span = |(host, counted): &(Uuid, i64)| Span {
            host: *host,
            after: *stored.min(counted),
            up_to: *stored.max(counted),
            waits: stored < counted,
        };
        counted.iter().map(span).filter(|span| span.after < span.up_to).collect()
    }

    /// Adds the events that are there: those that are counted and not stored wait, and those that are stored and not
    /// counted were accepted.
    pub fn complete(&mut self, there: &[(Span, Changes)]) {
        for (span, changes) in there {
            for ((instance, account), amount) in &changes.0 {
                let Some(line) = self.lines.iter_mut().find(|line| line.instance_id == *instance) else { continue };
                if span.waits {
                    line.waiting = line.waiting.map(|waiting| waiting + amount);
                } else {
                    *line.amounts.entry(*account).or_default() += amount;
                }
            }
        }
    }

    /// Says that what waits cannot be told.
    pub fn leave_open(&mut self) {
        for line in &mut self.lines {
            line.waiting = None;
        }
    }
}

/// Looks at everything in one snapshot. Messages are counted when that is asked for: it walks an index of all of them.
pub async fn look(store: &Store, with_messages: bool) -> Result<Ledger> {
    look_in(&mut store.read().await?, with_messages).await
}

/// The same in a file that a host may use meanwhile. Changes nothing.
pub async fn look_in_file(file: &Path) -> Result<Option<Ledger>> {
    let options = SqliteConnectOptions::new().filename(file).busy_timeout(Duration::from_secs(30));
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    let found = look_if_there(&mut Tx::alone(TxKind::Sqlite(pool.begin().await?))).await;
    pool.close().await;
    found
}

/// The same on a server.
pub async fn look_in_postgres(url: &str) -> Result<Option<Ledger>> {
    let pool = PgPoolOptions::new().max_connections(1);
    let pool = pool.connect_with(super::postgres::Address::read(url)?.options()).await?;
    let found = look_if_there(&mut Tx::alone(TxKind::Postgres(super::postgres::read(&pool).await?))).await;
    pool.close().await;
    found
}

/// Looks, unless the schema is older than the ledger.
async fn look_if_there(tx: &mut Tx) -> Result<Option<Ledger>> {
    let query = tx.pick(
        "select count(*) from sqlite_master where type = 'table' and name = 'ledger'",
        "select cast(to_regclass('ledger') is not null as int)::bigint",
    );
    let tables: i64 = on!(tx, conn => sqlx::query_scalar(query).fetch_one(conn).await)?;
    if tables == 0 { Ok(None) } else { look_in(tx, true).await.map(Some) }
}

const WAITING: &str = "select instance_id, 'waiting', count(*) from inbound_log
    where seq > coalesce((select max(last_sequence) from consumer_offsets
      where consumer_name = 'storage' and stream_name = 'inbound'), 0)
    group by instance_id";
const OPEN: &str = "select instance_id, case when status in ('pending', 'sending') then 'pending' else 'unknown' end,
      count(*) from outbox where status in ('pending', 'sending', 'unknown', 'reconciling') group by instance_id, 2";
const LETTERS: &str = "select instance_id, 'letters', count(*) from dead_letter_events
    where instance_id is not null group by instance_id";
const MESSAGES: &str = "select c.instance_id, 'messages', cast(sum(m.amount) as bigint)
    from (select chat_id, count(*) as amount from messages group by chat_id) m join chats c on c.id = m.chat_id
    group by c.instance_id";

async fn look_in(tx: &mut Tx, with_messages: bool) -> Result<Ledger> {
    let instances: Vec<(Uuid, String, String)> = on!(tx, conn =>
        sqlx::query_as("select id, name, channel from instances order by name, id").fetch_all(conn).await)?;
    let mut lines: Vec<Line> = instances
        .into_iter()
        .map(|(instance_id, name, channel)| Line {
            instance_id,
            name,
            channel,
            waiting: Some(0),
            messages: with_messages.then_some(0),
            ..Line::default()
        })
        .collect();
    let places: BTreeMap<Uuid, usize> = lines.iter().zip(0..).map(|(line, place)| (line.instance_id, place)).collect();
    let amounts: Vec<(Uuid, String, i64)> =
        on!(tx, conn => sqlx::query_as("select instance_id, account, amount from ledger").fetch_all(conn).await)?;
    for (instance, word, amount) in amounts {
        let account = Account::ALL.into_iter().find(|account| account.word() == word);
        let account = account.ok_or_else(|| StoreError::Inconsistent {
            table: "ledger",
            column: "account",
            id: instance.to_string(),
            reason: format!("`{word}` is nothing that is counted"),
        })?;
        if let Some(place) = places.get(&instance) {
            lines[*place].amounts.insert(account, amount);
        }
    }
    let queries = [WAITING, OPEN, LETTERS].into_iter().chain(with_messages.then_some(MESSAGES));
    for query in queries {
        let found: Vec<(Uuid, String, i64)> = on!(tx, conn => sqlx::query_as(query).fetch_all(conn).await)?;
        for (instance, what, amount) in found {
            let Some(line) = places.get(&instance).map(|place| &mut lines[*place]) else { continue };
            match what.as_str() {
                "waiting" => line.waiting = Some(amount),
                "pending" => line.pending = amount,
                "unknown" => line.unknown = amount,
                "letters" => line.letters = amount,
                _ => line.messages = Some(amount),
            }
        }
    }
    Ok(Ledger { lines, nats: in_nats(tx).await?, unpublished: unpublished(tx).await? })
}

async fn unpublished(tx: &mut Tx) -> Result<Option<(i64, Option<Time>)>> {
    let Some(place) = super::consumers::reached(tx, "nats", "events").await? else { return Ok(None) };
    let newest = super::events::newest(tx).await?;
    let query = "select received_at from omni_events where seq > $1 order by seq limit 1";
    let since: Option<Time> = on!(tx, conn => sqlx::query_scalar(query).bind(place).fetch_optional(conn).await)?;
    Ok(Some(((newest - place).max(0), since)))
}
