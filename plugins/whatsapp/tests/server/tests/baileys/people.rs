//! The two processes: the server, and the people, who are Baileys.

use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Mutex;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(60);

/// The server's process.
pub struct Server {
    first: Value,
    client: reqwest::Client,
    _process: Child,
}

impl Server {
    pub async fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_omni-test-whatsapp-server"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap();
        Self { first: serde_json::from_str(&first).unwrap(), client, _process: process }
    }

    pub fn said(&self, name: &str) -> &str {
        self.first[name].as_str().unwrap()
    }

    pub async fn admin(&self, path: &str, body: Value) -> Value {
        let answer = self.client.post(format!("{}/{path}", self.said("admin"))).json(&body).send().await.unwrap();
        let status = answer.status();
        let answer: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{path} {body}: {status} {answer}");
        answer
    }

    pub async fn get(&self, path: &str) -> Value {
        self.client.get(format!("{}/{path}", self.said("admin"))).send().await.unwrap().json().await.unwrap()
    }

    /// Waits until a line is in the log.
    pub async fn logged(&self, what: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut after = 0;
        loop {
            let new = self.get(&format!("log?after={after}&waitMs=5000")).await;
            for entry in new["entries"].as_array().unwrap() {
                after = entry["number"].as_u64().unwrap();
                if seen(entry) {
                    return entry.clone();
                }
            }
            assert!(began.elapsed() < PATIENCE, "the log never had {what}");
        }
    }
}

/// The people's process.
pub struct People {
    input: Mutex<ChildStdin>,
    output: Mutex<Output>,
    last: AtomicU64,
    folder: tempfile::TempDir,
    _process: Child,
}

struct Output {
    lines: Lines<BufReader<ChildStdout>>,
    /// What was said and not waited for yet.
    said: Vec<Value>,
}

impl People {
    pub fn start(baileys: &Path) -> Self {
        let mut process = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../peer/peer.mjs"))
            .env("OMNI_TEST_BAILEYS", baileys)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Self {
            input: Mutex::new(process.stdin.take().unwrap()),
            output: Mutex::new(Output { lines, said: Vec::new() }),
            last: AtomicU64::new(0),
            folder: tempfile::tempdir().unwrap(),
            _process: process,
        }
    }

    /// Waits for a line, and takes it.
    pub async fn said<T>(&self, what: &str, seen: impl Fn(&Value) -> Option<T>) -> T {
        let output = &mut *self.output.lock().await;
        if let Some((place, found)) =
            output.said.iter().enumerate().find_map(|(place, line)| Some((place, seen(line)?)))
        {
            output.said.remove(place);
            return found;
        }
        let began = Instant::now();
        loop {
            let left = PATIENCE.saturating_sub(began.elapsed());
            let Ok(line) = timeout(left, output.lines.next_line()).await else {
                panic!("nobody ever said {what}; but: {}", Value::from(output.said.clone()));
            };
            let line: Value = serde_json::from_str(&line.unwrap().expect("they are still there")).unwrap();
            match seen(&line) {
                Some(found) => return found,
                None => output.said.push(line),
            }
        }
    }

    pub async fn ordered(&self, order: &Value) -> Value {
        let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let mut line = order.clone();
        line["id"] = id.into();
        self.input.lock().await.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.said(&format!("the answer to {order}"), |line| (line["id"] == id).then(|| line.clone())).await
    }

    /// Tells somebody to do something, and waits until it is done.
    pub async fn tell(&self, account: &str, what: &str, mut how: Value) -> Value {
        how["do"] = what.into();
        how["account"] = account.into();
        let answer = self.ordered(&how).await;
        assert!(answer.get("error").is_none(), "{how}: {answer}");
        answer["done"].clone()
    }

    /// Waits for something that happens to somebody.
    pub async fn event(&self, account: &str, event: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let this = |line: &Value| line["account"] == account && line["event"] == event && seen(line);
        self.said(&format!("{event} of {account}"), |line| this(line).then(|| line.clone())).await
    }

    /// Waits for a message, found by a part of it, and takes it.
    pub async fn message(&self, account: &str, seen: impl Fn(&Value) -> bool) -> Value {
        self.event(account, "message", |line| seen(&line["what"])).await["what"].clone()
    }

    /// Waits for a text.
    pub async fn hears(&self, account: &str, text: &str) -> Value {
        self.message(account, |message| text_of(message) == Some(text)).await
    }

    pub async fn says(&self, account: &str, to: &str, text: &str) -> Value {
        self.tell(account, "send", json!({"to": to, "content": {"text": text}})).await
    }

    /// Makes somebody known, without keys.
    pub async fn open(&self, server: &Server, account: &str, more: Value) -> Value {
        let mut how = json!({
            "folder": self.folder.path().join(account),
            "url": server.said("webSocketUrl"),
            "rootPublicKey": server.said("rootPublicKey"),
            "admin": server.said("admin"),
        });
        how.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.tell(account, "open", how).await
    }

    /// Uses a method of Baileys.
    pub async fn call(&self, account: &str, method: &str, args: Value) -> Value {
        self.tell(account, "call", json!({"method": method, "args": args})).await
    }

    pub async fn back(&self, account: &str) {
        self.tell(account, "connect", json!({})).await;
        self.event(account, "open", |_| true).await;
    }

    pub async fn linked(&self, server: &Server, account: &str, phone: &str) -> Value {
        self.open(server, account, json!({})).await;
        let linked = self.tell(account, "pair", json!({"phone": phone, "name": account})).await;
        // It was told to connect anew, and did.
        self.event(account, "close", |line| line["code"] == 515).await;
        self.event(account, "open", |_| true).await;
        linked
    }
}

fn text_of(message: &Value) -> Option<&str> {
    let content = &message["message"];
    content["conversation"].as_str().or_else(|| content["extendedTextMessage"]["text"].as_str())
}
