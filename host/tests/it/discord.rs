//! Discord end to end: messages both ways, limits, files, threads, against a server that others wrote.

use crate::discord_server::{Discord, bot, has, send, setup};
use crate::harness::{PATIENCE, TestHost, http_client};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_both_ways_and_over_a_restart() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let first = discord.says("hello **bot**").await;
    let there = host.stored(&id, &discord.channel, 1).await;
    assert_eq!((&there[0]["textContent"], &there[0]["externalId"]), (&json!("hello bot"), &json!(first)));

    let reply = json!({"instanceId": id, "to": discord.channel, "text": "hello Alice", "replyTo": first});
    send(&host, reply).await;
    let on_discord = discord.messages(&discord.channel).await;
    let last = on_discord.last().unwrap();
    assert_eq!((&last["content"], &last["message_reference"]["message_id"]), (&json!("hello Alice"), &json!(first)));
    let there = host.stored(&id, &discord.channel, 2).await;
    assert_eq!(there[1]["externalId"], last["id"], "our own echo is not a second message");
    assert_eq!(there[1]["isFromMe"], true);

    // While the host is away people go on writing.
    let host = host.restart(setup_after(&discord, "while away").await).await;
    let there = host.stored(&id, &discord.channel, 3).await;
    assert_eq!(there[2]["textContent"], "while away");
    host.until_state(&id, "connected").await;
    assert_eq!(discord.heard(6).await.len(), 1, "the session was taken up again");
    assert_eq!(discord.heard(2).await.len(), 1, "and no new one begun");
    host.stop().await;
    discord.assert_by_the_book().await;
}

/// Somebody writes between the end of one host and the start of the next.
async fn setup_after(discord: &Discord, text: &'static str) -> crate::harness::Setup {
    let url = discord.url.clone();
    let tune = Box::new(move |_: &mut omni_host::config::Config| {
        let said = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let say = reqwest::Client::new().post(format!("{url}/_test/say")).json(&json!({"text": text}));
                assert!(say.send().await.unwrap().status().is_success());
            });
        });
        said.join().unwrap();
    });
    crate::harness::Setup { tune: Some(tune), ..setup() }
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_reactions_deletions_and_votes_arrive_as_what_they_are() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let first = discord.says("one").await;
    discord.happens("edit", json!({"id": first, "text": "two"})).await;
    discord.happens("react", json!({"id": first, "emoji": "👍"})).await;
    let path = format!("/messages?instanceId={id}&chatId={}", discord.channel);
    let body = host.until(&path, |body| body["items"][0]["reactionCounts"]["👍"] == 1).await;
    assert_eq!((&body["items"][0]["textContent"], &body["items"][0]["editCount"]), (&json!("two"), &json!(1)));
    discord.happens("unreact", json!({"id": first, "emoji": "👍"})).await;
    host.until(&path, |body| body["items"][0]["reactionCounts"].is_null()).await;

    let poll = json!({"question": {"text": "tea?"}, "answers": [{"poll_media": {"text": "yes"}}, {"poll_media": {"text": "no"}}],
        "allow_multiselect": true, "duration": 24, "layout_type": 1});
    let asked = discord.happens("say", json!({"poll": poll})).await["id"].as_str().unwrap().to_owned();
    discord.happens("vote", json!({"id": asked, "answer": 1})).await;
    discord.happens("vote", json!({"id": asked, "answer": 2})).await;
    discord.happens("unvote", json!({"id": asked, "answer": 1})).await;
    host.until("/events?eventType=message.poll_vote&limit=10", |body| body["items"].as_array().unwrap().len() == 3)
        .await;

    discord.happens("bulk_delete", json!({"ids": [first, asked]})).await;
    host.until(&path, |body| body["items"].as_array().unwrap().iter().all(|message| message["status"] == "deleted"))
        .await;
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_text_goes_out_in_parts_and_nobody_is_called_by_accident() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    // It could call everybody.
    discord.happens("permissions", json!({"allow": ["mention_everyone"]})).await;
    let code: Vec<String> = (0..300).map(|number| format!("let x{number} = {number};")).collect();
    let text = format!("@everyone look:\n```rust\n{}\n```\nthat is all", code.join("\n"));
    send(&host, json!({"instanceId": id, "to": discord.channel, "text": text})).await;
    let parts = discord
        .until("messages", json!({"channel": discord.channel}), |body| {
            let all = body["messages"].as_array().unwrap().clone();
            all.last().is_some_and(|last| last["content"].as_str().unwrap().ends_with("that is all")).then_some(all)
        })
        .await;
    assert!(parts.len() >= 3, "{parts:?}");
    let mut went_out = Vec::new();
    for part in &parts {
        let words = part["content"].as_str().unwrap();
        assert!(words.chars().count() <= 2_000, "{words}");
        assert_eq!(part["mention_everyone"], false, "{part}");
        let (_, block) = words.split_once("```rust\n").unwrap_or_else(|| panic!("no code is opened in {words}"));
        let (block, _) = block.split_once("\n```").unwrap_or_else(|| panic!("the code is not closed in {words}"));
        assert_eq!(words.matches("```").count(), 2, "{words}");
        went_out.extend(block.lines().map(str::to_owned));
    }
    assert_eq!(went_out, code, "every line of it, once, in order");
    for call in discord.asked("POST", "/channels/").await {
        assert_eq!(call["json"]["allowed_mentions"], json!({"parse": ["users"], "replied_user": true}), "{call}");
    }

    let meant = json!({"allowedMentions": {"parse": ["everyone"]}});
    let sent = json!({"instanceId": id, "to": discord.channel, "text": "@everyone now", "options": meant});
    let sent = send(&host, sent).await;
    let called = discord.message(&discord.channel, &sent["externalMessageId"]).await.unwrap();
    assert_eq!(called["mention_everyone"], true, "{called}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

/// When a call was answered, in milliseconds of the server's clock.
fn ms(call: &Value) -> u64 {
    call["ms"].as_u64().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_is_obeyed_and_the_order_of_the_chat_is_kept() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    discord.happens("ratelimit", json!({"after": 1.2, "path_prefix": "/channels/", "method": "POST"})).await;
    for number in 0..8 {
        let body = json!({"instanceId": id, "to": discord.channel, "text": format!("{number}")});
        let (status, answer) = host.call(Method::POST, "/messages/send", Some(body)).await;
        assert!(status.is_success(), "{status} {answer}");
    }
    let order = discord
        .until("messages", json!({"channel": discord.channel}), |body| {
            let all = body["messages"].as_array().unwrap();
            (all.len() == 8)
                .then(|| all.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
        })
        .await;
    assert_eq!(order, (0..8).map(|number| number.to_string()).collect::<Vec<_>>());
    let calls = discord.asked("POST", "/channels/").await;
    let refused: Vec<usize> = (0..calls.len()).filter(|at| calls[*at]["status"] == 429).collect();
    assert_eq!(refused, [0], "what Discord said once is not asked again before it is time");
    assert!(ms(&calls[1]) >= ms(&calls[0]) + 1_200, "{calls:?}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_about_everything_holds_back_every_channel() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let other = discord.channel("other").await;
    let here = format!("/channels/{}/", discord.channel);
    discord.happens("ratelimit", json!({"after": 3, "global": true, "path_prefix": here, "method": "POST"})).await;
    let to =
        async |chat: &str| host.post("/messages/send", json!({"instanceId": id, "to": chat, "text": "hello"})).await;
    let once_it_is_known = async {
        // Whatever else is asked of Discord waits as well: then the plugin has heard. So few are no other limit's.
        let profile = format!("/instances/{id}/users/{}/profile", discord.user);
        let began = std::time::Instant::now();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(50));
        loop {
            tick.tick().await;
            let (status, told) = host.call(Method::GET, &profile, None).await;
            if status == StatusCode::TOO_MANY_REQUESTS {
                break assert!(told["error"]["details"]["retryAfterMs"].as_u64().is_some(), "{told}");
            }
            assert!(began.elapsed() < PATIENCE, "{status} {told}");
        }
        to(&other).await
    };
    tokio::join!(to(&discord.channel), once_it_is_known);
    for chat in [&discord.channel, &other] {
        let one = |body: &Value| (body["messages"].as_array().unwrap().len() == 1).then_some(());
        discord.until("messages", json!({"channel": chat}), one).await;
    }
    let calls = discord.asked("POST", "/channels/").await;
    assert_eq!(calls.iter().map(|call| call["status"].as_u64().unwrap()).collect::<Vec<_>>(), [429, 200, 200]);
    assert!(calls[1..].iter().all(|call| ms(call) >= ms(&calls[0]) + 3_000), "{calls:?}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_up_and_come_down() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let file = json!({"name": "notes.txt", "text": "hello file", "type": "text/plain"});
    discord.happens("say", json!({"text": "see", "files": [file]})).await;
    let file = fetched(&host, &id, &discord.channel, "see").await;
    assert_eq!(file, (StatusCode::OK, "hello file".to_owned()));

    let body = json!({"instanceId": id, "to": discord.channel, "type": "document", "filename": "up.txt",
        "mimeType": "text/plain", "caption": "here", "base64": "aGVsbG8gdXA="});
    let (status, sent) = host.call(Method::POST, "/messages/send/media", Some(body)).await;
    assert!(status.is_success(), "{status} {sent}");
    let last = discord
        .until("messages", json!({"channel": discord.channel}), |body| {
            body["messages"].as_array().unwrap().iter().find(|message| message["content"] == "here").cloned()
        })
        .await;
    let attachment = &last["attachments"][0];
    assert_eq!((&attachment["filename"], &attachment["size"]), (&json!("up.txt"), &json!(8)));
    host.stop().await;
    discord.assert_by_the_book().await;
}

/// The file of the message with these words, once the host has it.
async fn fetched(host: &TestHost, id: &str, chat: &str, words: &str) -> (StatusCode, String) {
    let path = format!("/messages?instanceId={id}&chatId={chat}");
    let with = |body: &Value| {
        let all = body["items"].as_array().unwrap();
        let found = all.iter().find(|message| message["textContent"] == words)?;
        Some(found["mediaUrl"].as_str()?.to_owned())
    };
    let body = host.until(&path, |body| with(body).is_some()).await;
    let url = format!("{}{}", host.url, with(&body).unwrap());
    let file = http_client(PATIENCE).get(url).header("x-api-key", &host.key).send().await.unwrap();
    (file.status(), file.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_not_what_was_announced_harms_nobody() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let quiet = discord.happens("channel", json!({"name": "quiet"})).await["id"].as_str().unwrap().to_owned();
    discord.happens("permissions", json!({"channel": quiet, "deny": ["view_channel"]})).await;
    let troubles =
        [("more", json!({"more": 5_000_000})), ("gone", json!({"gone": true})), ("stall", json!({"stall": 10}))];
    for (name, trouble) in troubles {
        let file =
            json!({"name": format!("{name}.bin"), "text": "x".repeat(1_000), "type": "application/octet-stream"});
        // It is in trouble before the host hears of it.
        let said = discord.happens("say", json!({"channel": quiet, "text": name, "files": [file]})).await;
        let all = discord.messages(&quiet).await;
        let found = all.iter().find(|message| message["id"] == said["id"]).unwrap();
        let mut how = trouble.as_object().unwrap().clone();
        how.insert("attachment".into(), found["attachments"][0]["id"].clone());
        discord.happens("cdn", Value::Object(how)).await;
        let mut there = found.clone();
        there["channel_id"] = json!(discord.channel);
        there["guild_id"] = json!(discord.guild);
        discord.happens("emit", json!({"t": "MESSAGE_CREATE", "d": there})).await;
    }
    let good = json!({"name": "good.txt", "text": "fine", "type": "text/plain"});
    discord.happens("say", json!({"text": "good", "files": [good]})).await;
    assert_eq!(fetched(&host, &id, &discord.channel, "good").await, (StatusCode::OK, "fine".to_owned()));
    let path = format!("/messages?instanceId={id}&chatId={}", discord.channel);
    let too_large = "the file is larger than the 1000 bytes that are allowed";
    let more = |message: &Value| message["textContent"] == "more" && message["mediaError"] == too_large;
    host.until(&path, |body| has(body, more)).await;
    let gone = "Discord no longer gives out this file: its message is gone";
    let gone = |message: &Value| message["textContent"] == "gone" && message["mediaError"] == gone;
    host.until(&path, |body| has(body, gone)).await;
    discord.says("and on").await;
    let there = host.stored(&id, &discord.channel, 5).await;
    assert!(there[..3].iter().all(|message| message["mediaUrl"].is_null()), "nothing of them is kept: {there:?}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_and_direct_messages_are_chats_of_their_own() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let start = discord.says("let us talk").await;
    let thread =
        discord.happens("thread", json!({"name": "aside", "message": start})).await["id"].as_str().unwrap().to_owned();
    discord.happens("say", json!({"channel": thread, "text": "in here"})).await;
    let there = host.stored(&id, &thread, 2).await;
    assert_eq!((&there[0]["messageType"], &there[0]["textContent"]), (&json!("system"), &json!("let us talk")));
    assert_eq!(there[1]["textContent"], "in here");
    send(&host, json!({"instanceId": id, "to": thread, "text": "I am here"})).await;
    let chats = host.get(&format!("/chats?instanceId={id}&limit=50")).await;
    let chats = chats["items"].as_array().unwrap();
    let chat = chats.iter().find(|chat| chat["externalId"] == thread.as_str()).unwrap();
    assert_eq!((&chat["chatType"], &chat["name"]), (&json!("thread"), &json!("aside")), "{chat}");

    // To a person to whom nobody has written yet, by their id.
    let to = json!({"instanceId": id, "to": format!("user:{}", discord.user), "text": "psst"});
    send(&host, to).await;
    let direct = discord.happens("dm", json!({})).await["channel"].as_str().unwrap().to_owned();
    let on_discord = discord.messages(&direct).await;
    assert_eq!(on_discord.last().unwrap()["content"], "psst");
    let told = host.get("/events?eventType=message.sent&limit=1").await;
    assert_eq!(told["items"][0]["payload"]["chatId"], direct, "it is told where it went: {told}");
    discord.happens("say", json!({"channel": direct, "text": "yes?"})).await;
    let there = host.stored(&id, &direct, 2).await;
    assert_eq!((&there[0]["textContent"], &there[1]["textContent"]), (&json!("psst"), &json!("yes?")));
    host.stop().await;
    discord.assert_by_the_book().await;
}
