//! Who may do what: the whole table, and keys that reach some instances only.

use super::super::routes::{Access, ROUTES};
use super::*;

/// A path of the table with something in its variables.
fn filled(path: &str) -> String {
    let id = Uuid::nil().to_string();
    let parts = path.split('/').map(|part| match part {
        "{*file}" | "{*rest}" => "x".to_owned(),
        part if part.starts_with('{') => id.clone(),
        part => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join("/")
}

async fn every_route_asks_for_a_key_and_its_scope() {
    let world = World::open_with(|options| options.open_metrics = false).await;
    // It has some scope, and none that any route needs.
    let without = world.key(&["nothing:read"], None).await;
    for route in ROUTES {
        let needs = match route.access {
            Access::Open => continue,
            Access::Key => None,
            Access::Metrics => Some("metrics:read"),
            Access::Scope(scope) => Some(scope),
        };
        let method: Method = route.method.parse().expect("a method");
        let path = filled(route.path);
        let what = format!("{method} {path}");
        let nobody = world.ask("", method.clone(), &path, None).await;
        assert_eq!(nobody.status, StatusCode::UNAUTHORIZED, "{what}");
        assert_eq!(nobody.body["error"]["code"], "UNAUTHORIZED", "{what}");
        assert!(nobody.headers.contains_key("www-authenticate"), "{what}");
        let stranger = world.ask("omni_sk_00000000000000000000000000000000", method.clone(), &path, None).await;
        assert_eq!(stranger.status, StatusCode::UNAUTHORIZED, "{what}");
        let Some(scope) = needs else { continue };
        let refused = world.ask(&without, method.clone(), &path, None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{what}");
        assert_eq!(refused.body["error"]["details"]["requiredScope"], scope, "{what}");
    }
}

async fn each_way_to_present_a_key_works_where_it_is_allowed() {
    let world = World::open().await;
    let key = world.key(&["*"], None).await;
    for (name, value) in [("x-api-key", key.clone()), ("authorization", format!("Bearer {key}"))] {
        let request = Request::builder().uri("/api/v2/chats").header(name, value).body(Body::empty());
        assert_eq!(world.send(request.expect("a request")).await.status, StatusCode::OK, "{name}");
    }
    // In the query only for what browsers cannot give a header to.
    assert_eq!(
        world.ask("", Method::GET, &format!("/chats?api_key={key}"), None).await.status,
        StatusCode::UNAUTHORIZED
    );
    let media = world.ask("", Method::GET, &format!("/media/{}?api_key={key}", Uuid::nil()), None).await;
    assert_eq!(media.status, StatusCode::NOT_FOUND);
}

async fn a_key_ends_when_it_is_revoked_removed_or_too_old() {
    let world = World::open().await;
    let made = world
        .post("/keys", json!({"name": "short", "scopes": ["chats:read"], "expiresAt": "2026-01-01T00:01:00Z"}))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{}", made.text);
    let key = made.body["data"]["key"].as_str().expect("the key").to_owned();
    assert!(key.starts_with("omni_sk_") && key.len() == 40);
    let id = made.body["data"]["id"].as_str().expect("its id").to_owned();
    assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::OK);
    world.manual.advance(Duration::from_secs(61));
    assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::UNAUTHORIZED);
    let later = world.ask(KEY, Method::PATCH, &format!("/keys/{id}"), Some(json!({"expiresAt": null}))).await;
    assert_eq!(later.status, StatusCode::OK, "{}", later.text);
    assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::OK);
    let revoked = world.post(&format!("/keys/{id}/revoke"), json!({"reason": "lost"})).await;
    assert_eq!(revoked.body["data"]["status"], "revoked");
    assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::UNAUTHORIZED);
    for path in ["/keys".to_owned(), format!("/keys/{id}")] {
        let shown = world.get(&path).await;
        assert!(!shown.text.contains(&key) && !shown.text.contains(&api_keys::hash(&key)), "{path}: {}", shown.text);
        assert!(!shown.text.contains("keyHash"));
    }
}

async fn nobody_gives_a_key_what_they_have_not() {
    let world = World::open().await;
    let small = world.key(&["keys:*", "chats:read"], None).await;
    let more = json!({"name": "more", "scopes": ["*"]});
    assert_eq!(world.ask(&small, Method::POST, "/keys", Some(more)).await.status, StatusCode::FORBIDDEN);
    let same = json!({"name": "same", "scopes": ["chats:read"]});
    assert_eq!(world.ask(&small, Method::POST, "/keys", Some(same)).await.status, StatusCode::CREATED);
    let odd = json!({"name": "odd", "scopes": ["chats:fly"]});
    assert_eq!(world.post("/keys", odd).await.status, StatusCode::BAD_REQUEST);
    let narrow = world.key(&["*"], Some(vec![world.instance])).await;
    let wide = json!({"name": "wide", "scopes": ["chats:read"]});
    assert_eq!(world.ask(&narrow, Method::POST, "/keys", Some(wide)).await.status, StatusCode::FORBIDDEN);
}

async fn a_key_of_one_instance_sees_nothing_of_another() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("mine", "m1", "ana", START)]).await;
    world.apply(world.other, vec![said("theirs", "t1", "bob", START)]).await;
    let key = world.key(&["*"], Some(vec![world.instance])).await;
    for path in ["/instances", "/chats", "/messages", "/events", "/persons"] {
        let all = walk(&world, KEY, path, 50).await;
        let some = walk(&world, &key, path, 50).await;
        assert_eq!((all.len(), some.len()), (2 * some.len(), all.len() / 2), "{path}");
        assert!(!some.is_empty(), "{path}");
        // What it does not list it does not show either.
        for id in all.iter().filter(|id| !some.contains(id)) {
            let one = world.ask(&key, Method::GET, &format!("{path}/{id}"), None).await;
            assert_eq!(one.status, StatusCode::NOT_FOUND, "{path}/{id}: {}", one.text);
            assert_eq!(world.get(&format!("{path}/{id}")).await.status, StatusCode::OK, "{path}/{id}");
        }
    }
    let other = world.other;
    for path in [format!("/chats?instanceId={other}"), format!("/messages?instanceId={other}&chatId=theirs")] {
        assert_eq!(world.ask(&key, Method::GET, &path, None).await.status, StatusCode::FORBIDDEN, "{path}");
    }
    let send = json!({"instanceId": other, "to": "theirs", "text": "hello"});
    assert_eq!(world.ask(&key, Method::POST, "/messages/send", Some(send)).await.status, StatusCode::FORBIDDEN);
    let hidden = world.ask(&key, Method::GET, "/messages?chatId=theirs", None).await;
    assert_eq!(hidden.body["items"], json!([]));
}

async fn a_key_may_make_so_many_requests_a_minute() {
    let world = World::open_with(|options| options.rate_limit = Some(2)).await;
    let key = world.key(&["*"], None).await;
    for _ in 0..2 {
        assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::OK);
    }
    let refused = world.ask(&key, Method::GET, "/chats", None).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    // The bucket fills evenly: the next one is there in half a minute.
    assert_eq!(refused.headers["retry-after"], "30");
    assert_eq!(refused.body["error"]["code"], "RATE_LIMITED");
    world.manual.advance(Duration::from_secs(30));
    let again = world.ask(&key, Method::GET, "/chats", None).await;
    assert_eq!((again.status, &again.headers["x-ratelimit-limit"]), (StatusCode::OK, &"2".parse().expect("a header")));
    assert_eq!(again.headers["x-ratelimit-remaining"], "0");
    // A limit of its own goes before the general one.
    let own = world.post("/keys", json!({"name": "own", "scopes": ["*"], "rateLimit": 3})).await;
    let own = own.body["data"]["key"].as_str().expect("the key").to_owned();
    for left in ["2", "1", "0"] {
        assert_eq!(world.ask(&own, Method::GET, "/chats", None).await.headers["x-ratelimit-remaining"], left);
    }
    assert_eq!(world.ask(&own, Method::GET, "/chats", None).await.status, StatusCode::TOO_MANY_REQUESTS);
}

async fn a_first_key_is_made_once() {
    let world = World::open().await;
    let first = api_keys::ensure_first_key(&world.host.store, world.host.clock.now()).await.expect("works");
    let first = first.expect("there was none");
    let valid = world.ask(&first, Method::POST, "/auth/validate", None).await;
    assert_eq!(valid.body["data"]["valid"], true);
    assert_eq!(valid.body["data"]["scopes"], json!(["*"]));
    let again = api_keys::ensure_first_key(&world.host.store, world.host.clock.now()).await.expect("works");
    assert_eq!(again, None);
}

async fn exactly_the_scope_of_the_table_opens_a_route() {
    let world = World::open_with(|options| options.open_metrics = false).await;
    let scopes: std::collections::BTreeSet<&str> = ROUTES
        .iter()
        .filter_map(|route| match route.access {
            Access::Scope(scope) => Some(scope),
            Access::Metrics => Some("metrics:read"),
            Access::Open | Access::Key => None,
        })
        .collect();
    // Every other scope together is not enough, and the one alone is.
    for route in ROUTES {
        let needed = match route.access {
            Access::Scope(scope) => scope,
            Access::Metrics => "metrics:read",
            Access::Open | Access::Key => continue,
        };
        let others: Vec<&str> = scopes.iter().copied().filter(|scope| *scope != needed).collect();
        let (one, others) = (world.key(&[needed], None).await, world.key(&others, None).await);
        let method: Method = route.method.parse().expect("a method");
        let path = filled(route.path);
        let refused = world.ask(&others, method.clone(), &path, None).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{method} {path}");
        assert_eq!(refused.body["error"]["details"]["requiredScope"], needed, "{method} {path}");
        // A rotation would go on in the background of every later line.
        if path == "/system/key/rotate" {
            continue;
        }
        let response =
            world.router.clone().oneshot(request(&one, method.clone(), &path, None)).await.expect("an answer");
        assert!(
            !matches!(response.status(), StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED),
            "{method} {path}: {}",
            response.status()
        );
    }
}

/// What a route that takes a key is about, for a key that reaches some instances only.
enum Reach {
    /// It lists: what belongs to others is left out.
    Lists,
    /// It names one thing: another's is not found, or refused. With the path to another's, and a body.
    Names(&'static str, Value),
    /// It touches every instance: such a key is refused.
    Everywhere,
    /// It holds nothing of any instance.
    Nothing,
}

/// The whole table once more: what each route does for a key that reaches one instance.
fn reach(route: &super::super::routes::Route) -> Reach {
    use Reach::{Everywhere, Lists, Names, Nothing};
    let send = |extra: Value| {
        let mut body = json!({"instanceId": "other", "to": "theirs", "text": "x", "messageId": "t1", "emoji": "x"});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        body
    };
    match (route.method, route.path) {
        (
            "GET",
            "/instances" | "/messages" | "/chats" | "/persons" | "/events" | "/dead-letters" | "/dead-letters/stats",
        ) => Lists,
        ("GET", "/events/stream" | "/events/by-sender/{senderId}" | "/info") => Lists,
        ("GET", "/messages/by-external") => Names("/messages/by-external?chatId=theirs&externalId=t1", Value::Null),
        ("GET", "/chats/by-external") => Names("/chats/by-external?instanceId=other&externalId=theirs", Value::Null),
        ("POST", "/instances/{id}/sync") => Names("instance", json!({"type": "messages"})),
        ("POST", "/instances/{id}/resync") => Names("instance", json!({"since": "2026-01-01T00:00:00Z"})),
        ("POST", "/instances/{id}/groups") => Names("instance", json!({"name": "x"})),
        ("PUT", "/instances/{id}/profile/name") => Names("instance", json!({"name": "x"})),
        ("PUT", "/instances/{id}/profile/status") => Names("instance", json!({"status": "x"})),
        ("PUT", "/instances/{id}/profile/picture") => Names("instance", json!({"base64": "eA=="})),
        ("PUT", "/instances/{id}/privacy") => Names("instance", json!({"last": "none"})),
        ("POST", "/instances/{id}/check-number") => Names("instance", json!({"phones": ["+1"]})),
        (_, "/instances/{id}/block") => Names("instance", json!({"contactId": "x"})),
        (_, path) if path.starts_with("/instances/{id}") => Names("instance", json!({"phoneNumber": "+1"})),
        ("POST", "/chats/{id}/actions") => Names("chat", json!({"action": "archive"})),
        ("POST", "/chats/{id}/group") => Names("chat", json!({"action": "leave"})),
        (_, path) if path.starts_with("/chats/{id}") => Names("chat", json!({})),
        ("POST", "/messages/{id}/edit") => Names("message", json!({"text": "x"})),
        ("POST", "/messages/{id}/reactions") => Names("message", json!({"emoji": "x"})),
        (_, path) if path.starts_with("/messages/{id}") => Names("message", Value::Null),
        ("POST", "/messages/read") => {
            Names("", json!({"instanceId": "other", "chatId": "theirs", "messageIds": ["t1"]}))
        }
        ("POST", "/messages/edit-channel" | "/messages/delete-channel") => {
            Names("", json!({"instanceId": "other", "channelId": "theirs", "messageId": "t1", "text": "x"}))
        }
        ("POST", "/messages/send/presence") => Names("", send(json!({"type": "typing"}))),
        ("POST", "/messages/send/media" | "/messages/media") => {
            Names("", send(json!({"type": "image", "url": "https://example.org/a.png"})))
        }
        ("POST", "/messages/send/album") => Names(
            "",
            send(
                json!({"items": [{"type": "image", "url": "https://x.test/a"}, {"type": "image", "url": "https://x.test/b"}]}),
            ),
        ),
        ("POST", "/messages/send/sticker" | "/messages/sticker") => {
            Names("", send(json!({"url": "https://example.org/a.png"})))
        }
        ("POST", "/messages/send/contact" | "/messages/contact") => Names("", send(json!({"contact": {"name": "x"}}))),
        ("POST", "/messages/send/location" | "/messages/location") => {
            Names("", send(json!({"latitude": 1, "longitude": 1})))
        }
        ("POST", "/messages/send/poll") => Names("", send(json!({"question": "x", "answers": ["a", "b"]}))),
        ("POST", "/messages/send/buttons") => Names("", send(json!({"rows": [[{"text": "a", "data": "a"}]]}))),
        ("POST", path) if path == "/messages" || path.starts_with("/messages/") => Names("", send(json!({}))),
        ("POST", "/media") => Names("/media?instanceId=other", json!({})),
        ("GET", "/media/{id}") => Names("media", Value::Null),
        (_, "/persons/{id}/export" | "/persons/{id}/erasure" | "/persons/{id}/erase") => Everywhere,
        ("GET", "/persons/{id}" | "/persons/{id}/timeline") => Names("person", Value::Null),
        ("GET", "/events/timeline/{personId}") => Names("person", Value::Null),
        ("GET", "/events/{id}") => Names("event", Value::Null),
        (_, path) if path.starts_with("/dead-letters/{id}") => Names("letter", json!({"note": "x"})),
        ("POST", "/instances") | ("POST", "/persons/link" | "/persons/unlink" | "/persons/merge") => Everywhere,
        ("GET", "/webhooks" | "/event-ops/replay" | "/auth-imports") => Lists,
        ("POST", "/webhooks") => {
            Names("", json!({"name": "x", "url": "https://example.org/", "instanceIds": ["other"]}))
        }
        (_, path) if path.starts_with("/webhooks/{id}") => Names("webhook", json!({})),
        ("POST", "/event-ops/replay") => Names("", json!({"consumer": "their-hook", "since": "2026-01-01T00:00:00Z"})),
        // Nobody's.
        (_, "/event-ops/replay/{id}" | "/auth-imports/{id}/snapshot") => Names("replay", Value::Null),
        ("GET", "/audit" | "/hosts" | "/keys/{id}/audit" | "/system/key") => Everywhere,
        (_, path) if path.starts_with("/keys") => Everywhere,
        ("POST" | "PUT" | "PATCH" | "DELETE", path) if path.starts_with("/settings") || path.starts_with("/system") => {
            Everywhere
        }
        ("GET", path) if path.starts_with("/settings") || path.starts_with("/plugins") => Nothing,
        ("GET", "/metrics") => Everywhere,
        ("GET", "/instances/supported-channels" | "/system/log-level") => Nothing,
        ("POST", "/plugins/rescan" | "/auth/validate") => Nothing,
        // What was added since says here what it does.
        (method, path) => panic!("{method} {path}: say what it does for a key that reaches some instances only"),
    }
}

async fn every_route_keeps_a_key_to_its_instances() {
    let world = World::open_with(|options| options.open_metrics = false).await;
    world.apply(world.instance, vec![said("mine", "m1", "ana", START)]).await;
    world.apply(world.other, vec![said("theirs", "t1", "bob", START)]).await;
    let one_of = async |path: &str| {
        let found = world.get(path).await;
        found.body["items"][0]["id"].as_str().unwrap_or_else(|| panic!("{path}: {}", found.text)).to_owned()
    };
    let file = Request::builder().method("POST").uri("/api/v2/media?instanceId=other").header("x-api-key", KEY);
    let file = world.send(file.body(Body::from("their file")).expect("a request")).await;
    let letter = dead_letter(&world, world.other).await;
    let hook = json!({"name": "their-hook", "url": "https://example.org/", "instanceIds": ["other"]});
    let hook = world.post("/webhooks", hook).await;
    let hook = hook.body["data"]["id"].as_str().unwrap_or_else(|| panic!("{}", hook.text)).to_owned();
    let theirs = |kind: &str| -> String {
        match kind {
            "instance" => world.other.to_string(),
            "media" => file.body["data"]["id"].as_str().expect("an id").to_owned(),
            "letter" => letter.to_string(),
            "webhook" => hook.clone(),
            "replay" => Uuid::nil().to_string(),
            other => panic!("{other}"),
        }
    };
    let chat = one_of("/chats?instanceId=other").await;
    let message = one_of("/messages?instanceId=other").await;
    let event = one_of("/events?instanceId=other&eventType=message.received").await;
    let person = one_of("/persons?instanceId=other").await;
    let key = world.key(&["*"], Some(vec![world.instance])).await;
    let secrets = ["theirs", "t1", "bob", &world.other.to_string(), &chat, &message, &event, &person, &hook];
    for route in ROUTES.iter().filter(|route| !matches!(route.access, Access::Open)) {
        let method: Method = route.method.parse().expect("a method");
        let what = format!("{method} {}", route.path);
        match reach(route) {
            Reach::Nothing => {}
            Reach::Everywhere => {
                let answer = world.ask(&key, method, &filled(route.path), Some(everywhere_body(route.path))).await;
                assert_eq!(answer.status, StatusCode::FORBIDDEN, "{what}: {}", answer.text);
                assert_eq!(answer.body["error"]["details"], Value::Null, "{what}: not for want of a scope");
            }
            Reach::Lists if route.path == "/events/stream" => {
                // Read up to where it waits for more: everything that is kept was looked at by then.
                let path = format!("/api/v2{}?after=0", route.path);
                let asked = Request::builder().uri(path).header("x-api-key", &key).body(Body::empty());
                let response = world.router.clone().oneshot(asked.expect("a request")).await.expect("an answer");
                let mut body = response.into_body().into_data_stream();
                let mut text = String::new();
                world.apply(world.instance, vec![said("mine", "last", "ana", START)]).await;
                while !text.contains("words of last") {
                    use futures_util::StreamExt;
                    let piece = tokio::time::timeout(SOON, body.next()).await.expect("in time").expect("goes on");
                    text.push_str(std::str::from_utf8(&piece.expect("bytes")).expect("text"));
                }
                for secret in secrets {
                    assert!(!text.contains(&format!("\"{secret}\"")), "{what} shows {secret}: {text}");
                }
            }
            Reach::Lists => {
                let path = route.path.replace("{senderId}", "bob");
                let answer = world.ask(&key, method, &path, None).await;
                assert_eq!(answer.status, StatusCode::OK, "{what}: {}", answer.text);
                for secret in secrets {
                    assert!(!answer.text.contains(&format!("\"{secret}\"")), "{what} shows {secret}: {}", answer.text);
                }
            }
            Reach::Names(kind, body) => {
                let path = match kind {
                    "" => route.path.to_owned(),
                    path if path.starts_with('/') => path.to_owned(),
                    kind => {
                        let id = match kind {
                            "chat" => chat.clone(),
                            "message" => message.clone(),
                            "event" => event.clone(),
                            "person" => person.clone(),
                            other => theirs(other),
                        };
                        let named = route.path.replace("{id}", &id).replace("{personId}", &id);
                        let named = named.replace("{jobId}", &Uuid::nil().to_string());
                        named.replace("{userId}", "bob").replace("{deliveryId}", &Uuid::nil().to_string())
                    }
                };
                let body = (!body.is_null()).then_some(body);
                let answer = world.ask(&key, method, &path, body).await;
                assert!(
                    matches!(answer.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND),
                    "{what} {path}: {} {}",
                    answer.status,
                    answer.text
                );
                assert!(!answer.text.contains("words of t1"), "{what}: {}", answer.text);
            }
        }
    }
    // What was asked for in vain is as it was.
    for (path, id) in [("/chats", &chat), ("/messages", &message), ("/instances", &world.other.to_string())] {
        assert_eq!(world.get(&format!("{path}/{id}")).await.status, StatusCode::OK, "{path}");
    }
}

fn everywhere_body(path: &str) -> Value {
    match path {
        "/instances" => json!({"name": "x", "channel": "test"}),
        "/persons/link" => json!({"identityA": Uuid::nil(), "identityB": Uuid::nil()}),
        "/persons/unlink" => json!({"identityId": Uuid::nil(), "reason": "x"}),
        "/persons/merge" => json!({"sourcePersonId": Uuid::nil(), "targetPersonId": Uuid::now_v7()}),
        "/keys" => json!({"name": "x", "scopes": ["*"]}),
        "/settings" => json!({"settings": {"a": 1}}),
        "/settings/{key}" => json!({"value": 1}),
        "/system/log-level" => json!({"level": "info"}),
        _ => json!({}),
    }
}

/// An event of an instance that could not be stored.
async fn dead_letter(world: &World, instance_id: Uuid) -> Uuid {
    use crate::store::dead_letters::{self, NewDeadLetter};
    let now = world.host.clock.now();
    let mut tx = world.host.store.begin().await.expect("begins");
    let event_id = tx.new_id(now);
    let letter = NewDeadLetter {
        event_id,
        event_type: "message.received".into(),
        consumer: "storage".into(),
        instance_id: Some(instance_id),
        accepted_at: now,
        payload: b"{}".to_vec(),
        error: "their error".into(),
        next_auto_retry_at: None,
    };
    let id = dead_letters::insert(&mut tx, &letter, now).await.expect("a letter");
    tx.commit().await.expect("commits");
    id
}

both!(
    every_route_asks_for_a_key_and_its_scope,
    each_way_to_present_a_key_works_where_it_is_allowed,
    a_key_ends_when_it_is_revoked_removed_or_too_old,
    nobody_gives_a_key_what_they_have_not,
    a_key_of_one_instance_sees_nothing_of_another,
    a_key_may_make_so_many_requests_a_minute,
    a_first_key_is_made_once,
    exactly_the_scope_of_the_table_opens_a_route,
    every_route_keeps_a_key_to_its_instances,
);
