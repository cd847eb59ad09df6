//! The schema, and who may use a database: what two hosts do that come at once, and what a program does that is too old.

use super::both::{bare_database, options};
use crate::store::hold::LOCK;
use crate::store::{Run, Store, StoreError, Time, on};
use tokio_util::sync::CancellationToken;

/// Says in a database that a newer program has been there.
async fn as_a_newer_one_leaves_it(store: &Store) {
    let mut tx = store.begin().await.expect("begins");
    let query = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
        values (9999, 'from the future', true, $1, 0)";
    on!(&mut tx, conn => sqlx::query(query).bind(&b"x"[..]).run(conn).await).expect("a step");
    tx.commit().await.expect("commits");
}

async fn a_schema_that_is_newer_than_the_program_is_refused_in_words() {
    let database = super::Database::new().await;
    let store = database.open().await;
    as_a_newer_one_leaves_it(&store).await;
    store.close().await;
    let error = database.try_open().await.expect_err("is refused");
    assert!(matches!(error, StoreError::Newer { found: 9_999, .. }), "{error:?}");
    assert!(error.explain().contains("used by a newer version of Omni"), "{}", error.explain());
}

#[tokio::test]
async fn of_two_hosts_that_make_the_schema_at_once_one_waits() {
    let Some(url) = bare_database().await else { return };
    let open = || Store::open_postgres(&url, options());
    let (one, two) = futures_util::future::join(open(), open()).await;
    let (one, two) = (one.expect("opens"), two.expect("opens"));
    let steps = "select count(*) from _sqlx_migrations";
    let mut tx = two.read().await.expect("reads");
    let applied: i64 = on!(&mut tx, conn => sqlx::query_scalar(steps).fetch_one(conn).await).expect("counts");
    let steps = std::fs::read_dir("../migrations/postgres").expect("the steps").count();
    assert_eq!(applied, i64::try_from(steps).expect("few"));
    drop(tx);
    one.close().await;
    two.close().await;
}

#[tokio::test]
async fn a_second_host_is_told_who_has_the_database() {
    let Some(url) = bare_database().await else { return };
    let first = Store::open_postgres(&url, options()).await.expect("opens");
    let second = Store::open_postgres(&url, options()).await.expect("opens");
    let hold = first.hold("omni on mars (process 7)", Time(1)).await.expect("is free");
    let error = second.hold("omni on venus (process 9)", Time(2)).await.expect_err("is taken");
    assert!(error.to_string().contains("in use by another host, omni on mars (process 7), since "), "{error}");
    hold.release().await;
    second.hold("omni on venus (process 9)", Time(3)).await.expect("is free again").release().await;
}

#[tokio::test]
async fn a_lost_hold_is_taken_again_and_meanwhile_nothing_is_written() {
    let Some(url) = bare_database().await else { return };
    let store = Store::open_postgres(&url, options()).await.expect("opens");
    let other = Store::open_postgres(&url, options()).await.expect("opens");
    let hold = store.hold("mars", Time(1)).await.expect("is free");
    let keeping = tokio::spawn(hold.keep(CancellationToken::new()));
    // Somebody waits in line, and so has the lock first: else it could be taken again before anybody sees that it was lost.
    let mut line = other.read().await.expect("reads");
    let lock = "select pg_advisory_xact_lock($1, $2)";
    let stand =
        async { on!(&mut line, conn => sqlx::query(lock).bind(LOCK.0).bind(LOCK.1).run(conn).await).expect("locks") };
    let end = async {
        until(async || is_waited_for(&other).await).await;
        end_connections(&other, "mars").await;
    };
    futures_util::future::join(stand, end).await;
    // It finds out by itself, stops, and goes on.
    until(async || matches!(store.begin().await, Err(StoreError::Unheld))).await;
    drop(line);
    until(async || store.begin().await.is_ok()).await;
    assert!(!keeping.is_finished());

    // When somebody else comes in between, that is the end of it.
    let mut tx = other.begin().await.expect("begins");
    let query = "update global_settings set value = 'another' where key = 'database.holder'";
    on!(&mut tx, conn => sqlx::query(query).run(conn).await).expect("leaves a mark");
    tx.commit().await.expect("commits");
    end_connections(&other, "mars").await;
    keeping.await.expect("it returns");
    let error = store.begin().await.expect_err("writes no more");
    assert!(matches!(error, StoreError::Unheld) && error.is_outage(), "{error:?}");
}

/// Whether somebody waits for the lock.
async fn is_waited_for(store: &Store) -> bool {
    let mut tx = store.read().await.expect("reads");
    let query = "select count(*) from pg_locks l join pg_database d on d.oid = l.database
        where l.locktype = 'advisory' and not l.granted and d.datname = current_database()";
    let waiting: i64 = on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await).expect("counts");
    waiting > 0
}

/// Ends the connections of somebody, as an operator or a network would.
async fn end_connections(store: &Store, name: &str) {
    let mut tx = store.read().await.expect("reads");
    let query = "select count(pg_terminate_backend(pid)) from pg_stat_activity
        where application_name = $1 and datname = current_database()";
    let ended: i64 =
        on!(&mut tx, conn => sqlx::query_scalar(query).bind(name).fetch_one(conn).await).expect("ends them");
    assert_eq!(ended, 1, "{name} has one connection");
}

/// Asks until it is so.
async fn until(mut seen: impl AsyncFnMut() -> bool) {
    let mut tick = tokio::time::interval(std::time::Duration::from_millis(5));
    let asking = async {
        while !seen().await {
            tick.tick().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), asking).await.expect("it becomes so");
}

super::both!(a_schema_that_is_newer_than_the_program_is_refused_in_words);
