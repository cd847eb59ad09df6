//! Logging in, one step at a time: a QR code, a code, a form, a page to open.

use super::App;
use super::answer::Data;
use super::auth::Caller;
use super::error::{ApiError, ApiResult, ErrorBody};
use super::extract::{Body, OptionalBody, Path, null_is_absent};
use super::instances::find;
use crate::store::Time;
use axum::Json;
use axum::extract::State;
use omni_channel_sdk::login::{LoginCall, LoginShow, LoginStep};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(login)).routes(routes!(qr)).routes(routes!(pair))
}

/// A move in a login.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LoginRequest)]
struct LoginBody {
    /// `start`, `poll`, `submit` or `cancel`; `poll` when not said.
    #[serde(default)]
    action: Move,
    /// For `start`: one of the flows that the plugin's manifest lists.
    flow: Option<String>,
    /// For `submit`: the step that is answered.
    step_id: Option<String>,
    /// For `submit`: field id → what was entered.
    #[serde(default, deserialize_with = "null_is_absent")]
    #[schema(value_type = Option<BTreeMap<String, String>>)]
    fields: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum Move {
    /// Begin.
    Start,
    /// Tell the current step.
    #[default]
    Poll,
    /// Answer a form.
    Submit,
    /// Give up.
    Cancel,
}

impl LoginBody {
    fn call(self) -> ApiResult<LoginCall> {
        Ok(match self.action {
            Move::Start => LoginCall::Start { flow: self.flow },
            Move::Poll => LoginCall::Poll,
            Move::Cancel => LoginCall::Cancel,
            Move::Submit => LoginCall::Submit {
                step_id: self.step_id.ok_or_else(|| ApiError::field("stepId", "is missing"))?,
                fields: self.fields,
            },
        })
    }
}

/// The current step: what to show or ask, one sentence of instructions, and when it ends.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoginStep)]
struct StepView {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    step: LoginStep,
}

/// Makes a move in the login of an instance, and tells the current step.
#[utoipa::path(post, path = "/instances/{id}/login", tag = "instances", request_body = Option<LoginBody>,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<StepView>), (status = "default", body = ErrorBody)))]
async fn login(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    OptionalBody(body): OptionalBody<LoginBody>,
) -> ApiResult<Json<Data<StepView>>> {
    let id = find(&app, &caller, &id).await?.id;
    let step = app.host.instances.login(id, body.call()?, caller.is_operator()).await?;
    Ok(Json(Data { data: StepView { step } }))
}

/// The QR code to be scanned, if the login shows one now.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct QrCode {
    /// What the code says.
    qr: Option<String>,
    /// When it stops being good.
    expires_at: Option<Time>,
    /// What to do, in a sentence.
    message: String,
}

/// Tells the QR code of an instance that waits for a login.
#[utoipa::path(get, path = "/instances/{id}/qr", tag = "instances",
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<QrCode>), (status = "default", body = ErrorBody)))]
async fn qr(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Data<QrCode>>> {
    let id = find(&app, &caller, &id).await?.id;
    let step = app.host.instances.login(id, LoginCall::Poll, false).await?;
    let (qr, message) = match step.show {
        LoginShow::Qr(show) => (Some(show.data), "scan the code"),
        LoginShow::Done(_) => (None, "logged in; there is nothing to scan"),
        LoginShow::Wait(_) => (None, "there is no code yet; ask again"),
        _ => (None, "this login shows no QR code; its step is at POST …/login"),
    };
    let message = step.instructions.unwrap_or_else(|| message.to_owned());
    Ok(Json(Data { data: QrCode { qr, expires_at: step.expires_at.map(Time::from_millis), message } }))
}

/// The phone that the code is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PairingCodeRequest)]
struct PairBody {
    /// E.164.
    phone_number: String,
}

/// A code to be typed on the phone.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PairingCode {
    code: String,
    phone_number: String,
    message: String,
    /// In seconds.
    expires_in: i64,
}

/// Logs in by a code that is typed on the phone, where the channel can (flow `code`).
#[utoipa::path(post, path = "/instances/{id}/pair", tag = "instances", request_body = PairBody,
    params(("id" = String, Path, description = "Id or name")),
    responses((status = 200, body = Data<PairingCode>), (status = "default", body = ErrorBody)))]
async fn pair(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(body): Body<PairBody>,
) -> ApiResult<Json<Data<PairingCode>>> {
    let id = find(&app, &caller, &id).await?.id;
    let instances = &app.host.instances;
    let mut step = instances.login(id, LoginCall::Start { flow: Some("code".into()) }, false).await?;
    if let LoginShow::Form(form) = &step.show {
        let field = form.fields.first().map_or("phoneNumber", |field| field.id.as_str()).to_owned();
        let fields = BTreeMap::from([(field, body.phone_number.clone())]);
        step = instances.login(id, LoginCall::Submit { step_id: step.step_id, fields }, false).await?;
    }
    let LoginShow::Code(show) = step.show else {
        return Err(ApiError::conflict("this login shows no code now; its step is at POST …/login"));
    };
    let left = step.expires_at.map_or(60_000, |end| end - app.host.clock.now().millis());
    let message = step.instructions.unwrap_or_else(|| "type this code on the phone".to_owned());
    let data =
        PairingCode { code: show.code, phone_number: body.phone_number, message, expires_in: left.max(0) / 1_000 };
    Ok(Json(Data { data }))
}
