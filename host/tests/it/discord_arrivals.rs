//! What people do on Discord arrives as what it is, end to end: each sort of message, what is taken back, who writes, comes
//! and goes.

use crate::discord_server::{bot, has};
use crate::harness::{PATIENCE, TestHost, http_client};
use serde_json::{Value, json};

/// The events of a kind, oldest first, once there are so many.
async fn told(host: &TestHost, kind: &str, count: usize) -> Vec<Value> {
    let path = format!("/events?eventType={kind}&limit=100");
    let list = host.until(&path, |list| list["items"].as_array().unwrap().len() >= count).await;
    let mut items = list["items"].as_array().unwrap().clone();
    items.reverse();
    assert_eq!(items.len(), count, "{items:?}");
    items
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sort_of_message_arrives_as_what_it_is() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    discord.happens("sticker", json!({"name": "wave"})).await;
    discord.happens("say", json!({"sticker": "wave"})).await;
    let embed = json!({"title": "Build 7", "url": "https://example.com/7", "description": "is **green**",
        "fields": [{"name": "took", "value": "3 min"}]});
    discord.happens("say", json!({"embeds": [embed]})).await;
    let voice = json!({"name": "voice-message.ogg", "text": "OggS", "type": "audio/ogg", "duration_secs": 1.5,
        "waveform": "AP8="});
    discord.happens("say", json!({"flags": 1 << 13, "files": [voice]})).await;
    discord.happens("say", json!({"webhook": "CI", "text": "built"})).await;
    let picture = json!({"name": "a.png", "text": "PNG", "type": "image/png", "description": "a cat"});
    let film = json!({"name": "b.mp4", "text": "MP4", "type": "video/mp4"});
    discord.happens("say", json!({"text": "two of them", "files": [picture, film]})).await;

    let there = host.stored(&id, &discord.channel, 6).await;
    let kinds: Vec<&Value> = there.iter().map(|message| &message["messageType"]).collect();
    assert_eq!(kinds, ["sticker", "text", "audio", "text", "image", "video"]);
    assert_eq!(there[0]["content"]["fileName"], "wave.png");

    let words = "Build 7\nis green\ntook\n3 min";
    assert_eq!(there[1]["textContent"], words);
    let entities = there[1]["content"]["entities"].as_array().unwrap();
    let entities: Vec<_> =
        entities.iter().map(|entity| (entity["type"].as_str().unwrap(), &entity["offset"])).collect();
    assert_eq!(entities, [("link", &json!(0)), ("bold", &json!(11)), ("bold", &json!(17))]);

    let voice = &there[2]["content"];
    assert_eq!((&voice["voice"], &voice["durationMs"]), (&json!(true), &json!(1_500)), "{voice}");
    assert_eq!(voice["waveform"], json!([0, 100]));

    let author = (&there[3]["senderDisplayName"], &there[3]["isFromMe"], &there[3]["textContent"]);
    assert_eq!(author, (&json!("CI"), &json!(false), &json!("built")));

    assert_eq!((&there[4]["textContent"], &there[5]["textContent"]), (&json!("two of them"), &Value::Null));
    assert_eq!((&there[4]["externalId"], &there[4]["album"]), (&there[5]["externalId"], &there[5]["album"]));
    assert!(there[4]["album"].is_string() && there[5]["part"] != "", "{there:?}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_a_forward_and_a_mention_name_what_they_mean() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let other = discord.channel("other").await;
    let first = discord.says("the plan").await;
    discord.happens("say", json!({"text": "yes", "reply_to": first})).await;
    discord.happens("say", json!({"channel": other, "forward_of": first})).await;
    let about = format!("<@{}> see <#{other}>, <@{}>", discord.user, discord.user);
    discord.happens("say", json!({"text": about})).await;

    let there = host.stored(&id, &discord.channel, 3).await;
    assert_eq!((&there[1]["replyToMessageId"], &there[1]["replyToExternalId"]), (&there[0]["id"], &json!(first)));
    assert_eq!((&there[1]["quotedText"], &there[1]["quotedSenderName"]), (&json!("the plan"), &json!("Alice")));
    assert_eq!(there[2]["textContent"], "@Alice see #other, @Alice");
    let mentions = there[2]["mentions"].as_array().unwrap();
    assert!(mentions.iter().any(|mention| mention.to_string().contains(&discord.user)), "{mentions:?}");
    let forwarded = &host.stored(&id, &other, 1).await[0];
    assert_eq!((&forwarded["textContent"], &forwarded["isForwarded"]), (&json!("the plan"), &json!(true)));
    assert_eq!(forwarded["replyToExternalId"], Value::Null, "{forwarded}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reactions_are_cleared_by_emoji_or_all_at_once_and_a_message_is_taken_back() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let party = discord.happens("emoji", json!({"name": "party"})).await;
    let bob = discord.happens("user", json!({"name": "bob", "global_name": "Bob"})).await["id"].clone();
    let said = discord.says("hooray").await;
    for (user, emoji) in [(json!(discord.user), &party), (bob.clone(), &party), (bob.clone(), &json!("👍"))] {
        discord.happens("react", json!({"id": said, "emoji": emoji, "user": user})).await;
    }
    let path = format!("/messages?instanceId={id}&chatId={}", discord.channel);
    let counts = async |counts: Value| host.until(&path, |body| body["items"][0]["reactionCounts"] == counts).await;
    let there = counts(json!({"party": 2, "👍": 1})).await;
    let custom = |reaction: &&Value| reaction["emoji"] == "party" && reaction["customEmojiId"] == party["id"];
    assert_eq!(there["items"][0]["reactions"].as_array().unwrap().iter().filter(custom).count(), 2, "{there}");

    discord.happens("clear_reactions", json!({"id": said, "emoji": party})).await;
    counts(json!({"👍": 1})).await;
    discord.happens("react", json!({"id": said, "emoji": "🎉"})).await;
    counts(json!({"👍": 1, "🎉": 1})).await;
    discord.happens("clear_reactions", json!({"id": said})).await;
    counts(Value::Null).await;

    discord.happens("delete", json!({"id": said})).await;
    host.until(&path, |body| body["items"][0]["status"] == "deleted").await;
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_writing_is_told_to_those_who_listen_and_is_not_kept() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let url = format!("{}/api/v2/events/stream?type=presence.*&instanceId={id}", host.url);
    let mut stream = http_client(PATIENCE).get(url).header("x-api-key", &host.key).send().await.unwrap();
    discord.happens("typing", json!({})).await;
    let mut seen = String::new();
    let line = loop {
        if let Some(line) = seen.split_inclusive('\n').find(|line| line.starts_with("data: ") && line.ends_with('\n')) {
            break serde_json::from_str::<Value>(line.strip_prefix("data: ").unwrap()).unwrap();
        }
        let piece = stream.chunk().await.unwrap().expect("the stream goes on");
        seen.push_str(std::str::from_utf8(&piece).unwrap());
    };
    assert_eq!(line["type"], "presence.typing");
    assert_eq!((&line["payload"]["chatId"], &line["payload"]["from"]), (&json!(discord.channel), &json!(discord.user)));
    drop(stream);
    discord.says("written").await;
    host.stored(&id, &discord.channel, 1).await;
    let kept = host.get("/events?limit=100").await;
    assert!(!has(&kept, |event| event["eventType"] == "presence.typing"), "{kept}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_and_goes_is_told_in_the_chat_of_the_server() {
    let Some((host, discord, _)) = bot(&[]).await else { return };
    let me = discord.happens("world", json!({})).await["bot"].clone();
    let bob = discord.happens("user", json!({"name": "bob", "global_name": "Bob", "guild": null})).await["id"].clone();
    discord.happens("join", json!({"user": bob})).await;
    discord.happens("leave", json!({"user": bob})).await;
    let other = discord.happens("guild", json!({"name": "Other"})).await["id"].as_str().unwrap().to_owned();
    discord.happens("leave", json!({"guild": other, "user": me})).await;
    let (here, there) = (format!("guild:{}", discord.guild), format!("guild:{other}"));
    let happened: Vec<Value> = told(&host, "system.membership", 4)
        .await
        .iter()
        .map(|event| {
            let payload = &event["payload"];
            json!([payload["chatId"], payload["users"][0]["id"], payload["change"], payload["isMe"]])
        })
        .collect();
    let expected = [
        json!([here, bob, "joined", false]),
        json!([here, bob, "left", false]),
        json!([there, me, "joined", true]),
        json!([there, me, "removed", true]),
    ];
    assert_eq!(happened, expected);
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_of_a_forum_is_a_thread_with_its_words_in_it() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let forum = discord.happens("channel", json!({"name": "ideas", "type": "forum"})).await["id"].clone();
    let post = json!({"channel": forum, "name": "Roof", "text": "It leaks"});
    let post = discord.happens("thread", post).await["id"].as_str().unwrap().to_owned();
    discord.happens("say", json!({"channel": post, "text": "Here, too"})).await;
    let there = host.stored(&id, &post, 2).await;
    assert_eq!((&there[0]["textContent"], &there[1]["textContent"]), (&json!("It leaks"), &json!("Here, too")));
    assert!(there.iter().all(|message| message["messageType"] == "text"), "{there:?}");
    let chats = host.get(&format!("/chats?instanceId={id}")).await;
    let chat = |id: &Value| chats["items"].as_array().unwrap().iter().find(|chat| chat["externalId"] == *id).unwrap();
    let (post, forum) = (chat(&json!(post)), chat(&forum));
    assert_eq!(
        (&post["chatType"], &post["name"], &post["parentChatId"]),
        (&json!("thread"), &json!("Roof"), &forum["id"])
    );

    // It gets another name, and is closed for good.
    discord.happens("thread_update", json!({"channel": post["externalId"], "name": "Roof and walls"})).await;
    let renamed = |chat: &Value| chat["id"] == post["id"] && chat["name"] == "Roof and walls";
    host.until(&format!("/chats?instanceId={id}"), |list| has(list, renamed)).await;
    discord.happens("channel_delete", json!({"channel": post["externalId"]})).await;
    let updates = "/events?eventType=system.chat_updated&limit=100";
    let gone = |event: &Value| event["payload"]["deleted"] == true && event["chatUuid"] == post["id"];
    host.until(updates, |list| has(list, gone)).await;
    host.stop().await;
    discord.assert_by_the_book().await;
}
