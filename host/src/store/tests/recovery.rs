//! What breaks, and what is left of it.

use super::*;
use crate::store::dead_letters::{self, By};

async fn an_event_that_cannot_be_stored_is_in_the_dead_letters_whole_and_the_others_are_stored() {
    let world = World::open().await;
    poison(&world.store).await;
    let mut bad = said("2", "poison");
    bad.raw = Some(serde_json::json!({ "network": "words" }));
    world.apply([said("1", "a"), bad.clone(), said("3", "c")]).await;
    assert_eq!(world.texts("select external_id from messages order by external_id").await, ["1", "3"]);
    assert_eq!(world.number("select message_count from chats").await, 2);
    let mut tx = world.store.read().await.expect("reads");
    let letters = dead_letters::list(&mut tx, &dead_letters::Filter::default(), None, 10).await.expect("lists");
    assert_eq!(letters.len(), 1);
    assert_eq!(serde_json::from_slice::<Event>(&letters[0].payload).expect("an event"), bad);
    assert!(letters[0].error.contains("poisoned"), "{}", letters[0].error);
    assert_eq!(letters[0].event_type, "message.received");
    assert_eq!(letters[0].subject, format!("message.received.test.{}", world.instance));
    assert_eq!(letters[0].accepted_at, Time::from_millis(START));
    assert_eq!(dead_letters::stats(&mut tx).await.expect("counts")[0].count, 1);
    drop(tx);
    // Mended and tried again, it is the event that it was.
    heal(&world.store).await;
    let mut tx = world.store.begin().await.expect("begins");
    assert!(dead_letters::retrying(&mut tx, letters[0].id, By::Hand, world.clock.now()).await.expect("marks"));
    assert!(!dead_letters::retrying(&mut tx, letters[0].id, By::Hand, world.clock.now()).await.expect("marks"));
    tx.commit().await.expect("commits");
    world.bus.retry(&letters[0]).await.expect("appended");
    world.inbound.settle().await;
    let mut tx = world.store.begin().await.expect("begins");
    assert!(dead_letters::passed(&mut tx, letters[0].id, world.clock.now()).await.expect("marks"));
    tx.commit().await.expect("commits");
    assert_eq!(world.number("select count(*) from messages").await, 3);
    let same = "select count(*) from omni_events e join dead_letter_events d on d.event_id = e.id
        where d.status = 'resolved' and d.manual_retry_count = 1";
    assert_eq!(world.number(same).await, 1);
}

async fn a_row_of_the_log_that_cannot_be_read_is_buried_with_its_bytes() {
    let world = World::open().await;
    world.shutdown.cancel();
    world.accept([said("1", "a"), said("2", "b")]).await.expect("accepted");
    world
        .execute(world.pick(
            "update inbound_log set payload = x'00ff7b' where seq = (select min(seq) from inbound_log)",
            r"update inbound_log set payload = '\x00ff7b' where seq = (select min(seq) from inbound_log)",
        ))
        .await;
    world.execute("update consumer_offsets set last_sequence = 0").await;
    world.execute("delete from messages").await;
    world.execute("delete from omni_events").await;
    let world = world.reopen().await;
    world.inbound.settle().await;
    let bytes = world.pick(
        "select count(*) from dead_letter_events where payload = x'00ff7b'",
        r"select count(*) from dead_letter_events where payload = '\x00ff7b'",
    );
    assert_eq!(world.number(bytes).await, 1);
    assert_eq!(world.texts("select external_id from messages").await, ["2"]);
    let hopeless = "select count(*) from dead_letter_events where next_auto_retry_at is null";
    assert_eq!(world.number(hopeless).await, 1, "what cannot be read does not heal by itself");
}

async fn one_who_was_overtaken_stores_nothing_more() {
    let world = World::open().await;
    world.apply([said("1", "a")]).await;
    let (newer, inbound) =
        inbound::open(world.store.clone(), world.bus.clone(), world.clock.clone()).await.expect("claims");
    world.accept([said("2", "b")]).await.expect("accepted");
    world.task.await.expect("the older one ends");
    assert_eq!(
        on!(&mut world.store.read().await.expect("reads"), conn =>
            sqlx::query_scalar::<_, i64>("select count(*) from messages").fetch_one(conn).await)
        .expect("counts"),
        1
    );
    let task = tokio::spawn(newer.run(world.shutdown.clone()));
    inbound.settle().await;
    world.shutdown.cancel();
    task.await.expect("ends");
    assert_eq!(
        on!(&mut world.store.read().await.expect("reads"), conn =>
            sqlx::query_scalar::<_, i64>("select message_count from chats").fetch_one(conn).await)
        .expect("counts"),
        2
    );
}

async fn events_of_a_deleted_instance_are_passed_over() {
    let world = World::open().await;
    let other = add_instance(&world.store, "other", "test").await;
    world.accept_for(other, [said("1", "a")]).await.expect("accepted");
    world.inbound.settle().await;
    world.execute("delete from instances where name = 'other'").await;
    assert_eq!(world.number("select count(*) from messages").await, 0, "its messages go with it");
    world.accept_for(other, [said("2", "b")]).await.expect("accepted");
    world.apply([said("3", "c")]).await;
    assert_eq!(world.texts("select external_id from messages").await, ["3"]);
    assert_eq!(world.number("select count(*) from dead_letter_events").await, 0);
}

async fn a_chat_that_somebody_deleted_is_made_again() {
    let world = World::open().await;
    world.apply([said("1", "a")]).await;
    world.execute("delete from chats").await;
    world.execute("delete from persons").await;
    world.apply([said("2", "b"), said("3", "c")]).await;
    assert_eq!(world.texts("select external_id from messages").await, ["2", "3"]);
    assert_eq!(
        world.number("select count(*) from dead_letter_events").await,
        0,
        "what was remembered was wrong, not they"
    );
}

// About SQLite's own file; a full disk of the server is met in `it::faults`.
#[tokio::test]
async fn a_full_disk_loses_nothing_and_works_again() {
    let world = World::open().await;
    world.apply([said("1", "a")]).await;
    // The writer may not grow the file any more.
    world.execute("pragma max_page_count = 1").await;
    let big = "x".repeat(200_000);
    let error = world.accept([said("2", &big)]).await.expect_err("no room");
    assert!(error.to_string().contains("full"), "{error}");
    world.execute("pragma max_page_count = 1000000").await;
    world.apply([said("2", &big)]).await;
    assert_eq!(world.number("select count(*) from messages").await, 2);
    assert_eq!(world.number("select count(*) from dead_letter_events").await, 0);
}

both!(
    an_event_that_cannot_be_stored_is_in_the_dead_letters_whole_and_the_others_are_stored,
    a_row_of_the_log_that_cannot_be_read_is_buried_with_its_bytes,
    one_who_was_overtaken_stores_nothing_more,
    events_of_a_deleted_instance_are_passed_over,
    a_chat_that_somebody_deleted_is_made_again,
);
