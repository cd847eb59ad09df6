//! The file that is copied. Nothing is written to it, and it is read from one snapshot.

use super::page::bind_key;
use super::{CopyError, Key, Page, Table};
use crate::store::{Result, StoreError};
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Bytes with which a page ends.
const MOST_BYTES: usize = 8 << 20;

/// An open file.
#[derive(Debug)]
pub struct Source {
    connection: SqliteConnection,
}

impl Source {
    /// Opens it for reading, as it is now.
    pub async fn open(file: &Path) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .read_only(true)
            .busy_timeout(Duration::from_secs(30))
            // Large values come whole, and the system's cache is behind it.
            .pragma("cache_size", "-16384");
        let mut connection = options.connect().await?;
        sqlx::query("begin").execute(&mut connection).await?;
        Ok(Self { connection })
    }

    /// Closes it.
    pub async fn close(self) -> Result<()> {
        Ok(self.connection.close().await?)
    }

    /// Whether a table has the columns that are to be copied and no others.
    pub async fn check(&mut self, table: &Table) -> Result<()> {
        let query = "select name from pragma_table_xinfo($1) where hidden = 0";
        let found: Vec<String> = sqlx::query_scalar(query).bind(table.name).fetch_all(&mut self.connection).await?;
        let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
        let wanted: BTreeSet<&str> = table.columns.iter().map(|(name, _)| name.as_str()).collect();
        if found == wanted {
            return Ok(());
        }
        let odd: Vec<&&str> = found.symmetric_difference(&wanted).collect();
        Err(StoreError::Unfit(format!(
            "the table {} is not the same in both databases: {odd:?} is in one of them only; were tables changed by hand?",
            table.name
        )))
    }

    /// How many rows a table has.
    pub async fn count(&mut self, table: &str) -> Result<u64> {
        let query = AssertSqlSafe(format!("select count(*) from {table}"));
        let count: i64 = sqlx::query_scalar(query).fetch_one(&mut self.connection).await?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// The last number that was given to a row of a table, also when that row is gone; 0 when none was.
    pub async fn newest_number(&mut self, table: &Table, column: &str) -> Result<i64> {
        let query = format!(
            "select max(coalesce((select seq from sqlite_sequence where name = $1), 0),
                        coalesce((select max({column}) from {}), 0))",
            table.name
        );
        Ok(sqlx::query_scalar(AssertSqlSafe(query)).bind(table.name).fetch_one(&mut self.connection).await?)
    }

    /// Reads rows behind a key; none when there are no more.
    pub async fn read(&mut self, table: &Table, behind: Option<&Key>, rows: u32) -> Result<Page, CopyError> {
        let mut page = Page::default();
        let query = sqlx::query(AssertSqlSafe(table.page_query(behind.is_some())));
        let mut found = bind_key(query, behind).bind(i64::from(rows)).fetch(&mut self.connection);
        while let Some(row) = found.try_next().await? {
            page.take_sqlite(table, &row)?;
            if page.bytes.len() >= MOST_BYTES {
                break;
            }
        }
        Ok(page)
    }
}
