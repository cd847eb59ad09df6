//! Messages under another name and picture, by a webhook of the channel that is the bot's own, or the one that the operator
//! named.

use super::build::Body;
use super::{receipt, taken};
use crate::Discord;
use crate::api;
use crate::client::{ApiError, Call};
use crate::known::Known;
use omni_channel_sdk::prelude::*;
use serde::Serialize;

/// In which channel the operator's webhook is.
const NAMED: &str = "webhook-url";
/// Its id.
const OWN: &str = "own-webhook";

/// A webhook, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    id: String,
    token: String,
}

impl Kept {
    fn path(&self) -> String {
        format!("/webhooks/{}/{}", self.id, self.token)
    }
}

fn key(channel: &str) -> String {
    format!("webhook/{channel}")
}

/// The channel whose webhooks write into a channel, and what is said of the channel when that is another one.
async fn home(ctx: &Context, bot: &Discord, channel: &str) -> (String, String) {
    let place = super::place(ctx, bot, channel).await;
    match place.and_then(|place| place.parent) {
        Some(parent) => (parent.to_string(), format!("thread_id={channel}")),
        None => (channel.to_owned(), String::new()),
    }
}

/// The path by which a message that a webhook sent is changed, if the channel has one that we send by.
pub async fn message(ctx: &Context, bot: &Discord, channel: &str, id: &MessageId) -> Result<Option<String>, SendError> {
    let (home, thread) = home(ctx, bot, channel).await;
    let webhook = match named(ctx, bot, &home).await? {
        Some(url) => Some(url),
        None => kept(ctx, &home).await?.map(|kept| kept.path()),
    };
    let query = if thread.is_empty() { String::new() } else { format!("?{thread}") };
    Ok(webhook.map(|webhook| format!("{webhook}/messages/{id}{query}")))
}

async fn kept(ctx: &Context, channel: &str) -> Result<Option<Kept>, HostError> {
    Ok(ctx.get(&key(channel)).await?.and_then(|kept| serde_json::from_slice(&kept).ok()))
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
    let (home, thread) = home(ctx, bot, channel).await;
    for (name, field) in [("name", "username"), ("avatarUrl", "avatar_url")] {
        if let Some(words) = identity.get(name).and_then(Value::as_str) {
            body.fields.insert(field.into(), words.into());
        }
    }
    let query = if thread.is_empty() { "?wait=true".to_owned() } else { format!("?wait=true&{thread}") };
    if let Some(path) = named(ctx, bot, &home).await? {
        let mut call = Call::new("POST", format!("{path}{query}"), Value::Object(body.fields)).by_token();
        call.files = body.files;
        let sent = bot.client.ask(ctx, &call).await.map_err(named_is_gone)?;
        return Ok(receipt(send, &taken(sent)?, channel));
    }
    for again in [false, true] {
        let path = format!("{}{query}", find(ctx, bot, &home, again).await?.path());
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

/// The operator may have named another webhook since the instance ran the last time; what was sent by that one may come only
/// now.
pub async fn look_anew(ctx: &Context, known: &Known) -> Result<(), HostError> {
    ctx.delete(NAMED);
    if let Some(id) = ctx.get(OWN).await?.and_then(|id| String::from_utf8(id).ok()) {
        known.names().note_own_webhook(&id);
    }
    Ok(())
}

/// The operator's webhook is not what it was: nobody else can mend that.
fn named_is_gone(error: ApiError) -> SendError {
    match error {
        ApiError::Refused(refusal) if matches!(refusal.code, 10_015 | 50_027) => SendError::new(
            ErrorCode::Forbidden,
            NextActor::Operator,
            format!(
                "Discord does not know the webhook of webhookUrl ({}): make a new one, or take it out",
                refusal.message
            ),
        ),
        error => error.into(),
    }
}

/// The webhook that the operator named, in its channel.
async fn named(ctx: &Context, bot: &Discord, channel: &str) -> Result<Option<String>, SendError> {
    let Some(url) = bot.config.webhook_url.clone().filter(|url| !url.is_empty()) else { return Ok(None) };
    let kept = ctx.get(NAMED).await?.and_then(|kept| String::from_utf8(kept).ok());
    let home = match kept {
        Some(kept) => kept,
        None => {
            let found = bot.client.ask(ctx, &Call::get(url.clone()).by_token()).await.map_err(named_is_gone)?;
            let home = found.get("channel_id").and_then(Value::as_str).unwrap_or_default().to_owned();
            ctx.set(NAMED, home.as_str());
            if let Some(id) = found.get("id").and_then(Value::as_str) {
                bot.known.names().note_own_webhook(id);
                ctx.set(OWN, id);
            }
            home
        }
    };
    Ok((home == channel).then_some(url))
}

/// The bot's webhook in a channel: the one that is kept, one that is there, or a new one.
async fn find(ctx: &Context, bot: &Discord, channel: &str, anew: bool) -> Result<Kept, SendError> {
    if let Some(kept) = kept(ctx, channel).await?.filter(|_| !anew) {
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
