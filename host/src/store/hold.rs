//! Who may write. One host alone: it holds a lock of the session of a connection of its own, and whoever comes second is
//! told who was first. Hosts that share a database (`hosts`) each have a share of that lock.
//!
//! When that connection breaks (the server was restarted, the network was cut), this host writes nothing until it has the
//! lock again, and only goes on when nobody had it in between: each holder leaves its mark. On SQLite the lock of the data
//! folder does all of this. Deliberately not here: what a host does that may not go on.

use super::postgres::Address;
use super::{Pools, Result, Store, StoreError, Time};
use sqlx::postgres::types::Oid;
use sqlx::{Connection, PgConnection};
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The lock: "omni" in ASCII, and a number for what it is about.
pub(super) const LOCK: (i32, i32) = (0x6f6d_6e69, 1);
/// The setting under which a holder leaves its mark.
const MARK: &str = "database.holder";
/// How often the connection is looked after, and how long the server may take to answer.
const EVERY: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(30);

/// How often the lock is tried to be taken at a start.
const TRIES: u32 = 4;

/// Whether this host may write. So it is as long as nobody has taken hold, so that tests and tools need not.
#[derive(Clone, Debug, Default)]
pub(super) struct Held(Arc<State>);

#[derive(Debug, Default)]
struct State {
    lost: AtomicBool,
    /// Until when, in milliseconds since the machine started, a host that shares the database may write; 0 for one that
    /// does not share it.
    until: AtomicU64,
    turns: OnceLock<Turns>,
}

/// How transactions of a host begin that shares the database.
#[derive(Debug)]
struct Turns {
    write: String,
    own: String,
}

impl Held {
    /// Refuses while the hold is lost.
    pub fn check(&self) -> Result<()> {
        let until = self.0.until.load(Ordering::Acquire);
        let is_over = until > 0 && instant().as_millis() >= u128::from(until);
        if is_over || self.0.lost.load(Ordering::Acquire) { Err(StoreError::Unheld) } else { Ok(()) }
    }

    /// How long this host may still write; `None` for one that does not share its database.
    pub fn left(&self) -> Option<Duration> {
        let until = self.0.until.load(Ordering::Acquire);
        (until > 0).then(|| {
            let lost = self.0.lost.load(Ordering::Acquire);
            if lost { Duration::ZERO } else { Duration::from_millis(until).saturating_sub(instant()) }
        })
    }

    /// For how long it has not been allowed to any more.
    pub fn over_for(&self) -> Option<Duration> {
        if self.0.lost.load(Ordering::Acquire) {
            return Some(Duration::MAX);
        }
        let until = Duration::from_millis(self.0.until.load(Ordering::Acquire));
        instant().checked_sub(until).filter(|_| !until.is_zero())
    }

    /// How a transaction begins in which one host after another writes.
    pub fn turn(&self) -> Cow<'static, str> {
        self.0.turns.get().map_or(Cow::Borrowed(super::postgres::WRITE), |turns| Cow::Owned(turns.write.clone()))
    }

    /// How one begins that writes what nobody else does.
    pub fn own(&self) -> Cow<'static, str> {
        self.0.turns.get().map_or(Cow::Borrowed(super::postgres::WRITE), |turns| Cow::Owned(turns.own.clone()))
    }

    /// Whether the database is shared.
    pub fn is_shared(&self) -> bool {
        self.0.turns.get().is_some()
    }

    /// The host shares the database from now on, and may write until then.
    pub fn join(&self, host: Uuid, run: Uuid, until: Duration) {
        // Ids of ours: nothing in them is anything else in SQL.
        let of = |function: &str| format!("begin; select {function}('{host}', '{run}')");
        let _ = self.0.turns.set(Turns { write: of("omni_turn"), own: of("omni_own") });
        self.prolong(Some(until));
    }

    /// It may write for longer, or no more.
    pub fn prolong(&self, until: Option<Duration>) {
        match until {
            Some(until) => {
                let millis = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
                self.0.until.fetch_max(millis, Ordering::AcqRel);
            }
            None => self.set(false),
        }
    }

    pub fn set(&self, held: bool) {
        self.0.lost.store(!held, Ordering::Release);
    }
}

/// How long ago the machine was started, times at which it slept included: what nobody can set.
pub(super) fn instant() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// The hold on a database; dropped, it is let go. On SQLite there is nothing to hold.
#[derive(Debug)]
pub struct Hold(Option<Holder>);

#[derive(Debug)]
struct Holder {
    connection: PgConnection,
    address: Address,
    held: Held,
    mark: String,
}

impl Store {
    /// Takes hold of the database for this host, which others see by `name`; refused while another has it.
    pub async fn hold(&self, name: &str, now: Time) -> Result<Hold> {
        let Pools::Postgres { address, held, .. } = &*self.pools else { return Ok(Hold(None)) };
        let address = address.named(name);
        let mut connection = address.connect().await?;
        take_soon(&mut connection).await?;
        let mark = self.new_id(now).to_string();
        leave_mark(&mut connection, self.new_id(now), &mark, now).await?;
        Ok(Hold(Some(Holder { connection, address, held: held.clone(), mark })))
    }
}

impl Hold {
    /// Looks after the hold until it is to be let go. A lost one is taken again; returns before when that is not possible,
    /// because somebody else has the database, or had it in between.
    pub async fn keep(mut self, stop: CancellationToken) {
        let Some(holder) = &mut self.0 else { return stop.cancelled().await };
        if stop.run_until_cancelled(holder.keep()).await.is_none() {
            self.release().await;
        }
    }

    /// Lets go, so that the next one finds it free.
    pub async fn release(self) {
        let Some(Holder { mut connection, .. }) = self.0 else { return };
        // The server does it by itself when the connection is gone, a little later.
        let let_go = sqlx::query("select pg_advisory_unlock($1, $2)").bind(LOCK.0).bind(LOCK.1);
        let _ = let_go.execute(&mut connection).await;
        let _ = connection.close().await;
    }
}

impl Holder {
    async fn keep(&mut self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(Ok(())) = tokio::time::timeout(PATIENCE, self.connection.ping()).await {
                continue;
            }
            self.held.set(false);
            tracing::warn!(
                "the connection that holds the database was lost; nothing is written until it is held again"
            );
            loop {
                match self.take_again().await {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) if matches!(error, StoreError::Database(_)) && error.is_outage() => {
                        tracing::debug!(error = error.explain(), "failed to take hold of the database again");
                    }
                    Err(error) => {
                        tracing::error!(error = error.explain(), "the hold on the database is lost for good");
                        return;
                    }
                }
                ticks.tick().await;
            }
            self.held.set(true);
            tracing::info!("the database is held again; nobody else had it in between");
        }
    }

    /// Tries to take the lock once more. `false` when it is not free yet, although nobody else has been here: the server
    /// has not missed our own connection so far. An error when somebody else has the database, or had it.
    async fn take_again(&mut self) -> Result<bool> {
        let mut connection = self.address.connect().await?;
        let taken = take(&mut connection).await?;
        let mark: Option<Option<String>> = sqlx::query_scalar("select value from global_settings where key = $1")
            .bind(MARK)
            .fetch_optional(&mut connection)
            .await?;
        if mark.flatten().as_deref() != Some(&self.mark) {
            let holder = if taken { None } else { holder(&mut connection).await? };
            let holder = in_words(holder);
            return Err(StoreError::Taken(format!("another host has taken the database over, {holder}")));
        }
        if taken {
            self.connection = connection;
        }
        Ok(taken)
    }
}

/// Takes the lock for as long as the connection lives, or says who has it.
pub(super) async fn take_soon(connection: &mut PgConnection) -> Result<()> {
    lock_soon(connection, "select pg_try_advisory_lock($1, $2)").await
}

/// Takes a share of the lock, which others may have beside this host, or says who has it alone.
pub(super) async fn share_soon(connection: &mut PgConnection) -> Result<()> {
    lock_soon(connection, "select pg_try_advisory_lock_shared($1, $2)").await
}

async fn lock_soon(connection: &mut PgConnection, lock: &'static str) -> Result<()> {
    let mut ticks = tokio::time::interval(EVERY);
    // One that has just ended may not be missed yet.
    for _ in 0..=TRIES {
        ticks.tick().await;
        if sqlx::query_scalar(lock).bind(LOCK.0).bind(LOCK.1).fetch_one(&mut *connection).await? {
            return Ok(());
        }
    }
    let holder = in_words(holder(connection).await?);
    Err(StoreError::Taken(format!(
        "the database is in use by another host, {holder}; stop that one, or give this one a database of its own"
    )))
}

/// Takes the lock, for as long as the connection lives; `false` when it is not free.
async fn take(connection: &mut PgConnection) -> Result<bool> {
    Ok(sqlx::query_scalar("select pg_try_advisory_lock($1, $2)")
        .bind(LOCK.0)
        .bind(LOCK.1)
        .fetch_one(connection)
        .await?)
}

fn in_words(holder: Option<String>) -> String {
    holder.unwrap_or_else(|| "which is gone again".into())
}

/// Who has the lock, in words; nobody when it is free.
pub(super) async fn holder(connection: &mut PgConnection) -> Result<Option<String>> {
    let found: Option<Option<String>> = sqlx::query_scalar(
        "select coalesce(nullif(a.application_name, ''), 'without a name')
           || coalesce(' from ' || host(a.client_addr), '') || ', since '
           || to_char(a.backend_start at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS \"UTC\"')
         from pg_locks l join pg_stat_activity a on a.pid = l.pid
         where l.locktype = 'advisory' and l.granted and l.classid = $1 and l.objid = $2 and l.objsubid = 2
           and l.database = (select oid from pg_database where datname = current_database())",
    )
    .bind(Oid(LOCK.0.cast_unsigned()))
    .bind(Oid(LOCK.1.cast_unsigned()))
    .fetch_optional(connection)
    .await?;
    Ok(found.flatten())
}

/// Says who holds the database from now on.
async fn leave_mark(connection: &mut PgConnection, id: Uuid, mark: &str, now: Time) -> Result<()> {
    sqlx::query(
        "insert into global_settings (id, key, value, value_type, category, created_at, updated_at)
         values ($1, $2, $3, 'string', 'database', $4, $4)
         on conflict (key) do update set value = excluded.value, updated_at = excluded.updated_at",
    )
    .bind(id)
    .bind(MARK)
    .bind(mark)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
