//! A host inside a benchmark's own process.

use omni_host::Host;
use omni_host::clock::Clock;
use omni_host::config::{Config, Isolation};
use omni_host::data::DataFolder;
use omni_host::instances::NewInstance;
use omni_host::run::{Start, run};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A host in this process, with one plugin, in its default shape but for what is configured.
pub async fn start_host(
    folder: &Path,
    plugin: &Path,
    isolation: Isolation,
    configure: impl FnOnce(&mut Config),
) -> (Host, CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let mut config = Config::default();
    config.data.dir = folder.join("data");
    config.plugins.isolation = isolation;
    config.plugins.watch = false;
    configure(&mut config);
    let plugins = config.data.dir.join("plugins");
    std::fs::create_dir_all(&plugins).expect("the plugins folder");
    std::fs::copy(plugin, plugins.join(plugin.file_name().expect("a name"))).expect("the plugin");
    let data = DataFolder::open(&config.data.dir, config.database_file().as_deref()).expect("the data folder");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let start = Start {
        config,
        data,
        listener,
        clock: Clock::system(),
        bundled: None,
        program: PathBuf::from(env!("CARGO_BIN_EXE_omni")),
        metrics: None,
        connect: true,
        log: None,
        shutdown: shutdown.clone(),
    };
    let running = tokio::spawn(run(start, ready));
    let (_, host) = is_ready.await.expect("the host starts");
    (host, shutdown, running)
}

/// An echo instance; gives back its id.
pub async fn instance(host: &Host, config: Value) -> Uuid {
    let config: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
    let new = NewInstance { name: "bench".into(), channel: "echo".into(), config, ..NewInstance::default() };
    host.instances.create(new).await.expect("an echo instance").id
}
