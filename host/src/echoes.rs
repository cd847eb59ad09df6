//! Our own messages that come back before we know their id.
//!
//! A channel whose network makes the ids (`clientId: none`) learns a message's id from the answer to the send, and its
//! echo may come in before that answer is written. So what such a channel brings in of our own, in a chat with a send
//! under way, waits for the send to be settled; then the echo is recognised by its id like any other.
//!
//! A send whose answer never comes is under way until its network was asked about it. Where that cannot tell, its echo is
//! known by what is in it.
//!
//! Deliberately not here: what an echo does to a message. That is `store::apply`.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use uuid::Uuid;

/// The chats with sends under way whose id is not known yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Echoes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Instance → chat → sends.
    under_way: Mutex<HashMap<Uuid, HashMap<String, usize>>>,
    settled: Notify,
}

/// A send is under way until this is dropped.
#[derive(Debug)]
pub struct UnderWay {
    echoes: Echoes,
    instance: Uuid,
    chat: String,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        {
            let mut all = self.echoes.lock();
            if let Some(chats) = all.get_mut(&self.instance) {
                if let Some(count) = chats.get_mut(&self.chat) {
                    *count -= 1;
                    if *count == 0 {
                        chats.remove(&self.chat);
                    }
                }
                if chats.is_empty() {
                    all.remove(&self.instance);
                }
            }
        }
        self.echoes.0.settled.notify_waiters();
    }
}

/// As much of an event as says whether it is an echo.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow)]
    chat: Option<GlanceChat<'a>>,
    body: GlanceBody,
}

#[derive(Deserialize)]
struct GlanceChat<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct GlanceBody {
    #[serde(rename = "type")]
    kind: String,
    sender: Option<GlanceSender>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GlanceSender {
    #[serde(default)]
    is_from_me: bool,
}

/// The chat of an event that is a message of our own.
fn own_message(event: &RawValue) -> Option<String> {
    // What cannot be read is refused at the door of the bus, with its reason.
    let glance: Glance<'_> = serde_json::from_str(event.get()).ok()?;
    let own = glance.body.kind == "message" && glance.body.sender?.is_from_me;
    glance.chat.filter(|_| own).map(|chat| chat.id.into_owned())
}

impl Echoes {
    /// A send has begun whose id only its answer tells.
    pub fn begin(&self, instance: Uuid, chat: &str) -> UnderWay {
        *self.lock().entry(instance).or_default().entry(chat.to_owned()).or_default() += 1;
        UnderWay { echoes: self.clone(), instance, chat: chat.to_owned() }
    }

    /// Returns when no send is under way in a chat that one of the events is an echo of. At once for nearly everything.
    pub async fn settled(&self, instance: Uuid, events: &[Box<RawValue>]) {
        if !self.lock().contains_key(&instance) {
            return;
        }
        let chats: Vec<String> = events.iter().filter_map(|event| own_message(event)).collect();
        loop {
            let mut settled = std::pin::pin!(self.0.settled.notified());
            // Heard of from here on, so that none is missed between the look and the wait.
            settled.as_mut().enable();
            let waits = self.lock().get(&instance).is_some_and(|all| chats.iter().any(|chat| all.contains_key(chat)));
            if !waits {
                return;
            }
            settled.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, HashMap<String, usize>>> {
        self.0.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use omni_channel_sdk::chat::{Chat, ChatKind, Sender, User};
    use omni_channel_sdk::content::Content;
    use omni_channel_sdk::event::{Event, Message};
    use std::task::Poll;

    fn said(chat: &str, own: bool) -> Vec<Box<RawValue>> {
        let sender = Sender { user: User::new("somebody"), is_from_me: own, on_behalf_of: None };
        let message = Message::new("1", sender, Content::text("hi"));
        let event = Event::new(Chat::new(chat, ChatKind::Direct), 0, message);
        vec![serde_json::value::to_raw_value(&event).expect("plain JSON")]
    }

    #[tokio::test]
    async fn an_echo_waits_for_the_sends_of_its_chat_and_nothing_else_does() {
        let (echoes, one, other) = (Echoes::default(), Uuid::from_u128(1), Uuid::from_u128(2));
        let first = echoes.begin(one, "c");
        let second = echoes.begin(one, "c");
        for (instance, events) in [(one, said("c", false)), (one, said("d", true)), (other, said("c", true))] {
            echoes.settled(instance, &events).await;
        }
        let events = said("c", true);
        let mut waiting = std::pin::pin!(echoes.settled(one, &events));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(first);
        assert!(futures_util::poll!(&mut waiting).is_pending(), "one send is still under way");
        drop(second);
        assert_eq!(futures_util::poll!(&mut waiting), Poll::Ready(()));
        assert!(echoes.lock().is_empty(), "nothing is kept of what is settled");
    }
}
