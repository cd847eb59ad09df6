//! Instances: what people make, connect and look at. Each connected one is supervised by a task of its own.
//!
//! ```text
//! manage       made, changed, deleted
//! running      connected and ended, as a person wants it
//! show         looked at
//! farewell     what a channel takes back before a person's wish ends it
//! supervisor   one connected instance: made, started, begun again with backoff
//! ingress      long polls, webhooks and timers; `websocket`, `listen` and `verify` belong to it
//! live state   what it is doing at this moment, and who is told
//! types        what is said about instances
//! config       the configuration: checked, split into what is shown and what is sealed
//! grants       fields that lead into the private network: who may set them
//! proxy        a proxy of an instance's own
//! addresses    files that lie somewhere on the net, for channels that do not fetch them themselves
//! offline      one that does not run, asked something: about its auth state
//! login        logging in, also for channels that need no more than their configuration
//! ```
//!
//! Deliberately not here: what is in a message, and how one is sent.

mod addresses;
pub mod config;
mod farewell;
mod grants;
mod ingress;
mod listen;
pub mod live;
mod login;
mod manage;
mod offline;
mod proxy;
mod running;
mod show;
mod state;
mod supervisor;
mod types;
pub mod verify;
mod webhooks;
mod websocket;

pub use types::{Instance, InstanceChange, InstanceError, InstanceOptions, NewInstance};
pub(crate) use webhooks::{expect_webhook, take_webhook};

use crate::echoes::UnderWay;
use crate::plugins::Plugins;
use crate::plugins::host_api::Shared;
use crate::plugins::session::Session;
use crate::store::instances::{self as rows, InstanceRow};
use live::Live;
use omni_channel_sdk::SendError;
use omni_channel_sdk::http::HttpResponse;
use omni_channel_sdk::ingress::WebhookRequest;
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::manifest::ChannelManifest;
use omni_channel_sdk::request::{Reply, Request};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
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
    /// Those that may not be begun meanwhile, because their state is being replaced.
    held: Arc<Mutex<HashSet<Uuid>>>,
    /// Moves whenever an instance begins or ends to run.
    started: watch::Sender<u64>,
}

#[derive(Debug)]
struct Entry {
    live: Arc<Live>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
    /// It is about to go to another host, and gets nothing more to do.
    is_leaving: bool,
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
            held: Arc::default(),
            started: watch::Sender::new(0),
        }))
    }

    /// Moves whenever an instance begins or ends to run.
    pub fn started(&self) -> watch::Receiver<u64> {
        self.0.started.subscribe()
    }

    /// The sessions of all instances that run.
    pub fn sessions(&self) -> Vec<(Uuid, Session)> {
        let running = lock(&self.0.running);
        let usable = running.iter().filter(|(_, entry)| !entry.is_leaving);
        usable.filter_map(|(id, entry)| Some((*id, entry.live.session.borrow().clone()?))).collect()
    }

    /// Says that a send to a chat is under way whose id only its answer tells, until that is dropped.
    pub fn sending(&self, id: Uuid, chat: &str) -> UnderWay {
        self.0.shared.echoes.begin(id, chat)
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
        if let Some(owner) = self.0.options.hosts.owner(id) {
            let within = self.0.options.call_within;
            return Ok(self.0.options.hosts.request(&owner, id, &request, within).await?);
        }
        let session = self.session(&row)?;
        let reply = session.request(request, self.0.options.call_within).await;
        reply.map_err(|error| InstanceError::Channel(error.into_send_error()))
    }

    /// The same, asked by another host.
    pub async fn request_here(&self, id: Uuid, request: Request) -> Result<Reply> {
        let session = self.session(&self.row(id).await?)?;
        let reply = session.request(request, self.0.options.call_within).await;
        reply.map_err(|error| InstanceError::Channel(error.into_send_error()))
    }

    /// Makes a move in its login. Starts it first when it does not run.
    pub async fn login(&self, id: Uuid, call: LoginCall, by_operator: bool) -> Result<LoginStep> {
        login::step(self, id, call, by_operator).await
    }

    /// Refuses a request from the network whose body need not be read. `head` is the request without it.
    pub async fn expect_webhook(&self, id: Uuid, head: &WebhookRequest, announced: Option<u64>) -> Result<()> {
        let live = self.live(id).await?;
        Ok(expect_webhook(&live, head, announced, self.0.shared.clock.now())?)
    }

    /// Hands a request from the network to the channel's webhook ingress; verified, and answered once the events in it
    /// are durable.
    pub async fn webhook(&self, id: Uuid, request: WebhookRequest) -> Result<HttpResponse> {
        let live = self.live(id).await?;
        Ok(take_webhook(&live, request, self.0.shared.clock.now()).await?)
    }

    async fn live(&self, id: Uuid) -> Result<Arc<Live>> {
        match self.entry(id) {
            Some(live) => Ok(live),
            None => {
                self.row(id).await?;
                Err(InstanceError::NotConnected("the instance is not connected; nothing was taken".into()))
            }
        }
    }

    /// The channel's manifest.
    pub fn manifest(&self, channel: &str) -> Result<ChannelManifest> {
        let plugin = self.0.plugins.channel(channel).and_then(|plugin| plugin.manifest);
        plugin.map(|manifest| manifest.channel).ok_or_else(|| InstanceError::NoPlugin(self.0.plugins.missing(channel)))
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
            InstanceError::NotConnected(show::not_connected(&row.name, state.as_ref()))
        })
    }
}
