//! Discord's gateway end to end: sessions that are taken up again, given up, refused; many shards; a host that is killed.

use crate::discord_server::{Discord, TOKEN, bot, has, setup};
use crate::faults::program::{Launch, Program};
use crate::harness::{
    PATIENCE, PublicUrl, Setup, TestHost, free_address, http_client, impatient, install, plugin_file,
};
use rand::RngExt;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// The texts of a chat once there are so many, in the order in which they are stored.
async fn texts(host: &TestHost, id: &str, discord: &Discord, count: usize) -> Vec<String> {
    let there = host.stored(id, &discord.channel, count).await;
    there.iter().map(|message| message["textContent"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_drops_is_taken_up_again_and_nothing_is_lost() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let mut expected = Vec::new();
    for (round, code) in [json!(1001), json!(4000), Value::Null, json!(4009)].into_iter().enumerate() {
        for part in ["before", "away", "after"] {
            if part == "away" {
                discord.happens("drop", json!({"code": code})).await;
            }
            if part == "after" {
                // It said hello again, to take up a session or to begin one.
                let hellos = |found: &Value| {
                    let all = found["gateway"].as_array().unwrap();
                    (all.iter().filter(|said| said["op"] == 2 || said["op"] == 6).count() == round + 2).then_some(())
                };
                discord.until("log", json!({}), hellos).await;
                host.until_state(&id, "connected").await;
            }
            let text = format!("{round} {part}");
            discord.says(&text).await;
            expected.push(text);
        }
    }
    assert_eq!(texts(&host, &id, &discord, 12).await, expected);
    assert_eq!(discord.heard(6).await.len(), 3, "three were taken up again");
    assert_eq!(discord.heard(2).await.len(), 2, "and one was too old for that");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_discord_delivers_twice_counts_once() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    discord.happens("duplicate", json!({"on": true})).await;
    let said = discord.happens("burst", json!({"count": 12, "text": "m"})).await;
    discord.happens("edit", json!({"id": said["ids"][0], "text": "m 1, no: 2"})).await;
    discord.happens("react", json!({"id": said["ids"][0], "emoji": "👍"})).await;
    let path = format!("/messages?instanceId={id}&chatId={}", discord.channel);
    let changed = |message: &Value| message["editCount"] == 1 && message["reactionCounts"]["👍"] == 1;
    host.until(&path, |body| has(body, changed)).await;
    discord.happens("drop", json!({"code": 1001})).await;
    discord.says("last").await;
    let there = texts(&host, &id, &discord, 13).await;
    let mut expected: Vec<String> = (1..=12).map(|number| format!("m {number}")).collect();
    expected[0] = "m 1, no: 2".to_owned();
    expected.push("last".to_owned());
    assert_eq!(there, expected);
    let sessions = discord.happens("sessions", json!({})).await;
    let again = sessions["sessions"][0]["repeated"].as_u64().unwrap();
    assert!(again >= 14, "Discord repeated {again} events, and all of these are among them");
    host.settle().await;
    let there = host.messages(&id, &discord.channel).await;
    assert_eq!(there.len(), 13);
    assert_eq!((&there[0]["editCount"], &there[0]["reactionCounts"]), (&json!(1), &json!({"👍": 1})));
    for (kind, count) in [("message.received", 13), ("message.edited", 1), ("reaction.received", 1)] {
        let told = host.get(&format!("/events?eventType={kind}&limit=100")).await;
        assert_eq!(told["items"].as_array().unwrap().len(), count, "{kind}: {told}");
    }
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_known_any_more_is_begun_anew() {
    let Some((host, discord, id)) = bot(&["--identify-window-ms", "0"]).await else { return };
    let mut expected = vec!["one".to_owned()];
    discord.says("one").await;
    texts(&host, &id, &discord, 1).await;
    discord.happens("invalidate", json!({"resumable": false})).await;
    // No session hears of these.
    discord.happens("burst", json!({"count": 20, "text": "unheard"})).await;
    expected.extend((1..=20).map(|number| format!("unheard {number}")));
    let begun = |found: &Value| (found["gateway"].as_array().unwrap().len() == 2).then_some(());
    discord.until("log", json!({"op": 2}), begun).await;
    host.until_state(&id, "connected").await;
    discord.says("two").await;
    expected.push("two".to_owned());
    assert_eq!(texts(&host, &id, &discord, 22).await, expected);

    let resumed = discord.heard(6).await.len();
    discord.happens("reconnect", json!({})).await;
    let again = |found: &Value| (found["gateway"].as_array().unwrap().len() > resumed).then_some(());
    discord.until("log", json!({"op": 6}), again).await;
    discord.says("three").await;
    expected.push("three".to_owned());
    assert_eq!(texts(&host, &id, &discord, 23).await, expected);
    assert_eq!(discord.heard(2).await.len(), 2, "who is asked to come back goes on where it was");
    host.stop().await;
    discord.assert_by_the_book().await;
}

/// Discord tells a new session nothing of what was said before it: the host asks.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_while_there_was_no_session_is_asked_for() {
    let Some((host, discord, id)) = bot(&["--identify-window-ms", "0"]).await else { return };
    discord.happens("burst", json!({"count": 3, "text": "before"})).await;
    texts(&host, &id, &discord, 3).await;
    let folder = host.data.clone();
    let kept = host.stop().await;
    discord.happens("forget_sessions", json!({})).await;
    discord.happens("burst", json!({"count": 250, "text": "missed"})).await;
    // In a channel and in a thread of which nobody has told the host.
    let words = |made: Value| made["id"].as_str().unwrap().to_owned();
    let channel = words(discord.happens("channel", json!({"name": "new"})).await);
    let thread = words(discord.happens("thread", json!({"name": "aside", "channel": channel})).await);
    for chat in [&channel, &thread] {
        discord.happens("burst", json!({"channel": chat, "count": 3, "text": "in here"})).await;
    }
    let host = TestHost::with(Setup { data: Some(folder), ..setup() }).await;
    host.until_state(&id, "connected").await;
    for chat in [&channel, &thread] {
        let path = format!("/messages?instanceId={id}&chatId={chat}&limit=50");
        let all = (1..=3).map(|number| format!("in here {number}"));
        let are_there = |body: &Value| {
            let there = body["items"].as_array().unwrap();
            all.clone().all(|text| there.iter().any(|message| message["textContent"] == text.as_str()))
        };
        host.until(&path, are_there).await;
    }
    let told = format!("/events?eventType=message.received&contentType=text&chatId={thread}&limit=10");
    let told = host.get(&told).await;
    assert_eq!(told["items"].as_array().unwrap().len(), 3, "what was missed is news, once: {told}");
    discord.says("after").await;
    let path = format!("/chats?instanceId={id}&limit=50");
    let all = |body: &Value| {
        let chats = body["items"].as_array().unwrap();
        chats.iter().any(|chat| chat["externalId"] == discord.channel.as_str() && chat["messageCount"] == 254)
    };
    host.until(&path, all).await;
    let there: Vec<String> = host
        .messages(&id, &discord.channel)
        .await
        .iter()
        .map(|message| message["textContent"].as_str().unwrap().to_owned())
        .collect();
    let mut said: Vec<String> = (1..=3).map(|number| format!("before {number}")).collect();
    said.extend((1..=250).map(|number| format!("missed {number}")));
    said.push("after".to_owned());
    assert_eq!(there, said, "all of it, once, in its order");
    host.stop().await;
    drop(kept);
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_messages_are_fetched_where_somebody_asks_for_them() {
    let Some(discord) = Discord::start(&[]).await else { return };
    discord.happens("burst", json!({"count": 230, "text": "old"})).await;
    let host = TestHost::with(setup()).await;
    let id = discord.instance(&host, json!({})).await;
    host.until_state(&id, "connected").await;
    discord.says("new").await;
    texts(&host, &id, &discord, 1).await;
    let (words, done) = host.cli(&["instances", "sync", "bot", "--depth", "all"]).await;
    assert!(done.success(), "{words}");
    host.settle().await;
    let there = host.messages(&id, &discord.channel).await;
    assert_eq!(there.len(), 231);
    assert_eq!((&there[0]["textContent"], &there[0]["source"]), (&json!("old 1"), &json!("sync")));
    let told = host.get("/events?eventType=message.received&limit=10").await;
    assert_eq!(told["items"].as_array().unwrap().len(), 1, "what is old is no news: {told}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_not_answered_ends_the_connection() {
    let Some((host, discord, id)) = bot(&["--heartbeat-ms", "300"]).await else { return };
    // A machine that is busy may have been late with its first answers already.
    let (begun, resumed) = (discord.heard(2).await.len(), discord.heard(6).await.len());
    discord.happens("silence", json!({"on": true})).await;
    let resumed = |found: &Value| (found["gateway"].as_array().unwrap().len() > resumed).then_some(());
    // Events still come, and that is no answer.
    let talking = async {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            discord.happens("typing", json!({})).await;
        }
    };
    tokio::select! {
        () = discord.until("log", json!({"op": 6}), resumed) => {}
        () = talking => {}
    }
    discord.happens("silence", json!({"on": false})).await;
    discord.says("still here").await;
    assert_eq!(texts(&host, &id, &discord, 1).await, ["still here"]);
    assert_eq!(discord.heard(2).await.len(), begun, "the session goes on");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_token_is_logged_out_and_no_loop() {
    let Some(discord) = Discord::start(&[]).await else { return };
    let host = TestHost::with(Setup { configure: impatient, ..setup() }).await;
    let id = discord.instance(&host, json!({})).await;
    host.until_state(&id, "connected").await;
    discord.happens("revoke", json!({})).await;
    let state = host.until_state(&id, "logged_out").await;
    assert!(state.to_string().contains("--token-stdin"), "{state}");
    let asked = discord.asked("GET", "/").await.len();
    let body = json!({"instanceId": id, "to": discord.channel, "text": "hello?"});
    let (status, waits) = host.call(Method::POST, "/messages/send", Some(body)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{waits}");
    assert!(waits.to_string().contains("Discord does not know this token"), "{waits}");
    assert_eq!(discord.asked("GET", "/").await.len(), asked, "nobody asks any more");
    assert_eq!(discord.asked("POST", "/").await, Vec::<Value>::new());
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_intent_is_named_with_its_switch() {
    let Some(discord) = Discord::start(&[]).await else { return };
    discord.happens("flags", json!({"flags": 1 << 15})).await;
    let host = TestHost::with(setup()).await;
    let id = discord.instance(&host, json!({})).await;
    let state = host.until_state(&id, "disconnected").await;
    assert!(state.to_string().contains("Message Content Intent"), "{state}");
    assert_eq!(discord.heard(2).await, Vec::<Value>::new(), "Discord was not asked for what it would refuse");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_and_a_half_thousand_servers_on_several_shards() {
    let options = ["--guilds", "2500", "--channels", "3", "--shards", "4", "--max-concurrency", "4"];
    let Some((host, discord, id)) = bot(&options).await else { return };
    let shards: BTreeSet<String> = discord.heard(2).await.iter().map(|said| said["d"]["shard"].to_string()).collect();
    assert_eq!(shards.len(), 4, "{shards:?}");
    let mut talk = Vec::new();
    for shard in 0..4 {
        let made = discord
            .happens("guild", json!({"name": format!("on {shard}"), "channels": ["talk"], "shard": shard}))
            .await;
        let guild = made["id"].as_str().unwrap();
        let channel = made["channels"][0].as_str().unwrap().to_owned();
        discord.happens("join", json!({"guild": guild})).await;
        discord.happens("say", json!({"channel": channel, "text": "hello"})).await;
        host.stored(&id, &channel, 1).await;
        talk.push(channel);
    }
    // One shard drops while people write, and the others never notice.
    discord.happens("drop", json!({"code": 1001, "shard": 2})).await;
    discord.happens("burst", json!({"channel": talk[2], "count": 60, "text": "meanwhile"})).await;
    discord.happens("burst", json!({"channel": talk[1], "count": 60, "text": "meanwhile"})).await;
    discord
        .until("log", json!({"op": 6}), |found| (found["gateway"].as_array().unwrap().len() == 1).then_some(()))
        .await;
    let mut expected = vec!["hello".to_owned()];
    expected.extend((1..=60).map(|number| format!("meanwhile {number}")));
    for channel in &talk[1..=2] {
        let there = host.stored(&id, channel, 61).await;
        let there: Vec<&str> = there.iter().map(|message| message["textContent"].as_str().unwrap()).collect();
        assert_eq!(there, expected, "all of it, once, in order");
    }
    host.until_state(&id, "connected").await;
    assert_eq!(discord.heard(2).await.len(), 4);
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_is_for_its_servers_only() {
    let Some(discord) = Discord::start(&[]).await else { return };
    let other = discord.happens("guild", json!({"name": "other", "channels": ["talk"]})).await;
    let foreign = other["channels"][0].as_str().unwrap();
    discord.happens("join", json!({"guild": other["id"]})).await;
    let host = TestHost::with(setup()).await;
    let id = discord.instance(&host, json!({"guildIds": [discord.guild]})).await;
    host.until_state(&id, "connected").await;
    discord.happens("say", json!({"channel": foreign, "text": "not for us"})).await;
    discord.says("for us").await;
    assert_eq!(texts(&host, &id, &discord, 1).await, ["for us"]);
    let chats = host.get(&format!("/chats?instanceId={id}&limit=50")).await;
    assert!(!chats.to_string().contains(foreign), "{chats}");
    let body = json!({"instanceId": id, "to": foreign, "text": "hello"});
    let (status, refused) = host.call(Method::POST, "/messages/send", Some(body)).await;
    assert!(!status.is_success(), "{status} {refused}");
    assert!(refused.to_string().contains("guildIds"), "{refused}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_put_in_and_the_bot_is_invited() {
    let Some(discord) = Discord::start(&[]).await else { return };
    let host = TestHost::with(Setup { public_url: Some(PublicUrl::Own), ..setup() }).await;
    let config = discord.config(json!({"clientSecret": "test-secret"}));
    let id = host.instance("bot", "discord", config).await;
    host.until_state(&id, "waiting_for_login").await;
    let login = format!("/instances/{id}/login");
    let step = host.post(&login, json!({"action": "start", "flow": "token"})).await;
    let step_id = step["data"]["stepId"].clone();
    let wrong = json!({"action": "submit", "stepId": step_id, "fields": {"token": "not-it"}});
    assert_eq!(host.post(&login, wrong).await["data"]["show"]["type"], "failed");
    let right = json!({"action": "submit", "stepId": step_id, "fields": {"token": TOKEN}});
    assert_eq!(host.post(&login, right).await["data"]["show"]["type"], "done");
    host.until_state(&id, "connected").await;

    let step = host.post(&login, json!({"action": "start", "flow": "install"})).await;
    let url = step["data"]["show"]["url"].as_str().unwrap().to_owned();
    assert!(url.contains("scope=bot%20applications.commands") && url.contains("state="), "{url}");
    // A browser follows: Discord asks, the person agrees, and comes back to the host.
    let page = http_client(PATIENCE).get(&url).send().await.unwrap();
    assert_eq!(page.status(), StatusCode::OK);
    let back = page.url().clone();
    assert!(page.text().await.unwrap().contains("The bot is in the server now"));
    assert_eq!(host.post(&login, json!({"action": "poll"})).await["data"]["show"]["type"], "done");
    let again = http_client(PATIENCE).get(back).send().await.unwrap();
    assert_eq!(again.status(), StatusCode::BAD_REQUEST, "a state is good once");
    let joined = host
        .until("/events?eventType=system.membership&limit=5", |body| !body["items"].as_array().unwrap().is_empty())
        .await;
    assert!(joined.to_string().contains("joined"), "{joined}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

async fn connected(host: &Program, id: &str) {
    let began = std::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    loop {
        tick.tick().await;
        let state = host.get(&format!("/instances/{id}/status")).await;
        if state.as_ref().is_some_and(|state| state["data"]["state"] == "connected") {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{state:?}");
    }
}

/// Waits until the last of what was said is stored, and gives what is.
async fn until_there(host: &Program, discord: &Discord, said: &[String]) -> Vec<String> {
    let began = std::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tick.tick().await;
        let there = host.texts(&discord.channel).await;
        if there.last() == said.last() {
            return there;
        }
        assert!(began.elapsed() < PATIENCE, "{} of {} are there", there.len(), said.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_killed_between_event_and_acknowledgement_loses_nothing() {
    let Some(discord) = Discord::start(&["--identify-window-ms", "0"]).await else { return };
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("discord"));
    let listen = free_address();
    let mut id = String::new();
    let mut said = Vec::new();
    for round in 0..6 {
        let mut host = Launch::new(&data, &listen).start().await;
        if round == 0 {
            let new = json!({"name": "bot", "channel": "discord", "token": TOKEN, "config": discord.config(json!({}))});
            let (status, made) = host.post("/instances", &new, None).await.unwrap();
            assert_eq!(status, 201, "{made}");
            id = made["data"]["id"].as_str().unwrap().to_owned();
        }
        connected(&host, &id).await;
        if round == 0 {
            // Before its first event a session is not kept yet, and nobody could go on with it.
            discord.says("the beginning").await;
            said.push("the beginning".to_owned());
            until_there(&host, &discord, &said).await;
        }
        let text = format!("round {round}");
        discord.happens("burst", json!({"count": 300, "text": text})).await;
        said.extend((1..=300).map(|number| format!("{text} {number}")));
        // Anywhere in what the host does with them: read, converted, acknowledged, or none of it yet.
        let moment = Duration::from_micros(rand::rng().random_range(0..150_000));
        let _ = tokio::time::timeout(moment, host.process.wait()).await;
        host.kill().await;
    }
    let mut host = Launch::new(&data, &listen).start().await;
    connected(&host, &id).await;
    discord.says("the end").await;
    said.push("the end".to_owned());
    assert_eq!(until_there(&host, &discord, &said).await, said, "all of it, once, in order");
    assert_eq!(discord.heard(2).await.len(), 1, "one session went on over all of it");
    host.kill().await;
    discord.assert_by_the_book().await;
}
