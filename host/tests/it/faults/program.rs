//! The real program, started and ended from outside.

use crate::harness::{PATIENCE, built, http_client};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

/// A running host.
pub struct Program {
    pub process: Child,
    pub url: String,
    key: String,
    client: reqwest::Client,
    data: PathBuf,
    /// Where its database and its bus are.
    env: Vec<(&'static str, String)>,
}

/// How it is started.
pub struct Launch<'a> {
    pub data: &'a Path,
    pub listen: &'a str,
    /// What becomes the program: a tracer with its arguments. The program must keep the process that is started.
    pub under: Vec<String>,
    /// Places at which it is to fail.
    pub fail_at: Option<String>,
    /// Where its log goes.
    pub log: Option<PathBuf>,
    /// For how many seconds an unknown outcome is looked for.
    pub reconcile_seconds: u32,
    /// Its database, when it is not the one of its data folder.
    pub database: Option<String>,
    /// Its bus, when it has such a database.
    pub bus: Option<String>,
    /// What else it is told.
    pub more: Vec<(&'static str, String)>,
}

impl<'a> Launch<'a> {
    pub fn new(data: &'a Path, listen: &'a str) -> Self {
        Self {
            data,
            listen,
            under: Vec::new(),
            fail_at: None,
            log: None,
            reconcile_seconds: 1,
            database: None,
            bus: None,
            more: Vec::new(),
        }
    }

    pub fn failing_at(self, points: String) -> Self {
        Self { fail_at: Some(points), ..self }
    }

    pub fn under(self, tracer: &[&str]) -> Self {
        Self { under: tracer.iter().map(|word| (*word).to_owned()).collect(), ..self }
    }

    /// Starts it and waits until it answers.
    pub async fn start(self) -> Program {
        self.try_start().await.expect("the host ended before it answered")
    }

    /// The same; nothing when it ended before that.
    pub async fn try_start(self) -> Option<Program> {
        // An earlier one that was not ended would answer in the place of this one.
        assert!(std::net::TcpStream::connect(self.listen).is_err(), "somebody listens on {} already", self.listen);
        let program = built().join("omni");
        let mut command = match self.under.split_first() {
            None => Command::new(&program),
            Some((tracer, arguments)) => {
                let mut command = Command::new(tracer);
                command.args(arguments).arg(&program);
                command
            }
        };
        command.args(["serve", "--data"]).arg(self.data).args(["--listen", self.listen]).env_clear();
        command
            .env("OMNI_PLUGINS_ISOLATION", "in-process")
            .env("OMNI_OUTBOUND_RECONCILE_SECONDS", self.reconcile_seconds.to_string())
            .env("PATH", "/usr/bin:/bin");
        let mut env: Vec<(&'static str, String)> = match self.database {
            Some(address) => {
                let bus = self.bus.map(|address| ("OMNI_BUS_URL", address));
                [("OMNI_DATABASE_URL", address)].into_iter().chain(bus).collect()
            }
            None => crate::database::env_of(self.data).collect(),
        };
        env.extend(self.more);
        command.envs(env.clone());
        if let Some(points) = &self.fail_at {
            command.env("FAILPOINTS", points);
        }
        let log = match &self.log {
            Some(path) => std::fs::File::options().append(true).create(true).open(path).unwrap().into(),
            None => Stdio::null(),
        };
        let mut process = command.stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn().unwrap();
        let client = http_client(Duration::from_secs(20));
        let url = format!("http://{}", self.listen);
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(10));
        loop {
            tick.tick().await;
            if let Ok(answer) = client.get(format!("{url}/ready")).send().await
                && answer.status().is_success()
            {
                break;
            }
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(began.elapsed() < PATIENCE, "the host answers in time");
        }
        let key = std::fs::read_to_string(self.data.join("cli.key")).unwrap().trim().to_owned();
        Some(Program { process, url, key, client, data: self.data.to_owned(), env })
    }
}

impl Program {
    /// What the doctor says beside it, as JSON.
    pub async fn doctor(&self) -> Value {
        let mut doctor = Command::new(built().join("omni"));
        doctor.args(["doctor", "--json", "--data"]).arg(&self.data).env_clear().envs(self.env.clone());
        let said = doctor.stdin(Stdio::null()).output().await.expect("the doctor runs");
        let text = String::from_utf8_lossy(&said.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    /// The finding about the ledger, once it knows how things stand, and all that the doctor said.
    pub async fn ledger(&self) -> (Value, Value) {
        let began = Instant::now();
        loop {
            let all = self.doctor().await;
            let found = all.as_array().and_then(|all| all.iter().find(|finding| finding["check"] == "ledger"));
            // Its own connections may be among those that break.
            let is_known = |line: &Value| line["there"]["waiting"].is_number();
            match found.and_then(|found| Some((found, found["ledger"].as_array()?))) {
                Some((found, lines)) if lines.iter().all(is_known) || began.elapsed() > PATIENCE => {
                    return (found.clone(), all);
                }
                Some(_) => {}
                None => assert!(began.elapsed() < PATIENCE, "no ledger in {all}"),
            }
        }
    }

    /// What `/metrics` has.
    pub async fn metrics(&self) -> String {
        let request = self.client.get(format!("{}/metrics", self.url)).header("x-api-key", &self.key);
        request.send().await.expect("it answers").text().await.expect("a text")
    }

    pub async fn get(&self, path: &str) -> Option<Value> {
        let request = self.client.get(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        request.send().await.ok()?.json().await.ok()
    }

    /// What the API answers to a question: the status, and in how many seconds to ask again.
    pub async fn ask(&self, path: &str) -> Option<(u16, Option<u64>)> {
        let request = self.client.get(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        let answer = request.send().await.ok()?;
        let again = answer.headers().get("retry-after").and_then(|again| again.to_str().ok()?.parse().ok());
        Some((answer.status().as_u16(), again))
    }

    pub async fn post(&self, path: &str, body: &Value, idempotency: Option<&str>) -> Option<(u16, Value)> {
        let mut request = self.client.post(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        if let Some(key) = idempotency {
            request = request.header("idempotency-key", key);
        }
        let answer = request.json(body).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or_default()))
    }

    /// The stream of events of some types, from now on.
    pub async fn follow(&self, types: &str) -> reqwest::Response {
        let url = format!("{}/api/v2/events/stream?type={types}", self.url);
        let client = http_client(PATIENCE);
        client.get(url).header("x-api-key", &self.key).send().await.expect("it streams")
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        let request = self.client.patch(format!("{}/api/v2{path}", self.url)).header("x-api-key", &self.key);
        let answer = request.json(body).send().await.ok()?;
        let status = answer.status().as_u16();
        Some((status, answer.json().await.unwrap_or_default()))
    }

    /// An echo instance on an address; there may be one of that name already.
    pub async fn echo(&self, address: &str) -> String {
        let new = json!({"name": "demo", "channel": "echo", "config": {"listen": address}});
        let (status, made) = self.post("/instances", &new, None).await.expect("the API answers");
        if status == 201 {
            return made["data"]["id"].as_str().expect("an id").to_owned();
        }
        let list = self.get("/instances").await.expect("the API answers");
        let found = list["items"].as_array().and_then(|items| items.iter().find(|item| item["name"] == "demo"));
        found.and_then(|item| item["id"].as_str()).unwrap_or_else(|| panic!("{status} {made} {list}")).to_owned()
    }

    /// The texts of a chat, oldest first.
    pub async fn texts(&self, chat: &str) -> Vec<String> {
        let mut texts = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/messages?chatId={chat}&limit=100{cursor}")).await.expect("the API answers");
            // A chat of which nothing was ever stored is not known.
            let Some(items) = page["items"].as_array() else { return texts };
            texts.extend(items.iter().filter_map(|item| item["textContent"].as_str()).map(str::to_owned));
            match page["meta"]["cursor"].as_str() {
                Some(next) if page["meta"]["hasMore"] == true => cursor = format!("&cursor={next}"),
                _ => break,
            }
        }
        texts.reverse();
        texts
    }

    /// Ends it as a power cut would: at once.
    pub async fn kill(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.process.start_kill();
        self.process.wait().await.unwrap();
        crate::database::let_go(&self.data).await;
    }
}
