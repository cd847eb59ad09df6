//! WhatsApp end to end: an account that Baileys linked is taken over, and people who use Baileys talk with it.

use crate::harness::{PATIENCE, Setup, TestHost, impatient};
use crate::whatsapp_server::{ANN, BOB, OURS, People, Server, World, jid, message, setup, text_of};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_where_the_other_program_left_it() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people) = (&world.host, &world.people);
    people.send("bob", &jid(OURS), json!({"text": "are you still there?"})).await;
    let there = host.stored(&world.id, &jid(BOB), 1).await;
    assert_eq!(there[0]["textContent"], "are you still there?");
    assert_eq!(there[0]["isFromMe"], false);

    world.send(json!({"to": BOB.0, "text": "I am, with another program"})).await;
    let got = people.gets("bob", "I am, with another program").await;
    assert_eq!(got["key"]["fromMe"], false);
    let there = host.stored(&world.id, &jid(BOB), 2).await;
    assert_eq!((&there[1]["textContent"], &there[1]["isFromMe"]), (&json!("I am, with another program"), &json!(true)));
    assert_eq!(there[1]["externalId"], got["key"]["id"]);

    // It is delivered, and read.
    let ours = there[1]["id"].as_str().unwrap().to_owned();
    host.until(&format!("/messages/{ours}"), |body| body["data"]["deliveryStatus"] == "delivered").await;
    people.tell("bob", "read", json!({"keys": [got["key"]]})).await;
    host.until(&format!("/messages/{ours}"), |body| body["data"]["deliveryStatus"] == "read").await;
    world.host.stop().await;
}

/// What the host has stored of the chat with Bob, once a message is as it is waited for.
async fn with_bob(world: &World, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
    let path = format!("/messages?instanceId={}&chatId={}&limit=50", world.id, jid(BOB));
    let find = |body: &Value| body["items"].as_array()?.iter().find(|message| seen(message)).cloned();
    let body = world.host.until(&path, |body| find(body).is_some()).await;
    find(&body).unwrap_or_else(|| panic!("{what}: {body}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_people_send_arrives_as_what_it_is() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people, us) = (&world.host, &world.people, jid(OURS));
    // A picture: fetched, opened, and the same.
    let picture: Vec<u8> = (0..70_000_u32).map(|n| (n % 251) as u8).collect();
    let base64 = base64_of(&picture);
    people.send("bob", &us, json!({"image": {"base64": base64}, "caption": "look", "jpegThumbnail": ""})).await;
    let told = with_bob(&world, "a picture", |one| one["textContent"] == "look" && one["mediaUrl"].is_string()).await;
    assert_eq!(told["messageType"], "image");
    assert_eq!(file(host, &told).await, picture);
    // A voice note.
    people.send("bob", &us, json!({"audio": {"base64": base64_of(b"OggS voice")}, "ptt": true, "mimetype": "audio/ogg; codecs=opus", "seconds": 3})).await;
    let told =
        with_bob(&world, "a voice note", |one| one["messageType"] == "audio" && one["mediaUrl"].is_string()).await;
    assert_eq!(told["mediaMetadata"]["isVoiceNote"], true, "{told}");
    assert_eq!(file(host, &told).await, b"OggS voice");
    // A place, a card, a question.
    people
        .send("bob", &us, json!({"location": {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "here"}}))
        .await;
    with_bob(&world, "a place", |one| one["messageType"] == "location").await;
    let vcard = "BEGIN:VCARD\nVERSION:3.0\nFN:Ann\nTEL;type=CELL;waid=5511999990003:+55 11 99999-0003\nEND:VCARD";
    people
        .send(
            "bob",
            &us,
            json!({"contacts": {"displayName": "Ann", "contacts": [{"displayName": "Ann", "vcard": vcard}]}}),
        )
        .await;
    with_bob(&world, "a card", |one| one["messageType"] == "contact").await;
    people.send("bob", &us, json!({"poll": {"name": "tea?", "values": ["yes", "no"], "selectableCount": 1}})).await;
    with_bob(&world, "a poll", |one| one["messageType"] == "poll").await;
    // Words that are answered, change, are reacted to and taken back.
    let key = people.send("bob", &us, json!({"text": "one"})).await;
    let first = key["id"].as_str().unwrap().to_owned();
    with_bob(&world, "words", |one| one["externalId"] == first.as_str()).await;
    // Before it changes: Baileys may quote what it has become.
    let quoted = json!({"to": us, "content": {"text": "an answer"}, "quoted": first});
    people.tell("bob", "send", quoted).await;
    let told = with_bob(&world, "an answer", |one| one["textContent"] == "an answer").await;
    assert_eq!((&told["replyToExternalId"], &told["quotedText"]), (&json!(first), &json!("one")), "{told}");
    people.send("bob", &us, json!({"text": "two", "edit": key})).await;
    with_bob(&world, "an edit", |one| one["externalId"] == first.as_str() && one["textContent"] == "two").await;
    people.send("bob", &us, json!({"react": {"text": "👍", "key": key}})).await;
    with_bob(&world, "a reaction", |one| one["reactionCounts"]["👍"] == 1).await;
    people.send("bob", &us, json!({"delete": key})).await;
    with_bob(&world, "a deletion", |one| one["externalId"] == first.as_str() && one["status"] == "deleted").await;
    people.tell("bob", "presence", json!({"type": "composing", "to": us})).await;
    world.host.stop().await;
}

fn base64_of(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

/// The file of a message, as the host gives it.
async fn file(host: &TestHost, message: &Value) -> Vec<u8> {
    let url = format!("{}{}", host.url, message["mediaUrl"].as_str().unwrap());
    let file = crate::harness::http_client(PATIENCE).get(url).header("x-api-key", &host.key).send().await.unwrap();
    assert!(file.status().is_success(), "{}", file.status());
    file.bytes().await.unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_arrives_as_what_it_is() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people) = (&world.host, &world.people);
    let gets = async |what: &str, place: &str| {
        people
            .hear(what, |said| {
                let there = |message: &&Value| !message["message"].pointer(place).unwrap_or(&Value::Null).is_null();
                message(said, "bob").filter(there).cloned()
            })
            .await
    };
    let send = async |path: &str, mut body: Value| {
        body["instanceId"] = json!(world.id);
        body["to"] = json!(BOB.0);
        let sent = host.post(path, body).await;
        assert_eq!(sent["data"]["status"], "sent", "{path}: {sent}");
        sent
    };
    // Something to talk about, so that the receiver's chat is there.
    let bold = json!({"text": "strong", "entities": [{"type": "bold", "offset": 0, "length": 6}]});
    let first = send("/messages/send", bold).await;
    let picture: Vec<u8> = (0..90_000_u32).map(|n| (n % 241) as u8).collect();
    send(
        "/messages/send/media",
        json!({"type": "image", "mimeType": "image/png", "caption": "see", "base64": base64_of(&picture)}),
    )
    .await;
    let got = gets("a picture", "/imageMessage/mediaKey").await;
    assert_eq!(text_of(&got["message"]), Some("see"));
    let file = people.tell("bob", "download", json!({"message": got["key"]["id"]})).await;
    assert_eq!(file["base64"], json!(base64_of(&picture)));
    send("/messages/send/media", json!({"type": "document", "filename": "up.txt", "mimeType": "text/plain", "caption": "here", "base64": "aGVsbG8gdXA="})).await;
    let got = gets("a document", "/documentWithCaptionMessage/message/documentMessage/mediaKey").await;
    let file = people.tell("bob", "download", json!({"message": got["key"]["id"]})).await;
    assert_eq!(file["base64"], "aGVsbG8gdXA=");
    send("/messages/send/location", json!({"latitude": -23.5, "longitude": -46.6, "name": "here"})).await;
    gets("a place", "/locationMessage/degreesLatitude").await;
    send("/messages/send/poll", json!({"question": "tea?", "answers": ["yes", "no"]})).await;
    let poll = gets("a poll", "/pollCreationMessageV3/name").await;
    assert_eq!(poll["message"]["pollCreationMessageV3"]["options"][1]["optionName"], "no");
    // Ours can be changed, reacted to, and taken back.
    let ours = first["data"]["messageId"].as_str().unwrap();
    host.post(&format!("/messages/{ours}/edit"), json!({"text": "stronger"})).await;
    host.post(&format!("/messages/{ours}/reactions"), json!({"emoji": "🎉"})).await;
    let (status, body) = host.call(reqwest::Method::DELETE, &format!("/messages/{ours}"), None).await;
    assert!(status.is_success(), "{status} {body}");
    people.hear("an edit", |said| said.to_string().contains("stronger").then_some(())).await;
    people.hear("a reaction", |said| (said["event"] == "messages.reaction").then_some(())).await;
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_heard_and_answered() {
    let server = crate::whatsapp_server::Server::start().await;
    let Some(people) = crate::whatsapp_server::ours_and_bob(&server).await else { return };
    people.join("ann", ANN).await;
    let made = server.does("groups", json!({"subject": "Friends", "participants": [OURS.0, BOB.0, ANN.0]})).await;
    let group = made["jid"].as_str().unwrap().to_owned();
    // The keys of the group are exchanged while Baileys has the account.
    people.send("bob", &group, json!({"text": "before"})).await;
    people.gets("ours", "before").await;
    people.send("ours", &group, json!({"text": "so was I"})).await;
    people.gets("ann", "so was I").await;
    let host = TestHost::with(setup()).await;
    let id = crate::whatsapp_server::take_over(&host, &server, &people, json!({})).await;
    people.send("bob", &group, json!({"text": "after"})).await;
    people.send("ann", &group, json!({"text": "me, too"})).await;
    let there = host.stored(&id, &group, 2).await;
    let mut said: Vec<&str> = there.iter().map(|one| one["textContent"].as_str().unwrap()).collect();
    said.sort_unstable();
    assert_eq!(said, ["after", "me, too"]);
    let sent = host.post("/messages/send", json!({"instanceId": id, "to": group, "text": "hello all"})).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    for who in ["bob", "ann"] {
        people.gets(who, "hello all").await;
    }
    let chats =
        host.until(&format!("/chats?instanceId={id}"), |body| body["items"].to_string().contains("Friends")).await;
    assert!(chats["items"].as_array().unwrap().iter().any(|chat| chat["externalId"] == group.as_str()), "{chats}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_connection_ends_says_what_happens_next() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, server, people, us) = (&world.host, &world.server, &world.people, jid(OURS));
    // A restart of the stream and a cut: it comes back by itself, and what was said meanwhile is there.
    for (what, how) in
        [("disconnect", json!({"code": 515})), ("drop-tcp", json!({})), ("disconnect", json!({"code": 503}))]
    {
        let mut how = how;
        how["jid"] = json!(server.device(OURS).await);
        server.does(what, how.clone()).await;
        let words = format!("after {what} {how}");
        people.send("bob", &us, json!({"text": words})).await;
        with_bob(&world, &words, |one| one["textContent"] == words.as_str()).await;
    }
    // Somebody else with the same identity: it does not fight.
    server.does("disconnect", json!({"jid": server.device(OURS).await, "code": 440})).await;
    let state = host.until_state(&world.id, "disconnected").await;
    assert!(state.to_string().contains("440"), "{state}");
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restriction_is_obeyed_and_said() {
    let Some(world) = World::start(json!({})).await else { return };
    world.people.join("ann", ANN).await;
    world.server.does("nack", json!({"code": 463})).await;
    let refuse = json!({"instanceId": world.id, "to": ANN.0, "text": "hello stranger"});
    let (status, body) = world.host.call(reqwest::Method::POST, "/messages/send", Some(refuse.clone())).await;
    assert!(body.to_string().contains("463"), "{status} {body}");
    // The state is told beside the answer.
    let is_told = |shown: &Value| shown["data"]["limitedUntil"].is_string();
    let shown = world.host.until(&format!("/instances/{}/status", world.id), is_told).await;
    assert_eq!(shown["data"]["state"], "connected", "{shown}");
    assert!(shown["data"]["message"].as_str().unwrap().contains("463"), "{shown}");
    // The next one is not even tried; answers still go out.
    let before = world.server.look("log").await.to_string().len();
    let (_, body) = world.host.call(reqwest::Method::POST, "/messages/send", Some(refuse)).await;
    assert!(body.to_string().contains("463"), "{body}");
    assert!(!world.server.look("log").await.to_string()[before..].contains("hello"), "nothing was said");
    world.people.send("bob", &jid(OURS), json!({"text": "hi"})).await;
    world.host.stored(&world.id, &jid(BOB), 1).await;
    world.send(json!({"to": BOB.0, "text": "hi Bob"})).await;
    world.people.gets("bob", "hi Bob").await;
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_an_account_over_by_either_name_of_the_channel() {
    let server = crate::whatsapp_server::Server::start().await;
    let Some(people) = crate::whatsapp_server::ours_and_bob(&server).await else { return };
    people.tell("ours", "forget", json!({})).await;
    let host = TestHost::with(setup()).await;
    let source = format!("baileys:{}", people.folder("ours").display());
    for channel in ["whatsapp-baileys", "whatsapp"] {
        let command = [
            &["migrate", "auth", "--channel", channel, "--instance", "sales", "--from", &source][..],
            &["--source-stopped", "--allow-missing-keys", "--json"],
        ];
        let (said, status) = host.cli(&command.concat()).await;
        assert!(status.success(), "{channel}: {said}");
        assert!(said.contains("\"paired\": true"), "{channel}: {said}");
    }
    let change = json!({"config": server.config(json!({}))});
    let (status, answer) = host.call(reqwest::Method::PATCH, "/instances/sales", Some(change)).await;
    assert!(status.is_success(), "{answer}");
    let (said, status) = host.cli(&["instances", "connect", "sales"]).await;
    assert!(status.success(), "{said}");
    let id = host.get("/instances/sales").await["data"]["id"].as_str().unwrap().to_owned();
    host.until_state(&id, "connected").await;
    people.send("bob", &jid(OURS), json!({"text": "to the new one"})).await;
    host.stored(&id, &jid(BOB), 1).await;
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_too_fast_waits_and_is_told_why() {
    let server = Server::start().await;
    let Some(people) = People::start(&server).await else { return };
    let setup = Setup { configure: impatient, ..setup() };
    let Some(world) = World::with(server, people, json!({}), setup).await else { return };
    world.people.send("bob", &jid(OURS), json!({"text": "hi"})).await;
    world.host.stored(&world.id, &jid(BOB), 1).await;
    world.server.does("nack", json!({"code": 429})).await;
    for words in ["too fast", "not even tried"] {
        let body = json!({"instanceId": world.id, "to": BOB.0, "text": words});
        let (status, answer) = world.host.call(reqwest::Method::POST, "/messages/send", Some(body)).await;
        assert_eq!(status, reqwest::StatusCode::ACCEPTED, "{answer}");
        assert!(answer["data"]["message"].as_str().is_some_and(|why| why.contains("429")), "{answer}");
    }
    let is_told = |shown: &Value| shown["data"]["limitedUntil"].is_string();
    let shown = world.host.until(&format!("/instances/{}/status", world.id), is_told).await;
    assert!(shown["data"]["message"].as_str().unwrap().contains("429"), "{shown}");
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_away_baileys_goes_on_with() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people, us) = (&world.host, &world.people, jid(OURS));
    people.send("bob", &us, json!({"text": "to the new one"})).await;
    host.stored(&world.id, &jid(BOB), 1).await;
    world.send(json!({"to": BOB.0, "text": "from the new one"})).await;
    people.gets("bob", "from the new one").await;
    host.post(&format!("/instances/{}/disconnect", world.id), json!({})).await;
    let given = host.post(&format!("/instances/{}/auth-export", world.id), json!({})).await;
    let folder = people.folder("again");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, content) in given["data"]["files"].as_object().unwrap() {
        use base64::Engine;
        let content = base64::engine::general_purpose::STANDARD.decode(content.as_str().unwrap()).unwrap();
        std::fs::write(folder.join(name), content).unwrap();
    }
    let about = &world.server.about;
    let place = json!({
        "folder": folder, "url": about["webSocketUrl"], "rootPublicKey": about["rootPublicKey"], "admin": about["admin"],
        "connect": false,
    });
    people.tell("again", "open", place).await;
    people.tell("again", "connect", json!({})).await;
    people.send("bob", &us, json!({"text": "and back"})).await;
    people.gets("again", "and back").await;
    people.send("again", &jid(BOB), json!({"text": "with Baileys again"})).await;
    people.gets("bob", "with Baileys again").await;
    world.host.stop().await;
}
