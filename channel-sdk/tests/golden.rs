//! The wire types as they are written, one golden file for each group: what is on the wire does not change by accident.
//!
//! `UPDATE_GOLDEN=1 cargo test -p omni-channel-sdk --test golden` writes the files anew. Look at the difference: fields
//! and kinds may be added, and nothing else. Deliberately no behaviour here.

#[path = "golden/cases.rs"]
mod cases;
#[path = "golden/frames.rs"]
mod frames;

use cases::{Case, Group};
use omni_channel_sdk::{capabilities, chat, content, event, ingress, login, manifest, outcome, request};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

fn file(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.json")].iter().collect()
}

/// Compares with a golden file, or writes it when that is asked for.
fn compare(name: &str, found: &Value) {
    let path = file(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        let text = serde_json::to_string_pretty(found).expect("JSON can be written");
        std::fs::write(&path, text + "\n").expect("the golden files can be written");
    }
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let golden: Value = serde_json::from_str(&text).expect("golden files are JSON");
    let (Some(golden), Some(found)) = (golden.as_object(), found.as_object()) else {
        panic!("golden files are objects");
    };
    for (case, found) in found {
        let golden = golden.get(case).unwrap_or_else(|| panic!("{name}.json: {case} is not in it"));
        assert_eq!(golden, found, "{name}.json: {case} is not written as it was");
    }
    for case in golden.keys() {
        assert!(found.contains_key(case), "{name}.json: {case} is in it, and is no longer written");
    }
}

fn groups() -> Vec<Group> {
    let mut groups = cases::groups();
    groups.extend(frames::groups());
    groups
}

#[test]
fn everything_is_written_as_it_was() {
    for group in groups() {
        let all: Map<String, Value> = group.cases.iter().map(|case| (case.name.clone(), case.json.clone())).collect();
        assert_eq!(all.len(), group.cases.len(), "{}: two cases have one name", group.name);
        compare(group.name, &Value::Object(all));
    }
}

#[test]
fn what_is_written_can_be_read() {
    for_each_case(|place, case| match (case.again)(&case.json) {
        Ok(again) => assert_eq!(again, case.json, "{place}: changes when it is read"),
        Err(error) => panic!("{place}: cannot be read: {error}"),
    });
}

#[test]
fn every_kind_has_a_case() {
    for group in groups() {
        for (kind, pointer) in &group.kinds {
            let there = group.cases.iter().any(|case| case.json.pointer(pointer).is_some_and(|value| value == kind));
            assert!(there, "{}: no case has {kind:?} at {pointer}", group.name);
        }
    }
}

#[test]
fn an_unknown_field_is_skipped_everywhere() {
    // Objects whose fields are data: what is added there is kept, or is no good value.
    const MAPS: &[&str] = &[
        "raw",
        "config",
        "configSchema",
        "json",
        "options",
        "fields",
        "rows",
        "files",
        "found",
        "imported",
        "send",
        "requests",
        "unknown",
        "default",
        "properties",
        "token",
        "privacy",
    ];
    for_each_case(|place, case| {
        for pointer in objects(&case.json) {
            let in_a_map = pointer.contains("/commit/events/")
                || pointer.split('/').any(|segment| MAPS.contains(&segment))
                || case.is_unknown(&pointer);
            if in_a_map || place.starts_with("to-") && is_wrapper(&case.json, &pointer) {
                continue;
            }
            let mut json = case.json.clone();
            json.pointer_mut(&pointer).expect("it is there")["xNew"] = json!({"deep": [1]});
            match (case.again)(&json) {
                Ok(again) => assert_eq!(again, case.json, "{place}: a new field in {pointer:?} changes it"),
                Err(error) => panic!("{place}: a new field in {pointer:?} breaks it: {error}"),
            }
        }
    });
}

/// A field that was not required may not become so: what an older side writes has to be read.
#[test]
fn no_field_becomes_required() {
    let mut required = Map::new();
    for_each_case(|place, case| {
        let mut paths = Vec::new();
        for pointer in objects(&case.json) {
            let fields: Vec<String> =
                case.json.pointer(&pointer).and_then(Value::as_object).expect("it is one").keys().cloned().collect();
            for field in fields {
                let mut json = case.json.clone();
                if let Some(Value::Object(object)) = json.pointer_mut(&pointer) {
                    object.remove(&field);
                }
                if (case.again)(&json).is_err() {
                    paths.push(format!("{pointer}/{field}"));
                }
            }
        }
        required.insert(place.to_owned(), json!(paths));
    });
    compare("required", &Value::Object(required));
}

#[test]
fn every_word_is_written_as_it_was() {
    macro_rules! words {
        ($($module:ident::$name:ident),* $(,)?) => {{
            let mut all = Map::new();
            $(
                for word in $module::$name::WORDS {
                    let known = $module::$name::from(*word);
                    assert!(!matches!(known, $module::$name::Other(_)), "{word} is a word of {}", stringify!($name));
                    assert_eq!(json!(known), json!(word));
                    let read: $module::$name = serde_json::from_value(json!(word)).expect("a word can be read");
                    assert_eq!(read, known);
                }
                let new: $module::$name = serde_json::from_value(json!("brand-new")).expect("a new word is kept");
                assert_eq!(new, $module::$name::Other("brand-new".into()));
                assert_eq!(json!(new), json!("brand-new"));
                all.insert(stringify!($name).to_owned(), json!($module::$name::WORDS));
            )*
            Value::Object(all)
        }};
    }
    let all = words![
        chat::ChatKind,
        content::MentionTarget,
        event::ReceiptKind,
        event::Activity,
        event::PresenceState,
        event::MembershipChange,
        request::DirectoryList,
        request::GroupAction,
        request::ChatAction,
        outcome::NextActor,
        outcome::ErrorCode,
        capabilities::ClientIdSupport,
        manifest::FlowKind,
        login::FieldKind,
    ];
    compare("words", &all);
}

#[test]
fn an_unknown_kind_is_kept_whole() {
    macro_rules! kept {
        ($($module:ident::$name:ident),* $(,)?) => {$(
            let new = json!({"type": "brandNew", "a": {"b": [1, null, "c"]}, "id": "7"});
            let read: $module::$name = serde_json::from_value(new.clone()).expect("an unknown kind can be read");
            assert_eq!(read.kind(), "brandNew");
            assert!(matches!(&read, $module::$name::Unknown(unknown) if unknown.fields.len() == 2));
            assert_eq!(json!(read), new);
            for broken in [json!({"a": 1}), json!({"type": 7}), json!("text"), json!(null)] {
                assert!(serde_json::from_value::<$module::$name>(broken.clone()).is_err(), "{broken} is no {}", stringify!($name));
            }
        )*};
    }
    kept![
        content::Content,
        content::EntityKind,
        event::EventBody,
        request::Request,
        request::Reply,
        ingress::Ingress,
        ingress::Verify,
        login::LoginShow,
    ];
}

fn for_each_case(mut look: impl FnMut(&str, &Case)) {
    for group in groups() {
        for case in &group.cases {
            look(&format!("{}/{}", group.name, case.name), case);
        }
    }
}

/// Whether an object only names the kind of what is in it (`{"begin": {…}}`), as in the heads of frames.
fn is_wrapper(json: &Value, pointer: &str) -> bool {
    let fields = json.pointer(pointer).and_then(Value::as_object).expect("it is an object");
    fields.len() == 1 && fields.values().all(Value::is_object)
}

/// Pointers to all objects in a value.
fn objects(json: &Value) -> Vec<String> {
    fn walk(json: &Value, path: String, found: &mut Vec<String>) {
        match json {
            Value::Object(fields) => {
                for (name, value) in fields {
                    walk(value, format!("{path}/{}", name.replace('~', "~0").replace('/', "~1")), found);
                }
                found.push(path);
            }
            Value::Array(items) => {
                items.iter().enumerate().for_each(|(index, item)| walk(item, format!("{path}/{index}"), found));
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(json, String::new(), &mut found);
    found
}
