//! Evolution's stores. It keeps credentials in one of several places and keys in another one or the same, and of earlier
//! configurations what they left may still be there.
//!
//! What is the newest is told by what only ever grows: the number of the next pre-key in credentials, and the highest number
//! among the pre-keys themselves; by time where that is the same. Keys of two stores are never mixed: half of a newer state
//! and half of an older one is none.

use super::database::Database;
use super::records::{self, Record};
use super::{Gathered, MigrateError, Result, Source, Wanted, shown, text};
use crate::auth_state::Head;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Columns that change by themselves and say nothing of the login.
const FLEETING: [&str; 5] =
    ["connectionStatus", "updatedAt", "disconnectionAt", "disconnectionObject", "disconnectionReasonCode"];

/// An instance in a database, with its session, when it was paired.
#[derive(Clone, Debug)]
struct Found {
    id: String,
    name: String,
    client: Option<String>,
    instance: Value,
    session: Option<Value>,
}

/// What Evolution says of a number of Meta's Cloud API, which logs in with a token and has no session, and the channel that
/// takes it over.
const BUSINESS: (&str, &str) = ("WHATSAPP-BUSINESS", "whatsapp-cloud");

impl Found {
    fn is_business(&self) -> bool {
        text(&self.instance, "integration") == Some(BUSINESS.0)
    }

    /// Whether a channel can log in with it.
    fn is_of(&self, channel: &str) -> bool {
        match channel == BUSINESS.1 {
            true => self.is_business() && text(&self.instance, "token").is_some(),
            false => self.session.is_some(),
        }
    }
}

/// One store with records in it.
struct Store {
    word: &'static str,
    place: String,
    records: Vec<Record>,
    newest: Option<SystemTime>,
}

pub async fn read(sources: &[Source], wanted: &Wanted) -> Result<Gathered> {
    let databases: Vec<&String> = sources
        .iter()
        .filter_map(|source| match source {
            Source::EvolutionDatabase(address) => Some(address),
            _ => None,
        })
        .collect();
    let (found, place) = match databases.as_slice() {
        [] => (None, String::new()),
        [address] => {
            let (found, table) = in_database(address, wanted).await?;
            (Some(found), format!("{} ({table})", shown(address)))
        }
        _ => return Err(MigrateError::Usage("there are two databases; name one".into())),
    };
    let mut names: Vec<&str> = Vec::new();
    if let Some(found) = &found {
        names.extend([found.id.as_str(), found.name.as_str()]);
    }
    names.extend(wanted.source_instance.as_deref());
    names.push(&wanted.instance);
    let stores = stores(sources, wanted, &names)?;
    if found.is_none() && stores.is_empty() {
        return Err(MigrateError::Usage("nobody says where Evolution kept it: name a database or an export".into()));
    }
    Ok(combined(found, &place, stores))
}

/// The stores that are not the database.
fn stores(sources: &[Source], wanted: &Wanted, names: &[&str]) -> Result<Vec<Store>> {
    let mut stores = Vec::new();
    if let Some(folder) = &wanted.files {
        let folder = records::folder_of(folder, names)?;
        let records = records::in_folder(&folder)?;
        let newest = records::newest(&folder);
        stores.push(Store { word: "files", place: folder.display().to_string(), records, newest });
    }
    let redis = wanted.redis.iter().map(|file| Source::EvolutionRedis(file.clone()));
    for source in redis.chain(sources.iter().cloned()) {
        let (word, file, records) = match &source {
            Source::EvolutionRedis(file) => ("redis", file, records::of_redis(file, names)?),
            Source::EvolutionProvider(file) => ("provider", file, records::of_provider(file)?),
            Source::EvolutionMongo(file) => ("mongo", file, records::of_mongo(file)?),
            _ => continue,
        };
        let newest = records::newest(file);
        stores.push(Store { word, place: file.display().to_string(), records, newest });
    }
    Ok(stores)
}

/// What is used of all that there is.
fn combined(found: Option<Found>, place: &str, stores: Vec<Store>) -> Gathered {
    let session = found.as_ref().and_then(|found| found.session.as_ref());
    let in_database = session.and_then(|session| text(session, "creds")).map(|creds| next_pre_key(creds.as_bytes()));
    // Of equals the first one is taken; a database is asked for its own credentials first.
    let mut creds: Option<(Option<usize>, u64)> = in_database.map(|number| (None, number));
    for (at, store) in stores.iter().enumerate() {
        let number = store
            .records
            .iter()
            .find(|record| is_creds(&record.name))
            .map(|record| record.content.read().map(|bytes| next_pre_key(&bytes)).unwrap_or(0));
        if let Some(number) = number
            && creds.is_none_or(|(_, best)| number > best)
        {
            creds = Some((Some(at), number));
        }
    }
    let mut keys: Option<(usize, (u64, Option<SystemTime>))> = None;
    for (at, store) in stores.iter().enumerate() {
        let rank = (highest_pre_key(&store.records), store.newest);
        let has_keys = store.records.iter().any(|record| !is_creds(&record.name));
        if has_keys && keys.as_ref().is_none_or(|(_, best)| rank > *best) {
            keys = Some((at, rank));
        }
    }
    let creds_in = creds.map(|(at, _)| at);
    let keys_in = keys.map(|(at, _)| at);
    let mut used = Vec::new();
    let mut head = Head { source: "evolution".into(), ..Head::default() };
    let mut rows = BTreeMap::new();
    if let Some(found) = &found {
        let is_used = creds_in == Some(None) || found.is_business();
        used.push(json!({
            "store": "database", "place": place, "instance": found.name, "records": 1 + u8::from(session.is_some()),
            "for": if is_used { "credentials" } else { "the instance's name" },
        }));
        rows.insert("Instance".to_owned(), vec![lasting(found.instance.clone())]);
        if let (Some(None), Some(session)) = (creds_in, session) {
            rows.insert("Session".to_owned(), vec![session.clone()]);
        }
    }
    head.rows = rows;
    let mut taken = Vec::new();
    for (at, store) in stores.into_iter().enumerate() {
        let (has_creds, has_keys) = (creds_in == Some(Some(at)), keys_in == Some(at));
        let what = match (has_creds, has_keys) {
            (true, true) => "credentials and keys",
            (true, false) => "credentials",
            (false, true) => "keys",
            (false, false) => "nothing: another store is newer",
        };
        used.push(json!({"store": store.word, "place": store.place, "records": store.records.len(), "for": what}));
        let is_taken = |name: &str| if is_creds(name) { has_creds } else { has_keys };
        taken.extend(store.records.into_iter().filter(|record| is_taken(&record.name)));
    }
    head.used = used;
    Gathered { head, records: taken, name: found.map(|found| found.name) }
}

fn is_creds(name: &str) -> bool {
    let name = name.rsplit('/').next().unwrap_or_default();
    matches!(name, "creds" | "creds.json")
}

/// The number of the next pre-key in credentials, through however many layers of JSON; 0 when they do not say.
fn next_pre_key(creds: &[u8]) -> u64 {
    let mut value: Value = serde_json::from_slice(creds).unwrap_or_default();
    for _ in 0..5 {
        let Value::String(text) = &value else { break };
        value = serde_json::from_str(text).unwrap_or_default();
    }
    value.get("nextPreKeyId").and_then(Value::as_u64).unwrap_or(0)
}

fn highest_pre_key(records: &[Record]) -> u64 {
    let number = |record: &Record| {
        let name = record.name.rsplit('/').next()?.strip_prefix("pre-key-")?;
        name.strip_suffix(".json").unwrap_or(name).parse().ok()
    };
    records.iter().filter_map(number).max().unwrap_or(0)
}

/// A row without what changes by itself, so that the same login is the same snapshot.
fn lasting(mut row: Value) -> Value {
    if let Some(fields) = row.as_object_mut() {
        fields.retain(|column, _| !FLEETING.contains(&column.as_str()));
    }
    row
}

/// The instance in a database, and the table it is in.
async fn in_database(address: &str, wanted: &Wanted) -> Result<(Found, String)> {
    let mut database = Database::open(address).await?;
    let tables = database.tables().await?;
    let exact = |name: &str| tables.iter().find(|table| table.name == name).cloned();
    // MySQL can be set to keep the names of tables in small letters.
    let named = |name: &str| exact(name).or_else(|| exact(&name.to_lowercase()));
    let pair = |prefix: &str| Some((named(&format!("{prefix}Instance"))?, named(&format!("{prefix}Session"))?));
    let Some((instances, sessions)) = pair("evo_").or_else(|| pair("")) else {
        return Err(MigrateError::NotFound(format!(
            "{} has no tables \"Instance\" and \"Session\", nor \"evo_Instance\" and \"evo_Session\"",
            shown(address)
        )));
    };
    let found = joined(database.rows(&instances).await?, database.rows(&sessions).await?);
    let configs = match named("omni_instance_configs").or_else(|| named("instance_configs")) {
        Some(table) => database.rows(&table).await?,
        None => Vec::new(),
    };
    database.close().await;
    let found = pick(found, &configs, wanted, &instances.name, address)?;
    Ok((found, sessions.name))
}

fn joined(instances: Vec<Value>, sessions: Vec<Value>) -> Vec<Found> {
    let session = |id: &str| {
        sessions.iter().find(|row| text(row, "sessionId") == Some(id) && text(row, "creds").is_some()).cloned()
    };
    let found = instances.into_iter().filter_map(|row| {
        let id = text(&row, "id")?.to_owned();
        Some(Found {
            name: text(&row, "name")?.to_owned(),
            client: text(&row, "clientName").map(str::to_owned),
            session: session(&id),
            instance: row,
            id,
        })
    });
    found.collect()
}

/// The one that is named; or else the one that is called as ours, or the only one that is paired.
fn pick(found: Vec<Found>, configs: &[Value], wanted: &Wanted, table: &str, address: &str) -> Result<Found> {
    // What Omni v1 calls an instance Evolution may call otherwise.
    let other_name = |name: &str| {
        let config = configs.iter().find(|config| text(config, "name") == Some(name))?;
        text(config, "whatsapp_instance").map(str::to_owned)
    };
    let by = |name: &str| {
        let other = other_name(name);
        let is = |one: &&Found| other.as_deref() == Some(one.name.as_str());
        let exact = found.iter().find(|one| one.id == name || one.name == name);
        found.iter().find(is).or(exact).cloned()
    };
    let paired: Vec<&Found> = found.iter().filter(|one| one.is_of(&wanted.channel)).collect();
    let picked = match &wanted.source_instance {
        Some(named) => by(named),
        None => by(&wanted.instance).or_else(|| match paired.as_slice() {
            [only] => Some((*only).clone()),
            _ => None,
        }),
    };
    picked.ok_or_else(|| {
        let several = paired.iter().any(|one| one.client != paired[0].client);
        let line = |one: &Found| {
            let state = match (one.is_business(), one.session.is_some()) {
                (true, _) => "a number of the Cloud API",
                (false, true) => "paired",
                (false, false) => "not paired",
            };
            match &one.client {
                Some(client) if several => format!("{} ({}, {state}, of {client})", one.name, one.id),
                _ => format!("{} ({}, {state})", one.name, one.id),
            }
        };
        let all: Vec<String> = found.iter().map(line).collect();
        MigrateError::NotFound(format!(
            "name the instance in {} ({}) with --source-instance; there are: {}",
            shown(address),
            table,
            if all.is_empty() { "none".to_owned() } else { all.join(", ") }
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::super::records::Content;
    use super::*;

    fn record(name: &str, value: Value) -> Record {
        Record { name: name.into(), content: Content::Bytes(value.to_string().into_bytes()) }
    }

    fn store(word: &'static str, records: Vec<Record>) -> Store {
        Store { word, place: word.into(), records, newest: None }
    }

    fn found(next: u64) -> Found {
        let creds = json!(json!({"nextPreKeyId": next}).to_string()).to_string();
        Found {
            id: "u".into(),
            name: "n".into(),
            client: None,
            instance: json!({"id": "u", "name": "n", "connectionStatus": "open"}),
            session: Some(json!({"sessionId": "u", "creds": creds})),
        }
    }

    fn uses(gathered: &Gathered) -> Vec<(&str, &str)> {
        gathered
            .head
            .used
            .iter()
            .map(|used| (used["store"].as_str().unwrap_or_default(), used["for"].as_str().unwrap_or_default()))
            .collect()
    }

    #[test]
    fn credentials_of_the_database_go_with_the_keys_of_the_newest_store_and_of_no_other() {
        let old = store("redis", vec![record("creds", json!({"nextPreKeyId": 10})), record("pre-key-9", json!({}))]);
        let new = store("files", vec![record("pre-key-30.json", json!({})), record("session-1.0.json", json!({}))]);
        let gathered = combined(Some(found(31)), "db", vec![old, new]);
        assert_eq!(
            uses(&gathered),
            [("database", "credentials"), ("redis", "nothing: another store is newer"), ("files", "keys")]
        );
        let names: Vec<&str> = gathered.records.iter().map(|record| record.name.as_str()).collect();
        assert_eq!(names, ["pre-key-30.json", "session-1.0.json"]);
        assert!(gathered.head.rows.contains_key("Session"));
        assert_eq!(gathered.head.rows["Instance"], [json!({"id": "u", "name": "n"})]);
    }

    #[test]
    fn newer_credentials_elsewhere_take_the_place_of_those_in_the_database() {
        let redis = store("redis", vec![record("creds", json!({"nextPreKeyId": 90})), record("pre-key-89", json!({}))]);
        let gathered = combined(Some(found(31)), "db", vec![redis]);
        assert_eq!(uses(&gathered), [("database", "the instance's name"), ("redis", "credentials and keys")]);
        assert!(!gathered.head.rows.contains_key("Session"));
        assert_eq!(gathered.records.len(), 2);
    }

    #[test]
    fn a_number_of_the_cloud_api_is_found_by_its_channel_alone() {
        let instance = |name: &str, integration: &str| json!({"id": name, "name": name, "integration": integration, "token": "t", "number": "1"});
        let row = |name: &str, integration: &str, session: Option<Value>| Found {
            id: name.into(),
            name: name.into(),
            client: None,
            instance: instance(name, integration),
            session,
        };
        let all = || vec![row("phone", "WHATSAPP-BAILEYS", Some(json!({}))), row("cloud", "WHATSAPP-BUSINESS", None)];
        let ask = |channel: &str| {
            let wanted = Wanted { instance: "x".into(), channel: channel.into(), ..Wanted::default() };
            pick(all(), &[], &wanted, "Instance", "postgres://h/d").map(|found| found.name)
        };
        assert_eq!(
            (ask("whatsapp-cloud").expect("the only one"), ask("whatsapp").expect("too")),
            ("cloud".into(), "phone".into())
        );
        let gathered = combined(all().pop(), "db", Vec::new());
        assert_eq!(uses(&gathered), [("database", "credentials")]);
        assert_eq!(gathered.head.rows["Instance"][0]["token"], "t");
    }

    #[test]
    fn an_instance_is_found_by_either_name_and_what_is_there_is_listed_when_it_is_not() {
        let one = |id: &str, name: &str, paired: bool| Found {
            id: id.into(),
            name: name.into(),
            session: paired.then(|| json!({})),
            ..found(1)
        };
        let all = || vec![one("1", "sales", true), one("2", "help", true), one("3", "new", false)];
        let configs = [json!({"name": "front", "whatsapp_instance": "help"})];
        let ask = |source: Option<&str>, instance: &str| {
            let wanted =
                Wanted { source_instance: source.map(str::to_owned), instance: instance.into(), ..Wanted::default() };
            pick(all(), &configs, &wanted, "Instance", "postgres://h/d")
        };
        assert_eq!(ask(Some("3"), "x").expect("by id").name, "new");
        assert_eq!(ask(None, "front").expect("by Omni's name").name, "help");
        assert_eq!(ask(None, "sales").expect("by our name").name, "sales");
        let error = ask(None, "x").expect_err("two are paired").to_string();
        assert!(error.contains("sales (1, paired), help (2, paired), new (3, not paired)"), "{error}");
        assert!(ask(Some("nobody"), "sales").is_err());
    }
}
