//! The Discord channel: a bot, over the gateway and the REST API.
//!
//! ```text
//! lib           this map, the trait and the export
//! config        what an operator sets
//! gateway       sessions of the shards: begun, kept alive, taken up again
//! intents       what is asked of the gateway
//! inbound       what the gateway brings, and the timers
//! convert       its words ↔ the host's, pure
//! known         guilds and channels by name
//! servers       which servers the bot is in, and what is known of them, kept
//! client        calls of the REST API over the host's HTTP
//! limits        what may go out now
//! errors        what Discord's refusals mean
//! outbound      sending, changing, reacting; threads, webhooks
//! interactions  commands, buttons and forms that wait for an answer
//! commands      application commands of the configuration
//! asked         history, lists, profiles, files
//! permissions   what a bot may do in a channel
//! login         a token that somebody puts in
//! install       inviting the bot by OAuth2
//! auth_import   taking a bot over from another Omni
//! api           what we read of Discord's objects
//! ```
//!
//! No sockets, no runtime and nothing native: the host holds the connections, fills the token in, goes through the
//! instance's proxy and streams the files, so the same source builds for WASM, and every line of it is tried by transcripts.
//! Not here: voice channels.

pub mod api;
mod asked;
mod auth_import;
pub mod client;
mod commands;
pub mod config;
pub mod convert;
pub mod errors;
pub mod gateway;
pub mod inbound;
pub mod install;
pub mod intents;
pub mod interactions;
pub mod known;
pub mod limits;
pub mod login;
pub mod outbound;
pub mod permissions;
mod servers;

use client::{ApiError, Client};
use config::Config;
use gateway::Gateway;
use interactions::Interactions;
use known::Known;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::ingress::Ingress;
use omni_channel_sdk::login::{LoginCall, LoginStep};
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{
    AddressReply, AuthReport, DirectoryPage, GroupReply, HistoryPage, MediaReply, ProfileReply, Reconciled,
};

/// One bot.
#[derive(Debug)]
pub struct Discord {
    config: Config,
    client: Client,
    gateway: Gateway,
    me: api::User,
    profile: Profile,
    /// The application's id.
    application: String,
    known: Known,
    interactions: Interactions,
}

impl Discord {
    /// One that waits for somebody to put a token in.
    fn without_token(config: Config) -> Self {
        Self {
            client: Client::new(&config, ""),
            gateway: Gateway::closed_for_good(),
            me: api::User::default(),
            profile: Profile::default(),
            application: config.client_id.clone().unwrap_or_default(),
            known: Known::default(),
            interactions: Interactions::default(),
            config,
        }
    }

    fn has_token(&self) -> bool {
        !self.client.token().is_empty()
    }
}

impl Channel for Discord {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        let config = auth_import::complete(ctx, config).await?;
        let mut ingress: Vec<Ingress> = Vec::new();
        if ctx.webhook_url().is_some() {
            // Where people come back to who invited the bot.
            ingress.push(Webhook { max_body_bytes: Some(4_096), ..Webhook::default() }.into());
        }
        let Some(token) = login::token(ctx, &config).await? else {
            ctx.state(ConnectionState::WaitingForLogin);
            return Ok(Started { channel: Self::without_token(config), ingress });
        };
        let client = Client::new(&config, &token);
        let me: api::User = match login::owner(ctx, &client).await {
            // One that was put in can be put in anew, for which the instance has to be there.
            Err(ApiError::Refused(refusal)) if refusal.status == 401 && config.token.is_none() => {
                ctx.log(LogLevel::Error, format!("Discord does not know the token any more ({})", refusal.message));
                ctx.state(ConnectionState::WaitingForLogin);
                return Ok(Started { channel: Self::without_token(config), ingress });
            }
            found => found.map_err(errors::connection)?,
        };
        let application: api::Application = asked::application(ctx, &client).await.map_err(errors::connection)?;
        let gateway = Gateway::open(ctx, &client, &config, &application).await?;
        ctx.state(ConnectionState::Connecting);
        ingress.extend(gateway.ingress());
        let channel = Self {
            profile: asked::profile_of(&me),
            application: application.id,
            interactions: Interactions::load(ctx).await?,
            known: Known::from(servers::load(ctx, &gateway).await?),
            config,
            client,
            gateway,
            me,
        };
        commands::register(ctx, &channel).await?;
        outbound::webhook::look_anew(ctx, &channel.known).await?;
        Ok(Started { channel, ingress })
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        Ok(inbound::take(ctx, self, vec![event]).await?.pop().unwrap_or_default())
    }

    async fn on_events(&self, ctx: &Context, events: Vec<IngressEvent>) -> Result<Vec<EventOutcome>, ChannelError> {
        inbound::take(ctx, self, events).await
    }

    async fn login(&self, ctx: &Context, call: LoginCall) -> Result<LoginStep, ChannelError> {
        login::step(ctx, self, call).await
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        outbound::send(ctx, self, send).await
    }

    async fn edit(&self, ctx: &Context, edit: request::EditMessage) -> Result<(), SendError> {
        outbound::edit(ctx, self, edit).await
    }

    async fn delete(&self, ctx: &Context, delete: request::DeleteMessage) -> Result<(), SendError> {
        outbound::delete(ctx, self, delete).await
    }

    async fn react(&self, ctx: &Context, react: request::React) -> Result<(), SendError> {
        outbound::react(ctx, self, react).await
    }

    async fn typing(&self, ctx: &Context, typing: request::ShowTyping) -> Result<(), SendError> {
        outbound::typing(ctx, self, typing).await
    }

    async fn answer_button(&self, ctx: &Context, answer: request::AnswerButton) -> Result<(), SendError> {
        outbound::answer_button(ctx, self, answer).await
    }

    async fn history(&self, ctx: &Context, asked: request::History) -> Result<HistoryPage, SendError> {
        asked::history(ctx, self, asked).await
    }

    async fn directory(&self, ctx: &Context, asked: request::Directory) -> Result<DirectoryPage, SendError> {
        asked::directory(ctx, self, asked).await
    }

    async fn profile(&self, ctx: &Context, asked: request::GetProfile) -> Result<ProfileReply, SendError> {
        asked::profile(ctx, self, asked).await
    }

    async fn group(&self, ctx: &Context, change: request::GroupChange) -> Result<GroupReply, SendError> {
        outbound::chat::change(ctx, self, change).await
    }

    async fn resolve(&self, ctx: &Context, asked: request::Resolve) -> Result<AddressReply, SendError> {
        asked::resolve(ctx, self, asked).await
    }

    async fn capabilities(&self, ctx: &Context, asked: request::ChatCapabilities) -> Result<Capabilities, SendError> {
        outbound::chat::capabilities(ctx, self, asked).await
    }

    async fn fetch_media(&self, ctx: &Context, fetch: request::FetchMedia) -> Result<MediaReply, SendError> {
        asked::fetch_media(ctx, self, fetch).await
    }

    async fn reconcile(&self, ctx: &Context, asked: request::Reconcile) -> Result<Reconciled, SendError> {
        outbound::reconcile(ctx, self, asked).await
    }

    async fn import_auth(&self, ctx: &Context, asked: request::ImportAuth) -> Result<AuthReport, SendError> {
        auth_import::import(ctx, self, asked).await
    }
}

export_channel!(Discord, "../channel.json");
