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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
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

#[tokio::test]
async fn a_key_may_make_so_many_requests_a_minute() {
    let world = World::open_with(|options| options.rate_limit = Some(2)).await;
    let key = world.key(&["*"], None).await;
    for _ in 0..2 {
        assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::OK);
    }
    let refused = world.ask(&key, Method::GET, "/chats", None).await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.headers["retry-after"], "60");
    world.manual.advance(Duration::from_secs(60));
    assert_eq!(world.ask(&key, Method::GET, "/chats", None).await.status, StatusCode::OK);
}

#[tokio::test]
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
