//! Every stanza that came or went, in order, so that a test can look for one, or wait until it is there.

use crate::stanza::{self, Node};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::watch;

/// One line.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// Counts from 1.
    pub number: u64,
    /// `received` by the server, `sent` by it, `swallowed` by a phone that only exists, or a `note`.
    pub what: &'static str,
    /// Which connection; 0 for none.
    pub connection: u64,
    /// Whose, once it is logged in: `PHONE:DEVICE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub who: Option<String>,
    /// To be read, or what the note says.
    pub xml: String,
    /// To be taken apart.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub stanza: Value,
}

/// All lines.
pub struct Log {
    entries: Vec<Entry>,
    last: watch::Sender<u64>,
}

impl Log {
    /// Empty.
    pub fn new() -> Self {
        Self { entries: Vec::new(), last: watch::Sender::new(0) }
    }

    /// Adds a stanza.
    pub fn stanza(&mut self, what: &'static str, connection: u64, who: Option<String>, node: &Node) {
        self.add(what, connection, who, stanza::to_xml(node), stanza::to_json(node));
    }

    /// Adds a line about something that is not a stanza.
    pub fn note(&mut self, connection: u64, text: impl Into<String>) {
        self.add("note", connection, None, text.into(), Value::Null);
    }

    fn add(&mut self, what: &'static str, connection: u64, who: Option<String>, xml: String, stanza: Value) {
        let number = self.entries.len() as u64 + 1;
        self.entries.push(Entry { number, what, connection, who, xml, stanza });
        self.last.send_replace(number);
    }

    /// The lines after this one.
    pub fn after(&self, number: u64) -> &[Entry] {
        let start = usize::try_from(number).unwrap_or(usize::MAX).min(self.entries.len());
        &self.entries[start..]
    }

    /// Changes with every line.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}
