//! Taking a bot over from Omni v1 or v2: its token, and the settings that have their equal here.
//!
//! The host hands over the rows that it found; here they become entries. The token is confirmed with Discord first: one that
//! is no good is refused, and nothing is written.

use crate::Discord;
use crate::config::Config;
use crate::{asked, login};
use omni_channel_sdk::omni_rows::OmniRow;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AuthReport, ImportAuth};
use serde_json::Map;

const KEPT: &str = "imported";
/// Where the token is.
const COLUMN: &str = "discord_bot_token";

/// Takes over what is there.
pub async fn import(ctx: &Context, bot: &Discord, asked: ImportAuth) -> Result<AuthReport, SendError> {
    let (row, token) = OmniRow::with_token(&asked, COLUMN)?;
    let mut report = AuthReport { paired: true, ..AuthReport::default() };
    let user = login::take_token(ctx, &bot.config, token).await?;
    report.found.insert("token".into(), 1);
    report.imported.insert("token".into(), 1);
    report.profile = Some(asked::profile_of(&user));
    let settings = settings(row, &mut report.warnings);
    if !settings.is_empty() {
        report.found.insert("settings".into(), settings.len() as u64);
        report.imported.insert("settings".into(), settings.len() as u64);
        ctx.set(KEPT, Value::Object(settings).to_string());
    }
    if bot.config.token.is_some() {
        report
            .warnings
            .push("the instance has a token in its configuration already, which counts before this one".into());
    }
    Ok(report)
}

/// The settings of a row, by our names.
fn settings(row: OmniRow<'_>, warnings: &mut Vec<String>) -> Map<String, Value> {
    let mut settings = Map::new();
    let guilds: Vec<Value> = match row.get("discord_guild_ids").and_then(Value::as_array) {
        Some(ids) => ids.iter().filter(|id| id.as_str().is_some_and(|id| !id.is_empty())).cloned().collect(),
        None => row.text("discord_guild_id").map(|id| json!(id)).into_iter().collect(),
    };
    if !guilds.is_empty() {
        settings.insert("guildIds".into(), guilds.into());
    }
    for (column, name) in [
        ("discord_client_id", "clientId"),
        ("discord_default_channel_id", "defaultChannelId"),
        ("discord_webhook_url", "webhookUrl"),
    ] {
        if let Some(text) = row.text(column) {
            settings.insert(name.into(), text.into());
        }
    }
    // SQLite has 0 and 1 for what is true or not.
    let flag = |column: &str| row.get(column).and_then(|flag| flag.as_bool().or_else(|| Some(flag.as_i64()? != 0)));
    if flag("discord_slash_commands_enabled") == Some(false) {
        settings.insert("slashCommands".into(), false.into());
    }
    if let Some(permissions) = row.get("discord_permissions").and_then(Value::as_u64) {
        settings.insert("permissions".into(), permissions.into());
    }
    if flag("discord_voice_enabled") == Some(true) {
        warnings.push("voice channels are not taken part in: discord_voice_enabled has no equal here".into());
    }
    settings
}

/// The configuration with what was taken over where nothing else is said.
pub async fn complete(ctx: &Context, mut config: Config) -> Result<Config, HostError> {
    let Some(kept) = ctx.get(KEPT).await?.and_then(|kept| serde_json::from_slice::<Map<String, Value>>(&kept).ok())
    else {
        return Ok(config);
    };
    let words = |name: &str| kept.get(name).and_then(Value::as_str).map(str::to_owned);
    let guilds = || {
        let guilds = kept.get("guildIds").and_then(Value::as_array)?;
        Some(guilds.iter().filter_map(|id| id.as_str().map(str::to_owned)).collect())
    };
    config.guild_ids.0 = config.guild_ids.0.or_else(guilds);
    config.client_id = config.client_id.or_else(|| words("clientId"));
    config.default_channel_id = config.default_channel_id.or_else(|| words("defaultChannelId"));
    config.webhook_url = config.webhook_url.or_else(|| words("webhookUrl"));
    config.slash_commands = config.slash_commands.or_else(|| kept.get("slashCommands")?.as_bool());
    config.permissions = config.permissions.or_else(|| kept.get("permissions")?.as_u64());
    Ok(config)
}
