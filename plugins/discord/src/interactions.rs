//! Interactions that wait for an answer.
//!
//! Discord wants to hear something within three seconds. So as soon as an interaction is stored it is told that the answer
//! comes later (or is shown the form that its command has in the configuration); for a quarter of an hour then everything
//! that is sent as an answer to it, and the first that is sent to its chat, goes out as its answer. The token for that is
//! kept, so an answer finds its way over a restart.

use crate::Discord;
use crate::api;
use crate::client::{ApiError, Call, Refusal};
use crate::convert::interaction::kind;
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long an interaction can be answered, in milliseconds: a little less than Discord's quarter of an hour.
const GOOD_FOR_MS: i64 = 14 * 60_000;
/// How long the first word may take, in milliseconds. Discord listens for three seconds from when it happened.
const FIRST_WORD_MS: u64 = 2_500;
/// Interactions that are remembered at the same time; the oldest goes first.
const AT_MOST: usize = 10_000;
const PREFIX: &str = "interaction/";

/// An interaction, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// By which it is answered.
    pub token: String,
    /// The application's id, which stands in the address of an answer.
    pub application: String,
    /// Where it happened.
    pub channel: String,
    /// When it came, milliseconds since 1970.
    pub at: i64,
    /// What sort it is, by Discord's numbers.
    pub kind: u8,
    /// The command's name, or the one whose form it is.
    #[serde(default)]
    pub command: Option<String>,
    /// Whether the waiting sign was replaced by an answer.
    #[serde(default)]
    pub answered: bool,
}

impl Pending {
    /// Whether Discord shows that an answer is on its way, which the first answer replaces.
    fn shows_waiting(&self) -> bool {
        self.kind == kind::COMMAND || self.kind == kind::MODAL && self.command.is_some()
    }

    /// The call that answers it.
    pub fn answer(&self, body: Value) -> Call {
        let base = format!("/webhooks/{}/{}", self.application, self.token);
        if self.shows_waiting() && !self.answered {
            Call::new("PATCH", format!("{base}/messages/@original"), body).by_token()
        } else {
            Call::new("POST", format!("{base}?wait=true"), body).by_token()
        }
    }
}

/// Those that wait.
#[derive(Debug, Default)]
pub struct Interactions(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    all: HashMap<String, Pending>,
    /// When → which, to forget the oldest first.
    by_time: BTreeSet<(i64, String)>,
}

impl Waiting {
    fn put(&mut self, id: &str, pending: Pending) {
        self.by_time.insert((pending.at, id.to_owned()));
        self.all.insert(id.to_owned(), pending);
    }

    fn take(&mut self, id: &str) {
        if let Some(gone) = self.all.remove(id) {
            self.by_time.remove(&(gone.at, id.to_owned()));
        }
    }
}

impl Interactions {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes up what was kept, and forgets what is too old.
    pub async fn load(ctx: &Context) -> Result<Self, HostError> {
        let all = Self::default();
        let mut after = None;
        loop {
            let page = ctx.scan(PREFIX, after.as_deref(), 1_000).await?;
            for (key, kept) in &page {
                let id = key.strip_prefix(PREFIX).unwrap_or_default();
                match serde_json::from_slice::<Pending>(kept) {
                    Ok(pending) if ctx.now() < pending.at + GOOD_FOR_MS => all.waiting().put(id, pending),
                    _ => ctx.delete(key.as_str()),
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == 1_000 => after = Some(last.clone()),
                _ => return Ok(all),
            }
        }
    }

    /// An interaction came: it is kept, and gets its first word once it is stored.
    pub fn arrived(&self, ctx: &Context, interaction: &api::Interaction) {
        let data = interaction.data.as_ref();
        let command = match interaction.kind {
            kind::COMMAND | kind::AUTOCOMPLETE => data.and_then(|data| data.name.clone()),
            _ => data.and_then(|data| command_of_modal(data.custom_id.as_deref()?)).map(str::to_owned),
        };
        let pending = Pending {
            token: interaction.token.clone(),
            application: interaction.application_id.clone(),
            channel: interaction.channel_id.clone().unwrap_or_default(),
            at: ctx.now(),
            kind: interaction.kind,
            command,
            answered: false,
        };
        if interaction.kind != kind::AUTOCOMPLETE {
            keep(ctx, &interaction.id, &pending);
        }
        let mut waiting = self.waiting();
        waiting.put(&interaction.id, pending);
        while waiting.all.len() > AT_MOST
            && let Some((_, oldest)) = waiting.by_time.pop_first()
        {
            waiting.all.remove(&oldest);
            ctx.delete(key(&oldest));
        }
        ctx.set_timer(format!("answer/{}", interaction.id), 0);
        ctx.set_timer(format!("forget/{}", interaction.id), GOOD_FOR_MS.unsigned_abs());
    }

    /// One that can still be answered.
    pub fn get(&self, id: &str, now: i64) -> Option<Pending> {
        self.waiting().all.get(id).filter(|pending| now < pending.at + GOOD_FOR_MS).cloned()
    }

    /// The oldest of a chat for whose answer people wait.
    pub fn waiting_in(&self, channel: &str, now: i64) -> Option<String> {
        let waiting = self.waiting();
        let open = |pending: &&Pending| {
            pending.channel == channel && pending.shows_waiting() && !pending.answered && now < pending.at + GOOD_FOR_MS
        };
        let oldest =
            waiting.all.iter().filter(|(_, pending)| open(pending)).min_by_key(|(id, pending)| (pending.at, *id));
        oldest.map(|(id, _)| id.clone())
    }

    /// The waiting sign was replaced.
    pub fn answered(&self, ctx: &Context, id: &str) {
        let mut waiting = self.waiting();
        if let Some(pending) = waiting.all.get_mut(id).filter(|pending| !pending.answered) {
            pending.answered = true;
            keep(ctx, id, pending);
        }
    }

    /// It can no longer be answered.
    pub fn forget(&self, ctx: &Context, id: &str) {
        self.waiting().take(id);
        ctx.delete(key(id));
    }
}

fn key(id: &str) -> String {
    format!("{PREFIX}{id}")
}

fn keep(ctx: &Context, id: &str, pending: &Pending) {
    if let Ok(kept) = serde_json::to_vec(pending) {
        ctx.set(key(id), kept);
    }
}

/// The `custom_id` of the form that a command shows.
pub fn modal_of_command(name: &str) -> String {
    format!("omni:command:{name}")
}

/// The command whose form it is.
pub fn command_of_modal(custom_id: &str) -> Option<&str> {
    custom_id.strip_prefix("omni:command:")
}

/// Says the first word to an interaction.
pub async fn first_word(ctx: &Context, bot: &Discord, id: &str) {
    let Some(pending) = bot.interactions.get(id, ctx.now()) else { return };
    let body = match pending.kind {
        kind::AUTOCOMPLETE => json!({"type": 8, "data": {"choices": []}}),
        kind::COMMAND => match modal(bot, pending.command.as_deref().unwrap_or_default()) {
            Some(modal) => json!({"type": 9, "data": modal}),
            None => json!({"type": 5}),
        },
        _ if pending.shows_waiting() => json!({"type": 5}),
        _ => json!({"type": 6}),
    };
    let shows_form = body.get("type") == Some(&json!(9));
    let path = format!("/interactions/{id}/{}/callback", pending.token);
    let told = bot.client.ask(ctx, &Call::new("POST", path, body).by_token().within_ms(FIRST_WORD_MS)).await;
    match told {
        Ok(_) => {}
        // It was told before: by us, when this is a replay, or by another program of the same bot.
        Err(ApiError::Refused(Refusal { code: 40_060, .. })) => {}
        Err(error) => {
            let why = SendError::from(error).message;
            ctx.log(LogLevel::Warn, format!("an interaction could not be answered in time: {why}"));
            bot.interactions.forget(ctx, id);
            return;
        }
    }
    if pending.kind == kind::AUTOCOMPLETE || shows_form {
        // The form that is filled in is an interaction of its own.
        bot.interactions.forget(ctx, id);
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
