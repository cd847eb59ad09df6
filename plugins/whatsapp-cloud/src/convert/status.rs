//! What became of a message of ours. Meta tells it later, more than once, and in any order.

use super::people::Party;
use super::{Converted, Scene, unknown};
use crate::api::{self, millis};
use crate::client::Refusal;
use crate::errors;
use omni_channel_sdk::event::{Receipt, ReceiptKind, SendUpdate};
use omni_channel_sdk::prelude::*;

/// A send of ours that Meta has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Our own id.
    pub client: String,
    /// Meta's.
    pub message: MessageId,
    /// The chat that it is in, by Meta's id.
    pub chat: ChatId,
    /// When, milliseconds since 1970.
    pub at: i64,
}

/// Takes what is said of one message.
pub(super) fn take(scene: &Scene<'_>, raw: Value, converted: &mut Converted) {
    let Ok(status) = api::Status::deserialize(&raw) else {
        converted.events.push(unknown("status", raw, scene.now));
        return;
    };
    let of_group = status.group_id.as_ref().or_else(|| {
        let is_group = status.recipient_type.as_deref() == Some("group");
        status.recipient_id.as_ref().filter(|_| is_group)
    });
    let reader = match of_group {
        Some(_) => Party::find(scene, status.recipient_participant_id.as_ref(), status.recipient_user_id.as_ref()),
        None => Party::find(scene, status.recipient_id.as_ref(), status.recipient_user_id.as_ref()),
    };
    let chat = match (of_group, &reader) {
        (Some(group), _) => Chat::new(group.as_str(), ChatKind::Group),
        (None, Some(reader)) => reader.chat(),
        (None, None) => {
            converted.events.push(unknown("status", raw, scene.now));
            return;
        }
    };
    let at = millis(status.timestamp.as_ref()).unwrap_or(scene.now);
    let message = MessageId::new(status.id.as_str());
    // One that failed was taken all the same: how it ended is told by the event.
    if let Some(client) = status.biz_opaque_callback_data {
        converted.sent.push(Told { client, message: message.clone(), chat: chat.id.clone(), at });
    }
    let receipt = |kind: ReceiptKind| {
        let sender = reader.as_ref().map(|reader| Sender::from(reader.account()));
        EventBody::from(Receipt { kind, targets: vec![message.clone().into()], up_to: None, sender })
    };
    let body = match status.status.as_str() {
        "sent" => SendUpdate { target: message.clone().into(), error: None }.into(),
        "delivered" => receipt(ReceiptKind::Delivered),
        "read" => receipt(ReceiptKind::Read),
        "played" => receipt(ReceiptKind::Played),
        "failed" => {
            let refusal = match status.errors.first() {
                Some(error) => Refusal::read(error, 0),
                None => Refusal { code: -1, message: "no reason given".into(), ..Refusal::default() },
            };
            let error = Some(errors::refused(&refusal));
            SendUpdate { target: message.clone().into(), error }.into()
        }
        _ => {
            converted.events.push(unknown("status", raw, scene.now));
            return;
        }
    };
    let who =
        if of_group.is_some() { reader.map(|reader| reader.account().id.0).unwrap_or_default() } else { String::new() };
    let key = format!("{message}/{}{who}", status.status);
    converted.events.push(Event {
        delivery_key: Some(DeliveryKey::new(key)),
        at,
        chat: Some(chat),
        body,
        origin: None,
        raw: Some(raw),
    });
}
