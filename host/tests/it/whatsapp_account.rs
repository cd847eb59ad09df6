//! What an account on WhatsApp can do beside talking: how it shows itself, groups, how chats are kept, the past, files that
//! are gone, and what people do that is no message.

use crate::harness::{PATIENCE, Setup, http_client};
use crate::whatsapp_server::{ANN, BOB, OURS, People, Server, World, jid, message, setup};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// The phone of the account, played by Baileys as well, connected before devices are linked to it.
async fn with_phone() -> Option<World> {
    let server = Server::start().await;
    let people = People::start(&server).await?;
    people.open("phone", json!({"phone": {"phone": OURS.0, "lid": OURS.1, "name": "Owner"}})).await;
    people
        .hear("the phone connecting", |said| (said["event"] == "open" && said["account"] == "phone").then_some(()))
        .await;
    World::with(server, people, json!({}), setup()).await
}

/// Asks until what the server of the tests has is as it is waited for.
async fn until_group(world: &World, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
    let mut tick = tokio::time::interval(Duration::from_millis(20));
    let looked = async {
        loop {
            tick.tick().await;
            let groups = world.server.look("groups").await;
            if let Some(group) = groups.as_array().unwrap().iter().find(|group| seen(group)) {
                return group.clone();
            }
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("{what} never came"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_account_shows_and_hides_what_it_is_told_to() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people, id) = (&world.host, &world.people, &world.id);
    let put = async |path: &str, body: Value| {
        let (status, answer) = host.call(Method::PUT, &format!("/instances/{id}/{path}"), Some(body)).await;
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    };
    put("profile/name", json!({"name": "Omni Tea"})).await;
    put("profile/status", json!({"status": "open from nine"})).await;
    put("profile/picture", json!({"base64": "aGVsbG8="})).await;
    let shown = host.get(&format!("/instances/{id}/users/{}/profile", jid(OURS))).await;
    let shown = &shown["data"];
    assert_eq!((&shown["displayName"], &shown["bio"]), (&json!("Omni Tea"), &json!("open from nine")), "{shown}");
    assert!(shown["avatarUrl"].is_string(), "{shown}");
    let (status, answer) = host.call(Method::DELETE, &format!("/instances/{id}/profile/picture"), None).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let shown = host.get(&format!("/instances/{id}/users/{}/profile", jid(OURS))).await;
    assert!(shown["data"]["avatarUrl"].is_null(), "{shown}");

    let before = host.get(&format!("/instances/{id}/privacy")).await;
    assert_eq!(before["data"]["last"], "all", "{before}");
    let after = put("privacy", json!({"last": "contacts", "readreceipts": "none"})).await;
    assert_eq!(
        (&after["data"]["last"], &after["data"]["readreceipts"]),
        (&json!("contacts"), &json!("none")),
        "{after}"
    );
    for (wrong, words) in
        [(json!({"shoes": "all"}), "readreceipts"), (json!({"last": "none", "online": "sometimes"}), "online")]
    {
        let (status, answer) = host.call(Method::PUT, &format!("/instances/{id}/privacy"), Some(wrong)).await;
        assert!(status.is_client_error() && answer.to_string().contains(words), "{status} {answer}");
    }
    let after = host.get(&format!("/instances/{id}/privacy")).await;
    assert_eq!(after["data"]["last"], "contacts", "what is wrong in part changes nothing: {after}");

    let numbers = json!({"phones": [BOB.0, "+55 11 99999-7777"]});
    let found = host.post(&format!("/instances/{id}/check-number"), numbers).await;
    assert_eq!(found["data"][0], json!({"phone": BOB.0, "exists": true, "jid": jid(BOB)}), "{found}");
    assert_eq!(found["data"][1], json!({"phone": "+55 11 99999-7777", "exists": false}), "{found}");

    let block = format!("/instances/{id}/block");
    host.post(&block, json!({"contactId": jid(BOB)})).await;
    let list = host.get(&format!("/instances/{id}/blocklist")).await;
    assert_eq!(list["items"][0]["platformUserId"], jid(BOB), "{list}");
    let (status, answer) = host.call(Method::DELETE, &block, Some(json!({"contactId": jid(BOB)}))).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    let list = host.get(&format!("/instances/{id}/blocklist")).await;
    assert_eq!(list["items"], json!([]), "{list}");
    // The same by the command line.
    let bob = jid(BOB);
    for (command, words) in [
        (&["check", "ours", BOB.0, "+5511999997777"][..], bob.as_str()),
        (&["privacy", "ours", "last=none"], "none"),
        (&["profile", "ours", "--name", "Omni Cake"], "changed"),
        (&["block", "ours", &bob], "is blocked"),
        (&["blocked", "ours"], &bob),
        (&["unblock", "ours", &bob], "may write again"),
    ] {
        let (said, status) = host.cli(&[&["instances"], command].concat()).await;
        assert!(status.success() && said.contains(words), "{command:?}: {said}");
    }
    people.send("bob", &jid(OURS), json!({"text": "friends again"})).await;
    host.stored(id, &jid(BOB), 1).await;
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_and_communities_are_made_changed_and_left() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people, id) = (&world.host, &world.people, &world.id);
    people.join("ann", ANN).await;
    let make = format!("/instances/{id}/groups");
    let made = host.post(&make, json!({"name": "Tea", "users": [jid(BOB)]})).await;
    let group = made["data"]["chat"]["id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    people.send("bob", &group, json!({"text": "who else?"})).await;
    host.stored(id, &group, 1).await;
    let chats = host.get(&format!("/chats?instanceId={id}")).await;
    let chats = chats["items"].as_array().unwrap();
    let chat = chats.iter().find(|chat| chat["externalId"] == group.as_str()).unwrap_or_else(|| panic!("{chats:?}"));
    let change = format!("/chats/{}/group", chat["id"].as_str().unwrap());
    let change = async |body: Value| host.post(&change, body).await;

    change(json!({"action": "add", "users": [jid(ANN)]})).await;
    people.send("ann", &group, json!({"text": "me"})).await;
    host.stored(id, &group, 2).await;
    change(json!({"action": "setName", "text": "Tea at four"})).await;
    change(json!({"action": "setDescription", "text": "bring cups"})).await;
    let upload = host
        .post("/messages/send/media", json!({"instanceId": id, "to": group, "type": "image", "base64": "aGVsbG8="}))
        .await;
    assert_eq!(upload["data"]["status"], "sent", "{upload}");
    change(json!({"action": "promote", "users": [jid(ANN)]})).await;
    let shown = until_group(&world, "the change", |group| group["subject"] == "Tea at four").await;
    let members = shown["members"].as_array().unwrap();
    assert!(members.iter().any(|member| member["phone"] == ANN.0 && member["role"] == "admin"), "{shown}");
    assert_eq!(shown["description"], "bring cups", "{shown}");
    change(json!({"action": "demote", "users": [jid(ANN)]})).await;
    let first = change(json!({"action": "getInvite"})).await;
    let fresh = change(json!({"action": "revokeInvite"})).await;
    assert_ne!(first["data"]["invite"], fresh["data"]["invite"], "{first} {fresh}");
    change(json!({"action": "remove", "users": [jid(ANN)]})).await;
    until_group(&world, "her going", |group| group["members"].as_array().unwrap().len() == 2).await;
    // Ann is let in by the link, and so are we by hers.
    people.tell("ann", "call", json!({"method": "groupAcceptInvite", "args": [code(&fresh)]})).await;
    until_group(&world, "her coming", |group| group["members"].as_array().unwrap().len() == 3).await;
    let theirs = people.tell("bob", "call", json!({"method": "groupCreate", "args": ["Cake", [jid(ANN)]]})).await;
    let theirs = theirs["id"].as_str().unwrap().to_owned();
    let invite = people.tell("bob", "call", json!({"method": "groupInviteCode", "args": [theirs]})).await;
    let joined =
        host.post(&make, json!({"invite": format!("https://chat.whatsapp.com/{}", invite.as_str().unwrap())})).await;
    assert_eq!(joined["data"]["chat"]["id"], theirs.as_str(), "{joined}");

    let space = host.post(&make, json!({"name": "Kitchen", "isSpace": true})).await;
    let space = space["data"]["chat"]["id"].as_str().unwrap().to_owned();
    let under = change(json!({"action": "setParent", "parent": space})).await;
    assert_eq!(under["data"]["chat"]["parent"], space.as_str(), "{under}");
    let inside = host.post(&make, json!({"name": "Pots", "parent": space})).await;
    assert_eq!(inside["data"]["chat"]["parent"], space.as_str(), "{inside}");
    let out = change(json!({"action": "setParent"})).await;
    assert!(out["data"]["chat"]["parent"].is_null(), "{out}");

    change(json!({"action": "leave"})).await;
    until_group(&world, "our going", |shown| {
        shown["jid"] == group.as_str()
            && shown["members"].as_array().unwrap().iter().all(|member| member["phone"] != OURS.0)
    })
    .await;
    world.host.stop().await;
}

/// The code at the end of an invitation.
fn code(answer: &Value) -> String {
    let link = answer["data"]["invite"].as_str().unwrap_or_else(|| panic!("{answer}"));
    link.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_chat_is_kept_the_phone_sees_too() {
    let Some(world) = with_phone().await else { return };
    let (host, people, id) = (&world.host, &world.people, &world.id);
    let ours = world.server.device(OURS).await;
    people.tell("phone", "shareKeys", json!({"to": ours})).await;
    // Chats are read beside each other.
    let has_key = |entry: &Value| entry["what"] == "received" && entry["stanza"]["attrs"]["type"] == "peer_msg";
    world.server.logged("that the keys have come", has_key).await;
    let key = people.send("bob", &jid(OURS), json!({"text": "keep this"})).await;
    let stored = host.stored(id, &jid(BOB), 1).await;
    let act = format!("/chats/{}/actions", stored[0]["chatId"].as_str().unwrap());
    let act = async |body: Value| host.post(&act, body).await;
    let sees = async |what: &str, seen: &dyn Fn(&Value) -> bool| {
        let seen = |said: &Value| (said["account"] == "phone" && seen(said)).then_some(());
        people.hear(what, seen).await;
    };
    act(json!({"action": "archive"})).await;
    sees("the archive", &|said| said["event"] == "chats.update" && said["what"]["archived"] == true).await;
    act(json!({"action": "pin"})).await;
    sees("the pin", &|said| said["event"] == "chats.update" && !said["what"]["pinned"].is_null()).await;
    act(json!({"action": "mute", "until": "2100-01-01T00:00:00Z"})).await;
    sees("the mute", &|said| said["event"] == "chats.update" && !said["what"]["muteEndTime"].is_null()).await;
    act(json!({"action": "star", "messageId": key["id"]})).await;
    sees("the star", &|said| said["event"] == "messages.update" && said["what"]["update"]["starred"] == true).await;
    act(json!({"action": "setDisappearing", "seconds": 86_400})).await;
    people
        .hear("the timer", |said| message(said, "bob").filter(|one| one.to_string().contains("86400")).map(|_| ()))
        .await;
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_past_is_taken_and_more_of_it_is_asked_for() {
    let Some(world) = with_phone().await else { return };
    let (host, people, id) = (&world.host, &world.people, &world.id);
    let device = world.server.device(OURS).await;
    let said = |number: u32, at: u64| {
        json!({"message": {
            "key": {"remoteJid": jid(BOB), "fromMe": false, "id": format!("OLD{number}")},
            "message": {"conversation": format!("then {number}")}, "messageTimestamp": at,
            "reactions": if number == 11 {
                json!([{"key": {"remoteJid": jid(BOB), "fromMe": true, "id": "R1"}, "text": "🌿", "senderTimestampMs": 1_767_000_500_000_u64}])
            } else { json!([]) },
        }})
    };
    let pushed: Vec<Value> = (10..13).map(|number| said(number, 1_767_000_000 + u64::from(number))).collect();
    let conversation =
        |messages: &[Value]| json!([{"id": jid(BOB), "lidJid": format!("{}@lid", BOB.1), "messages": messages}]);
    people
        .tell("phone", "history", json!({"to": device, "kind": "RECENT", "conversations": conversation(&pushed)}))
        .await;
    let there = host.stored(id, &jid(BOB), 3).await;
    let words: Vec<&str> = there.iter().map(|one| one["textContent"].as_str().unwrap()).collect();
    assert_eq!(words, ["then 10", "then 11", "then 12"]);
    assert!(there.iter().all(|one| one["source"] == "sync"), "it is no news: {there:?}");
    host.until(&format!("/messages/{}", there[1]["id"].as_str().unwrap()), |body| {
        body["data"]["reactionCounts"]["🌿"] == 1
    })
    .await;

    let job = host
        .post(&format!("/instances/{id}/sync"), json!({"type": "messages", "chatId": jid(BOB), "depth": "all"}))
        .await;
    let job =
        job["data"]["id"].as_str().or(job["data"]["jobId"].as_str()).unwrap_or_else(|| panic!("{job}")).to_owned();
    let mut before = 10;
    for _ in 0..2 {
        // What the phone is asked says before which message.
        let oldest = format!("OLD{before}");
        let asked = people
            .hear("the phone being asked", |said| {
                let asked = message(said, "phone")?;
                let request = asked
                    .pointer("/message/protocolMessage/peerDataOperationRequestMessage/historySyncOnDemandRequest")?;
                (request["oldestMsgId"] == oldest.as_str()).then(|| asked["key"]["id"].as_str().unwrap().to_owned())
            })
            .await;
        let older: Vec<Value> = if before == 10 {
            (5..10).map(|number| said(number, 1_767_000_000 + u64::from(number))).collect()
        } else {
            Vec::new()
        };
        let piece = json!({"to": device, "kind": "ON_DEMAND", "conversations": conversation(&older), "session": asked});
        people.tell("phone", "history", piece).await;
        before = 5;
    }
    host.until(&format!("/instances/{id}/sync/{job}"), |body| body["data"]["status"] == "completed").await;
    let there = host.stored(id, &jid(BOB), 8).await;
    assert_eq!(there[0]["textContent"], "then 5");
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_whatsapp_keeps_no_longer_is_asked_for_anew() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, server, people, id) = (&world.host, &world.server, &world.people, &world.id);
    let device = server.device(OURS).await;
    server.does("hold", json!({"jid": device, "on": true})).await;
    let content = json!({"image": {"base64": "b25lIHBpY3R1cmU="}, "caption": "old", "jpegThumbnail": ""});
    let sent = people.tell("bob", "send", json!({"to": jid(OURS), "content": content})).await;
    let media = server.about["media"].as_str().unwrap();
    let client = http_client(PATIENCE);
    let path = sent["message"]["imageMessage"]["directPath"].as_str().unwrap();
    let file = client.get(format!("{media}{path}")).send().await.unwrap().bytes().await.unwrap();
    client.delete(format!("{}/files", server.about["admin"].as_str().unwrap())).send().await.unwrap();
    server.does("hold", json!({"jid": device, "on": false})).await;
    // The phone is asked, and gives it again.
    server
        .logged("the receipt", |entry| {
            entry["what"] == "received" && entry["stanza"]["attrs"]["type"] == "server-error"
        })
        .await;
    let token = path.rsplit('/').next().unwrap().trim_end_matches(".enc");
    let kept = client.post(format!("{media}/mms/image/{token}?token={token}")).body(file).send().await.unwrap();
    assert!(kept.status().is_success(), "{}", kept.status());
    let answer = people.tell("bob", "anew", json!({"message": sent["key"]["id"], "path": path})).await;
    let part = |tag: &str, content: &Value| json!({"tag": tag, "attrs": {}, "content": content});
    let stanza = json!({
        "tag": "notification",
        "attrs": {"id": sent["key"]["id"], "type": "mediaretry", "from": jid(OURS), "t": "1767225600"},
        "content": [
            {"tag": "encrypt", "attrs": {}, "content": [part("enc_p", &answer["p"]), part("enc_iv", &answer["iv"])]},
            {"tag": "rmr", "attrs": {"jid": jid(BOB), "from_me": "false"}},
        ],
    });
    server.does("inject", json!({"to": device, "stanza": stanza})).await;
    let path = format!("/messages?instanceId={id}&chatId={}", jid(BOB));
    let there = host.until(&path, |body| body["items"][0]["mediaUrl"].is_string()).await;
    let url = format!("{}{}", host.url, there["items"][0]["mediaUrl"].as_str().unwrap());
    let got = client.get(url).header("x-api-key", &host.key).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(&got[..], b"one picture");
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_at_an_address_is_fetched_before_it_is_sent() {
    let film = axum::routing::get(|| async { ([("content-type", "video/mp4")], "one film") });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let there = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().route("/film.mp4", film)).await });
    let server = Server::start().await;
    let Some(people) = People::start(&server).await else { return };
    let granted = Setup { configure: |config| config.network.allow_private = vec!["127.0.0.1".into()], ..setup() };
    let Some(world) = World::with(server, people, json!({}), granted).await else { return };
    let send = async |url: &str| {
        let body = json!({"instanceId": world.id, "to": BOB.0, "type": "video", "caption": "see", "url": url});
        world.host.call(Method::POST, "/messages/send/media", Some(body)).await
    };
    let (status, sent) = send(&format!("{there}/film.mp4")).await;
    assert_eq!((status, &sent["data"]["status"]), (StatusCode::CREATED, &json!("sent")), "{sent}");
    let film = |said: &Value| {
        let film = message(said, "bob")?;
        film.pointer("/message/videoMessage/mediaKey").is_some_and(Value::is_object).then(|| film.clone())
    };
    let got = world.people.hear("the film", film).await;
    assert_eq!(got["message"]["videoMessage"]["mimetype"], "video/mp4");
    let file = world.people.tell("bob", "download", json!({"message": got["key"]["id"]})).await;
    assert_eq!(file["base64"], "b25lIGZpbG0=");
    for (url, words) in [(format!("{there}/gone"), "404"), ("http://10.255.0.1/x".to_owned(), "network.allow_private")]
    {
        let (status, refused) = send(&url).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{refused}");
        assert!(refused.to_string().contains(words), "{refused}");
    }
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_do_that_is_no_message_is_heard_too() {
    let Some(world) = World::start(json!({"rejectCalls": true})).await else { return };
    let (host, people, id, us) = (&world.host, &world.people, &world.id, jid(OURS));
    people.send("bob", &us, json!({"text": "hi"})).await;
    host.stored(id, &jid(BOB), 1).await;
    // A call is declined, and told.
    people.tell("bob", "ring", json!({"to": us, "call": "CALL1"})).await;
    people
        .hear("the call being declined", |said| {
            (said["event"] == "call" && said["account"] == "bob" && said["what"]["status"] == "reject").then_some(())
        })
        .await;
    host.until(&format!("/events?instanceId={id}"), |body| body["items"].to_string().contains("CALL1")).await;
    // A voice note that we sent is listened to.
    let voice = json!({"instanceId": id, "to": BOB.0, "type": "audio", "voiceNote": true, "base64": "T2dnUw=="});
    let sent = host.post("/messages/send/media", voice).await;
    let ours = sent["data"]["messageId"].as_str().unwrap().to_owned();
    let external = sent["data"]["externalMessageId"].as_str().unwrap().to_owned();
    people.tell("bob", "call", json!({"method": "sendReceipt", "args": [us, null, [external], "played"]})).await;
    host.until(&format!("/messages/{ours}"), |body| body["data"]["deliveryStatus"] == "read").await;
    // We are seen writing, and what was written is marked as read.
    host.post("/messages/send/presence", json!({"instanceId": id, "to": BOB.0, "type": "typing"})).await;
    people
        .hear("us writing", |said| {
            (said["event"] == "presence.update" && said["account"] == "bob" && said.to_string().contains("composing"))
                .then_some(())
        })
        .await;
    let stored = host.messages(id, &jid(BOB)).await;
    let theirs = stored.iter().find(|one| one["isFromMe"] == false).unwrap();
    host.post(&format!("/messages/{}/read", theirs["id"].as_str().unwrap()), json!({})).await;
    people
        .hear("its being read", |said| {
            let read =
                said["event"] == "messages.update" && said["account"] == "bob" && said["what"]["update"]["status"] == 4;
            read.then_some(())
        })
        .await;
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_person_by_two_addresses_has_one_chat() {
    let Some(world) = World::start(json!({})).await else { return };
    let (host, people, id) = (&world.host, &world.people, &world.id);
    let lid = |(_, lid): (&str, &str)| format!("{lid}@lid");
    people.send("bob", &jid(OURS), json!({"text": "by my number"})).await;
    people.send("bob", &lid(OURS), json!({"text": "by what I am called now"})).await;
    host.stored(id, &jid(BOB), 2).await;
    for (to, words) in
        [(lid(BOB), "to what you are called"), (jid(BOB), "to your address"), (BOB.0.to_owned(), "to your number")]
    {
        world.send(json!({"to": to, "text": words})).await;
        people.gets("bob", words).await;
    }
    host.stored(id, &jid(BOB), 5).await;
    let chats = host.get(&format!("/chats?instanceId={id}")).await;
    let with_bob = chats["items"].as_array().unwrap().iter().filter(|chat| chat["chatType"] == "dm").count();
    assert_eq!(with_bob, 1, "{chats}");
    let persons = host.get(&format!("/persons?instanceId={id}")).await;
    assert_eq!(persons["items"].as_array().unwrap().len(), 1, "{persons}");
    world.host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn status_updates_go_to_whom_they_are_for_and_come_where_they_are_wanted() {
    let Some(world) = World::start(json!({"statusUpdates": true})).await else { return };
    let (host, people, id) = (&world.host, &world.people, &world.id);
    let everybody = "status@broadcast";
    let options = json!({"statusJidList": [jid(OURS)]});
    people.tell("bob", "send", json!({"to": everybody, "content": {"text": "at the sea"}, "options": options})).await;
    let there = host.stored(id, everybody, 1).await;
    assert_eq!(there[0]["textContent"], "at the sea");
    let body = json!({"instanceId": id, "to": everybody, "text": "nobody named"});
    let (status, answer) = host.call(Method::POST, "/messages/send", Some(body)).await;
    assert!(!status.is_success() && answer.to_string().contains("statusJidList"), "{status} {answer}");
    world.send(json!({"to": everybody, "text": "in the hills", "options": {"statusJidList": [jid(BOB)]}})).await;
    let got = people.gets("bob", "in the hills").await;
    assert_eq!(got["key"]["remoteJid"], everybody, "{got}");
    // Who does not want them has none.
    let change = json!({"config": world.server.config(json!({"statusUpdates": false}))});
    let (status, answer) = host.call(Method::PATCH, &format!("/instances/{id}"), Some(change)).await;
    assert!(status.is_success(), "{answer}");
    host.until_state(id, "connected").await;
    people
        .tell("bob", "send", json!({"to": everybody, "content": {"text": "still at the sea"}, "options": options}))
        .await;
    people.send("bob", &jid(OURS), json!({"text": "did you see?"})).await;
    host.stored(id, &jid(BOB), 1).await;
    let all = host.messages(id, everybody).await;
    assert!(all.iter().all(|one| one["textContent"] != "still at the sea"), "{all:?}");
    world.host.stop().await;
}
