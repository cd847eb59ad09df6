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
        trace: None,
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
    let put_off = Settlement::Retry { at: later, error: serde_json::json!({"message": "slow down"}), tried: true };
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
    let unknown = Settlement::Unknown { at: NOW, error: error.clone(), by_content: false };
    outbox::settle(store, "test", &row, &unknown, NOW).await.expect("settled");
    let row = outbox::claim(store, &[world.instance], NOW, 1).await.expect("claimed").remove(0);
    assert_eq!((row.status.as_str(), row.unknown_since), ("reconciling", Some(NOW)));
    world.execute("update messages set external_id = 'x1', delivery_status = 'sent'").await;
    outbox::settle(store, "test", &row, &Settlement::Failed { error }, NOW).await.expect("settled");
    assert_eq!(world.text("select delivery_status from messages").await.as_deref(), Some("sent"));
    assert_eq!(world.text("select status from outbox").await.as_deref(), Some("delivered"), "{message}");
    assert!(!world.events().await.contains(&"message.failed".to_owned()));
}

/// A message of ours that waits to be sent to the chat of the events, was tried at the time of the events, and nobody can
/// tell what became of it.
async fn untold(world: &World, chat_id: Uuid, text: &str) -> Uuid {
    let (store, now) = (&world.store, Time::from_millis(START));
    let mut tx = store.begin().await.expect("a transaction");
    let id = tx.new_id(now);
    let client_id = id.simple().to_string();
    let content = Content::text(text);
    let row = NewMessageRow { id, chat_id, client_id: client_id.clone(), content, reply_to: None, at: now };
    outbox::insert_message(&mut tx, &row).await.expect("a message");
    let row = NewOutbox {
        id,
        instance_id: world.instance,
        chat_key: group().id.to_string(),
        message_id: id,
        send_id: id,
        part: 0,
        kind: "send",
        request: serde_json::json!({}),
        client_id,
        trace: None,
    };
    outbox::enqueue(&mut tx, &row, now).await.expect("a row");
    on!(&mut tx, conn => sqlx::query(
        "update outbox set status = 'unknown', unknown_since = $2, claimed_at = $2, by_content = true where id = $1",
    )
    .bind(id)
    .bind(now)
    .run(conn)
    .await)
    .expect("its outcome is unknown");
    tx.commit().await.expect("committed");
    id
}

/// A message of ours as the network shows it.
fn shown(id: &str, text: &str, after_ms: i64) -> Event {
    let mut shown = event(Message::new(id, me(), Content::text(text)));
    shown.at += after_ms;
    shown
}

async fn chat(world: &World) -> Uuid {
    world.apply([said("1", "hello")]).await;
    let mut tx = world.store.read().await.expect("reads");
    on!(&mut tx, conn => sqlx::query_scalar("select id from chats").fetch_one(conn).await).expect("a chat")
}

async fn the_oldest_send_that_nobody_can_tell_of_is_known_by_its_words() {
    let ids = "select string_agg(coalesce(external_id, 'none'), ',') from (select external_id from messages
        where source = 'api' order by id) t";
    for together in [true, false] {
        let world = World::open().await;
        let chat = chat(&world).await;
        for text in ["hi", "hi", "other"] {
            untold(&world, chat, text).await;
        }
        let events = [shown("net-1", " hi", 5_000), shown("net-2", "hi", 6_000), shown("net-3", "hi", 7_000)];
        if together {
            world.apply(events.clone()).await;
        } else {
            for event in events.clone() {
                world.apply([event]).await;
            }
        }
        assert_eq!(world.text(ids).await.as_deref(), Some("net-1,net-2,none"), "together: {together}");
        let sent = "select count(*) from messages where delivery_status = 'sent' and source = 'api'";
        assert_eq!(world.number(sent).await, 2, "together: {together}");
        assert_eq!(world.number("select count(*) from messages").await, 5, "the third was written by somebody");
        let keys = ["again-1", "again-2", "again-3"];
        world.apply(events.into_iter().zip(keys).map(|(event, key)| event.delivered_as(key))).await;
        assert_eq!(world.number("select count(*) from messages").await, 5, "shown again it is known by its id");
    }
}

async fn what_is_shown_of_ours_and_cannot_be_the_send_is_a_message_of_its_own() {
    let world = World::open().await;
    let chat = chat(&world).await;
    untold(&world, chat, "hi").await;
    let mut elsewhere = shown("net-1", "hi", 0);
    elsewhere.chat = Some(Chat::new("elsewhere", ChatKind::Group));
    let mut under_an_id = shown("net-2", "hi", 0);
    if let EventBody::Message(message) = &mut under_an_id.body {
        message.echo = Some(omni_channel_sdk::chat::Echo { client_id: Some("somebody's".into()) });
    }
    let before = shown("net-3", "hi", -60_000);
    let other_words = shown("net-4", "hi!", 0);
    world.apply([elsewhere, under_an_id, before, other_words, said("5", "hi")]).await;
    assert_eq!(world.number("select count(*) from messages").await, 7);
    assert_eq!(world.number("select count(*) from messages where source = 'api' and external_id is null").await, 1);
    // One that may still be asked about, or is settled, is known by its id alone.
    let states = [
        "update outbox set by_content = false",
        "update outbox set by_content = true, status = 'failed'",
        "update outbox set status = 'pending'",
    ];
    for (number, state) in states.into_iter().enumerate() {
        world.execute(state).await;
        world.apply([shown(&format!("later-{number}"), "hi", 0)]).await;
        let open = "select count(*) from messages where source = 'api' and external_id is null";
        assert_eq!(world.number(open).await, 1, "{state}");
    }
}

both!(
    chats_that_have_to_wait_hold_nobody_else_up,
    a_chat_has_one_part_under_way,
    what_an_echo_told_is_not_overwritten_by_giving_up,
    the_oldest_send_that_nobody_can_tell_of_is_known_by_its_words,
    what_is_shown_of_ours_and_cannot_be_the_send_is_a_message_of_its_own,
);
