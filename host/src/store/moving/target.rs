//! The database that is copied into. One connection holds it and writes to it, so that a lost hold is the end of the copy.

use super::page::{HEAD, TAIL, bind_key};
use super::{CopyError, Key, LEFT, Page, TABLES, Table};
use crate::store::error::migrate_error;
use crate::store::ids::Ids;
use crate::store::postgres::{Address, newest_schema};
use crate::store::{Json, Pools, Result, Store, StoreError, Time, fault};
use futures_util::TryStreamExt;
use sqlx::postgres::PgDatabaseError;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Transaction};

/// Tables that are named when a database is refused because of what is in it.
const NAMED: usize = 8;

/// A database that is held.
#[derive(Debug)]
pub struct Target {
    connection: PgConnection,
}

/// A copy, as the database tells of it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Move {
    /// The check value of the key of the installation that is copied.
    pub key_check: String,
    /// Of its file.
    pub fingerprint: String,
    /// When it was begun.
    pub started_at: Time,
    /// When it was done.
    pub finished_at: Option<Time>,
}

/// What is in a database.
#[derive(Clone, Debug)]
pub enum Found {
    /// Nothing, or our tables without a row.
    Empty,
    /// A copy.
    Move(Move),
    /// Something else; in words.
    Else(String),
}

#[derive(sqlx::FromRow)]
struct Checkpoint {
    last_key: Option<Json<Vec<String>>>,
    copied: i64,
    is_whole: bool,
}

/// How far a table is.
#[derive(Clone, Debug, Default)]
pub struct Copied {
    /// The key of the last row that is there.
    pub last: Option<Key>,
    /// Rows.
    pub rows: u64,
    /// Whether there are no more.
    pub is_whole: bool,
}

impl Target {
    /// Connects to a database and takes hold of it, as hosts do; they see who by `name`.
    pub async fn open(url: &str, name: &str) -> Result<Self> {
        let mut connection = Address::read(url)?.named(name).connect().await?;
        crate::store::postgres::look(&mut connection).await?.check()?;
        crate::store::hold::take_soon(&mut connection).await?;
        // A plan for a page holds for all of them.
        for setting in ["set jit = off", "set plan_cache_mode = force_generic_plan", "set lock_timeout = '10s'"] {
            sqlx::query(setting).execute(&mut connection).await?;
        }
        Ok(Self { connection })
    }

    /// Lets go of it.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close().await?)
    }

    async fn ask<T>(&mut self, query: String) -> Result<T>
    where
        T: Send + Unpin + sqlx::Type<Postgres> + for<'r> sqlx::Decode<'r, Postgres>,
    {
        Ok(sqlx::query_scalar(AssertSqlSafe(query)).fetch_one(&mut self.connection).await?)
    }

    /// Looks at what is in it. Changes nothing.
    pub async fn look(&mut self) -> Result<Found> {
        let query = "select cast(relname as text) from pg_class
             where relnamespace = (select oid from pg_namespace where nspname = current_schema())
               and relkind in ('r', 'p', 'v', 'm', 'f') order by relname";
        let there: Vec<String> = sqlx::query_scalar(query).fetch_all(&mut self.connection).await?;
        let is_there = |table: &str| there.iter().any(|name| name == table);
        let strange: Vec<&str> = there
            .iter()
            .map(String::as_str)
            .filter(|name| !is_there("_sqlx_migrations") || !(TABLES.contains(name) || LEFT.contains(name)))
            .take(NAMED)
            .collect();
        if !strange.is_empty() {
            return Ok(Found::Else(format!("tables that are none of ours ({})", strange.join(", "))));
        }
        if is_there("store_moves") {
            let query = "select key_check, fingerprint, started_at, finished_at from store_moves";
            if let Some(found) = sqlx::query_as(query).fetch_optional(&mut self.connection).await? {
                return Ok(Found::Move(found));
            }
        }
        let mut full = Vec::new();
        for table in TABLES.into_iter().filter(|table| is_there(table)) {
            let count: i64 = self.ask(format!("select count(*) from (select 1 from {table} limit 1000) _")).await?;
            if count > 0 {
                let more = if count == 1_000 { " or more" } else { "" };
                full.push(format!("{count}{more} in {table}"));
            }
        }
        Ok(match full.is_empty() {
            true => Found::Empty,
            false => Found::Else(format!("an installation of its own (rows: {})", full.join(", "))),
        })
    }

    /// Brings the schema up to date.
    pub async fn migrate(&mut self) -> Result<()> {
        migrate(&mut self.connection).await
    }

    /// What the tables are made of. The schema must be there.
    pub async fn tables(&mut self) -> Result<Vec<Table>> {
        tables(&mut self.connection).await
    }

    /// What the tables would be made of if the schema were brought up to date, which is taken back at once.
    pub async fn tables_to_be(&mut self) -> Result<Vec<Table>> {
        let mut tx = self.connection.begin().await?;
        migrate(&mut tx).await?;
        let tables = tables(&mut tx).await?;
        tx.rollback().await?;
        Ok(tables)
    }

    /// Writes down that a copy is begun.
    pub async fn begin_move(&mut self, key_check: &str, fingerprint: &str, now: Time) -> Result<()> {
        let query = "insert into store_moves (id, key_check, fingerprint, started_at) values ($1, $2, $3, $4)";
        let id = Ids::default().next(now);
        sqlx::query(query).bind(id).bind(key_check).bind(fingerprint).bind(now).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Takes away everything that was copied, and the word of it.
    pub async fn forget_move(&mut self) -> Result<()> {
        let tables: Vec<&str> = TABLES.into_iter().chain(["store_moves", "store_move_tables"]).collect();
        // Those that exist: an older program may have begun the copy.
        self.migrate().await?;
        let query = format!("truncate {}", tables.join(", "));
        sqlx::query(AssertSqlSafe(query)).execute(&mut self.connection).await?;
        Ok(())
    }

    /// How far a table is.
    pub async fn copied(&mut self, table: &Table) -> Result<Copied> {
        let query = "select last_key, copied, is_whole from store_move_tables where table_name = $1";
        let found: Option<Checkpoint> =
            sqlx::query_as(query).bind(table.name).fetch_optional(&mut self.connection).await?;
        let Some(found) = found else { return Ok(Copied::default()) };
        let last = match found.last_key {
            None => None,
            Some(Json(words)) => Some(Key::from_words(table, &words).ok_or_else(|| StoreError::Inconsistent {
                table: "store_move_tables",
                column: "last_key",
                id: table.name.to_owned(),
                reason: format!("{words:?} is no key of that table"),
            })?),
        };
        Ok(Copied { last, rows: u64::try_from(found.copied).unwrap_or(0), is_whole: found.is_whole })
    }

    /// Writes a page and how far the table is with it, both or neither.
    pub async fn write(&mut self, table: &Table, page: &Page, copied: &Copied) -> Result<(), CopyError> {
        let mut tx = self.connection.begin().await?;
        let written = copy(&mut tx, table, page).await;
        if let Err(error) = written {
            tx.rollback().await.unwrap_or_default();
            return Err(refused(table, page, error));
        }
        let words = copied.last.as_ref().map(|key| Json(key.to_words()));
        sqlx::query(
            "insert into store_move_tables (table_name, last_key, copied, is_whole) values ($1, $2, $3, $4)
             on conflict (table_name) do update
               set last_key = excluded.last_key, copied = excluded.copied, is_whole = excluded.is_whole",
        )
        .bind(table.name)
        .bind(words)
        .bind(i64::try_from(copied.rows).unwrap_or(i64::MAX))
        .bind(copied.is_whole)
        .execute(&mut *tx)
        .await?;
        before_commit()?;
        tx.commit().await?;
        after_commit()?;
        Ok(())
    }

    /// Says in the database's own statistics what is in a table now, so that it is read in the best way.
    pub async fn analyze(&mut self, table: &Table) -> Result<()> {
        sqlx::query(AssertSqlSafe(format!("analyze {}", table.name))).execute(&mut self.connection).await?;
        Ok(())
    }

    /// Reads rows behind a key; none when there are no more.
    pub async fn read(&mut self, table: &Table, behind: Option<&Key>, rows: usize) -> Result<Page> {
        let mut page = Page::default();
        let query = sqlx::query(AssertSqlSafe(table.page_query(behind.is_some())));
        let rows = i64::try_from(rows).unwrap_or(i64::MAX);
        let mut found = bind_key(query, behind).bind(rows).fetch(&mut self.connection);
        while let Some(row) = found.try_next().await? {
            page.take_postgres(table, &row)?;
        }
        Ok(page)
    }

    /// Sets what the database counts by itself behind what was copied, and writes down that the copy is done. `events` is
    /// the newest number of an event.
    pub async fn finish(&mut self, numbers: &[(&Table, &str, i64)], events: i64, now: Time) -> Result<()> {
        let mut tx = self.connection.begin().await?;
        for (table, column, newest) in numbers.iter().filter(|(_, _, newest)| *newest > 0) {
            let query = "select setval(cast(pg_get_serial_sequence($1, $2) as regclass), $3)";
            sqlx::query(query).bind(table.name).bind(column).bind(newest).execute(&mut *tx).await?;
        }
        let query = "insert into sequences (name, seq) values ('omni_events', $1)
             on conflict (name) do update set seq = greatest(sequences.seq, excluded.seq)";
        sqlx::query(query).bind(events).execute(&mut *tx).await?;
        sqlx::query("update store_moves set finished_at = $1").bind(now).execute(&mut *tx).await?;
        before_commit()?;
        tx.commit().await?;
        after_commit()
    }
}

async fn migrate(connection: &mut PgConnection) -> Result<()> {
    let steps = sqlx::migrate!("../migrations/postgres");
    steps.run(connection).await.map_err(|error| migrate_error(error, newest_schema()))
}

async fn tables(connection: &mut PgConnection) -> Result<Vec<Table>> {
    let mut tables = Vec::with_capacity(TABLES.len());
    for name in TABLES {
        tables.push(Table::of(connection, name).await?);
    }
    Ok(tables)
}

async fn copy(tx: &mut Transaction<'_, Postgres>, table: &Table, page: &Page) -> sqlx::Result<()> {
    if page.is_empty() {
        return Ok(());
    }
    let statement = format!("copy {} ({}) from stdin (format binary)", table.name, table.names());
    let mut copy = tx.copy_in_raw(&statement).await?;
    for piece in [HEAD, &page.bytes, TAIL] {
        copy.send(piece).await?;
    }
    copy.finish().await?;
    Ok(())
}

/// Says of which row Postgres speaks: "COPY messages, line 3, column content".
fn refused(table: &Table, page: &Page, error: sqlx::Error) -> CopyError {
    let error = StoreError::from(error);
    let found = match &error {
        StoreError::Database(sqlx::Error::Database(found)) if !error.is_outage() => {
            found.try_downcast_ref::<PgDatabaseError>()
        }
        _ => None,
    };
    let Some(found) = found else { return error.into() };
    let mut reason = found.message().to_owned();
    // Of a key it tells which one; of anything else it may show what people wrote.
    if let Some(detail) =
        found.detail().filter(|_| found.constraint().is_some() && matches!(found.code(), "23503" | "23505"))
    {
        reason = format!("{reason}: {detail}");
    }
    let line = found.r#where().and_then(|place| {
        let rest = place.split_once(", line ")?.1;
        rest.split(|c: char| !c.is_ascii_digit()).next()?.parse::<usize>().ok()
    });
    match line.and_then(|line| page.key(table, line.checked_sub(1)?)) {
        Some(key) => CopyError::Row { table: table.name, key: key.to_string(), reason },
        None => CopyError::Refused { table: table.name, reason },
    }
}

fn before_commit() -> Result<()> {
    fault!("move.commit.before");
    Ok(())
}

fn after_commit() -> Result<()> {
    fault!("move.commit.after");
    Ok(())
}

/// Whether a database holds a copy that is not finished: no host may use it.
pub async fn is_unfinished(store: &Store) -> Result<bool> {
    let Pools::Postgres { .. } = &*store.pools else { return Ok(false) };
    let mut tx = store.read().await?;
    let query = "select count(*) from store_moves where finished_at is null";
    let count: i64 = crate::store::on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await)?;
    Ok(count > 0)
}
