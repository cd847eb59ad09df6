//! Why the store could not do what it was asked, and who acts next.

use sqlx::postgres::PgDatabaseError;

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or is away; the source says which.
    #[error("failed to use the database")]
    Database(#[from] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("failed to bring the database schema up to date")]
    Migrate(#[source] sqlx::migrate::MigrateError),
    /// The schema is one that a newer program made.
    #[error(
        "the database is at step {found} of its schema, and this program knows steps up to {known}: it was used by a \
         newer version of Omni; start that one, or restore the backup from before"
    )]
    Newer {
        /// The step of the database.
        found: i64,
        /// The newest that this program knows.
        known: i64,
    },
    /// The database is none that the store can be kept in; the sentence says why, and what to do.
    #[error("{0}")]
    Unfit(String),
    /// Another host uses the database; the sentence says which.
    #[error("{0}")]
    Taken(String),
    /// This host has lost its hold on the database, and writes nothing until it has it again.
    #[error("the hold on the database was lost; nothing is written until it is taken again")]
    Unheld,
    /// A row holds what this program cannot read.
    #[error("failed to read {table}.{column} of row {id}: {reason}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's id.
        id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A unique value is already taken.
    #[error("{0} already exists")]
    Conflict(String),
}

impl StoreError {
    /// Whether the database itself is away, full or at odds with itself (a lost connection, no space, a deadlock, locked
    /// for too long), as against having refused this one statement: nothing that was asked of it now would have worked,
    /// and later the same may.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                match error.try_downcast_ref::<PgDatabaseError>() {
                    Some(_) => is_postgres_outage(&code),
                    None => is_sqlite_outage(&code),
                }
            }
            Self::Database(error) => {
                matches!(
                    error,
                    sqlx::Error::Io(_)
                        | sqlx::Error::Tls(_)
                        // A connection that broke off in the middle of an answer.
                        | sqlx::Error::Protocol(_)
                        | sqlx::Error::PoolTimedOut
                        | sqlx::Error::PoolClosed
                        | sqlx::Error::WorkerCrashed
                        | sqlx::Error::BeginFailed
                )
            }
            Self::Migrate(_) | Self::Newer { .. } | Self::Unfit(_) | Self::Taken(_) | Self::Unheld => true,
            Self::Inconsistent { .. } | Self::Conflict(_) => false,
        }
    }

    /// The sentence with its causes, for people.
    pub fn explain(&self) -> String {
        let mut sentence = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            sentence.push_str(": ");
            sentence.push_str(&cause.to_string());
            source = cause.source();
        }
        sentence
    }
}

/// SQLite's primary codes, in the low byte: busy, locked, nomem, readonly, ioerr, corrupt, full, cantopen.
fn is_sqlite_outage(code: &str) -> bool {
    let code = code.parse::<i32>().unwrap_or(0) & 0xff;
    matches!(code, 5 | 6 | 7 | 8 | 10 | 11 | 13 | 14)
}

/// Postgres's classes of SQLSTATE, of which the first two characters are the class.
fn is_postgres_outage(code: &str) -> bool {
    const CLASSES: [&str; 7] = [
        "08", // the connection
        "28", // not let in
        "3D", // no such database
        "40", // serialization, deadlock: taken back, to be done again
        "53", // no memory, no space, too many connections
        "58", // the system under it
        "XX", // itself
    ];
    const CODES: [&str; 4] = [
        "25006", // read only: a standby, or one that is being moved
        "55P03", // locked for too long
        "57014", // cancelled, by the time limit or by hand
        "57P04", // the database was dropped
    ];
    CLASSES.iter().any(|class| code.starts_with(class)) || CODES.contains(&code) || is_ending(code)
}

/// The server ends, has crashed, or does not let anybody in yet.
pub(super) fn is_ending(code: &str) -> bool {
    matches!(code, "57P01" | "57P02" | "57P03" | "57P05")
}

/// Says of a schema that is newer than this program that it is, and not that a file is missing.
pub(super) fn migrate_error(error: sqlx::migrate::MigrateError, known: i64) -> StoreError {
    match error {
        sqlx::migrate::MigrateError::VersionMissing(found) if found > known => StoreError::Newer { found, known },
        sqlx::migrate::MigrateError::VersionTooNew(found, _) => StoreError::Newer { found, known },
        error => StoreError::Migrate(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_heals_by_itself_is_told_from_what_was_refused() {
        for code in [
            "08006", "28P01", "40001", "40P01", "53100", "53300", "55P03", "57014", "57P01", "57P02", "57P03", "58030",
            "XX000",
        ] {
            assert!(is_postgres_outage(code), "{code}");
        }
        for code in ["22021", "23505", "23503", "42P01", "22P02", "P0001", ""] {
            assert!(!is_postgres_outage(code), "{code}");
        }
        for code in ["5", "6", "13", "2570", "517"] {
            assert!(is_sqlite_outage(code), "{code}");
        }
        for code in ["1", "19", "2067", "20"] {
            assert!(!is_sqlite_outage(code), "{code}");
        }
    }
}
