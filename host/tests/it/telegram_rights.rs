//! What a chat on Telegram does not allow, end to end: tried once, then refused at once, and never for longer than it is
//! sure.

use crate::harness::{PATIENCE, Setup, TestHost};
use crate::telegram::instance;
use crate::telegram_fake::{Person, TelegramFake, supergroup};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long an answer about a chat counts.
const FRESH: Duration = Duration::from_secs(30);

async fn bot() -> (TestHost, TelegramFake, String) {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { plugins: vec!["telegram"], manual_clock: true, ..Setup::default() }).await;
    let id = instance(&host, &fake, json!({})).await;
    host.until_state(&id, "connected").await;
    (host, fake, id)
}

async fn photo(host: &TestHost, id: &str, to: &str) -> (StatusCode, Value) {
    let body = json!({"instanceId": id, "to": to, "type": "image", "base64": "bG9vaw==", "filename": "a.jpg"});
    host.call(Method::POST, "/messages/send/media", Some(body)).await
}

async fn text(host: &TestHost, id: &str, to: &str) -> (StatusCode, Value) {
    host.call(Method::POST, "/messages/send", Some(json!({"instanceId": id, "to": to, "text": "hi"}))).await
}

fn assert_refused_at_once((status, body): &(StatusCode, Value), what: &str) {
    assert_eq!(*status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    let error = &body["error"];
    assert_eq!(
        (&error["code"], &error["details"]["code"]),
        (&json!("CAPABILITY_NOT_SUPPORTED"), &json!("forbidden")),
        "{body}"
    );
    assert_eq!((&error["details"]["next"], &error["details"]["certain"]), (&json!("operator"), &json!(true)), "{body}");
    assert!(error["details"]["retryAfterMs"].as_u64().is_some_and(|wait| wait <= 30_000), "how long: {body}");
    assert!(error["message"].as_str().unwrap().contains(what), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_group_does_not_allow_is_tried_once_and_then_refused_at_once_for_half_a_minute() {
    let (host, fake, id) = bot().await;
    let chat = supergroup(-1_001, "Words only");
    fake.know(&chat);
    fake.permit(-1_001, json!({"can_send_messages": true, "can_send_photos": false}));
    let (status, body) = photo(&host, &id, "-1001").await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "nothing was known, so Telegram said it: {body}");
    assert_eq!(body["error"]["details"]["code"], "forbidden", "{body}");
    // What the chat allows is asked when the answer is out.
    let began = Instant::now();
    let (refused, tried) = loop {
        let (tried, kept) = (fake.calls_of("sendPhoto").len(), host.messages(&id, "-1001").await.len());
        let answer = photo(&host, &id, "-1001").await;
        if answer.0 == StatusCode::UNPROCESSABLE_ENTITY {
            assert_eq!(host.messages(&id, "-1001").await.len(), kept, "what is refused at once leaves no message");
            break (answer, tried);
        }
        assert!(began.elapsed() < PATIENCE, "it is tried for ever: {answer:?}");
    };
    assert_refused_at_once(&refused, "image");
    assert_eq!(fake.calls_of("sendPhoto").len(), tried, "it is not tried");
    let asked = fake.calls_of("getChat").len();
    assert_eq!(asked, 1, "asked once");
    let (status, body) = text(&host, &id, "-1001").await;
    assert_eq!(status, StatusCode::CREATED, "words are allowed: {body}");

    // The right is given, of which nobody is told: the next one after the time is tried.
    fake.permit(-1_001, json!({"can_send_messages": true, "can_send_photos": true}));
    host.clock.as_ref().unwrap().advance(FRESH);
    let (status, body) = photo(&host, &id, "-1001").await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    assert_eq!(fake.calls_of("sendPhoto").len(), tried + 1);
    assert_eq!(fake.calls_of("getChat").len(), asked, "and nobody asks before a send");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_about_a_channel_counts_for_the_sends_after_it() {
    let (host, fake, id) = bot().await;
    let channel = json!({"id": -1_009, "type": "channel", "title": "News"});
    let rights = |post: bool| {
        let mut rights = json!({"status": "administrator", "can_post_messages": post});
        for right in [
            "can_be_edited",
            "is_anonymous",
            "can_manage_chat",
            "can_delete_messages",
            "can_manage_video_chats",
            "can_restrict_members",
            "can_promote_members",
            "can_change_info",
            "can_invite_users",
            "can_post_stories",
            "can_edit_stories",
            "can_delete_stories",
        ] {
            rights[right] = json!(false);
        }
        rights
    };
    fake.bot_is(-1_009, rights(true));
    fake.say(&channel, &Person::new(7, "Ann"), json!({"text": "a post"}));
    let chats = host.until(&format!("/chats?instanceId={id}"), |chats| chats["items"][0].is_object()).await;
    let path = format!("/chats/{}/capabilities", chats["items"][0]["id"].as_str().unwrap());
    let can = host.get(&path).await;
    assert!(can["data"]["send"]["text"].is_object(), "{can}");
    assert_eq!(text(&host, &id, "-1009").await.0, StatusCode::CREATED);

    fake.bot_is(-1_009, rights(false));
    let can = host.get(&path).await;
    assert!(can["data"]["send"]["text"].is_null(), "{can}");
    let tried = fake.calls_of("sendMessage").len();
    assert_refused_at_once(&text(&host, &id, "-1009").await, "text");
    assert_refused_at_once(&photo(&host, &id, "-1009").await, "image");
    assert_eq!((fake.calls_of("sendMessage").len(), fake.calls_of("sendPhoto").len()), (tried, 0), "nothing was tried");

    // Asked anew, the new answer counts at once.
    fake.bot_is(-1_009, rights(true));
    host.get(&path).await;
    assert_eq!(text(&host, &id, "-1009").await.0, StatusCode::CREATED);
    fake.assert_by_the_book();
    host.stop().await;
}
