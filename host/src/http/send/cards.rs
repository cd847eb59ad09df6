//! Contact cards and places.

use super::{Envelope, SentView, send};
use crate::http::App;
use crate::http::answer::Data;
use crate::http::auth::Caller;
use crate::http::error::{ApiError, ApiResult, ErrorBody};
use crate::http::extract::Body;
use crate::http::idempotency::SendId;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use omni_channel_sdk::content::{ContactCard, Contacts, Content, Location};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(contact))
        .routes(routes!(location))
        .route("/messages/contact", post(contact))
        .route("/messages/location", post(location))
}

/// A contact card to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendContactRequest)]
struct ContactBody {
    #[serde(flatten)]
    to: Envelope,
    contact: ContactFields,
}

/// A contact card.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ContactFields {
    name: String,
    phone: Option<String>,
    email: Option<String>,
    organization: Option<String>,
}

/// Sends a contact card.
#[utoipa::path(post, path = "/messages/send/contact", tag = "messages", request_body = ContactBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn contact(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<ContactBody>,
) -> ApiResult<Response> {
    let card = ContactCard {
        name: body.contact.name,
        phones: body.contact.phone.into_iter().collect(),
        emails: body.contact.email.into_iter().collect(),
        organization: body.contact.organization,
        ..ContactCard::default()
    };
    send(&app, &caller, send_id, body.to, Content::Contact(Contacts { contacts: vec![card] }), None).await
}

/// A place to be sent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SendLocationRequest)]
struct LocationBody {
    #[serde(flatten)]
    to: Envelope,
    /// Degrees north, −90 to 90.
    latitude: f64,
    /// Degrees east, −180 to 180.
    longitude: f64,
    /// What is there.
    name: Option<String>,
    /// Its address.
    address: Option<String>,
}

/// Sends a place.
#[utoipa::path(post, path = "/messages/send/location", tag = "messages", request_body = LocationBody,
    responses((status = 201, body = Data<SentView>), (status = 202, body = Data<SentView>),
        (status = "default", body = ErrorBody)))]
async fn location(
    State(app): State<App>,
    caller: Caller,
    send_id: SendId,
    Body(body): Body<LocationBody>,
) -> ApiResult<Response> {
    for (field, value, most) in [("latitude", body.latitude, 90.0), ("longitude", body.longitude, 180.0)] {
        if !(-most..=most).contains(&value) {
            return Err(ApiError::field(field, format!("must be from -{most} to {most}")));
        }
    }
    let place = Location {
        latitude: body.latitude,
        longitude: body.longitude,
        name: body.name,
        address: body.address,
        accuracy: None,
    };
    send(&app, &caller, send_id, body.to, Content::Location(place), None).await
}
