//! The suite that every channel passes, and what it does not allow in a transcript: events of a kind that the host does
//! not know.

use omni_channel_sdk::Exported;
use omni_channel_sdk::testkit::{InProcess, Subject, play};
use omni_channel_telegram::Telegram;
use std::path::Path;

omni_channel_sdk::testkit::conformance!(Telegram);

#[test]
fn what_is_not_known_moves_the_offset() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/unknown");
    let open = Box::new(|| Ok(Box::new(InProcess::<Telegram>::open()) as _));
    let subject = Subject::new(Telegram::CHANNEL_JSON, &folder, open).expect("the transcripts can be read");
    for transcript in &subject.transcripts {
        assert_eq!(play(&subject, transcript).problems, Vec::<String>::new());
    }
}
