//! `omni doctor`: looks at everything that a host stands on, beside a running host or without one, and says of each thing
//! whether it is well and what to do if it is not. Changes nothing.

mod ledger;
mod nats;

use crate::clock::Clock;
use crate::config::{Config, DatabaseUrl};
use crate::data::{self, DataError, DataFolder, KEY_FILE};
use crate::egress::{Destination, Egress, EgressError, tls};
use crate::secrets::{MasterKey, Sealer};
use crate::store::ledger::Line;
use crate::store::{postgres, snapshot};
use reqwest::{StatusCode, Url};
use std::error::Error;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// Well.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// It does not work.
    Fail,
}

impl State {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// In a sentence.
    pub message: String,
    /// What to do, when something is to be done.
    pub help: Option<String>,
    /// What was counted of every instance, when it is about that.
    pub ledger: Vec<Line>,
}

fn ok(check: &'static str, message: impl Into<String>) -> Finding {
    Finding { check, state: State::Ok, message: message.into(), help: None, ledger: Vec::new() }
}

fn warn(check: &'static str, message: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding { check, state: State::Warn, message: message.into(), help: Some(help.into()), ledger: Vec::new() }
}

fn fail(check: &'static str, message: impl Into<String>, help: impl Into<String>) -> Finding {
    Finding { check, state: State::Fail, message: message.into(), help: Some(help.into()), ledger: Vec::new() }
}

/// Free space below which there is a word about it, and below which nothing works for long.
const LITTLE: u64 = 1 << 30;
const NONE: u64 = 100 << 20;
/// How far a clock may be off before it matters (signatures, expiry, the order of messages).
const SKEW_MS: i64 = 30_000;
/// When this program was written: a clock before it is wrong.
const WRITTEN_MS: i64 = 1_767_225_600_000;
/// After what time the ledger is looked at once more, when it does not balance and NATS is part of it.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the network is asked.
const NETWORK: Duration = Duration::from_secs(5);

/// Looks at everything, in the order in which things stand on each other.
pub async fn examine(config: &Config, warnings: &[String], clock: &Clock) -> Vec<Finding> {
    let mut found = vec![ok("version", format!("omni {}", env!("CARGO_PKG_VERSION")))];
    found.push(match warnings {
        [] => ok("config", "the configuration is valid"),
        [first, ..] => warn("config", first.clone(), "`omni config check` shows every value and where it came from"),
    });
    found.extend(folder(&config.data.dir));
    let running = lock(&config.data.dir);
    found.push(match &running {
        Ok(None) => ok("host", "no host is running on this data folder"),
        Ok(Some(pid)) => ok("host", format!("a host is running (process {pid})")),
        Err(error) => fail("host", error.to_string(), "see that the folder belongs to the user that runs omni"),
    });
    let is_running = matches!(running, Ok(Some(_)));
    let database = database(config).await;
    let is_usable = worst(&database) != State::Fail;
    found.extend(database);
    found.extend(accounts(config, is_usable, is_running, clock).await);
    found.push(disk(&config.data.dir));
    found.extend(plugins(&config.plugins_dir()));
    found.push(listens(config.http.listen, is_running));
    found.extend(network(config, clock).await);
    found
}

/// NATS, when the log is there, and whether everything that was accepted is accounted for.
async fn accounts(config: &Config, is_usable: bool, is_running: bool, clock: &Clock) -> Vec<Finding> {
    let mut found = Vec::new();
    // What a host does meanwhile may be between its two ends; it is not for long.
    for last in [false, true] {
        let mut looked = if is_usable { ledger::look(config).await } else { Ok(None) };
        found = nats::examine(config, looked.as_mut().ok().and_then(Option::as_mut), is_running, clock.now()).await;
        match looked {
            Ok(None) => break,
            Err(error) => {
                found.push(ledger::unknown(&error));
                break;
            }
            Ok(Some(ledger)) => {
                found.push(ledger::verdict(&ledger));
                if last || ledger.nats.is_none() || ledger.lines.iter().all(Line::balances) {
                    break;
                }
                clock.sleep(AGAIN).await;
            }
        }
    }
    found
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> State {
    findings.iter().map(|finding| finding.state).max().unwrap_or(State::Ok)
}

fn folder(dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "data folder";
    let place = dir.display();
    let Ok(found) = std::fs::metadata(dir) else {
        return vec![warn(CHECK, format!("{place} does not exist"), "`omni serve` makes it at the first start")];
    };
    if !found.is_dir() {
        return vec![fail(CHECK, format!("{place} is no folder"), "name a folder with --data or OMNI_DATA_DIR")];
    }
    let mut findings = Vec::new();
    let mode = found.permissions().mode() & 0o777;
    if mode & 0o022 != 0 {
        let help = format!("run `chmod 700 {place}`");
        findings.push(fail(CHECK, format!("{place} can be changed by others (mode {mode:04o})"), help));
    } else if mode & 0o055 != 0 {
        let help = format!("run `chmod 700 {place}`: people's messages are in it");
        findings.push(warn(CHECK, format!("{place} can be read by others (mode {mode:04o})"), help));
    }
    let writable = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    if let Err(error) = writable {
        let help = "give it to the user that runs omni (chown)";
        findings.push(fail(CHECK, format!("{place} cannot be written: {error}"), help));
    }
    if findings.is_empty() {
        findings.push(ok(CHECK, format!("{place} is private and can be written")));
    }
    findings
}

/// The process that uses the folder, if one does.
fn lock(dir: &Path) -> Result<Option<String>, DataError> {
    if !dir.join(data::LOCK_FILE).exists() {
        return Ok(None);
    }
    match DataFolder::lock(dir) {
        Ok(_) => Ok(None),
        Err(DataError::InUse { pid, .. }) => Ok(Some(pid.map_or("unknown".into(), |pid| pid.to_string()))),
        Err(error) => Err(error),
    }
}

async fn database(config: &Config) -> Vec<Finding> {
    if let Some(moved) = crate::moving::moved(config) {
        let help = format!("set `database.url` to {}", moved.to);
        return vec![fail(CHECK, moved.to_string(), help)];
    }
    match (&config.database.url, config.database_file()) {
        (DatabaseUrl::Postgres(address), _) => in_postgres(config, address.expose()).await,
        (_, Some(file)) => in_file(config, &file).await,
        (_, None) => Vec::new(),
    }
}

const CHECK: &str = "database";

/// A database on a server: whether it can be reached, what it is, and what is in it.
async fn in_postgres(config: &Config, address: &str) -> Vec<Finding> {
    let place = &config.database.url;
    let found = match postgres::inspect(address).await {
        Ok(found) => found,
        Err(error) => {
            let help = "see that the server runs, that it can be reached from here, and `database.url`";
            return vec![fail(CHECK, format!("{place} cannot be used: {}", error.explain()), help)];
        }
    };
    let server = &found.server;
    if let Err(error) = server.check() {
        return vec![fail(CHECK, format!("{place}: {error}"), "see the README on Postgres")];
    }
    let newest = postgres::newest_schema();
    let what = format!("Postgres {} at {place}", server.version);
    let mut findings = vec![match found.schema {
        None if !server.may_create => {
            fail(CHECK, format!("{what}: no tables can be made"), "grant create on schema public to its user")
        }
        None => ok(CHECK, format!("{what}, empty; `omni serve` makes the tables")),
        Some(schema) if schema > newest => {
            let message = format!("{what}: its schema ({schema}) is newer than this program knows ({newest})");
            fail(CHECK, message, "run the version of omni that wrote it, or a newer one")
        }
        Some(schema) if schema < newest => {
            let help = "the next `omni serve` brings it up to date; make a backup before";
            warn(CHECK, format!("{what}: its schema ({schema}) is older"), help)
        }
        Some(_) => ok(CHECK, format!("{what}, schema {newest}")),
    }];
    if let Some(holder) = found.holder {
        findings.push(ok(CHECK, format!("in use by {holder}")));
    }
    let wanted = i64::from(config.database.connections) + 4;
    if server.max_connections < wanted + 5 {
        let help = "raise max_connections of the server, or lower `database.connections`";
        let message = format!("the server takes {} connections, and this host wants {wanted}", server.max_connections);
        findings.push(warn(CHECK, message, help));
    }
    for (setting, value) in [("fsync", &server.fsync), ("full_page_writes", &server.full_page_writes)] {
        if value != "on" {
            let message = format!("{setting} is {value}: a power cut may lose or tear what was stored");
            findings.push(warn(CHECK, message, "turn it on in the server's configuration"));
        }
    }
    let key = config.data.dir.join(KEY_FILE);
    match data::read_keys(&key) {
        Ok(None) if found.key_check.is_none() => {}
        keys => findings.push(key_file(&key, keys, found.key_check)),
    }
    findings.extend(found.newest.map(|newest| clock_against(newest.0)));
    findings
}

async fn in_file(config: &Config, file: &Path) -> Vec<Finding> {
    let place = file.display();
    let key = config.data.dir.join(KEY_FILE);
    let keys = data::read_keys(&key);
    if !file.exists() {
        let mut findings =
            vec![warn(CHECK, format!("{place} does not exist"), "`omni serve` makes it at the first start")];
        if let Err(error) = keys {
            findings.push(fail("key file", error.to_string(), "put it right before the first start"));
        }
        return findings;
    }
    let inside = match snapshot::inspect(file).await {
        Ok(inside) => inside,
        Err(error) => {
            let help =
                "stop the host, keep a copy of the data folder, and put the last backup back with `omni restore`";
            return vec![fail(CHECK, error.explain(), help)];
        }
    };
    let newest = snapshot::newest_schema();
    let mut findings = vec![if inside.schema > newest {
        let message = format!("its schema ({}) is newer than this program knows ({newest})", inside.schema);
        fail(CHECK, message, "run the version of omni that wrote it, or a newer one")
    } else if inside.schema < newest {
        let message = format!("whole, {} messages; its schema ({}) is older", inside.messages, inside.schema);
        warn(CHECK, message, "the next `omni serve` brings it up to date; make a backup before")
    } else {
        ok(CHECK, format!("whole, {} messages, schema {newest}", inside.messages))
    }];
    findings.push(key_file(&key, keys, inside.key_check));
    findings.push(clock_against(inside.newest));
    findings
}

/// Whether the key is there, and is the one that the database was written with.
fn key_file(key: &Path, keys: Result<Option<Vec<MasterKey>>, DataError>, key_check: Option<String>) -> Finding {
    match keys {
        Err(error) => fail("key file", error.to_string(), "see the README on the data folder"),
        Ok(None) => fail(
            "key file",
            format!("{} is missing", key.display()),
            "put it back from your backup; without it the tokens and logins in the database are lost",
        ),
        Ok(Some(mut keys)) => {
            let older = keys.split_off(1);
            let changing = !older.is_empty();
            let sealer = Sealer::with_older(&keys[0], &older);
            match key_check.map(|check| sealer.verify(&check)) {
                Some(Err(error)) => fail("key file", error.to_string(), "put back the key file that belongs to it"),
                _ if changing => {
                    let help = "a running host finishes that by itself; `omni data key` shows how far it is";
                    warn("key file", "the key is being changed", help)
                }
                _ => ok("key file", "private, and the one that belongs to the database"),
            }
        }
    }
}

/// The newest row was written by this machine's clock: one that is ahead of now tells of a clock that went back.
fn clock_against(newest_us: i64) -> Finding {
    const CHECK: &str = "clock";
    let now = Clock::system().now().millis();
    let ahead = newest_us / 1_000 - now;
    if now < WRITTEN_MS {
        return fail(CHECK, "the clock is years behind", "set it, and run a time service (chrony, systemd-timesyncd)");
    }
    if ahead > SKEW_MS {
        let message = format!("the newest event is {} s in the future: the clock was set back", ahead / 1_000);
        return warn(CHECK, message, "see that a time service runs; new messages sort before those until then");
    }
    ok(CHECK, "not behind what is stored")
}

fn disk(dir: &Path) -> Finding {
    const CHECK: &str = "disk space";
    let existing = dir.ancestors().find(|place| place.exists()).unwrap_or(Path::new("/"));
    let free = match rustix::fs::statvfs(existing) {
        Ok(found) => found.f_bavail.saturating_mul(found.f_frsize),
        Err(error) => return warn(CHECK, format!("cannot be told: {error}"), "look with `df`"),
    };
    let message = format!("{} MiB free", free >> 20);
    match free {
        0..NONE => fail(CHECK, message, "make room: without it nothing can be accepted or sent"),
        NONE..LITTLE => warn(CHECK, message, "make room, or shorten [retention] in the configuration"),
        _ => ok(CHECK, message),
    }
}

fn plugins(dir: &Path) -> Vec<Finding> {
    const CHECK: &str = "plugins";
    let Ok(entries) = std::fs::read_dir(dir) else {
        return vec![ok(CHECK, format!("{} does not exist; plugins beside the program are used", dir.display()))];
    };
    let mut findings = Vec::new();
    let mut good = 0;
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if !path.extension().is_some_and(|end| end == "so" || end == "dylib") {
            continue;
        }
        let mode = path.metadata().map_or(0, |found| found.permissions().mode());
        if mode & 0o002 != 0 {
            let help = format!("run `chmod o-w {}`, once you are sure of what is in it", path.display());
            findings.push(fail(CHECK, format!("{name} can be changed by everybody"), help));
            continue;
        }
        let read = std::fs::read(&path).map_err(|error| error.to_string());
        match read.and_then(|bytes| crate::plugins::manifest::manifest_of(&bytes)) {
            Ok(_) => good += 1,
            Err(reason) => {
                let help = "replace it with one that was built for this machine, or take it away";
                findings.push(fail(CHECK, format!("{name}: {reason}"), help));
            }
        }
    }
    if findings.is_empty() {
        findings.push(ok(CHECK, format!("{good} in {}, all well", dir.display())));
    }
    findings
}

fn listens(address: SocketAddr, is_running: bool) -> Finding {
    const CHECK: &str = "address";
    match std::net::TcpListener::bind(address) {
        Ok(_) if is_running && address.port() != 0 => {
            warn(CHECK, format!("a host runs, and not on {address}"), "was it started with another --listen?")
        }
        Ok(_) => ok(CHECK, format!("{address} is free")),
        Err(_) if is_running => ok(CHECK, format!("{address} is in use by the host")),
        Err(error) => fail(CHECK, format!("{address}: {error}"), "end what uses it, or choose another with --listen"),
    }
}

/// Whether the world can be reached, and what time it is there. Asked of the host's own public address, when it has one,
/// as the host's own calls are made: through the same guard, by way of the same proxy, trusting the same authorities.
async fn network(config: &Config, clock: &Clock) -> Vec<Finding> {
    const CHECK: &str = "network";
    let made = Egress::of(&config.network).map_err(|error| error.to_string());
    let made = made.and_then(|egress| {
        let client = egress.client(Destination::Public).and_then(|builder| builder.timeout(NETWORK).build());
        client.map(|client| (egress, client)).map_err(|error| tls::explain(&error))
    });
    let (egress, client) = match made {
        Ok(made) => made,
        Err(reason) => return vec![fail(CHECK, reason, "put it right under [network] in the configuration")],
    };
    let Some(url) = &config.http.public_url else {
        return vec![ok(CHECK, "no public address is configured; webhooks need `http.public_url`")];
    };
    let url = url.trim_end_matches('/');
    let health = match Url::parse(&format!("{url}/health")) {
        Ok(health) => health,
        Err(error) => return vec![fail(CHECK, format!("{url} is no address: {error}"), "look at `http.public_url`")],
    };
    if let Err(error) = egress.check(&health, Destination::Public) {
        return vec![warn(CHECK, error.to_string(), INSIDE)];
    }
    let way = egress.proxy().map(|proxy| format!(" by way of the proxy {proxy}")).unwrap_or_default();
    match client.get(health).send().await {
        Err(error) => vec![unreached(config, &format!("{url} does not answer{way}"), &error.without_url())],
        Ok(answer) if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            let help = "look at the user and the password in `network.proxy`";
            vec![warn(CHECK, format!("{url} is not reached{way}: it does not let us through (407)"), help)]
        }
        Ok(answer) => {
            let theirs = answer.headers().get("date").and_then(|date| date.to_str().ok());
            let theirs = theirs.and_then(|date| chrono::DateTime::parse_from_rfc2822(date).ok());
            let off = theirs.map(|theirs| clock.now().millis() - theirs.timestamp_millis());
            let mut findings = vec![ok(CHECK, format!("{url} answers ({}){way}", answer.status().as_u16()))];
            if let Some(off) = off.filter(|off| off.abs() > SKEW_MS) {
                let message = format!("{} s away from that of {url}", off / 1_000);
                findings.push(warn("clock", message, "see that a time service runs (chrony, systemd-timesyncd)"));
            }
            findings
        }
    }
}

/// What is to be done about a public address that lies inside.
const INSIDE: &str = "networks on the internet do not reach that: look at `http.public_url` and at the DNS. If it is meant \
    to be so (a network of your own), grant the address in `network.allow_private`";

/// Why the public address was not reached, and what to do.
fn unreached(config: &Config, what: &str, error: &reqwest::Error) -> Finding {
    const CHECK: &str = "network";
    let message = format!("{what}: {}", tls::explain(error));
    if tls::lacks_authority(error) {
        let help = match &config.network.ca_file {
            None => "get the certificate (PEM) of the authority that issued its certificate, which is your own or that of a \
                 proxy that looks into TLS, and name the file in `network.ca_file`"
                .to_owned(),
            Some(file) => format!(
                "{} (`network.ca_file`) does not hold the authority that issued its certificate: put that one's certificate \
                 (PEM) into it as well",
                file.display()
            ),
        };
        return warn(CHECK, message, help);
    }
    let causes = std::iter::successors(error.source(), |cause| (**cause).source());
    match causes.filter_map(|cause| cause.downcast_ref::<EgressError>()).next() {
        Some(EgressError::Private { .. }) => warn(CHECK, message, INSIDE),
        Some(EgressError::Unresolved { host, .. }) if config.network.proxy.is_none() => {
            fail(CHECK, format!("{host} has no address"), "look at the name in `http.public_url` and at the DNS")
        }
        Some(EgressError::Unresolved { host, .. }) => {
            fail(CHECK, format!("{host} has no address"), "look at the name in `network.proxy` and at the DNS")
        }
        _ => {
            let help = "networks must reach it for webhooks: look at the proxy, the firewall and the certificate";
            warn(CHECK, message, help)
        }
    }
}
