//! Many rows in one statement.
//!
//! On SQLite a row costs 1.3 µs when it is bound to `?` of a multi-row `values`, and twice that through `json_each`;
//! sqlx looks every `$n` up by its name, which is quadratic here. Statements come in a few sizes so that each is
//! prepared once. On Postgres the same functions will bind one array a column to `unnest`.

use super::{Result, StoreError, Tx, on};
use futures_util::future::join;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Arguments, AssertSqlSafe};
use std::sync::Arc;

/// Rows of one statement, largest first; the last is 1, so that every number of rows can be made up of them. Each
/// statement is a turn of the writer's thread, so the steps are small: two or three make up nearly every number.
const SIZES: [usize; 16] = [256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1];

/// A statement around a list of rows, prepared in each size.
pub(crate) struct Bulk([Arc<str>; SIZES.len()]);

/// Writes out a statement for every size: `head (?,?),(?,?) tail`.
fn texts(head: &str, columns: usize, tail: &str) -> [Arc<str>; SIZES.len()] {
    SIZES.map(|rows| {
        let row = format!("({})", vec!["?"; columns].join(","));
        Arc::from(format!("{head} {} {tail}", vec![row; rows].join(",")))
    })
}

impl Bulk {
    /// `head` ends in `values`, or opens a subquery that does and that `tail` closes.
    pub fn new(head: &str, columns: usize, tail: &str) -> Self {
        Self(texts(head, columns, tail))
    }
}

/// The values of one statement as they are gathered.
pub(crate) struct Binder {
    arguments: SqliteArguments,
    words: Vec<(&'static str, Arc<str>)>,
    failed: Option<sqlx::Error>,
}

impl Binder {
    /// The next column of the row.
    pub fn bind<'q, T>(&mut self, value: T) -> &mut Self
    where
        T: sqlx::Encode<'q, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        if let Err(error) = self.arguments.add(value) {
            self.failed.get_or_insert(sqlx::Error::Encode(error));
        }
        self
    }
}

impl Binder {
    /// The next column of the row, one of a few words of our own. Every other text costs two allocations, which are freed
    /// on another thread; a word costs none after its first row.
    pub fn word(&mut self, word: &'static str) -> &mut Self {
        let known = self.words.iter().find(|(known, _)| std::ptr::eq(*known, word));
        let shared = match known {
            Some((_, shared)) => Arc::clone(shared),
            None => {
                let shared: Arc<str> = Arc::from(word);
                self.words.push((word, Arc::clone(&shared)));
                shared
            }
        };
        self.bind(shared)
    }
}

/// Cuts rows into pieces for which there is a statement.
fn pieces<R>(rows: &[R]) -> impl Iterator<Item = (usize, &[R])> {
    let mut rest = rows;
    std::iter::from_fn(move || {
        let size = SIZES.iter().position(|size| *size <= rest.len())?;
        let (piece, others) = rest.split_at(SIZES[size]);
        rest = others;
        Some((size, piece))
    })
}

/// Runs a statement over all rows, and says how many it touched. In a transaction that records, it is only noted down,
/// and touches none.
pub(crate) async fn execute<R>(tx: &mut Tx, bulk: &Bulk, rows: &[R], bind: impl Fn(&mut Binder, &R)) -> Result<u64> {
    let mut statements = pieces(rows).map(|(size, piece)| {
        let arguments = bound(piece, &bind)?;
        Ok::<_, StoreError>(Statement { text: Arc::clone(&bulk.0[size]), arguments })
    });
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

/// A statement with its values.
pub(crate) struct Statement {
    text: Arc<str>,
    arguments: SqliteArguments,
}

impl Statement {
    /// Runs it, and says how many rows it touched.
    pub async fn execute(self, tx: &mut Tx) -> Result<u64> {
        let Self { text, arguments } = self;
        let text = AssertSqlSafe(text);
        let done = on!(tx, conn => sqlx::query_with(text, arguments).execute(conn).await)?;
        Ok(done.rows_affected())
    }
}

/// Runs a query over all keys and gathers what it finds.
pub(crate) async fn fetch<R, T>(tx: &mut Tx, bulk: &Bulk, keys: &[R], bind: impl Fn(&mut Binder, &R)) -> Result<Vec<T>>
where
    T: for<'r> sqlx::FromRow<'r, SqliteRow> + Send + Unpin,
{
    let mut found = Vec::new();
    for (size, piece) in pieces(keys) {
        let arguments = bound(piece, &bind)?;
        let text = AssertSqlSafe(Arc::clone(&bulk.0[size]));
        found.extend(on!(tx, conn => sqlx::query_as_with(text, arguments).fetch_all(conn).await)?);
    }
    Ok(found)
}

fn bound<R>(rows: &[R], bind: impl Fn(&mut Binder, &R)) -> Result<SqliteArguments> {
    let mut binder = Binder { arguments: SqliteArguments::default(), words: Vec::new(), failed: None };
    for row in rows {
        bind(&mut binder, row);
    }
    match binder.failed {
        Some(error) => Err(error.into()),
        None => Ok(binder.arguments),
    }
}
