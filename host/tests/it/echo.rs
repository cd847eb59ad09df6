//! Messages in and out through the smallest channel: stored once, in order, answered, and still there after a restart.

use crate::database::change;
use crate::harness::{Setup, TestHost, impatient};
use reqwest::Method;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_comes_in_and_is_stored_once() {
    let host = TestHost::start().await;
    let (id, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "hello").await;
    host.say(&echo, "room", "m1", "hello").await;
    host.say(&echo, "room", "m2", "again").await;
    host.settle().await;

    let messages = host.messages(&id, "room").await;
    let texts: Vec<_> = messages.iter().map(|message| message["textContent"].as_str().unwrap()).collect();
    assert_eq!(texts, ["hello", "again"]);
    assert_eq!(messages[0]["senderDisplayName"], "Ann");
    assert_eq!(messages[0]["isFromMe"], false);

    let chats = host.get(&format!("/chats?instanceId={id}")).await;
    let chat = &chats["items"][0];
    assert_eq!(
        (&chat["externalId"], &chat["messageCount"], &chat["unreadCount"]),
        (&json!("room"), &json!(2), &json!(2))
    );

    let persons = host.get("/persons?search=Ann").await;
    assert_eq!(persons["items"].as_array().unwrap().len(), 1, "{persons}");

    let events = host.get(&format!("/events?instanceId={id}&eventType=message.received")).await;
    assert_eq!(events["items"].as_array().unwrap().len(), 2, "{events}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_out_and_is_settled() {
    let host = TestHost::start().await;
    let (id, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "hello").await;
    host.settle().await;

    let sent =
        host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "hi Ann", "replyTo": "m1"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    let external = sent["data"]["externalMessageId"].as_str().unwrap().to_owned();
    assert!(!external.is_empty());

    let record = host.sent(&echo).await;
    assert_eq!(record.len(), 1, "{record:?}");
    assert!(record[0].to_string().contains("hi Ann"), "{record:?}");

    let messages = host.messages(&id, "room").await;
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[1]["id"], sent["data"]["messageId"]);
    assert_eq!(messages[1]["externalId"], json!(external));
    assert_eq!(messages[1]["deliveryStatus"], "sent");
    assert_eq!(messages[1]["replyToMessageId"], messages[0]["id"]);
    let events = host.get(&format!("/events?instanceId={id}&eventType=message.sent")).await;
    assert_eq!(events["items"].as_array().unwrap().len(), 1, "{events}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_is_split_and_its_parts_stay_in_order() {
    let host = TestHost::start().await;
    let (id, echo) = host.echo("demo").await;
    let text: String = (0..1_500).map(|word| format!("word{word} ")).collect();
    host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": text})).await;
    let record = host.sent(&echo).await;
    assert!(record.len() > 1, "a text of {} characters is more than one message", text.len());
    let joined: Vec<String> = record
        .iter()
        .flat_map(|sent| {
            let text = sent.pointer("/content/text").or_else(|| sent.get("text")).and_then(|text| text.as_str());
            text.unwrap_or_else(|| panic!("no text in {sent}"))
                .split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect();
    let expected: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    assert_eq!(joined, expected);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart_and_goes_on() {
    let host = TestHost::start().await;
    let (id, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "before").await;
    let host = host.restart(Setup::default()).await;
    host.until_state(&id, "connected").await;
    // The same delivery again, and a new one.
    host.say(&echo, "room", "m1", "before").await;
    host.say(&echo, "room", "m2", "after").await;
    host.settle().await;
    let texts: Vec<_> = host.messages(&id, "room").await.iter().map(|message| message["textContent"].clone()).collect();
    assert_eq!(texts, [json!("before"), json!("after")]);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_can_be_disconnected_and_its_address_is_free_then() {
    let host = TestHost::with(Setup { configure: impatient, ..Setup::default() }).await;
    let (id, echo) = host.echo("demo").await;
    host.post(&format!("/instances/{id}/disconnect"), json!({})).await;
    let refused = reqwest::Client::new().get(format!("{echo}/sent")).send().await;
    assert!(refused.is_err(), "nobody listens any more");
    let (status, body) =
        host.call(Method::POST, "/messages/send", Some(json!({"instanceId": id, "to": "room", "text": "x"}))).await;
    assert!(status.is_server_error() || status.as_u16() == 202, "{status} {body}");
    // Connecting twice is connecting once.
    host.post(&format!("/instances/{id}/connect"), json!({})).await;
    host.post(&format!("/instances/{id}/connect"), json!({})).await;
    host.until_state(&id, "connected").await;
    host.say(&echo, "room", "m1", "back").await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_an_account_is_counts_from_the_moment_in_which_the_channel_says_it() {
    let host = TestHost::start().await;
    let (id, _echo) = host.echo("demo").await;
    // The row is behind, as it is until it is written.
    let events = format!("/events?instanceId={id}&eventType=instance.connected");
    host.until(&events, |body| body["items"].as_array().is_some_and(|items| !items.is_empty())).await;
    change(&host.data, "update instances set owner_identifier = null").await;
    let status = host.until_state(&id, "connected").await;
    assert_eq!(status["ownerIdentifier"], "echo", "{status}");
    let shown = host.get(&format!("/instances/{id}")).await;
    assert_eq!(shown["data"]["ownerIdentifier"], "echo", "{shown}");
    host.stop().await;
}
