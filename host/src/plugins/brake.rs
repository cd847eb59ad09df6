//! The brake on starting a plugin's process again: the first crash is forgiven, each one soon after it costs more time.
//!
//! The instances that run on the process have a backoff of their own; this holds however many they are.

use crate::store::Time;

/// A process that lived so long was a good one: its crash is a first one again.
const GOOD_LIFE_MS: i64 = 60_000;
const FIRST_MS: i64 = 1_000;
const MAX_MS: i64 = 300_000;

/// Counts crashes and says when the next start is due.
#[derive(Debug, Default)]
pub struct Brake {
    started: Option<Time>,
    crashes: u32,
    not_before: Option<Time>,
}

impl Brake {
    /// When a start is due, if it is not due now.
    pub fn not_before(&self, now: Time) -> Option<Time> {
        self.not_before.filter(|due| *due > now)
    }

    /// It was started.
    pub fn started(&mut self, now: Time) {
        self.started = Some(now);
    }

    /// It ended though nobody wanted that, or could not be started.
    pub fn crashed(&mut self, now: Time) {
        let good = self.started.take().is_some_and(|started| now >= started.plus_millis(GOOD_LIFE_MS));
        self.crashes = if good { 1 } else { self.crashes.saturating_add(1) };
        self.not_before = match self.crashes {
            0 | 1 => None,
            crashes => {
                let doubled = FIRST_MS.saturating_mul(1 << (crashes - 2).min(20));
                Some(now.plus_millis(doubled.min(MAX_MS)))
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Crashes at once after each start, as soon as it may start; gives the waits in seconds.
    fn waits(brake: &mut Brake, now: &mut Time, crashes: usize) -> Vec<i64> {
        (0..crashes)
            .map(|_| {
                brake.started(*now);
                brake.crashed(*now);
                let due = brake.not_before(*now).unwrap_or(*now);
                let waited = due.millis() - now.millis();
                *now = due;
                waited / 1_000
            })
            .collect()
    }

    #[test]
    fn each_crash_costs_more_time_up_to_five_minutes() {
        let (mut brake, mut now) = (Brake::default(), Time::from_millis(0));
        assert_eq!(waits(&mut brake, &mut now, 11), [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    #[test]
    fn a_good_life_lets_the_brake_go() {
        let (mut brake, mut now) = (Brake::default(), Time::from_millis(0));
        waits(&mut brake, &mut now, 5);
        brake.started(now);
        now = now.plus_millis(GOOD_LIFE_MS);
        brake.crashed(now);
        assert_eq!(brake.not_before(now), None, "a first crash again");
        brake.started(now);
        brake.crashed(now.plus_millis(GOOD_LIFE_MS - 1));
        assert!(brake.not_before(now).is_some(), "not good enough");
    }
}
