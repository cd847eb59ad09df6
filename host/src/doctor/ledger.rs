//! Whether everything that was accepted is accounted for, instance by instance.

use super::{Finding, State, fail, ok, warn};
use crate::config::{Config, DatabaseUrl};
use crate::ledger::in_words;
use crate::store::ledger::{self, Ledger, Line};
use crate::store::{Result, StoreError};

const CHECK: &str = "ledger";
/// What to do about something that is missing.
const MISSING: &str = "something took it away that is not Omni: look at what was done to the database by hand, at its disk, \
    and at the log of the host around that time; a backup from before may have it";
const TOO_MUCH: &str = "rows were put there by something that is not Omni, or counted amounts were changed: look at what was \
    done to the database by hand";

/// Looks at it; `None` where there is none yet.
pub(super) async fn look(config: &Config) -> Result<Option<Ledger>> {
    match (&config.database.url, config.database_file()) {
        (DatabaseUrl::Postgres(address), _) => ledger::look_in_postgres(address.expose()).await,
        (_, Some(file)) if file.exists() => ledger::look_in_file(&file).await,
        _ => Ok(None),
    }
}

/// The verdict, with a line an instance.
pub(super) fn verdict(found: &Ledger) -> Finding {
    let lines = &found.lines;
    let gaps: Vec<(&Line, String, bool)> = lines
        .iter()
        .flat_map(|line| line.gaps().into_iter().map(move |(side, gap)| (line, side, gap)))
        .filter(|(.., gap)| *gap != 0)
        .map(|(line, side, gap)| (line, in_words(side, gap), gap > 0))
        .collect();
    let said: Vec<String> = gaps.iter().map(|(line, words, _)| format!("{}: {words}", line.name)).collect();
    let finding = match (gaps.is_empty(), gaps.iter().any(|(.., is_missing)| *is_missing)) {
        (true, _) if lines.iter().any(|line| line.waiting.is_none()) => {
            let said = "it balances as far as can be told: what came in by way of NATS is not known, which is away";
            ok(CHECK, said)
        }
        (true, _) if lines.is_empty() => ok(CHECK, "there are no instances"),
        (true, _) => {
            ok(CHECK, "everything that was accepted is stored, in the dead letters or waits; nothing is missing")
        }
        (false, true) => fail(CHECK, format!("it does not balance: {}", said.join("; ")), MISSING),
        (false, false) => warn(CHECK, format!("it does not balance: {}", said.join("; ")), TOO_MUCH),
    };
    Finding { ledger: lines.clone(), ..finding }
}

/// When it cannot be looked at.
pub(super) fn unknown(error: &StoreError) -> Finding {
    let finding = warn(CHECK, error.explain(), "see what is said about the database");
    Finding { state: State::Warn, ..finding }
}
