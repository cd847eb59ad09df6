//! The audit log: who asked what, and nothing secret.

use super::*;

/// The lines, oldest first.
async fn lines(world: &World, query: &str) -> Vec<Value> {
    let page = world.get(&format!("/audit?limit=100{query}")).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let mut items = page.body["items"].as_array().expect("items").clone();
    items.reverse();
    items
}

async fn every_change_and_every_refusal_has_a_line_without_secrets() {
    let world = World::open().await;
    let reader = world.key(&["chats:read", "events:read"], None).await;
    let made = world.post("/keys", json!({"name": "hidden words", "scopes": ["*"]})).await;
    let secret = made.body["data"]["key"].as_str().expect("the key").to_owned();
    let id = made.body["data"]["id"].as_str().expect("its id").to_owned();
    world.get("/chats").await;
    let with_query = format!("/keys?api_key={secret}&x=canary");
    assert_eq!(world.ask(&reader, Method::POST, &with_query, Some(json!({}))).await.status, StatusCode::FORBIDDEN);
    assert_eq!(world.ask("omni_sk_unheard_of", Method::GET, "/chats", None).await.status, StatusCode::UNAUTHORIZED);
    world.post(&format!("/keys/{id}/revoke"), json!({"reason": "canary"})).await;

    // What an administrator did is on the disk when it is answered; the refusals before it were in the queue.
    let found = lines(&world, "").await;
    let told: Vec<(String, String, i64, Option<&str>)> = found
        .iter()
        .map(|line| {
            let text = |field: &str| line[field].as_str().expect("text").to_owned();
            (text("method"), text("path"), line["statusCode"].as_i64().expect("a status"), line["keyName"].as_str())
        })
        .collect();
    let revoked = format!("/api/v2/keys/{id}/revoke");
    let line = |method: &str, path: &str, status, who| (method.to_owned(), path.to_owned(), status, who);
    assert_eq!(
        told,
        [
            line("POST", "/api/v2/keys", 201, Some("primary")),
            line("POST", "/api/v2/keys", 403, Some("test")),
            line("GET", "/api/v2/chats", 401, None),
            line("POST", &revoked, 200, Some("primary")),
        ]
    );
    let text = serde_json::to_string(&found).expect("JSON");
    for hidden in [secret.as_str(), "canary", "unheard_of", "hidden words", KEY, TOKEN] {
        assert!(!text.contains(hidden), "{hidden} is in the audit log: {text}");
    }
    assert_eq!(lines(&world, "&minStatus=400").await.len(), 2);
    assert_eq!(walk(&world, KEY, "/audit", 1).await.len(), 4);
    let narrow = world.key(&["*"], Some(vec![world.instance])).await;
    assert_eq!(world.ask(&narrow, Method::GET, "/audit", None).await.status, StatusCode::FORBIDDEN);
}

async fn a_keys_lines_outlive_it_and_reading_is_written_when_that_is_wanted() {
    let world = World::open_with(|options| options.audit_reads = true).await;
    let made = world.post("/keys", json!({"name": "short", "scopes": ["*"]})).await;
    let key = made.body["data"]["key"].as_str().expect("the key").to_owned();
    let id = made.body["data"]["id"].as_str().expect("its id").to_owned();
    assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::OK);
    assert_eq!(world.ask(KEY, Method::DELETE, &format!("/keys/{id}"), None).await.status, StatusCode::OK);
    let lines = world.get(&format!("/keys/{id}/audit")).await;
    assert_eq!(lines.body["items"][0]["path"], "/api/v2/chats", "{}", lines.text);
    assert_eq!(lines.body["items"][0]["keyName"], "short");
    assert_eq!(lines.body["items"].as_array().map(Vec::len), Some(1));
}

async fn a_line_of_a_message_is_written_soon_and_a_flood_of_strangers_is_cut() {
    let world = World::open().await;
    let send = json!({"instanceId": "main", "to": "g", "text": "hi"});
    world.post("/messages/send", send).await;
    for _ in 0..700 {
        world.ask("omni_sk_unheard_of", Method::GET, "/chats", None).await;
    }
    // A change of an administrator's is written with all that waits.
    world.post("/keys", json!({"name": "k", "scopes": ["*"]})).await;
    let all = walk(&world, KEY, "/audit", 100).await;
    assert_eq!(all.len(), 1 + 600 + 1);
}

async fn a_change_whose_caller_goes_away_is_finished_and_written_down() {
    let world = World::open().await;
    let asked = request(KEY, Method::POST, "/keys", Some(json!({"name": "left alone", "scopes": ["*"]})));
    let mut call = Box::pin(world.router.clone().oneshot(asked));
    assert!(futures_util::poll!(&mut call).is_pending(), "it is under way");
    drop(call);
    let found = tokio::time::timeout(SOON, async {
        loop {
            let lines = lines(&world, "").await;
            if let Some(line) = lines.first() {
                return line.clone();
            }
            tokio::task::yield_now().await;
        }
    });
    let found = found.await.expect("a line");
    assert_eq!((&found["path"], &found["statusCode"]), (&json!("/api/v2/keys"), &json!(201)));
    assert_eq!(world.get("/keys").await.body["items"][0]["name"], "left alone");
}

both!(
    every_change_and_every_refusal_has_a_line_without_secrets,
    a_keys_lines_outlive_it_and_reading_is_written_when_that_is_wanted,
    a_line_of_a_message_is_written_soon_and_a_flood_of_strangers_is_cut,
    a_change_whose_caller_goes_away_is_finished_and_written_down,
);
