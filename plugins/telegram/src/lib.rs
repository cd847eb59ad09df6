//! The Telegram channel: a bot, over the Bot API.
//!
//! ```text
//! lib       this map, the trait and the export
//! config    what an operator sets
//! token     the bot's token, and taking one over from another Omni
//! client    calls of the Bot API over the host's HTTP
//! errors    what Telegram's refusals mean
//! api       what we read of its objects
//! convert   its words ↔ the host's, pure
//! inbound   the long poll and its offset
//! webhook   the other way in: set, verified, looked after
//! outbound  sending, changing, fetching
//! pace      how fast messages may go out
//! memory    what Telegram says only once
//! ```
//!
//! No sockets, no runtime and nothing native: the host makes every call, so the same source builds for WASM. Not here:
//! Telegram accounts of people (another protocol), and history, which Telegram shows to no bot.

mod api;
pub mod client;
pub mod config;
pub mod convert;
pub mod errors;
pub mod inbound;
mod memory;
pub mod outbound;
pub mod pace;
mod token;
pub mod webhook;

use client::{ApiCall, Client};
use config::{Config, Mode};
use convert::Me;
use inbound::Health;
use omni_channel_sdk::capabilities::Capabilities;
use omni_channel_sdk::ingress::Ingress;
use omni_channel_sdk::prelude::*;
use omni_channel_sdk::request::{AddressReply, AuthReport, DirectoryPage, GroupReply, MediaReply, ProfileReply};
use pace::Pace;

/// One bot.
#[derive(Debug)]
pub struct Telegram {
    client: Client,
    profile: Profile,
    me: Me,
    health: Health,
    pace: Pace,
    config: Config,
}

impl Telegram {
    fn new(client: Client, config: Config, profile: Profile, me: Me) -> Self {
        let (health, pace) = (Health::default(), Pace::new(&config));
        Self { client, profile, me, health, pace, config }
    }
}

impl Channel for Telegram {
    type Config = Config;

    async fn start(ctx: &Context, config: Config) -> Result<Started<Self>, ChannelError> {
        let token = token::find(ctx, &config).await?;
        if ctx.is_offline() {
            // It may have no token yet: that is what it is asked about.
            let client = Client::new(&config, token.as_deref().unwrap_or_default());
            let channel = Self::new(client, config, Profile::default(), Me { id: 0 });
            return Ok(Started { channel, ingress: Vec::new() });
        }
        let Some(token) = token else {
            let what = "this bot has no token: make one with @BotFather and put it in with \
                        `omni instances update <instance> --token-stdin`";
            return Err(ChannelError::stopped(what));
        };
        let client = Client::new(&config, &token);
        let user = client.me(ctx).await.map_err(errors::connection)?;
        let ingress = match config.mode {
            Mode::Poll => open_poll(ctx, &client, &config).await?,
            Mode::Webhook => webhook::open(ctx, &client, &config).await?,
        };
        let profile = outbound::own_profile(&user);
        ctx.state(ConnectionState::connected(profile.clone()));
        Ok(Started { channel: Self::new(client, config, profile, Me { id: user.id }), ingress })
    }

    async fn next_poll(&self, ctx: &Context, _tag: &str) -> Result<HttpCall, ChannelError> {
        inbound::next_poll(ctx, &self.client, &self.health).await
    }

    async fn on_event(&self, ctx: &Context, event: IngressEvent) -> Result<EventOutcome, ChannelError> {
        match event {
            IngressEvent::PollResponse { response, .. } => inbound::answered(ctx, self, &response).await,
            IngressEvent::PollFailed { failure, .. } => Ok(inbound::unanswered(ctx, &self.health, &failure)),
            IngressEvent::Webhook { request } => {
                webhook::take(ctx, &self.health, &self.profile, self.me, &request).await
            }
            IngressEvent::Timer { tag } if tag == webhook::CHECK => {
                webhook::check(ctx, &self.client, &self.config, &self.health, &self.profile).await
            }
            _ => Ok(EventOutcome::default()),
        }
    }

    async fn send(&self, ctx: &Context, send: request::Send) -> Result<SendReceipt, SendError> {
        outbound::send(ctx, self, send).await
    }

    async fn edit(&self, ctx: &Context, edit: request::EditMessage) -> Result<(), SendError> {
        outbound::edit(ctx, self, edit).await
    }

    async fn delete(&self, ctx: &Context, delete: request::DeleteMessage) -> Result<(), SendError> {
        outbound::delete(ctx, &self.client, delete).await
    }

    async fn react(&self, ctx: &Context, react: request::React) -> Result<(), SendError> {
        outbound::react(ctx, &self.client, react).await
    }

    async fn typing(&self, ctx: &Context, typing: request::ShowTyping) -> Result<(), SendError> {
        outbound::typing(ctx, &self.client, typing).await
    }

    async fn mark_read(&self, ctx: &Context, read: request::MarkRead) -> Result<(), SendError> {
        outbound::mark_read(ctx, &self.client, read).await
    }

    async fn answer_button(&self, ctx: &Context, answer: request::AnswerButton) -> Result<(), SendError> {
        outbound::answer_button(ctx, &self.client, answer).await
    }

    async fn profile(&self, ctx: &Context, asked: request::GetProfile) -> Result<ProfileReply, SendError> {
        outbound::profile(ctx, &self.client, asked).await
    }

    async fn group(&self, ctx: &Context, change: request::GroupChange) -> Result<GroupReply, SendError> {
        outbound::change_group(ctx, &self.client, change).await
    }

    async fn resolve(&self, ctx: &Context, asked: request::Resolve) -> Result<AddressReply, SendError> {
        outbound::resolve(ctx, &self.client, asked).await
    }

    async fn capabilities(&self, ctx: &Context, asked: request::ChatCapabilities) -> Result<Capabilities, SendError> {
        outbound::capabilities(ctx, self, asked).await
    }

    async fn directory(&self, ctx: &Context, asked: request::Directory) -> Result<DirectoryPage, SendError> {
        outbound::directory(ctx, &self.client, asked).await
    }

    async fn release(&self, ctx: &Context, _asked: request::Nothing) -> Result<(), SendError> {
        webhook::release(ctx, &self.client).await
    }

    async fn fetch_media(&self, ctx: &Context, fetch: request::FetchMedia) -> Result<MediaReply, SendError> {
        outbound::fetch_media(ctx, &self.client, fetch).await
    }

    async fn import_auth(&self, ctx: &Context, asked: request::ImportAuth) -> Result<AuthReport, SendError> {
        token::import(ctx, &self.config, asked).await
    }
}

/// Makes room for the poll: our own webhook goes, and what waited, where that is asked for.
async fn open_poll(ctx: &Context, client: &Client, config: &Config) -> Result<Vec<Ingress>, ChannelError> {
    webhook::close(ctx, client).await?;
    if config.drop_pending_updates && ctx.get(inbound::OFFSET).await?.is_none() {
        let drop = ApiCall::new("deleteWebhook", json!({"drop_pending_updates": true}));
        client.ask::<Value>(ctx, &drop).await.map_err(errors::connection)?;
        ctx.set(inbound::OFFSET, "0");
    }
    Ok(vec![LongPoll::default().into()])
}

export_channel!(Telegram, "../channel.json");
