//! What authors of plugins do, by the program itself: a project, a file, the suite, a package, a signature, and a host that
//! runs it. `OMNI_TEST_AUTHORS` is a file that brings a compiler for WASM into the environment of a shell.

use crate::harness::{PATIENCE, Setup, TestHost, built};
use omni_host::config::{Config, Trust};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

/// How long a build may take before a test gives up: tools of three languages, on a machine that builds other projects as well.
const BUILD_PATIENCE: Duration = Duration::from_secs(600);

fn environment() -> Option<PathBuf> {
    let found = std::env::vars().find(|(name, _)| name == "OMNI_TEST_AUTHORS").map(|(_, file)| PathBuf::from(file));
    if found.is_none() {
        println!("left out: OMNI_TEST_AUTHORS names no compiler");
    }
    found
}

/// Runs `omni` in a folder.
fn omni(folder: &Path, arguments: &[&str]) -> Output {
    let environment = environment().unwrap_or_else(|| "/dev/null".into());
    let mut shell = Command::new("bash");
    shell.args(["-c", r#". "$1"; shift; exec "$@""#, "omni"]).arg(environment).arg(built().join("omni"));
    shell.args(arguments).current_dir(folder).env_remove("OMNI_API_KEY");
    // One folder for all projects of a run: what they depend on is built once.
    let shared = built().join("authors");
    shell.env("CARGO_TARGET_DIR", shared).env("OMNI_SIGNING_PASSWORD", "a made-up password");
    shell.output().expect("it runs")
}

#[track_caller]
fn done(folder: &Path, arguments: &[&str]) -> String {
    let output = omni(folder, arguments);
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "omni {}: {}\n{said}", arguments.join(" "), output.status);
    said
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{error}: {} {}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    })
}

/// Begins a project in a language, builds it, and has the suite look at it.
fn made(folder: &Path, name: &str, language: &str) -> PathBuf {
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../channel-sdk");
    done(folder, &["plugins", "new", name, "--lang", language, "--sdk", sdk.to_str().unwrap()]);
    let file = format!("{name}.wasm");
    done(folder, &["plugins", "build", name, "--out", &file]);
    let transcripts = format!("{name}/tests/transcripts");
    let checked = omni(folder, &["plugins", "check", &file, "--transcripts", &transcripts, "--json"]);
    let report = report(&checked);
    assert!(checked.status.success(), "{language}: {report:#}");
    assert_eq!((report["channel"].as_str(), &report["declaredNotProved"]), (Some(name), &json!([])), "{report:#}");
    let rules = report["rules"].as_array().unwrap();
    assert!(rules.len() >= 14 && rules.iter().all(|rule| rule["outcome"] == "holds"), "{report:#}");
    folder.join(file)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_new_makes_in_rust_is_built_checked_packed_signed_and_run() {
    if environment().is_none() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    made(folder, "first-inbox", "rust");
    // The same source, as a library for this machine.
    done(folder, &["plugins", "build", "first-inbox", "--target", "native", "--out", "first-inbox.so"]);
    done(folder, &["plugins", "check", "first-inbox.so", "--transcripts", "first-inbox/tests/transcripts"]);
    // Without its transcripts nothing is proved, and nothing is broken either.
    let unproved = omni(folder, &["plugins", "check", "first-inbox.wasm", "--json"]);
    assert_eq!(unproved.status.code(), Some(7));
    assert_eq!(report(&unproved)["declaredNotProved"], json!(["event.message", "send.text"]));

    done(folder, &["plugins", "pack", "first-inbox.wasm", "--transcripts", "first-inbox/tests/transcripts"]);
    let packed = folder.join("dist/first-inbox-0.1.0.wasm");
    done(folder, &["plugins", "check", packed.to_str().unwrap()]);
    let mut sums = Command::new("sha256sum");
    sums.args(["-c", "first-inbox-0.1.0.wasm.sha256"]).current_dir(folder.join("dist"));
    assert!(sums.output().unwrap().status.success(), "the sum is the file's");
    let signed = omni(folder, &["plugins", "sign", packed.to_str().unwrap(), "--new-key", "my.key", "--json"]);
    let key = report(&signed)["publicKey"].as_str().unwrap().to_owned();
    let again = omni(folder, &["plugins", "sign", packed.to_str().unwrap(), "--new-key", "my.key"]);
    assert!(!again.status.success(), "never over another key");
    done(folder, &["plugins", "sign", packed.to_str().unwrap(), "--key", "my.key"]);

    // Where only signed plugins run, it does.
    let data = tempfile::tempdir().unwrap();
    std::fs::create_dir(data.path().join("plugins")).unwrap();
    for ending in ["", ".minisig"] {
        let name = format!("first-inbox-0.1.0.wasm{ending}");
        std::fs::copy(folder.join("dist").join(&name), data.path().join("plugins").join(&name)).unwrap();
    }
    let tune = move |config: &mut Config| {
        config.plugins.trust = Trust::Signed;
        config.plugins.keys = vec![key];
    };
    let host = TestHost::with(Setup {
        data: Some(data.path().to_owned()),
        plugins: vec![],
        tune: Some(Box::new(tune)),
        ..Setup::default()
    })
    .await;
    let shown = host.get("/plugins/first-inbox").await;
    assert_eq!(shown["data"]["status"]["state"], "loaded", "{shown}");
    assert_eq!(shown["data"]["trust"]["reason"], "signed", "{shown}");
    host.stop().await;
}

/// A server that knows two letters, and takes whatever is posted.
async fn mail_server() -> String {
    mail_server_at("127.0.0.1:0").await
}

async fn mail_server_at(address: &str) -> String {
    use axum::extract::Query;
    use axum::routing::get;
    let mail = |Query(query): Query<std::collections::HashMap<String, String>>| async move {
        let letter = |id: u64| json!({"id": id.to_string(), "from": "ann", "subject": "", "body": format!("letter {id}"), "at": 1_767_225_600_000_u64 + id});
        let after: u64 = query.get("after").and_then(|after| after.parse().ok()).unwrap_or(0);
        let mails: Vec<Value> = (after + 1..=2).map(letter).collect();
        axum::Json(json!({"mails": mails, "cursor": "2", "more": false}))
    };
    let taken = |axum::Json(sent): axum::Json<Value>| async move {
        let words = sent["body"].as_str().or(sent["text"].as_str()).unwrap_or_default();
        axum::Json(json!({"id": format!("sent {words}")}))
    };
    let app = axum::Router::new().route("/mail", get(mail).post(taken));
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    format!("http://{address}")
}

async fn host_with(file: &Path) -> TestHost {
    let data = tempfile::tempdir().unwrap().keep();
    std::fs::create_dir(data.join("plugins")).unwrap();
    std::fs::copy(file, data.join("plugins").join(file.file_name().unwrap())).unwrap();
    let setup = Setup {
        data: Some(data),
        plugins: vec![],
        public_url: Some(crate::harness::PublicUrl::Own),
        ..Setup::default()
    };
    TestHost::with(setup).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_new_makes_in_python_is_a_mailbox() {
    if environment().is_none() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let file = made(scratch.path(), "letters", "python");
    let host = host_with(&file).await;
    let address = crate::harness::free_address();
    let config = json!({"url": format!("http://{address}"), "token": "a made-up token", "everySeconds": 1});
    let id = host.instance("mine", "letters", config).await;
    // While nobody is there to be asked, it says so.
    let told = host.until_state(&id, "disconnected").await;
    assert!(told["willRetry"] == true && told["message"].as_str().is_some_and(|message| !message.is_empty()), "{told}");
    mail_server_at(&address).await;
    host.until_state(&id, "connected").await;
    host.until(&format!("/messages?instanceId={id}"), |body| {
        body["items"].as_array().is_some_and(|items| items.len() == 2)
    })
    .await;
    let sent = host.until_sent(&id, "ann", "thank you").await;
    assert_eq!(sent["data"]["externalMessageId"], "sent thank you", "{sent}");
    // It keeps where it stands: nothing comes twice after a restart.
    let host = host.restart(Setup { plugins: vec![], ..Setup::default() }).await;
    host.until_state(&id, "connected").await;
    host.until_sent(&id, "ann", "once more").await;
    let all = host.messages(&id, "ann").await;
    let texts: Vec<_> = all.iter().map(|message| message["textContent"].as_str().unwrap()).collect();
    assert_eq!(texts, ["letter 1", "letter 2", "thank you", "once more"]);
    let data = host.data.clone();
    host.stop().await;
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_new_makes_in_typescript_takes_webhooks() {
    if environment().is_none() {
        return;
    }
    use hmac::{Hmac, KeyInit, Mac};
    let scratch = tempfile::tempdir().unwrap();
    let file = made(scratch.path(), "hooks", "js");
    // The SDK's own tests come along.
    let tests = Command::new("npm").arg("test").current_dir(scratch.path().join("hooks")).output().unwrap();
    assert!(tests.status.success(), "{}", String::from_utf8_lossy(&tests.stdout));
    let host = host_with(&file).await;
    let config = json!({"secret": "a made-up secret", "replyUrl": format!("{}/mail", mail_server().await)});
    let id = host.instance("mine", "hooks", config).await;
    host.until_state(&id, "connected").await;
    let url = format!("{}/api/v2/channels/{id}/webhook", host.url);
    let post = async |body: &str, secret: &str| {
        let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(body.as_bytes());
        let signature = format!("sha256={}", hex::encode(mac.finalize().into_bytes()));
        let client = reqwest::Client::builder().timeout(PATIENCE).build().unwrap();
        client.post(&url).header("x-signature", signature).body(body.to_owned()).send().await.unwrap().status().as_u16()
    };
    let letter =
        json!({"id": "m1", "chat": "room", "from": "ann", "text": "hello", "at": 1_767_225_600_000_u64}).to_string();
    assert_eq!(post(&letter, "another secret").await, 401);
    assert_eq!(post("no JSON", "a made-up secret").await, 400);
    assert_eq!(post(&"[".repeat(100_000), "a made-up secret").await, 400);
    for _ in 0..2 {
        assert_eq!(post(&letter, "a made-up secret").await, 200);
    }
    host.settle().await;
    let all = host.messages(&id, "room").await;
    assert!(all.len() == 1 && all[0]["textContent"] == "hello", "{all:?}");
    let data = host.data.clone();
    host.stop().await;
    std::fs::remove_dir_all(data).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dev_builds_a_project_whenever_it_changes_and_shows_what_goes_through_it() {
    if environment().is_none() {
        return;
    }
    use tokio::io::{AsyncBufReadExt, BufReader};
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    done(folder, &["plugins", "new", "changing", "--lang", "js"]);
    let unreachable =
        omni(folder, &["plugins", "dev", "changing", "--url", "http://127.0.0.1:9", "--api-key", "omni_sk_x"]);
    assert_eq!(unreachable.status.code(), Some(5), "no host, and nothing was built for it");
    // A build takes longer than a server leaves a connection open on which nothing is asked.
    let configure = |config: &mut omni_host::config::Config| config.http.header_timeout_seconds = 1;
    let public_url = Some(crate::harness::PublicUrl::Own);
    let host = TestHost::with(Setup { plugins: vec![], public_url, configure, ..Setup::default() }).await;
    let mut dev = tokio::process::Command::new(built().join("omni"));
    dev.args(["plugins", "dev", "changing", "--url", &host.url, "--api-key", &host.key, "--data"]).arg(&host.data);
    dev.current_dir(folder)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true);
    let mut dev = dev.spawn().unwrap();
    let mut said = BufReader::new(dev.stderr.take().unwrap()).lines();
    let mut traffic = BufReader::new(dev.stdout.take().unwrap()).lines();
    let mut until = async |words: &str| {
        let mut all = Vec::new();
        let found = async {
            while let Some(line) = said.next_line().await.unwrap() {
                let is_found = line.contains(words);
                all.push(line);
                if is_found {
                    return true;
                }
            }
            false
        };
        let found = tokio::time::timeout(BUILD_PATIENCE, found).await;
        assert_eq!(found, Ok(true), "{words:?} does not come: {all:#?}");
    };
    until("changing 0.1.0 is loaded").await;
    until("next: omni instances create").await;
    let config = json!({"secret": "s", "replyUrl": format!("{}/mail", mail_server().await)});
    let id = host.instance("mine", "changing", config).await;
    host.until_state(&id, "connected").await;
    host.until_sent(&id, "room", "hello there").await;
    let shown = async {
        while let Some(line) = traffic.next_line().await.unwrap() {
            if line.contains("message.sent") && line.contains("mine") {
                return;
            }
        }
        panic!("the traffic has ended");
    };
    tokio::time::timeout(PATIENCE, shown).await.expect("it is shown");
    // What does not build is told, and what was there goes on; what is mended is built again.
    let source = folder.join("changing/src/channel.ts");
    let good = std::fs::read_to_string(&source).unwrap();
    std::fs::write(&source, good.replace("Promise<Started>", "Promise<Sorted>")).unwrap();
    until("it is built again when something changes").await;
    host.until_sent(&id, "room", "still there").await;
    std::fs::write(&source, good.replace("messages are posted", "post messages")).unwrap();
    until("changing 0.1.0 is ").await;
    host.until_sent(&id, "room", "and back").await;
    dev.kill().await.unwrap();
    host.stop().await;
}

#[test]
fn what_is_wrong_with_a_project_or_a_file_is_said() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let wrong = |arguments: &[&str], code: i32, told: &str| {
        let output = omni(folder, arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(code) && said.contains(told), "{arguments:?}: {} {said}", output.status);
    };
    wrong(&["plugins", "new", "Wrong_Name"], 2, "take 1 to 50 lower-case letters, digits and dashes");
    std::fs::create_dir(folder.join("there")).unwrap();
    wrong(&["plugins", "new", "there"], 1, "is there already; nothing was written");
    wrong(&["plugins", "build", "there"], 3, "is no project of a plugin");
    wrong(&["plugins", "build", "nowhere"], 3, "is no project of a plugin");
    done(folder, &["plugins", "new", "letters", "--lang", "python"]);
    wrong(&["plugins", "build", "letters", "--target", "native"], 2, "only projects in Rust");
    std::fs::write(folder.join("words.wasm"), "words").unwrap();
    for command in ["check", "pack"] {
        wrong(&["plugins", command, "words.wasm"], 1, "it is not a shared library");
        wrong(&["plugins", command, "nothing.wasm"], 3, "nothing.wasm");
    }
    wrong(&["plugins", "sign", "words.wasm", "--key", "no.key"], 3, "no.key");
    std::fs::write(folder.join("no.key"), "no key at all").unwrap();
    wrong(&["plugins", "sign", "words.wasm", "--key", "no.key"], 1, "is no secret key of minisign");
    let echo = crate::harness::plugin_file("echo");
    wrong(&["plugins", "check", echo.to_str().unwrap()], 7, "nothing of what the channel declares is proved");
    wrong(&["plugins", "check", echo.to_str().unwrap(), "--transcripts", "there"], 1, "there is no transcript");
}
