//! Running a statement that answers with nothing but how many rows it touched: the databases say so in types of their own.

use sqlx::query::Query;
use sqlx::{IntoArguments, PgConnection, Postgres, Sqlite, SqliteConnection};

/// Runs a statement.
pub(crate) trait Run<C> {
    /// How many rows it touched.
    fn run(self, connection: &mut C) -> impl Future<Output = sqlx::Result<u64>> + Send;
}

impl<A: IntoArguments<Sqlite> + Send> Run<SqliteConnection> for Query<'_, Sqlite, A> {
    async fn run(self, connection: &mut SqliteConnection) -> sqlx::Result<u64> {
        Ok(self.execute(connection).await?.rows_affected())
    }
}

impl<A: IntoArguments<Postgres> + Send> Run<PgConnection> for Query<'_, Postgres, A> {
    async fn run(self, connection: &mut PgConnection) -> sqlx::Result<u64> {
        Ok(self.execute(connection).await?.rows_affected())
    }
}
