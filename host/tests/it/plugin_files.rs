//! Files in the plugins folder: each that cannot be used says why, and harms nothing else.

use crate::harness::{Setup, TestHost, install, plugin_file};
use reqwest::Method;
use serde_json::{Value, json};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

async fn reason(host: &TestHost, file: &str) -> String {
    host.call(Method::POST, "/plugins/rescan", Some(json!({}))).await;
    let plugins = host.get("/plugins").await;
    let items = plugins["items"].as_array().unwrap();
    let found = items
        .iter()
        .find(|plugin| plugin["file"].as_str().unwrap().ends_with(file))
        .unwrap_or_else(|| panic!("{file} is not among {items:?}"));
    let state = state_of(found);
    assert_eq!(state, "failed", "{found}");
    found["status"]["reason"].as_str().unwrap().to_owned()
}

fn state_of(plugin: &Value) -> &str {
    plugin["status"]["state"].as_str().unwrap()
}

fn write(host: &TestHost, name: &str, bytes: &[u8]) {
    let file = host.data.join("plugins").join(name);
    std::fs::write(&file, bytes).unwrap();
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_file_says_what_is_wrong_and_the_good_one_goes_on() {
    let host = TestHost::start().await;
    let (id, echo) = host.echo("demo").await;
    let good = std::fs::read(plugin_file("telegram")).unwrap();

    write(&host, "empty.so", b"");
    assert!(reason(&host, "empty.so").await.contains("empty"));
    write(&host, "words.so", b"this is not a library at all");
    assert!(reason(&host, "words.so").await.contains("not a shared library"));
    for length in [4, 10, 100, 1_000, good.len() / 2, good.len() - 1] {
        write(&host, "cut.so", &good[..length]);
        let why = reason(&host, "cut.so").await;
        assert!(why.contains("cut off") || why.contains("not a 64-bit") || why.contains("damaged"), "{length}: {why}");
    }
    std::fs::remove_file(host.data.join("plugins/cut.so")).unwrap();
    let mut other_machine = good.clone();
    other_machine[18..20].copy_from_slice(&183u16.to_le_bytes());
    write(&host, "arm.so", &other_machine);
    assert!(reason(&host, "arm.so").await.contains("built for aarch64"));
    let libc = std::fs::read_to_string("/proc/self/maps").unwrap();
    let libc = libc.lines().filter_map(|line| line.split_whitespace().nth(5)).find(|path| path.ends_with("libc.so.6"));
    write(&host, "libc.so", &std::fs::read(libc.unwrap()).unwrap());
    assert!(reason(&host, "libc.so").await.contains("no channel plugin"));
    let replaced = |from: &[u8], to: &[u8]| {
        assert_eq!(from.len(), to.len());
        let at = good.windows(from.len()).position(|window| window == from).unwrap();
        let mut bytes = good.clone();
        bytes[at..at + to.len()].copy_from_slice(to);
        bytes
    };
    write(&host, "sdk.so", &replaced(b"\"sdk\":\"1.", b"\"sdk\":\"2."));
    assert!(reason(&host, "sdk.so").await.contains("needs a newer host"));
    write(&host, "sdk.so", &replaced(b"\"sdk\":\"1.", b"\"sdk\":\"0."));
    assert!(reason(&host, "sdk.so").await.contains("rebuild it"));
    write(&host, "abort.so", &replaced(b"\"panic\":\"unwind\"", b"\"panic\":\"abortt\""));
    assert!(reason(&host, "abort.so").await.contains("panic"));
    write(&host, "json.so", &replaced(b"{\"manifest\":1,", b"[\"manifest\":1,"));
    assert!(reason(&host, "json.so").await.contains("manifest"));

    host.say(&echo, "room", "m1", "still here").await;
    host.settle().await;
    assert_eq!(host.messages(&id, "room").await.len(), 1);
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_strangers_may_change_is_refused() {
    let host = TestHost::start().await;
    let file = install(&host.data, &plugin_file("telegram"));
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o777)).unwrap();
    assert!(reason(&host, "libomni_channel_telegram.so").await.contains("chmod o-w"));
    std::fs::remove_file(&file).unwrap();
    symlink(plugin_file("telegram"), host.data.join("plugins/link.so")).unwrap();
    assert!(reason(&host, "link.so").await.contains("out of the plugins folder"));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_files_with_one_id_are_both_refused_and_one_twice_is_one() {
    let host = TestHost::start().await;
    let bytes = std::fs::read(plugin_file("telegram")).unwrap();
    write(&host, "a.so", &bytes);
    write(&host, "b.so", &bytes);
    assert!(reason(&host, "b.so").await.contains("same file as"));
    let mut changed = bytes.clone();
    changed.push(0);
    write(&host, "b.so", &changed);
    for file in ["a.so", "b.so"] {
        let why = reason(&host, file).await;
        assert!(why.contains("a.so") && why.contains("b.so"), "{why}");
    }
    std::fs::remove_file(host.data.join("plugins/b.so")).unwrap();
    host.call(Method::POST, "/plugins/rescan", Some(json!({}))).await;
    let plugins = host.get("/plugins").await;
    let a = plugins["items"].as_array().unwrap().iter().find(|plugin| ends_with(plugin, "a.so")).unwrap().clone();
    assert_eq!(state_of(&a), "loaded");
    host.stop().await;
}

fn ends_with(plugin: &Value, name: &str) -> bool {
    Path::new(plugin["file"].as_str().unwrap()).file_name().is_some_and(|file| file == name)
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
