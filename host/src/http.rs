//! The API: `/api/v2` with Omni v2's envelopes and field names, the health and metrics pages, live events, and the way
//! in for webhooks. One file per noun; a handler reads its request, calls one function of the host and answers.
//!
//! ```text
//! options auth routes guard    who may do what: the table of routes is the one place that says so
//! error extract answer cursor  envelopes, both ways
//! observe idempotency limits   what surrounds every request
//! forward      what another host has to answer
//! serve places patience intake forwarded    connections, what comes over them, and from whom
//! instances login auth_state sync directory messages send change media chats persons person_data events stream dead_letters plugins keys
//! webhooks replays audit system hosts settings session health webhook openapi   the nouns
//! ```
//!
//! Deliberately not here: SQL, and any decision about messages, instances or plugins.

use crate::Host;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use std::sync::Arc;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;

mod account;
mod answer;
mod audit;
mod auth;
mod auth_state;
mod change;
mod chat_actions;
mod chats;
mod cursor;
mod dead_letters;
mod directory;
mod error;
mod events;
mod extract;
mod forward;
mod forwarded;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod guard;
mod health;
mod hosts;
mod idempotency;
mod instances;
mod intake;
mod keys;
mod limits;
mod login;
mod media;
mod messages;
mod observe;
mod openapi;
mod options;
mod patience;
mod person_data;
mod persons;
mod places;
pub mod plugin_listener;
mod plugins;
mod replays;
mod routes;
mod send;
mod serve;
mod session;
mod settings;
mod stream;
mod sync;
mod system;
mod webhook;
mod webhooks;

#[cfg(test)]
mod tests;

pub(crate) use forward::answers;
pub use forwarded::TrustedProxies;
pub use intake::Room;
pub use options::HttpOptions;
pub use serve::{ServeLimits, serve};

/// Under which path the API lies.
pub const BASE: &str = "/api/v2";

/// What every handler is given: the host's handles, and what the requests share.
#[derive(Clone, Debug)]
pub(crate) struct App {
    host: Host,
    shared: Arc<Shared>,
}

/// What the requests share.
#[derive(Debug)]
struct Shared {
    options: HttpOptions,
    keys: auth::KeyRing,
    rates: limits::Rates,
    room: intake::Room,
    turns: idempotency::Turns,
    started: crate::store::Time,
}

/// The whole API as a service.
pub fn router(host: Host, options: HttpOptions) -> Router {
    let keys = auth::KeyRing::new(options.api_key.as_deref());
    let started = host.clock.now();
    let cors = cors(&options.cors_origins);
    let body_limit = options.body_limit;
    let traces = options.traces.clone();
    let (rates, room) = (limits::Rates::default(), intake::Room::new(options.request_memory));
    let shared = Shared { options, keys, rates, room, turns: idempotency::Turns::default(), started };
    let app = App { host, shared: Arc::new(shared) };
    let (api, document) = documented(&app).split_for_parts();
    let api = api.merge(openapi::router(document)).merge(webhook::router());
    let router = Router::new()
        .nest(BASE, api)
        .merge(health::top_level())
        .fallback(error::no_such_route)
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .layer(from_fn_with_state(app.clone(), forward::forward))
        .layer(DefaultBodyLimit::max(body_limit))
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(from_fn(move |request, next| observe::observe(traces.clone(), request, next)));
    let router = match cors {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(app)
}

/// Every route that is in the OpenAPI document.
fn documented(app: &App) -> OpenApiRouter<App> {
    let once = || from_fn_with_state(app.clone(), idempotency::once);
    OpenApiRouter::with_openapi(openapi::frame())
        .merge(send::router().route_layer(once()))
        .merge(change::router().route_layer(once()))
        .merge(instances::router())
        .merge(login::router())
        .merge(auth_state::router())
        .merge(directory::router())
        .merge(account::router())
        .merge(messages::router())
        .merge(media::router(app.shared.options.media_limit))
        .merge(chats::router())
        .merge(chat_actions::router())
        .merge(persons::router())
        .merge(person_data::router())
        .merge(events::router())
        .merge(stream::router())
        .merge(dead_letters::router())
        .merge(webhooks::router())
        .merge(replays::router())
        .merge(sync::router())
        .merge(plugins::router())
        .merge(keys::router())
        .merge(audit::router())
        .merge(system::router())
        .merge(hosts::router())
        .merge(settings::router())
        .merge(session::router())
        .merge(health::router())
}

fn cors(origins: &[String]) -> Option<CorsLayer> {
    let any = origins.iter().any(|origin| origin == "*");
    let origins: Vec<_> = origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    (!origins.is_empty()).then(|| {
        CorsLayer::new()
            .allow_origin(if any { AllowOrigin::any() } else { AllowOrigin::list(origins) })
            .allow_methods(tower_http::cors::Any)
            .allow_headers(tower_http::cors::Any)
            .expose_headers(tower_http::cors::Any)
    })
}
