//! A host inside a benchmark's own process.

use omni_host::Host;
use omni_host::clock::Clock;
use omni_host::config::{Config, DatabaseUrl, Isolation};
use omni_host::data::DataFolder;
use omni_host::instances::NewInstance;
use omni_host::run::{Start, run};
use serde_json::{Map, Value};
use sqlx::{Connection, Executor, PgConnection};
use std::path::{Path, PathBuf};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A new database on the server that `OMNI_BENCH_DATABASE` names, in the place of the one of the last run; `None` when
/// nobody names one, and the host uses a file.
async fn database() -> Option<DatabaseUrl> {
    let address = std::env::vars().find(|(name, _)| name == "OMNI_BENCH_DATABASE")?.1;
    let mut connection = PgConnection::connect(&address).await.expect("the server of OMNI_BENCH_DATABASE answers");
    for statement in [
        "drop database if exists omni_bench with (force)",
        "create database omni_bench encoding 'UTF8' template template0",
    ] {
        connection.execute(statement).await.expect("a database is made");
    }
    let mut url = reqwest::Url::parse(&address).expect("an address");
    url.set_path("/omni_bench");
    Some(url.as_str().parse().expect("an address"))
}

/// A host in this process, with one plugin, in its default shape.
pub async fn start_host(
    folder: &Path,
    plugin: &Path,
    isolation: Isolation,
) -> (Host, CancellationToken, tokio::task::JoinHandle<anyhow::Result<()>>) {
    let mut config = Config::default();
    config.data.dir = folder.join("data");
    config.plugins.isolation = isolation;
    config.plugins.watch = false;
    if let Some(url) = database().await {
        config.database.url = url;
    }
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
        log: None,
        shutdown: shutdown.clone(),
    };
    let running = tokio::spawn(run(start, ready));
    let (_, host) = is_ready.await.expect("the host starts");
    (host, shutdown, running)
}

/// An echo instance.
pub async fn instance(host: &Host, config: Value) {
    let config: Map<String, Value> = config.as_object().cloned().unwrap_or_default();
    let new = NewInstance { name: "bench".into(), channel: "echo".into(), config, ..NewInstance::default() };
    host.instances.create(new).await.expect("an echo instance");
}
