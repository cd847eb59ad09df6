//! What Discord is asked for, end to end: people, places, what a chat allows, an account; and what the README says, by the
//! command line.

use crate::discord_server::{Discord, TOKEN, bot, has, send, setup};
use crate::harness::{PATIENCE, TestHost, http_client};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

/// All items of a list, by pages of a size, and how many pages it has.
async fn paged(host: &TestHost, path: &str, size: usize) -> (Vec<Value>, usize) {
    let (mut items, mut pages, mut cursor) = (Vec::new(), 0, String::new());
    loop {
        let page = host.get(&format!("{path}?limit={size}{cursor}")).await;
        let more = page["items"].as_array().unwrap();
        assert!(more.len() <= size, "{page}");
        items.extend(more.iter().cloned());
        pages += 1;
        match page["meta"]["cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", next.replace('/', "%2F")),
            None => return (items, pages),
        }
        assert!(pages < 100, "it never ends");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn people_are_listed_by_pages_over_all_servers_and_looked_up_one_by_one() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let mut expected = BTreeSet::from(["Alice".to_owned(), "Olivia".to_owned()]);
    for number in 1..=5 {
        let name = format!("Person {number}");
        discord.happens("user", json!({"name": format!("person{number}"), "global_name": name})).await;
        expected.insert(name);
    }
    discord.happens("user", json!({"name": "robot", "bot": true})).await;
    let other = discord.happens("guild", json!({"name": "Other"})).await["id"].clone();
    discord.happens("user", json!({"name": "zoe", "global_name": "Zoe", "guild": other, "nick": "Zo"})).await;
    expected.insert("Zo".to_owned());
    let contacts = format!("/instances/{id}/contacts");
    for size in [3, 50] {
        let (people, pages) = paged(&host, &contacts, size).await;
        let names: BTreeSet<String> =
            people.iter().map(|person| person["displayName"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, expected, "programs are none");
        assert!(pages >= 8 / size, "{pages}");
    }
    let found = host.get(&format!("{contacts}?search=person3")).await;
    let found: Vec<&Value> = found["items"].as_array().unwrap().iter().map(|person| &person["displayName"]).collect();
    assert_eq!(found, ["Person 3"]);

    let profile = host.get(&format!("/instances/{id}/users/{}/profile", discord.user)).await;
    let data = &profile["data"];
    let shown = (&data["platformUserId"], &data["displayName"], &data["platformMetadata"]["username"]);
    assert_eq!(shown, (&json!(discord.user), &json!("Alice"), &json!("alice")));
    let (status, nobody) = host.call(Method::GET, &format!("/instances/{id}/users/17/profile"), None).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "{nobody}");
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn places_are_listed_by_pages_over_all_servers() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let home = format!("guild:{}", discord.guild);
    let mut expected = BTreeSet::from([(discord.channel.clone(), home.clone())]);
    for name in ["one", "two", "three"] {
        expected.insert((discord.channel(name).await, home.clone()));
    }
    let thread = discord.happens("thread", json!({"name": "aside"})).await["id"].as_str().unwrap().to_owned();
    expected.insert((thread, discord.channel.clone()));
    discord.happens("channel", json!({"name": "sorted", "type": "category"})).await;
    let other = discord.happens("guild", json!({"name": "Other", "channels": ["talk"]})).await;
    let talk = other["channels"][0].as_str().unwrap().to_owned();
    expected.insert((talk, format!("guild:{}", other["id"].as_str().unwrap())));
    for size in [2, 50] {
        let (places, _) = paged(&host, &format!("/instances/{id}/groups"), size).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let found: Vec<(String, String)> = places
            .iter()
            .map(|place| (text(&place["externalId"]), text(&place["platformMetadata"]["parent"])))
            .collect();
        assert_eq!(found.len(), expected.len(), "each of them once: {places:?}");
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected, "what others are sorted into is no place");
    }
    host.stop().await;
    discord.assert_by_the_book().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_chat_does_not_allow_is_known_and_refused_before_discord_is_asked() {
    let Some((host, discord, id)) = bot(&[]).await else { return };
    let quiet = discord.channel("quiet").await;
    for chat in [&discord.channel, &quiet] {
        discord.happens("say", json!({"channel": chat, "text": "hello"})).await;
        host.stored(&id, chat, 1).await;
    }
    discord.happens("permissions", json!({"channel": quiet, "deny": ["send_messages"]})).await;
    let can = async |chat: &str| {
        let found = host.get(&format!("/chats/by-external?instanceId={id}&externalId={chat}")).await;
        let path = format!("/chats/{}/capabilities", found["data"]["id"].as_str().unwrap());
        host.get(&path).await["data"].clone()
    };
    let open = can(&discord.channel).await;
    assert!(["text", "image", "poll", "buttons"].iter().all(|kind| open["send"][kind].is_object()), "{open}");
    assert_eq!((&open["reply"], open["requests"]["typing"].is_object()), (&json!(true), true), "{open}");
    let closed = can(&quiet).await;
    assert!(closed["send"].as_object().is_none_or(serde_json::Map::is_empty), "{closed}");
    assert_eq!(closed["requests"]["history"], open["requests"]["history"], "it may still read: {closed}");

    let body = json!({"instanceId": id, "to": quiet, "text": "may I?"});
    let (status, refused) = host.call(Method::POST, "/messages/send", Some(body)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refused}");
    assert!(refused.to_string().contains("takes no text"), "{refused}");
    assert_eq!(discord.asked("POST", &format!("/channels/{quiet}/")).await, Vec::<Value>::new());
    send(&host, json!({"instanceId": id, "to": discord.channel, "text": "here I may"})).await;
    host.stop().await;
    discord.assert_by_the_book().await;
}

/// The command line against a host, to be talked to while it runs.
fn command(host: &TestHost, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
    command.args(["--url", &host.url, "--data"]).arg(&host.data).args(args).env_clear().env("OMNI_API_KEY", &host.key);
    command.envs(crate::database::env_of(&host.data)).current_dir(&host.data).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for its good end; gives what it printed since.
async fn ended(running: Child) -> String {
    let done = tokio::time::timeout(PATIENCE, running.wait_with_output()).await.expect("it ends in time").unwrap();
    let words = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert!(done.status.success(), "{words}");
    words
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_readme_says_works_by_the_command_line() {
    let Some(discord) = Discord::start(&[]).await else { return };
    let host = TestHost::with(setup()).await;
    let config = format!("apiBaseUrl={}", discord.url);
    let create = ["instances", "create", "community", "--channel", "discord", "--token-stdin", "--config", &config];
    let mut create = command(&host, &create);
    create.stdin.take().unwrap().write_all(format!("{TOKEN}\n").as_bytes()).await.unwrap();
    let made = ended(create).await;
    assert!(!made.contains(TOKEN), "the token is never shown: {made}");
    host.until_state("community", "connected").await;
    let run = async |args: &[&str]| {
        let (words, done) = host.cli(args).await;
        assert!(done.success(), "{args:?}: {words}");
        words
    };
    let status = run(&["instances", "status", "community"]).await;
    assert!(status.contains("connected") && status.contains("TestBot"), "{status}");

    let mut invite = command(&host, &["instances", "login", "community", "--flow", "install"]);
    let mut lines = BufReader::new(invite.stdout.take().unwrap()).lines();
    let page = loop {
        let line = lines.next_line().await.unwrap().expect("it shows the page");
        if line.trim().starts_with(&discord.url) {
            break line.trim().to_owned();
        }
    };
    let agreed = http_client(PATIENCE).get(page).send().await.unwrap();
    assert_eq!(agreed.status(), StatusCode::OK);
    ended(invite).await;
    let joined = |event: &Value| event["payload"]["change"] == "joined" && event["payload"]["isMe"] == true;
    host.until("/events?eventType=system.membership", |list| has(list, joined)).await;

    run(&["send", "community", &discord.channel, "hello"]).await;
    let person = format!("user:{}", discord.user);
    run(&["send", "community", &person, "psst"]).await;
    let direct = discord.happens("dm", json!({})).await["channel"].as_str().unwrap().to_owned();
    for (chat, words) in [(&discord.channel, "hello"), (&direct, "psst")] {
        let there = discord.messages(chat).await;
        assert_eq!((there.len(), &there[0]["content"]), (1, &json!(words)), "{there:?}");
    }
    host.stop().await;
    discord.assert_by_the_book().await;
}
