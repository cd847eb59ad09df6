//! Interactions that wait for an answer.
//!
//! Discord wants to hear something within three seconds. So as soon as an interaction is stored it is told that the answer
//! comes later (`first_word`); for a quarter of an hour then everything that is sent as an answer to it, and the first that is
//! sent to its chat, goes out as its answer. The token for that is kept, so an answer finds its way over a restart.

pub mod first_word;

use crate::api;
use crate::client::Call;
use crate::config::Config;
use crate::convert::interaction::kind;
use omni_channel_sdk::prelude::*;
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long an interaction can be answered, in milliseconds: a little less than Discord's quarter of an hour.
const GOOD_FOR_MS: i64 = 14 * 60_000;
/// How far Discord's clock may be from the host's, in milliseconds.
const CLOCKS_APART_MS: i64 = 60_000;
/// Sweeps are at least so far apart, in milliseconds.
const SWEEPS_APART_MS: i64 = 60_000;
/// Interactions that are remembered at the same time; the oldest goes first.
const AT_MOST: usize = 10_000;
/// A message's flag: for one person only.
const EPHEMERAL: u64 = 1 << 6;
const PREFIX: &str = "interaction/";
/// The timer by which those are forgotten that are too old; one for all of them.
pub const SWEEP: &str = "sweep";

/// An interaction, as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// By which it is answered.
    pub token: String,
    /// The application's id, which stands in the address of an answer.
    pub application: String,
    /// Where it happened.
    pub channel: String,
    /// When it happened, milliseconds since 1970.
    pub at: i64,
    /// What sort it is, by Discord's numbers.
    pub kind: u8,
    /// The command's name, or the one whose form it is.
    #[serde(default)]
    pub command: Option<String>,
    /// Whether the waiting sign was replaced by an answer, or taken away.
    #[serde(default)]
    pub answered: bool,
    /// Whether only the person who gave the command sees the waiting sign, and so what replaces it.
    #[serde(default)]
    pub ephemeral: bool,
}

impl Pending {
    /// Whether Discord shows that an answer is on its way, which the first answer replaces.
    fn shows_waiting(&self) -> bool {
        self.kind == kind::COMMAND || self.kind == kind::MODAL && self.command.is_some()
    }

    /// The call that answers it.
    pub fn answer(&self, mut body: Value) -> Call {
        if !self.shows_waiting() || self.answered {
            return Call::new("POST", format!("{}?wait=true", self.base()), body).by_token();
        }
        // Who sees what is there already nobody can change.
        let flags = body.get("flags").and_then(Value::as_u64).map(|flags| flags & !EPHEMERAL);
        if let (Some(flags), Some(fields)) = (flags, body.as_object_mut()) {
            fields.insert("flags".into(), flags.into());
        }
        Call::new("PATCH", self.original(), body).by_token()
    }

    /// The call that has to be made before an answer which only one person is to see: it takes the waiting sign away, which
    /// all see. What replaces that all see, too, and so is what is sent while it stands: Discord takes it for what replaces
    /// it, whatever the message says. After that it counts as answered ([`Interactions::answered`]).
    pub fn take_sign_away(&self, body: &serde_json::Map<String, Value>) -> Option<Call> {
        let flags = body.get("flags").and_then(Value::as_u64).unwrap_or(0);
        let is_in_the_way = self.shows_waiting() && !self.answered && !self.ephemeral;
        (is_in_the_way && flags & EPHEMERAL != 0).then(|| Call::new("DELETE", self.original(), Value::Null).by_token())
    }

    fn base(&self) -> String {
        format!("/webhooks/{}/{}", self.application, self.token)
    }

    fn original(&self) -> String {
        format!("{}/messages/@original", self.base())
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
    /// When the next sweep is due, as far as a timer was set.
    sweep_at: i64,
}

impl Waiting {
    fn put(&mut self, id: &str, pending: Pending) {
        self.by_time.insert((pending.at, id.to_owned()));
        self.all.insert(id.to_owned(), pending);
    }

    fn take(&mut self, id: &str) -> Option<Pending> {
        let gone = self.all.remove(id)?;
        self.by_time.remove(&(gone.at, id.to_owned()));
        Some(gone)
    }

    /// Has the sweep come when the oldest is too old, unless it comes anyway.
    fn plan_sweep(&mut self, ctx: &Context) {
        let Some((oldest, _)) = self.by_time.first() else { return };
        if ctx.now() < self.sweep_at {
            return;
        }
        let wait = (oldest + GOOD_FOR_MS - ctx.now()).max(SWEEPS_APART_MS);
        self.sweep_at = ctx.now() + wait;
        ctx.set_timer(SWEEP, wait.unsigned_abs());
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
                _ => break,
            }
        }
        all.waiting().plan_sweep(ctx);
        Ok(all)
    }

    /// An interaction came: it is kept, and gets its first word once it is stored.
    pub fn arrived(&self, ctx: &Context, config: &Config, interaction: &api::Interaction) {
        let data = interaction.data.as_ref();
        let command = match interaction.kind {
            kind::COMMAND | kind::AUTOCOMPLETE => data.and_then(|data| data.name.clone()),
            _ => data.and_then(|data| command_of_modal(data.custom_id.as_deref()?)).map(str::to_owned),
        };
        let pending = Pending {
            token: interaction.token.clone(),
            application: interaction.application_id.clone(),
            channel: interaction.channel_id.clone().unwrap_or_default(),
            // What comes late, as after a pause of the gateway, has less time left.
            at: api::time_of(&interaction.id).unwrap_or(i64::MAX).min(ctx.now()),
            kind: interaction.kind,
            ephemeral: command.as_deref().is_some_and(|name| is_ephemeral(config, name)),
            command,
            answered: false,
        };
        let mut waiting = self.waiting();
        // Of proposals nothing is left once they were made.
        let is_for_later = interaction.kind != kind::AUTOCOMPLETE;
        if is_for_later {
            keep(ctx, &interaction.id, &pending);
        }
        waiting.put(&interaction.id, pending);
        while waiting.all.len() > AT_MOST
            && let Some((_, oldest)) = waiting.by_time.pop_first()
        {
            waiting.all.remove(&oldest);
            ctx.delete(key(&oldest));
        }
        if is_for_later {
            waiting.plan_sweep(ctx);
        }
        ctx.set_timer(format!("answer/{}", interaction.id), 0);
    }

    /// One that has had no first word, perhaps. Whether it is too late Discord knows best.
    fn unheard(&self, id: &str) -> Option<Pending> {
        self.waiting().all.get(id).cloned()
    }

    /// Discord took the first word, which it only does within seconds: where the clocks say otherwise they are apart.
    fn heard(&self, ctx: &Context, id: &str) {
        let mut waiting = self.waiting();
        if let Some(mut pending) = waiting.take(id) {
            if pending.at < ctx.now() - CLOCKS_APART_MS {
                pending.at = ctx.now();
                keep(ctx, id, &pending);
            }
            waiting.put(id, pending);
        }
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

    /// Forgets those that are too old.
    pub fn sweep(&self, ctx: &Context) {
        let mut waiting = self.waiting();
        while let Some((_, oldest)) = waiting.by_time.first().filter(|(at, _)| at + GOOD_FOR_MS <= ctx.now()).cloned() {
            waiting.take(&oldest);
            ctx.delete(key(&oldest));
        }
        waiting.sweep_at = 0;
        waiting.plan_sweep(ctx);
    }
}

fn is_ephemeral(config: &Config, command: &str) -> bool {
    let named = config.commands.iter().find(|known| known.get("name").and_then(Value::as_str) == Some(command));
    named.is_some_and(|command| command.get("ephemeral") == Some(&json!(true)))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(ephemeral: bool, answered: bool, kind: u8) -> Pending {
        let (token, application, channel) = ("t".to_owned(), "2".to_owned(), "101".to_owned());
        Pending { token, application, channel, at: 0, kind, command: None, answered, ephemeral }
    }

    fn calls(pending: &Pending, flags: u64) -> Vec<String> {
        let body = serde_json::Map::from_iter([("flags".to_owned(), json!(flags))]);
        let first = pending.take_sign_away(&body);
        let then = Pending { answered: pending.answered || first.is_some(), ..pending.clone() };
        let calls = first.into_iter().chain([then.answer(Value::Object(body))]);
        calls.map(|call| format!("{} {} {}", call.method, call.path, call.body["flags"])).collect()
    }

    #[test]
    fn what_one_person_is_to_see_takes_no_place_that_all_see() {
        let replaced = "PATCH /webhooks/2/t/messages/@original 0";
        let taken_away = "DELETE /webhooks/2/t/messages/@original null";
        let below = "POST /webhooks/2/t?wait=true 64";
        assert_eq!(calls(&pending(false, false, kind::COMMAND), 0), [replaced]);
        assert_eq!(calls(&pending(false, false, kind::COMMAND), EPHEMERAL), [taken_away, below]);
        assert_eq!(calls(&pending(false, true, kind::COMMAND), EPHEMERAL), [below]);
        assert_eq!(calls(&pending(true, false, kind::COMMAND), EPHEMERAL), [replaced]);
        assert_eq!(calls(&pending(true, false, kind::COMMAND), 0), [replaced]);
        assert_eq!(calls(&pending(false, false, kind::COMPONENT), EPHEMERAL), [below], "there is no sign");
    }
}
