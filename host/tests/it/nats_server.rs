//! NATS servers of the tests' own, each in a temporary folder and on a free port of this machine alone.
//!
//! The versions are those in the folder `OMNI_TEST_NATS`. As with Postgres, a guardian stops the server by its process id
//! when the test process has ended, however it ended.

use super::postgres_server::{Guardian, guard};
use async_nats::{ConnectOptions, jetstream};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Stops the servers whose process ids lie in the folder and takes it away when its input ends.
const GUARDIAN: &str = r#"trap '' INT TERM HUP
read -r _
for file in "$0"/*.pid; do
  pid=$(cat "$file" 2>/dev/null) && kill -CONT "$pid" && kill -KILL "$pid" &&
    for _ in $(seq 300); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
done
rm -rf "$0""#;
/// How many accounts one server has, each with streams of its own; and one of a cluster.
const ACCOUNTS: usize = 512;
const ACCOUNTS_OF_A_CLUSTER: usize = 1;
/// How many servers a cluster has.
const CLUSTER: usize = 3;

/// A server, which may be killed and started again.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    program: PathBuf,
    pub port: u16,
    monitor: u16,
    accounts: usize,
    process: Mutex<Option<Child>>,
    _guardian: Guardian,
}

impl Drop for Server {
    fn drop(&mut self) {
        // The guardian cannot see the end of one that nobody has waited for.
        if let Some(mut child) = self.process.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The programs that there are, the oldest version first.
pub fn programs() -> Vec<PathBuf> {
    let folder = std::env::vars_os().find(|(name, _)| name == "OMNI_TEST_NATS").map(|(_, value)| PathBuf::from(value));
    let versions = folder.and_then(|folder| std::fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> =
        versions.map(|entry| entry.path().join("bin/nats-server")).filter(|program| program.exists()).collect();
    found.sort();
    found
}

/// Ports that the kernel gives to nobody who does not ask for one by its number, on Linux: what is free here stays free.
const OWN_PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A port that was free a moment ago, and is given out once.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(OWN_PORTS.end - OWN_PORTS.start);
    // Two runs at the same time begin at different places.
    let first = std::process::id().wrapping_mul(997);
    loop {
        let offset = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = OWN_PORTS.start + u16::try_from(offset).expect("it is within the range");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Server {
    /// Starts the newest; `None` when there is none. `sync` is when it flushes: `always`, or a time.
    pub fn start(sync: &str) -> Option<Self> {
        Some(Self::start_this(programs().pop()?, sync))
    }

    /// Starts this program.
    pub fn start_this(program: PathBuf, sync: &str) -> Self {
        let server = Self::make(program, sync, ACCOUNTS, None, "");
        server.go();
        server
    }

    /// Starts the newest with its streams in a folder of somebody else's.
    pub fn start_in(streams: &Path, sync: &str) -> Option<Self> {
        let server = Self::make(programs().pop()?, sync, ACCOUNTS, Some(streams), "");
        server.go();
        Some(server)
    }

    /// Starts three of the newest that know each other.
    pub fn start_cluster(sync: &str) -> Option<Vec<Self>> {
        let program = programs().pop()?;
        let ports: [u16; CLUSTER] = std::array::from_fn(|_| free_port());
        let routes = ports.map(|port| format!("\"nats://127.0.0.1:{port}\"")).join(", ");
        let of_cluster = |(number, port): (usize, &u16)| {
            let words = format!(
                "server_name: n{number}\ncluster {{ name: omni, listen: \"127.0.0.1:{port}\", routes: [ {routes} ] }}\n"
            );
            Self::make(program.clone(), sync, ACCOUNTS_OF_A_CLUSTER, None, &words)
        };
        let servers: Vec<Self> = ports.iter().enumerate().map(of_cluster).collect();
        // None of them is well before it has found others.
        servers.iter().for_each(Self::spawn);
        servers.iter().for_each(|server| server.wait("/healthz"));
        Some(servers)
    }

    /// One that is configured and does not run.
    fn make(program: PathBuf, sync: &str, accounts: usize, streams: Option<&Path>, more: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("omni-nats-").tempdir().expect("a temporary folder").keep();
        let guardian = guard(&folder, GUARDIAN);
        let (port, monitor) = (free_port(), free_port());
        let mut named = String::new();
        for account in 0..accounts {
            named.push_str(&format!(
                "  A{account}: {{ jetstream: enabled, users: [ {{ user: u{account}, password: secret }} ] }}\n"
            ));
        }
        let own = folder.join("data");
        let config = format!(
            "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
             pid_file: \"{folder}/nats.pid\"\nlog_file: \"{folder}/log\"\n\
             jetstream {{ store_dir: \"{streams}\", max_file_store: 100TB, sync_interval: {sync} }}\n{more}\
             accounts {{\n{named}}}\n",
            folder = folder.display(),
            streams = streams.unwrap_or(&own).display(),
        );
        std::fs::write(folder.join("nats.conf"), config).expect("its configuration is written");
        Self { folder, program, port, monitor, accounts, process: Mutex::default(), _guardian: guardian }
    }

    /// Starts it again after it was killed; returns when it answers.
    ///
    /// Of streams that it has lost, and of one that it was making when it was killed, it says that they are not well until
    /// somebody makes them anew, which is what hosts are there for. It takes no client before it has looked for all of them.
    pub fn go(&self) {
        self.spawn();
        self.wait("/healthz?js-enabled-only=true");
    }

    fn spawn(&self) {
        let mut process = self.process.lock().expect("nobody panics while holding it");
        let mut start = Command::new(&self.program);
        start.arg("-c").arg(self.folder.join("nats.conf")).env_clear();
        *process =
            Some(start.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts"));
    }

    /// Returns when it says that it is well.
    fn wait(&self, path: &str) {
        let began = Instant::now();
        while !self.is_well(path) {
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < Duration::from_secs(30), "nats-server does not answer: {}", log());
            let mut process = self.process.lock().expect("nobody panics while holding it");
            let ended = process.as_mut().and_then(|process| process.try_wait().expect("it can be asked"));
            assert!(ended.is_none(), "nats-server has ended: {}", log());
            drop(process);
            // Whoever asks all the time takes the time that it needs to start.
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    /// Whether it takes clients, and says that it is healthy.
    fn is_well(&self, path: &str) -> bool {
        use std::io::{Read, Write};
        if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            return false;
        }
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", self.monitor)) else { return false };
        let asked = stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        let mut answer = String::new();
        asked.is_ok() && stream.read_to_string(&mut answer).is_ok() && answer.contains("\"ok\"")
    }

    /// The address for an account of it.
    pub fn url(&self, account: usize) -> String {
        assert!(account < self.accounts, "the tests have more hosts than the server has accounts");
        format!("nats://u{account}:secret@127.0.0.1:{}", self.port)
    }

    /// A client with an account of it.
    pub async fn jetstream(&self, account: usize) -> jetstream::Context {
        let options = ConnectOptions::with_user_and_password(format!("u{account}"), "secret".into());
        jetstream::new(options.connect(format!("127.0.0.1:{}", self.port)).await.expect("it lets us in"))
    }

    /// Where its monitoring answers.
    pub fn monitor_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.monitor)
    }

    /// Sends it a signal, by its process id.
    pub fn signal(&self, signal: &str) {
        let process = self.process.lock().expect("nobody panics while holding it");
        let pid = process.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "the server takes the signal");
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        let mut process = self.process.lock().expect("nobody panics while holding it");
        let mut child = process.take().expect("it runs");
        child.kill().expect("it is killed");
        child.wait().expect("it is gone");
    }

    /// Leaves a stream of an account as a kill does that comes while it is made. It does not run.
    pub fn leave_half_made(&self, account: usize, stream: &str) {
        let stream = self.folder.join(format!("data/jetstream/A{account}/streams/{stream}"));
        std::fs::remove_file(stream.join("meta.sum")).expect("the last that it writes of a new stream");
    }

    /// Takes all that it has kept away, as if its disk were new. It does not run.
    pub fn forget_everything(&self) {
        std::fs::remove_dir_all(self.folder.join("data")).expect("its streams are taken away");
    }
}
