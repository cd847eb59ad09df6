//! What comes in, what does not, and what becomes durable together, with the log in the database. What holds for every
//! bus is in `every_bus`.

use super::*;
use crate::store::kv::KvWriteSealed;
use std::time::Duration;

async fn what_is_no_event_is_refused_with_its_place_and_its_fault() {
    let world = World::open().await;
    let deep = format!(r#"{{"at":1,"body":{{"type":"x"}},"raw":{}{}}}"#, "[".repeat(2_000), "]".repeat(2_000));
    let long = "i".repeat(1_025);
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"".to_vec(), "it is not an event: EOF"),
        (b"\xff\xfe".to_vec(), "it is not an event: "),
        (
            b"{\"at\":1,\"body\":{\"type\":\"x\"},\"unkno\xeen\":1}".to_vec(),
            "it is not an event: invalid utf-8 sequence of 1 bytes from index 34",
        ),
        (b"[]".to_vec(), "it is not an event: "),
        (b"{\"at\":1}".to_vec(), "it is not an event: missing field `body`"),
        (br#"{"at":"soon","body":{"type":"x"}}"#.to_vec(), "it is not an event: invalid type: string"),
        (br#"{"at":1,"body":{"type":"message","id":"1"}}"#.to_vec(), "it is not an event: message: missing field"),
        (br#"{"at":1,"body":{"type":"receipt","kind":"read"}}"#.to_vec(), "a `receipt` needs a `chat`"),
        (br#"{"at":1,"chat":{"id":"","kind":"group"},"body":{"type":"x"}}"#.to_vec(), "the chat's id is empty"),
        (
            format!(r#"{{"at":1,"chat":{{"id":"{long}","kind":"group"}},"body":{{"type":"x"}}}}"#).into_bytes(),
            "the chat's id has 1025 bytes, and 1024 are allowed",
        ),
        (deep.into_bytes(), "it nests deeper than 100"),
        (
            format!(r#"{{"at":1,"body":{{"type":"x","y":{}{}}}}}"#, "[".repeat(110), "]".repeat(110)).into_bytes(),
            "it nests deeper than 100",
        ),
        (
            br#"{"at":1,"body":{"type":"x"},"raw":{"half":"\ud800"}}"#.to_vec(),
            "it holds what not every reader of JSON can read: ",
        ),
        (
            br#"{"at":1,"body":{"type":"x"},"unknown":{"half":"\ud800"}}"#.to_vec(),
            "it holds what not every reader of JSON can read: ",
        ),
        (
            br#"{"at":1,"body":{"type":"x"},"raw":[1e999]}"#.to_vec(),
            "it holds what not every reader of JSON can read: number out of range",
        ),
        (vec![b' '; (1 << 20) + 1], "it has 1048577 bytes, and 1048576 are allowed"),
    ];
    for (payload, reason) in cases {
        let events = vec![AcceptEvent::from(&said("fine", "x")), AcceptEvent(payload)];
        let error = world.bus.accept(call(world.instance, events)).await.expect_err("refused").to_string();
        assert!(error.starts_with(&format!("event 1 was refused: {reason}")), "{error} is not about {reason}");
    }
    world.inbound.settle().await;
    assert_eq!(world.number("select count(*) from inbound_log").await, 0, "a call is all or nothing");
    assert_eq!(world.number("select count(*) from delivery_keys").await, 0);
}

async fn nul_becomes_a_sign_that_every_database_takes() {
    let world = World::open().await;
    let mut event = said("1", "a\0b");
    event.raw = Some(serde_json::json!({ "text": "a\0b" }));
    world.apply([event]).await;
    assert_eq!(world.text("select text_content from messages").await.as_deref(), Some("a␀b"));
    assert_eq!(world.text("select raw_payload->>'text' from omni_events").await.as_deref(), Some("a␀b"));
    let escaped = world.pick(
        "select count(*) from inbound_log where instr(payload, x'5c7530303030') > 0",
        r"select count(*) from inbound_log where position('\x5c7530303030'::bytea in payload) > 0",
    );
    assert_eq!(world.number(escaped).await, 0);
}

async fn a_time_that_cannot_be_is_replaced_by_ours() {
    let world = World::open().await;
    for (id, at) in [("1", 0), ("2", i64::MIN), ("3", i64::MAX), ("4", START + 40 * 86_400_000), ("5", START - 1)] {
        let mut event = said(id, "x");
        event.at = at;
        world.apply([event]).await;
    }
    assert_eq!(world.number("select count(*) from messages where platform_timestamp = received_at").await, 4);
    assert_eq!(world.time("select last_message_at from chats").await, Time::from_millis(START));
}

async fn a_bad_call_does_not_take_its_group_along() {
    let world = World::open().await;
    // While the writer is busy, all of these wait and become one group.
    let tx = world.store.begin().await.expect("begins");
    let deleted = Uuid::from_u128(7);
    let calls: Vec<_> = (0..6)
        .map(|n| {
            let mut one = call(world.instance, vec![AcceptEvent::from(&said(&n.to_string(), "x"))]);
            if n == 3 {
                // An entry of an instance that does not exist breaks the group's transaction.
                one.instance_id = deleted;
                one.writes = vec![KvWriteSealed { key: "k".into(), value: Some(vec![1]) }];
            }
            let bus = world.bus.clone();
            tokio::spawn(async move { bus.accept(one).await })
        })
        .collect();
    tokio::task::yield_now().await;
    tx.rollback().await.expect("rolls back");
    let mut outcomes = Vec::new();
    for call in calls {
        outcomes.push(call.await.expect("ends").is_ok());
    }
    assert_eq!(outcomes, [true, true, true, false, true, true]);
    world.inbound.settle().await;
    assert_eq!(world.number("select count(*) from messages").await, 5);
    assert_eq!(world.number("select count(*) from delivery_keys").await, 5);
    assert_eq!(world.number("select max(seq) - min(seq) + 1 from inbound_log").await, 5, "no place is left out");
}

async fn a_full_queue_says_so_and_works_again() {
    let world = World::open_with(BusOptions { queue_kib: 4, ..BusOptions::default() }).await;
    let tx = world.store.begin().await.expect("begins");
    let waiting: Vec<_> = (0..2)
        .map(|n| {
            let (bus, one) =
                (world.bus.clone(), call(world.instance, vec![AcceptEvent::from(&said(&n.to_string(), "x"))]));
            tokio::spawn(async move { bus.accept(one).await })
        })
        .collect();
    tokio::task::yield_now().await;
    let bus = world.bus.clone();
    let late = call(world.instance, vec![AcceptEvent::from(&said("late", "x"))]);
    let late = tokio::spawn(async move { bus.accept(late).await });
    while !late.is_finished() {
        world.manual.advance(Duration::from_secs(5));
        tokio::task::yield_now().await;
    }
    assert!(matches!(late.await.expect("ends"), Err(AcceptError::Full)));
    tx.rollback().await.expect("rolls back");
    for call in waiting {
        call.await.expect("ends").expect("accepted");
    }
    assert_eq!(world.apply([said("late", "x")]).await.appended, 1);
}

async fn whoever_follows_the_domain_events_misses_none() {
    let world = World::open().await;
    let mut newest = world.store.feed().newest();
    world.apply((0..7).map(|n| said(&n.to_string(), "x"))).await;
    assert!(newest.has_changed().expect("open"));
    let until = *newest.borrow_and_update();
    let mut seen = Vec::new();
    let mut place = 0;
    let filter = crate::store::events::Filter { types: vec!["message.*".into()], ..Default::default() };
    while place < until {
        let mut tx = world.store.read().await.expect("reads");
        let piece = crate::store::events::after(&mut tx, place, &filter, 3).await.expect("reads");
        assert_eq!(piece.lost, 0);
        seen.extend(piece.events);
        place = piece.seen;
    }
    assert_eq!(seen.len(), 7);
    let envelope = serde_json::to_value(&seen[0]).expect("JSON");
    assert_eq!(envelope["seq"], seen[0].seq);
    assert_eq!(envelope["type"], "message.received");
    assert_eq!(envelope["timestamp"], START);
    assert_eq!(envelope["payload"]["content"], serde_json::json!({ "type": "text", "text": "x" }));
    assert_eq!(envelope["metadata"]["instanceId"], world.instance.to_string());
    assert_eq!(envelope["metadata"]["channelType"], "test");
    assert!(envelope["metadata"]["personId"].is_string());
    // A filter that lets nothing through still moves on.
    let none = crate::store::events::Filter { chats: vec!["other".into()], ..Default::default() };
    let mut tx = world.store.read().await.expect("reads");
    let piece = crate::store::events::after(&mut tx, 0, &none, 3).await.expect("reads");
    assert_eq!((piece.events.len(), piece.seen), (0, 3));
    let chat = seen[0].metadata.chat_id.expect("a chat").to_string();
    for chat in ["g".to_owned(), chat] {
        let some = crate::store::events::Filter { chats: vec![chat.clone()], ..Default::default() };
        let piece = crate::store::events::after(&mut tx, 0, &some, 100).await.expect("reads");
        assert_eq!((piece.events.len(), piece.seen), (7, until), "{chat}");
    }
}

async fn a_reader_is_told_what_is_no_longer_kept_and_finds_a_time() {
    let world = World::open().await;
    for n in 0..9 {
        world.apply([said(&n.to_string(), "x")]).await;
        world.manual.advance(Duration::from_secs(60));
    }
    let mut tx = world.store.read().await.expect("reads");
    let begin = crate::store::Time::from_millis(START);
    for (seconds, before) in [(0, 0), (1, 1), (60, 1), (61, 2), (480, 8), (481, 9), (9_999, 9)] {
        let place = crate::store::events::place_before(&mut tx, begin.plus_millis(seconds * 1_000)).await;
        assert_eq!(place.expect("reads"), before, "{seconds} s after the first");
    }
    drop(tx);
    world.execute("delete from omni_events where seq <= 4").await;
    let mut tx = world.store.read().await.expect("reads");
    let all = crate::store::events::Filter::default();
    let piece = crate::store::events::after(&mut tx, 1, &all, 3).await.expect("reads");
    assert_eq!((piece.lost, piece.seen, piece.events[0].seq), (3, 7, 5));
    assert_eq!(crate::store::events::place_before(&mut tx, begin).await.expect("reads"), 4);
    drop(tx);
    world.execute("delete from omni_events").await;
    let mut tx = world.store.read().await.expect("reads");
    let piece = crate::store::events::after(&mut tx, 2, &all, 100).await.expect("reads");
    assert_eq!((piece.lost, piece.seen, piece.events.len()), (7, 9, 0));
    assert_eq!(crate::store::events::place_before(&mut tx, begin).await.expect("reads"), 9);
}

both!(
    what_is_no_event_is_refused_with_its_place_and_its_fault,
    nul_becomes_a_sign_that_every_database_takes,
    a_time_that_cannot_be_is_replaced_by_ours,
    a_bad_call_does_not_take_its_group_along,
    a_full_queue_says_so_and_works_again,
    whoever_follows_the_domain_events_misses_none,
    a_reader_is_told_what_is_no_longer_kept_and_finds_a_time,
);
