//! What Discord's refusals mean for a request, and for the connection.
//!
//! Discord numbers its refusals (<https://discord.com/developers/docs/topics/opcodes-and-status-codes>, "JSON error codes");
//! what no number fits is judged by the HTTP status. What nobody can tell is the caller's: the request itself was refused.

use crate::client::{ApiError, Refusal};
use crate::limits::CUT_OFF_MS;
use omni_channel_sdk::prelude::*;

/// What an operator does when Discord no longer takes the token.
pub const NEW_TOKEN: &str = "make a new token in the Developer Portal (https://discord.com/developers/applications, Bot, Reset \
                             Token) and put it in with `omni instances update <instance> --token-stdin`";

/// What is added when the token of an interaction, or of a webhook, is no good any more.
const TOO_LATE: &str = ": an interaction is answered within 15 minutes";
/// Waited when Discord says "slow down" and not for how long, in milliseconds.
const SLOW_DOWN_MS: u64 = 1_000;

impl From<ApiError> for SendError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Failed(failure) => failure.into(),
            ApiError::Refused(refusal) => refused(&refusal),
            ApiError::Wait(ms) => {
                Self::rate_limited(ms, "Discord's limit for this is used up; it goes out when there is room")
            }
            ApiError::Revoked => Self::unauthorized(format!("this bot has no token that Discord takes: {NEW_TOKEN}")),
            ApiError::Garbage { status, what, retry_after_ms } => garbage(status, &what, retry_after_ms),
        }
    }
}

fn refused(refusal: &Refusal) -> SendError {
    let Refusal { status, code, message, .. } = refusal;
    match (status, code) {
        (429, _) => {
            let wait = refusal.retry_after_ms.unwrap_or(SLOW_DOWN_MS);
            return SendError::rate_limited(wait, format!("Discord asks to slow down: {message}"));
        }
        (401, _) if !refusal.is_by_token => {
            return SendError::unauthorized(format!("Discord does not know this token ({message}): {NEW_TOKEN}"));
        }
        (_, 130_000) => return SendError::transient(format!("Discord is overloaded: {message}")),
        // A failing Discord may have done it before it failed.
        (500.., _) => return SendError::uncertain(format!("Discord failed: {message}")),
        _ => {}
    }
    let (kind, next, hint) = match code {
        10_003 | 10_004 => (ErrorCode::ChatNotFound, NextActor::Caller, ""),
        10_008 => (ErrorCode::MessageNotFound, NextActor::Caller, ""),
        10_013 | 10_007 => (ErrorCode::ChatNotFound, NextActor::Caller, ""),
        10_015 | 50_027 | 10_062 => (ErrorCode::TooOld, NextActor::Caller, TOO_LATE),
        40_005 => (ErrorCode::TooLarge, NextActor::Caller, ": a guild that is boosted takes larger files"),
        50_001 => (ErrorCode::Forbidden, NextActor::Operator, ": give the bot the right to see this channel"),
        50_013 => (ErrorCode::Forbidden, NextActor::Operator, ": give the bot's role the right in this channel"),
        50_005 => (ErrorCode::Forbidden, NextActor::Caller, ": a bot changes its own messages only"),
        50_007 | 50_278 => (
            ErrorCode::Blocked,
            NextActor::Caller,
            ": they take no direct messages from members of this guild, or have blocked the bot",
        ),
        50_024 => (ErrorCode::Unsupported, NextActor::Caller, ""),
        50_083 => (ErrorCode::Forbidden, NextActor::Operator, ": the thread is archived and locked"),
        // That of an interaction or a webhook, not the bot's.
        _ if *status == 401 => (ErrorCode::TooOld, NextActor::Caller, TOO_LATE),
        _ if *status == 403 => (ErrorCode::Forbidden, NextActor::Operator, ""),
        _ if *status == 404 => (ErrorCode::ChatNotFound, NextActor::Caller, ""),
        _ if *status == 413 => (ErrorCode::TooLarge, NextActor::Caller, ""),
        _ => (ErrorCode::Invalid, NextActor::Caller, ""),
    };
    let number = if *code == 0 { String::new() } else { format!(" ({code})") };
    SendError::new(kind, next, format!("Discord refused: {message}{number}{hint}"))
}

/// Whether Discord no longer takes the answer to an interaction, or what it would replace is gone.
pub fn is_over(refusal: &Refusal) -> bool {
    matches!(refusal.code, 10_008 | 10_015 | 10_062 | 50_027) || refusal.status == 401 && refusal.is_by_token
}

/// What is no answer of Discord's comes from something in between, or from another server than was meant.
fn garbage(status: u16, what: &str, retry_after_ms: Option<u64>) -> SendError {
    match status {
        413 => SendError::new(ErrorCode::TooLarge, NextActor::Caller, "too large for Discord (HTTP 413)"),
        // What stands before Discord cuts off an address that was refused too often.
        429 => SendError::rate_limited(
            retry_after_ms.unwrap_or(CUT_OFF_MS),
            "Discord has cut this address off for a while (HTTP 429 and no reason)",
        ),
        400..500 => SendError::new(
            ErrorCode::Network,
            NextActor::Operator,
            format!("apiBaseUrl answered HTTP {status} and {what}: is it Discord's API?"),
        ),
        _ => SendError::uncertain(format!("Discord's API gave HTTP {status} and {what}")),
    }
}

/// Why the bot cannot start, or cannot go on.
pub fn connection(error: ApiError) -> ChannelError {
    match error {
        ApiError::Failed(failure) => ChannelError::transient(format!("Discord cannot be reached: {}", failure.message)),
        ApiError::Refused(Refusal { status: 401, is_by_token: false, message, .. }) => {
            logged_out(&format!("Discord does not know this token ({message})"))
        }
        ApiError::Revoked => logged_out("Discord does not know this token any more"),
        ApiError::Refused(refusal) => {
            let mut error = ChannelError::transient(format!("Discord refused: {}", refusal.message));
            error.error.retry_after_ms = refusal.retry_after_ms;
            error
        }
        ApiError::Wait(ms) => {
            let mut error = ChannelError::transient("Discord's limits are used up");
            error.error.retry_after_ms = Some(ms);
            error
        }
        ApiError::Garbage { status, what, retry_after_ms } => {
            let what = format!("Discord's API gave HTTP {status} and {what}; is apiBaseUrl right?");
            let mut error = ChannelError::transient(what);
            error.error.retry_after_ms = retry_after_ms;
            error
        }
    }
}

/// Discord does not take the token.
pub fn logged_out(reason: &str) -> ChannelError {
    ChannelError::logged_out(reason, NEW_TOKEN)
}

/// The same as a state.
pub fn logged_out_state(reason: &str) -> ConnectionState {
    ConnectionState::LoggedOut { reason: reason.to_owned(), user_action: NEW_TOKEN.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: i64, is_by_token: bool) -> Refusal {
        Refusal { status, code, is_by_token, message: "no".into(), retry_after_ms: None }
    }

    #[test]
    fn only_the_bots_own_token_is_made_anew() {
        let bots = SendError::from(ApiError::Refused(refusal(401, 0, false)));
        assert_eq!((bots.code, bots.next), (ErrorCode::Unauthorized, NextActor::Operator));
        for code in [0, 50_027] {
            let others = refusal(401, code, true);
            assert!(is_over(&others));
            let said = SendError::from(ApiError::Refused(others.clone()));
            assert_eq!((said.code, said.next), (ErrorCode::TooOld, NextActor::Caller));
            assert!(!said.message.contains(NEW_TOKEN), "{}", said.message);
            assert!(connection(ApiError::Refused(others)).state.is_none(), "the bot is still logged in");
        }
    }

    #[test]
    fn an_overloaded_discord_has_certainly_done_nothing() {
        let overloaded = SendError::from(ApiError::Refused(refusal(503, 130_000, false)));
        let failed = SendError::from(ApiError::Refused(refusal(503, 0, false)));
        assert_eq!((overloaded.certain, failed.certain), (true, false));
        assert_eq!(overloaded.next, NextActor::Retry);
    }
}
