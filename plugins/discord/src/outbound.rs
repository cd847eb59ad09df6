//! Sending, changing, taking back, reacting.
//!
//! Every message carries our own id as its nonce, and Discord is asked to enforce it: the same one again within some minutes
//! is answered with the message that is there. So a send with an unknown outcome can be asked about, and repeated.
//!
//! ```text
//! build     a message → what Discord takes, pure
//! webhook   under another name and picture
//! chat      threads, members, pins, invites; what a chat allows
//! ```

pub mod build;
pub mod chat;
pub mod webhook;

use crate::Discord;
use crate::api;
use crate::client::{ApiError, Call, Refusal};
use crate::convert::message::{nonce, part};
use crate::errors;
use crate::interactions::Pending;
use crate::known::{guild_of_chat, takes_posts};
use build::Body;
use omni_channel_sdk::chat::MessageRef;
use omni_channel_sdk::event::{Activity, Emoji};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::Reconciled;

/// How long Discord surely knows a nonce, in milliseconds.
const NONCE_KNOWN_MS: i64 = 120_000;
/// Messages that are looked through for one that may have been sent.
const LOOK_BACK: u32 = 100;

/// A channel to write to: Discord's id, or what stands for it.
pub async fn target(ctx: &Context, bot: &Discord, chat: &ChatId) -> Result<String, SendError> {
    if chat.as_str() == "default" {
        return bot.config.default_channel_id.clone().ok_or_else(|| {
            SendError::invalid("this instance has no default channel: set defaultChannelId, or name a channel")
        });
    }
    if let Some(user) = chat.as_str().strip_prefix("user:") {
        return direct(ctx, bot, user).await;
    }
    if guild_of_chat(chat).is_some() {
        return Err(SendError::invalid("a server is no place to write to; name one of its channels"));
    }
    if chat.as_str().is_empty() || !chat.as_str().bytes().all(|byte| byte.is_ascii_digit()) {
        let what = "is no channel of Discord's: an id (digits), user:ID for a direct message, or default";
        return Err(SendError::new(
            ErrorCode::ChatNotFound,
            NextActor::Caller,
            format!("{chat:?} {what}", chat = chat.as_str()),
        ));
    }
    if !bot.config.guild_ids.is_empty() {
        within_limits(ctx, bot, chat.as_str()).await?;
    }
    Ok(chat.as_str().to_owned())
}

/// Refuses a channel of a server that the instance is not for. What cannot be found out is not taken for allowed.
async fn within_limits(ctx: &Context, bot: &Discord, channel: &str) -> Result<(), SendError> {
    let known = bot.known.names().channel(channel).cloned();
    let place = match known {
        Some(place) => Some(place),
        None => match look_up(ctx, bot, channel).await {
            // The id of a person, perhaps.
            Err(ApiError::Refused(Refusal { code: 10_003, .. })) => None,
            // No message, and no other harm, comes of asking.
            Err(error) => return Err(SendError { certain: true, ..error.into() }),
            Ok(place) => place,
        },
    };
    let guild = place.and_then(|place| place.guild).map(|guild| guild.to_string());
    if bot.config.takes_guild(guild.as_deref()) {
        return Ok(());
    }
    let what = "this channel is of a server that is not in this instance's guildIds";
    Err(SendError::new(ErrorCode::Forbidden, NextActor::Caller, what))
}

/// What is known of a channel, or can be found out.
pub async fn place(ctx: &Context, bot: &Discord, channel: &str) -> Option<crate::known::Place> {
    let known = bot.known.names().channel(channel).cloned();
    if known.is_some() {
        return known;
    }
    look_up(ctx, bot, channel).await.ok().flatten()
}

async fn look_up(ctx: &Context, bot: &Discord, channel: &str) -> Result<Option<crate::known::Place>, ApiError> {
    let found: api::Channel = bot.client.get(ctx, &Call::get(format!("/channels/{channel}"))).await?;
    let mut names = bot.known.names();
    names.note_channel(&found, None);
    Ok(names.channel(channel).cloned())
}

/// The chat with one person.
async fn direct(ctx: &Context, bot: &Discord, user: &str) -> Result<String, SendError> {
    let key = format!("direct/{user}");
    if let Some(known) = ctx.get(&key).await?.and_then(|known| String::from_utf8(known).ok()) {
        return Ok(known);
    }
    let open = Call::new("POST", "/users/@me/channels", json!({"recipient_id": user}));
    let opened: api::Channel = match bot.client.get(ctx, &open).await {
        Err(ApiError::Refused(refusal)) if refusal.status == 400 || refusal.status == 404 => {
            let what = format!("there is nobody with the id {user} whom the bot could write to ({})", refusal.message);
            return Err(SendError::new(ErrorCode::ChatNotFound, NextActor::Caller, what));
        }
        opened => opened?,
    };
    ctx.set(key, opened.id.as_str());
    Ok(opened.id)
}

/// Sends one message.
pub async fn send(ctx: &Context, bot: &Discord, send: request::Send) -> Result<SendReceipt, SendError> {
    let channel = target(ctx, bot, &send.chat).await?;
    let mut body = build::message(&send.content, &send.album, &send.options, ctx.now())?;
    if let Some((id, pending)) = answers(bot, &channel, send.reply_to.as_ref().or(send.follows.as_ref()), ctx.now()) {
        let is_for_one = pending.ephemeral || send.options.get("ephemeral") == Some(&json!(true));
        match answer(ctx, bot, &id, pending, &body).await {
            // Nobody waits any more: it goes out by itself, unless it was for one person only.
            Err(ApiError::Refused(refusal)) if errors::is_over(&refusal) && !is_for_one => {
                bot.interactions.forget(ctx, &id);
            }
            sent => return Ok(receipt(&send, &taken(sent?)?, send.chat.as_str())),
        }
    }
    if let Some(identity) = send.options.get("webhook") {
        return webhook::send(ctx, bot, &channel, identity, &send, body).await;
    }
    if let Some(nonce) = nonce(&send.client_id) {
        body.fields.insert("nonce".into(), nonce.into());
        body.fields.insert("enforce_nonce".into(), true.into());
    }
    if let Some(reply) = &send.reply_to {
        // A message that is gone meanwhile is no reason not to send the answer.
        let reference = json!({"message_id": reply.id, "channel_id": channel, "fail_if_not_exists": false});
        body.fields.insert("message_reference".into(), reference);
    }
    let thread = send.options.get("thread").filter(|_| send.part == 0);
    let post = match thread {
        Some(_) => place(ctx, bot, &channel).await.is_some_and(|place| takes_posts(place.kind)),
        // A forum that is known for one takes nothing but posts.
        None => bot.known.names().channel(&channel).is_some_and(|place| takes_posts(place.kind)),
    };
    if post {
        return chat::post(ctx, bot, &channel, thread, &send, body).await;
    }
    let sent = match post_message(ctx, bot, &channel, &body).await {
        // The id of a person, to whom nobody has written yet.
        Err(ApiError::Refused(Refusal { code: 10_003, .. })) if send.chat.as_str() == channel => {
            let direct = direct(ctx, bot, &channel).await?;
            body.fields.remove("message_reference");
            post_message(ctx, bot, &direct, &body).await?
        }
        sent => sent?,
    };
    if let Some(thread) = thread {
        chat::thread_of(ctx, bot, &sent, thread).await;
    }
    Ok(receipt(&send, &sent, &channel))
}

/// Answers an interaction; gives the message that Discord made of it.
async fn answer(ctx: &Context, bot: &Discord, id: &str, mut pending: Pending, body: &Body) -> Result<Value, ApiError> {
    if let Some(sign) = pending.take_sign_away(&body.fields) {
        match bot.client.ask(ctx, &sign).await {
            // Gone already.
            Ok(_) | Err(ApiError::Refused(Refusal { code: 10_008, .. })) => {}
            Err(error) => return Err(error),
        }
        bot.interactions.answered(ctx, id);
        pending.answered = true;
    }
    let mut call = pending.answer(Value::Object(body.fields.clone()));
    call.files.clone_from(&body.files);
    let sent = bot.client.ask(ctx, &call).await?;
    bot.interactions.answered(ctx, id);
    Ok(sent)
}

async fn post_message(ctx: &Context, bot: &Discord, channel: &str, body: &Body) -> Result<api::Message, ApiError> {
    let mut call = Call::new("POST", format!("/channels/{channel}/messages"), Value::Object(body.fields.clone()));
    call.files.clone_from(&body.files);
    taken(bot.client.ask(ctx, &call).await?)
}

/// What Discord made of a message. That it took it is certain, even when it says it in words that are new.
fn taken(answer: Value) -> Result<api::Message, ApiError> {
    let id = answer.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
    if id.is_empty() {
        return Err(ApiError::Garbage {
            status: 500,
            what: "an answer that names no message".into(),
            retry_after_ms: None,
        });
    }
    let bare = api::Message { id, ..api::Message::default() };
    Ok(serde_json::from_value(answer).unwrap_or(bare))
}

fn receipt(send: &request::Send, sent: &api::Message, channel: &str) -> SendReceipt {
    let of = |index: usize| SendReceipt {
        part: part(index),
        at: api::time_of(&sent.id),
        ..SendReceipt::new(sent.id.as_str())
    };
    let mut receipt = of(0);
    receipt.album = (1..=send.album.len()).map(of).collect();
    let went_to = if sent.channel_id.is_empty() { channel } else { &sent.channel_id };
    receipt.chat_id = (went_to != send.chat.as_str()).then(|| ChatId::from(went_to));
    receipt
}

/// The interaction that a message is the answer to: the one it names, or the oldest of its chat that people wait for.
fn answers(bot: &Discord, channel: &str, reply_to: Option<&MessageRef>, now: i64) -> Option<(String, Pending)> {
    let id = match reply_to {
        Some(reply) => reply.id.as_str().to_owned(),
        None => bot.interactions.waiting_in(channel, now)?,
    };
    bot.interactions.get(&id, now).map(|pending| (id, pending))
}

/// Tells whether a send with an unknown outcome happened. As long as Discord knows the nonce it may simply be sent again;
/// later the chat is looked through for what we said.
pub async fn reconcile(ctx: &Context, bot: &Discord, asked: request::Reconcile) -> Result<Reconciled, SendError> {
    let send = &asked.send;
    let channel = target(ctx, bot, &send.chat).await?;
    if place(ctx, bot, &channel).await.is_some_and(|place| takes_posts(place.kind)) {
        return chat::find_post(ctx, bot, &channel, send, asked.tried_at).await;
    }
    let by_nonce = nonce(&send.client_id).is_some() && !send.options.contains_key("webhook");
    let answered = send.reply_to.as_ref().or(send.follows.as_ref());
    let answers_something = answered.is_some_and(|reply| bot.interactions.get(reply.id.as_str(), ctx.now()).is_some());
    if by_nonce && !answers_something && ctx.now() - asked.tried_at < NONCE_KNOWN_MS {
        return Ok(Reconciled::NotSent);
    }
    let after = api::id_at(asked.tried_at.saturating_sub(60_000));
    let list = Call::get(format!("/channels/{channel}/messages?after={after}&limit={LOOK_BACK}"));
    let found: Vec<Value> = bot.client.get(ctx, &list).await?;
    let complete = found.len() < LOOK_BACK as usize;
    let ours = build::message(&send.content, &send.album, &send.options, ctx.now())?;
    let words = ours.fields.get("content").and_then(Value::as_str).unwrap_or_default();
    let wanted = nonce(&send.client_id);
    let found = found.into_iter().filter_map(|message| serde_json::from_value::<api::Message>(message).ok());
    let same = found.into_iter().find(|message| {
        let by_us = message.author.as_ref().is_some_and(|author| author.id == bot.me.id)
            || message.application_id.as_deref() == Some(bot.application.as_str());
        let by_nonce = wanted.is_some() && message.nonce.as_ref().and_then(Value::as_str) == wanted.as_deref();
        let by_words =
            message.content.as_deref().unwrap_or_default() == words && message.attachments.len() == ours.files.len();
        by_us && (by_nonce || by_words)
    });
    Ok(match same {
        Some(message) => Reconciled::Sent { receipt: receipt(send, &message, &channel) },
        None if complete => Reconciled::NotSent,
        None => Reconciled::Unresolved,
    })
}

/// Changes a message that we sent.
pub async fn edit(ctx: &Context, bot: &Discord, edit: request::EditMessage) -> Result<(), SendError> {
    let channel = target(ctx, bot, &edit.chat).await?;
    let nothing = std::collections::BTreeMap::new();
    let body = match &edit.content {
        Content::Text(_) | Content::Buttons(_) => build::message(&edit.content, &[], &nothing, ctx.now())?,
        content => match content.media() {
            Some(media) => {
                // The file stays as it is; its words change.
                let words = media.caption.clone().unwrap_or_default();
                build::message(&Content::Text(words), &[], &nothing, ctx.now())?
            }
            None => return Err(SendError::unsupported(&format!("changing a {}", content.kind()))),
        },
    };
    let id = &edit.target.id;
    let patch = Call::new("PATCH", format!("/channels/{channel}/messages/{id}"), Value::Object(body.fields));
    match bot.client.ask(ctx, &patch).await {
        // It went out under another name: that webhook may change it.
        Err(ApiError::Refused(refusal)) if refusal.code == 50_005 => {
            match webhook::message(ctx, bot, &channel, id).await? {
                Some(path) => Ok(bot.client.ask(ctx, &Call { path, ..patch.by_token() }).await.map(drop)?),
                None => Err(ApiError::Refused(refusal).into()),
            }
        }
        changed => Ok(changed.map(drop)?),
    }
}

/// Takes a message back: one of ours, or one of others where the bot may.
pub async fn delete(ctx: &Context, bot: &Discord, delete: request::DeleteMessage) -> Result<(), SendError> {
    if delete.only_for_me {
        return Err(SendError::unsupported("taking a message back for the bot alone"));
    }
    let channel = target(ctx, bot, &delete.chat).await?;
    let path = format!("/channels/{channel}/messages/{}", delete.target.id);
    let call = Call::new("DELETE", path, Value::Null);
    match bot.client.ask(ctx, &call).await {
        // So may be one that went out under another name: its webhook may take it back.
        Err(ApiError::Refused(refusal)) if refusal.code == 50_013 => {
            let path = webhook::message(ctx, bot, &channel, &delete.target.id).await?;
            let by_webhook = match path {
                Some(path) => bot.client.ask(ctx, &Call { path, ..call.by_token() }).await.is_ok(),
                None => false,
            };
            if by_webhook { Ok(()) } else { Err(ApiError::Refused(refusal).into()) }
        }
        deleted => Ok(deleted.map(drop)?),
    }
}

/// Makes our reactions to a message what they are to be.
pub async fn react(ctx: &Context, bot: &Discord, react: request::React) -> Result<(), SendError> {
    let channel = target(ctx, bot, &react.chat).await?;
    let path = format!("/channels/{channel}/messages/{}", react.target.id);
    let message: api::Message = bot.client.get(ctx, &Call::get(path.clone())).await?;
    let ours: Vec<Emoji> = message
        .reactions
        .iter()
        .filter(|reaction| reaction.me)
        .map(|reaction| crate::convert::happening::emoji(&reaction.emoji))
        .collect();
    let wanted: Vec<Emoji> = react.emojis.iter().map(named).collect();
    let same = |one: &Emoji, other: &Emoji| match (&one.custom_id, &other.custom_id) {
        (None, None) => plain(&one.emoji) == plain(&other.emoji),
        (one, other) => one == other,
    };
    let add = wanted.iter().filter(|wanted| !ours.iter().any(|there| same(there, wanted)));
    let remove = ours.iter().filter(|there| !wanted.iter().any(|wanted| same(there, wanted)));
    // What Discord refuses to put there takes nothing away.
    let calls = add.map(|emoji| ("PUT", emoji)).chain(remove.map(|emoji| ("DELETE", emoji)));
    for (method, emoji) in calls {
        let path = format!("{path}/reactions/{}/@me", emoji_path(emoji));
        bot.client.ask(ctx, &Call::new(method, path, Value::Null)).await?;
    }
    Ok(())
}

/// An emoji by its id, also where it was written as Discord writes it: `name:id`, `<:name:id>`, `<a:name:id>`.
fn named(emoji: &Emoji) -> Emoji {
    let inner = emoji.emoji.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(&emoji.emoji);
    let inner = inner.strip_prefix("a:").unwrap_or(inner).trim_start_matches(':');
    match inner.split_once(':') {
        Some((name, id)) if emoji.custom_id.is_none() && crate::asked::is_id(id) => {
            Emoji { emoji: name.to_owned(), custom_id: Some(id.into()) }
        }
        _ => emoji.clone(),
    }
}

/// Keyboards add a variation selector, which Discord keeps for some emoji and not for others.
fn plain(emoji: &str) -> String {
    emoji.replace('\u{fe0f}', "")
}

/// An emoji as it stands in a path.
fn emoji_path(emoji: &Emoji) -> String {
    let words = match &emoji.custom_id {
        Some(id) => format!("{}:{id}", emoji.emoji.trim_matches(':')),
        None => emoji.emoji.clone(),
    };
    percent(&words)
}

/// Percent-encoding of everything but letters, digits and what is safe in a path.
pub fn percent(words: &str) -> String {
    let mut path = String::with_capacity(words.len() * 3);
    for byte in words.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => path.push(char::from(byte)),
            byte => path.push_str(&format!("%{byte:02X}")),
        }
    }
    path
}

/// Shows that the bot is writing. Discord shows it for ten seconds, or until a message comes.
pub async fn typing(ctx: &Context, bot: &Discord, typing: request::ShowTyping) -> Result<(), SendError> {
    if typing.activity == Activity::Paused {
        return Ok(());
    }
    let channel = target(ctx, bot, &typing.chat).await?;
    Ok(bot.client.ask(ctx, &Call::new("POST", format!("/channels/{channel}/typing"), Value::Null)).await.map(drop)?)
}

/// Answers a touched button: words for the one who touched it, where there are any. Discord already knows that it was taken.
pub async fn answer_button(ctx: &Context, bot: &Discord, answer: request::AnswerButton) -> Result<(), SendError> {
    let Some(pending) = bot.interactions.get(&answer.id, ctx.now()) else {
        let what = "nobody waits for this answer any more: a touched button is answered within a quarter of an hour";
        return Err(SendError::new(ErrorCode::TooOld, NextActor::Caller, what));
    };
    let Some(words) = answer.text.filter(|words| !words.is_empty()) else { return Ok(()) };
    let options = std::collections::BTreeMap::from([("ephemeral".to_owned(), json!(true))]);
    let body = build::message(&Content::text(words), &[], &options, ctx.now())?;
    self::answer(ctx, bot, &answer.id, pending, &body).await?;
    Ok(())
}
