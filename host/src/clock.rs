//! The one clock. Everything below `main` asks it, so that tests can move time by hand.

use crate::store::Time;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// What time it is, and waiting for a time to come.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(Arc<watch::Sender<i64>>),
}

impl Clock {
    /// The machine's.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// One that stands still until it is moved. For tests.
    pub fn manual(start: Time) -> (Self, ManualClock) {
        let sender = Arc::new(watch::Sender::new(start.0));
        (Self(Kind::Manual(Arc::clone(&sender))), ManualClock(sender))
    }

    /// Now, cut to microseconds.
    pub fn now(&self) -> Time {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the machine's clock")]
            Kind::System => Time(chrono::Utc::now().timestamp_micros()).plus_millis(set_by()),
            Kind::Manual(now) => Time(*now.borrow()),
        }
    }

    /// Waits so long by this clock.
    pub async fn sleep(&self, duration: Duration) {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the one place that waits on the machine's clock")]
            Kind::System => tokio::time::sleep_until(Instant::now() + duration).await,
            Kind::Manual(now) => {
                let due = *now.borrow() + i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2);
                reached(now, due).await;
            }
        }
    }

    /// Waits until a time by this clock.
    pub async fn sleep_until(&self, due: Time) {
        match &self.0 {
            Kind::System => {
                let left = due.0.saturating_sub(self.now().0);
                if left > 0 {
                    self.sleep(Duration::from_micros(left.unsigned_abs())).await;
                }
            }
            // How long that is may be another answer a moment later.
            Kind::Manual(now) => reached(now, due.0).await,
        }
    }
}

/// Waits until a manual clock has come so far.
async fn reached(clock: &watch::Sender<i64>, due: i64) {
    // The sender outlives this, so waiting cannot fail.
    let _ = clock.subscribe().wait_for(|now| *now >= due).await;
}

/// How far somebody has set the machine's clock: only in tests, which let it jump.
fn set_by() -> i64 {
    fail::fail_point!("clock.now", |millis| millis.and_then(|millis| millis.parse().ok()).unwrap_or(0));
    0
}

/// Moves a manual clock.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<watch::Sender<i64>>);

impl ManualClock {
    /// Lets time pass.
    pub fn advance(&self, duration: Duration) {
        let step = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 2);
        self.0.send_modify(|now| *now = now.saturating_add(step));
    }
}
