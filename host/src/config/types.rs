//! The values that the configuration holds, each of which checks itself as it is read.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use zeroize::Zeroize;

/// Where native plugins run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Those beside the program, and those on the list of trusted files, in the host; every other in a process of its own.
    #[default]
    Auto,
    /// Each in a process of its own.
    Process,
    /// All in the host: a crash of one is a crash of the host.
    InProcess,
}

/// Which plugin files are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Trust {
    /// Every good one in the folder, as long as nobody but the host's user may put files there.
    #[default]
    Any,
    /// Those whose content is on the list that `omni plugins trust` keeps.
    Listed,
    /// Those that are signed with one of the configured keys.
    Signed,
}

/// What holds for the plugin of one channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ForChannel {
    /// Where it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// The only hosts that the host goes to for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<String>>,
    /// How much memory its process may use, or an instance in a sandbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<ByteSize>,
    /// How much an instance may keep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state_limit: Option<ByteSize>,
    /// How many events one call may emit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_per_call: Option<u64>,
    /// How much one call may emit and write.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_call: Option<ByteSize>,
    /// How much an instance in a sandbox may compute on one frame.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fuel_per_frame: Option<u64>,
    /// How many entries the tables of an instance in a sandbox may have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_entries: Option<u64>,
}

impl ForChannel {
    /// These, and where they say nothing, those.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            isolation: self.isolation.or(below.isolation),
            hosts: self.hosts.or(below.hosts),
            memory_limit: self.memory_limit.or(below.memory_limit),
            state_limit: self.state_limit.or(below.state_limit),
            events_per_call: self.events_per_call.or(below.events_per_call),
            bytes_per_call: self.bytes_per_call.or(below.bytes_per_call),
            fuel_per_frame: self.fuel_per_frame.or(below.fuel_per_frame),
            table_entries: self.table_entries.or(below.table_entries),
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// Which database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// SQLite, in a file in the data folder.
    #[default]
    Embedded,
    /// SQLite, in this file.
    Sqlite(PathBuf),
    /// Postgres, at this address, which may hold a password.
    Postgres(Secret),
}

impl FromStr for DatabaseUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" || text == "sqlite" {
            return Ok(Self::Embedded);
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            return match reqwest::Url::parse(text) {
                Ok(_) => Ok(Self::Postgres(Secret::new(text.to_owned()))),
                Err(error) => Err(format!(
                    "that is no address ({error}); write postgres://user:password@host:5432/database, \
                     with % escapes for what is special in a password"
                )),
            };
        }
        let Some(path) = text.strip_prefix("sqlite:") else {
            return Err(
                "that is no database this version knows; write \"embedded\", sqlite:///path/to/omni.db or postgres://…"
                    .into(),
            );
        };
        // `sqlite:///absolute`, `sqlite://relative` and `sqlite:relative` are all in use.
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains(['?', '#']) || path == ":memory:" {
            return Err(
                "a path to a file must follow \"sqlite:\", without options, such as sqlite:///var/lib/omni/omni.db"
                    .into(),
            );
        }
        Ok(Self::Sqlite(PathBuf::from(path)))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded => f.write_str("embedded"),
            Self::Sqlite(path) => write!(f, "sqlite://{}", path.display()),
            Self::Postgres(address) => f.write_str(&without_secrets(address.expose())),
        }
    }
}

/// An address of Postgres as it may be shown: where it is and who is let in, and not by what.
fn without_secrets(address: &str) -> String {
    const SHOWN: [&str; 7] = ["host", "hostaddr", "port", "user", "dbname", "sslmode", "ssl-mode"];
    let Ok(mut url) = reqwest::Url::parse(address) else { return "postgres://…".into() };
    // Neither fails for an address that has a host, and one without has no password there.
    let _ = url.set_password(None);
    let shown: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| SHOWN.contains(&&**name))
        .map(|pair| (pair.0.into(), pair.1.into()))
        .collect();
    url.set_query(None);
    if !shown.is_empty() {
        url.query_pairs_mut().extend_pairs(shown);
    }
    url.into()
}

/// Which bus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum BusUrl {
    /// A log table in the database.
    #[default]
    Embedded,
    /// NATS JetStream, at these servers with commas between them, which may hold a password.
    Nats(Secret),
}

impl FromStr for BusUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "embedded" {
            return Ok(Self::Embedded);
        }
        if !text.starts_with("nats://") && !text.starts_with("tls://") {
            return Err("that is no bus this version knows; write \"embedded\" or nats://host:4222".into());
        }
        for server in text.split(',') {
            let url = reqwest::Url::parse(server.trim()).map_err(|error| {
                format!(
                    "that is no address of NATS ({error}); write nats://user:password@host:4222, several with commas \
                     between them and % escapes for what is special in a password"
                )
            })?;
            if !matches!(url.scheme(), "nats" | "tls") || url.host_str().is_none_or(str::is_empty) {
                return Err("each address of NATS begins with nats:// or tls:// and names a host".into());
            }
        }
        Ok(Self::Nats(Secret::new(text.to_owned())))
    }
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Nats(servers) = self else { return f.write_str("embedded") };
        for (index, server) in servers.expose().split(',').enumerate() {
            let shown = reqwest::Url::parse(server.trim()).ok().and_then(|url| {
                let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
                Some(format!("{}://{}{port}", url.scheme(), url.host_str()?))
            });
            write!(f, "{}{}", if index > 0 { "," } else { "" }, shown.as_deref().unwrap_or("nats://…"))?;
        }
        Ok(())
    }
}

/// A number of bytes: `1048576`, `"512 KiB"`, `"10 MiB"`, `"1 GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl ByteSize {
    /// So many mebibytes.
    pub const fn mib(count: u64) -> Self {
        Self(count << 20)
    }

    /// As the length of something in memory.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong =
            || format!("{text:?} is no size; write bytes, or a number with KiB, MiB or GiB, such as \"10 MiB\"");
        let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
        let unit = text[digits.len()..].trim();
        let count: u64 = digits.trim().parse().map_err(|_| wrong())?;
        let factor = match unit {
            "" => 1,
            unit => UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(wrong)?.1,
        };
        count.checked_mul(factor).filter(|bytes| i64::try_from(*bytes).is_ok()).map(Self).ok_or_else(wrong)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = UNITS.iter().find(|(_, factor)| self.0 >= *factor && self.0.is_multiple_of(*factor));
        let (name, factor) = whole.unwrap_or(&("B", 1));
        write!(f, "{} {name}", self.0 / factor)
    }
}

/// A secret: never printed, wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text as a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(set, not shown)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

macro_rules! as_text {
    ($($ty:ty),*) => { $(
        impl Serialize for $ty {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    )* };
}
as_text!(DatabaseUrl, BusUrl, ByteSize);

macro_rules! from_text {
    ($($ty:ty),*) => { $(
        impl<'de> Deserialize<'de> for $ty {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )* };
}
from_text!(DatabaseUrl, BusUrl);

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Bytes(u64),
            Text(String),
        }
        match Either::deserialize(deserializer)? {
            Either::Bytes(bytes) => Ok(Self(bytes)),
            Either::Text(text) => text.parse().map_err(serde::de::Error::custom),
        }
    }
}
