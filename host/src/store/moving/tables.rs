//! What a table is made of, as the catalogue of the target has it.

use crate::store::bulk::Column;
use crate::store::{Result, StoreError};
use sqlx::PgConnection;

/// A table that is copied.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// What is copied of it: names and types.
    pub(super) columns: Vec<(String, Column)>,
    /// The places of its primary key's columns.
    pub(super) key: Vec<usize>,
    /// The column that Postgres counts by itself.
    pub counter: Option<String>,
}

#[derive(sqlx::FromRow)]
struct Row {
    name: String,
    r#type: String,
    key_place: Option<i64>,
    is_counter: bool,
}

impl Table {
    /// Asks what a table is made of. What is worked out from other columns is none of it.
    pub async fn of(connection: &mut PgConnection, name: &'static str) -> Result<Self> {
        let rows: Vec<Row> = sqlx::query_as(
            "select cast(a.attname as text) as name,
               case t.typname when 'bool' then 'boolean' when 'int8' then 'bigint' else cast(t.typname as text) end as type,
               cast(array_position(cast(i.indkey as int2[]), a.attnum) as bigint) as key_place,
               a.attidentity <> '' as is_counter
             from pg_attribute a join pg_type t on t.oid = a.atttypid
               left join pg_index i on i.indrelid = a.attrelid and i.indisprimary
             where a.attrelid = to_regclass($1) and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
             order by a.attnum",
        )
        .bind(name)
        .fetch_all(connection)
        .await?;
        let unfit = |what: &str| StoreError::Unfit(format!("the table {name} of the target {what}"));
        let mut key: Vec<(i64, usize)> =
            rows.iter().enumerate().filter_map(|(at, row)| Some((row.key_place?, at))).collect();
        if key.is_empty() {
            return Err(unfit("is missing, or has no primary key"));
        }
        key.sort_unstable();
        let counter = rows.iter().find(|row| row.is_counter).map(|row| row.name.clone());
        let columns = rows.into_iter().map(|row| {
            let column = Column::find(&row.r#type).ok_or_else(|| {
                unfit(&format!("has a column {} of the type {}, which is none of ours", row.name, row.r#type))
            });
            Ok((row.name, column?))
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Self { name, columns, key: key.into_iter().map(|(_, at)| at).collect(), counter })
    }

    /// The names of its columns.
    pub fn names(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        names.join(", ")
    }

    /// Reads a page: behind a key, whose parts are the first parameters, when there is one. The last parameter is how many
    /// rows.
    pub(super) fn page_query(&self, is_behind: bool) -> String {
        let key: Vec<&str> = self.key.iter().map(|at| self.columns[*at].0.as_str()).collect();
        let (names, name, key_list) = (self.names(), self.name, key.join(", "));
        let parameters: Vec<String> = (1..=key.len()).map(|number| format!("${number}")).collect();
        let (behind, limit) = match is_behind {
            true => (format!("where ({key_list}) > ({})", parameters.join(", ")), key.len() + 1),
            false => (String::new(), 1),
        };
        format!("select {names} from {name} {behind} order by {key_list} limit ${limit}")
    }
}
