//! What strangers send, and what holds whatever they send. The fuzz targets of `host/fuzz` are these functions: each takes
//! any bytes, hands them to what reads such bytes in the host, and panics when something that is promised does not hold.
//!
//! Built for tests and for fuzzers only. `cargo test` runs every seed and everything that a fuzzer ever broke something
//! with through the same functions, so a promise that was broken once stays kept without a fuzzer.

mod boundary;
mod elf;
mod events;
mod plugin_files;
mod stored;
#[cfg(test)]
mod tests;

pub use crate::http::fuzzing::{cursors, requests};
pub use boundary::frame;
pub use events::{accepted, event};
pub use plugin_files::{manifest, trust};
pub use stored::Stored;

use crate::store::Time;

/// 2026-01-01.
const NOW: Time = Time(1_767_225_600_000_000);

/// The first byte, a digit in the seeds, says which of `ways` the rest is taken.
pub(crate) fn way(data: &[u8], ways: u8) -> Option<(u8, &[u8])> {
    let (first, rest) = data.split_first()?;
    Some((first.wrapping_sub(b'0') % ways, rest))
}

/// A refusal is a sentence: not nothing, nothing that fills a log or a screen, and nothing that moves a cursor.
pub(crate) fn sentence(words: &str) {
    assert!(!words.is_empty(), "refused without a word");
    assert!(words.len() <= 2_000, "refused in {} bytes: {}…", words.len(), words.chars().take(200).collect::<String>());
    assert!(!words.contains(char::is_control), "refused with control characters: {words:?}");
}

/// A manifest that a host takes.
pub(crate) fn plain_manifest() -> omni_channel_sdk::manifest::Manifest {
    serde_json::from_str(&plugin_files::with_schema(&serde_json::Value::Null)).expect("a good manifest")
}
