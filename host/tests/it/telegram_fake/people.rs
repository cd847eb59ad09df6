//! People, their chats, and what happens in them: each thing that a test makes happen is pushed as an update.

use super::TelegramFake;
use super::state::{State, Uploaded};
use serde_json::{Value, json};

/// Somebody on Telegram.
#[derive(Clone, Debug)]
pub struct Person {
    /// Their number; the number of their private chat, too.
    pub id: i64,
    /// Their first name.
    pub name: String,
}

impl Person {
    /// Somebody.
    pub fn new(id: i64, name: &str) -> Self {
        Self { id, name: name.to_owned() }
    }

    fn json(&self) -> Value {
        json!({"id": self.id, "is_bot": false, "first_name": self.name, "language_code": "en"})
    }
}

/// The private chat with somebody.
pub fn private(person: &Person) -> Value {
    json!({"id": person.id, "type": "private", "first_name": person.name})
}

/// A small group; its number is negative.
pub fn group(id: i64, title: &str) -> Value {
    json!({"id": id, "type": "group", "title": title})
}

/// A large group; its number begins with -100.
pub fn supergroup(id: i64, title: &str) -> Value {
    json!({"id": id, "type": "supergroup", "title": title})
}

impl TelegramFake {
    /// Pushes any update, as Telegram would write it, and gives its number.
    pub fn push(&self, kind: &str, body: Value) -> i64 {
        let (number, update) = self.shared.lock().push(kind, body);
        if let Some(spec) = &self.shared.spec {
            let wrong = spec.object("Update", &update);
            self.shared.lock().violations.extend(wrong.into_iter().map(|wrong| format!("a pushed update: {wrong}")));
        }
        self.shared.news.notify_waiters();
        number
    }

    /// Pushes an update that is not by the book, unjudged: any JSON, with a number of its own or none.
    pub fn push_odd(&self, update: Value) {
        self.shared.lock().pending.push_back(update);
        self.shared.news.notify_waiters();
    }

    /// Makes a chat known, so that the bot can write there.
    pub fn know(&self, chat: &Value) {
        self.shared.lock().know(chat);
    }

    /// Somebody writes something. `content` holds the fields that make it what it is, `{"text": "hi"}`. Gives the
    /// message's number.
    pub fn say(&self, chat: &Value, from: &Person, content: Value) -> i64 {
        let message = self.message(chat, from, content);
        self.push("message", message.clone());
        number(&message, "message_id")
    }

    /// The same as a message of a certain number, as a chat has that counts anew.
    pub fn say_as(&self, number: i64, chat: &Value, from: &Person, content: Value) {
        let date = self.shared.lock().tick();
        let mut message = json!({"message_id": number, "from": from.json(), "chat": chat, "date": date});
        merge(&mut message, content);
        self.push("message", message);
    }

    fn message(&self, chat: &Value, from: &Person, content: Value) -> Value {
        let mut state = self.shared.lock();
        let mut message = json!({"message_id": state.message_id(), "from": from.json(), "chat": chat,
            "date": state.tick()});
        merge(&mut message, content);
        let chat = state.know(chat);
        state.messages.insert((chat, number(&message, "message_id")), message.clone());
        message
    }

    /// Somebody writes words.
    pub fn text(&self, chat: &Value, from: &Person, text: &str) -> i64 {
        self.say(chat, from, json!({"text": text}))
    }

    /// Somebody sends a picture, which can be downloaded.
    pub fn photo(&self, chat: &Value, from: &Person, bytes: &[u8], caption: Option<&str>) -> i64 {
        let photo = self.picture(bytes);
        let mut content = json!({"photo": photo});
        if let Some(caption) = caption {
            content["caption"] = caption.into();
        }
        self.say(chat, from, content)
    }

    fn picture(&self, bytes: &[u8]) -> Value {
        let file = stored(&mut self.shared.lock(), "photos", "picture.jpg", "image/jpeg", bytes);
        let size = |width: u32| {
            json!({"file_id": file, "file_unique_id": format!("u{file}"), "width": width,
            "height": width, "file_size": bytes.len()})
        };
        json!([size(640)])
    }

    /// Somebody sends a file, which can be downloaded.
    pub fn document(&self, chat: &Value, from: &Person, file_name: &str, mime_type: &str, bytes: &[u8]) -> i64 {
        let file = stored(&mut self.shared.lock(), "documents", file_name, mime_type, bytes);
        let document = json!({"file_id": file, "file_unique_id": format!("u{file}"), "file_name": file_name,
            "mime_type": mime_type, "file_size": bytes.len()});
        self.say(chat, from, json!({"document": document}))
    }

    /// Somebody sends several pictures as an album.
    pub fn album(&self, chat: &Value, from: &Person, pictures: &[&[u8]]) -> Vec<i64> {
        let album = self.shared.lock().fresh("139");
        let one = |bytes: &&[u8]| self.say(chat, from, json!({"media_group_id": album, "photo": self.picture(bytes)}));
        pictures.iter().map(one).collect()
    }

    /// Somebody changes a message of theirs. `content` holds the fields that change.
    pub fn edit(&self, chat: &Value, message: i64, content: Value) {
        let edited = {
            let mut state = self.shared.lock();
            let now = state.tick();
            let key = (number(chat, "id"), message);
            let edited = state.messages.get_mut(&key).expect("the message is there");
            merge(edited, content);
            edited["edit_date"] = now.into();
            edited.clone()
        };
        self.push("edited_message", edited);
    }

    /// Somebody's reactions to a message change from some emoji to others.
    pub fn react(&self, chat: &Value, message: i64, from: &Person, old: &[&str], new: &[&str]) {
        let list =
            |emojis: &[&str]| emojis.iter().map(|one| json!({"type": "emoji", "emoji": one})).collect::<Vec<_>>();
        let date = self.shared.lock().tick();
        let update = json!({"chat": chat, "message_id": message, "user": from.json(), "date": date,
            "old_reaction": list(old), "new_reaction": list(new)});
        self.push("message_reaction", update);
    }

    /// Somebody touches a button below a message of the bot's. Gives the id that the answer has to name.
    pub fn touch(&self, chat: &Value, message: i64, from: &Person, data: &str) -> String {
        let (id, below) = {
            let mut state = self.shared.lock();
            let id = state.fresh("4382");
            state.callbacks.insert(id.clone());
            (id, state.messages.get(&(number(chat, "id"), message)).cloned())
        };
        let below = below.unwrap_or_else(|| json!({"chat": chat, "message_id": message, "date": 0}));
        let update = json!({"id": id, "from": from.json(), "message": below, "chat_instance": "-882", "data": data});
        self.push("callback_query", update);
        id
    }

    /// The bot's own membership changes (`member`, `left`).
    pub fn membership(&self, chat: &Value, by: &Person, old: &str, new: &str) {
        let update = {
            let mut state = self.shared.lock();
            state.know(chat);
            let member = |status: &str| json!({"status": status, "user": state.me});
            let (old, new) = (member(old), member(new));
            json!({"chat": chat, "from": by.json(), "date": state.tick(), "old_chat_member": old, "new_chat_member": new})
        };
        self.push("my_chat_member", update);
    }

    /// A group becomes a supergroup, and no update says so: only what is sent to the old number is refused with the new one.
    pub fn upgrade_in_silence(&self, old: &Value, new: &Value) {
        let mut state = self.shared.lock();
        state.know(new);
        state.moved.insert(number(old, "id"), number(new, "id"));
    }

    /// A group becomes a supergroup: both sides say so, and what is sent to the old number is refused with the new one.
    pub fn upgrade(&self, old: &Value, new: &Value, by: &Person) {
        self.say(old, by, json!({"migrate_to_chat_id": number(new, "id")}));
        self.say(new, by, json!({"migrate_from_chat_id": number(old, "id")}));
        self.shared.lock().moved.insert(number(old, "id"), number(new, "id"));
    }
}

fn stored(state: &mut State, folder: &str, file_name: &str, mime_type: &str, bytes: &[u8]) -> String {
    let uploaded = Uploaded {
        field: String::new(),
        file_name: file_name.to_owned(),
        mime_type: mime_type.to_owned(),
        bytes: bytes.to_vec(),
    };
    state.store_file(folder, &uploaded).id
}

fn number(object: &Value, name: &str) -> i64 {
    object[name].as_i64().expect("it has this number")
}

/// Sets the fields of `into` that `from` has.
pub fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}
