//! The suite that every channel passes, by the transcripts in `transcripts/`, and what it does not allow in one: events of a
//! kind that the host does not know.
//!
//! What a transcript does not show is not here: that calls are by Discord's book (`by_the_book`), and what single payloads
//! of the gateway become (`fixtures`).

use omni_channel_discord::Discord;
use omni_channel_sdk::Exported;
use omni_channel_sdk::testkit::{InProcess, Subject, play};
use std::path::Path;

omni_channel_sdk::testkit::conformance!(Discord);

#[test]
fn what_cannot_be_read_is_kept_and_passed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unknown");
    let open = Box::new(|| Ok(Box::new(InProcess::<Discord>::open()) as _));
    let subject = Subject::new(Discord::CHANNEL_JSON, &folder, open).expect("the transcripts can be read");
    for transcript in &subject.transcripts {
        assert_eq!(play(&subject, transcript).problems, Vec::<String>::new());
    }
}
