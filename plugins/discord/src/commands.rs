//! Application commands: what the configuration names is what Discord knows, for all guilds or for those of the instance.
//!
//! Where they were registered is remembered: Discord is only asked when something changed since the last time, and what is
//! in a place that is no longer meant is taken away. Commands that others registered stay as long as the configuration has
//! never named any. A bot whose commands Discord refuses goes on without them, and says so.

use crate::Discord;
use crate::client::{ApiError, Call, Refusal};
use crate::errors;
use omni_channel_sdk::connection::Limited;
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;

const KEPT: &str = "commands";
/// Most places whose refusal is told.
const TOLD: usize = 5;

/// What Discord knows of our commands, as it is kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Registered {
    application: String,
    commands: Vec<Value>,
    /// Where exactly these are.
    places: BTreeSet<Place>,
    /// Where others are, which were registered before.
    stale: BTreeSet<Place>,
    /// Why Discord does not know all that it should, in a sentence.
    refused: Option<String>,
    /// What an older version kept instead of the places: guilds, none for all of them.
    #[serde(skip_serializing)]
    guilds: Option<Vec<Place>>,
}

/// Where commands are: in one guild, or, without an id, in all of them.
type Place = String;
const EVERYWHERE: &str = "";

impl Registered {
    async fn load(ctx: &Context) -> Result<Option<Self>, HostError> {
        let kept = ctx.get(KEPT).await?.and_then(|kept| serde_json::from_slice::<Self>(&kept).ok());
        Ok(kept.map(|mut kept| {
            match kept.guilds.take() {
                Some(_) if kept.commands.is_empty() => {}
                Some(guilds) if guilds.is_empty() => drop(kept.places.insert(EVERYWHERE.into())),
                guilds => kept.places.extend(guilds.unwrap_or_default()),
            }
            kept
        }))
    }
}

/// What Discord did not take of our commands.
pub async fn limited(ctx: &Context) -> Result<Option<Limited>, HostError> {
    let refused = Registered::load(ctx).await?.and_then(|kept| kept.refused);
    Ok(refused.map(|reason| Limited { reason, until: None }))
}

/// Registers what has to be, and takes away what must not be any more.
pub async fn register(ctx: &Context, bot: &Discord) -> Result<(), ChannelError> {
    let config = &bot.config;
    let commands: Vec<Value> = match config.slash_commands {
        Some(false) => Vec::new(),
        _ => config.commands.iter().map(|command| as_discord_takes_it(command.clone())).collect(),
    };
    let wanted: BTreeSet<Place> = match &config.guild_ids[..] {
        _ if commands.is_empty() => BTreeSet::new(),
        [] => BTreeSet::from([EVERYWHERE.into()]),
        guilds => guilds.iter().cloned().collect(),
    };
    let kept = Registered::load(ctx).await?;
    // What is another application's only its own token can change.
    let before = kept.clone().filter(|kept| kept.application == bot.application).unwrap_or_default();
    let mut now = Registered { application: bot.application.clone(), commands, ..Registered::default() };
    if now.commands == before.commands {
        now.places = before.places.intersection(&wanted).cloned().collect();
    }
    let mut refusals = Vec::new();
    for place in wanted.difference(&now.places.clone()) {
        match put(ctx, bot, place, &now.commands).await? {
            None => drop(now.places.insert(place.clone())),
            Some(refusal) => refusals.push(explain(place, &refusal)),
        }
    }
    for place in before.places.union(&before.stale).filter(|place| !now.places.contains(*place)) {
        if wanted.contains(place) {
            now.stale.insert(place.clone());
            continue;
        }
        // Where the bot is not let in any more there is nothing of it, either.
        if let Some(refusal) = put(ctx, bot, place, &[]).await?.filter(|refusal| !matches!(refusal.status, 403 | 404)) {
            refusals.push(explain(place, &refusal));
            now.stale.insert(place.clone());
        }
    }
    let more = refusals.len().saturating_sub(TOLD);
    refusals.truncate(TOLD);
    if !refusals.is_empty() {
        let more = if more > 0 { format!("; and {more} more") } else { String::new() };
        let refused = format!("{}{more}", refusals.join("; "));
        ctx.log(LogLevel::Error, format!("the bot's commands are not as they should be: {refused}"));
        now.refused = Some(refused);
    }
    let is_first = kept.is_none() && now.commands.is_empty();
    if !is_first && kept.as_ref() != Some(&now) {
        ctx.set(KEPT, json!(now).to_string());
    }
    Ok(())
}

/// Makes the commands of a place what they are to be; Discord's no, if it says no.
async fn put(ctx: &Context, bot: &Discord, place: &str, commands: &[Value]) -> Result<Option<Refusal>, ChannelError> {
    let base = format!("/applications/{}", bot.application);
    let path = match place {
        EVERYWHERE => format!("{base}/commands"),
        guild => format!("{base}/guilds/{guild}/commands"),
    };
    match bot.client.ask(ctx, &Call::new("PUT", path, json!(commands))).await {
        Ok(_) => Ok(None),
        Err(ApiError::Refused(refusal)) if matches!(refusal.status, 400 | 402..500) => Ok(Some(refusal)),
        // What was done stays done, and the next start does the rest.
        Err(ApiError::Wait(_)) => {
            let message = "its limit for this is used up; the rest is done when the instance starts again".into();
            Ok(Some(Refusal { status: 429, message, ..Refusal::default() }))
        }
        Err(error) => Err(errors::connection(error)),
    }
}

fn explain(place: &str, refusal: &Refusal) -> String {
    let message = &refusal.message;
    match (place, refusal.status) {
        (EVERYWHERE, 400) => format!("`commands` of the configuration: Discord refused: {message}"),
        (EVERYWHERE, _) => format!("Discord does not take the commands: {message}"),
        (guild, 400) => {
            format!("`commands` of the configuration: Discord refused them for the guild {guild}: {message}")
        }
        (guild, 403) => format!(
            "Discord does not let the bot register its commands in the guild {guild} ({message}): invite it with the scope \
             applications.commands, or set `slashCommands` to false"
        ),
        (guild, _) => format!("Discord does not take the commands of the guild {guild}: {message}"),
    }
}

/// A command without what only we know of it.
fn as_discord_takes_it(mut command: serde_json::Map<String, Value>) -> Value {
    command.remove("modal");
    command.remove("ephemeral");
    Value::Object(command)
}
