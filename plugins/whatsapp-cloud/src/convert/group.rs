//! Groups of the number's, and their members.

use super::people::Party;
use super::{Converted, Scene, unknown};
use crate::api::{self, millis};
use crate::client::Refusal;
use omni_channel_sdk::event::{ChatUpdate, Membership, MembershipChange};
use omni_channel_sdk::prelude::*;

/// Takes what happened to one group.
pub(super) fn take(scene: &Scene<'_>, raw: Value, converted: &mut Converted) {
    let Ok(group) = api::Group::deserialize(&raw) else {
        converted.events.push(unknown("group", raw, scene.now));
        return;
    };
    // What failed comes under the same name as what was done.
    if let Some(error) = group.errors.first() {
        let refusal = Refusal::read(error, 0);
        let what = format!("{} of a group failed: {} (code {})", group.r#type, refusal.message, refusal.code);
        converted.warnings.push(what);
        converted.events.push(unknown("group_failure", raw, scene.now));
        return;
    }
    let changed = |words: &Option<api::GroupWords>| {
        let done = words.as_ref().filter(|words| words.update_successful != Some(false));
        done.and_then(|words| words.text.clone())
    };
    let mut chat = Chat::new(group.group_id.as_str(), ChatKind::Group);
    chat.name = group.subject.clone().or_else(|| changed(&group.group_subject));
    chat.description = group.description.clone().or_else(|| changed(&group.group_description));
    let members = |people: &[api::Participant], change: MembershipChange| {
        let of = |one: &api::Participant| {
            Party::find(scene, one.wa_id.as_ref(), one.user_id.as_ref()).map(|one| one.account())
        };
        let users: Vec<User> = people.iter().filter_map(of).collect();
        (!users.is_empty()).then(|| Membership { users, change, by: None, role: None, is_me: false }.into())
    };
    let body: Option<EventBody> = match group.r#type.as_str() {
        "group_create" | "group_settings_update" => Some(ChatUpdate::default().into()),
        "group_delete" => Some(ChatUpdate { deleted: true, ..ChatUpdate::default() }.into()),
        "group_add_participants" | "group_participants_add" => {
            members(&group.added_participants, MembershipChange::Joined)
        }
        "group_remove_participants" | "group_participants_remove" => {
            members(&group.removed_participants, MembershipChange::Removed)
        }
        _ => None,
    };
    let Some(body) = body else {
        converted.events.push(unknown("group", raw, scene.now));
        return;
    };
    let at = millis(group.timestamp.as_ref()).unwrap_or(scene.now);
    let key = group.request_id.as_ref().map(|request| DeliveryKey::new(format!("{request}/{}", group.r#type)));
    converted.events.push(Event { delivery_key: key, at, chat: Some(chat), body, origin: None, raw: Some(raw) });
}
