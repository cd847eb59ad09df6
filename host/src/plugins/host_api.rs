//! What the host does for one instance of a channel: the answers to its questions, and the commit at the end of a call.

use super::allowance::Allowance;
use super::http_calls::{HttpCalls, Secrets};
use super::session::refuse;
use super::staging::{Finds, Staging};
use crate::bus::{Accept, AcceptEvent, Bus};
use crate::clock::Clock;
use crate::echoes::Echoes;
use crate::egress::Origins;
use crate::history::Gaps;
use crate::media::MediaStore;
use crate::secrets::Sealer;
use crate::store::Store;
use crate::store::kv::{self, KvWriteSealed};
use omni_channel_sdk::frame::{Commit, HostAnswer, HostRequest, KvWrite, Tails, TimerSet};
use omni_channel_sdk::ids::BlobId;
use omni_channel_sdk::ingress::SocketAct;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use uuid::Uuid;

/// What an instance keeps was not looked up yet.
const NOT_KNOWN: u64 = u64::MAX;
/// Longest key of an entry, in bytes.
const MAX_KEY: usize = 400;
/// Largest value of an entry, in bytes.
const MAX_VALUE: usize = 4 << 20;
/// Bytes of all entries that are listed at once.
const MAX_SCAN: usize = 16 << 20;
/// Largest file that crosses the boundary whole.
const MAX_MEDIA_PUT: usize = 32 << 20;
/// Largest piece of a file that is read at once.
const MAX_MEDIA_GET: u32 = 1 << 20;

/// The handles that serve all instances.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Time.
    pub clock: Clock,
    /// The database.
    pub store: Store,
    /// The log.
    pub bus: Bus,
    /// Files.
    pub media: MediaStore,
    /// What seals entries at rest.
    pub sealer: Sealer,
    /// HTTP for channels.
    pub http: HttpCalls,
    /// Sends under way whose echo must wait.
    pub echoes: Echoes,
    /// What channels say that they missed.
    pub gaps: Gaps,
}

/// The services as one instance gets them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Services(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Shared,
    instance_id: Uuid,
    channel: String,
    secrets: Secrets,
    origins: Origins,
    allowance: Allowance,
    /// What it keeps is at most so many bytes, once that was looked up.
    keeps: AtomicU64,
    /// Where what it writes is held back, when it is only asked something.
    staging: Option<Arc<Staging>>,
}

type Answer = (HostAnswer, Vec<Vec<u8>>);

/// What a call wants done once what it wrote is durable.
#[derive(Debug)]
pub struct Aftermath {
    /// Timers to be set or taken back.
    pub timers: Vec<TimerSet>,
    /// What is to be done with sockets.
    pub sockets: Vec<SocketAct>,
}

impl Services {
    /// Services for an instance.
    pub fn new(
        shared: Shared,
        instance_id: Uuid,
        channel: String,
        secrets: Secrets,
        origins: Origins,
        allowance: Allowance,
    ) -> Self {
        let keeps = AtomicU64::new(NOT_KNOWN);
        let staging = None;
        Self(Arc::new(Inner { shared, instance_id, channel, secrets, origins, allowance, keeps, staging }))
    }

    /// The same for an instance that is only asked something: what it writes is held back.
    pub fn held_back(self, staging: Arc<Staging>) -> Self {
        let inner = Arc::into_inner(self.0).expect("it was made just now, and nobody else has it");
        Self(Arc::new(Inner { staging: Some(staging), ..inner }))
    }

    /// The instance.
    pub fn instance_id(&self) -> Uuid {
        self.0.instance_id
    }

    /// Its channel.
    pub fn channel(&self) -> &str {
        &self.0.channel
    }

    /// Time.
    pub fn clock(&self) -> &Clock {
        &self.0.shared.clock
    }

    /// The instance's secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.0.secrets
    }

    /// Where it may go inside the private network.
    pub fn origins(&self) -> &Origins {
        &self.0.origins
    }

    /// Sends under way whose echo must wait.
    pub fn echoes(&self) -> &Echoes {
        &self.0.shared.echoes
    }

    /// HTTP for channels.
    pub fn http(&self) -> &HttpCalls {
        &self.0.shared.http
    }

    /// Stores what a call emitted and wrote, and returns when it is durable, with what waited for that.
    pub async fn commit(&self, commit: Commit, tails: &mut Tails) -> Result<Aftermath, String> {
        if let Some(staging) = &self.0.staging {
            // It does not live: nothing happens to it, and it wants nothing.
            staging.take(self.sealed(commit.writes, tails)?, self.0.allowance.state_bytes)?;
            return Ok(Aftermath { timers: Vec::new(), sockets: Vec::new() });
        }
        let Commit { events, writes, timers, sockets, missed, missed_in } = commit;
        let after = Aftermath { timers, sockets };
        if missed {
            // Before the rest: with a resume point that is written, nobody would say it again.
            let told = self.0.shared.gaps.told(self.0.instance_id, &self.0.channel).await;
            told.map_err(|error| error.explain())?;
        }
        if !missed_in.is_empty() {
            let told = self.0.shared.gaps.told_of(self.0.instance_id, &self.0.channel, missed_in).await;
            told.map_err(|error| error.explain())?;
        }
        if events.is_empty() && writes.is_empty() {
            return Ok(after);
        }
        let bytes: usize = events.iter().map(|event| event.get().len()).sum();
        self.0.allowance.check_call(events.len(), bytes)?;
        let sealed = self.sealed(writes, tails)?;
        let written = sealed.iter().map(|entry| entry.value.as_ref().map_or(0, |value| entry.key.len() + value.len()));
        let written = written.sum::<usize>();
        self.0.allowance.check_call(0, bytes.saturating_add(written))?;
        self.may_keep(written as u64).await?;
        let accept = Accept {
            instance_id: self.0.instance_id,
            channel: self.0.channel.clone(),
            events: events
                .into_iter()
                .map(|event| AcceptEvent(Box::<str>::from(event).into_string().into_bytes()))
                .collect(),
            writes: sealed,
            plugin_id: self.0.channel.clone(),
        };
        self.0.shared.bus.accept(accept).await.map_err(|error| error.to_string())?;
        Ok(after)
    }

    /// Entries with their values beside them, checked and sealed.
    fn sealed(&self, writes: Vec<KvWrite>, tails: &mut Tails) -> Result<Vec<KvWriteSealed>, String> {
        let mut sealed = Vec::with_capacity(writes.len());
        for write in writes {
            if write.key.is_empty() || write.key.len() > MAX_KEY {
                return Err(format!("a key has {} bytes; 1 to {MAX_KEY} are allowed", write.key.len()));
            }
            let value = if write.delete {
                None
            } else {
                let value = tails.next_bytes().map_err(|error| error.to_string())?;
                if value.len() > MAX_VALUE {
                    return Err(format!(
                        "the value of {:?} has {} bytes; {MAX_VALUE} are allowed",
                        write.key,
                        value.len()
                    ));
                }
                Some(self.0.shared.sealer.seal(&self.aad(&write.key), &value))
            };
            sealed.push(KvWriteSealed { key: write.key, value });
        }
        Ok(sealed)
    }

    /// Whether the instance may keep so much more. What it overwrites is not taken off before it would be too much: only
    /// then is looked at what it really keeps.
    async fn may_keep(&self, more: u64) -> Result<(), String> {
        let most = self.0.allowance.state_bytes;
        if most == 0 || more == 0 {
            return Ok(());
        }
        let known = self.0.keeps.load(Ordering::Relaxed);
        if known != NOT_KNOWN && known.saturating_add(more) <= most {
            self.0.keeps.fetch_add(more, Ordering::Relaxed);
            return Ok(());
        }
        let usage = async {
            let mut tx = self.0.shared.store.read().await?;
            kv::usage(&mut tx, self.0.instance_id).await
        };
        let keeps = u64::try_from(usage.await.map_err(|error| error.explain())?.bytes).unwrap_or(0);
        let with_it = keeps.saturating_add(more);
        if with_it > most {
            // What it takes away makes room: the next call is looked at anew.
            self.0.keeps.store(NOT_KNOWN, Ordering::Relaxed);
            return Err(format!(
                "the channel keeps {keeps} bytes and would keep {more} more; it may keep {most} (state_limit)"
            ));
        }
        self.0.keeps.store(with_it, Ordering::Relaxed);
        Ok(())
    }

    /// Answers one question.
    pub async fn answer(&self, request: HostRequest, mut tails: Tails) -> Answer {
        match request {
            HostRequest::Http { http } => match self.http().call(*http, &self.0.secrets, &self.0.origins).await {
                Ok(mut response) => {
                    let body = std::mem::take(&mut response.body);
                    (HostAnswer::Http { response }, vec![body])
                }
                Err(failure) => (HostAnswer::HttpFailed { failure }, Vec::new()),
            },
            HostRequest::KvGet { key } => self.kv_get(&key).await.unwrap_or_else(refuse),
            HostRequest::KvScan { prefix, after, limit } => {
                self.kv_scan(&prefix, after.as_deref(), limit).await.unwrap_or_else(refuse)
            }
            HostRequest::Commit { commit } => match self.commit(commit, &mut tails).await {
                Ok(_) => (HostAnswer::Committed {}, Vec::new()),
                Err(reason) => refuse(reason),
            },
            HostRequest::MediaPut { mime_type, file_name } => {
                self.media_put(mime_type, file_name, &mut tails).await.unwrap_or_else(refuse)
            }
            HostRequest::MediaGet { blob, offset, limit } => {
                self.media_get(&blob, offset, limit).await.unwrap_or_else(refuse)
            }
            HostRequest::Random { bytes } if bytes <= 1_024 => {
                (HostAnswer::Random {}, vec![(0..bytes).map(|_| rand::random()).collect()])
            }
            HostRequest::Random { bytes } => refuse(format!("{bytes} random bytes asked for; 1024 are given at most")),
        }
    }

    /// What a sealed entry is bound to: it cannot be moved to another instance or key.
    fn aad(&self, key: &str) -> String {
        format!("kv:{}:{key}", self.0.instance_id)
    }

    fn unseal(&self, key: &str, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let opened = self.0.shared.sealer.open(&self.aad(key), sealed);
        opened.map(|plain| plain.to_vec()).map_err(|error| format!("the entry {key:?} cannot be read: {error}"))
    }

    /// Where all that the instance finds was written by itself, when it begins anew only to be asked something.
    fn anew(&self) -> Option<&Staging> {
        self.0.staging.as_deref().filter(|staging| staging.finds == Finds::Nothing)
    }

    async fn kv_get(&self, key: &str) -> Result<Answer, String> {
        if let Some(staging) = self.anew() {
            return Ok(match staging.get(key) {
                Some(sealed) => (HostAnswer::KvValue { found: true }, vec![self.unseal(key, &sealed)?]),
                None => (HostAnswer::KvValue { found: false }, Vec::new()),
            });
        }
        let found = async {
            let mut tx = self.0.shared.store.read().await?;
            kv::get(&mut tx, self.0.instance_id, key).await
        };
        match found.await.map_err(|error| error.explain())? {
            Some(sealed) => Ok((HostAnswer::KvValue { found: true }, vec![self.unseal(key, &sealed)?])),
            None => Ok((HostAnswer::KvValue { found: false }, Vec::new())),
        }
    }

    async fn kv_scan(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Answer, String> {
        let found = async {
            let mut tx = self.0.shared.store.read().await?;
            kv::scan(&mut tx, self.0.instance_id, prefix, after, limit.min(1_000), MAX_SCAN).await
        };
        let found = match self.anew() {
            Some(staging) => staging.scan(prefix, after, limit.min(1_000), MAX_SCAN),
            None => found.await.map_err(|error| error.explain())?,
        };
        let mut keys = Vec::new();
        let mut values = Vec::new();
        let found = found.ok_or_else(|| {
            format!("the entries under {prefix:?} that were asked for have more than {MAX_SCAN} bytes; ask for fewer at a time")
        })?;
        for (key, sealed) in found {
            values.push(self.unseal(&key, &sealed)?);
            keys.push(key);
        }
        Ok((HostAnswer::KvEntries { keys }, values))
    }

    async fn media_put(
        &self,
        mime_type: Option<String>,
        file_name: Option<String>,
        tails: &mut Tails,
    ) -> Result<Answer, String> {
        if self.0.staging.is_some() {
            return Err("the instance is only asked something, and stores no files".into());
        }
        let bytes = tails.next_bytes().map_err(|error| error.to_string())?;
        if bytes.len() > MAX_MEDIA_PUT {
            return Err(format!("the file has {} bytes; {MAX_MEDIA_PUT} may be handed over whole", bytes.len()));
        }
        let stream = futures_util::stream::iter([Ok::<_, std::io::Error>(bytes::Bytes::from(bytes))]);
        let media = &self.0.shared.media;
        let stored = media.put(self.0.instance_id, stream, mime_type, file_name, MAX_MEDIA_PUT as u64).await;
        let stored = stored.map_err(|error| error.to_string())?;
        Ok((HostAnswer::Media { blob: BlobId::new(stored.id) }, Vec::new()))
    }

    async fn media_get(&self, blob: &BlobId, offset: u64, limit: u32) -> Result<Answer, String> {
        let id = blob.as_str().parse().map_err(|_| format!("{blob} is no file of ours"))?;
        if let Some(archive) = self.0.staging.as_ref().and_then(|staging| staging.archive(id)) {
            let (size, limit) = (archive.size(), limit.min(MAX_MEDIA_GET) as usize);
            let read = tokio::task::spawn_blocking(move || archive.read_at(offset, limit)).await;
            let bytes = read.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
            return Ok((HostAnswer::MediaBytes { size }, vec![bytes]));
        }
        let stored = self.0.shared.media.get(id).await.map_err(|error| error.to_string())?;
        let failed = |error: std::io::Error| format!("the file {blob} cannot be read: {error}");
        let mut file = tokio::fs::File::open(&stored.path).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::Start(offset)).await.map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(u64::from(limit.min(MAX_MEDIA_GET))).read_to_end(&mut bytes).await.map_err(failed)?;
        Ok((HostAnswer::MediaBytes { size: stored.size }, vec![bytes]))
    }
}
