//! Lists: each row once, however many share a sort key, and what narrows them.

use super::*;

async fn every_list_is_walked_exactly_once_although_sort_keys_are_equal() {
    let world = World::open().await;
    let mut events = Vec::new();
    for chat in 0..7 {
        for message in 0..5 {
            // Every message of the same millisecond.
            events.push(said(&format!("chat-{chat}"), &format!("m{message}"), &format!("who-{chat}"), START));
        }
    }
    world.apply(world.instance, events).await;
    for (path, count) in [("/chats", 7), ("/messages", 35), ("/persons", 7), ("/messages?chatId=chat-3", 5)] {
        for limit in [1, 2, 3, 100] {
            let ids = walk(&world, KEY, path, limit).await;
            let mut unique = ids.clone();
            unique.sort();
            unique.dedup();
            assert_eq!((ids.len(), unique.len()), (count, count), "{path} by {limit}");
        }
    }
    let events = walk(&world, KEY, "/events", 4).await;
    let mut unique = events.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(events.len(), unique.len());
    assert!(events.len() >= 35);
}

async fn messages_of_a_chat_are_newest_first_and_by_either_id() {
    let world = World::open().await;
    world
        .apply(
            world.instance,
            vec![
                said("g", "old", "ana", START),
                said("g", "new", "bob", START + 2_000),
                said("g", "late", "ana", START + 1_000),
                said("h", "else", "ana", START),
            ],
        )
        .await;
    let by_network = world.get("/messages?chatId=g").await;
    let order: Vec<&str> = by_network.body["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["externalId"].as_str().expect("an id"))
        .collect();
    assert_eq!(order, ["new", "late", "old"]);
    let first = &by_network.body["items"][0];
    assert_eq!(first["textContent"], "words of new");
    assert_eq!(first["chatExternalId"], "g");
    assert_eq!(first["instanceId"], json!(world.instance));
    let ours = first["chatId"].as_str().expect("our id");
    assert_eq!(world.get(&format!("/messages?chatId={ours}")).await.body, by_network.body);
    assert_eq!(world.get(&format!("/chats/{ours}/messages")).await.body, by_network.body);
    let found = world.get("/messages?chatId=g&search=of%20LATE").await;
    assert_eq!(found.body["items"].as_array().map(Vec::len), Some(1), "{}", found.text);
    let none = world.get("/messages?chatId=g&search=%25").await;
    assert_eq!(none.body["items"], json!([]), "a percent sign is a percent sign");
    let recent = world.get("/messages?chatId=g&since=2026-01-01T00:00:01Z&until=2026-01-01T00:00:02Z").await;
    assert_eq!(recent.body["items"][0]["externalId"], "late");
    assert_eq!(recent.body["items"].as_array().map(Vec::len), Some(1));
    let one = world.get("/messages/by-external?chatId=g&externalId=old").await;
    assert_eq!(one.body["data"]["externalId"], "old");
    assert_eq!(world.get("/messages?chatId=unheard-of").await.body["items"], json!([]));
}

async fn a_chat_id_of_two_instances_needs_the_instance() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    world.apply(world.other, vec![said("g", "b", "ana", START)]).await;
    let unclear = world.get("/messages?chatId=g").await;
    assert_eq!(unclear.status, StatusCode::BAD_REQUEST);
    let clear = world.get("/messages?chatId=g&instanceId=other").await;
    assert_eq!(clear.body["items"][0]["externalId"], "b");
}

async fn chats_are_found_put_away_and_taken_out() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("first", "a", "ana", START), said("second", "b", "bob", START + 5)]).await;
    let list = world.get("/chats").await;
    assert_eq!(list.body["items"][0]["externalId"], "second", "the newest activity first");
    let id = list.body["items"][0]["id"].as_str().expect("an id").to_owned();
    assert_eq!(world.get("/chats?search=FIR").await.body["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.get("/chats?chatType=group").await.body["items"].as_array().map(Vec::len), Some(2));
    let change = json!({"archived": true, "settings": {"muted": true}});
    let changed = world.ask(KEY, Method::PATCH, &format!("/chats/{id}"), Some(change)).await;
    assert_eq!(changed.body["data"]["settings"], json!({"muted": true}), "{}", changed.text);
    assert_eq!(world.get("/chats").await.body["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(world.get("/chats?includeArchived=true").await.body["items"].as_array().map(Vec::len), Some(2));
    world.post(&format!("/chats/{id}/unarchive"), json!({})).await;
    assert_eq!(world.get("/chats").await.body["items"].as_array().map(Vec::len), Some(2));
    let members = world.get(&format!("/chats/{id}/participants")).await;
    assert_eq!(members.body["items"][0]["platformUserId"], "bob");
}

both!(
    every_list_is_walked_exactly_once_although_sort_keys_are_equal,
    messages_of_a_chat_are_newest_first_and_by_either_id,
    a_chat_id_of_two_instances_needs_the_instance,
    chats_are_found_put_away_and_taken_out,
);
