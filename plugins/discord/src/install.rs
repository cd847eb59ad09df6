//! Inviting the bot into a server by OAuth2: the link, the way back, and what came of it.
//!
//! The link asks for the scopes of a bot and its commands and for the permissions of the configuration. With a public
//! address people come back to us: the `state` that they bring is ours, good once and for ten minutes; with the application's
//! secret Discord confirms to which server the bot was let in. Without a public address the gateway tells.

use crate::Discord;
use crate::api;
use crate::client::read;
use crate::config::{DEFAULT_API, default_permissions};
use crate::outbound::percent;
use omni_channel_sdk::http::{Header, HttpBody};
use omni_channel_sdk::ingress::WebhookRequest;
use omni_channel_sdk::login::{LoginShow, LoginStep, ShowNothing, ShowUrl};
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use std::net::IpAddr;

/// The login flow that this is.
pub const FLOW: &str = "install";
/// Where people come back to, behind the instance's webhook.
const PATH: &str = "/install";
const KEPT: &str = "install";
/// How long a link is good, in milliseconds.
const GOOD_FOR_MS: i64 = 600_000;
const SCOPES: &str = "bot applications.commands";

/// An invitation that is under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Invitation {
    state: String,
    at: i64,
    /// The server that the bot was let into.
    #[serde(default)]
    guild: Option<String>,
}

fn redirect(ctx: &Context) -> Option<String> {
    ctx.webhook_url().map(|url| format!("{url}{PATH}"))
}

fn client_id(bot: &Discord) -> &str {
    bot.config.client_id.as_deref().filter(|id| !id.is_empty()).unwrap_or(&bot.application)
}

/// Where people authorize: at Discord itself, whatever its API is reached by. What listens on this machine stands for all of
/// Discord.
fn site(api_base_url: &str) -> &str {
    let base = api_base_url.trim_end_matches('/');
    let authority = base.split_once("://").map_or(base, |(_, rest)| rest).split('/').next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(address) => address.split(']').next(),
        None => authority.split(':').next(),
    };
    let host = host.unwrap_or_default();
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    if is_here { base } else { DEFAULT_API }
}

fn link(ctx: &Context, bot: &Discord, state: &str) -> String {
    let mut url = format!(
        "{}/oauth2/authorize?client_id={}&scope={}&permissions={}",
        site(&bot.config.api_base_url),
        percent(client_id(bot)),
        percent(SCOPES),
        bot.config.permissions.unwrap_or_else(default_permissions)
    );
    if let [guild] = &bot.config.guild_ids[..] {
        url.push_str(&format!("&guild_id={}", percent(guild)));
    }
    if let Some(redirect) = redirect(ctx) {
        url.push_str(&format!("&response_type=code&redirect_uri={}&state={state}", percent(&redirect)));
    }
    url
}

/// Makes a link.
pub async fn begin(ctx: &Context, bot: &Discord) -> Result<LoginStep, ChannelError> {
    if client_id(bot).is_empty() {
        return Err(ChannelError::invalid(
            "put the bot's token in first, or set clientId: the link names the application",
        ));
    }
    let state: String = ctx.random(16).await?.iter().map(|byte| format!("{byte:02x}")).collect();
    let invitation = Invitation { state, at: ctx.now(), guild: None };
    keep(ctx, &invitation);
    Ok(step(ctx, bot, &invitation))
}

/// The invitation that is under way, or has just succeeded.
pub async fn current(ctx: &Context, bot: &Discord) -> Result<Option<LoginStep>, HostError> {
    let kept = kept(ctx).await?.filter(|kept| ctx.now() < kept.at + GOOD_FOR_MS);
    Ok(kept.map(|invitation| step(ctx, bot, &invitation)))
}

/// Nobody waits for it any more.
pub fn cancel(ctx: &Context) {
    ctx.delete(KEPT);
}

async fn kept(ctx: &Context) -> Result<Option<Invitation>, HostError> {
    Ok(ctx.get(KEPT).await?.and_then(|kept| serde_json::from_slice(&kept).ok()))
}

fn keep(ctx: &Context, invitation: &Invitation) {
    if let Ok(kept) = serde_json::to_vec(invitation) {
        ctx.set(KEPT, kept);
    }
}

fn step(ctx: &Context, bot: &Discord, invitation: &Invitation) -> LoginStep {
    let (show, instructions) = match (&invitation.guild, redirect(ctx)) {
        (Some(_), _) => (LoginShow::Done(ShowNothing {}), "the bot is in the server".to_owned()),
        (None, Some(redirect)) => (
            LoginShow::OpenUrl(ShowUrl { url: link(ctx, bot, &invitation.state) }),
            format!(
                "Open the page, choose a server and authorize. The Developer Portal (OAuth2, Redirects) has to know {redirect}"
            ),
        ),
        (None, None) => (
            LoginShow::OpenUrl(ShowUrl { url: link(ctx, bot, &invitation.state) }),
            "Open the page, choose a server and authorize".to_owned(),
        ),
    };
    LoginStep {
        step_id: format!("{FLOW}-{}", invitation.at),
        show,
        instructions: Some(instructions),
        expires_at: Some(invitation.at + GOOD_FOR_MS),
    }
}

/// Somebody came back from Discord.
pub async fn answered(ctx: &Context, bot: &Discord, request: &WebhookRequest) -> Result<EventOutcome, ChannelError> {
    if request.path != PATH || request.method != "GET" {
        return Ok(page(404, "There is nothing here."));
    }
    let field = |name: &str| {
        let found = request.query.split('&').find_map(|field| field.strip_prefix(name)?.strip_prefix('='));
        found.map(unpercent).unwrap_or_default()
    };
    let invitation = kept(ctx).await?.filter(|kept| ctx.now() < kept.at + GOOD_FOR_MS);
    let Some(mut invitation) = invitation.filter(|kept| !kept.state.is_empty() && kept.state == field("state")) else {
        return Ok(page(400, "This link is not ours, was used before, or is older than ten minutes. Make a new one."));
    };
    if !field("error").is_empty() {
        ctx.delete(KEPT);
        return Ok(page(200, "The bot was not let into a server. You can close this page."));
    }
    let (guild, name) = match confirm(ctx, bot, &field("code")).await {
        Ok(Some(guild)) => (guild.id, guild.name),
        // Without the application's secret only the address says it.
        Ok(None) => (field("guild_id"), None),
        Err(why) => return Ok(page(502, &format!("Discord did not confirm it: {why}"))),
    };
    if !crate::asked::is_id(&guild) {
        return Ok(page(400, "Discord did not say into which server the bot was let."));
    }
    invitation.state.clear();
    invitation.guild = Some(guild.clone());
    keep(ctx, &invitation);
    record(ctx, &guild, name.as_deref());
    Ok(page(200, "The bot is in the server now. You can close this page."))
}

/// Asks Discord what the code stands for; nothing when the application's secret is not configured.
async fn confirm(ctx: &Context, bot: &Discord, code: &str) -> Result<Option<api::Guild>, String> {
    let Some(secret) = bot.config.client_secret.as_deref().filter(|secret| !secret.is_empty()) else { return Ok(None) };
    let redirect = redirect(ctx).unwrap_or_default();
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", &redirect),
        ("client_id", client_id(bot)),
    ];
    let mut text: Vec<String> = form.iter().map(|(name, value)| format!("{name}={}", percent(value))).collect();
    // The host puts it in as it is; Discord's are letters, digits, `-` and `_`.
    text.push(format!("client_secret={secret}"));
    let mut call = HttpCall { method: "POST".into(), url: bot.client.url("/oauth2/token"), ..HttpCall::default() }
        .header("content-type", "application/x-www-form-urlencoded")
        .timeout_ms(15_000);
    call.body = HttpBody::Text { text: text.join("&") };
    call.secrets_in_body = true;
    let response = ctx.http(call).await.map_err(|failure| failure.message)?;
    let answer = match read(&response) {
        Ok(answer) => answer,
        Err(_) => {
            let said = response.json::<Value>().ok();
            let said = said.as_ref().and_then(|said| said.get("error")?.as_str()).unwrap_or("no reason given");
            return Err(match said {
                "invalid_client" => "clientSecret is not this application's".to_owned(),
                other => format!("HTTP {} ({other})", response.status),
            });
        }
    };
    let guild = answer.get("guild").cloned().and_then(|guild| serde_json::from_value::<api::Guild>(guild).ok());
    guild.filter(|guild| !guild.id.is_empty()).map(Some).ok_or_else(|| "its answer names no server".to_owned())
}

/// The bot came into a server, which ends an invitation that nobody comes back from.
pub fn noticed(ctx: &Context, guild: &Value) {
    let words = |name: &str| guild.get(name).and_then(Value::as_str);
    let joined = words("joined_at").and_then(api::millis);
    if let (Some(id), Some(joined)) = (words("id"), joined)
        && ctx.now() - joined < GOOD_FOR_MS
    {
        record(ctx, id, words("name"));
        if redirect(ctx).is_none() {
            keep(ctx, &Invitation { state: String::new(), at: ctx.now(), guild: Some(id.to_owned()) });
        }
    }
}

/// Remembers into which server the bot was let, and when.
fn record(ctx: &Context, guild: &str, name: Option<&str>) {
    ctx.set(format!("guild/{guild}"), json!({"name": name, "installedAt": ctx.now()}).to_string());
}

fn page(status: u16, words: &str) -> EventOutcome {
    let safe = words.replace('&', "&amp;").replace('<', "&lt;");
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>Omni</title><body style=\"font:1.2em sans-serif;margin:3em auto;max-width:30em\"><p>{safe}</p></body></html>"
    );
    let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
    let headers = vec![
        header("content-type", "text/html; charset=utf-8"),
        header("cache-control", "no-store"),
        header("content-security-policy", "default-src 'none'; style-src 'unsafe-inline'"),
        header("referrer-policy", "no-referrer"),
    ];
    EventOutcome { reply: Some(HttpResponse { status, headers, body: html.into_bytes() }), ..EventOutcome::default() }
}

fn unpercent(words: &str) -> String {
    let mut bytes = Vec::with_capacity(words.len());
    let mut rest = words.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let hex = std::str::from_utf8(&digits).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok());
                bytes.push(hex.unwrap_or(b'?'));
            }
            byte => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_authorize_at_discord_itself() {
        for proxy in ["https://discord.com/", "http://10.0.0.7:3000", "https://rest-proxy.example/discord"] {
            assert_eq!(site(proxy), "https://discord.com");
        }
        for here in ["http://127.0.0.1:8099", "http://localhost:1", "http://[::1]:80"] {
            assert_eq!(site(&format!("{here}/")), here);
        }
    }

    #[test]
    fn what_stands_in_an_address_is_read() {
        for words in ["a b&c=d/ü", "", "100%"] {
            assert_eq!(unpercent(&percent(words)), words);
        }
        assert_eq!((unpercent("%zz"), unpercent("a%2")), ("?".into(), "a?".into()));
    }
}
