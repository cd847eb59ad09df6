//! `omni serve`: starts the host, and says where it is and what to do next.

use super::{CliError, Exit, Result, World};
use crate::clock::Clock;
use crate::config::{Config, ConfigError, Flag, Loaded};
use crate::data::DataFolder;
use crate::log::{self, LogError, LogLevel};
use crate::run::{self, Start, Started};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// Buckets of durations, in seconds.
const DURATIONS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// After so long without news a gauge is of something that is gone. Longer than anybody waits between two looks.
const GONE: Duration = Duration::from_secs(15 * 60);

/// Reads the configuration again.
pub(super) type Reload = Box<dyn Fn() -> Result<Loaded, ConfigError> + Send>;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file [default: omni.toml in this folder, if there is one]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The folder of the plugin files
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// How much to log: error, warn, info, debug, trace, or by part
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How to log: pretty for people, json for programs
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

pub(super) fn flags(args: &Args) -> Vec<Flag> {
    let listen = args.listen.clone().map(|value| Flag { name: "--listen", key: "http.listen", value });
    let plugins = args.plugins.as_ref().map(|dir| Flag {
        name: "--plugins",
        key: "plugins.dir",
        value: dir.to_string_lossy().into_owned(),
    });
    let level = args.log_level.clone().map(|value| Flag { name: "--log-level", key: "log.level", value });
    let format = args.log_format.clone().map(|value| Flag { name: "--log-format", key: "log.format", value });
    listen.into_iter().chain(plugins).chain(level).chain(format).collect()
}

/// The few lines that a person sees at the start.
pub fn banner(started: &Started) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "  {name:<9} {value}");
    };
    line("API", &format!("http://{}/api/v2   (docs: /api/v2/docs)", started.address));
    line("Data", &started.data.display().to_string());
    if started.plugins.is_empty() {
        line("Plugins", &format!("none; put their files into {}", started.plugins_dir.display()));
    }
    for (at, (file, state)) in started.plugins.iter().enumerate() {
        line(if at == 0 { "Plugins" } else { "" }, &format!("{file}: {state}"));
    }
    if let Some(key) = &started.first_key {
        line("API key", &format!("{key}   (shown this once)"));
    }
    if started.instances == 0 {
        line("Next", "omni instances create NAME --channel telegram --token-stdin");
    }
    line(if started.instances == 0 { "" } else { "Next" }, "omni events --follow");
    format!("omni {} is running\n{text}", env!("CARGO_PKG_VERSION"))
}

pub(super) fn start(loaded: Loaded, reload: Reload, world: &mut World) -> Result<()> {
    let colour = world.ui.terminal.err && world.ui.may_colour;
    let log = log::start(&loaded.config.log.level, loaded.config.log.format, colour).map_err(|error| match error {
        LogError::Level { .. } => CliError::usage(format!("`log.level`: {error}")),
        LogError::Failed(_) => CliError::failed(error.to_string()),
    })?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let stopped = runtime.block_on(serve(loaded.config, log, reload, world));
    // What a plugin's thread still does must not keep the process.
    runtime.shutdown_background();
    stopped
}

async fn serve(config: Config, log: LogLevel, reload: Reload, world: &mut World) -> Result<()> {
    let data = DataFolder::open(&config.data.dir, config.database_file().as_deref())
        .map_err(|error| CliError::failed(error.to_string()))?;
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        CliError::failed(format!("failed to listen on {listen}: {error}"))
            .help("choose another address with --listen or OMNI_LISTEN; port 0 takes any free one")
    })?;
    let metrics = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), DURATIONS)
        // Numbers of what is gone (an instance, a consumer) go as well.
        .and_then(|builder| builder.idle_timeout(MetricKindMask::GAUGE, Some(GONE)).install_recorder())
        .map_err(|error| CliError::failed(format!("failed to start the metrics: {error}")))?;
    crate::numbers::names::describe();
    let shutdown = CancellationToken::new();
    tokio::spawn(stop_on_signal(shutdown.clone()));
    tokio::spawn(keep_up(metrics.clone(), world.clock.clone()));
    tokio::spawn(reload_on_signal(log.clone(), reload));
    let start = Start {
        config,
        data,
        listener,
        clock: world.clock.clone(),
        bundled: world.program.parent().map(Path::to_path_buf),
        program: own_program(world),
        metrics: Some(metrics),
        connect: true,
        log: Some(log),
        shutdown,
    };
    let (ready, started) = oneshot::channel();
    let greet = async {
        match started.await {
            Ok((started, _)) => world.ui.note(&banner(&started)),
            // It failed before it answered, and says so itself.
            Err(_) => Ok(()),
        }
    };
    let (stopped, greeted) = tokio::join!(run::run(start, ready), greet);
    // `{:#}` says the causes as well.
    stopped.map_err(|error| CliError::failed(format!("{error:#}"))).and(greeted)
}

/// Lets go of what old measurements hold.
async fn keep_up(metrics: PrometheusHandle, clock: Clock) {
    loop {
        clock.sleep(Duration::from_secs(5)).await;
        metrics.run_upkeep();
    }
}

/// On `SIGHUP` the log level is read from the configuration again.
async fn reload_on_signal(log: LogLevel, reload: Reload) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!("SIGHUP cannot be caught; `omni log-level` changes the log level");
        return;
    };
    while hangup.recv().await.is_some() {
        match reload() {
            Ok(loaded) => {
                if let Err(error) = log.set(&loaded.config.log.level) {
                    tracing::warn!("`log.level` was not changed: {error}");
                }
            }
            Err(error) => tracing::warn!("the configuration was not read again: {error}"),
        }
    }
}

/// The first signal asks the host to stop, the second one does not ask.
async fn stop_on_signal(shutdown: CancellationToken) {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        tracing::warn!("signals cannot be caught; the host will end without draining");
        return;
    };
    let mut next = async || tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {} };
    next().await;
    tracing::info!("stopping; a second signal ends at once");
    shutdown.cancel();
    next().await;
    std::process::exit(i32::from(Exit::Failed as u8));
}

/// This program, to be started again. Under its own name in /proc it can still be started when its file was replaced meanwhile.
pub(super) fn own_program(world: &World) -> PathBuf {
    if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { world.program.clone() }
}
