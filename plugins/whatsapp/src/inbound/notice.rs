//! Everything that comes in and is no message: receipts, who writes and who is there, groups, calls, contacts, and what was done
//! on the phone.

use super::{Inbound, Out};
use omni_channel_sdk::event::{
    Activity, Call, ChatUpdate, Delete, Membership, MembershipChange, Presence, PresenceState, Receipt, ReceiptKind,
    Typing, UserUpdate,
};
use omni_channel_sdk::prelude::*;
use wacore::stanza::groups::{GroupNotificationAction as Action, GroupParticipantInfo};
use wacore::types::call::{CallAction, IncomingCall};
use wacore::types::events as wa_events;
use wacore::types::presence::{ChatPresence, ChatPresenceMedia, ReceiptType};
use wacore_binary::Jid;
use whatsapp_rust::types::events::Event as Told;

/// How long WhatsApp shows that somebody writes.
const TYPING_MS: u64 = 25_000;

impl Inbound {
    /// Adds what one of the library's events comes to. `now` is for what has no time of its own.
    pub async fn notice(&self, told: &Told, now: i64, out: &mut Out) {
        match told {
            Told::Receipt(receipt) => self.receipt(receipt, out).await,
            Told::ChatPresence(told) => {
                let activity = match (told.state, told.media) {
                    (ChatPresence::Paused, _) => Activity::Paused,
                    (ChatPresence::Composing, ChatPresenceMedia::Audio) => Activity::Recording,
                    (ChatPresence::Composing, ChatPresenceMedia::Text) => Activity::Typing,
                };
                let (chat, sender) = self.who(&told.source, now, out).await;
                out.events.push(Event::new(chat, now, Typing { sender, activity, timeout_ms: Some(TYPING_MS) }));
            }
            Told::Presence(told) => {
                let user = self.party(&told.from, None, now, out).await.user();
                let state = if told.unavailable { PresenceState::Offline } else { PresenceState::Online };
                let last_seen = told.last_seen.map(|at| at.timestamp_millis());
                let presence = Presence { user, state, last_seen };
                out.events.push(Event { chat: None, ..Event::new(nowhere(), now, presence) });
            }
            Told::GroupUpdate(update) => self.group(update, out).await,
            Told::IncomingCall(call) => self.call(call, out).await,
            Told::MissedCall(call) => {
                let sender = self.party(&call.from, None, now, out).await.user();
                self.called(sender, &call.call_id, "missed", false, call.timestamp.timestamp_millis(), out);
            }
            Told::PushNameUpdate(told) => {
                let mut user = self.party(&told.jid, None, now, out).await.user();
                user.name = Some(told.new_push_name.clone());
                out.events.push(Event { chat: None, ..Event::new(nowhere(), now, UserUpdate { user }) });
            }
            Told::ContactUpdate(told) => self.contact(told, out).await,
            Told::DeleteMessageForMeUpdate(told) if !told.from_full_sync => {
                let at = told.timestamp.timestamp_millis();
                let chat = self.chat(&told.chat_jid, None, at, out).await;
                let delete = Delete { targets: vec![told.message_id.as_str().into()], sender: None, only_for_me: true };
                out.events.push(Event::new(chat, at, delete));
            }
            _ => {}
        }
    }

    async fn receipt(&self, told: &wa_events::Receipt, out: &mut Out) {
        if !self.is_wanted(&told.source.chat) {
            return;
        }
        let (kind, mine) = match told.r#type {
            ReceiptType::Delivered => (ReceiptKind::Delivered, false),
            ReceiptType::Read => (ReceiptKind::Read, false),
            ReceiptType::Played => (ReceiptKind::Played, false),
            // Read on the phone: it is the account that has read.
            ReceiptType::ReadSelf => (ReceiptKind::Read, true),
            ReceiptType::PlayedSelf => (ReceiptKind::Played, true),
            _ => return,
        };
        let at = told.timestamp.timestamp_millis();
        let (chat, mut sender) = self.who(&told.source, at, out).await;
        sender.is_from_me |= mine;
        let targets = told.message_ids.iter().map(|id| id.as_str().into()).collect();
        out.events.push(Event::new(chat, at, Receipt { kind, targets, up_to: None, sender: Some(sender) }));
    }

    async fn group(&self, update: &wa_events::GroupUpdate, out: &mut Out) {
        let at = update.timestamp.timestamp_millis();
        let mut chat = self.chat(&update.group_jid, None, at, out).await;
        let key = update.notification_id.as_ref().map(|id| format!("{}/{id}/{}", chat.id, update.action_index));
        let by = match &update.participant {
            Some(by) => Some(Sender::from(self.party(by, update.participant_pn.as_ref(), at, out).await.user())),
            None => None,
        };
        let members = match &update.action {
            Action::Add { participants, reason } => {
                let change = if reason.as_deref() == Some("invite") {
                    MembershipChange::Joined
                } else {
                    MembershipChange::Added
                };
                Some((participants, change, None))
            }
            Action::Remove { participants, .. } => {
                let alone = participants.first().filter(|_| participants.len() == 1);
                let left =
                    alone.is_some_and(|one| update.participant.as_ref().is_some_and(|by| by.is_same_chat_as(&one.jid)));
                Some((participants, if left { MembershipChange::Left } else { MembershipChange::Removed }, None))
            }
            Action::Promote { participants } => Some((participants, MembershipChange::Promoted, Some("admin"))),
            Action::Demote { participants } => Some((participants, MembershipChange::Demoted, Some("member"))),
            Action::CreatedMembershipRequests { requests, .. } => Some((requests, MembershipChange::Requested, None)),
            Action::Subject { subject, .. } => {
                chat.name = Some(subject.clone());
                None
            }
            Action::Description { description, .. } => {
                chat.description = Some(description.clone().unwrap_or_default());
                None
            }
            Action::Create { .. } | Action::Delete { .. } => None,
            // Settings that the SDK has no words for.
            _ => return,
        };
        let body: EventBody = match members {
            Some((participants, change, role)) => {
                let mut users = Vec::with_capacity(participants.len());
                for one in participants {
                    users.push(self.member(one, at, out).await);
                }
                Membership { users, change, by, role: role.map(str::to_owned), is_me: false }.into()
            }
            None => {
                ChatUpdate { deleted: matches!(update.action, Action::Delete { .. }), ..ChatUpdate::default() }.into()
            }
        };
        let event = Event::new(chat, at, body);
        out.events.push(match key {
            Some(key) => event.delivered_as(key),
            None => event,
        });
    }

    async fn member(&self, told: &GroupParticipantInfo, at: i64, out: &mut Out) -> User {
        let other = told.phone_number.as_ref().or(told.lid.as_ref());
        let mut user = self.party(&told.jid, other, at, out).await.user();
        user.name.clone_from(&told.display_name);
        user
    }

    async fn call(&self, call: &IncomingCall, out: &mut Out) {
        let at = call.timestamp.timestamp_millis();
        let (id, creator, other, state, video) = match &call.action {
            CallAction::Offer { call_id, call_creator, caller_pn, is_video, .. } => {
                (call_id, call_creator, caller_pn.as_ref(), "ringing", *is_video)
            }
            CallAction::Terminate { call_id, call_creator, .. } => (call_id, call_creator, None, "ended", false),
            CallAction::Reject { call_id, call_creator, .. } => (call_id, call_creator, None, "rejected", false),
            CallAction::Accept { call_id, call_creator, .. } => (call_id, call_creator, None, "accepted", false),
            _ => return,
        };
        let mut sender = self.party(creator, other, at, out).await.user();
        sender.name.clone_from(&call.notify);
        self.called(sender, id, state, video, at, out);
    }

    fn called(&self, sender: User, id: &str, state: &str, video: bool, at: i64, out: &mut Out) {
        let call = Call { id: id.into(), sender: sender.into(), state: state.into(), video };
        let event = Event { chat: None, ..Event::new(nowhere(), at, call) };
        out.events.push(event.delivered_as(format!("call/{id}/{state}")));
    }

    async fn contact(&self, told: &wa_events::ContactUpdate, out: &mut Out) {
        let at = told.timestamp.timestamp_millis();
        let other = [&told.action.pn_jid, &told.action.lid_jid];
        let other = other.into_iter().flatten().find_map(|jid| jid.parse::<Jid>().ok().filter(|jid| *jid != told.jid));
        let mut user = self.party(&told.jid, other.as_ref(), at, out).await.user();
        user.name = told.action.full_name.clone().or_else(|| told.action.first_name.clone());
        user.username.clone_from(&told.action.username);
        out.events.push(Event { chat: None, ..Event::new(nowhere(), at, UserUpdate { user }) });
    }
}

/// For an event that belongs to no chat: [`Event::new`] wants one, which is taken away again.
fn nowhere() -> Chat {
    Chat::new("", ChatKind::Direct)
}
