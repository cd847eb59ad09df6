//! What a plugin's process gives up before any of the plugin runs: inherited descriptors, new rights, other people's
//! files, memory without end.
//!
//! What it is: a plugin that was taken over cannot read the data folder, the home folders or other processes, nor signal
//! the host, where the kernel has Landlock (5.13 and later; signals from 6.12). What it is not: a virtual machine. The
//! network stays open, the kernel is shared, and the plugin runs as the host's user.

use super::native::close_inherited;
use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::path::Path;

/// How far the kernel could be made to help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Landlock holds all that was asked for.
    Landlock,
    /// An older kernel's Landlock holds a part of it.
    LandlockPartly,
    /// The kernel has no Landlock: only rights and descriptors were given up.
    None,
}

/// Read and run: libraries, what name lookups and TLS need, time zones. The plugin's own copy comes to it.
const READABLE: &[&str] = &[
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/etc/ld.so.cache",
    "/etc/resolv.conf",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/nsswitch.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/localtime",
    "/usr/share/zoneinfo",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/local/share/ca-certificates",
    "/var/lib/ca-certificates",
    "/usr/share/pki",
    "/dev/urandom",
    "/dev/random",
];
/// Address space that a plugin sets aside and does not use: stacks of threads, arenas of its allocator.
const HEADROOM: u64 = 256 << 20;

/// Gives everything up. Called once, first of all, while there is one thread.
pub fn enter(library: &Path, memory_limit: u64) -> Result<Sandbox, String> {
    close_inherited();
    rustix::thread::set_no_new_privs(true).map_err(|error| format!("no_new_privs cannot be set: {error}"))?;
    // A core file would hold what is secret in the plugin.
    limit(Resource::Core, 0);
    if memory_limit > 0 {
        // The host looks at what is really used; this stops what grows faster than the host looks.
        limit(Resource::Data, set_aside().saturating_add(memory_limit.saturating_mul(2)).saturating_add(HEADROOM));
    }
    restrict(library).map_err(|error| format!("Landlock refused: {error}"))
}

/// What this program's own allocator has set aside already, used or not.
fn set_aside() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let data = status.lines().find_map(|line| line.strip_prefix("VmData:")?.trim().strip_suffix(" kB"));
    data.and_then(|kilobytes| kilobytes.parse::<u64>().ok()).unwrap_or(0) << 10
}

fn limit(what: Resource, bytes: u64) {
    // A lower limit that was there already stays, and is as good.
    let _ = setrlimit(what, Rlimit { current: Some(bytes), maximum: Some(bytes) });
}

fn restrict(library: &Path) -> Result<Sandbox, RulesetError> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    let readable = READABLE.iter().map(Path::new).chain([library]);
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::from_all(abi)))?
        .restrict_self()?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => Sandbox::Landlock,
        RulesetStatus::PartiallyEnforced => Sandbox::LandlockPartly,
        RulesetStatus::NotEnforced => Sandbox::None,
    })
}
