//! The near side of a child process: one process for a plugin, many instances over one socket.
//!
//! The process is started when the first instance needs it and again after it died; waiting between two starts is the
//! business of whoever supervises the instances.

use super::line::{FromChannel, HomeEnds, Line, line};
use super::wire::{Kind, length, message, parse};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::{Notify, mpsc, oneshot};

/// How long opening a plugin may take.
const OPEN_WITHIN: Duration = Duration::from_secs(30);

/// How a plugin's process is started.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The host's own program.
    pub program: PathBuf,
    /// The admitted copy of the plugin.
    pub library: PathBuf,
    /// What the log calls it.
    pub name: String,
}

/// The process of one plugin. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChildHome {
    options: Arc<ChildOptions>,
    running: Arc<tokio::sync::Mutex<Option<Running>>>,
}

/// A process that runs, or ran a moment ago.
#[derive(Debug)]
struct Running {
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    instances: Instances,
    next_instance: u64,
    kill: Arc<Notify>,
}

/// Instance → where its frames go; `None` once the process has ended.
type Instances = Arc<Mutex<Option<HashMap<u64, mpsc::Sender<FromChannel>>>>>;

impl ChildHome {
    /// A home whose process is not started yet.
    pub fn new(options: ChildOptions) -> Self {
        Self { options: Arc::new(options), running: Arc::default() }
    }

    /// Starts a process and ends it again: whether the library can be opened at all.
    pub async fn probe(&self) -> Result<(), String> {
        start(&self.options).await.map(|running| running.kill.notify_one())
    }

    /// Makes an instance in the plugin's process, which is started when it does not run.
    pub async fn open(&self) -> Result<Line, String> {
        let mut running = self.running.lock().await;
        let alive = running.as_ref().is_some_and(|running| lock(&running.instances).is_some());
        if !alive {
            *running = Some(start(&self.options).await?);
        }
        let running = running.as_mut().expect("it was just set");
        let (mut line, ends) = line();
        line.kill = Some(Arc::clone(&running.kill));
        let instance = running.next_instance;
        running.next_instance += 1;
        match &mut *lock(&running.instances) {
            Some(instances) => drop(instances.insert(instance, ends.out.clone())),
            None => return Err("the plugin's process ended as it was started".into()),
        }
        tokio::spawn(forward(instance, ends, Arc::clone(&running.writer), Arc::clone(&running.instances)));
        Ok(line)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn start(options: &ChildOptions) -> Result<Running, String> {
    let could_not = |error: io::Error| format!("its process could not be started: {error}");
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(could_not)?;
    ours.set_nonblocking(true).map_err(could_not)?;
    let mut child = Command::new(&options.program)
        .arg("plugin-runner")
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
    if let Some(stderr) = child.stderr.take() {
        tokio::spawn(log_stderr(options.name.clone(), stderr, Arc::clone(&last_words)));
    }
    let (mut reader, writer) = UnixStream::from_std(ours).map_err(could_not)?.into_split();
    let Ok(first) = tokio::time::timeout(OPEN_WITHIN, read(&mut reader)).await else {
        // The process goes with this value.
        return Err(format!("it hung while it was opened; its process was ended after {} s", OPEN_WITHIN.as_secs()));
    };
    match first {
        Ok((Kind::Ready, _, reason)) if reason.is_empty() => {}
        Ok((Kind::Ready, _, reason)) => return Err(String::from_utf8_lossy(&reason).into_owned()),
        Ok(_) => return Err("its process spoke before it was ready".into()),
        Err(_) => {
            let _ = child.start_kill();
            let status = child.wait().await.map_err(could_not)?;
            return Err(format!("its process ended while it was started ({})", ended(status)));
        }
    }
    let instances: Instances = Arc::new(Mutex::new(Some(HashMap::new())));
    let kill = Arc::new(Notify::new());
    let (gone, is_gone) = oneshot::channel();
    tokio::spawn(watch(child, Arc::clone(&kill), is_gone, Arc::clone(&instances), last_words, options.name.clone()));
    tokio::spawn(read_all(reader, Arc::clone(&instances), gone));
    Ok(Running { writer: Arc::new(tokio::sync::Mutex::new(writer)), instances, next_instance: 1, kill })
}

async fn read(reader: &mut OwnedReadHalf) -> io::Result<(Kind, u64, Vec<u8>)> {
    let mut head = [0; 4];
    reader.read_exact(&mut head).await?;
    let mut body = vec![0; length(head)?];
    reader.read_exact(&mut body).await?;
    parse(body)
}

/// Hands frames from the process to their instances, until the socket ends.
async fn read_all(mut reader: OwnedReadHalf, instances: Instances, gone: oneshot::Sender<Option<String>>) {
    let reason = loop {
        let (kind, instance, payload) = match read(&mut reader).await {
            Ok(message) => message,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break None,
            Err(error) => break Some(error.to_string()),
        };
        let out = lock(&instances).as_ref().and_then(|instances| instances.get(&instance).cloned());
        let Some(out) = out else { continue };
        match kind {
            Kind::Frame => {
                let _ = out.send(FromChannel::Frame(payload)).await;
            }
            Kind::Ended => {
                let reason = String::from_utf8_lossy(&payload).into_owned();
                let _ = out.send(FromChannel::Ended(reason)).await;
            }
            Kind::Open | Kind::Close | Kind::Ready => break Some("it said what only the host says".into()),
        }
    };
    let _ = gone.send(reason);
}

/// Waits for the end of the process, and tells every instance.
async fn watch(
    mut child: Child,
    kill: Arc<Notify>,
    is_gone: oneshot::Receiver<Option<String>>,
    instances: Instances,
    last_words: Arc<Mutex<String>>,
    name: String,
) {
    let mut why = None;
    let status = tokio::select! {
        status = child.wait() => status,
        gone = is_gone => {
            why = gone.ok().flatten();
            // The socket has ended: whatever it still does, nobody hears it.
            let _ = child.start_kill();
            child.wait().await
        }
        () = kill.notified() => {
            why = Some("it did not answer any more and was ended".into());
            let _ = child.start_kill();
            child.wait().await
        }
    };
    let status = status.map_or_else(|error| error.to_string(), ended);
    let reason = match why {
        Some(why) => format!("the plugin's process ended: {why}"),
        None => format!("the plugin's process ended ({status})"),
    };
    let words = lock(&last_words).clone();
    let ended = lock(&instances).take().unwrap_or_default();
    if !ended.is_empty() {
        tracing::warn!(channel.name = %name, status = %status, last_words = %words, "plugin process ended");
    }
    for out in ended.into_values() {
        let _ = out.send(FromChannel::Ended(reason.clone())).await;
    }
}

fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no status".into(),
    }
}

/// Hands an instance's frames to the process, until the line is dropped.
async fn forward(
    instance: u64,
    mut ends: HomeEnds,
    writer: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
    instances: Instances,
) {
    let mut next = message(Kind::Open, instance, &[]);
    loop {
        if writer.lock().await.write_all(&next).await.is_err() {
            break;
        }
        match ends.frames.recv().await {
            Some(frame) => next = message(Kind::Frame, instance, &frame),
            None => break,
        }
    }
    if let Some(instances) = &mut *lock(&instances) {
        instances.remove(&instance);
    }
    let _ = writer.lock().await.write_all(&message(Kind::Close, instance, &[])).await;
}

/// Writes what the process says on its standard error into the log, line by line, not more than it deserves.
async fn log_stderr(name: String, stderr: tokio::process::ChildStderr, last_words: Arc<Mutex<String>>) {
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
