//! Plugin files as the SDK's conformance suite sees them: instances of a file, wherever it runs, at the end of a line.
//!
//! Deliberately not here: what is checked (the SDK's `testkit`), and how it is told (`cli`).

use super::admission;
use super::child::{ChildHome, ChildOptions};
use super::line::{FromChannel, Line};
use super::manifest::is_wasm;
use super::wasm::{Limits, Ready, Sandbox};
use crate::clock::Clock;
use omni_channel_sdk::manifest::Manifest;
use omni_channel_sdk::testkit::Port;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// A plugin file that can be opened again and again.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// What it says about itself.
    pub manifest: Manifest,
    home: Home,
    runtime: Arc<Runtime>,
}

#[derive(Clone, Debug)]
enum Home {
    Process(ChildHome),
    Sandbox(Ready, Limits),
}

/// Where a candidate is opened, and with how much of what.
#[derive(Clone, Debug)]
pub struct Place {
    /// This program, which is the far side of a native plugin.
    pub program: PathBuf,
    /// A folder of our own.
    pub folder: PathBuf,
    /// Bytes of memory that it may use.
    pub memory: u64,
    /// How long it may compute on one frame.
    pub frame: Duration,
}

impl Candidate {
    /// Looks at a file as a host does, and makes it ready to be opened. The error is the sentence that a host would say.
    pub fn new(bytes: &[u8], sha256: &str, place: &Place, runtime: Arc<Runtime>) -> Result<Self, String> {
        let manifest = admission::inspect(bytes, sha256).map_err(|refused| refused.reason)?;
        let home = if is_wasm(bytes) {
            let ready = Sandbox::new(place.folder.join("compiled")).prepare(bytes)?;
            Home::Sandbox(ready, Limits { memory: place.memory, tables: 0, frame: place.frame, fuel: 0 })
        } else {
            let library = place.folder.join(format!("{sha256}.so"));
            std::fs::write(&library, bytes)
                .map_err(|error| format!("it could not be copied to {}: {error}", library.display()))?;
            let child = ChildHome::new(ChildOptions {
                program: place.program.clone(),
                library,
                name: manifest.channel.id.clone(),
                clock: Clock::system(),
            });
            runtime.block_on(child.probe(place.memory))?;
            Home::Process(child)
        };
        Ok(Self { manifest, home, runtime })
    }

    /// An instance that waits for its start.
    pub fn open(&self) -> Result<Box<dyn Port>, String> {
        let line = match &self.home {
            Home::Sandbox(ready, limits) => {
                let _here = self.runtime.enter();
                ready.open(*limits)
            }
            Home::Process(child) => self.runtime.block_on(child.open(0)).map_err(|refused| refused.reason)?,
        };
        let runtime = Arc::clone(&self.runtime);
        Ok(Box::new(LinePort { line: Mutex::new(line), ended: Mutex::default(), runtime }))
    }
}

/// The near end of an instance's line.
struct LinePort {
    line: Mutex<Line>,
    ended: Mutex<Option<String>>,
    runtime: Arc<Runtime>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Port for LinePort {
    fn deliver(&self, frame: &[u8]) -> Result<(), String> {
        let taken = lock(&self.line).to_channel.send(frame.to_vec().into());
        taken.map_err(|_| self.ended().unwrap_or_else(|| "the instance has ended".into()))
    }

    fn next(&self, patience: Duration) -> Option<Vec<u8>> {
        let mut line = lock(&self.line);
        let next = async { tokio::time::timeout(patience, line.from_channel.recv()).await };
        match self.runtime.block_on(next) {
            Ok(Some(FromChannel::Frame(frame))) => Some(frame),
            Ok(Some(FromChannel::Ended(reason))) => {
                lock(&self.ended).get_or_insert(reason);
                None
            }
            Ok(None) | Err(_) => None,
        }
    }

    fn ended(&self) -> Option<String> {
        lock(&self.ended).clone()
    }
}
