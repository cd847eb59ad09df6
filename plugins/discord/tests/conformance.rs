//! The suite that every channel passes, by the transcripts in `transcripts/`.
//!
//! What a transcript does not show is not here: that calls are by Discord's book (`by_the_book`), and what single payloads
//! of the gateway become (`fixtures`).

omni_channel_sdk::testkit::conformance!(omni_channel_discord::Discord);
