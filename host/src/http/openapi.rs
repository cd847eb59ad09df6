//! The document that describes the API, made from the code, and the page that shows it. The page's scripts are in the
//! program: it works without the internet.

use super::App;
use super::error::{ApiError, ErrorBody};
use super::extract::Path;
use axum::Router;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use std::sync::Arc;
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::server::Server;
use utoipa::openapi::{OpenApi as Document, SecurityRequirement};
use utoipa_swagger_ui::Config;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Omni",
        description = "One API for people's messengers. Lists answer `{items, meta}`, single things `{data}`, refusals \
            `{error: {code, message, details?}}`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    components(schemas(ErrorBody)),
    tags(
        (name = "auth"), (name = "system"), (name = "instances"), (name = "messages"), (name = "media"),
        (name = "chats"), (name = "persons"), (name = "events"), (name = "event ops"), (name = "dead letters"),
        (name = "webhooks"), (name = "plugins"),
        (name = "keys"), (name = "settings"),
    )
)]
struct Frame;

/// The document without its paths.
pub(crate) fn frame() -> Document {
    let mut document = Frame::openapi();
    document.servers = Some(vec![Server::new(super::BASE)]);
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("apiKey", SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("x-api-key"))));
    components.add_security_scheme("bearer", SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)));
    let either = ["apiKey", "bearer"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()));
    document.security = Some(either.to_vec());
    document
}

/// The document and the page.
pub(crate) fn router(document: Document) -> Router<App> {
    let json = document.to_json().unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
    let json: Arc<str> = json.into();
    let page = Arc::new(Config::from(format!("{}/openapi.json", super::BASE)));
    Router::new()
        .route("/openapi.json", get(move || async move { document_answer(&json) }))
        .route("/docs", get(|| async { Redirect::permanent(&format!("{}/docs/", super::BASE)) }))
        .route(
            "/docs/",
            get({
                let page = Arc::clone(&page);
                move || async move { file("", page) }
            }),
        )
        .route("/docs/{*file}", get(move |Path(name): Path<String>| async move { file(&name, page) }))
}

fn document_answer(json: &str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], json.to_owned()).into_response()
}

fn file(name: &str, page: Arc<Config<'static>>) -> Response {
    match utoipa_swagger_ui::serve(name, page) {
        Ok(Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response(),
        Ok(None) => ApiError::not_found("page", name).into_response(),
        Err(error) => ApiError::internal(&format!("failed to make the page of the API: {error}")).into_response(),
    }
}
