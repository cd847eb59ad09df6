//! The audit log: every change that was asked of the API and every refusal, written beside the work.
//!
//! Whoever asked for something that only administrators ask for waits until its line is durable; a line about a message
//! is written with others within a second. The queue is bounded: when the disk is slower than the callers, they wait.
//!
//! Deliberately not here: bodies, queries, keys. A line names a key by id and name, and a path.

use crate::clock::Clock;
use crate::store::audit::{self, AuditLine};
use crate::store::{Store, Time};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Lines that wait to be written.
const QUEUE: usize = 4_096;
/// Lines of one transaction.
const BATCH: usize = 512;
/// How long a line waits for company.
const COMPANY: Duration = Duration::from_millis(500);
/// Longest path and user agent that are kept.
const LONGEST: usize = 500;
/// Refusals of strangers that are written in a minute; a flood of them must not fill the disk.
const STRANGERS: u32 = 600;

/// What is to be written down.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// The key, when one was proved; nil for the key of the configuration.
    pub key: Option<(Uuid, String)>,
    /// The method.
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// What was answered.
    pub status: u16,
    /// From where.
    pub address: Option<String>,
    /// What the program calls itself.
    pub user_agent: Option<String>,
    /// How long it took.
    pub took: Duration,
}

struct Line {
    line: AuditLine,
    written: Option<oneshot::Sender<()>>,
}

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Audit {
    store: Store,
    clock: Clock,
    queue: mpsc::Sender<Line>,
    strangers: Arc<Mutex<(Time, u32)>>,
}

/// The one that writes.
pub struct Writer {
    store: Store,
    clock: Clock,
    queue: mpsc::Receiver<Line>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

/// The audit log, and what has to run for it.
pub fn open(store: Store, clock: Clock) -> (Audit, Writer) {
    let (sender, queue) = mpsc::channel(QUEUE);
    let audit = Audit {
        store: store.clone(),
        clock: clock.clone(),
        queue: sender,
        strangers: Arc::new(Mutex::new((Time(0), 0))),
    };
    (audit, Writer { store, clock, queue })
}

impl Audit {
    /// Puts a line down; with `durable` it returns once the line is on the disk.
    pub async fn record(&self, asked: Asked, durable: bool) {
        let now = self.clock.now();
        if asked.key.is_none() && !self.may_be_written(now) {
            metrics::counter!("omni_audit_skipped_total").increment(1);
            return;
        }
        let (id, name) = asked.key.unzip();
        let line = AuditLine {
            id: self.store.new_id(now),
            api_key_id: id.filter(|id| !id.is_nil()),
            key_name: name,
            method: cut(asked.method, 10),
            path: cut(asked.path, LONGEST),
            status_code: i64::from(asked.status),
            ip_address: asked.address,
            user_agent: asked.user_agent.map(|agent| cut(agent, LONGEST)),
            response_time_ms: i64::try_from(asked.took.as_millis()).unwrap_or(i64::MAX),
            timestamp: now,
        };
        let (sender, written) = oneshot::channel();
        let line = Line { line, written: durable.then_some(sender) };
        if self.queue.send(line).await.is_ok() && durable {
            // It fails when the writer could not write, and has said so.
            let _ = written.await;
        }
    }

    fn may_be_written(&self, now: Time) -> bool {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        if now >= strangers.0.plus_millis(60_000) || now < strangers.0 {
            *strangers = (now, 0);
        }
        strangers.1 += 1;
        strangers.1 <= STRANGERS
    }
}

fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}

impl Writer {
    /// Writes until it is told to stop, and then what is left.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut waiting: Vec<Line> = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                got = self.queue.recv_many(&mut waiting, BATCH) => if got == 0 { break },
            }
            if waiting.iter().all(|line| line.written.is_none()) && waiting.len() < BATCH {
                let more = async {
                    while waiting.len() < BATCH {
                        let room = BATCH - waiting.len();
                        let got = self.queue.recv_many(&mut waiting, room).await;
                        if got == 0 || waiting.iter().any(|line| line.written.is_some()) {
                            break;
                        }
                    }
                };
                tokio::select! {
                    () = more => {}
                    () = self.clock.sleep(COMPANY) => {}
                    () = shutdown.cancelled() => {}
                }
            }
            write(&self.store, &mut waiting).await;
        }
        self.queue.close();
        while self.queue.recv_many(&mut waiting, BATCH).await > 0 {
            write(&self.store, &mut waiting).await;
        }
        write(&self.store, &mut waiting).await;
    }
}

async fn write(store: &Store, waiting: &mut Vec<Line>) {
    if waiting.is_empty() {
        return;
    }
    let (lines, told): (Vec<AuditLine>, Vec<_>) = waiting.drain(..).map(|line| (line.line, line.written)).unzip();
    match audit::append(store, &lines).await {
        Ok(()) => told.into_iter().flatten().for_each(|written| {
            // Whoever waited may have gone.
            let _ = written.send(());
        }),
        Err(error) => {
            metrics::counter!("omni_audit_lost_total").increment(lines.len() as u64);
            tracing::error!(error = error.explain(), lines = lines.len(), "failed to write the audit log");
        }
    }
}
