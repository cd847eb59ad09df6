//! How many requests a key may make: a bucket of a minute's worth each, filled evenly, counted in memory.

use super::error::{ApiError, ApiResult};
use crate::store::Time;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

const MINUTE: i64 = 60_000_000;
/// With more keys than this, those whose buckets are full are forgotten.
const MOST_KEYS: usize = 10_000;

/// The buckets of all keys: the time at which each is full again, in microseconds.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<Uuid, i64>>);

/// What is left of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    limit: u32,
    remaining: u32,
    /// Seconds until it is full again.
    reset: u64,
}

impl Rates {
    /// Takes one request out of a key's bucket, or refuses it until there is one again.
    pub(crate) fn take(&self, key: Uuid, most: Option<u32>, now: Time) -> ApiResult<Option<Left>> {
        let Some(most) = most else { return Ok(None) };
        let each = (MINUTE / i64::from(most.max(1))).max(1);
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() > MOST_KEYS {
            buckets.retain(|_, full_at| *full_at > now.0);
        }
        let full_at = buckets.entry(key).or_insert(now.0);
        // A clock that was set back must not shut a key out.
        *full_at = (*full_at).clamp(now.0, now.0 + MINUTE);
        let after = *full_at + each;
        let over = after - now.0 - MINUTE;
        if over > 0 || most == 0 {
            let wait = u64::try_from(over).unwrap_or(0).div_ceil(1_000_000).max(1);
            let message = format!("this key may make {most} requests a minute");
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message).retry_after(wait));
        }
        *full_at = after;
        let left = (MINUTE - (after - now.0)) / each;
        Ok(Some(Left {
            limit: most,
            remaining: u32::try_from(left).unwrap_or(0),
            reset: u64::try_from(after - now.0).unwrap_or(0).div_ceil(1_000_000),
        }))
    }
}

impl Left {
    /// Says it in Omni v2's headers.
    pub(crate) fn say(self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.insert(HeaderName::from_static("x-ratelimit-limit"), HeaderValue::from(self.limit));
        headers.insert(HeaderName::from_static("x-ratelimit-remaining"), HeaderValue::from(self.remaining));
        headers.insert(HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from(self.reset));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_at_once_and_fills_evenly() {
        let (rates, key) = (Rates::default(), Uuid::now_v7());
        let at = |millis: i64| Time::from_millis(1_000_000 + millis);
        for left in (0..6).rev() {
            assert_eq!(rates.take(key, Some(6), at(0)).expect("a request").expect("counted").remaining, left);
        }
        assert_eq!(rates.take(key, Some(6), at(0)).expect_err("empty").status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(rates.take(key, Some(6), at(9_999)).is_err());
        assert!(rates.take(key, Some(6), at(10_000)).is_ok(), "one every ten seconds");
        assert!(rates.take(key, Some(6), at(10_000)).is_err());
        assert!(rates.take(Uuid::now_v7(), Some(6), at(10_000)).is_ok(), "another key has its own");
        assert!(rates.take(key, None, at(10_000)).expect("no limit").is_none());
        assert!(rates.take(key, Some(6), at(-3_600_000)).is_err(), "a clock that was set back gives nothing");
        assert!(rates.take(key, Some(6), at(-3_590_000)).is_ok(), "and takes no more than a minute");
        assert!(rates.take(key, Some(u32::MAX), at(0)).is_ok(), "however many that are");
    }
}
