//! The way in: Meta is told where the host is, makes sure of it, and calls there with what happened, signed.
//!
//! The address is set for this number alone, so that another number of the same account, and the app's own webhook, stay as
//! they are. Meta makes sure of it while it is set, which the host answers by itself: for that the instance has to be there
//! already, so it is set by a timer and not by the start. That another program has moved it since, and that the token is no
//! good any more, is found out by asking now and then. Deliberately not here: what is in a call.

use crate::Running;
use crate::api::{Payload, PhoneNumber};
use crate::client::{ApiError, Client};
use crate::convert::{self, Me};
use crate::errors;
use omni_channel_sdk::ingress::{HmacSha256, HubChallenge, Ingress, Timer, Webhook, WebhookRequest};
use omni_channel_sdk::prelude::*;
use serde::Serialize;

/// The key under which is kept which webhook is ours.
const KEY: &str = "webhook";
/// The timer by which the webhook is set.
pub const SET: &str = "subscribe";
/// The timer on which is looked whether it still is.
pub const CHECK: &str = "webhook";
/// How often, in milliseconds.
const CHECK_MS: u64 = 10 * 60_000;
/// Waited after a failure, at first and at most.
const BACKOFF_MS: (u64, u64) = (5_000, 10 * 60_000);
/// What Meta signs in.
const HEADER: &str = "x-hub-signature-256";
/// Largest call: Meta's have up to three megabytes.
const MAX_BODY: u64 = 4 * 1024 * 1024;

/// The webhook that is ours.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Ours {
    url: String,
    token: String,
    /// Where Meta was last told to call, and for which number: both may be others by now.
    #[serde(default)]
    placed: Option<Placed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Placed {
    phone: String,
    url: String,
}

/// Where the host is, and what Meta has to show there.
pub async fn open(ctx: &Context, cloud: &Running, secret: &str) -> Result<Vec<Ingress>, ChannelError> {
    let Some(url) = ctx.webhook_url().map(str::to_owned) else {
        let what = "the host has no public address, and what is written to this number comes in no other way: set \
                    http.public_url (in omni.toml, or as OMNI_HTTP_PUBLIC_URL) to the https address under which Meta reaches \
                    this host";
        return Err(ChannelError::stopped(what));
    };
    let config = &cloud.config;
    let token = match (config.subscribe, &config.verify_token) {
        (false, None) => {
            let what = format!(
                "subscribe is false and verifyToken is not set: set it, and enter it in the App Dashboard (WhatsApp, \
                 Configuration) with the callback URL {url}"
            );
            return Err(ChannelError::stopped(what));
        }
        (false, Some(token)) => token.clone(),
        (true, _) => {
            let (token, placed) = match ours(ctx).await? {
                Some(ours) => (ours.token, ours.placed),
                None => (ctx.random(24).await?.iter().map(|byte| format!("{byte:02x}")).collect(), None),
            };
            keep(ctx, &Ours { url, token: token.clone(), placed });
            ctx.set_timer(SET, 0);
            token
        }
    };
    let signed = HmacSha256 { header: HEADER.to_owned(), prefix: "sha256=".to_owned(), key: secret.to_owned() };
    let webhook = Webhook {
        verify: vec![signed.into()],
        max_body_bytes: Some(MAX_BODY),
        challenge: Some(HubChallenge { token }),
        ..Webhook::default()
    };
    Ok(vec![webhook.into(), Timer { tag: CHECK.to_owned(), every_ms: CHECK_MS }.into()])
}

async fn ours(ctx: &Context) -> Result<Option<Ours>, HostError> {
    Ok(ctx.get(KEY).await?.and_then(|stored| serde_json::from_slice(&stored).ok()))
}

fn keep(ctx: &Context, ours: &Ours) {
    if let Ok(kept) = serde_json::to_vec(ours) {
        ctx.set(KEY, kept);
    }
}

/// Sets the webhook of the number; an empty address takes it away.
fn setting(client: &Client, url: &str, token: Option<&str>) -> HttpCall {
    let mut configuration = json!({"override_callback_uri": url});
    if let Some(token) = token {
        configuration["verify_token"] = token.into();
    }
    client.post("", json!({"webhook_configuration": configuration}))
}

/// Tells Meta where the host is.
pub async fn set(ctx: &Context, cloud: &Running) -> Result<(), ChannelError> {
    let Some(mut ours) = ours(ctx).await? else { return Ok(()) };
    let client = &cloud.client;
    if let Err(failed) = told(ctx, client, &ours).await {
        if errors::is_end_of_login(&failed) {
            return Err(failed);
        }
        ctx.set_timer(SET, cloud.health.failed(BACKOFF_MS));
        ctx.state(ConnectionState::Disconnected { reason: failed.error.message, transient: true });
        return Ok(());
    }
    let placed = Placed { phone: client.phone().to_owned(), url: ours.url.clone() };
    if let Some(before) = ours.placed.replace(placed).filter(|before| before.phone != client.phone()) {
        // Else what is written to that number would go on coming here, where it is nobody's.
        let taken = take_back(ctx, &client.of(&before.phone), |found| found == before.url).await;
        if let Err(error) = taken {
            let why = SendError::from(error).message;
            ctx.log(LogLevel::Warn, format!("the webhook of the number that was here before stays: {why}"));
        }
    }
    keep(ctx, &ours);
    cloud.health.well();
    ctx.state(ConnectionState::connected(cloud.profile.clone()));
    Ok(())
}

/// Subscribes the app and sets the webhook.
async fn told(ctx: &Context, client: &Client, ours: &Ours) -> Result<(), ChannelError> {
    let failed = |what: &str, error: ApiError| {
        let mut failed = errors::connection(error);
        if !errors::is_end_of_login(&failed) {
            failed.error.message = format!("{what}: {}", failed.error.message);
        }
        failed
    };
    if let Some(subscription) = client.subscription() {
        let what = "the app could not be subscribed to the account's events (is businessAccountId right?)";
        client.ask::<Value>(ctx, subscription).await.map_err(|error| failed(what, error))?;
    }
    let setting = setting(client, &ours.url, Some(&ours.token));
    client.ask::<Value>(ctx, setting).await.map(drop).map_err(|error| match error {
        ApiError::Refused(refusal) if matches!(refusal.code, 100 | 2200 | 131_009) => ChannelError::transient(format!(
            "Meta does not take {} as the webhook of this number ({}): http.public_url must be an https address that Meta \
             reaches, and lead to this host",
            ours.url, refusal.message
        )),
        error => failed("the webhook could not be set", error),
    })
}

/// Takes the webhook of the number away for good, so that Meta calls the app's own again. One that another program has set
/// since stays.
pub async fn release(ctx: &Context, cloud: &Running) -> Result<(), SendError> {
    let Some(ours) = ours(ctx).await? else { return Ok(()) };
    let placed = ours.placed.map(|placed| placed.url);
    take_back(ctx, &cloud.client, |found| found == ours.url || Some(found) == placed.as_deref()).await?;
    ctx.delete(KEY);
    Ok(())
}

/// Takes the webhook of a number away, if it is ours or Meta does not say whose it is.
async fn take_back(ctx: &Context, client: &Client, is_ours: impl Fn(&str) -> bool) -> Result<(), ApiError> {
    if asked(ctx, client).await?.is_none_or(|found| is_ours(&found)) {
        client.ask::<Value>(ctx, setting(client, "", None)).await?;
    }
    Ok(())
}

/// The webhook that Meta has for the number; an empty one is none. `None` where Meta does not say.
async fn asked(ctx: &Context, client: &Client) -> Result<Option<String>, ApiError> {
    let call = client.get(&format!("{}?fields=id,webhook_configuration", client.phone()));
    let number: PhoneNumber = client.ask(ctx, call).await?;
    Ok(number.webhook_configuration.map(|found| found.phone_number.unwrap_or_default()))
}

/// Looks whether the token is still good and the webhook still ours.
pub async fn check(ctx: &Context, cloud: &Running) -> Result<(), ChannelError> {
    let found = match asked(ctx, &cloud.client).await {
        Ok(found) => found,
        Err(error) => {
            let failed = errors::connection(error);
            if errors::is_end_of_login(&failed) {
                return Err(failed);
            }
            // What Meta sends comes in all the same, so this alone is no trouble.
            ctx.log(LogLevel::Warn, format!("Meta cannot be asked about the webhook: {}", failed.error.message));
            return Ok(());
        }
    };
    // While it could not be set yet, that is what the state says.
    let is_set = cloud.config.subscribe && cloud.health.is_set();
    let (true, Some(ours), Some(found)) = (is_set, ours(ctx).await?, found) else { return Ok(()) };
    if found == ours.url {
        if cloud.health.recovered() {
            ctx.state(ConnectionState::connected(cloud.profile.clone()));
        }
        return Ok(());
    }
    if cloud.health.moved() {
        let what = match host_of(&found) {
            "" => "taken the webhook of this number away".to_owned(),
            host => format!("set the webhook of this number (to {host})"),
        };
        let reason = format!(
            "another program has {what}, so nothing that is written to it comes here: stop it, then `omni instances restart \
             <instance>`"
        );
        ctx.state(ConnectionState::Disconnected { reason, transient: true });
    }
    Ok(())
}

/// The host of an address: its path may hold a secret.
fn host_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    place.rsplit('@').next().unwrap_or_default()
}

/// Takes one call of Meta's, which the host has verified.
pub fn take(ctx: &Context, cloud: &Running, request: &WebhookRequest) -> EventOutcome {
    let payload = request.json::<Payload>().ok().filter(|payload| payload.object == "whatsapp_business_account");
    let Some(payload) = payload else {
        // Nothing that Meta sends for a number, so nothing that it has to send again.
        return EventOutcome::reply_json(400, &json!({"error": "an object \"whatsapp_business_account\" is expected"}));
    };
    let me = Me { id: cloud.client.phone().to_owned(), digits: cloud.digits.clone() };
    for change in payload.entry.into_iter().flat_map(|entry| entry.changes) {
        let mut converted = convert::change(&change.field, change.value, &me, ctx.now());
        if request.body.len() > convert::MAX_RAW {
            converted.leave_out_what_is_too_large(&change.field);
        }
        for warning in converted.warnings {
            ctx.log(LogLevel::Warn, warning);
        }
        cloud.memory.note(converted.sent, converted.heard);
        for event in converted.events {
            ctx.emit(event);
        }
    }
    EventOutcome::default()
}
