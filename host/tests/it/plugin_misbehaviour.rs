//! Plugins that do what no plugin should, in both homes: each harms nobody but itself.

use crate::harness::{PATIENCE, Setup, TestHost, free_address};
use omni_host::config::Isolation;
use reqwest::Method;
use serde_json::json;
use std::time::Instant;

const HOMES: [Isolation; 2] = [Isolation::InProcess, Isolation::Process];

async fn with(isolation: Isolation) -> TestHost {
    let setup = Setup { plugins: vec!["echo", "faulty", "raw"], isolation, call_seconds: 20, ..Setup::default() };
    TestHost::with(setup).await
}

/// Waits until the status of an instance says that its channel panicked, with its words.
async fn until_told_of_a_panic(host: &TestHost, id: &str) {
    let told = |message: &str| message.contains("panicked: on purpose");
    host.until(&format!("/instances/{id}/status"), |body| body["data"]["message"].as_str().is_some_and(told)).await;
}

/// That the host and another plugin are as well as ever.
async fn all_is_well(host: &TestHost, echo: &(String, String), id: &str) {
    host.say(&echo.1, "room", id, "still here").await;
    let sent = host.post("/messages/send", json!({"instanceId": echo.0, "to": "room", "text": "and out"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_frame_ends_the_instance_with_a_sentence() {
    for isolation in HOMES {
        let host = with(isolation).await;
        let echo = host.echo("good").await;
        for (mode, told) in [
            ("garbage", "the channel sent something that is no frame"),
            ("half", "the channel sent something that is no frame"),
            ("empty", "the channel sent something that is no frame"),
            ("huge", "bytes at once"),
            ("refuses", "the channel did not understand the host: these are no words of mine"),
            ("other", "the channel answered a start with something else"),
            ("missing", "could not be stored"),
        ] {
            let id = host.post("/instances", json!({"name": mode, "channel": "raw", "config": {"mode": mode}})).await;
            let path = format!("/instances/{}/status", id["data"]["id"].as_str().unwrap());
            let status = host
                .until(&path, |body| {
                    let message = body["data"]["message"].as_str().unwrap_or_default();
                    body["data"]["state"] == "disconnected" && message.contains(told)
                })
                .await;
            assert_eq!(status["data"]["willRetry"], true, "{status}");
            all_is_well(&host, &echo, mode).await;
            host.call(Method::DELETE, &format!("/instances/{mode}"), None).await;
        }
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_asked_for_and_words_after_the_end_are_heard_by_nobody() {
    for isolation in HOMES {
        let host = with(isolation).await;
        let echo = host.echo("good").await;
        for mode in ["strangers", "logs", "states", "questions", "afterStop"] {
            let new = json!({"name": mode, "channel": "raw", "config": {"mode": mode}});
            let made = host.post("/instances", new).await;
            let id = made["data"]["id"].as_str().unwrap().to_owned();
            // One that changes its state all the time is caught in either.
            host.until(&format!("/instances/{id}/status"), |body| body["data"]["state"] != "connecting").await;
            if mode != "states" {
                host.until_sent(&id, "room", "it works all the same").await;
            }
            all_is_well(&host, &echo, mode).await;
            host.post(&format!("/instances/{id}/disconnect"), json!({})).await;
            let status = host.until_state(&id, "disconnected").await;
            assert!(status["message"].as_str().unwrap().contains("by request"), "{mode}: {status}");
            all_is_well(&host, &echo, &format!("after {mode}")).await;
        }
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_whose_calls_all_hang_is_heard_all_the_same() {
    for isolation in HOMES {
        // A network that takes connections and never answers.
        let network = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", network.local_addr().unwrap());
        let holding = tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((connection, _)) = network.accept().await {
                held.push(connection);
            }
        });
        let host = with(isolation).await;
        let echo = host.echo("good").await;
        let id = host.instance("calls", "raw", json!({"mode": "calls", "url": url})).await;
        host.until_state(&id, "connected").await;
        for number in 0..3 {
            let text = format!("message {number}");
            let sent = host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": text})).await;
            assert_eq!(sent["data"]["status"], "sent", "the end of a call is heard at once: {sent}");
        }
        let status = host.get(&format!("/instances/{id}/status")).await;
        assert_eq!(status["data"]["state"], "connected", "{status}");
        all_is_well(&host, &echo, "calls").await;
        host.stop().await;
        holding.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_each_call_is_an_error_with_its_words() {
    for isolation in HOMES {
        let host = with(isolation).await;
        let echo = host.echo("good").await;
        // In the start: it is tried again, and says why.
        let start = host.instance("start", "faulty", json!({"mode": "start-panic"})).await;
        until_told_of_a_panic(&host, &start).await;
        // In an event: the network is told to come again.
        let address = free_address();
        let event = host.instance("event", "faulty", json!({"listen": address, "mode": "event-panic"})).await;
        host.until_state(&event, "connected").await;
        let post = json!({"chatId": "room", "from": "ann", "externalId": "m1", "text": "x"});
        let answered = reqwest::Client::new().post(format!("http://{address}")).json(&post).send().await.unwrap();
        assert_eq!(answered.status().as_u16(), 503);
        assert!(answered.text().await.unwrap().contains("panicked: on purpose"));
        host.settle().await;
        let stored = host.get(&format!("/messages?instanceId={event}")).await;
        assert_eq!(stored["items"], json!([]), "what it emitted went with it");
        // In a poll and in a timer: the instance goes on.
        let config = json!({"mode": "poll-panic", "pollUrl": format!("{}/api/v2/health", host.url)});
        let poll = host.instance("poll", "faulty", config).await;
        until_told_of_a_panic(&host, &poll).await;
        let timer = host.instance("timer", "faulty", json!({"mode": "timer-panic"})).await;
        host.until_state(&timer, "connected").await;
        for id in [poll, timer] {
            let sent = host.post("/messages/send", json!({"instanceId": id, "to": "room", "text": "fine"})).await;
            assert_eq!(sent["data"]["status"], "sent", "{sent}");
        }
        // Where the next poll is asked for: told, and tried again.
        let config = json!({"mode": "nextPoll-panic", "pollUrl": format!("{}/api/v2/health", host.url)});
        let next = host.instance("next", "faulty", config).await;
        until_told_of_a_panic(&host, &next).await;
        // Where the outcome of a send is asked for: it stays unknown, and the other chats go on.
        let unsure = host.instance("unsure", "faulty", json!({"mode": "reconcile-panic"})).await;
        host.until_state(&unsure, "connected").await;
        let body = json!({"instanceId": unsure, "to": "room", "text": "uncertain"});
        let (_, sent) = host.call(Method::POST, "/messages/send", Some(body)).await;
        assert_eq!(sent["data"]["status"], "unknown", "{sent}");
        host.until_sent(&unsure, "elsewhere", "fine").await;
        // In the stop: it ends all the same.
        let stop = host.instance("stop", "faulty", json!({"mode": "stop-panic"})).await;
        host.until_state(&stop, "connected").await;
        host.post(&format!("/instances/{stop}/disconnect"), json!({})).await;
        host.until_state(&stop, "disconnected").await;
        all_is_well(&host, &echo, "m1").await;
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_events_is_braked_and_the_neighbour_keeps_its_pace() {
    for isolation in HOMES {
        let host = with(isolation).await;
        let echo = host.echo("good").await;
        let flood = host.instance("flood", "faulty", json!({"mode": "timer-flood", "n": 200})).await;
        let messages = format!("/messages?instanceId={flood}&limit=1");
        host.until(&messages, |body| body["items"].as_array().is_some_and(|items| !items.is_empty())).await;
        let began = Instant::now();
        for n in 0..20 {
            host.say(&echo.1, "room", &format!("m{n}"), "on time").await;
        }
        assert!(began.elapsed() < PATIENCE, "the neighbour waited: {:?}", began.elapsed());
        all_is_well(&host, &echo, "last").await;
        // It can be stopped in the middle of it.
        host.post(&format!("/instances/{flood}/disconnect"), json!({})).await;
        host.until_state(&flood, "disconnected").await;
        host.settle().await;
        assert_eq!(host.messages(&echo.0, "room").await.len(), 22);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn log_lines_without_end_and_entries_without_measure_are_bounded() {
    for isolation in HOMES {
        let host = with(isolation).await;
        let echo = host.echo("good").await;
        let id = host.instance("bad", "faulty", json!({"listen": free_address()})).await;
        host.until_state(&id, "connected").await;
        let send = |text: &str| json!({"instanceId": id, "to": "room", "text": text});
        let (_, body) = host.call(Method::POST, "/messages/send", Some(send("log"))).await;
        assert_eq!(body["data"]["status"], "sent", "{body}");
        let (_, body) = host.call(Method::POST, "/messages/send", Some(send("hugeEntry"))).await;
        assert_eq!(body["data"]["status"], "unknown", "it was sent, and what it kept of that was not stored: {body}");
        all_is_well(&host, &echo, "m1").await;
        host.until_sent(&id, "elsewhere", "fine").await;
        host.stop().await;
    }
}
