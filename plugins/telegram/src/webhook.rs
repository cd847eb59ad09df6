//! The webhook: Telegram is told where the host is and which secret to show there, and each call brings one update.
//!
//! The secret is ours: random, kept in the key-value store, shown to Telegram when the webhook is set, and held against
//! every call by the host before the channel sees it. That somebody else moved the webhook, or that Telegram cannot reach
//! it, is found out by asking now and then, for Telegram does not say so by itself. Deliberately not here: what is in an
//! update.

use crate::api;
use crate::client::{ApiCall, ApiError, Client, Refusal};
use crate::config::Config;
use crate::convert::{self, KINDS, Me};
use crate::errors;
use crate::inbound::{self, Health, OFFSET};
use omni_channel_sdk::ingress::{HeaderEquals, Ingress, Timer, Webhook, WebhookRequest};
use omni_channel_sdk::prelude::*;
use serde::Serialize;

/// The key under which is kept which webhook is ours.
const KEY: &str = "webhook";
/// The timer on which is looked whether it still is.
pub const CHECK: &str = "webhook";
/// How often, in milliseconds.
const CHECK_MS: u64 = 60_000;
/// What Telegram shows the secret in.
const HEADER: &str = "x-telegram-bot-api-secret-token";
/// Largest call: an update with all that it may quote.
const MAX_BODY: u64 = 4 * 1024 * 1024;

/// The webhook that we have set.
#[derive(Debug, Serialize, Deserialize)]
struct Ours {
    url: String,
    secret: String,
}

/// Sets the webhook; gives back the ways in.
pub async fn open(ctx: &Context, client: &Client, config: &Config) -> Result<Vec<Ingress>, ChannelError> {
    let Some(url) = ctx.webhook_url().map(str::to_owned) else {
        let what = "mode is \"webhook\" and the host has no public address: set http.public_url (in omni.toml, or as \
                    OMNI_HTTP_PUBLIC_URL) to the https address under which Telegram reaches this host, or set mode to \
                    \"poll\"";
        return Err(ChannelError::stopped(what));
    };
    let secret = match ours(ctx).await? {
        Some(ours) => ours.secret,
        None => ctx.random(32).await?.iter().map(|byte| format!("{byte:02x}")).collect(),
    };
    let forget = config.drop_pending_updates && ctx.get(OFFSET).await?.is_none();
    set(ctx, client, config, &Ours { url, secret: secret.clone() }, forget).await?;
    // A later poll begins with what Telegram still has, whatever number that has.
    ctx.set(OFFSET, "0");
    let verify = vec![HeaderEquals { header: HEADER.to_owned(), value: secret }.into()];
    let webhook = Webhook { verify, max_body_bytes: Some(MAX_BODY), ..Webhook::default() };
    Ok(vec![webhook.into(), Timer { tag: CHECK.to_owned(), every_ms: CHECK_MS }.into()])
}

async fn ours(ctx: &Context) -> Result<Option<Ours>, HostError> {
    Ok(ctx.get(KEY).await?.and_then(|stored| serde_json::from_slice(&stored).ok()))
}

async fn set(ctx: &Context, client: &Client, config: &Config, ours: &Ours, forget: bool) -> Result<(), ChannelError> {
    let mut call = ApiCall::new(
        "setWebhook",
        json!({"url": ours.url, "secret_token": ours.secret, "allowed_updates": KINDS,
            "max_connections": config.max_connections}),
    );
    if forget {
        call.set("drop_pending_updates", true);
    }
    client.ask::<Value>(ctx, &call).await.map_err(|error| not_taken(&ours.url, error))?;
    if let Ok(kept) = serde_json::to_vec(ours) {
        ctx.set(KEY, kept);
    }
    Ok(())
}

/// Telegram looks at the address before it takes it.
fn not_taken(url: &str, error: ApiError) -> ChannelError {
    match error {
        ApiError::Refused(refusal) if refusal.code == 400 => {
            let what = format!(
                "Telegram does not take {url} as a webhook ({}): http.public_url must be an https address on port 443, \
                 80, 88 or 8443 that Telegram reaches",
                refusal.description
            );
            // A name may not be known yet; everything else somebody has to change.
            if refusal.says(&["resolve host"]) { ChannelError::transient(what) } else { ChannelError::stopped(what) }
        }
        error => errors::connection(error),
    }
}

/// Takes the webhook away when it is ours, so that Telegram keeps what comes for the poll.
pub async fn close(ctx: &Context, client: &Client) -> Result<(), ChannelError> {
    if ctx.get(KEY).await?.is_some() {
        remove(ctx, client).await.map_err(errors::connection)?;
    }
    Ok(())
}

/// Takes the webhook away for good, so that Telegram does not call a host that no longer listens. One that another program
/// has set since stays.
pub async fn release(ctx: &Context, client: &Client) -> Result<(), SendError> {
    let Some(ours) = ours(ctx).await? else { return Ok(()) };
    let info: api::WebhookInfo = client.ask(ctx, &ApiCall::new("getWebhookInfo", json!({}))).await?;
    if info.url.as_deref() == Some(ours.url.as_str()) {
        remove(ctx, client).await?;
    } else {
        ctx.delete(KEY);
    }
    Ok(())
}

async fn remove(ctx: &Context, client: &Client) -> Result<(), ApiError> {
    client.ask::<Value>(ctx, &ApiCall::new("deleteWebhook", json!({}))).await?;
    ctx.delete(KEY);
    Ok(())
}

/// A poll was refused because the bot has a webhook. Ours goes, and another one where we are told to; else the state says
/// whose it is, and the poll tries again.
pub async fn in_the_way(
    ctx: &Context,
    client: &Client,
    health: &Health,
    take_over: bool,
) -> Result<EventOutcome, ChannelError> {
    let removed = async {
        let info: api::WebhookInfo = client.ask(ctx, &ApiCall::new("getWebhookInfo", json!({}))).await?;
        let url = info.url.unwrap_or_default();
        if url.is_empty() {
            return Ok(None);
        }
        if !take_over && ctx.webhook_url() != Some(url.as_str()) {
            return Ok(Some(url));
        }
        ctx.log(LogLevel::Warn, "this bot has a webhook, which keeps Telegram from giving us its updates; removing it");
        remove(ctx, client).await?;
        Ok(None)
    };
    let reason = match removed.await {
        Ok(None) => return Ok(EventOutcome::default()),
        Ok(Some(url)) => {
            health.conflict();
            format!(
                "another program has set a webhook for this bot (at {}), and while it is there Telegram gives updates to \
                 nobody else: remove it there, or let this instance do it with `omni instances update <instance> \
                 --config takeOver=true`",
                host_of(&url)
            )
        }
        Err(error @ ApiError::Refused(Refusal { code: 401 | 404, .. })) => return Err(errors::connection(error)),
        Err(error) => format!("this bot's webhook could not be removed: {}", SendError::from(error).message),
    };
    Ok(inbound::trouble(ctx, health, reason, Some(inbound::CONFLICT_MS)))
}

/// The host of an address: its path may hold a secret.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    place.rsplit('@').next().unwrap_or_default()
}

/// Takes one call of Telegram's, which the host has verified.
pub async fn take(
    ctx: &Context,
    health: &Health,
    profile: &Profile,
    me: Me,
    request: &WebhookRequest,
) -> Result<EventOutcome, ChannelError> {
    let update = request.json::<Value>().ok().filter(|update| convert::update_id(update).is_some());
    let Some(update) = update else {
        // Nothing that Telegram sends, so nothing that it has to send again.
        return Ok(EventOutcome::reply_json(400, &json!({"error": "an update with an update_id is expected"})));
    };
    inbound::emit(ctx, me, update).await?;
    health.heard(ctx.now());
    if !health.in_conflict() && health.recovered() {
        ctx.state(ConnectionState::connected(profile.clone()));
    }
    Ok(EventOutcome::default())
}

/// Looks whether the webhook is still ours, and whether Telegram reaches it.
pub async fn check(
    ctx: &Context,
    client: &Client,
    config: &Config,
    health: &Health,
    profile: &Profile,
) -> Result<EventOutcome, ChannelError> {
    let info: api::WebhookInfo = match client.ask(ctx, &ApiCall::new("getWebhookInfo", json!({}))).await {
        Ok(info) => info,
        Err(error @ ApiError::Refused(Refusal { code: 401 | 404, .. })) => return Err(errors::connection(error)),
        Err(error) => {
            let reason = format!("Telegram cannot be asked about the webhook: {}", SendError::from(error).message);
            return Ok(inbound::trouble(ctx, health, reason, None));
        }
    };
    let (Some(ours), url) = (ours(ctx).await?, info.url.clone().unwrap_or_default()) else {
        return Ok(EventOutcome::default());
    };
    if url != ours.url {
        if config.take_over {
            ctx.log(LogLevel::Warn, "another program has moved this bot's webhook; taking it back");
            set(ctx, client, config, &ours, false).await?;
            return Ok(EventOutcome::default());
        }
        health.conflict();
        let what = match host_of(&url) {
            "" => "deleted this bot's webhook".to_owned(),
            host => format!("set this bot's webhook (to {host})"),
        };
        let reason = format!(
            "another program has {what}, so no updates come here: stop it, then `omni instances restart <instance>`, or \
             get this bot a token of its own from @BotFather"
        );
        return Ok(inbound::trouble(ctx, health, reason, None));
    }
    if let Some(reason) = unreached(&ours.url, &info, health) {
        return Ok(inbound::trouble(ctx, health, reason, None));
    }
    if health.recovered() {
        ctx.state(ConnectionState::connected(profile.clone()));
    }
    Ok(EventOutcome::default())
}

/// Why updates wait at Telegram, when it could not deliver since the last one came.
fn unreached(url: &str, info: &api::WebhookInfo, health: &Health) -> Option<String> {
    let waiting = info.pending_update_count.unwrap_or(0);
    let failed_at = api::millis(info.last_error_date)?;
    let why = info.last_error_message.as_deref()?;
    (waiting > 0 && failed_at >= health.heard_at()).then(|| {
        format!(
            "Telegram cannot deliver to {url} ({why}; {waiting} updates wait there): see to it that http.public_url leads \
             to this host"
        )
    })
}
