//! A WhatsApp server of the project's own (`plugins/whatsapp/tests/server`), and people who talk to it by npm `baileys`: a
//! client, with a Signal library, that others wrote. Each test has both as processes of its own.
//!
//! The test command installs Baileys and says where in `OMNI_TEST_BAILEYS`; without that the tests say that they are left out.

use crate::harness::{PATIENCE, Setup, TestHost, built, http_client};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Mutex, oneshot, watch};

/// The account that the instance has, and the one that writes with it.
pub const OURS: (&str, &str) = ("5511999990001", "100000000000001");
pub const BOB: (&str, &str) = ("5511999990002", "100000000000002");
pub const ANN: (&str, &str) = ("5511999990003", "100000000000003");

/// Where Baileys is installed, if it is.
pub fn baileys() -> Option<PathBuf> {
    let folder = std::env::vars().find(|(name, _)| name == "OMNI_TEST_BAILEYS");
    if folder.is_none() {
        println!("left out: baileys is not installed (OMNI_TEST_BAILEYS)");
    }
    folder.map(|(_, folder)| PathBuf::from(folder))
}

/// A running server; it ends with this value.
pub struct Server {
    /// What it said of itself.
    pub about: Value,
    client: reqwest::Client,
    _process: Child,
}

impl Server {
    pub async fn start() -> Self {
        let program = built().join("omni-test-whatsapp-server");
        assert!(program.exists(), "{} is not built; run: cargo build --workspace", program.display());
        let mut process = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the server starts");
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the server starts in time");
        let about = serde_json::from_str(&first.unwrap().expect("the server says where it is")).unwrap();
        Self { about, client: http_client(PATIENCE), _process: process }
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.about["admin"].as_str().unwrap())
    }

    /// Asks it to do something.
    pub async fn does(&self, what: &str, how: Value) -> Value {
        let answer = self.client.post(self.url(what)).json(&how).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{what} {how}: {status} {body}");
        body
    }

    /// Looks at something.
    pub async fn look(&self, what: &str) -> Value {
        self.client.get(self.url(what)).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until a line of what was said is what was waited for; gives it.
    pub async fn logged(&self, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut after = 0;
        while began.elapsed() < PATIENCE {
            let new = self.look(&format!("log?after={after}&waitMs=1000")).await;
            let new = new["entries"].as_array().unwrap();
            if let Some(found) = new.iter().find(|entry| seen(entry)) {
                return found.clone();
            }
            after = new.last().and_then(|entry| entry["number"].as_u64()).unwrap_or(after);
        }
        panic!("{what} was never said");
    }

    /// The address of the linked device of an account.
    pub async fn device(&self, (phone, _): (&str, &str)) -> String {
        let stats = self.look("stats").await;
        let account = stats["accounts"].as_array().unwrap().iter().find(|account| account["phone"] == phone);
        let devices = account.and_then(|account| account["devices"].as_array()).unwrap_or_else(|| panic!("{stats}"));
        let linked = devices.iter().find(|device| device["device"] != 0).unwrap_or_else(|| panic!("{stats}"));
        linked["jid"].as_str().unwrap().to_owned()
    }

    /// The configuration of an instance that talks to it.
    pub fn config(&self, more: Value) -> Value {
        let mut config = json!({
            "webSocketUrl": self.about["webSocketUrl"],
            "mediaUrl": self.about["media"],
            "serverCertChain": self.about["serverCertChain"],
            "pacing": {"perMinute": 0},
        });
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }
}

/// People, in a process of their own.
pub struct People {
    input: Mutex<ChildStdin>,
    waiting: Arc<std::sync::Mutex<HashMap<u64, oneshot::Sender<Value>>>>,
    heard: watch::Receiver<Vec<Value>>,
    next: std::sync::atomic::AtomicU64,
    about: Value,
    folder: tempfile::TempDir,
    _process: Child,
}

impl People {
    /// Starts them, when Baileys is installed.
    pub async fn start(server: &Server) -> Option<Self> {
        let tools = baileys()?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/whatsapp/tests/peer/peer.mjs");
        let mut process = Command::new("node")
            .arg(script)
            .env("OMNI_TEST_BAILEYS", tools)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("node starts");
        let input = Mutex::new(process.stdin.take().expect("it is piped"));
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let waiting: Arc<std::sync::Mutex<HashMap<u64, oneshot::Sender<Value>>>> = Arc::default();
        let (tell, heard) = watch::channel(Vec::new());
        let answers = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let said: Value = serde_json::from_str(&line).expect("people speak JSON");
                match said["id"].as_u64().and_then(|id| answers.lock().unwrap().remove(&id)) {
                    Some(answer) => drop(answer.send(said)),
                    None => tell.send_modify(|all| all.push(said)),
                }
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let next = std::sync::atomic::AtomicU64::new(1);
        Some(Self { input, waiting, heard, next, about: server.about.clone(), folder, _process: process })
    }

    /// Where the keys of an account lie.
    pub fn folder(&self, account: &str) -> PathBuf {
        self.folder.path().join(account)
    }

    /// Tells somebody to do something.
    pub async fn tell(&self, account: &str, what: &str, how: Value) -> Value {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut order = json!({"id": id, "do": what, "account": account});
        order.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap().insert(id, answer);
        self.input.lock().await.write_all(format!("{order}\n").as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, answered).await.unwrap_or_else(|_| panic!("{order}: no answer"));
        let answer = answer.expect("the process lives");
        assert!(answer["error"].is_null(), "{order}: {answer}");
        answer["done"].clone()
    }

    /// Makes somebody known, with what more is said of them.
    pub async fn open(&self, name: &str, more: Value) {
        let about = &self.about;
        let mut place = json!({
            "folder": self.folder(name), "url": about["webSocketUrl"], "rootPublicKey": about["rootPublicKey"],
            "admin": about["admin"],
        });
        place.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.tell(name, "open", place).await;
    }

    /// Somebody who has linked a device to an account and is connected.
    pub async fn join(&self, name: &str, (phone, lid): (&str, &str)) {
        self.open(name, json!({})).await;
        self.tell(name, "pair", json!({"phone": phone, "lid": lid, "name": name})).await;
    }

    /// Somebody sends something; gives the message's key.
    pub async fn send(&self, name: &str, to: &str, content: Value) -> Value {
        self.tell(name, "send", json!({"to": to, "content": content})).await["key"].clone()
    }

    /// Waits until something that was heard is what was waited for.
    pub async fn hear<T>(&self, what: &str, seen: impl Fn(&Value) -> Option<T>) -> T {
        let mut heard = self.heard.clone();
        let began = Instant::now();
        loop {
            if let Some(found) = heard.borrow_and_update().iter().find_map(&seen) {
                return found;
            }
            let left = PATIENCE.saturating_sub(began.elapsed());
            if tokio::time::timeout(left.max(Duration::from_millis(1)), heard.changed()).await.is_err() {
                let last: Vec<String> = heard.borrow().iter().rev().take(8).map(ToString::to_string).collect();
                panic!("{what} was never heard; the last of what was: {last:#?}");
            }
        }
    }

    /// Waits until somebody gets a message with these words; gives it.
    pub async fn gets(&self, name: &str, words: &str) -> Value {
        self.hear(&format!("{name} getting {words:?}"), |said| {
            message(said, name).filter(|message| text_of(&message["message"]) == Some(words)).cloned()
        })
        .await
    }

    /// How many messages with these words somebody got.
    pub fn count(&self, name: &str, words: &str) -> usize {
        let heard = self.heard.borrow();
        let messages = heard.iter().filter_map(|said| message(said, name));
        messages.filter(|message| text_of(&message["message"]) == Some(words)).count()
    }

    /// The files of an account's folder, as an import wants them.
    pub fn files(&self, name: &str) -> BTreeMap<String, String> {
        let entries = std::fs::read_dir(self.folder(name)).unwrap();
        entries
            .map(|entry| {
                let entry = entry.unwrap();
                let content = STANDARD.encode(std::fs::read(entry.path()).unwrap());
                (entry.file_name().into_string().unwrap(), content)
            })
            .collect()
    }
}

/// The message, if something that was heard is one that somebody got.
pub fn message<'a>(said: &'a Value, name: &str) -> Option<&'a Value> {
    (said["event"] == "message" && said["account"] == name).then(|| &said["what"])
}

/// The words of a message as Baileys shows it.
pub fn text_of(message: &Value) -> Option<&str> {
    let places = [
        "/conversation",
        "/extendedTextMessage/text",
        "/imageMessage/caption",
        "/documentWithCaptionMessage/message/documentMessage/caption",
    ];
    places.iter().find_map(|place| message.pointer(place)?.as_str())
}

/// How a host with the plugin is started.
pub fn setup() -> Setup {
    Setup { plugins: vec!["whatsapp"], ..Setup::default() }
}

/// The JID of an account's phone number.
pub fn jid((phone, _): (&str, &str)) -> String {
    format!("{phone}@s.whatsapp.net")
}

/// Everything that a test of the channel needs: a server, people (Bob is among them), and a host with a connected instance whose
/// account was linked by Baileys and taken over.
pub struct World {
    pub host: TestHost,
    pub server: Server,
    pub people: People,
    pub id: String,
}

impl World {
    /// The instance has more in its configuration than where the server is.
    pub async fn start(config: Value) -> Option<Self> {
        let server = Server::start().await;
        let people = People::start(&server).await?;
        Self::with(server, people, config, setup()).await
    }

    /// The same, on a server where people are already, with a host as it is asked for.
    pub async fn with(server: Server, people: People, config: Value, setup: Setup) -> Option<Self> {
        people.join("ours", OURS).await;
        people.join("bob", BOB).await;
        let host = TestHost::with(setup).await;
        let id = take_over(&host, &server, &people, config).await;
        Some(Self { host, server, people, id })
    }

    /// Sends by the API; the answer says that it was sent.
    pub async fn send(&self, body: Value) -> Value {
        let mut body = body;
        body["instanceId"] = json!(self.id);
        let sent = self.host.post("/messages/send", body).await;
        assert_eq!(sent["data"]["status"], "sent", "{sent}");
        sent
    }
}

/// People of whom Baileys has linked `ours`, the account that is taken over, and Bob.
pub async fn ours_and_bob(server: &Server) -> Option<People> {
    let people = People::start(server).await?;
    people.join("ours", OURS).await;
    people.join("bob", BOB).await;
    Some(people)
}

/// Makes an instance, gives it the account of `ours`, which Baileys lets go, and connects it.
pub async fn take_over(host: &TestHost, server: &Server, people: &People, config: Value) -> String {
    take_over_from(host, server, people, "ours", config).await
}

/// The same with the account of anybody.
pub async fn take_over_from(host: &TestHost, server: &Server, people: &People, who: &str, config: Value) -> String {
    people.tell(who, "forget", json!({})).await;
    let new = json!({"name": who, "channel": "whatsapp-baileys", "config": server.config(config), "connect": false});
    let made = host.post("/instances", new).await;
    let id = made["data"]["id"].as_str().unwrap().to_owned();
    let body = json!({"source": "baileys", "files": people.files(who)});
    let report =
        host.post(&format!("/instances/{id}/auth-import?sourceStopped=true&allowMissingKeys=true"), body).await;
    assert_eq!(report["data"]["paired"], true, "{report}");
    assert_eq!(report["data"]["skipped"], json!([]), "{report}");
    host.post(&format!("/instances/{id}/connect"), json!({})).await;
    host.until_state(&id, "connected").await;
    id
}
