//! Recorded updates → events: each file in `fixtures` is a list of updates, its snapshot the list of their events.
//!
//! The raw update that every event carries is compared here and left out of the snapshots. That the fixtures are what
//! Telegram sends is judged by the Bot API's specification, where that is at hand.

use omni_channel_sdk::event::{Event, EventBody};
use omni_channel_telegram::convert::{self, Me};
use serde_json::Value;
use std::path::Path;

#[path = "../../../host/tests/it/telegram_fake/spec.rs"]
#[expect(dead_code, reason = "only objects are judged here")]
mod spec;

const NOW: i64 = 1_767_230_000_000;
const ME: Me = Me { id: 600_100 };
const BY_THE_BOOK: [&str; 7] = ["text", "media", "places-and-cards", "context", "changes", "members", "service"];

fn updates(name: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).with_extension("json");
    let text = std::fs::read_to_string(&file).expect("the fixture is there");
    serde_json::from_str(&text).expect("the fixture is a list of updates")
}

fn events(name: &str) -> Vec<Event> {
    let convert = |update: Value| {
        let mut event = convert::event(update.clone(), ME, NOW);
        assert_eq!(event.raw.take(), Some(update), "an event carries its update");
        let json = serde_json::to_value(&event).expect("an event can be written");
        let read: Event = serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!(read, event, "an event is read as it was written");
        event
    };
    updates(name).into_iter().map(convert).collect()
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
    texts "text"
    media "media"
    places_and_cards "places-and-cards"
    context "context"
    changes "changes"
    members "members"
    service "service"
    other_kinds "other-kinds"
    not_by_the_book "not-by-the-book"
}

#[test]
fn what_is_by_the_book_is_understood() {
    for name in BY_THE_BOOK {
        for event in events(name) {
            assert!(!matches!(event.body, EventBody::Unknown(_)), "{name}: {event:?}");
            assert!(event.delivery_key.is_some(), "{name}: {event:?}");
        }
    }
}

/// Every kind of update that the specification has is in some fixture, and is asked for.
#[test]
fn every_kind_has_a_fixture() {
    let names = BY_THE_BOOK.into_iter().chain(["other-kinds"]);
    let kinds: std::collections::BTreeSet<String> = names
        .flat_map(updates)
        .flat_map(|update| update.as_object().expect("an update is an object").keys().cloned().collect::<Vec<_>>())
        .filter(|kind| kind != "update_id")
        .collect();
    for kind in convert::KINDS {
        assert!(kinds.contains(kind), "there is no fixture of {kind}");
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    for kind in spec.fields("Update").iter().filter(|kind| *kind != "update_id") {
        assert!(convert::KINDS.contains(&kind.as_str()), "{kind} is not asked for");
    }
}

#[test]
fn the_fixtures_are_what_telegram_sends() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    assert_ne!(spec.object("Update", &serde_json::json!({"update_id": "1"})), Vec::<String>::new(), "it judges");
    for name in BY_THE_BOOK.into_iter().chain(["other-kinds"]) {
        for update in updates(name) {
            assert_eq!(spec.object("Update", &update), Vec::<String>::new(), "{name}: {update}");
        }
    }
}
