//! Telegram in webhook mode, end to end: set, verified, switched to and from, and in conflict with other programs.

use crate::harness::{PATIENCE, PublicUrl, Setup, TestHost};
use crate::telegram::{instance, stored};
use crate::telegram_fake::{Fault, Person, TelegramFake, private};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn setup() -> Setup {
    Setup { plugins: vec!["telegram"], public_url: Some(PublicUrl::Own), ..Setup::default() }
}

async fn configure(host: &TestHost, id: &str, config: Value) {
    let (status, body) = host.call(Method::PATCH, &format!("/instances/{id}"), Some(json!({ "config": config }))).await;
    assert!(status.is_success(), "{status} {body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_between_the_modes_loses_and_repeats_nothing() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(setup()).await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let say = |text: String| {
        fake.text(&chat, &ann, &text);
    };
    let id = instance(&host, &fake, json!({"mode": "webhook", "maxConnections": 7})).await;
    host.until_state(&id, "connected").await;
    let set = fake.calls_of("setWebhook").pop().unwrap().params;
    assert_eq!(set["url"], format!("{}/api/v2/channels/{id}/webhook", host.url));
    assert_eq!((set["secret_token"].as_str().map(str::len), &set["max_connections"]), (Some(64), &json!(7)));
    // An answer may be lost: then Telegram comes again with the same update.
    fake.deliver_times(2);
    let mut said = 0;
    for round in 0..3 {
        let mode = ["poll", "webhook", "poll"][round];
        for _ in 0..5 {
            say(format!("{said}"));
            said += 1;
        }
        // What was just said is on its way in the old mode while the new one begins.
        configure(&host, &id, json!({ "mode": mode })).await;
        host.until_state(&id, "connected").await;
        assert_eq!(fake.webhook().is_some(), mode == "webhook");
        for _ in 0..5 {
            say(format!("{said}"));
            said += 1;
        }
        stored(&host, &id, &chat, said).await;
        tokio::time::timeout(PATIENCE, fake.confirmed()).await.expect("Telegram has nothing left to give");
    }
    let messages = host.messages(&id, "7").await;
    let texts: Vec<_> = messages.iter().map(|message| message["textContent"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts, (0..said).map(|number| number.to_string()).collect::<Vec<_>>(), "in order, once each");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_there_after_a_restart_and_the_secret_is_kept() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(setup()).await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    host.until_state(&id, "connected").await;
    fake.text(&chat, &ann, "one");
    tokio::time::timeout(PATIENCE, fake.confirmed()).await.expect("it is taken");
    let host = host.restart(setup()).await;
    host.until_state(&id, "connected").await;
    fake.text(&chat, &ann, "two");
    let messages = stored(&host, &id, &chat, 2).await;
    assert_eq!((&messages[0]["textContent"], &messages[1]["textContent"]), (&json!("one"), &json!("two")));
    let secrets: Vec<_> = fake.calls_of("setWebhook").iter().map(|call| call.params["secret_token"].clone()).collect();
    assert_eq!(secrets.len(), 2);
    assert_eq!(secrets[0], secrets[1]);
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "7", "text": "three"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_secret_is_refused_before_the_plugin_sees_it() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { manual_clock: true, ..setup() }).await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    host.until_state(&id, "connected").await;
    let hook = fake.webhook().unwrap();
    let update =
        json!({"update_id": 5, "message": {"message_id": 1, "chat": chat, "date": 1_767_225_700, "text": "lies"}});
    let client = reqwest::Client::new();
    let bare = client.post(&hook).json(&update).send().await.unwrap();
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    let guessed = client.post(&hook).header("x-telegram-bot-api-secret-token", "guessed").json(&update).send().await;
    assert_eq!(guessed.unwrap().status(), StatusCode::UNAUTHORIZED);
    fake.text(&chat, &ann, "the truth");
    let messages = stored(&host, &id, &chat, 1).await;
    assert_eq!(messages[0]["textContent"], "the truth");

    // Somebody in between takes the secret away: nothing comes any more, and the state says so.
    fake.forget_secret();
    fake.text(&chat, &ann, "held up");
    let status = host.in_time(&id, "disconnected", Duration::from_secs(61)).await;
    let words = status.to_string();
    assert!(words.contains("Telegram cannot deliver") && words.contains("401"), "{words}");
    assert_eq!(host.messages(&id, "7").await.len(), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_public_address_the_key_is_named() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { public_url: None, ..setup() }).await;
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    let status = host.until_state(&id, "disconnected").await;
    assert!(status.to_string().contains("http.public_url"), "{status}");
    assert!(fake.calls_of("setWebhook").is_empty());
    configure(&host, &id, json!({"mode": "poll"})).await;
    host.until_state(&id, "connected").await;
    let (status, body) = host
        .call(Method::PATCH, &format!("/instances/{id}"), Some(json!({"config": {"mode": "carrier pigeon"}})))
        .await;
    assert!(status.is_client_error() && body.to_string().contains("mode"), "{status} {body}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_telegram_does_not_take_is_refused_with_the_key() {
    let fake = TelegramFake::start().await;
    let front = Some(PublicUrl::Front("http://omni.example".into()));
    let host = TestHost::with(Setup { public_url: front, ..setup() }).await;
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    let status = host.until_state(&id, "disconnected").await;
    let words = status.to_string();
    assert!(words.contains("http.public_url") && words.contains("HTTPS"), "{words}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_of_another_program_is_named_and_let_be() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { manual_clock: true, ..setup() }).await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let id = instance(&host, &fake, json!({})).await;
    host.until_state(&id, "connected").await;
    fake.set_webhook("https://bot.example/with-a-secret");
    let status = host.until_state(&id, "disconnected").await;
    let words = status.to_string();
    assert!(words.contains("another program has set a webhook") && words.contains("bot.example"), "{words}");
    assert!(words.contains("takeOver") && !words.contains("with-a-secret"), "{words}");
    assert!(fake.webhook().is_some(), "it is not ours to remove");
    fake.text(&chat, &ann, "meanwhile");
    fake.delete_webhook();
    host.in_time(&id, "connected", Duration::from_secs(16)).await;
    stored(&host, &id, &chat, 1).await;

    fake.set_webhook("https://bot.example/again");
    host.in_time(&id, "disconnected", Duration::from_secs(16)).await;
    configure(&host, &id, json!({"takeOver": true})).await;
    host.until(&format!("/instances/{id}/status"), |body| body["data"]["state"] == "connected").await;
    fake.text(&chat, &ann, "ours again");
    stored(&host, &id, &chat, 2).await;
    assert_eq!(fake.webhook(), None);

    // The other way round: our webhook is moved away.
    configure(&host, &id, json!({"mode": "webhook", "takeOver": false})).await;
    host.until_state(&id, "connected").await;
    fake.set_webhook("https://bot.example/theirs");
    let status = host.in_time(&id, "disconnected", Duration::from_secs(61)).await;
    assert!(status.to_string().contains("another program has set this bot's webhook"), "{status}");
    host.post(&format!("/instances/{id}/restart"), json!({})).await;
    host.until_state(&id, "connected").await;
    fake.text(&chat, &ann, "taken back");
    stored(&host, &id, &chat, 3).await;
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn switched_off_for_good_it_leaves_no_webhook_behind() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(setup()).await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    host.until_state(&id, "connected").await;
    // What goes on afterwards keeps its webhook.
    host.post(&format!("/instances/{id}/restart"), json!({})).await;
    let host = host.restart(setup()).await;
    host.until_state(&id, "connected").await;
    assert!(fake.calls_of("deleteWebhook").is_empty());

    let (status, body) = host.call(Method::POST, &format!("/instances/{id}/disconnect"), Some(json!({}))).await;
    assert!(status.is_success() && !body.to_string().contains("could not"), "{status} {body}");
    assert_eq!(fake.webhook(), None, "Telegram does not call a host that does not listen");
    fake.text(&chat, &ann, "meanwhile");
    host.post(&format!("/instances/{id}/connect"), json!({})).await;
    host.until_state(&id, "connected").await;
    stored(&host, &id, &chat, 1).await;

    let (status, body) = host.call(Method::DELETE, &format!("/instances/{id}"), None).await;
    assert!(status.is_success() && !body.to_string().contains("could not"), "{status} {body}");
    assert_eq!((fake.webhook(), fake.calls_of("deleteWebhook").len()), (None, 2));
    let others = instance(&host, &fake, json!({"mode": "webhook"})).await;
    host.until_state(&others, "connected").await;
    fake.set_webhook("https://bot.example/theirs");
    host.call(Method::DELETE, &format!("/instances/{others}"), None).await;
    assert_eq!(fake.webhook().as_deref(), Some("https://bot.example/theirs"), "it is not ours to remove");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_telegram_that_does_not_answer_does_not_keep_an_instance_from_being_deleted() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(setup()).await;
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    host.until_state(&id, "connected").await;
    fake.fail("*", 100, Fault::Stall);
    let began = Instant::now();
    let (status, body) = host.call(Method::DELETE, &format!("/instances/{id}"), None).await;
    assert!(status.is_success(), "{status} {body}");
    assert!(began.elapsed() < Duration::from_secs(30), "it took {:?}", began.elapsed());
    assert!(body.to_string().contains("could not take back what it has set up"), "what stays behind is said: {body}");
    let (status, _) = host.call(Method::GET, &format!("/instances/{id}"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    fake.resume();

    // One whose start fails has nobody who could be asked, which is said.
    fake.fail("getMe", 100, Fault::Gateway(502));
    let id = instance(&host, &fake, json!({"mode": "webhook"})).await;
    host.until_state(&id, "disconnected").await;
    let (status, body) = host.call(Method::DELETE, &format!("/instances/{id}"), None).await;
    assert!(status.is_success() && body.to_string().contains("it was not connected"), "{status} {body}");
    host.stop().await;
}
