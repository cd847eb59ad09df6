//! One instance's line to its channel, whichever home the channel runs in: frames there, frames back, and an end.

use super::native::{FrameSink, Library};
use super::wire::MAX_FRAME;
use std::sync::Arc;
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc};

/// Frames that a channel may be ahead of the host before its thread has to wait.
const FRAMES_AHEAD: usize = 256;

/// A channel's frame, or why the line has ended.
#[derive(Debug)]
pub enum FromChannel {
    /// A frame.
    Frame(Vec<u8>),
    /// The line is dead: the sentence says why.
    Ended(String),
}

/// A frame on its way to a channel.
#[derive(Debug)]
pub struct ToHome {
    /// It.
    pub frame: Vec<u8>,
    /// The room that an answer takes until the channel has read it.
    pub room: Option<Room>,
}

/// What an answer takes of its instance's share while it is on its way.
#[derive(Debug)]
pub struct Room {
    /// Its place among those that were asked.
    pub place: OwnedSemaphorePermit,
    /// What it has in bytes.
    pub bytes: Option<OwnedSemaphorePermit>,
}

impl From<Vec<u8>> for ToHome {
    fn from(frame: Vec<u8>) -> Self {
        Self { frame, room: None }
    }
}

/// Both ends of a line, as the host holds them.
///
/// Frames *to* the channel are not bounded here: the host makes no more of them than it has calls under way and answers
/// that were not read, and those it bounds. If both directions could fill up, the two sides could wait for each other for
/// ever.
#[derive(Debug)]
pub struct Line {
    /// Towards the channel. Dropping it ends the instance's thread.
    pub to_channel: mpsc::UnboundedSender<ToHome>,
    /// From the channel.
    pub from_channel: mpsc::Receiver<FromChannel>,
    /// Ends the process behind it, when it has one of its own: the last resort against a channel that is stuck.
    pub kill: Option<Arc<Notify>>,
}

/// The ends that a home keeps.
pub(super) struct HomeEnds {
    pub frames: mpsc::UnboundedReceiver<ToHome>,
    pub out: mpsc::Sender<FromChannel>,
}

/// A line, and the ends for the home at its far side.
pub(super) fn line() -> (Line, HomeEnds) {
    let (to_channel, frames) = mpsc::unbounded_channel();
    let (out, from_channel) = mpsc::channel(FRAMES_AHEAD);
    (Line { to_channel, from_channel, kill: None }, HomeEnds { frames, out })
}

/// Frames go to the host's own tasks.
struct ThreadSink(mpsc::Sender<FromChannel>);

/// What no home carries: a channel that sends it has lost its way.
pub(super) fn check_size(frame: &[u8]) -> Result<(), String> {
    if frame.len() <= MAX_FRAME {
        return Ok(());
    }
    Err(format!("the channel sent {} bytes at once; {MAX_FRAME} are taken", frame.len()))
}

impl FrameSink for ThreadSink {
    fn deliver(&self, frame: Vec<u8>) -> bool {
        if let Err(reason) = check_size(&frame) {
            let _ = self.0.blocking_send(FromChannel::Ended(reason));
            return false;
        }
        self.0.blocking_send(FromChannel::Frame(frame)).is_ok()
    }
}

/// Makes an instance on a thread of its own in this process.
pub fn in_process(library: Library, name: &str) -> Result<Line, String> {
    let (line, ends) = line();
    let builder = std::thread::Builder::new().name(format!("channel {name}"));
    builder
        .spawn(move || run_instance_with(library, ThreadSink(ends.out.clone()), ends))
        .map_err(|error| format!("no thread for it: {error}"))?;
    Ok(line)
}

/// The life of an instance: one frame after the other, until nobody sends any more.
pub(super) fn run_instance_with(library: Library, sink: impl FrameSink, mut ends: HomeEnds) {
    let port = match library.instance(sink) {
        Ok(port) => port,
        Err(reason) => {
            let _ = ends.out.blocking_send(FromChannel::Ended(reason));
            return;
        }
    };
    // Its room is free once the channel is done with it.
    while let Some(ToHome { frame, room: _room }) = ends.frames.blocking_recv() {
        if let Err(reason) = port.deliver(&frame) {
            let _ = ends
                .out
                .blocking_send(FromChannel::Ended(format!("the channel did not understand the host: {reason}")));
            return;
        }
    }
}
