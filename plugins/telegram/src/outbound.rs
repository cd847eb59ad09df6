//! What is asked of the bot, as calls of the Bot API.
//!
//! Sending is repeated at most once and only after a certain refusal: without the formatting that Telegram did not like,
//! or to the id that the chat has now. What may have been done is handed back as uncertain and never repeated here.

mod build;
mod chat;
mod group;

pub use build::{edit_call, edit_caption_instead, send_call};
pub use chat::{capabilities, directory, narrowed};
pub use group::change as change_group;

use crate::Telegram;
use crate::api;
use crate::client::{ApiCall, ApiError, Client};
use crate::convert::{Target, people};
use crate::errors;
use crate::memory;
use omni_channel_sdk::event::Activity;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AddressReply, MediaReply, ProfileReply};
use serde::Deserialize;

/// Largest file that Telegram's own server gives to a bot, in bytes.
const MAX_DOWNLOAD: u64 = 20 * 1024 * 1024;

/// What Telegram answers to a send.
#[derive(Deserialize)]
#[serde(untagged)]
enum Sent {
    Album(Vec<api::Message>),
    One(Box<api::Message>),
}

/// Sends one message, or one album.
pub async fn send(ctx: &Context, bot: &Telegram, send: request::Send) -> Result<SendReceipt, SendError> {
    let client = &bot.client;
    let mut target = Target::parse(&send.chat)?;
    let mut call = build::send_call(&send, &target)?;
    if !bot.config.is_local() {
        std::iter::once(&send.content).chain(&send.album).try_for_each(build::check_size)?;
    }
    if let Some(wait) = bot.pace.take(&target.chat, &send.client_id, 1 + send.album.len(), ctx.now()) {
        return Err(SendError::rate_limited(wait, "it waits for its turn, to keep to the pace that Telegram allows"));
    }
    let (mut plain, mut moved) = (false, false);
    let sent = loop {
        match client.ask(ctx, &call).await {
            Ok(Sent::Album(sent)) => break sent,
            Ok(Sent::One(sent)) => break vec![*sent],
            Err(ApiError::Refused(refusal)) => {
                if let Some(to) = refusal.migrate_to.filter(|_| !std::mem::replace(&mut moved, true)) {
                    target.chat = to.to_string();
                    target.name_chat(&mut call.params);
                    // The new chat counts its messages anew: the same number is another message there.
                    call.params.remove("reply_parameters");
                } else if !plain && errors::is_formatting(&refusal) && build::without_formatting(&mut call) {
                    plain = true;
                    ctx.log(
                        LogLevel::Warn,
                        format!("sent as plain words, for Telegram refused: {}", refusal.description),
                    );
                } else {
                    return Err(ApiError::Refused(refusal).into());
                }
            }
            Err(error) => return Err(error.into()),
        }
    };
    for (poll, message) in sent.iter().filter_map(|message| Some((message.poll.as_ref()?, message))) {
        memory::remember_poll(ctx, poll.id.as_str(), people::chat_of(message), MessageId::new(message.message_id));
    }
    let mut receipts = sent.iter().map(|sent| receipt(&send.chat, &target, sent));
    let Some(first) = receipts.next() else {
        return Err(SendError::uncertain("Telegram took the album and named no message of it"));
    };
    Ok(SendReceipt { album: receipts.collect(), ..first })
}

fn receipt(asked: &ChatId, target: &Target, sent: &api::Message) -> SendReceipt {
    let chat = Target { chat: sent.chat.id.to_string(), corner: target.corner.clone() }.id();
    SendReceipt {
        at: api::millis(sent.date),
        chat_id: (chat != *asked).then_some(chat),
        ..SendReceipt::new(MessageId::new(sent.message_id))
    }
}

/// Makes a call of which only matters that it is done.
async fn done(ctx: &Context, client: &Client, call: ApiCall) -> Result<(), ApiError> {
    client.ask::<Value>(ctx, &call).await.map(drop)
}

/// Why something could not be done with a message. A chat that has moved is not followed: there the same number is
/// another message.
fn on_message_failed(error: ApiError) -> SendError {
    match error {
        ApiError::Refused(refusal) if refusal.migrate_to.is_some() => {
            SendError::new(ErrorCode::MessageNotFound, NextActor::Caller, build::OF_BEFORE)
        }
        error => error.into(),
    }
}

/// Changes a message of the bot's.
pub async fn edit(ctx: &Context, bot: &Telegram, edit: request::EditMessage) -> Result<(), SendError> {
    let client = &bot.client;
    let mut call = build::edit_call(&edit)?;
    if !bot.config.is_local() {
        build::check_size(&edit.content)?;
    }
    let mut tried = done(ctx, client, call.clone()).await;
    if let Err(ApiError::Refused(refusal)) = &tried {
        let again = if errors::is_formatting(refusal) {
            build::without_formatting(&mut call).then_some(call)
        } else if refusal.says(&["there is no text in the message to edit"]) {
            build::edit_caption_instead(&call)
        } else {
            None
        };
        if let Some(again) = again {
            tried = done(ctx, client, again).await;
        }
    }
    match tried {
        // It already says so.
        Err(ApiError::Refused(refusal)) if refusal.says(&["message is not modified"]) => Ok(()),
        tried => tried.map_err(on_message_failed),
    }
}

/// Takes a message back.
pub async fn delete(ctx: &Context, client: &Client, delete: request::DeleteMessage) -> Result<(), SendError> {
    if delete.only_for_me {
        return Err(SendError::unsupported("taking a message back for the bot alone"));
    }
    let mut call = on_message("deleteMessage", &delete.chat, &delete.target)?;
    if let Some(connection) = call.params.remove("business_connection_id") {
        let ids = json!([call.params.remove("message_id")]);
        call =
            ApiCall::new("deleteBusinessMessages", json!({"business_connection_id": connection, "message_ids": ids}));
    }
    done(ctx, client, call).await.map_err(on_message_failed)
}

fn on_message(method: &'static str, chat: &ChatId, message: &MessageRef) -> Result<ApiCall, SendError> {
    let mut call = ApiCall::new(method, json!({}));
    Target::parse(chat)?.name_chat(&mut call.params);
    call.set("message_id", build::message_id(&message.id)?);
    Ok(call)
}

/// Sets the bot's reaction to a message; Telegram lets a bot have one.
pub async fn react(ctx: &Context, client: &Client, react: request::React) -> Result<(), SendError> {
    let mut call = on_message("setMessageReaction", &react.chat, &react.target)?;
    if call.params.contains_key("business_connection_id") {
        // Telegram would take it for the bot's own chat with the same person.
        return Err(SendError::unsupported("reactions in the chats of a business account"));
    }
    let reactions = react.emojis.iter().map(|emoji| match &emoji.custom_id {
        Some(id) => json!({"type": "custom_emoji", "custom_emoji_id": id}),
        // Keyboards add a variation selector that Telegram's list of reactions does without.
        None => json!({"type": "emoji", "emoji": emoji.emoji.replace('\u{fe0f}', "")}),
    });
    call.set("reaction", reactions.collect::<Vec<_>>());
    done(ctx, client, call).await.map_err(on_message_failed)
}

/// Shows that the bot is writing. Telegram shows it for five seconds, or until a message comes.
pub async fn typing(ctx: &Context, client: &Client, typing: request::ShowTyping) -> Result<(), SendError> {
    let action = match typing.activity {
        Activity::Recording => "record_voice",
        Activity::Uploading => "upload_document",
        Activity::Paused => return Ok(()),
        Activity::Typing | Activity::Other(_) => "typing",
    };
    let mut call = ApiCall::new("sendChatAction", json!({"action": action}));
    let target = Target::parse(&typing.chat)?;
    target.name_place(&mut call.params);
    call.params.remove("direct_messages_topic_id");
    match client.ask::<Value>(ctx, &call).await {
        Err(ApiError::Refused(refusal)) if refusal.migrate_to.is_some() => {
            call.params.insert("chat_id".to_owned(), refusal.migrate_to.into());
            Ok(done(ctx, client, call).await?)
        }
        shown => Ok(shown.map(drop)?),
    }
}

/// Tells the other side that messages in a chat of a business account were read. Telegram reads up to a message, so the
/// newest one says it for all. A bot's own chats have no such thing.
pub async fn mark_read(ctx: &Context, client: &Client, read: request::MarkRead) -> Result<(), SendError> {
    let target = Target::parse(&read.chat)?;
    let mut call = ApiCall::new("readBusinessMessage", json!({}));
    target.name_chat(&mut call.params);
    if !call.params.contains_key("business_connection_id") {
        return Err(SendError::unsupported("read receipts outside of the chats of a business account"));
    }
    let numbers = read.messages.iter().map(|message| build::message_id(&message.id)).collect::<Result<Vec<_>, _>>()?;
    let Some(newest) = numbers.into_iter().max() else {
        return Err(SendError::invalid("which message was read is not said, and Telegram wants to know"));
    };
    call.set("message_id", newest);
    Ok(done(ctx, client, call).await?)
}

/// Answers a touched button.
pub async fn answer_button(ctx: &Context, client: &Client, answer: request::AnswerButton) -> Result<(), SendError> {
    let mut call = ApiCall::new("answerCallbackQuery", json!({"callback_query_id": answer.id}));
    if let Some(text) = answer.text {
        call.set("text", text);
    }
    if answer.alert {
        call.set("show_alert", true);
    }
    Ok(done(ctx, client, call).await?)
}

/// Tells where a file is downloaded from.
pub async fn fetch_media(ctx: &Context, client: &Client, fetch: request::FetchMedia) -> Result<MediaReply, SendError> {
    let call = ApiCall::new("getFile", json!({"file_id": fetch.reference.as_str()}));
    let too_big = || {
        let message = "Telegram's own server gives a bot only files of up to 20 MB; run a Bot API server of your own with \
                       --local, and set apiBaseUrl and fileBaseUrl to it";
        SendError::new(ErrorCode::TooLarge, NextActor::Operator, message)
    };
    let file: api::File = match client.ask(ctx, &call).await {
        Err(ApiError::Refused(refusal)) if refusal.says(&["file is too big"]) => return Err(too_big()),
        answered => answered?,
    };
    let Some(path) = &file.file_path else {
        let large = file.file_size.is_some_and(|size| size > MAX_DOWNLOAD);
        let gone = || SendError::new(ErrorCode::Media, NextActor::Caller, "Telegram no longer gives out this file");
        return Err(if large { too_big() } else { gone() });
    };
    let mut download = HttpCall::get(client.file_url(path)?).timeout_ms(600_000);
    download.max_bytes = Some(file.file_size.unwrap_or(0).max(MAX_DOWNLOAD));
    let file_name = path.rsplit('/').next().map(str::to_owned);
    Ok(MediaReply { call: download, mime_type: None, file_name, size: file.file_size, sealed: None })
}

/// The bot itself, as a profile.
pub fn own_profile(me: &api::User) -> Profile {
    let user = people::user(me);
    Profile { id: user.id.0, name: user.name, username: user.username, avatar_url: None }
}

/// Tells about an account that the bot has met.
pub async fn profile(ctx: &Context, client: &Client, asked: request::GetProfile) -> Result<ProfileReply, SendError> {
    let Some(user) = asked.user else {
        return Ok(ProfileReply { profile: own_profile(&client.me(ctx).await?), ..ProfileReply::default() });
    };
    let found = get_chat(ctx, client, &Target::parse(&ChatId(user.0))?).await?;
    let user = people::chat_as_user(&found);
    let profile = Profile { id: user.id.0, name: user.name, username: user.username, avatar_url: None };
    Ok(ProfileReply { profile, about: found.bio.or(found.description), ..ProfileReply::default() })
}

/// What Telegram says of a chat.
async fn get_chat(ctx: &Context, client: &Client, target: &Target) -> Result<api::Chat, ApiError> {
    client.ask(ctx, &ApiCall::new("getChat", json!({"chat_id": target.chat_value()}))).await
}

/// Tells who or what an address is: an id, a handle with or without `@`, or a link to one. Telegram does not let a bot
/// look up people by handle whom it has not met, and by phone number not at all.
pub async fn resolve(ctx: &Context, client: &Client, asked: request::Resolve) -> Result<AddressReply, SendError> {
    let Some(target) = address(&asked.address) else { return Ok(AddressReply::default()) };
    let found = match get_chat(ctx, client, &target).await.map_err(SendError::from) {
        Err(SendError { code: ErrorCode::ChatNotFound, .. }) => return Ok(AddressReply::default()),
        found => found?,
    };
    let chat = people::chat(&found);
    let user = (chat.kind == ChatKind::Direct).then(|| people::chat_as_user(&found));
    Ok(AddressReply { user, chat: Some(chat) })
}

fn address(words: &str) -> Option<Target> {
    let words = words.trim().trim_start_matches("https://").trim_start_matches("http://");
    let name = words.strip_prefix("t.me/").or_else(|| words.strip_prefix("telegram.me/")).unwrap_or(words);
    if name.parse::<i64>().is_ok() {
        return Target::parse(&ChatId::from(name)).ok();
    }
    let name = name.trim_start_matches('@');
    let handle = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    handle.then(|| Target { chat: format!("@{name}"), corner: people::Corner::Whole })
}
