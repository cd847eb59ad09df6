//! What a job asks for, and how far it is: the JSON in its row, with Omni v2's names where it has them.

use crate::store::sync_jobs::{Place, SyncJobRow};
use crate::store::{StoreError, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// How many chats that failed are named; the others are counted.
const NAMED: usize = 20;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = SyncConfig)]
pub struct Wanted {
    /// How far back, as it was said: `7d`, `30d`, `90d`, `1y` or `all`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub depth: Option<String>,
    /// The network's id of the only chat.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chat_id: Option<String>,
    /// Nothing that was written before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
    /// Nothing that was written after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// When the channel said that it had missed something.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub missed_at: Option<Time>,
    /// Where the channel said that it had missed something, and nowhere else.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(ignore)]
    pub places: Vec<Place>,
}

/// The same with where it is looked for, which is settled when the job begins: what comes meanwhile must not move it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    #[serde(flatten)]
    pub wanted: Wanted,
    #[serde(default)]
    pub plan: Vec<Place>,
}

/// How far it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = SyncProgress)]
pub struct Progress {
    /// Events that the network gave.
    pub fetched: u64,
    /// Those of them that were not known.
    pub stored: u64,
    /// Those that were.
    pub duplicates: u64,
    /// Those that lie outside of the time that was asked for.
    pub skipped: u64,
    /// Those that could not be taken.
    pub refused: u64,
    /// Answers of the network.
    pub pages: u64,
    /// In how many chats it is looked.
    pub chats: u64,
    /// How many of them are done.
    pub chats_done: u64,
    /// In how many of them the network refused to go on.
    pub chats_failed: u64,
    /// In how many of them there was more than one job fetches of a chat.
    pub chats_cut: u64,
    /// The first chats that failed.
    pub failures: Vec<Failure>,
    /// Where in the chat at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
}

/// Where a job is in a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = SyncPosition)]
pub struct Position {
    /// The network's id of the chat.
    pub chat: String,
    /// Where its last page ended, in the channel's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
    /// Events of it.
    pub fetched: u64,
    /// How often the page at hand has failed.
    pub tries: u32,
}

/// A chat in which the network refused to go on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SyncFailure)]
pub struct Failure {
    /// The network's id of the chat.
    pub chat_id: String,
    /// What went wrong, in a word.
    pub code: String,
    /// And in a sentence.
    pub message: String,
}

impl Progress {
    /// Goes to the next chat.
    pub(super) fn next_chat(&mut self) {
        self.chats_done += 1;
        self.position = None;
    }

    /// The same, because the network refuses this one.
    pub(super) fn refused_chat(&mut self, failure: Failure) {
        self.chats_failed += 1;
        if self.failures.len() < NAMED {
            self.failures.push(failure);
        }
        self.next_chat();
    }
}

/// Reads the JSON of a row.
pub(super) fn read<T: DeserializeOwned>(row: &SyncJobRow, column: &'static str, json: &Value) -> Result<T, StoreError> {
    T::deserialize(json).map_err(|error| StoreError::Inconsistent {
        table: "sync_jobs",
        column,
        id: row.id.to_string(),
        reason: error.to_string(),
    })
}

/// And writes it.
pub(super) fn write(value: &impl Serialize) -> Value {
    serde_json::to_value(value).expect("it is plain JSON")
}
