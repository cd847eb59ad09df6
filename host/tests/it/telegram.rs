//! Telegram end to end, against a Bot API server of our own that is held to the published specification.

use crate::harness::{Setup, TestHost, impatient};
use crate::telegram_fake::{Fault, Person, TOKEN, TelegramFake, group, private, supergroup};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A host with one bot on the fake.
async fn bot() -> (TestHost, TelegramFake, String) {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    let id = connect(&host, &fake).await;
    (host, fake, id)
}

async fn connect(host: &TestHost, fake: &TelegramFake) -> String {
    let id = instance(host, fake, json!({})).await;
    host.until_state(&id, "connected").await;
    id
}

/// Makes a bot on the fake, which writes as fast as it likes unless `config` says otherwise.
pub async fn instance(host: &TestHost, fake: &TelegramFake, config: Value) -> String {
    let mut whole = json!({"apiBaseUrl": fake.url(), "chatPerSecond": 0, "groupPerMinute": 0, "totalPerSecond": 0});
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    let new = json!({"name": "bot", "channel": "telegram", "token": TOKEN, "config": whole});
    let made = host.post("/instances", new).await;
    assert_eq!(made["data"]["hasToken"], true, "{made}");
    assert!(!made.to_string().contains(TOKEN), "the token is never shown: {made}");
    made["data"]["id"].as_str().unwrap().to_owned()
}

/// Waits until a chat has so many messages, and gives them, oldest first.
pub async fn stored(host: &TestHost, id: &str, chat: &Value, count: usize) -> Vec<Value> {
    let chat = chat["id"].as_str().map_or_else(|| chat["id"].to_string(), |name| name.replace('/', "%2F"));
    host.stored(id, &chat, count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_both_ways_and_over_a_restart() {
    let (host, fake, id) = bot().await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let first = fake.text(&chat, &ann, "hello bot");
    let messages = stored(&host, &id, &chat, 1).await;
    assert_eq!(messages[0]["textContent"], "hello bot");
    assert_eq!(messages[0]["externalId"], json!(first.to_string()));

    let sent = host
        .post("/messages/send", json!({"instanceId": id, "to": "7", "text": "hello Ann", "replyTo": first.to_string()}))
        .await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let there = fake.messages(7);
    assert_eq!(there.last().unwrap()["text"], "hello Ann", "{there:?}");
    assert_eq!(there.last().unwrap()["reply_to_message"]["message_id"], json!(first));

    let host = host.restart(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    host.until_state(&id, "connected").await;
    fake.text(&chat, &ann, "are you back?");
    let messages = stored(&host, &id, &chat, 3).await;
    assert_eq!(messages[2]["textContent"], "are you back?");
    fake.confirmed().await;
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_reactions_and_albums_arrive_as_what_they_are() {
    let (host, fake, id) = bot().await;
    let (ann, bob) = (Person::new(7, "Ann"), Person::new(8, "Bob"));
    let chat = supergroup(-1_001, "Friends");
    let message = fake.text(&chat, &ann, "helo");
    fake.edit(&chat, message, json!({"text": "hello"}));
    fake.react(&chat, message, &bob, &[], &["👍"]);
    stored(&host, &id, &chat, 1).await;
    let path = format!("/messages?instanceId={id}&chatId=-1001");
    let body = host.until(&path, |body| !body["items"][0]["reactions"].as_array().is_none_or(Vec::is_empty)).await;
    let seen = &body["items"][0];
    assert_eq!(seen["textContent"], "hello", "{seen}");
    assert_eq!(seen["status"], "edited");
    assert_eq!(seen["originalText"], "helo");
    assert_eq!(seen["editCount"], 1);
    assert_eq!(seen["reactions"][0]["emoji"], "👍");

    fake.react(&chat, message, &bob, &["👍"], &[]);
    host.until(&path, |body| body["items"][0]["reactions"].as_array().is_none_or(Vec::is_empty)).await;

    fake.album(&chat, &ann, &[b"one", b"two", b"three"]);
    let messages = stored(&host, &id, &chat, 4).await;
    assert!(messages[1..].iter().all(|item| item["messageType"] == "image"), "{messages:?}");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_photo_comes_down_and_a_document_goes_up() {
    let (host, fake, id) = bot().await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let picture = vec![42u8; 70_000];
    fake.photo(&chat, &ann, &picture, Some("look"));
    stored(&host, &id, &chat, 1).await;
    let body = host
        .until(&format!("/messages?instanceId={id}&chatId=7"), |body| body["items"][0]["mediaUrl"].is_string())
        .await;
    let message = &body["items"][0];
    assert_eq!((&message["messageType"], &message["textContent"]), (&json!("image"), &json!("look")), "{message}");
    let url = format!("{}{}", host.url, message["mediaUrl"].as_str().unwrap());
    let file = reqwest::Client::new().get(url).header("x-api-key", &host.key).send().await.unwrap();
    assert_eq!(file.status(), StatusCode::OK);
    assert_eq!(file.bytes().await.unwrap(), picture);

    let data = base64(&[7u8; 5_000]);
    let send = json!({"instanceId": id, "to": "7", "type": "document", "base64": data, "filename": "a.bin", "caption": "here"});
    let sent = host.post("/messages/send/media", send).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let call = fake.calls_of("sendDocument").pop().unwrap();
    assert_eq!(call.files[0].bytes, vec![7u8; 5_000]);
    assert_eq!(call.files[0].file_name, "a.bin");
    assert_eq!(call.params["caption"], "here");
    fake.assert_by_the_book();
    host.stop().await;
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_a_bot_can_do_with_a_message() {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { plugins: vec!["telegram"], manual_clock: true, ..Setup::default() }).await;
    let id = connect(&host, &fake).await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let theirs = fake.text(&chat, &ann, "hi");
    let messages = stored(&host, &id, &chat, 1).await;
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "7", "text": "first"})).await;
    let ours = sent["data"]["messageId"].as_str().unwrap();

    host.post(&format!("/messages/{ours}/edit"), json!({"text": "second"})).await;
    assert_eq!(fake.messages(7).last().unwrap()["text"], "second");
    let seen = host.get(&format!("/messages/{ours}")).await;
    assert_eq!((&seen["data"]["textContent"], &seen["data"]["status"]), (&json!("second"), &json!("edited")), "{seen}");

    let their_id = messages[0]["id"].as_str().unwrap();
    host.post(&format!("/messages/{their_id}/reactions"), json!({"emoji": "👍"})).await;
    assert!(fake.reactions(7, theirs).to_string().contains("👍"));

    let (status, body) = host.call(Method::DELETE, &format!("/messages/{ours}"), None).await;
    assert!(status.is_success(), "{status} {body}");
    assert!(fake.messages(7).iter().all(|message| message["text"] != "second"), "it is gone there");
    let seen = host.get(&format!("/messages/{ours}")).await;
    assert_eq!(seen["data"]["status"], "deleted", "and marked here: {seen}");

    for (path, body, method) in [
        ("location", json!({"latitude": 52.5, "longitude": 13.4}), "sendLocation"),
        ("contact", json!({"contact": {"name": "Bob", "phone": "+491700000000"}}), "sendContact"),
        ("poll", json!({"question": "Tea?", "answers": ["yes", "no"]}), "sendPoll"),
        ("presence", json!({"type": "typing"}), "sendChatAction"),
    ] {
        let mut body = body;
        body["instanceId"] = json!(id);
        body["to"] = json!("7");
        host.post(&format!("/messages/send/{path}"), body).await;
        assert_eq!(fake.calls_of(method).len(), 1, "{method}");
    }
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_is_obeyed_and_the_order_of_the_chat_is_kept() {
    let fake = TelegramFake::start().await;
    let setup = Setup { plugins: vec!["telegram"], manual_clock: true, configure: impatient, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let id = connect(&host, &fake).await;
    fake.know(&private(&Person::new(7, "Ann")));
    fake.know(&private(&Person::new(8, "Bob")));
    fake.fail("sendMessage", 1, Fault::TooMany(30));
    let send = |text: &str| json!({"instanceId": id, "to": "7", "text": text});
    let path = "/messages/send";
    let (first, second, elsewhere) = tokio::join!(
        host.call(Method::POST, path, Some(send("one"))),
        async {
            fake.called("sendMessage", 1).await;
            host.call(Method::POST, path, Some(send("two"))).await
        },
        async {
            fake.called("sendMessage", 1).await;
            host.post(path, json!({"instanceId": id, "to": "8", "text": "other chat"})).await
        }
    );
    // Another chat is not held up.
    host.is_sent(&elsewhere).await;
    assert_eq!((first.0.as_u16(), second.0.as_u16()), (202, 202), "{first:?} {second:?}");
    assert_eq!(fake.messages(7).len(), 0, "nothing is sent before the time has come");
    host.clock.as_ref().unwrap().advance(std::time::Duration::from_secs(29));
    assert_eq!(fake.calls_of("sendMessage").len(), 2);
    host.clock.as_ref().unwrap().advance(std::time::Duration::from_secs(2));
    fake.called("sendMessage", 4).await;
    let texts: Vec<_> = fake.messages(7).iter().map(|message| message["text"].clone()).collect();
    assert_eq!(texts, [json!("one"), json!("two")]);
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_logged_out_with_what_to_do() {
    let fake = TelegramFake::start().await;
    let setup = Setup { plugins: vec!["telegram"], configure: impatient, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let id = connect(&host, &fake).await;
    fake.revoke_token();
    let status = host.until_state(&id, "logged_out").await;
    assert!(status.to_string().contains("@BotFather"), "{status}");
    let polls = fake.calls_of("getUpdates").len();
    let (code, body) =
        host.call(Method::POST, "/messages/send", Some(json!({"instanceId": id, "to": "7", "text": "x"}))).await;
    assert!(code == StatusCode::ACCEPTED || code == StatusCode::SERVICE_UNAVAILABLE, "{code} {body}");
    assert_eq!(fake.calls_of("getUpdates").len(), polls, "a bot that is logged out does not ask again");

    fake.accept_token("123456:a-new-token");
    let (code, body) =
        host.call(Method::PATCH, &format!("/instances/{id}"), Some(json!({"token": "123456:a-new-token"}))).await;
    assert!(code.is_success(), "{code} {body}");
    host.until_state(&id, "connected").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_poller_on_the_token_is_reported_as_such() {
    let (host, fake, id) = bot().await;
    fake.fail(
        "getUpdates",
        1,
        Fault::Refuse(
            409,
            "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running".into(),
        ),
    );
    // Ends the poll that is under way already, should there be one: the next one meets the conflict.
    let ann = Person::new(7, "Ann");
    fake.text(&private(&ann), &ann, "news");
    let status = host.until_state(&id, "disconnected").await;
    assert!(status.to_string().to_lowercase().contains("another"), "{status}");
    host.until_state(&id, "connected").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_with_an_unknown_outcome_is_not_repeated() {
    let (host, fake, id) = bot().await;
    fake.know(&private(&Person::new(7, "Ann")));
    fake.know(&private(&Person::new(8, "Bob")));
    fake.fail("sendMessage", 1, Fault::DoneThenCut);
    let (status, body) =
        host.call(Method::POST, "/messages/send", Some(json!({"instanceId": id, "to": "7", "text": "once"}))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    assert_eq!(body["data"]["status"], "unknown", "{body}");
    host.post("/messages/send", json!({"instanceId": id, "to": "8", "text": "other"})).await;
    assert_eq!(fake.calls_of("sendMessage").len(), 2, "asked once, not again");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_becomes_a_supergroup_stays_one_chat() {
    let (host, fake, id) = bot().await;
    let ann = Person::new(7, "Ann");
    let (old, new) = (group(-5, "Team"), supergroup(-1_005, "Team"));
    fake.text(&old, &ann, "before");
    stored(&host, &id, &old, 1).await;
    fake.upgrade(&old, &new, &ann);
    fake.text(&new, &ann, "after");
    let messages = stored(&host, &id, &new, 2).await;
    assert_eq!(messages[0]["textContent"], "before");
    assert_eq!(messages[0]["externalId"], "-5/1", "the new chat has another message 1");
    assert_eq!(messages[1]["textContent"], "after");
    fake.say_as(1, &new, &ann, json!({"text": "the first of the supergroup"}));
    stored(&host, &id, &new, 3).await;
    fake.assert_by_the_book();
    host.stop().await;
}

/// The bot hears of the move only because a send is refused: that send arrives, once, and the chat is known under both ids.
#[tokio::test(flavor = "multi_thread")]
async fn a_send_to_the_old_group_arrives_in_the_new_one() {
    let (host, fake, id) = bot().await;
    let ann = Person::new(7, "Ann");
    let (old, new) = (group(-5, "Team"), supergroup(-1_005, "Team"));
    fake.text(&old, &ann, "before");
    let messages = stored(&host, &id, &old, 1).await;
    let before = messages[0]["id"].as_str().unwrap();
    let ours = host.post("/messages/send", json!({"instanceId": id, "to": "-5", "text": "ours"})).await;
    let ours = ours["data"]["messageId"].as_str().unwrap().to_owned();
    fake.upgrade_in_silence(&old, &new);
    let send = json!({"instanceId": id, "to": "-5", "text": "an answer", "replyTo": "1"});
    let sent = host.post("/messages/send", send).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let there = fake.messages(-1_005);
    assert_eq!((there.len(), &there[0]["text"]), (1, &json!("an answer")), "{there:?}");
    assert_eq!(there[0].get("reply_to_message"), None, "the number is another message there");
    let messages = stored(&host, &id, &new, 3).await;
    assert_eq!(messages.len(), host.messages(&id, "-5").await.len(), "one chat under both ids");
    let again = host.post("/messages/send", json!({"instanceId": id, "to": "-5", "text": "more"})).await;
    assert_eq!(again["data"]["status"], "sent", "{again}");
    assert_eq!(fake.calls_of("sendMessage").pop().unwrap().params["chat_id"], -1_005, "and it goes there at once");

    let (status, body) = host.call(Method::POST, &format!("/messages/{ours}/edit"), Some(json!({"text": "x"}))).await;
    assert!(!status.is_success() && body.to_string().contains("supergroup"), "{status} {body}");
    let (status, body) =
        host.call(Method::POST, &format!("/messages/{before}/reactions"), Some(json!({"emoji": "👍"}))).await;
    assert!(!status.is_success() && body.to_string().contains("supergroup"), "{status} {body}");
    assert!(fake.calls_of("editMessageText").is_empty() && fake.calls_of("setMessageReaction").is_empty());
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn formatting_that_telegram_refuses_goes_out_as_plain_words() {
    let (host, fake, id) = bot().await;
    fake.know(&private(&Person::new(7, "Ann")));
    fake.fail("sendMessage", 1, Fault::Refuse(400, "Bad Request: can't parse entities: no end".into()));
    let entities = json!([{"type": "bold", "offset": 0, "length": 4}]);
    let send = json!({"instanceId": id, "to": "7", "text": "bold", "entities": entities});
    let sent = host.post("/messages/send", send).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let calls = fake.calls_of("sendMessage");
    assert_eq!(calls.len(), 2, "once with it, once without");
    assert_eq!((calls[0].params.get("entities").is_some(), calls[1].params.get("entities")), (true, None));
    fake.fail("sendMessage", 2, Fault::Refuse(400, "Bad Request: can't parse entities: no end".into()));
    let (status, body) =
        host.call(Method::POST, "/messages/send", Some(json!({"instanceId": id, "to": "7", "text": "plain"}))).await;
    assert!(!status.is_success(), "plain words are not sent again: {status} {body}");
    assert_eq!(fake.calls_of("sendMessage").len(), 3);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_changes_nothing_is_done_and_one_that_comes_too_late_says_so() {
    let (host, fake, id) = bot().await;
    fake.know(&private(&Person::new(7, "Ann")));
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "7", "text": "the same"})).await;
    let ours = sent["data"]["messageId"].as_str().unwrap();
    host.post(&format!("/messages/{ours}/edit"), json!({"text": "the same"})).await;
    assert_eq!(fake.calls_of("editMessageText")[0].status, 400, "Telegram calls it not modified");
    fake.fail("editMessageText", 1, Fault::Refuse(400, "Bad Request: message can't be edited".into()));
    let (status, body) = host.call(Method::POST, &format!("/messages/{ours}/edit"), Some(json!({"text": "x"}))).await;
    assert!(!status.is_success() && body.to_string().contains("only for a while"), "{status} {body}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_to_one_chat_keep_to_telegrams_pace() {
    let fake = TelegramFake::start().await;
    let setup = Setup { plugins: vec!["telegram"], manual_clock: true, configure: impatient, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let id = instance(&host, &fake, json!({"chatPerSecond": 1})).await;
    host.until_state(&id, "connected").await;
    fake.know(&private(&Person::new(7, "Ann")));
    fake.know(&private(&Person::new(8, "Bob")));
    let send = |to: &str, text: &str| json!({"instanceId": id, "to": to, "text": text});
    host.is_sent(&host.post("/messages/send", send("7", "one")).await).await;
    // The clock stands still, so the second one waits for as long as the API waits.
    let (second, other) = tokio::join!(
        host.call(Method::POST, "/messages/send", Some(send("7", "two"))),
        host.post("/messages/send", send("8", "elsewhere"))
    );
    assert_eq!(second.0, StatusCode::ACCEPTED, "{second:?}");
    // Another chat has a pace of its own.
    host.is_sent(&other).await;
    assert_eq!(fake.messages(7).len(), 1);
    host.clock.as_ref().unwrap().advance(std::time::Duration::from_millis(1_000));
    fake.called("sendMessage", 3).await;
    let texts: Vec<_> = fake.messages(7).iter().map(|message| message["text"].clone()).collect();
    assert_eq!(texts, [json!("one"), json!("two")]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_telegram_does_not_give_out_is_refused_with_the_way_out() {
    let (host, fake, id) = bot().await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    fake.document(&chat, &ann, "film.mkv", "video/x-matroska", &vec![0; 20 * 1024 * 1024 + 1]);
    let body = host
        .until(&format!("/messages?instanceId={id}&chatId=7"), |body| body["items"][0]["mediaError"].is_string())
        .await;
    let reason = body["items"][0]["mediaError"].as_str().unwrap();
    assert!(reason.contains("20 MB") && reason.contains("--local"), "{reason}");
    assert_eq!(body["items"][0]["messageType"], "document", "the message itself is there");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_that_nobody_understands_is_kept_and_the_next_one_comes_through() {
    let (host, fake, id) = bot().await;
    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    fake.push_odd(json!({"something_new": {"strange": [1, 2, {"deep": null}]}}));
    fake.push_odd(json!({"message": {"message_id": "not a number", "chat": 5}}));
    fake.text(&chat, &ann, "still here");
    let messages = stored(&host, &id, &chat, 1).await;
    assert_eq!(messages[0]["textContent"], "still here");
    fake.confirmed().await;
    host.stop().await;
}
