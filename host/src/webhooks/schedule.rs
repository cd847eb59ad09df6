//! When something is tried again: for three days, further and further apart. Pure.

use crate::store::Time;
use std::time::Duration;

/// Between an attempt and the next one; one attempt more than there are delays.
const DELAYS: [u64; 9] = [5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400];
/// A delay is up to so much longer than it is written, so that not everything comes back at once.
const JITTER: f64 = 0.1;
/// After so many failures in a row the whole webhook is left alone for a while.
pub const TIRED_AFTER: i64 = 5;
const SHORTEST_REST: Duration = Duration::from_secs(5);
const LONGEST_REST: Duration = Duration::from_secs(300);
/// What `Retry-After` may ask for at most.
const LONGEST_WISH: Duration = Duration::from_secs(86_400);

/// How long until the next attempt after this many; nothing when that was the last. `random` is from 0 to 1.
pub fn next_after(attempts: i64, wish: Option<Duration>, random: f64) -> Option<Duration> {
    let place = usize::try_from(attempts - 1).ok()?;
    let planned = Duration::from_secs(*DELAYS.get(place)?).mul_f64(1.0 + JITTER * random.clamp(0.0, 1.0));
    Some(planned.max(wish.unwrap_or_default().min(LONGEST_WISH)))
}

/// How long a webhook is left alone after this many failures in a row.
pub fn rest(failures: i64, wish: Option<Duration>) -> Option<Duration> {
    let tired = u32::try_from(failures - TIRED_AFTER).ok();
    let tired = tired.map(|more| SHORTEST_REST.saturating_mul(1 << more.min(10)).min(LONGEST_REST));
    tired.max(wish.map(|wish| wish.min(LONGEST_WISH)))
}

/// What `Retry-After` says: seconds, or a date.
pub fn retry_after(header: &str, now: Time) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(header).ok()?;
    let left = date.timestamp_millis() - now.millis();
    Some(Duration::from_millis(u64::try_from(left).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_tried_ten_times_over_three_days() {
        let all: Vec<Duration> = (1..).map_while(|attempts| next_after(attempts, None, 0.0)).collect();
        assert_eq!(all.len(), 9);
        assert_eq!(all[0], Duration::from_secs(5));
        let days = all.iter().sum::<Duration>().as_secs() / 86_400;
        assert_eq!(days, 3);
        assert!(all.windows(2).all(|two| two[0] < two[1]), "further and further apart");
        assert_eq!(next_after(10, None, 0.0), None);
    }

    #[test]
    fn a_delay_is_spread_and_never_shorter() {
        assert_eq!(next_after(3, None, 0.0), Some(Duration::from_secs(1_800)));
        assert_eq!(next_after(3, None, 1.0), Some(Duration::from_secs(1_980)));
    }

    #[test]
    fn a_wish_is_obeyed_up_to_a_day() {
        assert_eq!(next_after(1, Some(Duration::from_secs(90)), 0.0), Some(Duration::from_secs(90)));
        assert_eq!(next_after(2, Some(Duration::from_secs(90)), 0.0), Some(Duration::from_secs(300)));
        assert_eq!(next_after(1, Some(Duration::from_secs(u64::MAX)), 0.0), Some(LONGEST_WISH));
        assert_eq!(rest(1, Some(Duration::from_secs(90))), Some(Duration::from_secs(90)));
    }

    #[test]
    fn one_that_fails_and_fails_is_left_alone() {
        assert_eq!(rest(4, None), None);
        assert_eq!(rest(5, None), Some(Duration::from_secs(5)));
        assert_eq!(rest(7, None), Some(Duration::from_secs(20)));
        assert_eq!(rest(1_000_000, None), Some(LONGEST_REST));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Time::from_millis(784_111_777_000 - 30_000);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(30)));
        assert_eq!(retry_after("Tue, 06 Nov 1984 08:49:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
    }
}
