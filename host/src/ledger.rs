//! Looks at the ledger again and again, and says where it does not balance: in a number, and once in the log.
//!
//! Deliberately not here: what is counted, and what must be equal. That is [`crate::store::ledger`].

use crate::bus::Bus;
use crate::clock::Clock;
use crate::store::ledger::{self, Account, Ledger, Line, Side};
use crate::store::{Store, StoreError};
use metrics::{counter, gauge};
use std::collections::HashMap;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);
/// In how many looks once messages are counted, which walks an index of all of them.
const WITH_MESSAGES: u32 = 60;
/// After what time it is looked once more, when it does not balance and NATS is part of it.
const AGAIN: Duration = Duration::from_secs(3);
/// Instances with numbers of their own.
const MOST_INSTANCES: usize = 500;
/// What only ever rises.
const RISING: [Account; 8] = [
    Account::Accepted,
    Account::Retried,
    Account::Stored,
    Account::Repeated,
    Account::Buried,
    Account::Queued,
    Account::Delivered,
    Account::Failed,
];

/// Runs until it is told to stop.
pub async fn watch(store: Store, bus: Bus, clock: Clock, shutdown: CancellationToken) {
    let mut told = HashMap::new();
    for number in (0..WITH_MESSAGES).cycle() {
        if let Some(Err(error)) = shutdown.run_until_cancelled(bus.count_gone()).await {
            tracing::debug!(error, "what hosts accepted that are gone is not counted yet");
        }
        let looked = shutdown.run_until_cancelled(look(&store, &bus, &clock, number == 0)).await;
        match looked {
            None => return,
            Some(Ok(found)) => tell(&found, &mut told),
            Some(Err(error)) => tracing::warn!(error = error.explain(), "the ledger could not be looked at"),
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = clock.sleep(EVERY) => {}
        }
    }
}

async fn look(store: &Store, bus: &Bus, clock: &Clock, with_messages: bool) -> Result<Ledger, StoreError> {
    let found = complete(ledger::look(store, with_messages).await?, bus).await;
    if found.nats.is_none() || found.lines.iter().all(Line::balances) {
        return Ok(found);
    }
    // The database and NATS are not looked at in one moment: what is really missing is missing a little later, too.
    clock.sleep(AGAIN).await;
    Ok(complete(ledger::look(store, with_messages).await?, bus).await)
}

async fn complete(mut found: Ledger, bus: &Bus) -> Ledger {
    if let Err(error) = bus.complete(&mut found).await {
        tracing::debug!(error, "what waits in the log is not known");
        found.leave_open();
    }
    found
}

fn tell(found: &Ledger, told: &mut HashMap<(Uuid, &'static str), i64>) {
    for ((instance, side), _) in told.extract_if(|(instance, _), _| !has(found, *instance)) {
        gauge!("omni_ledger_gap", "instance" => instance.to_string(), "side" => side).set(0.0);
    }
    for (line, number) in found.lines.iter().zip(0..) {
        for (side, gap) in line.gaps() {
            let before = told.insert((line.instance_id, side.word()), gap).unwrap_or(0);
            if gap != 0 && gap != before {
                tracing::error!(
                    instance.id = %line.instance_id, side = side.word(), gap,
                    "the ledger does not balance: {}; `omni doctor` shows it whole", in_words(side, gap)
                );
            }
            if number < MOST_INSTANCES {
                let labels = [("instance", line.instance_id.to_string()), ("side", side.word().to_owned())];
                gauge!("omni_ledger_gap", &labels).set(gap as f64);
            }
        }
        if number < MOST_INSTANCES {
            for account in RISING {
                let labels = [("instance", line.instance_id.to_string()), ("account", account.word().to_owned())];
                counter!("omni_ledger_total", &labels).absolute(u64::try_from(line.amount(account)).unwrap_or(0));
            }
        }
    }
}

fn has(found: &Ledger, instance: Uuid) -> bool {
    found.lines.iter().any(|line| line.instance_id == instance)
}

/// What a gap is, in words.
pub fn in_words(side: Side, gap: i64) -> String {
    let many = gap.unsigned_abs();
    match (side, gap > 0) {
        (Side::Inbound, true) => {
            format!("{many} accepted events are neither stored nor in the dead letters, and do not wait either")
        }
        (Side::Inbound, false) => format!("{many} events more are stored, buried or waiting than were accepted"),
        (Side::Outbound, true) => format!("{many} accepted parts are neither delivered nor failed nor open"),
        (Side::Outbound, false) => format!("{many} parts more are delivered, failed or open than were accepted"),
        (Side::Messages, true) => format!("{many} messages that were stored are not there"),
        (Side::Messages, false) => format!("{many} messages more are there than were stored"),
        (Side::DeadLetters, true) => format!("{many} dead letters are not there"),
        (Side::DeadLetters, false) => format!("{many} dead letters more are there than were written"),
    }
}
