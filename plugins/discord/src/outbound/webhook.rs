//! Messages under another name and picture, by a webhook of the channel that is the bot's own, or the one that the operator
//! named.

use super::build::Body;
use super::{receipt, taken};
use crate::Discord;
use crate::api;
use crate::client::{ApiError, Call};
use omni_channel_sdk::prelude::*;
use serde::Serialize;

/// In which channel the operator's webhook is.
const NAMED: &str = "webhook-url";

/// A webhook, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    id: String,
    token: String,
}

fn key(channel: &str) -> String {
    format!("webhook/{channel}")
}

/// The path by which a message that a webhook sent is changed, if the channel has one of ours.
pub async fn message(ctx: &Context, channel: &str, id: &MessageId) -> Result<Option<String>, HostError> {
    let kept = ctx.get(&key(channel)).await?.and_then(|kept| serde_json::from_slice::<Kept>(&kept).ok());
    Ok(kept.map(|webhook| format!("/webhooks/{}/{}/messages/{id}", webhook.id, webhook.token)))
}

/// Sends a message as `{"name": …, "avatarUrl": …}`. In a thread it goes by the webhook of the channel that it hangs off.
pub async fn send(
    ctx: &Context,
    bot: &Discord,
    channel: &str,
    identity: &Value,
    send: &request::Send,
    mut body: Body,
) -> Result<SendReceipt, SendError> {
    if send.reply_to.is_some() {
        return Err(SendError::unsupported(
            "answers under another name: a webhook of Discord's cannot answer a message",
        ));
    }
    let place = super::place(ctx, bot, channel).await;
    let thread = place.and_then(|place| place.parent).map(|parent| parent.to_string());
    let home = thread.as_deref().unwrap_or(channel);
    for (name, field) in [("name", "username"), ("avatarUrl", "avatar_url")] {
        if let Some(words) = identity.get(name).and_then(Value::as_str) {
            body.fields.insert(field.into(), words.into());
        }
    }
    let query = if thread.is_some() { format!("?wait=true&thread_id={channel}") } else { "?wait=true".to_owned() };
    if let Some(path) = named(ctx, bot, home).await? {
        let mut call = Call::new("POST", format!("{path}{query}"), Value::Object(body.fields)).by_token();
        call.files = body.files;
        return Ok(receipt(send, &taken(bot.client.ask(ctx, &call).await?)?, channel));
    }
    for again in [false, true] {
        let webhook = find(ctx, bot, home, again).await?;
        let path = format!("/webhooks/{}/{}{query}", webhook.id, webhook.token);
        let mut call = Call::new("POST", path, Value::Object(body.fields.clone())).by_token();
        call.files.clone_from(&body.files);
        match bot.client.ask(ctx, &call).await {
            // Somebody took it away: it is made anew, once.
            Err(ApiError::Refused(refusal)) if !again && matches!(refusal.code, 10_015 | 50_027) => {}
            sent => return Ok(receipt(send, &taken(sent?)?, channel)),
        }
    }
    Err(SendError::transient("the channel's webhook was taken away while the message was on its way"))
}

/// The webhook that the operator named, in its channel.
async fn named(ctx: &Context, bot: &Discord, channel: &str) -> Result<Option<String>, SendError> {
    let Some(url) = bot.config.webhook_url.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
    let kept = ctx.get(NAMED).await?.and_then(|kept| String::from_utf8(kept).ok());
    let home = match kept {
        Some(kept) => kept,
        None => {
            let found = bot.client.ask(ctx, &Call::get(url.clone()).by_token()).await?;
            let home = found.get("channel_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            ctx.set(NAMED, home.as_str());
            home
        }
    };
    Ok((home == channel).then_some(url))
}

/// The bot's webhook in a channel: the one that is kept, one that is there, or a new one.
async fn find(ctx: &Context, bot: &Discord, channel: &str, anew: bool) -> Result<Kept, SendError> {
    let kept = ctx.get(&key(channel)).await?.and_then(|kept| serde_json::from_slice::<Kept>(&kept).ok());
    if let Some(kept) = kept.filter(|_| !anew) {
        return Ok(kept);
    }
    let path = format!("/channels/{channel}/webhooks");
    let there: Vec<api::Webhook> = bot.client.get(ctx, &Call::get(path.clone())).await?;
    let own = there
        .into_iter()
        .find(|webhook| webhook.application_id.as_deref() == Some(bot.application.as_str()) && webhook.token.is_some());
    let webhook: api::Webhook = match own {
        Some(own) => own,
        None => bot.client.get(ctx, &Call::new("POST", path, json!({"name": "Omni"}))).await?,
    };
    let Some(token) = webhook.token else {
        return Err(SendError::new(
            ErrorCode::Forbidden,
            NextActor::Operator,
            "Discord gave a webhook without its token",
        ));
    };
    let found = Kept { id: webhook.id, token };
    if let Ok(kept) = serde_json::to_vec(&found) {
        ctx.set(key(channel), kept);
    }
    Ok(found)
}
