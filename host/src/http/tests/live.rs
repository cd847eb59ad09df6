//! The stream: live, resumed, narrowed, ended.

use super::*;
use axum::body::BodyDataStream;
use futures_util::StreamExt;

/// One who follows.
struct Follower {
    body: BodyDataStream,
    unread: String,
}

impl Follower {
    async fn start(world: &World, query: &str, last: Option<&str>) -> Self {
        Self::with(world, KEY, query, last).await
    }

    async fn with(world: &World, key: &str, query: &str, last: Option<&str>) -> Self {
        let mut request = Request::builder().uri(format!("/api/v2/events/stream?api_key={key}{query}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let request = request.body(Body::empty()).expect("a request");
        let response = world.router.clone().oneshot(request).await.expect("an answer");
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { body: response.into_body().into_data_stream(), unread: String::new() }
    }

    /// The next event: its name, id and data. Nothing at the end.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            if let Some((block, rest)) = self.unread.split_once("\n\n") {
                let field = |name: &str| {
                    block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim().to_owned()
                };
                let (name, id, data) = (field("event:"), field("id:"), field("data:"));
                self.unread = rest.to_owned();
                if data.is_empty() {
                    continue;
                }
                return Some((name, id, serde_json::from_str(&data).expect("JSON")));
            }
            let more = tokio::time::timeout(SOON, self.body.next()).await.expect("something in time")?;
            self.unread.push_str(std::str::from_utf8(&more.expect("bytes")).expect("text"));
        }
    }
}

async fn who_comes_back_goes_on_where_they_left() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START), said("g", "b", "ana", START)]).await;
    let mut all = Follower::start(&world, "&after=0&type=message.*", None).await;
    let (_, first, data) = all.next().await.expect("the first");
    assert_eq!(data["type"], "message.received");
    assert_eq!(data["metadata"]["instanceId"], json!(world.instance));
    assert_eq!(data["payload"]["externalId"], "a", "{data}");
    let mut back = Follower::start(&world, "&type=message.received", Some(&first)).await;
    let (_, second, data) = back.next().await.expect("the second");
    assert_eq!(data["payload"]["externalId"], "b");
    assert_eq!(all.next().await.expect("the second").1, second);
    // Both hear what comes now.
    world.apply(world.instance, vec![said("g", "c", "ana", START)]).await;
    let third = back.next().await.expect("the third");
    assert_eq!(third.2["payload"]["externalId"], "c");
    assert_eq!(all.next().await.expect("the third"), third);
    world.shutdown.cancel();
    let (name, _, data) = back.next().await.expect("a last word");
    assert_eq!((name.as_str(), &data["code"]), ("end", &json!("shutdown")));
    assert_eq!(back.next().await, None, "the stream ends with the program");
}

async fn a_stream_is_narrowed_and_begins_now() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "before", "ana", START)]).await;
    let mut narrow = Follower::start(&world, "&instanceId=other&chatId=h&type=message.received", None).await;
    world.apply(world.instance, vec![said("h", "elsewhere", "ana", START)]).await;
    world.apply(world.other, vec![said("g", "other chat", "ana", START)]).await;
    world.apply(world.other, vec![said("h", "this", "ana", START)]).await;
    assert_eq!(narrow.next().await.expect("one").2["payload"]["externalId"], "this");
}

async fn a_gap_is_said_aloud() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    let mut ahead = Follower::start(&world, "", Some("99999")).await;
    let (name, _, data) = ahead.next().await.expect("a word");
    assert_eq!(name, "gap");
    assert_eq!(data["after"], 99_999);
    assert_eq!(data["next"], 2);
    let refused = world.get("/events/stream?after=x").await;
    assert_eq!(refused.body["error"]["details"]["field"], "after", "{}", refused.text);
}

async fn a_slow_reader_misses_nothing() {
    let world = World::open().await;
    let mut slow = Follower::start(&world, "&type=message.received&after=0", None).await;
    let events = (0..700).map(|number| said("g", &number.to_string(), "ana", START)).collect();
    world.apply(world.instance, events).await;
    for number in 0..700 {
        assert_eq!(slow.next().await.expect("each").2["payload"]["externalId"], json!(number.to_string()));
    }
}

async fn what_is_no_longer_kept_is_counted_when_somebody_comes_back_for_it() {
    let world = World::open().await;
    let events = (0..20).map(|number| said("g", &number.to_string(), "ana", START)).collect();
    world.apply(world.instance, events).await;
    world.manual.advance(Duration::from_secs(100 * 86_400));
    let retention = crate::config::Retention { event_days: 90, ..crate::config::Retention::default() };
    crate::retention::sweep(&world.host.store, &retention, world.host.clock.now()).await.expect("swept");
    world.apply(world.instance, vec![said("g", "late", "ana", START)]).await;
    let mut back = Follower::start(&world, "&type=message.*", Some("3")).await;
    let (name, id, data) = back.next().await.expect("a word");
    assert_eq!((name.as_str(), id.as_str()), ("gap", ""));
    assert_eq!(data["after"], 3);
    assert_eq!(data["lost"], data["next"].as_i64().expect("a number") - 4);
    assert!(data["lost"].as_i64() >= Some(17), "{data}");
    let (_, id, event) = back.next().await.expect("what is kept");
    assert_eq!(event["payload"]["externalId"], "late");
    assert_eq!(id, data["next"].to_string());
}

async fn typing_comes_without_an_id_and_is_narrowed_like_everything() {
    use omni_channel_sdk::chat::Sender;
    use omni_channel_sdk::event::{Activity, Typing};
    let world = World::open().await;
    world.apply(world.instance, vec![said("h", "a", "ana", START)]).await;
    let chat = world.get("/chats").await.body["items"][0]["id"].as_str().expect("an id").to_owned();
    let mut network = Follower::start(&world, "&chatId=h", None).await;
    let mut ours = Follower::start(&world, &format!("&chatId={chat}"), None).await;
    let mut other = Follower::start(&world, "&type=message.*", None).await;
    let sender = Sender { user: User::new("ana"), is_from_me: false, on_behalf_of: None };
    for chat in ["g", "h"] {
        let typing = Typing { sender: sender.clone(), activity: Activity::Typing, timeout_ms: Some(5_000) };
        let event = Event::new(Chat::new(chat, ChatKind::Group), START, typing);
        world.apply(world.instance, vec![event]).await;
    }
    for follower in [&mut network, &mut ours] {
        let (_, id, data) = follower.next().await.expect("typing");
        assert_eq!(id, "", "it cannot be resumed");
        assert_eq!((&data["type"], &data["payload"]["chatId"]), (&json!("presence.typing"), &json!("h")));
        assert_eq!(data["metadata"]["instanceId"], json!(world.instance));
    }
    world.apply(world.instance, vec![said("g", "b", "ana", START)]).await;
    assert_eq!(other.next().await.expect("the message").2["payload"]["externalId"], "b");
}

async fn a_stream_ends_with_its_key() {
    let world = World::open().await;
    let key = world.key(&["events:read"], None).await;
    let other = world.key(&["events:read"], None).await;
    let mut revoked = Follower::with(&world, &key, "", None).await;
    let mut lives = Follower::with(&world, &other, "&type=message.received", None).await;
    let keys = world.get("/keys").await.body;
    let prefix = key.strip_prefix("omni_sk_").expect("a key").get(..8).expect("long");
    let id =
        keys["items"].as_array().expect("items").iter().find(|item| item["keyPrefix"] == prefix).expect("it")["id"]
            .as_str()
            .expect("an id")
            .to_owned();
    let done = world.ask(KEY, Method::POST, &format!("/keys/{id}/revoke"), Some(json!({}))).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let (name, _, data) = revoked.next().await.expect("a last word");
    assert_eq!((name.as_str(), &data["code"]), ("end", &json!("key_revoked")), "{data}");
    assert_eq!(revoked.next().await, None);
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    assert_eq!(lives.next().await.expect("goes on").2["payload"]["externalId"], "a");
}

async fn a_stream_ends_when_its_key_does() {
    let world = World::open().await;
    let new = NewApiKey {
        name: "short".into(),
        scopes: vec!["*".into()],
        expires_at: Some(world.host.clock.now().plus_millis(60_000)),
        ..NewApiKey::default()
    };
    let key = api_keys::create(&world.host.store, &new, world.host.clock.now()).await.expect("a key").1;
    let mut short = Follower::with(&world, &key, "&type=message.received", None).await;
    world.manual.advance(Duration::from_secs(59));
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    assert_eq!(short.next().await.expect("still good").2["payload"]["externalId"], "a");
    world.manual.advance(Duration::from_secs(1));
    let (name, _, data) = short.next().await.expect("a last word");
    assert_eq!((name.as_str(), &data["code"]), ("end", &json!("key_expired")), "{data}");
    assert_eq!(short.next().await, None);
}

async fn one_who_reads_nothing_is_let_go_with_the_reason() {
    let patience = Duration::from_millis(50);
    let world = World::open_with(|options| options.stream_patience = patience).await;
    let mut asleep = Follower::start(&world, "&type=message.received&after=0", None).await;
    let events = (0..200).map(|number| said("g", &number.to_string(), "ana", START)).collect();
    world.apply(world.instance, events).await;
    // Nobody reads until the other end has given up: then all that was ready is there, and why there is no more.
    let mut reader = Follower::start(&world, "", None).await;
    let waited = tokio::time::timeout(patience * 4, reader.body.next()).await;
    assert!(waited.is_err(), "nothing happens meanwhile");
    let mut last = 0;
    loop {
        let (name, id, data) = asleep.next().await.expect("a last word comes first");
        if name == "end" {
            assert_eq!(data["code"], "too_slow", "{data}");
            assert_eq!(data["after"], last, "from where to go on");
            break;
        }
        last = id.parse().expect("a number");
    }
    assert!(last < 200, "what waits for a sleeper is bounded");
    assert_eq!(asleep.next().await, None);
}

both!(
    who_comes_back_goes_on_where_they_left,
    a_stream_is_narrowed_and_begins_now,
    a_gap_is_said_aloud,
    a_slow_reader_misses_nothing,
    what_is_no_longer_kept_is_counted_when_somebody_comes_back_for_it,
    typing_comes_without_an_id_and_is_narrowed_like_everything,
    a_stream_ends_with_its_key,
    a_stream_ends_when_its_key_does,
    one_who_reads_nothing_is_let_go_with_the_reason,
);
