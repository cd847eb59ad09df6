//! Which tables are copied when an installation moves, held against both schemas.

use super::both::{Database, bare_database, both, options};
use crate::store::moving::{LEFT, TABLES};
use crate::store::{Store, on};
use std::collections::BTreeSet;

async fn texts(store: &Store, sql: &'static str) -> Vec<(String, String)> {
    let mut tx = store.read().await.expect("reads");
    on!(&mut tx, conn => sqlx::query_as(sql).fetch_all(conn).await).expect(sql)
}

async fn every_table_is_copied_or_left_on_purpose() {
    let database = Database::new().await;
    let store = database.open().await;
    let query = database.pick(
        "select name, '' from sqlite_master where type = 'table' and name not like 'sqlite%'",
        "select cast(tablename as text), '' from pg_tables where schemaname = current_schema()",
    );
    let found: BTreeSet<String> = texts(&store, query).await.into_iter().map(|(name, _)| name).collect();
    let counted = database.pick(Some("sequences"), None);
    let known = TABLES.into_iter().chain(LEFT).filter(|table| Some(*table) != counted);
    let known: BTreeSet<String> = known.map(str::to_owned).collect();
    assert_eq!(found, known, "a new table is listed in `store::moving`: it moves along, or it is left, and says why");
}

async fn a_table_is_copied_behind_those_that_it_refers_to() {
    let database = Database::new().await;
    let store = database.open().await;
    let query = database.pick(
        "select m.name, f.\"table\" from sqlite_master m, pragma_foreign_key_list(m.name) f where m.type = 'table'",
        "select cast(cast(conrelid as regclass) as text), cast(cast(confrelid as regclass) as text)
         from pg_constraint where contype = 'f' and connamespace = cast(current_schema() as regnamespace)",
    );
    let references = texts(&store, query).await;
    assert!(references.len() > 10, "{references:?}");
    let place =
        |name: &str| TABLES.iter().position(|table| *table == name).unwrap_or_else(|| panic!("{name} is copied"));
    // What is left refers to nothing that moves.
    for (from, to) in references.into_iter().filter(|(from, _)| !LEFT.contains(&from.as_str())) {
        assert!(place(&to) < place(&from), "{from} refers to {to}");
    }
}

/// What Postgres counts by itself is set behind the copy; a counter of another kind would be forgotten.
#[tokio::test]
async fn every_counter_of_postgres_is_one_that_is_known() {
    let Some(url) = bare_database().await else { return };
    let store = Store::open_postgres(&url, options()).await.expect("opens");
    let query = "select cast(c.relname as text), coalesce(cast(cast(d.refobjid as regclass) as text), '')
         from pg_class c left join pg_depend d on d.objid = c.oid and d.deptype = 'i' and d.classid = cast('pg_class' as regclass)
         where c.relkind = 'S' and c.relnamespace = cast(current_schema() as regnamespace)";
    for (sequence, table) in texts(&store, query).await {
        if sequence == "people_moved" {
            // It only has to rise, for hosts that run.
            continue;
        }
        assert!(TABLES.contains(&table.as_str()), "{sequence} belongs to an identity column of {table:?}");
    }
    let numbers = texts(&store, "select name, '' from sequences").await;
    assert_eq!(numbers, [("omni_events".to_owned(), String::new())], "`Target::finish` sets each of them");
    store.close().await;
}

both!(every_table_is_copied_or_left_on_purpose, a_table_is_copied_behind_those_that_it_refers_to);
