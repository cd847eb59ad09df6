//! Where state lies: entries with a key, read one by one or by prefix, written several at once.
//!
//! The host's key-value store behind a background task (and the same with patience), the same behind one call (then everything
//! is stored when the call ends well), or a map in memory. What the entries mean is `store`'s business.

use async_trait::async_trait;
use omni_channel_sdk::context::{Batch, Context, Host};
use omni_channel_sdk::error::HostError;
use omni_channel_sdk::prelude::LogLevel;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;

/// What is written: a value, or `None` for an entry that goes.
pub type Write = (String, Option<Vec<u8>>);

/// Adds what is written to a batch.
pub fn add(batch: &mut Batch, writes: Vec<Write>) {
    for (key, value) in writes {
        match value {
            Some(value) => batch.set(key, value),
            None => batch.delete(key),
        };
    }
}

/// How long to wait before a write is tried again: at first, and at most.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Entries that one call may list.
const PAGE: u32 = 500;

/// A store of entries.
#[async_trait]
pub trait Kv: Send + Sync {
    /// Reads an entry.
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError>;

    /// Lists entries whose keys begin with `prefix` and come behind `after`, in order; fewer than `limit` at the end.
    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Vec<u8>)>, HostError>;

    /// Writes all of it or nothing; durable when it returns.
    async fn write(&self, writes: Vec<Write>) -> Result<(), HostError>;

    /// Lists everything under a prefix.
    async fn all(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        loop {
            let after = found.last().map(|(key, _)| key.clone());
            let page = self.scan(prefix, after.as_deref(), PAGE).await?;
            let last = page.len() < PAGE as usize;
            found.extend(page);
            if last {
                return Ok(found);
            }
        }
    }
}

/// The host's store, from a background task.
#[async_trait]
impl Kv for Host {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.stored(key).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        self.stored_entries(prefix, after, limit).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), HostError> {
        let mut batch = Batch::new();
        add(&mut batch, writes);
        self.accept(batch).await
    }
}

/// The host's store, for what must not fail in the middle: the library counts on with keys that could not be kept, and what
/// was encrypted with those cannot be read again. So a write that fails is tried again until it is done, and whoever writes
/// waits: with the disk full, nothing more is taken from the network.
pub struct Patient {
    host: Host,
    runtime: Handle,
}

impl Patient {
    /// Waits on the runtime's clock.
    pub fn new(host: Host, runtime: Handle) -> Self {
        Self { host, runtime }
    }
}

#[async_trait]
impl Kv for Patient {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.host.get(key).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        self.host.scan(prefix, after, limit).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), HostError> {
        let mut batch = Batch::new();
        add(&mut batch, writes);
        patiently(&self.host, &self.runtime, batch, None).await
    }
}

/// Stores a batch, again and again while the host cannot; at most for so long, if that is said.
pub async fn patiently(
    host: &Host,
    runtime: &Handle,
    batch: Batch,
    longest: Option<Duration>,
) -> Result<(), HostError> {
    let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
    loop {
        let Err(error) = host.accept(batch.clone()).await else { return Ok(()) };
        if longest.is_some_and(|longest| waited >= longest) {
            return Err(error);
        }
        if waited.is_zero() {
            host.log(LogLevel::Warn, format!("nothing is taken from WhatsApp until this can be stored: {error}"));
        }
        let paused = {
            let _within = runtime.enter();
            tokio::time::timeout(pause, std::future::pending::<()>())
        };
        let _ = paused.await;
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The host's store, within one call.
#[async_trait]
impl Kv for Context {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        Context::get(self, key).await
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        Context::scan(self, prefix, after, limit).await
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), HostError> {
        for (key, value) in writes {
            match value {
                Some(value) => self.set(key, value),
                None => self.delete(key),
            }
        }
        Ok(())
    }
}

/// Entries in memory: what an import is gathered in, and what tests use.
#[derive(Debug, Default)]
pub struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl Memory {
    /// Everything that is in it.
    pub fn entries(&self) -> BTreeMap<String, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl Kv for Memory {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, HostError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    async fn scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<(String, Vec<u8>)>, HostError> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = entries
            .range(prefix.to_owned()..)
            .take_while(|(key, _)| key.starts_with(prefix))
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .take(limit as usize);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    async fn write(&self, writes: Vec<Write>) -> Result<(), HostError> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in writes {
            match value {
                Some(value) => entries.insert(key, value),
                None => entries.remove(&key),
            };
        }
        Ok(())
    }
}
