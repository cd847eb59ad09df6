//! Whether the log and the events can be kept in NATS.

use super::{Finding, fail, ok, warn};
use crate::bus::{Durability, Inspected, NatsError};
use crate::config::Config;
use crate::store::Time;
use crate::store::ledger::Ledger;

const CHECK: &str = "nats";
/// How full the log may be, in percent, before there is a word about it, and before it soon takes nothing more. At half
/// the host takes away what is stored.
const FILLING: u64 = 70;
const FULL: u64 = 95;
/// How long events may wait to be published before there is a word about it, in seconds.
const LATE: i64 = 60;

/// Looks at the server, and completes the ledger with what lies in its log.
pub(super) async fn examine(config: &Config, ledger: Option<&mut Ledger>, is_running: bool, now: Time) -> Vec<Finding> {
    let Some(options) = config.bus.nats_options() else { return Vec::new() };
    let place = &config.bus.url;
    let between = ledger.as_ref().map(|ledger| ledger.between()).unwrap_or_default();
    let is_whole = between.is_empty();
    let inspected = crate::bus::inspect(&options, between).await;
    let mut findings = match &inspected {
        Ok(found) => {
            let was_used = ledger.as_ref().is_some_and(|ledger| ledger.nats.is_some());
            let mut findings = vec![ok(CHECK, format!("nats-server {} at {place}, with JetStream", found.version))];
            findings.push(durability(found.durability));
            findings.extend(log(found, options.replicas, was_used));
            findings.extend(room(found));
            findings.extend(topics(found, was_used));
            findings
        }
        Err(error) => vec![fail(CHECK, format!("{place}: {error}"), help(error))],
    };
    let Some(ledger) = ledger else { return findings };
    match inspected.map(|found| found.between) {
        Ok(Ok(there)) => ledger.complete(&there),
        Err(_) if is_whole => {}
        Ok(Err(_)) | Err(_) => ledger.leave_open(),
    }
    findings.extend(lag(ledger, is_running, now));
    findings
}

fn help(error: &NatsError) -> &'static str {
    match error {
        NatsError::Connect(_) => "until it is reached, nothing is accepted from networks and no host starts",
        NatsError::Unfit(_) => "see the README on NATS",
        NatsError::Stream { .. } | NatsError::Store(_) => {
            "see that JetStream is on for this account, that the server has room, and in a cluster that it has a leader"
        }
    }
}

fn durability(found: Durability) -> Finding {
    match found {
        Durability::Flushed => ok(CHECK, "it acknowledges what is on its disk (sync_interval: always)"),
        Durability::Replicated => {
            ok(CHECK, "it acknowledges what several servers have; each has it on its disk within minutes")
        }
        Durability::Lazy => warn(
            CHECK,
            "it acknowledges before its disk has it: a power cut loses what was accepted last, unless a host has it still",
            "set `sync_interval: always` in the `jetstream` block of its configuration, or keep copies with `bus.replicas = 3`",
        ),
        Durability::Unknown => warn(
            CHECK,
            "it is not known whether it acknowledges only what its disk has",
            "set `sync_interval: always` there, and `bus.monitor_url` here (its monitoring, such as http://nats:8222), so that \
             it can be seen",
        ),
    }
}

fn log(found: &Inspected, replicas: usize, was_used: bool) -> Vec<Finding> {
    let name = &found.log_name;
    let Some(log) = &found.log else {
        return vec![if was_used {
            let help = "a host makes it anew, and publishes again what it accepted itself and nobody had stored; find out who \
                 deleted it";
            fail(CHECK, format!("the stream {name}, which is the log, is gone"), help)
        } else {
            ok(CHECK, format!("there is no stream {name} yet; `omni serve` makes it at the first start"))
        }];
    };
    let mib = |bytes: u64| bytes >> 20;
    let held = format!("the stream {name} holds {} messages, {} MiB", log.messages, mib(log.bytes));
    let mut findings = vec![match log.max_bytes {
        None => ok(CHECK, format!("{held}, and may grow as far as the server lets it")),
        Some(most) => {
            let percent = log.bytes.saturating_mul(100) / most;
            let message = format!("{held} of {} ({percent} %)", mib(most));
            let help = "what is stored goes when it is half full, so what fills it is not stored: look at the database and \
                 whether a host runs (omni_consumer_depth), or raise `bus.max_bytes`; full, it takes nothing and networks \
                 are told to try again";
            match percent {
                0..FILLING => ok(CHECK, message),
                FILLING..FULL => warn(CHECK, message, help),
                _ => fail(CHECK, message, help),
            }
        }
    }];
    if !log.keeps_all {
        let help = format!("run `nats stream edit {name} --discard new`: what nobody has stored must not go");
        findings.push(fail(CHECK, format!("the stream {name} drops its oldest messages when it is full"), help));
    }
    if log.replicas != replicas {
        let message = format!("the stream {name} has {} copies, and `bus.replicas` is {replicas}", log.replicas);
        findings.push(warn(CHECK, message, "the next `omni serve` brings it to what is configured"));
    }
    findings
}

/// What the account may store, where it is limited.
fn room(found: &Inspected) -> Option<Finding> {
    let (most, stored) = found.room?;
    let most = u64::try_from(most).ok().filter(|most| *most > 0)?;
    let percent = stored.saturating_mul(100) / most;
    let message = format!("the account stores {} MiB of {} ({percent} %)", stored >> 20, most >> 20);
    let help = "raise the limit of the account, or shorten what its streams keep: full, it takes nothing";
    Some(match percent {
        0..FILLING => ok(CHECK, message),
        FILLING..FULL => warn(CHECK, message, help),
        _ => fail(CHECK, message, help),
    })
}

/// The streams of domain events.
fn topics(found: &Inspected, was_used: bool) -> Option<Finding> {
    let missing = found.missing.join(", ");
    (was_used && !found.missing.is_empty()).then(|| {
        let help = "a host makes them anew when it publishes next or starts again, and fills them from the database";
        warn(CHECK, format!("the streams {missing} are not there"), help)
    })
}

/// How far publishing is behind.
fn lag(ledger: &Ledger, is_running: bool, now: Time) -> Option<Finding> {
    let (behind, since) = ledger.unpublished?;
    let Some(since) = since.filter(|_| behind > 0) else {
        return Some(ok(CHECK, "all domain events are published"));
    };
    let age = (now.0 - since.0).max(0) / 1_000_000;
    let message = format!("{behind} domain events wait to be published, the oldest for {age} s");
    Some(match (is_running, age > LATE) {
        (false, _) => ok(CHECK, format!("{message}; a host publishes them when it runs")),
        (true, false) => ok(CHECK, message),
        (true, true) => {
            let help = "the log of the host says why (NATS is full or away, or a stream takes other subjects)";
            warn(CHECK, message, help)
        }
    })
}
