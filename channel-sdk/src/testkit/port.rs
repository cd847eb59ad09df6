//! What the suite knows a channel as: something that takes frames and yields frames.

use crate::channel::Channel;
use crate::context::HostSink;
use crate::driver::Driver;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// One instance of a channel, wherever it runs.
pub trait Port {
    /// Hands a frame over. The error says why it was no frame, or why the channel is gone.
    fn deliver(&self, frame: &[u8]) -> Result<(), String>;

    /// The next frame of the channel; `None` when none came for this long.
    fn next(&self, patience: Duration) -> Option<Vec<u8>>;

    /// Why there will be no more frames, when the instance has ended by itself.
    fn ended(&self) -> Option<String> {
        None
    }
}

struct Frames(Sender<Vec<u8>>);

impl HostSink for Frames {
    fn deliver(&self, frame: Vec<u8>) -> bool {
        self.0.send(frame).is_ok()
    }
}

/// An instance in this process, behind the same driver that every home of a plugin uses.
pub struct InProcess<C: Channel> {
    driver: Driver<C>,
    frames: Receiver<Vec<u8>>,
}

impl<C: Channel> InProcess<C> {
    /// An instance that waits for its start.
    pub fn open() -> Self {
        let (sender, frames) = channel();
        Self { driver: Driver::new(Arc::new(Frames(sender))), frames }
    }
}

impl<C: Channel> Port for InProcess<C> {
    fn deliver(&self, frame: &[u8]) -> Result<(), String> {
        self.driver.deliver(frame).map_err(|error| error.to_string())
    }

    fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        // A host-driven channel has written what it has to say when `deliver` returns: this waits for `own` ones.
        self.frames.try_recv().ok().or_else(|| self.frames.recv_timeout(patience).ok())
    }
}

impl<C: Channel> std::fmt::Debug for InProcess<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InProcess").finish_non_exhaustive()
    }
}
