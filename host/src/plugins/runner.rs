//! The far side of a child process: opens one plugin and runs its instances, a thread each.
//!
//! It has no configuration, no environment and no runtime: a socket on its standard input, and the path of a library. It
//! shuts itself in before the library is opened ([`super::sandbox`]). When the socket ends, it ends, whatever its
//! threads are doing.

use super::line::{FromChannel, HomeEnds, ToHome, check_size, run_instance_with};
use super::native::{FrameSink, Library};
use super::sandbox;
use super::wire::{Kind, Ready, length, message, parse};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::{Mutex, mpsc};

/// The program `omni plugin-runner <library>`.
pub fn main(library: &Path, memory_limit: u64) -> ExitCode {
    let sandbox = match sandbox::enter(library, memory_limit) {
        Ok(sandbox) => sandbox,
        Err(reason) => return fail(&reason),
    };
    let socket = match io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) {
        Ok(socket) => socket,
        Err(error) => return fail(&format!("no socket on standard input: {error}")),
    };
    let Ok(writer) = socket.try_clone() else {
        return fail("the socket cannot be used twice");
    };
    let writer = Writer(Arc::new(Mutex::new(writer)));
    let opened = Library::open(library);
    let ready = Ready { sandbox, refused: opened.as_ref().err().cloned() };
    let ready = serde_json::to_vec(&ready).expect("it is plain data");
    if !writer.send(Kind::Ready, 0, &ready) {
        return ExitCode::FAILURE;
    }
    match opened {
        Ok(library) => run(socket, library, &writer),
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(reason: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{reason}");
    ExitCode::FAILURE
}

fn run(mut socket: UnixStream, library: Library, writer: &Writer) -> ExitCode {
    let mut instances: HashMap<u64, Instance> = HashMap::new();
    loop {
        let (kind, instance, payload) = match read(&mut socket) {
            Ok(Some(message)) => message,
            Ok(None) => end(),
            Err(error) => return fail(&format!("the socket failed: {error}")),
        };
        match kind {
            Kind::Open => {
                let (to_instance, frames) = mpsc::unbounded_channel();
                let (out, mut reasons) = mpsc::channel(1);
                let closed = Arc::new(AtomicBool::new(false));
                let sink = InstanceSink { writer: writer.clone(), instance, closed: Arc::clone(&closed) };
                let after = writer.clone();
                let thread = std::thread::Builder::new().name(format!("instance {instance}")).spawn(move || {
                    run_instance_with(library, sink, HomeEnds { frames, out });
                    if let Ok(FromChannel::Ended(reason)) = reasons.try_recv() {
                        after.send(Kind::Ended, instance, reason.as_bytes());
                    }
                });
                match thread {
                    Ok(_) => drop(instances.insert(instance, Instance { to_instance, closed })),
                    Err(error) => {
                        writer.send(Kind::Ended, instance, format!("no thread for it: {error}").as_bytes());
                    }
                }
            }
            Kind::Frame => {
                if let Some(Instance { to_instance, .. }) = instances.get(&instance) {
                    // An instance that has ended said so; what still comes for it is nobody's.
                    let _ = to_instance.send(payload.into());
                }
            }
            Kind::Close => {
                if let Some(Instance { closed, .. }) = instances.remove(&instance) {
                    closed.store(true, Ordering::Release);
                }
            }
            Kind::Ping => {
                writer.send(Kind::Pong, 0, &[]);
            }
            Kind::Ended | Kind::Ready | Kind::Pong => return fail("the host said what only a plugin says"),
        }
    }
}

/// Ends this process at once. Returning would run what the plugin registered for the end, and that may never come back.
fn end() -> ! {
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    std::process::exit(0)
}

/// An instance that runs here.
struct Instance {
    to_instance: mpsc::UnboundedSender<ToHome>,
    /// The host has let go of it: what its threads still say is said to nobody.
    closed: Arc<AtomicBool>,
}

fn read(socket: &mut UnixStream) -> io::Result<Option<(Kind, u64, Vec<u8>)>> {
    let mut head = [0; 4];
    match socket.read_exact(&mut head) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let mut body = vec![0; length(head)?];
    socket.read_exact(&mut body)?;
    parse(body).map(Some)
}

/// Writes whole messages, from any thread. Blocks while the host does not read: that is the brake.
#[derive(Clone)]
struct Writer(Arc<Mutex<UnixStream>>);

impl Writer {
    fn send(&self, kind: Kind, instance: u64, payload: &[u8]) -> bool {
        // In the order in which they come: a thread that says more than all others must not silence them.
        let mut socket = self.0.blocking_lock();
        socket.write_all(&message(kind, instance, payload)).is_ok()
    }
}

struct InstanceSink {
    writer: Writer,
    instance: u64,
    closed: Arc<AtomicBool>,
}

impl FrameSink for InstanceSink {
    fn deliver(&self, frame: Vec<u8>) -> bool {
        if self.closed.load(Ordering::Acquire) {
            return false;
        }
        if let Err(reason) = check_size(&frame) {
            self.closed.store(true, Ordering::Release);
            self.writer.send(Kind::Ended, self.instance, reason.as_bytes());
            return false;
        }
        self.writer.send(Kind::Frame, self.instance, &frame)
    }
}
