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

/// What became of one change of a webhook.
#[derive(Debug, Default)]
pub struct Converted {
    /// In the order in which Meta told them.
    pub events: Vec<Event>,
    /// Which of our sends are known to have happened: our own id, Meta's.
    pub sent: Vec<Told>,
    /// The newest message of each chat that somebody else wrote.
    pub heard: Vec<(ChatId, MessageId)>,
    /// What an operator should know of.
    pub warnings: Vec<String>,
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
    let Ok(update) = serde_json::from_value::<Update>(value.clone()) else {
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
                message::take(&scene, raw, None, &mut converted);
            }
            for raw in update.message_echoes {
                message::take_echo(&scene, raw, &mut converted);
            }
            for raw in update.statuses {
                status::take(&scene, raw, &mut converted);
            }
        }
        "history" => {
            for thread in update.history.into_iter().flat_map(|chunk| chunk.threads) {
                let mut within = Converted::default();
                for raw in thread.messages {
                    message::take(&scene, raw, thread.id.as_ref(), &mut within);
                }
                for event in &mut within.events {
                    event.origin = Some(EventOrigin::History);
                }
                converted.events.append(&mut within.events);
            }
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
            let said: String = value.to_string().chars().take(1_000).collect();
            converted.warnings.push(format!("Meta says of the account ({field}): {said}"));
        }
        _ => converted.events.push(unknown(field, value, now)),
    }
    for error in update.errors {
        let refusal = crate::client::Refusal::read(&error, 0);
        converted
            .warnings
            .push(format!("Meta says that something went wrong: {} (code {})", refusal.message, refusal.code));
    }
    converted
}

/// What is the same for everything in one change.
struct Scene<'a> {
    me: &'a Me,
    contacts: &'a [crate::api::ContactEntry],
    now: i64,
}

/// What we cannot read, kept.
fn unknown(kind: &str, value: Value, now: i64) -> Event {
    let kind: String =
        kind.chars().filter(|letter| letter.is_ascii_alphanumeric() || *letter == '_').take(60).collect();
    let fields = match &value {
        Value::Object(fields) => fields.clone(),
        _ => Map::new(),
    };
    let fields = fields.into_iter().filter(|(name, _)| name != "type").collect();
    Event {
        delivery_key: None,
        at: now,
        chat: None,
        body: EventBody::Unknown(Unknown { kind: format!("whatsapp-cloud.{kind}"), fields }),
        origin: None,
        raw: Some(value).filter(|value| !value.is_null()),
    }
}
