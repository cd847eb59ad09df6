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

#[test]
fn the_fixtures_are_what_telegram_sends() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let Some(spec) = spec::Spec::load(&repository) else { return };
    assert_ne!(spec.object("Update", &serde_json::json!({"update_id": "1"})), Vec::<String>::new(), "it judges");
    for name in BY_THE_BOOK {
        for update in updates(name) {
            assert_eq!(spec.object("Update", &update), Vec::<String>::new(), "{name}: {update}");
        }
    }
}
