//! Telegram's chats of every sort, end to end: topics, channels, the chats of a business account, albums, and the kinds
//! of update that the host has no word for.

use crate::harness::{Setup, TestHost};
use crate::telegram::{instance, stored};
use crate::telegram_fake::{Person, TelegramFake, private, supergroup};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn bot() -> (TestHost, TelegramFake, String) {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    let id = instance(&host, &fake, json!({})).await;
    host.until_state(&id, "connected").await;
    (host, fake, id)
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_a_chat_and_a_reaction_in_it_finds_its_message() {
    let (host, fake, id) = bot().await;
    let (ann, bob) = (Person::new(7, "Ann"), Person::new(8, "Bob"));
    let forum = json!({"id": -1_001, "type": "supergroup", "title": "Builders", "is_forum": true});
    let topic = json!({"id": "-1001/77"});
    let in_topic = |mut content: Value| {
        content["message_thread_id"] = json!(77);
        content["is_topic_message"] = json!(true);
        content
    };
    let made = json!({"forum_topic_created": {"name": "Roof", "icon_color": 7_322_096}});
    fake.say(&forum, &ann, in_topic(made));
    let message = fake.say(&forum, &ann, in_topic(json!({"text": "it leaks"})));
    // Telegram names only the forum.
    fake.react(&forum, message, &bob, &[], &["👍"]);
    stored(&host, &id, &topic, 1).await;
    let path = format!("/messages?instanceId={id}&chatId=-1001%2F77");
    let body = host.until(&path, |body| body["items"][0]["reactions"].is_array()).await;
    assert_eq!(body["items"][0]["reactions"][0]["emoji"], "👍", "{body}");
    // Also when the message was stored long before, and in the next batch.
    host.settle().await;
    fake.react(&forum, message, &bob, &["👍"], &["🔥"]);
    let body = host.until(&path, |body| body["items"][0]["reactions"][0]["emoji"] == "🔥").await;
    assert_eq!(body["items"][0]["reactions"].as_array().map(Vec::len), Some(1), "{body}");

    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "-1001/77", "text": "on my way"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let call = fake.calls_of("sendMessage").pop().unwrap();
    assert_eq!((&call.params["chat_id"], &call.params["message_thread_id"]), (&json!(-1_001), &json!(77)));
    host.post("/messages/send/presence", json!({"instanceId": id, "to": "-1001/77", "type": "typing"})).await;
    assert_eq!(fake.calls_of("sendChatAction")[0].params["message_thread_id"], 77);

    fake.say(&forum, &ann, in_topic(json!({"forum_topic_edited": {"name": "Roof and walls"}})));
    let chats = format!("/chats?instanceId={id}");
    let named = |name: &'static str| {
        move |body: &Value| body["items"].as_array().is_some_and(|chats| chats.iter().any(|chat| chat["name"] == name))
    };
    host.until(&chats, named("Roof and walls")).await;
    fake.say(&forum, &ann, in_topic(json!({"forum_topic_closed": {}})));
    let messages = stored(&host, &id, &topic, 3).await;
    assert_eq!(messages[2]["content"]["event"], "forum_topic_closed", "{messages:?}");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_album_goes_out_as_one_and_each_item_gets_its_own_id() {
    let (host, fake, id) = bot().await;
    fake.know(&private(&Person::new(7, "Ann")));
    let item = |bytes: &[u8]| json!({"type": "image", "base64": base64(bytes), "filename": "a.jpg"});
    let mut items = vec![item(b"one"), item(b"two"), item(b"three")];
    items[1]["caption"] = json!("the second");
    let send = json!({"instanceId": id, "to": "7", "items": items});
    let sent = host.post("/messages/send/album", send.clone()).await;
    assert_eq!((&sent["data"]["status"], &sent["data"]["parts"]), (&json!("sent"), &json!(3)), "{sent}");
    let calls = fake.calls_of("sendMediaGroup");
    assert_eq!(calls.len(), 1, "all in one call");
    let files: Vec<_> = calls[0].files.iter().map(|file| file.bytes.clone()).collect();
    assert_eq!(files, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    let messages = stored(&host, &id, &json!({"id": 7}), 3).await;
    let there: Vec<Value> = fake.messages(7).iter().map(|message| json!(message["message_id"].to_string())).collect();
    let here: Vec<Value> = messages.iter().map(|message| message["externalId"].clone()).collect();
    assert_eq!(here, there, "each has the id of its own");
    assert!(messages.iter().all(|message| message["deliveryStatus"] == "sent"), "{messages:?}");
    assert_eq!(messages[1]["textContent"], "the second");

    fake.block(7);
    let (status, body) = host.call(Method::POST, "/messages/send/album", Some(send.clone())).await;
    assert!(!status.is_success(), "{status} {body}");
    let messages = stored(&host, &id, &json!({"id": 7}), 6).await;
    assert!(messages[3..].iter().all(|message| message["deliveryStatus"] == "failed"), "together or not: {messages:?}");
    assert_eq!(fake.calls_of("sendMediaGroup").len(), 2, "no item is sent on its own");
    let eleven = json!({"instanceId": id, "to": "7", "items": vec![item(b"x"); 11]});
    let (status, body) = host.call(Method::POST, "/messages/send/album", Some(eleven)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_and_the_chats_of_a_business_account_go_both_ways() {
    let (host, fake, id) = bot().await;
    let channel = json!({"id": -1_009, "type": "channel", "title": "News"});
    fake.know(&channel);
    let post =
        json!({"message_id": 4, "chat": channel, "sender_chat": channel, "date": 1_767_225_700, "text": "a post"});
    fake.push("channel_post", post.clone());
    let mut edited = post;
    edited["text"] = json!("a better post");
    edited["edit_date"] = json!(1_767_225_710);
    fake.push("edited_channel_post", edited);
    let page = format!("/messages?instanceId={id}&chatId=-1009");
    host.until(&page, |body| body["items"][0]["textContent"] == "a better post").await;
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": "-1009", "text": "ours"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");

    let ann = Person::new(7, "Ann");
    let chat = private(&ann);
    let whose = json!({"business_connection_id": "bc1"});
    let message = |id: i64, text: &str| {
        let mut message = json!({"message_id": id, "chat": chat, "date": 1_767_225_500 + id, "text": text,
            "from": {"id": 7, "is_bot": false, "first_name": "Ann"}});
        message.as_object_mut().unwrap().extend(whose.as_object().unwrap().clone());
        message
    };
    fake.push("business_message", message(30, "is the shop open?"));
    fake.push("business_message", message(31, "never mind"));
    let business = json!({"id": "7/bbc1"});
    stored(&host, &id, &business, 2).await;
    fake.push("deleted_business_messages", json!({"business_connection_id": "bc1", "chat": chat, "message_ids": [31]}));
    let page = format!("/messages?instanceId={id}&chatId=7%2Fbbc1");
    host.until(&page, |body| body["items"][0]["status"] == "deleted").await;
    fake.know(&chat);
    let answer = json!({"instanceId": id, "to": "7/bbc1", "text": "until six", "replyTo": "30"});
    let sent = host.post("/messages/send", answer).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let call = fake.calls_of("sendMessage").pop().unwrap();
    assert_eq!((&call.params["business_connection_id"], &call.params["chat_id"]), (&json!("bc1"), &json!(7)));
    assert_eq!(
        stored(&host, &id, &business, 3).await[2]["textContent"],
        "until six",
        "in that chat, not the bot's own"
    );
    fake.push("business_message", message(32, "thank you"));
    let messages = stored(&host, &id, &business, 4).await;
    let chat_id = messages[3]["chatId"].as_str().unwrap();
    host.post(&format!("/chats/{chat_id}/read"), json!({})).await;
    let read = fake.calls_of("readBusinessMessage").pop().unwrap().params;
    assert_eq!(read, json!({"business_connection_id": "bc1", "chat_id": 7, "message_id": 32}));
    let first = messages[0]["id"].as_str().unwrap();
    host.post(&format!("/messages/{first}/read"), json!({})).await;
    assert_eq!(fake.calls_of("readBusinessMessage").pop().unwrap().params["message_id"], 30);
    let (status, body) = host
        .call(Method::POST, "/messages/read", Some(json!({"instanceId": id, "chatId": "-1009", "messageIds": ["4"]})))
        .await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "a channel has no such thing: {body}");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_other_kind_of_update_is_kept_whole() {
    let (host, fake, id) = bot().await;
    let ann = json!({"id": 7, "is_bot": false, "first_name": "Ann"});
    let group = supergroup(-1_001, "Friends");
    let boost = json!({"source": "premium", "user": ann});
    let kinds = [
        (
            "business_connection",
            json!({"id": "bc1", "user": ann, "user_chat_id": 7, "date": 1_767_225_700, "is_enabled": true}),
        ),
        ("inline_query", json!({"id": "q", "from": ann, "query": "cats", "offset": ""})),
        ("chosen_inline_result", json!({"result_id": "r", "from": ann, "query": "cats"})),
        (
            "pre_checkout_query",
            json!({"id": "p", "from": ann, "currency": "EUR", "total_amount": 5, "invoice_payload": "x"}),
        ),
        ("purchased_paid_media", json!({"from": ann, "paid_media_payload": "x"})),
        (
            "chat_boost",
            json!({"chat": group, "boost": {"boost_id": "b", "add_date": 1_767_225_700, "expiration_date": 1_767_229_000, "source": boost}}),
        ),
        ("removed_chat_boost", json!({"chat": group, "boost_id": "b", "remove_date": 1_767_225_700, "source": boost})),
    ];
    for (kind, body) in &kinds {
        fake.push(kind, body.clone());
    }
    fake.text(&private(&Person::new(7, "Ann")), &Person::new(7, "Ann"), "and on");
    stored(&host, &id, &json!({"id": 7}), 1).await;
    for (kind, body) in kinds {
        let path = format!("/events?eventType=custom.telegram.{kind}&limit=10");
        let events = host.until(&path, |events| events["items"].as_array().is_some_and(|items| items.len() == 1)).await;
        assert_eq!(events["items"][0]["payload"]["fields"][kind], body, "{events}");
    }
    fake.confirmed().await;
    fake.assert_by_the_book();
    host.stop().await;
}
