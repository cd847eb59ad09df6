//! What Telegram's refusals mean for a request, and for the connection.
//!
//! Telegram gives an HTTP status and a sentence; the sentence is all that tells most of them apart, so this is a table of
//! phrases. What no phrase fits is the caller's: the request itself was refused, and asking again will not help.

use crate::client::{ApiError, NEW_TOKEN, Refusal};
use omni_channel_sdk::prelude::*;

/// Waited when Telegram says "slow down" and not for how long, in milliseconds.
pub const SLOW_DOWN_MS: u64 = 5_000;

/// The way out of Telegram's limits on files.
pub const OWN_SERVER: &str = "run a Bot API server of your own with --local, and set apiBaseUrl and fileBaseUrl to it";

/// Phrases of a 400, what they mean, and who acts. The first that fits counts.
const PHRASES: [(&[&str], ErrorCode, NextActor); 8] = [
    (
        &["chat not found", "peer_id_invalid", "chat_id is empty", "chat_id_invalid", "upgraded to a supergroup"],
        ErrorCode::ChatNotFound,
        NextActor::Caller,
    ),
    (
        &[
            "message to edit not found",
            "message to delete not found",
            "message to react not found",
            "message to be replied not found",
            "message_id_invalid",
            "message not found",
            "message identifier",
        ],
        ErrorCode::MessageNotFound,
        NextActor::Caller,
    ),
    (
        &["message can't be edited", "message can't be deleted", "query is too old", "query id is invalid"],
        ErrorCode::TooOld,
        NextActor::Caller,
    ),
    (
        &["too long", "too big", "too large", "message_too_long", "caption_too_long"],
        ErrorCode::TooLarge,
        NextActor::Caller,
    ),
    (
        &[
            "not enough rights",
            "have no rights",
            "administrator rights",
            "admin_required",
            "write_forbidden",
            "_forbidden",
            "topic_closed",
            "need to be",
            "must be an administrator",
        ],
        ErrorCode::Forbidden,
        NextActor::Operator,
    ),
    (
        &[
            "wrong file identifier",
            "wrong remote file",
            "failed to get http url content",
            "wrong type of the web page",
            "webpage_",
            "photo_invalid",
            "image_process_failed",
            "wrong padding",
            "file must be non-empty",
            "file reference",
            "file is temporarily unavailable",
        ],
        ErrorCode::Media,
        NextActor::Caller,
    ),
    (&["bot was blocked", "user is deactivated", "user_is_blocked"], ErrorCode::Blocked, NextActor::Caller),
    (
        &["bot was kicked", "not a member", "bots can't send messages to bots"],
        ErrorCode::Forbidden,
        NextActor::Operator,
    ),
];

/// Whether Telegram did not like the formatting, and would take the plain words.
pub fn is_formatting(refusal: &Refusal) -> bool {
    refusal.code == 400 && refusal.says(&["parse entities", "entity_", "entities_", "entity"])
}

impl From<ApiError> for SendError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Failed(failure) => failure.into(),
            ApiError::Refused(refusal) => refused(&refusal),
            ApiError::Garbage { status, what } => garbage(status, &what),
        }
    }
}

fn refused(refusal: &Refusal) -> SendError {
    let Refusal { code, description, .. } = refusal;
    match code {
        429 => {
            let wait = refusal.retry_after_ms.unwrap_or(SLOW_DOWN_MS);
            SendError::rate_limited(wait, format!("Telegram asks to slow down: {description}"))
        }
        401 | 404 => SendError::unauthorized(format!("Telegram does not know this token ({description}): {NEW_TOKEN}")),
        413 => SendError::new(
            ErrorCode::TooLarge,
            NextActor::Operator,
            format!("too large for Telegram ({description}): {OWN_SERVER}"),
        ),
        // A failing Telegram may have done it before it failed.
        500.. => SendError::uncertain(format!("Telegram failed: {description}")),
        409 => SendError::transient(format!("Telegram is busy with this bot: {description}")),
        _ => {
            let known = PHRASES.iter().find(|(phrases, ..)| refusal.says(phrases));
            let (code, next) = match known {
                Some((_, code, next)) => (code.clone(), next.clone()),
                None if *code == 403 => (ErrorCode::Forbidden, NextActor::Operator),
                None => (ErrorCode::Invalid, NextActor::Caller),
            };
            let hint = match code {
                ErrorCode::TooOld if description.contains("query") => {
                    ": a touched button is answered within some seconds"
                }
                ErrorCode::TooOld => ": a bot may change and delete its own messages, and only for a while",
                _ => "",
            };
            SendError::new(code, next, format!("Telegram refused: {description}{hint}"))
        }
    }
}

/// What is no answer of the Bot API comes from something in between, or from another server than was meant.
fn garbage(status: u16, what: &str) -> SendError {
    match status {
        413 => SendError::new(ErrorCode::TooLarge, NextActor::Caller, "too large for the Bot API server (HTTP 413)"),
        400..500 => SendError::new(
            ErrorCode::Network,
            NextActor::Operator,
            format!("apiBaseUrl answered HTTP {status} and {what}: is it a Bot API server?"),
        ),
        _ => SendError::uncertain(format!("the Bot API server gave HTTP {status} and {what}")),
    }
}

/// Why the bot cannot start, or cannot go on.
pub fn connection(error: ApiError) -> ChannelError {
    match error {
        ApiError::Failed(failure) => {
            ChannelError::transient(format!("Telegram cannot be reached: {}", failure.message))
        }
        ApiError::Refused(Refusal { code: 401 | 404, description, .. }) => logged_out(&description),
        ApiError::Refused(refusal) => {
            let mut error = ChannelError::transient(format!("Telegram refused: {}", refusal.description));
            error.error.retry_after_ms = refusal.retry_after_ms;
            error
        }
        ApiError::Garbage { status, what } => {
            ChannelError::transient(format!("the Bot API server gave HTTP {status} and {what}; is apiBaseUrl right?"))
        }
    }
}

/// Telegram does not take the token.
pub fn logged_out(description: &str) -> ChannelError {
    ChannelError::logged_out(format!("Telegram does not know this bot token ({description})"), NEW_TOKEN)
}
