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
        let mut request = Request::builder().uri(format!("/api/v2/events/stream?api_key={KEY}{query}"));
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

#[tokio::test]
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
    assert_eq!(back.next().await, None, "the stream ends with the program");
}

#[tokio::test]
async fn a_stream_is_narrowed_and_begins_now() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "before", "ana", START)]).await;
    let mut narrow = Follower::start(&world, "&instanceId=other&chatId=h&type=message.received", None).await;
    world.apply(world.instance, vec![said("h", "elsewhere", "ana", START)]).await;
    world.apply(world.other, vec![said("g", "other chat", "ana", START)]).await;
    world.apply(world.other, vec![said("h", "this", "ana", START)]).await;
    assert_eq!(narrow.next().await.expect("one").2["payload"]["externalId"], "this");
}

#[tokio::test]
async fn a_gap_is_said_aloud() {
    let world = World::open().await;
    world.apply(world.instance, vec![said("g", "a", "ana", START)]).await;
    let mut ahead = Follower::start(&world, "", Some("99999")).await;
    let (name, _, data) = ahead.next().await.expect("a word");
    assert_eq!(name, "gap");
    assert_eq!(data["after"], 99_999);
    let refused = world.get("/events/stream?after=x").await;
    assert_eq!(refused.body["error"]["details"]["field"], "after", "{}", refused.text);
}

#[tokio::test]
async fn a_slow_reader_misses_nothing() {
    let world = World::open().await;
    let mut slow = Follower::start(&world, "&type=message.received&after=0", None).await;
    let events = (0..700).map(|number| said("g", &number.to_string(), "ana", START)).collect();
    world.apply(world.instance, events).await;
    for number in 0..700 {
        assert_eq!(slow.next().await.expect("each").2["payload"]["externalId"], json!(number.to_string()));
    }
}
