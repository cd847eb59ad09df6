//! Plugin files that come, change and go while messages flow.

use crate::harness::{Setup, TestHost, free_address, install, plugin_file};
use omni_host::config::Isolation;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

const ECHO: &str = "libomni_channel_echo.so";
const FAULTY: &str = "libomni_test_channel_faulty.so";

fn state_of(plugin: &Value) -> &str {
    plugin["status"]["state"].as_str().unwrap()
}

fn watched(isolation: Isolation, plugins: Vec<&'static str>) -> Setup {
    Setup { plugins, isolation, watch: true, ..Setup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_added_replaced_and_removed_while_the_host_runs() {
    let host = TestHost::with(Setup { plugins: vec![], watch: true, ..Setup::default() }).await;
    let (status, body) = host.call(Method::POST, "/instances", Some(json!({"name": "demo", "channel": "echo"}))).await;
    assert!(status.is_client_error() || status.is_server_error(), "{status}");
    assert!(body["error"]["message"].as_str().unwrap().contains("put its file into"), "{body}");

    let file = install(&host.data, &plugin_file("echo"));
    host.until("/plugins", |body| {
        body["items"].as_array().is_some_and(|items| items.len() == 1 && state_of(&items[0]) == "loaded")
    })
    .await;
    let (id, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "one").await;

    // A new version over the old one, in place: the content differs, the instance moves over.
    let mut bytes = std::fs::read(plugin_file("echo")).unwrap();
    bytes.push(0);
    std::fs::write(&file, &bytes).unwrap();
    let hash = {
        use sha2::{Digest, Sha256};
        hex::encode(Sha256::digest(&bytes))
    };
    host.until("/plugins", |body| {
        body["items"][0]["sha256"] == json!(hash) && state_of(&body["items"][0]) == "running"
    })
    .await;
    host.until_state(&id, "connected").await;
    host.say(&echo, "room", "m1", "one").await;
    host.say(&echo, "room", "m2", "two").await;
    host.settle().await;
    assert_eq!(host.messages(&id, "room").await.len(), 2);

    std::fs::remove_file(&file).unwrap();
    let status = host.until_state(&id, "disconnected").await;
    assert!(status.to_string().contains("put its file into"), "{status}");
    host.stop().await;
}

/// Puts another content of the echo plugin there, as `cp` does or as `mv` does, and gives its hash.
fn put(file: &Path, byte: u8, in_place: bool) -> String {
    let mut bytes = std::fs::read(plugin_file("echo")).unwrap();
    bytes.push(byte);
    if in_place {
        std::fs::write(file, &bytes).unwrap();
    } else {
        let beside = file.with_extension("part");
        std::fs::write(&beside, &bytes).unwrap();
        std::fs::set_permissions(&beside, PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::rename(&beside, file).unwrap();
    }
    hex::encode(Sha256::digest(&bytes))
}

/// Writes to the channel until it is told to stop, each message as often as it takes; gives back how many.
async fn write_in(echo: String, stop: Arc<AtomicBool>) -> usize {
    let client = reqwest::Client::new();
    let mut written = 0;
    while !stop.load(Ordering::Relaxed) {
        let id = format!("m{written}");
        let body = json!({"chatId": "in", "from": "ann", "externalId": id, "text": id});
        let mut again = tokio::time::interval(Duration::from_millis(5));
        loop {
            again.tick().await;
            // Refused or cut off: a network comes again with the same.
            if let Ok(answer) = client.post(&echo).json(&body).send().await
                && answer.status() == StatusCode::OK
            {
                break;
            }
        }
        written += 1;
    }
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_over_under_load_without_losing_or_repeating_anything() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = Arc::new(TestHost::with(watched(isolation, vec!["echo"])).await);
        let (id, echo) = host.echo("demo").await;
        let stop = Arc::new(AtomicBool::new(false));
        let incoming = tokio::spawn(write_in(echo, Arc::clone(&stop)));
        let (sender, instance, until) = (Arc::clone(&host), id.clone(), Arc::clone(&stop));
        let outgoing = tokio::spawn(async move {
            let mut accepted = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let text = format!("o{}", accepted.len());
                let body = json!({"instanceId": instance, "to": "out", "text": text});
                let (status, answer) = sender.call(Method::POST, "/messages/send", Some(body)).await;
                if status.is_success() {
                    accepted.push(answer["data"]["messageId"].as_str().unwrap().to_owned());
                }
            }
            accepted
        });
        let file = host.data.join("plugins").join(ECHO);
        for round in 0..5_u8 {
            let hash = put(&file, round, round % 2 == 0);
            host.until("/plugins", |body| {
                body["items"][0]["sha256"] == json!(hash) && state_of(&body["items"][0]) == "running"
            })
            .await;
        }
        stop.store(true, Ordering::Relaxed);
        let (written, accepted) = (incoming.await.unwrap(), outgoing.await.unwrap());
        assert!(written > 5 && accepted.len() > 1, "messages flowed: {written} in, {} out", accepted.len());
        host.settle().await;
        let texts: Vec<Value> =
            host.messages(&id, "in").await.iter().map(|message| message["textContent"].clone()).collect();
        assert_eq!(texts, (0..written).map(|n| json!(format!("m{n}"))).collect::<Vec<_>>());
        for message in &accepted {
            let path = format!("/messages/{message}");
            host.until(&path, |body| body["data"]["deliveryStatus"] == "sent").await;
        }
        assert_eq!(host.messages(&id, "out").await.len(), accepted.len());
        Arc::into_inner(host).unwrap().stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_over_a_good_one_does_not_take_its_instances_away() {
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let host = TestHost::with(Setup { isolation, ..Setup::default() }).await;
        let (id, echo) = host.echo("demo").await;
        let file = host.data.join("plugins").join(ECHO);
        let good = std::fs::read(&file).unwrap();
        std::fs::write(&file, &good[..good.len() / 2]).unwrap();
        let plugin = host.plugin(ECHO).await;
        assert_eq!(state_of(&plugin), "failed");
        let reason = plugin["status"]["reason"].as_str().unwrap();
        assert!(reason.contains("cut off") && reason.contains("its instances go on with version"), "{reason}");
        host.say(&echo, "room", "m1", "on the old one").await;
        // It can even be started again.
        host.post(&format!("/instances/{id}/restart"), json!({})).await;
        host.until_state(&id, "connected").await;
        std::fs::write(&file, &good).unwrap();
        assert_eq!(state_of(&host.plugin(ECHO).await), "running");
        host.say(&echo, "room", "m2", "on the new one").await;
        // A file that strangers may change is another matter: nobody knows what it does.
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o777)).unwrap();
        assert_eq!(state_of(&host.plugin(ECHO).await), "failed");
        let status = host.until_state(&id, "disconnected").await;
        assert!(status["message"].as_str().unwrap().contains("chmod o-w"), "{status}");
        host.settle().await;
        assert_eq!(host.messages(&id, "room").await.len(), 2);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_file_with_the_id_does_not_take_the_first_ones_instances_away() {
    let host = TestHost::start().await;
    let (id, echo) = host.echo("demo").await;
    put(&host.data.join("plugins/another.so"), 0, false);
    let second = host.plugin("another.so").await;
    assert!(second["status"]["reason"].as_str().unwrap().contains("several files have the channel id"), "{second}");
    assert!(second["status"]["reason"].as_str().unwrap().contains("keep one"), "{second}");
    assert_eq!(state_of(&host.plugin(ECHO).await), "running");
    host.say(&echo, "room", "m1", "not disturbed").await;
    // The first goes: the second is the only one now, and takes over.
    std::fs::remove_file(host.data.join("plugins").join(ECHO)).unwrap();
    host.plugin("another.so").await;
    host.until("/plugins", |body| state_of(&body["items"][0]) == "running").await;
    host.until_state(&id, "connected").await;
    host.stop().await;
}

/// The faulty plugin as one that knows this version of what it keeps.
fn knows(version: u8) -> Vec<u8> {
    let mut bytes = std::fs::read(plugin_file("faulty")).unwrap();
    let from = b"\"stateVersion\": 2";
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at + from.len() - 1] = b'0' + version;
    bytes
}

/// Has a faulty instance take a message, which it remembers, and says what it remembers then.
async fn remember(host: &TestHost, id: &str, text: &str) {
    let address = host.get(&format!("/instances/{id}")).await["data"]["config"]["listen"].as_str().unwrap().to_owned();
    let body = json!({"chatId": "room", "from": "ann", "externalId": text, "text": text});
    let answer = reqwest::Client::new().post(format!("http://{address}")).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
}

async fn remembered(host: &TestHost, id: &str) -> String {
    let address = host.get(&format!("/instances/{id}")).await["data"]["config"]["listen"].as_str().unwrap().to_owned();
    let told: Value = reqwest::get(format!("http://{address}")).await.unwrap().json().await.unwrap();
    told["last"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_file_over_newer_state_is_refused_and_there_are_two_ways_on() {
    let host = TestHost::with(Setup { plugins: vec![], ..Setup::default() }).await;
    let file = install(&host.data, &plugin_file("faulty"));
    std::fs::write(&file, knows(1)).unwrap();
    host.plugin(FAULTY).await;
    let id = host.instance("state", "faulty", json!({"listen": free_address()})).await;
    host.until_state(&id, "connected").await;
    remember(&host, &id, "old").await;

    // A newer one comes and changes what is kept; then the older one is put back.
    std::fs::write(&file, knows(2)).unwrap();
    host.plugin(FAULTY).await;
    host.until("/plugins/faulty", |body| body["data"]["status"]["state"] == "running").await;
    host.until_state(&id, "connected").await;
    assert_eq!(remembered(&host, &id).await, "old");
    remember(&host, &id, "new").await;
    std::fs::write(&file, knows(1)).unwrap();
    assert_ne!(state_of(&host.plugin(FAULTY).await), "failed", "the file is good");
    let status = host.until_state(&id, "disconnected").await;
    let message = status["message"].as_str().unwrap();
    assert!(message.contains("is of version 2, this plugin knows 1; put the newer plugin file back"), "{status}");
    assert!(message.ends_with("omni instances restore-state state"), "{status}");
    assert_eq!(status["willRetry"], false, "{status}");

    // The first way: the newer file.
    std::fs::write(&file, knows(2)).unwrap();
    host.plugin(FAULTY).await;
    host.until_state(&id, "connected").await;
    assert_eq!(remembered(&host, &id).await, "new", "nothing was lost");
    let (told, done) = host.cli(&["instances", "restore-state", "state", "--yes"]).await;
    assert!(!done.success() && told.contains("there is nothing older to go back to"), "{told}");

    // The second: what was kept before.
    std::fs::write(&file, knows(1)).unwrap();
    host.plugin(FAULTY).await;
    host.until_state(&id, "disconnected").await;
    let (told, done) = host.cli(&["instances", "restore-state", "state", "--yes"]).await;
    assert!(done.success(), "{told}");
    host.until_state(&id, "connected").await;
    assert_eq!(remembered(&host, &id).await, "old");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_whose_caller_has_gone_is_not_left_half_done() {
    let host = TestHost::with(Setup { plugins: vec!["faulty"], ..Setup::default() }).await;
    // Its stop never ends, so that the change takes as long as a stop may take.
    let id = host.instance("slow", "faulty", json!({"mode": "stop-never"})).await;
    host.until_state(&id, "connected").await;
    let body = json!({"config": {"mode": "", "reconcile": "sent"}}).to_string();
    let address = host.url.strip_prefix("http://").unwrap();
    let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "PATCH /api/v2/instances/{id} HTTP/1.1\r\nhost: {address}\r\nx-api-key: {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        host.key,
        body.len()
    );
    caller.write_all(request.as_bytes()).await.unwrap();
    // It is in the middle of it: written, and the instance is being ended.
    host.until(&format!("/instances/{id}"), |body| body["data"]["config"]["reconcile"] == "sent").await;
    drop(caller);
    host.until_sent(&id, "room", "fine").await;
    host.stop().await;
}
