//! A whole host in a temporary folder: the real `run`, real plugins from real files, on port 0.
//!
//! Nothing here sleeps a fixed time: a test waits for what a user would see, and fails with what it saw instead.

use omni_host::Host;
use omni_host::clock::{Clock, ManualClock};
use omni_host::config::{Config, Isolation};
use omni_host::data::DataFolder;
use omni_host::run::{Start, run};
use omni_host::store::Time;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up: far more than it needs on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A client of HTTP that gives up after a while.
pub fn http_client(within: Duration) -> reqwest::Client {
    // Only the first call in a process does anything.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Shorter than any server waits on a connection that is idle, so that none is used that is just being closed.
    let builder = reqwest::Client::builder().timeout(within).pool_idle_timeout(Duration::from_millis(500));
    builder.build().expect("a client")
}

/// A host that soon answers that a send is still under way.
pub fn impatient(config: &mut Config) {
    config.outbound.wait_seconds = 1;
}

/// Where cargo puts what it builds: the folder above the test's own.
pub fn built() -> PathBuf {
    let test = std::env::current_exe().expect("a test has a path");
    test.ancestors().nth(2).expect("a test lies in target/<profile>/deps").to_owned()
}

/// The file of a plugin of this workspace. The test command builds them first. `OMNI_TEST_PLUGINS` is a folder with
/// components of some of them, which are taken instead.
pub fn plugin_file(channel: &str) -> PathBuf {
    if let Some((_, folder)) = std::env::vars().find(|(name, _)| name == "OMNI_TEST_PLUGINS") {
        for name in ["omni_channel", "omni_test_channel"] {
            let component = PathBuf::from(&folder).join(format!("{name}_{channel}.wasm"));
            if component.exists() {
                return component;
            }
        }
    }
    let own = built().join(format!("libomni_channel_{channel}.so"));
    // Plugins that are for tests alone have a name that no host takes for its own.
    let file = if own.exists() { own } else { built().join(format!("libomni_test_channel_{channel}.so")) };
    assert!(file.exists(), "{} is not built; run: cargo build --workspace", file.display());
    file
}

/// Where networks reach a host.
pub enum PublicUrl {
    /// Where it listens.
    Own,
    /// Somewhere in front of it.
    Front(String),
}

/// Says more in a configuration than a [`Setup`] has words for.
pub type Tune = Box<dyn FnOnce(&mut Config) + Send>;

/// How a host is started.
pub struct Setup {
    /// The data folder; a temporary one when absent.
    pub data: Option<PathBuf>,
    /// Plugins that are copied into the plugins folder.
    pub plugins: Vec<&'static str>,
    /// Where they run.
    pub isolation: Isolation,
    /// A clock that stands still until it is moved.
    pub manual_clock: bool,
    /// How long a call into a plugin may take.
    pub call_seconds: u64,
    /// Whether the plugins folder is watched.
    pub watch: bool,
    /// What else is configured.
    pub configure: fn(&mut Config),
    /// Its public address, if it has one.
    pub public_url: Option<PublicUrl>,
    /// Where plugins lie that came with the program.
    pub bundled: Option<PathBuf>,
    /// The same, by what a closure holds.
    pub tune: Option<Tune>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            data: None,
            plugins: vec!["echo"],
            isolation: Isolation::InProcess,
            manual_clock: false,
            call_seconds: 30,
            watch: false,
            configure: |_| {},
            public_url: None,
            bundled: None,
            tune: None,
        }
    }
}

/// A running host.
pub struct TestHost {
    /// `http://127.0.0.1:port`
    pub url: String,
    /// An API key with every scope.
    pub key: String,
    /// Its data folder.
    pub data: PathBuf,
    /// Moves its clock, when it has a manual one.
    pub clock: Option<ManualClock>,
    /// Its parts, to wait for what no page shows.
    pub parts: Host,
    client: reqwest::Client,
    shutdown: CancellationToken,
    running: Option<JoinHandle<anyhow::Result<()>>>,
    _folder: Option<tempfile::TempDir>,
}

impl TestHost {
    /// A host with the echo plugin.
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    /// A host as it is asked for.
    pub async fn with(setup: Setup) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = setup.data.is_none().then(|| tempfile::tempdir().expect("a temporary folder"));
        let path = setup.data.clone().unwrap_or_else(|| folder.as_ref().expect("made above").path().join("data"));
        std::fs::create_dir_all(path.join("plugins")).expect("the plugins folder");
        for plugin in &setup.plugins {
            install(&path, &plugin_file(plugin));
        }
        let mut config = Config::default();
        config.data.dir = path.clone();
        config.plugins.isolation = setup.isolation;
        config.plugins.call_timeout_seconds = setup.call_seconds;
        config.plugins.watch = setup.watch;
        config.http.metrics_public = true;
        // A send is answered with what became of it, however busy the machine is.
        config.outbound.wait_seconds = PATIENCE.as_secs();
        (setup.configure)(&mut config);
        if let Some(tune) = setup.tune {
            tune(&mut config);
        }
        if let Some(address) = crate::database::of(&path) {
            config.database.url = address.parse().expect("an address");
        }
        if let Some(address) = crate::database::bus_of(&path) {
            config.bus.url = address.parse().expect("an address");
        }
        let data = DataFolder::open(&path, config.database_file().as_deref()).expect("the data folder");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        config.http.public_url = setup.public_url.map(|public| match public {
            PublicUrl::Own => format!("http://{}", listener.local_addr().expect("it listens")),
            PublicUrl::Front(url) => url,
        });
        let (clock, manual) = if setup.manual_clock {
            // Half a minute after the fake networks' own clocks begin.
            let (clock, manual) = Clock::manual(Time(1_767_225_630_000_000));
            (clock, Some(manual))
        } else {
            (Clock::system(), None)
        };
        let shutdown = CancellationToken::new();
        let (ready, is_ready) = oneshot::channel();
        let start = Start {
            config,
            data,
            listener,
            clock,
            bundled: setup.bundled,
            program: PathBuf::from(env!("CARGO_BIN_EXE_omni")),
            metrics: None,
            connect: true,
            log: None,
            shutdown: shutdown.clone(),
        };
        let mut running = tokio::spawn(run(start, ready));
        let (started, parts) = tokio::select! {
            started = is_ready => started.expect("the host says that it is ready"),
            ended = &mut running => panic!("the host did not start: {ended:?}"),
        };
        let key = std::fs::read_to_string(path.join("cli.key")).expect("the key of the command line");
        Self {
            url: format!("http://{}", started.address),
            key: key.trim().to_owned(),
            data: path,
            clock: manual,
            parts,
            // Some answers take as long as what they tell of.
            client: http_client(PATIENCE * 5),
            shutdown,
            running: Some(running),
            _folder: folder,
        }
    }

    /// Ends the host as a signal would, and waits for it.
    pub async fn stop(mut self) -> Option<tempfile::TempDir> {
        self.shutdown.cancel();
        let running = self.running.take().expect("it runs");
        tokio::time::timeout(PATIENCE, running)
            .await
            .expect("the host ends in time")
            .expect("the host does not panic")
            .expect("the host ends well");
        self._folder.take()
    }

    /// Ends the host and starts another one on the same folder.
    pub async fn restart(self, setup: Setup) -> Self {
        let data = self.data.clone();
        let folder = self.stop().await;
        let mut again = Self::with(Setup { data: Some(data), ..setup }).await;
        again._folder = folder;
        again
    }

    /// Calls the API: status and body.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        self.call_as(&self.key, method, path, body).await
    }

    /// Calls the API with another key.
    pub async fn call_as(&self, key: &str, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}/api/v2{path}", self.url)).header("x-api-key", key);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("the API answers");
        let status = response.status();
        let text = response.text().await.expect("the API answers with words");
        let json = serde_json::from_str(&text).unwrap_or(Value::String(text));
        (status, json)
    }

    /// `GET`, which must succeed.
    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, None).await;
        assert!(status.is_success(), "GET {path}: {status} {body}");
        body
    }

    /// `POST`, which must succeed.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.call(Method::POST, path, Some(body)).await;
        assert!(status.is_success(), "POST {path}: {status} {answer}");
        answer
    }

    /// Makes an instance and gives back its id.
    pub async fn instance(&self, name: &str, channel: &str, config: Value) -> String {
        let made = self.post("/instances", json!({"name": name, "channel": channel, "config": config})).await;
        made["data"]["id"].as_str().expect("an id").to_owned()
    }

    /// An echo instance on an address of its own: its id and the address.
    pub async fn echo(&self, name: &str) -> (String, String) {
        let address = free_address();
        let id = self.instance(name, "echo", json!({"listen": address})).await;
        self.until_state(&id, "connected").await;
        (id, format!("http://{address}"))
    }

    /// Waits until an instance is in a state, and gives back its status.
    pub async fn until_state(&self, id: &str, state: &str) -> Value {
        let path = format!("/instances/{id}/status");
        self.until(&path, |body| body["data"]["state"] == state).await["data"].clone()
    }

    /// Moves the clock, step by step, until an instance is in a state, and gives back its status.
    pub async fn in_time(&self, id: &str, state: &str, step: Duration) -> Value {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let status = self.get(&format!("/instances/{id}/status")).await;
            if status["data"]["state"] == state {
                return status["data"].clone();
            }
            assert!(began.elapsed() < PATIENCE, "never {state}; last: {status}");
            self.clock.as_ref().expect("its clock stands still until it is moved").advance(step);
        }
    }

    /// Asks again and again until what is seen is what was waited for.
    pub async fn until(&self, path: &str, seen: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            let (status, body) = self.call(Method::GET, path, None).await;
            if status.is_success() && seen(&body) {
                return body;
            }
            assert!(began.elapsed() < PATIENCE, "GET {path} never became what was waited for; last: {status} {body}");
        }
    }

    /// Takes a message to an echo instance from outside; it is durable when this returns.
    pub async fn say(&self, echo: &str, chat: &str, id: &str, text: &str) {
        let body = json!({"chatId": chat, "from": "ann", "externalId": id, "text": text, "name": "Ann"});
        let response = self.client.post(echo).json(&body).send().await.expect("echo answers");
        assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap_or_default());
    }

    /// The same, from a network that does not know whether anybody listens.
    pub async fn try_say(&self, echo: &str, chat: &str, text: &str) -> Result<(), String> {
        let body = json!({"chatId": chat, "from": "ann", "externalId": text, "text": text, "name": "Ann"});
        let response = self.client.post(echo).json(&body).send().await.map_err(|error| error.to_string())?;
        if response.status().is_success() { Ok(()) } else { Err(response.status().to_string()) }
    }

    /// What an echo instance has sent.
    pub async fn sent(&self, echo: &str) -> Vec<Value> {
        let sent: Value =
            self.client.get(format!("{echo}/sent")).send().await.expect("echo answers").json().await.expect("JSON");
        let list = sent.as_array().or_else(|| sent["items"].as_array()).or_else(|| sent["sent"].as_array());
        list.unwrap_or_else(|| panic!("no list in {sent}")).clone()
    }

    /// Waits until everything that was accepted is stored.
    pub async fn settle(&self) {
        let settled = self.parts.inbound.settle();
        tokio::time::timeout(PATIENCE, settled).await.expect("what was accepted is stored in time");
    }

    /// Waits until a chat has so many messages, at most a hundred, and gives them, oldest first.
    pub async fn stored(&self, instance: &str, chat: &str, count: usize) -> Vec<Value> {
        let path = format!("/messages?instanceId={instance}&chatId={chat}&limit=100");
        let body = self.until(&path, |body| body["items"].as_array().is_some_and(|items| items.len() >= count)).await;
        let mut items = body["items"].as_array().unwrap().clone();
        items.reverse();
        assert_eq!(items.len(), count, "{items:?}");
        items
    }

    /// Messages of a chat, oldest first, whatever the page size.
    pub async fn messages(&self, instance: &str, chat: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/messages?instanceId={instance}&chatId={chat}&limit=50{cursor}")).await;
            all.extend(page["items"].as_array().expect("items").clone());
            match page["meta"]["cursor"].as_str() {
                Some(next) if page["meta"]["hasMore"] == true => cursor = format!("&cursor={next}"),
                _ => break,
            }
        }
        all.reverse();
        all
    }
}

impl Drop for TestHost {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Copies a file into the plugins folder, as a person would.
pub fn install(data: &Path, file: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = data.join("plugins");
    std::fs::create_dir_all(&folder).expect("the plugins folder");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("rights");
    let to = folder.join(file.file_name().expect("a file name"));
    std::fs::copy(file, &to).expect("the plugin is copied");
    std::fs::set_permissions(&to, PermissionsExt::from_mode(0o755)).expect("rights");
    if file.extension().is_some_and(|end| end == "wasm") {
        share_compiled(data);
    }
    to
}

/// What components were compiled to by this build of the host.
static COMPILED: LazyLock<PathBuf> = LazyLock::new(|| {
    let test = std::env::current_exe().and_then(std::fs::metadata).expect("a test has a file");
    let build = format!("{:?} {}", test.modified().expect("a file has a time"), test.len());
    let (folder, mark) = (built().join("compiled"), built().join("compiled-by"));
    if std::fs::read_to_string(&mark).is_ok_and(|before| before == build) && folder.exists() {
        return folder;
    }
    // There may be none.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the folder of what is compiled");
    std::fs::write(&mark, build).expect("whose that is");
    folder
});

/// What a component was compiled to, for every host of the tests: compiling it is most of what such a host does.
fn share_compiled(data: &Path) {
    let cache = data.join("plugin-cache");
    std::fs::create_dir_all(&cache).expect("the cache of plugins");
    match std::os::unix::fs::symlink(&*COMPILED, cache.join("compiled")) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => panic!("{error}"),
        _ => {}
    }
}

/// An address that was free a moment ago, and is given out once.
pub fn free_address() -> String {
    format!("127.0.0.1:{}", crate::nats_server::free_port())
}

impl TestHost {
    /// A plugin file as the API shows it, after a look at the folder.
    pub async fn plugin(&self, file: &str) -> Value {
        self.post("/plugins/rescan", json!({})).await;
        let plugins = self.get("/plugins").await;
        let found = plugins["items"].as_array().expect("items").iter().find(|plugin| plugin["file"] == file);
        found.unwrap_or_else(|| panic!("{file} is not among {plugins}")).clone()
    }

    /// Runs the command line against this host: what it prints, and how it ends.
    pub async fn cli(&self, args: &[&str]) -> (String, std::process::ExitStatus) {
        let done = tokio::process::Command::new(env!("CARGO_BIN_EXE_omni"))
            .args(["--url", &self.url, "--data"])
            .arg(&self.data)
            .args(args)
            .env_clear()
            .env("OMNI_API_KEY", &self.key)
            .envs(crate::database::env_of(&self.data))
            .current_dir(&self.data)
            .output()
            .await
            .expect("the command line runs");
        let words = [done.stdout, done.stderr].concat();
        (String::from_utf8(words).expect("it prints text"), done.status)
    }

    /// Sends until the instance is there to send: gives back the answer of the send that was accepted and settled. What
    /// is not known of one holds up its chat, so the next one goes to another.
    pub async fn until_sent(&self, instance: &str, to: &str, text: &str) -> Value {
        let began = Instant::now();
        let mut chat = to.to_owned();
        for number in 2.. {
            self.until_state(instance, "connected").await;
            let body = json!({"instanceId": instance, "to": chat, "text": text});
            let (status, answer) = self.call(Method::POST, "/messages/send", Some(body)).await;
            match status {
                StatusCode::CREATED => return answer,
                StatusCode::ACCEPTED => chat = format!("{to} {number}"),
                _ => {}
            }
            assert!(began.elapsed() < PATIENCE, "never sent; last: {status} {answer}");
        }
        unreachable!("there are more numbers than time");
    }

    /// Waits until what was answered to a send before it was done is sent.
    pub async fn is_sent(&self, answer: &Value) {
        let id = answer["data"]["messageId"].as_str().unwrap_or_else(|| panic!("nothing was taken: {answer}"));
        self.until(&format!("/messages/{id}"), |body| body["data"]["deliveryStatus"] == "sent").await;
    }

    /// Takes a message to an echo instance from outside, as a network that does it again until it is taken.
    pub async fn until_said(&self, echo: &str, chat: &str, text: &str) {
        let began = Instant::now();
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while let Err(why) = self.try_say(echo, chat, text).await {
            assert!(began.elapsed() < PATIENCE, "never taken; last: {why}");
            tick.tick().await;
        }
    }
}
