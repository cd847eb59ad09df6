//! A Discord that others wrote: PyPI `simcord` behind HTTP and a gateway of ours (`host/tests/discord`), as a process of its
//! own for each test.
//!
//! The test command installs it and says where in `OMNI_TEST_DISCORD`; without that the tests say that they are left out.
//! That the server is a Discord is judged by npm `discord.js`, which drives it in a test of its own.

use crate::harness::{PATIENCE, Setup, TestHost};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Instant;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

/// The token of the bot.
pub const TOKEN: &str = "test-token";

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
    _process: Child,
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
            .kill_on_drop(true)
            .spawn()
            .expect("python starts");
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
            _process: process,
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
