//! Webhooks out, end to end: a message from a network to a program of somebody else, whatever that program does.

use crate::database;
use crate::faults::program::{Launch, Program};
use crate::harness::{PATIENCE, Setup, TestHost, free_address, install, plugin_file};
use crate::receiver::{Got, Receiver, Reply};
use omni_host::config::Config;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;

/// Between two attempts of one event, with the most that is added to it.
const DELAYS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];

fn manual() -> Setup {
    Setup { manual_clock: true, ..Setup::default() }
}

/// Makes a webhook; gives back its id and its secret.
async fn webhook(host: &TestHost, name: &str, url: &str, more: Value) -> (String, String) {
    let mut body = json!({"name": name, "url": url});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let made = host.post("/webhooks", body).await["data"].clone();
    (made["id"].as_str().unwrap().to_owned(), made["secret"].as_str().unwrap().to_owned())
}

fn messages_only() -> Value {
    json!({"eventTypes": ["message.received"]})
}

impl TestHost {
    fn pass(&self, seconds: u64) {
        self.clock.as_ref().expect("a manual clock").advance(Duration::from_secs(seconds));
    }

    async fn webhook(&self, id: &str) -> Value {
        self.get(&format!("/webhooks/{id}")).await["data"].clone()
    }

    async fn deliveries(&self, id: &str) -> Vec<Value> {
        self.get(&format!("/webhooks/{id}/deliveries")).await["items"].as_array().unwrap().clone()
    }

    /// Waits until anything was tried, and gives that back.
    async fn until_any_tried(&self, id: &str) -> Value {
        let tried = |body: &Value| {
            let items = body["items"].as_array().into_iter().flatten();
            items.into_iter().find(|item| item["attempts"].as_i64() >= Some(1)).cloned()
        };
        let body = self.until(&format!("/webhooks/{id}/deliveries"), |body| tried(body).is_some()).await;
        tried(&body).expect("it was there")
    }

    /// Waits until a delivery was tried so often and that was written down.
    async fn until_tried(&self, id: &str, place: usize, attempts: i64) -> Value {
        let path = format!("/webhooks/{id}/deliveries");
        let seen = |body: &Value| body["items"][place]["attempts"].as_i64() >= Some(attempts);
        self.until(&path, seen).await["items"][place].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_reaches_the_webhook_that_wants_it_signed_and_in_its_envelope() {
    let host = TestHost::start().await;
    let receiver = Receiver::start().await;
    let (instance, echo) = host.echo("demo").await;
    let (other, other_echo) = host.echo("other").await;
    let more = json!({"eventTypes": ["message.*"], "instanceIds": ["demo"], "headers": {"Authorization": "Bearer shibboleth"}});
    let (id, secret) = webhook(&host, "crm", &receiver.url(), more).await;
    host.say(&other_echo, "c", "0", "not for it").await;
    host.say(&echo, "c", "1", "hello").await;
    let got = &receiver.count(1).await[0];
    let event = got.json();
    assert_eq!(event["type"], "message.received");
    assert_eq!(event["payload"]["content"]["text"], "hello");
    assert_eq!(event["metadata"]["instanceId"], instance);
    assert_ne!(event["metadata"]["instanceId"], other);
    assert_eq!(event["metadata"]["channelType"], "echo");
    assert_eq!(got.id(), event["id"].as_str().unwrap());
    assert_eq!(got.header("authorization"), "Bearer shibboleth");
    assert_eq!(got.header("content-type"), "application/json");
    assert!(got.header("webhook-signature").starts_with("v1,"));
    // It is the event that the API and the stream tell of.
    let told = host.get(&format!("/events/{}", got.id())).await["data"].clone();
    assert_eq!(told["payload"], event["payload"]);
    assert_eq!(told["seq"], event["seq"]);
    let delivery = host.until_tried(&id, 0, 1).await;
    assert_eq!((&delivery["status"], &delivery["lastStatusCode"]), (&json!("delivered"), &json!(204)));
    assert_eq!(host.deliveries(&id).await.len(), 1, "what it does not want is not even queued");
    // What is secret went in and does not come out.
    let shown = host.webhook(&id).await.to_string();
    assert!(!shown.contains(&secret) && !shown.contains("shibboleth"), "{shown}");
    assert!(shown.contains("Authorization") && shown.contains("\"active\""), "{shown}");
    let at_rest = match crate::database::dump(&host.data) {
        Some(dump) => vec![dump],
        None => ["omni.db", "omni.db-wal"].map(|file| std::fs::read(host.data.join(file)).unwrap_or_default()).into(),
    };
    assert!(at_rest.iter().any(|bytes| !bytes.is_empty()), "there is something to look at");
    for bytes in at_rest {
        let holds = |word: &str| crate::secrets::is_in(&bytes, word.as_bytes());
        assert!(!holds(&secret) && !holds("shibboleth"), "secrets are sealed at rest");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chat_whose_event_fails_waits_in_order_and_the_others_go_on() {
    let host = TestHost::with(manual()).await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    receiver.answer(|got| Reply::Status(if got.text() == "a1" { 500 } else { 200 }));
    for (chat, text) in [("a", "a1"), ("a", "a2"), ("b", "b1"), ("a", "a3"), ("b", "b2")] {
        host.say(&echo, chat, text, text).await;
    }
    receiver.until(|got| got.iter().any(|got| got.text() == "b2")).await;
    host.until(&format!("/webhooks/{id}/deliveries?status=delivered"), |body| {
        body["items"].as_array().is_some_and(|items| items.len() == 2)
    })
    .await;
    // The oldest of what waits is the one that failed.
    host.until(&format!("/webhooks/{id}/deliveries?status=pending"), |body| {
        body["items"].as_array().and_then(|items| items.last()).is_some_and(|failed| failed["attempts"] == 1)
    })
    .await;
    let before = receiver.texts();
    assert_eq!(before.iter().filter(|text| text.starts_with('b')).collect::<Vec<_>>(), ["b1", "b2"]);
    assert_eq!(before.iter().filter(|text| text.starts_with('a')).collect::<Vec<_>>(), ["a1"], "its chat waits");
    assert_eq!(host.webhook(&id).await["queued"], 3);
    receiver.answer(|_| Reply::Status(200));
    host.pass(6);
    let all = receiver.until(|got| got.iter().any(|got| got.text() == "a3")).await;
    let a: Vec<&Got> = all.iter().filter(|got| got.text().starts_with('a')).collect();
    let texts: Vec<String> = a.iter().map(|got| got.text()).collect();
    assert_eq!(texts, ["a1", "a1", "a2", "a3"]);
    assert_eq!(a[0].id(), a[1].id(), "another attempt has the same id");
    assert_ne!(a[0].header("webhook-timestamp"), a[1].header("webhook-timestamp"), "and its own time");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_tried_for_three_days_and_then_lies_whole_in_the_dead_letters() {
    let host = TestHost::with(manual()).await;
    let receiver = Receiver::start().await;
    let (instance, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    receiver.answer(|_| Reply::With(500, "content-type", "text/plain".into()));
    host.say(&echo, "c", "1", "hello").await;
    host.say(&echo, "c", "2", "behind it").await;
    for (attempts, delay) in (1..).zip(DELAYS) {
        receiver.count(attempts).await;
        host.until_tried(&id, 1, attempts as i64).await;
        // Not a moment before its time.
        let next =
            host.deliveries(&id).await[1]["nextAttemptAt"].as_str().unwrap().parse::<chrono::DateTime<chrono::Utc>>();
        let wait = next.unwrap().timestamp_micros() - host.parts.clock.now().0;
        let seconds = wait as f64 / 1e6;
        assert!((delay as f64..=delay as f64 * 1.1).contains(&seconds), "after {attempts}: {seconds} s, not {delay} s");
        host.pass(delay + delay / 10 + 1);
    }
    let letters =
        host.until("/dead-letters", |body| body["items"].as_array().is_some_and(|items| !items.is_empty())).await;
    let letter = letters["items"][0].clone();
    assert_eq!(letter["consumer"], format!("webhook:{id}"));
    assert_eq!(letter["eventType"], "message.received");
    assert_eq!(letter["subject"], format!("message.received.echo.{instance}"));
    assert!(letter["errorMessage"].as_str().unwrap().contains("given up after 10 attempts: answered 500"), "{letter}");
    assert_eq!(letter["nextAutoRetryAt"], Value::Null, "it was tried for days");
    let letter_id = letter["id"].as_str().unwrap();
    let whole = host.get(&format!("/dead-letters/{letter_id}")).await["data"]["payload"].clone();
    assert_eq!(whole, receiver.got()[0].json(), "all that is needed to do it again");
    // The next one of the chat comes forward, once the webhook has had its rest.
    host.pass(301);
    let last = receiver.count(11).await;
    assert_eq!(last[10].text(), "behind it");
    host.until_tried(&id, 0, 1).await;
    let first = host.deliveries(&id).await[1].clone();
    assert_eq!((&first["status"], &first["attempts"]), (&json!("failed"), &json!(10)));
    let log = host.get(&format!("/webhooks/{id}/deliveries/{}", first["id"].as_str().unwrap())).await["data"].clone();
    assert_eq!(log["attemptLog"].as_array().unwrap().len(), 10);
    assert_eq!(log["attemptLog"][9]["statusCode"], 500);
    assert_eq!(log["attemptLog"][9]["answer"], "its own words");
    // From there it is sent once more, under the same id, and the letter is settled when it is taken.
    receiver.answer(|_| Reply::Status(200));
    let retried = host.post(&format!("/dead-letters/{letter_id}/retry"), json!({})).await;
    assert_eq!(retried["success"], true, "{retried}");
    host.post(&format!("/webhooks/{id}/enable"), json!({})).await;
    let all = receiver.until(|got| got.iter().filter(|got| got.text() == "hello").count() == 11).await;
    let ids: std::collections::BTreeSet<&str> = all.iter().filter(|got| got.text() == "hello").map(Got::id).collect();
    assert_eq!(ids.len(), 1);
    let settled = host.until(&format!("/dead-letters/{letter_id}"), |body| body["data"]["status"] == "resolved").await;
    assert_eq!(settled["data"]["resolvedBy"], "retry");
    let (again, _) = host.call(Method::POST, &format!("/dead-letters/{letter_id}/retry"), Some(json!({}))).await;
    assert_eq!(again, StatusCode::CONFLICT);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_obeyed_by_the_whole_webhook() {
    let host = TestHost::with(manual()).await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    receiver.answer(|_| Reply::With(429, "retry-after", "120".into()));
    host.say(&echo, "a", "1", "one").await;
    let tried = host.until_tried(&id, 0, 1).await;
    let now = host.parts.clock.now();
    assert_eq!(tried["nextAttemptAt"], now.plus_millis(120_000).to_string());
    let shown = host.webhook(&id).await;
    assert_eq!(
        (&shown["status"], &shown["restingUntil"]),
        (&json!("resting"), &json!(now.plus_millis(120_000).to_string()))
    );
    host.say(&echo, "b", "2", "two").await;
    host.settle().await;
    host.pass(119);
    receiver.answer(|_| Reply::Status(200));
    host.pass(2);
    receiver.count(3).await;
    let mut texts = receiver.texts();
    texts[1..].sort();
    assert_eq!(texts, ["one", "one", "two"], "nothing was sent to it in between");
    host.until(&format!("/webhooks/{id}"), |body| body["data"]["status"] == "active").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_gone_is_disabled_and_that_is_an_event_and_nothing_is_lost() {
    let host = TestHost::start().await;
    let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    webhook(&host, "alarm", &watcher.url(), json!({"eventTypes": ["webhook.*"]})).await;
    receiver.answer(|_| Reply::Status(410));
    host.say(&echo, "c", "1", "one").await;
    let off = host.until(&format!("/webhooks/{id}"), |body| body["data"]["enabled"] == false).await["data"].clone();
    assert_eq!(off["status"], "disabled");
    assert!(off["disabledReason"].as_str().unwrap().contains("410"), "{off}");
    let alarm = watcher.count(1).await[0].json();
    assert_eq!((&alarm["type"], &alarm["payload"]["webhookId"]), (&json!("webhook.disabled"), &json!(id)));
    assert_eq!(alarm["metadata"].get("instanceId"), None, "it belongs to none");
    host.say(&echo, "c", "2", "two").await;
    host.settle().await;
    receiver.answer(|_| Reply::Status(200));
    assert_eq!(receiver.texts(), ["one"]);
    host.post(&format!("/webhooks/{id}/enable"), json!({})).await;
    receiver.until(|got| got.iter().any(|got| got.text() == "two")).await;
    assert_eq!(receiver.texts(), ["one", "one", "two"], "it goes on from where it was left off");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_takes_nothing_for_days_is_disabled() {
    let setup =
        Setup { manual_clock: true, configure: |config| config.webhooks.disable_after_days = 1, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    receiver.answer(|_| Reply::Status(503));
    host.say(&echo, "c", "1", "one").await;
    for attempts in 1..=6 {
        host.until_tried(&id, 0, attempts).await;
        assert_eq!(host.webhook(&id).await["enabled"], true);
        host.pass(DELAYS[attempts as usize - 1] * 11 / 10 + 1);
    }
    // 5 s, 5 min, 30 min, 2 h, 5 h and 10 h make less than a day; 14 h more do not.
    host.until_tried(&id, 0, 7).await;
    host.pass(DELAYS[6] * 11 / 10 + 1);
    let off = host.until(&format!("/webhooks/{id}"), |body| body["data"]["enabled"] == false).await["data"].clone();
    assert!(off["disabledReason"].as_str().unwrap().contains("every attempt since"), "{off}");
    assert_eq!(off["queued"], 1, "what was not taken stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_never_answers_and_one_that_leads_away_harm_nobody_else() {
    let setup = Setup { configure: |config| config.webhooks.timeout_seconds = 1, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let (deaf, away, good) = (Receiver::start().await, Receiver::start().await, Receiver::start().await);
    let elsewhere = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let (deaf_id, _) = webhook(&host, "deaf", &deaf.url(), messages_only()).await;
    let (away_id, _) = webhook(&host, "away", &away.url(), messages_only()).await;
    let (good_id, _) = webhook(&host, "good", &good.url(), messages_only()).await;
    deaf.answer(|_| Reply::Hang);
    let target = elsewhere.url();
    away.answer(move |_| Reply::With(307, "location", target.clone()));
    for number in 0..40 {
        host.say(&echo, &format!("c{}", number % 20), &number.to_string(), &number.to_string()).await;
    }
    // A second is short on a machine that is busy, so one may come twice.
    let delivered = format!("/webhooks/{good_id}/deliveries?status=delivered&limit=100");
    host.until(&delivered, |body| body["items"].as_array().is_some_and(|items| items.len() == 40)).await;
    let ids: std::collections::BTreeSet<String> = good.got().iter().map(|got| got.id().to_owned()).collect();
    assert_eq!(ids.len(), 40);
    let slow = host.until_any_tried(&deaf_id).await;
    assert!(slow["lastError"].as_str().unwrap().contains("no answer within 1 s"), "{slow}");
    let led = host.until_any_tried(&away_id).await;
    assert!(led["lastError"].as_str().unwrap().contains("redirects are not followed"), "{led}");
    assert_eq!(elsewhere.texts(), Vec::<String>::new(), "a redirect is not followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_dies_and_a_host_that_restarts_lose_nothing() {
    let host = TestHost::start().await;
    // At an address that nobody else takes while it is dead.
    let receiver = Receiver::at(&free_address()).await;
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    host.say(&echo, "c", "0", "0").await;
    host.until_tried(&id, 0, 1).await;
    let address = receiver.address.clone();
    drop(receiver);
    for number in 1..10 {
        host.say(&echo, "c", &number.to_string(), &number.to_string()).await;
    }
    let waiting = format!("/webhooks/{id}/deliveries?status=pending");
    let tried = |body: &Value| body["items"].as_array().and_then(|items| items.last()).cloned();
    let body =
        host.until(&waiting, |body| tried(body).is_some_and(|first| first["attempts"].as_i64() >= Some(1))).await;
    let failed = tried(&body).unwrap();
    assert_eq!(failed["lastStatusCode"], Value::Null, "{failed}");
    let host = host.restart(Setup::default()).await;
    for number in 10..20 {
        // Its instance comes back in its own time.
        host.until_said(&echo, "c", &number.to_string()).await;
    }
    let receiver = Receiver::at(&address).await;
    host.post(&format!("/webhooks/{id}/enable"), json!({})).await;
    receiver.until(|got| got.iter().any(|got| got.text() == "19")).await;
    let wanted: Vec<String> = (1..20).map(|number| number.to_string()).collect();
    assert_eq!(receiver.texts(), wanted, "each once, in order");
}

#[tokio::test(flavor = "multi_thread")]
async fn private_addresses_are_the_operators_to_grant() {
    let host = TestHost::start().await;
    let receiver = Receiver::start().await;
    let scoped = host.post("/keys", json!({"name": "maker", "scopes": ["webhooks:*", "instances:*"]})).await;
    let scoped = scoped["data"]["key"].as_str().unwrap().to_owned();
    let new = json!({"name": "inner", "url": receiver.url()});
    let (status, refused) = host.call_as(&scoped, Method::POST, "/webhooks", Some(new.clone())).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("network.allow_private"), "{refused}");
    for url in ["http://localhost:1/", "http://[::ffff:127.0.0.1]/", "http://2130706433/"] {
        let body = Some(json!({"name": "inner", "url": url}));
        assert_eq!(host.call_as(&scoped, Method::POST, "/webhooks", body).await.0, StatusCode::FORBIDDEN, "{url}");
    }
    for url in
        ["http://169.254.169.254/latest/meta-data", "http://0.0.0.0/", "http://u:p@example.org/", "ftp://x/", "x"]
    {
        let (status, refused) = host.call(Method::POST, "/webhooks", Some(json!({"name": "inner", "url": url}))).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "not even the operator: {url} {refused}");
        assert_eq!(refused["error"]["details"]["field"], "url");
    }
    let made = host.post("/webhooks", new).await["data"].clone();
    assert_eq!(made["privateAddress"], true);
    let id = made["id"].as_str().unwrap();
    let tried = host.post(&format!("/webhooks/{id}/test"), json!({})).await["data"].clone();
    assert_eq!((&tried["success"], &tried["statusCode"]), (&json!(true), &json!(204)), "{tried}");
    assert_eq!(receiver.got()[0].json()["type"], "webhook.test");
    // A key that may change it cannot turn it elsewhere inside.
    let moved = Some(json!({"url": format!("http://{}/other", receiver.address)}));
    let path = format!("/webhooks/{id}");
    assert_eq!(host.call_as(&scoped, Method::PATCH, &path, moved).await.0, StatusCode::FORBIDDEN);
    let renamed = Some(json!({"name": "renamed"}));
    assert_eq!(host.call_as(&scoped, Method::PATCH, &path, renamed).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_server_inside_is_the_operators_to_grant_too() {
    let host = TestHost::with(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    let scoped = host.post("/keys", json!({"name": "maker", "scopes": ["instances:*"]})).await;
    let scoped = scoped["data"]["key"].as_str().unwrap().to_owned();
    let (fake, _stays) = (Receiver::start().await, ());
    let config = json!({"apiBaseUrl": format!("http://{}", fake.address)});
    let new = json!({"name": "bot", "channel": "telegram", "token": "1:x", "config": config});
    let (status, refused) = host.call_as(&scoped, Method::POST, "/instances", Some(new.clone())).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{refused}");
    assert!(refused["error"]["message"].as_str().unwrap().contains("config.apiBaseUrl"), "{refused}");
    assert!(fake.got().is_empty());
    let made = host.post("/instances", new).await["data"].clone();
    fake.count(1).await;
    // Changing it takes the same right; changing something else does not.
    let path = format!("/instances/{}", made["id"].as_str().unwrap());
    let elsewhere = Some(json!({"config": {"apiBaseUrl": "http://127.0.0.1:1"}}));
    assert_eq!(host.call_as(&scoped, Method::PATCH, &path, elsewhere).await.0, StatusCode::FORBIDDEN);
    let renamed = Some(json!({"name": "renamed", "config": {"apiBaseUrl": config["apiBaseUrl"]}}));
    assert_eq!(host.call_as(&scoped, Method::PATCH, &path, renamed).await.0, StatusCode::OK);
    let metadata = Some(json!({"config": {"apiBaseUrl": "http://169.254.169.254"}}));
    assert_eq!(host.call(Method::PATCH, &path, metadata).await.0, StatusCode::BAD_REQUEST);
    host.stop().await;
    let granted: fn(&mut omni_host::config::Config) =
        |config| config.network.allow_private = vec!["127.0.0.0/8".into()];
    let host = TestHost::with(Setup { plugins: vec!["telegram"], configure: granted, ..Setup::default() }).await;
    let scoped = host.post("/keys", json!({"name": "maker", "scopes": ["instances:*"]})).await;
    let scoped = scoped["data"]["key"].as_str().unwrap().to_owned();
    let new = json!({"name": "bot", "channel": "telegram", "token": "1:x", "config": config});
    let (status, made) = host.call_as(&scoped, Method::POST, "/instances", Some(new)).await;
    assert_eq!(status, StatusCode::CREATED, "the configuration grants the range: {made}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_for_some_instances_sees_and_makes_webhooks_for_these_alone() {
    let granted: fn(&mut omni_host::config::Config) = |config| config.network.allow_private = vec!["127.0.0.1".into()];
    let host = TestHost::with(Setup { configure: granted, ..Setup::default() }).await;
    let receiver = Receiver::start().await;
    let (mine, echo) = host.echo("mine").await;
    let (_, other_echo) = host.echo("other").await;
    webhook(&host, "everything", &receiver.url(), json!({"enabled": false})).await;
    let body = json!({"name": "tenant", "scopes": ["webhooks:*", "events:*"], "instanceIds": [mine]});
    let key = host.post("/keys", body).await["data"]["key"].as_str().unwrap().to_owned();
    let theirs = json!({"name": "theirs", "url": receiver.url(), "instanceIds": ["other"]});
    let (status, _) = host.call_as(&key, Method::POST, "/webhooks", Some(theirs)).await;
    assert!([StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status), "{status}");
    let new = json!({"name": "tenant", "url": receiver.url()});
    let (status, made) = host.call_as(&key, Method::POST, "/webhooks", Some(new)).await;
    assert_eq!(status, StatusCode::CREATED, "{made}");
    assert_eq!(made["data"]["instanceIds"], json!([mine]), "it is narrowed to what the key reaches");
    let (_, list) = host.call_as(&key, Method::GET, "/webhooks", None).await;
    assert_eq!(list["items"].as_array().unwrap().len(), 1);
    assert_eq!(host.call_as(&key, Method::GET, "/webhooks/everything", None).await.0, StatusCode::NOT_FOUND);
    host.say(&other_echo, "c", "1", "not for them").await;
    host.say(&echo, "c", "1", "for them").await;
    receiver.until(|got| got.iter().any(|got| got.text() == "for them")).await;
    assert!(receiver.got().iter().all(|got| got.json()["metadata"]["instanceId"] == mine));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_replaced_without_a_gap() {
    let host = TestHost::with(manual()).await;
    let receiver = Receiver::start().await;
    let (id, first) = webhook(&host, "crm", &receiver.url(), json!({})).await;
    let rotated = host.post(&format!("/webhooks/{id}/rotate"), json!({"overlapSeconds": 60})).await["data"].clone();
    let second = rotated["secret"].as_str().unwrap();
    assert_ne!(first, second);
    assert_eq!(rotated["secretsUntil"].as_array().unwrap().len(), 2);
    let signatures = async || {
        host.post(&format!("/webhooks/{id}/test"), json!({})).await;
        receiver.got().last().unwrap().header("webhook-signature").split(' ').count()
    };
    assert_eq!(signatures().await, 2, "whoever has the old one and whoever has the new one can verify");
    host.pass(60);
    assert_eq!(signatures().await, 1);
    let (status, refused) =
        host.call(Method::POST, &format!("/webhooks/{id}/rotate"), Some(json!({"secret": "whsec_short"}))).await;
    assert_eq!((status, &refused["error"]["details"]["field"]), (StatusCode::BAD_REQUEST, &json!("secret")));
    let typing = json!({"name": "typing", "url": receiver.url(), "eventTypes": ["presence.*"]});
    let (status, refused) = host.call(Method::POST, "/webhooks", Some(typing)).await;
    assert_eq!((status, &refused["error"]["details"]["field"]), (StatusCode::BAD_REQUEST, &json!("eventTypes")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_replayed_from_a_time_to_the_one_who_asks() {
    let host = TestHost::with(manual()).await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    for number in 0..10 {
        host.say(&echo, &format!("c{}", number % 3), &number.to_string(), &number.to_string()).await;
        host.settle().await;
        host.pass(60);
    }
    let (id, _) = webhook(&host, "late", &receiver.url(), messages_only()).await;
    host.say(&echo, "c0", "new", "new").await;
    receiver.count(1).await;
    host.until_tried(&id, 0, 1).await;
    assert_eq!(receiver.texts(), ["new"], "it begins with what happens from now on");
    let events = host.get("/events?eventType=message.received&limit=100").await["items"].as_array().unwrap().clone();
    let since = events[7]["receivedAt"].as_str().unwrap();
    let until = events[1]["receivedAt"].as_str().unwrap();
    let body = json!({"consumer": "late", "since": since, "until": until, "eventTypes": ["message.*"]});
    let mut counting = body.clone();
    counting["dryRun"] = true.into();
    let replay = async |body: Value| {
        let begun = host.post("/event-ops/replay", body).await["data"].clone();
        let path = format!("/event-ops/replay/{}", begun["id"].as_str().unwrap());
        host.until(&path, |body| body["data"]["status"] != "running").await["data"].clone()
    };
    let counted = replay(counting).await;
    assert_eq!((&counted["status"], &counted["progress"]["matched"]), (&json!("completed"), &json!(6)), "{counted}");
    assert_eq!(counted["progress"]["replayed"], 0);
    let done = replay(body.clone()).await;
    assert_eq!(done["progress"]["replayed"], 6, "{done}");
    assert_eq!(done["progress"]["processed"], done["progress"]["total"]);
    receiver.count(7).await;
    let mut texts: Vec<u32> = receiver.texts()[1..].iter().map(|text| text.parse().unwrap()).collect();
    texts.sort_unstable();
    assert_eq!(texts, [3, 4, 5, 6, 7, 8]);
    let told = |text: &str| events.iter().find(|event| event["textContent"] == text).unwrap()["id"].clone();
    assert!(receiver.got().iter().all(|got| json!(got.id()) == told(&got.text())), "under the ids that they had");
    // What was taken already is left out when that is wanted.
    host.until(&format!("/webhooks/{id}"), |body| body["data"]["queued"] == 0).await;
    let mut missing = body;
    missing["skipProcessed"] = true.into();
    missing["since"] = "2020-01-01T00:00:00Z".into();
    missing.as_object_mut().unwrap().remove("until");
    let done = replay(missing).await;
    assert_eq!((&done["progress"]["skipped"], &done["progress"]["replayed"]), (&json!(7), &json!(4)), "{done}");
    receiver.count(11).await;
    let id = done["id"].as_str().unwrap();
    let (status, _) = host.call(Method::DELETE, &format!("/event-ops/replay/{id}"), None).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "it has ended");
    let nobody = json!({"consumer": "nobody", "since": since});
    assert_eq!(host.call(Method::POST, "/event-ops/replay", Some(nobody)).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_that_is_too_much_waits_for_its_consumer_and_can_be_cancelled() {
    let host = TestHost::start().await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "slow", &receiver.url(), messages_only()).await;
    receiver.answer(|_| Reply::Status(500));
    let say = (0..700).map(|number| {
        let (host, echo) = (&host, &echo);
        async move { host.say(echo, &format!("c{number}"), &number.to_string(), "x").await }
    });
    for batch in say.collect::<Vec<_>>().into_iter().fold(Vec::<Vec<_>>::new(), |mut batches, one| {
        match batches.last_mut() {
            Some(batch) if batch.len() < 50 => batch.push(one),
            _ => batches.push(vec![one]),
        }
        batches
    }) {
        futures_util::future::join_all(batch).await;
    }
    host.settle().await;
    // Ten times over it is more than is queued for one who takes nothing.
    let mut replays = Vec::new();
    for _ in 0..10 {
        let body = json!({"consumer": id, "since": "2020-01-01T00:00:00Z"});
        replays.push(host.post("/event-ops/replay", body).await["data"]["id"].as_str().unwrap().to_owned());
    }
    host.until(&format!("/webhooks/{id}"), |body| body["data"]["queued"].as_i64() >= Some(5_000)).await;
    let (mut cancelled, mut completed) = (0, 0);
    for replay in &replays {
        let (status, _) = host.call(Method::DELETE, &format!("/event-ops/replay/{replay}"), None).await;
        let now = host.get(&format!("/event-ops/replay/{replay}")).await["data"]["status"].clone();
        match status {
            StatusCode::OK => cancelled += i32::from(now == "cancelled"),
            _ => completed += i32::from(now == "completed"),
        }
    }
    assert_eq!(cancelled + completed, 10);
    assert!(cancelled >= 1, "at least one was still waiting");
}

/// Asks the API of a host that runs in a process of its own.
async fn post(host: &Program, path: &str, body: Value) {
    let (status, answer) = host.post(path, &body, None).await.expect("the API answers");
    assert!((200..300).contains(&status), "{path}: {status} {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_loses_nothing_and_repeats_under_the_same_id() {
    const CHATS: usize = 6;
    const EACH: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    let (listen, echo) = (free_address(), free_address());
    let receiver = Receiver::start().await;
    let mut host = Launch::new(&data, &listen).start().await;
    post(&host, "/instances", json!({"name": "demo", "channel": "echo", "config": {"listen": echo}})).await;
    post(&host, "/webhooks", json!({"name": "crm", "url": receiver.url(), "eventTypes": ["message.received"]})).await;
    let mut senders = tokio::task::JoinSet::new();
    for chat in 0..CHATS {
        let (client, echo) = (reqwest::Client::new(), echo.clone());
        senders.spawn(async move {
            for number in 0..EACH {
                let name = format!("c{chat}-{number}");
                let body = json!({"chatId": format!("c{chat}"), "from": "ann", "externalId": name, "text": name});
                let begun = std::time::Instant::now();
                // Until it is acknowledged, as a network would.
                while !client
                    .post(format!("http://{echo}/"))
                    .json(&body)
                    .send()
                    .await
                    .is_ok_and(|answer| answer.status().is_success())
                {
                    assert!(begun.elapsed() < PATIENCE, "the host comes back");
                    tokio::task::yield_now().await;
                }
            }
        });
    }
    for round in 1..=3 {
        receiver.count(round * 45).await;
        host.kill().await;
        host = Launch::new(&data, &listen).start().await;
    }
    senders.join_all().await;
    let all = receiver
        .until(|got| got.iter().map(Got::text).collect::<std::collections::BTreeSet<_>>().len() == CHATS * EACH)
        .await;
    let mut id_of = std::collections::BTreeMap::new();
    let mut first: Vec<Vec<usize>> = vec![Vec::new(); CHATS];
    for got in &all {
        let text = got.text();
        if let Some(before) = id_of.insert(text.clone(), got.id().to_owned()) {
            assert_eq!(before, got.id(), "{text} came again, under another id");
            continue;
        }
        let (chat, number) = text.trim_start_matches('c').split_once('-').unwrap();
        first[chat.parse::<usize>().unwrap()].push(number.parse().unwrap());
    }
    let in_order: Vec<usize> = (0..EACH).collect();
    assert!(first.iter().all(|chat| *chat == in_order), "{first:?}");
    println!("webhook: 3 kills, {} events, {} repeated, 0 lost", CHATS * EACH, all.len() - CHATS * EACH);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_were_not_kept_hold_up_nobody() {
    const CHATS: usize = 12;
    const AT_ONCE: usize = 2;
    // Few at a time, so that the rest waits for its turn and for nothing else.
    let configure = |config: &mut Config| {
        config.retention.event_days = 1;
        (config.webhooks.concurrency, config.webhooks.timeout_seconds) = (AT_ONCE, PATIENCE.as_secs());
    };
    let host = TestHost::with(Setup { configure, ..manual() }).await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    let (answered, answer) = watch::channel(false);
    receiver.answer(move |_| Reply::When(answer.clone(), 500));
    for chat in 0..CHATS {
        host.say(&echo, &format!("c{chat}"), "1", &format!("in c{chat}")).await;
    }
    let all = format!("/webhooks/{id}/deliveries?limit=100");
    let count = |body: &Value, status: &str| {
        body["items"].as_array().into_iter().flatten().filter(|item| item["status"] == status).count()
    };
    host.until(&all, |body| count(body, "pending") == CHATS).await;
    receiver.count(AT_ONCE).await;
    host.post(&format!("/webhooks/{id}/disable"), json!({})).await;
    host.pass(2 * 86_400);
    host.until("/events?eventType=message.received", |body| body["items"] == json!([])).await;
    host.post(&format!("/webhooks/{id}/enable"), json!({})).await;
    answered.send_replace(true);
    // Each has its turn although nothing else happens; those that were being sent come again later.
    host.until(&all, |body| count(body, "expired") == CHATS - AT_ONCE).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_wanted_is_not_taken_for_lost_after_a_restart() {
    let host = TestHost::start().await;
    let receiver = Receiver::start().await;
    let (_, echo) = host.echo("demo").await;
    webhook(&host, "rare", &receiver.url(), json!({"eventTypes": ["message.deleted"]})).await;
    for number in 0..5 {
        host.say(&echo, "c", &number.to_string(), "not wanted").await;
    }
    host.settle().await;
    let newest = host.get("/events?limit=1").await["items"][0]["seq"].as_i64().unwrap();
    let data = host.data.clone();
    // Dropped with the folder in it.
    let _folder = host.stop().await;
    let began = std::time::Instant::now();
    loop {
        let reached = database::ask(
            &data,
            "select cast(max(last_sequence) as text) from consumer_offsets
             where stream_name = 'events' and consumer_name like 'webhook%'",
        )
        .await;
        let reached: i64 = reached.trim().parse().unwrap();
        if reached >= newest {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "there is {newest} to read, and it wrote down {reached}");
        // It may have been ended before it had read it.
        TestHost::with(Setup { data: Some(data.clone()), ..Setup::default() }).await.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_were_not_kept_until_their_turn_are_told_of() {
    let host = TestHost::with(Setup { configure: |config| config.retention.event_days = 1, ..manual() }).await;
    let (receiver, watcher) = (Receiver::start().await, Receiver::start().await);
    let (_, echo) = host.echo("demo").await;
    let (id, _) = webhook(&host, "crm", &receiver.url(), messages_only()).await;
    webhook(&host, "alarm", &watcher.url(), json!({"eventTypes": ["webhook.*"]})).await;
    receiver.answer(|_| Reply::Status(500));
    host.say(&echo, "c", "1", "queued").await;
    host.until_tried(&id, 0, 1).await;
    host.post(&format!("/webhooks/{id}/disable"), json!({})).await;
    host.say(&echo, "c", "2", "not even queued").await;
    host.settle().await;
    // More than a day later both are gone from the events.
    host.pass(2 * 86_400);
    host.until("/events?eventType=message.received", |body| body["items"] == json!([])).await;
    host.say(&echo, "c", "3", "in time").await;
    receiver.answer(|_| Reply::Status(204));
    host.post(&format!("/webhooks/{id}/enable"), json!({})).await;
    receiver.until(|got| got.iter().any(|got| got.text() == "in time")).await;
    assert!(!receiver.texts().contains(&"not even queued".to_owned()));
    let told = "no longer kept when their turn came (retention.event_days)";
    // What was queued says so where its attempts are shown.
    let deliveries = format!("/webhooks/{id}/deliveries?status=expired");
    let expired = host.until(&deliveries, |body| body["items"].as_array().is_some_and(|items| items.len() == 1));
    let delivery = expired.await["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = host.get(&format!("/webhooks/{id}/deliveries/{delivery}")).await;
    let attempts = shown["data"]["attemptLog"].as_array().filter(|attempts| attempts.len() == 2);
    let last = &attempts.unwrap_or_else(|| panic!("{shown}"))[1];
    assert!(last["error"].as_str().unwrap().contains("no longer kept when its turn came"), "{last}");
    // What was not is an event, which goes to whoever watches.
    // (Whoever watches may not have come past them either, and tells so of itself.)
    let is_alarm = |got: &Got| {
        let event = got.json();
        event["type"] == "webhook.events_lost" && event["payload"]["webhookId"] == json!(id)
    };
    let alarms = watcher.until(|got| got.iter().any(is_alarm)).await;
    let alarm = alarms.iter().find(|got| is_alarm(got)).unwrap().json();
    assert!(alarm["payload"]["reason"].as_str().unwrap().contains(told), "{alarm}");
    let (from, to) = (alarm["payload"]["from"].as_i64().unwrap(), alarm["payload"]["to"].as_i64().unwrap());
    assert!(from <= to, "{alarm}");
}
