//! What holds for the bus whatever its log lies in: each of these runs with the log in SQLite, in Postgres, and in NATS of
//! each version that is there.
//!
//! With NATS a place says which message and which event of it, and a second delivery is recognised where it is stored.

use super::*;
use crate::store::entry::Entry;
use omni_channel_sdk::event::{Activity, Typing};
use std::sync::Arc;
use std::time::Duration;

const DAY: Duration = Duration::from_secs(86_400);

impl World {
    /// Ends the storage consumer, so that nothing more is stored and the log is read by nobody else.
    async fn without_consumer(&mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.expect("the consumer ends well");
    }

    /// Starts it again, and waits until it has stored all that is durable.
    async fn with_consumer_again(&mut self) {
        let opened = inbound::open(self.store.clone(), self.bus.clone(), self.clock.clone()).await;
        let (storage, inbound) = opened.expect("the consumer opens");
        self.shutdown = CancellationToken::new();
        self.task = tokio::spawn(storage.run(self.shutdown.clone()));
        self.inbound = inbound;
        self.inbound.settle().await;
    }

    /// How much is in the log: entries, or with NATS messages.
    async fn in_the_log(&self) -> u64 {
        match &self.place.nats {
            Some(nats) => nats.messages().await,
            None => self.number("select count(*) from inbound_log").await.unsigned_abs(),
        }
    }

    /// All that is durable behind a place, read with so many at once.
    async fn read(&self, mut after: i64, max: u32) -> Vec<Arc<Entry>> {
        let newest = *self.bus.newest().borrow();
        let mut all = Vec::new();
        while after < newest {
            let some = self.bus.read(after, max).await.expect("reads");
            assert!(some.len() <= max as usize, "no more than was asked for");
            after = some.last().map_or(after, |entry| entry.seq);
            all.extend(some);
        }
        all
    }

    /// The messages that are stored, in the order in which they were.
    async fn stored(&self) -> Vec<String> {
        self.texts("select external_id from omni_events order by seq").await
    }
}

/// The delivery keys of entries, which the tests make.
fn words(entries: &[Arc<Entry>]) -> Vec<String> {
    let event = |entry: &Arc<Entry>| serde_json::from_slice::<Event>(&entry.body.payload).expect("an event");
    entries.iter().map(|entry| event(entry).delivery_key.expect("a key").to_string()).collect()
}

fn keyed(key: &str) -> Event {
    said(key, "x").delivered_as(key)
}

async fn what_is_accepted_is_read_in_its_order_from_any_place() {
    let mut world = World::open().await;
    world.without_consumer().await;
    let before = *world.bus.newest().borrow();
    for call in [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]] {
        let accepted = world.accept(call.map(keyed)).await.expect("accepted");
        assert_eq!(accepted, Accepted { appended: 3, duplicates: 0, ephemeral: 0 });
    }
    let all = world.read(before, 4).await;
    assert_eq!(words(&all), ["a", "b", "c", "d", "e", "f", "g", "h", "i"]);
    assert!(all.windows(2).all(|pair| pair[0].seq < pair[1].seq), "places only ever rise");
    assert_eq!(all.last().expect("some").seq, *world.bus.newest().borrow(), "the newest is the last of them");
    assert!(all.iter().all(|entry| entry.instance_id == world.instance));
    assert!(all.iter().all(|entry| entry.lane == all[0].lane), "a chat has one lane");
    assert!(all.iter().all(|entry| entry.accepted_at == world.clock.now()));
    let newest = *world.bus.newest().borrow();
    world.with_consumer_again().await;
    let world = world.reopen().await;
    assert_eq!(*world.bus.newest().borrow(), newest, "it goes on behind what was there");
}

async fn whoever_is_behind_is_told_how_far() {
    let mut world = World::open().await;
    world.apply([keyed("a")]).await;
    assert_eq!(world.inbound.behind(), 0);
    world.without_consumer().await;
    let mut newest = world.bus.newest();
    let place = *newest.borrow_and_update();
    for key in ["b", "c"] {
        world.accept([keyed(key)]).await.expect("accepted");
        assert!(newest.has_changed().expect("the bus is there"), "word of it is given");
        newest.borrow_and_update();
    }
    let distance = world.bus.distance();
    assert_eq!((distance(place, *newest.borrow()), world.inbound.behind()), (2, 2));
    assert_eq!(distance(place, place), 0);
    world.with_consumer_again().await;
    assert_eq!(world.inbound.behind(), 0);
    assert_eq!(world.stored().await, ["a", "b", "c"]);
}

async fn a_second_delivery_is_stored_once_at_once_after_a_trim_and_after_a_restart() {
    let world = World::open().await;
    let twice = world.apply([keyed("k"), keyed("k"), said("2", "y")]).await;
    let again = world.apply([keyed("k")]).await;
    // An event without a key is recognised by what it says.
    let same = world.apply([said("2", "y")]).await;
    let late = usize::from(world.place.nats.is_some());
    assert_eq!((twice.duplicates, again.duplicates, same.duplicates), (1 - late, 1 - late, 1 - late));
    assert_eq!(world.stored().await, ["k", "2"]);
    assert_eq!(world.events().await.len(), 2);
    // A key belongs to its instance.
    let other = add_instance(&world.store, "other", "test").await;
    assert_eq!(world.accept_for(other, [keyed("k")]).await.expect("accepted").appended, 1);
    world.inbound.settle().await;
    assert_eq!(world.stored().await, ["k", "2", "k"]);
    world.manual.advance(DAY * 2);
    world.bus.trim(world.clock.now()).await.expect("trims");
    assert_eq!(world.in_the_log().await, 0);
    let world = world.reopen().await;
    world.apply([keyed("k")]).await;
    assert_eq!(world.stored().await, ["k", "2", "k"]);
    // The next one is stored although the log that it follows is empty.
    world.apply([keyed("3")]).await;
    assert_eq!(world.stored().await, ["k", "2", "k", "3"]);
    world.manual.advance(DAY * 8);
    world.bus.trim(world.clock.now()).await.expect("trims");
    assert_eq!(world.number("select count(*) from delivery_keys").await, 0);
}

async fn what_no_consumer_has_had_is_not_trimmed() {
    let mut world = World::open().await;
    world.apply([keyed("a")]).await;
    world.without_consumer().await;
    world.accept([keyed("b")]).await.expect("accepted");
    world.manual.advance(DAY * 30);
    world.bus.trim(world.clock.now()).await.expect("trims");
    assert_eq!(world.in_the_log().await, 1, "what was stored is gone, and the other is there");
    world.with_consumer_again().await;
    assert_eq!(world.stored().await, ["a", "b"]);
}

async fn a_restart_goes_on_where_it_was() {
    let world = World::open().await;
    world.apply([keyed("a")]).await;
    // Accepted but not applied when it ended.
    world.shutdown.cancel();
    world.accept([keyed("b"), keyed("c")]).await.expect("accepted");
    let world = world.reopen().await;
    // What lies there is known before any of it is read.
    world.inbound.settle().await;
    assert_eq!(world.stored().await, ["a", "b", "c"]);
    assert_eq!(world.number("select message_count from chats").await, 3);
    world.apply([keyed("d")]).await;
    assert_eq!(world.events().await.len(), 4);
    // And once more, with nothing left to do.
    let world = world.reopen().await;
    assert_eq!(world.inbound.behind(), 0);
    world.apply([keyed("e")]).await;
    assert_eq!(world.stored().await, ["a", "b", "c", "d", "e"]);
}

async fn what_comes_faster_than_it_can_be_stored_waits_or_is_told_that_it_is_full() {
    let mut world = World::open_with(BusOptions { most_waiting: 2, ..BusOptions::default() }).await;
    // Nothing can be stored meanwhile.
    world.without_consumer().await;
    for key in ["a", "b"] {
        world.accept([keyed(key)]).await.expect("there is room for two");
    }
    let newest = *world.bus.newest().borrow();
    let late = |world: &World| {
        let (bus, one) = (world.bus.clone(), call(world.instance, vec![AcceptEvent::from(&keyed("late"))]));
        tokio::spawn(async move { bus.accept(one).await })
    };
    let refused = late(&world);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!refused.is_finished(), "it is not acknowledged");
    let other = add_instance(&world.store, "other", "test").await;
    world.accept_for(other, [keyed("a")]).await.expect("its neighbours need not wait");
    while !refused.is_finished() {
        world.manual.advance(Duration::from_secs(5));
        tokio::task::yield_now().await;
    }
    assert!(matches!(refused.await.expect("ends"), Err(AcceptError::Full)));
    // Whoever waits goes on when somebody says that what was before is stored.
    let accepted = late(&world);
    world.bus.stored(newest);
    assert_eq!(accepted.await.expect("ends").expect("accepted").appended, 1);
    world.with_consumer_again().await;
    assert_eq!(world.stored().await, ["a", "b", "a", "late"]);
}

async fn what_is_refused_or_not_stored_leaves_nothing_in_the_log() {
    let world = World::open().await;
    let newest = *world.bus.newest().borrow();
    let calls = vec![AcceptEvent::from(&keyed("fine")), AcceptEvent(b"[]".to_vec())];
    let error = world.bus.accept(call(world.instance, calls)).await.expect_err("refused");
    assert!(matches!(error, AcceptError::Refused { index: 1, .. }), "{error}");
    let mut live = world.store.feed().ephemeral();
    let typing = Typing { sender: ana().into(), activity: Activity::Typing, timeout_ms: Some(5_000) };
    let accepted = world.apply([event(typing)]).await;
    assert_eq!(accepted, Accepted { appended: 0, duplicates: 0, ephemeral: 1 });
    let heard = live.try_recv().expect("heard");
    assert_eq!(heard.event_type, "presence.typing");
    assert_eq!(heard.subject(), format!("presence.typing.test.{}", world.instance));
    assert_eq!(heard.payload.get(), r#"{"chatId":"g","from":"ana","activity":"typing","timeoutMs":5000}"#);
    assert_eq!((world.in_the_log().await, *world.bus.newest().borrow()), (0, newest));
}

async fn what_is_tried_again_is_the_event_that_it_was() {
    let world = World::open().await;
    poison(&world.store).await;
    world.apply([keyed("a"), said("b", "poison").delivered_as("b"), keyed("c")]).await;
    assert_eq!(world.stored().await, ["a", "c"]);
    let mut tx = world.store.read().await.expect("reads");
    let filter = crate::store::dead_letters::Filter::default();
    let letters = crate::store::dead_letters::list(&mut tx, &filter, None, 10).await.expect("lists");
    drop(tx);
    heal(&world.store).await;
    world.manual.advance(DAY);
    // Its delivery key is known by now, and is not looked at.
    world.bus.retry(&letters[0]).await.expect("appended");
    world.inbound.settle().await;
    assert_eq!(world.stored().await, ["a", "c", "b"]);
    let same = "select count(*) from omni_events e join dead_letter_events d on d.event_id = e.id";
    assert_eq!(world.number(same).await, 1);
}

async fn whoever_comes_when_it_is_closed_is_told_so_and_what_came_before_is_durable() {
    let world = World::open().await;
    let calls: Vec<_> = ["a", "b", "c"]
        .map(|key| {
            let (bus, one) = (world.bus.clone(), call(world.instance, vec![AcceptEvent::from(&keyed(key))]));
            tokio::spawn(async move { bus.accept(one).await })
        })
        .into();
    tokio::task::yield_now().await;
    world.bus.close().await;
    for call in calls {
        assert_eq!(call.await.expect("ends").expect("it was taken before").appended, 1);
    }
    assert!(matches!(world.accept([keyed("d")]).await, Err(AcceptError::Closed)));
    world.inbound.settle().await;
    assert_eq!(world.stored().await, ["a", "b", "c"]);
}

every_bus!(
    what_is_accepted_is_read_in_its_order_from_any_place,
    whoever_is_behind_is_told_how_far,
    a_second_delivery_is_stored_once_at_once_after_a_trim_and_after_a_restart,
    what_no_consumer_has_had_is_not_trimmed,
    a_restart_goes_on_where_it_was,
    what_comes_faster_than_it_can_be_stored_waits_or_is_told_that_it_is_full,
    what_is_refused_or_not_stored_leaves_nothing_in_the_log,
    what_is_tried_again_is_the_event_that_it_was,
    whoever_comes_when_it_is_closed_is_told_so_and_what_came_before_is_durable,
);
