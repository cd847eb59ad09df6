//! Auth state that was taken over: which one an instance has, the way back, and what closes it.

use super::*;
use crate::store::auth_imports::{self as rows, AuthImportRow};
use crate::store::kv::{self, KvWriteSealed};
use crate::store::outbox::{self, NewMessageRow, NewOutbox, Settlement};
use crate::store::{Json, Tx};
use omni_channel_sdk::outcome::SendReceipt;
use serde_json::json;

fn row(world: &World, snapshot: &str) -> AuthImportRow {
    let now = world.clock.now();
    AuthImportRow {
        id: world.store.new_id(now),
        instance_id: world.instance,
        snapshot: snapshot.into(),
        source: "baileys".into(),
        used: Json(json!([{"store": "files"}])),
        report: Json(json!({"written": {"keys": 2}})),
        snapshot_key: Some(b"sealed".to_vec()),
        snapshot_bytes: 7,
        state_version_before: 3,
        created_at: now,
        cutover_at: None,
        undone_at: None,
    }
}

async fn put(tx: &mut Tx, world: &World, keys: &[&str]) {
    let writes: Vec<_> =
        keys.iter().map(|key| KvWriteSealed { key: (*key).into(), value: Some(key.as_bytes().into()) }).collect();
    kv::write(tx, world.instance, "test", &writes, world.clock.now()).await.expect("writes");
}

async fn keys(world: &World) -> Vec<String> {
    world.texts("select key from plugin_storage order by key").await
}

/// Takes something over, as the host does.
async fn take_over(world: &World, snapshot: &str, keys: &[&str]) -> AuthImportRow {
    let row = row(world, snapshot);
    let mut tx = world.store.begin().await.expect("begins");
    rows::put_aside(&mut tx, world.instance).await.expect("writes");
    put(&mut tx, world, keys).await;
    rows::insert(&mut tx, &row).await.expect("writes");
    tx.commit().await.expect("commits");
    row
}

async fn newest(world: &World) -> Option<AuthImportRow> {
    rows::newest(&mut world.store.read().await.expect("reads"), world.instance).await.expect("reads")
}

async fn what_was_there_is_put_aside_and_comes_back() {
    let world = World::open().await;
    let mut tx = world.store.begin().await.expect("begins");
    put(&mut tx, &world, &["old"]).await;
    tx.commit().await.expect("commits");
    let first = take_over(&world, "s1", &["creds", "key"]).await;
    assert_eq!((keys(&world).await, newest(&world).await), (vec!["creds".into(), "key".into()], Some(first.clone())));
    world.manual.advance(std::time::Duration::from_secs(1));
    let second = take_over(&world, "s2", &["other"]).await;
    assert_eq!((keys(&world).await, newest(&world).await), (vec!["other".into()], Some(second.clone())));
    assert_eq!(rows::all(&world.store).await.expect("reads"), [second.clone(), first.clone()]);

    let mut tx = world.store.begin().await.expect("begins");
    rows::undo(&mut tx, &second, world.clock.now()).await.expect("writes");
    tx.commit().await.expect("commits");
    assert_eq!(keys(&world).await, ["creds", "key"], "as before the newest");
    assert_eq!(newest(&world).await, Some(first));
    let undone = rows::get(&world.store, second.id).await.expect("reads").expect("is there");
    assert_eq!(undone, AuthImportRow { undone_at: Some(world.clock.now()), ..second });
    assert_eq!(world.number("select count(*) from auth_import_entries").await, 0);
    assert_eq!(world.number("select state_version from instances").await, 3);
}

async fn the_first_connection_is_the_cutover_and_a_copy_is_forgotten_once() {
    let world = World::open().await;
    let row = take_over(&world, "s1", &["creds"]).await;
    let first = world.clock.now();
    for _ in 0..2 {
        let mut tx = world.store.begin().await.expect("begins");
        rows::connected(&mut tx, world.instance, world.clock.now()).await.expect("writes");
        tx.commit().await.expect("commits");
        world.manual.advance(std::time::Duration::from_secs(9));
    }
    assert_eq!(newest(&world).await.and_then(|row| row.cutover_at), Some(first));
    for forgotten in [true, false] {
        let mut tx = world.store.begin().await.expect("begins");
        assert_eq!(rows::forget(&mut tx, row.id).await.expect("writes"), forgotten);
        tx.commit().await.expect("commits");
    }
    assert_eq!(newest(&world).await.and_then(|row| row.snapshot_key), None);
}

/// A message that goes out, or waits to.
async fn send(world: &World, is_settled: bool) {
    let now = world.clock.now();
    let mut tx = world.store.begin().await.expect("begins");
    let (chat_id, id) = (tx.new_id(now), tx.new_id(now));
    let chat = id.to_string();
    outbox::insert_chat(&mut tx, chat_id, world.instance, &chat, "test", now).await.expect("a chat");
    let client_id = id.simple().to_string();
    let content = Content::text("hello");
    let row = NewMessageRow { id, chat_id, client_id: client_id.clone(), content, reply_to: None, at: now };
    outbox::insert_message(&mut tx, &row).await.expect("a message");
    let row = NewOutbox {
        id: Uuid::now_v7(),
        instance_id: world.instance,
        chat_key: chat,
        message_id: id,
        send_id: Uuid::now_v7(),
        part: 0,
        kind: "send",
        request: json!({}),
        client_id,
        trace: None,
    };
    outbox::enqueue(&mut tx, &row, now).await.expect("a row");
    tx.commit().await.expect("commits");
    if is_settled {
        for row in outbox::claim(&world.store, &[world.instance], now, 10).await.expect("claimed") {
            let sent = Settlement::Delivered(Some(SendReceipt::new(row.message_id.to_string())));
            outbox::settle(&world.store, "test", &row, &sent, now).await.expect("settled");
        }
    }
}

async fn what_went_out_since_is_counted_and_what_waits_is_not() {
    let world = World::open().await;
    send(&world, true).await;
    world.manual.advance(std::time::Duration::from_secs(1));
    let row = take_over(&world, "s1", &["creds"]).await;
    let sent = async || {
        let mut tx = world.store.read().await.expect("reads");
        rows::sent_since(&mut tx, world.instance, row.created_at).await.expect("counts")
    };
    world.manual.advance(std::time::Duration::from_secs(1));
    send(&world, false).await;
    assert_eq!(sent().await, 0, "one before, and one that waits");
    send(&world, true).await;
    assert_eq!(sent().await, 2);
}

both!(
    what_was_there_is_put_aside_and_comes_back,
    the_first_connection_is_the_cutover_and_a_copy_is_forgotten_once,
    what_went_out_since_is_counted_and_what_waits_is_not,
);
