//! When sessions may be begun: one at a time in each bucket of shards, and so many a day. Whoever begins more gets another
//! token from Discord (<https://discord.com/developers/docs/events/gateway#session-start-limit-object>). Pure.

use crate::api::SessionStartLimit;
use std::collections::HashMap;

/// One session may be begun in so long, in each bucket of shards. Discord says five seconds.
const EVERY_MS: i64 = 5_100;
/// For how long it is counted how many are begun.
const COUNTED_FOR_MS: i64 = 86_400_000;

/// When sessions may be begun.
#[derive(Debug, Default)]
pub struct Begins {
    /// Bucket of shards → when its next one may be.
    next: HashMap<u32, i64>,
    /// How many more there may be until then, and how many in each such time after it.
    remaining: u32,
    until: i64,
    total: u32,
}

impl Begins {
    /// As Discord says it now.
    pub fn new(limit: &SessionStartLimit, now: i64) -> Self {
        let until = now.saturating_add_unsigned(limit.reset_after);
        Self { next: HashMap::new(), remaining: limit.remaining, until, total: limit.total.max(1) }
    }

    /// When the next one of a bucket may be begun, which is taken for it.
    pub fn take(&mut self, bucket: u32, now: i64) -> i64 {
        let next = self.next.get(&bucket).copied().unwrap_or(i64::MIN);
        let mut at = now.max(next);
        if self.remaining == 0 {
            at = at.max(self.until);
        }
        if at >= self.until {
            (self.remaining, self.until) = (self.total, at.saturating_add(COUNTED_FOR_MS));
        }
        self.remaining = self.remaining.saturating_sub(1);
        self.next.insert(bucket, at.saturating_add(EVERY_MS));
        at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begins(remaining: u32, reset_after: u64) -> Begins {
        Begins::new(&SessionStartLimit { total: 3, remaining, reset_after, max_concurrency: 1 }, 1_000)
    }

    #[test]
    fn a_bucket_begins_one_at_a_time_and_others_do_not_wait_for_it() {
        let mut begins = begins(100, 60_000);
        let taken = [begins.take(0, 1_000), begins.take(0, 1_000), begins.take(1, 1_000)];
        assert_eq!(taken, [1_000, 1_000 + EVERY_MS, 1_000]);
        assert_eq!(begins.take(0, 50_000), 50_000);
    }

    #[test]
    fn whoever_has_begun_as_many_as_there_may_be_waits_until_there_are_more() {
        let mut begins = begins(1, 60_000);
        assert_eq!(begins.take(0, 1_000), 1_000);
        // Three more in the day from then on, and no more.
        let again = 1_000 + 60_000;
        let taken = [2_000, again + 10_000, again + 20_000].map(|now| begins.take(0, now));
        assert_eq!(taken, [again, again + 10_000, again + 20_000]);
        assert_eq!(begins.take(0, again + 30_000), again + COUNTED_FOR_MS);
    }

    #[test]
    fn what_nobody_used_is_not_saved_up() {
        let mut begins = begins(2, 0);
        let taken = [5_000, 15_000, 25_000, 35_000].map(|now| begins.take(0, now));
        assert_eq!(taken, [5_000, 15_000, 25_000, 5_000 + COUNTED_FOR_MS]);
    }
}
