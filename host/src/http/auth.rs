//! Who is asking: keys from headers, looked up by their hash, remembered for a second.
//!
//! Deliberately not here: which scope a route needs; that is `routes`.

use super::error::{ApiError, ApiResult};
use super::routes::covers;
use crate::clock::Clock;
use crate::store::api_keys::{self, ApiKey, Use};
use crate::store::page::InstanceSet;
use crate::store::{Store, StoreError, Time};
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, Uri};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use uuid::Uuid;

/// How long a stored key is trusted without looking again, in milliseconds.
const REMEMBERED_MS: i64 = 1_000;
/// How many keys are remembered.
const REMEMBERED: usize = 1_024;
/// How long the database is left alone before a key is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often the uses of keys are written down, in milliseconds.
const WRITTEN_MS: i64 = 10_000;

/// Who is asking, once that is proved. A handler that takes it can rely on the route's scope.
#[derive(Clone, Debug)]
pub(crate) struct Caller(Arc<Granted>);

#[derive(Debug)]
struct Granted {
    /// Nil for the key of the configuration.
    id: Uuid,
    name: String,
    prefix: String,
    scopes: Vec<String>,
    instances: InstanceSet,
    rate_limit: Option<u32>,
    expires_at: Option<Time>,
}

impl Caller {
    pub(crate) fn id(&self) -> Uuid {
        self.0.id
    }

    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.0.prefix
    }

    pub(crate) fn scopes(&self) -> &[String] {
        &self.0.scopes
    }

    pub(crate) fn rate_limit(&self) -> Option<u32> {
        self.0.rate_limit
    }

    /// Whether a scope is granted.
    pub(crate) fn may(&self, scope: &str) -> bool {
        self.0.scopes.iter().any(|granted| covers(granted, scope))
    }

    /// Whether this is the operator: a key that may do everything, everywhere.
    pub(crate) fn is_operator(&self) -> bool {
        self.may("*") && self.0.instances == InstanceSet::All
    }

    /// The instances that may be seen.
    pub(crate) fn instances(&self) -> &InstanceSet {
        &self.0.instances
    }

    /// Refuses an instance that may not be seen.
    pub(crate) fn allow(&self, instance: Uuid) -> ApiResult<()> {
        if self.0.instances.contains(instance) {
            return Ok(());
        }
        Err(ApiError::forbidden(format!("this key does not reach instance {instance}")))
    }

    /// The instances of a list: the one that was asked for, or all that may be seen.
    pub(crate) fn narrow(&self, wanted: Option<Uuid>) -> ApiResult<InstanceSet> {
        let Some(wanted) = wanted else { return Ok(self.0.instances.clone()) };
        self.allow(wanted)?;
        Ok(InstanceSet::Only(vec![wanted]))
    }

    /// Refuses a key that reaches some instances only, for what touches all of them.
    pub(crate) fn allow_everywhere(&self) -> ApiResult<()> {
        match self.0.instances {
            InstanceSet::All => Ok(()),
            InstanceSet::Only(_) => {
                Err(ApiError::forbidden("this key reaches some instances only, and this touches every one"))
            }
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        parts.extensions.get().cloned().ok_or_else(|| ApiError::internal("a handler without a key asked for one"))
    }
}

/// The keys that are remembered, and their uses that are not yet written down.
#[derive(Debug)]
pub(crate) struct KeyRing {
    configured: Option<(String, Caller)>,
    remembered: Mutex<HashMap<String, (Caller, Time)>>,
    uses: Mutex<Uses>,
    /// Moves whenever a key was changed.
    changed: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Uses {
    by_key: HashMap<Uuid, Use>,
    written: Option<Time>,
}

impl KeyRing {
    /// With the key of the configuration, if there is one.
    pub(crate) fn new(configured: Option<&str>) -> Self {
        let configured = configured.map(|key| {
            let granted = Granted {
                id: Uuid::nil(),
                name: "primary".into(),
                prefix: api_keys::shown(key),
                scopes: vec!["*".into()],
                instances: InstanceSet::All,
                rate_limit: None,
                expires_at: None,
            };
            (api_keys::hash(key), Caller(Arc::new(granted)))
        });
        Self { configured, remembered: Mutex::default(), uses: Mutex::default(), changed: watch::Sender::new(0) }
    }

    /// Whose key it is.
    pub(crate) async fn caller(&self, store: &Store, key: &str, now: Time) -> ApiResult<Caller> {
        let hash = api_keys::hash(key);
        if let Some((own, caller)) = &self.configured
            && equal(own, &hash)
        {
            return Ok(caller.clone());
        }
        if let Some(caller) = self.recall(&hash, now) {
            return alive(caller, now);
        }
        let stored = match key.starts_with(api_keys::PREFIX) {
            true => api_keys::by_hash(store, &hash).await?,
            false => None,
        };
        match stored {
            Some(stored) if equal(&stored.key_hash, &hash) => {
                if stored.status != "active" {
                    return Err(ApiError::unauthorized(format!("this API key is {}", stored.status)));
                }
                let caller = Caller(Arc::new(granted(stored)));
                self.remember(hash, caller.clone(), now);
                alive(caller, now)
            }
            _ => Err(ApiError::unauthorized("this API key is not known here")),
        }
    }

    /// Forgets what is remembered, after a key was changed, and lets open streams look again.
    pub(crate) fn forget(&self) {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.changed.send_modify(|version| *version += 1);
    }

    /// Waits until a caller's key is not what it was any more, and says why: for what goes on after the answer began.
    pub(crate) async fn ended(&self, store: &Store, clock: &Clock, caller: &Caller) -> (&'static str, String) {
        let mut changed = self.changed.subscribe();
        if caller.id().is_nil() {
            return std::future::pending().await;
        }
        loop {
            match standing(api_keys::get(store, caller.id()).await, caller, clock.now()) {
                Ok(()) => {}
                Err(Some(why)) => return why,
                Err(None) => {
                    // The database is away: whether the key still holds is asked again until somebody knows.
                    clock.sleep(LOOK_AGAIN).await;
                    continue;
                }
            }
            let expiry = async {
                match caller.0.expires_at {
                    Some(end) => clock.sleep_until(end).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = expiry => {}
                changed = changed.changed() => if changed.is_err() { return std::future::pending().await },
            }
        }
    }

    fn recall(&self, hash: &str, now: Time) -> Option<Caller> {
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let (caller, at) = remembered.get(hash)?;
        (now < at.plus_millis(REMEMBERED_MS) && now >= *at).then(|| caller.clone())
    }

    fn remember(&self, hash: String, caller: Caller, now: Time) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if remembered.len() >= REMEMBERED {
            remembered.clear();
        }
        remembered.insert(hash, (caller, now));
    }

    /// Counts a use; now and then it hands out what is to be written down.
    pub(crate) fn count(&self, caller: &Caller, ip: Option<String>, now: Time) -> Option<Vec<Use>> {
        if caller.id().is_nil() {
            return None;
        }
        let mut uses = self.uses.lock().unwrap_or_else(PoisonError::into_inner);
        match uses.by_key.entry(caller.id()) {
            Entry::Occupied(mut entry) => {
                let used = entry.get_mut();
                used.count += 1;
                used.at = now;
                used.ip = ip.or(used.ip.take());
            }
            Entry::Vacant(entry) => {
                entry.insert(Use { id: caller.id(), count: 1, at: now, ip });
            }
        }
        let due = uses.written.is_none_or(|at| now >= at.plus_millis(WRITTEN_MS));
        if !due {
            return None;
        }
        uses.written = Some(now);
        Some(uses.by_key.drain().map(|(_, used)| used).collect())
    }
}

/// Whether a stored key is still what a caller was granted; if not, why, where that is known.
fn standing(
    stored: Result<Option<ApiKey>, StoreError>,
    caller: &Caller,
    now: Time,
) -> Result<(), Option<(&'static str, String)>> {
    let gone = |code, sentence: &str| Err(Some((code, sentence.to_owned())));
    let Ok(stored) = stored else { return Err(None) };
    let Some(stored) = stored else { return gone("key_deleted", "the API key was deleted") };
    if stored.status != "active" {
        return gone("key_revoked", &format!("the API key is {}", stored.status));
    }
    if stored.expires_at.is_some_and(|end| end <= now) {
        return gone("key_expired", "the API key has ended");
    }
    let now = granted(stored);
    let same = now.scopes == caller.0.scopes && now.instances == caller.0.instances;
    if same && now.expires_at == caller.0.expires_at {
        return Ok(());
    }
    gone("key_changed", "the rights of the API key were changed; connect again")
}

fn equal(a: &str, b: &str) -> bool {
    a.as_bytes().ct_eq(b.as_bytes()).into()
}

fn alive(caller: Caller, now: Time) -> ApiResult<Caller> {
    match caller.0.expires_at {
        Some(end) if end <= now => Err(ApiError::unauthorized(format!("this API key ended at {end}"))),
        _ => Ok(caller),
    }
}

fn granted(key: ApiKey) -> Granted {
    Granted {
        id: key.id,
        name: key.name,
        prefix: key.key_prefix,
        scopes: key.scopes,
        instances: key.instance_ids.map_or(InstanceSet::All, InstanceSet::Only),
        rate_limit: key.rate_limit.and_then(|limit| u32::try_from(limit).ok()),
        expires_at: key.expires_at,
    }
}

/// The key that a request carries: `x-api-key`, `Authorization: Bearer`, and in the query where that is allowed (a
/// browser's `EventSource` and `<img>` can set no header).
pub(crate) fn presented<'a>(headers: &'a HeaderMap, uri: &'a Uri, in_query: bool) -> Option<&'a str> {
    let header = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let bearer = || {
        let (scheme, key) = header("authorization")?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    };
    let query = || uri.query()?.split('&').find_map(|pair| pair.strip_prefix("api_key="));
    header("x-api-key").or_else(bearer).or_else(|| in_query.then(query).flatten()).filter(|key| !key.is_empty())
}
