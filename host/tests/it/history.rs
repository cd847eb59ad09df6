//! Older and missed messages, fetched by a whole host from a channel whose history is said to it.

use crate::harness::{PATIENCE, Setup, TestHost, free_address, http_client};
use omni_channel_sdk::chat::{Chat, ChatKind, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, Message};
use omni_channel_sdk::outcome::{ErrorCode, NextActor, SendError};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where the manual clock begins, in milliseconds.
const NOW: i64 = 1_767_225_630_000;
const MINUTE: i64 = 60_000;

/// A host with one instance of the channel, on a clock that stands still.
struct World {
    host: TestHost,
    id: String,
    network: String,
    client: reqwest::Client,
}

fn setup() -> Setup {
    Setup { plugins: vec!["faulty", "echo"], manual_clock: true, ..Setup::default() }
}

impl World {
    async fn open() -> Self {
        let host = TestHost::with(setup()).await;
        let network = free_address();
        let id = host.instance("main", "faulty", json!({"listen": network})).await;
        host.until_state(&id, "connected").await;
        Self { host, id, network: format!("http://{network}"), client: http_client(PATIENCE) }
    }

    async fn restart(self) -> Self {
        let host = self.host.restart(setup()).await;
        host.until_state(&self.id, "connected").await;
        Self { host, ..self }
    }

    async fn post(&self, body: Value) {
        let answer = self.client.post(&self.network).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{}", answer.text().await.unwrap());
    }

    /// What was asked of the network since it started: chat and place.
    async fn asked(&self) -> Vec<(String, String)> {
        let seen: Value = self.client.get(&self.network).send().await.unwrap().json().await.unwrap();
        serde_json::from_value(seen["asked"].clone()).unwrap()
    }

    /// Messages that come by themselves.
    async fn comes(&self, events: &[Event]) {
        self.post(json!({"emit": events})).await;
        self.host.settle().await;
    }

    async fn begin(&self, what: &str, body: Value) -> String {
        let begun = self.host.post(&format!("/instances/{}/{what}", self.id), body).await;
        begun["data"]["id"].as_str().unwrap().to_owned()
    }

    async fn job(&self, job: &str) -> Value {
        self.host.get(&format!("/instances/{}/sync/{job}", self.id)).await["data"].clone()
    }

    /// Waits until a job has ended, and what it brought is stored.
    async fn until_ended(&self, job: &str) -> Value {
        let path = format!("/instances/{}/sync/{job}", self.id);
        let is_ended = |body: &Value| !matches!(body["data"]["status"].as_str(), Some("pending" | "running"));
        let ended = self.host.until(&path, is_ended).await["data"].clone();
        self.host.settle().await;
        ended
    }

    /// Lets time pass, a second at a time, until something is so, and says how many seconds that took.
    async fn pass_until(&self, mut is_so: impl AsyncFnMut() -> bool) -> u64 {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        let mut seconds = 0;
        while !is_so().await {
            assert!(began.elapsed() < PATIENCE, "it did not become so in {seconds} s of the host's clock");
            self.host.clock.as_ref().unwrap().advance(Duration::from_secs(1));
            seconds += 1;
            tick.tick().await;
        }
        seconds
    }

    /// Waits until so many questions were asked; time stands still.
    async fn until_asked(&self, count: usize) -> Vec<(String, String)> {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(5));
        loop {
            let asked = self.asked().await;
            if asked.len() >= count {
                return asked;
            }
            assert!(began.elapsed() < PATIENCE, "only {asked:?} was asked for");
            tick.tick().await;
        }
    }

    async fn stored(&self, chat: &str) -> Vec<(String, String)> {
        let messages = self.host.messages(&self.id, chat).await;
        let word = |message: &Value, field: &str| message[field].as_str().unwrap().to_owned();
        messages.iter().map(|message| (word(message, "externalId"), word(message, "source"))).collect()
    }

    /// The types of the events that tell of messages and jobs, the oldest first.
    async fn events(&self) -> Vec<String> {
        let events = self.host.get("/events?limit=100").await["items"].as_array().unwrap().clone();
        let types = events.iter().rev().map(|event| event["eventType"].as_str().unwrap().to_owned());
        types.filter(|name| name.starts_with("message.") || name.starts_with("sync.")).collect()
    }

    async fn unread(&self, chat: &str) -> i64 {
        let found = self.host.get(&format!("/chats/by-external?externalId={chat}&instanceId={}", self.id)).await;
        found["data"]["unreadCount"].as_i64().unwrap()
    }
}

/// Somebody wrote, so many minutes after the clock began.
fn said(chat: &str, id: &str, minute: i64) -> Event {
    let message = Message::new(id, User::new("ana"), Content::text(format!("words of {id}")));
    let key = format!("{chat}/{id}");
    Event::new(Chat::new(chat, ChatKind::Direct), NOW + minute * MINUTE, message).delivered_as(key)
}

fn ours(chat: &str, id: &str, minute: i64) -> Event {
    let sender = omni_channel_sdk::chat::Sender { user: User::new("me"), is_from_me: true, on_behalf_of: None };
    Event::new(Chat::new(chat, ChatKind::Direct), NOW + minute * MINUTE, Message::new(id, sender, Content::text(id)))
}

fn page(events: &[Event], cursor: Option<&str>) -> Value {
    json!({"events": events, "cursor": cursor})
}

fn error(error: &SendError) -> Value {
    json!({ "error": error })
}

fn refused(code: ErrorCode) -> Value {
    error(&SendError::new(code, NextActor::Operator, "the network says no"))
}

fn sync(source: &[&str]) -> Vec<(String, String)> {
    source.iter().map(|id| ((*id).to_owned(), "sync".to_owned())).collect()
}

fn pairs(asked: &[(&str, &str)]) -> Vec<(String, String)> {
    asked.iter().map(|(chat, place)| ((*chat).to_owned(), (*place).to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn older_messages_are_stored_once_in_order_and_are_no_news() {
    let world = World::open().await;
    world.comes(&[said("c", "7", -10)]).await;
    world
        .post(json!({"history": {"c": {
            "before 7": [page(&[said("c", "5", -50), ours("c", "6", -40)], Some("p2"))],
            // As networks do whose pages are cut by time.
            "p2": [page(&[said("c", "3", -70), said("c", "4", -60), said("c", "5", -50)], Some("p3"))],
            "p3": [page(&[said("c", "1", -90), said("c", "2", -80), said("c", "3", -70)], None)],
        }}}))
        .await;
    let job = world.begin("sync", json!({"type": "messages", "channelId": "c", "depth": "all"})).await;
    let ended = world.until_ended(&job).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let progress = &ended["progress"];
    assert_eq!(
        (&progress["fetched"], &progress["pages"], &progress["chats"], &progress["chatsDone"]),
        (&json!(8), &json!(3), &json!(1), &json!(1)),
        "{ended}"
    );
    let mut expected = sync(&["1", "2", "3", "4", "5", "6"]);
    expected.push(("7".into(), "realtime".into()));
    assert_eq!(world.stored("c").await, expected);
    let mut events = vec!["message.received", "sync.started"];
    events.extend(["message.synced"; 6]);
    let mut told = world.events().await;
    let ends = told.iter().position(|name| name == "sync.completed").expect("its end is told");
    told.remove(ends);
    assert_eq!(told, events);
    assert_eq!(world.unread("c").await, 1, "what is old is not unread");

    // From the oldest that is stored now, and nothing older is there.
    let again = world.begin("sync", json!({"type": "messages", "chatId": "c"})).await;
    let ended = world.until_ended(&again).await;
    assert_eq!(
        (&ended["status"], &ended["progress"]["failures"][0]["code"]),
        (&json!("failed"), &json!("chatNotFound"))
    );
    assert_eq!(world.asked().await.last().unwrap().1, "before 1");
    assert_eq!(world.stored("c").await, expected);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_time_bounds_what_is_fetched_and_a_chat_that_is_not_known_begins_with_its_newest() {
    let world = World::open().await;
    let day = 24 * 60;
    world
        .post(json!({"history": {"new": {
            "newest": [page(&[said("new", "3", -2 * day), said("new", "4", -day)], Some("p2"))],
            "p2": [page(&[said("new", "1", -9 * day), said("new", "2", -6 * day)], Some("p3"))],
        }}}))
        .await;
    let job = world.begin("sync", json!({"type": "messages", "chatId": "new", "depth": "7d"})).await;
    let ended = world.until_ended(&job).await;
    assert_eq!((&ended["status"], &ended["progress"]["skipped"]), (&json!("completed"), &json!(1)), "{ended}");
    assert_eq!(world.stored("new").await, sync(&["2", "3", "4"]));
    assert_eq!(world.asked().await, pairs(&[("new", "newest"), ("new", "p2")]));
    assert_eq!(world.unread("new").await, 0);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_is_fetched_as_news_from_where_the_gap_begins() {
    let world = World::open().await;
    world.comes(&[said("a", "1", -10), said("b", "1", -20)]).await;
    world
        .post(json!({"history": {
            "a": {
                "after 1": [page(&[said("a", "2", 1), said("a", "3", 2)], Some("p2"))],
                "p2": [page(&[said("a", "4", 3), said("a", "5", 6)], None)],
            },
            "b": {"after 1": [page(&[], None)]},
        }}))
        .await;
    world.host.clock.as_ref().unwrap().advance(Duration::from_secs(300));
    // What comes right behind it is no reason to begin there. It is said more than once, and done once.
    world.post(json!({"missed": true, "emit": [said("a", "5", 6)]})).await;
    world.post(json!({"missed": true, "emit": []})).await;
    world.host.settle().await;
    let jobs = async || world.host.get(&format!("/instances/{}/sync", world.id)).await["items"].clone();
    let waits = jobs().await;
    assert_eq!((waits.as_array().unwrap().len(), &waits[0]["type"]), (1, &json!("missed")), "{waits}");
    world.pass_until(async || jobs().await[0]["status"] == "completed").await;
    world.host.settle().await;
    let mut expected = vec![("1".to_owned(), "realtime".to_owned())];
    expected.extend(sync(&["2", "3", "4"]));
    expected.push(("5".into(), "realtime".into()));
    assert_eq!(world.stored("a").await, expected);
    assert_eq!(world.asked().await, pairs(&[("a", "after 1"), ("a", "p2"), ("b", "after 1")]));
    let told = world.events().await;
    assert_eq!(told.iter().filter(|name| *name == "message.received").count(), 6, "{told:?}");
    assert!(!told.iter().any(|name| name == "message.synced"), "{told:?}");
    assert_eq!(world.unread("a").await, 5);
    assert_eq!(jobs().await.as_array().unwrap().len(), 1);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_fetches_what_was_missed_from_a_time_on() {
    let world = World::open().await;
    world.comes(&[said("c", "1", -90), said("c", "5", -10)]).await;
    world
        .post(json!({"history": {"c": {
            "after 1": [page(&[said("c", "2", -70), said("c", "3", -40), said("c", "4", -20), said("c", "5", -10)], None)],
        }}}))
        .await;
    let minute = |minute: i64| omni_host::store::Time::from_millis(NOW + minute * MINUTE);
    let body = json!({"since": minute(-60), "until": minute(-30)});
    let ended = world.until_ended(&world.begin("resync", body).await).await;
    assert_eq!((&ended["status"], &ended["progress"]["skipped"]), (&json!("completed"), &json!(3)), "{ended}");
    let stored: Vec<String> = world.stored("c").await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(stored, ["1", "3", "5"]);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_says_slower_is_waited_for_and_a_restart_goes_on_where_it_was() {
    let world = World::open().await;
    world.comes(&[said("c", "9", -10)]).await;
    let slower = error(&SendError::rate_limited(30_000, "slower"));
    world
        .post(json!({"history": {"c": {
            "before 9": [page(&[said("c", "8", -20)], Some("p2"))],
            "p2": [slower, page(&[said("c", "7", -30)], Some("p3"))],
            "p3": [page(&[said("c", "6", -40)], None)],
        }}}))
        .await;
    let job = world.begin("sync", json!({"type": "messages", "depth": "all"})).await;
    let asked = world.until_asked(2).await;
    assert_eq!(asked, pairs(&[("c", "before 9"), ("c", "p2")]));

    let world = world.restart().await;
    assert_eq!(world.job(&job).await["status"], "running");
    assert_eq!(world.until_asked(1).await, pairs(&[("c", "p2")]), "from where it was");
    let seconds = world.pass_until(async || world.asked().await.len() > 1).await;
    assert!(seconds >= 30, "it was asked again after {seconds} s");
    let ended = world.until_ended(&job).await;
    assert_eq!((&ended["status"], &ended["progress"]["pages"]), (&json!("completed"), &json!(3)), "{ended}");
    assert_eq!(world.asked().await, pairs(&[("c", "p2"), ("c", "p2"), ("c", "p3")]));
    let mut expected = sync(&["6", "7", "8"]);
    expected.push(("9".into(), "realtime".into()));
    assert_eq!(world.stored("c").await, expected);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_that_is_refused_and_an_event_that_is_no_good_stop_nothing_else() {
    let world = World::open().await;
    world.comes(&[said("bad", "9", -5), said("shaky", "9", -10), said("good", "9", -20)]).await;
    let mut broken = said("good", "8", -30);
    broken.chat = None;
    world
        .post(json!({"history": {
            "bad": {"before 9": [refused(ErrorCode::Forbidden)]},
            "shaky": {"before 9": [
                error(&SendError::transient("broken")), error(&SendError::transient("broken")),
                page(&[said("shaky", "8", -30)], None),
            ]},
            "good": {"before 9": [page(&[said("good", "7", -40), broken, said("good", "6", -30)], None)]},
        }}))
        .await;
    let job = world.begin("sync", json!({"type": "messages", "depth": "all"})).await;
    world.pass_until(async || world.job(&job).await["status"] == "completed").await;
    let ended = world.until_ended(&job).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let progress = &ended["progress"];
    assert_eq!(
        (&progress["chatsDone"], &progress["chatsFailed"], &progress["refused"]),
        (&json!(3), &json!(1), &json!(1))
    );
    let failure = json!([{"chatId": "bad", "code": "forbidden", "message": "the network says no"}]);
    assert_eq!(progress["failures"], failure);
    assert_eq!(world.stored("shaky").await[0], ("8".to_owned(), "sync".to_owned()));
    assert_eq!(world.stored("good").await.len(), 3);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_stays_away_fails_the_job_after_a_while() {
    let world = World::open().await;
    world.comes(&[said("c", "9", -10)]).await;
    world.post(json!({"history": {"c": {"before 9": [error(&SendError::transient("broken"))]}}})).await;
    let job = world.begin("sync", json!({"type": "messages"})).await;
    world.until_asked(1).await;
    world.pass_until(async || world.job(&job).await["status"] == "failed").await;
    let ended = world.job(&job).await;
    assert!(ended["errorMessage"].as_str().unwrap().contains("was tried 8 times: broken"), "{ended}");
    assert_eq!(world.asked().await.len(), 8);
    assert_eq!(world.events().await.last().map(String::as_str), Some("sync.failed"));
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_ends_and_the_next_one_begins() {
    let world = World::open().await;
    world.comes(&[said("c", "9", -10)]).await;
    let slower = error(&SendError::rate_limited(3_600_000, "slower"));
    world
        .post(json!({"history": {
            "c": {"before 9": [page(&[said("c", "8", -20)], Some("p2"))], "p2": [slower]},
            "d": {"newest": [page(&[said("d", "1", -20)], None)]},
        }}))
        .await;
    let job = world.begin("sync", json!({"type": "messages", "chatId": "c"})).await;
    let next = world.begin("sync", json!({"type": "messages", "chatId": "d"})).await;
    world.until_asked(2).await;
    assert_eq!(world.job(&next).await["status"], "pending", "one of an instance at a time");
    let path = format!("/instances/{}/sync/{job}", world.id);
    let (status, answer) = world.host.call(Method::DELETE, &path, None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    assert_eq!(world.until_ended(&next).await["status"], "completed");
    let ended = world.job(&job).await;
    assert_eq!((&ended["status"], &ended["progress"]["stored"]), (&json!("cancelled"), &json!(1)), "{ended}");
    assert_eq!(world.stored("c").await.len(), 2, "what was fetched stays");
    assert_eq!(world.asked().await, pairs(&[("c", "before 9"), ("c", "p2"), ("d", "newest")]));
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_goes_before_the_rest_of_an_older_job() {
    let world = World::open().await;
    world.comes(&[said("c", "9", -10)]).await;
    let slower = error(&SendError::rate_limited(60_000, "slower"));
    world
        .post(json!({"history": {"c": {
            "before 9": [slower, page(&[said("c", "8", -20)], Some("p2"))],
            "p2": [page(&[said("c", "7", -30)], None)],
            "after 9": [page(&[said("c", "10", -1)], None)],
        }}}))
        .await;
    let job = world.begin("sync", json!({"type": "messages"})).await;
    world.until_asked(1).await;
    world.host.clock.as_ref().unwrap().advance(Duration::from_secs(1));
    world.post(json!({"missed": true, "emit": []})).await;
    world.pass_until(async || world.job(&job).await["status"] == "completed").await;
    let expected = pairs(&[("c", "before 9"), ("c", "after 9"), ("c", "before 9"), ("c", "p2")]);
    assert_eq!(world.asked().await, expected);
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_without_history_says_so_before_a_job_is_made() {
    let world = World::open().await;
    let (echo, _) = world.host.echo("plain").await;
    for (path, body) in [("sync", json!({"type": "messages"})), ("resync", json!({"since": "2025-12-01T00:00:00Z"}))] {
        let path = format!("/instances/{echo}/{path}");
        let (status, answer) = world.host.call(Method::POST, &path, Some(body)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{answer}");
        assert_eq!(answer["error"]["code"], "CAPABILITY_NOT_SUPPORTED");
    }
    assert_eq!(world.host.get(&format!("/instances/{echo}/sync")).await["items"], json!([]));
    world.host.stop().await;
}
