//! A Discord that others wrote: PyPI `simcord` behind HTTP and a gateway of ours (`host/tests/discord`), as a process of its
//! own for each test.
//!
//! The test command installs it and says where in `OMNI_TEST_DISCORD`; without that the tests say that they are left out.
//! That the server is a Discord is judged elsewhere (`discord_judges`). What is asked of it is judged here, by Discord's
//! OpenAPI document where that is at hand: a test ends with [`Discord::assert_by_the_book`].

use crate::harness::{PATIENCE, Setup, TestHost};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::JoinHandle;

#[path = "../../../plugins/discord/tests/book/spec.rs"]
#[expect(dead_code, reason = "only calls are judged here")]
mod spec;

/// How a line of the server's begins that tells of something that it does not know, or of a value that it tripped over.
const UNKNOWN: [&str; 2] = ["PARITY GAP", "INVALID VALUE"];

/// The token of the bot.
pub const TOKEN: &str = "test-token";

/// The root of this repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The path and the query of a call of the record.
fn address(call: &Value) -> String {
    let fields = call["query"].as_object().unwrap().iter();
    let query: Vec<String> = fields.map(|(name, value)| format!("{name}={}", value.as_str().unwrap())).collect();
    let path = call["path"].as_str().unwrap();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

/// Where the server's program lies.
pub fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/discord")
}

/// Where its packages are installed, if they are.
pub fn tools() -> Option<PathBuf> {
    let folder = std::env::vars().find(|(name, _)| name == "OMNI_TEST_DISCORD");
    if folder.is_none() {
        println!("left out: simcord is not installed (OMNI_TEST_DISCORD)");
    }
    folder.map(|(_, folder)| PathBuf::from(folder))
}

/// A running server; it ends with this value.
pub struct Discord {
    pub url: String,
    pub port: u64,
    /// A first guild, its channel `general`, and a person in it, Alice.
    pub guild: String,
    pub channel: String,
    pub user: String,
    client: reqwest::Client,
    process: Child,
    /// What it says on its standard error, once it has ended.
    errors: JoinHandle<Vec<String>>,
}

impl Discord {
    /// Starts one, when it is installed.
    pub async fn start(options: &[&str]) -> Option<Self> {
        let python = tools()?.join("venv/bin/python");
        let mut process = Command::new(python)
            .arg("-B")
            .arg(sources().join("server.py"))
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("python starts");
        let mut said = BufReader::new(process.stderr.take().expect("it is piped")).lines();
        let errors = tokio::spawn(async move {
            let mut all = Vec::new();
            while let Ok(Some(line)) = said.next_line().await {
                eprintln!("{line}");
                all.push(line);
            }
            all
        });
        let mut lines = BufReader::new(process.stdout.take().expect("it is piped")).lines();
        let first = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("the server starts in time");
        let first: Value = serde_json::from_str(&first.unwrap().expect("the server says where it is")).unwrap();
        let words = |name: &str| first[name].as_str().unwrap().to_owned();
        let port = first["port"].as_u64().unwrap();
        Some(Self {
            url: format!("http://127.0.0.1:{port}"),
            port,
            guild: words("guild"),
            channel: words("channel"),
            user: words("user"),
            client: crate::harness::http_client(PATIENCE),
            process,
            errors,
        })
    }

    /// Something happens there.
    pub async fn happens(&self, what: &str, how: Value) -> Value {
        let answer = self.client.post(format!("{}/_test/{what}", self.url)).json(&how).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert!(status.is_success(), "{what} {how}: {status} {body}");
        body
    }

    /// Alice writes in the first channel; gives the message's id.
    pub async fn says(&self, text: &str) -> String {
        self.happens("say", json!({"text": text})).await["id"].as_str().unwrap().to_owned()
    }

    /// The messages of a channel as Discord has them, oldest first.
    pub async fn messages(&self, channel: &str) -> Vec<Value> {
        let all = self.happens("messages", json!({"channel": channel})).await;
        all["messages"].as_array().unwrap().clone()
    }

    /// One message of a channel, if it is there.
    pub async fn message(&self, channel: &str, id: &Value) -> Option<Value> {
        self.messages(channel).await.into_iter().find(|message| message["id"] == *id)
    }

    /// A new channel of the first guild; gives its id.
    pub async fn channel(&self, name: &str) -> String {
        self.happens("channel", json!({"name": name})).await["id"].as_str().unwrap().to_owned()
    }

    /// What was asked of it, by the beginning of the path.
    pub async fn asked(&self, method: &str, path: &str) -> Vec<Value> {
        let log = self.happens("log", json!({"method": method, "path_prefix": path})).await;
        log["http"].as_array().unwrap().clone()
    }

    /// What the bot said on the gateway, by the number of what it was.
    pub async fn heard(&self, op: u8) -> Vec<Value> {
        let log = self.happens("log", json!({"op": op})).await;
        log["gateway"].as_array().unwrap().clone()
    }

    /// Asks again and again until what is seen is what was waited for.
    pub async fn until<T>(&self, what: &str, how: Value, seen: impl Fn(&Value) -> Option<T>) -> T {
        let began = Instant::now();
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(20));
        loop {
            tick.tick().await;
            let found = self.happens(what, how.clone()).await;
            if let Some(seen) = seen(&found) {
                return seen;
            }
            assert!(began.elapsed() < PATIENCE, "{what} {how} never became what was waited for; last: {found}");
        }
    }

    /// Ends it, when nobody asks it anything any more: every call was by the book, and none for what it does not know.
    pub async fn assert_by_the_book(self) {
        assert_eq!(self.violations().await, BTreeSet::new());
    }

    /// Ends it, and tells what was asked of it that it does not know, or that Discord's OpenAPI document does not allow.
    pub async fn violations(mut self) -> BTreeSet<String> {
        let log = self.happens("log", json!({})).await;
        // It ends with its standard input.
        drop(self.process.stdin.take());
        tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("the server ends in time").unwrap();
        let errors = self.errors.await.unwrap().into_iter();
        let mut wrong: BTreeSet<String> =
            errors.filter(|line| UNKNOWN.iter().any(|mark| line.starts_with(mark))).collect();
        let Some(spec) = spec::Spec::load(&repository()) else { return wrong };
        // Files and what belongs to signing in are not in the document, and have no body in the record.
        let calls = log["http"].as_array().unwrap().iter().filter(|call| call.get("json").is_some());
        let calls: BTreeSet<(&str, String, String)> =
            calls.map(|call| (call["method"].as_str().unwrap(), address(call), call["json"].to_string())).collect();
        for (method, address, body) in calls {
            let body: Option<Value> = serde_json::from_str(&body).unwrap();
            wrong.extend(spec.call(method, &address, body.as_ref()));
        }
        wrong
    }

    /// The configuration of an instance that is connected to it.
    pub fn config(&self, more: Value) -> Value {
        let mut config = json!({"apiBaseUrl": self.url});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        config
    }

    /// Makes an instance of the bot.
    pub async fn instance(&self, host: &TestHost, more: Value) -> String {
        let new = json!({"name": "bot", "channel": "discord", "token": TOKEN, "config": self.config(more)});
        let made = host.post("/instances", new).await;
        assert!(!made.to_string().contains(TOKEN), "the token is never shown: {made}");
        assert_eq!(made["data"]["isActive"], true, "with a token nobody has to log in: {made}");
        made["data"]["id"].as_str().unwrap().to_owned()
    }
}

/// A host with one connected bot on a server of its own.
pub async fn bot(options: &[&str]) -> Option<(TestHost, Discord, String)> {
    let discord = Discord::start(options).await?;
    let host = TestHost::with(setup()).await;
    let id = discord.instance(&host, json!({})).await;
    host.until_state(&id, "connected").await;
    Some((host, discord, id))
}

/// How a host with the plugin is started.
pub fn setup() -> Setup {
    Setup { plugins: vec!["discord"], ..Setup::default() }
}

/// Sends a message, which must be there at once.
pub async fn send(host: &TestHost, body: Value) -> Value {
    let sent = host.post("/messages/send", body).await;
    assert_eq!(sent["data"]["status"], "sent", "{sent}");
    sent["data"].clone()
}

/// Whether a list of the API has an item.
pub fn has(list: &Value, what: impl Fn(&Value) -> bool) -> bool {
    list["items"].as_array().is_some_and(|items| items.iter().any(what))
}
