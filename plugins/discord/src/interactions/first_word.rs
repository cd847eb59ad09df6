//! The first word to an interaction: that the answer comes later, or the form that its command has in the configuration.
//!
//! Discord listens for three seconds, so the words to all that came together go out side by side. One whose fate is unknown
//! was heard, perhaps: it stays, to be answered.

use super::modal_of_command;
use crate::Discord;
use crate::client::{ApiError, Call, Refusal};
use crate::convert::interaction::kind;
use omni_channel_sdk::prelude::*;

/// How long the first word may take, in milliseconds. Discord listens for three seconds from when it happened.
const FIRST_WORD_MS: u64 = 2_500;

/// Says the first word to some interactions.
pub async fn say(ctx: &Context, bot: &Discord, ids: &[String]) {
    let found = ids.iter().filter_map(|id| Some((id, bot.interactions.unheard(id)?)));
    let words: Vec<_> = found.map(|(id, pending)| (id, word(bot, &pending), pending)).collect();
    let call = |id: &str, token: &str, word: &Value| {
        let path = format!("/interactions/{id}/{token}/callback");
        Call::new("POST", path, word.clone()).by_token().within_ms(FIRST_WORD_MS)
    };
    let calls: Vec<Call> = words.iter().map(|(id, word, pending)| call(id, &pending.token, word)).collect();
    let heard = bot.client.ask_all(ctx, &calls).await;
    for ((id, word, _), heard) in words.into_iter().zip(heard) {
        match heard {
            Ok(_) => bot.interactions.heard(ctx, id),
            // It was told before: by us, when this is a replay, or by another program of the same bot.
            Err(ApiError::Refused(Refusal { code: 40_060, .. })) => {}
            Err(error) => {
                let error = SendError::from(error);
                ctx.log(LogLevel::Warn, format!("an interaction could not be answered in time: {}", error.message));
                if error.certain {
                    bot.interactions.forget(ctx, id);
                }
            }
        }
        // Proposals and forms are all the answer that there is: the form that is filled in is an interaction of its own.
        if matches!(word.get("type").and_then(Value::as_u64), Some(8 | 9)) {
            bot.interactions.forget(ctx, id);
        }
    }
}

fn word(bot: &Discord, pending: &super::Pending) -> Value {
    let later = match pending.ephemeral {
        true => json!({"type": 5, "data": {"flags": super::EPHEMERAL}}),
        false => json!({"type": 5}),
    };
    match pending.kind {
        kind::AUTOCOMPLETE => json!({"type": 8, "data": {"choices": []}}),
        kind::COMMAND => match modal(bot, pending.command.as_deref().unwrap_or_default()) {
            Some(modal) => json!({"type": 9, "data": modal}),
            None => later,
        },
        _ if pending.shows_waiting() => later,
        _ => json!({"type": 6}),
    }
}

/// The form of a command, as Discord takes it: `{"title": …, "fields": [{"id", "label", "paragraph"?, "required"?,
/// "placeholder"?}]}` of the configuration, or Discord's own `components` as they are.
fn modal(bot: &Discord, command: &str) -> Option<Value> {
    let named = bot.config.commands.iter().find(|known| known.get("name").and_then(Value::as_str) == Some(command))?;
    let modal = named.get("modal")?.as_object()?;
    let title = modal.get("title").and_then(Value::as_str).unwrap_or(command);
    let components = match modal.get("components") {
        Some(components) => components.clone(),
        None => modal.get("fields").and_then(Value::as_array).into_iter().flatten().map(field).collect(),
    };
    Some(json!({"custom_id": modal_of_command(command), "title": title, "components": components}))
}

fn field(field: &Value) -> Value {
    let flag = |name: &str| field.get(name).and_then(Value::as_bool);
    let mut input = json!({
        "type": 4,
        "custom_id": field.get("id").cloned().unwrap_or_else(|| json!("field")),
        "label": field.get("label").or(field.get("id")).cloned().unwrap_or_else(|| json!("…")),
        "style": if flag("paragraph") == Some(true) { 2 } else { 1 },
        "required": flag("required").unwrap_or(true),
    });
    if let Some(words) = field.get("placeholder") {
        input["placeholder"] = words.clone();
    }
    json!({"type": 1, "components": [input]})
}
