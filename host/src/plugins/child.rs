//! The near side of a child process: one process for a plugin, many instances over one socket.
//!
//! The process is started when the first instance needs it, ended with the last one, and started again after a crash, not
//! faster than its brake allows. Deliberately not here: the process itself (`process`).

use super::brake::Brake;
use super::line::{FromChannel, HomeEnds, Line, ToHome, line};
use super::process::{Instances, Process, Writer};
use super::sandbox::Sandbox;
use super::types::NotOpened;
use super::wire::{Kind, message};
use crate::clock::Clock;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::io::AsyncWriteExt;

/// How a plugin's process is started.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The host's own program.
    pub program: PathBuf,
    /// The admitted copy of the plugin.
    pub library: PathBuf,
    /// What the log calls it.
    pub name: String,
    /// Time.
    pub clock: Clock,
}

/// What is to be known of a plugin's process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessStatus {
    /// Its id, while it runs.
    pub pid: Option<u32>,
    /// Bytes of memory that it used when it was last looked at.
    pub memory_bytes: Option<u64>,
    /// How far it is shut in.
    pub sandbox: Option<Sandbox>,
    /// How often it was started again after it had ended though nobody wanted that.
    pub restarts: u64,
    /// Why it last ended though nobody wanted that.
    pub last_end: Option<String>,
}

/// The process of one plugin. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChildHome {
    options: Arc<ChildOptions>,
    running: Arc<tokio::sync::Mutex<Option<Running>>>,
    record: Record,
}

#[derive(Debug)]
struct Running {
    process: Process,
    next_instance: u64,
}

/// What is kept of a plugin's processes beyond the life of one of them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Record(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    status: ProcessStatus,
    brake: Brake,
    crashes: u64,
}

impl Record {
    fn lock(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process runs.
    pub(super) fn started(&self, channel: &str, pid: Option<u32>, sandbox: Sandbox, clock: &Clock) {
        let mut kept = self.lock();
        kept.brake.started(clock.now());
        let restarts = kept.crashes;
        // This counts on when the plugin's file is replaced, and the record begins anew.
        metrics::counter!("omni_plugin_restarts_total", "channel" => channel.to_owned())
            .increment(restarts - kept.status.restarts);
        kept.status = ProcessStatus {
            pid,
            memory_bytes: None,
            sandbox: Some(sandbox),
            restarts,
            last_end: kept.status.last_end.take(),
        };
    }

    /// It uses so much memory.
    pub(super) fn uses(&self, pid: Option<u32>, bytes: u64) {
        let mut kept = self.lock();
        if kept.status.pid == pid {
            kept.status.memory_bytes = Some(bytes);
        }
    }

    /// It has ended, as it was meant to or (with a reason) not.
    pub(super) fn ended(&self, pid: Option<u32>, crashed: Option<&str>, clock: &Clock) {
        let mut kept = self.lock();
        // Another one may run by now.
        if kept.status.pid == pid {
            kept.status.pid = None;
            kept.status.memory_bytes = None;
        }
        if let Some(reason) = crashed {
            kept.crashes += 1;
            kept.status.last_end = Some(reason.to_owned());
            kept.brake.crashed(clock.now());
        }
    }
}

impl ChildHome {
    /// A home whose process is not started yet.
    pub fn new(options: ChildOptions) -> Self {
        Self { options: Arc::new(options), running: Arc::default(), record: Record(Arc::default()) }
    }

    /// What its process is doing.
    pub fn status(&self) -> ProcessStatus {
        self.record.lock().status.clone()
    }

    /// Starts a process and ends it again: whether the library can be opened at all.
    pub async fn probe(&self, memory: u64) -> Result<(), String> {
        Process::start(&self.options, memory, Record(Arc::default())).await.map(drop)
    }

    /// Makes an instance in the plugin's process, which is started when it does not run, and may then use so many bytes of
    /// memory; 0 is no limit.
    pub async fn open(&self, memory: u64) -> Result<Line, NotOpened> {
        let mut running = self.running.lock().await;
        let alive = running.as_ref().is_some_and(|running| lock(&running.process.instances).is_some());
        if !alive {
            *running = None;
            *running = Some(Running { process: self.start(memory).await?, next_instance: 1 });
        }
        let Running { process, next_instance } = running.as_mut().expect("it was just set");
        let (mut line, ends) = line();
        line.kill = Some(Arc::clone(&process.kill));
        let instance = *next_instance;
        *next_instance += 1;
        match &mut *lock(&process.instances) {
            Some(instances) => drop(instances.insert(instance, ends.out.clone())),
            None => return Err("the plugin's process ended as it was started".to_owned().into()),
        }
        tokio::spawn(self.clone().forward(instance, ends, process.writer.clone(), process.instances.clone()));
        Ok(line)
    }

    async fn start(&self, memory: u64) -> Result<Process, NotOpened> {
        let now = self.options.clock.now();
        {
            let kept = self.record.lock();
            if let Some(due) = kept.brake.not_before(now) {
                let seconds = (due.millis() - now.millis() + 999) / 1_000;
                let why = kept.status.last_end.as_deref().unwrap_or("it ended again and again");
                let reason = format!("{why}; its process is started again in {seconds} s");
                return Err(NotOpened { reason, not_before: Some(due) });
            }
        }
        let started = Process::start(&self.options, memory, self.record.clone()).await;
        if let Err(reason) = &started {
            self.record.ended(None, Some(reason), &self.options.clock);
        }
        Ok(started?)
    }

    /// Hands an instance's frames to the process, until the line is dropped; the last one to go ends the process.
    async fn forward(self, instance: u64, mut ends: HomeEnds, writer: Writer, instances: Instances) {
        let (mut next, mut _room) = (message(Kind::Open, instance, &[]), None);
        loop {
            if writer.lock().await.write_all(&next).await.is_err() {
                break;
            }
            match ends.frames.recv().await {
                Some(ToHome { frame, room }) => (next, _room) = (message(Kind::Frame, instance, &frame), room),
                None => break,
            }
        }
        if let Some(instances) = &mut *lock(&instances) {
            instances.remove(&instance);
        }
        let _ = writer.lock().await.write_all(&message(Kind::Close, instance, &[])).await;
        // Threads that an instance left behind end with the process.
        let mut running = self.running.lock().await;
        let is_mine = running.as_ref().is_some_and(|running| Arc::ptr_eq(&running.process.instances, &instances));
        if is_mine && lock(&instances).as_ref().is_none_or(HashMap::is_empty) {
            *running = None;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What an instance of a process hears.
pub(super) type Heard = HashMap<u64, tokio::sync::mpsc::Sender<FromChannel>>;
