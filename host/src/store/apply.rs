//! What an accepted event does to the store: identity, chat, message, domain event, in one transaction a batch.
//!
//! A batch is cut into segments; of each, everything that its events name is loaded with a few statements, the events
//! are folded over it in memory, in order, and what changed is written back with a few more. So a chat with a hundred
//! new messages is updated once. Only what touches rows that nobody named (two chats become one, "everything up to here
//! was read") makes a segment of its own.
//!
//! Deliberately not here: the transaction, the position and what is done when it fails. That is the consumer's.

mod before;
mod cache;
mod chat;
pub(super) mod content;
mod early;
mod edit;
mod message;
mod people;
pub(super) mod reaction;
mod receipt;
mod work;

use super::entry::Entry;
use super::{Result, Time, Tx, on};
use cache::Cache;
use omni_channel_sdk::event::{Event, EventBody};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;
use work::Work;

/// Applies batches. Remembers the ids of what it met lately, so that most events need no look-up.
#[derive(Debug, Default)]
pub struct Apply {
    cache: Cache,
    /// How often persons had been moved when the cache was filled.
    people_moved: i64,
}

impl Apply {
    /// Applies entries in order. Events of an instance that is no longer there are passed over: it was deleted with
    /// everything that was its. An entry that cannot be read is an error; the caller takes those out before.
    ///
    /// After this the transaction is committed and [`Self::committed`] called, or [`Self::abandoned`] is.
    pub async fn batch(&mut self, tx: &mut Tx, entries: &[Arc<Entry>], now: Time) -> Result<()> {
        // What was learned ahead and then done again here is learned again here.
        self.cache.unlearn();
        let people_moved = tx.people_moved().await?;
        if people_moved != self.people_moved {
            self.people_moved = people_moved;
            self.cache = Cache::default();
        }
        let instances = instances(tx).await?;
        let known: Vec<(&Entry, &Event)> = entries
            .iter()
            .filter(|entry| instances.contains_key(&entry.instance_id))
            .filter_map(|entry| Some((&**entry, &entry.body.parsed.as_ref().ok()?.event)))
            .collect();
        if known.len() < entries.len() {
            tracing::info!(events = entries.len() - known.len(), "passed over events of instances that were deleted");
        }
        let mut rest = known.as_slice();
        while !rest.is_empty() {
            let segment = match rest.iter().position(|(entry, event)| self.stands_alone(entry, event)) {
                Some(0) => {
                    chat::join(tx, &mut self.cache, rest[0].0, rest[0].1, &instances, now).await?;
                    &rest[..1]
                }
                Some(place) => &rest[..place],
                None => rest,
            };
            let copies = before::copies(tx, &mut self.cache, segment).await?;
            let told: Vec<(&Entry, &Event)> = (segment.iter().zip(&copies))
                .map(|((entry, event), copy)| (*entry, copy.as_ref().unwrap_or(event)))
                .collect();
            let as_told = if copies.is_empty() { segment } else { &told };
            Work::new(&instances, now).apply(tx, &mut self.cache, as_told).await?;
            rest = &rest[segment.len()..];
        }
        Ok(())
    }

    /// As [`Self::batch`], in a snapshot that notes down what is to be written. Says `false` when that cannot be known
    /// before it is written: an event of the batch touches rows that it does not name.
    pub async fn ahead(&mut self, tx: &mut Tx, entries: &[Arc<Entry>], now: Time) -> Result<bool> {
        let mut events = entries.iter().filter_map(|entry| Some((entry, &entry.body.parsed.as_ref().ok()?.event)));
        if events.any(|(entry, event)| self.stands_alone(entry, event)) {
            return Ok(false);
        }
        self.batch(tx, entries, now).await?;
        Ok(true)
    }

    /// What the last batch learned is true now.
    pub fn committed(&mut self) {
        self.cache.commit();
    }

    /// The last batch did not happen. Everything remembered is forgotten, since it may be what was wrong.
    pub fn abandoned(&mut self) {
        self.cache = Cache::default();
    }

    /// Whether an event touches rows that it does not name.
    fn stands_alone(&self, entry: &Entry, event: &Event) -> bool {
        match &event.body {
            EventBody::Receipt(receipt) if receipt.up_to.is_some() => return true,
            EventBody::ChatUpdate(update) if update.moved_to.is_some() || update.moved_from.is_some() => return true,
            _ => {}
        }
        let Some(chat) = &event.chat else { return false };
        chat.also_known_as.as_ref().is_some_and(|alias| {
            let one = self.cache.chat(entry.instance_id, chat.id.as_str());
            let other = self.cache.chat(entry.instance_id, alias.as_str());
            one.is_none() || one.map(|found| found.id) != other.map(|found| found.id)
        })
    }
}

/// Every instance's channel. They are few.
async fn instances(tx: &mut Tx) -> Result<HashMap<Uuid, Arc<str>>> {
    let rows: Vec<(Uuid, String)> =
        on!(tx, conn => sqlx::query_as("select id, channel from instances").fetch_all(conn).await)?;
    Ok(rows.into_iter().map(|(id, channel)| (id, Arc::from(channel))).collect())
}
