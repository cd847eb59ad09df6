//! Application commands: what the configuration names is what Discord knows, for all guilds or for those of the instance.
//!
//! Discord is only asked when something changed since the last time. Commands that others registered stay as long as the
//! configuration has never named any.

use crate::Discord;
use crate::client::{ApiError, Call};
use crate::errors;
use omni_channel_sdk::prelude::*;

const KEPT: &str = "commands";

/// Registers what has to be.
pub async fn register(ctx: &Context, bot: &Discord) -> Result<(), ChannelError> {
    let config = &bot.config;
    let commands: Vec<Value> = match config.slash_commands {
        true => config.commands.iter().map(|command| without_modal(command.clone())).collect(),
        false => Vec::new(),
    };
    let wanted = json!({"commands": commands, "guilds": config.guild_ids, "application": bot.application});
    let kept = ctx.get(KEPT).await?.and_then(|kept| serde_json::from_slice::<Value>(&kept).ok());
    if kept.as_ref() == Some(&wanted) || kept.is_none() && commands.is_empty() {
        return Ok(());
    }
    let base = format!("/applications/{}", bot.application);
    let paths: Vec<String> = match config.guild_ids.as_slice() {
        [] => vec![format!("{base}/commands")],
        guilds => guilds.iter().map(|guild| format!("{base}/guilds/{guild}/commands")).collect(),
    };
    for path in paths {
        let put = bot.client.ask(ctx, &Call::new("PUT", path, json!(commands))).await;
        match put {
            Ok(_) => {}
            Err(ApiError::Refused(refusal)) if refusal.status == 400 => {
                return Err(ChannelError::stopped(format!(
                    "`commands` of the configuration: Discord refused: {}",
                    refusal.message
                )));
            }
            Err(ApiError::Refused(refusal)) if refusal.status == 403 => {
                return Err(ChannelError::stopped(format!(
                    "Discord does not let the bot register its commands in a guild of `guildIds` ({}): invite it with the \
                     scope applications.commands, or set `slashCommands` to false",
                    refusal.message
                )));
            }
            Err(error) => return Err(errors::connection(error)),
        }
    }
    ctx.set(KEPT, wanted.to_string());
    Ok(())
}

fn without_modal(mut command: serde_json::Map<String, Value>) -> Value {
    command.remove("modal");
    Value::Object(command)
}
