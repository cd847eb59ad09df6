//! The server, judged by a client that this project did not write: real Baileys accounts are linked with it and talk to
//! each other through it, with the libsignal of JavaScript on both ends.
//!
//! The test command installs Baileys and says where in `OMNI_TEST_BAILEYS`; without that the tests say that they are left
//! out. Nothing here waits for time to pass: it waits for what happens.

#![expect(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

mod people;

use crate::people::{People, Server};
use serde_json::{Value, json};
use std::path::PathBuf;

const ALICE: &str = "5511999990001";
const BOB: &str = "5511999990002";

fn number(phone: &str) -> String {
    format!("{phone}@s.whatsapp.net")
}

/// A server, and Alice and Bob who are linked with it; none where Baileys is not installed.
async fn alice_and_bob() -> Option<(Server, People, Value, Value)> {
    let (server, people) = start().await?;
    let alice = people.linked(&server, "alice", ALICE).await;
    let bob = people.linked(&server, "bob", BOB).await;
    Some((server, people, alice, bob))
}

async fn start() -> Option<(Server, People)> {
    let folder = std::env::vars_os().find(|(name, _)| name == "OMNI_TEST_BAILEYS");
    let Some(folder) = folder.map(|(_, folder)| PathBuf::from(folder)) else {
        println!("left out: Baileys is not installed (OMNI_TEST_BAILEYS)");
        return None;
    };
    Some((Server::start().await, People::start(&folder)))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_accounts_write_to_each_other() {
    let Some((server, people, alice, bob)) = alice_and_bob().await else { return };
    let sent = people.says("alice", &number(BOB), "hello bob").await;
    let heard = people.hears("bob", "hello bob").await;
    assert_eq!(heard["key"]["id"], sent["key"]["id"]);
    assert_eq!(heard["pushName"], "alice");
    // The receipt comes back to the one that wrote.
    let id = sent["key"]["id"].clone();
    people
        .event("alice", "messages.update", |line| {
            line["what"]["key"]["id"] == id && line["what"]["update"]["status"] == 3
        })
        .await;
    // And by the other address, in the other direction.
    let lid = format!("{}@lid", alice["lid"].as_str().unwrap());
    people.says("bob", &lid, "hello alice").await;
    let heard = people.hears("alice", "hello alice").await;
    assert_eq!(heard["key"]["remoteJid"], format!("{}@lid", bob["lid"].as_str().unwrap()));
    assert_eq!(heard["key"]["remoteJidAlt"], number(BOB));
    people.tell("alice", "read", json!({"keys": [heard["key"]]})).await;
    server
        .logged("a read receipt", |entry| entry["what"] == "sent" && entry["stanza"]["attrs"]["type"] == "read")
        .await;
    // Reactions, edits and deletions are messages of their own.
    let key = &heard["key"];
    people.tell("alice", "send", json!({"to": lid_of(&bob), "content": {"react": {"text": "👍", "key": key}}})).await;
    people.event("bob", "messages.reaction", |line| line["what"]["reaction"]["text"] == "👍").await;
    let wrong = people.says("bob", &lid, "wrong").await;
    people.tell("bob", "send", json!({"to": lid, "content": {"text": "right", "edit": wrong["key"]}})).await;
    people.event("alice", "messages.update", |line| line.to_string().contains("right")).await;
    people.tell("bob", "send", json!({"to": lid, "content": {"delete": wrong["key"]}})).await;
    let deleted = |line: &Value| line["what"]["update"]["messageStubType"] == 1;
    people.event("alice", "messages.update", deleted).await;
}

fn lid_of(linked: &Value) -> String {
    format!("{}@lid", linked["lid"].as_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_have_keys_of_their_own_and_members_that_change() {
    let Some((server, people, ..)) = alice_and_bob().await else { return };
    people.linked(&server, "carol", "5511999990003").await;
    let members = [number(BOB)];
    let made = people.call("alice", "groupCreate", json!(["Friends", members])).await;
    let group = made["id"].as_str().unwrap().to_owned();
    assert_eq!(made["addressingMode"], "lid");
    people.event("bob", "groups.upsert", |line| line["what"]["subject"] == "Friends").await;
    people.says("alice", &group, "hello group").await;
    let heard = people.hears("bob", "hello group").await;
    assert_eq!(heard["key"]["participantAlt"], number(ALICE));
    people.says("bob", &group, "hello alice").await;
    people.hears("alice", "hello alice").await;
    // Another message of the same sender needs no keys to be handed out.
    people.says("alice", &group, "once more").await;
    people.hears("bob", "once more").await;
    let change = json!([group, ["5511999990003@s.whatsapp.net"], "add"]);
    assert_eq!(people.call("alice", "groupParticipantsUpdate", change).await[0]["status"], "200");
    people.event("carol", "group-participants.update", |line| line["what"]["action"] == "add").await;
    people.says("bob", &group, "hello carol").await;
    people.hears("carol", "hello carol").await;
    people.call("alice", "groupUpdateSubject", json!([group, "Old friends"])).await;
    people.event("bob", "groups.update", |line| line["what"]["subject"] == "Old friends").await;
    people.call("alice", "groupUpdateDescription", json!([group, "All of us"])).await;
    let seen = people.call("carol", "groupMetadata", json!([group])).await;
    assert_eq!((&seen["subject"], &seen["desc"]), (&json!("Old friends"), &json!("All of us")));
    people.call("carol", "groupLeave", json!([group])).await;
    people.event("alice", "group-participants.update", |line| line["what"]["action"] == "remove").await;
    let code = people.call("alice", "groupInviteCode", json!([group])).await;
    people.call("carol", "groupAcceptInvite", json!([code])).await;
    people.says("carol", &group, "back again").await;
    people.hears("bob", "back again").await;
    let all = server.get("groups").await;
    assert_eq!(all[0]["members"].as_array().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_go_up_and_come_down() {
    let Some((server, people, _, bob)) = alice_and_bob().await else { return };
    let file = json!({"base64": "JVBERi0xLjQKJcOkw7zDtsOf"});
    let content = json!({"document": file, "mimetype": "application/pdf", "fileName": "a.pdf"});
    people.tell("alice", "send", json!({"to": lid_of(&bob), "content": content})).await;
    let heard = people.message("bob", |message| !message["message"]["documentMessage"].is_null()).await;
    let id = &heard["key"]["id"];
    assert_eq!(people.tell("bob", "download", json!({"message": id})).await, file);
    assert_eq!(server.get("files").await.as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_comes_with_the_next_login() {
    let Some((server, people, _, bob)) = alice_and_bob().await else { return };
    let mut ids = Vec::new();
    for (round, texts) in [["before"].as_slice(), &["second", "third"], &[]].into_iter().enumerate() {
        if round > 0 {
            server.admin("drop-tcp", json!({"jid": bob["jid"]})).await;
            people.event("bob", "close", |line| line["code"] == 428).await;
        }
        for text in texts {
            ids.push(people.says("alice", &number(BOB), text).await["key"]["id"].clone());
        }
        if round > 0 {
            people.back("bob").await;
        }
        for text in texts {
            people.hears("bob", text).await;
        }
        // What was not acknowledged would come once more.
        for id in &ids {
            let receipt = |entry: &Value| entry["what"] == "received" && entry["stanza"]["tag"] == "receipt";
            server.logged("a receipt", |entry| receipt(entry) && entry["stanza"]["attrs"]["id"] == *id).await;
        }
    }
    let log = server.get("log").await;
    let entries = log["entries"].as_array().unwrap().iter().map(|entry| &entry["stanza"]);
    let kept = entries.filter(|stanza| stanza["tag"] == "message" && stanza["attrs"]["offline"].is_string());
    assert_eq!(kept.map(|stanza| stanza["attrs"]["id"].clone()).collect::<Vec<_>>(), ids[1..]);
    server.admin("nack", json!({"code": 463})).await;
    let refused = people.says("alice", &number(BOB), "refused").await;
    let id = refused["key"]["id"].clone();
    let failed = |line: &Value| line["what"]["key"]["id"] == id && line["what"]["update"]["status"] == 0;
    people.event("alice", "messages.update", failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_for_reasons() {
    let Some((server, people, alice, _)) = alice_and_bob().await else { return };
    server.admin("disconnect", json!({"jid": alice["jid"], "code": 440})).await;
    people.event("alice", "close", |line| line["code"] == 440).await;
    people.back("alice").await;
    // This one makes the client connect anew by itself.
    server.admin("disconnect", json!({"jid": alice["jid"], "code": 515})).await;
    people.event("alice", "close", |line| line["code"] == 515).await;
    people.event("alice", "open", |_| true).await;
    server.admin("disconnect", json!({"jid": alice["jid"], "code": 503})).await;
    people.event("alice", "close", |line| line["code"] == 503).await;
    people.back("alice").await;
    // And this one is for good.
    server.admin("disconnect", json!({"jid": alice["jid"], "code": 401})).await;
    people.event("alice", "close", |line| line["code"] == 401).await;
    assert_eq!(people.ordered(&json!({"do": "connect", "account": "alice"})).await["code"], 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_characters_link_an_account_and_others_do_not() {
    let Some((server, people)) = start().await else { return };
    people.open(&server, "alice", json!({})).await;
    let linked = people.tell("alice", "pairByCode", json!({"phone": ALICE, "name": "Alice"})).await;
    assert_eq!(linked["me"]["id"], format!("{ALICE}:1@s.whatsapp.net"));
    people.open(&server, "bob", json!({})).await;
    people.tell("bob", "pairByCode", json!({"phone": BOB, "typed": "AAAA-AAAA"})).await;
    server
        .logged("that the characters are wrong", |entry| entry["xml"].as_str().unwrap().contains("other characters"))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_is_a_client_too_and_its_devices_see_what_it_writes() {
    let Some((server, people)) = start().await else { return };
    people.open(&server, "phone", json!({"phone": {"phone": ALICE, "name": "Alice"}})).await;
    people.event("phone", "open", |_| true).await;
    let alice = people.linked(&server, "alice", ALICE).await;
    let bob = people.linked(&server, "bob", BOB).await;
    people.says("phone", &number(BOB), "from my phone").await;
    people.hears("bob", "from my phone").await;
    let own = people.hears("alice", "from my phone").await;
    assert_eq!((&own["key"]["fromMe"], alice["device"].as_u64()), (&json!(true), Some(1)));
    people.says("bob", &lid_of(&alice), "to both").await;
    people.hears("phone", "to both").await;
    people.hears("alice", "to both").await;
    // What the two share of settings is encrypted with a key that the phone gives.
    people.tell("phone", "shareKeys", json!({"to": alice["jid"]})).await;
    people.event("alice", "app-state-key", |_| true).await;
    people.call("alice", "chatModify", json!([{"mute": 3600}, number(BOB)])).await;
    people.event("phone", "chats.update", |line| line["what"]["muteEndTime"] == 3600).await;
    people.tell("bob", "ring", json!({"to": alice["jid"], "call": "CALL1"})).await;
    people.event("alice", "call", |line| line["what"]["status"] == "offer").await;
    people.call("alice", "rejectCall", json!(["CALL1", bob["jid"]])).await;
    people.event("bob", "call", |line| line["what"]["status"] == "reject").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_was_linked_elsewhere_is_known_by_its_keys() {
    let Some((elsewhere, people)) = start().await else { return };
    let alice = people.linked(&elsewhere, "alice", ALICE).await;
    people.tell("alice", "forget", json!({})).await;
    let server = Server::start().await;
    people.open(&server, "alice", json!({"connect": false})).await;
    assert_eq!(people.ordered(&json!({"do": "connect", "account": "alice"})).await["code"], 401, "nobody knows it yet");
    let known = people.tell("alice", "register", json!({})).await;
    assert_eq!((&known["jid"], &known["lidJid"]), (&alice["jid"], &alice["lidJid"]));
    people.back("alice").await;
    people.linked(&server, "bob", BOB).await;
    people.says("bob", &lid_of(&alice), "still you?").await;
    people.hears("alice", "still you?").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stanzas_are_held_back_come_twice_or_are_the_tests_own() {
    let Some((server, people, _, bob)) = alice_and_bob().await else { return };
    server.admin("hold", json!({"jid": bob["jid"], "on": true})).await;
    let sent = people.says("alice", &number(BOB), "held back").await;
    let id = &sent["key"]["id"];
    // Whoever sends does not wait until the server has it.
    let is_there = |entry: &Value| entry["what"] == "received" && entry["stanza"]["attrs"]["id"] == *id;
    server.logged("the message", |entry| is_there(entry) && entry["stanza"]["tag"] == "message").await;
    let stats = server.get("stats").await;
    assert!(stats["accounts"][1]["devices"][1]["queued"].as_u64().unwrap() > 0, "{stats}");
    server.admin("hold", json!({"jid": bob["jid"], "on": false})).await;
    people.hears("bob", "held back").await;
    server.admin("resend", json!({"jid": bob["jid"], "id": id})).await;
    let passkey = json!({"tag": "notification", "attrs": {"from": "s.whatsapp.net", "id": "1", "type": "passkey_prologue_request"}});
    server.admin("inject", json!({"to": bob["jid"], "stanza": passkey, "keep": true})).await;
    let acknowledged = |entry: &Value| entry["what"] == "received" && entry["stanza"]["attrs"]["id"] == "1";
    server.logged("that it was taken", acknowledged).await;
    let log = server.get("log").await;
    let came = |entry: &&Value| {
        entry["what"] == "sent" && entry["stanza"]["tag"] == "message" && entry["stanza"]["attrs"]["id"] == *id
    };
    assert_eq!(log["entries"].as_array().unwrap().iter().filter(came).count(), 2);
}
