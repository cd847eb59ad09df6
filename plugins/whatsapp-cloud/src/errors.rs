//! What Meta's refusals mean for a request, and for the connection.
//!
//! By their codes (<https://developers.facebook.com/docs/whatsapp/cloud-api/support/error-codes>); the HTTP status says little.
//! A code that is not known is the caller's: the request itself was refused.

use crate::client::{ApiError, Refusal, is_about_the_token};
use omni_channel_sdk::prelude::*;

/// What an operator does when Meta no longer takes the token.
pub const NEW_TOKEN: &str = "make a token of a system user that does not expire (Meta Business Settings, System users) and put it \
                             in with `omni instances update <instance> --token-stdin`";
/// The way out when a person has not written for a day.
const TEMPLATE: &str = "24 hours after they last wrote only a template may go out: send one with the option `template`";

const SECOND_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;
/// A person gets one message in six seconds once a burst is used up.
const PAIR_MS: u64 = 6_000;

impl From<ApiError> for SendError {
    fn from(error: ApiError) -> Self {
        match error {
            ApiError::Failed(failure) => failure.into(),
            ApiError::Refused(refusal) => refused(&refusal),
            ApiError::Garbage { status, what } => garbage(status, &what),
        }
    }
}

/// What a refusal means, in an answer or in a webhook.
pub fn refused(refusal: &Refusal) -> SendError {
    let Refusal { status, code, message, .. } = refusal;
    let slow = |ms| SendError::rate_limited(ms, format!("WhatsApp asks to slow down: {message} (code {code})"));
    match code {
        _ if is_about_the_token(*code) => {
            return SendError::unauthorized(format!("Meta does not take this token ({message}): {NEW_TOKEN}"));
        }
        130_429 => return slow(SECOND_MS),
        131_056 => return slow(PAIR_MS),
        4 | 17 | 32 | 613 | 80_007 | 133_016 => return slow(MINUTE_MS),
        131_016 if *status < 500 => {
            return SendError::transient(format!("WhatsApp is overloaded: {message} (code {code})"));
        }
        131_057 => {
            return SendError::transient(format!("WhatsApp is not there for now: {message} (code {code})"));
        }
        _ if *status == 429 => return slow(MINUTE_MS),
        // A failing Meta may have done it before it failed.
        1 => return SendError::uncertain(format!("WhatsApp does not say what went wrong: {message} (code {code})")),
        _ if *status >= 500 => return SendError::uncertain(format!("WhatsApp failed: {message} (code {code})")),
        _ if refusal.is_transient => {
            return SendError::transient(format!("WhatsApp cannot do it for now: {message} (code {code})"));
        }
        _ => {}
    }
    use ErrorCode as Is;
    use NextActor::{Caller, Operator};
    let (kind, next, hint) = match code {
        3 | 10 | 200..=299 | 131_005 => {
            (Is::Forbidden, Operator, ": give the system user of the token this account, and the app the permission")
        }
        368 | 131_031 => (Is::Forbidden, Operator, ": the account is restricted; see WhatsApp Manager"),
        131_042 => (Is::Forbidden, Operator, ": put the account's payment in order in WhatsApp Manager"),
        133_010 => (Is::Forbidden, Operator, ": register the number for the Cloud API first"),
        131_048 => {
            (Is::Forbidden, Operator, ": too many have blocked this number or reported it; see its quality rating")
        }
        131_049 | 130_472 => {
            (Is::Forbidden, Caller, ": WhatsApp keeps it from this person; do not send it again for now")
        }
        131_050 => (Is::Blocked, Caller, ": they take no marketing messages of this number any more"),
        131_030 => (Is::Forbidden, Operator, ": add them to the recipients of the test number in the App Dashboard"),
        131_047 => {
            return SendError::new(
                Is::TooOld,
                Caller,
                format!("WhatsApp refused: {message} (code {code}): {TEMPLATE}"),
            );
        }
        131_026 | 131_021 | 33 => (
            Is::ChatNotFound,
            Caller,
            ": the number is not on WhatsApp, is the own one, or cannot get this kind of message",
        ),
        131_051 => (Is::Unsupported, Caller, ""),
        131_052 | 131_053 => (Is::Media, Caller, ""),
        132_015 | 132_016 => (Is::Forbidden, Operator, ": the template is paused or disabled; see WhatsApp Manager"),
        _ => (Is::Invalid, Caller, ""),
    };
    SendError::new(kind, next, format!("WhatsApp refused: {message} (code {code}){hint}"))
}

/// What is no answer of the Graph API comes from something in between, or from another server than was meant.
fn garbage(status: u16, what: &str) -> SendError {
    match status {
        413 => SendError::new(ErrorCode::TooLarge, NextActor::Caller, "too large for WhatsApp (HTTP 413)"),
        400..500 => SendError::new(
            ErrorCode::Network,
            NextActor::Operator,
            format!("apiBaseUrl answered HTTP {status} and {what}: is it the Graph API?"),
        ),
        _ => SendError::uncertain(format!("the Graph API gave HTTP {status} and {what}")),
    }
}

/// Whether it ends the login: nothing is tried again then.
pub fn is_end_of_login(failed: &ChannelError) -> bool {
    matches!(failed.state.as_deref(), Some(ConnectionState::LoggedOut { .. }))
}

/// Why the account cannot start, or cannot go on.
pub fn connection(error: ApiError) -> ChannelError {
    let error = match error {
        ApiError::Refused(Refusal { code, message, .. }) if is_about_the_token(code) => {
            return ChannelError::logged_out(format!("Meta does not take this token ({message})"), NEW_TOKEN);
        }
        ApiError::Failed(failure) => {
            return ChannelError::transient(format!("WhatsApp cannot be reached: {}", failure.message));
        }
        error => SendError::from(error),
    };
    let wait = error.retry_after_ms;
    let mut failed = ChannelError::transient(error.message);
    failed.error.retry_after_ms = wait;
    failed
}
