//! Many rows in one statement, which is written once: `head values tail`, where `values` stands for the rows.
//!
//! On SQLite the rows are bound to `?` of a multi-row `values`: a row costs 1.3 µs so, and twice that through `json_each`;
//! sqlx looks every `$n` up by its name, which is quadratic here. Statements come in a few sizes so that each is prepared
//! once. On Postgres there is one statement for every number of rows, with one array a column: `values` becomes a
//! `select` from `unnest`, whose columns have the names that SQLite gives those of `values`.

use super::{Result, Run, StoreError, Time, Tx, TxKind};
use futures_util::future::join;
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::types::Oid;
use sqlx::postgres::{PgArgumentBuffer, PgArguments, PgRow, PgTypeInfo};
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe, Encode, Postgres, Sqlite, Type};
use std::sync::Arc;
use uuid::Uuid;

/// Rows of one statement, largest first; the last is 1, so that every number of rows can be made up of them. Each
/// statement is a turn of the writer's thread, so the steps are small: two or three make up nearly every number.
const SIZES: [usize; 16] = [256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1];
/// On Postgres a statement takes so many rows at most, and ends behind the row with which it has so many bytes.
const MOST_ROWS: usize = 4_096;
const MOST_BYTES: usize = 8 << 20;

/// What a column holds. SQLite looks at the values themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Bool,
    Bytes,
    Id,
    Int,
    /// Bound as text.
    Json,
    Text,
    Time,
}

impl Column {
    /// By the name of its type in Postgres.
    pub fn find(name: &str) -> Option<Self> {
        Some(match name {
            "boolean" => Self::Bool,
            "bytea" => Self::Bytes,
            "uuid" => Self::Id,
            "bigint" => Self::Int,
            "json" => Self::Json,
            "text" => Self::Text,
            "timestamptz" => Self::Time,
            _ => return None,
        })
    }

    fn named(name: &str) -> Self {
        Self::find(name).unwrap_or_else(|| unreachable!("{name} is no type of a column of ours"))
    }

    /// The name of the type as which it is bound.
    fn name(self) -> &'static str {
        match self {
            Self::Bool => "boolean",
            Self::Bytes => "bytea",
            Self::Id => "uuid",
            Self::Int => "bigint",
            Self::Json | Self::Text => "text",
            Self::Time => "timestamptz",
        }
    }

    /// What Postgres calls its type, and the type of its arrays. They are these in every server.
    fn oids(self) -> (u32, u32) {
        match self {
            Self::Bool => (16, 1_000),
            Self::Bytes => (17, 1_001),
            Self::Id => (2_950, 2_951),
            Self::Int => (20, 1_016),
            Self::Json | Self::Text => (25, 1_009),
            Self::Time => (1_184, 1_185),
        }
    }
}

/// A statement around a list of rows.
pub(crate) struct Bulk {
    columns: Vec<Column>,
    sqlite: [Arc<str>; SIZES.len()],
    postgres: Arc<str>,
}

/// Writes out a statement for every size: `head (?,?),(?,?) tail`.
fn sqlite_texts(head: &str, columns: usize, tail: &str) -> [Arc<str>; SIZES.len()] {
    SIZES.map(|rows| {
        let row = format!("({})", vec!["?"; columns].join(","));
        Arc::from(format!("{head} values {} {tail}", vec![row; rows].join(",")))
    })
}

/// `head select column1, column2::json from unnest($1::uuid[], $2::text[]) as _ (column1, column2) tail`.
fn postgres_text(head: &str, columns: &[Column], tail: &str) -> String {
    let numbered = || columns.iter().zip(1..);
    let list = |parts: Vec<String>| parts.join(", ");
    let selected = numbered().map(|(column, number)| match column {
        Column::Json => format!("column{number}::json as column{number}"),
        _ => format!("column{number}"),
    });
    let arrays = numbered().map(|(column, number)| format!("${number}::{}[]", column.name()));
    let names = numbered().map(|(_, number)| format!("column{number}"));
    format!(
        "{head} select {} from unnest({}) as _ ({}) {tail}",
        list(selected.collect()),
        list(arrays.collect()),
        list(names.collect())
    )
}

impl Bulk {
    /// A statement `head values tail`, with the types of the columns by their names in Postgres. `head` may open a subquery
    /// that `tail` closes, where the columns are called `column1` and so on.
    pub fn new(head: &str, columns: &str, tail: &str) -> Self {
        let columns: Vec<Column> = columns.split_whitespace().map(Column::named).collect();
        Self {
            sqlite: sqlite_texts(head, columns.len(), tail),
            postgres: Arc::from(postgres_text(head, &columns, tail)),
            columns,
        }
    }
}

/// A value of a column, as Postgres has it on the wire.
pub(crate) trait Cell {
    /// Writes it down, unless it is null.
    fn write(&self, to: &mut Vec<u8>) -> IsNull;
}

macro_rules! cell {
    ($type:ty, $value:ident => $bytes:expr) => {
        impl Cell for $type {
            fn write(&self, to: &mut Vec<u8>) -> IsNull {
                let $value = self;
                to.extend_from_slice($bytes);
                IsNull::No
            }
        }
    };
}

cell!(bool, value => &[u8::from(*value)]);
cell!(&[u8], value => value);
cell!(Uuid, value => value.as_bytes());
cell!(i64, value => &value.to_be_bytes());
cell!(&str, value => value.as_bytes());
cell!(Arc<str>, value => value.as_bytes());
cell!(Time, value => &value.since_2000().to_be_bytes());

impl<T: Cell> Cell for Option<T> {
    fn write(&self, to: &mut Vec<u8>) -> IsNull {
        self.as_ref().map_or(IsNull::Yes, |value| value.write(to))
    }
}

/// The values of one column, as an array on the wire.
struct Array {
    column: Column,
    rows: i32,
    has_null: bool,
    values: Vec<u8>,
}

impl Array {
    fn push(&mut self, value: &impl Cell) {
        let at = self.values.len();
        self.values.extend_from_slice(&(-1_i32).to_be_bytes());
        self.rows += 1;
        match value.write(&mut self.values) {
            IsNull::Yes => self.has_null = true,
            IsNull::No => {
                // A row is far smaller than what the wire can say.
                let length = i32::try_from(self.values.len() - at - 4).unwrap_or(i32::MAX);
                self.values[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
        }
    }
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(Column::Text.oids().1))
    }
}

impl Encode<'_, Postgres> for Array {
    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.column.oids().1)))
    }

    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        // One dimension, whether there are nulls, the type, how many, and that they are counted from 1.
        for word in [1, i32::from(self.has_null)] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
        buffer.extend_from_slice(&self.column.oids().0.to_be_bytes());
        for word in [self.rows, 1] {
            buffer.extend_from_slice(&word.to_be_bytes());
        }
        buffer.extend_from_slice(&self.values);
        Ok(IsNull::No)
    }
}

/// The values of one statement as they are gathered.
pub(crate) struct Binder(Gathered);

enum Gathered {
    Sqlite { arguments: SqliteArguments, words: Vec<(&'static str, Arc<str>)>, failed: Option<sqlx::Error> },
    Postgres { arrays: Vec<Array>, next: usize },
}

impl Binder {
    fn sqlite() -> Self {
        Self(Gathered::Sqlite { arguments: SqliteArguments::default(), words: Vec::new(), failed: None })
    }

    fn postgres(columns: &[Column]) -> Self {
        let array = |column: &Column| Array { column: *column, rows: 0, has_null: false, values: Vec::new() };
        Self(Gathered::Postgres { arrays: columns.iter().map(array).collect(), next: 0 })
    }

    /// The next column of the row.
    pub fn bind<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: Encode<'q, Sqlite> + Type<Sqlite> + Cell,
    {
        match &mut self.0 {
            Gathered::Sqlite { arguments, failed, .. } => {
                if let Err(error) = arguments.add(value) {
                    failed.get_or_insert(sqlx::Error::Encode(error));
                }
            }
            Gathered::Postgres { arrays, next } => {
                arrays[*next].push(&value);
                *next = (*next + 1) % arrays.len();
            }
        }
        self
    }

    /// The next column of the row, one of a few words of our own. On SQLite every other text costs two allocations, which
    /// are freed on another thread; a word costs none after its first row.
    pub fn word(&mut self, word: &'static str) -> &mut Self {
        let Gathered::Sqlite { words, .. } = &mut self.0 else { return self.bind(word) };
        let known = words.iter().find(|(known, _)| std::ptr::eq(*known, word));
        let shared = match known {
            Some((_, shared)) => Arc::clone(shared),
            None => {
                let shared: Arc<str> = Arc::from(word);
                words.push((word, Arc::clone(&shared)));
                shared
            }
        };
        self.bind(shared)
    }

    /// How much of a statement on Postgres is gathered.
    fn bytes(&self) -> usize {
        match &self.0 {
            Gathered::Sqlite { .. } => 0,
            Gathered::Postgres { arrays, .. } => arrays.iter().map(|array| array.values.len()).sum(),
        }
    }

    fn arguments(self) -> Result<Values> {
        match self.0 {
            Gathered::Sqlite { failed: Some(error), .. } => Err(error.into()),
            Gathered::Sqlite { arguments, .. } => Ok(Values::Sqlite(arguments)),
            Gathered::Postgres { arrays, .. } => {
                let mut arguments = PgArguments::default();
                for array in arrays {
                    arguments.add(array).map_err(sqlx::Error::Encode)?;
                }
                Ok(Values::Postgres(arguments))
            }
        }
    }
}

/// The values of a statement.
enum Values {
    Sqlite(SqliteArguments),
    Postgres(PgArguments),
}

/// A statement with its values.
pub(crate) struct Statement {
    text: Arc<str>,
    values: Values,
}

impl Statement {
    /// Runs it, and says how many rows it touched.
    pub async fn execute(self, tx: &mut Tx) -> Result<u64> {
        let text = AssertSqlSafe(self.text);
        match (&mut tx.kind, self.values) {
            (TxKind::Sqlite(tx), Values::Sqlite(values)) => Ok(sqlx::query_with(text, values).run(&mut **tx).await?),
            (TxKind::Postgres(tx), Values::Postgres(values)) => {
                Ok(sqlx::query_with(text, values).run(&mut **tx).await?)
            }
            _ => Err(elsewhere()),
        }
    }

    /// Runs it, and gathers what it finds.
    async fn fetch<T>(self, tx: &mut Tx) -> Result<Vec<T>>
    where
        T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        let text = AssertSqlSafe(self.text);
        match (&mut tx.kind, self.values) {
            (TxKind::Sqlite(tx), Values::Sqlite(values)) => {
                Ok(sqlx::query_as_with(text, values).fetch_all(&mut **tx).await?)
            }
            (TxKind::Postgres(tx), Values::Postgres(values)) => {
                Ok(sqlx::query_as_with(text, values).fetch_all(&mut **tx).await?)
            }
            _ => Err(elsewhere()),
        }
    }
}

/// What was worked out for one database is not for another.
fn elsewhere() -> StoreError {
    StoreError::Database(sqlx::Error::Protocol("a statement for one database was taken to another".into()))
}

/// Cuts rows into statements.
fn statements<'a, R, B: Fn(&mut Binder, &R)>(
    tx: &Tx,
    bulk: &'a Bulk,
    rows: &'a [R],
    bind: &'a B,
) -> impl Iterator<Item = Result<Statement>> + use<'a, R, B> {
    let on_sqlite = tx.pick(true, false);
    let mut rest = rows;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (text, mut binder, most) = if on_sqlite {
            let size = SIZES.iter().position(|size| *size <= rest.len())?;
            (&bulk.sqlite[size], Binder::sqlite(), SIZES[size])
        } else {
            (&bulk.postgres, Binder::postgres(&bulk.columns), rest.len().min(MOST_ROWS))
        };
        let mut taken = 0;
        while taken < most && binder.bytes() < MOST_BYTES {
            bind(&mut binder, &rest[taken]);
            taken += 1;
        }
        rest = &rest[taken..];
        Some(binder.arguments().map(|values| Statement { text: Arc::clone(text), values }))
    })
}

/// Runs a statement over all rows, and says how many it touched. In a transaction that records, it is only noted down,
/// and touches none.
pub(crate) async fn execute<R>(tx: &mut Tx, bulk: &Bulk, rows: &[R], bind: impl Fn(&mut Binder, &R)) -> Result<u64> {
    let mut statements = statements(tx, bulk, rows, &bind);
    if let Some(recording) = tx.recording() {
        for statement in statements {
            recording.push(statement?);
        }
        return Ok(0);
    }
    let mut touched = 0;
    let mut next = statements.next().transpose()?;
    while let Some(statement) = next {
        // While the database works on one, the values of the next are gathered.
        let (done, following) = join(statement.execute(tx), async { statements.next().transpose() }).await;
        touched += done?;
        next = following?;
    }
    Ok(touched)
}

/// Runs a query over all keys and gathers what it finds.
pub(crate) async fn fetch<R, T>(tx: &mut Tx, bulk: &Bulk, keys: &[R], bind: impl Fn(&mut Binder, &R)) -> Result<Vec<T>>
where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
{
    let mut found = Vec::new();
    for statement in statements(tx, bulk, keys, &bind) {
        found.extend(statement?.fetch(tx).await?);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_becomes_two() {
        let bulk = Bulk::new("update t set a = v.column2 from (", "uuid json", ") v where id = v.column1");
        assert_eq!(
            &*bulk.sqlite[SIZES.len() - 2],
            "update t set a = v.column2 from ( values (?,?),(?,?) ) v where id = v.column1"
        );
        assert_eq!(
            &*bulk.postgres,
            "update t set a = v.column2 from ( select column1, column2::json as column2 \
             from unnest($1::uuid[], $2::text[]) as _ (column1, column2) ) v where id = v.column1"
        );
    }
}
