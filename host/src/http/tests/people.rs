//! People: linked, unlinked and merged, with everything that is theirs.

use super::*;

async fn person_of(world: &World, search: &str) -> (String, String) {
    let found = world.get(&format!("/persons?search={search}")).await;
    let id = found.body["items"][0]["id"].as_str().expect("a person").to_owned();
    let shown = world.get(&format!("/persons/{id}")).await;
    (id, shown.body["data"]["identities"][0]["id"].as_str().expect("an identity").to_owned())
}

async fn accounts_move_with_their_messages_and_events() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START), said("g", "b", "bob", START + 1)]).await;
    let (ana, ana_account) = person_of(&world, "ana").await;
    let (bob, bob_account) = person_of(&world, "bob").await;
    let linked = world.post("/persons/link", json!({"identityA": ana_account, "identityB": bob_account})).await;
    assert_eq!(linked.body["data"]["id"], json!(ana), "{}", linked.text);
    assert_eq!(world.get(&format!("/persons/{bob}")).await.status, StatusCode::NOT_FOUND);
    let whole = world.get(&format!("/persons/{ana}")).await;
    assert_eq!(whole.body["data"]["identities"].as_array().map(Vec::len), Some(2));
    let hers = world.get(&format!("/messages?senderPersonId={ana}")).await;
    assert_eq!(hers.body["items"].as_array().map(Vec::len), Some(2));
    let timeline = world.get(&format!("/persons/{ana}/timeline")).await;
    assert_eq!(timeline.body["items"].as_array().map(Vec::len), Some(2), "{}", timeline.text);

    let apart = world.post("/persons/unlink", json!({"identityId": bob_account, "reason": "a mistake"})).await;
    let bob = apart.body["data"]["person"]["id"].as_str().expect("a new person").to_owned();
    assert_eq!(apart.body["data"]["identity"]["linkReason"], "a mistake");
    let his = world.get(&format!("/events/timeline/{bob}")).await;
    assert_eq!(his.body["items"].as_array().map(Vec::len), Some(1));

    let merged = world.post("/persons/merge", json!({"sourcePersonId": bob, "targetPersonId": ana})).await;
    assert_eq!(merged.body["data"]["mergedIdentityIds"], json!([bob_account]), "{}", merged.text);
    assert_eq!(merged.body["data"]["deletedPersonId"], json!(bob));
    assert_eq!(world.get("/persons").await.body["items"].as_array().map(Vec::len), Some(1));
}

async fn what_is_missing_is_named_and_nothing_is_changed() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    let (ana, account) = person_of(&world, "ana").await;
    let nobody = Uuid::nil();
    let linked = world.post("/persons/link", json!({"identityA": account, "identityB": nobody})).await;
    assert_eq!(linked.status, StatusCode::NOT_FOUND);
    assert_eq!(linked.body["error"]["details"]["resourceId"], json!(nobody));
    let merged = world.post("/persons/merge", json!({"sourcePersonId": ana, "targetPersonId": nobody})).await;
    assert_eq!(merged.status, StatusCode::NOT_FOUND);
    let itself = world.post("/persons/merge", json!({"sourcePersonId": ana, "targetPersonId": ana})).await;
    assert_eq!(itself.status, StatusCode::BAD_REQUEST);
    assert_eq!(
        world.get(&format!("/persons/{ana}")).await.body["data"]["identities"].as_array().map(Vec::len),
        Some(1)
    );
}

async fn who_belongs_to_whom_is_told_in_omni_v2s_words() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    world.apply(world.other, vec![said("g", "b", "bob", START)]).await;
    let (ana, ana_account) = person_of(&world, "ana").await;
    let (bob, bob_account) = person_of(&world, "bob").await;
    world.post("/persons/link", json!({"identityA": ana_account, "identityB": bob_account})).await;
    world.post("/persons/unlink", json!({"identityId": bob_account, "reason": "a mistake"})).await;
    let (third, _) = person_of(&world, "bob").await;
    world.post("/persons/merge", json!({"sourcePersonId": third, "targetPersonId": ana})).await;
    let events = world.get("/events").await.body["items"].as_array().expect("items").clone();
    let told: Vec<&Value> = events
        .iter()
        .rev()
        .filter(|event| event["eventType"].as_str().is_some_and(|name| name.starts_with("identity.")))
        .collect();
    let names: Vec<&str> = told.iter().filter_map(|event| event["eventType"].as_str()).collect();
    let linked_and_merged = ["identity.linked", "identity.merged"];
    assert_eq!(names, [&linked_and_merged[..], &["identity.unlinked"], &linked_and_merged[..]].concat());
    let linked = &told[0];
    assert_eq!(linked["instanceId"], json!(world.other), "where the account is seen");
    assert_eq!(
        linked["payload"],
        json!({"personId": ana, "platformIdentityId": bob_account, "channelType": "test", "platformUserId": "bob",
            "linkedBy": "manual", "confidence": 100})
    );
    let merged = &told[1];
    assert_eq!((&merged["instanceId"], &merged["channel"]), (&Value::Null, &Value::Null));
    assert_eq!(merged["payload"]["sourcePersonId"], json!(bob));
    assert_eq!(merged["payload"]["targetPersonId"], json!(ana));
    assert_eq!(merged["payload"]["mergedIdentityIds"], json!([bob_account]));
    assert_eq!(merged["payload"]["reason"], "admin_linked");
    assert_eq!((&told[2]["payload"]["personId"], &told[2]["payload"]["reason"]), (&json!(ana), &json!("a mistake")));
    assert_eq!(told[4]["payload"]["sourcePersonId"], json!(third));
    // A key that reaches one instance hears of its accounts, and not of what is about several.
    let key = world.key(&["events:read"], Some(vec![world.other])).await;
    let seen = world.ask(&key, Method::GET, "/events?eventType=identity.merged", None).await;
    assert_eq!(seen.body["items"], json!([]));
    let seen = world.ask(&key, Method::GET, "/events?eventType=identity.linked", None).await;
    assert_eq!(seen.body["items"].as_array().map(Vec::len), Some(2));
}

async fn a_person_stands_for_the_chat_with_them() {
    use omni_channel_sdk::chat::{Chat, ChatKind, User};
    use omni_channel_sdk::content::Content;
    use omni_channel_sdk::event::{Event, Message};
    let world = World::open().await;
    let hello = Message::new("d1", User::new("ana").named("Ana"), Content::text("hello"));
    world.apply(world.instance, vec![Event::new(Chat::new("ana-dm", ChatKind::Direct), START, hello)]).await;
    let persons = world.get("/persons").await;
    let person = persons.body["items"][0]["id"].clone();
    let typing = json!({"instanceId": "main", "to": person, "type": "typing"});
    let read = json!({"instanceId": "main", "chatId": person, "messageIds": ["d1"]});
    for (path, body) in [("/messages/send/presence", typing), ("/messages/read", read)] {
        // Found: what is wrong is only that nothing is connected.
        let answer = world.post(path, body).await;
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE, "{path}: {}", answer.text);
        assert_eq!(answer.body["error"]["code"], "CHANNEL_NOT_CONNECTED", "{path}");
    }
    let nobody = json!({"instanceId": "main", "to": Uuid::nil(), "type": "typing"});
    assert_eq!(world.post("/messages/send/presence", nobody).await.status, StatusCode::NOT_FOUND);
}

both!(
    accounts_move_with_their_messages_and_events,
    what_is_missing_is_named_and_nothing_is_changed,
    who_belongs_to_whom_is_told_in_omni_v2s_words,
    a_person_stands_for_the_chat_with_them,
);
