//! What Telegram, or whatever stands in its place, sends to the channel, and whether the host takes what it makes of it.
#![no_main]

#[path = "../../../plugins/telegram/tests/fuzz/updates.rs"]
mod updates;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for event in updates::check(data) {
        // A poll whose answer is refused is made again, for ever.
        omni_host::fuzzing::accepted(event.to_string().as_bytes());
    }
});
