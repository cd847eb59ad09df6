//! Recorded webhooks → events: each file in `fixtures` is a list of changes, its snapshot the list of their events.
//!
//! The raw message that every event carries is compared here and left out of the snapshots. That the fixtures are what Meta
//! sends is judged by its OpenAPI document, where that is at hand.

use omni_channel_sdk::event::Event;
use omni_channel_whatsapp_cloud::convert::{self, Me};
use serde_json::Value;
use std::path::Path;

#[path = "../../../host/tests/it/graph_fake/spec.rs"]
#[expect(dead_code, reason = "only what comes in is judged here")]
mod spec;

const NOW: i64 = 1_767_230_000_000;

fn me() -> Me {
    Me { id: "106540352242922".into(), digits: Some("15550783881".into()) }
}

fn changes(name: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("json");
    let text = std::fs::read_to_string(&file).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is a list of changes")
}

fn events(name: &str) -> Vec<Event> {
    let mut all = Vec::new();
    for change in changes(name) {
        let field = change["field"].as_str().unwrap_or_default().to_owned();
        let text = change.to_string();
        for mut event in convert::change(&field, change["value"].clone(), &me(), NOW).events {
            if let Some(raw) = event.raw.take() {
                assert!(text.contains(&raw.to_string()), "an event carries what Meta said: {raw}");
            }
            let json = serde_json::to_value(&event).expect("an event can be written");
            let read: Event = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"));
            assert_eq!(read, event, "an event is read as it was written");
            all.push(event);
        }
    }
    all
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
    messages "messages"
    choices "choices"
    people "people"
    statuses "statuses"
    groups "groups"
    phone "phone"
    not_by_the_book "not-by-the-book"
}

#[test]
fn the_fixtures_are_what_meta_sends() {
    let Some(spec) = spec::Spec::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")) else { return };
    assert_ne!(spec.received(&serde_json::json!({"type": "text", "id": "1"})), Vec::<String>::new(), "it judges");
    let mut judged = 0;
    for change in ["messages", "choices", "statuses"].into_iter().flat_map(changes) {
        let list = |name: &str| change["value"][name].as_array().cloned().unwrap_or_default();
        for message in list("messages") {
            assert_eq!(spec.received(&message), Vec::<String>::new(), "{message}");
            judged += 1;
        }
        for status in list("statuses") {
            assert_eq!(spec.object("Statuses", &status), Vec::<String>::new(), "{status}");
            judged += 1;
        }
    }
    assert!(judged > 20, "{judged}");
}

#[test]
fn what_is_told_of_another_number_is_not_taken() {
    let mut change = changes("messages").remove(0);
    change["value"]["metadata"]["phone_number_id"] = "999".into();
    let converted = convert::change("messages", change["value"].clone(), &me(), NOW);
    assert!(converted.events.is_empty() && converted.warnings[0].contains("999"), "{:?}", converted.warnings);
}

#[test]
fn what_is_too_large_to_be_kept_is_left_out_and_said() {
    let large = serde_json::json!({"blob": "x".repeat(convert::MAX_RAW)});
    let mut converted = convert::change("flows", large, &me(), NOW);
    assert!(converted.events[0].raw.is_some());
    converted.leave_out_what_is_too_large("flows");
    assert!(converted.events[0].raw.is_none() && converted.warnings[0].contains("flows"), "{:?}", converted.warnings);
}
