//! The real program as a process of its own, for what only a process has: signals, its log, its command line.

use crate::harness::{PATIENCE, built, free_address, http_client};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A running host.
pub struct Program {
    /// The process.
    pub process: Child,
    /// `http://127.0.0.1:port`
    pub url: String,
    /// The key of the command line.
    pub key: String,
    /// Its data folder.
    pub data: PathBuf,
    /// What it says.
    pub log: PathBuf,
    pub client: reqwest::Client,
}

/// The program's file.
pub fn program() -> PathBuf {
    built().join("omni")
}

impl Program {
    /// Starts it on a data folder, with these further arguments and its plugins in the host.
    pub async fn start(data: &Path, args: &[&str]) -> Self {
        Self::launch(data, args, "in-process").await
    }

    /// Starts it on a data folder, with its plugins where they are wanted.
    pub async fn start_in(data: &Path, isolation: &str) -> Self {
        Self::launch(data, &[], isolation).await
    }

    async fn launch(data: &Path, args: &[&str], isolation: &str) -> Self {
        let listen = free_address();
        let log = data.with_extension("log");
        let process = Command::new(program())
            .args(["serve", "--data"])
            .arg(data)
            .args(["--listen", &listen])
            .args(args)
            .env_clear()
            .env("OMNI_PLUGINS_ISOLATION", isolation)
            .envs(crate::database::env_of(data))
            .current_dir(data.parent().expect("a folder around it"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a file for its log"))
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let client = http_client(PATIENCE);
        let url = format!("http://{listen}");
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            if let Ok(answer) = client.get(format!("{url}/ready")).send().await
                && answer.status().is_success()
            {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "the host answers in time");
        }
        let key = std::fs::read_to_string(data.join("cli.key")).expect("a key").trim().to_owned();
        Self { process, url, key, data: data.to_owned(), log, client }
    }

    pub async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        request.send().await.expect("it answers").json().await.expect("JSON")
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let request = self.client.post(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        request.json(&body).send().await.expect("it answers").json().await.expect("JSON")
    }

    pub async fn text(&self, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", self.url)).header("x-api-key", &self.key);
        request.send().await.expect("it answers").text().await.expect("text")
    }

    /// Runs a command beside it, on the same data folder: its exit code and what it printed.
    pub async fn omni(&self, args: &[&str]) -> (i32, String) {
        omni(&self.data, &self.url, args).await
    }

    /// Asks the process to do what this signal stands for.
    pub fn signal(&self, signal: &str) {
        let pid = self.process.id().expect("it runs").to_string();
        let sent = std::process::Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Ends it as a service manager would.
    pub async fn stop(mut self) {
        self.signal("-TERM");
        let ended = tokio::time::timeout(PATIENCE, self.process.wait()).await.expect("it ends in time");
        assert!(ended.expect("it is waited for").success(), "{}", self.said());
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Runs a command on a data folder: its exit code and what it printed.
pub async fn omni(data: &Path, url: &str, args: &[&str]) -> (i32, String) {
    let ran = Command::new(program())
        .args(args)
        .arg("--data")
        .arg(data)
        .env_clear()
        .env("OMNI_API_URL", url)
        .env("OMNI_LISTEN", "127.0.0.1:0")
        .envs(crate::database::env_of(data))
        .current_dir(data.parent().expect("a folder around it"))
        .stdin(Stdio::null())
        .output()
        .await
        .expect("the program runs");
    let said = format!("{}{}", String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    (ran.status.code().expect("it ends by itself"), said)
}
