//! The bot's token: the configuration's, or one that was taken over from another Omni, which is kept encrypted with all else.
//!
//! Omni v2 keeps it in a column. No v1 that was published had Telegram; where a table of its has the column, it counts the
//! same. Other settings of a bot there are none.

use crate::client::{ApiError, Client, NEW_TOKEN, Refusal, is_token};
use crate::config::Config;
use crate::outbound;
use omni_channel_sdk::omni_rows::OmniRow;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AuthReport, ImportAuth};
use std::collections::BTreeMap;

/// The key under which a token is kept that was taken over.
const KEPT: &str = "token";
/// Where another Omni keeps it.
const COLUMN: &str = "telegram_bot_token";

/// The token, or the placeholder of it. The configuration's counts first.
pub async fn find(ctx: &Context, config: &Config) -> Result<Option<String>, HostError> {
    if let Some(token) = configured(config) {
        return Ok(Some(token.to_owned()));
    }
    Ok(ctx.get(KEPT).await?.and_then(|kept| String::from_utf8(kept).ok()))
}

fn configured(config: &Config) -> Option<&str> {
    config.token.as_deref().map(str::trim).filter(|token| !token.is_empty())
}

/// Takes a bot over. Telegram says first whose token it is: one that is no good is refused, and nothing is written.
pub async fn import(ctx: &Context, config: &Config, asked: ImportAuth) -> Result<AuthReport, SendError> {
    let (row, token) = OmniRow::with_token(&asked, COLUMN)?;
    if !is_token(token) {
        return Err(SendError::invalid(format!(
            "{COLUMN} in {row} is no bot token: digits, a colon and some 35 letters and digits are expected (123456:ABC…)"
        )));
    }
    let user = match Client::new(config, token).me(ctx).await {
        Err(ApiError::Refused(Refusal { code: 401 | 404, description, .. })) => {
            let what = format!("Telegram does not know {COLUMN} in {row} ({description}): {NEW_TOKEN}");
            return Err(SendError::invalid(what));
        }
        user => user?,
    };
    if !asked.dry_run {
        ctx.set(KEPT, token);
    }
    let one = BTreeMap::from([("token".to_owned(), 1)]);
    let mut report = AuthReport { found: one.clone(), imported: one, paired: true, ..AuthReport::default() };
    report.profile = Some(outbound::own_profile(&user));
    if configured(config).is_some() {
        let what = "the instance has a token in its configuration already, which counts before this one";
        report.warnings.push(what.into());
    }
    Ok(report)
}
