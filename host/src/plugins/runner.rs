//! The far side of a child process: opens one plugin and runs its instances, a thread each.
//!
//! It has no configuration, no environment and no runtime: a socket on its standard input, and the path of a library.
//! When the socket ends, it ends, whatever its threads are doing.

use super::line::{FromChannel, HomeEnds, run_instance_with};
use super::native::{FrameSink, Library};
use super::wire::{Kind, length, message, parse};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// The program `omni plugin-runner <library>`.
pub fn main(library: &Path) -> ExitCode {
    let socket = match io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from) {
        Ok(socket) => socket,
        Err(error) => return fail(&format!("no socket on standard input: {error}")),
    };
    let Ok(writer) = socket.try_clone() else {
        return fail("the socket cannot be used twice");
    };
    if let Err(error) = rustix::thread::set_no_new_privs(true) {
        return fail(&format!("no_new_privs cannot be set: {error}"));
    }
    let writer = Writer(Arc::new(Mutex::new(writer)));
    let opened = Library::open(library);
    let answer = opened.as_ref().err().map_or(&[][..], |reason| reason.as_bytes());
    if !writer.send(Kind::Ready, 0, answer) {
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
    let mut instances: HashMap<u64, mpsc::UnboundedSender<Vec<u8>>> = HashMap::new();
    loop {
        let (kind, instance, payload) = match read(&mut socket) {
            Ok(Some(message)) => message,
            Ok(None) => return ExitCode::SUCCESS,
            Err(error) => return fail(&format!("the socket failed: {error}")),
        };
        match kind {
            Kind::Open => {
                let (to_instance, frames) = mpsc::unbounded_channel();
                let (out, mut reasons) = mpsc::channel(1);
                let sink = InstanceSink { writer: writer.clone(), instance };
                let after = writer.clone();
                let thread = std::thread::Builder::new().name(format!("instance {instance}")).spawn(move || {
                    run_instance_with(library, sink, HomeEnds { frames, out });
                    if let Ok(FromChannel::Ended(reason)) = reasons.try_recv() {
                        after.send(Kind::Ended, instance, reason.as_bytes());
                    }
                });
                match thread {
                    Ok(_) => drop(instances.insert(instance, to_instance)),
                    Err(error) => {
                        writer.send(Kind::Ended, instance, format!("no thread for it: {error}").as_bytes());
                    }
                }
            }
            Kind::Frame => {
                if let Some(to_instance) = instances.get(&instance) {
                    // An instance that has ended said so; what still comes for it is nobody's.
                    let _ = to_instance.send(payload);
                }
            }
            Kind::Close => drop(instances.remove(&instance)),
            Kind::Ended | Kind::Ready => return fail("the host said what only a plugin says"),
        }
    }
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
        let mut socket = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        socket.write_all(&message(kind, instance, payload)).is_ok()
    }
}

struct InstanceSink {
    writer: Writer,
    instance: u64,
}

impl FrameSink for InstanceSink {
    fn deliver(&self, frame: Vec<u8>) -> bool {
        self.writer.send(Kind::Frame, self.instance, &frame)
    }
}
