//! How many requests a key may make: a window of a minute each, counted in memory.

use super::error::{ApiError, ApiResult};
use crate::store::Time;
use axum::http::StatusCode;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

const WINDOW_MS: i64 = 60_000;
/// More keys than this are not expected; then the windows begin anew.
const MOST_KEYS: usize = 10_000;

/// The windows of all keys.
#[derive(Debug, Default)]
pub(crate) struct Rates(Mutex<HashMap<Uuid, Window>>);

#[derive(Debug)]
struct Window {
    began: Time,
    used: u32,
}

impl Rates {
    /// Takes one request off a key's minute, or refuses it until the minute is over.
    pub(crate) fn take(&self, key: Uuid, most: Option<u32>, now: Time) -> ApiResult<()> {
        let Some(most) = most else { return Ok(()) };
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() > MOST_KEYS {
            windows.clear();
        }
        let window = windows.entry(key).or_insert(Window { began: now, used: 0 });
        if now >= window.began.plus_millis(WINDOW_MS) {
            *window = Window { began: now, used: 0 };
        }
        if window.used < most {
            window.used += 1;
            return Ok(());
        }
        let left_ms = window.began.plus_millis(WINDOW_MS).millis() - now.millis();
        let message = format!("this key may make {most} requests a minute");
        Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED", message)
            .retry_after(u64::try_from(left_ms).unwrap_or(0).div_ceil(1_000)))
    }
}
