//! Starts the parts, in the order in which they need each other, and ends them in the other.
//!
//! What comes from outside (configuration, listener, clock, end) is an argument. Nothing below reads the environment.

mod open;
mod options;

pub(crate) use open::{KEY_CHECK, check_key, open_store};

use crate::auth_state::AuthState;
use crate::bus::{Bus, BusOptions};
use crate::clock::Clock;
use crate::config::Config;
use crate::data::DataFolder;
use crate::dead_letters::DeadLetters;
use crate::echoes::Echoes;
use crate::egress::Egress;
use crate::erasure::Erasures;
use crate::history::{self, Gaps, History};
use crate::hosts::{self, Hosts, Joins};
use crate::http::plugin_listener::Intake;
use crate::http::{self, HttpOptions, Room};
use crate::inbound::Reached;
use crate::instances::{InstanceOptions, Instances};
use crate::log::LogLevel;
use crate::media::{self, MediaStore};
use crate::outbound::{self, Outbound, OutboundOptions};
use crate::plugins::host_api::Shared;
use crate::plugins::http_calls::HttpCalls;
use crate::plugins::{self, PluginState, Plugins};
use crate::replay::Replays;
use crate::rotation::Rotation;
use crate::store::hosts::Member;
use crate::store::{Hold, StoreError, api_keys};
use crate::webhooks::Webhooks;
use crate::{Host, audit, inbound, ledger, retention, traces};
use anyhow::Context;
use futures_util::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use open::{explained, hold_store, host_name, open_bus, open_unheld};
use options::{bus_options, plugin_options, serve_limits, sizes, webhook_options};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long the collector may take for the last traces.
const STOP_TRACES: Duration = Duration::from_secs(5);
/// How long instances may take to say goodbye.
const STOP_INSTANCES: Duration = Duration::from_secs(10);

/// What a host is given to begin with.
#[derive(Debug)]
pub struct Start {
    /// The configuration.
    pub config: Config,
    /// The data folder, locked.
    pub data: DataFolder,
    /// Where the API listens already.
    pub listener: TcpListener,
    /// Time.
    pub clock: Clock,
    /// Where the plugins lie that came with this program, if anywhere.
    pub bundled: Option<PathBuf>,
    /// This program, to run plugins in child processes.
    pub program: PathBuf,
    /// Where `/metrics` is read from.
    pub metrics: Option<PrometheusHandle>,
    /// Whether the instances are connected that people want connected.
    pub connect: bool,
    /// Turns the log up and down.
    pub log: Option<LogLevel>,
    /// Cancelled when the host is to stop.
    pub shutdown: CancellationToken,
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

/// Runs a host until it is told to stop. `ready` is told once it answers; it gets the parts, too, for whoever runs the
/// host inside another program (tests, benchmarks).
pub async fn run(start: Start, ready: oneshot::Sender<(Started, Host)>) -> anyhow::Result<()> {
    let Start { config, data, listener, clock, bundled, program, metrics, connect, log, shutdown } = start;
    let store = open_unheld(&config).await?;
    // With NATS there may be other hosts; with the log in the database this one has it alone.
    let alone = match config.bus.nats_options() {
        Some(_) => None,
        None => Some(hold_store(&config, &store, &clock).await?),
    };
    check_key(&store, &data, &clock).await?;

    let (traces, collector) = traces::start(&config.telemetry).context("failed to read `telemetry`")?;
    let bus_options = BusOptions { traces: traces.clone(), ..bus_options(&config) };
    let (bus, hosts, membership) = match alone {
        Some(hold) => {
            let bus = Bus::open(store.clone(), clock.clone(), bus_options).await.map_err(explained)?;
            (bus, Hosts::alone(), Membership::Alone(hold))
        }
        None => {
            let id = hosts::id_of(&data.path).context("failed to keep the id of this host in the data folder")?;
            let bus = open_bus(&config, bus_options, id, &store, &clock).await?;
            let host = Joins { id, name: &host_name(), sizes: sizes(&config), media: config.media_dir() };
            let joined = Hosts::join(&store, &bus, host, clock.now()).await;
            let (hosts, member) = joined.map_err(explained).context("failed to join the hosts of this database")?;
            (bus, hosts, Membership::Shared(member))
        }
    };
    let (reached, inbound) = inbound::look(&store, &bus).await.map_err(explained)?;
    let media = MediaStore::new(config.media_dir(), store.clone(), clock.clone(), config.retention.media_quota.0)
        .context("failed to make the media folder")?;
    media.take_stock().await.map_err(explained)?;
    let egress = Egress::of(&config.network).context("failed to read `network`")?;
    let calls = HttpCalls::new(media.clone(), egress.clone()).context("failed to start the HTTP client")?;
    let plugins = Plugins::new(plugin_options(&config, &data, bundled, program, clock.clone())?);
    let shared = Shared {
        clock: clock.clone(),
        store: store.clone(),
        bus: bus.clone(),
        media: media.clone(),
        sealer: data.sealer.clone(),
        http: calls,
        echoes: Echoes::default(),
        gaps: Gaps::new(store.clone(), clock.clone()),
    };
    let (echoes, gaps) = (shared.echoes.clone(), shared.gaps.clone());
    let call_within = Duration::from_secs(config.plugins.call_timeout_seconds.max(1));
    let limits = serve_limits(&config)?;
    // A quarter of what may be in memory is for networks, which have no key.
    let webhook_room = Room::new(config.http.request_memory.as_usize() / 4);
    let instance_options = InstanceOptions {
        call_within,
        public_url: config.http.public_url.clone(),
        intake: Intake { limits: limits.clone(), room: webhook_room.clone() },
        traces: traces.clone(),
        hosts: hosts.clone(),
        ..InstanceOptions::default()
    };
    let instances = Instances::new(shared, plugins.clone(), instance_options);
    let outbound = Outbound::new(
        store.clone(),
        instances.clone(),
        clock.clone(),
        OutboundOptions {
            call_within,
            max_attempts: config.outbound.max_attempts,
            reconcile_window: Duration::from_secs(config.outbound.reconcile_seconds),
            traces: traces.clone(),
            hosts: hosts.clone(),
            ..OutboundOptions::default()
        },
    );
    let webhooks = Webhooks::new(store.clone(), clock.clone(), egress, data.sealer.clone(), webhook_options(&config))
        .context("failed to start the HTTP client of webhooks")?;
    let replays = Replays::new(store.clone(), clock.clone(), webhooks.clone());
    let dead_letters = DeadLetters::new(store.clone(), clock.clone(), bus.clone(), inbound.clone(), webhooks.clone());
    let erasures = Erasures::new(store.clone(), clock.clone(), inbound.clone(), media.clone());
    let history = History::new(history::Parts {
        store: store.clone(),
        clock: clock.clone(),
        bus: bus.clone(),
        instances: instances.clone(),
        echoes,
        gaps,
    });
    let (sealer, own) = (data.sealer.clone(), instances.clone());
    let auth_state = AuthState::new(&data.path, store.clone(), clock.clone(), sealer, own)
        .context("failed to make the folder of auth snapshots")?;
    auth_state.sweep().await.map_err(explained)?;
    let host = Host {
        clock: clock.clone(),
        store: store.clone(),
        bus: bus.clone(),
        inbound,
        plugins: plugins.clone(),
        instances: instances.clone(),
        outbound: outbound.clone(),
        media: media.clone(),
        webhooks: webhooks.clone(),
        replays: replays.clone(),
        dead_letters: dead_letters.clone(),
        erasures: erasures.clone(),
        history: history.clone(),
        auth_state,
        hosts: hosts.clone(),
    };

    let first_key = api_keys::ensure_first_key(&store, clock.now()).await.map_err(explained)?;
    if let Some(key) = &first_key {
        data.write_cli_key(key).context("failed to keep the key of the command line")?;
    }
    plugins.rescan().await;

    let stop_traces = CancellationToken::new();
    let sending_traces = collector.map(|collector| tokio::spawn(collector.run(stop_traces.clone())));

    // Two ends: the first stops what comes in, the second what works it off.
    let stop_work = CancellationToken::new();
    let work = TaskTracker::new();
    // Without one of these the host would answer and do nothing: when one of them is no more, the host ends, too, and
    // whoever supervises it starts it again.
    let stop = shutdown.child_token();
    let vital = Vital { lost: Arc::default(), stop: stop.clone() };
    let (watched, told) = (bus.clone(), stop_work.clone());
    let log_ended = async move { told.run_until_cancelled(watched.ended()).await.unwrap_or_default() };
    work.spawn(vital.clone().run("the writer of the event log", stop_work.clone(), log_ended));
    let stop_holding = CancellationToken::new();
    let holding = tokio::spawn(vital.clone().run(
        "the hold on the database",
        stop_holding.clone(),
        membership.keep(stop_holding.clone()),
    ));
    if hosts.me().is_none() {
        outbound.recover(None).await.map_err(explained)?;
    }
    let stop_outbound = CancellationToken::new();
    let delivery = outbound::run(outbound.clone(), stop_outbound.clone());
    let mut delivering = tokio::spawn(vital.clone().run("the delivery of messages", stop_outbound.clone(), delivery));
    let limit = config.http.media_limit.0;
    let fetching = media::fetch_due(media.clone(), instances.clone(), limit, stop_work.clone());
    work.spawn(vital.clone().run("the fetching of files", stop_work.clone(), fetching));
    let asking = history.run(stop_work.clone());
    work.spawn(vital.clone().run("the fetching of history", stop_work.clone(), asking));
    let rotation = Rotation::new(data.path.clone(), store.clone(), data.sealer.clone(), clock.clone());
    let (audit, audit_writer) = audit::open(store.clone(), clock.clone());
    // It ends with the last request that it writes down.
    work.spawn(vital.clone().run("the audit log", stop.clone(), audit_writer.run(stop_work.clone())));
    let once = Once {
        host: host.clone(),
        config: config.clone(),
        reached: reached.clone(),
        rotation: rotation.clone(),
        vital: vital.clone(),
        stop: stop_work.clone(),
        work: work.clone(),
    };
    if hosts.me().is_none() {
        once.begin().await.map_err(explained)?;
    } else {
        let (hosts, stop) = (hosts.clone(), stop_work.clone());
        work.spawn(vital.clone().run("the work that is done once", stop.clone(), async move {
            if stop.run_until_cancelled(hosts.works()).await.is_some() {
                once.begin_for_good().await;
            }
        }));
    }
    if config.plugins.watch {
        work.spawn(plugins::watch(plugins.clone(), Clock::system(), stop_work.clone()));
    }
    if connect && hosts.me().is_none() {
        instances.start_active().await.map_err(|error| anyhow::anyhow!("{error}"))?;
    }

    let address = listener.local_addr().context("failed to find out where the API listens")?;
    let started = Started {
        address,
        data: data.path.clone(),
        plugins_dir: plugins.options().folder.clone(),
        plugins: plugins.list().into_iter().map(|plugin| describe(&plugin)).collect(),
        instances: instances.list(None).await.map(|list| list.len()).unwrap_or(0),
        first_key,
    };
    let for_whoever_waits = host.clone();

    let mut options = HttpOptions::new(store.feed().newest(), stop.clone());
    options.api_key = config.http.api_key.as_ref().map(|key| key.expose().to_owned());
    options.body_limit = config.http.body_limit.as_usize();
    options.media_limit = config.http.media_limit.as_usize();
    options.timeout = Duration::from_secs(config.http.request_timeout_seconds.max(1));
    options.send_wait = Duration::from_secs(config.outbound.wait_seconds);
    options.cors_origins.clone_from(&config.http.cors_origins);
    options.open_metrics = config.http.metrics_public;
    options.request_memory = config.http.request_memory.as_usize();
    options.webhook_room = webhook_room;
    options.rate_limit = Some(config.http.rate_limit).filter(|limit| *limit > 0);
    options.audit = Some(audit);
    options.rotation = Some(rotation);
    options.log = log;
    options.data_dir = Some(data.path.clone());
    options.audit_reads = config.http.audit_reads;
    options.metrics = metrics;
    options.traces = traces;
    let router = http::router(host, options);
    let stop_sharing = CancellationToken::new();
    let parts = hosts::Parts {
        hosts,
        bus: bus.clone(),
        instances: instances.clone(),
        outbound,
        plugins: plugins.clone(),
        reached,
        answers: http::answers(router.clone(), sizes(&config).largest),
    };
    let watchdog = hosts::watch(store.clone(), instances.clone()).context("failed to start the watchdog")?;
    let sharing = hosts::run(parts, stop_sharing.clone());
    let sharing = tokio::spawn(vital.clone().run("the sharing of instances", stop_sharing.clone(), sharing));
    // Whoever waited may have gone; the host runs all the same.
    let _ = ready.send((started, for_whoever_waits));
    http::serve(listener, router, limits, stop).await;

    tracing::info!("no request is open any more; finishing what is being sent, then ending the instances");
    // Nothing is begun any more that others give away.
    stop_sharing.cancel();
    let _ = sharing.await;
    // A send that is under way is let finish: cut off, nobody could say whether it went out.
    stop_outbound.cancel();
    let finished = tokio::time::timeout(STOP_INSTANCES, &mut delivering).await.is_ok();
    instances.stop_all(STOP_INSTANCES).await;
    drop(watchdog);
    stop_work.cancel();
    if !finished {
        // With their instances gone, the sends that were left have their outcome: unknown, and written down.
        let _ = tokio::time::timeout(STOP_INSTANCES, delivering).await;
    }
    work.close();
    work.wait().await;
    erasures.stop().await;
    replays.stop().await;
    webhooks.stop().await;
    bus.close().await;
    store.close().await;
    stop_traces.cancel();
    if let Some(sending) = sending_traces {
        // The last ones, when somebody takes them.
        let _ = tokio::time::timeout(STOP_TRACES, sending).await;
    }
    stop_holding.cancel();
    // What became of it the log says; the server lets go of it in any case.
    let _ = holding.await;
    tracing::info!("stopped");
    drop(data);
    match vital.lost.get() {
        Some(lost) => anyhow::bail!("{lost} failed; the log above says where. Nothing that was acknowledged is lost"),
        None => Ok(()),
    }
}

/// How this host may use its database.
enum Membership {
    Alone(Hold),
    Shared(Member),
}

impl Membership {
    /// Returns when it is told to, and has let go; or when it may not use it any more.
    async fn keep(self, stop: CancellationToken) {
        match self {
            Self::Alone(hold) => hold.keep(stop).await,
            Self::Shared(member) => hosts::keep(member, stop).await,
        }
    }
}

/// What is done by one host for all of them.
struct Once {
    host: Host,
    config: Config,
    reached: Reached,
    rotation: Rotation,
    vital: Vital,
    stop: CancellationToken,
    work: TaskTracker,
}

impl Once {
    /// Begins it, for as long as it takes: the database may be away just then.
    async fn begin_for_good(self) {
        const AGAIN: Duration = Duration::from_secs(1);
        while let Err(error) = self.begin().await {
            tracing::warn!(error = error.explain(), "the work that is done once cannot be begun; trying again");
            let again = self.host.clock.sleep(AGAIN);
            if self.stop.run_until_cancelled(again).await.is_none() {
                return;
            }
        }
        self.stop.cancelled().await;
    }

    /// Begins it.
    async fn begin(&self) -> Result<(), StoreError> {
        let Host { clock, store, bus, webhooks, replays, erasures, media, dead_letters, .. } = &self.host;
        let (vital, stop, retention) = (&self.vital, &self.stop, &self.config.retention);
        let storage = inbound::claim(store.clone(), bus.clone(), clock.clone(), self.reached.clone()).await?;
        webhooks.start().await?;
        replays.start().await?;
        erasures.start().await?;
        let run = |part, running| self.work.spawn(vital.clone().run(part, stop.clone(), running));
        run("the storage consumer", Box::pin(storage.run(stop.clone())) as BoxFuture<'static, ()>);
        if let Some(publisher) = bus.publisher() {
            run("the publishing of events", Box::pin(publisher.run(stop.clone())));
        }
        if let Some(advisories) = bus.advisories() {
            run("the dead letters of NATS", Box::pin(advisories.run(stop.clone())));
        }
        let (trimmed, told) = (bus.clone(), stop.clone());
        let trimming = async move { told.run_until_cancelled(trimmed.keep_trimmed()).await.unwrap_or_default() };
        run("the trimming of the log", Box::pin(trimming));
        let collecting = media::keep_collected(media.clone(), retention.clone(), stop.clone());
        run("the collection of files", Box::pin(collecting));
        let watching = ledger::watch(store.clone(), bus.clone(), clock.clone(), stop.clone());
        run("the ledger", Box::pin(watching));
        let retaining = retention::run(store.clone(), retention.clone(), clock.clone(), stop.clone());
        run("retention", Box::pin(retaining));
        run("the retries of dead letters", Box::pin(dead_letters.clone().run(stop.clone())));
        self.work.spawn(self.rotation.clone().resume(stop.clone()));
        Ok(())
    }
}

/// Watches the parts that the host is nothing without.
#[derive(Clone, Debug)]
struct Vital {
    /// The one that ended when it should not have; the first counts.
    lost: Arc<OnceLock<&'static str>>,
    /// Stops the host.
    stop: CancellationToken,
}

impl Vital {
    /// Runs a part until it ends, if by a panic. Unless it was told to, the host stops.
    async fn run(
        self,
        part: &'static str,
        told: CancellationToken,
        running: impl Future<Output = ()> + Send + 'static,
    ) {
        let _ = tokio::spawn(running).await;
        if told.is_cancelled() {
            return;
        }
        if self.lost.set(part).is_ok() {
            tracing::error!("{part} has ended by itself; the host stops");
        }
        self.stop.cancel();
    }
}

fn describe(plugin: &plugins::Plugin) -> (String, String) {
    let name = match &plugin.manifest {
        Some(manifest) => format!("{} {}", manifest.channel.id, manifest.version),
        None => plugin.file.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let state = match &plugin.state {
        PluginState::Found => "being checked".to_owned(),
        PluginState::Loaded => "loaded".to_owned(),
        PluginState::Running { instances } => format!("running ({instances})"),
        PluginState::Failed { reason } => format!("failed: {reason}"),
    };
    (name, state)
}
