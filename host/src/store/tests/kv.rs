//! A channel's memory.

use super::*;
use crate::store::kv::{self, KvWriteSealed};

fn set(key: &str, value: &[u8]) -> KvWriteSealed {
    KvWriteSealed { key: key.into(), value: Some(value.into()) }
}

#[tokio::test]
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

#[tokio::test]
async fn a_scan_takes_the_prefix_as_it_is_written_and_goes_on_behind_a_key() {
    let world = World::open().await;
    let mut accept = call(world.instance, Vec::new());
    accept.writes = ["a%", "a%1", "a%2", "a_", "ab", "a%\u{10ffff}", "b"].map(|key| set(key, key.as_bytes())).into();
    world.bus.accept(accept).await.expect("accepted");
    let other = add_instance(&world.store, "other", "test").await;
    let mut tx = world.store.read().await.expect("reads");
    let keys = |rows: Vec<(String, Vec<u8>)>| rows.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    let all = kv::scan(&mut tx, world.instance, "a%", None, 10).await.expect("scans");
    assert_eq!(keys(all), ["a%", "a%1", "a%2", "a%\u{10ffff}"]);
    let more = kv::scan(&mut tx, world.instance, "a%", Some("a%1"), 1).await.expect("scans");
    assert_eq!(keys(more), ["a%2"]);
    let everything = kv::scan(&mut tx, world.instance, "", None, 100).await.expect("scans");
    assert_eq!(everything.len(), 7);
    assert!(kv::scan(&mut tx, other, "", None, 100).await.expect("scans").is_empty());
}

#[tokio::test]
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
