//! Who is claimed, and what an echo settles.

use super::*;
use crate::store::outbox::{self, NewMessageRow, NewOutbox, Settlement};

const NOW: Time = Time(1_700_000_000_000_000);

/// A message that waits to be sent to a chat.
async fn waiting(store: &Store, instance_id: Uuid, chat: &str) -> Uuid {
    let mut tx = store.begin().await.expect("a transaction");
    let (chat_id, id) = (tx.new_id(NOW), tx.new_id(NOW));
    outbox::insert_chat(&mut tx, chat_id, instance_id, chat, "test", NOW).await.expect("a chat");
    let content = Content::text("hello");
    let client_id = id.simple().to_string();
    let row = NewMessageRow { id, chat_id, client_id: client_id.clone(), content, reply_to: None, at: NOW };
    outbox::insert_message(&mut tx, &row).await.expect("a message");
    let (message_id, chat_key, request) = (id, chat.to_owned(), serde_json::json!({}));
    let send_id = Uuid::now_v7();
    let row = NewOutbox {
        id: send_id,
        instance_id,
        chat_key,
        message_id,
        send_id,
        part: 0,
        kind: "send",
        request,
        client_id,
    };
    outbox::enqueue(&mut tx, &row, NOW).await.expect("a row");
    tx.commit().await.expect("committed");
    id
}

async fn chats_that_have_to_wait_hold_nobody_else_up() {
    let world = World::open().await;
    let store = &world.store;
    for chat in ["a", "b", "c"] {
        waiting(store, world.instance, chat).await;
    }
    let later = NOW.plus_millis(3_600_000);
    let put_off = Settlement::Retry { at: later, error: serde_json::json!({"message": "slow down"}) };
    for row in outbox::claim(store, &[world.instance], NOW, 10).await.expect("claimed") {
        outbox::settle(store, "test", &row, &put_off, NOW).await.expect("settled");
    }
    let due = waiting(store, world.instance, "d").await;
    let claimed = outbox::claim(store, &[world.instance], NOW, 1).await.expect("claimed");
    assert_eq!(claimed.iter().map(|row| row.message_id).collect::<Vec<_>>(), [due]);
    assert_eq!(outbox::next_due(store, &[world.instance]).await.expect("read"), Some(later));
}

async fn a_chat_has_one_part_under_way() {
    let world = World::open().await;
    let first = waiting(&world.store, world.instance, "a").await;
    let claimed = outbox::claim(&world.store, &[world.instance], NOW, 10).await.expect("claimed");
    assert_eq!(claimed.len(), 1);
    let again = outbox::claim(&world.store, &[world.instance], NOW, 10).await.expect("claimed");
    assert!(again.is_empty(), "{first} is under way");
}

async fn what_an_echo_told_is_not_overwritten_by_giving_up() {
    let world = World::open().await;
    let store = &world.store;
    let message = waiting(store, world.instance, "a").await;
    let row = outbox::claim(store, &[world.instance], NOW, 1).await.expect("claimed").remove(0);
    let error = serde_json::json!({"message": "unknown", "certain": false});
    outbox::settle(store, "test", &row, &Settlement::Unknown { at: NOW, error: error.clone() }, NOW)
        .await
        .expect("settled");
    let row = outbox::claim(store, &[world.instance], NOW, 1).await.expect("claimed").remove(0);
    assert_eq!((row.status.as_str(), row.unknown_since), ("reconciling", Some(NOW)));
    world.execute("update messages set external_id = 'x1', delivery_status = 'sent'").await;
    outbox::settle(store, "test", &row, &Settlement::Failed { error }, NOW).await.expect("settled");
    assert_eq!(world.text("select delivery_status from messages").await.as_deref(), Some("sent"));
    assert_eq!(world.text("select status from outbox").await.as_deref(), Some("delivered"), "{message}");
    assert!(!world.events().await.contains(&"message.failed".to_owned()));
}

both!(
    chats_that_have_to_wait_hold_nobody_else_up,
    a_chat_has_one_part_under_way,
    what_an_echo_told_is_not_overwritten_by_giving_up,
);
