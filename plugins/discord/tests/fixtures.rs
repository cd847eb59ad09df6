//! What the gateway brings → events: each file in `fixtures` is a list of dispatches, `{"t", "d"}`, its snapshot the list of
//! their events.
//!
//! Names are learnt as they come, after those of `world`. What every event carries of Discord's own words is compared here
//! and left out of the snapshots. That the fixtures are what Discord sends is judged by its OpenAPI document, where that is
//! at hand. Votes are not here: they need what was voted before, which transcripts have.

use omni_channel_discord::convert::Scene;
use omni_channel_discord::inbound::{events as converted, is_told_first, learn};
use omni_channel_discord::known::Names;
use omni_channel_sdk::event::{Event, EventBody};
use serde_json::{Value, json};
use std::path::Path;

#[path = "book/spec.rs"]
#[expect(dead_code, reason = "only objects are judged here")]
mod spec;

/// A day after the fixtures were recorded.
const NOW: i64 = 1_796_070_000_000;
const ME: &str = "1576692280046125057";
const APPLICATION: &str = "1576692280046125056";
const BY_THE_BOOK: [&str; 11] = [
    "world",
    "words",
    "files",
    "context",
    "own",
    "changes",
    "reactions",
    "presence",
    "places",
    "people",
    "interactions",
];
const OTHERS: [&str; 2] = ["system", "not-by-the-book"];

fn dispatches(name: &str) -> Vec<(String, Value)> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("json");
    let text = std::fs::read_to_string(&file).expect("the fixture is there");
    let list: Vec<Value> = serde_json::from_str(&text).expect("the fixture is a list");
    let pair = |dispatch: &Value| (dispatch["t"].as_str().expect("it has a kind").to_owned(), dispatch["d"].clone());
    list.iter().map(pair).collect()
}

fn world() -> Names {
    let mut names = Names::default();
    for (kind, data) in dispatches("world") {
        learn(&mut names, &kind, &data, "world").expect("the world can be read");
    }
    names
}

fn convert(names: &mut Names, kind: &str, data: &Value, key: &str) -> Vec<Event> {
    let told = |names: &Names| converted(kind, data, Scene { names, me: ME, application: APPLICATION, key, now: NOW });
    if is_told_first(kind) {
        let events = told(names);
        let _ = learn(names, kind, data, key);
        return events;
    }
    let _ = learn(names, kind, data, key);
    told(names)
}

fn events(name: &str) -> Vec<Event> {
    let mut names = world();
    let mut all = Vec::new();
    for (number, (kind, data)) in dispatches(name).into_iter().enumerate() {
        for mut event in convert(&mut names, &kind, &data, &format!("s:{number}")) {
            let json = serde_json::to_value(&event).expect("an event can be written");
            let read: Event = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"));
            assert_eq!(read, event, "an event is read as it was written");
            check_raw(&kind, &data, event.raw.take());
            all.push(event);
        }
    }
    all
}

/// What an event carries of Discord's own words: all, or nothing; of a server that the bot came into less than that, and
/// never what an interaction is answered by.
fn check_raw(kind: &str, data: &Value, raw: Option<Value>) {
    let Some(raw) = raw else { return };
    match kind {
        "GUILD_CREATE" => assert_eq!((&raw["id"], raw.get("channels")), (&data["id"], None)),
        "INTERACTION_CREATE" => {
            assert_eq!(raw.get("token"), None);
            let mut with = raw;
            with["token"] = data["token"].clone();
            assert_eq!(&with, data);
        }
        _ => assert_eq!(&raw, data),
    }
}

macro_rules! snapshots {
    ($($test:ident $file:literal)*) => {$(
        #[test]
        fn $test() {
            insta::assert_json_snapshot!($file, events($file));
        }
    )*};
}

snapshots! {
    words "words"
    files "files"
    context "context"
    own "own"
    changes "changes"
    reactions "reactions"
    presence "presence"
    places "places"
    people "people"
    interactions "interactions"
    system "system"
    not_by_the_book "not-by-the-book"
}

#[test]
fn what_is_by_the_book_is_understood() {
    for name in BY_THE_BOOK.into_iter().chain(["system"]) {
        for event in events(name) {
            assert!(!matches!(event.body, EventBody::Unknown(_)), "{name}: {event:?}");
            assert!(event.delivery_key.is_some(), "{name}: {event:?}");
        }
    }
}

/// Whatever is missing, or of another type: nothing panics, and no event names nobody and nothing.
#[test]
fn whatever_is_missing_no_event_is_without_ids() {
    let mut tried = 0;
    for name in BY_THE_BOOK.into_iter().chain(OTHERS) {
        for (kind, data) in dispatches(name) {
            for mangled in mangled(&data) {
                for event in convert(&mut world(), &kind, &mangled, "s:1") {
                    let body = serde_json::to_value(&event.body).expect("an event can be written");
                    let chat = serde_json::to_value(&event.chat).expect("an event can be written");
                    assert!(!has_empty_id(&body) && !has_empty_id(&chat), "{kind} {mangled}: {event:?}");
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 5_000, "only {tried} were tried");
}

fn has_empty_id(json: &Value) -> bool {
    match json {
        Value::Object(fields) => fields.iter().any(|(name, value)| match value {
            Value::String(id) => matches!(name.as_str(), "id" | "parent" | "part") && id.is_empty(),
            value => has_empty_id(value),
        }),
        Value::Array(items) => items.iter().any(has_empty_id),
        _ => false,
    }
}

/// The data with one thing in it replaced by something else, as often as there are things in it, to some depth.
fn mangled(data: &Value) -> Vec<Value> {
    let mut places = Vec::new();
    pointers(data, String::new(), 4, &mut places);
    let others = [json!(null), json!(""), json!(-1), json!({})];
    let with = |place: &String, other: &Value| {
        let mut data = data.clone();
        if let Some(there) = data.pointer_mut(place) {
            there.clone_from(other);
        }
        data
    };
    places.iter().flat_map(|place| others.iter().map(move |other| with(place, other))).collect()
}

fn pointers(json: &Value, path: String, depth: usize, all: &mut Vec<String>) {
    let below: Vec<(String, &Value)> = match json {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(index, value)| (index.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    for (name, value) in below.into_iter().filter(|_| depth > 0) {
        pointers(value, format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), depth - 1, all);
    }
    all.push(path);
}

#[test]
fn the_fixtures_are_what_discord_sends() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    assert_ne!(spec.object("MessageResponse", &json!({"id": 1})), Vec::<String>::new(), "it judges");
    let mut judged = 0;
    for name in BY_THE_BOOK {
        for (kind, data) in dispatches(name) {
            for (object, value) in objects(&kind, &data) {
                let mut wrong = spec.object(object, value);
                // The document knows answers and no forwards.
                let is_forward = value.pointer("/message_reference/type") == Some(&json!(1));
                wrong.retain(|wrong| !(is_forward && wrong.ends_with("at /message_reference/type")));
                assert_eq!(wrong, Vec::<String>::new(), "{name}: {kind} {value}");
                judged += 1;
            }
        }
    }
    assert!(judged > 40, "only {judged} were judged");
}

/// The objects in a dispatch that the document describes: it knows no events of the gateway, only what they consist of.
fn objects<'a>(kind: &str, data: &'a Value) -> Vec<(&'static str, &'a Value)> {
    let mut objects = match kind {
        "MESSAGE_CREATE" | "MESSAGE_UPDATE" => vec![("MessageResponse", data)],
        "CHANNEL_CREATE" | "CHANNEL_UPDATE" | "CHANNEL_DELETE" => vec![("GuildChannelResponse", data)],
        "THREAD_CREATE" | "THREAD_UPDATE" => vec![("ThreadResponse", data)],
        "GUILD_MEMBER_ADD" => vec![("GuildMemberResponse", data)],
        _ => Vec::new(),
    };
    objects.extend(data.get("user").filter(|_| kind == "GUILD_MEMBER_REMOVE").map(|user| ("UserResponse", user)));
    if kind == "INTERACTION_CREATE" {
        objects.extend(data.get("message").map(|message| ("MessageResponse", message)));
        objects.extend(data.pointer("/member/user").map(|user| ("UserResponse", user)));
    }
    objects
}
