//! Which files are loaded: any, those on the list, those that are signed. Each refusal says what to do next.

use crate::harness::{Setup, TestHost, install, plugin_file};
use minisign::{KeyPair, SecretKey};
use omni_host::config::{Config, Isolation, Trust};
use serde_json::{Value, json};
use std::path::Path;

fn trusting(level: Trust, keys: Vec<String>) -> Setup {
    let tune = move |config: &mut Config| {
        config.plugins.trust = level;
        config.plugins.keys = keys;
    };
    Setup { isolation: Isolation::Process, tune: Some(Box::new(tune)), ..Setup::default() }
}

const ECHO: &str = "libomni_channel_echo.so";

fn reason(plugin: &Value) -> &str {
    assert_eq!(plugin["status"]["state"], "failed", "{plugin}");
    plugin["status"]["reason"].as_str().unwrap()
}

/// The same plugin with other bytes behind it: another content that runs as well.
fn overwrite(data: &Path, byte: u8) {
    let mut bytes = std::fs::read(plugin_file("echo")).unwrap();
    bytes.push(byte);
    std::fs::write(data.join("plugins").join(ECHO), bytes).unwrap();
}

/// A file whose manifest says another version, of the same length.
fn with_version(version: &str) -> Vec<u8> {
    let bytes = std::fs::read(plugin_file("echo")).unwrap();
    let from = format!("\"version\":\"{}\"", env!("CARGO_PKG_VERSION"));
    let to = format!("\"version\":\"{version}\"");
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
    [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listed_file_is_loaded_until_a_byte_of_it_is_another() {
    let host = TestHost::with(trusting(Trust::Listed, vec![])).await;
    let refused = host.plugin(ECHO).await;
    assert!(reason(&refused).contains("it is not on the list of trusted files"), "{refused}");
    assert!(reason(&refused).contains("run: omni plugins trust /"), "{refused}");
    assert_eq!((&refused["manifest"]["channel"], &refused["trust"]), (&json!("echo"), &Value::Null));

    let (said, done) = host.cli(&["plugins", "trust", "echo"]).await;
    assert!(done.success() && said.contains("the running host knows"), "{said}");
    let (said, _) = host.cli(&["plugins", "show", "echo"]).await;
    assert!(said.contains("loaded") && said.contains("listed"), "{said}");
    let (id, echo) = host.echo("demo").await;
    host.say(&echo, "room", "m1", "one").await;

    overwrite(&host.data, 0);
    let refused = host.plugin(ECHO).await;
    assert!(reason(&refused).contains("it is not the content that was trusted"), "{refused}");
    let status = host.until_state(&id, "disconnected").await;
    assert!(status["message"].as_str().unwrap().contains("it is not the content that was trusted"), "{status}");

    let (_, done) = host.cli(&["plugins", "trust", "--all"]).await;
    assert!(done.success());
    host.until_state(&id, "connected").await;
    host.say(&echo, "room", "m2", "two").await;
    host.settle().await;
    assert_eq!(host.messages(&id, "room").await.len(), 2);

    let (said, done) = host.cli(&["plugins", "untrust", "echo"]).await;
    assert!(done.success() && said.matches("is not trusted any more").count() == 2, "both contents: {said}");
    host.until_state(&id, "disconnected").await;
    let (said, done) = host.cli(&["plugins", "untrust", "echo"]).await;
    assert_eq!(done.code(), Some(3), "{said}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_kept_without_a_host_and_read_by_one_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    install(&data, &plugin_file("echo"));
    let offline = |args: &[&str]| {
        let done = std::process::Command::new(env!("CARGO_BIN_EXE_omni"))
            .args(["--url", "http://127.0.0.1:9", "--data"])
            .arg(&data)
            .args(args)
            .env_clear()
            .current_dir(folder.path())
            .output()
            .unwrap();
        (String::from_utf8([done.stdout, done.stderr].concat()).unwrap(), done.status.code())
    };
    let (said, code) = offline(&["plugins", "trust", "no-such-file.so"]);
    assert_eq!(code, Some(3), "{said}");
    std::fs::write(data.join("plugins/words.so"), b"words").unwrap();
    let (said, code) = offline(&["plugins", "trust", "--all"]);
    assert!(code == Some(1) && said.contains("nothing was trusted"), "{said}");
    assert!(!data.join("plugins.lock").exists());
    std::fs::remove_file(data.join("plugins/words.so")).unwrap();
    let (said, code) = offline(&["plugins", "trust", ECHO]);
    assert!(code == Some(0) && said.contains("a host that runs will see it by itself"), "{said}");

    let setup = Setup { data: Some(data.clone()), plugins: vec![], watch: true, ..trusting(Trust::Listed, vec![]) };
    let host = TestHost::with(setup).await;
    assert_eq!(host.plugin(ECHO).await["trust"], json!({"reason": "listed"}));
    // A host that nobody tells sees the list change.
    let list = data.join("plugins.lock");
    let text = std::fs::read_to_string(&list).unwrap();
    std::fs::write(&list, "version = 1\n").unwrap();
    host.until("/plugins", |body| body["items"][0]["status"]["state"] == "failed").await;
    std::fs::write(&list, "version = one\n").unwrap();
    host.until("/plugins", |body| {
        body["items"][0]["status"]["reason"].as_str().is_some_and(|reason| reason.contains("is damaged: line 1"))
    })
    .await;
    std::fs::write(&list, text).unwrap();
    host.until("/plugins", |body| body["items"][0]["status"]["state"] == "loaded").await;
    host.stop().await;
}

fn sign(host: &TestHost, bytes: &[u8], key: &SecretKey, comment: &str) {
    let signature = minisign::sign(None, key, bytes, Some(comment), None).unwrap();
    std::fs::write(host.data.join(format!("plugins/{ECHO}.minisig")), signature.into_string()).unwrap();
}

fn put(host: &TestHost, bytes: &[u8]) {
    std::fs::write(host.data.join("plugins").join(ECHO), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_file_is_loaded_and_no_other() {
    let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().unwrap();
    let stranger = KeyPair::generate_unencrypted_keypair().unwrap().sk;
    let version = env!("CARGO_PKG_VERSION");
    let host = TestHost::with(trusting(Trust::Signed, vec![pk.to_base64()])).await;
    let bytes = std::fs::read(plugin_file("echo")).unwrap();

    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("it has no signature"), "{said}");
    assert!(reason(&said).contains(&format!("-t 'channel:echo version:{version}'")), "{said}");
    sign(&host, &bytes, &stranger, "channel:echo version:0.1.0");
    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("which is not among plugins.keys"), "{said}");
    sign(&host, &bytes, &sk, "timestamp:1 file:libomni_channel_echo.so hashed");
    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("does not say which plugin and version it is for"), "{said}");
    sign(&host, &bytes, &sk, "channel:telegram version:0.1.0");
    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("its signature is for telegram 0.1.0, the file is echo"), "{said}");
    std::fs::write(host.data.join(format!("plugins/{ECHO}.minisig")), b"\xff\x00words").unwrap();
    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("cannot be read") || reason(&said).contains("is damaged"), "{said}");

    sign(&host, &bytes, &sk, &format!("timestamp:1 channel:echo version:{version}"));
    let good = host.plugin(ECHO).await;
    assert_eq!((&good["status"]["state"], &good["trust"]["reason"]), (&json!("loaded"), &json!("signed")));
    let key_id = good["trust"]["keyId"].as_str().unwrap();
    assert!(key_id.len() == 16 && key_id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{good}");
    let (listing, _) = host.cli(&["plugins", "show", "echo"]).await;
    assert!(listing.contains(&format!("signed by {key_id}")), "{listing}");

    overwrite(&host.data, 0);
    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("it is not what was signed with the key"), "{said}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_signature_is_refused_until_the_operator_says_so() {
    let KeyPair { pk, sk } = KeyPair::generate_unencrypted_keypair().unwrap();
    let keys = vec![pk.to_base64()];
    let host = TestHost::with(trusting(Trust::Signed, keys.clone())).await;
    let (old, new) = (with_version("0.0.9"), with_version("9.0.0"));
    put(&host, &new);
    sign(&host, &new, &sk, "channel:echo version:9.0.0");
    let loaded = host.plugin(ECHO).await;
    assert_eq!((&loaded["status"]["state"], &loaded["manifest"]["version"]), (&json!("loaded"), &json!("9.0.0")));

    // It is remembered over a restart, too.
    let host = host.restart(Setup { plugins: vec![], ..trusting(Trust::Signed, keys) }).await;
    put(&host, &old);
    sign(&host, &old, &sk, "channel:echo version:0.0.9");
    let said = host.plugin(ECHO).await;
    assert!(reason(&said).contains("it is for version 0.0.9, and that was 9.0.0"), "{said}");
    assert!(reason(&said).contains("omni plugins trust"), "{said}");
    let (_, done) = host.cli(&["plugins", "trust", "echo"]).await;
    assert!(done.success());
    let allowed = host.plugin(ECHO).await;
    assert_eq!((&allowed["status"]["state"], &allowed["trust"]["reason"]), (&json!("loaded"), &json!("signed")));
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_trusted_by_hash_may_run_in_the_host_and_nothing_else() {
    let setup = Setup { isolation: Isolation::Auto, ..Setup::default() };
    let host = TestHost::with(setup).await;
    let plugin = host.plugin(ECHO).await;
    assert_eq!((&plugin["home"], &plugin["trust"]), (&json!("process"), &json!({"reason": "any"})));
    // Nobody can ask for it over the API either.
    let new = json!({"name": "in", "channel": "echo", "isolation": "in-process"});
    let (status, body) = host.call(reqwest::Method::POST, "/instances", Some(new.clone())).await;
    assert_eq!(status.as_u16(), 400, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains("omni plugins trust echo"), "{body}");
    let (id, _) = host.echo("demo").await;
    let plugin = host.plugin(ECHO).await;
    assert!(plugin["process"]["pid"].is_u64(), "{plugin}");

    let (_, done) = host.cli(&["plugins", "trust", "echo"]).await;
    assert!(done.success());
    let plugin = host.plugin(ECHO).await;
    assert_eq!((&plugin["home"], &plugin["trust"]), (&json!("in-process"), &json!({"reason": "listed"})));
    // The instance moves over, and its process has nobody left.
    host.until("/plugins", |body| body["items"][0]["process"]["pid"].is_null()).await;
    host.until_state(&id, "connected").await;
    let made = host.post("/instances", new).await;
    assert_eq!(made["data"]["isolation"], "in-process", "{made}");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_with_the_program_is_trusted_like_it_and_can_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(plugin_file("echo"), folder.path().join(ECHO)).unwrap();
    let bundled = Some(folder.path().to_owned());
    let host = TestHost::with(Setup {
        bundled,
        plugins: vec![],
        isolation: Isolation::Auto,
        ..trusting(Trust::Listed, vec![])
    })
    .await;
    let plugin = host.plugin(ECHO).await;
    assert_eq!((&plugin["status"]["state"], &plugin["home"]), (&json!("loaded"), &json!("in-process")));
    assert_eq!(plugin["trust"], json!({"reason": "bundled"}));
    host.echo("demo").await;
    // One that is not trusted does not replace it; one that is does.
    let mut other = std::fs::read(plugin_file("echo")).unwrap();
    other.push(0);
    std::fs::write(host.data.join("plugins/other.so"), other).unwrap();
    assert!(reason(&host.plugin("other.so").await).contains("not on the list"));
    assert_eq!(host.plugin(ECHO).await["status"]["state"], "running");
    let (_, done) = host.cli(&["plugins", "trust", "other.so"]).await;
    assert!(done.success());
    assert!(reason(&host.plugin(ECHO).await).contains("other.so replaces it"));
    host.until("/plugins/echo", |body| body["data"]["status"]["state"] == "running").await;
    host.stop().await;
}
