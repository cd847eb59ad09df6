//! Lays the sources over each other, and remembers for each value where it came from.

use super::error::ConfigError;
use super::keys::{self, KEYS, Key, Kind, nearest};
use super::{Config, Secret};
use serde::de::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// Everything that a configuration is made of, handed in from outside.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The file that was named by a flag. Without it `OMNI_CONFIG`, and else `omni.toml` in `folder` if there is one.
    pub file: Option<&'a Path>,
    /// The environment.
    pub env: &'a BTreeMap<String, String>,
    /// Values given by flags.
    pub flags: &'a [Flag],
    /// The process's folder, which relative paths hang off.
    pub folder: &'a Path,
}

/// A value that was given by a flag.
#[derive(Clone, Debug)]
pub struct Flag {
    /// The flag (`--listen`).
    pub name: &'static str,
    /// The key that it sets (`http.listen`).
    pub key: &'static str,
    /// What was given.
    pub value: String,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A file.
    File {
        /// Which.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// A variable of the environment.
    Env(String),
    /// A flag.
    Flag(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{}:{line}", file.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// A configuration and how it came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file that was read, if one was.
    pub file: Option<PathBuf>,
    /// Every key with its value and its origin, in the order of [`keys::KEYS`].
    pub settings: Vec<Setting>,
    /// What looks wrong but does not stop the host.
    pub warnings: Vec<String>,
}

/// One key with its value.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The key (`http.listen`).
    pub key: &'static str,
    /// Its name in the environment.
    pub env: String,
    /// Its value; absent when it is not set and has no default. A secret says only that it is set.
    pub value: Option<serde_json::Value>,
    /// Where the value came from.
    pub origin: Origin,
}

struct Entry {
    value: Value,
    origin: Origin,
}

/// Key path → what is said about it; a later source replaces an earlier one.
type Entries = BTreeMap<&'static str, Entry>;

pub(super) fn load(sources: &Sources<'_>) -> Result<Loaded, ConfigError> {
    let mut entries = Entries::new();
    let file = file_to_read(sources);
    if let Some(file) = &file {
        read_file(file, &mut entries)?;
    }
    read_env(sources.env, &mut entries)?;
    for flag in sources.flags {
        let key = keys::find(flag.key).expect("a flag names a key of the table");
        let origin = Origin::Flag(flag.name);
        let value = from_text(key, &flag.value, &origin)?;
        entries.insert(key.path, Entry { value, origin });
    }
    for entry in &entries {
        check(entry.0, entry.1)?;
    }
    let file_folder = file.as_deref().and_then(Path::parent).unwrap_or(sources.folder);
    let mut config = assemble(&entries, file_folder)?;
    config.make_absolute(sources.folder);
    read_key_file(&mut config, &entries)?;
    if let (super::BusUrl::Nats(_), None) = (&config.bus.url, postgres(&config)) {
        let origin = entries.get("bus.url").map_or(Origin::Default, |entry| entry.origin.clone());
        let problem = "NATS is for Postgres: a database in a file has its log there, which is as durable and faster; set \
                       `database.url` to a postgres:// address, or take `bus.url` away";
        return Err(ConfigError::Value { origin, key: "bus.url", problem: problem.into() });
    }
    let settings = settings(&config, &entries);
    let warnings = warnings(sources.env, &config);
    Ok(Loaded { config, file, settings, warnings })
}

fn file_to_read(sources: &Sources<'_>) -> Option<PathBuf> {
    let named = sources.file.map(Path::to_path_buf).or_else(|| sources.env.get("OMNI_CONFIG").map(PathBuf::from));
    match named {
        Some(file) => Some(sources.folder.join(file)),
        None => Some(sources.folder.join("omni.toml")).filter(|file| file.exists()),
    }
}

fn read_file(file: &Path, entries: &mut Entries) -> Result<(), ConfigError> {
    let text =
        std::fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.to_path_buf(), source })?;
    let at = |offset: usize| Origin::File { file: file.to_path_buf(), line: line_of(&text, offset) };
    let syntax = |error: toml::de::Error| ConfigError::Syntax {
        file: file.to_path_buf(),
        line: line_of(&text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    };
    let places = DeTable::parse(&text).map_err(syntax)?;
    let values: Table = toml::from_str(&text).map_err(syntax)?;
    for (section, content) in places.get_ref() {
        let origin = at(section.span().start);
        let name: &str = section.get_ref();
        let DeValue::Table(content) = content.get_ref() else {
            return Err(unknown_top(name, origin));
        };
        if !keys::sections().contains(&name) {
            return Err(unknown_top(name, origin));
        }
        for (key, _) in content {
            let origin = at(key.span().start);
            let key: &str = key.get_ref();
            let path = format!("{name}.{key}");
            let Some(known) = keys::find(&path) else {
                return Err(unknown_key(name, key, origin));
            };
            let value = values[name][key].clone();
            entries.insert(known.path, Entry { value, origin });
        }
    }
    Ok(())
}

fn unknown_top(name: &str, origin: Origin) -> ConfigError {
    let sections = keys::sections();
    // A key without its section is the likelier mistake when a section has one of that name.
    let lost = KEYS.iter().find(|key| key.split().1 == name).map(|key| key.path);
    let nearest = lost.or_else(|| nearest(name, sections)).map(str::to_owned);
    ConfigError::Unknown { origin, what: if lost.is_some() { "key" } else { "section" }, name: name.into(), nearest }
}

fn unknown_key(section: &str, key: &str, origin: Origin) -> ConfigError {
    let here = KEYS.iter().map(Key::split).filter(|(of, _)| *of == section).map(|(_, name)| name);
    let elsewhere = KEYS.iter().find(|known| known.split().1 == key).map(|known| known.path.to_owned());
    let nearest = elsewhere.or_else(|| nearest(key, here).map(|name| format!("{section}.{name}")));
    ConfigError::Unknown { origin, what: "key", name: format!("{section}.{key}"), nearest }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

fn read_env(env: &BTreeMap<String, String>, entries: &mut Entries) -> Result<(), ConfigError> {
    for key in KEYS {
        // An empty variable is how container files say "not set".
        let found = key.envs().find_map(|name| env.get(&name).filter(|text| !text.is_empty()).map(|text| (name, text)));
        if let Some((name, text)) = found {
            let origin = Origin::Env(name);
            let value = from_text(key, text, &origin)?;
            entries.insert(key.path, Entry { value, origin });
        }
    }
    Ok(())
}

/// Reads a value from a variable or a flag, where everything is text.
fn from_text(key: &Key, text: &str, origin: &Origin) -> Result<Value, ConfigError> {
    let wrong = || ConfigError::Value { origin: origin.clone(), key: key.path, problem: mismatch(key.kind, text) };
    Ok(match key.kind {
        Kind::Number(..) => Value::Integer(text.trim().parse().map_err(|_| wrong())?),
        Kind::Share => Value::Float(text.trim().parse().map_err(|_| wrong())?),
        Kind::Switch => match text.trim() {
            "true" | "1" | "yes" | "on" => Value::Boolean(true),
            "false" | "0" | "no" | "off" => Value::Boolean(false),
            _ => return Err(wrong()),
        },
        Kind::List => {
            Value::Array(text.split(',').map(str::trim).filter(|word| !word.is_empty()).map(Value::from).collect())
        }
        _ => Value::String(text.to_owned()),
    })
}

fn mismatch(kind: Kind, found: &str) -> String {
    format!("expected {}, found {found}", kind.expected())
}

/// Checks one value by its kind, and by what its type says about itself.
fn check(path: &'static str, entry: &Entry) -> Result<(), ConfigError> {
    let key = keys::find(path).expect("entries name keys of the table");
    let wrong = |problem| Err(ConfigError::Value { origin: entry.origin.clone(), key: path, problem });
    let fits = match (key.kind, &entry.value) {
        (Kind::Number(min, max), Value::Integer(number)) => (min..=max).contains(number),
        (Kind::Share, Value::Float(share)) => (0.0..=1.0).contains(share),
        (Kind::Share, Value::Integer(share)) => (0..=1).contains(share),
        (Kind::Size, Value::Integer(number)) => *number >= 0,
        (Kind::Address, Value::String(text)) => text.parse::<std::net::SocketAddr>().is_ok(),
        (Kind::Choice(words), Value::String(text)) => words.contains(&text.as_str()),
        (Kind::Switch, Value::Boolean(_)) => true,
        (Kind::List, Value::Array(list)) => list.iter().all(Value::is_str),
        (Kind::Channels, Value::Table(channels)) => channels.values().all(Value::is_table),
        (Kind::Text | Kind::Secret | Kind::Url | Kind::Path | Kind::Size, Value::String(text)) => !text.is_empty(),
        _ => false,
    };
    if !fits {
        let found = match key.kind {
            Kind::Secret | Kind::Url => format!("a value of another kind ({})", entry.value.type_str()),
            _ => entry.value.to_string(),
        };
        return wrong(mismatch(key.kind, &found));
    }
    if let Some(problem) = special(path, &entry.value) {
        return wrong(problem);
    }
    match Config::deserialize(single(path, entry.value.clone())) {
        Ok(_) => Ok(()),
        Err(error) => wrong(error.message().to_owned()),
    }
}

/// What a kind cannot say.
fn special(path: &str, value: &Value) -> Option<String> {
    let text = value.as_str().unwrap_or_default();
    match path {
        "http.api_key" => api_key_problem(text),
        "bus.monitor_url" if !text.starts_with("https://") && !text.starts_with("http://") => {
            Some(format!("expected an address that begins with https:// or http://, found {text:?}"))
        }
        "bus.prefix" if !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') => {
            Some(format!("expected small letters, digits and hyphens, found {text:?}"))
        }
        "telemetry.otlp_endpoint" => match reqwest::Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.username().is_empty() => None,
            _ => Some(format!("expected an address such as \"http://collector:4318\", without a user, found {text:?}")),
        },
        "http.public_url" if !text.starts_with("https://") && !text.starts_with("http://") => {
            Some(format!("expected an address that begins with https:// or http://, found {text:?}"))
        }
        "plugins.keys" => value
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .find(|key| crate::plugins::signature::Key::parse(key).is_err())
            .map(|key| format!("{key:?} is no minisign public key; expected the second line of minisign.pub (RW…)")),
        "http.trusted_proxies" | "network.allow_private" => value
            .as_array()?
            .iter()
            .filter_map(Value::as_str)
            .find_map(|range| crate::egress::parse_range(range).err()),
        // It may hold a password, so it is not repeated.
        "network.proxy" => crate::egress::proxy::parse(text).err().map(str::to_owned),
        "log.level" => tracing_subscriber::EnvFilter::try_new(text).err().map(|error| {
            format!("expected error, warn, info, debug, trace or a filter such as \"info,omni_host=debug\", found {text:?} ({error})")
        }),
        _ => None,
    }
}

fn api_key_problem(text: &str) -> Option<String> {
    let rest = text.strip_prefix("omni_sk_").filter(|rest| !rest.is_empty());
    match rest {
        Some(rest) if rest.bytes().all(|byte| byte.is_ascii_graphic()) => None,
        Some(_) => Some("a key is made of letters, digits and signs, without spaces".into()),
        None => Some("a key begins with omni_sk_ and goes on with something hard to guess".into()),
    }
}

/// A whole configuration that says one thing.
fn single(path: &str, value: Value) -> Table {
    let (section, name) = path.split_once('.').expect("every key has a section");
    Table::from_iter([(section.to_owned(), Value::Table(Table::from_iter([(name.to_owned(), value)])))])
}

fn assemble(entries: &Entries, file_folder: &Path) -> Result<Config, ConfigError> {
    let mut whole = Table::new();
    for (path, entry) in entries {
        let (section, name) = path.split_once('.').expect("every key has a section");
        let value = match (&entry.origin, keys::find(path).map(|key| key.kind), &entry.value) {
            // What a file says of a path is meant as seen from that file.
            (Origin::File { .. }, Some(Kind::Path), Value::String(text)) => {
                Value::String(file_folder.join(text).to_string_lossy().into_owned())
            }
            (_, _, value) => value.clone(),
        };
        let section = whole.entry(section).or_insert_with(|| Value::Table(Table::new()));
        section.as_table_mut().expect("sections are tables").insert(name.to_owned(), value);
    }
    let mut config = Config::deserialize(whole).expect("every value was read singly before");
    if let (super::DatabaseUrl::Sqlite(path), Some(Entry { origin: Origin::File { .. }, .. })) =
        (&mut config.database.url, entries.get("database.url"))
    {
        *path = file_folder.join(&*path);
    }
    if let Some(url) = &mut config.http.public_url {
        url.truncate(url.trim_end_matches('/').len());
    }
    Ok(config)
}

fn postgres(config: &Config) -> Option<&super::Secret> {
    match &config.database.url {
        super::DatabaseUrl::Postgres(address) => Some(address),
        _ => None,
    }
}

fn read_key_file(config: &mut Config, entries: &Entries) -> Result<(), ConfigError> {
    let Some(file) = &config.http.api_key_file else { return Ok(()) };
    let origin = entries.get("http.api_key_file").map_or(Origin::Default, |entry| entry.origin.clone());
    let wrong = |problem| ConfigError::Value { origin: origin.clone(), key: "http.api_key_file", problem };
    if config.http.api_key.is_some() {
        return Err(wrong("the key is given twice, here and by `http.api_key`; keep one of them".into()));
    }
    let text =
        std::fs::read_to_string(file).map_err(|error| wrong(format!("failed to read {}: {error}", file.display())))?;
    let key = text.trim();
    if let Some(problem) = api_key_problem(key) {
        return Err(wrong(format!("{}: {problem}", file.display())));
    }
    config.http.api_key = Some(Secret::new(key.to_owned()));
    Ok(())
}

fn settings(config: &Config, entries: &Entries) -> Vec<Setting> {
    let whole = serde_json::to_value(config).expect("a configuration is plain data");
    let value_of = |key: &Key| {
        let (section, name) = key.split();
        match key.path {
            "data.media_dir" => Some(config.media_dir().to_string_lossy().into_owned().into()),
            "plugins.dir" => Some(config.plugins_dir().to_string_lossy().into_owned().into()),
            "plugins.lock" => Some(config.plugins_lock().to_string_lossy().into_owned().into()),
            _ => whole.get(section).and_then(|section| section.get(name)).cloned(),
        }
    };
    KEYS.iter()
        .map(|key| Setting {
            key: key.path,
            env: key.env(),
            value: value_of(key),
            origin: entries.get(key.path).map_or(Origin::Default, |entry| entry.origin.clone()),
        })
        .collect()
}

fn warnings(env: &BTreeMap<String, String>, config: &Config) -> Vec<String> {
    let mut known: Vec<String> = KEYS.iter().flat_map(Key::envs).collect();
    known.extend(keys::OTHER_ENVS.iter().map(|name| (*name).to_owned()));
    let strange = env.keys().filter(|name| name.starts_with("OMNI_") && !name.starts_with("OMNI_TEST_"));
    let mut warnings: Vec<String> = strange
        .filter(|name| !known.contains(name))
        .map(|name| match nearest(name, known.iter().map(String::as_str)) {
            Some(meant) => format!("the environment variable {name} means nothing; did you mean {meant}?"),
            None => format!("the environment variable {name} means nothing"),
        })
        .collect();
    let short = |key: &Secret| key.expose().len() < 24;
    if config.http.api_key.as_ref().is_some_and(short) {
        warnings.push("the API key is short and may be guessed; `omni keys create` makes a good one".into());
    }
    // A range of addresses that leaves nobody out.
    let everybody = |range: &String| crate::egress::parse_range(range).is_ok_and(|range| range.prefix_len() == 0);
    if let Some(range) = config.http.trusted_proxies.iter().find(|range| everybody(range)) {
        warnings.push(format!(
            "`http.trusted_proxies`: {range} is everybody, so whoever asks may say that they are somebody else; name the proxies"
        ));
    }
    warnings
}
