//! What an instance writes that is only asked something: held back from the store until its asker takes it, or thrown away.
//!
//! Deliberately not here: who asks, and what becomes of what was written ([`crate::auth_state`]).

use crate::sealed_file::Reader;
use crate::store::kv::KvWriteSealed;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// What may be held back, in bytes of keys and sealed values.
const MOST_BYTES: u64 = 512 << 20;

/// What the instance finds in its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finds {
    /// Only what it has written itself: it begins anew.
    Nothing,
    /// What it keeps. What it writes is thrown away.
    WhatItKeeps,
}

/// What one instance writes, and what only it may read.
#[derive(Debug)]
pub struct Staging {
    /// What it finds.
    pub finds: Finds,
    /// A file that it may read by a handle of its own.
    archive: Option<(Uuid, Arc<Reader>)>,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    entries: BTreeMap<String, Vec<u8>>,
    bytes: u64,
}

impl Staging {
    /// Nothing is written yet.
    pub fn new(finds: Finds, archive: Option<(Uuid, Arc<Reader>)>) -> Self {
        Self { finds, archive, written: Mutex::default() }
    }

    /// The file with this handle.
    pub(super) fn archive(&self, id: Uuid) -> Option<Arc<Reader>> {
        self.archive.as_ref().filter(|(known, _)| *known == id).map(|(_, reader)| Arc::clone(reader))
    }

    /// Takes what a call wrote, all or nothing. The instance may keep so many bytes; 0 is no limit.
    pub(super) fn take(&self, writes: Vec<KvWriteSealed>, may_keep: u64) -> Result<(), String> {
        if self.finds == Finds::WhatItKeeps {
            return Ok(());
        }
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let size =
            |write: &KvWriteSealed| write.value.as_ref().map_or(0, |value| (write.key.len() + value.len()) as u64);
        let more: u64 = writes.iter().map(size).sum();
        let most = if may_keep == 0 { MOST_BYTES } else { may_keep.min(MOST_BYTES) };
        if written.bytes + more > most {
            return Err(format!("the channel wrote more than the {most} bytes that it may keep (state_limit)"));
        }
        written.bytes += more;
        for write in writes {
            match write.value {
                Some(value) => drop(written.entries.insert(write.key, value)),
                None => drop(written.entries.remove(&write.key)),
            }
        }
        Ok(())
    }

    pub(super) fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).entries.get(key).cloned()
    }

    /// Entries with a prefix behind a key, in order; nothing when they have more than `most` bytes together.
    pub(super) fn scan(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        most: usize,
    ) -> Option<Vec<(String, Vec<u8>)>> {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let from = written.entries.range(prefix.to_owned()..).take_while(|(key, _)| key.starts_with(prefix));
        let behind = from.filter(|(key, _)| after.is_none_or(|after| key.as_str() > after));
        let found: Vec<_> = behind.take(limit as usize).map(|(key, value)| (key.clone(), value.clone())).collect();
        (found.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() <= most).then_some(found)
    }

    /// Everything that was written, sealed.
    pub fn take_entries(&self) -> Vec<KvWriteSealed> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = std::mem::take(&mut written.entries).into_iter();
        entries.map(|(key, value)| KvWriteSealed { key, value: Some(value) }).collect()
    }
}
