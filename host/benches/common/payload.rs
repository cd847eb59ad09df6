//! What a network would say: messages of some chats.

use omni_channel_sdk::chat::{Chat, ChatKind, User};
use omni_channel_sdk::content::Content;
use omni_channel_sdk::event::{Event, Message};

const CHATS: usize = 256;

/// A message as a Telegram-like channel hands it over.
pub fn payload(n: usize) -> Vec<u8> {
    let chat = n % CHATS;
    let text = format!("Message number {n}: the quick brown fox jumps over the lazy dog, and then over the next one.");
    let user = User {
        username: Some(format!("user_{chat}")),
        ..User::new(chat.to_string()).named(format!("Somebody {chat}"))
    };
    let mut event = Event::new(
        Chat::new(format!("-100{chat}"), ChatKind::Group).named(format!("Group {chat}")),
        1_767_225_600_000 + n as i64,
        Message::new(n.to_string(), user, Content::text(&text)),
    )
    .delivered_as(format!("update-{n}"));
    event.raw = Some(serde_json::json!({
        "update_id": n,
        "message": {
            "message_id": n, "date": 1_767_225_600 + n / 1000, "text": text,
            "from": { "id": chat, "is_bot": false, "first_name": "Somebody", "username": format!("user_{chat}"), "language_code": "en" },
            "chat": { "id": -100 - chat as i64, "title": format!("Group {chat}"), "type": "supergroup" },
            "entities": (0..6).map(|at| serde_json::json!({ "offset": at * 4, "length": 3, "type": "bold" })).collect::<Vec<_>>(),
            "link_preview_options": { "is_disabled": true, "url": "https://example.org/a/rather/long/address" },
        }
    }));
    serde_json::to_vec(&event).expect("an event is JSON")
}
