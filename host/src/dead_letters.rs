//! Events that a consumer could not take: tried again, by people and a few times by the host itself.
//!
//! One that is put back on its way is `retrying` until its consumer has come past it: then it is `resolved`, or it is
//! back here with its new error.
//!
//! Deliberately not here: who puts an event here, and with what.

use crate::bus::{Bus, OF_NATS};
use crate::clock::Clock;
use crate::inbound::Inbound;
use crate::store::dead_letters::{self as rows, By, DeadLetter, Mark};
use crate::store::{Result, Store, Time, webhooks as webhook_rows};
use crate::webhooks::Webhooks;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How often it is looked for letters that are due.
const EVERY: Duration = Duration::from_secs(60);
/// How many are tried in one round.
const AT_ONCE: u32 = 100;
/// After what time the host tries again by itself, in hours: as Omni v2 was meant to.
const HOURS: [i64; 3] = [1, 6, 24];
/// How long whoever asks for another try waits for its outcome.
const WAIT: Duration = Duration::from_secs(5);

/// When the host tries something again that may heal, after it did so already this often.
pub fn next_try(tried: i64, now: Time) -> Option<Time> {
    let hours = HOURS.get(usize::try_from(tried).ok()?)?;
    Some(now.plus_millis(hours * 3_600_000))
}

/// How another try came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its consumer has it.
    Taken,
    /// It is on its way.
    OnItsWay,
    /// It failed again, or could not even be tried: why.
    Failed(String),
    /// It is settled, or on its way already.
    NotNow,
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    store: Store,
    clock: Clock,
    bus: Bus,
    inbound: Inbound,
    webhooks: Webhooks,
}

impl DeadLetters {
    /// With the consumers whose events lie here.
    pub fn new(store: Store, clock: Clock, bus: Bus, inbound: Inbound, webhooks: Webhooks) -> Self {
        Self { store, clock, bus, inbound, webhooks }
    }

    /// Tries one again. It goes on should whoever asked leave.
    pub async fn retry(&self, letter: DeadLetter, by: By) -> Result<Outcome> {
        let this = self.clone();
        let mut trying = tokio::spawn(async move {
            match webhook_rows::of_consumer(&letter.consumer) {
                Some(_) => this.to_webhook(&letter, by).await,
                None if letter.consumer.starts_with(OF_NATS) => this.to_nats(&letter, by).await,
                None => this.to_storage(&letter, by).await,
            }
        });
        match tokio::time::timeout(WAIT, &mut trying).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Ok(Outcome::Failed(format!("the host failed: {error}"))),
            Err(_) => Ok(Outcome::OnItsWay),
        }
    }

    async fn to_webhook(&self, letter: &DeadLetter, by: By) -> Result<Outcome> {
        match self.webhooks.retry(letter, by).await {
            Ok(true) => Ok(Outcome::OnItsWay),
            Ok(false) => Ok(Outcome::NotNow),
            Err(crate::webhooks::WebhookError::Store(error)) => Err(error),
            Err(error) => {
                self.mark(letter.id, Mark::RetryFailed(error.to_string())).await?;
                Ok(Outcome::Failed(error.to_string()))
            }
        }
    }

    /// Publishes it again. When its consumer does not take it this time either, it comes back.
    async fn to_nats(&self, letter: &DeadLetter, by: By) -> Result<Outcome> {
        let mut tx = self.store.begin().await?;
        if !rows::retrying(&mut tx, letter.id, by, self.clock.now()).await? {
            return Ok(Outcome::NotNow);
        }
        tx.commit().await?;
        if let Err(error) = self.bus.publish_again(letter).await {
            self.mark(letter.id, Mark::RetryFailed(error.clone())).await?;
            return Ok(Outcome::Failed(error));
        }
        let mut tx = self.store.begin().await?;
        rows::passed(&mut tx, letter.id, self.clock.now()).await?;
        tx.commit().await?;
        Ok(Outcome::OnItsWay)
    }

    async fn to_storage(&self, letter: &DeadLetter, by: By) -> Result<Outcome> {
        let mut tx = self.store.begin().await?;
        if !rows::retrying(&mut tx, letter.id, by, self.clock.now()).await? {
            return Ok(Outcome::NotNow);
        }
        tx.commit().await?;
        if let Err(error) = self.bus.retry(letter).await {
            self.mark(letter.id, Mark::RetryFailed(error.to_string())).await?;
            return Ok(Outcome::Failed(error.to_string()));
        }
        self.inbound.settle().await;
        let mut tx = self.store.begin().await?;
        let taken = rows::passed(&mut tx, letter.id, self.clock.now()).await?;
        let now = rows::get(&mut tx, letter.id).await?;
        tx.commit().await?;
        Ok(match now {
            _ if taken => Outcome::Taken,
            Some(letter) => Outcome::Failed(letter.error),
            None => Outcome::OnItsWay,
        })
    }

    async fn mark(&self, id: Uuid, mark: Mark) -> Result<()> {
        let mut tx = self.store.begin().await?;
        rows::mark(&mut tx, id, &mark, self.clock.now()).await?;
        tx.commit().await
    }

    /// Tries what is due again and again until it is told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        // Of those that were on their way to the store when the host ended nobody knows how it went; storing an event
        // twice changes nothing.
        if let Err(error) = self.begin_anew().await {
            tracing::warn!(error = error.explain(), "dead letters that were being tried again are left as they are");
        }
        loop {
            // From before the round: what becomes due while it works is not waited for a second time.
            let next = self.clock.now().plus(EVERY);
            if let Err(error) = self.round().await {
                tracing::warn!(error = error.explain(), "dead letters could not be tried again");
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.clock.sleep_until(next) => {}
            }
        }
    }

    async fn begin_anew(&self) -> Result<()> {
        let mut tx = self.store.begin().await?;
        rows::begin_anew(&mut tx, "storage", self.clock.now()).await?;
        tx.commit().await
    }

    async fn round(&self) -> Result<()> {
        let mut tx = self.store.read().await?;
        let due = rows::due(&mut tx, self.clock.now(), AT_ONCE).await?;
        drop(tx);
        for letter in due {
            let by = By::Itself(next_try(letter.auto_retry_count + 1, self.clock.now()));
            let (id, consumer) = (letter.id, letter.consumer.clone());
            let outcome = self.retry(letter, by).await?;
            let word = match &outcome {
                Outcome::Taken => "taken",
                Outcome::OnItsWay => "on_its_way",
                Outcome::Failed(_) => "failed",
                Outcome::NotNow => "not_now",
            };
            tracing::info!(dead_letter.id = %id, consumer, outcome = word, "a dead letter was tried again");
            metrics::counter!("omni_dead_letter_retries_total", "consumer" => consumer, "outcome" => word).increment(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_tries_three_times_further_and_further_apart() {
        let hours = |tried| next_try(tried, Time(0)).map(|at| at.millis() / 3_600_000);
        assert_eq!([hours(0), hours(1), hours(2), hours(3)], [Some(1), Some(6), Some(24), None]);
    }
}
