//! Every key there is: what it takes, and what it is called in the environment.
//!
//! A test holds this table, the structs and `examples/omni.toml` together.

/// What a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Text,
    /// Words that are never shown.
    Secret,
    /// An address that may hold a password, and is never shown when it is refused.
    Url,
    /// The path of a file or folder.
    Path,
    /// An IP address with a port.
    Address,
    /// A number of bytes.
    Size,
    /// `true` or `false`.
    Switch,
    /// A whole number between these, both included.
    Number(i64, i64),
    /// A share, from 0 to 1.
    Share,
    /// A list of words.
    List,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A table for each channel. In a file only.
    Channels,
}

impl Kind {
    /// In words, as the end of "expected …".
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::Secret => "a text in quotes".into(),
            Self::Url => "an address in quotes".into(),
            Self::Path => "a path in quotes".into(),
            Self::Address => "an IP address with a port, such as \"127.0.0.1:8882\"".into(),
            Self::Size => "a number of bytes, or a size such as \"10 MiB\"".into(),
            Self::Switch => "true or false".into(),
            Self::Number(min, max) => format!("a whole number from {min} to {max}"),
            Self::Share => "a number from 0.0 to 1.0".into(),
            Self::List => "a list of texts, such as [\"one\", \"two\"]".into(),
            Self::Choice(words) => format!("one of \"{}\"", words.join("\", \"")),
            Self::Channels => "a table for each channel, such as [plugins.channel.telegram]".into(),
        }
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its section and name (`http.listen`).
    pub path: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// A short name in the environment, beside the one made of section and name.
    short_env: Option<&'static str>,
}

impl Key {
    /// Its name in the environment.
    pub fn env(&self) -> String {
        match self.short_env {
            Some(name) => name.to_owned(),
            None => self.long_env(),
        }
    }

    /// Its names in the environment, the one that wins first.
    pub fn envs(&self) -> impl Iterator<Item = String> + use<> {
        self.short_env.map(str::to_owned).into_iter().chain([self.long_env()])
    }

    fn long_env(&self) -> String {
        format!("OMNI_{}", self.path.replace('.', "_").to_uppercase())
    }

    /// Its section and its name.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.path.split_once('.').expect("every key has a section")
    }
}

const fn key(path: &'static str, kind: Kind) -> Key {
    Key { path, kind, short_env: None }
}

const fn short(path: &'static str, kind: Kind, env: &'static str) -> Key {
    Key { path, kind, short_env: Some(env) }
}

const DAYS: Kind = Kind::Number(0, 36_500);
const SECONDS: Kind = Kind::Number(1, 3_600);

/// All of them, in the order of `examples/omni.toml`.
pub const KEYS: &[Key] = &[
    key("data.dir", Kind::Path),
    key("data.media_dir", Kind::Path),
    short("http.listen", Kind::Address, "OMNI_LISTEN"),
    key("http.public_url", Kind::Text),
    short("http.api_key", Kind::Secret, "OMNI_API_KEY"),
    short("http.api_key_file", Kind::Path, "OMNI_API_KEY_FILE"),
    key("http.body_limit", Kind::Size),
    key("http.media_limit", Kind::Size),
    key("http.request_timeout_seconds", SECONDS),
    key("http.header_timeout_seconds", SECONDS),
    key("http.body_timeout_seconds", SECONDS),
    key("http.write_timeout_seconds", SECONDS),
    key("http.max_connections", Kind::Number(1, 1_000_000)),
    key("http.max_connections_per_address", Kind::Number(1, 1_000_000)),
    key("http.trusted_proxies", Kind::List),
    key("http.request_memory", Kind::Size),
    key("http.rate_limit", Kind::Number(0, 1_000_000)),
    key("http.shutdown_seconds", Kind::Number(0, 3_600)),
    key("http.cors_origins", Kind::List),
    key("http.metrics_public", Kind::Switch),
    key("http.audit_reads", Kind::Switch),
    key("plugins.dir", Kind::Path),
    key("plugins.isolation", Kind::Choice(&["auto", "process", "in-process"])),
    key("plugins.trust", Kind::Choice(&["any", "listed", "signed"])),
    key("plugins.keys", Kind::List),
    key("plugins.lock", Kind::Path),
    key("plugins.memory_limit", Kind::Size),
    key("plugins.state_limit", Kind::Size),
    key("plugins.events_per_call", Kind::Number(0, 1_000_000)),
    key("plugins.bytes_per_call", Kind::Size),
    key("plugins.fuel_per_frame", Kind::Number(0, 1_000_000_000_000_000)),
    key("plugins.table_entries", Kind::Number(0, 1_000_000_000)),
    key("plugins.call_timeout_seconds", SECONDS),
    key("plugins.watch", Kind::Switch),
    key("plugins.channel", Kind::Channels),
    key("database.url", Kind::Url),
    key("database.connections", Kind::Number(1, 1_000)),
    key("database.acquire_timeout_seconds", SECONDS),
    key("database.statement_timeout_seconds", SECONDS),
    key("database.lock_timeout_seconds", SECONDS),
    key("database.idle_in_transaction_timeout_seconds", SECONDS),
    key("bus.url", Kind::Url),
    key("bus.prefix", Kind::Text),
    key("bus.replicas", Kind::Number(1, 5)),
    key("bus.max_bytes", Kind::Size),
    key("bus.credentials_file", Kind::Path),
    key("bus.ca_file", Kind::Path),
    key("bus.monitor_url", Kind::Text),
    key("network.allow_private", Kind::List),
    key("network.proxy", Kind::Secret),
    key("network.ca_file", Kind::Path),
    key("outbound.wait_seconds", Kind::Number(0, 3_600)),
    key("outbound.max_attempts", Kind::Number(1, 1_000)),
    key("outbound.reconcile_seconds", Kind::Number(0, 86_400)),
    key("webhooks.timeout_seconds", Kind::Number(1, 300)),
    key("webhooks.concurrency", Kind::Number(1, 1_000)),
    key("webhooks.disable_after_days", Kind::Number(1, 365)),
    key("retention.log_days", DAYS),
    key("retention.delivery_key_days", DAYS),
    key("retention.event_days", DAYS),
    key("retention.outbox_days", DAYS),
    key("retention.dead_letter_days", DAYS),
    key("retention.webhook_days", DAYS),
    key("retention.idempotency_hours", Kind::Number(1, 8_760)),
    key("retention.audit_days", DAYS),
    key("retention.media_days", DAYS),
    key("retention.upload_hours", Kind::Number(1, 8_760)),
    key("retention.media_quota", Kind::Size),
    short("log.level", Kind::Text, "OMNI_LOG"),
    key("log.format", Kind::Choice(&["pretty", "json"])),
    key("telemetry.otlp_endpoint", Kind::Text),
    key("telemetry.sample", Kind::Share),
];

/// Names in the environment that are used without being a key of the configuration.
pub const OTHER_ENVS: &[&str] = &["OMNI_CONFIG", "OMNI_API_URL"];

/// The key of this path.
pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.path == path)
}

/// The sections, in order.
pub fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS.iter().map(|key| key.split().0).collect();
    sections.dedup();
    sections
}

/// The word among `known` that was most likely meant.
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(word, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
