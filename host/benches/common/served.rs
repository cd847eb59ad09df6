//! The real program, served to a benchmark over HTTP.

use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A running program.
pub struct Served {
    process: Child,
    /// Its process id.
    pub pid: String,
    /// From its start until it was ready.
    pub ready: Duration,
    url: String,
    key: String,
    client: reqwest::Client,
}

/// Puts a plugin into the plugins folder of a data folder.
pub fn install(folder: &Path, plugin: &Path) {
    let plugins = folder.join("plugins");
    std::fs::create_dir_all(&plugins).expect("the plugins folder");
    std::fs::set_permissions(&plugins, PermissionsExt::from_mode(0o755)).expect("rights");
    let to = plugins.join(plugin.file_name().expect("a name"));
    std::fs::copy(plugin, &to).expect("the plugin");
    std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).expect("rights");
}

/// How many messages the chats of a page count.
pub fn counted(page: &Value) -> i64 {
    page["items"].as_array().into_iter().flatten().filter_map(|chat| chat["messageCount"].as_i64()).sum()
}

impl Served {
    /// Starts it on a folder and waits until it is ready.
    pub async fn start(folder: &Path) -> Self {
        Self::start_with(folder, &[]).await
    }

    /// The same, with settings from the environment.
    pub async fn start_with(folder: &Path, settings: &[(&str, &str)]) -> Self {
        let listen = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
            listener.local_addr().expect("an address").to_string()
        };
        let began = Instant::now();
        let process = Command::new(env!("CARGO_BIN_EXE_omni"))
            .args(["serve", "--data"])
            .arg(folder)
            .args(["--listen", &listen])
            .env_clear()
            .env("OMNI_PLUGINS_ISOLATION", "in-process")
            .envs(settings.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let client = reqwest::Client::new();
        let url = format!("http://{listen}");
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        while !client.get(format!("{url}/ready")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < Duration::from_secs(60), "the program is ready in time");
            tick.tick().await;
        }
        let ready = began.elapsed();
        let key = std::fs::read_to_string(folder.join("cli.key")).expect("the key").trim().to_owned();
        let pid = process.id().expect("it runs").to_string();
        Self { process, pid, ready, url, key, client }
    }

    /// `GET` under `/api/v2`.
    pub async fn get(&self, path: &str) -> Value {
        let request = self.client.get(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        request.send().await.expect("an answer").json().await.expect("JSON")
    }

    /// `POST` under `/api/v2`.
    pub async fn post(&self, path: &str, body: &Value) -> Value {
        let request = self.client.post(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        request.json(body).send().await.expect("an answer").json().await.unwrap_or(json!(null))
    }

    /// Some clients, each asking for one path after the other, for a while. How long each answer took, and all together.
    pub async fn hammer(&self, clients: usize, paths: &[String], time: Duration) -> (Vec<Duration>, f64) {
        let paths = Arc::new(paths.to_vec());
        let began = Instant::now();
        let mut asking = tokio::task::JoinSet::new();
        for client in 0..clients {
            let (http, key, url, paths) = (self.client.clone(), self.key.clone(), self.url.clone(), Arc::clone(&paths));
            asking.spawn(async move {
                let mut times = Vec::new();
                let mut at = client;
                while began.elapsed() < time {
                    let begun = Instant::now();
                    let request =
                        http.get(format!("{url}/api/v2{}", paths[at % paths.len()])).header("x-api-key", &key);
                    let answer = request.send().await.expect("an answer");
                    assert!(answer.status().is_success(), "{}", answer.status());
                    answer.bytes().await.expect("a body");
                    times.push(begun.elapsed());
                    at += 1;
                }
                times
            });
        }
        let times = asking.join_all().await.into_iter().flatten().collect();
        (times, began.elapsed().as_secs_f64())
    }

    /// Ends it well.
    pub async fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(self.pid.parse().expect("a number")).expect("a process");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        self.process.wait().await.expect("it ends");
    }
}
