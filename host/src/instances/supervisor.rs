//! The life of one connected instance: make it, start it, run its ingress, and begin again with backoff when it ends.

use super::config;
use super::farewell;
use super::grants;
use super::ingress::{self, Backoff, End, Line};
use super::live::{Live, WebhookGate};
use super::proxy;
use super::state::{Reporter, keep};
use super::webhooks;
use super::websocket::{self, Switchboard};
use crate::egress::Origins;
use crate::http::plugin_listener::Intake;
use crate::plugins::host_api::{Services, Shared};
use crate::plugins::http_calls::{HttpCalls, Secrets};
use crate::plugins::session::{CallError, Session, Started, Wishes};
use crate::plugins::{Allowance, Home, NotOpened, Opened, Plugins, Running};
use crate::store::{Time, instances as rows, state_snapshots};
use crate::traces::Traces;
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::frame::{Egress, TimerSet};
use omni_channel_sdk::ingress::{Ingress, SocketAct, Verify, Webhook};
use omni_channel_sdk::manifest::Secrets as SecretsMode;
use serde_json::Value;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Requests from the network that wait in front of one instance; more are refused with 503.
const WEBHOOK_QUEUE: usize = 1_024;
/// A life that lasted so long was a good one: the next failure is a first one again.
const GOOD_LIFE_MS: i64 = 60_000;
/// How long a channel may take to say goodbye.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// What a supervisor needs.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// The handles that serve all instances.
    pub shared: Shared,
    /// Plugin files.
    pub plugins: Plugins,
    /// The instance's live side.
    pub live: Arc<Live>,
    /// Its channel.
    pub channel: String,
    /// Where it is to run, when that is not left to the configuration.
    pub isolation: Option<Home>,
    /// How long a call into the channel may take.
    pub call_within: Duration,
    /// Makes spans of what comes in.
    pub traces: Traces,
    /// How long a start may take.
    pub start_within: Duration,
    /// How much comes in on an address of its own.
    pub intake: Intake,
    /// Where the network reaches its webhook, if the host has a public address.
    pub webhook_url: Option<String>,
    /// Ends it.
    pub cancel: CancellationToken,
}

/// What an instance is given to begin with.
pub(super) struct Prepared {
    pub(super) secrets: Secrets,
    pub(super) origins: Origins,
    pub(super) http: HttpCalls,
    /// As the channel gets it: whole, defaults filled in, secrets as words that the host fills in later.
    pub(super) config: Value,
}

impl Prepared {
    /// For an instance that is opened like this, with this configuration.
    pub(super) fn new(opened: &Opened, http: HttpCalls, split: &config::Split, private_fields: &[String]) -> Self {
        let channel = &opened.manifest.channel;
        let mut joined = split.joined(channel);
        let plain = split.secrets.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        let (secrets, words) = Secrets::new(plain);
        if channel.secrets == SecretsMode::Placeholder {
            joined.extend(words.into_iter().map(|(name, word)| (name, Value::String(word))));
        }
        let origins = match opened.home {
            Home::Sandbox => grants::sandboxed(channel, &joined, private_fields),
            Home::InProcess | Home::Process => grants::origins(&joined, private_fields),
        };
        let origins = match &opened.allowance.granted_hosts {
            Some(hosts) => origins.granted_only(hosts.iter().cloned()),
            None => origins,
        };
        Self { secrets, origins, http, config: Value::Object(joined) }
    }
}

/// Why one life has ended.
enum Ended {
    Cancelled,
    PluginChanged,
    Because(End),
    /// The plugin cannot be started before then.
    Braked(String, Time),
}

impl Supervisor {
    /// Runs until it is cancelled. The last state says why it is not connected.
    pub async fn run(self) {
        let reporter = Reporter::new(Arc::clone(&self.live), self.shared.clock.clone());
        let finished = CancellationToken::new();
        let keeper = tokio::spawn(keep(
            Arc::clone(&self.live),
            self.channel.clone(),
            self.shared.store.clone(),
            self.shared.clock.clone(),
            finished.clone(),
        ));
        let mut backoff = Backoff::new();
        let mut plugins = self.plugins.changed();
        loop {
            plugins.mark_unchanged();
            let ended = self.live_once(&reporter, &mut backoff).await;
            self.live.set_gate(None);
            self.live.session.send_replace(None);
            // Before anybody is told that it ended: a clock that is moved by hand may move then.
            let ended_at = self.shared.clock.now();
            match ended {
                // It was asked before it ended, or had not come up.
                Ended::Cancelled => {}
                Ended::Because(End::Terminal(_)) => self.live.is_cut_off.store(false, Ordering::Relaxed),
                _ => self.live.is_cut_off.store(true, Ordering::Relaxed),
            }
            let due = match ended {
                Ended::Cancelled => break,
                Ended::PluginChanged => {
                    reporter.set(ConnectionState::Connecting);
                    continue;
                }
                Ended::Because(End::Terminal(state)) => {
                    reporter.set(state);
                    None
                }
                Ended::Because(End::Retry(reason)) => {
                    reporter.set(ConnectionState::Disconnected { reason, transient: true });
                    metrics::counter!("omni_instance_retries_total", "channel" => self.channel.clone()).increment(1);
                    Some(ended_at.plus(backoff.step()))
                }
                Ended::Braked(reason, not_before) => {
                    reporter.set(ConnectionState::Disconnected { reason, transient: true });
                    Some(not_before.max(ended_at.plus(backoff.step())))
                }
            };
            let again = async {
                match due {
                    Some(due) => self.shared.clock.sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.cancel.cancelled() => break,
                () = again => {}
                // A new plugin file may be just what was missing.
                _ = plugins.changed() => {}
            }
            reporter.set(ConnectionState::Connecting);
        }
        let terminal = matches!(
            self.live.state.borrow().state,
            ConnectionState::LoggedOut { .. } | ConnectionState::Disconnected { transient: false, .. }
        );
        if !terminal {
            let by_host = self.live.ending.get().copied();
            let reason = by_host.unwrap_or("disconnected by request").to_owned();
            reporter.set(ConnectionState::Disconnected { reason, transient: by_host.is_some() });
        }
        finished.cancel();
        // It has nothing to give back, and it does not panic.
        let _ = keeper.await;
    }

    async fn live_once(&self, reporter: &Reporter, backoff: &mut Backoff) -> Ended {
        let opened = tokio::select! {
            () = self.cancel.cancelled() => return Ended::Cancelled,
            opened = self.plugins.open(&self.channel, self.isolation) => opened,
        };
        let opened = match opened {
            Ok(opened) => opened,
            Err(NotOpened { reason, not_before: Some(due) }) => return Ended::Braked(reason, due),
            Err(NotOpened { reason, .. }) => return Ended::Because(End::Retry(reason)),
        };
        let Prepared { secrets, origins, http, config } = match self.prepare(&opened).await {
            Ok(prepared) => prepared,
            Err(end) => return Ended::Because(end),
        };
        let egress = match opened.manifest.channel.secrets {
            SecretsMode::Plain => match http.egress().told().await {
                Ok(egress) => egress,
                Err(error) => return Ended::Because(End::Retry(error.to_string())),
            },
            SecretsMode::Placeholder => Egress::default(),
        };
        let shared = Shared { http, ..self.shared.clone() };
        let allowance = opened.allowance.clone();
        let services = Services::new(shared, self.live.id, self.channel.clone(), secrets, origins, allowance);
        let (timers, set_timers) = mpsc::unbounded_channel();
        let (sockets, socket_acts) = mpsc::unbounded_channel();
        let session = Session::new(opened.line, services.clone(), Wishes { timers, sockets });
        let started = tokio::select! {
            () = self.cancel.cancelled() => {
                session.end("the instance was stopped");
                return Ended::Cancelled;
            }
            started = session.start(config, self.webhook_url.clone(), egress, self.start_within) => started,
        };
        let started = match started {
            Ok(started) => started,
            Err(error) => {
                let end = start_failed(&session, error);
                session.end("the instance did not start");
                if session.left_a_thread() {
                    opened.running.abandon();
                }
                return Ended::Because(end);
            }
        };
        let line = Line {
            session: session.clone(),
            services,
            reporter: reporter.clone(),
            within: self.call_within,
            traces: self.traces.clone(),
        };
        let is_published = CancellationToken::new();
        let mut ways = match self.open_ingress(&line, started, set_timers, socket_acts, &is_published).await {
            Ok(ways) => ways,
            Err(end) => {
                self.live.set_gate(None);
                let _ = session.stop(STOP_WITHIN).await;
                return Ended::Because(end);
            }
        };
        // From here on no state is missed.
        let mut states = session.state();
        let said = states.borrow_and_update().clone();
        // Whoever is told that it is connected can use it.
        self.live.session.send_replace(Some(session.clone()));
        self.live.is_cut_off.store(false, Ordering::Relaxed);
        let began = self.shared.clock.now();
        reporter.set(said.unwrap_or(ConnectionState::connected(None)));
        is_published.cancel();
        let begun_on = (&opened.sha256, opened.home, &opened.allowance);
        let ended = self.watch_over(&session, reporter, &mut ways, states, begun_on).await;
        if self.shared.clock.now() >= began.plus_millis(GOOD_LIFE_MS) {
            backoff.reset();
        }
        self.live.set_gate(None);
        self.live.session.send_replace(None);
        ways.shutdown().await;
        session.drain(STOP_WITHIN).await;
        if let (Ended::Cancelled, Some(wish)) = (&ended, self.live.farewell.get()) {
            let left = farewell::say(&session, *wish, &opened.manifest.channel.capabilities).await;
            if let Some(left) = left {
                tracing::warn!(instance.id = %self.live.id, channel.name = %self.channel, "ended by request, but {left}");
                // Said once.
                let _ = self.live.left_behind.set(left);
            }
        }
        stop(&session, opened.running).await;
        ended
    }

    /// Waits for whatever ends this life first.
    async fn watch_over(
        &self,
        session: &Session,
        reporter: &Reporter,
        ways: &mut JoinSet<End>,
        mut states: watch::Receiver<Option<ConnectionState>>,
        (sha256, home, allowance): (&String, Home, &Allowance),
    ) -> Ended {
        let mut session_ended = session.ended();
        let mut plugins = self.plugins.changed();
        // The file may have been replaced while the instance was started.
        plugins.mark_changed();
        loop {
            tokio::select! {
                () = self.cancel.cancelled() => return Ended::Cancelled,
                _ = session_ended.wait_for(Option::is_some) => {
                    let reason = session.ended().borrow().clone().unwrap_or_default();
                    return Ended::Because(End::Retry(reason));
                }
                Some(end) = ways.join_next() => {
                    return Ended::Because(end.unwrap_or_else(|error| End::Retry(format!("an ingress failed: {error}"))));
                }
                Ok(()) = states.changed() => {
                    let Some(state) = states.borrow_and_update().clone() else { continue };
                    match state {
                        ConnectionState::LoggedOut { .. } => return Ended::Because(End::Terminal(state)),
                        state => reporter.set(state),
                    }
                }
                Ok(()) = plugins.changed() => {
                    let now = self.plugins.channel(&self.channel);
                    let same = now.is_some_and(|plugin| {
                        plugin.sha256.as_ref() == Some(sha256)
                            && self.isolation.or(plugin.home) == Some(home)
                            && plugin.allowance.as_ref() == Some(allowance)
                    });
                    if !same {
                        let (id, channel) = (self.live.id, &self.channel);
                        tracing::info!(instance.id = %id, channel.name = %channel, "the plugin, or what it may use, changed");
                        return Ended::PluginChanged;
                    }
                }
            }
        }
    }

    /// What the instance is given to begin with, from its row as it is now.
    async fn prepare(&self, opened: &Opened) -> Result<Prepared, End> {
        let terminal = |reason: String| End::Terminal(ConnectionState::Disconnected { reason, transient: false });
        let row = rows::get(&self.shared.store, self.live.id)
            .await
            .map_err(|error| End::Retry(error.explain()))?
            .ok_or_else(|| terminal("the instance was deleted".into()))?;
        let http = proxy::calls(&row, &self.shared.sealer, &self.shared.http).map_err(terminal)?;
        let channel = &opened.manifest.channel;
        if i64::from(channel.state_version) < row.state_version {
            return Err(terminal(self.too_new(&row, channel.state_version).await));
        }
        let secrets = config::open(&self.shared.sealer, row.id, row.secrets.as_deref())
            .map_err(|reason| terminal(format!("{reason}; set the secrets again")))?;
        let split = config::Split { open: row.config.0, secrets };
        split.check(channel).map_err(terminal)?;
        let missing = split.missing(channel);
        if !missing.is_empty() {
            return Err(terminal(format!(
                "config.{} is missing; set it with: omni instances update {} --config {}=…",
                missing.join(", config."),
                row.name,
                missing[0]
            )));
        }
        if i64::from(channel.state_version) > row.state_version {
            let newer = async {
                let mut tx = self.shared.store.begin().await?;
                if row.state_version > 0 {
                    // The newer plugin may change all of it.
                    state_snapshots::take(&mut tx, row.id, row.state_version, self.shared.clock.now()).await?;
                }
                rows::set_state_version(&mut tx, row.id, channel.state_version).await?;
                tx.commit().await
            };
            newer.await.map_err(|error| End::Retry(error.explain()))?;
        }
        Ok(Prepared::new(opened, http, &split, &row.private_fields.0))
    }

    /// The sentence for an instance whose plugin is older than what it keeps.
    async fn too_new(&self, row: &rows::InstanceRow, knows: u32) -> String {
        let newest = async {
            let mut tx = self.shared.store.read().await?;
            state_snapshots::newest(&mut tx, row.id, i64::from(knows)).await
        };
        let way_back = match newest.await {
            Ok(Some(snapshot)) => format!(
                ", or go back to what was kept until {}: omni instances restore-state {}",
                snapshot.taken_at.datetime().format("%Y-%m-%d %H:%M UTC"),
                row.name
            ),
            _ => String::new(),
        };
        format!(
            "what the channel keeps is of version {}, this plugin knows {knows}; put the newer plugin file back{way_back}",
            row.state_version
        )
    }

    async fn open_ingress(
        &self,
        line: &Line,
        started: Started,
        set_timers: mpsc::UnboundedReceiver<TimerSet>,
        socket_acts: mpsc::UnboundedReceiver<SocketAct>,
        is_published: &CancellationToken,
    ) -> Result<JoinSet<End>, End> {
        let mut ways = Ways { all: JoinSet::new(), is_published: is_published.clone() };
        let mut regular = Vec::new();
        let mut polls = started.polls;
        let mut sockets = Switchboard::default();
        let is_only_way = started.ingress.iter().all(|way| matches!(way, Ingress::Timer(_)));
        for way in started.ingress {
            match way {
                Ingress::LongPoll(poll) => {
                    let Some(at) = polls.iter().position(|next| next.tag == poll.tag) else {
                        return Err(End::Retry(format!("the channel did not say what to poll for {:?}", poll.tag)));
                    };
                    ways.spawn(ingress::long_poll(line.clone(), poll, polls.swap_remove(at)));
                }
                Ingress::Webhook(webhook) => {
                    let webhook = fill(webhook, line.services.secrets());
                    let (jobs, queue) = mpsc::channel(WEBHOOK_QUEUE);
                    let listen = webhook.listen.clone();
                    // Before anybody can knock.
                    self.live.set_gate(Some(WebhookGate { webhook, jobs }));
                    if let Some(address) = listen {
                        let listening = super::listen::open(
                            &address,
                            Arc::clone(&self.live),
                            self.shared.clock.clone(),
                            self.intake.clone(),
                        );
                        ways.spawn(listening.await.map_err(End::Retry)?);
                    }
                    ways.spawn(webhooks::webhooks(line.clone(), queue));
                }
                Ingress::Timer(timer) => regular.push(timer),
                Ingress::Websocket(socket) => {
                    let acts = sockets.line(&socket.tag);
                    ways.spawn(websocket::run(line.clone(), socket, acts));
                }
                Ingress::Own(_) => {}
                Ingress::Unknown(unknown) => {
                    return Err(End::Terminal(ConnectionState::Disconnected {
                        reason: format!(
                            "the channel wants an ingress {:?}, which this host does not know",
                            unknown.kind
                        ),
                        transient: false,
                    }));
                }
            }
        }
        ways.spawn(ingress::timers(line.clone(), regular, set_timers, is_only_way));
        ways.spawn(sockets.run(line.clone(), socket_acts));
        Ok(ways.all)
    }
}

/// The ways in. Each begins once it is said that the instance is connected: what it says of itself comes after that.
struct Ways {
    all: JoinSet<End>,
    is_published: CancellationToken,
}

impl Ways {
    fn spawn(&mut self, way: impl Future<Output = End> + Send + 'static) {
        let is_published = self.is_published.clone();
        self.all.spawn(async move {
            is_published.cancelled().await;
            way.await
        });
    }
}

/// The webhook with its secrets in place of the words for them.
fn fill(mut webhook: Webhook, secrets: &Secrets) -> Webhook {
    for proof in &mut webhook.verify {
        match proof {
            Verify::HeaderEquals(equals) => equals.value = secrets.fill(&equals.value),
            Verify::HmacSha256(signed) => signed.key = secrets.fill(&signed.key),
            _ => {}
        }
    }
    if let Some(challenge) = &mut webhook.challenge {
        challenge.token = secrets.fill(&challenge.token);
    }
    webhook
}

fn start_failed(session: &Session, error: CallError) -> End {
    match error {
        CallError::Failed(failure) => match failure.state.map(|state| *state) {
            Some(
                state @ (ConnectionState::LoggedOut { .. } | ConnectionState::Disconnected { transient: false, .. }),
            ) => End::Terminal(state),
            _ => End::Retry(failure.error.message),
        },
        CallError::TimedOut { stuck: true, .. } => {
            let reason = error.to_string();
            session.kill(&reason);
            End::Retry(reason)
        }
        error => End::Retry(error.to_string()),
    }
}

/// Ends a session: the channel says goodbye, or is ended without. What is `running` is no longer counted then.
pub(super) async fn stop(session: &Session, running: Running) {
    if session.ended().borrow().is_none()
        && let Err(CallError::TimedOut { stuck: true, .. }) = session.stop(STOP_WITHIN).await
    {
        session.kill("the channel did not stop");
    }
    if session.left_a_thread() {
        running.abandon();
    }
}
