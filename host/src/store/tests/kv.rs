//! A channel's memory.

use super::*;
use crate::store::kv::{self, KvWriteSealed};
use crate::store::{Tx, state_snapshots};

/// More than is listed in these tests.
const ROOM: usize = 1 << 20;

fn set(key: &str, value: &[u8]) -> KvWriteSealed {
    KvWriteSealed { key: key.into(), value: Some(value.into()) }
}

async fn entries_are_written_with_the_events_or_not_at_all() {
    let world = World::open().await;
    let mut good = call(world.instance, vec![AcceptEvent::from(&said("1", "x"))]);
    good.writes = vec![set("offset", b"1"), set("gone", b"x"), KvWriteSealed { key: "gone".into(), value: None }];
    world.bus.accept(good).await.expect("accepted");
    let mut bad = call(world.instance, vec![AcceptEvent::from(&said("2", "x")), AcceptEvent(b"{".to_vec())]);
    bad.writes = vec![set("offset", b"2")];
    world.bus.accept(bad).await.expect_err("refused");
    let mut tx = world.store.read().await.expect("reads");
    assert_eq!(kv::get(&mut tx, world.instance, "offset").await.expect("reads").as_deref(), Some(&b"1"[..]));
    assert_eq!(kv::get(&mut tx, world.instance, "gone").await.expect("reads"), None);
    assert_eq!(kv::usage(&mut tx, world.instance).await.expect("reads"), kv::Usage { entries: 1, bytes: 7 });
    drop(tx);
    world.inbound.settle().await;
    assert_eq!(world.number("select count(*) from messages").await, 1);
}

async fn a_scan_takes_the_prefix_as_it_is_written_and_goes_on_behind_a_key() {
    let world = World::open().await;
    let mut accept = call(world.instance, Vec::new());
    accept.writes = ["a%", "a%1", "a%2", "a_", "ab", "a%\u{10ffff}", "b"].map(|key| set(key, key.as_bytes())).into();
    world.bus.accept(accept).await.expect("accepted");
    let other = add_instance(&world.store, "other", "test").await;
    let mut tx = world.store.read().await.expect("reads");
    let keys = |rows: Vec<(String, Vec<u8>)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let all = kv::scan(&mut tx, world.instance, "a%", None, 10, ROOM).await.expect("scans").expect("it fits");
    assert_eq!(keys(all), ["a%", "a%1", "a%2", "a%\u{10ffff}"]);
    let more = kv::scan(&mut tx, world.instance, "a%", Some("a%1"), 1, ROOM).await.expect("scans").expect("it fits");
    assert_eq!(keys(more), ["a%2"]);
    let everything = kv::scan(&mut tx, world.instance, "", None, 100, ROOM).await.expect("scans").expect("it fits");
    assert_eq!(everything.len(), 7);
    // What is too large to be listed is not read, and not cut where nobody would see it.
    let bytes: usize = everything.iter().map(|(key, value)| key.len() + value.len()).sum();
    assert!(kv::scan(&mut tx, world.instance, "", None, 100, bytes).await.expect("scans").is_some());
    assert!(kv::scan(&mut tx, world.instance, "", None, 100, bytes - 1).await.expect("scans").is_none());
    assert!(kv::scan(&mut tx, other, "", None, 100, ROOM).await.expect("scans").expect("it fits").is_empty());
}

async fn a_key_that_is_none_is_refused_with_its_name() {
    let world = World::open().await;
    for (key, sentence) in [
        (String::new(), "the entry `` was refused: a key may not be empty"),
        (
            "k".repeat(401),
            "the entry `kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk` was refused: a key may have 400 bytes, and it has 401",
        ),
        ("a\0b".into(), "the entry `a\0b` was refused: a key may not contain NUL"),
    ] {
        let mut accept = call(world.instance, Vec::new());
        accept.writes = vec![set(&key, b"x")];
        assert_eq!(world.bus.accept(accept).await.expect_err("refused").to_string(), sentence);
    }
}

async fn what_was_kept_before_a_change_can_be_put_back_and_goes_with_its_instance() {
    let world = World::open().await;
    let now = world.clock.now();
    let write = async |value: &str| {
        let mut accept = call(world.instance, Vec::new());
        accept.writes = vec![set("a", value.as_bytes()), set(value, b"x")];
        world.bus.accept(accept).await.expect("accepted");
    };
    for version in 1..=3 {
        write(&format!("v{version}")).await;
        let mut tx = world.store.begin().await.expect("begins");
        let at = now.plus_millis(version);
        state_snapshots::take(&mut tx, world.instance, version, at).await.expect("is taken");
        tx.commit().await.expect("commits");
    }
    write("v4").await;
    let mut tx = world.store.begin().await.expect("begins");
    let newest = async |tx: &mut Tx, knows| state_snapshots::newest(tx, world.instance, knows).await.expect("reads");
    assert_eq!(newest(&mut tx, 1).await, None, "only the last two are kept");
    assert_eq!(newest(&mut tx, 9).await.map(|snapshot| snapshot.state_version), Some(3));
    let second = newest(&mut tx, 2).await.expect("is there");
    assert_eq!(second, state_snapshots::Snapshot { state_version: 2, taken_at: now.plus_millis(2) });
    state_snapshots::restore(&mut tx, world.instance, second, now).await.expect("is put back");
    let all = kv::scan(&mut tx, world.instance, "", None, 10, ROOM).await.expect("scans").expect("it fits");
    let keys: Vec<_> = all.iter().map(|(key, _)| key.as_str()).collect();
    assert_eq!((keys, all[0].1.as_slice()), (vec!["a", "v1", "v2"], &b"v2"[..]));
    tx.commit().await.expect("commits");
    assert_eq!(world.number("select state_version from instances").await, 2);
    let mut tx = world.store.begin().await.expect("begins");
    crate::store::instances::delete(&mut tx, world.instance).await.expect("deletes");
    tx.commit().await.expect("commits");
    assert_eq!(world.number("select count(*) from plugin_state_snapshot_entries").await, 0);
}

async fn the_messages_of_an_instance_go_a_few_at_a_time() {
    let world = World::open().await;
    let other = add_instance(&world.store, "other", "test").await;
    for instance in [world.instance, other] {
        let events = (0..5).map(|number| AcceptEvent::from(&said(&number.to_string(), "x"))).collect();
        world.bus.accept(call(instance, events)).await.expect("accepted");
    }
    world.inbound.settle().await;
    let mut left = Vec::new();
    loop {
        let mut tx = world.store.begin().await.expect("begins");
        let more = crate::store::instances::delete_messages(&mut tx, world.instance, 2).await.expect("deletes");
        tx.commit().await.expect("commits");
        left.push(world.number("select count(*) from messages").await);
        if !more {
            break;
        }
    }
    assert_eq!(left, [8, 6, 5], "the other instance's stay");
}

both!(
    entries_are_written_with_the_events_or_not_at_all,
    a_scan_takes_the_prefix_as_it_is_written_and_goes_on_behind_a_key,
    a_key_that_is_none_is_refused_with_its_name,
    what_was_kept_before_a_change_can_be_put_back_and_goes_with_its_instance,
    the_messages_of_an_instance_go_a_few_at_a_time,
);
