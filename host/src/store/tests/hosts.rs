//! Hosts that share a database: what one may write, and who has what.

use super::both::{bare_database, options};
use crate::store::hosts::{Member, NewHost, WORK, lease_of};
use crate::store::{Run, Store, StoreError, Time, Tx, on};
use std::time::Duration;
use uuid::Uuid;

const LONG: Duration = Duration::from_secs(3_600);

/// A host with a store of its own on the database.
async fn host(url: &str, name: &str, ends: Duration) -> (Store, Uuid, Member) {
    let store = Store::open_postgres(url, options()).await.expect("opens");
    let id = Uuid::now_v7();
    let new = NewHost { id, name: name.into(), version: "1".into(), ends };
    let joining = store.join(new, LONG, Time(1)).await.expect("may join");
    let member = joining.go_on(None, Time(1)).await.expect("joins");
    (store, id, member)
}

async fn write(tx: &mut Tx, key: &str) {
    let query = "insert into global_settings (id, key, value, value_type, category, created_at, updated_at)
        values ($1, $2, 'x', 'string', 'test', $3, $3)";
    on!(tx, conn => sqlx::query(query).bind(Uuid::now_v7()).bind(key).bind(Time(1)).run(conn).await).expect("writes");
}

/// Lets a host look as if nobody had heard of it for long.
async fn silence(store: &Store, id: Uuid) {
    let mut tx = store.begin().await.expect("begins");
    let query = "update hosts set seen_at = seen_at - interval '1 hour' where id = $1";
    let changed = match &mut tx.kind {
        crate::store::TxKind::Postgres(conn) => sqlx::query(query).bind(id).execute(&mut **conn).await,
        crate::store::TxKind::Sqlite(_) => unreachable!("hosts share Postgres"),
    };
    assert_eq!(changed.expect("changes").rows_affected(), 1);
    tx.commit().await.expect("commits");
}

#[tokio::test]
async fn what_one_has_another_cannot_take_until_it_is_given_or_its_host_is_gone() {
    let Some(url) = bare_database().await else { return };
    let (mars, mars_id, _beats) = host(&url, "mars", LONG).await;
    let (venus, venus_id, leaving) = host(&url, "venus", LONG).await;
    let names = [WORK.to_owned(), lease_of(Uuid::from_u128(1))];
    let mut taken = mars.take(mars_id, &names, &[], LONG).await.expect("asks");
    taken.sort();
    assert_eq!(taken, [names[1].clone(), names[0].clone()]);
    assert!(venus.take(venus_id, &names, &[], LONG).await.expect("asks").is_empty());
    mars.give(mars_id, &names[..1]).await.expect("gives");
    assert_eq!(venus.take(venus_id, &names, &[], LONG).await.expect("asks"), names[..1]);
    // Nobody gives away what is another's.
    mars.give(mars_id, &names[..1]).await.expect("asks");
    assert!(mars.take(mars_id, &names[..1], &[], LONG).await.expect("asks").is_empty());
    leaving.leave().await.expect("leaves");
    assert_eq!(mars.take(mars_id, &names[..1], &[], LONG).await.expect("asks"), names[..1]);
    assert!(matches!(venus.begin().await, Err(StoreError::Unheld)), "who has left writes no more");
}

#[tokio::test]
async fn whoever_was_taken_over_writes_nothing_any_more() {
    let Some(url) = bare_database().await else { return };
    let (mars, mars_id, mut beats) = host(&url, "mars", LONG).await;
    let (venus, venus_id, _) = host(&url, "venus", LONG).await;
    let names = [lease_of(Uuid::from_u128(1))];
    assert_eq!(mars.take(mars_id, &names, &[], LONG).await.expect("asks"), names);
    // One that is heard of is not taken over, whoever says so.
    assert!(venus.take(venus_id, &names, &[mars_id], Duration::from_secs(60)).await.expect("asks").is_empty());
    assert!(mars.begin().await.is_ok());
    silence(&venus, mars_id).await;
    // It believes still that it has all of it, and is in the middle of two transactions; whoever takes it over waits.
    let (mut own, mut turn) = (mars.begin_log().await.expect("begins"), mars.begin().await.expect("begins"));
    write(&mut own, "own").await;
    write(&mut turn, "turn").await;
    let taking = tokio::spawn({
        let (venus, names) = (venus.clone(), names.clone());
        async move { venus.take(venus_id, &names, &[mars_id], Duration::from_secs(60)).await.expect("asks") }
    });
    turn.commit().await.expect("what was begun before counts");
    own.commit().await.expect("what was begun before counts");
    assert_eq!(taking.await.expect("takes"), names);
    assert!(matches!(mars.begin_log().await, Err(StoreError::Unheld)));
    assert!(matches!(mars.begin().await, Err(StoreError::Unheld)));
    assert!(!beats.beat().await.expect("asks"), "it is told so when it says that it lives");
    let mut tx = venus.read().await.expect("reads");
    let query = "select count(*) from global_settings where key in ('own', 'turn')";
    let found: i64 = on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await).expect("counts");
    assert_eq!(found, 2);
}

#[tokio::test]
async fn whoever_cannot_say_in_time_that_it_lives_writes_nothing_until_it_can() {
    let Some(url) = bare_database().await else { return };
    let (mars, _, mut beats) = host(&url, "mars", Duration::ZERO).await;
    assert!(matches!(mars.begin().await, Err(StoreError::Unheld)));
    assert_eq!(mars.lease_left(), Some(Duration::ZERO));
    beats.lasts(LONG);
    assert!(beats.beat().await.expect("asks"));
    assert!(mars.begin().await.is_ok());
}

#[tokio::test]
async fn hosts_write_one_after_another() {
    let Some(url) = bare_database().await else { return };
    let (mars, _, _one) = host(&url, "mars", LONG).await;
    let (venus, _, _other) = host(&url, "venus", LONG).await;
    let mut first = mars.begin().await.expect("begins");
    write(&mut first, "first").await;
    let second = tokio::spawn(async move {
        let mut tx = venus.begin().await.expect("begins");
        let query = "select count(*) from global_settings where key = 'first'";
        let seen: i64 = on!(&mut tx, conn => sqlx::query_scalar(query).fetch_one(conn).await).expect("counts");
        seen
    });
    first.commit().await.expect("commits");
    assert_eq!(second.await.expect("runs"), 1, "whoever comes second sees what the first one wrote");
}

#[tokio::test]
async fn who_has_a_database_alone_and_those_who_share_one_keep_each_other_out() {
    let Some(url) = bare_database().await else { return };
    let (mars, _, member) = host(&url, "omni on mars (process 7)", LONG).await;
    let alone = Store::open_postgres(&url, options()).await.expect("opens");
    let error = alone.hold("venus", Time(1)).await.expect_err("is refused");
    assert!(error.to_string().contains("in use by another host, omni on mars (process 7)"), "{error}");
    member.leave().await.expect("leaves");
    mars.close().await;
    let hold = alone.hold("venus", Time(1)).await.expect("is free");
    let store = Store::open_postgres(&url, options()).await.expect("opens");
    let new = NewHost { id: Uuid::now_v7(), name: "mars".into(), version: "1".into(), ends: LONG };
    let error = store.join(new, LONG, Time(1)).await.expect_err("is refused");
    assert!(error.to_string().contains("in use by another host, venus"), "{error}");
    hold.release().await;
}

#[tokio::test]
async fn one_joins_at_a_time_and_sees_who_lives_and_the_mark_of_whoever_came_before() {
    let Some(url) = bare_database().await else { return };
    let store = Store::open_postgres(&url, options()).await.expect("opens");
    let new = |name: &str| NewHost { id: Uuid::now_v7(), name: name.into(), version: "1".into(), ends: LONG };
    let join = async |new: NewHost| store.join(new, LONG, Time(1)).await.expect("may join");
    // One that dies while it joins has left nothing.
    drop(join(new("pluto")).await);
    let (mars, venus) = (new("mars"), new("venus"));
    let mars_id = mars.id;
    let first = join(mars.clone()).await;
    assert_eq!((first.others.clone(), first.mark.clone()), (Vec::new(), None));
    let (mut second, later) = (Box::pin(join(venus)), first.go_on(Some("m1"), Time(1)));
    // Both want to at the same time.
    let (second, first) = tokio::join!(&mut second, later);
    assert_eq!((second.others.clone(), second.mark.clone()), (vec!["mars".to_owned()], Some("m1".to_owned())));
    let _venus = second.go_on(None, Time(1)).await.expect("joins");
    // Itself it does not count, nor whoever was silent for long.
    drop(first.expect("joins"));
    let again = join(mars).await;
    assert_eq!((again.others.clone(), again.mark.clone()), (vec!["venus".to_owned()], Some("m1".to_owned())));
    drop(again);
    let mut silent = Store::open_postgres(&url, options()).await.expect("opens").begin().await.expect("begins");
    let query = "update hosts set seen_at = seen_at - interval '2 hours' where id = $1";
    on!(&mut silent, conn => sqlx::query(query).bind(mars_id).run(conn).await).expect("changes");
    silent.commit().await.expect("commits");
    let last = join(new("saturn")).await;
    assert_eq!(last.others, ["venus"]);
    let _last = last.go_on(Some("m2"), Time(1)).await.expect("joins");
    assert_eq!(join(new("uranus")).await.mark.as_deref(), Some("m2"));
}
