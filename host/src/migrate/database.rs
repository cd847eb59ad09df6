//! Rows of other programs' databases, as JSON, from one snapshot that nobody can write in.

use super::{Result, shown, unreadable};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Column, Connection, Row, TypeInfo, ValueRef};
use std::str::FromStr;

const NO_TLS: &str = "the server takes the password over TLS only, and TLS is off, here (`ssl-mode`) or there; or what \
                      `ssl-cert` and `ssl-key` name is no good";

/// An open database, in a transaction that only reads.
pub struct Database {
    place: String,
    connection: Kind,
}

enum Kind {
    Postgres(PgConnection),
    MySql(MySqlConnection),
    Sqlite(SqliteConnection),
}

/// A table.
#[derive(Clone, Debug)]
pub struct Table {
    schema: String,
    /// Its name.
    pub name: String,
}

/// A name as SQL takes it, whatever is in it.
fn quoted(name: &str, mark: char) -> String {
    format!("{mark}{}{mark}", name.replace(mark, &format!("{mark}{mark}")))
}

impl Database {
    /// Opens an address, or a file of SQLite.
    pub async fn open(address: &str) -> Result<Self> {
        let place = shown(address);
        let failed = |error: sqlx::Error| unreadable(&place, in_words(&error));
        let connection = if address.starts_with("postgres") {
            let options = PgConnectOptions::from_str(address).map_err(failed)?.application_name("omni migrate");
            let mut connection = PgConnection::connect_with(&options).await.map_err(failed)?;
            run(sqlx::raw_sql("begin transaction isolation level repeatable read, read only")
                .execute(&mut connection)
                .await)
            .map_err(failed)?;
            Kind::Postgres(connection)
        } else if address.starts_with("mysql") || address.starts_with("mariadb") {
            let options = MySqlConnectOptions::from_str(&address.replacen("mariadb", "mysql", 1)).map_err(failed)?;
            let mut connection = MySqlConnection::connect_with(&options).await.map_err(|error| match error {
                // The address could be read. A password that MySQL wants encrypted is only sent over TLS: RSA is left out.
                sqlx::Error::Configuration(_) => unreadable(&place, NO_TLS),
                error => failed(error),
            })?;
            for statement in [
                "set session transaction isolation level repeatable read",
                "start transaction with consistent snapshot, read only",
            ] {
                run(sqlx::raw_sql(statement).execute(&mut connection).await).map_err(failed)?;
            }
            Kind::MySql(connection)
        } else {
            let file = address.trim_start_matches("sqlite://").trim_start_matches("sqlite:");
            let options = SqliteConnectOptions::new().filename(file).read_only(true);
            let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
            run(sqlx::raw_sql("begin").execute(&mut connection).await).map_err(failed)?;
            Kind::Sqlite(connection)
        };
        Ok(Self { place, connection })
    }

    /// The tables there are.
    pub async fn tables(&mut self) -> Result<Vec<Table>> {
        let found: Result<Vec<(String, String)>, sqlx::Error> = match &mut self.connection {
            Kind::Postgres(connection) => {
                let query = "select table_schema::text, table_name::text from information_schema.tables
                    where table_schema not in ('pg_catalog', 'information_schema')
                    order by table_schema <> 'public', table_schema, table_name";
                sqlx::query_as(query).fetch_all(connection).await
            }
            Kind::MySql(connection) => {
                let query = "select cast(table_schema as char), cast(table_name as char) from information_schema.tables
                    where table_schema = database() order by table_name";
                sqlx::query_as(query).fetch_all(connection).await
            }
            Kind::Sqlite(connection) => {
                let query = "select 'main', name from sqlite_master where type = 'table' order by name";
                sqlx::query_as(query).fetch_all(connection).await
            }
        };
        let found = found.map_err(|error| unreadable(&self.place, in_words(&error)))?;
        Ok(found.into_iter().map(|(schema, name)| Table { schema, name }).collect())
    }

    /// All rows of a table. For tables that have one for each account.
    pub async fn rows(&mut self, table: &Table) -> Result<Vec<Value>> {
        let rows = match &mut self.connection {
            Kind::Postgres(connection) => {
                let name = format!("{}.{}", quoted(&table.schema, '"'), quoted(&table.name, '"'));
                let query = AssertSqlSafe(format!("select row_to_json(t)::text from {name} t"));
                let rows: Result<Vec<String>, _> = sqlx::query_scalar(query).fetch_all(connection).await;
                rows.and_then(|rows| rows.iter().map(|row| parsed(row)).collect())
            }
            Kind::MySql(connection) => in_mysql(connection, table).await,
            Kind::Sqlite(connection) => {
                let query = AssertSqlSafe(format!("select * from {}", quoted(&table.name, '"')));
                sqlx::query(query).fetch_all(connection).await.map(|rows| rows.iter().map(as_json).collect())
            }
        };
        rows.map_err(|error| unreadable(&self.place, in_words(&error)))
    }

    /// Ends the transaction and the connection.
    pub async fn close(self) {
        // Nothing was written; what is wrong with the goodbye harms nobody.
        let _ = match self.connection {
            Kind::Postgres(connection) => connection.close().await,
            Kind::MySql(connection) => connection.close().await,
            Kind::Sqlite(connection) => connection.close().await,
        };
    }
}

fn run<T>(done: Result<T, sqlx::Error>) -> Result<(), sqlx::Error> {
    done.map(drop)
}

/// What a database says, without what may hold an address.
fn in_words(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(_) => "its address is not one that can be used".into(),
        error => error.to_string(),
    }
}

fn parsed<T: DeserializeOwned>(row: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(row).map_err(|error| sqlx::Error::Decode(error.into()))
}

async fn in_mysql(connection: &mut MySqlConnection, table: &Table) -> Result<Vec<Value>, sqlx::Error> {
    let query = "select cast(column_name as char) from information_schema.columns
        where table_schema = database() and table_name = ? order by ordinal_position";
    let columns: Vec<String> = sqlx::query_scalar(query).bind(&table.name).fetch_all(&mut *connection).await?;
    // The values alone: MySQL sorts the keys of an object, and what a backslash in a name does is a setting of the server.
    let names: Vec<String> = columns.iter().map(|column| quoted(column, '`')).collect();
    let query = format!("select cast(json_array({}) as char) from {}", names.join(", "), quoted(&table.name, '`'));
    let rows: Vec<String> = sqlx::query_scalar(AssertSqlSafe(query)).fetch_all(connection).await?;
    rows.iter().map(|row| Ok(columns.iter().cloned().zip(parsed::<Vec<Value>>(row)?).collect())).collect()
}

/// A row of SQLite, whose columns may hold anything.
fn as_json(row: &SqliteRow) -> Value {
    let mut fields = Map::new();
    for (at, column) in row.columns().iter().enumerate() {
        let kind = row.try_get_raw(at).map(|value| value.type_info().name().to_owned()).unwrap_or_default();
        let value = match kind.as_str() {
            "NULL" => Value::Null,
            "INTEGER" | "BOOLEAN" => row.try_get_unchecked::<i64, _>(at).map(Value::from).unwrap_or_default(),
            "REAL" => row.try_get_unchecked::<f64, _>(at).map(Value::from).unwrap_or_default(),
            _ => row.try_get_unchecked::<String, _>(at).map(Value::from).unwrap_or_default(),
        };
        fields.insert(column.name().to_owned(), value);
    }
    Value::Object(fields)
}
