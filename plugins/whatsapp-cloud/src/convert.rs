//! Meta's words → the host's, pure: what one webhook brings, as events.
//!
//! ```text
//! people    accounts and chats, and the ids that we give them
//! content   what a message is made of
//! message   messages, and what is done with them
//! status    what became of ours
//! group     groups and their members
//! ```

mod content;
mod group;
mod message;
pub mod people;
mod status;

pub use status::Told;

use crate::api::Update;
use omni_channel_sdk::Unknown;
use omni_channel_sdk::event::EventOrigin;
use omni_channel_sdk::lenient::nests_deeper;
use omni_channel_sdk::prelude::*;
use serde_json::Map;

/// How deep a change may nest to be read and kept whole. Meta's nest some ten levels.
const DEEPEST: usize = 32;
/// The most that is kept of one message in Meta's own words, in bytes.
pub const MAX_RAW: usize = 512 * 1024;

/// What became of one change of a webhook.
#[derive(Debug, Default)]
pub struct Converted {
    /// In the order in which Meta told them.
    pub events: Vec<Event>,
    /// Which of our sends are known to have happened: our own id, Meta's.
    pub sent: Vec<Told>,
    /// What somebody else wrote just now, and where.
    pub heard: Vec<(Chat, MessageId)>,
    /// What an operator should know of.
    pub warnings: Vec<String>,
}

impl Converted {
    /// Keeps no more of one message in Meta's own words than the host takes: Meta would repeat the whole call.
    pub fn leave_out_what_is_too_large(&mut self, field: &str) {
        for event in &mut self.events {
            if event.raw.as_ref().is_some_and(|raw| raw.to_string().len() > MAX_RAW) {
                event.raw = None;
                let what = format!(
                    "what Meta said in its own words ({field}) is larger than {MAX_RAW} bytes, and is not kept"
                );
                self.warnings.push(what);
            }
        }
    }
}

/// The number that a webhook came for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Me {
    /// Meta's id of it.
    pub id: String,
    /// Its digits, where they are known.
    pub digits: Option<String>,
}

impl Me {
    fn sender(&self) -> Sender {
        let mut user = User::new(self.id.as_str());
        user.phone = self.digits.as_ref().map(|digits| format!("+{digits}"));
        Sender { user, is_from_me: true, on_behalf_of: None }
    }
}

/// What one change says. Never fails: what we cannot read is an event of an unknown kind, whole. `now` (milliseconds) is the
/// time of what Meta gives no time for.
pub fn change(field: &str, value: Value, me: &Me, now: i64) -> Converted {
    let mut converted = Converted::default();
    if nests_deeper(&value, DEEPEST) {
        converted.events.push(unknown(field, Value::Null, now));
        return converted;
    }
    let Ok(update) = Update::deserialize(&value) else {
        converted.events.push(unknown(field, value, now));
        return converted;
    };
    let theirs = update.metadata.as_ref().and_then(|metadata| metadata.phone_number_id.as_deref());
    if theirs.is_some_and(|id| id != me.id) {
        let what = format!(
            "a webhook for the phone number ID {} came here, where {} is: nothing of it was taken; give that number an \
             instance of its own",
            theirs.unwrap_or_default(),
            me.id
        );
        converted.warnings.push(what);
        return converted;
    }
    let scene = Scene { me, contacts: &update.contacts, now };
    match field {
        "messages" | "smb_message_echoes" => {
            for raw in update.messages {
                message::take(&scene, raw, message::Arrival::Now, &mut converted);
            }
            for raw in update.message_echoes {
                message::take_echo(&scene, raw, &mut converted);
            }
            for raw in update.statuses {
                status::take(&scene, raw, &mut converted);
            }
        }
        "history" => {
            let mut within = Converted::default();
            for chunk in update.history {
                for thread in chunk.threads {
                    for raw in thread.messages {
                        message::take(&scene, raw, message::Arrival::History(thread.id.as_ref()), &mut within);
                    }
                }
                within.warnings.extend(chunk.errors.iter().map(went_wrong));
            }
            // The files of history come later, each as the whole of a message that was there without.
            for raw in update.messages {
                message::take(&scene, raw, message::Arrival::HistoryFile, &mut within);
            }
            for event in &mut within.events {
                event.origin = Some(EventOrigin::History);
            }
            converted.events.append(&mut within.events);
            converted.warnings.append(&mut within.warnings);
        }
        "group_lifecycle_update"
        | "group_settings_update"
        | "group_participants_update"
        | "group_participant_update" => {
            for raw in update.groups {
                group::take(&scene, raw, &mut converted);
            }
        }
        "account_update"
        | "account_alerts"
        | "account_review_update"
        | "business_capability_update"
        | "phone_number_quality_update"
        | "phone_number_name_update"
        | "message_template_status_update"
        | "message_template_quality_update"
        | "template_category_update"
        | "security" => {
            // Only the words that say what it is: the rest has phone numbers in it.
            let words = ["event", "decision", "current_limit", "reason", "message_template_name", "new_quality_score"];
            let said = words.iter().filter_map(|name| Some(format!("{name} {}", value.get(name)?.as_str()?)));
            let said: Vec<_> = said.collect();
            converted.warnings.push(format!("Meta says of the account ({field}): {}", said.join(", ")));
        }
        _ => converted.events.push(unknown(field, value, now)),
    }
    converted.warnings.extend(update.errors.iter().map(went_wrong));
    converted
}

/// What is the same for everything in one change.
struct Scene<'a> {
    me: &'a Me,
    contacts: &'a [crate::api::ContactEntry],
    now: i64,
}

/// What Meta could not do, in words.
fn went_wrong(error: &Value) -> String {
    let refusal = crate::client::Refusal::read(error, 0);
    format!("Meta says that something went wrong: {} (code {})", refusal.message, refusal.code)
}

/// What we cannot read, kept in Meta's own words.
fn unknown(kind: &str, value: Value, now: i64) -> Event {
    let kind: String =
        kind.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').take(60).collect();
    Event {
        delivery_key: None,
        at: now,
        chat: None,
        body: EventBody::Unknown(Unknown { kind: format!("whatsapp-cloud.{kind}"), fields: Map::new() }),
        origin: None,
        raw: Some(value).filter(|value| !value.is_null()),
    }
}
