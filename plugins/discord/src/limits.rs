//! Discord's limits on calls: what may go out now, and else how long to wait.
//!
//! Never a number of our own where Discord gives one: the headers of an answer say which bucket a route is in and what is
//! left of it (<https://discord.com/developers/docs/topics/rate-limits>). A bucket counts for each channel, guild or webhook
//! by itself. On top of that all calls of a bot have a limit, and so have answers that say no: ten thousand of those in ten
//! minutes cut the whole address off, so well before that nothing goes out any more. The first word to an interaction is said
//! once and in a route of its own: of all limits only what is about the whole address holds it up. Nobody waits here: who asks
//! too early is told when, and the host brings it again.

use omni_channel_sdk::http::HttpResponse;
use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

/// Calls of one bot in a second.
const GLOBAL_PER_SECOND: usize = 50;
/// Answers that say no, in [`INVALID_WINDOW_MS`], before nothing goes out any more. Discord cuts off at 10,000.
const INVALID_AT_MOST: usize = 8_000;
const INVALID_WINDOW_MS: i64 = 600_000;
/// How long an address is cut off, in milliseconds, when nothing says so.
pub const CUT_OFF_MS: u64 = 60_000;
/// Buckets that are remembered; those that are full again are forgotten first.
const BUCKETS: usize = 20_000;
/// Routes whose bucket is remembered: there are some hundreds.
const ROUTES: usize = 2_000;

/// A route as Discord counts it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The method, and the path with its minor ids left out.
    template: String,
    /// The channel, guild or webhook that it counts for; a webhook's token counts with it, and is told by no number of it.
    major: String,
}

impl Route {
    /// The route of a call.
    pub fn of(method: &str, path: &str) -> Self {
        let segments: Vec<&str> = path.split('?').next().unwrap_or_default().split('/').collect();
        let mut template = method.to_owned();
        let mut major = String::new();
        for (index, segment) in segments.iter().enumerate().filter(|(_, segment)| !segment.is_empty()) {
            let behind = index.checked_sub(1).and_then(|before| segments.get(before)).copied().unwrap_or_default();
            let is_id = segment.len() > 8 && segment.bytes().all(|byte| byte.is_ascii_digit());
            template.push('/');
            let first = segments.get(1).copied().unwrap_or_default();
            if matches!(behind, "channels" | "guilds" | "webhooks") && index == 2 {
                (*segment).clone_into(&mut major);
                template.push_str(":major");
            } else if first == "webhooks" && index == 3 {
                let mut hasher = DefaultHasher::new();
                segment.hash(&mut hasher);
                major.push_str(&format!("/{:x}", hasher.finish()));
                template.push_str(":token");
            } else if is_id || behind == "reactions" || first == "interactions" && matches!(index, 2 | 3) {
                template.push_str(":id");
            } else {
                template.push_str(segment);
            }
        }
        Self { template, major }
    }
}

/// What is known of one bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    remaining: u32,
    resets_at: i64,
}

/// What one bot has used of its limits.
#[derive(Debug, Default)]
pub struct Limits(Mutex<Used>);

#[derive(Debug, Default)]
struct Used {
    /// A route's template → the bucket that Discord counts it in.
    names: HashMap<String, String>,
    buckets: HashMap<(String, String), Bucket>,
    /// When the last calls went out, at most [`GLOBAL_PER_SECOND`].
    sent: VecDeque<i64>,
    /// Nothing but answers to interactions goes out before.
    not_before: i64,
    /// Nothing at all goes out before.
    cut_off_until: i64,
    /// When the last answers came that said no.
    refused: VecDeque<i64>,
}

impl Used {
    fn key(&self, route: &Route) -> (String, String) {
        let name = self.names.get(&route.template).unwrap_or(&route.template);
        (name.clone(), route.major.clone())
    }

    fn wait(&self, route: &Route, interaction: bool, now: i64) -> i64 {
        let mut wait = self.cut_off_until - now;
        if !interaction {
            // Answers to interactions do not count towards the limit of all calls, and each has a route of its own.
            wait = wait.max(self.not_before - now);
            let full = self.sent.len() >= GLOBAL_PER_SECOND;
            wait = wait.max(self.sent.front().filter(|_| full).map_or(0, |oldest| oldest + 1_000 - now));
            let bucket = self.buckets.get(&self.key(route)).filter(|bucket| bucket.remaining == 0);
            wait = wait.max(bucket.map_or(0, |bucket| bucket.resets_at - now));
        }
        let refused = self.refused.len() >= INVALID_AT_MOST;
        wait.max(self.refused.front().filter(|_| refused).map_or(0, |oldest| oldest + INVALID_WINDOW_MS - now))
    }

    fn put(&mut self, route: &Route, bucket: Bucket, now: i64) {
        if self.buckets.len() >= BUCKETS {
            self.buckets.retain(|_, bucket| bucket.resets_at > now);
        }
        if self.buckets.len() >= BUCKETS {
            // What is forgotten Discord says once more.
            self.buckets.clear();
        }
        self.buckets.insert(self.key(route), bucket);
    }
}

/// Whether a path answers an interaction.
fn is_interaction(route: &Route) -> bool {
    route.template.starts_with("POST/interactions/")
}

impl Limits {
    fn used<T>(&self, with: impl FnOnce(&mut Used) -> T) -> T {
        // Counters that are good after a panic, too.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a place for a call, or tells how long to wait, in milliseconds.
    pub fn take(&self, route: &Route, now: i64) -> Result<(), u64> {
        self.used(|used| {
            while used.refused.front().is_some_and(|at| at + INVALID_WINDOW_MS <= now) {
                used.refused.pop_front();
            }
            let interaction = is_interaction(route);
            let wait = used.wait(route, interaction, now);
            if wait > 0 {
                return Err(wait.unsigned_abs());
            }
            if !interaction {
                while used.sent.len() >= GLOBAL_PER_SECOND {
                    used.sent.pop_front();
                }
                used.sent.push_back(now);
            }
            let key = used.key(route);
            if let Some(bucket) = used.buckets.get_mut(&key).filter(|_| !interaction) {
                if bucket.resets_at <= now {
                    // It is full again; how full the answer tells.
                    used.buckets.remove(&key);
                } else {
                    bucket.remaining = bucket.remaining.saturating_sub(1);
                }
            }
            Ok(())
        })
    }

    /// Takes note of an answer.
    pub fn note(&self, route: &Route, response: &HttpResponse, now: i64) {
        let number = |name: &str| response.header(name).and_then(|value| value.parse::<f64>().ok());
        let after = |seconds: f64| now.saturating_add((seconds.clamp(0.0, 86_400.0) * 1_000.0).ceil() as i64);
        let scope = response.header("x-ratelimit-scope").unwrap_or_default();
        let interaction = is_interaction(route);
        self.used(|used| {
            if let Some(bucket) = response.header("x-ratelimit-bucket").filter(|_| !interaction) {
                if used.names.len() >= ROUTES {
                    used.names.clear();
                }
                used.names.insert(route.template.clone(), bucket.to_owned());
            }
            if let (Some(remaining), Some(reset), false) =
                (number("x-ratelimit-remaining"), number("x-ratelimit-reset-after"), interaction)
            {
                let mut bucket = Bucket { remaining: remaining.max(0.0) as u32, resets_at: after(reset) };
                if let Some(known) = used.buckets.get(&used.key(route)).filter(|known| known.resets_at > now) {
                    // Answers overtake each other: the one that leaves least is the newest.
                    bucket.remaining = bucket.remaining.min(known.remaining);
                }
                used.put(route, bucket, now);
            }
            if response.status == 429 {
                // Every 429 of Discord's own says what it is about. One that does not comes from what stands before it, and
                // is about the whole address.
                let cut_off = scope.is_empty()
                    && response.header("x-ratelimit-global").is_none()
                    && response.header("x-ratelimit-limit").is_none();
                let usual = if cut_off { CUT_OFF_MS as f64 / 1_000.0 } else { 1.0 };
                let until = after(retry_after(response).unwrap_or(usual));
                if cut_off {
                    used.cut_off_until = used.cut_off_until.max(until);
                } else if scope == "global" || response.header("x-ratelimit-global").is_some() {
                    used.not_before = used.not_before.max(until);
                } else if !interaction {
                    used.put(route, Bucket { remaining: 0, resets_at: until }, now);
                }
            }
            if matches!(response.status, 401 | 403) || response.status == 429 && scope != "shared" {
                used.refused.push_back(now);
            }
        });
    }

    /// How many answers in the last ten minutes said no.
    #[cfg(test)]
    fn refused(&self) -> usize {
        self.used(|used| used.refused.len())
    }

    /// How many routes and buckets are remembered.
    #[cfg(test)]
    fn remembered(&self) -> (usize, usize) {
        self.used(|used| (used.names.len(), used.buckets.len()))
    }
}

/// How long a 429 asks to wait, in seconds: the body says it more exactly than the header.
pub fn retry_after(response: &HttpResponse) -> Option<f64> {
    let body = response.json::<serde_json::Value>().ok();
    let said = body.and_then(|body| body.get("retry_after")?.as_f64());
    said.or_else(|| response.header("retry-after")?.parse().ok()).filter(|seconds| seconds.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::http::Header;

    fn answer(status: u16, headers: &[(&str, &str)]) -> HttpResponse {
        let headers = headers.iter().map(|(name, value)| Header { name: (*name).into(), value: (*value).into() });
        HttpResponse { status, headers: headers.collect(), body: Vec::new() }
    }

    fn messages(channel: &str) -> Route {
        Route::of("POST", &format!("/channels/{channel}/messages"))
    }

    #[test]
    fn a_route_counts_for_its_channel() {
        let one = Route::of("PUT", "/channels/111111111111/messages/222222222222/reactions/%F0%9F%8D%8B/@me?x=1");
        let other = Route::of("PUT", "/channels/111111111111/messages/333333333333/reactions/a:1/@me");
        assert_eq!(one, other);
        assert_ne!(messages("111111111111"), messages("222222222222"));
        let webhook = Route::of("POST", "/webhooks/111111111111/sEcReT-token?wait=true");
        assert_eq!(webhook, Route::of("POST", "/webhooks/111111111111/sEcReT-token"));
        let another = Route::of("POST", "/webhooks/111111111111/another");
        assert_ne!(webhook, another, "each answer to an interaction has a token of its own, and they count apart");
        assert_eq!(webhook.template, another.template);
        assert!(!format!("{webhook:?}").contains("sEcReT"));
    }

    #[test]
    fn of_interactions_nothing_is_remembered() {
        let limits = Limits::default();
        let headers = [("x-ratelimit-bucket", "b"), ("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "60")];
        for id in 0..100 {
            let first_word = Route::of("POST", &format!("/interactions/1111111111{id:02}/token{id}/callback"));
            limits.take(&first_word, 0).expect("none is held up by another one");
            limits.note(&first_word, &answer(204, &headers), 0);
        }
        assert_eq!(limits.remembered(), (0, 0));
    }

    #[test]
    fn what_is_remembered_has_an_end() {
        let limits = Limits::default();
        let headers = [("x-ratelimit-bucket", "b"), ("x-ratelimit-remaining", "5"), ("x-ratelimit-reset-after", "60")];
        for id in 0..BUCKETS + 1 {
            let route = Route::of("POST", &format!("/channels/1{id:011}/messages"));
            limits.note(&route, &answer(200, &headers), 0);
            limits.note(&Route::of("GET", &format!("/new/{id}/x")), &answer(200, &headers), 0);
        }
        let (routes, buckets) = limits.remembered();
        assert!(routes <= ROUTES && buckets <= BUCKETS, "{routes} {buckets}");
    }

    #[test]
    fn a_bucket_that_is_empty_is_waited_for() {
        let limits = Limits::default();
        let route = messages("111111111111");
        limits.take(&route, 1_000).expect("nothing is known yet");
        let headers = [("x-ratelimit-bucket", "b"), ("x-ratelimit-remaining", "1"), ("x-ratelimit-reset-after", "2.5")];
        limits.note(&route, &answer(200, &headers), 1_000);
        limits.take(&route, 1_100).expect("one is left");
        assert_eq!(limits.take(&route, 1_200), Err(2_300), "taken, though its answer has not come");
        limits.take(&messages("222222222222"), 1_200).expect("another channel counts by itself");
        limits.take(&route, 3_500).expect("it is full again");
    }

    #[test]
    fn a_429_is_obeyed_by_its_scope() {
        let limits = Limits::default();
        let (one, other) = (messages("111111111111"), messages("222222222222"));
        let mut slow = answer(429, &[("x-ratelimit-scope", "user"), ("retry-after", "1")]);
        slow.body = br#"{"retry_after": 1.25, "global": false}"#.to_vec();
        limits.note(&one, &slow, 0);
        assert_eq!(limits.take(&one, 250), Err(1_000));
        limits.take(&other, 250).expect("it is not about this one");
        limits.note(&one, &answer(429, &[("x-ratelimit-scope", "global"), ("retry-after", "3")]), 300);
        assert_eq!(limits.take(&other, 1_300), Err(2_000));
        let first_word = Route::of("POST", "/interactions/222222222222/token/callback");
        limits.take(&first_word, 1_300).expect("interactions have no part in the limit of all calls");
        assert_eq!(limits.refused(), 2);
        limits.note(&other, &answer(429, &[("x-ratelimit-scope", "shared"), ("retry-after", "1")]), 300);
        assert_eq!(limits.refused(), 2, "what all bots share is not held against this one");
        limits.note(&other, &answer(429, &[("retry-after", "30")]), 300);
        assert_eq!(limits.take(&first_word, 1_300), Err(29_000), "the whole address is cut off");
    }

    #[test]
    fn all_calls_together_have_a_limit() {
        let limits = Limits::default();
        for channel in 0..50 {
            limits.take(&messages(&format!("1111111111{channel:02}")), 10 + channel).expect("fifty in a second");
        }
        assert_eq!(limits.take(&messages("222222222222"), 100), Err(910));
        let answers = Route::of("POST", "/interactions/222222222222/token/callback");
        limits.take(&answers, 100).expect("answers to interactions do not count");
        limits.take(&messages("222222222222"), 1_010).expect("the first is a second ago");
    }

    #[test]
    fn before_the_address_is_cut_off_nothing_goes_out() {
        let limits = Limits::default();
        let route = messages("111111111111");
        for at in 0..8_000 {
            limits.note(&route, &answer(403, &[]), at);
        }
        assert_eq!(limits.take(&route, 8_000), Err(592_000));
        limits.take(&route, 600_000).expect("the oldest no longer counts");
    }
}
