//! Sends to Discord whose answer nobody hears: the message is there once, and the host comes to know it.

use crate::discord_server::{Discord, TOKEN, bot};
use crate::faults::program::{Launch, Program};
use crate::harness::{PATIENCE, free_address, install, plugin_file};
use reqwest::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// The messages of the first channel with these words.
async fn with_words(discord: &Discord, words: &str) -> Vec<Value> {
    let all = discord.messages(&discord.channel).await;
    all.into_iter().filter(|message| message["content"] == words).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_whose_answer_is_lost_is_there_once() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    discord.happens("limits", json!({"enabled": false})).await;
    let mut count = 0;
    for status in [Value::Null, json!(502)] {
        let file = json!({"type": "document", "filename": "a.txt", "mimeType": "text/plain", "base64": "aGVsbG8="});
        let as_ann = json!({"options": {"webhook": {"name": "Ann"}}});
        for (how, path, more, called) in [
            ("words", "/messages/send", json!({}), "/channels/"),
            ("a file", "/messages/send/media", file, "/channels/"),
            ("another name", "/messages/send", as_ann, "/webhooks/"),
        ] {
            count += 1;
            let words = format!("{how} {count}");
            let lost = json!({"method": "POST", "path_prefix": called, "status": status, "after_effect": true});
            if how == "another name" && status.is_null() {
                // The first finds its webhook before.
                let first =
                    json!({"instanceId": id, "to": discord.channel, "text": "I am Ann", "options": more["options"]});
                crate::discord_server::send(&host, first).await;
                count += 1;
            }
            discord.happens("fail", lost).await;
            let mut body = json!({"instanceId": id, "to": discord.channel});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            body[if how == "a file" { "caption" } else { "text" }] = json!(words);
            let (answered, sent) = host.call(Method::POST, path, Some(body)).await;
            assert!(answered.is_success(), "{how}: {answered} {sent}");
            let message = format!("/messages/{}", sent["data"]["messageId"].as_str().unwrap());
            let here = host.until(&message, |body| body["data"]["deliveryStatus"] == "sent").await;
            let there = with_words(&discord, &words).await;
            assert_eq!(there.len(), 1, "{how}: {there:?}");
            assert_eq!(here["data"]["externalId"], there[0]["id"], "{how}");
        }
    }
    let spoiled = discord.asked("POST", "/").await.into_iter().filter(|call| call["status"] != 200);
    assert_eq!(spoiled.count(), 6, "each of them lost its answer");
    discord.says("the end").await;
    let here = host.stored(&id, &discord.channel, count + 1).await;
    assert_eq!(here.last().unwrap()["textContent"], "the end", "no echo is a message of its own: {here:?}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

async fn until<T>(mut seen: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        if let Some(seen) = seen().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "it never became what was waited for");
    }
}

async fn connected(host: &Program, id: &str) {
    let state = format!("/instances/{id}/status");
    until(async || host.get(&state).await.filter(|state| state["data"]["state"] == "connected")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_before_it_hears_the_answer_does_not_send_twice() {
    let Some(discord) = Discord::start(&[]).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("discord"));
    let listen = free_address();
    let mut host = Launch::new(&data, &listen).start().await;
    let new = json!({"name": "bot", "channel": "discord", "token": TOKEN, "config": discord.config(json!({}))});
    let (status, made) = host.post("/instances", &new, None).await.unwrap();
    assert_eq!(status, 201, "{made}");
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    connected(&host, &id).await;

    discord.happens("latency", json!({"after": PATIENCE.as_millis() as u64})).await;
    let body = json!({"instanceId": id, "to": discord.channel, "text": "once"});
    tokio::select! {
        answer = host.post("/messages/send", &body, None) => panic!("who told the host? {answer:?}"),
        _ = until(async || with_words(&discord, "once").await.pop()) => {}
    }
    host.kill().await;
    discord.happens("latency", json!({})).await;

    let mut host = Launch::new(&data, &listen).start().await;
    let path = format!("/messages?instanceId={id}&chatId={}", discord.channel);
    let here = until(async || {
        let list = host.get(&path).await?;
        list["items"].as_array()?.iter().find(|message| message["deliveryStatus"] == "sent").cloned()
    })
    .await;
    connected(&host, &id).await;
    discord.says("the end").await;
    until(async || host.texts(&discord.channel).await.into_iter().find(|text| text == "the end")).await;
    let there = with_words(&discord, "once").await;
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!(here["externalId"], there[0]["id"]);
    assert_eq!(host.texts(&discord.channel).await, ["once", "the end"]);
    host.kill().await;
    discord.assert_by_the_book().await;
}
