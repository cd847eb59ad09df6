//! The name of every number, what kind it is and what it says. Prometheus' own rules hold: a counter ends in `_total`, a
//! unit is a base unit and is named, and each has its line of help.

use metrics::Unit::{Bytes, Count, Seconds};
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// What kind a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only rises.
    Counter,
    /// It is what it is now.
    Gauge,
    /// How values are spread.
    Histogram,
}

use Kind::{Counter, Gauge, Histogram};

/// Every number.
pub const ALL: &[(&str, Kind, Unit, &str)] = &[
    ("omni_audit_lost_total", Counter, Count, "Lines of the audit log that could not be written."),
    ("omni_audit_skipped_total", Counter, Count, "Requests that were too many for the audit log."),
    (
        "omni_bus_foreign_messages_total",
        Counter,
        Count,
        "Messages in the log in NATS that are none of ours and were left out.",
    ),
    (
        "omni_bus_republished_messages_total",
        Counter,
        Count,
        "Messages that the log in NATS had lost and that were published again.",
    ),
    ("omni_consumer_depth", Gauge, Count, "Events that a consumer has not had yet."),
    ("omni_consumer_lag_seconds", Gauge, Seconds, "Age of the oldest event that a consumer has not had yet."),
    ("omni_database_bytes", Gauge, Bytes, "Size of the database and of its write-ahead log."),
    ("omni_dead_letter_retries_total", Counter, Count, "Dead letters that the host tried again by itself, by outcome."),
    ("omni_dead_letters", Gauge, Count, "Dead letters that nobody has settled yet, by the consumer that failed."),
    ("omni_dead_letters_total", Counter, Count, "Events that became dead letters since the start."),
    ("omni_disk_free_bytes", Gauge, Bytes, "Free space where the data folder lies."),
    (
        "omni_domain_events",
        Gauge,
        Count,
        "Place of the newest domain event: as many have happened since the beginning.",
    ),
    (
        "omni_events_accepted_total",
        Counter,
        Count,
        "Events that networks were told we have, since the beginning; with NATS, since the start.",
    ),
    (
        "omni_events_lost_total",
        Counter,
        Count,
        "Domain events that were not kept until they could be published to NATS.",
    ),
    ("omni_events_published_total", Counter, Count, "Domain events that were published to NATS."),
    ("omni_events_stored_total", Counter, Count, "Accepted events that were stored or are in the dead letters."),
    ("omni_host_instances", Gauge, Count, "Instances that this host has, of hosts that share a database."),
    ("omni_hosts", Gauge, Count, "Hosts that share the database: alive, or silent for a while."),
    ("omni_http_connections_refused_total", Counter, Count, "Connections that were one too many."),
    ("omni_http_request_duration_seconds", Histogram, Seconds, "Time that requests to the API took."),
    ("omni_http_requests_in_flight", Gauge, Count, "Requests to the API that are being answered."),
    ("omni_info", Gauge, Count, "1, with the version of the program."),
    ("omni_instance_retries_total", Counter, Count, "Times that an instance was started again after a failure."),
    ("omni_instance_state", Gauge, Count, "1 for the state that an instance is in, 0 for the others."),
    ("omni_instances", Gauge, Count, "Instances in each state."),
    ("omni_instances_without_host", Gauge, Count, "Instances that are to run and that no host has."),
    ("omni_key_rotation_remaining", Gauge, Count, "Values that are still sealed with an old key."),
    ("omni_key_rotation_under_way", Gauge, Count, "1 while the key of the data folder is being changed."),
    (
        "omni_ledger_gap",
        Gauge,
        Count,
        "What an instance's ledger has accepted and cannot find, by side; below zero more is there. 0 when it balances.",
    ),
    ("omni_ledger_total", Counter, Count, "What was counted of an instance since the beginning, by account."),
    ("omni_media_bytes", Gauge, Bytes, "Size of the stored files."),
    ("omni_media_let_go_total", Counter, Count, "Stored files that were taken away for their age or for room."),
    ("omni_outbound_total", Counter, Count, "Messages out, by how they ended."),
    ("omni_outbox_depth", Gauge, Count, "Messages that wait to be sent or to be settled."),
    ("omni_outbox_oldest_seconds", Gauge, Seconds, "Age of the oldest of them."),
    (
        "omni_plugin_restarts_total",
        Counter,
        Count,
        "Times that a plugin's process was started again after it had ended though nobody wanted that.",
    ),
    ("omni_plugins", Gauge, Count, "Plugin files in each state."),
    ("omni_streams_dropped_total", Counter, Count, "Event streams that were ended because their reader was too slow."),
    ("omni_trace_spans_total", Counter, Count, "Spans that were sent to the collector of traces, lost or dropped."),
    ("omni_webhook_attempt_duration_seconds", Histogram, Seconds, "Time that attempts to deliver to a webhook took."),
    ("omni_webhook_attempts_total", Counter, Count, "Attempts to deliver to a webhook, by outcome."),
    (
        "omni_webhook_expired_total",
        Counter,
        Count,
        "Events that a webhook wanted and never had: they were no longer kept (retention.event_days) when their turn came.",
    ),
    ("omni_webhook_queued", Gauge, Count, "Events that are queued for a webhook."),
    ("process_open_fds", Gauge, Count, "Open file descriptors."),
    ("process_resident_memory_bytes", Gauge, Bytes, "Resident memory."),
    ("process_threads", Gauge, Count, "Threads."),
];

/// Tells the recorder what each says. To be called once it is installed.
pub fn describe() {
    for (name, kind, unit, help) in ALL {
        match kind {
            Counter => describe_counter!(*name, *unit, *help),
            Gauge => describe_gauge!(*name, *unit, *help),
            Histogram => describe_histogram!(*name, *unit, *help),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;

    /// The names that the macros of a folder's sources are called with, and which macro.
    fn used(folder: &Path, found: &mut BTreeSet<(String, String)>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                used(&entry, found);
                continue;
            }
            let text = std::fs::read_to_string(&entry).expect("a source");
            for kind in ["counter", "gauge", "histogram"] {
                for rest in text.split(&format!("{kind}!(")).skip(1) {
                    if let Some((name, _)) = rest.trim_start().strip_prefix('"').and_then(|rest| rest.split_once('"')) {
                        found.insert((name.to_owned(), kind.to_owned()));
                    }
                }
            }
        }
    }

    #[test]
    fn every_number_is_explained_and_every_explanation_is_of_a_number() {
        let mut found = BTreeSet::new();
        used(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
        let told: BTreeSet<(String, String)> =
            ALL.iter().map(|(name, kind, ..)| ((*name).to_owned(), format!("{kind:?}").to_ascii_lowercase())).collect();
        assert_eq!(found, told);
    }

    /// What the examples ask of Prometheus: every word of theirs that looks like a number's name.
    fn asked(text: &str) -> BTreeSet<&str> {
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        words.filter(|word| word.starts_with("omni_") || word.starts_with("process_")).collect()
    }

    #[test]
    fn the_dashboard_and_the_alerts_ask_for_numbers_that_there_are() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/grafana");
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect(name);
        let (dashboard, alerts) = (read("omni.json"), read("alerts.yml"));
        let given: BTreeSet<String> = ALL
            .iter()
            .flat_map(|(name, kind, ..)| match kind {
                Histogram => ["_bucket", "_count", "_sum"].map(|end| format!("{name}{end}")).to_vec(),
                Counter | Gauge => vec![(*name).to_owned()],
            })
            .collect();
        for (file, text) in [("omni.json", &dashboard), ("alerts.yml", &alerts)] {
            let asked = asked(text);
            assert!(asked.len() > 8, "{file} asks for little: {asked:?}");
            let missing: Vec<&&str> = asked.iter().filter(|name| !given.contains(**name)).collect();
            assert!(missing.is_empty(), "{file} asks for what /metrics does not give: {missing:?}");
        }
        // Nothing that is counted is left for nobody to see.
        let (shown, all) = (asked(&dashboard), ALL.iter().map(|(name, ..)| *name));
        let unseen: Vec<&str> = all.filter(|name| !shown.iter().any(|word| word.starts_with(name))).collect();
        assert!(unseen.is_empty(), "the dashboard does not show {unseen:?}");
        let dashboard: serde_json::Value = serde_json::from_str(&dashboard).expect("it is JSON");
        for panel in dashboard["panels"].as_array().expect("panels") {
            let targets = panel["targets"].as_array().map_or(0, Vec::len);
            assert!(panel["type"] == "row" || targets > 0, "{} asks for nothing", panel["title"]);
        }
    }

    /// What `promtool check metrics` would say.
    #[test]
    fn names_keep_the_rules_of_prometheus() {
        for (name, kind, unit, help) in ALL {
            assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
            assert_eq!(
                name.ends_with("_total"),
                *kind == Counter,
                "{name}: a counter, and nothing else, ends in _total"
            );
            for reserved in ["_count", "_sum", "_bucket", "_counter", "_gauge", "_histogram"] {
                assert!(!name.ends_with(reserved), "{name} ends in {reserved}");
            }
            for (word, wanted) in [("_seconds", Seconds), ("_bytes", Bytes)] {
                assert_eq!(name.contains(word), *unit == wanted, "{name}: a unit is said in the name");
            }
            for abbreviated in ["_ms", "_us", "_ns", "_sec", "_min", "_kb", "_mb", "_b_"] {
                assert!(!name.ends_with(abbreviated), "{name}: units are base units");
            }
            assert!(help.ends_with('.') && !help.contains('\n'), "{name}: {help}");
        }
        assert!(ALL.is_sorted_by_key(|(name, ..)| *name), "in order, so that one is found");
    }
}
