//! Our own ids: UUIDv7 that rise with every one made, even within a millisecond, so that ids order what happened in the
//! same second and an index over them grows at its end.
//!
//! Deliberately not secret: nobody is let in for knowing one.

use super::Time;
use rand::RngExt;
use std::sync::{Mutex, PoisonError};
use uuid::{Builder, Uuid};

/// Makes ids. One per store.
#[derive(Debug, Default)]
pub(crate) struct Ids(Mutex<Last>);

#[derive(Debug, Default)]
struct Last {
    millis: u64,
    /// 30 bits; begins anew in the lower half with every millisecond.
    count: u32,
}

const COUNT_BITS: u32 = 30;

impl Ids {
    /// The next id, for this time; a clock that went back keeps the time of the last one.
    pub fn next(&self, now: Time) -> Uuid {
        let random: u64 = rand::rng().random();
        let (millis, count) = {
            let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let millis = u64::try_from(now.millis()).unwrap_or(0);
            if millis > last.millis {
                *last = Last { millis, count: (random >> 40) as u32 };
            } else if last.count + 1 < 1 << COUNT_BITS {
                last.count += 1;
            } else {
                *last = Last { millis: last.millis + 1, count: 0 };
            }
            (last.millis, last.count)
        };
        let mut tail = [0_u8; 10];
        // The builder puts the version over four bits of byte 0 and the variant over two of byte 2.
        let low = u64::from(count & 0x3_ffff) << 44 | random & 0xfff_ffff_ffff;
        tail[..2].copy_from_slice(&((count >> 18) as u16).to_be_bytes());
        tail[2..].copy_from_slice(&low.to_be_bytes());
        Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_within_one_millisecond_and_when_the_clock_goes_back() {
        let ids = Ids::default();
        let start = 1_700_000_000_000;
        let mut last = ids.next(Time::from_millis(start));
        for step in 0..10_000 {
            let next = ids.next(Time::from_millis(start + step / 4_000 - step % 2));
            assert!(next > last, "{next} does not come behind {last}");
            assert_eq!(next.get_version_num(), 7);
            last = next;
        }
    }
}
