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

async fn a_person_is_given_out_and_erased_and_both_are_on_record() {
    let world = World::open().await;
    let events = vec![said("g", "a", "ana", START), said("g", "b", "bob", START)];
    world.apply(world.instance, events).await;
    let (ana, _) = person_of(&world, "ana").await;
    let (bob, _) = person_of(&world, "bob").await;
    // Reading and changing persons is not enough.
    let reader = world.key(&["persons:read", "persons:write"], None).await;
    for (method, path) in [(Method::GET, "export"), (Method::POST, "erase"), (Method::GET, "erasure")] {
        let answer = world.ask(&reader, method, &format!("/persons/{ana}/{path}"), None).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answer.body["error"]["details"]["requiredScope"], "persons:admin");
    }
    let export = world.get(&format!("/persons/{ana}/export")).await;
    assert_eq!(
        (export.status, &export.headers["content-type"]),
        (StatusCode::OK, &"application/x-ndjson".parse().expect("a header"))
    );
    let lines: Vec<Value> = export.text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<&str> = lines.iter().filter_map(|line| line["kind"].as_str()).collect();
    assert_eq!(kinds, ["person", "identity", "seat", "message", "event", "end"]);
    assert_eq!(lines[3]["textContent"], "words of a");
    assert!(!export.text.contains("words of b"));

    let message = lines[3]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let bytes = futures_util::stream::iter([Ok::<_, std::io::Error>(axum::body::Bytes::from_static(b"her picture"))]);
    let file =
        world.host.media.put(world.instance, bytes, None, Some("ana.png".into()), 1 << 20).await.expect("stored");
    let mut tx = world.host.store.begin().await.expect("begins");
    crate::store::files::attach(&mut tx, &[(file.id, message)]).await.expect("attached");
    tx.commit().await.expect("commits");
    assert!(world.get(&format!("/persons/{ana}/export")).await.text.contains("ana.png"));

    assert_eq!(world.get(&format!("/persons/{ana}/erasure")).await.status, StatusCode::NOT_FOUND);
    let begun = world.post(&format!("/persons/{ana}/erase"), Value::Null).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{}", begun.text);
    assert_eq!(
        (&begun.body["data"]["status"], &begun.body["data"]["requestedBy"]),
        (&json!("running"), &json!("primary"))
    );
    assert_eq!(world.get(&format!("/persons/{ana}")).await.status, StatusCode::NOT_FOUND);
    let mut told = world.host.store.feed().newest();
    let done = loop {
        let seen = *told.borrow_and_update();
        let now = world.get(&format!("/persons/{ana}/erasure")).await;
        if now.body["data"]["status"] == "completed" {
            break now;
        }
        // The event that it is done wakes us.
        let more = tokio::time::timeout(SOON, told.wait_for(|newest| *newest > seen));
        assert!(more.await.is_ok(), "it is never done: {}", now.text);
    };
    assert_eq!((&done.body["data"]["messages"], &done.body["data"]["files"]), (&json!(1), &json!(1)), "{}", done.text);
    assert_eq!(world.get(&format!("/media/{}", file.id)).await.status, StatusCode::NOT_FOUND);
    assert!(!file.path.exists(), "the file itself is gone");
    let messages = world.get("/messages?chatId=g&instanceId=main").await;
    let shown: Vec<(&Value, &Value)> = messages.body["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|message| (&message["status"], &message["textContent"]))
        .collect();
    assert_eq!(shown, [(&json!("active"), &json!("words of b")), (&json!("erased"), &Value::Null)]);
    assert_eq!(world.get(&format!("/persons/{bob}")).await.status, StatusCode::OK);
    assert_eq!(world.post(&format!("/persons/{ana}/erase"), Value::Null).await.body["data"], done.body["data"]);
    assert_eq!(world.post(&format!("/persons/{}/erase", Uuid::nil()), Value::Null).await.status, StatusCode::NOT_FOUND);
    let audit = world.get("/audit?limit=100").await;
    let on_record = |method: &str, path: String| {
        let lines = audit.body["items"].as_array().expect("items").iter();
        lines.filter(|line| line["method"] == method && line["path"] == path && line["keyName"] == "primary").count()
    };
    assert_eq!(on_record("GET", format!("/api/v2/persons/{ana}/export")), 2, "{}", audit.text);
    assert_eq!(on_record("POST", format!("/api/v2/persons/{ana}/erase")), 2, "{}", audit.text);
}

both!(
    a_person_is_given_out_and_erased_and_both_are_on_record,
    accounts_move_with_their_messages_and_events,
    what_is_missing_is_named_and_nothing_is_changed,
    who_belongs_to_whom_is_told_in_omni_v2s_words,
    a_person_stands_for_the_chat_with_them,
);
