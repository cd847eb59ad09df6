//! How this host is set up: `omni.toml`, over it `OMNI_*` from the environment, over that the flags.
//!
//! One struct per section. The defaults are the documentation, and `examples/omni.toml` is tested to say the same.
//! Every key has a line in [`keys`], which knows what it takes and what it is called in the environment.
//!
//! Deliberately not here: reading the environment (it is handed in by `main`), and checking whether what is named
//! exists (whoever opens it says so better).

use crate::bus::NatsOptions;
use crate::store::PostgresOptions;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

mod error;
pub mod keys;
mod load;
mod types;

pub use error::ConfigError;
pub use load::{Flag, Loaded, Origin, Setting, Sources};
pub use types::{BusUrl, ByteSize, DatabaseUrl, ForChannel, Isolation, LogFormat, Secret, Trust};

/// The whole configuration, complete and checked. Paths are absolute unless the process's own folder is unknown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `[data]`
    pub data: Data,
    /// `[http]`
    pub http: Http,
    /// `[plugins]`
    pub plugins: Plugins,
    /// `[database]`
    pub database: Database,
    /// `[bus]`
    pub bus: Bus,
    /// `[network]`
    pub network: Network,
    /// `[outbound]`
    pub outbound: Outbound,
    /// `[webhooks]`
    pub webhooks: WebhookSettings,
    /// `[retention]`
    pub retention: Retention,
    /// `[log]`
    pub log: Log,
    /// `[telemetry]`
    pub telemetry: Telemetry,
}

/// Where everything is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Data {
    /// The data folder: database, key file, media, cache of plugins.
    pub dir: PathBuf,
    /// Where files of messages lie, when that is not the data folder: hosts that share an installation share this folder.
    pub media_dir: Option<PathBuf>,
}

impl Default for Data {
    fn default() -> Self {
        Self { dir: PathBuf::from("./data"), media_dir: None }
    }
}

/// The HTTP server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where it listens. Port 0 takes any free one.
    pub listen: SocketAddr,
    /// Under which address the world reaches it, for webhooks; without a slash at the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub public_url: Option<String>,
    /// The first API key. Accepted beside the stored keys as long as it stands here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// A file that holds the first API key; it is read at start, into `api_key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Largest body of a request without files.
    pub body_limit: ByteSize,
    /// Largest file that is taken, in either direction.
    pub media_limit: ByteSize,
    /// How long a request may take as a whole. Streams are excepted.
    pub request_timeout_seconds: u64,
    /// How long a peer may take to send the head of a request.
    pub header_timeout_seconds: u64,
    /// How long a body may take beyond 4 KiB a second.
    pub body_timeout_seconds: u64,
    /// How long a peer may take none of an answer before it is given up.
    pub write_timeout_seconds: u64,
    /// Most connections at a time; the next one is told to come again.
    pub max_connections: usize,
    /// Most of them from one address; by way of a trusted proxy, requests at a time.
    pub max_connections_per_address: usize,
    /// Addresses and networks of proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<String>,
    /// Bytes of all requests that may be in memory at a time; the next one is told to come again. For what networks send,
    /// without a key, it is a quarter on top.
    pub request_memory: ByteSize,
    /// Most requests a minute of a key that has no limit of its own; 0 is no limit.
    pub rate_limit: u32,
    /// How long open requests may go on after the host was told to stop.
    pub shutdown_seconds: u64,
    /// Origins of web pages that may call the API; `*` is any.
    pub cors_origins: Vec<String>,
    /// Whether `/metrics` answers without a key.
    pub metrics_public: bool,
    /// Whether the audit log has a line for every request that only reads, too.
    pub audit_reads: bool,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8882)),
            public_url: None,
            api_key: None,
            api_key_file: None,
            body_limit: ByteSize::mib(10),
            media_limit: ByteSize::mib(100),
            request_timeout_seconds: 30,
            header_timeout_seconds: 10,
            body_timeout_seconds: 20,
            write_timeout_seconds: 30,
            max_connections: 4096,
            max_connections_per_address: 1024,
            trusted_proxies: Vec::new(),
            request_memory: ByteSize::mib(256),
            rate_limit: 0,
            shutdown_seconds: 20,
            cors_origins: Vec::new(),
            metrics_public: false,
            audit_reads: false,
        }
    }
}

/// Plugin files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Plugins {
    /// Their folder; `plugins` in the data folder when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dir: Option<PathBuf>,
    /// Where native plugins run.
    pub isolation: Isolation,
    /// Which files are loaded.
    pub trust: Trust,
    /// The minisign public keys whose signatures are good under `trust = "signed"`.
    pub keys: Vec<String>,
    /// The list of trusted files; `plugins.lock` in the data folder when nothing is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lock: Option<PathBuf>,
    /// How much memory the process of a plugin may use, or an instance in a sandbox; 0 is no limit.
    pub memory_limit: ByteSize,
    /// How much an instance may keep in its key-value store; 0 is no limit.
    pub state_limit: ByteSize,
    /// How many events one call may emit; 0 is no limit.
    pub events_per_call: u64,
    /// How much one call may emit and write; 0 is no limit.
    pub bytes_per_call: ByteSize,
    /// How much an instance in a sandbox may compute on one frame, in units of about one instruction each; 0 is no limit
    /// but that of time.
    pub fuel_per_frame: u64,
    /// Entries in the tables of an instance in a sandbox, which point at its functions; 0 is no limit.
    pub table_entries: u64,
    /// How long one call into a plugin may take.
    pub call_timeout_seconds: u64,
    /// Whether the folder is watched while the host runs.
    pub watch: bool,
    /// What holds for single channels, by their ids.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub channel: BTreeMap<String, ForChannel>,
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            dir: None,
            isolation: Isolation::Auto,
            trust: Trust::Any,
            keys: Vec::new(),
            lock: None,
            memory_limit: ByteSize::mib(1024),
            state_limit: ByteSize::mib(256),
            events_per_call: 10_000,
            bytes_per_call: ByteSize::mib(64),
            fuel_per_frame: 0,
            // A large Rust program has some thousand functions to point at.
            table_entries: 100_000,
            call_timeout_seconds: 60,
            watch: true,
            channel: BTreeMap::new(),
        }
    }
}

/// The database. All but the address is about Postgres.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// Which one.
    pub url: DatabaseUrl,
    /// Connections that read. Three more write, append to the log, and hold the database.
    pub connections: u32,
    /// How long a request waits for a connection before it is refused.
    pub acquire_timeout_seconds: u64,
    /// How long a statement may take.
    pub statement_timeout_seconds: u64,
    /// How long a statement may wait for a lock that somebody else has.
    pub lock_timeout_seconds: u64,
    /// How long the server lets a transaction be of a host that does not answer any more.
    pub idle_in_transaction_timeout_seconds: u64,
}

impl Default for Database {
    fn default() -> Self {
        Self {
            url: DatabaseUrl::Embedded,
            connections: 8,
            acquire_timeout_seconds: 10,
            statement_timeout_seconds: 60,
            lock_timeout_seconds: 10,
            idle_in_transaction_timeout_seconds: 60,
        }
    }
}

impl Database {
    /// As the store takes them.
    pub fn postgres_options(&self) -> PostgresOptions {
        PostgresOptions {
            readers: self.connections,
            acquire_timeout: Duration::from_secs(self.acquire_timeout_seconds),
            statement_timeout: Duration::from_secs(self.statement_timeout_seconds),
            lock_timeout: Duration::from_secs(self.lock_timeout_seconds),
            idle_timeout: Duration::from_secs(self.idle_in_transaction_timeout_seconds),
        }
    }
}

/// The bus. All but the address is about NATS.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bus {
    /// Which one.
    pub url: BusUrl,
    /// What begins the name of the stream that is the log.
    pub prefix: String,
    /// How many copies of each stream a cluster keeps.
    pub replicas: u64,
    /// The most that the log may hold until it is stored.
    pub max_bytes: ByteSize,
    /// A file with the credentials of an account (`.creds`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credentials_file: Option<PathBuf>,
    /// Certificates (PEM) of authorities that are trusted beside those that the machine trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// Where a server's monitoring answers, which tells how durable it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor_url: Option<String>,
}

impl Default for Bus {
    fn default() -> Self {
        Self {
            url: BusUrl::Embedded,
            prefix: "omni".into(),
            replicas: 1,
            max_bytes: ByteSize::mib(1_024),
            credentials_file: None,
            ca_file: None,
            monitor_url: None,
        }
    }
}

impl Bus {
    /// As the bus takes them; `None` when the log is in the database.
    pub fn nats_options(&self) -> Option<NatsOptions> {
        let BusUrl::Nats(url) = &self.url else { return None };
        Some(NatsOptions {
            url: url.expose().to_owned(),
            prefix: self.prefix.clone(),
            replicas: usize::try_from(self.replicas).unwrap_or(1),
            max_bytes: i64::try_from(self.max_bytes.0).unwrap_or(i64::MAX),
            credentials: self.credentials_file.clone(),
            ca_file: self.ca_file.clone(),
            monitor_url: self.monitor_url.clone(),
        })
    }
}

/// Connections that the host makes on behalf of others: webhooks, files, the calls of channels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Network {
    /// Private addresses and ranges that anything may be pointed at.
    pub allow_private: Vec<String>,
    /// An HTTP proxy for all of them, sockets included. It looks names up, so that the guard against private addresses is
    /// its affair.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Secret>,
    /// Certificates (PEM) of authorities that are trusted beside those that the machine trusts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
}

/// Messages to the networks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Outbound {
    /// How long an API call waits for the outcome of a send before it answers with the id to follow.
    pub wait_seconds: u64,
    /// How often a send that certainly did not happen is tried before it is given up.
    pub max_attempts: u32,
    /// How long a chat waits for the outcome of a send that is not known.
    pub reconcile_seconds: u64,
}

impl Default for Outbound {
    fn default() -> Self {
        Self { wait_seconds: 10, max_attempts: 10, reconcile_seconds: 60 }
    }
}

/// Events to other programs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// How long one attempt may take.
    pub timeout_seconds: u64,
    /// Attempts under way to one webhook.
    pub concurrency: usize,
    /// After so long without one success a webhook is disabled.
    pub disable_after_days: u32,
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self { timeout_seconds: 20, concurrency: 16, disable_after_days: 5 }
    }
}

/// How long is kept what would grow for ever. 0 keeps it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retention {
    /// The log, behind what every consumer has read.
    pub log_days: u32,
    /// Keys by which a network's redelivery is known; they outlive the log.
    pub delivery_key_days: u32,
    /// Events (not messages, which stay), and jobs that fetched older or missed messages.
    pub event_days: u32,
    /// Settled rows of the outbox.
    pub outbox_days: u32,
    /// Dead letters that were resolved or abandoned.
    pub dead_letter_days: u32,
    /// What was sent to webhooks, with its attempts, once it is settled; and replays.
    pub webhook_days: u32,
    /// Answers kept for a repeated `Idempotency-Key`.
    pub idempotency_hours: u32,
    /// The audit log of the API.
    pub audit_days: u32,
    /// Stored files; what is left of one is its row.
    pub media_days: u32,
    /// Files that were uploaded and never sent.
    pub upload_hours: u32,
    /// Bytes of stored files; beyond it the oldest go, those that no message needs first. 0 is no limit.
    pub media_quota: ByteSize,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            log_days: 7,
            delivery_key_days: 30,
            event_days: 90,
            outbox_days: 14,
            dead_letter_days: 90,
            webhook_days: 14,
            idempotency_hours: 24,
            audit_days: 90,
            media_days: 0,
            upload_hours: 24,
            media_quota: ByteSize(20 << 30),
        }
    }
}

/// What the host says about itself while it runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter by part (`info,omni_host::outbound=debug`).
    pub level: String,
    /// For people or for programs.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Pretty }
    }
}

/// Traces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where an OpenTelemetry collector takes OTLP over HTTP (`http://collector:4318`); none are made without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otlp_endpoint: Option<String>,
    /// Which share of the traces that begin here is sent. Of one that a caller began it is the caller who says.
    pub sample: f64,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { otlp_endpoint: None, sample: 0.01 }
    }
}

impl Config {
    /// Reads every source, checks it, and tells where each value came from.
    pub fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
        load::load(sources)
    }

    /// The folder of the plugin files.
    pub fn plugins_dir(&self) -> PathBuf {
        self.plugins.dir.clone().unwrap_or_else(|| self.data.dir.join("plugins"))
    }

    /// The list of trusted plugin files.
    pub fn plugins_lock(&self) -> PathBuf {
        self.plugins.lock.clone().unwrap_or_else(|| self.data.dir.join("plugins.lock"))
    }

    /// What plugins were granted while the host runs.
    pub fn plugins_grants(&self) -> PathBuf {
        self.data.dir.join("plugins.grants")
    }

    /// Where files of messages lie.
    pub fn media_dir(&self) -> PathBuf {
        self.data.media_dir.clone().unwrap_or_else(|| self.data.dir.join("media"))
    }

    /// The file of the embedded database; there is none with Postgres.
    pub fn database_file(&self) -> Option<PathBuf> {
        match &self.database.url {
            DatabaseUrl::Embedded => Some(self.data.dir.join("omni.db")),
            DatabaseUrl::Sqlite(path) => Some(path.clone()),
            DatabaseUrl::Postgres(_) => None,
        }
    }

    /// Makes relative paths hang off `folder`.
    fn make_absolute(&mut self, folder: &Path) {
        let hang = |path: &mut PathBuf| *path = clean(&folder.join(&*path));
        hang(&mut self.data.dir);
        for path in [&mut self.data.media_dir, &mut self.plugins.dir, &mut self.plugins.lock].into_iter().flatten() {
            hang(path);
        }
        if let Some(file) = &mut self.http.api_key_file {
            hang(file);
        }
        if let DatabaseUrl::Sqlite(file) = &mut self.database.url {
            hang(file);
        }
    }
}

/// The path without its `.` parts.
fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

#[cfg(test)]
mod tests;
