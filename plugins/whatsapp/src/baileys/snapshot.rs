//! What was found of an account, collected from files, cache entries and database rows, by kind and id.
//!
//! Layouts: a folder of `useMultiFileAuthState`; the same names in a Redis hash or at a provider; Evolution's tables
//! (`Session.creds`, a JSON text in a JSON text); MongoDB documents of Evolution 1 (`_id` is the name; an array is
//! `{content_array:[…]}` or was spread to `{0:…}`); Omni v2's `plugin_storage`. A source is collected whole before anything
//! is judged: what is wrong with a record is told by the import, not here.

use super::encoding::{self, MAX_RECORD, text};
use super::names::{self, Kind};
use omni_channel_sdk::request::SkippedRecord;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// More than any account has; what comes after is left out, and said.
const MAX_RECORDS: usize = 500_000;
/// Copies of credentials, unreadable records, unknown names: as many as a report can be about.
const MAX_ODD: usize = 10_000;
const MAX_CREDS: usize = 16;
const MAX_TOTAL: usize = 1 << 30;

/// What was found of one account.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Only what belongs to this instance, where a source tells.
    instance: Option<String>,
    /// Credentials, as they may be there twice: in a table and, from an earlier configuration, as a file.
    pub(super) creds: Vec<Record>,
    pub(super) records: BTreeMap<(Kind, String), Record>,
    /// Instances that credentials or keys were seen of.
    pub(super) instances: BTreeSet<String>,
    /// Something of it is Evolution's.
    pub(super) evolution: bool,
    /// A number of Meta's Cloud API, which has no keys.
    pub(super) cloud: bool,
    pub(super) profile_name: Option<String>,
    /// LID → phone number, from Evolution's table of numbers.
    pub(super) lids: BTreeMap<String, String>,
    pub(super) unreadable: Vec<SkippedRecord>,
    pub(super) unknown: BTreeSet<String>,
    pub(super) twice: Vec<String>,
    pub(super) left_out: usize,
    total: usize,
}

/// One record: the name that it was found under, and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub name: String,
    pub value: Value,
}

impl Snapshot {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one that takes only what belongs to one instance of the source (Evolution's or Omni v2's id of it), where the
    /// source says so: rows of `Session` and `Instance`, names that begin with `auth:<instance>:`.
    pub fn of(instance: &str) -> Self {
        Self { instance: Some(instance.into()), ..Self::default() }
    }

    /// Says that it is an Evolution's, where names do not: what some Evolutions computed wrong is then left out.
    pub fn of_evolution(&mut self) -> &mut Self {
        self.evolution = true;
        self
    }

    /// Adds a file or a cache entry: its name, with or without folders and prefixes, and its content.
    pub fn add(&mut self, name: &str, bytes: Vec<u8>) -> &mut Self {
        self.total = self.total.saturating_add(bytes.len());
        if self.total > MAX_TOTAL || self.unknown.len() + self.unreadable.len() > MAX_ODD {
            self.left_out += 1;
            return self;
        }
        self.evolution |= name.contains("evolution-cache:") || name.contains("instances/");
        // Parsed before it is judged whether it is wanted, so that a file of another kind does no harm.
        if names::parse(name).is_none() {
            self.unknown.insert(short(name));
            return self;
        }
        match encoding::json(&bytes) {
            Ok(value) => self.put(name, value),
            Err(reason) if names::parse(name).is_some_and(|name| name.kind == Kind::LidMapping) => {
                // The only kind whose value may have lost its quotes.
                match std::str::from_utf8(&bytes).map(str::trim) {
                    Ok(digits) if digits.len() < 32 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                        self.put(name, Value::String(digits.into()));
                    }
                    _ => self.unreadable.push(skipped(name, reason)),
                }
            }
            Err(reason) => self.unreadable.push(skipped(name, reason)),
        }
        self
    }

    /// Adds rows of a table, or documents of a collection. Tables: `Session`, `Instance` and `IsOnWhatsapp` of Evolution, also
    /// with `evo_` before them; `plugin_storage` of Omni v2; a row of any other table counts when its `_id` is a name.
    pub fn rows(&mut self, table: &str, rows: &[Value]) -> &mut Self {
        let plain = table.rsplit('.').next().unwrap_or(table).trim_matches('"').to_ascii_lowercase();
        let plain = plain.strip_prefix("evo_").unwrap_or(&plain);
        let mut understood = 0;
        for row in rows {
            understood += usize::from(match plain {
                "session" => self.session_row(table, row),
                "instance" => self.instance_row(row),
                "isonwhatsapp" => self.number_row(row),
                "plugin_storage" => self.storage_row(row),
                _ => self.document(row),
            });
        }
        if understood < rows.len() && !rows.is_empty() {
            self.unknown.insert(format!("{} rows of the table {}", rows.len() - understood, short(table)));
        }
        self
    }

    fn session_row(&mut self, table: &str, row: &Value) -> bool {
        let Some(id) = row.get("sessionId").or_else(|| row.get("session_id")).and_then(text) else { return false };
        if !self.wants(id) {
            return true;
        }
        self.evolution = true;
        let creds = encoding::peel(row.get("creds").cloned().unwrap_or(Value::Null));
        if !creds.is_null() {
            self.instances.insert(id.into());
            self.put(&format!("{} {id}: creds", short(table)), creds);
        }
        true
    }

    fn instance_row(&mut self, row: &Value) -> bool {
        let Some(id) = row.get("id").and_then(text) else { return false };
        if self.wants(id) {
            self.cloud |= row.get("integration").and_then(text) == Some("WHATSAPP-BUSINESS");
            self.profile_name = row.get("profileName").and_then(text).map(Into::into).or(self.profile_name.take());
        }
        true
    }

    /// `{remoteJid, jidOptions: "<jid>,<jid>", lid}`: a number, and under which addresses it was seen.
    fn number_row(&mut self, row: &Value) -> bool {
        let Some(jid) = row.get("remoteJid").and_then(text) else { return false };
        let options = row.get("jidOptions").and_then(text).unwrap_or_default();
        let lid = row.get("lid").and_then(text).unwrap_or_default();
        let all = || options.split(',').chain([jid, lid]).map(str::trim);
        let lids: BTreeSet<&str> = all().filter_map(|jid| jid.strip_suffix("@lid")).collect();
        let numbers: BTreeSet<&str> = all().filter_map(|jid| jid.strip_suffix("@s.whatsapp.net")).collect();
        // Brazilian numbers are listed with and without their ninth digit: then none of them is surely the one.
        if let (Some(lid), 1, Some(number), 1) = (lids.first(), lids.len(), numbers.first(), numbers.len()) {
            self.lids.insert((*lid).into(), (*number).into());
        }
        true
    }

    fn storage_row(&mut self, row: &Value) -> bool {
        let Some(key) = row.get("key").and_then(text) else { return false };
        if names::parse(key).is_none() {
            // Other things that a plugin stored.
            return true;
        }
        match row.get("value") {
            Some(value) if !value.is_null() => self.put(key, encoding::peel(value.clone())),
            _ => return false,
        }
        true
    }

    fn document(&mut self, row: &Value) -> bool {
        let Some(map) = row.as_object() else { return false };
        let Some(name) = map.get("_id").and_then(text).filter(|name| names::parse(name).is_some()) else {
            return false;
        };
        let mut map = map.clone();
        map.shift_remove("_id");
        let value = match map.shift_remove("content_array") {
            Some(array) => array,
            None => match encoding::spread(&map) {
                Some(items) if !items.is_empty() && items.iter().all(|item| item.is_object()) => {
                    Value::Array(items.into_iter().cloned().collect())
                }
                _ => Value::Object(map),
            },
        };
        self.put(name, value);
        true
    }

    fn wants(&self, instance: &str) -> bool {
        self.instance.as_deref().is_none_or(|wanted| wanted == instance)
    }

    fn put(&mut self, found: &str, value: Value) {
        // `Session <id>: creds` is our own name for a row.
        let Some(name) = names::parse(found.rsplit(": ").next().unwrap_or(found)) else { return };
        if let Some(instance) = names::instance(found) {
            if !self.wants(instance) {
                return;
            }
            self.instances.insert(instance.into());
        }
        if self.records.len() >= MAX_RECORDS {
            self.left_out += 1;
            return;
        }
        let record = Record { name: short(found), value };
        if name.kind == Kind::Creds {
            if self.creds.len() < MAX_CREDS {
                self.creds.push(record);
            } else {
                self.left_out += 1;
            }
            return;
        }
        let id = match name.kind {
            // Base64 has no `_`, so both spellings become one.
            Kind::AppStateKey => name.id.replace("__", "/"),
            Kind::SenderKey => name.id.replace("--", "::"),
            _ => name.id.to_string(),
        };
        if let Some(before) = self.records.insert((name.kind, id), record)
            && self.twice.len() < 1000
        {
            self.twice.push(before.name);
        }
    }

    /// Records of one kind: id and record.
    pub(super) fn each(&self, kind: Kind) -> impl Iterator<Item = (&str, &Record)> {
        let next = (kind, String::new());
        self.records
            .range(next..)
            .take_while(move |((k, _), _)| *k == kind)
            .map(|((_, id), record)| (id.as_str(), record))
    }
}

/// A name for a report: never longer than it needs to be, never something that spoils a terminal.
pub(super) fn short(name: &str) -> String {
    let clean: String = name.chars().filter(|c| !c.is_control()).take(200).collect();
    if clean.is_empty() { "(without a name)".into() } else { clean }
}

fn skipped(name: &str, reason: String) -> SkippedRecord {
    SkippedRecord { record: short(name), reason }
}

const _: () = assert!(MAX_RECORD < MAX_TOTAL);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_of_mongodb() {
        let mut snapshot = Snapshot::new();
        snapshot.rows(
            "alice-bot",
            &[
                json!({ "_id": "pre-key-1", "private": { "type": "Buffer", "data": "AA==" } }),
                json!({ "_id": "sender-key-1@g.us::2::0", "content_array": [{ "senderKeyId": 1 }] }),
                json!({ "_id": "sender-key-1@g.us::3::0", "0": { "senderKeyId": 1 }, "1": { "senderKeyId": 2 } }),
                json!({ "_id": 7 }),
            ],
        );
        let states: Vec<_> = snapshot.each(Kind::SenderKey).map(|(_, found)| found.value.clone()).collect();
        assert_eq!(states, [json!([{ "senderKeyId": 1 }]), json!([{ "senderKeyId": 1 }, { "senderKeyId": 2 }])]);
        assert_eq!(snapshot.each(Kind::PreKey).count(), 1);
        assert_eq!(snapshot.unknown.len(), 1);
    }

    #[test]
    fn only_one_instance_of_a_storage() {
        let rows = [
            json!({ "key": "plugin:whatsapp-baileys:auth:a:creds", "value": "{\"registrationId\":1}" }),
            json!({ "key": "plugin:whatsapp-baileys:auth:b:creds", "value": "{\"registrationId\":2}" }),
            json!({ "key": "plugin:whatsapp-baileys:auth:b:keys:session:1.0", "value": "{}" }),
            json!({ "key": "plugin:telegram:offset", "value": "1" }),
        ];
        let mut snapshot = Snapshot::of("a");
        snapshot.rows("plugin_storage", &rows);
        assert_eq!(snapshot.creds.len(), 1);
        assert_eq!(snapshot.creds[0].value, json!({ "registrationId": 1 }));
        assert!(snapshot.records.is_empty() && snapshot.unknown.is_empty());
        let mut all = Snapshot::new();
        all.rows("plugin_storage", &rows);
        assert_eq!(all.instances.len(), 2);
    }

    #[test]
    fn numbers_that_evolution_knows() {
        let mut snapshot = Snapshot::new();
        let options = "5511999990002@s.whatsapp.net,100000000000002@lid";
        snapshot.rows("IsOnWhatsapp", &[json!({ "remoteJid": "5511999990002@s.whatsapp.net", "jidOptions": options })]);
        assert_eq!(snapshot.lids["100000000000002"], "5511999990002");
    }

    #[test]
    fn what_is_no_good_is_kept_for_the_report() {
        let mut snapshot = Snapshot::new();
        snapshot.add("session-1.0.json", b"{".to_vec()).add("thumbs.db", vec![0]).add("pre-key-1.json", Vec::new());
        snapshot.add("lid-mapping-5511.json", b"100000000000001".to_vec());
        assert_eq!(snapshot.unreadable.len(), 2);
        assert_eq!(snapshot.unknown.len(), 1);
        assert_eq!(snapshot.each(Kind::LidMapping).count(), 1);
    }
}
