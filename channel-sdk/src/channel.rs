//! The trait that a channel implements.

use crate::capabilities::Capabilities;
use crate::context::Context;
use crate::error::ChannelError;
use crate::http::HttpCall;
use crate::ingress::{EventOutcome, Ingress, IngressEvent};
use crate::login::{LoginCall, LoginStep};
use crate::outcome::{SendError, SendReceipt};
use crate::request as ask;
use std::future::Future;

/// What [`Channel::start`] gives back: the instance, and how events reach it.
#[derive(Debug)]
pub struct Started<C> {
    /// The running instance.
    pub channel: C,
    /// Its ways in. Empty for a channel that only sends.
    pub ingress: Vec<Ingress>,
}

impl<C> Started<C> {
    /// An instance with one way in.
    pub fn new(channel: C, ingress: impl Into<Ingress>) -> Self {
        Self { channel, ingress: vec![ingress.into()] }
    }
}

/// A future that the host may move to another thread between two steps.
macro_rules! answer {
    ($output:ty) => { impl Future<Output = $output> + Send };
}

/// A request that a channel need not support: the default answers `unsupported`.
macro_rules! optional {
    ($(#[$meta:meta])* $name:ident($request:ty) -> $reply:ty, $what:literal) => {
        $(#[$meta])*
        fn $name(&self, _ctx: &Context, _request: $request) -> answer!(Result<$reply, SendError>) {
            async { Err(SendError::unsupported($what)) }
        }
    };
}

/// One running instance of a channel: one account on one network.
///
/// Write the methods as `async fn`. All of them are called from one thread at a time, and many may be waiting at once;
/// the host never has two requests of one chat under way. Whatever a channel awaits must come from the [`Context`], for
/// there is no runtime here (a channel with an `own` ingress brings its own and may await that too). A method must not
/// block its thread: past its deadline the host takes the instance for stuck.
///
/// Events that are emitted and key-value entries that are written in a call are stored together when it returns `Ok`,
/// and not at all when it returns `Err` or panics. The host may hand over the last batch again after a crash: give
/// events a delivery key.
pub trait Channel: Send + Sync + Sized + 'static {
    /// The configuration, as `configSchema` in `channel.json` says. Secrets in it are placeholders, unless the manifest
    /// asks for them in clear.
    type Config: serde::de::DeserializeOwned + Send;

    /// Starts an instance: check the credentials, load what is in the key-value store, say how events come in. Called
    /// again after an error with backoff, or not again, as the error's state says.
    fn start(ctx: &Context, config: Self::Config) -> answer!(Result<Started<Self>, ChannelError>);

    /// Takes one thing that arrived.
    fn on_event(&self, _ctx: &Context, _event: IngressEvent) -> answer!(Result<EventOutcome, ChannelError>) {
        async { Ok(EventOutcome::default()) }
    }

    /// Takes several things that arrived, in order, and gives one outcome for each. All of them are stored together;
    /// when one fails, the host hands them over one by one.
    fn on_events(&self, ctx: &Context, events: Vec<IngressEvent>) -> answer!(Result<Vec<EventOutcome>, ChannelError>) {
        async move {
            let mut outcomes = Vec::with_capacity(events.len());
            for event in events {
                outcomes.push(self.on_event(ctx, event).await?);
            }
            Ok(outcomes)
        }
    }

    /// What to poll next. Called after the start and after each answer, when what that call wrote can be read.
    fn next_poll(&self, _ctx: &Context, tag: &str) -> answer!(Result<HttpCall, ChannelError>) {
        let message = format!("the channel declares a long poll {tag:?} but does not implement next_poll");
        async { Err(ChannelError::stopped(message)) }
    }

    /// Makes a move in a login.
    fn login(&self, _ctx: &Context, _call: LoginCall) -> answer!(Result<LoginStep, ChannelError>) {
        async { Err(ChannelError::invalid("this channel has no login; its credentials are in its configuration")) }
    }

    /// Ends the instance: say goodbye to the network if it wants that. Nothing is called afterwards.
    fn stop(&self, _ctx: &Context) -> answer!(()) {
        async {}
    }

    optional!(
        /// Sends one message. `Ok` only when the network took it; an error whose outcome is not certain is never
        /// repeated without asking [`reconcile`](Self::reconcile).
        send(ask::Send) -> SendReceipt, "sending");
    optional!(
        /// Changes a message that we sent.
        edit(ask::EditMessage) -> (), "edits");
    optional!(
        /// Takes a message back.
        delete(ask::DeleteMessage) -> (), "taking messages back");
    optional!(
        /// Sets our reactions to a message.
        react(ask::React) -> (), "reactions");
    optional!(
        /// Shows that somebody is writing.
        typing(ask::ShowTyping) -> (), "typing notices");
    optional!(
        /// Tells the other side that messages were read.
        mark_read(ask::MarkRead) -> (), "read receipts");
    optional!(
        /// Answers a touched button.
        answer_button(ask::AnswerButton) -> (), "answers to buttons");
    optional!(
        /// Fetches older messages.
        history(ask::History) -> ask::HistoryPage, "history");
    optional!(
        /// Lists chats, contacts or members.
        directory(ask::Directory) -> ask::DirectoryPage, "a directory");
    optional!(
        /// Tells about an account.
        profile(ask::GetProfile) -> ask::ProfileReply, "profiles");
    optional!(
        /// Changes the own profile.
        set_profile(ask::SetProfile) -> (), "changing the profile");
    optional!(
        /// Makes or changes a group.
        group(ask::GroupChange) -> ask::GroupReply, "changing groups");
    optional!(
        /// Changes how the account keeps a chat.
        set_chat(ask::SetChat) -> (), "changing how a chat is kept");
    optional!(
        /// Tells who or what an address is.
        resolve(ask::Resolve) -> ask::AddressReply, "resolving addresses");
    optional!(
        /// Tells how a file can be had.
        fetch_media(ask::FetchMedia) -> ask::MediaReply, "fetching media");
    optional!(
        /// Tells whether a send with an unknown outcome happened.
        reconcile(ask::Reconcile) -> ask::Reconciled, "reconciling sends");
    optional!(
        /// Tells what can be done in one chat, narrower than the manifest.
        capabilities(ask::ChatCapabilities) -> Capabilities, "capabilities per chat");
    optional!(
        /// Logs out on the network. Asked for by a person, and when an instance is deleted (then within a few seconds).
        logout(ask::Nothing) -> (), "logging out");
    optional!(
        /// Takes back what the instance set up on the network so that it calls us: a webhook, a subscription. Asked when
        /// a person disconnects or deletes the instance, after the last event and before [`stop`](Self::stop); not when
        /// the host stops or the instance is only begun anew. There are a few seconds for it, then the instance ends
        /// all the same. The login stays good: the same instance may be connected again.
        release(ask::Nothing) -> (), "taking back what was set up");
    optional!(
        /// Takes over the auth state of another program, writing it as key-value entries.
        import_auth(ask::ImportAuth) -> ask::AuthReport, "taking over auth state");
    optional!(
        /// Gives the auth state away.
        export_auth(ask::Nothing) -> ask::AuthExport, "giving auth state away");
}
