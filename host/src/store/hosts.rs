//! Hosts that share a database: who there is, what each has taken over, and the turn in which each of them writes.
//!
//! Every transaction that writes begins with a question to the database (`omni_turn`, in the schema): it waits until no
//! other host writes, and is refused once its host was taken over. So whatever a host believes, one that was paused or cut
//! off writes nothing behind the back of its successor; and nobody need fear what another host writes between reading and
//! writing, as on one machine. Times are the server's: no host's clock matters.
//!
//! Deliberately not here: when a host is taken for dead, and what it takes. That is `crate::hosts`.

use super::hold::Held;
use super::postgres::Address;
use super::{Json, Pools, Result, Store, StoreError, Time, Tx, TxKind, fault, on};
use sqlx::{Connection, FromRow, PgConnection};
use std::time::Duration;
use uuid::Uuid;

/// The name of the lease of what one host does for all.
pub const WORK: &str = "work";
/// What begins the name of the lease of an instance.
const INSTANCE: &str = "instance:";
/// The lock that a takeover waits for, behind whoever writes beside others. Its numbers are in the schema, too.
const OWN: (i32, i32) = (0x6f6d_6e69, 3);

/// The lock of whoever joins, for as long as that takes.
const JOIN: (i32, i32) = (0x6f6d_6e69, 4);
/// How long one may stand still while it joins before others go on without it.
const STANDS_STILL: Duration = Duration::from_secs(20);

/// The setting with the mark that lies in the folder of files as well, which all hosts are to see.
const MEDIA_MARK: &str = "data.media_mark";
/// The name of an instance's lease.
pub fn lease_of(instance: Uuid) -> String {
    format!("{INSTANCE}{instance}")
}

/// The instance that a lease of this name is about.
pub fn instance_of(lease: &str) -> Option<Uuid> {
    lease.strip_prefix(INSTANCE)?.parse().ok()
}

/// A host that wants to share a database.
#[derive(Clone, Debug)]
pub struct NewHost {
    /// Its id, which it keeps from run to run.
    pub id: Uuid,
    /// The machine's name and the process, for people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// How long what it holds is its own after it was last seen.
    pub ends: Duration,
}

/// A host that is about to share a database. Nobody sees it yet, and nobody else joins until it has, or this is dropped.
#[derive(Debug)]
pub struct Joining {
    host: NewHost,
    connection: PgConnection,
    address: Address,
    held: Held,
    run: Uuid,
    mark_id: Uuid,
    /// The names of other hosts that live.
    pub others: Vec<String>,
    /// The mark of the folder of files, when there is one.
    pub mark: Option<String>,
}

/// A host that shares a database, with the connection on which it says that it lives.
#[derive(Debug)]
pub struct Member {
    id: Uuid,
    run: Uuid,
    address: Address,
    held: Held,
    ends: Duration,
    connection: Option<PgConnection>,
}

/// A host, as others see it.
#[derive(Clone, Debug, FromRow)]
pub struct HostRow {
    /// Its id.
    pub id: Uuid,
    /// This run of it.
    pub session_id: Uuid,
    /// Its name, for people.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The channels that it has plugins for.
    pub channels: Json<Vec<String>>,
    /// Since when it runs.
    pub started_at: Time,
    /// When it was last seen, by the server's clock.
    pub seen_at: Time,
    /// How long ago that was.
    pub silent_ms: i64,
    /// Whether it is stopping and takes nothing more.
    pub is_leaving: bool,
}

/// Who has what.
#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct LeaseRow {
    /// What.
    pub name: String,
    /// Who.
    pub host_id: Uuid,
    /// Since when.
    pub taken_at: Time,
}

impl LeaseRow {
    /// The instance that it is about.
    pub fn instance(&self) -> Option<Uuid> {
        instance_of(&self.name)
    }
}

/// Everything that hosts decide by.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// All hosts, by id.
    pub hosts: Vec<HostRow>,
    /// Who has what.
    pub leases: Vec<LeaseRow>,
    /// The instances that are to run, with their channels, by id.
    pub active: Vec<(Uuid, String)>,
}

impl Store {
    /// Begins to make this host one of those that share the database; refused while one uses it alone. Others that have been
    /// silent for as long as `gone` says are not counted.
    pub async fn join(&self, host: NewHost, gone: Duration, now: Time) -> Result<Joining> {
        let Pools::Postgres { address, held, .. } = &*self.pools else {
            return Err(StoreError::Unfit("several hosts need a database in Postgres".into()));
        };
        let address = address.named(&host.name);
        let mut connection = address.connect().await?;
        super::hold::share_soon(&mut connection).await?;
        sqlx::query("begin").execute(&mut connection).await?;
        sqlx::query("select set_config('idle_in_transaction_session_timeout', $1, true)")
            .bind(STANDS_STILL.as_millis().to_string())
            .execute(&mut connection)
            .await?;
        sqlx::query("select pg_advisory_xact_lock($1, $2)").bind(JOIN.0).bind(JOIN.1).execute(&mut connection).await?;
        let others = sqlx::query_scalar(
            "select name from hosts
             where id <> $1 and seen_at > clock_timestamp() - $2 * interval '1 millisecond' order by name",
        )
        .bind(host.id)
        .bind(i64::try_from(gone.as_millis()).unwrap_or(i64::MAX))
        .fetch_all(&mut connection)
        .await?;
        let mark: Option<Option<String>> = sqlx::query_scalar("select value from global_settings where key = $1")
            .bind(MEDIA_MARK)
            .fetch_optional(&mut connection)
            .await?;
        let (run, mark_id) = (self.new_id(now), self.new_id(now));
        let (held, mark) = (held.clone(), mark.flatten());
        Ok(Joining { host, connection, address, held, run, mark_id, others, mark })
    }

    /// Who there is, who has what, and what is to run.
    pub async fn view(&self) -> Result<View> {
        let mut tx = self.read().await?;
        let silent = tx.pick("0", "cast(extract(epoch from clock_timestamp() - seen_at) * 1000 as bigint)");
        let query = format!(
            "select id, session_id, name, version, channels, started_at, seen_at, {silent} as silent_ms, is_leaving
             from hosts order by id"
        );
        let hosts = on!(&mut tx, conn => sqlx::query_as(sqlx::AssertSqlSafe(query)).fetch_all(conn).await)?;
        let query = "select name, host_id, taken_at from leases order by name";
        let leases = on!(&mut tx, conn => sqlx::query_as(query).fetch_all(conn).await)?;
        let query = "select id, channel from instances where is_active order by id";
        let active = on!(&mut tx, conn => sqlx::query_as(query).fetch_all(conn).await)?;
        Ok(View { hosts, leases, active })
    }

    /// Takes what nobody has, and says what of it is this host's now. Hosts of `dead` that have been silent for as long as
    /// `silent` says are no more, and what they had is free.
    pub async fn take(&self, me: Uuid, names: &[String], dead: &[Uuid], silent: Duration) -> Result<Vec<String>> {
        let mut tx = self.begin().await?;
        let TxKind::Postgres(conn) = &mut tx.kind else { return Ok(Vec::new()) };
        if !dead.is_empty() {
            // Whoever writes beside others has come to an end before; whoever begins later is refused.
            sqlx::query("select pg_advisory_xact_lock($1, $2)").bind(OWN.0).bind(OWN.1).execute(&mut **conn).await?;
            let millis = i64::try_from(silent.as_millis()).unwrap_or(i64::MAX);
            let gone: Vec<(String,)> = sqlx::query_as(
                "delete from hosts where id = any($1)
                   and seen_at < clock_timestamp() - $2 * interval '1 millisecond' returning name",
            )
            .bind(dead)
            .bind(millis)
            .fetch_all(&mut **conn)
            .await?;
            for (name,) in gone {
                tracing::warn!(host.name = name, "a host has not been seen for {millis} ms and is taken over");
            }
        }
        let taken: Vec<(String,)> = sqlx::query_as(
            "insert into leases (name, host_id, taken_at)
             select name, $2, clock_timestamp() from unnest($1) as wanted (name)
             on conflict (name) do nothing returning name",
        )
        .bind(names)
        .bind(me)
        .fetch_all(&mut **conn)
        .await?;
        fault!("hosts.take.before");
        tx.commit().await?;
        fault!("hosts.take.after");
        Ok(taken.into_iter().map(|(name,)| name).collect())
    }

    /// Lets go of what this host has.
    pub async fn give(&self, me: Uuid, names: &[String]) -> Result<()> {
        let mut tx = self.begin().await?;
        if let TxKind::Postgres(conn) = &mut tx.kind {
            let query = "delete from leases where host_id = $1 and name = any($2)";
            sqlx::query(query).bind(me).bind(names).execute(&mut **conn).await?;
        }
        fault!("hosts.give.before");
        tx.commit().await?;
        fault!("hosts.give.after");
        Ok(())
    }

    /// Says which channels this host has plugins for, and whether it is stopping.
    pub async fn describe(&self, me: Uuid, channels: &[String], is_leaving: bool) -> Result<()> {
        let mut tx = self.begin().await?;
        if let TxKind::Postgres(conn) = &mut tx.kind {
            let query = "update hosts set channels = $2, is_leaving = $3 where id = $1";
            sqlx::query(query).bind(me).bind(Json(channels)).bind(is_leaving).execute(&mut **conn).await?;
        }
        tx.commit().await
    }
}

impl Joining {
    /// Makes it one of them, and the folder's mark another one if it says so. What this host had when it last ran it still
    /// has, unless it was taken over.
    pub async fn go_on(self, mark: Option<&str>, now: Time) -> Result<Member> {
        let Self { host, mut connection, address, held, run, mark_id, .. } = self;
        let began = super::hold::instant();
        sqlx::query(
            "insert into hosts (id, session_id, name, version, started_at, seen_at)
             values ($1, $2, $3, $4, clock_timestamp(), clock_timestamp())
             on conflict (id) do update set session_id = excluded.session_id, name = excluded.name,
               version = excluded.version, channels = '[]', started_at = excluded.started_at,
               seen_at = excluded.seen_at, is_leaving = false",
        )
        .bind(host.id)
        .bind(run)
        .bind(&host.name)
        .bind(&host.version)
        .execute(&mut connection)
        .await?;
        if let Some(mark) = mark {
            sqlx::query(
                "insert into global_settings (id, key, value, value_type, category, created_at, updated_at)
                 values ($1, $2, $3, 'string', 'data', $4, $4)
                 on conflict (key) do update set value = excluded.value, updated_at = excluded.updated_at",
            )
            .bind(mark_id)
            .bind(MEDIA_MARK)
            .bind(mark)
            .bind(now)
            .execute(&mut connection)
            .await?;
        }
        sqlx::query("commit").execute(&mut connection).await?;
        held.join(host.id, run, began + host.ends);
        Ok(Member { id: host.id, run, address, held, ends: host.ends, connection: Some(connection) })
    }
}

impl Member {
    /// Changes for how long each time counts.
    #[cfg(test)]
    pub(crate) fn lasts(&mut self, ends: Duration) {
        self.ends = ends;
    }

    /// Says that this host lives, on a new connection when the last one broke. `false` when it does not any more: it was
    /// taken over, and whatever it had is somebody else's.
    pub async fn beat(&mut self) -> Result<bool> {
        let began = super::hold::instant();
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let mut connection = self.address.connect().await?;
                super::hold::share_soon(&mut connection).await?;
                connection
            }
        };
        // A connection that fails, or that nobody waits for any more, is not kept.
        let beaten = sqlx::query("update hosts set seen_at = clock_timestamp() where id = $1 and session_id = $2")
            .bind(self.id)
            .bind(self.run)
            .execute(&mut connection)
            .await?;
        self.connection = Some(connection);
        let lives = beaten.rows_affected() == 1;
        self.held.prolong(lives.then(|| began + self.ends));
        Ok(lives)
    }

    /// Ends this host's share: what it had is free at once.
    pub async fn leave(mut self) -> Result<()> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.address.connect().await?,
        };
        sqlx::query("delete from hosts where id = $1 and session_id = $2")
            .bind(self.id)
            .bind(self.run)
            .execute(&mut connection)
            .await?;
        self.held.prolong(None);
        connection.close().await?;
        Ok(())
    }
}

/// How often accounts got other persons by hand, on any host.
pub(super) async fn people_moved(tx: &mut Tx) -> Result<i64> {
    match &mut tx.kind {
        TxKind::Sqlite(_) => Ok(0),
        TxKind::Postgres(conn) => {
            Ok(sqlx::query_scalar("select last_value from people_moved").fetch_one(&mut **conn).await?)
        }
    }
}

/// Says so, for the next transaction that writes, on whichever host.
pub(super) async fn people_move(tx: &mut Tx) -> Result<()> {
    if let TxKind::Postgres(conn) = &mut tx.kind {
        sqlx::query("select nextval('people_moved')").execute(&mut **conn).await?;
    }
    Ok(())
}
