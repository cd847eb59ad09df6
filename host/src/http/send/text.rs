//! Words.

use super::{Envelope, SentView, send};
use crate::http::App;
use crate::http::answer::Data;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::extract::{Body, null_is_absent};
use crate::http::idempotency::SendId;
use axum::extract::State;
use axum::response::Response;
use omni_channel_sdk::content::{Content, Entity, Text};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(text)).routes(routes!(text_as_before))
}

/// A text to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendTextRequest)]
struct TextBody {
    #[serde(flatten)]
    to: Envelope,
    /// The words. Longer ones than the channel takes are split.
    #[schema(min_length = 1)]
    text: String,
    /// What is special about pieces of them; offsets and lengths in UTF-16 code units.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<Vec<Object>>)]
    entities: Vec<Entity>,
}

/// Sends a text.
#[utoipa::path(post, path = "/messages/send", tag = "messages", request_body = TextBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent once, however often it is asked")),
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn text(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<TextBody>,
) -> ApiResult<Response> {
    if body.text.is_empty() {
        return Err(ApiError::field("text", "must not be empty"));
    }
    let content = Content::Text(Text { text: body.text, entities: body.entities });
    send(&app, &caller, send_id, body.to, content, None).await
}

/// Sends a text, as Omni v2's SDKs name it: the same as `POST /messages/send`.
#[utoipa::path(post, path = "/messages", operation_id = "send_text", tag = "messages", request_body = TextBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent once, however often it is asked")),
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn text_as_before(
    state: State<App>,
    caller: Caller,
    send_id: SendId,
    body: Body<TextBody>,
) -> ApiResult<Response> {
    text(state, caller, send_id, body).await
}
