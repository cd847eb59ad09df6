//! A plugin's process: started, listened to, and ended when it crashes, no longer answers or uses too much memory.

use super::child::{ChildOptions, Heard, Record};
use super::line::FromChannel;
use super::wire::{Kind, Ready, length, message, parse};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval, timeout};

/// How long opening a plugin may take.
const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How often it is asked whether it still reads.
const ASK: Duration = Duration::from_secs(2);
/// How long it may owe the answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long what it said last may take to arrive.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// Instance → where its frames go; `None` once the process has ended.
pub(super) type Instances = Arc<Mutex<Option<Heard>>>;
pub(super) type Writer = Arc<tokio::sync::Mutex<OwnedWriteHalf>>;

/// A process that runs, or ran a moment ago. It ends when this is dropped and nobody writes to it any more.
#[derive(Debug)]
pub(super) struct Process {
    pub writer: Writer,
    pub instances: Instances,
    pub kill: Arc<Notify>,
}

/// Whether the process still reads what it is sent.
#[derive(Debug, Default)]
struct Pulse {
    /// Since when it owes an answer.
    asked: Mutex<Option<Instant>>,
    /// The host itself is behind with what the process says: an answer may lie in there.
    behind: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Process {
    /// Starts a process and waits until it has opened the plugin.
    pub async fn start(options: &ChildOptions, memory_limit: u64, record: Record) -> Result<Self, String> {
        let could_not = |error: io::Error| format!("its process could not be started: {error}");
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(could_not)?;
        ours.set_nonblocking(true).map_err(could_not)?;
        let mut child = Command::new(&options.program)
            .arg("plugin-runner")
            .arg("--memory-limit")
            .arg(memory_limit.to_string())
            .arg(&options.library)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(could_not)?;
        let last_words = Arc::new(Mutex::new(String::new()));
        let listener = child
            .stderr
            .take()
            .map(|stderr| tokio::spawn(log_stderr(options.name.clone(), stderr, Arc::clone(&last_words))));
        let (mut reader, writer) = UnixStream::from_std(ours).map_err(could_not)?.into_split();
        let Ok(first) = timeout(OPEN_WITHIN, read(&mut reader)).await else {
            // The process goes with this value.
            return Err(format!(
                "it hung while it was opened; its process was ended after {} s",
                OPEN_WITHIN.as_secs()
            ));
        };
        let sandbox = match first {
            Ok((Kind::Ready, _, ready)) => match serde_json::from_slice(&ready) {
                Ok(Ready { refused: None, sandbox }) => sandbox,
                Ok(Ready { refused: Some(reason), .. }) => return Err(reason),
                Err(_) => return Err("its process spoke before it was ready".into()),
            },
            Ok(_) => return Err("its process spoke before it was ready".into()),
            Err(_) => {
                let _ = child.start_kill();
                let status = child.wait().await.map_err(could_not)?;
                return Err(format!("its process ended while it was started ({})", ended(status)));
            }
        };
        let process = Self {
            writer: Arc::new(tokio::sync::Mutex::new(writer)),
            instances: Arc::new(Mutex::new(Some(HashMap::new()))),
            kill: Arc::new(Notify::new()),
        };
        record.started(&options.name, child.id(), sandbox, &options.clock);
        let pulse = Arc::new(Pulse::default());
        let (gone, is_gone) = oneshot::channel();
        tokio::spawn(read_all(reader, Arc::clone(&process.instances), Arc::clone(&pulse), gone));
        let asking = tokio::spawn(ask(Arc::downgrade(&process.writer), Arc::clone(&pulse)));
        let watched = Watched {
            options: options.clone(),
            memory_limit,
            record,
            kill: Arc::clone(&process.kill),
            instances: Arc::clone(&process.instances),
            last_words,
            listener,
            pulse,
        };
        tokio::spawn(async move {
            watched.watch(child, is_gone).await;
            asking.abort();
        });
        Ok(process)
    }
}

async fn read(reader: &mut OwnedReadHalf) -> io::Result<(Kind, u64, Vec<u8>)> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await?;
    let mut body = vec![0; length(head)?];
    reader.read_exact(&mut body).await?;
    parse(body)
}

/// Hands frames from the process to their instances, until the socket ends.
async fn read_all(
    mut reader: OwnedReadHalf,
    instances: Instances,
    pulse: Arc<Pulse>,
    gone: oneshot::Sender<Option<String>>,
) {
    let reason = loop {
        let (kind, instance, payload) = match read(&mut reader).await {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break None,
            Err(error) => break Some(error.to_string()),
        };
        let said = match kind {
            Kind::Pong => {
                lock(&pulse.asked).take();
                continue;
            }
            Kind::Frame => FromChannel::Frame(payload),
            Kind::Ended => FromChannel::Ended(String::from_utf8_lossy(&payload).into_owned()),
            Kind::Open | Kind::Close | Kind::Ready | Kind::Ping => {
                break Some("it said what only the host says".into());
            }
        };
        let out = lock(&instances).as_ref().and_then(|instances| instances.get(&instance).cloned());
        let Some(out) = out else { continue };
        pulse.behind.store(true, Ordering::Release);
        // An instance that has ended hears nothing any more.
        let _ = out.send(said).await;
        pulse.behind.store(false, Ordering::Release);
    };
    let _ = gone.send(reason);
}

/// Asks again and again whether the process still reads, as long as anybody writes to it.
async fn ask(writer: std::sync::Weak<tokio::sync::Mutex<OwnedWriteHalf>>, pulse: Arc<Pulse>) {
    let mut tick = interval(ASK);
    loop {
        tick.tick().await;
        let Some(writer) = writer.upgrade() else { return };
        lock(&pulse.asked).get_or_insert_with(Instant::now);
        // Waits while the process does not read; how long that may be is seen to elsewhere.
        if writer.lock().await.write_all(&message(Kind::Ping, 0, &[])).await.is_err() {
            return;
        }
    }
}

/// Everything that a running process is watched with.
struct Watched {
    options: ChildOptions,
    memory_limit: u64,
    record: Record,
    kill: Arc<Notify>,
    instances: Instances,
    last_words: Arc<Mutex<String>>,
    listener: Option<JoinHandle<()>>,
    pulse: Arc<Pulse>,
}

impl Watched {
    /// Waits for the end of the process or ends it, and tells every instance.
    async fn watch(self, mut child: Child, mut is_gone: oneshot::Receiver<Option<String>>) {
        let pid = child.id();
        let mut look = interval(LOOK);
        let why = loop {
            tokio::select! {
                _ = child.wait() => break None,
                // The socket has ended: whatever it still does, nobody hears it.
                gone = &mut is_gone => break gone.ok().flatten(),
                () = self.kill.notified() => break Some("it did not answer any more and was ended".into()),
                _ = look.tick() => if let Some(why) = self.look(pid) { break Some(why) },
            }
        };
        let _ = child.start_kill();
        let status = child.wait().await.map_or_else(|error| error.to_string(), ended);
        if let Some(listener) = self.listener {
            let _ = timeout(LAST_WORDS_WITHIN, listener).await;
        }
        let words = lock(&self.last_words).clone();
        let why = why.or_else(|| {
            let refused = words.starts_with("memory allocation of") && self.memory_limit > 0;
            refused.then(|| too_much(self.memory_limit))
        });
        let reason = match why {
            Some(why) => format!("the plugin's process ended: {why}"),
            None => format!("the plugin's process ended ({status})"),
        };
        let ended = lock(&self.instances).take().unwrap_or_default();
        if ended.is_empty() {
            // The last instance had gone before: that is how it is meant to end.
            self.record.ended(pid, None, &self.options.clock);
            return;
        }
        tracing::warn!(
            channel.name = %self.options.name, status = %status, last_words = %words, instances = ended.len(), "{reason}"
        );
        self.record.ended(pid, Some(&reason), &self.options.clock);
        for out in ended.into_values() {
            let _ = out.send(FromChannel::Ended(reason.clone())).await;
        }
    }

    /// Why the process has to be ended, if it has to.
    fn look(&self, pid: Option<u32>) -> Option<String> {
        if let Some(used) = pid.and_then(resident) {
            self.record.uses(pid, used);
            let limit = self.memory_limit;
            if limit > 0 && used > limit {
                return Some(too_much(limit));
            }
        }
        let mut asked = lock(&self.pulse.asked);
        if self.pulse.behind.load(Ordering::Acquire)
            && let Some(asked) = &mut *asked
        {
            *asked = Instant::now();
        }
        let overdue = asked.is_some_and(|asked| asked.elapsed() > ANSWER_WITHIN);
        overdue.then(|| format!("it did not read for {} s and was ended", ANSWER_WITHIN.as_secs()))
    }
}

fn too_much(limit: u64) -> String {
    format!("it used more memory than the {} that plugins.memory_limit allows", crate::config::ByteSize(limit))
}

/// How much memory a process really uses, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".into(),
    }
}

/// Writes what the process says on its standard error into the log, line by line, not more than it deserves.
async fn log_stderr(name: String, stderr: ChildStderr, last_words: Arc<Mutex<String>>) {
    const MAX_LINES: usize = 1_000;
    const MAX_LINE: u64 = 4_096;
    let mut stderr = BufReader::new(stderr);
    for _ in 0..MAX_LINES {
        let mut line = Vec::new();
        match (&mut stderr).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        tracing::info!(channel.name = %name, "plugin process: {line}");
        *lock(&last_words) = line;
    }
    // It is read to its end all the same: a process whose standard error is closed dies of writing to it.
    let _ = tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await;
}
