//! Runs WASM components: each instance of a channel is an instance of its component, in a store of its own, and a task of
//! the host's hands it one frame after the other. It gets nothing but the frames: no file, no environment, no clock, no
//! socket.
//!
//! A guest that traps, takes too long for a frame or wants more memory than it may have has ended: its line says why, in a
//! sentence, and the supervisor makes the instance anew. While it computes it gives way every 10 ms, so that it holds no
//! thread of the host's, and while it waits for the host it holds none either.
//!
//! Compiled code is cached by the content of the file, the compiler and its settings, in a folder of the host's own.
//! Deliberately not here: whether a file may be used, and what the host does for a channel.

use super::line::{FromChannel, HomeEnds, Line, ToHome, check_size, line};
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use wasmtime::component::{Component, InstancePre, Linker, TypedFunc};
use wasmtime::{
    Cache, CacheConfig, Config, Engine, EngineWeak, ResourceLimiter, Store, StoreContextMut, Trap, UpdateDeadline,
};

#[cfg(test)]
mod tests;

/// What a component imports and exports; the SDK has the contract.
const HOST: &str = "omni:channel/host@1.0.0";
const CHANNEL: &str = "omni:channel/channel@1.0.0";
/// How often a guest that computes gives way.
const TICK: Duration = Duration::from_millis(10);
/// How deep a guest may call itself, in bytes of its stack.
const STACK: usize = 1 << 20;
/// Tables, memories and core instances that one component may be made of.
const PARTS: usize = 64;

/// What a guest may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of memory; 0 is no limit.
    pub memory: u64,
    /// Entries in each of its tables; 0 is no limit.
    pub tables: u64,
    /// Time for one frame.
    pub frame: Duration,
    /// What may be computed on one frame; 0 is no limit but that of time.
    pub fuel: u64,
}

impl Limits {
    fn fuel(self) -> u64 {
        if self.fuel == 0 { u64::MAX } else { self.fuel }
    }
}

/// Makes components ready to run. Cheap to clone.
#[derive(Clone)]
pub struct Sandbox(Arc<Inner>);

struct Inner {
    cache: PathBuf,
    /// Made for the first component, or why it cannot be: a host without one needs none of it.
    runtime: OnceLock<Result<Runtime, String>>,
}

struct Runtime {
    engine: Engine,
    linker: Linker<Guest>,
    /// Of the host, its compiler and the settings.
    version: String,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sandbox")
    }
}

/// A component that was compiled. Cheap to clone.
#[derive(Clone)]
pub struct Ready(InstancePre<Guest>);

impl std::fmt::Debug for Ready {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ready")
    }
}

impl Sandbox {
    /// One that keeps compiled code in a folder. Nothing is made before the first component.
    pub fn new(cache: PathBuf) -> Self {
        Self(Arc::new(Inner { cache, runtime: OnceLock::new() }))
    }

    /// Compiles a component, or finds it compiled, and looks whether the host has what it imports. Blocks.
    pub fn prepare(&self, bytes: &[u8]) -> Result<Ready, String> {
        self.runtime()?.prepare(bytes)
    }

    /// Marks what was prepared as good. Without the mark it is prepared at the next start, too, and no more. Blocks.
    pub fn mark_good(&self, sha256: &str) {
        if let Ok(runtime) = self.runtime() {
            let _ = std::fs::write(self.mark(runtime, sha256), []);
        }
    }

    /// Whether a component was found good before, by this host and its compiler: it need not be loaded to say so. Blocks.
    pub fn knows(&self, sha256: &str) -> bool {
        self.runtime().is_ok_and(|runtime| self.mark(runtime, sha256).exists())
    }

    fn runtime(&self) -> Result<&Runtime, String> {
        self.0.runtime.get_or_init(|| Runtime::new(&self.0.cache)).as_ref().map_err(Clone::clone)
    }

    fn mark(&self, runtime: &Runtime, sha256: &str) -> PathBuf {
        self.0.cache.join(format!("{sha256}.{}.good", runtime.version))
    }
}

impl Runtime {
    /// The error is a sentence.
    fn new(cache: &Path) -> Result<Self, String> {
        let mut config = Config::new();
        config.wasm_component_model(true).epoch_interruption(true).consume_fuel(true).max_wasm_stack(STACK);
        let mut cached = CacheConfig::new();
        cached.with_directory(cache);
        match Cache::new(cached) {
            Ok(cache) => drop(config.cache(Some(cache))),
            Err(error) => tracing::warn!(%error, "compiled plugins cannot be cached; each is compiled at every start"),
        }
        let engine = Engine::new(&config).map_err(|error| format!("WASM cannot be run here: {error:#}"))?;
        let mut linker = Linker::new(&engine);
        provide(&mut linker).map_err(|error| format!("WASM cannot be run here: {error:#}"))?;
        let of_engine = engine.weak();
        let ticking = std::thread::Builder::new().name("omni-wasm-tick".into()).spawn(move || tick(&of_engine));
        ticking.map_err(|error| format!("WASM cannot be run here: no thread for its time: {error}"))?;
        let mut settings = std::hash::DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut settings);
        let version = format!("{}-{:016x}", env!("CARGO_PKG_VERSION"), settings.finish());
        Ok(Self { engine, linker, version })
    }

    fn prepare(&self, bytes: &[u8]) -> Result<Ready, String> {
        let component = Component::new(&self.engine, bytes)
            .map_err(|error| format!("it is damaged, or no component that this host can run ({error:#})"))?;
        let linked = self.linker.instantiate_pre(&component);
        let component = linked.map_err(|error| {
            format!("it needs what this host does not give ({error:#}); a newer host may load it, or it is no channel")
        })?;
        let exports = component.component().get_export_index(None, CHANNEL);
        exports.ok_or_else(|| format!("it is a component and no channel: it does not export {CHANNEL}"))?;
        Ok(Ready(component))
    }
}

/// Moves the time of guests for as long as there is somebody to have any.
fn tick(engine: &EngineWeak) {
    while let Some(engine) = engine.upgrade() {
        engine.increment_epoch();
        drop(engine);
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a thread of its own, and the machine's time")]
fn pause() {
    std::thread::sleep(TICK);
}

/// What the host has for a component.
fn provide(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.instance(HOST)?.func_wrap_async("deliver", deliver_to_host)
}

/// Takes a frame from a guest; returns when there is room for it.
fn deliver_to_host(
    mut store: StoreContextMut<'_, Guest>,
    (frame,): (Vec<u8>,),
) -> Box<dyn Future<Output = wasmtime::Result<(bool,)>> + Send + '_> {
    let out = store.data_mut().out.clone();
    Box::new(async move {
        let frame = match check_size(&frame) {
            Ok(()) => FromChannel::Frame(frame),
            Err(reason) => FromChannel::Ended(reason),
        };
        let goes_on = matches!(frame, FromChannel::Frame(_));
        let taken = out.send(frame).await.is_ok();
        Ok((taken && goes_on,))
    })
}

/// What belongs to one instance.
struct Guest {
    out: tokio::sync::mpsc::Sender<FromChannel>,
    memory: usize,
    tables: usize,
    /// What it wanted more of than it may have.
    refused: Option<&'static str>,
}

impl ResourceLimiter for Guest {
    fn memory_growing(&mut self, _now: usize, wanted: usize, _most: Option<usize>) -> wasmtime::Result<bool> {
        let fits = wanted <= self.memory;
        if !fits {
            self.refused = Some("memory");
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _now: usize, wanted: usize, _most: Option<usize>) -> wasmtime::Result<bool> {
        let fits = wanted <= self.tables;
        if !fits {
            self.refused = Some("tables");
        }
        Ok(fits)
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}

type Deliver = TypedFunc<(Vec<u8>,), (Result<(), String>,)>;

impl Ready {
    /// Makes an instance, which lives until its line is dropped.
    pub fn open(&self, limits: Limits) -> Line {
        let (line, ends) = line();
        tokio::spawn(live(self.clone(), limits, ends));
        line
    }

    async fn begin(&self, limits: Limits, ends: &HomeEnds) -> (Store<Guest>, Result<Deliver, wasmtime::Error>) {
        let most = |limit: u64| if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        let (memory, tables) = (most(limits.memory), most(limits.tables));
        let guest = Guest { out: ends.out.clone(), memory, tables, refused: None };
        let mut store = Store::new(self.0.engine(), guest);
        store.limiter(|guest| guest);
        store.epoch_deadline_callback(|_| Ok(UpdateDeadline::Yield(1)));
        store.set_epoch_deadline(1);
        let found = async {
            store.set_fuel(limits.fuel())?;
            let instance = self.0.instantiate_async(&mut store).await?;
            let index = instance.get_export_index(&mut store, None, CHANNEL);
            let index = index.and_then(|index| instance.get_export_index(&mut store, Some(&index), "deliver"));
            let index = index.ok_or_else(|| wasmtime::Error::msg(format!("it has no `deliver` in {CHANNEL}")))?;
            instance.get_typed_func(&mut store, index)
        };
        let found = found.await;
        (store, found)
    }
}

/// The life of an instance. Its end is told when nothing of it is left.
async fn live(ready: Ready, limits: Limits, mut ends: HomeEnds) {
    if let Err(reason) = serve(ready, limits, &mut ends).await {
        let HomeEnds { frames, out } = ends;
        match out.try_send(FromChannel::Ended(reason)) {
            // Until it is read frames are taken: whose frame was not would say so, and not why.
            Ok(()) => out.closed().await,
            Err(TrySendError::Full(ended)) => {
                drop(frames);
                let _ = out.send(ended).await;
            }
            // The instance was ended.
            Err(TrySendError::Closed(_)) => {}
        }
    }
}

/// One frame after the other, until nobody sends any more or the guest has ended.
async fn serve(ready: Ready, limits: Limits, ends: &mut HomeEnds) -> Result<(), String> {
    let begun = tokio::time::timeout(limits.frame, ready.begin(limits, ends)).await;
    let (mut store, begun) = begun.map_err(|_| late(limits, "was not ready to run"))?;
    let deliver = begun.map_err(|error| ended(&error, store.data(), limits))?;
    // Its room is free once the channel is done with it.
    while let Some(ToHome { frame, room: _room }) = ends.frames.recv().await {
        store.set_fuel(limits.fuel()).map_err(|error| ended(&error, store.data(), limits))?;
        let called = tokio::time::timeout(limits.frame, deliver.call_async(&mut store, (frame,)));
        let called = tokio::select! {
            called = called => called,
            // Nobody listens any more: what it computes is for nobody.
            () = ends.out.closed() => return Ok(()),
        };
        match called {
            Ok(Ok((Ok(()),))) => {}
            Ok(Ok((Err(reason),))) => return Err(format!("the channel did not understand the host: {reason}")),
            Ok(Err(error)) => return Err(ended(&error, store.data(), limits)),
            Err(_) => return Err(late(limits, "did not come back")),
        }
    }
    Ok(())
}

fn late(limits: Limits, what: &str) -> String {
    let seconds = limits.frame.as_secs_f64();
    format!("the channel {what} within {seconds} s (plugins.call_timeout_seconds) and was ended")
}

/// Why a guest has ended, in a sentence.
fn ended(error: &wasmtime::Error, guest: &Guest, limits: Limits) -> String {
    match guest.refused {
        Some("memory") => {
            let mib = limits.memory >> 20;
            return format!(
                "the channel wanted more memory than the {mib} MiB that it may have (plugins.memory_limit)"
            );
        }
        Some(_) => {
            let most = limits.tables;
            return format!(
                "the channel wanted tables of more than the {most} entries that they may have (table_entries)"
            );
        }
        None => {}
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::UnreachableCodeReached) => "the channel panicked; the log has its words".into(),
        Some(Trap::OutOfFuel) => format!(
            "the channel computed more on one frame than the {} units of fuel that it may (fuel_per_frame)",
            limits.fuel
        ),
        Some(Trap::StackOverflow) => "the channel called itself until its stack was full".into(),
        // A compiler puts the stack where its end is the end of memory.
        Some(Trap::MemoryOutOfBounds) => {
            "the channel reached outside of its memory; most often it called itself until its stack was full".into()
        }
        Some(trap) => format!("the channel trapped: {trap}"),
        None => format!("the channel could not be run: {}", error.root_cause()),
    }
}
