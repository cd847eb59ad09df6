//! Logging in: a token that somebody puts in, or a page where the bot is invited into a server.
//!
//! A token of the configuration counts before one that was put in here, which is kept encrypted with all else. Nobody
//! confirms a token but Discord.

use crate::Discord;
use crate::api;
use crate::client::{self, ApiError, Call, Client};
use crate::config::Config;
use crate::install;
use omni_channel_sdk::login::{
    FieldKind, FormField, LoginCall, LoginShow, LoginStep, ShowFailure, ShowForm, ShowNothing,
};
use omni_channel_sdk::prelude::*;
use serde::Serialize;

/// The timer by which an instance begins anew.
pub const BEGIN: &str = "begin";
const KEPT: &str = "auth";
const STEP: &str = "token";

/// A token that was put in, or taken over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    token: String,
}

/// The token: the configuration's, or the one that was put in.
pub async fn token(ctx: &Context, config: &Config) -> Result<Option<String>, HostError> {
    let configured = config.token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    if let Some(token) = configured {
        return Ok(Some(token.to_owned()));
    }
    let kept = ctx.get(KEPT).await?.and_then(|kept| serde_json::from_slice::<Kept>(&kept).ok());
    Ok(kept.map(|kept| kept.token))
}

/// Asks Discord whose token it is, keeps it, and begins anew with it.
pub async fn take_token(ctx: &Context, config: &Config, token: &str) -> Result<api::User, SendError> {
    let token = token.trim().trim_start_matches("Bot ").trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(SendError::invalid("a bot token is one word, from the Developer Portal (Bot, Reset Token)"));
    }
    let user = match owner(ctx, &Client::new(config, token)).await {
        Err(ApiError::Refused(refusal)) if refusal.status == 401 => {
            return Err(SendError::invalid(
                "Discord does not know this token; copy it anew from the Developer Portal (Bot, Reset Token)",
            ));
        }
        found => found?,
    };
    if let Ok(kept) = serde_json::to_vec(&Kept { token: token.to_owned() }) {
        ctx.set(KEPT, kept);
    }
    ctx.set_timer(BEGIN, 0);
    Ok(user)
}

/// Whose token a client has. That it may be nobody's is no news about the bot that runs, so nothing is told of it.
pub async fn owner(ctx: &Context, client: &Client) -> Result<api::User, ApiError> {
    let answer = ctx.http(client.http(&Call::get("/users/@me"))).await.map_err(ApiError::Failed)?;
    let found = client::read(&answer)?;
    serde_json::from_value(found).map_err(|error| ApiError::Garbage {
        status: answer.status,
        what: format!("an unexpected answer about whose token it is: {error}"),
        retry_after_ms: None,
    })
}

/// Makes a move in a login.
pub async fn step(ctx: &Context, bot: &Discord, call: LoginCall) -> Result<LoginStep, ChannelError> {
    match call {
        LoginCall::Start { flow: Some(flow) } if flow == install::FLOW => install::begin(ctx, bot).await,
        LoginCall::Start { .. } if bot.has_token() => match bot.config.token.is_some() {
            true => Ok(show(LoginShow::Done(ShowNothing {}))),
            false => Ok(form()),
        },
        LoginCall::Start { .. } => Ok(form()),
        LoginCall::Poll => match install::current(ctx, bot).await? {
            Some(step) => Ok(step),
            None if bot.has_token() => Ok(show(LoginShow::Done(ShowNothing {}))),
            None => Ok(form()),
        },
        LoginCall::Submit { step_id, fields } if step_id == STEP => {
            let token = fields.get("token").map(String::as_str).unwrap_or_default();
            match take_token(ctx, &bot.config, token).await {
                Ok(_) => Ok(show(LoginShow::Done(ShowNothing {}))),
                Err(error) if error.next == NextActor::Caller => {
                    Ok(show(LoginShow::Failed(ShowFailure { message: error.message })))
                }
                Err(error) => Err(error.into()),
            }
        }
        LoginCall::Submit { step_id, .. } => {
            Err(ChannelError::invalid(format!("there is no login step {step_id:?}; start again")))
        }
        LoginCall::Cancel => {
            install::cancel(ctx);
            Ok(show(LoginShow::Failed(ShowFailure { message: "the login was given up".into() })))
        }
    }
}

fn form() -> LoginStep {
    let field = FormField {
        id: "token".into(),
        label: "Bot token".into(),
        kind: FieldKind::Secret,
        pattern: None,
        help: Some(
            "Developer Portal (https://discord.com/developers/applications), your application, Bot, Reset Token".into(),
        ),
        options: Vec::new(),
    };
    show(LoginShow::Form(ShowForm { fields: vec![field] }))
}

fn show(show: LoginShow) -> LoginStep {
    LoginStep { step_id: STEP.into(), show, instructions: None, expires_at: None }
}
