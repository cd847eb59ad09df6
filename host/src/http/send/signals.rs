//! What is no message: a reaction to one, and that somebody is writing.

use super::network_id;
use crate::http::App;
use crate::http::answer::{Success, SuccessData};
use crate::http::auth::Caller;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::extract::Body;
use crate::http::idempotency::SendId;
use crate::http::instances::named;
use crate::outbound::{Action, Change, Outcome};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use omni_channel_sdk::event::{Activity, Emoji};
use omni_channel_sdk::ids::ChatId;
use omni_channel_sdk::request::{Request, ShowTyping};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(reaction)).routes(routes!(presence)).route("/messages/reaction", post(reaction))
}

/// A reaction to be set.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendReactionRequest)]
struct ReactionBody {
    /// Through which instance: id or name.
    instance_id: String,
    /// The chat: our id or the network's.
    to: String,
    /// The message: our id or the network's.
    message_id: String,
    /// The emoji; empty to take the reaction back.
    emoji: String,
}

/// Reacts to a message.
#[utoipa::path(post, path = "/messages/send/reaction", tag = "messages", request_body = ReactionBody,
    responses((status = 200, body = Success), (status = 202, body = Success), (status = "default", body = ErrorBody)))]
async fn reaction(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<ReactionBody>,
) -> ApiResult<Response> {
    let instance_id = named(&app, &caller, &body.instance_id).await?;
    let emojis = if body.emoji.is_empty() { Vec::new() } else { vec![Emoji::from(body.emoji.as_str())] };
    let change = Change {
        send_id: send_id.0,
        instance_id: Some(instance_id),
        chat: Some(body.to),
        message: body.message_id,
        action: Action::React(emojis),
    };
    let accepted = app.host.outbound.accept_change(change).await?;
    match app.host.outbound.outcome(&accepted, app.shared.options.send_wait).await? {
        Outcome::Sent { .. } => Ok(Json(Success::because("the reaction is set")).into_response()),
        Outcome::Failed { error } => Err(ApiError::send_failed(&error, accepted.message_id)),
        Outcome::Pending | Outcome::Unknown { .. } => {
            Ok((StatusCode::ACCEPTED, Json(Success::because("the reaction is on its way"))).into_response())
        }
    }
}

/// What to show in a chat.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendPresenceRequest)]
struct PresenceBody {
    /// Through which instance: id or name.
    instance_id: String,
    /// The chat: our id or the network's.
    to: String,
    #[serde(rename = "type")]
    kind: PresenceType,
    /// For how long, in milliseconds; 5000 when not said.
    duration: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum PresenceType {
    Typing,
    Recording,
    Paused,
}

/// What is shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PresenceView {
    instance_id: Uuid,
    /// The network's id of the chat.
    chat_id: String,
    #[serde(rename = "type")]
    kind: PresenceType,
    duration: u64,
}

/// Shows that somebody is writing, or no longer is.
#[utoipa::path(post, path = "/messages/send/presence", tag = "messages", request_body = PresenceBody,
    responses((status = 200, body = SuccessData<PresenceView>), (status = "default", body = ErrorBody)))]
async fn presence(
    State(app): State<App>,
    caller: Caller,
    Body(body): Body<PresenceBody>,
) -> ApiResult<Json<SuccessData<PresenceView>>> {
    let instance_id = named(&app, &caller, &body.instance_id).await?;
    let chat_id = network_id(&app, &caller, instance_id, &body.to).await?;
    let duration = body.duration.unwrap_or(5_000);
    let activity = match body.kind {
        PresenceType::Typing => Activity::Typing,
        PresenceType::Recording => Activity::Recording,
        PresenceType::Paused => Activity::Paused,
    };
    let ask = ShowTyping { chat: ChatId::new(&chat_id), activity, duration_ms: Some(duration) };
    app.host.instances.request(instance_id, Request::Typing(ask)).await?;
    let data = PresenceView { instance_id, chat_id, kind: body.kind, duration };
    Ok(Json(SuccessData { success: true, data }))
}
