//! One content of a plugin file, opened: where its instances are made. Two files with one content share it, and a file
//! that is checked again keeps it.

use super::admission::Admitted;
use super::allowance::Allowance;
use super::child::{ChildHome, ChildOptions};
use super::line::in_process;
use super::native::Library;
use super::types::{Counters, Home, NotOpened, Opened, PluginOptions, Running};
use super::wasm::{Limits, Ready, Sandbox};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::OnceCell;

/// Threads of one plugin that may hang in this process before no other is given to it.
const MAX_HUNG: usize = 8;

/// A plugin on which instances can be made.
#[derive(Debug)]
pub struct Content {
    /// What was admitted.
    pub admitted: Admitted,
    /// Opened when the first instance wants to run in process.
    library: OnceCell<Library>,
    /// Compiled when the first instance wants to run, when it is WASM.
    component: OnceCell<Ready>,
    sandbox: Sandbox,
    frame_within: Duration,
    /// Started when the first instance wants to run in a process.
    pub(super) child: ChildHome,
    pub(super) counters: Arc<Counters>,
}

impl Content {
    /// An admitted content that is not opened yet.
    pub fn new(admitted: Admitted, options: &PluginOptions) -> Self {
        let channel = admitted.manifest.channel.id.clone();
        let sandbox = options.sandbox.clone();
        let child = ChildHome::new(ChildOptions {
            program: options.program.clone(),
            library: admitted.copy.clone(),
            name: channel,
            clock: options.clock.clone(),
        });
        let (library, component) = (OnceCell::new(), OnceCell::new());
        let frame_within = options.frame_within;
        Self { admitted, library, component, sandbox, frame_within, child, counters: Arc::default() }
    }

    /// How many instances run on it.
    pub fn instances(&self) -> usize {
        self.counters.instances.load(Ordering::Relaxed)
    }

    /// How many threads of it hang in this process.
    pub fn hung(&self) -> usize {
        self.counters.hung.load(Ordering::Relaxed)
    }

    /// Whether it can be opened at all where it is to run.
    pub async fn probe(&self, home: Home, allowance: &Allowance) -> Result<(), String> {
        match home {
            Home::InProcess => self.library().await.map(drop),
            Home::Process => self.child.probe(allowance.memory_bytes).await,
            Home::Sandbox => match self.is_known().await {
                true => Ok(()),
                false => self.component().await.map(drop),
            },
        }
    }

    async fn is_known(&self) -> bool {
        let (sha256, sandbox) = (self.admitted.sha256.clone(), self.sandbox.clone());
        tokio::task::spawn_blocking(move || sandbox.knows(&sha256)).await.unwrap_or(false)
    }

    async fn component(&self) -> Result<Ready, String> {
        let ready = self.component.get_or_try_init(|| async {
            let (admitted, sandbox) = (self.admitted.clone(), self.sandbox.clone());
            let prepared = tokio::task::spawn_blocking(move || {
                let bytes =
                    std::fs::read(&admitted.copy).map_err(|error| format!("its copy cannot be read: {error}"))?;
                let ready = sandbox.prepare(&bytes)?;
                sandbox.mark_good(&admitted.sha256);
                Ok(ready)
            });
            prepared.await.map_err(|_| "it could not be compiled".to_owned())?
        });
        ready.await.cloned()
    }

    async fn library(&self) -> Result<Library, String> {
        let opened = self.library.get_or_try_init(|| async {
            let copy = self.admitted.copy.clone();
            let opened = tokio::task::spawn_blocking(move || Library::open(&copy)).await;
            opened.map_err(|_| "it could not be opened".to_owned())?
        });
        opened.await.copied()
    }

    /// Makes an instance.
    pub async fn open(&self, home: Home, allowance: Allowance) -> Result<Opened, NotOpened> {
        let line = match home {
            Home::InProcess => {
                let hung = self.hung();
                if hung >= MAX_HUNG {
                    return Err(NotOpened::from(format!(
                        "{hung} threads of this plugin hang in the host; restart the host, and run the plugin in a \
                         process of its own (plugins.isolation = \"process\")"
                    )));
                }
                in_process(self.library().await?, &self.admitted.manifest.channel.id)?
            }
            Home::Process => self.child.open(allowance.memory_bytes).await?,
            Home::Sandbox => {
                let Allowance { memory_bytes: memory, fuel_per_frame: fuel, table_entries: tables, .. } = allowance;
                self.component().await?.open(Limits { memory, tables, frame: self.frame_within, fuel })
            }
        };
        Ok(Opened {
            line,
            manifest: self.admitted.manifest.clone(),
            sha256: self.admitted.sha256.clone(),
            home,
            allowance,
            running: Running::new(Arc::clone(&self.counters)),
        })
    }
}
