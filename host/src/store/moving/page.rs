//! Rows as Postgres has them on the wire (`copy … format binary`): how many columns, and each with its length before it.
//!
//! Both databases' rows become this, so that two are the same when their bytes are.

use super::{CopyError, Table};
use crate::store::Time;
use crate::store::bulk::Column;
use serde::de::IgnoredAny;
use sqlx::postgres::PgRow;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteRow, SqliteValueRef};
use sqlx::{Database, Decode, Encode, Row, Sqlite, Type, TypeInfo, ValueRef};
use std::fmt;
use uuid::Uuid;

/// What stands before the rows of a copy, and behind them.
pub(super) const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
pub(super) const TAIL: &[u8] = &(-1_i16).to_be_bytes();

/// Some rows of one table, in the order of their keys.
#[derive(Debug, Default)]
pub struct Page {
    /// One behind the other.
    pub bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<usize>,
}

/// A part of a primary key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Id(Uuid),
    Int(i64),
    Text(String),
}

/// A primary key. Keys of one table sort as both databases sort them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key(Vec<Part>);

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Int(number) => number.fmt(f),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = self.0.iter().map(Part::to_string).collect();
        write!(f, "({})", parts.join(", "))
    }
}

/// Binds the parts of the key behind which rows are read.
pub(super) fn bind_key<'q, DB: Database>(
    mut query: Query<'q, DB, DB::Arguments>,
    behind: Option<&'q Key>,
) -> Query<'q, DB, DB::Arguments>
where
    Uuid: Encode<'q, DB> + Type<DB>,
    i64: Encode<'q, DB> + Type<DB>,
    &'q str: Encode<'q, DB> + Type<DB>,
{
    for part in behind.into_iter().flat_map(|key| &key.0) {
        query = match part {
            Part::Id(id) => query.bind(*id),
            Part::Int(number) => query.bind(*number),
            Part::Text(text) => query.bind(text.as_str()),
        };
    }
    query
}

impl Key {
    /// As it is kept at a checkpoint.
    pub(super) fn to_words(&self) -> Vec<String> {
        let words = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            other => other.to_string(),
        };
        self.0.iter().map(words).collect()
    }

    /// Reads it back.
    pub(super) fn from_words(table: &Table, words: &[String]) -> Option<Self> {
        if words.len() != table.key.len() {
            return None;
        }
        let parts = words.iter().zip(&table.key).map(|(word, at)| match table.columns[*at].1 {
            Column::Id => word.parse().ok().map(Part::Id),
            Column::Int => word.parse().ok().map(Part::Int),
            _ => Some(Part::Text(word.clone())),
        });
        parts.collect::<Option<_>>().map(Self)
    }
}

impl Page {
    /// How many rows it has.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// One of the rows.
    pub fn row(&self, at: usize) -> Option<&[u8]> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.bytes[start..end])
    }

    /// The key of one of the rows.
    pub fn key(&self, table: &Table, at: usize) -> Option<Key> {
        let fields: Vec<Option<&[u8]>> = fields(self.row(at)?).collect();
        let part = |at: &usize| {
            let bytes = fields.get(*at).copied().flatten()?;
            match table.columns[*at].1 {
                Column::Id => Uuid::from_slice(bytes).ok().map(Part::Id),
                Column::Int => Some(Part::Int(i64::from_be_bytes(bytes.try_into().ok()?))),
                _ => Some(Part::Text(String::from_utf8_lossy(bytes).into_owned())),
            }
        };
        table.key.iter().map(part).collect::<Option<_>>().map(Key)
    }

    /// The key of the last row.
    pub fn last_key(&self, table: &Table) -> Option<Key> {
        self.key(table, self.len().checked_sub(1)?)
    }

    /// The first column in which two rows are not the same.
    pub fn first_difference<'t>(table: &'t Table, one: &[u8], other: &[u8]) -> Option<&'t str> {
        let differs = fields(one).zip(fields(other)).position(|(one, other)| one != other)?;
        table.columns.get(differs).map(|(name, _)| name.as_str())
    }

    fn begin_row(&mut self, table: &Table) {
        // A table has a handful of columns.
        let columns = i16::try_from(table.columns.len()).unwrap_or(i16::MAX);
        self.bytes.extend_from_slice(&columns.to_be_bytes());
    }

    fn end_row(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn push(&mut self, value: Option<&[u8]>) -> Result<(), String> {
        let Some(bytes) = value else {
            self.bytes.extend_from_slice(&(-1_i32).to_be_bytes());
            return Ok(());
        };
        let length = i32::try_from(bytes.len()).map_err(|_| "has more than 2 GiB".to_owned())?;
        self.bytes.extend_from_slice(&length.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes a row of Postgres, which has it in this form already.
    pub(super) fn take_postgres(&mut self, table: &Table, row: &PgRow) -> Result<(), sqlx::Error> {
        self.begin_row(table);
        for at in 0..table.columns.len() {
            let value = row.try_get_raw(at)?;
            let bytes = if value.is_null() { None } else { Some(value.as_bytes().map_err(sqlx::Error::Decode)?) };
            self.push(bytes).map_err(sqlx::Error::Protocol)?;
        }
        self.end_row();
        Ok(())
    }

    /// Takes a row of SQLite, if Postgres can hold it.
    pub(super) fn take_sqlite(&mut self, table: &Table, row: &SqliteRow) -> Result<(), CopyError> {
        let start = self.bytes.len();
        self.begin_row(table);
        let mut refused = None;
        for (at, (name, column)) in table.columns.iter().enumerate() {
            if let Err(reason) = self.take_value(*column, row.try_get_raw(at)?) {
                refused.get_or_insert(format!("{name} {reason}"));
                // The row is written to its end, since its key says which one it is.
                self.push(None).unwrap_or_default();
            }
        }
        self.end_row();
        let Some(reason) = refused else { return Ok(()) };
        let key = self.last_key(table).map_or_else(|| "without a key".to_owned(), |key| key.to_string());
        self.ends.pop();
        self.bytes.truncate(start);
        Err(CopyError::Row { table: table.name, key, reason })
    }

    fn take_value(&mut self, column: Column, value: SqliteValueRef<'_>) -> Result<(), String> {
        if value.is_null() {
            return self.push(None);
        }
        let found = value.type_info().name().to_owned();
        let number = |value| <i64 as Decode<'_, Sqlite>>::decode(value).map_err(|error| error.to_string());
        let bytes = |value| <&[u8] as Decode<'_, Sqlite>>::decode(value).map_err(|error| error.to_string());
        match (column, found.as_str()) {
            (Column::Int, "INTEGER") => self.push(Some(&number(value)?.to_be_bytes())),
            (Column::Time, "INTEGER") => self.push(Some(&Time(number(value)?).since_2000().to_be_bytes())),
            (Column::Bool, "INTEGER") => match number(value)? {
                truth @ (0 | 1) => self.push(Some(&[u8::from(truth == 1)])),
                other => Err(format!("is {other}, and neither 0 nor 1")),
            },
            (Column::Id, "BLOB") => match bytes(value)? {
                id if id.len() == 16 => self.push(Some(id)),
                other => Err(format!("has {} bytes, and an id has 16", other.len())),
            },
            (Column::Bytes, "BLOB" | "TEXT") => self.push(Some(bytes(value)?)),
            (Column::Text, "TEXT") => self.push(Some(text(bytes(value)?)?)),
            (Column::Json, "TEXT") => {
                let text = text(bytes(value)?)?;
                if let Err(error) = serde_json::from_slice::<IgnoredAny>(text) {
                    return Err(format!("is no JSON: {error}"));
                }
                self.push(Some(text))
            }
            (wanted, found) => Err(format!("holds {found}, and {wanted:?} is expected")),
        }
    }
}

/// Text that Postgres takes.
fn text(bytes: &[u8]) -> Result<&[u8], String> {
    if bytes.contains(&0) {
        return Err("has a NUL character in it, which Postgres does not take in text".into());
    }
    match std::str::from_utf8(bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("is no UTF-8 text: {error}")),
    }
}

/// The values of a row.
fn fields(row: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = row.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<4>()?;
        match usize::try_from(i32::from_be_bytes(*length)) {
            Err(_) => {
                rest = behind;
                Some(None)
            }
            Ok(length) => {
                let (value, behind) = behind.split_at_checked(length)?;
                rest = behind;
                Some(Some(value))
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let columns = [("id", Column::Id), ("seq", Column::Int), ("key", Column::Text), ("said", Column::Json)];
        let columns = columns.map(|(name, column)| (name.to_owned(), column)).to_vec();
        Table { name: "t", columns, key: vec![2, 0, 1], counter: None }
    }

    fn page(rows: &[(Uuid, i64, &str, Option<&str>)]) -> Page {
        let mut page = Page::default();
        for (id, seq, key, said) in rows {
            page.begin_row(&table());
            page.push(Some(id.as_bytes())).expect("fits");
            page.push(Some(&seq.to_be_bytes())).expect("fits");
            page.push(Some(key.as_bytes())).expect("fits");
            page.push(said.map(str::as_bytes)).expect("fits");
            page.end_row();
        }
        page
    }

    #[test]
    fn a_key_is_read_from_its_row_and_back_from_a_checkpoint() {
        let id = Uuid::from_u128(7);
        let page = page(&[(id, 1, "a", None), (id, -3, "é \"x\"", Some("{}"))]);
        let key = page.last_key(&table()).expect("a key");
        assert_eq!(key, Key(vec![Part::Text("é \"x\"".into()), Part::Id(id), Part::Int(-3)]));
        assert_eq!(key.to_string(), r#"("é \"x\"", 00000000-0000-0000-0000-000000000007, -3)"#);
        assert_eq!(Key::from_words(&table(), &key.to_words()), Some(key));
        assert_eq!(Key::from_words(&table(), &["a".into()]), None);
    }

    #[test]
    fn two_rows_differ_in_a_column_by_its_name() {
        let id = Uuid::from_u128(7);
        let page = page(&[(id, 1, "a", None), (id, 1, "a", Some("null")), (id, 2, "a", None)]);
        let differs = |one, other| {
            Page::first_difference(&table(), page.row(one).expect("a row"), page.row(other).expect("a row"))
                .map(str::to_owned)
        };
        assert_eq!(differs(0, 0), None);
        assert_eq!(differs(0, 1).as_deref(), Some("said"));
        assert_eq!(differs(0, 2).as_deref(), Some("seq"));
        assert_eq!(page.row(3), None);
    }
}
