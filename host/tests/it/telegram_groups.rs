//! Groups on Telegram, end to end: everything that a bot can do with one, and what is told late of one that has moved.

use crate::harness::{Setup, TestHost};
use crate::telegram::{instance, stored};
use crate::telegram_fake::{Fault, Person, TelegramFake, group, supergroup};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// A host with one bot, and a group in which Ann has written something: its path in the API.
async fn in_a_group() -> (TestHost, TelegramFake, String, String) {
    let fake = TelegramFake::start().await;
    let host = TestHost::with(Setup { plugins: vec!["telegram"], ..Setup::default() }).await;
    let id = instance(&host, &fake, json!({})).await;
    host.until_state(&id, "connected").await;
    let chat = supergroup(-1_001, "Builders");
    fake.text(&chat, &Person::new(7, "Ann"), "hello");
    stored(&host, &id, &chat, 1).await;
    let chats = host.get(&format!("/chats?instanceId={id}")).await;
    let path = format!("/chats/{}/group", chats["items"][0]["id"].as_str().unwrap());
    (host, fake, id, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_that_a_bot_can_do_with_a_group() {
    let (host, fake, id, path) = in_a_group().await;
    let chat = json!(-1_001);
    let calls = [
        (json!({"action": "setName", "text": "Masons"}), "setChatTitle", json!({"title": "Masons"})),
        (
            json!({"action": "setDescription", "text": "of walls"}),
            "setChatDescription",
            json!({"description": "of walls"}),
        ),
        (json!({"action": "setPicture"}), "deleteChatPhoto", json!({})),
        (json!({"action": "ban", "users": ["7"]}), "banChatMember", json!({"user_id": 7})),
        (json!({"action": "unban", "users": ["7"]}), "unbanChatMember", json!({"user_id": 7, "only_if_banned": true})),
        (
            json!({"action": "promote", "users": ["7"]}),
            "promoteChatMember",
            json!({"user_id": 7, "can_manage_chat": true, "can_pin_messages": true}),
        ),
        (
            json!({"action": "demote", "users": ["7"]}),
            "promoteChatMember",
            json!({"user_id": 7, "can_manage_chat": false, "can_pin_messages": false}),
        ),
        (json!({"action": "pin", "messageId": "1"}), "pinChatMessage", json!({"message_id": 1})),
        (json!({"action": "unpin", "messageId": "1"}), "unpinChatMessage", json!({"message_id": 1})),
        (json!({"action": "unpin"}), "unpinAllChatMessages", json!({})),
    ];
    for (body, method, expected) in calls {
        let answer = host.post(&path, body.clone()).await;
        assert_eq!(answer["data"]["chat"]["id"], "-1001", "{body}: {answer}");
        let call = fake.calls_of(method).pop().unwrap_or_else(|| panic!("{body}: {method} was not called"));
        assert_eq!((call.status, &call.params["chat_id"]), (200, &chat), "{body}: {call:?}");
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&call.params[name], value, "{body}: {call:?}");
        }
    }
    let answer = host.post(&path, json!({"action": "getInvite"})).await;
    assert_eq!(answer["data"]["chat"]["name"], "Masons", "as it is now: {answer}");
    let invite = answer["data"]["invite"].as_str().unwrap().to_owned();
    assert!(invite.starts_with("https://t.me/"), "{answer}");
    let answer = host.post(&path, json!({"action": "revokeInvite"})).await;
    assert!(answer["data"]["invite"].is_string(), "{answer}");

    // Several at once; sent away, and free to come back.
    host.post(&path, json!({"action": "remove", "users": ["7", "8"]})).await;
    for user in [7, 8] {
        for method in ["banChatMember", "unbanChatMember"] {
            let calls = fake.calls_of(method);
            assert!(
                calls.iter().rev().take(2).any(|call| call.params["user_id"] == user),
                "{method} {user}: {calls:?}"
            );
        }
    }

    let upload = reqwest::Client::new().post(format!("{}/api/v2/media?instanceId={id}&filename=wall.jpg", host.url));
    let upload = upload.header("x-api-key", &host.key).header("content-type", "image/jpeg").body("a wall");
    let upload: Value = upload.send().await.unwrap().json().await.unwrap();
    let media = upload["data"]["id"].as_str().unwrap_or_else(|| panic!("{upload}"));
    host.post(&path, json!({"action": "setPicture", "mediaId": media})).await;
    let picture = fake.calls_of("setChatPhoto").pop().unwrap();
    assert_eq!((picture.files[0].field.as_str(), picture.files[0].bytes.as_slice()), ("photo", &b"a wall"[..]));
    assert_eq!(picture.files[0].file_name, "wall.jpg");

    let asked = fake.calls_of("getChat").len();
    let answer = host.post(&path, json!({"action": "leave"})).await;
    assert_eq!(answer["data"]["chat"]["id"], "-1001", "{answer}");
    assert_eq!(fake.calls_of("leaveChat").len(), 1);
    assert_eq!(fake.calls_of("getChat").len(), asked, "outside of it nothing can be asked about it");
    fake.assert_by_the_book();
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_bot_cannot_do_with_a_group_is_said() {
    let (host, fake, _id, path) = in_a_group().await;
    let before = fake.calls().iter().filter(|call| call.method != "getUpdates").count();
    for (body, status, word) in [
        (json!({"action": "create"}), StatusCode::UNPROCESSABLE_ENTITY, "create"),
        (json!({"action": "add", "users": ["7"]}), StatusCode::UNPROCESSABLE_ENTITY, "add"),
        (json!({"action": "pin"}), StatusCode::BAD_REQUEST, "which message"),
        (json!({"action": "ban", "users": ["ann"]}), StatusCode::BAD_REQUEST, "number"),
    ] {
        let (found, answer) = host.call(Method::POST, &path, Some(body.clone())).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains(word), "{body}: {answer}");
    }
    let after = fake.calls().iter().filter(|call| call.method != "getUpdates").count();
    assert_eq!(before, after, "Telegram was not asked");
    let refusal = "Bad Request: not enough rights to change chat title";
    fake.fail("setChatTitle", 1, Fault::Refuse(400, refusal.into()));
    let (_, answer) = host.call(Method::POST, &path, Some(json!({"action": "setName", "text": "Mine"}))).await;
    assert_eq!(
        (&answer["error"]["details"]["code"], &answer["error"]["details"]["next"]),
        (&json!("forbidden"), &json!("operator")),
        "{answer}"
    );
    fake.assert_by_the_book();
    host.stop().await;
}

/// Telegram still tells of the group when its supergroup has counted on: each message is its own, in the one chat.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_late_under_the_old_number_lands_in_the_one_chat() {
    let fake = TelegramFake::start().await;
    let setup = || Setup { plugins: vec!["telegram"], ..Setup::default() };
    let host = TestHost::with(setup()).await;
    let id = instance(&host, &fake, json!({})).await;
    host.until_state(&id, "connected").await;
    let ann = Person::new(7, "Ann");
    let (old, new) = (group(-5, "Team"), supergroup(-1_005, "Team"));
    let texts = |messages: &[Value]| -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        messages.iter().map(|message| (word(&message["externalId"]), word(&message["textContent"]))).collect()
    };
    let pair = |id: &str, text: &str| (id.to_owned(), text.to_owned());
    fake.say_as(1, &old, &ann, json!({"text": "before"}));
    fake.upgrade(&old, &new, &ann);
    for number in [1, 2, 3] {
        fake.say_as(number, &new, &ann, json!({"text": format!("new {number}")}));
    }
    fake.say_as(2, &old, &ann, json!({"text": "late"}));
    let messages = stored(&host, &id, &new, 5).await;
    let mut found = texts(&messages);
    found.sort();
    let mut expected =
        vec![pair("-5/1", "before"), pair("-5/2", "late"), pair("1", "new 1"), pair("2", "new 2"), pair("3", "new 3")];
    assert_eq!(found, expected, "{messages:?}");

    let host = host.restart(setup()).await;
    host.until_state(&id, "connected").await;
    let edited = json!({"message_id": 2, "from": {"id": 7, "is_bot": false, "first_name": "Ann"}, "chat": old,
        "date": 1_767_225_601, "edit_date": 1_767_225_950, "text": "late, and better"});
    fake.push("edited_message", edited);
    fake.say_as(3, &old, &ann, json!({"text": "very late"}));
    let mut found = texts(&stored(&host, &id, &new, 6).await);
    found.sort();
    expected[1] = pair("-5/2", "late, and better");
    expected.insert(2, pair("-5/3", "very late"));
    assert_eq!(found, expected);
    let chats = host.get(&format!("/chats?instanceId={id}")).await;
    assert_eq!(chats["items"].as_array().map(Vec::len), Some(1), "one chat: {chats}");
    fake.assert_by_the_book();
    host.stop().await;
}
