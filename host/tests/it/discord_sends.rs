//! What goes out to Discord beside plain words, end to end: reactions, polls, typing, threads, posts, other names, embeds;
//! and how what we sent changes and goes again.

use crate::discord_server::{bot, has, send};
use crate::harness::TestHost;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

/// The page of a chat's messages.
fn page(id: &str, chat: &str) -> String {
    format!("/messages?instanceId={id}&chatId={chat}")
}

/// Changes the words of a message of ours, which must be done at once.
async fn edit(host: &TestHost, sent: &Value, text: &str) {
    let path = format!("/messages/{}/edit", sent["messageId"].as_str().unwrap());
    let changed = host.post(&path, json!({"text": text})).await;
    assert_eq!(changed["data"]["status"], "done", "{changed}");
}

/// Takes a message of ours back, which must be done at once.
async fn take_back(host: &TestHost, sent: &Value) {
    let path = format!("/messages/{}", sent["messageId"].as_str().unwrap());
    let (status, gone) = host.call(Method::DELETE, &path, None).await;
    assert_eq!((status, &gone["data"]["status"]), (StatusCode::OK, &json!("done")), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reaction_is_set_becomes_another_and_is_taken_back() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let said = discord.says("what do you think?").await;
    host.stored(&id, &discord.channel, 1).await;
    let party = discord.happens("emoji", json!({"name": "party"})).await["id"].as_str().unwrap().to_owned();
    let custom = format!("party:{party}");
    for (emoji, there, here) in [
        ("👍", json!([{"id": null, "name": "👍"}]), json!({"👍": 1})),
        (&custom, json!([{"id": party, "name": "party"}]), json!({"party": 1})),
        (&custom, json!([{"id": party, "name": "party"}]), json!({"party": 1})),
        ("", json!([]), Value::Null),
    ] {
        let body = json!({"instanceId": id, "to": discord.channel, "messageId": said, "emoji": emoji});
        let (status, set) = host.call(Method::POST, "/messages/send/reaction", Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{set}");
        let message = discord.message(&discord.channel, &json!(said)).await.unwrap();
        let reactions = message["reactions"].as_array().cloned().unwrap_or_default();
        assert!(reactions.iter().all(|reaction| reaction["me"] == true && reaction["count"] == 1), "{reactions:?}");
        let emojis =
            reactions.iter().map(|reaction| json!({"id": reaction["emoji"]["id"], "name": reaction["emoji"]["name"]}));
        assert_eq!(emojis.collect::<Value>(), there);
        host.until(&page(&id, &discord.channel), |body| body["items"][0]["reactionCounts"] == here).await;
    }
    assert_eq!(discord.asked("PUT", "/channels/").await.len(), 2, "what is there already is not set again");
    assert_eq!(discord.asked("DELETE", "/channels/").await.len(), 2);
    // As Discord writes it in a text; and what Discord does not know takes away nothing that is there.
    for (emoji, done) in [(format!("<:party:{party}>"), true), ("nonsense".to_owned(), false)] {
        let body = json!({"instanceId": id, "to": discord.channel, "messageId": said, "emoji": emoji});
        let (status, set) = host.call(Method::POST, "/messages/send/reaction", Some(body)).await;
        assert_eq!(status.is_success(), done, "{emoji}: {set}");
        let message = discord.message(&discord.channel, &json!(said)).await.unwrap();
        assert_eq!(message["reactions"][0]["emoji"]["id"], json!(party), "{emoji}: {message}");
    }
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_wrote_is_changed_and_taken_back_and_what_others_wrote_is_taken_away() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let sent = send(&host, json!({"instanceId": id, "to": discord.channel, "text": "first words"})).await;
    // Discord tells everybody before it answers.
    discord.happens("latency", json!({"after": 300})).await;
    edit(&host, &sent, "other words").await;
    let there = discord.messages(&discord.channel).await;
    assert_eq!(there.len(), 1, "{there:?}");
    assert_eq!((&there[0]["id"], &there[0]["content"]), (&sent["externalMessageId"], &json!("other words")));
    assert!(there[0]["edited_timestamp"].is_string(), "{there:?}");
    let said = discord.says("I saw that").await;
    let here = host.stored(&id, &discord.channel, 2).await;
    assert_eq!((&here[0]["textContent"], &here[0]["originalText"]), (&json!("other words"), &json!("first words")));

    take_back(&host, &sent).await;
    discord.happens("latency", json!({})).await;
    let theirs = json!({"instanceId": id, "chatId": discord.channel, "messageId": said});
    let gone = host.post("/messages/delete-channel", theirs).await;
    assert_eq!(gone["data"]["status"], "done", "{gone}");
    assert_eq!(discord.messages(&discord.channel).await, Vec::<Value>::new());
    let here = host.stored(&id, &discord.channel, 2).await;
    assert!(here.iter().all(|message| message["status"] == "deleted"), "{here:?}");
    assert_eq!(here[0]["editCount"], 1, "{here:?}");
    for kind in ["message.edited", "message.deleted"] {
        let told = host.get(&format!("/events?eventType={kind}&limit=10")).await;
        let ours = told["items"].as_array().unwrap().iter().filter(|event| event["messageId"] == sent["messageId"]);
        assert_eq!(ours.count(), 1, "{kind}: {told}");
    }
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_poll_goes_out_and_the_votes_come_in_by_person() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let asked = json!({"instanceId": id, "to": discord.channel, "question": "tea?", "answers": ["green", "black"],
        "multiSelect": true});
    let sent = host.post("/messages/send/poll", asked).await["data"].clone();
    assert_eq!(sent["status"], "sent", "{sent}");
    let on_discord = discord.message(&discord.channel, &sent["externalMessageId"]).await.unwrap();
    let poll = &on_discord["poll"];
    let answers: Vec<&Value> =
        poll["answers"].as_array().unwrap().iter().map(|answer| &answer["poll_media"]["text"]).collect();
    assert_eq!(
        (&poll["question"]["text"], answers),
        (&json!("tea?"), vec![&json!("green"), &json!("black")]),
        "{poll}"
    );
    assert_eq!(poll["allow_multiselect"], true);

    for (answer, chosen) in [(2, 1), (1, 2)] {
        discord.happens("vote", json!({"id": sent["externalMessageId"], "answer": answer})).await;
        let votes = "/events?eventType=message.poll_vote&limit=10";
        let told = host.until(votes, |list| list["items"].as_array().unwrap().len() == chosen).await;
        let vote = &told["items"][0]["payload"];
        assert_eq!((&vote["from"], &vote["messageUuid"]), (&json!(discord.user), &sent["messageId"]), "{vote}");
        assert_eq!(vote["optionIds"].as_array().unwrap().len(), chosen, "{vote}");
    }
    let here = host.stored(&id, &discord.channel, 1).await;
    assert_eq!(here[0]["pollVotes"][&discord.user].as_array().unwrap().len(), 2, "{here:?}");
    // What was chosen first is named by the option that was sent.
    let told = host.get("/events?eventType=message.poll_vote&limit=10").await;
    let chosen = &told["items"].as_array().unwrap().last().unwrap()["payload"]["optionIds"][0];
    let options = here[0]["content"]["options"].as_array().unwrap();
    let named = options.iter().find(|option| option["id"] == *chosen).expect("a vote names an option of the poll");
    assert_eq!(named["text"], "black", "{told}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn that_we_are_writing_is_shown_once_and_stops_by_itself() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    for kind in ["typing", "paused"] {
        let shown = json!({"instanceId": id, "to": discord.channel, "type": kind});
        assert_eq!(host.post("/messages/send/presence", shown).await["success"], true);
    }
    let asked = discord.asked("POST", "/").await;
    let asked: Vec<&str> = asked.iter().map(|call| call["path"].as_str().unwrap()).collect();
    assert_eq!(asked, [format!("/channels/{}/typing", discord.channel)]);
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_send_begins_a_thread_and_what_follows_is_written_there() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let options = json!({"thread": {"name": "aside", "autoArchiveMinutes": 60}});
    let first = json!({"instanceId": id, "to": discord.channel, "text": "let us see", "options": options});
    let first = send(&host, first).await;
    let on_discord = discord.message(&discord.channel, &first["externalMessageId"]).await.unwrap();
    let opened = &on_discord["thread"];
    assert_eq!((&opened["name"], &opened["thread_metadata"]["auto_archive_duration"]), (&json!("aside"), &json!(60)));

    // A thread has the id of the message that it hangs off.
    let thread = first["externalMessageId"].as_str().unwrap();
    send(&host, json!({"instanceId": id, "to": thread, "text": "in here"})).await;
    discord.happens("say", json!({"channel": thread, "text": "me too"})).await;
    let here = host.stored(&id, thread, 3).await;
    let here: Vec<_> = here.iter().map(|message| (&message["messageType"], &message["textContent"])).collect();
    let (system, text) = (json!("system"), json!("text"));
    assert_eq!(here, [(&system, &json!("let us see")), (&text, &json!("in here")), (&text, &json!("me too"))]);
    let chats = host.get(&format!("/chats?instanceId={id}&chatType=thread")).await;
    let above = host.get(&format!("/chats/by-external?instanceId={id}&externalId={}", discord.channel)).await;
    let chat = &chats["items"][0];
    assert_eq!((&chat["name"], &chat["parentChatId"]), (&json!("aside"), &above["data"]["id"]), "{chats}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_to_a_forum_is_a_post_of_its_own_each_time() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let forum = discord.happens("channel", json!({"name": "ideas", "type": "forum", "tags": ["bug"]})).await;
    // Once the host has heard of it.
    host.until(&format!("/chats?instanceId={id}"), |list| has(list, |chat| chat["externalId"] == forum["id"])).await;
    let tagged = json!({"thread": {"name": "Roof", "tags": forum["tags"]}});
    let mut posts = Vec::new();
    for (text, options, name) in [("It leaks\nall over", json!({}), "It leaks"), ("A new one", tagged, "Roof")] {
        let post = send(&host, json!({"instanceId": id, "to": forum["id"], "text": text, "options": options})).await;
        let post = post["externalMessageId"].as_str().unwrap().to_owned();
        let on_discord = discord.messages(&post).await;
        assert_eq!((on_discord.len(), &on_discord[0]["content"]), (1, &json!(text)), "{on_discord:?}");
        let named = |chat: &Value| chat["externalId"] == post.as_str() && chat["name"] == name;
        host.until(&format!("/chats?instanceId={id}&chatType=thread"), |list| has(list, named)).await;
        let said = discord.happens("say", json!({"channel": post, "text": "I think so, too"})).await;
        send(&host, json!({"instanceId": id, "to": post, "text": "thank you", "replyTo": said["id"]})).await;
        let on_discord = discord.messages(&post).await;
        assert_eq!(on_discord.last().unwrap()["message_reference"]["message_id"], said["id"], "{on_discord:?}");
        posts.push(post);
    }
    assert_ne!(posts[0], posts[1]);
    let called = discord.asked("POST", &format!("/channels/{}/threads", forum["id"].as_str().unwrap())).await;
    assert_eq!((called.len(), &called[1]["json"]["applied_tags"]), (2, &forum["tags"]));
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_under_another_name_is_ours_all_the_same() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let as_ann = json!({"webhook": {"name": "Ann", "avatarUrl": "https://example.com/ann.png"}});
    // Its echo is there before its answer.
    discord.happens("latency", json!({"after": 300})).await;
    let first = json!({"instanceId": id, "to": discord.channel, "text": "hello, I am Ann", "options": as_ann});
    let first = send(&host, first).await;
    discord.happens("latency", json!({})).await;
    let on_discord = discord.message(&discord.channel, &first["externalMessageId"]).await.unwrap();
    assert_eq!((&on_discord["author"]["username"], &on_discord["author"]["bot"]), (&json!("Ann"), &json!(true)));
    assert!(on_discord["webhook_id"].is_string() && on_discord["author"]["avatar"].is_string(), "{on_discord}");
    discord.says("hello Ann").await;
    let here = host.stored(&id, &discord.channel, 2).await;
    assert_eq!((&here[0]["id"], &here[0]["isFromMe"]), (&first["messageId"], &json!(true)), "{here:?}");

    // In a thread it goes by the webhook of the channel above, the same one.
    let thread = discord.happens("thread", json!({"name": "aside"})).await["id"].as_str().unwrap().to_owned();
    let second = json!({"instanceId": id, "to": thread, "text": "and in here", "options": as_ann});
    let second = send(&host, second).await;
    let there = discord.message(&thread, &second["externalMessageId"]).await.unwrap();
    assert_eq!((&there["author"]["username"], &there["webhook_id"]), (&json!("Ann"), &on_discord["webhook_id"]));
    assert_eq!(discord.asked("POST", &format!("/channels/{}/webhooks", discord.channel)).await.len(), 1);

    // The bot may not touch what others wrote: only the webhook can.
    discord.happens("permissions", json!({"deny": ["manage_messages"]})).await;
    for (sent, chat) in [(&first, &discord.channel), (&second, &thread)] {
        edit(&host, sent, "changed").await;
        assert_eq!(discord.message(chat, &sent["externalMessageId"]).await.unwrap()["content"], "changed");
        take_back(&host, sent).await;
        assert_eq!(discord.message(chat, &sent["externalMessageId"]).await, None);
    }
    // The third tells that there is a thread.
    let here = host.stored(&id, &discord.channel, 3).await;
    assert_eq!((&here[0]["id"], &here[0]["status"]), (&first["messageId"], &json!("deleted")), "{here:?}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn embeds_and_flags_go_out_as_they_are_given() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let embed = json!({"title": "Build 7", "description": "is green", "color": 65_280,
        "fields": [{"name": "took", "value": "3 min"}]});
    let options = json!({"embeds": [embed], "silent": true});
    let sent = json!({"instanceId": id, "to": discord.channel, "text": "done", "options": options});
    let sent = send(&host, sent).await;
    let there = discord.message(&discord.channel, &sent["externalMessageId"]).await.unwrap();
    for field in ["title", "description", "color"] {
        assert_eq!(there["embeds"][0][field], embed[field], "{there}");
    }
    assert_eq!(there["embeds"][0]["fields"][0]["value"], "3 min");
    assert_eq!(there["flags"].as_u64().unwrap() & 4_096, 4_096, "nobody hears it: {there}");
    host.stop().await;
    discord.assert_by_the_book().await;
}
