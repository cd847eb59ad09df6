//! What became of messages: delivered, read, played, failed. Delivery only goes forward.
//!
//! A receipt that says "everything up to then" is kept as a mark of its chat, so that it holds for a message that comes
//! later and was written before; and so is what we have read ourselves on another device, by which unread messages are
//! counted. So the order in which a network delivers does not matter, but for what is not said by anybody's clock: of two
//! things of the same time the one that comes first was first. And a send that the network reports as failed after it
//! said that everything up to a later time was read stays read: no network is known that says both.

use super::early::Said;
use super::edit;
use super::work::{Scene, Work};
use crate::store::events::NewDomainEvent;
use crate::store::messages::MessageRow;
use crate::store::{Result, Time, Tx, messages};
use omni_channel_sdk::event::{Receipt, ReceiptKind, SendUpdate};
use serde_json::{Value, json};
use std::borrow::Cow;
use uuid::Uuid;

/// How far a delivery has come. A failed one may still turn out to have arrived.
fn rank(status: Option<&str>) -> u8 {
    match status {
        Some("sent") => 2,
        Some("delivered") => 3,
        Some("read") => 4,
        _ => 1,
    }
}

/// The status that a receipt confirms; a kind that is not known at least means that it arrived.
fn status(kind: &ReceiptKind) -> &'static str {
    match kind {
        ReceiptKind::Read | ReceiptKind::Played => "read",
        ReceiptKind::Delivered | ReceiptKind::Other(_) => "delivered",
    }
}

/// Moves a delivery forward. `false` when it is as far already, or the message is not ours.
pub(super) fn put(row: &mut MessageRow, status: &str) -> bool {
    let news = row.is_from_me && rank(row.delivery_status.as_deref()) < rank(Some(status));
    if news {
        row.delivery_status = Some(status.to_owned());
    }
    news
}

/// Notes how the sending of a message ended. `false` when that changes nothing.
pub(super) fn put_end(row: &mut MessageRow, update: &SendUpdate) -> bool {
    let before = (row.delivery_status.clone(), row.error.clone());
    match &update.error {
        // What was delivered did not fail.
        Some(error) if rank(row.delivery_status.as_deref()) < 3 => {
            row.delivery_status = Some("failed".to_owned());
            row.error = Some(error.message.clone());
        }
        Some(_) => {}
        None if rank(row.delivery_status.as_deref()) < 2 => {
            row.delivery_status = Some("sent".to_owned());
            row.error = None;
        }
        None => {}
    }
    before != (row.delivery_status.clone(), row.error.clone())
}

/// The name and the payload of the domain event that tells of a delivery.
pub(super) fn told(
    scene: Scene<'_>,
    external_id: Option<&str>,
    message: Uuid,
    status: &str,
    at: Time,
    from: Option<&str>,
) -> (&'static str, Value) {
    let (name, field) =
        if status == "read" { ("message.read", "readAt") } else { ("message.delivered", "deliveredAt") };
    let payload = json!({
        "externalId": external_id,
        "chatId": scene.event.chat.as_ref().map(|chat| &chat.id),
        field: at.millis(),
        "messageId": message,
        "from": from,
    });
    (name, payload)
}

impl<'a> Work<'a> {
    pub(super) async fn receipt(&mut self, tx: &mut Tx, scene: Scene<'a>, receipt: &'a Receipt) -> Result<()> {
        let Some(chat) = scene.chat else { return Ok(()) };
        let status = status(&receipt.kind);
        if receipt.sender.as_ref().is_some_and(|sender| sender.is_from_me) {
            // We read it ourselves, on another device.
            if status == "read" {
                let work = &mut self.chats[chat];
                work.touched = true;
                work.change.read_by_us(receipt.up_to.map_or(scene.at, Time::from_millis));
            }
            return Ok(());
        }
        let chat_id = self.chats[chat].change.id;
        let mut moved: Vec<(Uuid, Option<String>)> = Vec::new();
        for target in &receipt.targets {
            let found = self.find_message(chat_id, target);
            // Whose message it is decides whether it can be delivered.
            let Some(index) = found.filter(|index| !edit::is_nobodys_yet(&self.messages[*index].row)) else {
                let from = receipt.sender.as_ref().map(|sender| sender.user.id.as_str().to_owned());
                self.wait(
                    chat,
                    Said::Receipt { target: target.clone(), status: status.to_owned(), from },
                    None,
                    scene.at,
                );
                continue;
            };
            let work = &mut self.messages[index];
            if put(&mut work.row, status) {
                work.row.latest_event_id = Some(scene.entry.event_id);
                work.changed = true;
                moved.push((work.row.id, work.row.external_id.clone()));
            }
        }
        if let Some(up_to) = receipt.up_to.map(Time::from_millis) {
            let work = &mut self.chats[chat];
            work.touched = true;
            work.marks.move_on(status, up_to);
            work.change.marks = work.marks;
        }
        if let Some(up_to) = receipt.up_to.filter(|_| self.chats[chat].new.is_none()) {
            // The segment is this event alone, so nothing in memory is newer than the rows.
            let rows = messages::deliver_up_to(tx, chat_id, Time::from_millis(up_to), status, self.now).await?;
            for (id, external_id) in rows {
                if let Some(work) = self.messages.iter_mut().find(|work| work.row.id == id) {
                    work.row.delivery_status = Some(status.to_owned());
                }
                moved.push((id, external_id));
            }
        }
        let mut first = true;
        for (id, external_id) in moved {
            let from = receipt.sender.as_ref().map(|sender| sender.user.id.as_str());
            let (name, payload) = told(scene, external_id.as_deref(), id, status, scene.at, from);
            let event = self.domain_event(scene, name, payload.to_string());
            let mut event = self.signed(event, receipt.sender.as_ref());
            event.external_id = external_id.map(Cow::Owned);
            event.message_id = Some(id);
            self.push_event(tx, event, &mut first);
        }
        Ok(())
    }

    /// What was said of everything up to a time holds for a message that comes later and was written before. Gives back
    /// the domain event that tells of it.
    pub(super) fn marked(
        &mut self,
        tx: &Tx,
        scene: Scene<'a>,
        chat: usize,
        row: &mut MessageRow,
        written: Time,
    ) -> Option<NewDomainEvent<'a>> {
        let (status, mark) = self.chats[chat].marks.status_of(written)?;
        // As when the message was there first: one that failed, or has not gone out, was not among them.
        let is_out = matches!(row.delivery_status.as_deref(), Some("sent" | "delivered"));
        if !is_out || !put(row, status) {
            return None;
        }
        // When that was said is not kept, only what it was said of.
        let (name, payload) = told(scene, row.external_id.as_deref(), row.id, status, mark, None);
        Some(self.event_about(tx, scene, row, name, payload))
    }

    pub(super) fn send_update(&mut self, scene: Scene<'a>, update: &'a SendUpdate) {
        let Some(chat) = scene.chat else { return };
        let index = self.find_message(self.chats[chat].change.id, &update.target);
        if let Some(work) = index.map(|index| &mut self.messages[index]) {
            if !put_end(&mut work.row, update) {
                return;
            }
            work.row.latest_event_id = Some(scene.entry.event_id);
            work.changed = true;
        } else {
            self.wait(chat, Said::Ended { update: update.clone() }, None, scene.at);
        }
        let message_id = index.map(|index| self.messages[index].row.id);
        let chat_key = scene.event.chat.as_ref().map(|chat| &chat.id);
        let (name, payload) = match &update.error {
            Some(error) => (
                "message.failed",
                json!({
                    "externalId": update.target.id, "chatId": chat_key, "error": error.message,
                    "errorCode": error.code.as_str(), "retryable": error.next.as_str() == "retry",
                    "messageId": message_id,
                }),
            ),
            None => (
                "message.sent",
                json!({
                    "externalId": update.target.id, "chatId": chat_key, "to": chat_key, "messageId": message_id,
                }),
            ),
        };
        let mut event = self.domain_event(scene, name, payload.to_string());
        event.external_id = Some(Cow::Borrowed(update.target.id.as_str()));
        event.message_id = message_id;
        event.direction = "outbound";
        self.events.push(event);
    }
}
