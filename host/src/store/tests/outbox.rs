//! Who is claimed, and what an echo settles.

use super::*;
use crate::store::outbox::{self, NewMessageRow, NewOutbox, Settlement};
use omni_channel_sdk::SendReceipt;
use omni_channel_sdk::chat::{Chat, ChatKind};

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

/// A post of a forum: its parts follow into the thread that the first one began, and the forum stays a forum.
async fn a_message_that_began_a_chat_is_there_and_so_is_what_follows_it() {
    let world = World::open().await;
    let store = &world.store;
    let first = waiting(store, world.instance, "forum").await;
    let follows = waiting(store, world.instance, "forum-part").await;
    let alone = waiting(store, world.instance, "another").await;
    world
        .execute(
            "update outbox set chat_key = 'forum', request = '{\"chat\": \"forum\"}',
               send_id = (select send_id from outbox where part = 0 and chat_key = 'forum'), part = 1
             where chat_key = 'forum-part'",
        )
        .await;
    let claimed = outbox::claim(store, &[world.instance], NOW, 10).await.expect("claimed");
    let row = claimed.iter().find(|row| row.message_id == first).expect("it is due");
    let thread = Chat { name: Some("Tea".into()), ..Chat::new("post", ChatKind::Thread) };
    let receipt = SendReceipt { began: Some(Box::new(thread)), ..SendReceipt::new("post") };
    outbox::settle(store, "test", row, &Settlement::Delivered(Some(receipt)), NOW).await.expect("settled");

    let place = "select c.external_id || ' ' || c.chat_type || ' ' || c.name || ' of ' || p.external_id
        from messages m join chats c on c.id = m.chat_id join chats p on p.id = c.parent_chat_id where m.external_id = 'post'";
    assert_eq!(world.text(place).await.as_deref(), Some("post thread Tea of forum"));
    assert_eq!(world.number("select message_count from chats where external_id = 'post'").await, 1);
    assert_eq!(world.number("select message_count from chats where external_id = 'forum'").await, 0);
    let told = "select chat_id from omni_events where event_type = 'message.sent'";
    assert_eq!(world.text(told).await.as_deref(), Some("post"));
    // The next part goes there, and nothing else does.
    let row = outbox::claim(store, &[world.instance], NOW, 10).await.expect("claimed").remove(0);
    assert_eq!((row.message_id, row.chat_key.as_str(), &row.request.0["chat"]), (follows, "post", &"post".into()));
    let same = "select count(distinct chat_id) from messages where id in (select message_id from outbox where chat_key = 'post')";
    assert_eq!(world.number(same).await, 1);
    assert_eq!(
        world.text("select chat_key from outbox where part = 0 and status = 'sending'").await.as_deref(),
        Some("another"),
        "{alone}"
    );
    assert_eq!(world.number("select count(*) from chat_id_mappings").await, 0, "the forum has not moved");
}

async fn whoever_only_waits_has_not_been_tried() {
    let world = World::open().await;
    let store = &world.store;
    waiting(store, world.instance, "a").await;
    let error = serde_json::json!({"message": "slow down"});
    for (tried, attempts) in [(false, 1), (false, 1), (true, 1), (true, 2), (false, 3)] {
        let row = outbox::claim(store, &[world.instance], NOW, 1).await.expect("claimed").remove(0);
        assert_eq!(row.attempts, attempts);
        let again = Settlement::Retry { at: NOW, error: error.clone(), tried };
        outbox::settle(store, "test", &row, &again, NOW).await.expect("settled");
    }
}

both!(
    a_message_that_began_a_chat_is_there_and_so_is_what_follows_it,
    whoever_only_waits_has_not_been_tried,
    chats_that_have_to_wait_hold_nobody_else_up,
    a_chat_has_one_part_under_way,
    what_an_echo_told_is_not_overwritten_by_giving_up,
    the_oldest_send_that_nobody_can_tell_of_is_known_by_its_words,
    what_is_shown_of_ours_and_cannot_be_the_send_is_a_message_of_its_own,
);
