//! What a plugin may use: what its manifest asks for, and no more than the operator lets it.
//!
//! The operator says so in the configuration, and over that on the list of [`grants`](super::grants). Of two limits the
//! smaller one holds; a host has to be let through by both sides.

use super::types::Limits;
use crate::config::{ByteSize, ForChannel};
use omni_channel_sdk::manifest::ChannelManifest;
use serde::{Deserialize, Serialize};

/// What a plugin may use. 0 is no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowance {
    /// The hosts that its manifest names; in a sandbox it goes to no others, but for those of its configuration.
    pub hosts: Vec<String>,
    /// The only ones that the operator lets it go to, when there is such a list.
    pub granted_hosts: Option<Vec<String>>,
    /// Memory of an instance in a sandbox, or of its process.
    pub memory_bytes: u64,
    /// What an instance may keep.
    pub state_bytes: u64,
    /// Events of one call.
    pub events_per_call: u64,
    /// Events and entries of one call.
    pub bytes_per_call: u64,
    /// What an instance in a sandbox may compute on one frame.
    pub fuel_per_frame: u64,
    /// Entries in the tables of an instance in a sandbox.
    pub table_entries: u64,
}

/// The smaller of two limits.
fn least(asked: Option<u64>, given: u64) -> u64 {
    match (asked.unwrap_or(0), given) {
        (0, limit) | (limit, 0) => limit,
        (asked, given) => asked.min(given),
    }
}

impl Allowance {
    /// Of a plugin that says this of itself, where `given` holds for its channel and `all` for those of which nothing else
    /// is said.
    pub fn of(manifest: &ChannelManifest, all: &Limits, given: ForChannel) -> Self {
        let needs = &manifest.limits;
        let bytes = |asked, own: Option<ByteSize>, all| least(asked, own.map_or(all, |size| size.0));
        Self {
            hosts: manifest.hosts.clone(),
            granted_hosts: given.hosts,
            memory_bytes: bytes(needs.memory_bytes, given.memory_limit, all.memory),
            state_bytes: bytes(needs.state_bytes, given.state_limit, all.state),
            events_per_call: least(needs.events_per_call, given.events_per_call.unwrap_or(all.events_per_call)),
            bytes_per_call: bytes(needs.bytes_per_call, given.bytes_per_call, all.bytes_per_call),
            fuel_per_frame: least(needs.fuel_per_frame, given.fuel_per_frame.unwrap_or(all.fuel_per_frame)),
            table_entries: least(needs.table_entries, given.table_entries.unwrap_or(all.table_entries)),
        }
    }

    /// Whether a call may emit and write so much. The error is a sentence that names the knob.
    pub fn check_call(&self, events: usize, bytes: usize) -> Result<(), String> {
        let over = |limit: u64, is: usize| limit > 0 && is as u64 > limit;
        if over(self.events_per_call, events) {
            let most = self.events_per_call;
            return Err(format!("the channel emitted {events} events in one call, {most} are taken (events_per_call)"));
        }
        if over(self.bytes_per_call, bytes) {
            let most = self.bytes_per_call;
            return Err(format!(
                "the channel emitted and wrote {bytes} bytes in one call, {most} are taken (bytes_per_call)"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_holds_and_nought_is_none() {
        for (asked, given, holds) in [
            (None, 0, 0),
            (None, 5, 5),
            (Some(0), 5, 5),
            (Some(3), 0, 3),
            (Some(3), 5, 3),
            (Some(9), 5, 5),
            (Some(u64::MAX), 5, 5),
        ] {
            assert_eq!(least(asked, given), holds, "{asked:?} {given}");
        }
    }

    #[test]
    fn a_call_that_brings_too_much_is_told_which_limit_it_met() {
        let allowance = Allowance { events_per_call: 2, bytes_per_call: 10, ..Allowance::default() };
        assert_eq!(allowance.check_call(2, 10), Ok(()));
        assert_eq!(
            allowance.check_call(3, 0).expect_err("too many"),
            "the channel emitted 3 events in one call, 2 are taken (events_per_call)"
        );
        assert!(allowance.check_call(0, 11).expect_err("too much").ends_with("10 are taken (bytes_per_call)"));
        assert_eq!(Allowance::default().check_call(usize::MAX, usize::MAX), Ok(()));
    }
}
