//! A network that repeats itself, overtakes itself, comes back weeks later and says nonsense in between: what is stored in
//! the end is what the same stream leaves behind when it comes once and in order.

use super::{rounds, seed};
use crate::database::needs_the_file;
use crate::harness::{Setup, TestHost, free_address};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Map, Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{Column, ConnectOptions, Executor, Row, TypeInfo, ValueRef};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

/// How many events a round has, before they are repeated.
const EVENTS: usize = 400;
/// How far an event may be overtaken.
const WINDOW: usize = 60;
const USERS: [&str; 4] = ["ann", "bob", "cleo", "dan"];
/// What storage refuses, in this test.
const POISON: &str = "poison";

/// What a network would say, in order, and what of it is poison.
struct Stream {
    events: Vec<Value>,
    poison: Vec<Value>,
}

/// What happens in a chat, made up as it goes.
struct Maker {
    random: StdRng,
    at: i64,
    made: usize,
    /// Messages that can be talked about: chat, id, whether it is ours, its revision.
    messages: Vec<(usize, String, bool, i64)>,
    /// What each person's last reaction to a message was.
    reactions: BTreeMap<(String, &'static str), (i64, usize)>,
    /// What was taken back; that happens once.
    deleted: BTreeSet<String>,
}

fn person(name: &str) -> Value {
    json!({"id": name, "name": name.to_uppercase()})
}

fn me() -> Value {
    json!({"id": "me", "name": "ME", "isFromMe": true})
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

impl Maker {
    fn event(&mut self, chat: usize, body: Value) -> Value {
        self.made += 1;
        self.at += 1_000 + self.random.random_range(0..1_000);
        json!({
            "deliveryKey": format!("d{}", self.made),
            "at": self.at,
            "chat": {"id": format!("chat-{chat}"), "kind": "group", "name": format!("Chat {chat}")},
            "body": body,
        })
    }

    fn message(&mut self) -> Value {
        let (chat, number) = (self.random.random_range(0..6), self.made);
        let ours = self.random.random_bool(0.3);
        let id = format!("m{number}");
        let from = if ours { me() } else { person(USERS[self.random.random_range(0..USERS.len())]) };
        let mut message =
            json!({"type": "message", "id": id, "sender": from, "content": text(&format!("message {number}"))});
        let answered = self.messages.iter().rfind(|(other, ..)| *other == chat).cloned();
        if let Some((_, other, ..)) = answered.filter(|_| self.random.random_bool(0.3)) {
            message["replyTo"] = json!({"id": other, "quotedText": "so it was", "sender": person("ann")});
        }
        self.messages.push((chat, id, ours, 0));
        self.event(chat, message)
    }

    fn next(&mut self) -> Value {
        let kind = self.random.random_range(0..100);
        if self.messages.is_empty() || kind < 40 {
            return self.message();
        }
        let place = self.random.random_range(0..self.messages.len());
        let (chat, id, ours, _) = self.messages[place].clone();
        match kind {
            40..60 => {
                // Of two with the same revision the later one counts.
                self.messages[place].3 += i64::from(self.random.random_bool(0.7));
                let (revision, made) = (self.messages[place].3, self.made);
                let mut edit = json!({
                    "type": "edit", "target": {"id": id}, "revision": revision, "content": text(&format!("{id} as of {made}")),
                });
                // Some networks do not say who.
                if self.random.random_bool(0.5) {
                    edit["sender"] = if ours { me() } else { person("ann") };
                }
                self.event(chat, edit)
            }
            60..70 => {
                // What was added or taken away, also by those who otherwise say all of theirs.
                let user = USERS[self.random.random_range(0..USERS.len())];
                let (revision, last) = self.reactions.get(&(id.clone(), user)).copied().unwrap_or((0, 0));
                let revision = revision + i64::from(self.random.random_bool(0.7));
                self.reactions.insert((id.clone(), user), (revision, last));
                let emoji = ["👍", "🎉", "❤"][self.random.random_range(0..3)];
                let change = if self.random.random_bool(0.6) { "add" } else { "remove" };
                let reaction = json!({
                    "type": "reaction", "target": {"id": id}, "sender": person(user), "emojis": [{"emoji": emoji}],
                    "revision": revision, "change": change,
                });
                self.event(chat, reaction)
            }
            70..80 => {
                let user = USERS[self.random.random_range(0..USERS.len())];
                let (revision, last) = self.reactions.get(&(id.clone(), user)).copied().unwrap_or((0, 0));
                // Another one than before, or none.
                let emojis = ["", "👍", "🎉", "❤"];
                let now = (last + self.random.random_range(1..emojis.len())) % emojis.len();
                self.reactions.insert((id.clone(), user), (revision + 1, now));
                let given: Vec<Value> = Some(emojis[now])
                    .filter(|emoji| !emoji.is_empty())
                    .map(|emoji| json!({"emoji": emoji}))
                    .into_iter()
                    .collect();
                let reaction = json!({
                    "type": "reaction", "target": {"id": id}, "sender": person(user), "emojis": given, "revision": revision + 1,
                });
                self.event(chat, reaction)
            }
            80..84 => {
                // Everything up to a while ago, by somebody else or by us, on another device.
                let up_to = self.at - self.random.random_range(0..20_000);
                let kind = ["delivered", "read"][self.random.random_range(0..2)];
                let receipt = match self.random.random_range(0..3) {
                    0 => json!({"type": "receipt", "kind": "read", "targets": [{"id": id}], "sender": me()}),
                    1 => json!({"type": "receipt", "kind": "read", "upTo": up_to, "sender": me()}),
                    _ => json!({"type": "receipt", "kind": kind, "upTo": up_to, "sender": person("bob")}),
                };
                self.event(chat, receipt)
            }
            84..93 => {
                let kind = ["delivered", "read", "played"][self.random.random_range(0..3)];
                let receipt =
                    json!({"type": "receipt", "kind": kind, "targets": [{"id": id}], "sender": person("bob")});
                self.event(chat, receipt)
            }
            _ if !self.deleted.insert(id.clone()) => self.message(),
            _ => self.event(chat, json!({"type": "delete", "targets": [{"id": id}]})),
        }
    }
}

fn stream(seed: u64, count: usize) -> Stream {
    let mut maker = Maker {
        random: StdRng::seed_from_u64(seed),
        at: 1_767_225_600_000,
        made: 0,
        messages: Vec::new(),
        reactions: BTreeMap::new(),
        deleted: BTreeSet::new(),
    };
    let events = (0..count).map(|_| maker.next()).collect();
    let poison = (0..count / 40)
        .map(|number| {
            let message = json!({
                "type": "message", "id": format!("bad{number}"), "sender": person("ann"), "content": text(&format!("{POISON} {number}")),
            });
            let mut event = maker.event(number % 6, message);
            event["raw"] = json!({"the network's": ["own", "words", number]});
            event
        })
        .collect();
    Stream { events, poison }
}

/// The order in which a bad network brings it.
fn disturbed(stream: &Stream, random: &mut StdRng) -> (Vec<Value>, Vec<Value>) {
    let (mut on_time, mut late) = (Vec::new(), Vec::new());
    for (place, event) in stream.events.iter().enumerate() {
        let mut put = |event: &Value| on_time.push((place + random.random_range(0..WINDOW), event.clone()));
        put(event);
        put(event);
        if random.random_bool(0.7) {
            on_time.pop();
        }
        if random.random_bool(0.03) {
            while on_time.last().is_some_and(|(_, last)| last == event) {
                on_time.pop();
            }
            late.push(event.clone());
        }
    }
    for event in stream.poison.iter().chain(stream.poison.iter().step_by(2)) {
        on_time.push((random.random_range(0..stream.events.len()), event.clone()));
    }
    on_time.sort_by_key(|(place, _)| *place);
    late.shuffle(random);
    (on_time.into_iter().map(|(_, event)| event).collect(), late)
}

/// A host with a channel that says what it is told to, and a store that takes no poison.
struct Patient {
    host: TestHost,
    id: String,
    address: String,
    client: reqwest::Client,
}

impl Patient {
    async fn start() -> Self {
        let host = TestHost::with(Setup { plugins: vec!["faulty"], manual_clock: true, ..Setup::default() }).await;
        let address = free_address();
        let id = host.instance("net", "faulty", json!({"listen": address})).await;
        host.until_state(&id, "connected").await;
        let mut database = database(&host.data).await;
        let trigger = format!(
            "create trigger poison before insert on messages when new.text_content like '{POISON}%'
             begin select raise(abort, 'poisoned'); end"
        );
        database.execute(sqlx::AssertSqlSafe(trigger)).await.unwrap();
        Self { host, id, address, client: reqwest::Client::new() }
    }

    async fn post(&self, body: String) -> u16 {
        let answer = self.client.post(format!("http://{}", self.address)).body(body).send().await.unwrap();
        answer.status().as_u16()
    }

    async fn bring(&self, events: &[Value]) {
        let status = self.post(json!({"emit": events}).to_string()).await;
        assert_eq!(status, 200, "what is good is taken");
    }

    /// What nobody may take.
    async fn nonsense(&self, random: &mut StdRng) {
        let message = |chat: &str, from: &str, id: &str| {
            let body = json!({"type": "message", "id": id, "sender": person(from), "content": text("nonsense")});
            json!({"emit": [{"at": 1, "chat": {"id": chat, "kind": "group"}, "body": body}]}).to_string()
        };
        let said = match random.random_range(0..5) {
            0 => "{\"emit\": [{\"at\": ".to_owned(),
            1 => message("", "ann", "x"),
            2 => message("chat-0", "", "x"),
            3 => message("chat-0", "ann", &"x".repeat(5_000)),
            _ => json!({"emit": [{"at": 1, "body": {"type": "delete", "targets": [{"id": "m0"}]}}]}).to_string(),
        };
        assert_ne!(self.post(said).await, 200, "nonsense is refused");
    }

    /// Everything that is stored of it.
    async fn state(&self) -> BTreeMap<&'static str, Vec<Value>> {
        let mut database = database(&self.host.data).await;
        let mut state = BTreeMap::new();
        for (table, query) in TABLES {
            let mut rows: Vec<Value> = (*database).fetch_all(*query).await.unwrap().iter().map(seen).collect();
            rows.sort_by_key(Value::to_string);
            state.insert(*table, rows);
        }
        state
    }
}

/// What is compared: every column but ids of ours and the host's own times.
const TABLES: &[(&str, &str)] = &[
    (
        "messages",
        "select m.*, c.external_id as chat, (select r.external_id from messages r where r.id = m.reply_to_message_id) as answers
         from messages m join chats c on c.id = m.chat_id",
    ),
    ("chats", "select * from chats"),
    ("chat_participants", "select p.*, c.external_id as chat from chat_participants p join chats c on c.id = p.chat_id"),
    ("platform_identities", "select * from platform_identities"),
    ("persons", "select * from persons"),
    ("early_events", "select said from early_events"),
];
/// When the host had it, which is not what the network said.
const HOST_TIMES: [&str; 6] =
    ["received_at", "created_at", "updated_at", "first_seen_at", "linked_at", "last_synced_at"];

async fn database(data: &Path) -> Box<sqlx::SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(data.join("omni.db")).busy_timeout(Duration::from_secs(60));
    Box::new(options.connect().await.unwrap())
}

/// A row without what differs between two hosts.
fn seen(row: &SqliteRow) -> Value {
    let mut fields = Map::new();
    for (place, column) in row.columns().iter().enumerate() {
        let raw = row.try_get_raw(place).unwrap();
        if HOST_TIMES.contains(&column.name()) {
            continue;
        }
        let value = match raw.type_info().name() {
            _ if raw.is_null() => Value::Null,
            // Ours: only whether there is one is the same everywhere.
            "BLOB" => json!("(an id)"),
            "INTEGER" | "BOOLEAN" => json!(row.get::<i64, _>(place)),
            _ => {
                let text: String = row.get(place);
                serde_json::from_str(&text).map_or(Value::String(text), without_ids)
            }
        };
        fields.insert(column.name().to_owned(), value);
    }
    Value::Object(fields)
}

/// The same without the ids of persons, which are ours.
fn without_ids(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| if name == "personId" { (name, json!("(an id)")) } else { (name, without_ids(value)) })
            .collect(),
        Value::Array(list) => list.into_iter().map(without_ids).collect(),
        other => other,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_shuffled_late_and_poisoned_streams_leave_what_a_clean_one_leaves() {
    if needs_the_file("it reads the file, and what it holds is held on Postgres by `store::semantics`") {
        return;
    }
    let seed = seed();
    let (mut brought, mut poisoned, mut wrong) = (0, 0, 0);
    let rounds = rounds(2);
    for round in 0..rounds {
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(round as u64));
        let stream = stream(random.random(), EVENTS);
        let clean = Patient::start().await;
        for events in stream.events.chunks(16) {
            clean.bring(events).await;
        }
        clean.host.settle().await;

        let rough = Patient::start().await;
        let clock = rough.host.clock.clone().unwrap();
        let (on_time, late) = disturbed(&stream, &mut random);
        let mut rest = on_time.as_slice();
        while !rest.is_empty() {
            let (batch, behind) = rest.split_at(random.random_range(1..40).min(rest.len()));
            rough.bring(batch).await;
            rest = behind;
            if random.random_bool(0.2) {
                rough.nonsense(&mut random).await;
            }
            if random.random_bool(0.2) {
                // Not everything is met in one batch.
                rough.host.settle().await;
            }
        }
        rough.host.settle().await;
        let letters = letters(&rough).await;
        let wanted: BTreeMap<String, Value> =
            stream.poison.iter().map(|event| (event["deliveryKey"].to_string(), event.clone())).collect();
        assert_eq!(letters, wanted, "seed {seed}: what cannot be stored, and nothing else, is a dead letter, whole");
        // What stayed away comes hours later.
        clock.advance(Duration::from_secs(7 * 3_600));
        for batch in late.chunks(7) {
            rough.bring(batch).await;
        }
        rough.host.settle().await;
        // Weeks later, when nobody remembers what was delivered, the network says most of it again.
        clock.advance(Duration::from_secs(40 * 86_400));
        let mut again: Vec<Value> = stream.events.iter().filter(|_| random.random_bool(0.6)).cloned().collect();
        again.shuffle(&mut random);
        for batch in again.chunks(25) {
            rough.bring(batch).await;
        }
        rough.host.settle().await;

        let (expected, found) = (clean.state().await, rough.state().await);
        for (table, _) in TABLES {
            let (expected, found) = (&expected[table], &found[table]);
            if expected != found {
                wrong += 1;
                let only = |one: &[Value], other: &[Value]| -> Vec<Value> {
                    let other: BTreeSet<String> = other.iter().map(Value::to_string).collect();
                    one.iter().filter(|row| !other.contains(&row.to_string())).take(2).cloned().collect()
                };
                println!(
                    "seed {seed}, round {round}, {table}: {} rows, {} wanted\n  wanted {:#}\n  found {:#}",
                    found.len(),
                    expected.len(),
                    json!(only(expected, found)),
                    json!(only(found, expected))
                );
            }
        }
        assert_eq!(
            expected["messages"].len(),
            stream.events.iter().filter(|event| event["body"]["type"] == "message").count()
        );
        brought += on_time.len() + late.len() + again.len();
        poisoned += stream.poison.len();
        clean.host.stop().await;
        rough.host.stop().await;
    }
    println!(
        "shuffled streams: seed {seed}, {rounds} rounds, {brought} deliveries, {poisoned} poisoned, {wrong} tables differ"
    );
    assert_eq!(wrong, 0, "seed {seed}");
}

/// The payloads in the dead letters, by what the network calls them.
async fn letters(patient: &Patient) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let page = patient.host.get("/dead-letters?limit=100").await;
    assert_eq!(page["meta"]["hasMore"], false, "{page}");
    for letter in page["items"].as_array().unwrap() {
        assert_eq!((&letter["instanceId"], &letter["status"]), (&json!(patient.id), &json!("pending")), "{letter}");
        let whole = patient.host.get(&format!("/dead-letters/{}", letter["id"].as_str().unwrap())).await;
        let payload = whole["data"]["payload"].clone();
        assert!(found.insert(payload["deliveryKey"].to_string(), payload).is_none(), "one letter an event: {letter}");
    }
    found
}
