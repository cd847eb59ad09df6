//! What a test may rely on: the fake does to a bot what Telegram does.

use super::{Fault, Person, TOKEN, TelegramFake, group, private, supergroup};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Waited at most for what has to come at once.
const SOON: Duration = Duration::from_secs(10);

/// An HTTP call on a connection of its own: status and body, or nothing when the connection broke.
async fn http(fake: &TelegramFake, head: &str, content_type: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let address = fake.url().trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("the fake listens");
    let length = body.len();
    let head = format!(
        "{head} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: {content_type}\r\n\
         content-length: {length}\r\n\r\n"
    );
    stream.write_all(&[head.as_bytes(), body].concat()).await.expect("the fake reads");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok()?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_off(end + 4);
    // A body that was cut off has no last chunk.
    let whole = !head.to_lowercase().contains("transfer-encoding: chunked") || body.ends_with(b"0\r\n\r\n");
    whole.then_some((status, body))
}

async fn call(fake: &TelegramFake, method: &str, params: Value) -> (u16, Value) {
    let head = format!("POST /bot{TOKEN}/{method}");
    let (status, body) =
        http(fake, &head, "application/json", params.to_string().as_bytes()).await.expect("an answer comes");
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

fn ana() -> Person {
    Person::new(7001, "Ana")
}

#[tokio::test]
async fn an_update_comes_again_until_an_offset_behind_it_was_seen() {
    let fake = TelegramFake::start().await;
    let chat = private(&ana());
    let first = fake.text(&chat, &ana(), "one");
    fake.edit(&chat, first, json!({"text": "two"}));
    fake.react(&chat, first, &ana(), &[], &["👍"]);
    for _ in 0..2 {
        let (_, answer) = call(&fake, "getUpdates", json!({"allowed_updates": ["message", "edited_message"]})).await;
        assert_eq!(answer["result"][0]["message"]["text"], "one");
        assert_eq!(answer["result"][1]["edited_message"]["text"], "two");
        assert_eq!(answer["result"].as_array().map(Vec::len), Some(2), "reactions were not asked for: {answer}");
    }
    let (_, answer) = call(&fake, "getUpdates", json!({"offset": 731_004_003})).await;
    assert_eq!((answer, fake.unconfirmed()), (json!({"ok": true, "result": []}), 0));
    fake.confirmed().await;
    fake.assert_by_the_book();
}

#[tokio::test]
async fn a_poll_waits_for_news_and_a_second_one_ends_it() {
    let fake = TelegramFake::start().await;
    let chat = group(-5, "Kitchen");
    let poll = || call(&fake, "getUpdates", json!({"timeout": 50}));
    let news = async {
        fake.membership(&chat, &ana(), "left", "member");
        fake.album(&chat, &ana(), &[b"one", b"two"]);
    };
    let ((_, answer), ()) = tokio::time::timeout(SOON, async { tokio::join!(poll(), news) }).await.expect("at once");
    assert!(answer["result"][0]["my_chat_member"].is_object(), "{answer}");
    let after = || call(&fake, "getUpdates", json!({"timeout": 50, "offset": 731_004_004}));
    let second = async {
        // The first is under way when it has confirmed what came before.
        tokio::time::timeout(SOON, fake.confirmed()).await.expect("the first poll begins");
        let (status, answer) = call(&fake, "getUpdates", json!({"offset": 731_004_004})).await;
        assert_eq!((status, &answer["result"]), (200, &json!([])));
    };
    let ((status, answer), ()) = tokio::join!(after(), second);
    assert_eq!(status, 409);
    assert!(answer["description"].as_str().is_some_and(|words| words.contains("terminated by other")), "{answer}");
    fake.set_webhook("https://bot.example/hook");
    assert_eq!(call(&fake, "getUpdates", json!({})).await.0, 409);
    assert_eq!(call(&fake, "deleteWebhook", json!({})).await.0, 200);
    fake.revoke_token();
    assert_eq!(call(&fake, "getUpdates", json!({})).await.0, 401);
    fake.accept_token(TOKEN);
    assert_eq!(call(&fake, "getMe", json!({})).await.0, 200);
    fake.assert_by_the_book();
}

#[tokio::test]
async fn what_is_sent_is_there_and_can_be_changed() {
    let fake = TelegramFake::start().await;
    let chat = private(&ana());
    let send = |text: &str| call(&fake, "sendMessage", json!({"chat_id": 7001, "text": text}));
    assert_eq!(send("hi").await.1["description"], "Bad Request: chat not found");
    fake.know(&chat);
    assert_eq!(send("hi").await.1["result"]["message_id"], 1);
    let edit = |text: &str| call(&fake, "editMessageText", json!({"chat_id": 7001, "message_id": 1, "text": text}));
    assert_eq!(edit("hi").await.0, 400, "it is not modified");
    assert_eq!(edit("ho").await.1["result"]["text"], "ho");
    let reaction = json!([{"type": "emoji", "emoji": "👍"}]);
    call(&fake, "setMessageReaction", json!({"chat_id": 7001, "message_id": 1, "reaction": reaction})).await;
    assert_eq!(fake.reactions(7001, 1), reaction);
    let touch = fake.touch(&chat, 1, &ana(), "yes");
    assert_eq!(call(&fake, "answerCallbackQuery", json!({"callback_query_id": touch})).await.0, 200);
    assert_eq!(call(&fake, "answerCallbackQuery", json!({"callback_query_id": touch})).await.0, 400, "only once");
    assert_eq!(call(&fake, "deleteMessage", json!({"chat_id": 7001, "message_id": 1})).await.0, 200);
    assert_eq!(fake.messages(7001), Vec::<Value>::new());
    let large = supergroup(-1005, "Kitchen");
    fake.upgrade(&group(-5, "Kitchen"), &large, &ana());
    let (_, answer) = call(&fake, "sendMessage", json!({"chat_id": -5, "text": "hi"})).await;
    assert_eq!(answer["parameters"]["migrate_to_chat_id"], -1005);
    fake.block(7001);
    assert_eq!(send("hi").await.0, 403);
    fake.assert_by_the_book();
}

#[tokio::test]
async fn files_come_and_go() {
    let fake = TelegramFake::start().await;
    let chat = private(&ana());
    fake.photo(&chat, &ana(), b"a picture", Some("look"));
    fake.document(&chat, &ana(), "a.pdf", "application/pdf", b"a file");
    let id = fake.messages(7001)[1]["document"]["file_id"].clone();
    let (_, answer) = call(&fake, "getFile", json!({"file_id": id})).await;
    let path = answer["result"]["file_path"].as_str().expect("it has a path");
    let file = http(&fake, &format!("GET /file/bot{TOKEN}/{path}"), "", b"").await;
    assert_eq!(file, Some((200, b"a file".to_vec())));
    let part = |head: &str, body: &str| format!("--b\r\ncontent-disposition: form-data; {head}\r\n\r\n{body}\r\n");
    let photo = part("name=\"photo\"; filename=\"cat.png\"\r\ncontent-type: image/png", "meow");
    let body = format!("{}{photo}--b--\r\n", part("name=\"chat_id\"", "7001"));
    let form = "multipart/form-data; boundary=b";
    let sent = http(&fake, &format!("POST /bot{TOKEN}/sendPhoto"), form, body.as_bytes()).await;
    assert_eq!(sent.map(|(status, _)| status), Some(200));
    let calls = tokio::time::timeout(SOON, fake.called("sendPhoto", 1)).await.expect("it was called");
    let uploaded = &calls[0].files[0];
    assert_eq!((uploaded.field.as_str(), uploaded.file_name.as_str()), ("photo", "cat.png"));
    assert_eq!((uploaded.mime_type.as_str(), uploaded.bytes.as_slice()), ("image/png", b"meow".as_slice()));
    assert_eq!(calls[0].params["chat_id"], 7001);
    assert_eq!((calls[0].status, &calls[0].answer["ok"]), (200, &json!(true)));
    fake.assert_by_the_book();
}

#[tokio::test]
async fn things_go_wrong_when_they_are_told_to() {
    let fake = TelegramFake::start().await;
    fake.know(&private(&ana()));
    let send = || call(&fake, "sendMessage", json!({"chat_id": 7001, "text": "hi"}));
    fake.fail("sendMessage", 1, Fault::TooMany(7));
    assert_eq!(send().await.1["parameters"]["retry_after"], 7);
    fake.fail("sendMessage", 1, Fault::Refuse(400, "Bad Request: can't parse entities".to_owned()));
    assert_eq!(send().await.1["description"], "Bad Request: can't parse entities");
    fake.fail("*", 1, Fault::Gateway(502));
    assert_eq!(send().await, (502, Value::Null));
    assert_eq!(fake.messages(7001).len(), 0, "nothing was done so far");
    fake.fail("sendMessage", 1, Fault::DoneThenGateway(504));
    assert_eq!(send().await.0, 504);
    fake.fail("sendMessage", 1, Fault::DoneThenCut);
    let body = json!({"chat_id": 7001, "text": "hi"}).to_string();
    let cut = http(&fake, &format!("POST /bot{TOKEN}/sendMessage"), "application/json", body.as_bytes()).await;
    assert_eq!(cut, None);
    assert_eq!(fake.messages(7001).len(), 2, "both were done");
    fake.fail("sendMessage", 1, Fault::Stall);
    let go_on = async {
        let mut stalled = fake.stalled();
        stalled.wait_for(|calls| *calls > 0).await.expect("the fake is there");
        fake.resume();
    };
    let ((status, _), ()) = tokio::join!(send(), go_on);
    assert_eq!((status, fake.calls_of("sendMessage").len(), fake.calls().len()), (200, 6, 6));
}

#[tokio::test]
async fn what_is_not_by_the_book_is_noted() {
    let fake = TelegramFake::start().await;
    call(&fake, "sendEverything", json!({})).await;
    assert!(!fake.violations().is_empty(), "no such method");
    if fake.shared.spec.is_some() {
        let before = fake.violations().len();
        call(&fake, "sendMessage", json!({"chat_id": 1, "text": "x", "colour": "red"})).await;
        call(&fake, "sendMessage", json!({"chat_id": 1})).await;
        call(&fake, "getFile", json!({"file_id": 7})).await;
        fake.push("message", json!({"text": "no id"}));
        assert!(fake.violations().len() >= before + 4, "{:?}", fake.violations());
    }
    fake.push_odd(json!("no object"));
    assert_eq!(call(&fake, "getUpdates", json!({"offset": -1})).await.1["result"], json!(["no object"]));
}
