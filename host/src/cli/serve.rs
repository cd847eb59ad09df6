//! `omni serve`: starts the host, and says where it is and what to do next.

use super::{CliError, Result, World};
use crate::config::{Flag, Loaded, LogFormat};
use omni_channel_sdk::manifest::Manifest;
use std::ffi::OsString;
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use tracing_subscriber::EnvFilter;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where to listen
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// The folder of the plugin files
    #[arg(long, value_name = "DIR")]
    plugins: Option<PathBuf>,
}

pub(super) fn flags(args: &Args) -> Vec<Flag> {
    let listen = args.listen.clone().map(|value| Flag { name: "--listen", key: "http.listen", value });
    let plugins = args.plugins.as_ref().map(|dir| Flag {
        name: "--plugins",
        key: "plugins.dir",
        value: dir.to_string_lossy().into_owned(),
    });
    listen.into_iter().chain(plugins).collect()
}

/// What the host says once it answers.
#[derive(Clone, Debug)]
pub struct Started {
    /// Where it listens.
    pub address: SocketAddr,
    /// The data folder.
    pub data: PathBuf,
    /// Where plugins are put.
    pub plugins_dir: PathBuf,
    /// Each plugin file with what became of it, in a word or a sentence.
    pub plugins: Vec<(String, String)>,
    /// How many instances there are.
    pub instances: usize,
    /// The first API key, when it was made just now.
    pub first_key: Option<String>,
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

/// Starts the log, as the configuration wants it. Only the first call in a process does anything.
fn start_log(loaded: &Loaded) -> Result<()> {
    let filter = EnvFilter::try_new(&loaded.config.log.level)
        .map_err(|error| CliError::usage(format!("`log.level`: {error}")))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match loaded.config.log.format {
        LogFormat::Pretty => log.with_target(false).try_init(),
        LogFormat::Json => log.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| CliError::failed(format!("failed to start the log: {error}")))
}

pub(super) fn run(loaded: Loaded, _world: &mut World) -> Result<()> {
    start_log(&loaded)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    Err(CliError::failed("this build has no server"))
}

/// Runs one plugin in this process, for the host that started it.
pub(super) fn plugin_runner(_args: Vec<OsString>) -> Result<()> {
    Err(CliError::failed("this build has no plugin runner"))
}

/// What a plugin file says about itself, or why it says nothing.
pub(super) fn manifest_of(_file: &[u8]) -> Result<Manifest, String> {
    Err("this build cannot read plugin files".into())
}
