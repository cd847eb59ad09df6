//! The time of day. The only place that asks for it.

use std::time::UNIX_EPOCH;

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "a server of its own has no other clock")]
pub fn now() -> u64 {
    UNIX_EPOCH.elapsed().map(|since| since.as_secs()).unwrap_or_default()
}
