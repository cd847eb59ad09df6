//! The WhatsApp Cloud API channel: a business number that Meta hosts.
//!
//! ```text
//! lib       this map, the trait and the export
//! config    what an operator sets
//! account   which number, with what; put in, or taken over from Evolution
//! client    calls of the Graph API over the host's HTTP
//! errors    what Meta's refusals mean
//! api       what we read of its objects
//! convert   its words ↔ the host's, pure
//! webhook   the way in: set, verified, looked after
//! outbound  sending, fetching, blocking
//! memory    what is remembered while it runs
//! ```
//!
//! No sockets, no runtime and nothing native: the host makes every call and verifies every call of Meta's, so the same source
//! builds for WASM. Not here: edits and taking back (Meta has neither for a business number), history (it has none), calls,
//! catalogues, and making templates. An account of a person, linked to a phone, is the channel `whatsapp-baileys`.

pub mod account;
pub mod api;
pub mod client;
pub mod config;
pub mod convert;
pub mod errors;
mod memory;
pub mod outbound;
pub mod webhook;

use account::Known;
use client::{ApiError, Client, Refusal};
use config::Config;
use memory::{Health, Memory};
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AddressReply, AuthReport, DirectoryPage, MediaReply, ProfileReply, Reconciled};

/// One number.
#[derive(Debug)]
pub struct Cloud {
    config: Config,
    /// Nothing while it is not known which number it is.
    running: Option<Running>,
}

/// A number that runs.
#[derive(Debug)]
pub struct Running {
    config: Config,
    client: Client,
    profile: Profile,
    /// The digits of the number.
    digits: Option<String>,
    health: Health,
    memory: Memory,
}

impl Cloud {
    fn running(&self) -> Result<&Running, SendError> {
        self.running.as_ref().ok_or_else(|| {
            let what = "this instance is not logged in: `omni instances login <instance>` asks for what is missing";
            SendError::new(ErrorCode::NotConnected, NextActor::Operator, what)
        })
    }
}

impl Channel for Cloud {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        let known = Known::find(ctx, &config).await?;
        let not_yet = |config| Ok(Started { channel: Self { config, running: None }, ingress: Vec::new() });
        if ctx.is_offline() {
            return not_yet(config);
        }
        let Some((account, secret)) = known.account().and_then(|account| Some((account.clone(), account.app_secret?)))
        else {
            ctx.state(ConnectionState::WaitingForLogin);
            return not_yet(config);
        };
        let client = Client::new(&config, &account);
        let number = match account::confirm(ctx, &client).await {
            // One that was put in can be put in anew.
            Err(ApiError::Refused(Refusal { code: code @ (33 | 100 | 803), message, .. })) => {
                let what = format!(
                    "Meta does not show the phone number ID {} ({message}, code {code}): is it right, and may the token's \
                     system user see its account?",
                    client.phone()
                );
                return Err(ChannelError::stopped(what));
            }
            found => found.map_err(errors::connection)?,
        };
        let profile = account::profile(&client, &number);
        let digits = number.display_phone_number.as_deref().map(account::digits).filter(|digits| !digits.is_empty());
        let running = Running {
            config: config.clone(),
            client,
            profile,
            digits,
            health: Health::default(),
            memory: Memory::default(),
        };
        let ingress = webhook::open(ctx, &running, &secret).await?;
        // Where Meta has still to be told where we are, the state follows when it was.
        let state = match config.subscribe {
            true => ConnectionState::Connecting,
            false => ConnectionState::connected(running.profile.clone()),
        };
        ctx.state(state);
        Ok(Started { channel: Self { config, running: Some(running) }, ingress })
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        match (event, &self.running) {
            (IngressEvent::Webhook { request }, Some(running)) => return Ok(webhook::take(ctx, running, &request)),
            (IngressEvent::Timer { tag }, _) if tag == account::BEGIN => {
                return Err(ChannelError::restart("it has what it needs now, and begins anew with it"));
            }
            (IngressEvent::Timer { tag }, Some(running)) if tag == webhook::SET => webhook::set(ctx, running).await?,
            (IngressEvent::Timer { tag }, Some(running)) if tag == webhook::CHECK => {
                webhook::check(ctx, running).await?;
            }
            _ => {}
        }
        Ok(EventOutcome::default())
    }

    async fn login(&self, ctx: &Context, call: LoginCall) -> Result<LoginStep, ChannelError> {
        account::step(ctx, self, call).await
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        outbound::can_send(&send.content)?;
        outbound::send(ctx, self.running()?, send).await
    }

    async fn react(&self, ctx: &Context, react: request::React) -> Result<(), SendError> {
        outbound::react(ctx, self.running()?, react).await
    }

    async fn typing(&self, ctx: &Context, typing: request::ShowTyping) -> Result<(), SendError> {
        outbound::typing(ctx, self.running()?, typing).await
    }

    async fn mark_read(&self, ctx: &Context, read: request::MarkRead) -> Result<(), SendError> {
        outbound::mark_read(ctx, self.running()?, read).await
    }

    async fn directory(&self, ctx: &Context, asked: request::Directory) -> Result<DirectoryPage, SendError> {
        outbound::directory(ctx, self.running()?, asked).await
    }

    async fn profile(&self, ctx: &Context, asked: request::GetProfile) -> Result<ProfileReply, SendError> {
        outbound::profile(ctx, self.running()?, asked).await
    }

    async fn set_profile(&self, ctx: &Context, change: request::SetProfile) -> Result<(), SendError> {
        outbound::set_profile(ctx, self.running()?, change).await
    }

    async fn set_chat(&self, ctx: &Context, change: request::SetChat) -> Result<(), SendError> {
        outbound::set_chat(ctx, self.running()?, change).await
    }

    async fn resolve(&self, _ctx: &Context, asked: request::Resolve) -> Result<AddressReply, SendError> {
        Ok(outbound::resolve(&asked))
    }

    async fn fetch_media(&self, ctx: &Context, fetch: request::FetchMedia) -> Result<MediaReply, SendError> {
        outbound::fetch_media(ctx, self.running()?, fetch).await
    }

    async fn reconcile(&self, _ctx: &Context, asked: request::Reconcile) -> Result<Reconciled, SendError> {
        Ok(outbound::reconcile(self.running()?, &asked.send))
    }

    async fn release(&self, ctx: &Context, _asked: request::Nothing) -> Result<(), SendError> {
        match &self.running {
            Some(running) => webhook::release(ctx, running).await,
            None => Ok(()),
        }
    }

    async fn import_auth(&self, ctx: &Context, asked: request::ImportAuth) -> Result<AuthReport, SendError> {
        account::import(ctx, &self.config, asked).await
    }
}

export_channel!(Cloud, "../channel.json");
