//! Sending: each route reads its own body, makes one content of it, and waits for the network's word for a while.
//!
//! ```text
//! text     words
//! files    a file, an album, a sticker
//! cards    contact cards and places
//! choices  polls and buttons
//! signals  reactions and typing
//! ```
//!
//! Some are served a second time under the names that Omni v2's document and its SDKs have for them.

mod cards;
mod choices;
mod files;
mod signals;
mod text;

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult};
use super::extract::null_is_absent;
use super::idempotency::SendId;
use super::instances::named;
use crate::outbound::{NewMessage, Outcome, Target};
use crate::store::{chat_list, outbox};
use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use omni_channel_sdk::connection::ConnectionState;
use omni_channel_sdk::content::Content;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use uuid::Uuid;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(text::router())
        .merge(files::router())
        .merge(cards::router())
        .merge(choices::router())
        .merge(signals::router())
}

/// What became of a message.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = MessageResponse)]
pub(crate) struct SentView {
    /// Our id of it, or of its first part: `GET /messages/{id}` follows it.
    message_id: Uuid,
    /// The network's id; empty until the network has taken it.
    external_message_id: String,
    /// `sent`; `pending` when the network has not answered yet; `unknown` when it is not known whether it did.
    #[schema(example = "sent")]
    status: &'static str,
    instance_id: Uuid,
    /// As it was asked for.
    to: String,
    /// Milliseconds since 1970.
    timestamp: i64,
    /// How many parts it was split into.
    parts: u32,
    /// Why the outcome is not known, or why it is not sent yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    media_type: Option<&'static str>,
}

/// What every body that sends begins with.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    /// Through which instance: id or name.
    instance_id: String,
    /// Where to: our id of a chat or a person, or the network's id.
    to: String,
    /// What it answers: our id of a message or the network's.
    reply_to: Option<String>,
    /// Options that only one network has, by name.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Object>)]
    options: BTreeMap<String, Value>,
}

/// Sends a content and answers when the network has, or when it takes too long.
async fn send(
    app: &App,
    caller: &Caller,
    send_id: SendId,
    to: Envelope,
    content: Content,
    media_type: Option<&'static str>,
) -> ApiResult<Response> {
    send_all(app, caller, send_id, to, content, Vec::new(), media_type).await
}

/// The same with the other items of the album that the content begins.
async fn send_all(
    app: &App,
    caller: &Caller,
    send_id: SendId,
    to: Envelope,
    content: Content,
    album: Vec<Content>,
    media_type: Option<&'static str>,
) -> ApiResult<Response> {
    let instance_id = named(app, caller, &to.instance_id).await?;
    if to.to.trim().is_empty() {
        return Err(ApiError::field("to", "must name a chat"));
    }
    let message = NewMessage {
        send_id: send_id.0,
        instance_id,
        to: Target::Any(to.to.clone()),
        content,
        album,
        reply_to: to.reply_to,
        options: to.options,
    };
    let accepted = app.host.outbound.accept(message).await?;
    let outcome = app.host.outbound.outcome(&accepted, app.shared.options.send_wait).await?;
    let (code, status, external_message_id, message) = match outcome {
        Outcome::Sent { external_id } => (StatusCode::CREATED, "sent", external_id, None),
        Outcome::Pending => (StatusCode::ACCEPTED, "pending", String::new(), why_it_waits(app, instance_id).await),
        Outcome::Unknown { message } => (StatusCode::ACCEPTED, "unknown", String::new(), Some(message)),
        Outcome::Failed { error } => return Err(ApiError::send_failed(&error, accepted.message_id)),
    };
    let data = SentView {
        message_id: accepted.message_id,
        external_message_id,
        status,
        instance_id,
        to: to.to,
        timestamp: app.host.clock.now().millis(),
        parts: accepted.parts,
        message,
        media_type,
    };
    Ok((code, Json(Data { data })).into_response())
}

/// Why an instance sends nothing at this moment, when it is not connected.
async fn why_it_waits(app: &App, instance: Uuid) -> Option<String> {
    let instance = app.host.instances.get(instance).await.ok()?;
    let reason = match &instance.state {
        ConnectionState::Connected { limited, .. } => {
            let reason = &limited.as_ref()?.reason;
            return Some(format!("{reason}; the message is tried again by itself"));
        }
        ConnectionState::Disconnected { reason, .. } | ConnectionState::LoggedOut { reason, .. } => reason.as_str(),
        state => state.name(),
    };
    Some(format!("instance {:?} is not connected ({reason}); the message is sent when it is", instance.name))
}

/// The network's id of a chat that is named by our id of it, by our id of the person whom one writes to in it, or already
/// by the network's.
pub(crate) async fn network_id(app: &App, caller: &Caller, instance: Uuid, chat: &str) -> ApiResult<String> {
    let Ok(id) = Uuid::parse_str(chat) else { return Ok(chat.to_owned()) };
    match chat_list::get(&app.host.store, id, caller.instances()).await? {
        Some(found) if found.instance_id == instance => return Ok(found.external_id),
        Some(_) => return Err(ApiError::field("instanceId", format!("chat {id} is not on this instance"))),
        None => {}
    }
    let mut tx = app.host.store.read().await?;
    match outbox::chat_of_person(&mut tx, instance, id).await? {
        Some(found) => Ok(found.external_id),
        None => Err(ApiError::not_found("chat", chat)),
    }
}
