//! What all requests share, and which of them goes where.

use crate::certificate::Certificate;
use crate::world::World;
use crate::{admin, connection, media};
use axum::Router;
use axum::routing::{any, get};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One server.
pub struct Server {
    /// Its long-lived key.
    pub certificate: Certificate,
    world: Mutex<World>,
}

impl Server {
    /// With no account.
    pub fn new(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self { certificate: Certificate::new()?, world: Mutex::new(World::new(address)) })
    }

    /// Everything that it knows. Whoever holds this does not wait for anything.
    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The three parts: the chat, the files, and the tests' own.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/ws/chat", get(connection::upgrade))
        .nest("/admin", admin::router())
        .fallback(any(media::file))
        .with_state(server)
}
