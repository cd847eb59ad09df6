//! What people do with webhooks: make, change, try out, rotate, delete. Everything is checked here, whoever asks.

use super::attempt::Answer;
use super::signature::{self, SigningSecret};
use super::{Webhooks, context, open_headers, open_secrets, opened, runner};
use crate::egress::EgressError;
use crate::egress::address::Reach;
use crate::store::page::InstanceSet;
use crate::store::webhook_queue::Attempt;
use crate::store::webhooks::{self as rows, WebhookRow};
use crate::store::{Store, StoreError, Time, Tx};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use uuid::Uuid;

/// Most headers that are sent along.
const MAX_HEADERS: usize = 20;
/// Most entries of a filter.
const MAX_FILTER: usize = 100;
/// Most secrets that sign at the same time.
const MAX_SECRETS: usize = 5;
/// What the host sets itself.
const OWN_HEADERS: &[&str] =
    &["content-type", "content-length", "host", "transfer-encoding", "connection", "user-agent"];

/// Why something could not be done with a webhook.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// There is no such webhook.
    #[error("there is no webhook {0}")]
    NotFound(String),
    /// A field is wrong: which, and what is wrong with it.
    #[error("{0}: {1}")]
    Invalid(&'static str, String),
    /// Who asks may not do this: the sentence says what and who may.
    #[error("{0}")]
    NotAllowed(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

type Result<T, E = WebhookError> = std::result::Result<T, E>;

/// What is needed to make a webhook.
#[derive(Clone, Debug, Default)]
pub struct NewWebhook {
    /// Its name, unique, 1 to 100 characters.
    pub name: String,
    /// Where it leads.
    pub url: String,
    /// What it is for.
    pub description: Option<String>,
    /// Names and patterns of events; all when empty.
    pub event_types: Vec<String>,
    /// The only instances; all when absent.
    pub instance_ids: Option<Vec<Uuid>>,
    /// The only chats; all when empty.
    pub chat_ids: Vec<String>,
    /// Sent along with every event.
    pub headers: BTreeMap<String, String>,
    /// The secret; a new one is made when absent.
    pub secret: Option<String>,
    /// Whether it is sent to at once.
    pub enabled: bool,
    /// By whom.
    pub created_by: Option<String>,
    /// Whether the operator asks, who may point it at a private address.
    pub by_operator: bool,
}

/// What is to be changed. Absent fields stay as they are.
#[derive(Clone, Debug, Default)]
pub struct Change {
    /// A new name.
    pub name: Option<String>,
    /// Another address.
    pub url: Option<String>,
    /// What it is for; an empty one takes it away.
    pub description: Option<String>,
    /// Names and patterns of events.
    pub event_types: Option<Vec<String>>,
    /// The only instances; `Some(None)` is all.
    pub instance_ids: Option<Option<Vec<Uuid>>>,
    /// The only chats.
    pub chat_ids: Option<Vec<String>>,
    /// Sent along with every event, in place of those before.
    pub headers: Option<BTreeMap<String, String>>,
    /// Whether the operator asks, who may point it at a private address.
    pub by_operator: bool,
}

/// What can be told of what is sealed.
#[derive(Clone, Debug, Default)]
pub struct Opened {
    /// The names of the headers that are sent along.
    pub headers: Vec<String>,
    /// Until when each secret signs, the newest first; none for the newest.
    pub secret_ends: Vec<Option<Time>>,
}

/// How a try went.
#[derive(Clone, Debug)]
pub struct Tried {
    /// Whether it was taken.
    pub taken: bool,
    /// The event's id.
    pub event_id: Uuid,
    /// The attempt.
    pub attempt: Attempt,
}

impl Webhooks {
    /// The webhooks that somebody may see: all, or those that are for instances of theirs only.
    pub async fn list(&self, instances: &InstanceSet) -> Result<Vec<WebhookRow>> {
        let all = rows::all(&self.0.store).await?;
        Ok(all.into_iter().filter(|row| visible(row, instances)).collect())
    }

    /// One, by id or name, when somebody may see it.
    pub async fn find(&self, id_or_name: &str, instances: &InstanceSet) -> Result<WebhookRow> {
        let mut tx = self.0.store.read().await?;
        let found = match id_or_name.parse::<Uuid>() {
            Ok(id) => rows::get(&mut tx, id).await?,
            Err(_) => rows::by_name(&mut tx, id_or_name).await?,
        };
        found.filter(|row| visible(row, instances)).ok_or_else(|| WebhookError::NotFound(id_or_name.to_owned()))
    }

    /// Makes one. It gets what happens from now on; its secret is given this once.
    pub async fn create(&self, new: NewWebhook) -> Result<(WebhookRow, String)> {
        let secret = new.secret.unwrap_or_else(signature::generate);
        signature::key_of(&secret).map_err(|problem| WebhookError::Invalid("secret", problem))?;
        let now = self.0.clock.now();
        let id = self.0.store.new_id(now);
        let signing = [SigningSecret { secret: secret.clone(), until: None }];
        let name = valid_name(&new.name)?;
        let row = WebhookRow {
            private_granted: self.address(&new.url, new.by_operator).await?,
            description: new.description.filter(|text| !text.is_empty()),
            event_types: valid_types(new.event_types)?,
            instance_ids: new.instance_ids,
            chat_ids: valid_list("chatIds", new.chat_ids)?,
            secrets: self.seal(id, &signing),
            headers: self.sealed_headers(id, &new.headers)?,
            enabled: new.enabled,
            created_by: new.created_by,
            ..WebhookRow::new(id, name, new.url, now)
        };
        let mut tx = self.0.store.begin().await?;
        rows::insert(&mut tx, &row, now).await?;
        tx.commit().await?;
        self.begin(id);
        Ok((row, secret))
    }

    /// Changes one. With another address it begins anew: what waited is tried at once.
    pub async fn change(&self, id: Uuid, change: Change) -> Result<WebhookRow> {
        let before = load(&self.0.store, id).await?;
        // Names are looked up before the writer is taken: that may be slow.
        let (moved, private) = match &change.url {
            Some(url) if *url != before.url || change.by_operator => {
                (*url != before.url, Some(self.address(url, change.by_operator).await?))
            }
            _ => (false, None),
        };
        let mut tx = self.0.store.begin().await?;
        let mut row = rows::get(&mut tx, id).await?.ok_or_else(|| WebhookError::NotFound(id.to_string()))?;
        row.private_granted = private.unwrap_or(row.private_granted);
        if let Some(name) = &change.name {
            row.name = valid_name(name)?;
        }
        if let Some(url) = change.url {
            row.url = url;
        }
        if let Some(description) = change.description {
            row.description = Some(description).filter(|text| !text.is_empty());
        }
        if let Some(types) = change.event_types {
            row.event_types = valid_types(types)?;
        }
        if let Some(instances) = change.instance_ids {
            row.instance_ids = instances;
        }
        if let Some(chats) = change.chat_ids {
            row.chat_ids = valid_list("chatIds", chats)?;
        }
        if let Some(headers) = &change.headers {
            row.headers = self.sealed_headers(id, headers)?;
        }
        let now = self.0.clock.now();
        rows::update(&mut tx, &row, now).await?;
        if moved && row.enabled {
            rows::enable(&mut tx, id, now).await?;
        }
        self.written(tx, id).await
    }

    async fn written(&self, mut tx: Tx, id: Uuid) -> Result<WebhookRow> {
        let row = rows::get(&mut tx, id).await?.ok_or_else(|| WebhookError::NotFound(id.to_string()))?;
        tx.commit().await?;
        self.changed(id);
        Ok(row)
    }

    /// Sends to it again, from where it was left off, and tries at once what had failed.
    pub async fn enable(&self, id: Uuid) -> Result<WebhookRow> {
        let mut tx = self.0.store.begin().await?;
        rows::enable(&mut tx, id, self.0.clock.now()).await?;
        self.written(tx, id).await
    }

    /// Sends to it no more; what happens meanwhile waits for as long as events are kept.
    pub async fn disable(&self, id: Uuid, by: &str) -> Result<WebhookRow> {
        let mut tx = self.0.store.begin().await?;
        let row = rows::get(&mut tx, id).await?.ok_or_else(|| WebhookError::NotFound(id.to_string()))?;
        runner::disable(&mut tx, &row, &format!("disabled by {by}"), self.0.clock.now()).await?;
        self.written(tx, id).await
    }

    /// Deletes one with all that waits for it.
    pub async fn delete(&self, id: Uuid) -> Result<()> {
        let mut tx = self.0.store.begin().await?;
        let existed = rows::delete(&mut tx, id).await?;
        tx.commit().await?;
        self.ended(id);
        if existed { Ok(()) } else { Err(WebhookError::NotFound(id.to_string())) }
    }

    /// Gives it a new secret, once; the ones before sign beside it for a while.
    pub async fn rotate(&self, id: Uuid, secret: Option<String>, overlap: Duration) -> Result<(WebhookRow, String)> {
        let secret = secret.unwrap_or_else(signature::generate);
        signature::key_of(&secret).map_err(|problem| WebhookError::Invalid("secret", problem))?;
        let now = self.0.clock.now();
        let until = now.plus(overlap);
        let mut tx = self.0.store.begin().await?;
        let mut row = rows::get(&mut tx, id).await?.ok_or_else(|| WebhookError::NotFound(id.to_string()))?;
        // Damaged ones are replaced.
        let mut secrets = open_secrets(&self.0.sealer, &row).unwrap_or_default();
        for old in &mut secrets {
            old.until = Some(old.until.unwrap_or(i64::MAX).min(until.0));
        }
        secrets.retain(|old| old.until.is_none_or(|until| until > now.0) && old.secret != secret);
        secrets.insert(0, SigningSecret { secret: secret.clone(), until: None });
        secrets.truncate(MAX_SECRETS);
        row.secrets = self.seal(id, &secrets);
        rows::update(&mut tx, &row, now).await?;
        Ok((self.written(tx, id).await?, secret))
    }

    /// Sends it an event that tells of nothing, now and once, and says how that went. Nothing is queued or kept.
    pub async fn test(&self, id: Uuid) -> Result<Tried> {
        let row = load(&self.0.store, id).await?;
        let target = opened(&self.0.sealer, &row).map_err(|problem| WebhookError::Invalid("secret", problem))?;
        let now = self.0.clock.now();
        let event_id = self.0.store.new_id(now);
        let body = json!({
            "id": event_id,
            "type": "webhook.test",
            "payload": {"webhookId": row.id, "name": row.name, "message": "this webhook works"},
            "timestamp": now.millis(),
            "metadata": {"correlationId": event_id, "source": "host"},
        });
        let (attempt, answer) = self.0.sender.send(&target, event_id, body.to_string().into()).await;
        Ok(Tried { taken: answer == Answer::Taken, event_id, attempt })
    }

    /// What can be told of what is sealed; nothing of what does not open.
    pub fn open(&self, row: &WebhookRow) -> Opened {
        let now = self.0.clock.now();
        let secrets = open_secrets(&self.0.sealer, row).unwrap_or_default();
        let secrets = secrets.into_iter().filter(|secret| secret.until.is_none_or(|until| until > now.0));
        Opened {
            headers: open_headers(&self.0.sealer, row).unwrap_or_default().into_keys().collect(),
            secret_ends: secrets.map(|secret| secret.until.map(Time)).collect(),
        }
    }

    fn seal(&self, id: Uuid, secrets: &[SigningSecret]) -> Vec<u8> {
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(secrets).expect("secrets are plain JSON"));
        self.0.sealer.seal(&context(id), &plain)
    }

    fn sealed_headers(&self, id: Uuid, headers: &BTreeMap<String, String>) -> Result<Option<Vec<u8>>> {
        let wrong = |problem: String| Err(WebhookError::Invalid("headers", problem));
        if headers.len() > MAX_HEADERS {
            return wrong(format!("there are {}; {MAX_HEADERS} are allowed", headers.len()));
        }
        for (name, value) in headers {
            let lower = name.to_ascii_lowercase();
            if HeaderName::from_bytes(name.as_bytes()).is_err() {
                return wrong(format!("{name:?} is no header name"));
            }
            if OWN_HEADERS.contains(&lower.as_str()) || lower.starts_with("webhook-") {
                return wrong(format!("{name} is set by the host"));
            }
            if HeaderValue::from_str(value).is_err() {
                return wrong(format!("the value of {name} has signs that a header cannot have"));
            }
        }
        if headers.is_empty() {
            return Ok(None);
        }
        let plain = zeroize::Zeroizing::new(serde_json::to_vec(headers).expect("words are plain JSON"));
        Ok(Some(self.0.sealer.seal(&context(id), &plain)))
    }

    /// Checks an address; says whether it leads into the private network and whoever asks may grant that.
    async fn address(&self, url: &str, by_operator: bool) -> Result<bool> {
        let wrong = |problem: &str| Err(WebhookError::Invalid("url", problem.to_owned()));
        let Ok(parsed) = Url::parse(url) else { return wrong("is no address; write it with its scheme") };
        if !matches!(parsed.scheme(), "http" | "https") || url.len() > 2_048 {
            return wrong("must be an http or https address of at most 2048 characters");
        }
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return wrong("must not hold a name or password; send them in `headers`");
        }
        match self.0.egress.reach_of(&parsed).await {
            Ok(Reach::Public) => Ok(false),
            Ok(Reach::Private) if by_operator => Ok(true),
            Ok(Reach::Private) => Err(WebhookError::NotAllowed(
                "url leads to a private address; only the key that may do everything can set that, \
                 or the operator grants the range in network.allow_private"
                    .into(),
            )),
            Ok(Reach::Special) => wrong(
                "leads to an address that is refused to everybody (link-local, metadata, multicast); \
                 the operator can grant it in network.allow_private",
            ),
            // A name that leads nowhere now is looked at again when something is sent.
            Err(EgressError::Unresolved { .. }) => Ok(false),
            Err(error) => wrong(&error.to_string()),
        }
    }
}

async fn load(store: &Store, id: Uuid) -> Result<WebhookRow> {
    let row = rows::get(&mut store.read().await?, id).await?;
    row.ok_or_else(|| WebhookError::NotFound(id.to_string()))
}

fn visible(row: &WebhookRow, instances: &InstanceSet) -> bool {
    match (instances, &row.instance_ids) {
        (InstanceSet::All, _) => true,
        (InstanceSet::Only(_), None) => false,
        (InstanceSet::Only(_), Some(wanted)) => wanted.iter().all(|id| instances.contains(*id)),
    }
}

fn valid_name(name: &str) -> Result<String> {
    let name = name.trim();
    let length = name.chars().count();
    if !(1..=100).contains(&length) || name.chars().any(char::is_control) {
        let problem = format!("has {length} characters; 1 to 100 are allowed, none of them control characters");
        return Err(WebhookError::Invalid("name", problem));
    }
    if name.parse::<Uuid>().is_ok() {
        return Err(WebhookError::Invalid("name", "looks like an id; choose another".into()));
    }
    Ok(name.to_owned())
}

fn valid_list(field: &'static str, list: Vec<String>) -> Result<Vec<String>> {
    if list.len() > MAX_FILTER {
        let problem = format!("has {} entries; {MAX_FILTER} are allowed", list.len());
        return Err(WebhookError::Invalid(field, problem));
    }
    match list.iter().find(|entry| entry.is_empty() || entry.len() > 1_024) {
        Some(_) => Err(WebhookError::Invalid(field, "an entry has 1 to 1024 characters".into())),
        None => Ok(list),
    }
}

/// Names such as `message.received`, and patterns such as `message.*` and `*`.
pub(crate) fn valid_types(types: Vec<String>) -> Result<Vec<String>> {
    let types = valid_list("eventTypes", types)?;
    for wanted in &types {
        let stem = wanted.strip_suffix('*').unwrap_or(wanted);
        let fits = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '.' | '_' | '-');
        let whole = wanted == "*" || stem.len() == wanted.len() || stem.ends_with('.');
        if !whole || !stem.chars().all(fits) {
            let problem = format!("{wanted:?} is no type of event; write one such as message.received, message.* or *");
            return Err(WebhookError::Invalid("eventTypes", problem));
        }
        if stem.starts_with("presence.") {
            let problem = format!("{wanted:?}: typing and presence are not kept, and only the stream carries them");
            return Err(WebhookError::Invalid("eventTypes", problem));
        }
    }
    Ok(types)
}
