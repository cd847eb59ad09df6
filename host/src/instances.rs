//! Instances: what people make, connect and look at. Each connected one is supervised by a task of its own.
//!
//! ```text
//! supervisor   one connected instance: made, started, begun again with backoff
//! ingress      long polls, webhooks and timers; `websocket`, `listen` and `verify` belong to it
//! live state   what it is doing at this moment, and who is told
//! types        what is said about instances
//! config       the configuration: checked, split into what is shown and what is sealed
//! grants       fields that lead into the private network: who may set them
//! login        logging in, also for channels that need no more than their configuration
//! ```
//!
//! Deliberately not here: what is in a message, and how one is sent.

pub mod config;
mod grants;
mod ingress;
mod listen;
pub mod live;
mod login;
mod state;
mod supervisor;
mod types;
pub mod verify;
mod webhooks;
mod websocket;

pub use types::{Instance, InstanceChange, InstanceError, InstanceOptions, NewInstance};

use crate::plugins::host_api::Shared;
use crate::plugins::session::Session;
use crate::plugins::{Home, Plugins};
use crate::store::instances::{self as rows, InstanceRow};
use crate::store::{StoreError, Time, state_snapshots};
use live::{Live, WebhookJob, WebhookRefused};
use omni_channel_sdk::SendError;
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::WebhookRequest;
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::manifest::ChannelManifest;
use omni_channel_sdk::request::{Reply, Request};
use serde_json::Map;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use supervisor::Supervisor;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

type Result<T, E = InstanceError> = std::result::Result<T, E>;

/// How long a change waits for the first outcome of a connection that it began.
const FIRST_OUTCOME: Duration = Duration::from_secs(5);

/// The handle that the API and outbound use. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Instances(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shared: Shared,
    plugins: Plugins,
    options: InstanceOptions,
    running: Mutex<HashMap<Uuid, Entry>>,
    /// One change of one instance at a time: connecting twice must not make two.
    changing: tokio::sync::Mutex<()>,
    /// Moves whenever an instance begins or ends to run.
    started: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    live: Arc<Live>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Instances {
    /// No instance runs before [`start_active`](Self::start_active).
    pub fn new(shared: Shared, plugins: Plugins, options: InstanceOptions) -> Self {
        Self(Arc::new(Inner {
            shared,
            plugins,
            options,
            running: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            started: watch::Sender::new(0),
        }))
    }

    /// Connects every instance that a person wants connected.
    pub async fn start_active(&self) -> Result<usize> {
        let rows = rows::all(&self.0.shared.store).await?;
        let active: Vec<InstanceRow> = rows.into_iter().filter(|row| row.is_active).collect();
        for row in &active {
            self.spawn(row);
        }
        Ok(active.len())
    }

    /// Ends every running instance; they are connected again after the next start.
    pub async fn stop_all(&self, within: Duration) {
        let entries: Vec<Entry> = lock(&self.0.running).drain().map(|(_, entry)| entry).collect();
        for entry in &entries {
            // The first reason counts.
            let _ = entry.live.ending.set("the host was stopped; it is connected again when the host starts");
            entry.cancel.cancel();
        }
        let all = async {
            for entry in entries {
                let _ = entry.task.await;
            }
        };
        if timeout(within, all).await.is_err() {
            tracing::warn!("some instances did not stop within {} s", within.as_secs());
        }
    }

    /// Moves whenever an instance begins or ends to run.
    pub fn started(&self) -> watch::Receiver<u64> {
        self.0.started.subscribe()
    }

    /// The sessions of all instances that run.
    pub fn sessions(&self) -> Vec<(Uuid, Session)> {
        let running = lock(&self.0.running);
        running.iter().filter_map(|(id, entry)| Some((*id, entry.live.session.borrow().clone()?))).collect()
    }

    /// Makes an instance, and connects it at once when its configuration is complete (then it is active).
    pub async fn create(&self, new: NewInstance) -> Result<Instance> {
        let name = valid_name(&new.name)?;
        let manifest = self.manifest(&new.channel)?;
        let asked = grants::Asked { fields: &new.config, before: &Map::new(), by_operator: new.by_operator };
        let private_fields = grants::settle(self.0.shared.http.egress(), &manifest, asked, Vec::new()).await?;
        let split = config::split(&manifest, new.config, new.token).map_err(InstanceError::Invalid)?;
        split.check(&manifest).map_err(InstanceError::Invalid)?;
        self.check_isolation(&new.channel, new.isolation)?;
        let complete = split.missing(&manifest).is_empty() && manifest.login_flows.is_empty();
        let now = self.0.shared.clock.now();
        let id = Uuid::now_v7();
        let state = if complete { ConnectionState::Connecting } else { ConnectionState::WaitingForLogin };
        let row = InstanceRow {
            id,
            name,
            channel: new.channel,
            secrets: config::seal(&self.0.shared.sealer, id, &split.secrets),
            config: sqlx_json(split.open),
            private_fields: sqlx_json(private_fields),
            is_active: complete,
            is_default: new.is_default,
            isolation: new.isolation.map(|home| home.word().to_owned()),
            state: sqlx_json(serde_json::to_value(&state).expect("a state is plain JSON")),
            state_since: now,
            profile_name: None,
            profile_pic_url: None,
            owner_identifier: None,
            state_version: 0,
            last_message_at: None,
            created_at: now,
            updated_at: now,
        };
        let mut tx = self.0.shared.store.begin().await?;
        rows::insert(&mut tx, &row).await.map_err(conflict)?;
        if row.is_default {
            rows::only_default(&mut tx, &row.channel, id).await?;
        }
        tx.commit().await?;
        if complete { self.connect(id, Duration::from_secs(5)).await } else { self.get(id).await }
    }

    /// All of them (they are few), by name; `channel` narrows.
    pub async fn list(&self, channel: Option<&str>) -> Result<Vec<Instance>> {
        let rows = rows::all(&self.0.shared.store).await?;
        Ok(rows
            .into_iter()
            .filter(|row| channel.is_none_or(|channel| row.channel == channel))
            .map(|row| self.show(row))
            .collect())
    }

    /// One, by id.
    pub async fn get(&self, id: Uuid) -> Result<Instance> {
        Ok(self.show(self.row(id).await?))
    }

    /// One, by id or name, as a person types it.
    pub async fn find(&self, id_or_name: &str) -> Result<Instance> {
        if let Ok(id) = id_or_name.parse::<Uuid>()
            && let Some(row) = rows::get(&self.0.shared.store, id).await?
        {
            return Ok(self.show(row));
        }
        let row = rows::by_name(&self.0.shared.store, id_or_name).await?;
        row.map(|row| self.show(row)).ok_or_else(|| InstanceError::NotFound(id_or_name.to_owned()))
    }

    /// Changes one; a connected one is restarted when its configuration changed.
    pub async fn update(&self, id: Uuid, change: InstanceChange) -> Result<Instance> {
        let restarted = self.detached(|this| async move { this.change(id, change).await }).await?;
        self.settled(id, if restarted { FIRST_OUTCOME } else { Duration::ZERO }).await
    }

    /// Writes a change, and begins an active instance anew when its configuration is another one; says whether it did.
    async fn change(&self, id: Uuid, change: InstanceChange) -> Result<bool> {
        let mut row = self.row(id).await?;
        if let Some(name) = &change.name {
            row.name = valid_name(name)?;
        }
        let changes_config = !change.config.is_empty() || change.token.is_some();
        if changes_config {
            let manifest = self.manifest(&row.channel)?;
            let asked =
                grants::Asked { fields: &change.config, before: &row.config.0, by_operator: change.by_operator };
            let granted = std::mem::take(&mut row.private_fields.0);
            row.private_fields.0 = grants::settle(self.0.shared.http.egress(), &manifest, asked, granted).await?;
            let secrets = config::open(&self.0.shared.sealer, id, row.secrets.as_deref());
            let mut split = config::Split { open: row.config.0, secrets: secrets.unwrap_or_default() };
            split.change(config::split(&manifest, change.config, change.token).map_err(InstanceError::Invalid)?);
            split.check(&manifest).map_err(InstanceError::Invalid)?;
            row.secrets = config::seal(&self.0.shared.sealer, id, &split.secrets);
            row.config = sqlx_json(split.open);
        }
        let before = row.isolation.clone();
        if let Some(isolation) = change.isolation {
            self.check_isolation(&row.channel, isolation)?;
            row.isolation = isolation.map(|home| home.word().to_owned());
        }
        row.is_default = change.is_default.unwrap_or(row.is_default);
        row.updated_at = self.0.shared.clock.now();
        let mut tx = self.0.shared.store.begin().await?;
        rows::update(&mut tx, &row).await.map_err(conflict)?;
        if row.is_default {
            rows::only_default(&mut tx, &row.channel, id).await?;
        }
        tx.commit().await?;
        let restart = (changes_config || row.isolation != before) && row.is_active;
        if restart {
            self.end(id).await;
            self.spawn(&row);
        }
        Ok(restart)
    }

    /// Ends and deletes one, with its chats, messages and state.
    pub async fn delete(&self, id: Uuid) -> Result<()> {
        self.detached(|this| async move {
            this.row(id).await?;
            this.end(id).await;
            let mut tx = this.0.shared.store.begin().await?;
            rows::delete(&mut tx, id).await?;
            tx.commit().await?;
            Ok(())
        })
        .await
    }

    /// Wants it connected. Does nothing to one that already is; waits up to `wait` for the first outcome.
    pub async fn connect(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            this.begin(&row).await
        })
        .await?;
        self.settled(id, wait).await
    }

    /// Wants it disconnected, and waits until it has ended.
    pub async fn disconnect(&self, id: Uuid) -> Result<Instance> {
        self.detached(|this| async move {
            this.row(id).await?;
            this.want(id, false).await?;
            this.end(id).await;
            Ok(())
        })
        .await?;
        self.get(id).await
    }

    /// Disconnects and connects.
    pub async fn restart(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            this.end(id).await;
            this.begin(&row).await
        })
        .await?;
        self.settled(id, wait).await
    }

    /// Puts back what an instance kept before a newer plugin changed it, for a plugin that is the older one again.
    pub async fn restore_state(&self, id: Uuid) -> Result<Instance> {
        self.detached(|this| async move {
            let row = this.row(id).await?;
            let knows = this.manifest(&row.channel)?.state_version;
            let mut read = this.0.shared.store.read().await?;
            let snapshot = state_snapshots::newest(&mut read, id, i64::from(knows)).await?;
            drop(read);
            let Some(snapshot) = snapshot.filter(|_| i64::from(knows) < row.state_version) else {
                return Err(InstanceError::Invalid(format!(
                    "there is nothing older to go back to for the plugin that is here (it knows version {knows}, what \
                     {:?} keeps is of version {})",
                    row.name, row.state_version
                )));
            };
            // First, so that nothing is written behind what is put back.
            this.end(id).await;
            let restored = async {
                let mut tx = this.0.shared.store.begin().await?;
                state_snapshots::restore(&mut tx, id, snapshot, this.0.shared.clock.now()).await?;
                tx.commit().await
            };
            let restored = restored.await;
            if row.is_active {
                this.spawn(&row);
            }
            Ok(restored?)
        })
        .await?;
        self.settled(id, FIRST_OUTCOME).await
    }

    /// Wants an instance connected and begins it, unless it is on its way already.
    async fn begin(&self, row: &InstanceRow) -> Result<()> {
        if self.0.plugins.channel(&row.channel).is_none() {
            return Err(InstanceError::NoPlugin(self.0.plugins.missing(&row.channel)));
        }
        self.want(row.id, true).await?;
        let idle = self.entry(row.id).is_none_or(|live| {
            // One that waits, for a person or for its next attempt, is begun anew: that is what is asked for.
            matches!(
                live.state.borrow().state,
                ConnectionState::LoggedOut { .. } | ConnectionState::Disconnected { .. }
            )
        });
        if idle {
            self.end(row.id).await;
            self.spawn(row);
        }
        Ok(())
    }

    /// Waits for an instance to be more than on its way, and shows it. Not settled in time is no error: the state says so.
    async fn settled(&self, id: Uuid, wait: Duration) -> Result<Instance> {
        if let Some(live) = self.entry(id) {
            let mut states = live.state.subscribe();
            let settled = states.wait_for(|now| !matches!(now.state, ConnectionState::Connecting));
            let _ = timeout(wait, settled).await;
        }
        self.get(id).await
    }

    /// Makes a change as a task of its own, one at a time: whoever asked for it may leave, and it is not left half done.
    async fn detached<T, F>(&self, change: impl FnOnce(Self) -> F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let this = self.clone();
        let work = change(self.clone());
        let task = tokio::spawn(async move {
            let _one_at_a_time = this.0.changing.lock().await;
            work.await
        });
        task.await.unwrap_or_else(|error| Err(SendError::internal(format!("the change failed: {error}")).into()))
    }

    /// Asks the channel for something that is not a message (typing, profile, directory, history …).
    pub async fn request(&self, id: Uuid, request: Request) -> Result<Reply> {
        let row = self.row(id).await?;
        let manifest = self.manifest(&row.channel)?;
        if !manifest.capabilities.can(request.kind()) && request.kind() != "capabilities" {
            return Err(SendError::unsupported(request.kind()).into());
        }
        let session = self.session(&row)?;
        let reply = session.request(request, self.0.options.call_within).await;
        reply.map_err(|error| InstanceError::Channel(error.into_send_error()))
    }

    /// Makes a move in its login. Starts it first when it does not run.
    pub async fn login(&self, id: Uuid, call: LoginCall, by_operator: bool) -> Result<LoginStep> {
        login::step(self, id, call, by_operator).await
    }

    /// Hands a request from the network to the channel's webhook ingress; verified, and answered once the events in it
    /// are durable.
    pub async fn webhook(&self, id: Uuid, request: WebhookRequest) -> Result<HttpResponse> {
        let Some(live) = self.entry(id) else {
            self.row(id).await?;
            return Err(InstanceError::NotConnected("the instance is not connected; nothing was taken".into()));
        };
        Ok(take_webhook(&live, request, self.0.shared.clock.now()).await?)
    }

    /// The channel's manifest.
    pub fn manifest(&self, channel: &str) -> Result<ChannelManifest> {
        let plugin = self.0.plugins.channel(channel).and_then(|plugin| plugin.manifest);
        plugin.map(|manifest| manifest.channel).ok_or_else(|| InstanceError::NoPlugin(self.0.plugins.missing(channel)))
    }

    fn check_isolation(&self, channel: &str, wish: Option<Home>) -> Result<()> {
        wish.map_or(Ok(()), |home| self.0.plugins.may_run(channel, home).map_err(InstanceError::Invalid))
    }

    async fn row(&self, id: Uuid) -> Result<InstanceRow> {
        let row = rows::get(&self.0.shared.store, id).await?;
        row.ok_or_else(|| InstanceError::NotFound(id.to_string()))
    }

    fn entry(&self, id: Uuid) -> Option<Arc<Live>> {
        lock(&self.0.running).get(&id).map(|entry| Arc::clone(&entry.live))
    }

    fn session(&self, row: &InstanceRow) -> Result<Session> {
        let live = self.entry(row.id);
        let session = live.as_ref().and_then(|live| live.session.borrow().clone());
        session.ok_or_else(|| {
            let state = live.map(|live| live.state.borrow().state.clone());
            InstanceError::NotConnected(not_connected(&row.name, state.as_ref()))
        })
    }

    async fn want(&self, id: Uuid, active: bool) -> Result<()> {
        let mut tx = self.0.shared.store.begin().await?;
        rows::set_active(&mut tx, id, active, self.0.shared.clock.now()).await?;
        Ok(tx.commit().await?)
    }

    fn spawn(&self, row: &InstanceRow) {
        let cancel = CancellationToken::new();
        let live = Arc::new(Live::new(row.id, self.0.shared.clock.now()));
        let supervisor = Supervisor {
            shared: self.0.shared.clone(),
            plugins: self.0.plugins.clone(),
            live: Arc::clone(&live),
            channel: row.channel.clone(),
            isolation: home_of(row),
            call_within: self.0.options.call_within,
            start_within: self.0.options.start_within,
            webhook_url: self.0.options.public_url.as_ref().map(|url| webhook_url(url, row.id)),
            cancel: cancel.clone(),
        };
        let mut sessions = live.session.subscribe();
        let this = self.clone();
        tokio::spawn(async move {
            while sessions.changed().await.is_ok() {
                this.0.started.send_modify(|version| *version += 1);
            }
        });
        let entry = Entry { live, cancel, task: tokio::spawn(supervisor.run()) };
        lock(&self.0.running).insert(row.id, entry);
    }

    async fn end(&self, id: Uuid) {
        let entry = lock(&self.0.running).remove(&id);
        if let Some(entry) = entry {
            entry.cancel.cancel();
            let _ = entry.task.await;
        }
    }

    fn show(&self, row: InstanceRow) -> Instance {
        let live = self.entry(row.id).map(|live| live.state.borrow().clone());
        let (state, state_since) = match live {
            Some(live) => (live.state, live.since),
            None => (stored_state(&row), row.state_since),
        };
        let opened = config::open(&self.0.shared.sealer, row.id, row.secrets.as_deref());
        let isolation = home_of(&row);
        Instance {
            id: row.id,
            name: row.name,
            channel: row.channel,
            config: row.config.0,
            secrets: opened.map(|secrets| secrets.into_iter().map(|(name, _)| name).collect()).unwrap_or_default(),
            is_active: row.is_active,
            is_default: row.is_default,
            isolation,
            state,
            state_since,
            profile_name: row.profile_name,
            profile_pic_url: row.profile_pic_url,
            owner_identifier: row.owner_identifier,
            last_message_at: row.last_message_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Where a network reaches the webhook of an instance.
fn webhook_url(public_url: &str, id: Uuid) -> String {
    format!("{}/api/v2/channels/{id}/webhook", public_url.trim_end_matches('/'))
}

/// Where an instance is to run. A word that this host does not know is one that nobody said.
fn home_of(row: &InstanceRow) -> Option<Home> {
    row.isolation.as_deref().and_then(|word| word.parse().ok())
}

/// The last state that was written. One that says "connected" is from a host that died: it is not true any more.
fn stored_state(row: &InstanceRow) -> ConnectionState {
    match serde_json::from_value(row.state.0.clone()) {
        Ok(ConnectionState::Connected { .. } | ConnectionState::Connecting) | Err(_) => {
            ConnectionState::Disconnected { reason: "it does not run".into(), transient: false }
        }
        Ok(state) => state,
    }
}

/// Why an instance cannot be used now, and what to do.
fn not_connected(name: &str, state: Option<&ConnectionState>) -> String {
    match state {
        None => format!("instance {name:?} is not connected; connect it with: omni instances connect {name}"),
        Some(ConnectionState::LoggedOut { reason, user_action }) => {
            format!("instance {name:?} is logged out: {reason}. {user_action}")
        }
        Some(ConnectionState::Disconnected { reason, transient }) => {
            let next = if *transient { "it is being tried again" } else { "connect it again when that is changed" };
            format!("instance {name:?} is not connected: {reason}; {next}")
        }
        Some(state) => format!("instance {name:?} is not connected yet ({})", state.name()),
    }
}

/// Verifies a request, hands it to the channel and waits for the answer.
pub(crate) async fn take_webhook(
    live: &Live,
    request: WebhookRequest,
    now: Time,
) -> std::result::Result<HttpResponse, WebhookRefused> {
    let not_now = |why: &str| WebhookRefused::NotNow(why.to_owned());
    let gate = live.gate().ok_or_else(|| not_now("the instance takes no webhooks at this moment"))?;
    verify::verify(&gate.webhook, &request, now)?;
    let (answer, answered) = oneshot::channel();
    gate.jobs
        .try_send(WebhookJob { request, answer })
        .map_err(|_| not_now("too many requests are waiting for the channel"))?;
    answered.await.map_err(|_| not_now("the instance ended before the request was taken"))?
}

fn valid_name(name: &str) -> Result<String> {
    let name = name.trim();
    let length = name.chars().count();
    if (1..=100).contains(&length) && !name.chars().any(char::is_control) {
        return Ok(name.to_owned());
    }
    Err(InstanceError::Invalid(format!(
        "name has {length} characters; 1 to 100 are allowed, none of them control characters"
    )))
}

fn conflict(error: StoreError) -> InstanceError {
    match error {
        StoreError::Conflict(what) => InstanceError::Conflict(format!("{what} already exists; choose another name")),
        error => InstanceError::Store(error),
    }
}

/// The JSON column type, named here so that no other file needs to know it.
fn sqlx_json<T>(value: T) -> rows::Json<T> {
    rows::Json(value)
}
