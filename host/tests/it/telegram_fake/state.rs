//! What the server knows: one bot, its updates, chats, messages and files. Plain data behind one lock.

use super::Fault;
use super::hook::Hook;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A call, as it came and as it was answered.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// `sendMessage`.
    pub method: String,
    /// Its parameters, of JSON, a form or a query alike; a file stands for itself as `"(a file)"`.
    pub params: Value,
    /// The files that came along.
    pub files: Vec<Uploaded>,
    /// The HTTP status of the answer; 0 when the connection was cut.
    pub status: u16,
    /// The answer.
    pub answer: Value,
}

/// A file that came along with a call.
#[derive(Clone, Debug)]
pub struct Uploaded {
    /// The form's field.
    pub field: String,
    /// The file's name.
    pub file_name: String,
    /// What the form says that it is.
    pub mime_type: String,
    /// All of it.
    pub bytes: Vec<u8>,
}

/// A refusal of the Bot API.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub code: u16,
    pub description: String,
    pub parameters: Option<Value>,
}

impl Refusal {
    pub fn new(code: u16, description: impl Into<String>) -> Self {
        Self { code, description: description.into(), parameters: None }
    }

    pub fn bad(what: &str) -> Self {
        Self::new(400, format!("Bad Request: {what}"))
    }
}

/// A file that can be downloaded.
#[derive(Clone, Debug)]
pub struct StoredFile {
    pub id: String,
    pub path: String,
    pub name: String,
    pub mime_type: String,
    pub bytes: Vec<u8>,
}

/// Everything.
#[derive(Debug)]
pub struct State {
    /// The bot.
    pub me: Value,
    /// Empty when it was revoked.
    pub token: String,
    pub webhook: Option<Hook>,
    /// How often each update comes to the webhook.
    pub deliver_times: u32,
    /// Whether the webhook is called with a secret that was not agreed.
    pub wrong_secret: bool,
    /// What no poll has confirmed.
    pub pending: VecDeque<Value>,
    /// The kinds that the last poll asked for; Telegram's default when it did not say.
    pub allowed: Option<Vec<String>>,
    /// Counts polls: only the newest one goes on.
    pub polls: u64,
    pub chats: BTreeMap<i64, Value>,
    pub messages: BTreeMap<(i64, i64), Value>,
    pub reactions: BTreeMap<(i64, i64), Value>,
    /// Touched buttons that wait for an answer.
    pub callbacks: BTreeSet<String>,
    /// Groups that are supergroups now.
    pub moved: BTreeMap<i64, i64>,
    pub blocked: BTreeSet<i64>,
    /// What the members of a group may do, where not all of them may do everything.
    pub permissions: BTreeMap<i64, Value>,
    /// What the bot is in a chat, where it is no ordinary member.
    pub membership: BTreeMap<i64, Value>,
    pub files: BTreeMap<String, StoredFile>,
    pub faults: Vec<(String, u32, Fault)>,
    pub record: Vec<Recorded>,
    pub violations: Vec<String>,
    /// Seconds since 1970; moves with every message.
    clock: i64,
    next_update: i64,
    next_message: i64,
    next_thing: u64,
}

impl State {
    pub fn new(token: &str) -> Self {
        let me = json!({"id": 600_100, "is_bot": true, "first_name": "Omni", "username": "omni_test_bot",
            "can_join_groups": true, "can_read_all_group_messages": true, "supports_inline_queries": false});
        Self {
            me,
            token: token.to_owned(),
            webhook: None,
            deliver_times: 1,
            wrong_secret: false,
            pending: VecDeque::new(),
            allowed: None,
            polls: 0,
            chats: BTreeMap::new(),
            messages: BTreeMap::new(),
            reactions: BTreeMap::new(),
            callbacks: BTreeSet::new(),
            moved: BTreeMap::new(),
            blocked: BTreeSet::new(),
            permissions: BTreeMap::new(),
            membership: BTreeMap::new(),
            files: BTreeMap::new(),
            faults: Vec::new(),
            record: Vec::new(),
            violations: Vec::new(),
            clock: 1_767_225_600,
            next_update: 731_004_001,
            next_message: 1,
            next_thing: 1,
        }
    }

    /// A second later.
    pub fn tick(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    pub fn message_id(&mut self) -> i64 {
        self.next_message += 1;
        self.next_message - 1
    }

    /// Some id that was not there before.
    pub fn fresh(&mut self, prefix: &str) -> String {
        self.next_thing += 1;
        format!("{prefix}{:08}", self.next_thing - 1)
    }

    /// Puts an update where polls find it, and gives its number.
    pub fn push(&mut self, kind: &str, body: Value) -> (i64, Value) {
        let number = self.next_update;
        self.next_update += 1;
        let update = json!({"update_id": number, kind: body});
        self.pending.push_back(update.clone());
        (number, update)
    }

    /// Takes note of the kinds of update that are asked for.
    pub fn allow(&mut self, params: &Value) {
        if let Some(kinds) = params.get("allowed_updates").and_then(Value::as_array) {
            self.allowed = Some(kinds.iter().filter_map(|kind| kind.as_str().map(str::to_owned)).collect());
        }
    }

    /// Makes a chat known to the bot.
    pub fn know(&mut self, chat: &Value) -> i64 {
        let id = chat["id"].as_i64().expect("a chat has a number");
        self.chats.insert(id, chat.clone());
        id
    }

    pub fn store_file(&mut self, folder: &str, uploaded: &Uploaded) -> StoredFile {
        let id = self.fresh(&format!("FAKE{folder}"));
        let extension = uploaded.file_name.rsplit_once('.').map_or("bin", |(_, extension)| extension);
        let file = StoredFile {
            path: format!("{folder}/{id}.{extension}"),
            name: uploaded.file_name.clone(),
            mime_type: uploaded.mime_type.clone(),
            bytes: uploaded.bytes.clone(),
            id: id.clone(),
        };
        self.files.insert(id, file.clone());
        file
    }

    /// The next fault of a method, if it has one.
    pub fn fault(&mut self, method: &str) -> Option<Fault> {
        let at = self.faults.iter().position(|(of, times, _)| *times > 0 && (of == method || of == "*"))?;
        let (_, times, fault) = &mut self.faults[at];
        *times -= 1;
        Some(fault.clone())
    }
}
