//! What people choose from: polls and buttons.

use super::{Envelope, SentView, send};
use crate::http::App;
use crate::http::answer::Data;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::extract::Body;
use crate::http::idempotency::SendId;
use axum::extract::State;
use axum::response::Response;
use omni_channel_sdk::content::{Button, Buttons, Content, Poll, PollOption, Text};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(poll)).routes(routes!(buttons))
}

/// A question with options to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendPollRequest)]
struct PollBody {
    #[serde(flatten)]
    to: Envelope,
    /// What is asked.
    question: String,
    /// What can be answered.
    #[serde(alias = "choices")]
    #[schema(min_items = 2)]
    answers: Vec<String>,
    /// How many options one person may choose; 1 when not said.
    max_choices: Option<u32>,
    /// Whether more than one may be chosen: short for `maxChoices` as many as there are.
    #[serde(default)]
    multi_select: bool,
    /// Whether votes are secret.
    #[serde(default)]
    anonymous: bool,
}

/// Sends a poll.
#[utoipa::path(post, path = "/messages/send/poll", tag = "messages", request_body = PollBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn poll(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<PollBody>,
) -> ApiResult<Response> {
    let count = u32::try_from(body.answers.len()).unwrap_or(u32::MAX);
    if count < 2 {
        return Err(ApiError::field("answers", "must be at least two"));
    }
    let option = |(at, text): (usize, String)| PollOption { id: at.to_string(), text, votes: None };
    let poll = Poll {
        question: body.question,
        options: body.answers.into_iter().enumerate().map(option).collect(),
        max_choices: body.max_choices.or(body.multi_select.then_some(count)),
        anonymous: body.anonymous,
        ..Poll::default()
    };
    send(&app, &caller, send_id, body.to, Content::Poll(poll), None).await
}

/// Words with buttons to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendButtonsRequest)]
struct ButtonsBody {
    #[serde(flatten)]
    to: Envelope,
    /// The words above.
    text: String,
    /// Rows of buttons, from top to bottom: `{text, data?, url?}`.
    #[schema(value_type = Vec<Vec<Object>>)]
    rows: Vec<Vec<Button>>,
    /// The words on the button that opens a list, for networks that show rows as a list.
    list_title: Option<String>,
}

/// Sends words with buttons.
#[utoipa::path(post, path = "/messages/send/buttons", tag = "messages", request_body = ButtonsBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn buttons(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<ButtonsBody>,
) -> ApiResult<Response> {
    if body.rows.iter().all(Vec::is_empty) {
        return Err(ApiError::field("rows", "must hold at least one button"));
    }
    let content = Buttons { text: Text::plain(body.text), rows: body.rows, list_title: body.list_title };
    send(&app, &caller, send_id, body.to, Content::Buttons(content), None).await
}
