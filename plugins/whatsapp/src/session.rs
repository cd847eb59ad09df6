//! The connection: the library's client, and what its events mean for the instance's state and login.
//!
//! The library reconnects by itself, with growing pauses. It ends for good, and nothing here begins it anew, when the account
//! was logged out, when another program uses the same identity, and when WhatsApp has banned the account. Nothing is deleted
//! then: an identity may be impossible to get again.

use crate::account::{Account, Ended, HistoryAnswer};
use crate::acks::Ack;
use crate::asked::groups;
use crate::http::Http;
use crate::inbound::history::Me;
use crate::inbound::{Hook, Out};
use crate::kv;
use crate::login::Step;
use crate::way::Way;
use omni_channel_sdk::event::ChatUpdate;
use omni_channel_sdk::prelude::*;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use wacore::store::DevicePropsOverride;
use wacore::types::events::{Event as Told, EventHandler};
use waproto::whatsapp::device_props::PlatformType;
use whatsapp_rust::bot::{Bot, BotHandle};
use whatsapp_rust::pair_code::PairCodeOptions;
use whatsapp_rust::{Client, TokioRuntime};

/// Most events of the library that wait to be stored.
const WAITING: usize = 20_000;
/// Most of them that are stored at once.
const AT_ONCE: usize = 256;
/// How long it is tried to store what WhatsApp does not wait for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection that is open, or that the library is opening.
pub struct Session {
    /// The library.
    pub client: Arc<Client>,
    bot: Option<BotHandle>,
    events: JoinHandle<()>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Takes the library's events where they happen: what somebody waits for at once, everything else in its order.
struct Ear {
    account: Arc<Account>,
    later: mpsc::Sender<Arc<Told>>,
}

impl EventHandler for Ear {
    fn handle_event(&self, event: Arc<Told>) {
        if let Told::ServerAck(ack) = &*event {
            if ack.class.as_deref() == Some("message") {
                let at = ack.timestamp.map(|at| at.timestamp_millis());
                self.account.acks.resolve(&ack.id, Ack { at, error: ack.error.clone() });
            }
            return;
        }
        if matches!(*event, Told::Disconnected(_)) {
            self.account.acks.connection_lost();
        }
        // Messages are stored by the hook; these here are told again by their kind, or do not matter after a while.
        if self.later.try_send(event).is_err() {
            self.account
                .host
                .log(LogLevel::Warn, "more happens on WhatsApp than can be stored; receipts and the like are left out");
        }
    }
}

impl Session {
    /// Begins to connect. Within the runtime.
    pub async fn begin(account: &Arc<Account>, code_for: Option<String>) -> Result<Self, ChannelError> {
        account.prepare_stand_in().await?;
        let (later, waiting) = mpsc::channel(WAITING);
        let hook = Hook {
            inbound: Arc::clone(&account.inbound),
            host: account.host.clone(),
            runtime: account.runtime.clone(),
        };
        let egress = account.host.egress();
        let way = Way::new(account.host.clone(), &egress, account.config.web_socket_url.as_deref())?;
        let props = DevicePropsOverride::new()
            .with_os(account.config.device_name.clone())
            .with_platform_type(PlatformType::CHROME);
        let store: Arc<dyn wacore::store::traits::Backend> = Arc::clone(&account.store) as _;
        let mut bot = Bot::builder()
            .with_backend_arc(store)
            .with_transport_factory(way)
            .with_http_client(Http::new(&egress, account.config.media_url.as_deref())?)
            .with_runtime(TokioRuntime)
            .with_inbound_durability_hook(hook)
            .with_device_props(props)
            .with_event_handler(Ear { account: Arc::clone(account), later });
        if let Some(version) = account.config.version() {
            bot = bot.with_version(version);
        }
        if !account.config.history {
            bot = bot.skip_history_sync();
        }
        if let Some(phone_number) = code_for {
            bot = bot.with_pair_code(PairCodeOptions { phone_number, ..PairCodeOptions::default() });
        }
        let bot = bot
            .build()
            .await
            .map_err(|error| ChannelError::transient(format!("WhatsApp's client could not be begun: {error}")))?;
        let client = bot.client();
        account.names.ask(&client);
        let listener = Listener { account: Arc::clone(account), client: Arc::downgrade(&client) };
        let events = account.runtime.spawn(listener.run(waiting));
        Ok(Self { client, bot: Some(bot.spawn()), events })
    }

    /// Ends it, with what is still to be written.
    pub async fn end(mut self) {
        if let Some(bot) = self.bot.take() {
            bot.shutdown().await;
        }
        self.events.abort();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.events.abort();
    }
}

/// Works through the library's events.
struct Listener {
    account: Arc<Account>,
    client: std::sync::Weak<Client>,
}

impl Listener {
    async fn run(self, mut waiting: mpsc::Receiver<Arc<Told>>) {
        let mut told = Vec::with_capacity(AT_ONCE);
        while waiting.recv_many(&mut told, AT_ONCE).await > 0 {
            let mut out = Out::default();
            for event in told.drain(..) {
                self.one(&event, &mut out).await;
            }
            self.store(out).await;
        }
    }

    /// Stores what happened, tried again for a while.
    async fn store(&self, out: Out) {
        if out.events.is_empty() && out.writes.is_empty() {
            return;
        }
        let (host, runtime) = (&self.account.host, &self.account.runtime);
        if let Err(error) = kv::patiently(host, runtime, out.into_batch(), Some(PATIENCE)).await {
            host.log(
                LogLevel::Error,
                format!("what happened on WhatsApp could not be stored and is left out: {error}"),
            );
        }
    }

    fn now(&self) -> i64 {
        wacore::time::now_millis()
    }

    async fn one(&self, event: &Told, out: &mut Out) {
        let account = &*self.account;
        match event {
            Told::Messages(batch) if !batch.hook_committed => {
                for one in batch.messages.iter() {
                    account.inbound.take(&one.message, &one.info, None, out).await;
                }
            }
            Told::Messages(_) => {}
            Told::HistorySync(history) => self.history(history, out).await,
            Told::Connected(_) => self.connected(out).await,
            Told::PairSuccess(_) => {
                account.care.linked(self.now());
                let (key, value) = account.care.entry();
                out.writes.push((key, Some(value)));
                out.writes.push(Account::ended_entry(None));
                account.login.advance(Step::Done);
            }
            Told::IncomingCall(call) => {
                account.inbound.notice(event, self.now(), out).await;
                let rings = matches!(call.action, wacore::types::call::CallAction::Offer { .. });
                if rings
                    && account.config.reject_calls
                    && !call.offline
                    && let Some(client) = self.client.upgrade()
                    && let Err(error) = client.voip().reject(call).await
                {
                    account.host.log(LogLevel::Warn, format!("a call could not be declined: {error}"));
                }
            }
            other if self.login(other) || self.connection(other, out).await => {}
            other => account.inbound.notice(other, self.now(), out).await,
        }
    }

    /// What a login shows next.
    fn login(&self, event: &Told) -> bool {
        let login = &self.account.login;
        let until = |timeout: Duration| self.now() + i64::try_from(timeout.as_millis()).unwrap_or(0);
        match event {
            Told::PairingQrCode(qr) => {
                // Whoever wants to enter a code is not shown another one to scan.
                if matches!(login.step(), Step::Waiting | Step::Qr { .. }) {
                    login.advance(Step::Qr { code: qr.code.clone(), until: until(qr.timeout) });
                }
            }
            Told::PairingCode(code) => {
                login.advance(Step::Code { code: code.code.clone(), until: until(code.timeout) });
            }
            Told::PairingCodeError(error) => {
                let wait = error.backoff.map(|wait| format!(" Try again in {} s.", wait.as_secs())).unwrap_or_default();
                login.advance(Step::Failed(format!("WhatsApp gave no code: {}.{wait}", error.error)));
            }
            Told::PairingQrCodesExhausted(_) => {
                login.advance(Step::Failed(
                    "no phone has scanned the codes in time; begin again when the phone is at hand".into(),
                ));
            }
            Told::QrScannedWithoutMultidevice(_) => {
                login.advance(Step::Failed(
                    "the phone's WhatsApp is too old to link devices; update it and begin again".into(),
                ));
            }
            Told::PairError(error) => {
                login.advance(Step::Failed(format!("the phone could not be linked: {}", error.error)));
            }
            Told::PairPasskeyRequest(request) => {
                login.advance(Step::Passkey { options: request.request_options_json.clone(), wrong: None });
            }
            Told::PairPasskeyConfirmation(confirm) if confirm.skip_handoff_ux => {
                // The account knows this device from before: there is nothing to compare.
                login.advance(Step::Confirm { code: None });
                let (account, client) = (Arc::clone(&self.account), self.client.clone());
                account.runtime.clone().spawn(async move {
                    let Some(client) = client.upgrade() else { return };
                    if let Err(error) = client.send_passkey_confirmation().await {
                        account.login.advance(Step::Failed(format!("the link could not be confirmed: {error}")));
                    }
                });
            }
            Told::PairPasskeyConfirmation(confirm) => {
                login.advance(Step::Confirm { code: Some(confirm.code.clone()) });
            }
            Told::PairPasskeyError(error) => {
                login.advance(Step::Failed(format!("the passkey was not accepted: {}", error.error)));
            }
            _ => return false,
        }
        true
    }

    /// What the connection is from now on.
    async fn connection(&self, event: &Told, out: &mut Out) -> bool {
        let account = &*self.account;
        let state = |state| account.host.state(state);
        match event {
            Told::Disconnected(_) => state(ConnectionState::Connecting),
            Told::LoggedOut(told) => {
                let reason = match told.logout_message.as_ref().and_then(|message| message.header.clone()) {
                    Some(words) => format!("WhatsApp has logged the device out: {words}"),
                    None => format!("WhatsApp has logged the device out ({:?})", told.reason),
                };
                // Nobody is logged out by a login that has not come to its end.
                if account.login.is_open() {
                    account.login.advance(Step::Failed(reason));
                    return true;
                }
                let user_action = "Look on the phone under Linked devices. If the device is gone there, log in again; what was stored \
                                   stays";
                let ended = Ended { reason: reason.clone(), user_action: user_action.into() };
                out.writes.push(Account::ended_entry(Some(&ended)));
                state(ConnectionState::LoggedOut { reason, user_action: user_action.into() });
            }
            Told::StreamReplaced(_) => state(ConnectionState::Disconnected {
                reason: "another program has connected with the same identity (440). Two must not: end the other one, then connect \
                         this instance again"
                    .into(),
                transient: false,
            }),
            Told::TemporaryBan(ban) => state(ConnectionState::Disconnected {
                reason: format!(
                    "WhatsApp has banned the account for {} min ({:?}). Connect it again after that, and send more slowly",
                    ban.expire.num_minutes(),
                    ban.code
                ),
                transient: false,
            }),
            Told::ClientOutdated(_) => state(ConnectionState::Disconnected {
                reason: "WhatsApp no longer takes this version of WhatsApp Web: put a newer one into config.version, or update the \
                         plugin"
                    .into(),
                transient: false,
            }),
            Told::ConnectFailure(failure) => {
                let words = failure.message.clone().unwrap_or_default();
                account.host.log(LogLevel::Warn, format!("WhatsApp refused the connection: {:?} {words}", failure.reason));
                state(ConnectionState::Connecting);
            }
            Told::StreamError(error) => {
                account.host.log(LogLevel::Info, format!("WhatsApp ended the stream ({})", error.code));
            }
            _ => return false,
        }
        true
    }

    async fn connected(&self, out: &mut Out) {
        let account = &*self.account;
        let Some(client) = self.client.upgrade() else { return };
        account.login.advance(Step::Done);
        tell_limits(&self.account, &client);
        out.writes.push(Account::ended_entry(None));
        let host = account.host.clone();
        let (online, now) = (account.config.show_online, self.now());
        // What is asked of the server must not hold up what it tells.
        account.runtime.spawn(async move {
            let presence = if online {
                client.presence().set_available().await
            } else {
                client.presence().set_unavailable().await
            };
            if let Err(error) = presence {
                host.log(LogLevel::Debug, format!("the presence could not be set: {error}"));
            }
            match client.groups().get_participating().await {
                Ok(groups) => {
                    let updated = |group| Event::new(groups::chat_of(group), now, ChatUpdate::default());
                    let out = Out { events: groups.values().map(updated).collect(), writes: Vec::new() };
                    if !out.events.is_empty()
                        && let Err(error) = host.accept(out.into_batch()).await
                    {
                        host.log(LogLevel::Warn, format!("the names of groups could not be stored: {error}"));
                    }
                }
                Err(error) => host.log(LogLevel::Debug, format!("the groups could not be listed: {error}")),
            }
        });
    }

    async fn history(&self, history: &wacore::types::events::LazyHistorySync, out: &mut Out) {
        let account = &*self.account;
        let Some(client) = self.client.upgrade() else { return };
        let Some(pn) = client.pn() else { return };
        let me = Me { pn: pn.to_non_ad(), lid: client.lid().map(|lid| lid.to_non_ad()) };
        let Some(told) = history.get() else {
            account.host.log(LogLevel::Warn, "a piece of history could not be read");
            return;
        };
        let asked = history.peer_data_request_session_id().filter(|id| account.is_history_asked(id));
        if let Some(id) = asked {
            let mut piece = Out::default();
            let mut oldest = None;
            for conversation in &told.conversations {
                oldest = account.inbound.conversation(conversation, &me, &mut piece).await.or(oldest);
            }
            out.writes.append(&mut piece.writes);
            account.answer_history(id, HistoryAnswer { events: piece.events, oldest });
            return;
        }
        for conversation in &told.conversations {
            let mut piece = Out::default();
            account.inbound.conversation(conversation, &me, &mut piece).await;
            // Chat by chat: one piece of history has thousands of messages.
            for events in split(piece) {
                self.store(events).await;
            }
        }
    }
}

/// Divides what is stored into what the host takes at once.
fn split(out: Out) -> Vec<Out> {
    const EVENTS: usize = 500;
    let mut pieces: Vec<Out> = Vec::new();
    let mut events = out.events.into_iter().peekable();
    while events.peek().is_some() {
        pieces.push(Out { events: events.by_ref().take(EVENTS).collect(), writes: Vec::new() });
    }
    match pieces.first_mut() {
        Some(first) => first.writes = out.writes,
        None => pieces.push(Out { events: Vec::new(), writes: out.writes }),
    }
    pieces
}

/// Tells that the account is connected, and what WhatsApp does not let it do; and again when that is over.
pub fn tell_limits(account: &Arc<Account>, client: &Arc<Client>) {
    let now = wacore::time::now_millis();
    let limited = account.care.limited(now);
    let over = limited.as_ref().and_then(|limited| u64::try_from(limited.until? - now).ok());
    account.host.state(ConnectionState::Connected { profile: profile(client), limited: limited.map(Box::new) });
    let Some(over) = over else { return };
    let (account, client) = (Arc::clone(account), Arc::downgrade(client));
    account.runtime.clone().spawn(async move {
        let _ = tokio::time::timeout(Duration::from_millis(over), std::future::pending::<()>()).await;
        // Whoever is not connected any more says so when it is again.
        if let Some(client) = client.upgrade().filter(|client| client.is_logged_in()) {
            tell_limits(&account, &client);
        }
    });
}

/// Who the account is.
pub fn profile(client: &Client) -> Option<Profile> {
    let pn = client.pn()?;
    let name = Some(client.push_name()).filter(|name| !name.is_empty());
    Some(Profile { id: pn.to_non_ad().to_string(), name, username: Some(format!("+{}", pn.user)), avatar_url: None })
}
