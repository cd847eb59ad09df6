//! What is refused, and how it says so.

use super::*;

fn code(answer: &Answer) -> (u16, &str) {
    (answer.status.as_u16(), answer.body["error"]["code"].as_str().unwrap_or("no code"))
}

async fn every_refusal_has_the_envelope() {
    let world = World::open().await;
    assert_eq!(code(&world.get("/nothing/here").await), (404, "NOT_FOUND"));
    assert_eq!(code(&world.ask("", Method::GET, "/api/v1/instances", None).await), (404, "NOT_FOUND"));
    let wrong = world.ask(KEY, Method::PUT, "/chats", None).await;
    assert_eq!(code(&wrong), (405, "METHOD_NOT_ALLOWED"));
    assert_eq!(wrong.headers["allow"], "GET");
    assert_eq!(code(&world.get(&format!("/chats/{}", Uuid::nil())).await), (404, "NOT_FOUND"));
    assert_eq!(code(&world.get("/chats/not-a-uuid").await), (400, "VALIDATION_ERROR"));
    for query in ["limit=0", "limit=101", "limit=x", "cursor=x", "unreadOnly=perhaps"] {
        let refused = world.get(&format!("/chats?{query}")).await;
        assert_eq!(code(&refused), (400, "VALIDATION_ERROR"), "{query}");
        let field = query.split('=').next().expect("a field");
        assert_eq!(refused.body["error"]["details"]["field"], field, "{}", refused.text);
    }
    let since = world.get("/messages?since=yesterday").await;
    assert_eq!(since.body["error"]["details"]["field"], "since", "{}", since.text);
}

async fn a_bad_body_is_named() {
    let world = World::open().await;
    let missing = world.post("/messages/send", json!({"instanceId": "main", "to": "g"})).await;
    assert_eq!(missing.body["error"]["details"]["field"], "text", "{}", missing.text);
    let wrong = world.post("/keys", json!({"name": "x", "scopes": [1]})).await;
    assert_eq!(wrong.body["error"]["details"]["field"], "scopes[0]", "{}", wrong.text);
    let send = |kind: Option<&str>, body: &str| {
        let mut request = Request::builder().method("POST").uri("/api/v2/keys").header("x-api-key", KEY);
        if let Some(kind) = kind {
            request = request.header("content-type", kind);
        }
        request.body(Body::from(body.to_owned())).expect("a request")
    };
    assert_eq!(code(&world.send(send(Some("application/json"), "{")).await), (400, "VALIDATION_ERROR"));
    assert_eq!(code(&world.send(send(Some("text/plain"), "{}")).await), (415, "VALIDATION_ERROR"));
    assert_eq!(code(&world.send(send(None, "{}")).await), (415, "VALIDATION_ERROR"));
    let odd = json!({"instanceId": "main", "to": "g", "latitude": 91, "longitude": 0});
    let odd = world.post("/messages/send/location", odd).await;
    assert_eq!(odd.body["error"]["details"]["field"], "latitude", "{}", odd.text);
}

async fn a_large_body_is_refused_and_an_upload_may_be_larger() {
    let world = World::open_with(|options| (options.body_limit, options.media_limit) = (1_000, 5_000)).await;
    let large = json!({"name": "x".repeat(2_000), "scopes": ["*"]});
    assert_eq!(code(&world.post("/keys", large).await), (413, "PAYLOAD_TOO_LARGE"));
    let upload = |size: usize| {
        let request = Request::builder().method("POST").uri("/api/v2/media?instanceId=main&filename=a.bin");
        request.header("x-api-key", KEY).header("content-type", "image/png").body(Body::from(vec![7; size]))
    };
    assert_eq!(code(&world.send(upload(6_000).expect("a request")).await), (413, "PAYLOAD_TOO_LARGE"));
    let stored = world.send(upload(3_000).expect("a request")).await;
    assert_eq!(stored.status, StatusCode::CREATED, "{}", stored.text);
    let url = stored.body["data"]["url"].as_str().expect("an address").to_owned();
    let whole = world.get(&url).await;
    assert_eq!(whole.text.len(), 3_000);
    assert_eq!(whole.headers["content-type"], "image/png");
    assert_eq!(whole.headers["x-content-type-options"], "nosniff");
    let request = Request::builder().uri(&url).header("x-api-key", KEY).header("range", "bytes=10-19");
    let part = world.send(request.body(Body::empty()).expect("a request")).await;
    assert_eq!((part.status, part.text.len()), (StatusCode::PARTIAL_CONTENT, 10));
    assert_eq!(part.headers["content-range"], "bytes 10-19/3000");
    let other = world.key(&["*"], Some(vec![world.other])).await;
    assert_eq!(world.ask(&other, Method::GET, &url, None).await.status, StatusCode::NOT_FOUND);
}

async fn an_upload_may_be_a_form() {
    let world = World::open().await;
    let body = "--x\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--x\r\n\
                content-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\ncontent-type: text/plain\r\n\r\n\
                the file\r\n--x--\r\n";
    let request = Request::builder().method("POST").uri("/api/v2/media?instanceId=main").header("x-api-key", KEY);
    let request = request.header("content-type", "multipart/form-data; boundary=x").body(Body::from(body));
    let stored = world.send(request.expect("a request")).await;
    assert_eq!(stored.status, StatusCode::CREATED, "{}", stored.text);
    assert_eq!(stored.body["data"]["fileName"], "a.txt");
    let file = world.get(stored.body["data"]["url"].as_str().expect("an address")).await;
    assert_eq!(file.text, "the file");
    assert!(file.headers["content-disposition"].to_str().expect("text").starts_with("attachment"));
}

async fn every_answer_has_an_id_and_keeps_a_harmless_one() {
    let world = World::open().await;
    let made = world.get("/chats").await;
    assert!(!made.headers["x-request-id"].is_empty());
    let request = Request::builder().uri("/api/v2/chats").header("x-request-id", "mine-1").body(Body::empty());
    let kept = world.send(request.expect("a request")).await;
    assert_eq!(kept.headers["x-request-id"], "mine-1");
    assert_eq!(kept.status, StatusCode::UNAUTHORIZED);
}

async fn an_instance_is_shown_without_its_secrets() {
    let world = World::open().await;
    let shown = world.get("/instances/main").await;
    assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
    assert_eq!(shown.body["data"]["hasToken"], true);
    assert_eq!(shown.body["data"]["id"], json!(world.instance));
    let status = world.get(&format!("/instances/{}/status", world.instance)).await;
    assert_eq!(status.body["data"]["isConnected"], false);
    assert_eq!(status.body["data"]["state"], "disconnected");
    assert_eq!(status.body["data"]["connectedAt"], Value::Null);
}

both!(
    every_refusal_has_the_envelope,
    a_bad_body_is_named,
    a_large_body_is_refused_and_an_upload_may_be_larger,
    an_upload_may_be_a_form,
    every_answer_has_an_id_and_keeps_a_harmless_one,
    an_instance_is_shown_without_its_secrets,
);
