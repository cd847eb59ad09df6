//! The numbers of the host that are looked up when somebody asks: how much waits where, what state things are in, how
//! large the files are. What is counted as it happens (requests, sends) is counted where it happens.
//!
//! Labels have few values: a state, a consumer, an instance (up to a number of them). Nothing that a stranger chose.

pub mod names;

use crate::Host;
use crate::hosts::is_silent;
use crate::plugins::PluginState;
use crate::rotation::Rotation;
use crate::store::{StoreError, dead_letters, stats};
use metrics::{counter, gauge};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use uuid::Uuid;

/// Instances with numbers of their own; beyond it they are only counted.
const MOST_INSTANCES: usize = 500;
const STATES: [&str; 5] = ["connecting", "connected", "waiting_for_login", "disconnected", "logged_out"];

/// Looks everything up.
pub async fn look_up(host: &Host, rotation: Option<&Rotation>, data: Option<&Path>) -> Result<(), StoreError> {
    gauge!("omni_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let now = host.clock.now();
    let seen = stats::look(&host.store, now).await?;
    let in_nats = host.bus.nats().is_some();
    if in_nats {
        let labels = [("consumer", crate::inbound::CONSUMER), ("stream", "inbound")];
        gauge!("omni_consumer_depth", &labels).set(host.inbound.behind() as f64);
        let oldest = host.bus.waits_since(*host.inbound.applied().borrow());
        let lag_us = oldest.map_or(0, |since| (now.0 - since.0).max(0));
        gauge!("omni_consumer_lag_seconds", &labels).set(lag_us as f64 / 1e6);
    } else {
        counter!("omni_events_accepted_total").absolute(unsigned(seen.accepted));
        counter!("omni_events_stored_total").absolute(unsigned(seen.stored));
    }
    gauge!("omni_domain_events").set(seen.newest_event as f64);
    // Of a consumer that has none it is said that it has none.
    let mut letters: BTreeMap<String, i64> = seen.consumers.iter().map(|consumer| (consumer.name.clone(), 0)).collect();
    letters.extend(dead_letters::pending(&mut host.store.read().await?).await?);
    for (consumer, count) in letters {
        gauge!("omni_dead_letters", "consumer" => consumer).set(count as f64);
    }
    for consumer in seen.consumers {
        if in_nats && consumer.stream == "inbound" {
            // The log of the database, which is not used.
            continue;
        }
        let labels = [("consumer", consumer.name), ("stream", consumer.stream)];
        gauge!("omni_consumer_depth", &labels).set(consumer.depth as f64);
        gauge!("omni_consumer_lag_seconds", &labels).set(consumer.lag_us as f64 / 1e6);
    }
    for status in ["pending", "sending", "unknown", "reconciling"] {
        let found = seen.outbox.iter().find(|row| row.status == status);
        let (count, age) = found.map_or((0, 0), |row| (row.count, row.age_us));
        gauge!("omni_outbox_depth", "status" => status).set(count as f64);
        gauge!("omni_outbox_oldest_seconds", "status" => status).set(age as f64 / 1e6);
    }
    gauge!("omni_database_bytes", "file" => "database").set(seen.database_bytes as f64);
    gauge!("omni_database_bytes", "file" => "log").set(seen.database_log_bytes as f64);
    gauge!("omni_media_bytes").set(host.media.bytes() as f64);
    hosts(host);
    instances(host).await?;
    plugins(host);
    if let Some(Ok(progress)) = match rotation {
        Some(rotation) => Some(rotation.progress().await),
        None => None,
    } {
        gauge!("omni_key_rotation_under_way").set(f64::from(u8::from(progress.under_way)));
        gauge!("omni_key_rotation_remaining").set(progress.remaining as f64);
    }
    if let Some(Ok(disk)) = data.map(rustix::fs::statvfs) {
        gauge!("omni_disk_free_bytes").set(disk.f_bavail as f64 * disk.f_frsize as f64);
    }
    process();
    Ok(())
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Hosts that share the database; one that has it alone says nothing.
fn hosts(host: &Host) {
    let Some(me) = host.hosts.me() else { return };
    let view = host.hosts.view();
    let silent = view.hosts.iter().filter(|host| is_silent(host)).count();
    gauge!("omni_hosts", "state" => "alive").set((view.hosts.len() - silent) as f64);
    gauge!("omni_hosts", "state" => "silent").set(silent as f64);
    let mine = view.leases.iter().filter(|lease| lease.host_id == me && lease.instance().is_some()).count();
    gauge!("omni_host_instances").set(mine as f64);
    let owned: HashSet<Uuid> = view.leases.iter().filter_map(|lease| lease.instance()).collect();
    let unowned = view.active.iter().filter(|(id, _)| !owned.contains(id)).count();
    gauge!("omni_instances_without_host").set(unowned as f64);
}

async fn instances(host: &Host) -> Result<(), StoreError> {
    let found = crate::store::instances::states(&host.store).await?;
    for state in STATES {
        let count = found.iter().filter(|row| row.state == state).count();
        gauge!("omni_instances", "state" => state).set(count as f64);
    }
    for row in found.iter().take(MOST_INSTANCES) {
        for state in STATES {
            let labels =
                [("instance", row.id.to_string()), ("channel", row.channel.clone()), ("state", state.to_owned())];
            gauge!("omni_instance_state", &labels).set(f64::from(u8::from(row.state == state)));
        }
    }
    Ok(())
}

fn plugins(host: &Host) {
    let found = host.plugins.list();
    let count = |wanted: fn(&PluginState) -> bool| found.iter().filter(|plugin| wanted(&plugin.state)).count() as f64;
    gauge!("omni_plugins", "state" => "loaded").set(count(|state| matches!(state, PluginState::Loaded)));
    gauge!("omni_plugins", "state" => "running").set(count(|state| matches!(state, PluginState::Running { .. })));
    gauge!("omni_plugins", "state" => "failed").set(count(|state| matches!(state, PluginState::Failed { .. })));
}

/// What the kernel knows of this process, under the names that every dashboard has for it.
fn process() {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return };
    let field = |name: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    if let Some(kib) = field("VmRSS:") {
        gauge!("process_resident_memory_bytes").set(kib * 1024.0);
    }
    if let Some(threads) = field("Threads:") {
        gauge!("process_threads").set(threads);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        gauge!("process_open_fds").set(files.count() as f64);
    }
}
